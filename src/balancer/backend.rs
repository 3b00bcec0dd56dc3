//! What is believed of one backend: its introduction points, and whether they
//! work.
//!
//! A local instance says so itself; a remote backend is judged by the
//! descriptors that it publishes ([`Remote`]). Called by the balancer with
//! every fact that concerns the backend, and at every wake-up.

use std::time::SystemTime;

use rand::Rng;

use super::fact::{BackendId, FetchFailure, FetchedDescriptor, NetworkView, Now};
use super::memory::KnownBackend;
use super::remote::{News, Remote};
use super::schedule::Alarm;
use super::{BackendKind, BackendSettings};
use crate::observe::snapshot::{self, BackendState, Timestamp};
use crate::onion::{Capabilities, IntroPoint};

/// A backend and what is known of it.
#[derive(Debug)]
pub(super) struct Backend {
    settings: BackendSettings,
    offer: Offer,
    /// `Some` for a remote backend.
    remote: Option<Remote>,
    /// The judgement at the last wake-up, and its reason.
    state: BackendState,
    reason: Option<String>,
    /// When the points were last confirmed.
    last_seen: Option<SystemTime>,
}

/// What a backend has to offer to a descriptor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Offer {
    pub(super) points: Vec<IntroPoint>,
    pub(super) capabilities: Capabilities,
}

impl Backend {
    pub(super) fn new(settings: BackendSettings) -> Self {
        let remote = match settings.kind {
            BackendKind::Local { .. } => None,
            BackendKind::Remote { .. } => Some(Remote::new()),
        };
        Self {
            settings,
            offer: Offer::default(),
            remote,
            state: BackendState::Unknown,
            reason: None,
            last_seen: None,
        }
    }

    /// Whether these settings are about this backend: what is known of it is
    /// true under them too.
    pub(super) fn is_meant_by(&self, settings: &BackendSettings) -> bool {
        use BackendKind::{Local, Remote};
        let same_place = match (&self.settings.kind, &settings.kind) {
            (Local { .. }, Local { .. }) => true,
            (Remote { address }, Remote { address: other }) => address == other,
            _ => false,
        };
        same_place && self.settings.id == settings.id
    }

    /// The same backend under other settings.
    pub(super) fn with_settings(self, settings: BackendSettings) -> Self {
        Self { settings, ..self }
    }

    pub(super) fn is_local(&self) -> bool {
        self.remote.is_none()
    }

    pub(super) fn id(&self) -> BackendId {
        self.settings.id
    }

    pub(super) fn weight(&self) -> u16 {
        self.settings.weight
    }

    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    pub(super) fn state(&self) -> BackendState {
        self.state
    }

    /// Whether its points may be listed. Doubtful ones may: listing a dead
    /// point costs clients a retry, dropping a live one costs its capacity.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, BackendState::Up | BackendState::Stale)
    }

    /// Whether all that is to be expected of it at the start is there.
    pub(super) fn is_settled(&self) -> bool {
        match (&self.remote, &self.settings.kind) {
            (Some(remote), _) => remote.answered() || remote.is_remembered(),
            (None, BackendKind::Local { expected_points }) => {
                self.offer.points.len() >= usize::from(*expected_points)
            }
            (None, BackendKind::Remote { .. }) => true,
        }
    }

    /// What it goes by where a number would not last: a remote one by its
    /// address, a local instance by its name.
    pub(super) fn key(&self) -> String {
        match self.settings.kind {
            BackendKind::Local { .. } => self.settings.name.clone(),
            BackendKind::Remote { address } => address.to_string(),
        }
    }

    /// What a restart should not lose; nothing of a local instance, whose
    /// points end with the process.
    pub(super) fn memory(&self, now: Now) -> Option<KnownBackend> {
        let BackendKind::Remote { address } = self.settings.kind else { return None };
        Some(self.remote.as_ref()?.memory(address, &self.offer, self.is_live(), now))
    }

    /// What was known of a remote backend before a restart.
    pub(super) fn recall(&mut self, known: KnownBackend, now: Now) {
        let Some(remote) = &mut self.remote else { return };
        self.last_seen = known.descriptor.as_ref().map(|descriptor| descriptor.last_seen.0);
        if let Some(offer) = remote.recall(known, now) {
            self.offer = offer;
        }
    }

    /// See [`Remote::network_changed`].
    pub(super) fn network_changed(&mut self, view: &NetworkView, now: Now, rng: &mut impl Rng) {
        if let Some(remote) = &mut self.remote {
            remote.network_changed(view, now.monotonic, rng);
        }
    }

    /// A local instance has these points now.
    pub(super) fn local_points(&mut self, offer: Offer, now: Now) {
        if self.remote.is_none() {
            self.offer = offer;
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
            Err(failure) => return remote.failed(failure, now.monotonic, rng),
        };
        match remote.fetched(descriptor, &self.offer, now.monotonic, rng) {
            News::Offer(offer) => self.offer = offer,
            News::Confirmed => {}
            News::Nothing => return,
        }
        self.last_seen = Some(now.wall);
    }

    /// Looks at everything again: judges the backend anew and says whether to
    /// fetch its descriptor.
    pub(super) fn progress(&mut self, alarm: &mut Alarm, rng: &mut impl Rng) -> bool {
        let fetch = self.remote.as_mut().is_some_and(|remote| remote.fetch_due(alarm, rng));
        (self.state, self.reason) = match &self.remote {
            Some(remote) => remote.judge(&self.offer, alarm),
            None if !self.offer.points.is_empty() => (BackendState::Up, None),
            None if self.last_seen.is_none() => (BackendState::Unknown, None),
            None => (BackendState::Down, Some("it has no established introduction point".into())),
        };
        fetch
    }

    /// What the operator sees of it. The shell adds what it counts.
    pub(super) fn snapshot(&self, published_intro_points: usize) -> snapshot::Backend {
        let (kind, address) = match &self.settings.kind {
            BackendKind::Local { .. } => (snapshot::BackendKind::Local, None),
            BackendKind::Remote { address } => {
                (snapshot::BackendKind::Remote, Some(address.to_string()))
            }
        };
        snapshot::Backend {
            name: self.settings.name.clone(),
            kind,
            address,
            state: self.state,
            reason: self.reason.clone(),
            intro_points: self.offer.points.len(),
            relays: self.offer.points.iter().map(|point| point.relay.to_string()).collect(),
            failing_intro_points: 0,
            published_intro_points,
            weight: self.settings.weight,
            last_seen: self.last_seen.map(Timestamp),
            revision: self.remote.as_ref().and_then(Remote::revision),
            introductions: 0,
            introductions_dropped: 0,
            rendezvous_failed: 0,
            congestion_controlled: 0,
            streams: 0,
        }
    }
}
