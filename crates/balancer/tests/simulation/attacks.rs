//! Attacks: clients are asked for work now and then, seeds rotate, and some of the backends
//! elsewhere verify what clients did.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use onionbraid_balancer::Balancer;
use onionbraid_balancer::command::Publication;
use onionbraid_balancer::fact::{BackendId, Fact, ProbeFailure};
use onionbraid_balancer::link::WorkReport;
use onionbraid_balancer::onion::IntroPoint;
use onionbraid_balancer::pow::{OwnWork, Puzzle, SeedSlot};

use super::simulation::{Event, Simulation};
use super::world::Dials;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// From one slot to the next, and how long before it its seeds are given.
const SLOT: Duration = Duration::from_secs(95 * 60);
const BEFORE: Duration = Duration::from_secs(10 * 60);

/// So late the end of an attack may be in the descriptor: a lost link is trusted for two
/// minutes, and a descriptor follows two minutes after the one before.
const LATE: Duration = Duration::from_secs(10 * 60);

/// A publisher that ends is away so long at most.
const AWAY: Duration = Duration::from_secs(12 * 60);

/// What is asked of clients.
#[derive(Default)]
pub(crate) struct Attacks {
    /// The slot of now, and the newest one whose seeds are given.
    slot: u64,
    given: u64,
    /// What the local instances suggest, and the others report.
    effort: u32,
    /// What it was, and until when, ...
    before: Vec<(Duration, u32)>,
    /// ... on a clock that stands still while nobody is live: what is published stays as it
    /// is then.
    live_for: Duration,
    /// Since when somebody is live.
    live_since: Option<Instant>,
    /// What the publisher wrote down last.
    remembered: String,
    /// The published efforts above 0, and how often somebody elsewhere was listed then.
    pub(crate) asked: usize,
    pub(crate) elsewhere: usize,
}

impl Simulation {
    /// The first slot begins.
    pub(crate) fn begin_attacks(&mut self) {
        (self.attacks.slot, self.attacks.given) = (1, 1);
        self.time.schedule(Duration::ZERO, Event::Effort(0));
        let given = SLOT - BEFORE - self.between(Duration::ZERO, SECOND);
        self.time.schedule(given, Event::Seeds);
        self.next_attack();
        self.next_restart();
    }

    fn next_restart(&mut self) {
        let delay = self.between(30 * MINUTE, 24 * 60 * MINUTE);
        self.time.schedule(delay, Event::End);
    }

    /// The publisher ends. Its links are gone, and nobody answers what it has asked for.
    pub(crate) fn end(&mut self) {
        if !self.trouble {
            return self.next_restart();
        }
        let memory = self.balancer.memory(self.time.now);
        self.attacks.remembered = serde_json::to_string(&memory).unwrap();
        self.away = true;
        self.note_time(false);
        self.time
            .cancel(|event| matches!(event, Event::Tell(_) | Event::Linked(..) | Event::Out(..)));
        self.links.clear();
        self.in_flight.clear();
        let away = self.between(SECOND, AWAY);
        self.time.schedule(away, Event::Begin);
    }

    /// The publisher begins again with what it wrote down.
    pub(crate) fn begin_again(&mut self) {
        self.next_restart();
        self.away = false;
        // Its status tells what this process has published.
        self.newest.clear();
        let now = self.time.now;
        let memory = serde_json::from_str(&self.attacks.remembered).unwrap();
        self.balancer = Balancer::remembering(self.plan.settings(), memory, now);
        for who in 0..self.backends.len() {
            self.backends[who].dials = Dials::default();
            if self.backends[who].local {
                self.tell_points(who);
            }
        }
        self.tell_puzzle();
        let view = self.network.view(now.wall);
        self.tell(Fact::Network(view));
    }

    /// Lets the clock go on by which efforts get too old: some backend is live from now on,
    /// or none.
    pub(crate) fn note_time(&mut self, somebody_is_live: bool) {
        let now = self.time.now.monotonic;
        if let Some(since) = self.attacks.live_since.take() {
            self.attacks.live_for += now - since;
        }
        self.attacks.live_since = somebody_is_live.then_some(now);
    }

    /// Nobody attacks from now on, until the next time.
    pub(crate) fn end_attack(&mut self) {
        self.needs(0);
    }

    fn next_attack(&mut self) {
        let delay = self.between(10 * MINUTE, 4 * 60 * MINUTE);
        let effort = self.between(SECOND, 2000 * SECOND).as_secs() as u32;
        self.time.schedule(delay, Event::Effort(effort));
    }

