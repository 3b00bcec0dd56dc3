//! One connection to an origin, below HTTP: what has arrived on it, and what is
//! held for as long as it is open.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::counts::InFlight;
use crate::origin::Connection;
use crate::shares::Share;

/// What is known of a connection by those who do not hold it.
#[derive(Debug, Default)]
pub(super) struct Wire {
    received: AtomicU64,
    held: Mutex<Held>,
    given_up: Notify,
    closed: Notify,
}

/// What ends with the connection at the latest, also if it was upgraded and
/// somebody else holds it now.
#[derive(Debug, Default)]
struct Held {
    slot: Option<Share>,
    in_flight: Option<InFlight>,
}

impl Wire {
    /// The bytes that have arrived on it.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// It is used now, and takes one of the connections that there may be.
    pub(super) fn hold_slot(&self, slot: Share) {
        self.held().slot = Some(slot);
    }

    /// It is no longer used; who takes the slot gives it back.
    pub(super) fn take_slot(&self) -> Option<Share> {
        self.held().slot.take()
    }

    /// A request that has become the connection itself.
    pub(super) fn hold_in_flight(&self, in_flight: InFlight) {
        self.held().in_flight = Some(in_flight);
    }

    /// Whatever is still to be sent or read, nobody waits for it any more.
    pub(super) fn give_up(&self) {
        self.given_up.notify_one();
    }

    /// Waits until somebody gives it up. For one waiter.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Waits until it is closed. For one waiter.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection itself, for hyper.
pub(super) struct Wired {
    connection: Connection,
    wire: Arc<Wire>,
}

impl Wired {
    /// Whatever goes through `connection` is told to `wire`.
    pub(super) fn new(connection: Connection, wire: Arc<Wire>) -> Self {
        Self { connection, wire }
    }
}

impl Drop for Wired {
    fn drop(&mut self) {
        let held = std::mem::take(&mut *self.wire.held());
        drop(held);
        self.wire.closed.notify_one();
    }
}

impl AsyncRead for Wired {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.connection).poll_read(context, buffer);
        let read = (buffer.filled().len() - before) as u64;
        self.wire.received.fetch_add(read, Ordering::Relaxed);
        result
    }
}

impl AsyncWrite for Wired {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
