//! What does an instance at work do next?
//!
//! It carries out what `plan` asks for, passes on what clients ask for, and
//! follows the orders of its handle, one thing at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::counters::Counters;
use super::defence::{AdmittedIntroduction, Arrived};
use super::intro::{self, Introduction, PointKeys, Session};
use super::kept::{Keeper, Keepsake, Restored};
use super::limits::{Admission, CLIENTS_AT_ONCE, INTRODUCTION_QUEUE, Limit, RENDEZVOUS_AT_ONCE};
use super::plan::{Action, Plan, SlotId};
use super::replay::{Digest, ReplayLog};
use super::replay_file::ReplayFile;
use super::room::ClientCircuits;
use super::{Instance, InstanceOrder, InstanceSettings, relays, rendezvous};
use crate::causes;
use crate::clock::{now, sleep_until};
use onionbraid_balancer::fact::Now;
use onionbraid_balancer::onion::{IntroPoint, SessionId};

/// An instance at work.
pub(super) struct Running {
    /// What runs.
    instance: Instance,
    /// Decides what to do about introduction points.
    plan: Plan,
    /// What stands behind each slot of the plan.
    slots: BTreeMap<SlotId, RunningPoint>,
    /// Attempts under way and circuits to watch.
    events: FuturesUnordered<BoxFuture<'static, SlotEvent>>,
    /// Where the points' circuits send what arrives.
    introductions: (mpsc::Sender<Introduction>, mpsc::Receiver<Introduction>),
    /// Where those come back whose clients are to be met, while work is asked for.
    admitted: (mpsc::Sender<AdmittedIntroduction>, mpsc::Receiver<AdmittedIntroduction>),
    /// Clients being met or served.
    clients: JoinSet<()>,
    /// What the tasks of clients share.
    rendezvous: Arc<rendezvous::Context>,
    /// Sees to it that points outlive the process, if they are to.
    keeper: Option<Keeper>,
    /// Whether introductions are answered; the operator may have it stop.
    answers: bool,
}

/// One introduction point: its keys, the relay's circuit, and what it has seen.
struct RunningPoint {
    /// Made with the slot, kept over every new circuit to the same relay.
    keys: Arc<PointKeys>,
    /// Which introductions are looked at.
    admission: Admission,
    /// Introductions seen with these keys.
    replays: ReplayLog,
    /// The same for the next process; without it, the point ends with this one.
    replay_file: Option<ReplayFile>,
    /// The circuit, while there is one.
    session: Option<Session>,
    /// How clients find it, once it was established.
    published_as: Option<IntroPoint>,
}

/// What became of the work for one slot.
#[expect(clippy::large_enum_variant, reason = "events are few, and moved once")]
enum SlotEvent {
    /// The attempt to establish the point has ended.
    Attempted(SlotId, Result<Session, intro::IntroError>),
    /// The circuit to the introduction point has closed.
    Closed(SlotId),
}

impl Instance {
    /// Runs until it was told to finish and the last client has gone. Dropping
    /// the future ends it at once: all circuits close with it.
    pub async fn run(self) {
        Running::new(self).run().await;
    }
}

impl Running {
    /// Nothing is established yet, but what was kept is about to be.
    pub(super) fn new(mut instance: Instance) -> Self {
        let kept = std::mem::take(&mut instance.kept);
        let rendezvous = Arc::new(rendezvous::Context {
            network: instance.network.clone(),
            subcredentials: Arc::clone(&instance.subcredentials),
            serve: Arc::clone(&instance.serve),
            counters: Arc::clone(&instance.counters),
            max_streams: instance.settings.max_streams_per_circuit,
            close_beyond: instance.settings.max_streams_close_circuit,
            circuits: Arc::new(ClientCircuits::default()),
            finishing: CancellationToken::new(),
        });
        let mut running = Self {
            plan: Plan::new(instance.settings.intro_points),
            slots: BTreeMap::new(),
            events: FuturesUnordered::new(),
            introductions: mpsc::channel(INTRODUCTION_QUEUE),
            admitted: mpsc::channel(usize::try_from(RENDEZVOUS_AT_ONCE).unwrap_or(1)),
            clients: JoinSet::new(),
            rendezvous,
            keeper: instance.keeper.take(),
            answers: true,
            instance,
        };
        kept.into_iter().for_each(|point| running.restore(point));
        running.drop_unlisted();
        running
    }