    /// More clients come than can be met, or no more; who verifies says the same.
    pub(crate) fn effort(&mut self, effort: u32) {
        self.needs(if self.trouble { effort } else { 0 });
        if self.attacks.effort > 0 {
            let delay = self.between(MINUTE, 2 * 60 * MINUTE);
            self.time.schedule(delay, Event::Effort(0));
        } else {
            self.next_attack();
        }
    }

    fn needs(&mut self, effort: u32) {
        let now = self.attacks.live_for;
        self.attacks.before.retain(|(until, _)| *until + LATE > now);
        self.attacks.before.push((now, self.attacks.effort));
        self.attacks.effort = effort;
        self.tell_puzzle();
        self.report_all();
    }

    fn tell_puzzle(&mut self) {
        let slot = SeedSlot(self.attacks.slot);
        let expires = self.time.now.wall + SLOT;
        let effort = if self.plan.locals > 0 { self.attacks.effort } else { 0 };
        self.tell(Fact::Puzzle(Some(Puzzle { slot, expires, effort })));
    }

    /// The seeds of the next slot are given ...
    pub(crate) fn seeds(&mut self) {
        self.attacks.given += 1;
        self.report_all();
        self.time.schedule(BEFORE, Event::Slot);
    }

    /// ... which begins.
    pub(crate) fn slot(&mut self) {
        self.attacks.slot = self.attacks.given;
        self.tell_puzzle();
        let given = SLOT - BEFORE - self.between(Duration::ZERO, SECOND);
        self.time.schedule(given, Event::Seeds);
    }

    /// Those with a link get the seeds and say so.
    fn report_all(&mut self) {
        let links: Vec<_> = self.links.iter().map(|(who, link)| (*who, *link)).collect();
        for (who, link) in links {
            let delay = self.between(SECOND / 10, 2 * SECOND);
            self.time.schedule(delay, Event::Given(who, link));
        }
    }

    /// A backend gets the seeds over its link, if it makes something of them.
    pub(crate) fn given(&mut self, who: usize, link: u64) {
        if self.backends[who].verifies {
            self.backends[who].seeds = Some(self.attacks.given);
            self.time.schedule(SECOND / 10, Event::Report(who, link));
        }
    }

    /// What it reports of that.
    pub(crate) fn work_of(&self, who: usize) -> Option<WorkReport> {
        let backend = &self.backends[who];
        let slot = backend.seeds.map(SeedSlot);
        backend.verifies.then_some(WorkReport { slot, effort: self.attacks.effort })
    }

    /// A client comes with work.
    pub(crate) fn prove(&mut self, backend: BackendId, point: &IntroPoint, work: OwnWork) {
        let of_it = &self.backends[backend.0 as usize];
        let answers = of_it.alive
            && of_it.points.contains(point)
            && of_it.verifies
            && of_it.seeds >= Some(work.slot.0)
            // It is met before those who attack, or the attack is beyond what we do.
            && work.effort >= self.attacks.effort.min(300);
        let outcome = match answers && !self.chance(0.1) {
            true => Ok(()),
            false => Err(ProbeFailure::Point("nobody came".into())),
        };
        self.answer(Fact::Proved { backend, outcome });
    }

    /// Nobody works for nothing.
    pub(crate) fn check_work(&mut self, publication: &Publication) {
        let Some(puzzle) = publication.puzzle.filter(|puzzle| puzzle.effort > 0) else { return };
        self.attacks.asked += 1;
        let owners: BTreeSet<BackendId> =
            publication.points.iter().map(|point| self.owners[&point.session_id]).collect();
        for id in owners {
            let backend = &self.backends[id.0 as usize];
            if backend.local {
                continue;
            }
            self.attacks.elsewhere += 1;
            let backend = &self.backends[id.0 as usize];
            let has_points = publication.points.iter().any(|it| backend.points.contains(it));
            // The points of one that has died are dead whatever is asked.
            let verifies = backend.verifies && backend.seeds >= Some(puzzle.slot.0);
            let is_sound = verifies || !backend.alive || !has_points;
            self.check(is_sound, "under attack only points are listed that verify work");
        }
        let now = self.attacks.live_for;
        let lately = self.attacks.before.iter().filter(|(until, _)| *until + LATE > now);
        let most = lately.map(|(_, effort)| *effort).max().unwrap_or(0).max(self.attacks.effort);
        let is_fair = 85 * u64::from(puzzle.effort) <= 100 * u64::from(most);
        self.check(is_fair, "no more is asked than somebody needed a moment ago");
    }
}
