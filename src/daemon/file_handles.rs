//! How many files and connections may the process have open, and how many of
//! them may clients cause?
//!
//! A stream that is forwarded as it is costs a connection to an origin for as
//! long as the client likes, and opening one costs the client next to nothing.
//! Without a limit, one client could take every file handle of the process:
//! then no circuit is built, no key is kept and no origin answers any more.
//! Connections that the HTTP proxy makes have limits of their own.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// As many as are good for, where the system allows it: each forwarded stream
/// costs buffers too.
const AT_MOST: u64 = 65_536;

/// What one circuit may have in any case: a browser with many tabs.
const PER_CIRCUIT_AT_LEAST: usize = 64;

/// The file handles that streams of clients may take, over all services.
#[derive(Clone, Debug)]
pub(super) struct FileHandles {
    for_streams: Arc<Semaphore>,
    per_circuit: usize,
}

impl FileHandles {
    /// Raises the limit of this process (`RLIMIT_NOFILE`) as far as it may, and
    /// gives half of it to streams.
    pub(super) fn raise() -> Self {
        let limit = rlimit::increase_nofile_limit(AT_MOST).unwrap_or_else(|error| {
            tracing::warn!(%error, "the limit of open files stays as it is");
            1024
        });
        tracing::debug!(limit, "files that may be open");
        Self::of(limit)
    }

    /// Half of so many for streams, and a sixteenth of these for one circuit.
    fn of(limit: u64) -> Self {
        let streams = usize::try_from(limit.min(AT_MOST) / 2).unwrap_or_default();
        let per_circuit = (streams / 16).max(PER_CIRCUIT_AT_LEAST);
        Self { for_streams: Arc::new(Semaphore::new(streams)), per_circuit }
    }

    /// For one stream, until this is dropped; `None`: there are too many.
    pub(super) fn for_stream(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.for_streams).try_acquire_owned().ok()
    }

    /// How many streams one circuit may have open, where the operator allows
    /// this many.
    pub(super) fn per_circuit(&self, allowed: usize) -> usize {
        allowed.min(self.per_circuit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_get_half_and_one_circuit_a_small_part_of_that() {
        let handles = FileHandles::of(4096);
        assert_eq!([10, 65_535].map(|allowed| handles.per_circuit(allowed)), [10, 128]);
        let taken: Vec<_> = (0..2048).map(|_| handles.for_stream().unwrap()).collect();
        assert!(handles.for_stream().is_none());
        drop(taken);
        assert!(handles.for_stream().is_some());
    }

    #[test]
    fn whatever_the_limit_a_browser_is_served() {
        assert_eq!(FileHandles::of(256).per_circuit(65_535), PER_CIRCUIT_AT_LEAST);
        assert_eq!(FileHandles::of(u64::MAX).per_circuit(65_535), 2048);
    }

    #[test]
    fn the_limit_of_the_process_is_raised_as_far_as_it_may() {
        FileHandles::raise();
        let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
        assert!(soft >= hard.min(AT_MOST), "{soft} of {hard}");
    }
}
