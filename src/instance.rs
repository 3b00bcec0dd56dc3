//! A local instance: one onion service backend inside this process.
//!
//! It keeps introduction points at relays, answers the introductions that
//! arrive there with the subcredentials of the addresses it stands for, meets
//! the clients at their rendezvous points and hands their streams on. It has
//! no address and no descriptor of its own: it tells its points to whoever
//! watches them, and the balancer braids them in.
//!
//! `plan` and `replay` are pure and say what to do; this file does it.

mod intro;
mod plan;
mod relays;
mod rendezvous;
mod replay;
mod streams;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::{now, sleep_until};
use crate::onion::IntroPoint;
use crate::tor::network::Network;
use crate::tor::subcredentials::Subcredentials;

use intro::{Introduction, PointKeys, Session};
use plan::{Action, Plan, SlotId};
pub use relays::RelaysInUse;
use replay::ReplayLog;
pub use streams::{Circuit, ClientStream, Serve};

/// Introductions that may wait to be looked at. More are dropped, as C tor
/// drops them: the relay cannot be told to slow down.
const INTRODUCTION_QUEUE: usize = 512;

/// Rendezvous that may be under way at a time. Each builds a circuit, which
/// costs a few tens of kilobytes and a public key operation for every hop.
const RENDEZVOUS_AT_ONCE: usize = 256;

/// What an instance needs to know of itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name, for the log.
    pub name: String,
    /// How many introduction points to keep.
    pub intro_points: usize,
    /// Streams that one circuit may have open; one more closes the circuit.
    pub max_streams_per_circuit: usize,
    /// Introductions per second, and in a burst, that relays shall let through.
    pub rate_limit_at_intro: Option<(u32, u32)>,
}

/// What an instance has done so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Introductions that arrived, replays not counted.
    pub introductions: AtomicU64,
    /// Introductions that did not become a rendezvous.
    pub rendezvous_failed: AtomicU64,
    /// Rendezvous with negotiated congestion control.
    pub congestion_controlled: AtomicU64,
    /// Streams that clients opened.
    pub streams: AtomicU64,
}

/// A local instance, ready to run.
pub struct Instance {
    /// See [`Settings`].
    settings: Settings,
    /// Circuits and directory.
    network: Network,
    /// What introductions to accept.
    subcredentials: Arc<Subcredentials>,
    /// Which relays the service's instances use already.
    relays_in_use: Arc<RelaysInUse>,
    /// Who serves the streams.
    serve: Arc<dyn Serve>,
    /// See [`Counters`].
    counters: Arc<Counters>,
    /// Where the points are told.
    points: watch::Sender<Vec<IntroPoint>>,
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
    /// An instance that tells its points through the returned receiver.
    pub(crate) fn new(
        settings: Settings,
        network: Network,
        subcredentials: Arc<Subcredentials>,
        relays_in_use: Arc<RelaysInUse>,
        serve: Arc<dyn Serve>,
    ) -> (Self, Arc<Counters>, watch::Receiver<Vec<IntroPoint>>) {
        let (points, watched) = watch::channel(Vec::new());
        let counters = Arc::new(Counters::default());
        let instance = Self {
            settings,
            network,
            subcredentials,
            relays_in_use,
            serve,
            counters: Arc::clone(&counters),
            points,
        };
        (instance, counters, watched)
    }

    /// Runs until it is dropped. All circuits close with it.
    pub async fn run(self) -> Infallible {
        Running::new(self).run().await
    }
}

/// An instance at work.
struct Running {
    /// What runs.
    instance: Instance,
    /// Decides what to do about introduction points.
    plan: Plan,
    /// What stands behind each slot of the plan.
    slots: BTreeMap<SlotId, Point>,
    /// Attempts under way and circuits to watch.
    events: FuturesUnordered<BoxFuture<'static, SlotEvent>>,
    /// Where the points' circuits send what arrives.
    introductions: (mpsc::Sender<Introduction>, mpsc::Receiver<Introduction>),
    /// Clients being met or served.
    clients: JoinSet<()>,
    /// What the tasks of clients share.
    rendezvous: Arc<rendezvous::Context>,
}

/// One introduction point: its keys, the relay's circuit, and what it has seen.
struct Point {
    /// Made with the slot, kept over every new circuit to the same relay.
    keys: Arc<PointKeys>,
    /// Introductions seen with these keys.
    replays: ReplayLog,
    /// The circuit, while there is one.
    session: Option<Session>,
    /// How clients find it, once it was established.
    published_as: Option<IntroPoint>,
}

