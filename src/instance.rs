//! A local instance: one onion service backend inside this process.
//!
//! It keeps introduction points at relays, answers the introductions that
//! arrive there with the subcredentials of the addresses it stands for, meets
//! the clients at their rendezvous points and hands their streams on. It has
//! no address and no descriptor of its own: it tells its points to whoever
//! watches them, and the balancer braids them in.
//!
//! An introduction goes from `intro`, the circuit to a relay, to `running`, the loop
//! of the instance; `rendezvous` meets its client, and `streams` are what the client
//! opens then. `plan`, `replay` and `limits` are pure and say what to do;
//! `kept` lets a next process go on with the same points. `defence` orders what
//! arrives at all instances of a service, while clients are asked for work.

mod activity;
mod counters;
mod defence;
#[cfg(feature = "pow")]
mod examiner;
mod fair_queue;
mod heard;
mod intro;
mod kept;
mod limits;
mod plan;
mod relays;
mod rendezvous;
mod replay;
mod replay_file;
mod room;
mod running;
mod streams;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::tor::network::Network;
use crate::tor::subcredentials::Subcredentials;
use onionbraid_balancer::onion::{IntroPoint, SessionId};

pub use activity::Counting;
pub use counters::{Counters, Dropped, Failed};
pub use defence::{Defence, DefenceSettings, DefenceStatus};
pub(crate) use defence::{PublishersSay, Verified};
#[cfg(feature = "pow")]
#[doc(hidden)]
pub use examiner::Examiner;
pub use heard::Heard;
use kept::{Keeper, Restored};
pub use relays::RelaysInUse;
pub use streams::{CircuitHandle, CircuitNumber, ClientStream, Serve};

/// What an instance needs to know of itself.
#[derive(Clone, Debug)]
pub struct InstanceSettings {
    /// Its name, for the log.
    pub name: String,
    /// How many introduction points to keep.
    pub intro_points: usize,
    /// Streams that one circuit may have open; one more closes the circuit.
    pub max_streams_per_circuit: usize,
    /// Whether a circuit that wants more is closed, or only refused them.
    pub max_streams_close_circuit: bool,
    /// Introductions per second, and in a burst, that relays shall let through.
    pub rate_limit_at_intro: Option<(u32, u32)>,
    /// Where the introduction points outlive the process: a directory of this
    /// instance's own that exists and that only its owner can read. `None`: the
    /// points end with the process.
    pub keep_in: Option<PathBuf>,
}

/// What one instance can bear at a time.
#[derive(Clone, Copy, Debug)]
pub struct InstanceLimits {
    /// Introductions a second that it looks at.
    pub introductions_per_s: u64,
    /// Introductions that wait to be looked at.
    pub waiting: u64,
    /// The same at each of its points, while they are ordered by work.
    pub waiting_at_point: u64,
    /// Rendezvous under way.
    pub rendezvous: u64,
    /// Circuits of clients.
    pub circuits: u64,
}

/// The limits of every instance.
pub const LIMITS: InstanceLimits = InstanceLimits {
    introductions_per_s: limits::INTRODUCTIONS_PER_SECOND as u64,
    waiting: limits::INTRODUCTION_QUEUE as u64,
    waiting_at_point: limits::TO_DECRYPT as u64,
    rendezvous: limits::RENDEZVOUS_AT_ONCE,
    circuits: limits::CLIENTS_AT_ONCE as u64,
};

/// A local instance, ready to run.
pub struct Instance {
    /// See [`InstanceSettings`].
    settings: InstanceSettings,
    /// Circuits and directory.
    network: Network,
    /// What introductions to accept.
    subcredentials: Arc<Subcredentials>,
    /// Which relays the service's instances use already.
    relays_in_use: Arc<RelaysInUse>,
    /// Who serves the streams.
    serve: Arc<dyn Serve>,
    /// Orders introductions, while clients are asked for work.
    defence: Arc<Defence>,
    /// See [`Counters`].
    counters: Arc<Counters>,
    /// Where the points are told.
    points: watch::Sender<Vec<IntroPoint>>,
    /// What the handle asks for.
    orders: mpsc::UnboundedReceiver<InstanceOrder>,
    /// Sees to it that points outlive the process.
    keeper: Option<Keeper>,
    /// The points of an earlier process.
    kept: Vec<Restored>,
}

