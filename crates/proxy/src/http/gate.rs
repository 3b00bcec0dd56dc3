//! The client's stream as hyper reads and writes it.
//!
//! The gate gives hyper one message at a time: the head of a request when it is
//! whole, [`framing`] finds nothing wrong with it, and the answer to the request
//! before is sent; then the body. What follows a message waits in the gate until
//! its request is over, and may then be another protocol: hyper hands the gate back
//! with an upgrade, and [`Gate::open`] makes a plain stream of it.
//!
//! A head that is refused, by the framing, by hyper, or because it is too slow, is
//! answered here, with the page for that failure; then the stream ends. Of hyper
//! the gate knows by what it writes before a request has begun: its own short answer,
//! which nobody else sees.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::activity::ConnectionActivity;
use super::framing::{self, Framing, MessageLimits, Step};
use crate::failure::Failure;
use crate::tls::taken::TakenBytes;

/// How long a client may take nothing of a page of ours, or of a refusal, before
/// that is given up.
pub(super) const PAGE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a client is waited for before it counts as at rest. Who asks again sooner is
/// no client of Tor; for one, to begin anew costs nothing beside its circuit.
const BRIEFLY: Duration = Duration::from_millis(20);

/// Read at a time.
const READ_SIZE: usize = 8 * 1024;

/// A stream to a client.
pub(super) trait ClientIo: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> ClientIo for C {}

/// What a client is answered whose request never begins, as HTTP/1 writes it: a head
/// and a page.
pub(super) type Refuse = Box<dyn Fn(Failure) -> [Bytes; 2] + Send>;

/// The client's stream as hyper sees it.
pub(super) struct Gate {
    client: Box<dyn ClientIo>,
    /// Bytes from the client that are not passed on yet.
    held: Vec<u8>,
    /// How many of them may be passed on.
    passing: usize,
    mode: Mode,
    /// Heads that were passed on.
    heads: u64,
    /// Whether hyper has written something that is not flushed.
    unflushed: bool,
    /// Whether the next head waits for that.
    awaits_flush: bool,
    patience: Patience,
    /// When the patience ends, counted from the last sign of life.
    timer: Pin<Box<Sleep>>,
    /// Whether the timer runs.
    waiting: bool,
    /// Whether it has been waited for briefly, and the timer runs for the rest.
    rested: bool,
    activity: Arc<ConnectionActivity>,
    refuse: Refuse,
    /// What a client has taken that is known to take more than writes tell.
    taken: Option<(TakenBytes, u64)>,
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a head to arrive, and for the end of an answer to be taken.
    pub(super) head: Duration,
    /// For another head to begin.
    pub(super) next: Duration,
    /// For anything to be taken while requests are under way, in HTTP/2: there
    /// answers wait in many buffers, and those of a client who reads nothing
    /// would stay full for as long as it keeps one request alive.
    pub(super) idle: Duration,
}

/// How the client's bytes are understood.
enum Mode {
    /// As HTTP/1 messages.
    Http1(Framing),
    /// As HTTP/2, which frames its messages unambiguously: they are passed on.
    Http2,
    /// Not at all: they are passed on.
    Open,
    /// Not at all: what they were meant to be is refused. So much of the answer is
    /// not sent yet.
    Refused([Bytes; 2]),
    /// The client has ended the stream, or nobody waits for it any more.
    Closed,
}

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge.
    Http2,
}

impl Gate {
    /// A gate before this stream.
    pub(super) fn new(
        client: Box<dyn ClientIo>,
        limits: MessageLimits,
        patience: Patience,
        activity: Arc<ConnectionActivity>,
        refuse: Refuse,
    ) -> Self {
        Self {
            client,
            held: Vec::new(),
            passing: 0,
            mode: Mode::Http1(Framing::new(limits)),
            heads: 0,
            unflushed: false,
            awaits_flush: false,
            patience,
            timer: Box::pin(sleep(patience.head)),
            waiting: true,
            rested: true,
            activity,
            refuse,
            taken: None,
        }
    }

    /// Has what the client takes counted below its stream, which holds back what was
    /// written to it.
    pub(super) fn counted_by(&mut self, taken: TakenBytes) {
        self.taken = Some((taken, 0));
    }

