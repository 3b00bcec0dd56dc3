//! The seeds that publishers of other addresses have given, for which their clients'
//! solutions are verified here.
//!
//! Pure. Seeds outlive the control link over which they came, as clients' descriptors do.
//! The other end may be hostile, so their number and their time are bounded.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onionbraid_balancer::link::{GivenSeed, MAX_SEEDS, WorkOrder};
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::pow::Effort;

/// Seeds are kept no longer. A publisher names one from ten minutes before its slot begins
/// until the next slot has ended, 205 minutes at most; and as long as it does, clients'
/// solutions count here, once, whatever becomes of links meanwhile and whatever this clock
/// says.
const SEEDS_LAST: Duration = Duration::from_hours(4);

/// What the publishers of each address say now; `None`: clients are asked for nothing.
pub(crate) type PublishersSay = BTreeMap<OnionAddress, Option<WorkOrder>>;

/// The seeds of all addresses.
#[derive(Debug, Default)]
pub(super) struct AddressSeeds {
    by: BTreeMap<OnionAddress, Vec<KeptSeed>>,
    /// How much work clients of each address are asked for, as said last.
    asked: BTreeMap<OnionAddress, Effort>,
    /// Grows with every change.
    version: u64,
}

/// A seed and the time at which it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeptSeed {
    seed: GivenSeed,
    /// In seconds since 1970.
    until: u64,
    /// Whether it is only known, so that naming it for ever makes it no younger.
    aged: bool,
}

impl AddressSeeds {
    /// Takes what publishers say now; nothing is kept of addresses that are none of these
    /// `frontends`. True if something has changed.
    pub(super) fn update(
        &mut self,
        told: &PublishersSay,
        frontends: &[OnionAddress],
        now: SystemTime,
    ) -> bool {
        let before = self.by.clone();
        let until = seconds(now + SEEDS_LAST);
        for (frontend, order) in told {
            match order {
                Some(order) => {
                    let seeds = order.seeds.iter().take(MAX_SEEDS);
                    let kept = seeds.map(|seed| KeptSeed { seed: *seed, until, aged: false });
                    self.by.insert(*frontend, self.with_older(*frontend, kept.collect()));
                }
                None => drop(self.by.remove(frontend)),
            }
        }
        self.by.retain(|frontend, seeds| {
            for kept in seeds.iter_mut() {
                kept.aged = kept.until <= seconds(now);
            }
            seeds.retain(|kept| !kept.aged || told.contains_key(frontend));
            frontends.contains(frontend) && !seeds.is_empty()
        });
        let said = told.iter().filter_map(|(address, order)| Some((*address, order.as_ref()?)));
        self.asked.extend(said.map(|(address, order)| (address, order.effort)));
        let is_asked = |address: &OnionAddress| {
            let expires = self.by.get(address)?.iter().map(|kept| kept.seed.expires).max()?;
            Some(told.contains_key(address) || expires > seconds(now))
        };
        self.asked.retain(|address, _| is_asked(address).unwrap_or(false));
        let has_changed = self.by != before;
        self.version += u64::from(has_changed);
        has_changed
    }

    /// Those seeds, with the times that were noted when they came first.
    fn with_older(&self, frontend: OnionAddress, seeds: Vec<KeptSeed>) -> Vec<KeptSeed> {
        let known = self.by.get(&frontend);
        let older = |new: KeptSeed| {
            let same = |KeptSeed { seed: it, .. }: &&KeptSeed| {
                (it.period, it.slot, it.seed) == (new.seed.period, new.seed.slot, new.seed.seed)
            };
            known.and_then(|known| known.iter().find(same)).copied().unwrap_or(new)
        };
        seeds.into_iter().map(older).collect()
    }

    /// All of them, with the address of each.
    pub(super) fn seeds(&self) -> impl Iterator<Item = (OnionAddress, GivenSeed)> {
        let of = |(frontend, seeds): (&OnionAddress, &Vec<KeptSeed>)| {
            let frontend = *frontend;
            let kept = seeds.clone().into_iter().filter(|kept| !kept.aged);
            kept.map(move |kept| (frontend, kept.seed))
        };
        self.by.iter().flat_map(of)
    }

    /// The most work that clients of any address are asked for.
    pub(super) fn asked(&self) -> Effort {
        self.asked.values().copied().max().unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seeds().next().is_none()
    }

