//! How much a client's circuit has moved lately: cheap counting, done by its
//! streams as bytes pass.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::now;

/// Bytes are counted for this long, and remembered for as long again.
const WINDOW: Duration = Duration::from_mins(1);

/// What the streams of one circuit have moved. Several streams may count at the
/// same time; what is lost when a window ends meanwhile changes no decision.
#[derive(Debug)]
pub(super) struct CircuitActivity {
    /// All times are counted from here.
    began: Instant,
    /// When something moved last, in milliseconds.
    moved_at: AtomicU64,
    /// The window in which `bytes` were counted.
    window: AtomicU64,
    /// In that window.
    bytes: AtomicU64,
    /// In the window before it.
    bytes_before: AtomicU64,
    /// Whether the circuit makes room for nobody.
    is_kept: AtomicBool,
}

impl CircuitActivity {
    /// A circuit that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            moved_at: AtomicU64::new(0),
            window: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            bytes_before: AtomicU64::new(0),
            is_kept: AtomicBool::new(false),
        }
    }

    /// From now on the circuit makes room for nobody.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Relaxed);
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_kept.load(Relaxed)
    }

    /// So many bytes have passed, in either direction; or, with none, a stream
    /// has begun or ended.
    pub(super) fn moved(&self, bytes: usize, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        self.moved_at.fetch_max(millis(age), Relaxed);
        let window = age.as_secs() / WINDOW.as_secs();
        let before = self.window.swap(window, Relaxed);
        if before != window {
            let counted = self.bytes.swap(0, Relaxed);
            self.bytes_before.store(if before + 1 == window { counted } else { 0 }, Relaxed);
        }
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// For how long the circuit has been there.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// For how long nothing has moved.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        self.age(now).saturating_sub(Duration::from_millis(self.moved_at.load(Relaxed)))
    }

    /// The bytes that passed within the last one to two minutes.
    pub(super) fn lately(&self, now: Instant) -> u64 {
        let windows_ago =
            (self.age(now).as_secs() / WINDOW.as_secs()).saturating_sub(self.window.load(Relaxed));
        match windows_ago {
            0 => self.bytes.load(Relaxed).saturating_add(self.bytes_before.load(Relaxed)),
            1 => self.bytes.load(Relaxed),
            _ => 0,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A stream that counts what passes.
#[derive(Debug)]
pub struct Counting<S> {
    stream: S,
    activity: Arc<CircuitActivity>,
}

impl<S> Counting<S> {
    /// Counts for the circuit with this activity.
    pub(super) fn new(stream: S, activity: Arc<CircuitActivity>) -> Self {
        Self { stream, activity }
    }

    fn moved(&self, bytes: usize) {
        if bytes > 0 {
            self.activity.moved(bytes, now().monotonic);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.moved(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.moved(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[test]
    fn bytes_are_forgotten_after_a_minute_or_two_and_silence_grows() {
        let start = now().monotonic;
        let activity = CircuitActivity::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        activity.moved(100, at(10));
        activity.moved(10, at(70));
        assert_eq!(
            [at(70), at(119), at(125), at(200)].map(|it| activity.lately(it)),
            [110, 110, 10, 0]
        );
        assert_eq!(activity.silent_for(at(100)), Duration::from_secs(30));
        activity.moved(1, at(400));
        assert_eq!(activity.lately(at(400)), 1);
        assert_eq!(activity.age(at(400)), Duration::from_secs(400));
    }

    #[tokio::test]
    async fn what_is_read_and_written_counts() {
        let activity = Arc::new(CircuitActivity::new(now().monotonic));
        let (near, mut far) = duplex(64);
        let mut near = Counting::new(near, Arc::clone(&activity));
        near.write_all(b"hello").await.unwrap();
        far.write_all(b"you").await.unwrap();
        let mut read = [0; 3];
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(activity.lately(now().monotonic), 8);
    }
}
