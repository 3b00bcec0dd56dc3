//! The connections to an origin of HTTP/2 that all clients share: how many there
//! are, and who gets a stream on them.
//!
//! A stream is what is scarce: the origin says how many it takes on a connection.
//! Each goes to the circuit that has fewest (`shares`), so that hyper never has to
//! queue a request: its queue knows neither circuits nor bounds. Where a request
//! waits for want of streams, a task opens one more connection, as long as there
//! are fewer streams than `max_connections`; nobody waits for it but for a stream.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::timeout;

use super::connection::{DialError, Dialer, Sender, Wire};
use super::upload::Upload;
use crate::clock::now;
use crate::pace::Pace;
use crate::settings::{OriginSettings, STREAMS_OF_A_CIRCUIT};
use crate::shares::{Share, Shares};

/// How often a request waits for a stream if its connection ends just when it gets
/// one: an origin could end every connection at once.
const MOST_TRIES: usize = 8;

/// Connections that one circuit gets where there are enough: what one
/// connection of HTTP/2 may have under way, and some more.
const SLOTS_OF_A_CIRCUIT: usize = 128;

/// What a browser has that speaks HTTP/1, as Tor Browser does without TLS.
const SLOTS_OF_A_BROWSER: usize = 6;

/// Why a request gets no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckoutError {
    /// All of them are in use, or all streams of those that are shared, and
    /// none became free in time.
    #[error("all connections are in use")]
    Busy,
    /// None can be made.
    #[error(transparent)]
    Dial(#[from] Arc<DialError>),
}

/// How many of so many connections to an origin one circuit may have in use: an
/// eighth of many, half of few, and of very few enough for a browser, as long as
/// one is left.
pub(super) fn share_of_a_circuit(all: usize) -> usize {
    let browser = SLOTS_OF_A_BROWSER.min(all.saturating_sub(1)).max(1);
    (all / 8).max(SLOTS_OF_A_CIRCUIT).min(all.div_ceil(2).max(browser))
}

/// The connections to one origin.
pub(super) struct SharedConnections {
    dialer: Arc<Dialer>,
    most: usize,
    keep_alive: Duration,
    streams: Shares,
    state: Mutex<ConnectionsState>,
    /// Why the last connection could not be made, for those who wait for one.
    failed: watch::Sender<Option<Arc<DialError>>>,
}

#[derive(Default)]
struct ConnectionsState {
    /// In the order in which they were made.
    open: Vec<SharedConnection>,
    /// Whether one more is being made.
    opening: bool,
    /// Whether a task closes what has been idle for too long.
    reaping: bool,
}

/// A connection.
struct SharedConnection {
    sender: http2::SendRequest<Upload>,
    wire: Arc<Wire>,
    /// Streams in use.
    used: usize,
    /// Whether it has served a request, and may have died in the meantime.
    reused: bool,
    /// Whether it gets no more requests.
    retired: bool,
    /// When it was last in use.
    since: Instant,
}

/// One stream of such a connection; given back when this is dropped.
pub(super) struct Stream {
    connections: Weak<SharedConnections>,
    wire: Arc<Wire>,
    /// Whether the connection has served others before.
    reused: bool,
    share: Option<Share>,
}

impl SharedConnection {
    /// How many streams there are on it.
    fn streams(&self) -> usize {
        if self.retired { self.used } else { self.wire.streams() }
    }

    fn is_over(&self) -> bool {
        self.used == 0 && (self.retired || self.sender.is_closed())
    }
}

impl SharedConnections {
    /// Without any yet.
    pub(super) fn new(dialer: Arc<Dialer>, settings: &OriginSettings) -> Self {
        Self {
            streams: Shares::new(0, share(settings.max_connections), dialer.within),
            dialer,
            most: settings.max_connections,
            keep_alive: settings.keep_alive,
            state: Mutex::default(),
            failed: watch::Sender::new(None),
        }
    }

    /// A stream for a request of this circuit.
    pub(super) async fn checkout(
        self: &Arc<Self>,
        circuit: u64,
        pace: &Pace,
    ) -> Result<(Sender, Arc<Stream>), CheckoutError> {
        for _ in 0..MOST_TRIES {
            let mut failed = self.failed.subscribe();
            let taking = self.streams.take_or(circuit, pace, || self.open_for_those_who_wait());
            let share = tokio::select! {
                biased;
                share = taking => share.ok_or_else(|| self.nothing_in_time())?,
                Ok(()) = failed.changed() => match &*failed.borrow() {
                    Some(error) => return Err(CheckoutError::Dial(Arc::clone(error))),
                    None => continue,
                },
            };
            // The connection may have gone in this very moment.
            if let Some(found) = self.join(share) {
                return Ok(found);
            }
        }
        Err(CheckoutError::Dial(Arc::new(DialError::Ended)))
    }

    /// Why a request has waited enough.
    fn nothing_in_time(&self) -> CheckoutError {
        match self.state.lock().open.is_empty() {
            true => CheckoutError::Dial(Arc::new(DialError::Slow(self.dialer.within))),
            false => CheckoutError::Busy,
        }
    }

    /// A stream of a connection that has one.
    fn join(self: &Arc<Self>, share: Share) -> Option<(Sender, Arc<Stream>)> {
        let mut state = self.state.lock();
        let open = state.open.iter_mut().find(|it| !it.retired && it.used < it.wire.streams());
        let Some(open) = open.filter(|open| !open.sender.is_closed()) else {
            for open in state.open.iter_mut().filter(|open| open.sender.is_closed()) {
                open.retired = true;
            }
            self.recount(state);
            drop(share);
            return None;
        };
        open.used += 1;
        let reused = std::mem::replace(&mut open.reused, true);
        let sender = Sender::Http2(open.sender.clone());
        let (connections, wire) = (Arc::downgrade(self), Arc::clone(&open.wire));
        Some((sender, Arc::new(Stream { connections, wire, reused, share: Some(share) })))
    }

