//! Schedules uploads: which descriptor goes to which HSDir, and when.
//!
//! A *round* is one decision to publish: to all HSDirs of all periods when the
//! points change, to those of one period when it is time to do so again
//! ([`Ring`]). Each HSDir then works by itself until it holds what the last
//! round decided ([`HsdirUploads`]). What goes out at one moment shares one `as_of`, so one
//! revision. Called by the balancer at every wake-up.

mod inspected;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::Rng;

use super::canary::CanaryWatch;
use super::change::{Changes, Urgency};
use super::command::{Command, Publication};
use super::content::{Content, ListedSets, PublishedContent};
use super::fact::{NetworkView, Now, UploadFailure};
use super::hsdir::{HsdirUploads, REVISION_STEP};
use super::memory::{self, CountedPeriod};
use super::others::OwnPoints;
use super::period_change::PeriodChange;
use super::refusals::UploadRefusals;
use super::ring::{self, Ring};
use super::schedule::Alarm;
use super::seating::Chosen;
use super::settings::Publishers;
use crate::onion::{Access, Period, RelayId};
use crate::pow::Puzzle;
use crate::status;

/// How many periods away from a published one it is still known from which
/// moments revisions were counted.
const NEAR: u64 = 2;

/// What is published where, for one service.
#[derive(Debug)]
pub(super) struct Publisher {
    publishers: Publishers,
    in_company: bool,
    /// What the last round published, or is publishing.
    published: Option<PublishedContent>,
    /// The points in it, or in the descriptors from before a restart: they stay
    /// if they can.
    listed: ListedSets,
    /// What clients find: the points of the last round that the HSDirs which
    /// they ask have taken.
    found: Vec<Chosen>,
    changes: Changes,
    period_change: PeriodChange,
    /// The number of the last round.
    round: u64,
    /// The periods of the network view, in its order.
    rings: Vec<Ring>,
    /// The replica of each place at which clients ask.
    replicas: Vec<u8>,
    /// The highest `as_of` used in a period. A clock that runs ahead for a
    /// while leaves it in the future; counters then follow it step by step.
    counted: BTreeMap<Period, SystemTime>,
    canary: CanaryWatch,
    refusals: UploadRefusals,
    ours: OwnPoints,
    /// What would be listed if we went along with another publisher.
    seen: Option<ListedSets>,
}

/// What need not be waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    /// Nothing more is to be expected at the start.
    pub(super) settled: bool,
    /// Every live backend has been found in the current period.
    pub(super) gathered: bool,
    /// Nobody who must not knows the points of local instances.
    pub(super) points_renewed: bool,
}

impl Publisher {
    pub(super) fn new(publishers: Publishers, in_company: bool) -> Self {
        Self {
            publishers,
            in_company,
            published: None,
            listed: Vec::new(),
            found: Vec::new(),
            changes: Changes::default(),
            period_change: PeriodChange::default(),
            round: 0,
            rings: Vec::new(),
            replicas: Vec::new(),
            counted: BTreeMap::new(),
            canary: CanaryWatch::default(),
            refusals: UploadRefusals::default(),
            ours: OwnPoints::default(),
            seen: None,
        }
    }

    /// Who publishes the address.
    pub(super) fn publishers(&self) -> Publishers {
        self.publishers
    }

    /// Who publishes the address from now on.
    pub(super) fn with_publishers(&mut self, publishers: Publishers) {
        self.publishers = publishers;
        if publishers == Publishers::Several {
            self.canary.expect_others();
        }
    }

    /// Whether the process has other services from now on.
    pub(super) fn set_company(&mut self, in_company: bool) {
        self.in_company = in_company;
    }

    /// What was listed and counted before a restart.
    pub(super) fn recall(&mut self, listed: ListedSets, counted: Vec<CountedPeriod>, now: Now) {
        self.ours.add(&listed, 0);
        self.listed = listed;
        for counted in counted.into_iter().filter(|counted| counted.is_possible(now.wall)) {
            let newest = self.counted.entry(counted.period).or_insert(counted.as_of.0);
            *newest = counted.as_of.0.max(*newest);
        }
    }

    /// From which moments revisions were counted, to be recalled after a restart.
    pub(super) fn counted(&self) -> Vec<CountedPeriod> {
        let counted = |(period, at): (&Period, &SystemTime)| CountedPeriod {
            period: *period,
            as_of: memory::written(*at),
        };
        self.counted.iter().map(counted).collect()
    }

    /// What is in each set now, or was before a restart.
    pub(super) fn listed(&self) -> &ListedSets {
        &self.listed
    }

