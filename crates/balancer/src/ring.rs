//! The HSDirs of one period: what each holds, and what it should hold.
//!
//! Each HSDir has a place in the ring, and the place decides which set of
//! points it gets. Called by [`publish`](super::publish).

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use rand::Rng;

use super::content::Content;
use super::fact::{PeriodView, ResponsibleHsdir};
use super::hsdir::{GAP, HsdirUploads, UploadTarget};
use super::schedule::{Alarm, Allowance, between, exponential};
use crate::onion::{Period, RelayId};
use crate::status::{self, Timestamp};

/// When to publish again what has not changed, as C tor and Arti do.
const AGAIN: (Duration, Duration) = (Duration::from_secs(60 * 60), Duration::from_secs(120 * 60));

/// How long after a change in the current period another one follows, on average and
/// at most three times as long. Clients ask the HSDirs of the other one only if their
/// consensus is older or newer than ours.
const FOLLOW: Duration = Duration::from_secs(10 * 60);
/// In short periods that is such a part of them.
const FOLLOW_PART: u32 = 144;

/// How long after an HSDir has read a descriptor and not taken it all of them get
/// another one: what HSDirs see of a service whose points have changed. C tor would
/// leave that HSDir without until the next round that is due.
const REFUSED: (Duration, Duration) = (Duration::from_secs(15 * 60), Duration::from_secs(45 * 60));
/// In short periods that is such a part of them.
const REFUSED_PARTS: (u32, u32) = (96, 32);
/// One that refuses on and on brings no more rounds than this.
const REFUSALS: Allowance = Allowance::new(1, Duration::from_secs(3 * 60 * 60));

/// By how much uploads to new HSDirs are spread, so that not all services come in the
/// moment of a new consensus: those of one process by more, ...
const SPREAD: Duration = Duration::from_secs(5 * 60);
/// ... in short periods by such a part of them, ...
const SPREAD_PART: u32 = 288;
/// ... the first ones by less, since clients may find nothing before, ...
const SPREAD_AT_START: Duration = Duration::from_secs(20);
/// ... and that of a process with no other one by this.
const SPREAD_ALONE: Duration = Duration::from_secs(5);

/// In short periods the gap between the uploads to an HSDir is such a part of them.
const GAP_PART: u32 = 24;

/// One period's HSDirs.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) view: PeriodView,
    pub(super) hsdirs: BTreeMap<RelayId, HsdirUploads>,
    /// Which set each of them gets.
    places: BTreeMap<RelayId, usize>,
    /// The round that every HSDir should hold.
    round: u64,
    /// When it was decided here.
    decided_at: Option<Instant>,
    /// Whether clients would lose something if it waited.
    pub(super) hurried: bool,
    again_at: Option<Instant>,
    /// Whether the next round brings something new.
    follows: bool,
    /// Whether several HSDirs that clients ask had read the last round and not taken it.
    was_declined: bool,
    refusals: Allowance,
    /// The highest revision that an HSDir accepted.
    revision: Option<u64>,
    published_at: Option<SystemTime>,
}

/// How long new HSDirs wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    usual: Duration,
    /// Where clients find nothing.
    if_lost: Duration,
}

/// How long after it is known who they are new HSDirs are brought the descriptor; all
/// services of a process learn that in the same second. Clients ask others meanwhile.
pub(super) fn spread(period: Period, first: bool, in_company: bool, rng: &mut impl Rng) -> Spread {
    let most = match (first, in_company) {
        (true, false) => Duration::ZERO,
        (true, true) => SPREAD_AT_START,
        (false, false) => SPREAD_ALONE,
        (false, true) => SPREAD.min(period.part(SPREAD_PART)).max(SPREAD_ALONE),
    };
    let usual = if most.is_zero() { most } else { between(Duration::ZERO, most, rng) };
    Spread { usual, if_lost: if first { usual } else { usual.min(SPREAD_ALONE) } }
}

