//! When is which descriptor uploaded to which HSDir?
//!
//! A *round* is one decision to publish: to all HSDirs of all periods when the
//! points change, to those of one period when it is time to do so again. Each
//! HSDir then works by itself until it holds what the last round decided
//! ([`Hsdir`]). What goes out at one moment shares one `as_of`, so one
//! revision. Called by the balancer at every wake-up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::Rng;

use super::command::{Command, Publication};
use super::fact::{BackendId, NetworkView, Now, PeriodView, UploadFailure};
use super::hsdir::{Hsdir, REVISION_STEP};
use super::memory::{self, Counted};
use super::schedule::{Alarm, Allowance, between};
use super::select::Chosen;
use crate::observe::snapshot::{self, Timestamp};
use crate::onion::{Capabilities, IntroPoint, Period, RelayId, SessionId};

/// How long the first publication waits for further backends once the first
/// point is known: clients should not long be without any.
const GATHER: Duration = Duration::from_secs(1);
/// How long after a change further ones are waited for, and for how long at
/// most. A point that does not work costs clients retries ...
const URGENT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// ... one that is not listed yet costs nobody anything.
const ADDITION: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
/// However often the points change, a change is published at most 6 times at
/// once and every two minutes in the long run.
const CHANGES: Allowance = Allowance::new(6, Duration::from_secs(2 * 60));
/// When to publish again what has not changed, as C tor and Arti do.
const AGAIN: (Duration, Duration) = (Duration::from_secs(60 * 60), Duration::from_secs(120 * 60));
/// By how much uploads to newly responsible HSDirs are spread, so that not all
/// services of the network come at the moment of a new consensus.
const NEW_HSDIRS: Duration = Duration::from_secs(5);

/// How many periods away from a published one it is still known from which
/// moments revisions were counted.
const NEAR: u64 = 2;

/// What a descriptor says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    /// 1 to 20 points.
    pub(super) chosen: Vec<Chosen>,
    pub(super) capabilities: Capabilities,
}

/// What is published where, for one service.
#[derive(Debug)]
pub(super) struct Publisher {
    /// What the last round published, or is publishing.
    published: Option<Content>,
    /// The points in it, or in the descriptors from before a restart: they stay
    /// if they can.
    listed: Vec<Vec<(BackendId, SessionId)>>,
    /// What clients find: the content of the last round that the HSDirs which
    /// they ask have taken.
    found: Vec<Chosen>,
    /// What should be published and is not yet.
    change: Option<Change>,
    changes: Allowance,
    /// The number of the last round.
    round: u64,
    /// The periods of the network view, in its order.
    periods: Vec<PeriodUploads>,
    /// The highest `as_of` used in a period. A clock that runs ahead for a
    /// while leaves it in the future; counters then follow it step by step.
    counted: BTreeMap<Period, SystemTime>,
}

#[derive(Debug)]
struct Change {
    content: Content,
    first: Instant,
    last: Instant,
}