    /// The replica of each place at which clients ask: so many different sets
    /// can be found.
    pub(super) fn replicas(&self) -> &[u8] {
        &self.replicas
    }

    /// What clients find in the current period, in whichever descriptor.
    pub(super) fn found(&self) -> &[Chosen] {
        &self.found
    }

    /// The network's current period is this one from now on: backends have other points
    /// there, whether we have keys for it or not.
    pub(super) fn period_changed(&mut self, period: Period, now: Now, rng: &mut impl Rng) {
        self.period_change.begin(period, now.monotonic, rng);
    }

    /// The periods and HSDirs are these now. What the HSDirs that stay hold is
    /// kept; those that go are forgotten.
    pub(super) fn network_changed(&mut self, view: NetworkView, now: Now, rng: &mut impl Rng) {
        let now = now.monotonic;
        let asked = ring::asked(&view.periods);
        self.replicas = asked
            .iter()
            .flat_map(|(replica, count)| std::iter::repeat_n(*replica, *count))
            .collect();
        let mut before = std::mem::take(&mut self.rings);
        for view in view.periods {
            let known = before.iter().position(|ring| ring.view.period == view.period);
            let mut ring = match known {
                Some(index) => before.swap_remove(index),
                None => Ring::new(view.clone(), self.round),
            };
            let spread = ring::spread(view.period, self.published.is_none(), self.in_company, rng);
            let newest_as_of = self.counted.get(&view.period).copied();
            ring.network_changed(view, &asked, newest_as_of, now, spread);
            self.rings.push(ring);
        }
        // A period that is long over does not come back.
        let near = |period: &Period| {
            let distance = |ring: &Ring| ring.view.period.number.abs_diff(period.number);
            self.rings.iter().any(|ring| distance(ring) <= NEAR)
        };
        self.counted.retain(|period, _| near(period));
        let rings = &self.rings;
        self.refusals.retain(|period| rings.iter().any(|ring| ring.view.period == *period));
    }

    /// The machine has slept for so long: what HSDirs took is so much older, and
    /// they should be asked soon whether they still have it.
    pub(super) fn slept(&mut self, slept: Duration, now: Instant, rng: &mut impl Rng) {
        for ring in &mut self.rings {
            ring.slept(slept, now);
        }
        self.canary.slept(now, rng);
    }

    /// An upload has ended.
    pub(super) fn uploaded(
        &mut self,
        (period, relay): (Period, RelayId),
        as_of: SystemTime,
        outcome: Result<u64, UploadFailure>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        let Some(ring) = self.rings.iter_mut().find(|ring| ring.view.period == period) else {
            return;
        };
        let Some(hsdir) = ring.hsdirs.get_mut(&relay) else { return };
        let refused = matches!(outcome, Err(UploadFailure::Refused(_)));
        let revision = outcome.as_ref().ok().copied();
        if !hsdir.uploaded(as_of, outcome, now, rng) {
            return;
        }
        let (taken, declined) = (hsdir.taken(), hsdir.has_declined());
        match revision {
            Some(revision) => ring.took(revision, now.wall),
            None if declined => ring.declined(now.monotonic, rng),
            None => {}
        }
        // Another publisher's would be on most of them; one that refuses by itself need
        // not learn that anybody minds.
        // What has counted higher since is what it gets next.
        let is_outdone = self.counted.get(&period).is_some_and(|newest| as_of < *newest);
        let asks = ring.is_declined() || self.publishers == Publishers::Several;
        if refused && asks && !is_outdone {
            self.refusals.refused(period, relay, taken, now.monotonic);
        }
    }

    /// What would be listed if we went along with what another publisher was
    /// seen to publish. Given once.
    pub(super) fn take_seen(&mut self) -> Option<ListedSets> {
        self.seen.take()
    }

    /// Goes along with another publisher: this is published from now on, and
    /// nothing need be uploaded before the time for it comes.
    pub(super) fn adopt(&mut self, content: Content) {
        self.changes.drop_pending();
        self.publish(content);
    }

    /// From now on, descriptors say this.
    fn publish(&mut self, content: Content) {
        self.listed = content.listed();
        self.ours.add(&self.listed, self.round);
        let points =
            |set: &super::content::Set| set.chosen.iter().map(|it| it.point.clone()).collect();
        let points = content.sets.iter().map(points).collect();
        self.published = Some(PublishedContent { content, points });
    }