/// How many HSDirs of each replica clients ask, in every period: so many sets
/// of points have a place where they are found.
pub(super) fn asked(periods: &[PeriodView]) -> BTreeMap<u8, usize> {
    let counts = periods.iter().filter(|view| !view.hsdirs.is_empty()).map(|view| {
        let mut counts = BTreeMap::new();
        for hsdir in view.hsdirs.iter().filter(|hsdir| hsdir.asked_by_clients) {
            *counts.entry(hsdir.replica).or_insert(0) += 1;
        }
        counts
    });
    let fewest = |a: BTreeMap<u8, usize>, b: BTreeMap<u8, usize>| {
        let both = |(replica, count): (u8, usize)| Some((replica, count.min(*b.get(&replica)?)));
        a.into_iter().filter_map(both).collect()
    };
    counts.reduce(fewest).unwrap_or_default()
}

impl Ring {
    /// A period in which nothing has been published yet.
    pub(super) fn new(view: PeriodView, round: u64) -> Self {
        Self {
            view,
            hsdirs: BTreeMap::new(),
            places: BTreeMap::new(),
            round,
            decided_at: None,
            hurried: false,
            again_at: None,
            follows: false,
            was_declined: false,
            refusals: REFUSALS,
            revision: None,
            published_at: None,
        }
    }

    /// The HSDirs are these now. What those that stay hold is kept; if there are new
    /// ones among them, all get the descriptor anew, as C tor's do.
    pub(super) fn network_changed(
        &mut self,
        view: PeriodView,
        asked: &BTreeMap<u8, usize>,
        newest_as_of: Option<SystemTime>,
        now: Instant,
        spread: Spread,
    ) {
        let not_before = now + spread.usual;
        let mut before = std::mem::take(&mut self.hsdirs);
        let is_new = |it: &ResponsibleHsdir| !before.contains_key(&it.relay);
        if !before.is_empty() && view.hsdirs.iter().any(is_new) {
            self.again_at = self.again_at.map(|at| at.min(not_before));
        }
        for responsible in &view.hsdirs {
            let relay = responsible.relay;
            let hsdir = before.remove(&relay);
            self.hsdirs.entry(relay).or_insert_with(|| {
                hsdir.unwrap_or_else(|| HsdirUploads::new(not_before, newest_as_of))
            });
        }
        if view.current && !self.view.current && self.follows {
            // From now on clients ask here.
            self.again_at = self.again_at.map(|at| at.min(not_before + self.gap()));
        }
        self.places = places(&view.hsdirs, asked);
        self.view = view;
        if self.view.current && !self.is_found() {
            let soon = now + spread.if_lost;
            self.hsdirs.values_mut().for_each(|hsdir| hsdir.allow_from(soon));
        }
    }

    /// What an HSDir should hold.
    pub(super) fn target(&self, relay: &RelayId) -> UploadTarget {
        let set = self.places.get(relay).copied().unwrap_or_default();
        UploadTarget { round: self.round, set }
    }

    /// How long after a descriptor an HSDir gets the next one at the earliest.
    pub(super) fn gap(&self) -> Duration {
        GAP.min(self.view.period.part(GAP_PART))
    }

    /// Whether every HSDir may get another round that is no hurry: decided no earlier, it
    /// says what is known when it goes out, and goes to all of them under one revision.
    pub(super) fn is_spaced(&self, alarm: &mut Alarm) -> bool {
        let gap = self.gap();
        let taken = self.hsdirs.values().filter_map(HsdirUploads::accepted_at).max();
        self.decided_at.into_iter().chain(taken).all(|at| alarm.reached(at + gap))
    }

