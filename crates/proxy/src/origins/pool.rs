//! The connections to one origin: who may use which, how many there are, how
//! long they wait for their next use.
//!
//! A slot is a connection in use. Idle ones have none, but there are never
//! more of both than `max_connections`: whoever connects closes the oldest
//! idle one if need be. Over HTTP/2 all clients share one connection, unless
//! it begins with a PROXY line, which speaks for one client alone. There they
//! enter one after the other: hyper has a queue for those that the origin has no
//! stream for, which knows no bounds and keeps also those whose client has gone.
//!
//! A request can be made to last for as long as its client likes, so no circuit
//! gets all slots, or all streams: beyond its share its requests wait as those
//! of everybody wait for a slot, and the slots that are left are not for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Client;
use super::counts::InFlight;
use super::dial::{DialError, Dialer};
use super::opening::{Opening, opening};
use super::sender::Sender;
use super::tasks::Tasks;
use super::upload::Upload;
use super::wire::Wire;
use crate::clock::{now, sleep_until};
use crate::pace::Pace;
use crate::settings::{OriginProtocol, OriginSettings, ProxyProtocol, STREAMS_OF_A_CIRCUIT};
use crate::shares::{Share, Shares};

/// Connections that one circuit gets where there are enough: what one
/// connection of HTTP/2 may have under way, and some more.
const SLOTS_OF_A_CIRCUIT: usize = 128;

/// What a browser has that speaks HTTP/1, as Tor Browser does without TLS.
const SLOTS_OF_A_BROWSER: usize = 6;

/// The connections to one origin.
pub(super) struct Pool {
    dialer: Dialer,
    proxy_protocol: Option<ProxyProtocol>,
    keep_alive: Duration,
    idle_timeout: Duration,
    slots: Shares,
    /// The requests on the connection that all share.
    streams: Shares,
    state: Mutex<State>,
    /// Held by the one who makes the connection that all share.
    connecting: tokio::sync::Mutex<()>,
    tasks: Arc<Tasks>,
}

#[derive(Default)]
struct State {
    /// In the order in which their last use ended.
    idle: Vec<Idle>,
    shared: Option<Shared>,
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

/// The HTTP/2 connection that all share.
struct Shared {
    sender: http2::SendRequest<Upload>,
    wire: Arc<Wire>,
    /// For one request at a time, until it has a stream.
    entrance: Arc<Semaphore>,
    requests: usize,
    /// When it was last in use.
    since: Instant,
}

/// Why a request gets no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckoutError {
    /// All of them are in use, or all streams of the one that is shared, and
    /// none became free in time.
    #[error("all connections are in use")]
    Busy,
    /// None can be made.
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// A connection in use by one request; given back when it is dropped.
pub(super) struct Lease {
    pool: Arc<Pool>,
    sender: Option<Sender>,
    wire: Arc<Wire>,
    owner: Option<Client>,
    /// Whether it has served others, and may have died in the meantime.
    reused: bool,
    /// The entrance of the connection that all share.
    shared: Option<Arc<Semaphore>>,
    /// What it takes of the client's share of that connection.
    _stream: Option<Share>,
    /// Whether the connection serves nobody afterwards.
    last: bool,
}

impl Pool {
    /// Without any connection yet.
    pub(super) fn new(dialer: Dialer, settings: &OriginSettings) -> Self {
        let (slots, within) = (settings.max_connections.max(1), dialer.within);
        Self {
            dialer,
            proxy_protocol: settings.proxy_protocol,
            keep_alive: settings.keep_alive,
            idle_timeout: settings.idle_timeout,
            slots: Shares::new(slots, slots_of_a_circuit(slots), within),
            streams: Shares::new(usize::MAX, STREAMS_OF_A_CIRCUIT.into(), within),
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            tasks: Arc::default(),
        }
    }

    /// How its connections are made.
    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// A connection for a check, which takes no slot: a busy origin is well.
    pub(super) async fn for_check(&self) -> Result<Sender, DialError> {
        let opening = opening(self.proxy_protocol, Opening::Check);
        Ok(self.dialer.http(&opening, &Arc::downgrade(&self.tasks)).await?.0)
    }