    /// Goes on with a point of an earlier process, unless its time is over.
    fn restore(&mut self, kept: Restored) {
        let now = now();
        let Restored { keys, life, replays, file } = kept;
        match (self.plan.restore(life, now), &mut self.keeper) {
            (Some(slot), _) => {
                let point = RunningPoint { replays, ..RunningPoint::new(keys, Some(file)) };
                self.slots.insert(slot, point);
            }
            (None, keeper) => {
                self.instance.relays_in_use.release(life.relay);
                if let Some(keeper) = keeper {
                    keeper.forget(file, now.monotonic);
                }
            }
        }
    }

    /// Looks at everything, does what is due, waits for the next thing; until
    /// the instance is told to finish, then until its clients have gone.
    pub(super) async fn run(mut self) {
        let mut changes = self.instance.network.changes();
        loop {
            let now = now();
            self.act(now);
            self.tell_points(now);
            self.keep_points(now);
            let save_again = self.keeper.as_ref().and_then(Keeper::poll_timeout);
            let wake = self.plan.poll_timeout(now.monotonic).into_iter().chain(save_again).min();
            tokio::select! {
                Some(introduction) = self.introductions.1.recv() => self.introduced(introduction),
                Some(admitted) = self.admitted.1.recv() => self.admitted(admitted),
                Some(event) = self.events.next() => self.slot_event(event),
                Some(_) = self.clients.join_next() => {}
                Some(()) = changes.next() => self.drop_unlisted(),
                Some(order) = self.instance.orders.recv() => match order {
                    InstanceOrder::Replace(session) => self.replace(session),
                    InstanceOrder::Renew => self.plan.renew(now.monotonic),
                    InstanceOrder::Reconfigure(settings) => self.reconfigure(settings),
                    InstanceOrder::Answer(answers) => self.answers = answers,
                    InstanceOrder::Finish => break,
                },
                () = written(&mut self.keeper) => {}
                () = sleep_until(wake) => {}
            }
        }
        self.finish().await;
    }

    /// Does what the plan asks for.
    fn act(&mut self, now: Now) {
        while let Some(action) = self.plan.poll_action(now.monotonic) {
            match action {
                Action::ChooseRelay => {
                    let relay = self.instance.relays_in_use.choose(
                        &self.instance.network,
                        &self.slots.keys().filter_map(|s| self.plan.relay(*s)).collect(),
                    );
                    let slot = self.plan.relay_chosen(relay, now.monotonic, &mut crate::tor::rng());
                    if let Some(slot) = slot {
                        let keys = PointKeys::generate();
                        let keeper = self.keeper.as_mut();
                        let file = keeper.and_then(|keeper| keeper.new_log(&keys, now.monotonic));
                        self.slots.insert(slot, RunningPoint::new(keys, file));
                    }
                }
                Action::Establish(slot) => self.establish(slot),
                Action::Abandon(slot, relay) => {
                    self.instance.relays_in_use.release(relay);
                    let point = self.slots.remove(&slot);
                    if let Some(point) = &point {
                        self.instance.counters.heard.forget(point.keys.session_id());
                    }
                    let file = point.and_then(|point| point.replay_file);
                    if let (Some(keeper), Some(file)) = (&mut self.keeper, file) {
                        keeper.forget(file, now.monotonic);
                    }
                }
            }
        }
    }

    /// Starts one attempt to establish a point.
    fn establish(&mut self, slot: SlotId) {
        let (Some(point), Some(relay)) = (self.slots.get(&slot), self.plan.relay(slot)) else {
            return;
        };
        let network = self.instance.network.clone();
        let keys = Arc::clone(&point.keys);
        let sink = intro::Sink {
            slot,
            queue: self.introductions.0.clone(),
            counters: Arc::clone(&self.instance.counters),
        };
        let rate_limit = self.instance.settings.rate_limit_at_intro;
        self.events.push(Box::pin(async move {
            let outcome = intro::establish(&network, relay, &keys, rate_limit, sink).await;
            SlotEvent::Attempted(slot, outcome)
        }));
    }