    /// The HSDirs that clients ask.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&ResponsibleHsdir, &HsdirUploads)> {
        let asked = self.view.hsdirs.iter().filter(|hsdir| hsdir.asked_by_clients);
        asked.filter_map(|it| Some((it, self.hsdirs.get(&it.relay)?)))
    }

    /// Whether every HSDir that clients ask and that works has what it should.
    pub(super) fn is_done(&self) -> bool {
        self.asked().all(|(it, hsdir)| !hsdir.lags(self.target(&it.relay)))
    }

    /// Whether several HSDirs that clients ask, a third of them or more, have read the last
    /// round and not taken it: that is hardly theirs. Another program's revisions are on
    /// those that were responsible while it published.
    pub(super) fn is_declined(&self) -> bool {
        let declined = self.asked().filter(|(it, hsdir)| hsdir.declines(self.target(&it.relay)));
        let (declined, asked) = (declined.count(), self.asked().count());
        3 * declined >= asked && declined >= asked.min(2) && declined > 0
    }

    /// Whether that was so at any time since the last round began. Every HSDir is then
    /// tried again until it takes the round, even when the first ones have: what several refuse
    /// for one reason, they do not all come to take at once.
    pub(super) fn was_declined(&self) -> bool {
        self.was_declined
    }

    /// Whether the others should tell soon whether what one refused is refused by most.
    pub(super) fn is_undecided(&self, alarm: &mut Alarm) -> bool {
        let mut asked = self.asked();
        !self.is_declined() && asked.any(|(_, hsdir)| hsdir.should_answer(alarm))
    }

    /// Whether clients find us here: for every replica, an HSDir that they ask
    /// holds a descriptor of ours.
    pub(super) fn is_found(&self) -> bool {
        let found = |replica| self.asked().any(|(it, h)| it.replica == replica && h.holds_any());
        !self.view.hsdirs.is_empty() && self.view.hsdirs.iter().all(|it| found(it.replica))
    }

    /// An HSDir has taken this revision.
    pub(super) fn took(&mut self, revision: u64, at: SystemTime) {
        self.revision = self.revision.max(Some(revision));
        self.published_at = Some(at);
    }

    /// A round begins that is for all periods.
    pub(super) fn begin(&mut self, round: u64, hurried: bool, now: Instant) {
        self.round = round;
        self.hurried = hurried;
        self.decided_at = Some(now);
        self.again_at = None;
        (self.follows, self.was_declined) = (false, false);
    }

    /// A round begins in the current period and not here: the same follows in the next
    /// one, `soon` after this at a moment of chance, or HSDirs of both see that two
    /// keys are of one service.
    pub(super) fn follow(&mut self, soon: Option<Instant>, rng: &mut impl Rng) {
        let mean = FOLLOW.min(self.view.period.part(FOLLOW_PART));
        let at = soon.map(|now| now + exponential(mean, rng));
        self.again_at = self.again_at.into_iter().chain(at).min();
        self.follows = true;
    }

    /// An HSDir has read what it should hold and not taken it: the next round comes
    /// earlier.
    pub(super) fn declined(&mut self, now: Instant, rng: &mut impl Rng) {
        self.was_declined |= self.is_declined();
        if self.refusals.permits(&mut Alarm::new(now)) {
            self.refusals.take(now);
            let part = |most: Duration, part| most.min(self.view.period.part(part));
            let (low, high) = (part(REFUSED.0, REFUSED_PARTS.0), part(REFUSED.1, REFUSED_PARTS.1));
            let at = now + between(low, high, rng);
            self.again_at = Some(self.again_at.map_or(at, |again| again.min(at)));
        }
    }

    /// Begins a round of its own when the last one is old enough.
    pub(super) fn publish_again(&mut self, round: &mut u64, alarm: &mut Alarm, rng: &mut impl Rng) {
        let due = self.again_at.is_some_and(|at| alarm.reached(at));
        if !due && self.again_at.is_some() {
            return;
        }
        let next = alarm.now() + between(AGAIN.0, AGAIN.1, rng);
        self.again_at = Some(next);
        alarm.reached(next);
        if due {
            *round += 1;
            let same = self.hsdirs.iter_mut().filter(|_| !self.follows);
            for (relay, hsdir) in same {
                let set = self.places.get(relay).copied().unwrap_or_default();
                let (held, wanted) = (self.round, *round);
                hsdir.skip(
                    UploadTarget { round: held, set },
                    UploadTarget { round: wanted, set },
                    next,
                );
            }
            self.round = *round;
            self.hurried = false;
            self.decided_at = Some(alarm.now());
            (self.follows, self.was_declined) = (false, false);
        }
    }

    /// The machine has slept for so long: what was to be published again
    /// meanwhile is due.
    pub(super) fn slept(&mut self, slept: Duration, now: Instant) {
        self.again_at = self.again_at.map(|at| at.checked_sub(slept).unwrap_or(now));
        for hsdir in self.hsdirs.values_mut() {
            hsdir.slept(slept);
        }
    }

    /// What the operator sees.
    pub(super) fn snapshot(&self, content: Option<&Content>) -> status::Descriptor {
        let mut relays = Vec::new();
        for hsdir in &self.view.hsdirs {
            if !relays.contains(&hsdir.relay) {
                relays.push(hsdir.relay);
            }
        }
        let points = |target: UploadTarget| {
            content.and_then(|content| Some(content.sets.get(target.set)?.chosen.len()))
        };
        let hsdir = |relay: RelayId| {
            let target = self.target(&relay);
            let points = points(target).or_else(|| points(UploadTarget { set: 0, ..target }));
            Some(self.hsdirs.get(&relay)?.snapshot(relay, target, points.unwrap_or_default()))
        };
        status::Descriptor {
            period: self.view.period.number,
            current: self.view.current,
            revision: self.revision,
            intro_points: content.map_or(0, Content::points),
            distinct: content.is_some_and(Content::is_distinct),
            published_at: self.published_at.map(Timestamp),
            canary: None,
            hsdirs: relays.into_iter().filter_map(hsdir).collect(),
        }
    }
}