    /// What to publish so that nothing is uploaded for others than these may be: what is
    /// `wanted`, and where that is nothing new, what is published, for them. If it cannot
    /// be made for them, nothing is published from now on, and what HSDirs hold ends by
    /// itself.
    pub(super) fn keep_to(&mut self, access: &Access, wanted: Option<Content>) -> Option<Content> {
        let published = self.published.as_ref().map(|published| &published.content);
        match published {
            Some(content) if wanted.is_none() && content.access != *access => {
                let same = content.readable_by(access);
                if same.is_none() {
                    (self.published, self.found) = (None, Vec::new());
                }
                same
            }
            _ => wanted,
        }
    }

    /// Looks at everything again. `wanted` is what should be published, `None`
    /// to leave things as they are.
    pub(super) fn progress(
        &mut self,
        wanted: Option<Content>,
        Readiness { settled, gathered, points_renewed }: Readiness,
        now: Now,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
        commands: &mut VecDeque<Command>,
    ) {
        let published = self.published.as_ref().map(|published| &published.content);
        self.changes.note(wanted, published, alarm.now());
        let urgency = self.changes.urgency(published);
        let done = self.period_change.gathered(gathered, alarm);
        let urgent = urgency >= Urgency::AllGone;
        let at_once = self.period_change.gathered(urgent, alarm) || done;
        // In a new period the same backends have other points, and the old ones work still.
        let renewed = done && self.changes.keeps_a_backend_of(published);
        let hurries = urgency >= if renewed { Urgency::AskedFor } else { Urgency::AllGone };
        // Decided when HSDirs may get it, it says what is known by then.
        let mut current = self.rings.iter().filter(|ring| ring.view.current);
        let spaced = !self.changes.is_pending() || hurries || current.all(|it| it.is_spaced(alarm));
        let uploading =
            self.rings.iter().any(|ring| ring.hsdirs.values().any(HsdirUploads::is_uploading));
        let gathering = self.period_change.is_gathering();
        let for_others = published.is_some_and(|it| self.changes.is_for_others(&it.access));
        if !self.rings.is_empty()
            && !gathering
            && (points_renewed || !for_others)
            && spaced
            && let Some(content) =
                self.changes.take_due(published, settled, uploading, at_once, alarm)
        {
            // C tor's puzzles, too, change in all periods at once.
            let same = |before: &Content| {
                (before.puzzle, &before.access) == (content.puzzle, &content.access)
            };
            let known = self.rings.iter().any(|ring| ring.view.current);
            let everywhere = hurries || !published.is_some_and(same) || !known;
            self.round += 1;
            for ring in &mut self.rings {
                if everywhere || ring.view.current {
                    ring.begin(self.round, hurries, alarm.now());
                } else {
                    let soon = (!at_once).then_some(alarm.now());
                    ring.follow(soon, rng);
                }
            }
            self.publish(content);
        }
        if self.published.is_none() {
            return;
        }
        for ring in self.rings.iter_mut().filter(|_| !gathering) {
            ring.publish_again(&mut self.round, alarm, rng);
        }
        self.upload(now, alarm, rng, commands);
        self.look(alarm, rng, commands);
    }

    /// Whether the backends should be looked for in a new period now. `found`: one has
    /// been found there already.
    pub(super) fn look_due(&mut self, found: bool, alarm: &mut Alarm) -> bool {
        self.period_change.look_due(found, alarm)
    }

    /// Looks what clients find, and whether HSDirs should be asked.
    fn look(&mut self, alarm: &mut Alarm, rng: &mut impl Rng, commands: &mut VecDeque<Command>) {
        while let Some((period, hsdir)) = self.refusals.next() {
            self.canary.looked(alarm.now());
            commands.push_back(Command::Inspect { period, hsdir });
        }
        let Some(PublishedContent { content, .. }) = &self.published else { return };
        let Some(ring) = self.rings.iter().find(|ring| ring.view.current) else { return };
        if ring.is_found() && ring.is_done() {
            let targets = ring.asked().map(|(it, hsdir)| (ring.target(&it.relay), hsdir));
            let sets: BTreeSet<usize> = targets
                .filter(|(target, hsdir)| hsdir.holds(*target))
                .map(|(target, _)| if content.is_distinct() { target.set } else { 0 })
                .collect();
            let mut sessions = BTreeSet::new();
            let chosen = sets.iter().filter_map(|set| content.sets.get(*set));
            let found = chosen.flat_map(|set| &set.chosen);
            let found: Vec<_> =
                found.filter(|chosen| sessions.insert(chosen.point.session_id)).collect();
            // At almost every wake-up it is the same.
            if !found.iter().copied().eq(&self.found) {
                self.found = found.into_iter().cloned().collect();
            }
        }
        let period = ring.view.period;
        if let Some(hsdir) = self.canary.due(ring, self.publishers, alarm, rng) {
            commands.push_back(Command::Inspect { period, hsdir });
        }
    }

