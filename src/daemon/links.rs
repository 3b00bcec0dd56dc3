//! The control links that a service holds to its backends, as its publisher: one task
//! each, started when the balancer wants to dial, and ended with the backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tor_hscrypto::time::TimePeriod;

use crate::clock::now;
use crate::link::dial::Dial;
use crate::tor::credentials::Credentials;
use crate::tor::hsdirs::from_arti;
use crate::tor::network::Network;
use crate::tor::puzzles::AddressPuzzles;
use onionbraid_balancer::Balancer;
use onionbraid_balancer::fact::{BackendId, DialFailure, Fact, LinkNews};
use onionbraid_balancer::link::{GivenSeed, Standing, WorkOrder};
use onionbraid_balancer::onion::{IntroPoint, OnionAddress};
use onionbraid_balancer::pow::{Effort, OwnWork, SeedSlot};

/// News of one link that may wait.
const NEWS: usize = 4;
/// Facts of all links that may wait.
const FACTS: usize = 64;

/// The links of one service.
pub(super) struct Links {
    network: Network,
    credentials: Arc<Credentials>,
    frontend: OnionAddress,
    /// The seeds of the address, ...
    puzzles: AddressPuzzles,
    /// ... and those that backends were given last.
    given: Option<GivenSeeds>,
    held: BTreeMap<BackendId, KeptLink>,
    /// Each dials once, and tells what comes of it.
    tasks: JoinSet<()>,
    told: mpsc::Sender<Fact>,
    facts: mpsc::Receiver<Fact>,
}

/// The seeds that were given for a time period and slots.
struct GivenSeeds {
    of: (TimePeriod, Vec<SeedSlot>),
    /// With which keys.
    version: u64,
    seeds: Vec<GivenSeed>,
}

/// A link, or the attempt to have one.
struct KeptLink {
    /// `None` until a report has come: the backend takes what is not in an order for taken back.
    standing: watch::Sender<Option<(u64, Standing)>>,
    task: AbortHandle,
}

impl Links {
    /// None so far.
    pub(super) fn new(
        network: Network,
        credentials: Arc<Credentials>,
        frontend: OnionAddress,
    ) -> Self {
        let (told, facts) = mpsc::channel(FACTS);
        let (held, tasks) = (BTreeMap::new(), JoinSet::new());
        let (puzzles, given) = (AddressPuzzles::of(&credentials), None);
        Self { network, credentials, frontend, puzzles, given, held, tasks, told, facts }
    }

    /// Dials a backend in place of any link that there was to it.
    pub(super) fn dial(
        &mut self,
        id: BackendId,
        backend: OnionAddress,
        points: Vec<IntroPoint>,
        work: Option<OwnWork>,
    ) {
        let (standing, watched) = watch::channel(None);
        let dial = Dial {
            network: self.network.clone(),
            credentials: Arc::clone(&self.credentials),
            frontend: self.frontend,
            backend,
            points,
            work,
            standing: watched,
        };
        let task = self.tasks.spawn(tell(id, dial, self.told.clone()));
        if let Some(before) = self.held.insert(id, KeptLink { standing, task }) {
            before.task.abort();
        }
    }

    /// Ends those to other backends than these.
    pub(super) fn keep(&mut self, wanted: impl Fn(BackendId) -> bool) {
        self.held.retain(|id, held| {
            let stays = wanted(*id);
            if !stays {
                held.task.abort();
            }
            stays
        });
    }

    /// Tells each backend what has become of its points, and what it takes to verify the
    /// work of clients.
    pub(super) fn tell_standing(&mut self, balancer: &Balancer) {
        if self.held.is_empty() {
            return;
        }
        let work = balancer.asked().map(|puzzle| self.work_order(puzzle.effort));
        for (id, held) in &self.held {
            let Some((heard, standing)) = balancer.standing(*id) else { continue };
            let standing = Some((heard, Standing { work: work.clone(), ..standing }));
            held.standing.send_if_modified(|told| {
                let is_new = *told != standing;
                *told = standing;
                is_new
            });
        }
    }

    /// What clients are asked for, with the seeds of now.
    fn work_order(&mut self, effort: Effort) -> WorkOrder {
        if let Ok(directory) = self.network.directory() {
            let current = directory.hs_time_period();
            let slots = self.puzzles.slots_given(now().wall);
            let version = self.credentials.version();
            let of = (current, slots.clone());
            let is_other = |given: &GivenSeeds| given.of != of || given.version != version;
            if self.given.as_ref().is_none_or(is_other) {
                let periods = [current.prev(), Some(current), current.next()];
                let periods: Vec<_> = periods.into_iter().flatten().map(from_arti).collect();
                let seeds = self.puzzles.given(&periods, &slots);
                self.given = Some(GivenSeeds { of, version, seeds });
            }
        }
        let seeds = self.given.as_ref().map(|given| given.seeds.clone()).unwrap_or_default();
        WorkOrder { effort, seeds }
    }

    /// The next thing that happens to one of them. Nothing is lost if it is dropped
    /// before.
    pub(super) async fn next(&mut self) -> Fact {
        loop {
            tokio::select! {
                Some(fact) = self.facts.recv() => return fact,
                Some(ended) = self.tasks.join_next() => if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a control link panicked");
                },
            }
        }
    }
}

/// Dials, and tells everything that comes of it as facts, in its order; also that
/// the link is gone if it panics.
async fn tell(backend: BackendId, dial: Dial, told: mpsc::Sender<Fact>) {
    let (news, mut heard) = mpsc::channel(NEWS);
    let mut link = JoinSet::new();
    link.spawn(dial.run(news));
    while let Some(news) = heard.recv().await {
        if told.send(Fact::Link { backend, news }).await.is_err() {
            return;
        }
    }
    let lost = || LinkNews::NotDialled(DialFailure::Inconclusive("the link panicked".into()));
    let news = match link.join_next().await {
        Some(Ok(news)) => news,
        _ => lost(),
    };
    // Nobody wants to know only when everything ends.
    let _ = told.send(Fact::Link { backend, news }).await;
}
