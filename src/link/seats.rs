//! The publishers that hold a link to this backend, and what each has said last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::wire::{GAP, LinkPace};
use crate::instance::PublishersSay;
use onionbraid_balancer::link::{LinkOrders, Report, WorkOrder};
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::operator::Word;

/// Links of the publishers of one address at the same time. One more takes the
/// place of the oldest: a publisher that was cut off dials anew before we notice.
const MOST: usize = 8;

/// Requests that a link may make at once, and one more after each such time. A publisher
/// makes two.
const REQUESTS: (u32, Duration) = (4, Duration::from_secs(5));

/// Everybody who holds a link.
#[derive(Default)]
pub(super) struct Seats {
    taken: Mutex<SeatsTaken>,
    /// Told of everything that changes.
    changed: Notify,
}

#[derive(Default)]
struct SeatsTaken {
    /// The addresses whose publishers are answered.
    frontends: Vec<OnionAddress>,
    /// The number of the next one.
    next: u64,
    by: BTreeMap<u64, Holder>,
}

struct Holder {
    frontend: OnionAddress,
    orders: Option<LinkOrders>,
    /// Ends the link.
    leave: CancellationToken,
}

/// A place among them, given up when it is dropped.
pub(super) struct LinkSeat {
    seats: Arc<Seats>,
    number: u64,
    /// The address whose publisher has it.
    pub(super) frontend: OnionAddress,
    /// Cancelled when the link is to end.
    pub(super) leave: CancellationToken,
    /// How fast its publisher may ask ...
    pub(super) requests: LinkPace,
    /// ... and say what has become of the points.
    pub(super) orders: LinkPace,
}

impl Seats {
    /// Answers the publishers of these addresses from now on, and ends the links of
    /// all others.
    pub(super) fn answer_for(&self, frontends: Vec<OnionAddress>) {
        let mut taken = self.taken.lock();
        let others = taken.by.values().filter(|holder| !frontends.contains(&holder.frontend));
        others.for_each(|holder| holder.leave.cancel());
        taken.frontends = frontends;
    }

    /// The addresses whose publishers are answered.
    pub(super) fn frontends(&self) -> Vec<OnionAddress> {
        self.taken.lock().frontends.clone()
    }

    /// A place for a publisher of this address; `None` if it is not answered any more:
    /// that may have changed since it was recognised.
    pub(super) fn take(self: &Arc<Self>, frontend: OnionAddress) -> Option<LinkSeat> {
        let leave = CancellationToken::new();
        let mut taken = self.taken.lock();
        if !taken.frontends.contains(&frontend) {
            return None;
        }
        let of_it = taken.by.values().filter(|holder| holder.frontend == frontend);
        if of_it.clone().count() >= MOST
            && let Some(oldest) = of_it.into_iter().next()
        {
            oldest.leave.cancel();
        }
        let number = taken.next;
        taken.next += 1;
        taken.by.insert(number, Holder { frontend, orders: None, leave: leave.clone() });
        drop(taken);
        self.changed.notify_one();
        let (requests, orders) = (LinkPace::new(REQUESTS.0, REQUESTS.1), LinkPace::new(1, GAP));
        Some(LinkSeat { seats: Arc::clone(self), number, frontend, leave, requests, orders })
    }

    /// Whether each of them releases what the report does not offer.
    pub(super) fn release(&self, report: &Report) -> bool {
        self.all(|orders| orders.is_some_and(|orders| orders.release(report)))
    }

    /// Whether none of them has anybody else for clients.
    pub(super) fn are_alone(&self) -> bool {
        !self.is_empty() && self.all(|orders| orders.is_some_and(|orders| orders.standing.alone))
    }

