//! The local instances of one service: started, changed, taken out of use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::config::{ServiceConfig, Shutdown};
use crate::instance::{Counters, Defence, Handle, Instance, LIMITS, Prepared, RelaysInUse, Serve};
use crate::tor::network::Network;
use crate::tor::subcredentials::Subcredentials;
use onionbraid_balancer::fact::{BackendId, Fact};
use onionbraid_balancer::onion::SessionId;
use onionbraid_balancer::operator::Word;
use onionbraid_balancer::{BackendPlace, BalancerSettings};

use super::drain::{Drain, DrainStep};
use super::file_handles::FileHandles;
use super::guards::{self, GuardsInUse};
use super::settings;
use super::state::StateDir;

/// What every instance of a service needs.
pub(super) struct InstanceParts {
    /// Circuits and directory.
    pub(super) network: Network,
    /// What introductions to accept.
    pub(super) subcredentials: Arc<Subcredentials>,
    /// Who serves their streams.
    pub(super) serve: Arc<dyn Serve>,
    /// Orders introductions, while clients are asked for work.
    pub(super) defence: Arc<Defence>,
    /// Where their points are told.
    pub(super) told: mpsc::Sender<Fact>,
    /// What their clients may take.
    pub(super) file_handles: FileHandles,
}

/// The local instances.
pub(super) struct Instances {
    shared: InstanceParts,
    /// Which relays have a point of theirs.
    relays_in_use: Arc<RelaysInUse>,
    /// Those that run, the ones on their way out among them.
    running: BTreeMap<BackendId, RunningInstance>,
    /// Them at work.
    tasks: JoinSet<()>,
}

/// One that runs.
struct RunningInstance {
    /// As status shows it.
    name: String,
    handle: Handle,
    counters: Arc<Counters>,
    task: AbortHandle,
    /// Since it was taken out.
    drain: Option<Drain>,
    /// Whether it answers introductions; the operator may have it stop.
    answers: bool,
    /// When it stops, once clients no longer find its points.
    stops_at: Option<Instant>,
    /// At whose guards its circuits begin.
    guards: GuardsInUse,
}

/// Which part of its limits one uses. Where introductions are ordered, those rendezvous
/// count that are under way at all instances `together`, which then share one limit.
fn part_used(counters: &Counters, together: Option<u64>) -> f64 {
    let part = |used: u64, limit: u64| used as f64 / limit as f64;
    let rendezvous = together.unwrap_or_else(|| counters.rendezvous_under_way.load(Relaxed));
    let circuits = counters.open_circuits.load(Relaxed);
    part(rendezvous, LIMITS.rendezvous).max(part(circuits, LIMITS.circuits))
}

/// One has ended that nobody has told to.
#[derive(Debug, thiserror::Error)]
#[error("a local instance has ended unexpectedly")]
pub(super) struct Unexpected;