    /// Takes in what became of an attempt or a circuit.
    fn slot_event(&mut self, event: SlotEvent) {
        let name = &self.instance.settings.name;
        match event {
            SlotEvent::Attempted(slot, Ok(session)) => {
                let Some(point) = self.slots.get_mut(&slot) else { return };
                tracing::debug!(instance = %name, ?slot, "introduction point established");
                let closed = session.closed();
                self.events.push(Box::pin(async move {
                    closed.await;
                    SlotEvent::Closed(slot)
                }));
                point.published_as = Some(session.point.clone());
                point.session = Some(session);
                self.plan.established(slot, now().monotonic);
            }
            SlotEvent::Attempted(slot, Err(error)) => {
                let relay = self.plan.relay(slot);
                tracing::debug!(instance = %name, ?slot, ?relay, error = %error, "no introduction point there");
                if causes::is_out_of_handles(&error) {
                    // That is our own trouble, and says nothing of the relay.
                    self.plan.postponed(slot, now().monotonic);
                } else {
                    self.plan.failed(slot, now().monotonic, &mut crate::tor::rng());
                }
            }
            SlotEvent::Closed(slot) => {
                let Some(point) = self.slots.get_mut(&slot) else { return };
                tracing::debug!(instance = %name, ?slot, "circuit to introduction point closed");
                point.session = None;
                self.plan.lost(slot, now().monotonic);
            }
        }
    }

