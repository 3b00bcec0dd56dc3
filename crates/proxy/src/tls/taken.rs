//! How much of what is encrypted has a client taken?
//!
//! TLS holds records back until they are sent whole. While one of them waits, nothing
//! is written above it, though a slow client may well take byte after byte of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a client has taken so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct TakenBytes(Arc<AtomicU64>);

impl TakenBytes {
    /// Whether there are more than were `seen`, which they are now.
    pub(crate) fn more_than(&self, seen: &mut u64) -> bool {
        let now = self.0.load(Relaxed);
        std::mem::replace(seen, now) != now
    }
}

/// A stream below TLS.
#[derive(Debug)]
pub(super) struct CountedStream<C> {
    stream: C,
    taken: TakenBytes,
}

impl<C> CountedStream<C> {
    pub(super) fn new(stream: C) -> Self {
        Self { stream, taken: TakenBytes::default() }
    }

    pub(super) fn taken(&self) -> TakenBytes {
        self.taken.clone()
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for CountedStream<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, space)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for CountedStream<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(length)) = &written {
            self.taken.0.fetch_add(*length as u64, Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
