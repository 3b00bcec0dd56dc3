//! A time period of the onion service protocol.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A time period (rend-spec-v3, section 2.2.1): blinded keys, subcredentials
/// and the responsible HSDirs change with it.
///
/// Length and offset come from the consensus; two periods with the same number
/// and different lengths are different periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Period {
    /// The number of the period since the epoch.
    pub number: u64,
    /// The length of the period in minutes (1440 on the public network).
    pub length_minutes: u32,
    /// By how many seconds the periods begin after multiples of the length.
    pub offset_seconds: u32,
}

impl Period {
    /// Such a part of its length: 1/n.
    pub fn part(self, n: u32) -> Duration {
        Duration::from_secs(u64::from(self.length_minutes) * 60) / n.max(1)
    }

    /// When it begins, by the time of the consensus.
    pub fn begins(self) -> SystemTime {
        let length = u64::from(self.length_minutes) * 60;
        let since = self.number.saturating_mul(length).saturating_add(self.offset_seconds.into());
        UNIX_EPOCH.checked_add(Duration::from_secs(since)).unwrap_or(UNIX_EPOCH)
    }

    /// When it ends and the next one begins.
    pub fn ends(self) -> SystemTime {
        self.begins() + self.part(1)
    }

    /// The period of this length and offset at a moment after 1970.
    pub fn at(self, moment: SystemTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let length = (u64::from(self.length_minutes) * 60).max(1);
        Self { number: since.saturating_sub(self.offset_seconds.into()) / length, ..self }
    }

    /// The period before this one, if there is one.
    pub fn previous(self) -> Option<Self> {
        Some(Self { number: self.number.checked_sub(1)?, ..self })
    }

    /// The period after this one.
    pub fn next(self) -> Option<Self> {
        Some(Self { number: self.number.checked_add(1)?, ..self })
    }
}