/// One period's descriptor.
#[derive(Debug)]
struct PeriodUploads {
    view: PeriodView,
    hsdirs: BTreeMap<RelayId, Hsdir>,
    /// The round that every HSDir should hold.
    round: u64,
    again_at: Option<Instant>,
    /// The highest revision that an HSDir accepted.
    revision: Option<u64>,
    published_at: Option<SystemTime>,
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self {
            published: None,
            listed: Vec::new(),
            found: Vec::new(),
            change: None,
            changes: CHANGES,
            round: 0,
            periods: Vec::new(),
            counted: BTreeMap::new(),
        }
    }

    /// What was listed and counted before a restart.
    pub(super) fn recall(
        &mut self,
        listed: Vec<Vec<(BackendId, SessionId)>>,
        counted: Vec<Counted>,
        now: Now,
    ) {
        self.listed = listed;
        for counted in counted.into_iter().filter(|counted| counted.is_possible(now.wall)) {
            let newest = self.counted.entry(counted.period).or_insert(counted.as_of.0);
            *newest = counted.as_of.0.max(*newest);
        }
    }

    /// From which moments revisions were counted, to be recalled after a restart.
    pub(super) fn counted(&self) -> Vec<Counted> {
        let counted = self.counted.iter();
        counted
            .map(|(period, at)| Counted { period: *period, as_of: memory::written(*at) })
            .collect()
    }

    /// What is in the descriptor now, or was before a restart.
    pub(super) fn listed(&self) -> &[Vec<(BackendId, SessionId)>] {
        &self.listed
    }

    /// What clients find in the current period.
    pub(super) fn found(&self) -> &[Chosen] {
        &self.found
    }

    /// The periods and HSDirs are these now. What the HSDirs that stay hold is
    /// kept; those that go are forgotten.
    pub(super) fn network_changed(&mut self, view: NetworkView, now: Now, rng: &mut impl Rng) {
        let now = now.monotonic;
        let mut before = std::mem::take(&mut self.periods);
        for view in view.periods {
            let known = before.iter().position(|p| p.view.period == view.period);
            let mut period = match known {
                Some(index) => before.swap_remove(index),
                None => PeriodUploads::new(view.clone(), self.round),
            };
            let first = self.published.is_none();
            let not_before =
                if first { now } else { now + between(Duration::ZERO, NEW_HSDIRS, rng) };
            period.network_changed(
                view,
                self.counted.get(&period.view.period).copied(),
                not_before,
            );
            self.periods.push(period);
        }
        // A period that is long over does not come back.
        let near = |period: &Period| {
            let distance = |p: &PeriodUploads| p.view.period.number.abs_diff(period.number);
            self.periods.iter().any(|p| distance(p) <= NEAR)
        };
        self.counted.retain(|period, _| near(period));
    }

    /// An upload has ended.
    pub(super) fn uploaded(
        &mut self,
        (period, hsdir): (Period, RelayId),
        as_of: SystemTime,
        outcome: Result<u64, UploadFailure>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        let Some(period) = self.periods.iter_mut().find(|p| p.view.period == period) else {
            return;
        };
        let Some(hsdir) = period.hsdirs.get_mut(&hsdir) else { return };
        let revision = outcome.as_ref().ok().copied();
        if hsdir.uploaded(as_of, outcome.map(|_| ()), now, rng)
            && let Some(revision) = revision
        {
            period.revision = period.revision.max(Some(revision));
            period.published_at = Some(now.wall);
        }
    }

    /// Looks at everything again. `wanted` is what should be published, `None`
    /// to leave things as they are; `settled` if nothing more is to be
    /// expected at the start.
    pub(super) fn progress(
        &mut self,
        wanted: Option<Content>,
        settled: bool,
        now: Now,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
        commands: &mut VecDeque<Command>,
    ) {
        self.note(wanted, alarm.now());
        if !self.periods.is_empty() && self.change_due(settled, alarm) {
            if self.published.is_some() {
                self.changes.take(alarm.now());
            }
            self.published = self.change.take().map(|change| change.content);
            let point = |chosen: &Chosen| (chosen.backend, chosen.point.session_id);
            self.listed =
                self.published.iter().map(|c| c.chosen.iter().map(point).collect()).collect();
            self.round += 1;
            for period in &mut self.periods {
                period.round = self.round;
                period.again_at = None;
            }
        }
        if let Some(content) = &self.published {
            for period in &mut self.periods {
                period.publish_again(&mut self.round, alarm, rng);
            }
            let points: Arc<[IntroPoint]> =
                content.chosen.iter().map(|chosen| chosen.point.clone()).collect();
            upload(
                &mut self.periods,
                &mut self.counted,
                content,
                &points,
                now,
                alarm,
                rng,
                commands,
            );
            let taken = |period: &PeriodUploads| {
                let mut asked = period.view.hsdirs.iter().filter(|hsdir| hsdir.asked_by_clients);
                let hsdir = |relay| period.hsdirs.get(relay);
                period.view.current
                    && asked.all(|it| hsdir(&it.relay).is_some_and(|h| !h.lags(period.round)))
            };
            if self.is_found() && self.periods.iter().any(taken) {
                self.found.clone_from(&content.chosen);
            }
        }
    }

    /// Notes what is wanted, and since when it differs from what is published.
    fn note(&mut self, wanted: Option<Content>, now: Instant) {
        self.change = match (self.change.take(), wanted) {
            (_, wanted) if wanted.is_none() || wanted == self.published => None,
            (Some(change), Some(content)) if change.content == content => Some(change),
            (change, Some(content)) => {
                let first = change.map_or(now, |change| change.first);
                Some(Change { content, first, last: now })
            }
            (_, None) => None,
        };
    }

    /// Whether a round is due because of a change.
    fn change_due(&self, settled: bool, alarm: &mut Alarm) -> bool {
        let Some(change) = &self.change else { return false };
        let Some(published) = &self.published else {
            return settled || alarm.reached(change.first + GATHER);
        };
        let addition = published.capabilities == change.content.capabilities
            && published.chosen.iter().all(|chosen| change.content.chosen.contains(chosen));
        let (quiet, patience) = if addition { ADDITION } else { URGENT };
        let latest = change.first + patience;
        // The last round's uploads should be done, so that few HSDirs get two
        // descriptors in a row; slow ones hold the others up only so long.
        let uploading = self.periods.iter().any(|p| p.hsdirs.values().any(Hsdir::is_uploading));
        let at = if uploading { latest } else { latest.min(change.last + quiet) };
        alarm.reached(at) && self.changes.permits(alarm)
    }

    /// Whether clients find us: in the current period, for every replica, an
    /// HSDir that they ask holds a descriptor of ours.
    pub(super) fn is_found(&self) -> bool {
        self.periods.iter().any(|period| {
            let view = &period.view;
            view.current
                && !view.hsdirs.is_empty()
                && view.hsdirs.iter().all(|replica| {
                    view.hsdirs.iter().any(|hsdir| {
                        hsdir.replica == replica.replica
                            && hsdir.asked_by_clients
                            && period.hsdirs.get(&hsdir.relay).is_some_and(Hsdir::holds_any)
                    })
                })
        })
    }

    /// Whether there was a round.
    pub(super) fn has_published(&self) -> bool {
        self.published.is_some()
    }

    /// Whether nothing but the last round's descriptor is with the HSDirs that
    /// clients ask in the current period, and none is on its way.
    pub(super) fn has_replaced_all(&self) -> bool {
        self.change.is_none()
            && self.periods.iter().filter(|period| period.view.current).all(|period| {
                let mut asked = period.view.hsdirs.iter().filter(|hsdir| hsdir.asked_by_clients);
                let hsdir = |relay| period.hsdirs.get(relay);
                asked.all(|it| hsdir(&it.relay).is_none_or(|h| h.has_replaced(period.round)))
            })
    }

    /// Lets the next changes be published at once, however many there were
    /// before: nobody waits long for a process that ends.
    pub(super) fn allow_changes(&mut self) {
        self.changes = CHANGES;
    }

    /// Whether a network is known.
    pub(super) fn has_network(&self) -> bool {
        !self.periods.is_empty()
    }

    /// What the operator sees of the descriptors.
    pub(super) fn snapshot(&self) -> Vec<snapshot::Descriptor> {
        let intro_points = self.published.as_ref().map_or(0, |content| content.chosen.len());
        self.periods.iter().map(|period| period.snapshot(intro_points)).collect()
    }
}

