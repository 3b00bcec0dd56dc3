//! The tasks of the connections to one origin. They end with their owner.

use std::future::Future;
use std::sync::{Mutex, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// The owner of the tasks. A task that starts others knows it only weakly, or
/// it would keep itself alive.
#[derive(Debug, Default)]
pub(super) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    /// Runs a task for as long as the owner lives. Without owner or runtime it
    /// is dropped at once: both mean that everything ends.
    pub(super) fn spawn(tasks: &Weak<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let (Some(tasks), Ok(runtime)) = (tasks.upgrade(), Handle::try_current()) else { return };
        let mut set = tasks.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are let go.
        while set.try_join_next().is_some() {}
        set.spawn_on(task, &runtime);
    }
}

/// The tasks that hyper starts for HTTP/2.
#[derive(Clone, Debug)]
pub(super) struct Executor(pub(super) Weak<Tasks>);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        Tasks::spawn(&self.0, task);
    }
}
