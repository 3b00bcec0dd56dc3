//! What of a client's bytes reaches hyper?
//!
//! The gate lies between the client's stream and hyper. It passes the head of
//! a request on when it is whole and [`framing`] finds nothing wrong with it,
//! within a time limit. Otherwise hyper gets a request of ours instead, the
//! last on this connection, and the service answers it with the page that
//! belongs to the failure: there is one way in which answers are made, and
//! requests that came before still get theirs first.
//!
//! After a request to change protocols the gate holds back what follows until
//! the service knows whether they change: what the origin has not agreed to
//! must not be taken for a request, and the other way round.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use hyper::{Request, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use super::framing::{self, Framing, Limits, Step};
use crate::failure::Failure;

/// Read at a time, and held back while protocols may change, at most.
const READ_SIZE: usize = 8 * 1024;

/// What hyper gets in place of a request that is refused. A client may send
/// the same; without a refusal it is a request like any other.
const INSTEAD: &[u8] =
    b"GET /refused HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// How many fields that has.
pub(super) const INSTEAD_FIELDS: usize = 2;

/// The client's stream as hyper sees it.
pub(super) struct Gate<C> {
    /// The client's stream.
    client: C,
    /// Bytes from the client that are not passed on yet.
    held: Vec<u8>,
    /// How many of them may be passed on.
    passing: usize,
    /// What they are.
    mode: Mode,
    /// How long the client may take for what it is to do next.
    patience: Patience,
    /// When that is over, counted from the last sign of life.
    timer: Pin<Box<Sleep>>,
    /// Whether the timer runs.
    waiting: bool,
    /// Whether the client speaks HTTP/2.
    http2: bool,
    /// What the service says and is told.
    shared: Arc<Shared>,
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a head to arrive, and to begin, and for the end of an answer to be
    /// taken.
    pub(super) head: Duration,
    /// For anything to be taken while requests are under way, in HTTP/2: there
    /// answers wait in many buffers, and those of a client who reads nothing
    /// would stay full for as long as it keeps one request alive.
    pub(super) idle: Duration,
}

/// How the client's bytes are understood.
enum Mode {
    /// As HTTP/1 messages.
    Http1(Framing),
    /// Not at all: they are passed on. HTTP/2, or what it was upgraded to.
    Open,
    /// Not at all: what they were meant to be has been refused, and nothing
    /// follows. This is not the end of the stream: the client waits for an answer.
    Refused,
    /// The client has ended the stream, or nobody waits for it any more.
    Closed,
}

/// The service's end of a gate.
#[derive(Clone)]
pub(super) struct Keeper(Arc<Shared>);

/// What the gate and the service share.
#[derive(Default)]
struct Shared {
    /// What they tell each other.
    told: Mutex<Told>,
    /// Rung when what [`Keeper::idle`] looks at has changed.
    moved: Notify,
}

/// What the gate and the service tell each other.
#[derive(Default)]
struct Told {
    /// Why the last request was refused.
    refused: Option<Failure>,
    /// Requests that hyper has and that are not answered in full.
    under_way: usize,
    /// When the client last took something of an answer, in HTTP/1.
    taken: Option<Instant>,
    /// Whether the client does not take what there is for it, in HTTP/2.
    full: bool,
    /// Whether the protocol changes, once that is known.
    changes: Option<bool>,
    /// Who waits for that.
    waker: Option<Waker>,
}

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge.
    Http2,
}

/// A request is under way as long as this is there.
pub(super) struct UnderWay(Keeper);

impl<C: AsyncRead + AsyncWrite + Unpin> Gate<C> {
    /// A gate before this stream, and what the service needs of it.
    pub(super) fn new(client: C, limits: Limits, patience: Patience) -> (Self, Keeper) {
        let shared = Arc::new(Shared::default());
        let gate = Self {
            client,
            held: Vec::new(),
            passing: 0,
            mode: Mode::Http1(Framing::new(limits)),
            patience,
            timer: Box::pin(sleep(patience.head)),
            waiting: true,
            http2: false,
            shared: Arc::clone(&shared),
        };
        (gate, Keeper(shared))
    }

