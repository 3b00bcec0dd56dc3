//! Carries out the commands of a service's balancer: each one once, as it says,
//! and what came of it is a fact. Nothing is decided here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;
use tokio::task::JoinSet;

use crate::clock::now;
use crate::config::Probe;
use crate::instance::Counters;
use crate::tor::credentials::Credentials;
use crate::tor::descriptor::Signer;
use crate::tor::network::Network;
use crate::tor::probe::{self, ProbeQuestion, Request};
use crate::tor::puzzles::Toil;
use crate::tor::{held, upload};
use onionbraid_balancer::command::{Command, Publication};
use onionbraid_balancer::fact::{BackendId, Fact, ProbeFailure, UploadFailure};
use onionbraid_balancer::onion::{IntroPoint, OnionAddress, Period, RelayId};
use onionbraid_balancer::pow::OwnWork;
use onionbraid_balancer::{BackendPlace, Balancer, BalancerSettings};
use onionbraid_proxy::histogram::Histogram;

use super::fetches::{FetchEnd, Fetches};
use super::instances::Instances;
use super::links::Links;

/// What a service has to do, and what it takes.
pub(super) struct Work {
    network: Network,
    address: OnionAddress,
    credentials: Arc<Credentials>,
    signer: Signer,
    /// Fetches those of backends, for all services ...
    fetches: Fetches,
    /// ... and tells all of them what came of it.
    answers: broadcast::Receiver<FetchEnd>,
    /// The addresses of remote backends.
    remote: BTreeMap<BackendId, OnionAddress>,
    /// The control links to them.
    links: Links,
    /// How remote backends are probed.
    probe: Option<Probe>,
    /// What is under way; each ends with a fact.
    tasks: JoinSet<Fact>,
    /// What came of it so far.
    tally: Arc<Tally>,
}

/// What has come of uploads and probes so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Uploads that an HSDir took.
    pub(super) uploads_accepted: AtomicU64,
    /// Those that failed.
    pub(super) uploads_failed: AtomicU64,
    /// How long probes took that succeeded.
    pub(super) probes: Histogram,
}

impl Work {
    /// Nothing to do so far.
    pub(super) fn new(
        network: Network,
        address: OnionAddress,
        credentials: Arc<Credentials>,
        fetches: Fetches,
    ) -> Self {
        Self {
            links: Links::new(network.clone(), Arc::clone(&credentials), address),
            network,
            address,
            signer: Signer::new(Arc::clone(&credentials)),
            credentials,
            answers: fetches.listen(),
            fetches,
            remote: BTreeMap::new(),
            probe: None,
            tasks: JoinSet::new(),
            tally: Arc::default(),
        }
    }

    /// What has come of uploads and probes, now and later.
    pub(super) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// The backends are these from now on, and are probed like this.
    pub(super) fn apply(&mut self, settings: &BalancerSettings, probe: Option<Probe>) {
        let remote = |kind: &BackendPlace| match kind {
            BackendPlace::Remote { address } => Some(*address),
            BackendPlace::Local { .. } => None,
        };
        let backends = settings.backends.iter();
        self.remote = backends.filter_map(|b| Some((b.id, remote(&b.kind)?))).collect();
        let wanted = settings.links != onionbraid_balancer::LinkPolicy::Never;
        self.links.keep(|id| wanted && self.remote.contains_key(&id));
        self.probe = probe;
    }

