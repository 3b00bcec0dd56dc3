//! To how many relays may there be direct connections at a time, and which of them
//! did not answer lately?
//!
//! Clients choose the relays, and there are thousands: without a bound they could
//! take every file handle of the process. Touches no socket; who connects tells.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::choice::Refusal;
use onionbraid_balancer::onion::RelayId;

/// The most relays that are connected to at a time, whatever handles there are: a
/// connection costs some tens of kilobytes.
const AT_MOST: usize = 2_048;

/// How long a relay that could not be reached is not tried again.
const UNREACHABLE_FOR: Duration = Duration::from_mins(10);

/// Room for direct connections.
pub(crate) struct Places {
    limit: usize,
    relays: Mutex<RelayPlaces>,
}

#[derive(Default)]
struct RelayPlaces {
    /// Those that are connected to, or about to be.
    taken: BTreeMap<RelayId, RelayPlace>,
    /// Those that could not be reached, and until when they are let be.
    unreachable: BTreeMap<RelayId, Instant>,
}

/// The connection to one relay.
#[derive(Default)]
struct RelayPlace {
    /// So many wait for it.
    opening: usize,
    /// Tells whether it is open, once it was.
    is_open: Option<Box<dyn Fn() -> bool + Send>>,
}

impl RelayPlace {
    fn is_taken(&self) -> bool {
        self.opening > 0 || self.is_open.as_ref().is_some_and(|is_open| is_open())
    }
}

impl Places {
    /// A quarter of the files that the process may have open.
    pub(crate) fn of(file_handles: u64) -> Self {
        let limit = usize::try_from(file_handles / 4).unwrap_or(AT_MOST).clamp(1, AT_MOST);
        Self { limit, relays: Mutex::default() }
    }

    /// How many relays are connected to, and how many may be.
    pub(crate) fn taken(&self) -> (usize, usize) {
        let mut relays = self.relays.lock();
        relays.taken.retain(|_, place| place.is_taken());
        (relays.taken.len(), self.limit)
    }

    /// Takes a place for a connection to a relay, or shares the one that it has.
    pub(super) fn enter(
        self: &Arc<Self>,
        relay: RelayId,
        now: Instant,
    ) -> Result<PendingPlace, Refusal> {
        let mut relays = self.relays.lock();
        if relays.unreachable.get(&relay).is_some_and(|until| *until > now) {
            return Err(Refusal::Unreachable);
        }
        if !relays.taken.contains_key(&relay) && relays.taken.len() >= self.limit {
            relays.taken.retain(|_, place| place.is_taken());
            if relays.taken.len() >= self.limit {
                return Err(Refusal::Full);
            }
        }
        relays.taken.entry(relay).or_default().opening += 1;
        Ok(PendingPlace { places: Arc::clone(self), relay })
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A place that is held until it is known what becomes of a connection.
pub(super) struct PendingPlace {
    places: Arc<Places>,
    relay: RelayId,
}

impl PendingPlace {
    /// The connection is there, for as long as `is_open` says.
    pub(super) fn opened(&self, is_open: impl Fn() -> bool + Send + 'static) {
        let mut relays = self.places.relays.lock();
        relays.unreachable.remove(&self.relay);
        relays.taken.entry(self.relay).or_default().is_open = Some(Box::new(is_open));
    }

    /// It does not come about.
    pub(super) fn failed(self, now: Instant) {
        let mut relays = self.places.relays.lock();
        relays.unreachable.retain(|_, until| *until > now);
        if relays.unreachable.len() < AT_MOST {
            relays.unreachable.insert(self.relay, now + UNREACHABLE_FOR);
        }
    }
}

impl Drop for PendingPlace {
    fn drop(&mut self) {
        let mut relays = self.places.relays.lock();
        if let Some(place) = relays.taken.get_mut(&self.relay) {
            place.opening = place.opening.saturating_sub(1);
            if !place.is_taken() {
                relays.taken.remove(&self.relay);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn relay(n: u8) -> RelayId {
        RelayId([n; 20])
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
    fn some_moment() -> Instant {
        Instant::now()
    }

    /// A connection that is open until it is closed.
    fn open(opening: &PendingPlace) -> Arc<AtomicBool> {
        let open = Arc::new(AtomicBool::new(true));
        let watched = Arc::clone(&open);
        opening.opened(move || watched.load(Ordering::Relaxed));
        open
    }

    #[test]
    fn no_more_relays_are_connected_to_than_may_be_and_one_counts_once() {
        let (places, now) = (Arc::new(Places::of(8)), some_moment());
        let enter = |n| places.enter(relay(n), now);
        let first = enter(1).unwrap();
        let connection = open(&first);
        drop(first);
        let (second, again) = (enter(2).unwrap(), enter(2).unwrap());
        assert_eq!(enter(3).err(), Some(Refusal::Full));
        assert!(enter(1).is_ok(), "it has a place");
        drop(second);
        assert_eq!(enter(3).err(), Some(Refusal::Full), "the other one still waits for it");
        drop(again);
        assert_eq!(places.taken(), (1, 2), "nothing came of the second");
        let third = enter(3).unwrap();
        assert_eq!(enter(4).err(), Some(Refusal::Full));
        connection.store(false, Ordering::Relaxed);
        assert!(enter(4).is_ok(), "the first is closed");
        drop(third);
        assert_eq!(places.taken(), (0, 2));
    }

    #[test]
    fn a_relay_that_did_not_answer_is_let_be_for_a_while() {
        let (places, now) = (Arc::new(Places::of(1024)), some_moment());
        places.enter(relay(1), now).unwrap().failed(now);
        assert_eq!(places.taken(), (0, 256));
        assert_eq!(places.enter(relay(1), now).err(), Some(Refusal::Unreachable));
        assert!(places.enter(relay(2), now).is_ok());
        let later = now + UNREACHABLE_FOR;
        assert!(places.enter(relay(1), later).is_ok());
        // One that answers after all is as good as others.
        open(&places.enter(relay(1), later).unwrap());
        assert!(places.enter(relay(1), now).is_ok());
    }

    #[test]
    fn there_are_a_quarter_of_the_file_handles_and_some_in_any_case() {
        let limit = |handles| Places::of(handles).taken().1;
        assert_eq!([0, 3, 1024, 65_536, u64::MAX].map(limit), [1, 1, 256, 2_048, 2_048]);
    }
}
