//! Gives backends turns, slowly, when there are more than a descriptor has room
//! for.
//!
//! A queue of all live backends: the first of them have a seat, the others
//! wait. Once an hour the one that has sat longest goes to the end, and the
//! one that has waited longest takes its seat. Called by the balancer at every
//! wake-up.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use super::fact::BackendId;
use super::schedule::Alarm;
use super::settings::BackendRank;

/// How long until one seat changes hands. Every change of the descriptor costs
/// clients retries, and C tor clients keep a descriptor for hours anyway: a
/// faster rotation would cost more and change little.
const TURN: Duration = Duration::from_secs(60 * 60);

/// The queue of the live backends.
#[derive(Debug, Default)]
pub(super) struct BackendTurns {
    queue: VecDeque<BackendId>,
    /// When a seat changes hands; `None` while everyone has one.
    swap_at: Option<Instant>,
}

impl BackendTurns {
    /// Those of the live backends that have a seat now.
    ///
    /// A backend that comes (back) queues at the end, those that are `listed`
    /// first, as after a restart; one that goes leaves its
    /// seat to the one that waits longest. So a backend's coming and going
    /// moves no other backend that has a seat.
    pub(super) fn seated(
        &mut self,
        live: &BTreeSet<BackendId>,
        listed: &BTreeSet<BackendId>,
        seats: usize,
        alarm: &mut Alarm,
    ) -> BTreeSet<BackendId> {
        self.queue.retain(|backend| live.contains(backend));
        for backend in live.intersection(listed).chain(live.difference(listed)) {
            if !self.queue.contains(backend) {
                self.queue.push_back(*backend);
            }
        }
        if self.queue.len() <= seats {
            self.swap_at = None;
        } else {
            let now = alarm.now();
            let swap_at = *self.swap_at.get_or_insert(now + TURN);
            if alarm.reached(swap_at) {
                self.queue.rotate_left(1);
                let next = now + TURN;
                self.swap_at = Some(next);
                alarm.reached(next);
            }
        }
        self.queue.iter().copied().take(seats).collect()
    }
}

/// Those that have a seat where several publishers give seats, who have nothing
/// in common but the clock: all backends sit in a ring in the order of `all`,
/// live or not, and from one that moves on by one every hour, the first live
/// ones have a seat. So everyone's turn comes, and a death moves nobody.
pub(super) fn seated_by_the_clock(
    all: &[(BackendRank<'_>, BackendId)],
    live: &BTreeSet<BackendId>,
    seats: usize,
    now: SystemTime,
    alarm: &mut Alarm,
) -> BTreeSet<BackendId> {
    let mut ring: Vec<_> = all.to_vec();
    ring.sort_unstable();
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let hour = since / TURN.as_secs();
    if live.len() > seats {
        let next = Duration::from_secs((hour + 1) * TURN.as_secs() - since);
        alarm.reached(alarm.now() + next);
    }
    let first = usize::try_from(hour).unwrap_or_default() % ring.len().max(1);
    ring.rotate_left(first);
    ring.into_iter().map(|(_, id)| id).filter(|id| live.contains(id)).take(seats).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some first moment")]
    fn start() -> Instant {
        Instant::now()
    }

    fn ids(range: std::ops::Range<u32>) -> BTreeSet<BackendId> {
        range.map(BackendId).collect()
    }

    #[test]
    fn everyone_sits_while_there_is_room_and_no_alarm_is_set() {
        let mut alarm = Alarm::new(start());
        assert_eq!(
            BackendTurns::default().seated(&ids(0..20), &BTreeSet::new(), 20, &mut alarm),
            ids(0..20)
        );
        assert_eq!(alarm.next(), None);
    }

    #[test]
    fn one_seat_changes_hands_an_hour_until_everyone_has_sat_and_waited() {
        let mut now = start();
        let mut turns = BackendTurns::default();
        let live = ids(0..25);
        let mut before = turns.seated(&live, &BTreeSet::new(), 20, &mut Alarm::new(now));
        let mut waited = BTreeSet::new();
        for _ in 0..25 {
            now += TURN;
            let after = turns.seated(&live, &BTreeSet::new(), 20, &mut Alarm::new(now));
            assert_eq!(after.len(), 20);
            assert_eq!(after.difference(&before).count(), 1);
            waited.extend(live.difference(&after).copied());
            before = after;
        }
        assert_eq!(waited, live);
    }

    #[test]
    fn a_seat_that_falls_free_goes_to_the_longest_waiting_and_moves_nobody_else() {
        let now = start();
        let mut turns = BackendTurns::default();
        turns.seated(&ids(0..5), &BTreeSet::new(), 3, &mut Alarm::new(now));
        let mut live = ids(0..5);
        live.remove(&BackendId(1));
        let seated = turns.seated(&live, &BTreeSet::new(), 3, &mut Alarm::new(now));
        assert_eq!(seated, [0, 2, 3].map(BackendId).into());
        // Back again, it waits for its turn.
        assert_eq!(turns.seated(&ids(0..5), &BTreeSet::new(), 3, &mut Alarm::new(now)), seated);
    }

    #[test]
    fn by_the_clock_all_publishers_seat_the_same_and_everyones_turn_comes() {
        let keys: Vec<[u8; 1]> = (0..7).map(|n| [n]).collect();
        let all: Vec<(BackendRank<'_>, BackendId)> =
            keys.iter().zip(0..).map(|(key, id)| ((true, &key[..]), BackendId(id))).collect();
        let elsewhere: Vec<_> =
            all.iter().rev().map(|(key, id)| (*key, BackendId(id.0 + 10))).collect();
        let live = ids(0..7);
        let their_live: BTreeSet<_> = ids(10..17);
        let mut seated = BTreeSet::new();
        for hour in 0..7 {
            let now = SystemTime::UNIX_EPOCH + TURN * 400_000 + TURN * hour;
            let alarm = &mut Alarm::new(start());
            let ours = seated_by_the_clock(&all, &live, 3, now, alarm);
            let theirs = seated_by_the_clock(&elsewhere, &their_live, 3, now, alarm);
            assert_eq!(ours.len(), 3);
            assert_eq!(theirs, ours.iter().map(|id| BackendId(id.0 + 10)).collect());
            assert!(alarm.next().is_some());
            // The death of one gives its seat to the next and moves nobody.
            let mut left = live.clone();
            left.remove(ours.first().unwrap());
            let after = seated_by_the_clock(&all, &left, 3, now, alarm);
            assert_eq!(ours.difference(&after).count(), 1);
            seated.extend(ours);
        }
        assert_eq!(seated, live);
    }

    #[test]
    fn after_a_restart_those_that_were_listed_have_the_seats() {
        let mut turns = BackendTurns::default();
        let listed = ids(3..6);
        assert_eq!(turns.seated(&ids(0..6), &listed, 3, &mut Alarm::new(start())), listed);
    }
}