/// Uploads to all HSDirs that are due, as of one moment.
fn upload(
    periods: &mut [PeriodUploads],
    counted: &mut BTreeMap<Period, SystemTime>,
    content: &Content,
    points: &Arc<[IntroPoint]>,
    now: Now,
    alarm: &mut Alarm,
    rng: &mut impl Rng,
    commands: &mut VecDeque<Command>,
) {
    let mut as_of = now.wall;
    let mut due = Vec::new();
    for (index, period) in periods.iter_mut().enumerate() {
        for (relay, hsdir) in &mut period.hsdirs {
            if hsdir.upload_due(period.round, alarm, rng) {
                due.push((index, *relay));
                as_of = hsdir.newest_as_of.map_or(as_of, |seen| as_of.max(seen + REVISION_STEP));
            }
        }
    }
    for (index, relay) in due {
        let period = &mut periods[index];
        let Some(hsdir) = period.hsdirs.get_mut(&relay) else { continue };
        hsdir.upload(period.round, as_of, alarm);
        let newest = counted.entry(period.view.period).or_insert(as_of);
        *newest = as_of.max(*newest);
        commands.push_back(Command::Publish(Publication {
            period: period.view.period,
            hsdir: relay,
            as_of,
            points: Arc::clone(points),
            capabilities: content.capabilities.clone(),
        }));
    }
}

impl PeriodUploads {
    /// A period in which nothing has been published yet.
    fn new(view: PeriodView, round: u64) -> Self {
        Self {
            view,
            hsdirs: BTreeMap::new(),
            round,
            again_at: None,
            revision: None,
            published_at: None,
        }
    }

    fn network_changed(
        &mut self,
        view: PeriodView,
        newest_as_of: Option<SystemTime>,
        not_before: Instant,
    ) {
        let mut before = std::mem::take(&mut self.hsdirs);
        for responsible in &view.hsdirs {
            let relay = responsible.relay;
            let hsdir = before.remove(&relay);
            self.hsdirs
                .entry(relay)
                .or_insert_with(|| hsdir.unwrap_or_else(|| Hsdir::new(not_before, newest_as_of)));
        }
        self.view = view;
    }

    /// Begins a round of its own when the last one is old enough.
    fn publish_again(&mut self, round: &mut u64, alarm: &mut Alarm, rng: &mut impl Rng) {
        let due = self.again_at.is_some_and(|at| alarm.reached(at));
        if due {
            *round += 1;
            self.round = *round;
        }
        if due || self.again_at.is_none() {
            let at = alarm.now() + between(AGAIN.0, AGAIN.1, rng);
            self.again_at = Some(at);
            alarm.reached(at);
        }
    }

    fn snapshot(&self, intro_points: usize) -> snapshot::Descriptor {
        let mut relays = Vec::new();
        for hsdir in &self.view.hsdirs {
            if !relays.contains(&hsdir.relay) {
                relays.push(hsdir.relay);
            }
        }
        let hsdirs = relays
            .into_iter()
            .filter_map(|relay| Some(self.hsdirs.get(&relay)?.snapshot(relay, self.round)))
            .collect();
        snapshot::Descriptor {
            period: self.view.period.number,
            current: self.view.current,
            revision: self.revision,
            intro_points,
            published_at: self.published_at.map(Timestamp),
            hsdirs,
        }
    }
}
