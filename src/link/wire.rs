//! States as bodies of HTTP/2: written when they change, read one after the other.
//!
//! How often is bounded on both sides, and so is what waits: the window of HTTP/2
//! holds a sender back that is faster than its reader.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until};

use onionbraid_balancer::link::{Lines, Malformed, line};

/// The least time between two states: what changes together is sent together, and
/// a flood of states is read no faster than this.
pub(super) const GAP: Duration = Duration::from_millis(100);

/// What may be under way to us without having been read, in bytes.
pub(super) const WINDOW: u32 = 64 * 1024;

/// What the heads of requests and answers may have, in bytes.
pub(super) const HEADS: u32 = 4 * 1024;

/// A body of states.
pub(super) type States = Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>;

/// Bounds how often the other end has us do something, however many streams it opens for
/// that: `burst` times at once, and once in `every` in the long run.
pub(super) struct LinkPace {
    burst: u32,
    every: Duration,
    /// When the burst is there again.
    full_at: Mutex<Instant>,
}

impl LinkPace {
    pub(super) fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, full_at: Mutex::new(Instant::now()) }
    }

    /// Waits for the next turn and takes it; in the order of asking. If it is dropped
    /// before, nothing is taken.
    pub(super) async fn turn(&self) {
        let mut full_at = self.full_at.lock().await;
        let spare = self.every * self.burst.saturating_sub(1);
        if let Some(at) = full_at.checked_sub(spare) {
            sleep_until(at).await;
        }
        *full_at = full_at.max(Instant::now()) + self.every;
    }
}

/// Why no state comes any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The connection.
    #[error("{0}")]
    Connection(#[from] hyper::Error),
    /// The states.
    #[error("it sent {0}")]
    Malformed(#[from] Malformed),
    /// Their numbers do not grow.
    #[error("it sent a state that is no newer than the one before")]
    Order,
    /// It has said all that it wanted to.
    #[error("it has ended the link")]
    Ended,
}

/// No state at all.
pub(super) fn nothing() -> States {
    Box::pin(http_body_util::Empty::new())
}

/// The state that `watched` has, then each one that it gets, until nobody can give
/// it another one; as the messages that `message` makes of it, which is told how
/// many there were before. As long as it makes none, nothing is said.
pub(super) fn states<T, M>(
    watched: watch::Receiver<T>,
    message: impl Fn(&T, u64) -> Option<M> + Send + 'static,
) -> States
where
    T: Send + Sync + 'static,
    M: Serialize + Send,
{
    let written =
        stream::unfold((watched, message, 0), |(mut watched, message, sent)| async move {
            if sent > 0 {
                sleep(GAP).await;
                watched.changed().await.ok()?;
            }
            let written = loop {
                if let Some(message) = message(&*watched.borrow_and_update(), sent) {
                    break line(&message);
                }
                watched.changed().await.ok()?;
            };
            Some((Ok(Frame::data(Bytes::from(written))), (watched, message, sent + 1)))
        });
    Box::pin(StreamBody::new(written))
}

/// Reads the states of a body.
pub(super) struct StateReader {
    body: Incoming,
    lines: Lines,
    /// The number of the last one.
    number: u64,
}

impl StateReader {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, lines: Lines::default(), number: 0 }
    }

    /// The next state, whose number has to be higher than that of the one before.
    /// If it is dropped before, nothing is lost.
    ///
    /// # Errors
    ///
    /// If there is none any more.
    pub(super) async fn next<T: DeserializeOwned>(
        &mut self,
        number: impl Fn(&T) -> u64,
    ) -> Result<T, Broken> {
        loop {
            if let Some(state) = self.lines.message::<T>() {
                let state = state?;
                if number(&state) <= self.number {
                    return Err(Broken::Order);
                }
                self.number = number(&state);
                return Ok(state);
            }
            let frame = self.body.frame().await.ok_or(Broken::Ended)??;
            if let Ok(data) = frame.into_data() {
                self.lines.push(&data)?;
            }
        }
    }

    /// Waits before the next one is read.
    pub(super) async fn pause(&self) {
        sleep(GAP).await;
    }
}