    /// Whether clients find us in the current period.
    pub(super) fn is_found(&self) -> bool {
        self.rings.iter().any(|ring| ring.view.current && ring.is_found())
    }

    /// What the last round asks clients for.
    pub(super) fn puzzle(&self) -> Option<Puzzle> {
        self.published.as_ref().and_then(|published| published.content.puzzle)
    }

    /// Whether there was a round.
    pub(super) fn has_published(&self) -> bool {
        self.published.is_some()
    }

    /// Whether nothing but the last round's descriptor is with the HSDirs that
    /// clients ask in the current period, and none is on its way.
    pub(super) fn has_replaced_all(&self) -> bool {
        !self.changes.is_pending()
            && self.rings.iter().filter(|ring| ring.view.current).all(|ring| {
                ring.asked().all(|(it, hsdir)| hsdir.has_replaced(ring.target(&it.relay)))
            })
    }

    /// Lets one change be published at once: a backend has left.
    pub(super) fn allow_one_change(&mut self, now: Instant) {
        self.changes.allow_one(now);
    }

    /// Lets the next changes be published at once, however many there were
    /// before: nobody waits long for a process or a backend that ends.
    pub(super) fn allow_changes(&mut self) {
        self.changes.allow();
    }

    /// Whether a network is known.
    pub(super) fn has_network(&self) -> bool {
        !self.rings.is_empty()
    }

    /// What the operator should know of who else publishes.
    pub(super) fn problem(&self) -> Option<&str> {
        self.canary.problem()
    }

    /// What the operator sees of the descriptors.
    pub(super) fn snapshot(&self) -> Vec<status::Descriptor> {
        let content = self.published.as_ref().map(|published| &published.content);
        let descriptor = |ring: &Ring| status::Descriptor {
            canary: self.canary.report().filter(|_| ring.view.current),
            ..ring.snapshot(content)
        };
        self.rings.iter().map(descriptor).collect()
    }

    /// Uploads to all HSDirs that are due, in each period as of one moment.
    fn upload(
        &mut self,
        now: Now,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
        commands: &mut VecDeque<Command>,
    ) {
        let Some(PublishedContent { content, points }) = &self.published else { return };
        if self.changes.is_for_others(&content.access) {
            // What they may not read, or not any more, is on its way.
            return;
        }
        for ring in &mut self.rings {
            // Where clients find nothing, nothing is waited for.
            let lost = ring.view.current && !ring.is_found();
            if self.period_change.is_gathering() && !lost {
                continue;
            }
            let period = ring.view.period;
            let urgent = ring.hurried || lost;
            let gap = if urgent { Duration::ZERO } else { ring.gap() };
            // Two who publish pass each other's revisions.
            let several = self.publishers == Publishers::Several;
            let insists = urgent || several || ring.was_declined();
            let waits = self.refusals.waits(period, alarm) || ring.is_undecided(alarm);
            let relays: Vec<RelayId> = ring.hsdirs.keys().copied().collect();
            let mut due = Vec::new();
            // Of one period: what counts far in one need not in another.
            let mut as_of = now.wall;
            for relay in relays {
                let target = ring.target(&relay);
                let Some(hsdir) = ring.hsdirs.get_mut(&relay) else { continue };
                if waits && hsdir.has_declined() {
                    continue;
                }
                if hsdir.upload_due(target, gap, insists, alarm, rng) {
                    due.push((relay, target));
                    let seen = hsdir.newest_as_of.map(|seen| seen + REVISION_STEP);
                    as_of = seen.map_or(as_of, |seen| as_of.max(seen));
                }
            }
            for (relay, target) in due {
                let Some(hsdir) = ring.hsdirs.get_mut(&relay) else { continue };
                hsdir.upload(target, as_of, alarm);
                let newest = self.counted.entry(period).or_insert(as_of);
                *newest = as_of.max(*newest);
                let set = if target.set < content.sets.len() { target.set } else { 0 };
                commands.push_back(Command::Publish(Publication {
                    period,
                    hsdir: relay,
                    as_of,
                    points: Arc::clone(&points[set]),
                    capabilities: content.sets[set].capabilities.clone(),
                    puzzle: content.puzzle,
                    access: content.access.clone(),
                }));
            }
        }
    }
}
