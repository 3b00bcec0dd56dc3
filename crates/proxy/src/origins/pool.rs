//! The connections to one origin that serve one request at a time: who may use
//! which, how many there are, how long they wait for their next use.
//!
//! A slot is a connection in use. Idle ones have none, but there are never
//! more of both than `max_connections`: whoever connects closes the oldest
//! idle one if need be. All of HTTP/1 are here, and those of HTTP/2 that begin with
//! a PROXY line, which speaks for one client alone.
//!
//! A request can be made to last for as long as its client likes, so no circuit
//! gets all slots: beyond its share its requests wait as those of everybody wait
//! for a slot, and the slots that are left are not for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::timeout;

use super::connection::{Dialer, Sender, Wire};
use super::counts::{Client, InFlight};
use super::shared::{CheckoutError, SharedConnections, Stream, share_of_a_circuit};
use super::upload::UploadProgress;
use crate::clock::now;
use crate::pace::Pace;
use crate::settings::{OriginProtocol, OriginSettings};
use crate::shares::Shares;

/// The connections to one origin.
pub(super) struct Pool {
    dialer: Arc<Dialer>,
    keep_alive: Duration,
    idle_timeout: Duration,
    slots: Shares,
    /// Those that serve many requests at a time, in place of all that is here.
    shared: Option<Arc<SharedConnections>>,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// In the order in which their last use ended.
    idle: Vec<Idle>,
    /// Whether a task closes what has been idle for too long.
    reaping: bool,
}

/// A connection that waits for its next use.
struct Idle {
    sender: Sender,
    wire: Arc<Wire>,
    /// Whose it is alone, if it begins with a PROXY line.
    owner: Option<Client>,
    since: Instant,
}

/// A connection in use by one request; given back when it is dropped.
pub(super) struct Lease {
    pool: Arc<Pool>,
    sender: Option<Sender>,
    wire: Arc<Wire>,
    owner: Option<Client>,
    /// Whether it has served others, and may have died in the meantime.
    reused: bool,
    /// Its stream, on a connection that is shared.
    stream: Option<Arc<Stream>>,
    /// The body of the request.
    upload: Option<UploadProgress>,
    /// Whether the connection serves nobody afterwards.
    last: bool,
}

impl Pool {
    /// Without any connection yet.
    pub(super) fn new(dialer: Dialer, settings: &OriginSettings) -> Self {
        let (slots, dialer) = (settings.max_connections.max(1), Arc::new(dialer));
        let is_shared = dialer.protocol == OriginProtocol::Http2 && dialer.proxy_protocol.is_none();
        Self {
            keep_alive: settings.keep_alive,
            idle_timeout: settings.idle_timeout,
            slots: Shares::new(slots, share_of_a_circuit(slots), dialer.within),
            shared: is_shared
                .then(|| Arc::new(SharedConnections::new(Arc::clone(&dialer), settings))),
            dialer,
            state: Mutex::default(),
        }
    }

    /// How its connections are made. One for a check takes no slot: a busy origin
    /// is well.
    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// A connection for a request of this client's. One that has to be `fresh`
    /// has served nobody before the call.
    pub(super) async fn checkout(
        self: &Arc<Self>,
        client: Client,
        pace: &Pace,
        fresh: bool,
    ) -> Result<Lease, CheckoutError> {
        if let Some(shared) = &self.shared {
            let (sender, stream) = shared.checkout(client.circuit, pace).await?;
            let (wire, reused) = (Arc::clone(stream.wire()), stream.reused());
            return Ok(self.lease(sender, wire, None, reused, Some(stream)));
        }
        let owner = self.dialer.proxy_protocol.map(|_| client);
        let slot = self.slots.take_for(client.circuit, pace).await.ok_or(CheckoutError::Busy)?;
        let (reused, (sender, wire)) = match self.take_idle(owner, fresh) {
            Some(idle) => (true, idle),
            None => (false, self.dialer.http(owner).await.map_err(Arc::new)?),
        };
        wire.hold_slot(slot);
        Ok(self.lease(sender, wire, owner, reused, None))
    }

    fn lease(
        self: &Arc<Self>,
        sender: Sender,
        wire: Arc<Wire>,
        owner: Option<Client>,
        reused: bool,
        stream: Option<Arc<Stream>>,
    ) -> Lease {
        let (pool, sender) = (Arc::clone(self), Some(sender));
        Lease { pool, sender, wire, owner, reused, stream, upload: None, last: false }
    }