    /// What begins the connection of a check that asks nothing.
    pub(super) fn opening_of_check(&self) -> Vec<u8> {
        opening(self.proxy_protocol, Opening::Check)
    }

    /// A connection for a request of this client's. One that has to be `fresh`
    /// has served nobody before the call.
    pub(super) async fn checkout(
        self: &Arc<Self>,
        client: Client,
        pace: &Pace,
        fresh: bool,
    ) -> Result<Lease, CheckoutError> {
        let owner = self.proxy_protocol.map(|_| client);
        if owner.is_none() && self.dialer.protocol == OriginProtocol::Http2 {
            return self.checkout_shared(client, pace).await;
        }
        let slot = self.slots.take_for(client.circuit, pace).await.ok_or(CheckoutError::Busy)?;
        if let Some((sender, wire)) = self.take_idle(owner, fresh) {
            wire.hold_slot(slot);
            return Ok(self.lease(sender, wire, owner, true));
        }
        let (sender, wire) = self.dial(owner).await?;
        wire.hold_slot(slot);
        Ok(self.lease(sender, wire, owner, false))
    }

    async fn checkout_shared(
        self: &Arc<Self>,
        client: Client,
        pace: &Pace,
    ) -> Result<Lease, CheckoutError> {
        let stream = self.streams.take_for(client.circuit, pace).await;
        let stream = stream.ok_or(CheckoutError::Busy)?;
        let mut lease = self.shared().await?;
        lease._stream = Some(stream);
        Ok(lease)
    }

    /// Gives up requests that are too slow while one of this circuit waits for a
    /// stream: how many the origin has, hyper tells nobody. Never ends.
    pub(super) async fn make_room(&self, circuit: u64) {
        self.streams.make_room(circuit).await;
    }

    async fn shared(self: &Arc<Self>) -> Result<Lease, CheckoutError> {
        if let Some(lease) = self.join_shared() {
            return Ok(lease);
        }
        let connecting = timeout(self.dialer.within, self.connecting.lock());
        let _connecting = connecting.await.map_err(|_| DialError::Slow(self.dialer.within))?;
        // Somebody else may have connected while this one waited.
        if let Some(lease) = self.join_shared() {
            return Ok(lease);
        }
        let slot = self.slots.take_for_all().await.ok_or(CheckoutError::Busy)?;
        let (sender, wire) = self.dial(None).await?;
        wire.hold_slot(slot);
        let mut lease = self.lease(sender, wire, None, false);
        if let Some(Sender::Http2(sender)) = &lease.sender {
            let (sender, wire) = (sender.clone(), Arc::clone(&lease.wire));
            let entrance = Arc::new(Semaphore::new(1));
            lease.shared = Some(Arc::clone(&entrance));
            let since = now();
            self.state().shared = Some(Shared { sender, wire, entrance, requests: 1, since });
        }
        Ok(lease)
    }

    fn join_shared(self: &Arc<Self>) -> Option<Lease> {
        let mut state = self.state();
        let shared = state.shared.as_mut().filter(|shared| !shared.sender.is_closed())?;
        shared.requests += 1;
        let (sender, wire) = (Sender::Http2(shared.sender.clone()), Arc::clone(&shared.wire));
        let entrance = Arc::clone(&shared.entrance);
        let mut lease = self.lease(sender, wire, None, true);
        lease.shared = Some(entrance);
        Some(lease)
    }

    async fn dial(&self, owner: Option<Client>) -> Result<(Sender, Arc<Wire>), DialError> {
        let opening = match owner {
            Some(client) => opening(self.proxy_protocol, Opening::Client(client)),
            None => Vec::new(),
        };
        self.dialer.http(&opening, &Arc::downgrade(&self.tasks)).await
    }

    fn lease(
        self: &Arc<Self>,
        sender: Sender,
        wire: Arc<Wire>,
        owner: Option<Client>,
        reused: bool,
    ) -> Lease {
        let pool = Arc::clone(self);
        let (shared, _stream, last) = (None, None, false);
        Lease { pool, sender: Some(sender), wire, owner, reused, shared, _stream, last }
    }