impl Running {
    /// Nothing is established yet.
    fn new(instance: Instance) -> Self {
        let rendezvous = Arc::new(rendezvous::Context {
            network: instance.network.clone(),
            subcredentials: Arc::clone(&instance.subcredentials),
            serve: Arc::clone(&instance.serve),
            counters: Arc::clone(&instance.counters),
            max_streams: instance.settings.max_streams_per_circuit,
            pending: tokio::sync::Semaphore::new(RENDEZVOUS_AT_ONCE),
        });
        Self {
            plan: Plan::new(instance.settings.intro_points),
            slots: BTreeMap::new(),
            events: FuturesUnordered::new(),
            introductions: mpsc::channel(INTRODUCTION_QUEUE),
            clients: JoinSet::new(),
            rendezvous,
            instance,
        }
    }

    /// Looks at everything, does what is due, waits for the next thing.
    async fn run(mut self) -> Infallible {
        let mut changes = self.instance.network.changes();
        loop {
            self.act();
            self.tell_points();
            let wake = self.plan.poll_timeout();
            tokio::select! {
                Some(introduction) = self.introductions.1.recv() => self.introduced(introduction),
                Some(event) = self.events.next() => self.slot_event(event),
                Some(_) = self.clients.join_next() => {}
                Some(()) = changes.next() => self.drop_unlisted(),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Does what the plan asks for.
    fn act(&mut self) {
        while let Some(action) = self.plan.poll_action(now().monotonic) {
            match action {
                Action::ChooseRelay => {
                    let relay = self.instance.relays_in_use.choose(
                        &self.instance.network,
                        &self.slots.keys().filter_map(|s| self.plan.relay(*s)).collect(),
                    );
                    let slot =
                        self.plan.relay_chosen(relay, now().monotonic, &mut crate::tor::rng());
                    if let Some(slot) = slot {
                        self.slots.insert(slot, Point::new());
                    }
                }
                Action::Establish(slot) => self.establish(slot),
                Action::Abandon(slot, relay) => {
                    self.slots.remove(&slot);
                    self.instance.relays_in_use.release(relay);
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
        let sink = intro::Sink { slot, queue: self.introductions.0.clone() };
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
                self.plan.established(slot);
            }
            SlotEvent::Attempted(slot, Err(error)) => {
                let relay = self.plan.relay(slot);
                tracing::debug!(instance = %name, ?slot, ?relay, error = %error, "no introduction point there");
                self.plan.failed(slot, now().monotonic, &mut crate::tor::rng());
            }
            SlotEvent::Closed(slot) => {
                let Some(point) = self.slots.get_mut(&slot) else { return };
                tracing::debug!(instance = %name, ?slot, "circuit to introduction point closed");
                point.session = None;
                self.plan.lost(slot, now().monotonic);
            }
        }
    }

    /// A client introduces itself: meet it, unless it is a replay.
    fn introduced(&mut self, introduction: Introduction) {
        let Some(point) = self.slots.get_mut(&introduction.slot) else { return };
        if !point.replays.is_new(introduction.digest()) {
            tracing::debug!("replayed introduction dropped");
            return;
        }
        tracing::debug!(instance = %self.instance.settings.name, slot = ?introduction.slot, "introduction");
        self.plan.introduced(introduction.slot);
        self.instance.counters.introductions.fetch_add(1, Ordering::Relaxed);
        let context = Arc::clone(&self.rendezvous);
        self.clients.spawn(rendezvous::meet(context, introduction, Arc::clone(&point.keys)));
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

    /// Tells the points that clients should use, if they have changed.
    fn tell_points(&self) {
        let points: Vec<IntroPoint> = self
            .plan
            .presentable(now().monotonic)
            .filter_map(|slot| self.slots.get(&slot)?.published_as.clone())
            .collect();
        self.instance.points.send_if_modified(|told| {
            let changed = *told != points;
            *told = points;
            changed
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for relay in self.slots.keys().filter_map(|slot| self.plan.relay(*slot)) {
            self.instance.relays_in_use.release(relay);
        }
    }
}

impl Point {
    /// A point with fresh keys and nothing seen.
    fn new() -> Self {
        Self {
            keys: Arc::new(PointKeys::generate()),
            replays: ReplayLog::default(),
            session: None,
            published_as: None,
        }
    }
}
