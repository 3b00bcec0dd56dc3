//! Which introduction points an instance should have, and what to do next to
//! have them. Pure: time and randomness come in, actions go out.
//!
//! A slot is one introduction point at one relay with one set of keys: what it can be is
//! in [`slot`].

mod slot;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use rand::RngExt as _;

use onionbraid_balancer::fact::Now;
use onionbraid_balancer::onion::RelayId;
use slot::{RETRY_AFTER_AT_MOST, RelayTrust, Slot, SlotCircuit, SlotPhase};

/// How often a relay at which clients look for us may fail after that, once
/// another relay has not failed: till then, the fault may be on our side. Of
/// these, one may have been under way already when the fault ended.
const LAST_CHANCES: u32 = 2;

/// The pause when no relay could be chosen at all, and for each relay in a row
/// that was chosen in vain, ...
const CHOOSE_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// ... and the longest.
const CHOOSE_AGAIN_AFTER_AT_MOST: Duration = Duration::from_secs(30);

/// A circuit that closes sooner may have been closed by its relay. One that does
/// so again and again, while another relay's circuit stands, fails as well.
const STANDS_AFTER: Duration = Duration::from_mins(5);

/// How long clients are still sent to a point whose circuit broke while it is
/// being built anew: changing the descriptor costs them more than that.
const PRESENT_WHILE_LOST: Duration = Duration::from_secs(10);

/// How long a point serves, in seconds, and how many introductions: C tor's
/// values (`INTRO_POINT_LIFETIME_*`, `INTRO_POINT_*_LIFETIME_INTRODUCTIONS`).
const LIFETIME: std::ops::RangeInclusive<u64> = 18 * 3600..=24 * 3600;
/// See [`LIFETIME`].
const INTRODUCTIONS: std::ops::RangeInclusive<u32> = 16_384..=32_768;

/// How long a replaced point still answers: clients may hold a descriptor for
/// its lifetime of three hours.
const RETIRE_FOR: Duration = Duration::from_hours(3);

/// The same where somebody must no longer reach it: the others find its successor
/// in a descriptor, once HSDirs have that.
const RENEW_WITHIN: Duration = Duration::from_mins(2);

/// How long a point that hangs is kept beside its successor-to-be: some clients
/// may still get through, and a descriptor with one point less gains nothing.
const REPLACE_WITHIN: Duration = Duration::from_secs(15);

/// A retiring point that is used this much beyond its limit is under attack
/// and goes at once: its replay log has to end somewhere.
const INTRODUCTIONS_WHILE_RETIRING: u32 = 32_768;

/// Names a slot; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotId(u64);

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Choose a relay for a new point and say so with [`Plan::relay_chosen`].
    ChooseRelay,
    /// Try once to establish the point; ends with `established` or `failed`.
    Establish(SlotId),
    /// Close the point's circuit, forget its keys, release its relay.
    Abandon(SlotId, RelayId),
}

/// What is left of a point's life, in terms that outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// Where the point is.
    pub(super) relay: RelayId,
    /// When it is worn out at the latest.
    pub(super) expires: SystemTime,
    /// Introductions left before it is worn out.
    pub(super) introductions_left: u32,
    /// Until when it still answers, if it retires.
    pub(super) retiring_until: Option<SystemTime>,
}

/// The plan of one instance.
#[derive(Debug)]
pub(super) struct Plan {
    /// How many points to have.
    wanted: usize,
    /// All of them, retiring ones too.
    slots: BTreeMap<SlotId, Slot>,
    /// Slots that are over and not yet abandoned.
    abandoned: Vec<(SlotId, RelayId)>,
    /// The next slot's number.
    next: u64,
    /// Not before this moment is a relay chosen again.
    choose_after: Option<Instant>,
    /// A relay was asked for and the answer is outstanding.
    choosing: bool,
    /// Relays chosen in vain since a point was established.
    chosen_in_vain: u32,
}

impl Plan {
    /// A plan for this many points, with none yet.
    pub(super) fn new(wanted: usize) -> Self {
        Self {
            wanted,
            slots: BTreeMap::new(),
            abandoned: Vec::new(),
            next: 0,
            choose_after: None,
            choosing: false,
            chosen_in_vain: 0,
        }
    }