    /// The idle connection that was used last, for it is the likeliest to
    /// live; without one, room is made for a new one.
    fn take_idle(&self, owner: Option<Client>, fresh: bool) -> Option<(Sender, Arc<Wire>)> {
        let mut state = self.state();
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
        self.state().idle.push(Idle { sender, wire, owner, since: now() });
        // Only now, so that who waits for the slot finds the connection.
        drop(slot);
        self.reap();
    }

    /// A request on the shared connection is over.
    fn leave(self: &Arc<Self>, wire: &Arc<Wire>) {
        let mut state = self.state();
        if let Some(shared) = state.shared.as_mut().filter(|it| Arc::ptr_eq(&it.wire, wire)) {
            shared.requests -= 1;
            shared.since = now();
            drop(state);
            self.reap();
        }
    }

    /// No further requests on the shared connection, if it is this one.
    fn discard_shared(&self, wire: &Arc<Wire>) {
        let mut state = self.state();
        let found = state.shared.take_if(|shared| Arc::ptr_eq(&shared.wire, wire));
        drop(state);
        drop(found);
    }

    /// Sees to it that idle connections are closed in time.
    fn reap(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().reaping, true) {
            return;
        }
        let pool = Arc::downgrade(self);
        Tasks::spawn(&Arc::downgrade(&self.tasks), async move {
            loop {
                let Some(next) = pool.upgrade().and_then(|pool| pool.close_expired()) else {
                    return;
                };
                sleep_until(Some(next)).await;
            }
        });
    }

    /// Closes what has been idle for too long; when to look again.
    fn close_expired(&self) -> Option<Instant> {
        let now = now();
        let mut state = self.state();
        let until = |since: Instant| since + self.keep_alive;
        state.idle.retain(|idle| until(idle.since) > now && !idle.sender.is_closed());
        state
            .shared
            .take_if(|it| it.sender.is_closed() || (it.requests == 0 && until(it.since) <= now));
        let shared = state.shared.as_ref().filter(|shared| shared.requests == 0);
        let oldest = state.idle.iter().map(|idle| idle.since);
        let next = oldest.chain(shared.map(|shared| shared.since)).min().map(until);
        state.reaping = next.is_some();
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of so many connections to an origin one circuit may have in use: an
/// eighth of many, half of few, and of very few enough for a browser, as long as
/// one is left.
fn slots_of_a_circuit(all: usize) -> usize {
    let browser = SLOTS_OF_A_BROWSER.min(all.saturating_sub(1)).max(1);
    (all / 8).max(SLOTS_OF_A_CIRCUIT).min(all.div_ceil(2).max(browser))
}

impl Lease {
    /// Waits for its turn on a connection that others begin requests on too.
    /// The permit goes with the request, until that has begun.
    pub(super) async fn entrance(&self) -> Result<Option<OwnedSemaphorePermit>, CheckoutError> {
        let Some(entrance) = &self.shared else { return Ok(None) };
        match timeout(self.pool.dialer.within, Arc::clone(entrance).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(CheckoutError::Busy),
        }
    }

    /// Sends the one request that the lease is for.
    pub(super) fn sender(&mut self) -> Option<&mut Sender> {
        self.sender.as_mut()
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
        self.pool.discard_shared(&self.wire);
        self.sender = None;
    }

    /// After this request the connection is closed: an origin that was asked for
    /// another protocol may be about to speak it, whatever it has answered.
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
    fn drop(&mut self) {
        if self.shared.is_some() {
            return self.pool.leave(&self.wire);
        }
        let Some(mut sender) = self.sender.take() else { return };
        let (wire, owner, last) = (Arc::clone(&self.wire), self.owner, self.last);
        if sender.is_ready() && !last {
            return self.pool.keep(sender, wire, owner);
        }
        // The body of the request may still be on its way, or hyper closes the
        // connection since its response was not read to the end. Nobody watches
        // either any more, and an origin that does not read would make it last
        // for ever.
        let (pool, within) = (Arc::downgrade(&self.pool), self.pool.idle_timeout);
        Tasks::spawn(&Arc::downgrade(&self.pool.tasks), async move {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_circuit_never_gets_all_of_several_connections() {
        let shares = [1, 2, 3, 8, 16, 200, 256, 1024, 65_535].map(slots_of_a_circuit);
        assert_eq!(shares, [1, 1, 2, 6, 8, 100, 128, 128, 8191]);
    }
}