    /// Tells whether something has changed since it was asked last.
    pub(super) fn version(&self) -> u64 {
        self.version
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use onionbraid_balancer::onion::Period;
    use onionbraid_balancer::pow::SeedSlot;

    const NOW: SystemTime = UNIX_EPOCH;

    fn address(n: u8) -> OnionAddress {
        OnionAddress::from_public_key([n; 32])
    }

    fn seed(slot: u64, expires: u64) -> GivenSeed {
        let period = Period { number: 1, length_minutes: 1440, offset_seconds: 0 };
        GivenSeed { period, slot: SeedSlot(slot), seed: [1; 32], expires }
    }

    fn told(frontend: u8, seeds: Vec<GivenSeed>) -> PublishersSay {
        [(address(frontend), Some(WorkOrder { effort: 7, seeds }))].into()
    }

    #[test]
    fn seeds_outlive_the_link_and_their_time_and_go_with_the_frontend() {
        let (mut given, frontends) = (AddressSeeds::default(), [address(1), address(2)]);
        assert!(given.update(&told(1, vec![seed(1, 100), seed(2, 200)]), &frontends, NOW));
        assert!(given.update(&told(2, vec![seed(1, 300)]), &frontends, NOW));
        let version = given.version();
        // This clock may be ahead; and what was used with a seed is known as long as it is.
        let later = NOW + SEEDS_LAST - Duration::from_secs(1);
        assert!(!given.update(&PublishersSay::new(), &frontends, later));
        assert_eq!((given.seeds().count(), given.version()), (3, version));
        // The link is back, and names one of them no longer.
        assert!(given.update(&told(1, vec![seed(2, 200)]), &frontends, later));
        assert_eq!(given.seeds().count(), 2);
        assert!(given.update(&PublishersSay::new(), &[address(1)], later));
        assert!(given.seeds().all(|(frontend, _)| frontend == address(1)));
        // Clients are asked for nothing any more.
        assert!(given.update(&[(address(1), None)].into(), &frontends, later));
        assert!(given.is_empty() && given.version() > version);
    }

    #[test]
    fn clients_are_asked_for_the_most_that_any_publisher_said_whose_seeds_are_kept() {
        let (mut given, frontends) = (AddressSeeds::default(), [address(1), address(2)]);
        let says = |frontend, effort, expires| -> PublishersSay {
            let order = WorkOrder { effort, seeds: vec![seed(1, expires)] };
            [(address(frontend), Some(order))].into()
        };
        assert_eq!(given.asked(), 0);
        given.update(&says(1, 40, 100), &frontends, NOW);
        given.update(&says(2, 7, 300), &frontends, NOW);
        assert_eq!(given.asked(), 40);
        // Nothing new but the effort.
        assert!(!given.update(&says(1, 3, 100), &frontends, NOW));
        assert_eq!(given.asked(), 7);
        given.update(&says(1, 40, 100), &frontends, NOW);
        // The link is down, and its seeds expire.
        given.update(&PublishersSay::new(), &frontends, NOW + Duration::from_secs(99));
        assert_eq!(given.asked(), 40);
        given.update(&PublishersSay::new(), &frontends, NOW + Duration::from_secs(100));
        assert_eq!(given.asked(), 7);
        given.update(&[(address(2), None)].into(), &frontends, NOW);
        assert_eq!(given.asked(), 0);
    }

    #[test]
    fn a_hostile_publisher_fills_no_memory_and_keeps_no_seed_for_ever() {
        let (mut given, frontends) = (AddressSeeds::default(), [address(1)]);
        let many = told(1, (0..10_000).map(|slot| seed(slot, u64::MAX)).collect());
        assert!(given.update(&many, &frontends, NOW));
        assert_eq!(given.seeds().count(), MAX_SEEDS);
        // Saying it again makes them no younger.
        assert!(!given.update(&many, &frontends, NOW + SEEDS_LAST / 2));
        for later in [SEEDS_LAST, 2 * SEEDS_LAST] {
            given.update(&many, &frontends, NOW + later);
            assert!(given.is_empty() && given.by[&address(1)].len() == MAX_SEEDS);
        }
        given.update(&PublishersSay::new(), &frontends, NOW + 2 * SEEDS_LAST);
        assert!(given.is_empty() && given.by.is_empty());
        assert!(!given.update(&told(9, vec![seed(1, 100)]), &frontends, NOW) && given.is_empty());
    }
}
