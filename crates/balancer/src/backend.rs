//! What is believed of one backend: its introduction points, and whether they
//! work.
//!
//! A local instance says so itself; a remote backend is judged by the
//! descriptors that it publishes ([`RemoteDescriptor`]), and by its control link
//! where there is one ([`BackendLink`]). What probes say ([`BackendHealth`]) and
//! what is known of the origins comes on top of that. Called by the balancer with
//! every fact that concerns the backend, and at every wake-up.

mod restart;

use std::time::SystemTime;

use rand::Rng;
use rand::seq::IndexedRandom as _;

use super::fact::{
    BackendId, FetchFailure, FetchedDescriptor, LinkNews, NetworkView, Now, ProbeFailure,
};
use super::fullness::Fullness;
use super::health::BackendHealth;
use super::link::WorkReport;
use super::linked::BackendLink;
use super::memory::written;
use super::offer::Offer;
use super::operator::{OperatorOrder, Override};
use super::pow::SeedSlot;
use super::proven::WorkProof;
use super::remote::{DescriptorNews, RemoteDescriptor};
use super::schedule::Alarm;
use super::settings::{BackendPlace, BackendRank, BackendSettings, LinkPolicy};
use crate::onion::{Capabilities, IntroPoint};
use crate::status::{self, BackendState, Belief, Timestamp};

/// A backend and what is known of it.
#[derive(Debug)]
pub(super) struct TrackedBackend {
    settings: BackendSettings,
    offer: Offer,
    /// `Some` for a remote backend.
    remote: Option<Remote>,
    /// The judgement at the last wake-up without what probes say ...
    base: Judgement,
    /// ... and with it.
    judgement: Judgement,
    /// The points that probes have nothing against, as many as it keeps, ...
    working: Vec<IntroPoint>,
    /// ... and how many more there are.
    given_up: usize,
    /// When the points were last confirmed.
    last_seen: Option<SystemTime>,
    /// What the operator says of it.
    operator: Override,
}

/// What is known of a remote backend from outside.
#[derive(Debug)]
struct Remote {
    descriptor: RemoteDescriptor,
    /// What the newest descriptor offers.
    described: Offer,
    link: BackendLink,
    proof: WorkProof,
    fullness: Fullness,
}

/// Why a backend has fewer points in the descriptor than it offers.
const FULL: &str = "it is full: some of its introduction points are not listed";

/// What to think of a backend, and why.
type Judgement = (BackendState, Option<String>);

impl TrackedBackend {
    pub(super) fn new(settings: BackendSettings) -> Self {
        let remote = match settings.kind {
            BackendPlace::Local { .. } => None,
            BackendPlace::Remote { .. } => Some(Remote {
                descriptor: RemoteDescriptor::new(),
                described: Offer::default(),
                link: BackendLink::new(LinkPolicy::default()),
                proof: WorkProof::default(),
                fullness: Fullness::default(),
            }),
        };
        Self {
            settings,
            offer: Offer::default(),
            remote,
            base: (BackendState::Unknown, None),
            judgement: (BackendState::Unknown, None),
            working: Vec::new(),
            given_up: 0,
            last_seen: None,
            operator: Override::default(),
        }
    }

    /// Whether these settings are about this backend: what is known of it is
    /// true under them too.
    pub(super) fn is_meant_by(&self, settings: &BackendSettings) -> bool {
        use BackendPlace::{Local, Remote};
        let same_place = match (&self.settings.kind, &settings.kind) {
            (Local { .. }, Local { .. }) => true,
            (Remote { address }, Remote { address: other }) => address == other,
            _ => false,
        };
        same_place && self.settings.id == settings.id
    }

    /// The same backend under other settings.
    pub(super) fn with_settings(self, settings: BackendSettings) -> Self {
        let operator = self.operator.under(settings.weight);
        Self { settings, operator, ..self }
    }

    /// The operator says something of it.
    pub(super) fn obey(&mut self, order: &OperatorOrder, now: Now) {
        self.operator = self.obeying(order, now);
    }

    /// What would hold of it after this order.
    pub(super) fn obeying(&self, order: &OperatorOrder, now: Now) -> Override {
        self.operator.clone().with(order, self.settings.weight, written(now.wall))
    }

