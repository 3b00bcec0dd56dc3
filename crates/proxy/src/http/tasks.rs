//! Who runs what hyper wants run beside a connection, and who ends it?
//!
//! Everything that serves one client lives in one set: it ends with the client.
//! And whatever serves one request can be ended alone when the request makes no
//! progress, whether the client reads or not: the whole connection in HTTP/1,
//! one stream of it in HTTP/2.

use std::sync::{Arc, Weak};

use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::progress::Progress;

tokio::task_local! {
    /// The request whose response is on its way in this task.
    static ANSWERING: watch::Sender<Option<Arc<Progress>>>;
}

/// The tasks of one client. They end when this is dropped.
#[derive(Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Starts tasks among those of one client, as long as they live.
#[derive(Clone)]
pub(super) struct Spawner(Weak<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Starts tasks among these. It may be held by one of them.
    pub(super) fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.0))
    }

    /// Waits until all have ended. None can be started any more.
    pub(super) async fn ended(self) {
        let mut tasks = {
            let mut tasks = self.0.lock();
            std::mem::take(&mut *tasks)
        };
        drop(self);
        while tasks.join_next().await.is_some() {}
    }
}

impl Spawner {
    /// Runs something until it or the client ends.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Some(tasks) = self.0.upgrade() else { return };
        let mut tasks = tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// What hyper starts: a task for each stream of HTTP/2.
impl<F> Executor<F> for Spawner
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.run(async {
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
