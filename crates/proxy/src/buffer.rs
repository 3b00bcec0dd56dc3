//! Answers that wait here for slow clients, so that an origin is done with them
//! as fast as it can send.
//!
//! A server with few workers has one of them busy until its answer is taken. With
//! a buffer, a task of the body reads ahead: into memory first, then into a file
//! that has no name. Bytes pass as they come; nothing waits for the buffer to
//! fill. What one circuit, and the process, may hold is bounded: an answer beyond
//! that passes without a buffer, or without a file.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures::future::BoxFuture;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};

use crate::body::{Body, BodyError};
use crate::settings::BufferSettings;

/// Bytes that are read from the file at a time.
const CHUNK: u64 = 32 * 1024;

/// Memory for all answers of the process, and for those of one circuit.
static MEMORY: Budget = Budget::new(64 * 1024 * 1024, 8 * 1024 * 1024);

/// The same of files.
static FILES: Budget = Budget::new(4 * 1024 * 1024 * 1024, 512 * 1024 * 1024);

/// Reads an answer ahead, if there is a budget for it.
pub(crate) fn buffered(body: Body, settings: &BufferSettings, circuit: u64) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let Some(memory) = MEMORY.take(circuit, settings.memory) else { return body };
    let hint = body.size_hint();
    let queue = Arc::new(Queue::default());
    let mut filling = JoinSet::new();
    let filler = Filler { queue: Arc::clone(&queue), settings: *settings, circuit, spill: None };
    filling.spawn(filler.fill(body));
    Buffered { queue, hint, reading: None, _filling: filling, _memory: memory }.boxed_unsync()
}

/// What may be held, over all circuits and by each.
struct Budget {
    all: u64,
    each: u64,
    taken: Mutex<(u64, BTreeMap<u64, u64>)>,
}

/// A part of a budget; given back when this is dropped.
struct Part {
    budget: &'static Budget,
    circuit: u64,
    bytes: u64,
}

impl Budget {
    const fn new(all: u64, each: u64) -> Self {
        Self { all, each, taken: Mutex::new((0, BTreeMap::new())) }
    }

    fn take(&'static self, circuit: u64, bytes: u64) -> Option<Part> {
        let mut taken = self.taken.lock();
        let own = taken.1.get(&circuit).copied().unwrap_or_default();
        if bytes > self.all - taken.0 || bytes > self.each.saturating_sub(own) {
            return None;
        }
        taken.0 += bytes;
        taken.1.insert(circuit, own + bytes);
        Some(Part { budget: self, circuit, bytes })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut taken = self.budget.taken.lock();
        taken.0 -= self.bytes;
        if let Some(own) = taken.1.get_mut(&self.circuit) {
            *own -= self.bytes;
            if *own == 0 {
                taken.1.remove(&self.circuit);
            }
        }
    }
}

/// What has come of the answer and was not taken.
#[derive(Default)]
struct Queue {
    state: Mutex<BufferState>,
    /// Rung when there is room again.
    taken: Notify,
}

#[derive(Default)]
struct BufferState {
    memory: VecDeque<Bytes>,
    held: u64,
    /// What follows after the memory.
    file: Option<Arc<File>>,
    written: u64,
    read: u64,
    /// The last of it has come.
    end: Option<Result<Option<HeaderMap>, BodyError>>,
    waker: Option<Waker>,
}

impl Queue {
    /// Changes what there is, and tells the one who waits for it.
    fn put(&self, put: impl FnOnce(&mut BufferState)) {
        let mut state = self.state.lock();
        put(&mut state);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// Reads ahead.
struct Filler {
    queue: Arc<Queue>,
    settings: BufferSettings,
    circuit: u64,
    /// The file, once there is one, and its part of the budget; `None` in it: there
    /// can be none.
    spill: Option<Option<(Arc<File>, Part)>>,
}

impl Drop for Filler {
    /// Whatever ends it early, such as a panic: its reader must not wait for ever.
    fn drop(&mut self) {
        self.queue.put(|state| {
            state.end.get_or_insert_with(|| Err("the answer was not read to its end".into()));
        });
    }
}

impl Filler {
    async fn fill(mut self, mut body: Body) {
        loop {
            let end = match body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => match self.keep(data).await {
                        Ok(()) => continue,
                        Err(error) => Err(error.into()),
                    },
                    Err(frame) => Ok(frame.into_trailers().ok()),
                },
                Some(Err(error)) => Err(error),
                None => Ok(None),
            };
            // The connection is free from here on.
            drop(body);
            self.queue.put(|state| state.end = Some(end));
            // The file's part of the budget is held as long as the file.
            return std::future::pending().await;
        }
    }

    /// Keeps what has come, once there is room.
    async fn keep(&mut self, data: Bytes) -> io::Result<()> {
        let length = data.len() as u64;
        let queue = Arc::clone(&self.queue);
        loop {
            let taken = queue.taken.notified();
            {
                let mut state = self.queue.state.lock();
                if state.written == state.read {
                    (state.written, state.read) = (0, 0);
                    if state.held == 0 || state.held + length <= self.settings.memory {
                        state.held += length;
                        state.memory.push_back(data);
                        drop(state);
                        self.queue.put(|_| {});
                        return Ok(());
                    }
                }
            }
            let at = self.queue.state.lock().written;
            if at + length <= self.settings.file
                && let Some(file) = self.file().await
            {
                let writer = Arc::clone(&file);
                spawn_blocking(move || writer.write_all_at(&data, at))
                    .await
                    .map_err(io::Error::other)??;
                self.queue.put(|state| {
                    state.written = at + length;
                    state.file = Some(file);
                });
                return Ok(());
            }
            taken.await;
        }
    }

