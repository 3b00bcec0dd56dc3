//! The subcredentials with which clients may introduce themselves.

use parking_lot::Mutex;
use tor_hscrypto::Subcredential;
use tor_hscrypto::pk::HsIdKey;
use tor_hscrypto::time::TimePeriod;
use tor_netdir::NetDir;

/// The subcredentials of every address that a backend answers for, in the
/// current time period and its neighbours (rend-spec-v3, section 2.1).
///
/// A client computes its introduction with the address it connects to and the
/// period it believes in, which can be one off ours.
pub(crate) struct Subcredentials {
    /// Of which addresses.
    known: Mutex<LastComputed>,
}

/// What they are computed from, and the last result.
struct LastComputed {
    /// The addresses' identity keys.
    identities: Vec<HsIdKey>,
    /// Those of the period they were last computed for.
    cached: Option<(TimePeriod, Vec<Subcredential>)>,
}

impl Subcredentials {
    /// For the addresses with these identity keys.
    pub(crate) fn new(identities: Vec<HsIdKey>) -> Self {
        Self { known: Mutex::new(LastComputed { identities, cached: None }) }
    }

    /// From now on for the addresses with these identity keys.
    pub(crate) fn replace(&self, identities: Vec<HsIdKey>) {
        *self.known.lock() = LastComputed { identities, cached: None };
    }

    /// Those that are acceptable as of this directory. Computed once a period.
    pub(crate) fn acceptable(&self, directory: &NetDir) -> Vec<Subcredential> {
        let current = directory.hs_time_period();
        let mut known = self.known.lock();
        if let Some((period, subcredentials)) = &known.cached
            && *period == current
        {
            return subcredentials.clone();
        }
        let periods = [Some(current), current.prev(), current.next()];
        let subcredentials: Vec<_> = known
            .identities
            .iter()
            .flat_map(|key| {
                periods.iter().flatten().filter_map(|period| {
                    key.compute_blinded_key(*period).ok().map(|(_, subcredential)| subcredential)
                })
            })
            .collect();
        known.cached = Some((current, subcredentials.clone()));
        subcredentials
    }
}
