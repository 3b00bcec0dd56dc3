//! When to dial the control link to a remote backend, and what to think of the
//! backend by it.
//!
//! A link is never the only truth. While it is up, the backend's points are those
//! that it reports. When it is lost, the backend is dialled again at once: if it
//! is met, nothing has happened; if nobody answers at any point that is tried, it
//! is gone, as clients would find; and if neither is known after a while, its own
//! descriptor says again what to think of it. One that has taken its points back
//! stays out until it has others to offer, over a link or in a new descriptor.
//!
//! Whether a backend has a link to offer is found out by asking: with
//! [`LinkPolicy::Auto`] once after the start and once a day, for C tor never has one.
//! Called by [`TrackedBackend`](super::backend::TrackedBackend).

mod absence;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IndexedRandom as _;

use self::absence::{Absence, DialOutcome};
use super::fact::{DialFailure, LinkNews};
use super::link::{Condition, Offered, WorkReport};
use super::offer::Offer;
use super::schedule::{Alarm, Allowance, between, stretched};
use super::settings::LinkPolicy;
use crate::onion::{IntroPoint, PointFlaw, SessionId};
use crate::status::{BackendState, LinkState};

/// How soon a backend is asked whose points have just become known: not all
/// backends of a service at the same moment.
const FIRST: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(10));
/// After so long the answer to a dial is given up as lost.
const DIAL_LIMIT: Duration = Duration::from_secs(3 * 60);
/// How many points are tried at the same time where there was a link. One is
/// enough to ask for the first time, and all that C tor backends get.
const TRIED_AT_ONCE: usize = 3;
/// How long what a lost link said last is truer than the backend's descriptor: a
/// change of its points is in there within a minute.
const TRUSTED_FOR: Duration = Duration::from_secs(2 * 60);
/// How many of the points that a backend has reported are remembered, to know them
/// again in its descriptor: those of hours, where points last for a day.
const REMEMBERED: usize = 64;
/// How often the reports of one backend can change what is wanted: about as often
/// as its descriptor could.
const CHANGES: Allowance = Allowance::new(6, Duration::from_secs(60));
/// How often one backend is dialled at once that has lost its link.
const REDIALS: Allowance = Allowance::new(3, Duration::from_secs(60));
/// After so long otherwise.
const NOT_AT_ONCE: Duration = Duration::from_secs(60);
/// How often one backend that leaves has it published at once, however often the
/// descriptor has changed before.
const DEPARTURES: Allowance = Allowance::new(2, Duration::from_secs(5 * 60));

/// A relay refuses introductions for a point that is lost, and for one that is flooded:
/// only when all that were asked in three dials have refused, for so long, is a backend
/// taken for gone whose link is lost ...
const REFUSED_FOR: Duration = Duration::from_secs(8);
/// ... and meanwhile it is asked again after this.
const REFUSED_AGAIN: Duration = Duration::from_secs(4);

/// The control link to one backend.
#[derive(Debug)]
pub(super) struct BackendLink {
    wanted: LinkPolicy,
    phase: LinkPhase,
    /// When to dial next; `None` until there is a point to dial at.
    dial_at: Option<Instant>,
    /// Dials that failed in a row, ...
    absence: Absence,
    /// ... and whether the last one met nobody.
    unmet: bool,
    /// Whether there was a link since the start.
    speaks: bool,
    /// What the backend said last.
    said: Option<LastReport>,
    /// What it has said since, too soon after other changes.
    waiting: Option<(u64, LastReport)>,
    /// The number of the last report that was taken into account.
    heard: u64,
    /// The points that it has reported, the newest last.
    reported: VecDeque<SessionId>,
    changes: Allowance,
    departures: Allowance,
    redials: Allowance,
    /// How it verifies work, and whether it is full, as it said last.
    work: Option<WorkReport>,
    full: bool,
    /// Whether another process may answer by now than the one that said so, although nothing
    /// else that it said is believed.
    replaced: bool,
    /// Whether it has left since [`take_departure`](Self::take_departure).
    left: bool,
    /// Since when all relays that were asked refuse.
    refused_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkPhase {
    Down,
    Dialling { since: Instant },
    Up,
}

/// What a backend has reported.
#[derive(Clone, Debug)]
struct LastReport {
    condition: Condition,
    offer: Offer,
    /// When the link was lost that it came over.
    lost_at: Option<Instant>,
    /// Whether nobody has answered since.
    gone: bool,
}

impl BackendLink {
    pub(super) fn new(wanted: LinkPolicy) -> Self {
        Self {
            wanted,
            phase: LinkPhase::Down,
            dial_at: None,
            absence: Absence::default(),
            unmet: false,
            speaks: false,
            said: None,
            waiting: None,
            heard: 0,
            reported: VecDeque::new(),
            changes: CHANGES,
            departures: DEPARTURES,
            redials: REDIALS,
            work: None,
            full: false,
            replaced: false,
            left: false,
            refused_since: None,
        }
    }