    /// What the operator says of it.
    pub(super) fn operator(&self) -> &Override {
        &self.operator
    }

    pub(super) fn is_local(&self) -> bool {
        self.remote.is_none()
    }

    pub(super) fn id(&self) -> BackendId {
        self.settings.id
    }

    pub(super) fn weight(&self) -> u16 {
        self.operator.weight.map_or(self.settings.weight, |said| said.weight)
    }

    /// What it offers, whether that works or not.
    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The points to list if it is live.
    pub(super) fn points(&self) -> &[IntroPoint] {
        &self.working
    }

    pub(super) fn state(&self) -> BackendState {
        self.judgement.0
    }

    /// Whether it verifies the work of clients for the seeds of this slot. What that takes
    /// is derived from the identity key: a backend elsewhere has it over its control link,
    /// or not at all.
    pub(super) fn verifies_work(&self, slot: SeedSlot) -> bool {
        self.remote.as_ref().is_none_or(|remote| remote.proof.holds(slot))
    }

    /// What one elsewhere said last of the work of clients, proven or not.
    pub(super) fn last_work(&self) -> Option<WorkReport> {
        self.remote.as_ref()?.link.last_work()
    }

    /// Where to introduce ourselves now with a solution for this slot, if that is to be
    /// tried.
    pub(super) fn prove(
        &mut self,
        slot: SeedSlot,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
    ) -> Option<IntroPoint> {
        let remote = self.remote.as_mut()?;
        let point = self.working.choose(rng)?;
        remote.proof.due(slot, alarm).then(|| point.clone())
    }

    /// That has been tried.
    pub(super) fn proved(&mut self, outcome: &Result<(), ProbeFailure>, now: Now) {
        if let Some(remote) = &mut self.remote {
            remote.proof.tried(outcome, now.monotonic);
        }
    }