/// An instance, and what others need to deal with it.
pub struct Prepared {
    /// To be run.
    pub instance: Instance,
    /// Tells it what to change.
    pub handle: Handle,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// The points that clients should be told of.
    pub points: watch::Receiver<Vec<IntroPoint>>,
}

/// Tells a local instance what to change. It can be cloned, and does nothing
/// when the instance has ended.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The operator and the balancer give orders, never clients: few.
    orders: mpsc::UnboundedSender<InstanceOrder>,
}

/// What to change.
#[derive(Debug)]
enum InstanceOrder {
    /// See [`Handle::replace`].
    Replace(SessionId),
    /// See [`Handle::renew`].
    Renew,
    /// See [`Handle::reconfigure`].
    Reconfigure(InstanceSettings),
    /// See [`Handle::answer`].
    Answer(bool),
    /// See [`Handle::finish`].
    Finish,
}

impl Instance {
    /// An instance that does nothing until it is run, save that it reads which
    /// points an earlier process kept, and marks their relays as used: the
    /// instances of a service are prepared one after the other, before any of
    /// them chooses a relay.
    pub(crate) fn prepare(
        settings: InstanceSettings,
        network: Network,
        subcredentials: Arc<Subcredentials>,
        relays_in_use: Arc<RelaysInUse>,
        serve: Arc<dyn Serve>,
        defence: Arc<Defence>,
    ) -> Prepared {
        let (points, watched) = watch::channel(Vec::new());
        let (orders, received) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let (keeper, kept) = match settings.keep_in.clone().map(Keeper::open) {
            Some((keeper, kept)) => (Some(keeper), kept),
            None => (None, Vec::new()),
        };
        kept.iter().for_each(|point| relays_in_use.mark(point.life.relay));
        let instance = Self {
            settings,
            network,
            subcredentials,
            relays_in_use,
            serve,
            defence,
            counters: Arc::clone(&counters),
            points,
            orders: received,
            keeper,
            kept,
        };
        Prepared { instance, handle: Handle { orders }, counters, points: watched }
    }
}

impl Handle {
    /// A point hangs: gives it up and establishes another one elsewhere. The
    /// old one is told until the new one stands, but no longer than some
    /// seconds. Points that the instance does not have are ignored.
    pub fn replace(&self, session: SessionId) {
        self.give(InstanceOrder::Replace(session));
    }

    /// Somebody who knows the points must no longer reach the instance: it
    /// establishes others, and gives the old ones up soon after those stand.
    pub fn renew(&self) {
        self.give(InstanceOrder::Renew);
    }

    /// Other settings. Points are added, or surplus ones retire; the limits
    /// hold for circuits and points from now on. The name and where points are
    /// kept stay as they were.
    pub fn reconfigure(&self, settings: InstanceSettings) {
        self.give(InstanceOrder::Reconfigure(settings));
    }

    /// Answers introductions or, until it is told to again, drops them: what is
    /// open goes on, and its points stay established.
    pub fn answer(&self, answers: bool) {
        self.give(InstanceOrder::Answer(answers));
    }

    /// Takes no new clients: the circuits to the introduction points are
    /// closed, streams that are open go on, and [`Instance::run`] returns when
    /// the last client has gone. What was told of the points stays told, and
    /// kept ones stay kept: the next process goes on with them.
    pub fn finish(&self) {
        self.give(InstanceOrder::Finish);
    }

    fn give(&self, order: InstanceOrder) {
        // An instance that has ended has nothing to change.
        let _ = self.orders.send(order);
    }
}