    /// Has one more connection made if requests wait for want of streams.
    fn open_for_those_who_wait(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let usable = state.open.iter().filter(|open| !open.retired);
        let streams = usable.fold(0, |sum: usize, open| sum.saturating_add(open.streams()));
        let full = state.open.len() >= self.most || streams >= self.most;
        if state.opening || full || !self.streams.are_short() {
            return;
        }
        state.opening = true;
        drop(state);
        let (connections, dialer) = (Arc::downgrade(self), Arc::clone(&self.dialer));
        self.dialer.tasks.spawn(async move {
            let made = dialer.http(None).await;
            drop(dialer);
            if let Some(connections) = connections.upgrade() {
                connections.opened(made);
            }
        });
    }

    fn opened(self: &Arc<Self>, made: Result<(Sender, Arc<Wire>), DialError>) {
        let mut state = self.state.lock();
        state.opening = false;
        match made {
            Ok((Sender::Http2(sender), wire)) => {
                let (connections, watched) = (Arc::downgrade(self), Arc::clone(&wire));
                let (since, used_within) = (now(), self.keep_alive.max(self.dialer.within));
                let open = SharedConnection {
                    sender,
                    wire,
                    used: 0,
                    reused: false,
                    retired: false,
                    since,
                };
                state.open.push(open);
                self.recount(state);
                self.dialer.tasks.spawn(async move {
                    let retire = |which: fn(&SharedConnection) -> bool| {
                        let Some(connections) = connections.upgrade() else { return };
                        connections.retire(|it| Arc::ptr_eq(&it.wire, &watched) && which(it));
                    };
                    // Those who waited for it may all have gone.
                    if timeout(used_within, watched.closed()).await.is_err() {
                        retire(|open| !open.reused);
                        watched.closed().await;
                    }
                    retire(|_| true);
                });
                // One may not be enough.
                self.open_for_those_who_wait();
            }
            Ok(_) => {}
            Err(error) => {
                let none = state.open.iter().all(|open| open.retired);
                drop(state);
                if none {
                    self.failed.send_replace(Some(Arc::new(error)));
                }
            }
        }
    }

    /// Gives these no further requests.
    fn retire(self: &Arc<Self>, which: impl Fn(&SharedConnection) -> bool) {
        let mut state = self.state.lock();
        state.open.iter_mut().filter(|open| which(open)).for_each(|open| open.retired = true);
        self.recount(state);
        self.open_for_those_who_wait();
    }

    /// Counts the streams anew, of connections that are still of use.
    fn recount(&self, mut state: MutexGuard<'_, ConnectionsState>) {
        let over = state.open.extract_if(.., |open| open.is_over()).collect::<Vec<_>>();
        let all = state.open.iter().fold(0, |sum: usize, open| sum.saturating_add(open.streams()));
        self.streams.resize(all, share(all.max(self.most)));
        drop(state);
        drop(over);
    }

    /// A stream has ended.
    fn leave(self: &Arc<Self>, wire: &Arc<Wire>) {
        let mut state = self.state.lock();
        let Some(open) = state.open.iter_mut().find(|open| Arc::ptr_eq(&open.wire, wire)) else {
            return;
        };
        open.used -= 1;
        open.since = now();
        let idle = open.used == 0;
        self.recount(state);
        if idle {
            self.open_for_those_who_wait();
            self.reap();
        }
    }

    /// Sees to it that idle connections are closed in time.
    fn reap(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.state.lock().reaping, true) {
            self.dialer.tasks.reap(self, |connections| connections.close_expired());
        }
    }

    /// Retires what has been idle for too long; when to look again.
    fn close_expired(&self) -> Option<Instant> {
        let now = now();
        let mut state = self.state.lock();
        let until = |open: &SharedConnection| open.since + self.keep_alive;
        // Those for whom a new one was made may not have come yet.
        let mut next = None;
        for open in state.open.iter_mut().filter(|open| open.used == 0 && open.reused) {
            open.retired |= until(open) <= now;
            next = next.into_iter().chain((!open.retired).then(|| until(open))).min();
        }
        state.reaping = next.is_some();
        self.recount(state);
        next
    }
}

/// How many of so many streams one circuit gets.
fn share(all: usize) -> usize {
    share_of_a_circuit(all).min(STREAMS_OF_A_CIRCUIT.into())
}

impl Stream {
    /// What is known of its connection.
    pub(super) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    /// Whether its connection has served others before.
    pub(super) fn reused(&self) -> bool {
        self.reused
    }

    /// The connection has died, and may not be the only one: all that there are
    /// get no further requests.
    pub(super) fn discard(&self) {
        let Some(connections) = self.connections.upgrade() else { return };
        let here = |open: &SharedConnection| !open.retired && Arc::ptr_eq(&open.wire, &self.wire);
        let is_in_use = connections.state.lock().open.iter().any(here);
        if is_in_use {
            connections.retire(|_| true);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(connections) = self.connections.upgrade() {
            connections.leave(&self.wire);
        }
        drop(self.share.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_circuit_never_gets_all_of_several_connections() {
        let shares = [1, 2, 3, 8, 16, 200, 256, 1024, 65_535].map(share_of_a_circuit);
        assert_eq!(shares, [1, 1, 2, 6, 8, 100, 128, 128, 8191]);
    }
}
