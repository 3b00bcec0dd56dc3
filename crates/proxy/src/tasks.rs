//! Tasks that end with their owner: what hyper wants run beside a connection, and
//! what a connection becomes.

use std::sync::{Arc, Weak};

use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// The tasks of one owner. They end when this is dropped.
#[derive(Default)]
pub struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Starts tasks among those of one owner, as long as they live.
#[derive(Clone)]
pub struct Spawner(Weak<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Starts tasks among these. It may be held by one of them.
    pub fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.0))
    }

    /// Waits until all have ended. None can be started any more.
    pub async fn ended(self) {
        let mut tasks = {
            let mut tasks = self.0.lock();
            std::mem::take(&mut *tasks)
        };
        drop(self);
        while tasks.join_next().await.is_some() {}
    }
}

impl Spawner {
    /// Runs something until it or the owner ends.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Some(tasks) = self.0.upgrade() else { return };
        let mut tasks = tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl<F> Executor<F> for Spawner
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.run(async {
            let _ = future.await;
        });
    }
}