    /// The file, if there can be one.
    async fn file(&mut self) -> Option<Arc<File>> {
        if self.spill.is_none() {
            let part = FILES.take(self.circuit, self.settings.file);
            let file = match part {
                Some(part) => match spawn_blocking(tempfile::tempfile).await {
                    Ok(Ok(file)) => Some((Arc::new(file), part)),
                    _ => None,
                },
                None => None,
            };
            self.spill = Some(file);
        }
        self.spill.as_ref()?.as_ref().map(|(file, _)| Arc::clone(file))
    }
}

/// The answer, for the client.
struct Buffered {
    queue: Arc<Queue>,
    /// How much is to come.
    hint: SizeHint,
    /// What is read from the file.
    reading: Option<BoxFuture<'static, io::Result<Bytes>>>,
    _filling: JoinSet<()>,
    _memory: Part,
}

impl Buffered {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(reading.as_mut().poll(context));
                self.reading = None;
                let bytes = match read {
                    Ok(bytes) => bytes,
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                };
                self.queue.state.lock().read += bytes.len() as u64;
                self.queue.taken.notify_one();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let mut state = self.queue.state.lock();
            if let Some(bytes) = state.memory.pop_front() {
                state.held -= bytes.len() as u64;
                drop(state);
                self.queue.taken.notify_one();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let (at, length) = (state.read, (state.written - state.read).min(CHUNK));
            match &state.file {
                Some(file) if length > 0 => {
                    let file = Arc::clone(file);
                    drop(state);
                    self.reading = Some(Box::pin(async move {
                        let read = spawn_blocking(move || {
                            let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
                            file.read_exact_at(&mut bytes, at).map(|()| Bytes::from(bytes))
                        });
                        read.await.map_err(io::Error::other)?
                    }));
                }
                _ => {
                    return match &mut state.end {
                        Some(end) => match std::mem::replace(end, Ok(None)) {
                            Ok(trailers) => Poll::Ready(trailers.map(Frame::trailers).map(Ok)),
                            Err(error) => Poll::Ready(Some(Err(error))),
                        },
                        None => {
                            state.waker = Some(context.waker().clone());
                            Poll::Pending
                        }
                    };
                }
            }
        }
    }
}

impl hyper::body::Body for Buffered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(this.next(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let (length, before) = (data.len() as u64, this.hint);
            this.hint = SizeHint::new();
            this.hint.set_lower(before.lower().saturating_sub(length));
            if let Some(upper) = before.upper() {
                this.hint.set_upper(upper.saturating_sub(length));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.queue.state.lock();
        self.reading.is_none()
            && state.memory.is_empty()
            && state.written == state.read
            && matches!(state.end, Some(Ok(None)))
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    const SMALL: BufferSettings = BufferSettings { memory: 4096, file: 1024 * 1024 };

    fn body(frames: Vec<Result<Frame<Bytes>, BodyError>>) -> Body {
        StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
    }

    fn data(byte: u8) -> Result<Frame<Bytes>, BodyError> {
        Ok(Frame::data(Bytes::from(vec![byte; 3000])))
    }

    #[tokio::test]
    async fn all_of_an_answer_comes_in_order_from_memory_and_from_the_file() {
        for file in [0, 5000, 1024 * 1024] {
            let mut trailers = HeaderMap::new();
            trailers.insert("sum", http::HeaderValue::from_static("1"));
            let mut frames: Vec<_> = (0..50).map(data).collect();
            frames.push(Ok(Frame::trailers(trailers.clone())));
            let settings = BufferSettings { file, ..SMALL };
            let collected = buffered(body(frames), &settings, 1).collect().await.unwrap();
            assert_eq!(collected.trailers(), Some(&trailers));
            let expected: Vec<u8> = (0..50).flat_map(|byte| [byte; 3000]).collect();
            assert!(collected.to_bytes() == expected, "{file}");
        }
    }

    #[tokio::test]
    async fn what_breaks_off_breaks_off_after_what_has_come() {
        let mut body = buffered(body(vec![data(1), data(2), Err("broken".into())]), &SMALL, 2);
        let mut read = 0;
        let error = loop {
            match body.frame().await.unwrap() {
                Ok(frame) => read += frame.into_data().unwrap().len(),
                Err(error) => break error,
            }
        };
        assert_eq!((read, error.to_string().as_str()), (6000, "broken"));
    }

    #[tokio::test]
    async fn a_panic_where_an_answer_is_read_ahead_breaks_it_off() {
        let first = futures::stream::iter([data(1)]);
        let panics = futures::stream::poll_fn(|_| panic!("as a test wants it"));
        let broken = futures::StreamExt::chain(first, panics);
        let mut body = buffered(StreamBody::new(broken).boxed_unsync(), &SMALL, 4);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_live_answer_is_not_delayed_by_the_buffer() {
        let first = futures::stream::iter([data(1)]);
        let live = futures::StreamExt::chain(first, futures::stream::pending());
        let mut body = buffered(StreamBody::new(live).boxed_unsync(), &SMALL, 3);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 3000);
    }

    #[test]
    fn one_circuit_gets_its_part_of_the_budget() {
        static BUDGET: Budget = Budget::new(10, 4);
        let held: Vec<_> = (0..3).filter_map(|_| BUDGET.take(1, 2)).collect();
        assert_eq!(held.len(), 2);
        let other = BUDGET.take(2, 4);
        assert!(other.is_some() && BUDGET.take(3, 4).is_none());
        drop(held);
        assert!(BUDGET.take(1, 4).is_some());
    }
}