/// The set of each HSDir: one for each place at which clients ask, and those
/// that they do not ask have the one of some place of the same replica.
fn places(hsdirs: &[ResponsibleHsdir], asked: &BTreeMap<u8, usize>) -> BTreeMap<RelayId, usize> {
    let mut places = BTreeMap::new();
    let mut first = 0;
    for (replica, count) in asked {
        let of_replica = hsdirs.iter().filter(|hsdir| hsdir.replica == *replica);
        let (theirs, others): (Vec<&ResponsibleHsdir>, Vec<_>) =
            of_replica.partition(|it| it.asked_by_clients);
        for (place, hsdir) in theirs.into_iter().chain(others).enumerate() {
            places.entry(hsdir.relay).or_insert(first + place % count);
        }
        first += count;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::super::samples::{period, relay, rng};
    use super::*;

    /// A period whose HSDirs are these: relay, replica, asked by clients.
    fn view(hsdirs: &[(u16, u8, bool)]) -> PeriodView {
        let hsdir = |&(at, replica, asked_by_clients): &(u16, u8, bool)| ResponsibleHsdir {
            relay: relay(at),
            replica,
            asked_by_clients,
        };
        let hsdirs = hsdirs.iter().map(hsdir).collect();
        PeriodView { period: period(1), current: true, hsdirs }
    }

    fn sets(view: &PeriodView, asked: &BTreeMap<u8, usize>) -> Vec<usize> {
        let places = places(&view.hsdirs, asked);
        view.hsdirs.iter().map(|hsdir| places[&hsdir.relay]).collect()
    }

    #[test]
    fn every_place_that_clients_ask_has_a_set_and_the_others_one_of_their_replica() {
        let view = view(&[
            (1, 1, true),
            (2, 1, true),
            (3, 1, false),
            (4, 2, true),
            (5, 2, true),
            (6, 2, false),
        ]);
        let asked = asked(std::slice::from_ref(&view));
        assert_eq!(asked, BTreeMap::from([(1, 2), (2, 2)]));
        assert_eq!(sets(&view, &asked), [0, 1, 0, 2, 3, 2]);
    }

    #[test]
    fn services_of_one_process_bring_new_hsdirs_their_descriptors_at_times_of_their_own() {
        let mut rng = rng();
        let mut most = |first, in_company| {
            let all = (0..200).map(|_| spread(period(1), first, in_company, &mut rng));
            all.map(|it| it.usual).max().unwrap_or_default().as_secs()
        };
        assert_eq!(most(true, false), 0, "nobody else is there to be seen beside");
        assert!((18..=20).contains(&most(true, true)));
        assert!((4..=5).contains(&most(false, false)));
        assert!((280..=300).contains(&most(false, true)));
    }

    #[test]
    fn no_set_is_without_an_hsdir_where_a_period_has_fewer_of_them() {
        let full = view(&[(1, 1, true), (2, 1, true), (3, 2, true), (4, 2, true)]);
        let small = view(&[(5, 1, true), (6, 1, true), (7, 2, true)]);
        let asked = asked(&[full.clone(), small.clone()]);
        assert_eq!(asked, BTreeMap::from([(1, 2), (2, 1)]));
        assert_eq!(sets(&full, &asked), [0, 1, 2, 2]);
        assert_eq!(sets(&small, &asked), [0, 1, 2]);
    }
}