    /// A client introduces itself: meet it, unless it is a replay or one too many.
    fn introduced(&mut self, introduction: Introduction) {
        let Some(point) = self.slots.get_mut(&introduction.slot) else { return };
        self.instance.counters.heard.at(point.keys.session_id(), now().monotonic);
        let digest = introduction.digest();
        if point.replays.has(digest) {
            // A relay that floods us with them wears its point out, and takes
            // nothing from those who come for the first time.
            tracing::debug!("replayed introduction dropped");
            self.instance.counters.replays.fetch_add(1, Ordering::Relaxed);
            self.plan.introduced(introduction.slot);
            return;
        }
        let counters = &self.instance.counters;
        if !self.answers {
            counters.dropped.operator.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.instance.defence.is_on() {
            self.instance.defence.examine(Arrived {
                introduction,
                digest,
                keys: Arc::clone(&point.keys),
                counters: Arc::clone(counters),
                back: self.admitted.0.clone(),
            });
            return;
        }
        let rendezvous = counters.rendezvous_under_way.load(Ordering::Relaxed);
        let now = now().monotonic;
        let is_full = self.clients.len() >= CLIENTS_AT_ONCE;
        if let Err(limit) = point.admission.admit(rendezvous, self.plan.wanted(), now) {
            counters.dropped(limit);
            return;
        }
        point.admission.take();
        let (slot, keys) = (introduction.slot, Arc::clone(&point.keys));
        self.record(slot, digest, now);
        let context = Arc::clone(&self.rendezvous);
        self.clients.spawn(rendezvous::meet(context, introduction, keys, is_full));
    }

    /// The turn of an introduction has come that waited with others: meet its
    /// client, unless it is the replay of one that did not wait any more.
    fn admitted(&mut self, admitted: AdmittedIntroduction) {
        let AdmittedIntroduction { slot, digest, opened, under_way } = admitted;
        let Some(point) = self.slots.get(&slot) else { return };
        if point.replays.has(digest) {
            tracing::debug!("replayed introduction dropped");
            self.instance.counters.replays.fetch_add(1, Ordering::Relaxed);
            self.plan.introduced(slot);
            return;
        }
        if !self.answers {
            self.instance.counters.dropped.operator.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_full = self.clients.len() >= CLIENTS_AT_ONCE;
        self.record(slot, digest, now().monotonic);
        let context = Arc::clone(&self.rendezvous);
        self.clients.spawn(rendezvous::meet_opened(context, opened, is_full, under_way));
    }

    /// Records an introduction, before anything is done about it that a replay
    /// would repeat.
    fn record(&mut self, slot: SlotId, digest: Digest, now: Instant) {
        let Some(point) = self.slots.get_mut(&slot) else { return };
        point.replays.add(digest);
        if let (Some(keeper), Some(file)) = (&mut self.keeper, &mut point.replay_file) {
            keeper.record(file, digest, now);
        }
        tracing::debug!(instance = %self.instance.settings.name, ?slot, "introduction");
        self.plan.introduced(slot);
        self.instance.counters.introductions.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up points at relays that the directory no longer lists.
    fn drop_unlisted(&mut self) {
        let listed = |relay| relays::is_listed(&self.instance.network, relay);
        let gone: Vec<SlotId> = self
            .slots
            .keys()
            .copied()
            .filter(|slot| self.plan.relay(*slot).is_some_and(|relay| !listed(relay)))
            .collect();
        for slot in gone {
            self.plan.unlisted(slot);
        }
    }

    /// Carries out [`InstanceOrder::Replace`].
    fn replace(&mut self, session: SessionId) {
        let mut slots = self.slots.iter();
        let slot = slots.find_map(|(slot, p)| (p.keys.session_id() == session).then_some(*slot));
        let Some(slot) = slot else { return };
        let relay = self.plan.relay(slot);
        // Whose point is at a relay, a log that is kept does not say.
        let instance = &self.instance.settings.name;
        tracing::debug!(%instance, ?relay, "introduction point unresponsive");
        tracing::info!(%instance, "introduction point unresponsive; replacing it");
        self.plan.replace(slot, now().monotonic);
    }

    /// Carries out [`InstanceOrder::Reconfigure`].
    fn reconfigure(&mut self, settings: InstanceSettings) {
        self.plan.want(settings.intro_points);
        self.instance.settings.rate_limit_at_intro = settings.rate_limit_at_intro;
        // Clients that are there already keep what held when they came.
        let context = rendezvous::Context {
            max_streams: settings.max_streams_per_circuit,
            close_beyond: settings.max_streams_close_circuit,
            ..self.rendezvous.as_ref().clone()
        };
        self.rendezvous = Arc::new(context);
    }

    /// Carries out [`InstanceOrder::Finish`].
    async fn finish(mut self) {
        loop {
            self.keep_points(now());
            if !self.keeper.as_ref().is_some_and(Keeper::is_writing) {
                break;
            }
            written(&mut self.keeper).await;
        }
        self.release_relays();
        self.slots.clear();
        self.events.clear();
        self.rendezvous.finishing.cancel();
        while self.clients.join_next().await.is_some() {}
    }

    /// Tells the points that clients should use, if they have changed.
    fn tell_points(&self, now: Now) {
        let points: Vec<IntroPoint> = self
            .plan
            .presentable(now.monotonic)
            .filter_map(|slot| self.slots.get(&slot)?.published_as.clone())
            .collect();
        self.instance.points.send_if_modified(|told| {
            let changed = *told != points;
            *told = points;
            changed
        });
    }

    /// Keeps the points that the next process is to go on with.
    fn keep_points(&mut self, now: Now) {
        let (plan, slots) = (&self.plan, &self.slots);
        let Some(keeper) = &mut self.keeper else { return };
        let points = slots.iter().filter_map(|(slot, point)| {
            point.replay_file.as_ref().filter(|file| file.is_complete())?;
            let life = plan.life(*slot, now)?;
            Some(Keepsake { keys: &point.keys, life, seen: point.replays.len() })
        });
        keeper.keep(points, now.monotonic);
    }

    /// Others may use the relays of this instance's points.
    fn release_relays(&self) {
        for relay in self.slots.keys().filter_map(|slot| self.plan.relay(*slot)) {
            self.instance.relays_in_use.release(relay);
        }
    }
}

impl Counters {
    /// An introduction was kept out.
    pub(super) fn dropped(&self, by: Limit) {
        let counter = match by {
            Limit::Rate => &self.dropped.rate,
            Limit::Rendezvous => &self.dropped.rendezvous,
            Limit::Circuits => &self.dropped.circuits,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.release_relays();
    }
}

impl RunningPoint {
    /// A point with these keys that has seen nothing.
    fn new(keys: PointKeys, replay_file: Option<ReplayFile>) -> Self {
        Self {
            keys: Arc::new(keys),
            admission: Admission::new(),
            replays: ReplayLog::default(),
            replay_file,
            session: None,
            published_as: None,
        }
    }
}

/// See [`Keeper::written`].
async fn written(keeper: &mut Option<Keeper>) {
    match keeper {
        Some(keeper) => keeper.written().await,
        None => std::future::pending().await,
    }
}