    /// Learns from the client's first bytes what it speaks; `None`: it has gone,
    /// or said nothing in time.
    pub(super) async fn protocol(&mut self) -> Option<Protocol> {
        loop {
            match framing::is_http2(&self.held) {
                Some(true) => {
                    self.mode = Mode::Open;
                    self.http2 = true;
                    self.waiting = false;
                    self.passing = self.held.len();
                    return Some(Protocol::Http2);
                }
                Some(false) => return Some(Protocol::Http1),
                None => {}
            }
            let read = std::future::poll_fn(|context| {
                if let Poll::Ready(read) = self.read_more(context) {
                    return Poll::Ready(read.ok().filter(|&read| read > 0));
                }
                self.timer.as_mut().poll(context).map(|()| None)
            });
            if read.await.is_none() {
                // Whatever there is of a head is hyper's no more than ours to wait for.
                return (!self.held.is_empty()).then_some(Protocol::Http1);
            }
        }
    }

    /// Reads from the client what fits; 0: it has ended.
    fn read_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.held.len();
        self.held.resize(before + READ_SIZE, 0);
        let mut space = ReadBuf::new(&mut self.held[before..]);
        let read = Pin::new(&mut self.client).poll_read(context, &mut space);
        let length = space.filled().len();
        self.held.truncate(before + length);
        read.map_ok(|()| length)
    }

    /// Finds bytes to pass on; `false`: nothing follows any more.
    fn advance(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.passing == 0 {
            let framing = match &mut self.mode {
                Mode::Closed => return Poll::Ready(Ok(false)),
                Mode::Refused => return Poll::Pending,
                Mode::Open => {
                    self.passing = self.held.len();
                    if self.passing == 0 && ready!(self.read_more(context))? == 0 {
                        return Poll::Ready(Ok(false));
                    }
                    continue;
                }
                Mode::Http1(framing) => framing,
            };
            match framing.step(&self.held) {
                Ok(Step::Head(length)) => {
                    self.passing = length;
                    self.waiting = false;
                    self.shared.told().under_way += 1;
                }
                Ok(Step::Body(length)) => {
                    self.passing = length;
                    // Many small chunks pass at once. What stops them is found again.
                    while !framing.in_head()
                        && let Ok(Step::Body(length)) = framing.step(&self.held[self.passing..])
                    {
                        self.passing += length;
                    }
                }
                Ok(Step::Skip(length)) => drop(self.held.drain(..length)),
                Ok(Step::More) => {
                    let in_head = framing.in_head();
                    match self.read_more(context)? {
                        Poll::Ready(0) => return Poll::Ready(Ok(self.close())),
                        Poll::Ready(_) => {}
                        Poll::Pending if !in_head => return Poll::Pending,
                        Poll::Pending if ready!(self.too_slow(context)) => {}
                        Poll::Pending => return Poll::Ready(Ok(self.close())),
                    }
                }
                Ok(Step::Hold) => ready!(self.hold(context))?,
                Err(failure) if framing.in_head() => self.refuse(failure),
                Err(failure) => {
                    self.close();
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, failure)));
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Waits until the client has taken too long to send a head. `true`: what it
    /// has begun is refused; `false`: it has not begun.
    fn too_slow(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        ready!(self.patience_ends(context));
        if self.held.is_empty() {
            return Poll::Ready(false);
        }
        self.refuse(Failure::SlowClient);
        Poll::Ready(true)
    }

    /// Waits until the client has neither taken the end of an answer nor sent a
    /// head for too long. While a request of HTTP/1 is under way, its progress
    /// counts.
    fn patience_ends(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let under_way = self.shared.told().under_way > 0;
        let patience = match (under_way, self.http2) {
            (false, _) => self.patience.head,
            (true, true) => self.patience.idle,
            (true, false) => {
                self.waiting = false;
                return Poll::Pending;
            }
        };
        if !std::mem::replace(&mut self.waiting, true) {
            self.restart_timer(patience);
        }
        self.timer.as_mut().poll(context)
    }

    /// Waits until it is known whether the protocol changes. Goes on reading a
    /// little, to notice a client that leaves.
    fn hold(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let changes = {
            let mut told = self.shared.told();
            told.waker = Some(context.waker().clone());
            told.changes.take()
        };
        match (changes, &mut self.mode) {
            (Some(true), mode) => *mode = Mode::Open,
            (Some(false), Mode::Http1(framing)) => framing.stays(),
            _ => {
                while self.held.len() < READ_SIZE {
                    if ready!(self.read_more(context))? == 0 {
                        self.close();
                        return Poll::Ready(Ok(()));
                    }
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Puts our request in the place of the client's, and ends.
    fn refuse(&mut self, failure: Failure) {
        let mut told = self.shared.told();
        told.refused = Some(failure);
        told.under_way += 1;
        drop(told);
        self.held = INSTEAD.to_vec();
        self.passing = self.held.len();
        self.mode = Mode::Refused;
    }

    /// Passes nothing on any more.
    fn close(&mut self) -> bool {
        self.held.clear();
        self.mode = Mode::Closed;
        false
    }

    /// Counts from now.
    fn restart_timer(&mut self, patience: Duration) {
        self.timer.as_mut().reset(Instant::now() + patience);
    }

    /// The client has taken something, and is alive, or it has not for too long.
    fn written<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if self.http2 {
            self.shared.fill(written.is_pending());
        }
        match written {
            // Nobody waits for the client until a write has to wait again.
            Poll::Ready(Ok(_)) if self.http2 => self.waiting = false,
            Poll::Ready(Ok(_)) => {
                self.shared.told().taken = Some(Instant::now());
                if self.waiting {
                    self.restart_timer(self.patience.head);
                }
            }
            Poll::Pending if self.patience_ends(context).is_ready() => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        written
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gate<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if ready!(gate.advance(context))? {
            let length = gate.passing.min(space.remaining());
            space.put_slice(&gate.held[..length]);
            gate.held.drain(..length);
            gate.passing -= length;
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let written = Pin::new(&mut gate.client).poll_write(context, bytes);
        gate.written(written, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        match Pin::new(&mut gate.client).poll_flush(context) {
            // To a Tor stream the last bytes go only now.
            flushed if gate.http2 || flushed.is_pending() => gate.written(flushed, context),
            flushed => flushed,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        let written = Pin::new(&mut gate.client).poll_shutdown(context);
        gate.written(written, context)
    }
}

impl Keeper {
    /// Why this request, which is ours, stands for one that was refused.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Option<Failure> {
        let ours = request.uri().path() == "/refused"
            && request.headers().get("host").is_some_and(|host| host == "refused.invalid");
        if ours { self.0.told().refused } else { None }
    }

    /// A request has come. HTTP/1 requests under way count from the gate on.
    pub(super) fn under_way(&self, version: Version) -> UnderWay {
        if version == Version::HTTP_2 {
            self.0.told().under_way += 1;
            self.0.moved.notify_one();
        }
        UnderWay(self.clone())
    }

    /// When the client last took something of an answer, in HTTP/1.
    pub(super) fn taken(&self) -> Option<Instant> {
        self.0.told().taken
    }

    /// Waits until no request has been under way, and no end of an answer on its
    /// way, for this long.
    pub(super) async fn idle(&self, time: Duration) {
        loop {
            let moved = self.0.moved.notified();
            let busy = {
                let told = self.0.told();
                told.under_way > 0 || told.full
            };
            if busy {
                moved.await;
                continue;
            }
            if tokio::time::timeout(time, moved).await.is_err() {
                return;
            }
        }
    }

    /// After a request to change the protocol: it changes, or stays.
    pub(super) fn protocol_changes(&self, changes: bool) {
        let mut told = self.0.told();
        told.changes = Some(changes);
        if let Some(waker) = told.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut told = self.0.0.told();
        told.under_way = told.under_way.saturating_sub(1);
        drop(told);
        self.0.0.moved.notify_one();
    }
}

impl Shared {
    /// The client has taken what there was for it, or has not.
    fn fill(&self, full: bool) {
        if std::mem::replace(&mut self.told().full, full) != full {
            self.moved.notify_one();
        }
    }

    /// Nobody panics while it holds this.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