    /// Learns from the client's first bytes what it speaks, which is HTTP/1 unless
    /// HTTP/2 is wanted; `None`: it has gone, or said nothing in time.
    pub(super) async fn protocol(&mut self, http2: bool) -> Option<Protocol> {
        loop {
            match framing::is_http2(&self.held).filter(|_| http2).or((!http2).then_some(false)) {
                Some(true) => {
                    self.mode = Mode::Http2;
                    self.waiting = false;
                    return Some(Protocol::Http2);
                }
                Some(false) => return Some(Protocol::Http1),
                None => {}
            }
            let read = poll_fn(|context| {
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

    /// Waits for the next message of HTTP/1; `false`: none follows.
    pub(super) async fn begins(&mut self) -> io::Result<bool> {
        poll_fn(|context| self.advance(context)).await
    }

    /// The stream in another protocol, when hyper has handed it back with what it
    /// had read beyond the last request.
    pub(super) fn open(mut self, read: &[u8]) -> Self {
        self.held.splice(..0, read.iter().copied());
        self.mode = Mode::Open;
        self
    }

    /// Reads from the client what fits; 0: it has ended.
    fn read_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [MaybeUninit::uninit(); READ_SIZE];
        let mut space = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.client).poll_read(context, &mut space))?;
        self.held.extend_from_slice(space.filled());
        Poll::Ready(Ok(space.filled().len()))
    }

    /// Finds bytes to pass on; `false`: nothing follows any more.
    fn advance(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.activity.rest(false);
        while self.passing == 0 {
            let framing = match &mut self.mode {
                Mode::Closed => return Poll::Ready(Ok(false)),
                Mode::Refused(_) => {
                    ready!(self.send_page(context))?;
                    return Poll::Ready(Ok(self.close()));
                }
                Mode::Http2 | Mode::Open => {
                    if self.held.is_empty() && ready!(self.read_more(context))? == 0 {
                        return Poll::Ready(Ok(false));
                    }
                    self.passing = self.held.len();
                    continue;
                }
                Mode::Http1(framing) => framing,
            };
            match framing.step(&self.held) {
                Ok(Step::Head(length)) => {
                    self.passing = length;
                    self.waiting = false;
                    self.heads += 1;
                }
                Ok(Step::Body(length)) => {
                    self.passing = length;
                    // Many small chunks pass at once. What stops them is found again.
                    while let Ok(Step::Body(length)) = framing.step(&self.held[self.passing..]) {
                        self.passing += length;
                    }
                }
                Ok(Step::Skip(length)) => drop(self.held.drain(..length)),
                Ok(Step::More) => {
                    let in_head = framing.in_head();
                    let begins = in_head && self.heads > 0 && self.held.is_empty();
                    match self.read_more(context)? {
                        Poll::Ready(0) => return Poll::Ready(Ok(self.close())),
                        // A head that begins has its own time.
                        Poll::Ready(_) if begins => self.waiting = false,
                        Poll::Ready(_) => {}
                        Poll::Pending if !in_head => return Poll::Pending,
                        Poll::Pending => {
                            // An idle connection needs no room.
                            if self.held.is_empty() {
                                self.held = Vec::new();
                            }
                            let ended = self.patience_ends(context);
                            self.activity.rest(self.rested);
                            ready!(ended);
                            if self.held.is_empty() {
                                return Poll::Ready(Ok(self.close()));
                            }
                            self.refuse(Failure::SlowClient);
                            return Poll::Ready(Ok(self.close()));
                        }
                    }
                }
                Ok(Step::Over) => {
                    let is_over = self.activity.is_over(self.heads, context);
                    self.awaits_flush = is_over && self.unflushed;
                    if is_over && !self.unflushed {
                        framing.go_on();
                    } else if !self.held.is_empty() {
                        return Poll::Pending;
                    } else if ready!(self.read_more(context))? == 0 {
                        // The client has left.
                        return Poll::Ready(Ok(self.close()));
                    }
                }
                Err(failure) if framing.in_head() => self.refuse(failure),
                Err(failure) => {
                    self.close();
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, failure)));
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Waits until the client has neither taken the end of an answer nor sent a
    /// head for too long. While a request of HTTP/1 is under way, its progress
    /// counts.
    fn patience_ends(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let patience = match (self.activity.is_busy(), &self.mode) {
            (_, Mode::Refused(_)) => self.patience.head.min(PAGE_PATIENCE),
            (false, _) => self.for_a_head(),
            (true, Mode::Http2) => self.patience.idle,
            (true, _) => {
                self.waiting = false;
                return Poll::Pending;
            }
        };
        if !std::mem::replace(&mut self.waiting, true) {
            self.restart_timer(patience.min(BRIEFLY));
            self.rested = false;
        }
        ready!(self.timer.as_mut().poll(context));
        if !std::mem::replace(&mut self.rested, true) && patience > BRIEFLY {
            self.restart_timer(patience - BRIEFLY);
        }
        self.timer.as_mut().poll(context)
    }

    /// How long the next head may take to arrive, or to begin.
    fn for_a_head(&self) -> Duration {
        let waits = self.heads > 0 && self.held.is_empty() && !self.unflushed;
        if waits { self.patience.next } else { self.patience.head }
    }

    /// Counts from now.
    fn restart_timer(&mut self, patience: Duration) {
        self.timer.as_mut().reset(Instant::now() + patience);
    }

    /// Answers the head that was to come next with a page, and ends.
    fn refuse(&mut self, failure: Failure) {
        self.mode = Mode::Refused((self.refuse)(failure));
        self.waiting = false;
        self.held.clear();
        self.passing = 0;
    }

    /// Sends what is left of the page.
    fn send_page(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Mode::Refused(answer) = &mut self.mode {
            let left = answer.iter_mut().find(|part| !part.is_empty());
            let client = Pin::new(&mut self.client);
            let sent = match &left {
                Some(part) => client.poll_write(context, part),
                None => client.poll_flush(context).map_ok(|()| 0),
            };
            match (sent, left) {
                (Poll::Ready(Ok(0)), Some(_)) => {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                (Poll::Ready(Ok(sent)), Some(part)) => {
                    part.advance(sent);
                    self.waiting = false;
                }
                (Poll::Ready(sent), _) => return Poll::Ready(sent.map(|_| ())),
                (Poll::Pending, _) => {
                    ready!(self.patience_ends(context));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Passes nothing on any more.
    fn close(&mut self) -> bool {
        self.held.clear();
        self.mode = Mode::Closed;
        false
    }

    /// The client has taken something, and is alive, or it has not for too long.
    fn written<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        let is_http2 = matches!(self.mode, Mode::Http2);
        if is_http2 {
            self.activity.fill(written.is_pending());
        }
        if let Some((taken, seen)) = &mut self.taken
            && written.is_pending()
            && taken.more_than(seen)
        {
            self.activity.took();
            self.waiting = false;
        }
        match written {
            // Nobody waits for the client until a write has to wait again.
            Poll::Ready(Ok(_)) if is_http2 => self.waiting = false,
            Poll::Ready(Ok(_)) => {
                self.activity.took();
                if self.waiting {
                    self.restart_timer(self.for_a_head());
                    self.rested = true;
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

/// What hyper says of a head that it does not take, by the answer that it writes.
fn why_refused(answer: &[u8]) -> Failure {
    match answer.get(9..12) {
        Some(b"414") => Failure::TargetTooLong,
        Some(b"431") => Failure::HeadTooLarge,
        _ => Failure::Malformed,
    }
}

impl AsyncRead for Gate {
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

impl AsyncWrite for Gate {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        if matches!(gate.mode, Mode::Http1(_)) && gate.activity.begun() < gate.heads {
            gate.refuse(why_refused(bytes));
        }
        if matches!(gate.mode, Mode::Refused(_)) {
            return Poll::Ready(Ok(bytes.len()));
        }
        gate.unflushed = true;
        let written = Pin::new(&mut gate.client).poll_write(context, bytes);
        gate.written(written, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        ready!(gate.send_page(context))?;
        let flushed = Pin::new(&mut gate.client).poll_flush(context);
        if flushed.is_ready() {
            gate.unflushed = false;
            if std::mem::take(&mut gate.awaits_flush) {
                context.waker().wake_by_ref();
            }
        }
        match flushed {
            // To a Tor stream the last bytes go only now.
            flushed if matches!(gate.mode, Mode::Http2) || flushed.is_pending() => {
                gate.written(flushed, context)
            }
            flushed => flushed,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        ready!(gate.send_page(context))?;
        let written = Pin::new(&mut gate.client).poll_shutdown(context);
        gate.written(written, context)
    }
}