    /// The next thing to do, if something is due.
    pub(super) fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.settle(now);
        if let Some((slot, relay)) = self.abandoned.pop() {
            return Some(Action::Abandon(slot, relay));
        }
        for (id, slot) in &mut self.slots {
            if let SlotCircuit::Missing { due: due @ Some(_), .. } = &mut slot.circuit
                && due.is_some_and(|at| at <= now)
            {
                *due = None;
                return Some(Action::Establish(*id));
            }
        }
        let fresh = self.slots.values().filter(|slot| slot.counts(now)).count();
        let may_choose = !self.choosing && self.choose_after.is_none_or(|at| at <= now);
        if fresh < self.wanted && may_choose {
            self.choosing = true;
            return Some(Action::ChooseRelay);
        }
        None
    }

    /// When to ask again although nothing has happened; `now` is the moment for
    /// which [`Self::poll_action`] and [`Self::presentable`] were asked last.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let slots = self.slots.values().flat_map(|slot| {
            let ends = match slot.phase {
                SlotPhase::Hanging { until } | SlotPhase::Retiring { until } => Some(until),
                SlotPhase::New | SlotPhase::Serving => None,
            };
            let circuit = match slot.circuit {
                SlotCircuit::Missing { due, told_until, .. } => [due, Some(told_until)],
                SlotCircuit::Standing { .. } => [None; 2],
            };
            circuit.into_iter().chain([ends, Some(slot.expires)])
        });
        // What is past has been looked at, and waits for something else.
        slots.chain([self.choose_after]).flatten().filter(|moment| *moment > now).min()
    }

    /// The slots whose points clients should be told of.
    pub(super) fn presentable(&self, now: Instant) -> impl Iterator<Item = SlotId> {
        let is_told = move |slot: &Slot| match (slot.phase, slot.circuit) {
            (SlotPhase::New | SlotPhase::Retiring { .. }, _) => false,
            (_, SlotCircuit::Missing { told_until, .. }) => now < told_until,
            (_, SlotCircuit::Standing { .. }) => true,
        };
        let told = self.slots.iter().filter(move |(_, slot)| !slot.is_doubted() && is_told(slot));
        told.map(|(id, _)| *id)
    }

    /// The relay of a slot.
    pub(super) fn relay(&self, slot: SlotId) -> Option<RelayId> {
        self.slots.get(&slot).map(|slot| slot.relay)
    }

    /// Answers [`Action::ChooseRelay`]; `None` if there is no relay to choose.
    pub(super) fn relay_chosen(
        &mut self,
        relay: Option<RelayId>,
        now: Instant,
        rng: &mut impl rand::Rng,
    ) -> Option<SlotId> {
        self.choosing = false;
        let Some(relay) = relay else {
            self.choose_after = Some(now + CHOOSE_AGAIN_AFTER);
            return None;
        };
        self.choose_after = None;
        let introductions = rng.random_range(INTRODUCTIONS);
        let expires = now + Duration::from_secs(rng.random_range(LIFETIME));
        Some(self.insert(relay, SlotPhase::New, introductions, expires, now))
    }

    /// A point that an earlier process has established: have it again at once.
    /// `None` if its time is over.
    ///
    /// The wall clock may have been set in the meantime: no life gets longer
    /// than that of a fresh point.
    pub(super) fn restore(&mut self, life: Life, now: Now) -> Option<SlotId> {
        let left = |until: SystemTime| until.duration_since(now.wall).unwrap_or_default();
        let longest = Duration::from_secs(*LIFETIME.end());
        // One that was worn out meanwhile has clients until they have a newer
        // descriptor, like any other that retires.
        let retiring_until = life.retiring_until.or_else(|| {
            let worn = life.expires <= now.wall;
            worn.then_some(life.expires + RETIRE_FOR)
        });
        let retires = retiring_until.map(left);
        if retires == Some(Duration::ZERO) || life.introductions_left == 0 {
            return None;
        }
        let phase = match retires {
            Some(left) => SlotPhase::Retiring { until: now.monotonic + left.min(RETIRE_FOR) },
            None => SlotPhase::Serving,
        };
        let introductions = life.introductions_left.min(*INTRODUCTIONS.end());
        let expires = now.monotonic + left(life.expires).min(longest);
        Some(self.insert(life.relay, phase, introductions, expires, now.monotonic))
    }

    /// What to keep for [`Self::restore`]; `None` for a point that no client
    /// can know, or should use again.
    pub(super) fn life(&self, slot: SlotId, now: Now) -> Option<Life> {
        let slot = self.slots.get(&slot)?;
        let wall = |moment: Instant| now.wall + moment.saturating_duration_since(now.monotonic);
        let retiring_until = match slot.phase {
            SlotPhase::Serving if slot.retire_for == RENEW_WITHIN => Some(now.wall + RENEW_WITHIN),
            SlotPhase::Serving => None,
            SlotPhase::Retiring { until } => Some(wall(until)),
            SlotPhase::New | SlotPhase::Hanging { .. } => return None,
        };
        Some(Life {
            relay: slot.relay,
            expires: wall(slot.expires),
            introductions_left: slot.introductions_left,
            retiring_until,
        })
    }

    /// How many points to have.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// How many points to have from now on.
    pub(super) fn want(&mut self, wanted: usize) {
        self.wanted = wanted;
    }

    /// The point hangs, whatever its circuit looks like: have another one.
    pub(super) fn replace(&mut self, id: SlotId, now: Instant) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match &mut slot.phase {
            SlotPhase::New => self.abandon(id),
            SlotPhase::Serving => slot.phase = SlotPhase::Hanging { until: now + REPLACE_WITHIN },
            SlotPhase::Hanging { .. } => {}
            SlotPhase::Retiring { until } => *until = (now + REPLACE_WITHIN).min(*until),
        }
    }

    /// Somebody knows the points who must not: have others, and give these up soon
    /// after those stand.
    pub(super) fn renew(&mut self, now: Instant) {
        for slot in self.slots.values_mut() {
            slot.retire_for = RENEW_WITHIN;
            match &mut slot.phase {
                // No client knows it.
                SlotPhase::New => slot.retire_for = RETIRE_FOR,
                SlotPhase::Serving => slot.expires = slot.expires.min(now),
                SlotPhase::Hanging { .. } => {}
                SlotPhase::Retiring { until } => *until = (now + RENEW_WITHIN).min(*until),
            }
        }
    }

    /// An attempt has succeeded. So the network can be reached, and relays that
    /// failed before have to do so soon.
    pub(super) fn established(&mut self, id: SlotId, now: Instant) {
        let Some(slot) = self.slots.get(&id) else { return };
        let closes_again = match slot.circuit {
            SlotCircuit::Missing { lost_early: Some(before), .. } => self.slots.values().any(
                |other| matches!(other.circuit, SlotCircuit::Standing { since } if since <= before),
            ),
            _ => false,
        };
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.circuit = SlotCircuit::Standing { since: now };
        slot.trust = RelayTrust::after(if closes_again { slot.trust.failures() + 1 } else { 0 });
        if slot.phase == SlotPhase::New {
            slot.phase = SlotPhase::Serving;
        }
        if slot.phase == SlotPhase::Serving && slot.is_doubted() {
            self.retire(id, now);
        }
        self.chosen_in_vain = 0;
        for slot in self.slots.values_mut() {
            let RelayTrust::Doubted { left, .. } = &mut slot.trust else { continue };
            left.get_or_insert(LAST_CHANCES);
            if let SlotCircuit::Missing { due: Some(at), .. } = &mut slot.circuit {
                *at = now.min(*at);
            }
        }
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, id: SlotId, now: Instant, rng: &mut impl rand::Rng) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.trust.fail();
        match (slot.phase, slot.trust) {
            (SlotPhase::New, RelayTrust::Doubted { .. }) => {
                let pause = CHOOSE_AGAIN_AFTER * self.chosen_in_vain;
                self.chosen_in_vain += 1;
                self.choose_after = Some(now + pause.min(CHOOSE_AGAIN_AFTER_AT_MOST));
                self.abandon(id);
            }
            (_, RelayTrust::Doubted { left: Some(0), .. }) => self.abandon(id),
            (_, trust) => slot.retry(now + trust.pause().mul_f64(rng.random_range(0.5..1.5))),
        }
    }

    /// An attempt could not be made, for a reason in this process: later again.
    /// It counts against no relay.
    pub(super) fn postponed(&mut self, id: SlotId, now: Instant) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.retry(now + RETRY_AFTER_AT_MOST);
        }
    }

    /// The circuit of an established point has closed: build a new one at once,
    /// unless that happens again and again.
    pub(super) fn lost(&mut self, slot: SlotId, now: Instant) {
        let Some(slot) = self.slots.get_mut(&slot) else { return };
        let SlotCircuit::Standing { since } = slot.circuit else { return };
        let lost_early = Some(since).filter(|since| now < *since + STANDS_AFTER);
        if lost_early.is_none() {
            slot.trust = RelayTrust::after(0);
        }
        let due = Some(now + slot.trust.pause());
        slot.circuit =
            SlotCircuit::Missing { due, told_until: now + PRESENT_WHILE_LOST, lost_early };
    }

    /// The relay has left the network.
    pub(super) fn unlisted(&mut self, slot: SlotId) {
        self.abandon(slot);
    }

    /// A client has used the point.
    pub(super) fn introduced(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.introductions_left = slot.introductions_left.saturating_sub(1);
        if matches!(slot.phase, SlotPhase::Retiring { .. }) && slot.introductions_left == 0 {
            self.abandon(id);
        }
    }

    /// Lets points go whose time is over: worn ones and hanging ones once their
    /// successors are there, surplus ones at once.
    fn settle(&mut self, now: Instant) {
        let established = self.slots.values().filter(|slot| slot.stands() && slot.counts(now));
        let succeeded = established.count() >= self.wanted;
        if succeeded {
            let worn = |slot: &Slot| {
                matches!(slot.phase, SlotPhase::New | SlotPhase::Serving) && slot.is_worn(now)
            };
            self.ids(worn).into_iter().for_each(|id| self.retire(id, now));
        }
        self.retire_surplus(now);
        let is_over = |slot: &Slot| match slot.phase {
            SlotPhase::New | SlotPhase::Serving => false,
            SlotPhase::Hanging { until } => succeeded || until <= now,
            SlotPhase::Retiring { until } => until <= now,
        };
        self.ids(is_over).into_iter().for_each(|id| self.abandon(id));
    }

    fn ids(&self, which: impl Fn(&Slot) -> bool) -> Vec<SlotId> {
        self.slots.iter().filter(|(_, slot)| which(slot)).map(|(id, _)| *id).collect()
    }

    /// Keeps the points that serve, and of these the oldest, which clients know.
    fn retire_surplus(&mut self, now: Instant) {
        let mut counting = self.ids(|slot| slot.counts(now));
        counting.sort_by_key(|id| {
            let slot = self.slots.get(id);
            (
                !slot.is_some_and(Slot::stands),
                slot.is_some_and(|it| it.phase == SlotPhase::New),
                *id,
            )
        });
        counting.into_iter().skip(self.wanted).for_each(|id| self.retire(id, now));
    }

    /// From now on the point only answers those who know of it; one that no client
    /// can know of just goes.
    fn retire(&mut self, id: SlotId, now: Instant) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.phase == SlotPhase::New {
            return self.abandon(id);
        }
        slot.phase = SlotPhase::Retiring { until: now + slot.retire_for };
        slot.introductions_left = INTRODUCTIONS_WHILE_RETIRING;
    }

    /// A slot with a number of its own, to be established at once.
    fn insert(
        &mut self,
        relay: RelayId,
        phase: SlotPhase,
        introductions_left: u32,
        expires: Instant,
        now: Instant,
    ) -> SlotId {
        let circuit = SlotCircuit::Missing { due: Some(now), told_until: now, lost_early: None };
        let trust = RelayTrust::after(0);
        let id = SlotId(self.next);
        self.next += 1;
        let retire_for = RETIRE_FOR;
        let slot = Slot { relay, phase, circuit, trust, introductions_left, expires, retire_for };
        self.slots.insert(id, slot);
        id
    }

    /// Gives a slot up.
    fn abandon(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.abandoned.push((id, slot.relay));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::slot::MAX_FAILURES;
    use super::*;

    /// A plan with a clock and a supply of relays.
    struct Scene {
        plan: Plan,
        now: Instant,
        rng: StdRng,
        relays: u8,
    }

    impl Scene {
        fn new(wanted: usize) -> Self {
            // Any moment will do; the plan only compares.
            #[expect(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
            let now = Instant::now();
            Self { plan: Plan::new(wanted), now, rng: StdRng::seed_from_u64(7), relays: 0 }
        }

        /// Carries out every action; attempts succeed unless told otherwise.
        fn settle(&mut self, succeeds: impl Fn(RelayId) -> bool) -> Vec<Action> {
            let mut actions = Vec::new();
            while let Some(action) = self.plan.poll_action(self.now) {
                actions.push(action);
                match action {
                    Action::ChooseRelay => {
                        self.relays += 1;
                        let relay = Some(RelayId([self.relays; 20]));
                        self.plan.relay_chosen(relay, self.now, &mut self.rng);
                    }
                    Action::Establish(slot) => {
                        if self.plan.relay(slot).is_some_and(&succeeds) {
                            self.plan.established(slot, self.now);
                        } else {
                            self.plan.failed(slot, self.now, &mut self.rng);
                        }
                    }
                    Action::Abandon(..) => {}
                }
            }
            actions
        }

        fn presentable(&self) -> Vec<SlotId> {
            self.plan.presentable(self.now).collect()
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }
    }

    #[test]
    fn as_many_points_are_established_as_are_wanted() {
        let mut scene = Scene::new(3);
        scene.settle(|_| true);
        assert_eq!(scene.presentable().len(), 3);
        assert_eq!(scene.settle(|_| true), vec![]);
    }

    #[test]
    fn a_broken_circuit_is_built_anew_at_the_same_relay_and_stays_presentable_meanwhile() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let slot = scene.presentable()[0];
        scene.plan.lost(slot, scene.now);
        assert_eq!(scene.presentable(), vec![slot]);
        assert_eq!(scene.settle(|_| true), vec![Action::Establish(slot)]);
        assert_eq!(scene.presentable(), vec![slot]);
    }

    /// Lets time pass, with everything carried out, for a number of seconds.
    fn pass_seconds(scene: &mut Scene, seconds: u32, succeeds: impl Fn(RelayId) -> bool) {
        for _ in 0..seconds {
            scene.settle(&succeeds);
            scene.pass(Duration::from_secs(1));
        }
        scene.settle(&succeeds);
    }

    #[test]
    fn a_relay_that_fails_again_and_again_is_replaced_by_another() {
        for wanted in [1, 3] {
            let mut scene = Scene::new(wanted);
            scene.settle(|_| true);
            let dead = scene.presentable()[0];
            let dead_relay = scene.plan.relay(dead).unwrap();
            scene.plan.lost(dead, scene.now);
            pass_seconds(&mut scene, 10, |relay| relay != dead_relay);
            assert_eq!(scene.presentable().len(), wanted);
            assert_eq!(scene.plan.slots.len(), wanted, "the dead one is given up");
            assert!(!scene.presentable().contains(&dead));
        }
    }

    #[test]
    fn a_relay_that_agrees_and_closes_again_and_again_is_replaced_by_another() {
        let mut scene = Scene::new(3);
        scene.settle(|_| true);
        let before = scene.presentable();
        let closes = before[0];
        for closed in 1..10 {
            scene.pass(Duration::from_secs(10));
            scene.plan.lost(closes, scene.now);
            pass_seconds(&mut scene, 10, |_| true);
            assert_eq!(scene.presentable().len(), 3);
            assert_eq!(scene.presentable().contains(&closes), closed < MAX_FAILURES);
        }
        // It still answers those who know of it, and the others were left alone.
        assert!(scene.plan.slots.contains_key(&closes));
        assert_eq!(scene.presentable()[..2], before[1..]);
        assert_eq!(scene.plan.slots.len(), 4);
    }

    #[test]
    fn when_all_circuits_break_again_and_again_that_is_our_side_and_no_relay_is_blamed() {
        let mut scene = Scene::new(3);
        scene.settle(|_| true);
        let before = scene.presentable();
        for _ in 0..10 {
            before.iter().for_each(|slot| scene.plan.lost(*slot, scene.now));
            pass_seconds(&mut scene, 5, |_| true);
        }
        assert_eq!(scene.presentable(), before);
        assert_eq!(scene.plan.slots.len(), 3);
    }

    #[test]
    fn who_is_cut_off_for_hours_comes_back_with_the_points_that_clients_know() {
        let mut scene = Scene::new(3);
        scene.settle(|_| true);
        let before = scene.presentable();
        before.iter().for_each(|slot| scene.plan.lost(*slot, scene.now));
        for _ in 0..3 {
            // Relays are a byte in these tests: few enough have to be chosen.
            pass_seconds(&mut scene, 600, |_| false);
            scene.relays = 10;
            assert!(scene.plan.slots.len() <= 6, "{} slots", scene.plan.slots.len());
        }
        assert_eq!(scene.presentable(), vec![]);
        pass_seconds(&mut scene, 60, |_| true);
        assert_eq!(scene.presentable(), before);
    }

    #[test]
    fn relays_that_are_chosen_in_vain_are_chosen_ever_more_rarely() {
        let mut scene = Scene::new(1);
        pass_seconds(&mut scene, 600, |_| false);
        assert!(scene.relays <= 30, "{} relays", scene.relays);
        pass_seconds(&mut scene, 40, |_| true);
        assert_eq!(scene.presentable().len(), 1);
    }

    #[test]
    fn attempts_that_this_process_cannot_make_are_held_against_no_relay() {
        let mut scene = Scene::new(3);
        scene.settle(|_| true);
        let before = scene.presentable();
        // Two relays are reached over channels that are open still.
        scene.plan.lost(before[0], scene.now);
        for _ in 0..20 {
            while let Some(action) = scene.plan.poll_action(scene.now) {
                assert_eq!(action, Action::Establish(before[0]), "no other relay is chosen");
                scene.plan.postponed(before[0], scene.now);
            }
            scene.pass(RETRY_AFTER_AT_MOST);
        }
        scene.settle(|_| true);
        assert_eq!(scene.presentable(), before);
        assert_eq!(scene.plan.slots.len(), 3);
    }

    #[test]
    fn a_point_that_stays_lost_is_no_longer_presented() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let slot = scene.presentable()[0];
        scene.plan.lost(slot, scene.now);
        scene.pass(PRESENT_WHILE_LOST);
        assert_eq!(scene.presentable(), vec![]);
    }

    #[test]
    fn without_a_relay_to_choose_the_plan_waits_and_asks_again() {
        let mut scene = Scene::new(1);
        assert_eq!(scene.plan.poll_action(scene.now), Some(Action::ChooseRelay));
        scene.plan.relay_chosen(None, scene.now, &mut scene.rng);
        assert_eq!(scene.plan.poll_action(scene.now), None);
        let wake = scene.plan.poll_timeout(scene.now).unwrap();
        assert_eq!(scene.plan.poll_action(wake), Some(Action::ChooseRelay));
    }

    #[test]
    fn a_worn_point_is_presented_until_its_successor_stands_and_answers_hours_longer() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let old = scene.presentable()[0];
        scene.pass(Duration::from_hours(24));
        scene.settle(|_| false);
        assert_eq!(scene.presentable(), vec![old], "the successor does not stand yet");
        scene.pass(Duration::from_secs(5));
        let actions = scene.settle(|_| true);
        assert!(
            !actions
                .iter()
                .any(|action| matches!(action, Action::Abandon(slot, _) if *slot == old))
        );
        let successor = scene.presentable();
        assert_eq!(successor.len(), 1);
        assert_ne!(successor[0], old);
        scene.pass(RETIRE_FOR);
        let actions = scene.settle(|_| true);
        assert_eq!(actions, vec![Action::Abandon(old, RelayId([1; 20]))]);
    }

    #[test]
    fn points_that_somebody_must_not_know_any_more_go_soon_after_others_stand() {
        let mut scene = Scene::new(2);
        scene.settle(|_| true);
        let old = scene.presentable();
        scene.plan.renew(scene.now);
        scene.settle(|_| false);
        assert_eq!(scene.presentable(), old, "nobody is shut out before others stand");
        // What is kept meanwhile is not to serve a next process for long.
        let now = Now { monotonic: scene.now, wall: SystemTime::UNIX_EPOCH };
        for slot in &old {
            let until = scene.plan.life(*slot, now).unwrap().retiring_until;
            assert_eq!(until, Some(now.wall + RENEW_WITHIN));
        }
        scene.pass(Duration::from_secs(2));
        scene.settle(|_| true);
        let new = scene.presentable();
        assert_eq!(new.len(), 2);
        assert!(new.iter().all(|slot| !old.contains(slot)));
        scene.pass(RENEW_WITHIN);
        let gone = scene.settle(|_| true);
        assert!(old.iter().all(|slot| {
            gone.iter().any(|it| matches!(it, Action::Abandon(one, _) if one == slot))
        }));
        // The new ones live as long as any.
        assert_eq!(scene.presentable(), new);
        assert_eq!(scene.plan.life(new[0], now).unwrap().retiring_until, None);
    }

    #[test]
    fn a_point_that_retires_already_goes_soon_too() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let old = scene.presentable()[0];
        for _ in 0..*INTRODUCTIONS.end() {
            scene.plan.introduced(old);
        }
        scene.settle(|_| true);
        scene.plan.renew(scene.now);
        scene.settle(|_| true);
        scene.pass(RENEW_WITHIN);
        let gone = scene.settle(|_| true);
        assert!(gone.iter().any(|it| matches!(it, Action::Abandon(one, _) if *one == old)));
    }

    #[test]
    fn a_point_used_often_enough_is_replaced() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let old = scene.presentable()[0];
        for _ in 0..*INTRODUCTIONS.end() {
            scene.plan.introduced(old);
        }
        scene.settle(|_| true);
        assert_ne!(scene.presentable(), vec![old]);
    }

    #[test]
    fn a_point_at_a_relay_that_left_the_network_is_given_up_at_once() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let old = scene.presentable()[0];
        scene.plan.unlisted(old);
        assert_eq!(scene.presentable(), vec![]);
        scene.settle(|_| true);
        assert_eq!(scene.presentable().len(), 1);
    }

    #[test]
    fn a_hanging_point_is_told_until_its_successor_stands_and_goes_then() {
        let mut scene = Scene::new(2);
        scene.settle(|_| true);
        let [hanging, other] = scene.presentable()[..] else { panic!("two points") };
        let relay = scene.plan.relay(hanging).unwrap();
        scene.plan.replace(hanging, scene.now);
        scene.settle(|_| false);
        assert_eq!(scene.presentable(), vec![hanging, other], "no successor yet");
        scene.pass(Duration::from_secs(2));
        let actions = scene.settle(|_| true);
        assert_eq!(actions.last(), Some(&Action::Abandon(hanging, relay)));
        assert_eq!(scene.presentable().len(), 2);
        assert!(!scene.presentable().contains(&hanging));
    }

    #[test]
    fn a_hanging_point_without_a_successor_goes_after_some_seconds() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let hanging = scene.presentable()[0];
        scene.plan.replace(hanging, scene.now);
        scene.settle(|_| false);
        scene.pass(REPLACE_WITHIN);
        scene.settle(|_| false);
        assert_eq!(scene.presentable(), vec![]);
    }

    #[test]
    fn more_points_are_added_and_surplus_ones_retire() {
        let mut scene = Scene::new(2);
        scene.settle(|_| true);
        let before = scene.presentable();
        scene.plan.want(4);
        scene.settle(|_| true);
        assert_eq!(scene.presentable().len(), 4);
        assert_eq!(scene.presentable()[..2], before);
        scene.plan.want(1);
        assert_eq!(scene.settle(|_| true), vec![], "surplus points still answer");
        assert_eq!(scene.presentable().len(), 1);
        scene.pass(RETIRE_FOR);
        assert_eq!(scene.settle(|_| true).len(), 3, "three have retired");
    }

    #[test]
    fn a_surplus_point_that_no_client_knows_goes_at_once() {
        let mut scene = Scene::new(2);
        scene.settle(|relay| relay == RelayId([1; 20]));
        scene.plan.want(1);
        let actions = scene.settle(|_| true);
        assert!(matches!(actions[..], [Action::Abandon(_, RelayId([2, ..]))]), "{actions:?}");
    }

    #[test]
    fn the_plan_sleeps_although_moments_have_passed_that_wait_for_something_else() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let lost = scene.presentable()[0];
        scene.plan.lost(lost, scene.now);
        // An attempt that takes long: neither the end of being presented nor
        // that of the point's life is a reason to wake again and again.
        assert_eq!(scene.plan.poll_action(scene.now), Some(Action::Establish(lost)));
        for time in [PRESENT_WHILE_LOST, Duration::from_hours(24)] {
            scene.pass(time);
            while let Some(action) = scene.plan.poll_action(scene.now) {
                if action == Action::ChooseRelay {
                    scene.plan.relay_chosen(None, scene.now, &mut scene.rng);
                }
            }
            let wake = scene.plan.poll_timeout(scene.now);
            assert!(wake.is_none_or(|wake| wake > scene.now));
        }
    }

    /// The plan of a next process, and its clock.
    fn restarted(scene: &Scene, down: Duration) -> (Scene, Vec<Option<SlotId>>) {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let before = Now { monotonic: scene.now, wall };
        let lives: Vec<Life> =
            scene.plan.slots.keys().filter_map(|slot| scene.plan.life(*slot, before)).collect();
        let mut next = Scene::new(scene.plan.wanted);
        next.relays = 100;
        let now = Now { monotonic: next.now, wall: wall + down };
        let slots = lives.into_iter().map(|life| next.plan.restore(life, now)).collect();
        (next, slots)
    }

    #[test]
    fn after_a_restart_the_same_relays_are_used_all_at_once_and_told_when_they_stand() {
        let mut scene = Scene::new(3);
        scene.settle(|_| true);
        let (mut next, slots) = restarted(&scene, Duration::from_secs(2));
        let slots: Vec<SlotId> = slots.into_iter().flatten().collect();
        assert_eq!(slots.len(), 3);
        assert_eq!(next.presentable(), vec![]);
        let actions = next.settle(|_| true);
        assert_eq!(actions, slots.iter().copied().map(Action::Establish).collect::<Vec<_>>());
        assert_eq!(next.presentable(), slots);
    }

    #[test]
    fn a_restart_neither_gives_a_point_more_time_nor_more_introductions() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let slot = scene.presentable()[0];
        scene.plan.introduced(slot);
        let left = scene.plan.slots[&slot].expires - scene.now;
        let introductions = scene.plan.slots[&slot].introductions_left;
        let (next, slots) = restarted(&scene, Duration::from_hours(1));
        let restored = &next.plan.slots[&slots[0].unwrap()];
        assert_eq!(restored.expires - next.now, left - Duration::from_hours(1));
        assert_eq!(restored.introductions_left, introductions);
    }

    #[test]
    fn a_clock_that_was_set_back_gives_a_point_no_more_than_a_day() {
        let mut plan = Plan::new(1);
        let scene = Scene::new(1);
        let wall = SystemTime::UNIX_EPOCH;
        let life = Life {
            relay: RelayId([1; 20]),
            expires: wall + Duration::from_hours(400_000),
            introductions_left: u32::MAX,
            retiring_until: None,
        };
        let slot = plan.restore(life, Now { monotonic: scene.now, wall }).unwrap();
        assert_eq!(plan.slots[&slot].expires - scene.now, Duration::from_hours(24));
        assert_eq!(plan.slots[&slot].introductions_left, *INTRODUCTIONS.end());
    }

    #[test]
    fn a_point_whose_time_ended_while_nobody_ran_retires_and_is_dropped_when_that_is_over_too() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let left = scene.plan.slots[&scene.presentable()[0]].expires - scene.now;
        let (mut next, slots) = restarted(&scene, left + Duration::from_hours(1));
        let old = slots[0].unwrap();
        next.settle(|_| true);
        assert_eq!(next.presentable().len(), 1);
        assert!(!next.presentable().contains(&old), "the old one only answers");
        next.pass(RETIRE_FOR - Duration::from_hours(1));
        assert!(matches!(next.settle(|_| true)[..], [Action::Abandon(slot, _)] if slot == old));

        let (_, slots) = restarted(&scene, left + RETIRE_FOR);
        assert_eq!(slots, vec![None]);
    }

    #[test]
    fn many_restarts_leave_no_more_points_than_one_process_would_have() {
        let mut scene = Scene::new(3);
        for _ in 0..200 {
            scene.settle(|_| true);
            assert_eq!(scene.presentable().len(), 3);
            // A day passes in twenty restarts, half of it running.
            scene.pass(Duration::from_secs(36 * 60));
            scene.settle(|_| true);
            assert!(scene.plan.slots.len() <= 6, "{} slots", scene.plan.slots.len());
            let relays = scene.relays;
            (scene, _) = restarted(&scene, Duration::from_secs(36 * 60));
            scene.relays = relays;
        }
    }

    #[test]
    fn points_that_hang_are_not_kept() {
        let mut scene = Scene::new(1);
        scene.settle(|_| true);
        let hanging = scene.presentable()[0];
        scene.plan.replace(hanging, scene.now);
        let now = Now { monotonic: scene.now, wall: SystemTime::UNIX_EPOCH };
        assert_eq!(scene.plan.life(hanging, now), None);
    }
}