impl Instances {
    /// None so far.
    pub(super) fn new(shared: InstanceParts) -> Self {
        Self {
            shared,
            relays_in_use: Arc::default(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Starts those that are new, tells the others what the operator wants now,
    /// and begins to take out those that are gone from the settings.
    pub(super) fn apply(
        &mut self,
        config: &ServiceConfig,
        settings: &BalancerSettings,
        state: Option<&StateDir>,
        times: Shutdown,
        now: Instant,
    ) {
        let local = |kind: &BackendPlace| matches!(kind, BackendPlace::Local { .. });
        let wanted: BTreeMap<BackendId, &str> = settings
            .backends
            .iter()
            .filter(|backend| local(&backend.kind))
            .map(|backend| (backend.id, backend.name.as_str()))
            .collect();
        for (id, instance) in &mut self.running {
            if !wanted.contains_key(id) && instance.drain.is_none() {
                tracing::info!(service = %config.nickname, backend = instance.name, "local instance removed; draining");
                instance.drain = Some(Drain::begin(times, now));
            }
        }
        for (id, name) in wanted {
            match self.running.get(&id) {
                Some(instance) => {
                    let settings =
                        settings::of_instance(config, name, None, &self.shared.file_handles);
                    instance.handle.reconfigure(settings);
                }
                None => self.start(id, name, config, state),
            }
        }
    }

    /// Starts one.
    fn start(
        &mut self,
        id: BackendId,
        name: &str,
        config: &ServiceConfig,
        state: Option<&StateDir>,
    ) {
        // One of the same name may be on its way out, with its directory.
        let taken = self.running.values().any(|other| other.name == name);
        let keep_in = state.filter(|_| !taken).and_then(|state| state.of_instance(name));
        let directory = state.map(|state| state.of_guards(name));
        let (network, guards) = guards::network(&self.shared.network, config, name, directory);
        let Prepared { instance, handle, counters, mut points } = Instance::prepare(
            settings::of_instance(config, name, keep_in, &self.shared.file_handles),
            network.clone(),
            Arc::clone(&self.shared.subcredentials),
            Arc::clone(&self.relays_in_use),
            Arc::clone(&self.shared.serve),
            Arc::clone(&self.shared.defence),
        );
        let told = self.shared.told.clone();
        let own_guards = match &guards {
            GuardsInUse::Own(set) => Some(Arc::clone(set)),
            GuardsInUse::Shared | GuardsInUse::Missing(_) => None,
        };
        let tell_points = async move {
            while points.changed().await.is_ok() {
                let points = points.borrow_and_update().clone();
                let capabilities = network.local_capabilities();
                let fact = Fact::LocalPoints { backend: id, points, capabilities };
                if told.send(fact).await.is_err() {
                    break;
                }
            }
        };
        let task = self.tasks.spawn(async move {
            if let Some(guards) = own_guards {
                guards.ready().await;
            }
            tokio::join!(instance.run(), tell_points);
        });
        let name = name.to_owned();
        self.running.insert(
            id,
            RunningInstance {
                name,
                handle,
                counters,
                task,
                drain: None,
                answers: true,
                stops_at: None,
                guards,
            },
        );
    }

    /// At whose guards the circuits of each begin, by their names; of two with one name,
    /// what the newer one does.
    pub(super) fn guards(&self) -> BTreeMap<String, GuardsInUse> {
        let guards = |it: &RunningInstance| (it.name.clone(), it.guards.clone());
        self.running.values().map(guards).collect()
    }

    /// What one has heard of its clients.
    pub(super) fn counters(&self, id: BackendId) -> Option<Arc<Counters>> {
        self.running.get(&id).map(|instance| Arc::clone(&instance.counters))
    }

    /// What all of them count, by their names; where one has the name of another
    /// that is on its way out, what the newer one does.
    pub(super) fn all_counters(&self) -> BTreeMap<String, Arc<Counters>> {
        let counters =
            |instance: &RunningInstance| (instance.name.clone(), Arc::clone(&instance.counters));
        self.running.values().map(counters).collect()
    }

    /// A point of one hangs.
    pub(super) fn replace(&self, id: BackendId, session: SessionId) {
        if let Some(instance) = self.running.get(&id) {
            instance.handle.replace(session);
        }
    }

    /// Somebody who knows the points of one must no longer reach it.
    pub(super) fn renew(&self, id: BackendId) {
        if let Some(instance) = self.running.get(&id) {
            instance.handle.renew();
        }
    }

    /// Has each answer introductions or not, as the operator's `word` on it wants:
    /// one in maintenance stops at once, one that is drained a while after clients
    /// no longer find its points. When to call it again at the latest.
    pub(super) fn heed(
        &mut self,
        word: impl Fn(BackendId) -> Word,
        may_be_found: impl Fn(BackendId) -> bool,
        grace: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let mut wake: Option<Instant> = None;
        for (id, instance) in &mut self.running {
            let answers = match word(*id) {
                Word::Ready => {
                    instance.stops_at = None;
                    true
                }
                Word::Maintenance => false,
                Word::Drain => {
                    if instance.stops_at.is_none() && !may_be_found(*id) {
                        instance.stops_at = Some(now + grace);
                    }
                    instance.stops_at.is_none_or(|at| now < at)
                }
            };
            wake = wake.into_iter().chain(instance.stops_at.filter(|at| now < *at)).min();
            if answers != instance.answers {
                instance.answers = answers;
                instance.handle.answer(answers);
            }
        }
        wake
    }

    /// Goes on with taking out; `may_be_found` says of an instance whether
    /// clients may find its points. When to call it again at the latest.
    pub(super) fn take_out(
        &mut self,
        may_be_found: impl Fn(BackendId) -> bool,
        now: Instant,
    ) -> Option<Instant> {
        let mut wake: Option<Instant> = None;
        for (id, instance) in &mut self.running {
            let Some(drain) = &mut instance.drain else { continue };
            let out = !may_be_found(*id);
            loop {
                match drain.step(out, now) {
                    DrainStep::Finish => instance.handle.finish(),
                    DrainStep::Wait(until) => {
                        wake = wake.into_iter().chain([until]).min();
                        break;
                    }
                    DrainStep::Drop => {
                        instance.task.abort();
                        break;
                    }
                }
            }
        }
        wake
    }

    /// Tells all of them to finish.
    pub(super) fn finish(&mut self) {
        for instance in self.running.values() {
            instance.handle.finish();
        }
    }

    /// Streams of clients that are open.
    pub(super) fn open_streams(&self) -> u64 {
        self.running.values().map(|instance| instance.counters.open_streams.load(Relaxed)).sum()
    }

    /// Which part of their limits they use, those together that have most room: clients
    /// that are not met at one are met at another.
    pub(super) fn used(&self) -> f64 {
        let together = self.shared.defence.rendezvous_together();
        let serving = self.running.values().filter(|it| it.drain.is_none() && it.answers);
        let used = serving.map(|it| part_used(&it.counters, together));
        used.min_by(f64::total_cmp).unwrap_or_default()
    }

    /// Whether none runs any more.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for the end of one; for ever, if none runs. What one that was taken
    /// out has kept is forgotten.
    pub(super) async fn ended(
        &mut self,
        all_are_to: bool,
        state: Option<&StateDir>,
    ) -> Result<(), Unexpected> {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => of_task(&error),
            None => std::future::pending().await,
        };
        let found = self.running.iter().find(|(_, instance)| instance.task.id() == id);
        let Some(backend) = found.map(|(backend, _)| *backend) else { return Ok(()) };
        let Some(instance) = self.running.remove(&backend) else { return Ok(()) };
        if instance.drain.is_some() {
            let back = self.running.values().any(|other| other.name == instance.name);
            if let Some(state) = state.filter(|_| !back) {
                state.forget_instance(&instance.name);
            }
            return Ok(());
        }
        if all_are_to { Ok(()) } else { Err(Unexpected) }
    }
}

/// Which task has not ended well. One that was dropped is told like that too.
fn of_task(error: &JoinError) -> Id {
    if error.is_panic() {
        tracing::error!(%error, "a local instance has panicked");
    }
    error.id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_full_by_the_limit_that_it_shares_while_introductions_are_ordered() {
        let counters = Counters::default();
        counters.rendezvous_under_way.store(LIMITS.rendezvous / 4, Relaxed);
        assert!((part_used(&counters, None) - 0.25).abs() < 0.01);
        assert!(part_used(&counters, Some(LIMITS.rendezvous)) >= 1.0);
        counters.open_circuits.store(LIMITS.circuits / 2, Relaxed);
        assert!((part_used(&counters, Some(0)) - 0.5).abs() < 0.01);
    }
}