    /// What came of the next command that has ended; never returns while nothing
    /// is under way. Nothing is lost if it is dropped before.
    pub(super) async fn next(&mut self) -> Fact {
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(fact) => return fact,
                    // The balancer waits no longer than for any lost answer.
                    Err(error) => tracing::error!(%error, "a command of the balancer panicked"),
                },
                fact = self.links.next() => return fact,
                answer = self.answers.recv() => match answer {
                    Ok(answer) => if let Some(fact) = self.fetched(&answer) {
                        return fact;
                    },
                    Err(error) => tracing::debug!(%error, "answers to fetches were lost"),
                },
            }
        }
    }

    /// One match for every command.
    pub(super) fn carry_out(&mut self, command: Command, instances: &Instances) {
        match command {
            Command::Fetch { backend } => self.fetch(backend),
            Command::Probe { backend, point, work } => {
                self.probe(backend, point, work, instances.counters(backend));
            }
            Command::Prove { backend, point, work } => self.prove(backend, point, work),
            Command::Dial { backend, points, work } => {
                if let Some(address) = self.remote.get(&backend) {
                    self.links.dial(backend, *address, points, work);
                }
            }
            Command::Replace { backend, session } => instances.replace(backend, session),
            Command::Renew { backend } => instances.renew(backend),
            Command::Inspect { period, hsdir } => self.inspect(period, hsdir),
            Command::Publish(publication) => self.publish(&publication),
        }
    }

    /// Tells backends with a control link what has become of their points.
    pub(super) fn tell_standing(&mut self, balancer: &Balancer) {
        self.links.tell_standing(balancer);
    }

    /// Asks for the descriptor of a remote backend, for all services that list it.
    fn fetch(&self, backend: BackendId) {
        if let Some(address) = self.remote.get(&backend) {
            self.fetches.fetch(*address);
        }
    }

    /// What an answer for all services says of a backend of this one.
    fn fetched(&self, answer: &FetchEnd) -> Option<Fact> {
        let mut backends = self.remote.iter();
        let (backend, _) = backends.find(|(_, address)| **address == answer.address)?;
        Some(Fact::Fetched { backend: *backend, outcome: answer.outcome.as_ref().clone() })
    }

    /// Does what a client would do at a point: at one of a remote backend to the
    /// end that the operator wants, at one of ours until it is met. What is
    /// behind ours, `origins` sees without Tor; `local` is what the instance
    /// counts, which may have heard the introduction and not got through to us.
    fn probe(
        &mut self,
        backend: BackendId,
        point: IntroPoint,
        work: Option<OwnWork>,
        local: Option<Arc<Counters>>,
    ) {
        let toil = work.map(|work| self.toil(work));
        let own = self.remote.get(&backend).copied();
        let probe = self.probe.as_ref().filter(|_| own.is_some());
        let request = |probe: &Probe| {
            Some(Request::new(&self.address, probe.port, probe.path.clone()?, probe.status))
        };
        let question = ProbeQuestion {
            address: self.address,
            backend: own,
            port: probe.map(|probe| probe.port),
            request: probe.and_then(request),
        };
        let (network, tally) = (self.network.clone(), self.tally());
        let began = now().monotonic;
        self.tasks.spawn(async move {
            let asked = probe::probe_with_work(&network, &point, &question, toil.as_ref());
            let outcome = asked.await.verdict.outcome();
            if outcome.is_ok() {
                tally.probes.observe(now().monotonic.saturating_duration_since(began));
            }
            let session = point.session_id;
            let arrived = local.is_some_and(|local| local.heard.since(session, began));
            Fact::Probed { backend, session, outcome: in_view_of(outcome, arrived) }
        });
    }

    /// Introduces ourselves as a client of the address that has done work; what is behind
    /// the backend is not asked for.
    fn prove(&mut self, backend: BackendId, point: IntroPoint, work: OwnWork) {
        let question =
            ProbeQuestion { address: self.address, backend: None, port: None, request: None };
        let (network, toil) = (self.network.clone(), self.toil(work));
        self.tasks.spawn(async move {
            let tried = probe::probe_with_work(&network, &point, &question, Some(&toil)).await;
            Fact::Proved { backend, outcome: tried.verdict.outcome() }
        });
    }

    fn toil(&self, work: OwnWork) -> Toil {
        Toil { credentials: Arc::clone(&self.credentials), work }
    }

    /// Asks one HSDir for our own descriptor.
    fn inspect(&mut self, period: Period, hsdir: RelayId) {
        let (network, address) = (self.network.clone(), self.address);
        let signer = self.signer.clone();
        self.tasks.spawn(async move {
            let (outcome, signed) = held::one(&network, &address, period, hsdir, now().wall).await;
            let counted_to =
                signed.and_then(|revision| signer.counted_to(period, revision, &network));
            Fact::Inspected { period, hsdir, outcome, signed, counted_to }
        });
    }

    /// Builds and signs here, uploads in a task of its own.
    fn publish(&mut self, publication: &Publication) {
        let Publication { period, hsdir, as_of, .. } = *publication;
        let signed = self.signer.sign(publication, &self.network);
        let (network, tally) = (self.network.clone(), self.tally());
        self.tasks.spawn(async move {
            let outcome = match signed {
                Ok(signed) => {
                    upload::upload(&network, hsdir, signed.text).await.map(|()| signed.revision)
                }
                Err(error) => Err(UploadFailure::Unreachable(error.to_string())),
            };
            let counted =
                if outcome.is_ok() { &tally.uploads_accepted } else { &tally.uploads_failed };
            counted.fetch_add(1, Ordering::Relaxed);
            Fact::Uploaded { period, hsdir, as_of, outcome }
        });
    }
}

/// What a probe says of a point at which an introduction has `arrived` meanwhile:
/// the point works, and what failed is the way back, which is ours.
fn in_view_of(outcome: Result<(), ProbeFailure>, arrived: bool) -> Result<(), ProbeFailure> {
    match outcome {
        Err(ProbeFailure::Point(reason)) if arrived => Err(ProbeFailure::Inconclusive(format!(
            "{reason}, though introductions arrive at the point"
        ))),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_at_which_introductions_arrive_is_not_condemned_for_a_slow_way_back() {
        let silent = || Err(ProbeFailure::Point("no answer to the introduction".into()));
        assert_eq!(in_view_of(silent(), false), silent());
        let outcome = in_view_of(silent(), true);
        assert!(matches!(outcome, Err(ProbeFailure::Inconclusive(_))), "{outcome:?}");
        assert_eq!(in_view_of(Ok(()), true), Ok(()));
    }
}
