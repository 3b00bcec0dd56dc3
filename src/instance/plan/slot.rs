//! What one introduction point can be.
//!
//! Its circuit is built, and built anew when it breaks; its phase says what clients are
//! told:
//!
//! | phase | clients are told of it | counts as wanted | goes on as |
//! |---|---|---|---|
//! | `New` | no | yes | `Serving`, once it is established |
//! | `Serving` | yes, and 10 s beyond the end of its circuit | until it is worn out | `Retiring` if it is worn out and has a successor, or is one too many; `Hanging` if no client gets through |
//! | `Hanging` | as a serving one | no | nothing: it goes with its successor's coming, at the latest after 15 s |
//! | `Retiring` | no, but it answers who knows of it | no | nothing: it goes after 3 h, or if it is used too much |
//!
//! Where its relay has failed several times in a row, a slot is doubted: whatever its
//! phase, clients are not told of it and it does not count. It is abandoned if another
//! relay does better, or if no client knows of it.

use std::time::{Duration, Instant};

use onionbraid_balancer::onion::RelayId;

/// How often a relay may fail in a row before another one is chosen. A relay
/// that died refuses at once; one that restarts is back within seconds.
pub(super) const MAX_FAILURES: u32 = 3;

/// The pause before trying a relay again, for each failure in a row, ...
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(500);
/// ... and the longest: as long as we may be the ones who are cut off.
pub(super) const RETRY_AFTER_AT_MOST: Duration = Duration::from_secs(10);

/// One introduction point.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) relay: RelayId,
    pub(super) phase: SlotPhase,
    pub(super) circuit: SlotCircuit,
    pub(super) trust: RelayTrust,
    /// Introductions left before it is worn out.
    pub(super) introductions_left: u32,
    /// When it is worn out at the latest.
    pub(super) expires: Instant,
    /// How long it still answers once it is replaced.
    pub(super) retire_for: Duration,
}

/// What clients are told of a slot: see the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotPhase {
    New,
    Serving,
    Hanging { until: Instant },
    Retiring { until: Instant },
}

/// The circuit to a slot's relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotCircuit {
    Missing {
        /// When to try next; `None` while an attempt is under way.
        due: Option<Instant>,
        /// Until when clients that know of the point are sent there all the same.
        told_until: Instant,
        /// Since when the last circuit had stood, if it closed soon after.
        lost_early: Option<Instant>,
    },
    Standing {
        since: Instant,
    },
}

/// Whether the relay of a slot can be relied on, by its failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelayTrust {
    Trusted {
        failures: u32,
    },
    /// Another relay is chosen.
    Doubted {
        failures: u32,
        /// Failures left, once it is known that the fault is not on our side.
        left: Option<u32>,
    },
}

impl RelayTrust {
    pub(super) fn after(failures: u32) -> Self {
        match failures < MAX_FAILURES {
            true => Self::Trusted { failures },
            false => Self::Doubted { failures, left: None },
        }
    }

    pub(super) fn failures(self) -> u32 {
        let (Self::Trusted { failures } | Self::Doubted { failures, .. }) = self;
        failures
    }

    pub(super) fn fail(&mut self) {
        *self = match *self {
            Self::Doubted { failures, left } => {
                Self::Doubted { failures: failures + 1, left: left.map(|it| it.saturating_sub(1)) }
            }
            Self::Trusted { failures } => Self::after(failures + 1),
        };
    }

    /// The pause before the next attempt.
    pub(super) fn pause(self) -> Duration {
        (RETRY_AFTER * self.failures()).min(RETRY_AFTER_AT_MOST)
    }
}

impl Slot {
    /// Whether it has served long enough.
    pub(super) fn is_worn(&self, now: Instant) -> bool {
        self.introductions_left == 0 || self.expires <= now
    }

    /// Whether it is one of the points that the instance wants to have.
    pub(super) fn counts(&self, now: Instant) -> bool {
        matches!(self.phase, SlotPhase::New | SlotPhase::Serving)
            && !self.is_doubted()
            && !self.is_worn(now)
    }

    pub(super) fn is_doubted(&self) -> bool {
        matches!(self.trust, RelayTrust::Doubted { .. })
    }

    pub(super) fn stands(&self) -> bool {
        matches!(self.circuit, SlotCircuit::Standing { .. })
    }

    /// The next attempt is at this moment, if there is no circuit.
    pub(super) fn retry(&mut self, at: Instant) {
        if let SlotCircuit::Missing { due, .. } = &mut self.circuit {
            *due = Some(at);
        }
    }
}