    fn all(&self, is: impl Fn(Option<&LinkOrders>) -> bool) -> bool {
        let taken = self.taken.lock();
        let mut staying = taken.by.values().filter(|holder| !holder.leave.is_cancelled());
        staying.all(|holder| is(holder.orders.as_ref()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all(|_| false)
    }

    /// What clients of each address are to work for, as its publisher has said last, ...
    pub(super) fn work(&self) -> PublishersSay {
        let taken = self.taken.lock();
        let mut told = PublishersSay::new();
        for holder in taken.by.values().filter(|holder| !holder.leave.is_cancelled()) {
            let Some(orders) = &holder.orders else { continue };
            let newest = |work: &WorkOrder| work.seeds.iter().map(|seed| seed.slot).max();
            let work = orders.standing.work.clone();
            let known = told.entry(holder.frontend).or_default();
            if known.as_ref().and_then(newest) <= work.as_ref().and_then(newest) {
                *known = work;
            }
        }
        told
    }

    /// ... and the furthest that any operator of a publisher has this backend out of use.
    pub(super) fn word(&self) -> Word {
        let taken = self.taken.lock();
        let staying = taken.by.values().filter(|holder| !holder.leave.is_cancelled());
        let words = staying.filter_map(|holder| Some(holder.orders.as_ref()?.standing.word));
        words.max().unwrap_or_default()
    }

    /// Waits until something has changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl LinkSeat {
    /// Its publisher says this now.
    pub(super) fn heard(&self, orders: LinkOrders) {
        if let Some(holder) = self.seats.taken.lock().by.get_mut(&self.number) {
            holder.orders = Some(orders);
        }
        self.seats.changed.notify_one();
    }
}

impl Drop for LinkSeat {
    fn drop(&mut self) {
        self.seats.taken.lock().by.remove(&self.number);
        self.seats.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use onionbraid_balancer::link::{GivenSeed, Offered, Standing};
    use onionbraid_balancer::onion::Period;
    use onionbraid_balancer::pow::SeedSlot;

    use super::*;

    fn address(n: u8) -> OnionAddress {
        OnionAddress::from_public_key([n; 32])
    }

    fn seats() -> Arc<Seats> {
        let seats = Arc::new(Seats::default());
        seats.answer_for(vec![address(1), address(2)]);
        seats
    }

    #[test]
    fn one_publisher_too_many_takes_the_place_of_the_oldest_of_its_address() {
        let seats = seats();
        let other = seats.take(address(2)).unwrap();
        let held: Vec<_> = (0..MOST).map(|_| seats.take(address(1)).unwrap()).collect();
        assert!(held.iter().all(|seat| !seat.leave.is_cancelled()));
        let _newest = seats.take(address(1));
        assert!(held[0].leave.is_cancelled() && !held[1].leave.is_cancelled());
        assert!(!other.leave.is_cancelled());
        seats.answer_for(vec![address(1)]);
        assert!(other.leave.is_cancelled() && !held[1].leave.is_cancelled());
    }

    #[test]
    fn a_publisher_has_no_place_whose_address_was_taken_out_since_it_was_recognised() {
        let seats = seats();
        assert!(seats.take(address(2)).is_some());
        seats.answer_for(vec![address(1)]);
        assert!(seats.take(address(2)).is_none() && seats.is_empty());
        seats.answer_for(Vec::new());
        assert!(seats.take(address(1)).is_none() && seats.is_empty());
    }

    #[test]
    fn of_what_publishers_say_the_newest_seeds_and_the_hardest_word_count() {
        let seats = seats();
        let period = Period { number: 1, length_minutes: 1440, offset_seconds: 0 };
        let says = |seat: &LinkSeat, word, slots: &[u64]| {
            let seed = |slot| GivenSeed { period, slot: SeedSlot(slot), seed: [1; 32], expires: 9 };
            let seeds: Vec<_> = slots.iter().copied().map(seed).collect();
            let work = (!seeds.is_empty()).then_some(WorkOrder { effort: 1, seeds });
            let standing = Standing { word, work, ..Standing::default() };
            seat.heard(LinkOrders { number: 1, answers: 0, standing });
        };
        let [one, two] = [(); 2].map(|()| seats.take(address(1)).unwrap());
        let other = seats.take(address(2)).unwrap();
        assert!(seats.work().is_empty() && seats.word() == Word::Ready);
        says(&one, Word::Drain, &[4, 5]);
        says(&two, Word::Ready, &[3, 4]);
        says(&other, Word::Ready, &[]);
        let newest = |told: &PublishersSay, n| {
            told[&address(n)].as_ref().and_then(|work| work.seeds.last()).map(|it| it.slot.0)
        };
        let told = seats.work();
        assert_eq!((newest(&told, 1), newest(&told, 2)), (Some(5), None));
        assert_eq!(seats.word(), Word::Drain);
        drop(one);
        assert_eq!((newest(&seats.work(), 1), seats.word()), (Some(4), Word::Ready));
    }

    #[test]
    fn what_was_offered_is_released_when_every_publisher_has_said_so() {
        let seats = seats();
        let report = Report { number: 3, offer: Offered::default() };
        assert!(seats.release(&report), "nobody to wait for");
        let (one, two) = (seats.take(address(1)).unwrap(), seats.take(address(2)).unwrap());
        let orders = |answers, alone| LinkOrders {
            number: 1,
            answers,
            standing: Standing { alone, ..Standing::default() },
        };
        assert!(!seats.release(&report), "they have said nothing yet");
        one.heard(orders(3, false));
        assert!(!seats.release(&report));
        two.heard(orders(2, true));
        assert!(!seats.release(&report), "it does not know the report");
        two.heard(orders(3, true));
        assert!(seats.release(&report) && !seats.are_alone());
        drop(one);
        assert!(seats.are_alone());
    }
}
