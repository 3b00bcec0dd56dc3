//! The orders of operators, from the admin endpoint to the loop that obeys them:
//! a reload to the daemon's own, a word on a backend to its service's.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::admin::orders::{self, BackendOrder, Reloaded};
use crate::admin::{Asked, Unanswered};

/// Orders that may wait at a time.
const QUEUE: usize = 16;

/// What an order comes to.
pub(super) type Obeyed<T> = Result<T, Unanswered>;

/// One order, and who waits for what it comes to.
#[derive(Debug)]
pub(super) enum Order {
    /// Read the configuration again.
    Reload { user: Option<u32>, answer: oneshot::Sender<Obeyed<Reloaded>> },
    /// Say something of a backend.
    Backend(BackendOrderOf),
}

/// An order on one backend of one service.
#[derive(Debug)]
pub(super) struct BackendOrderOf {
    pub(super) service: String,
    pub(super) backend: String,
    pub(super) order: BackendOrder,
    pub(super) user: Option<u32>,
    pub(super) answer: oneshot::Sender<Obeyed<()>>,
}

/// Takes orders and passes them on.
#[derive(Clone)]
pub(super) struct Orders(mpsc::Sender<Order>);

/// Orders, and the end at which they arrive.
pub(super) fn orders() -> (Orders, mpsc::Receiver<Order>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Orders(sender), receiver)
}

impl Orders {
    /// Passes an order on; `None`: it is none.
    pub(super) fn obey(&self, asked: &Asked) -> Option<BoxFuture<'static, Obeyed<Vec<u8>>>> {
        let user = asked.user;
        if asked.path == orders::RELOAD {
            return Some(self.pass(move |answer| Order::Reload { user, answer }));
        }
        let (service, backend) = orders::backend_of(&asked.path)?;
        let (service, backend) = (service.to_owned(), backend.to_owned());
        Some(match read(&asked.body) {
            Ok(order) => self.pass(move |answer| {
                Order::Backend(BackendOrderOf { service, backend, order, user, answer })
            }),
            Err(malformed) => std::future::ready(Err(malformed)).boxed(),
        })
    }

    fn pass<T: Serialize + Send + 'static>(
        &self,
        order: impl FnOnce(oneshot::Sender<Obeyed<T>>) -> Order + Send + 'static,
    ) -> BoxFuture<'static, Obeyed<Vec<u8>>> {
        let orders = self.0.clone();
        async move {
            let ending = || Unanswered::NotReady("the daemon is ending".to_owned());
            let (answer, obeyed) = oneshot::channel();
            orders.send(order(answer)).await.map_err(|_| ending())?;
            write(&obeyed.await.map_err(|_| ending())??)
        }
        .boxed()
    }
}

impl BackendOrderOf {
    /// What it has come to. Whoever asked may have gone.
    pub(super) fn answer(self, obeyed: Obeyed<()>) {
        let _ = self.answer.send(obeyed);
    }
}

/// Reads a question or an order.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Unanswered> {
    serde_json::from_slice(body).map_err(|error| Unanswered::Malformed(error.to_string()))
}

/// Writes an answer.
pub(super) fn write(answer: &impl Serialize) -> Result<Vec<u8>, Unanswered> {
    serde_json::to_vec(answer).map_err(|error| Unanswered::Failed(error.to_string()))
}
