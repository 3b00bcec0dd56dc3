//! The orders of operators, from the admin endpoint to the loop that obeys them:
//! a reload to the daemon's own, a word on a backend to its service's.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use crate::admin::orders::{self, BackendOrder, Reloaded};
use crate::admin::{NetworkQuestion, NoAnswer};

/// Orders that may wait at a time.
const QUEUE: usize = 16;

/// What an order comes to.
pub(super) type Obeyed<T> = Result<T, NoAnswer>;

/// One order, and who waits for what it comes to.
#[derive(Debug)]
pub(super) enum PendingOrder {
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
pub(super) struct OrderTaker(mpsc::Sender<PendingOrder>);

/// Orders, and the end at which they arrive.
pub(super) fn orders() -> (OrderTaker, mpsc::Receiver<PendingOrder>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (OrderTaker(sender), receiver)
}

impl OrderTaker {
    /// Passes an order on; `None`: it is none.
    pub(super) fn obey(
        &self,
        asked: &NetworkQuestion,
    ) -> Option<BoxFuture<'static, Obeyed<Vec<u8>>>> {
        let user = asked.user;
        if asked.path == orders::RELOAD {
            return Some(match read_nothing(&asked.body) {
                Ok(()) => self.pass(move |answer| PendingOrder::Reload { user, answer }),
                Err(malformed) => std::future::ready(Err(malformed)).boxed(),
            });
        }
        let (service, backend) = orders::backend_of(&asked.path)?;
        let (service, backend) = (service.to_owned(), backend.to_owned());
        Some(match read(&asked.body) {
            Ok(order) => self.pass(move |answer| {
                PendingOrder::Backend(BackendOrderOf { service, backend, order, user, answer })
            }),
            Err(malformed) => std::future::ready(Err(malformed)).boxed(),
        })
    }

    fn pass<T: Serialize + Send + 'static>(
        &self,
        order: impl FnOnce(oneshot::Sender<Obeyed<T>>) -> PendingOrder + Send + 'static,
    ) -> BoxFuture<'static, Obeyed<Vec<u8>>> {
        let orders = self.0.clone();
        async move {
            let ending = || NoAnswer::NotReady("the daemon is ending".to_owned());
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
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, NoAnswer> {
    serde_json::from_slice(body).map_err(|error| NoAnswer::Malformed(error.to_string()))
}

/// Reads the body of an order that needs none.
fn read_nothing(body: &Bytes) -> Result<(), NoAnswer> {
    let said: serde_json::Map<String, serde_json::Value> =
        if body.trim_ascii().is_empty() { Default::default() } else { read(body)? };
    match said.keys().next() {
        None => Ok(()),
        Some(key) => Err(NoAnswer::Malformed(format!("nothing is to be said here, as {key:?} is"))),
    }
}

/// Writes an answer.
pub(super) fn write(answer: &impl Serialize) -> Result<Vec<u8>, NoAnswer> {
    serde_json::to_vec(answer).map_err(|error| NoAnswer::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reload_takes_no_word_that_it_would_pass_over() {
        let (orders, mut received) = orders();
        let order = |body: &'static str| {
            let path = orders::RELOAD.to_owned();
            orders.obey(&NetworkQuestion { path, body: Bytes::from(body), user: None }).unwrap()
        };
        for body in ["garbage", "[]", "null", "{\"dry_run\": true}", "{} {}", "{"] {
            let refused = order(body).await;
            assert!(matches!(refused, Err(NoAnswer::Malformed(_))), "{body}: {refused:?}");
        }
        assert!(received.try_recv().is_err());
        for body in ["", "{}", " {}\n"] {
            let obey = async {
                let Some(PendingOrder::Reload { answer, .. }) = received.recv().await else {
                    panic!()
                };
                answer.send(Ok(Reloaded::default())).unwrap();
            };
            let (obeyed, ()) = tokio::join!(order(body), obey);
            assert!(obeyed.is_ok(), "{body}");
        }
    }
}