    /// The idle connection that was used last, for it is the likeliest to
    /// live; without one, room is made for a new one.
    fn take_idle(&self, owner: Option<Client>, fresh: bool) -> Option<(Sender, Arc<Wire>)> {
        let mut state = self.state.lock();
        let expired = now().checked_sub(self.keep_alive);
        state.idle.retain(|idle| {
            let unwanted = fresh && idle.owner == owner;
            !unwanted && !idle.sender.is_closed() && expired.is_none_or(|time| idle.since > time)
        });
        let usable = |idle: &Idle| idle.owner == owner && idle.sender.is_ready();
        if let Some(found) = state.idle.iter().rposition(usable) {
            let idle = state.idle.remove(found);
            return Some((idle.sender, idle.wire));
        }
        let too_many = state.idle.len().saturating_sub(self.slots.left());
        state.idle.drain(..too_many);
        None
    }

    /// Takes a connection back, ready for its next use.
    fn keep(self: &Arc<Self>, sender: Sender, wire: Arc<Wire>, owner: Option<Client>) {
        if self.keep_alive.is_zero() {
            return;
        }
        let slot = wire.take_slot();
        let mut state = self.state.lock();
        state.idle.push(Idle { sender, wire, owner, since: now() });
        let reaping = std::mem::replace(&mut state.reaping, true);
        drop(state);
        // Only now, so that who waits for the slot finds the connection.
        drop(slot);
        if !reaping {
            self.dialer.tasks.reap(self, |pool| pool.close_expired());
        }
    }

    /// Closes what has been idle for too long; when to look again.
    fn close_expired(&self) -> Option<Instant> {
        let now = now();
        let mut state = self.state.lock();
        let until = |idle: &Idle| idle.since + self.keep_alive;
        state.idle.retain(|idle| until(idle) > now && !idle.sender.is_closed());
        let next = state.idle.iter().map(until).min();
        state.reaping = next.is_some();
        next
    }
}

impl Lease {
    /// Sends the one request that the lease is for.
    pub(super) fn sender(&mut self) -> Option<&mut Sender> {
        self.sender.as_mut()
    }

    /// The stream of the request, on a connection that is shared.
    pub(super) fn stream(&self) -> Option<Arc<Stream>> {
        self.stream.clone()
    }

    /// Whether it served others before.
    pub(super) fn reused(&self) -> bool {
        self.reused
    }

    /// Whether all that arrives on it is for this request.
    pub(super) fn is_http1(&self) -> bool {
        matches!(self.sender, Some(Sender::Http1(_)))
    }

    /// The bytes that have arrived on it.
    pub(super) fn received(&self) -> u64 {
        self.wire.received()
    }

    /// It is dead, or not to be trusted: nobody else shall get it.
    pub(super) fn discard(mut self) {
        if let Some(stream) = &self.stream {
            stream.discard();
        }
        self.sender = None;
    }

    /// The body of the request is on its way.
    pub(super) fn sends(&mut self, upload: UploadProgress) {
        self.upload = Some(upload);
    }

    /// After this request the connection is closed: the origin may take what came, or
    /// what it has yet to say, for something else than this proxy does.
    pub(super) fn is_the_last(&mut self) {
        self.last = true;
    }

    /// The connection was upgraded, and is the request's for as long as it is open.
    pub(super) fn upgraded(mut self, in_flight: InFlight) {
        self.wire.hold_in_flight(in_flight);
        // It takes no further request, whatever hyper says in this moment.
        self.sender = None;
    }
}

impl Drop for Lease {
    /// With the answer the request is over. A body that goes on is broken off: what
    /// an origin gets after its answer, it may take for the next request, at which
    /// nobody here has looked. Or hyper closes the connection, since its response was
    /// not read to the end; an origin that does not move would make that last for ever.
    fn drop(&mut self) {
        let (tasks, within) = (&self.pool.dialer.tasks, self.pool.idle_timeout);
        let unsent = self.upload.take().filter(|upload| !upload.has_ended());
        if let Some(upload) = &unsent {
            upload.abandon();
        }
        if self.stream.is_some() {
            return;
        }
        let Some(mut sender) = self.sender.take() else { return };
        if unsent.is_some() && matches!(sender, Sender::Http1(_)) {
            return self.wire.give_up();
        }
        let (wire, owner, last) = (Arc::clone(&self.wire), self.owner, self.last);
        if sender.is_ready() && !last {
            return self.pool.keep(sender, wire, owner);
        }
        let pool = Arc::downgrade(&self.pool);
        tasks.spawn(async move {
            let over = async {
                if last {
                    drop(sender);
                    wire.closed().await;
                } else if !sender.ready().await {
                    wire.closed().await;
                } else if let Some(pool) = pool.upgrade() {
                    pool.keep(sender, Arc::clone(&wire), owner);
                }
            };
            if timeout(within, over).await.is_err() {
                wire.give_up();
            }
        });
    }
}