    /// Whether it has as many clients as it can bear, by its word.
    pub(super) fn is_full(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.link.is_full())
    }

    /// How many points it keeps while it is full, and others have room for its clients or
    /// not.
    pub(super) fn give_up_points(&mut self, others_have_room: bool, alarm: &mut Alarm) {
        let is_full = self.is_full() && others_have_room;
        let offered = self.offer.points().len();
        if let Some(remote) = &mut self.remote {
            remote.fullness.update(is_full, offered, alarm);
        }
    }

    /// Whether its points may be listed. Doubtful ones may: listing a dead
    /// point costs clients a retry, dropping a live one costs its capacity.
    pub(super) fn is_live(&self) -> bool {
        is_live(&self.judgement)
    }

    /// Whether it would be live if there were no probes.
    pub(super) fn is_live_without_probes(&self) -> bool {
        is_live(&self.base)
    }

    /// Whether all that is to be expected of it at the start is there.
    pub(super) fn is_settled(&self) -> bool {
        match (&self.remote, &self.settings.kind) {
            (Some(Remote { descriptor, .. }), _) => {
                descriptor.answered() || descriptor.is_remembered()
            }
            (None, BackendPlace::Local { expected_points }) => {
                self.offer.points().len() >= usize::from(*expected_points)
            }
            (None, BackendPlace::Remote { .. }) => true,
        }
    }

    /// See [`BackendSettings::key`].
    pub(super) fn key(&self) -> String {
        self.settings.key()
    }

    /// See [`BackendSettings::order`].
    pub(super) fn order(&self) -> BackendRank<'_> {
        self.settings.order()
    }

    /// See [`RemoteDescriptor::network_changed`].
    pub(super) fn network_changed(&mut self, view: &NetworkView, now: Now) {
        if let Some(remote) = &mut self.remote {
            remote.descriptor.network_changed(view, now.monotonic);
        }
    }

    /// What is known of its descriptors, if it is a remote one.
    pub(super) fn descriptor(&mut self) -> Option<&mut RemoteDescriptor> {
        self.remote.as_mut().map(|remote| &mut remote.descriptor)
    }

    /// Whether its points in the current period are known; those of a local instance
    /// are the same in all.
    pub(super) fn is_found_in_period(&self) -> bool {
        self.remote.as_ref().is_none_or(|remote| remote.descriptor.is_found_in_period())
    }

    /// Whether probes see, too, when its points fail.
    pub(super) fn set_probed(&mut self, probed: bool) {
        if let Some(remote) = &mut self.remote {
            remote.descriptor.set_probed(probed);
        }
    }

    /// A local instance has these points now.
    pub(super) fn local_points(
        &mut self,
        points: Vec<IntroPoint>,
        capabilities: Capabilities,
        now: Now,
    ) {
        if self.remote.is_none() {
            self.offer = Offer::new(points, capabilities, None, &self.offer);
            self.last_seen = Some(now.wall);
        }
    }

    /// A fetch of a remote backend's descriptor has ended.
    pub(super) fn fetched(
        &mut self,
        outcome: Result<FetchedDescriptor, FetchFailure>,
        now: Now,
        rng: &mut impl Rng,
    ) {
        let Some(remote) = &mut self.remote else { return };
        let descriptor = match outcome {
            Ok(descriptor) => descriptor,
            Err(failure) => return remote.descriptor.failed(failure, now.monotonic, rng),
        };
        match remote.descriptor.fetched(descriptor, &remote.described, now.monotonic, rng) {
            DescriptorNews::Offer(offer) => {
                remote.link.descriptor_changed(offer.points(), now.monotonic, rng);
                remote.link.descriptor_seen(true, now.monotonic, rng);
                remote.described = offer;
            }
            DescriptorNews::Confirmed => remote.link.descriptor_seen(false, now.monotonic, rng),
            DescriptorNews::Nothing => return,
        }
        self.last_seen = Some(now.wall);
    }

    /// A probe says that a remote backend may have other points by now.
    pub(super) fn may_have_moved(&mut self, now: Now, rng: &mut impl Rng) {
        if let Some(remote) = &mut self.remote {
            remote.descriptor.may_have_moved(now.monotonic, rng);
        }
    }

    /// Something has happened to the control link to it.
    pub(super) fn link_news(&mut self, news: LinkNews, now: Now, rng: &mut impl Rng) {
        let Some(remote) = &mut self.remote else { return };
        if matches!(news, LinkNews::Reported { .. }) {
            self.last_seen = Some(now.wall);
        }
        if remote.link.news(news, now.monotonic, rng) {
            remote.descriptor.may_have_moved(now.monotonic, rng);
        }
    }

    /// Whether the operator wants a control link to it.
    pub(super) fn wanting_link(mut self, wanted: LinkPolicy) -> Self {
        if let Some(remote) = &mut self.remote {
            remote.link.want(wanted);
        }
        self
    }

    /// Whether its control link is up, and if so the number of the newest report
    /// that is taken into account.
    pub(super) fn linked(&self) -> Option<u64> {
        let link = &self.remote.as_ref()?.link;
        link.is_up().then(|| link.heard())
    }

    /// Whether it has just left, and may have that published at once.
    pub(super) fn take_departure(&mut self) -> bool {
        self.remote.as_mut().is_some_and(|remote| remote.link.take_departure())
    }

    /// Where to dial its control link now, if it is time.
    pub(super) fn dial(
        &mut self,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
    ) -> Option<Vec<IntroPoint>> {
        let Remote { described, link, .. } = self.remote.as_mut()?;
        // One that has taken its points back may have them again.
        let offered = if self.offer.points().is_empty() { described } else { &self.offer };
        link.dial(offered.points(), alarm, rng)
    }

    /// Looks at everything again: judges the backend anew and says whether to
    /// fetch its descriptor. `origins_down` says why no origin behind the local
    /// instances answers, if so.
    pub(super) fn progress(
        &mut self,
        origins_down: Option<&str>,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
    ) -> bool {
        let fetch = match &mut self.remote {
            Some(remote) => {
                remote.link.progress(alarm);
                remote.proof.told(remote.link.work());
                remote.descriptor.linked(remote.link.is_up(), alarm.now(), rng);
                let offer = remote.link.offer(alarm).unwrap_or(&remote.described);
                if self.offer != *offer {
                    self.offer = offer.clone();
                }
                remote.descriptor.fetch_due(alarm, rng)
            }
            None => false,
        };
        self.base = match (&self.remote, origins_down) {
            (Some(Remote { descriptor, link, .. }), _) => {
                link.judge(alarm).unwrap_or_else(|| descriptor.judge(&self.offer, alarm))
            }
            (None, Some(reason)) => (BackendState::Down, Some(reason.to_owned())),
            (None, None) if !self.offer.points().is_empty() => (BackendState::Up, None),
            (None, None) if self.last_seen.is_none() => (BackendState::Unknown, None),
            (None, None) => {
                let none = || "it has no established introduction point".into();
                (BackendState::Down, Some(self.flaw().unwrap_or_else(none)))
            }
        };
        fetch
    }

    /// Completes the judgement with what probes say, if there are any.
    pub(super) fn apply_probe_health(&mut self, health: Option<&BackendHealth>) {
        let fails = |point: &&IntroPoint| health.is_some_and(|h| h.fails(point.session_id));
        let kept = self.remote.as_ref().map_or(usize::MAX, |remote| remote.fullness.limit());
        let working: Vec<_> = self.offer.points().iter().filter(|point| !fails(point)).collect();
        self.given_up = working.len().saturating_sub(kept);
        // At almost every wake-up they are the same.
        if !working.iter().copied().take(kept).eq(&self.working) {
            self.working = working.into_iter().take(kept).cloned().collect();
        }
        let (state, reason) = self.base.clone();
        let verdict = health.filter(|_| self.is_live_without_probes());
        self.judgement = match verdict.and_then(BackendHealth::down) {
            Some(down) => (BackendState::Down, Some(down)),
            None => {
                let complaint = || verdict.and_then(BackendHealth::complaint);
                let full = || (self.given_up > 0).then(|| FULL.to_owned());
                (state, reason.or_else(complaint).or_else(|| self.flaw()).or_else(full))
            }
        };
    }

    /// What is wrong with points of it that are never listed, if there are any.
    fn flaw(&self) -> Option<String> {
        let flaw = self.offer.flaw()?;
        Some(match self.is_local() {
            true => format!("it has an introduction point with {flaw}"),
            false => format!("its descriptor lists an introduction point with {flaw}"),
        })
    }

    /// What the operator sees of it. The shell adds what it counts.
    pub(super) fn belief(&self) -> Belief<'_> {
        Belief {
            backend: self.settings.id,
            name: &self.settings.name,
            state: self.judgement.0,
            failing: self.failing(),
            reason: self.judgement.1.as_deref(),
        }
    }

    /// How many of its points probes have something against.
    fn failing(&self) -> usize {
        self.offer.points().len() - self.working.len() - self.given_up
    }

    pub(super) fn snapshot(&self, published_intro_points: usize) -> status::Backend {
        let (kind, address) = match &self.settings.kind {
            BackendPlace::Local { .. } => (status::BackendKind::Local, None),
            BackendPlace::Remote { address } => {
                (status::BackendKind::Remote, Some(address.to_string()))
            }
        };
        let weight_said = self.operator.weight_said();
        let weight_said = weight_said.map(|(_, since, by)| (since, by));
        let word_said = self.operator.word_said().map(|(_, since, by)| (since, by));
        let first_said = word_said.or(weight_said);
        status::Backend {
            name: self.settings.name.clone(),
            kind,
            address,
            state: self.judgement.0,
            reason: self.judgement.1.clone(),
            intro_points: self.offer.points().len(),
            relays: self.offer.points().iter().map(|point| point.relay.to_string()).collect(),
            failing_intro_points: self.failing(),
            published_intro_points,
            weight: self.weight(),
            configured_weight: self.operator.weight.map(|said| said.instead_of),
            operator: self.operator.word,
            operator_since: first_said.map(|(since, _)| since),
            operator_by: first_said.and_then(|(_, by)| by),
            weight_since: weight_said.map(|(since, _)| since),
            weight_by: weight_said.and_then(|(_, by)| by),
            link: self.remote.as_ref().and_then(|remote| remote.link.state()),
            last_seen: self.last_seen.map(Timestamp),
            revision: self.remote.as_ref().and_then(|remote| remote.descriptor.revision()),
            activity: status::Activity::default(),
        }
    }
}

fn is_live((state, _): &Judgement) -> bool {
    matches!(state, BackendState::Up | BackendState::Stale)
}