    /// From now on it is wanted so. If that is new, one that is not there is asked
    /// for again.
    pub(super) fn want(&mut self, wanted: LinkPolicy) {
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        self.absence = Absence::default();
        if self.phase == LinkPhase::Down {
            self.dial_at = None;
        }
        if wanted == LinkPolicy::Never {
            *self = Self::new(wanted);
        }
    }

    /// How it is, where the backend can have one.
    pub(super) fn state(&self) -> Option<LinkState> {
        match self.phase {
            LinkPhase::Up => Some(LinkState::Up),
            _ if self.speaks || self.wanted == LinkPolicy::Always => Some(LinkState::Down),
            _ => None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.phase == LinkPhase::Up
    }

    /// The number of the newest report that is taken into account.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// Whether the backend has just left and may have that published at once.
    pub(super) fn take_departure(&mut self) -> bool {
        std::mem::take(&mut self.left)
    }

    /// Something has happened to the link. True if the backend may have other
    /// points by now, which its descriptor would tell.
    pub(super) fn news(&mut self, news: LinkNews, now: Instant, rng: &mut impl Rng) -> bool {
        if self.wanted == LinkPolicy::Never {
            return false;
        }
        match news {
            LinkNews::Reported { number, offered, flaw } => {
                self.reported(number, offered, flaw);
                false
            }
            LinkNews::Lost(_) => {
                self.lost(now, rng);
                true
            }
            LinkNews::NotDialled(failure) => self.not_dialled(&failure, now, rng),
        }
    }

    fn reported(&mut self, number: u64, offered: Offered, flaw: Option<PointFlaw>) {
        if self.phase != LinkPhase::Up {
            // Each link counts from 1.
            self.heard = 0;
        }
        (self.phase, self.speaks, self.unmet) = (LinkPhase::Up, true, false);
        (self.absence, self.refused_since) = (Absence::default(), None);
        let Offered { condition, points, capabilities, full, work } = offered;
        (self.full, self.work, self.replaced) = (full, work, false);
        let before = self.said.take();
        let nothing = Offer::default();
        let known = before.as_ref().map_or(&nothing, |said| &said.offer);
        let offer = Offer::new(points, capabilities, flaw, known);
        for point in offer.points() {
            if !self.reported.contains(&point.session_id) {
                self.reported.push_back(point.session_id);
            }
        }
        let old = self.reported.len().saturating_sub(REMEMBERED);
        self.reported.drain(..old);
        let said = LastReport { condition, offer, lost_at: None, gone: false };
        match before {
            // It says the same, perhaps over another link.
            Some(before) if before.offer == said.offer && before.condition == condition => {
                self.said = Some(said);
                self.heard = number;
                self.waiting = None;
            }
            before => {
                let before = before.filter(|before| !before.gone);
                self.said = before.map(|before| LastReport { lost_at: None, ..before });
                self.waiting = Some((number, said));
            }
        }
    }

    /// Takes into account what has been reported, as far as that may be now.
    pub(super) fn progress(&mut self, alarm: &mut Alarm) {
        if self.waiting.is_none() || !self.changes.permits(alarm) {
            return;
        }
        let Some((number, said)) = self.waiting.take() else { return };
        self.changes.take(alarm.now());
        if said.offer.points().is_empty() {
            self.leaves(alarm);
        }
        self.said = Some(said);
        self.heard = number;
    }

    /// The points of the backend leave all at once.
    fn leaves(&mut self, alarm: &mut Alarm) {
        let had_points = self.said.as_ref().is_none_or(|said| !said.offer.points().is_empty());
        if had_points && self.departures.permits(alarm) {
            self.departures.take(alarm.now());
            self.left = true;
        }
    }

    /// There is no link from now on. What was said over one was said until now.
    fn is_down(&mut self, now: Instant) {
        if self.phase == LinkPhase::Up
            && let Some(said) = &mut self.said
        {
            said.lost_at = Some(now);
        }
        self.phase = LinkPhase::Down;
    }

    fn lost(&mut self, now: Instant, rng: &mut impl Rng) {
        self.is_down(now);
        self.waiting = None;
        let at_once = self.redials.permits(&mut Alarm::new(now));
        self.dial_at = Some(match at_once {
            true => now,
            false => now + stretched(NOT_AT_ONCE, rng),
        });
        self.redials.take(now);
    }

    fn not_dialled(&mut self, failure: &DialFailure, now: Instant, rng: &mut impl Rng) -> bool {
        self.is_down(now);
        self.refused_since = match failure {
            DialFailure::Refused(_) => self.refused_since.or(Some(now)),
            _ => None,
        };
        let refused = self.refused_since.is_some_and(|since| now >= since + REFUSED_FOR);
        self.unmet = refused || matches!(failure, DialFailure::Unmet(_));
        let outcome = match failure {
            DialFailure::NotOffered => DialOutcome::NotOffered,
            DialFailure::Inconclusive(_) => DialOutcome::Unknown,
            DialFailure::Unmet(_) | DialFailure::Refused(_) => DialOutcome::Away,
        };
        if outcome == DialOutcome::NotOffered {
            // It is alive, and its descriptor all there is, but for points that it has
            // taken back.
            self.said.take_if(|said| !said.offer.points().is_empty());
        }
        self.absence.failed(outcome, now);
        let delay = match failure {
            DialFailure::Refused(_) if self.speaks && !refused => REFUSED_AGAIN,
            _ => self.absence.delay(self.speaks, self.wanted, now),
        };
        self.dial_at = Some(now + stretched(delay, rng));
        self.replaced |= self.said.is_none() && (self.unmet || outcome == DialOutcome::NotOffered);
        let lost = self.said.as_mut().filter(|said| said.lost_at.is_some());
        match lost {
            Some(said) if self.unmet && !said.gone => {
                said.gone = true;
                self.leaves(&mut Alarm::new(now));
                true
            }
            _ => self.unmet || self.refused_since == Some(now),
        }
    }

    /// A fetch has brought the backend's own descriptor, a newer one than before or the
    /// same.
    pub(super) fn descriptor_seen(&mut self, is_newer: bool, now: Instant, rng: &mut impl Rng) {
        if self.phase == LinkPhase::Down && self.absence.is_over(is_newer) {
            let soon = now + between(FIRST.0, FIRST.1, rng);
            self.dial_at = self.dial_at.map(|at| at.min(soon));
        }
    }

    /// The backend's own descriptor is a newer one, with these points. While the link
    /// is up it knows better. Once it is lost, only points that the backend never
    /// reported tell something: the others may be as dead as the link.
    pub(super) fn descriptor_changed(
        &mut self,
        points: &[IntroPoint],
        now: Instant,
        rng: &mut impl Rng,
    ) {
        let is_new = |point: &IntroPoint| !self.reported.contains(&point.session_id);
        if self.phase == LinkPhase::Up || !points.iter().any(is_new) {
            return;
        }
        (self.said, self.replaced) = (None, true);
        if self.unmet || self.speaks {
            // It may be met at its new points, and may be another process.
            self.dial_at = Some(now + between(FIRST.0, FIRST.1, rng));
            self.unmet = false;
        }
    }

    /// The points to dial at now, if it is time. `points` are those known of the
    /// backend, whether it is live or not.
    pub(super) fn dial(
        &mut self,
        points: &[IntroPoint],
        alarm: &mut Alarm,
        rng: &mut impl Rng,
    ) -> Option<Vec<IntroPoint>> {
        if let LinkPhase::Dialling { since } = self.phase
            && alarm.reached(since + DIAL_LIMIT)
        {
            let lost = DialFailure::Inconclusive("no answer in time".into());
            self.not_dialled(&lost, alarm.now(), rng);
        }
        if self.wanted == LinkPolicy::Never || self.phase != LinkPhase::Down || points.is_empty() {
            return None;
        }
        let at = *self.dial_at.get_or_insert_with(|| alarm.now() + between(FIRST.0, FIRST.1, rng));
        if !alarm.reached(at) {
            return None;
        }
        let expected = self.speaks || self.wanted == LinkPolicy::Always;
        let tried = if expected { TRIED_AT_ONCE } else { 1 };
        self.phase = LinkPhase::Dialling { since: alarm.now() };
        alarm.reached(alarm.now() + DIAL_LIMIT);
        Some(points.sample(rng, tried).cloned().collect())
    }

    /// What the backend offers by its own word, while that is worth more than its
    /// descriptor.
    pub(super) fn offer(&self, alarm: &mut Alarm) -> Option<&Offer> {
        self.trusted(alarm).map(|said| &said.offer)
    }

    /// How it verifies work by its own word. The seeds that it has outlive the link.
    pub(super) fn work(&self) -> Option<WorkReport> {
        let gone = self.said.as_ref().is_some_and(|said| said.gone);
        self.work.filter(|_| !gone && !self.replaced)
    }

    /// Restores what the backend reported of work before a restart of this process, and the
    /// points that it had. Without links, nothing could correct that.
    pub(super) fn recall(&mut self, work: WorkReport, points: &[IntroPoint]) {
        if self.wanted == LinkPolicy::Never {
            return;
        }
        (self.work, self.speaks) = (Some(work), true);
        self.reported.extend(points.iter().map(|point| point.session_id));
    }

    /// The same as it said last, whatever has become of it.
    pub(super) fn last_work(&self) -> Option<WorkReport> {
        self.work
    }

    /// Whether it says over a link that is up that it is full.
    pub(super) fn is_full(&self) -> bool {
        self.full && self.phase == LinkPhase::Up
    }

    /// What to think of the backend by that, and why.
    pub(super) fn judge(&self, alarm: &mut Alarm) -> Option<(BackendState, Option<String>)> {
        use BackendState::{Down, Up};
        let said = self.trusted(alarm)?;
        Some(if said.gone {
            (Down, Some("its control link is lost, and none of its points asked answers".into()))
        } else if said.offer.points().is_empty() {
            let flaw = said.offer.flaw().map(|flaw| format!("; one that it has has {flaw}"));
            let reason = said.condition.reason();
            (Down, Some(format!("{reason}{}", flaw.unwrap_or_default())))
        } else {
            (Up, said.lost_at.map(|_| "its control link is lost; dialling again".into()))
        })
    }

    fn trusted(&self, alarm: &mut Alarm) -> Option<&LastReport> {
        let said = self.said.as_ref()?;
        let outdated = |at: Instant| alarm.reached(at + TRUSTED_FOR);
        // Its descriptor lists the points of one that has ended, or whose origins are
        // down, as long as it does not publish again.
        let has_left = said.gone || said.offer.points().is_empty();
        (has_left || !said.lost_at.is_some_and(outdated)).then_some(said)
    }
}
