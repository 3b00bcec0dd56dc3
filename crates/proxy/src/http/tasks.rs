//! Who ends what hyper runs beside a connection?
//!
//! Everything that serves one client lives in one set of [`tasks`](crate::tasks):
//! it ends with the client. And whatever serves one request can be ended alone when the request makes no
//! progress, whether the client reads or not: the whole connection in HTTP/1,
//! one stream of it in HTTP/2.

use std::sync::Arc;

use hyper::rt::Executor;
use tokio::sync::watch;

use super::progress::Progress;
use crate::tasks::Spawner;

tokio::task_local! {
    /// The request whose response is on its way in this task.
    static ANSWERING: watch::Sender<Option<Arc<Progress>>>;
}

/// Runs what hyper starts for one client among the client's tasks, each for as long
/// as the response that it sends makes progress.
#[derive(Clone)]
pub(super) struct Answering(pub(super) Spawner);

/// What hyper starts: a task for each stream of HTTP/2.
impl<F> Executor<F> for Answering
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.run(async {
            let _ = answering(future).await;
        });
    }
}

/// Runs what sends responses, until it ends (`Some`) or a response makes no
/// progress any more.
pub(super) async fn answering<F: Future>(future: F) -> Option<F::Output> {
    let (current, mut watched) = watch::channel(None::<Arc<Progress>>);
    let overdue = async {
        loop {
            let progress = watched.borrow_and_update().clone();
            let overdue = async {
                match progress {
                    Some(progress) => progress.overdue().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = overdue => return,
                changed = watched.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    };
    tokio::select! {
        ended = ANSWERING.scope(current, future) => Some(ended),
        () = overdue => None,
    }
}

/// From now on this task lives only as long as this request makes progress.
pub(super) fn live_by(progress: Arc<Progress>) {
    // Outside of `answering` there is nothing to end.
    let _ = ANSWERING.try_with(|current| current.send_replace(Some(progress)));
}
