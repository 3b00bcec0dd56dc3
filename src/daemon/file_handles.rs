//! How many files and connections may the process have open, and how many of
//! them may clients cause?
//!
//! A stream that is forwarded as it is costs a connection to an origin, and a
//! file that is asked for an open file, for as long as the client likes; asking
//! costs the client next to nothing. Without a limit, one client could take
//! every file handle of the process: then no circuit is built, no key is kept
//! and no origin answers any more. Connections that the HTTP proxy makes have
//! limits of their own (`max_connections`).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use onionbraid_proxy::shares::Shares;

use crate::durable;
use crate::tor::direct::Places;

/// As many as are good for, where the system allows it: each forwarded stream
/// costs buffers too.
const AT_MOST: u64 = 65_536;

/// What one circuit may have in any case: a browser with many tabs.
const PER_CIRCUIT_AT_LEAST: usize = 64;

/// How often it is looked whether the limit was raised from outside.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long a client waits for a handle: as for a connection to an origin.
const WITHIN: Duration = Duration::from_secs(5);

/// The file handles that clients may take, over all services.
#[derive(Clone, Debug)]
pub(super) struct FileHandles {
    /// Each for a stream that is forwarded, or for a file on its way to a client.
    pub(super) for_clients: Shares,
    /// How many there are of these.
    clients: Arc<AtomicUsize>,
    per_circuit: usize,
    /// How many there were at the start, for everything.
    all: u64,
}

impl FileHandles {
    /// Raises the limit of this process (`RLIMIT_NOFILE`) as far as it may, and
    /// gives half of it to clients. One handle is reserved for the state directory.
    pub(super) fn raise() -> Self {
        durable::reserve();
        let limit = rlimit::increase_nofile_limit(AT_MOST).unwrap_or_else(|error| {
            tracing::warn!(%error, "the limit of open files stays as it is");
            1024
        });
        tracing::debug!(limit, "files that may be open");
        Self::of(limit)
    }

    /// Half of so many for clients, and a sixteenth of these for one circuit.
    pub(super) fn of(limit: u64) -> Self {
        let clients = half(limit);
        let per_circuit = (clients / 16).max(PER_CIRCUIT_AT_LEAST);
        let for_clients = Shares::new(clients, per_circuit, WITHIN);
        Self { for_clients, clients: Arc::new(AtomicUsize::new(clients)), per_circuit, all: limit }
    }

    /// Room for connections to relays that clients choose, in a process that does not
    /// hide: they may not take what others need.
    pub(super) fn direct_connections(&self) -> Places {
        Places::of(self.all)
    }

    /// Gives clients their half of what is added to the limit from outside, as
    /// prlimit(1) does. What one circuit may have stays as it was.
    pub(super) async fn watch(&self) -> Infallible {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Ok((limit, _)) = rlimit::Resource::NOFILE.get() {
                self.grow(limit);
            }
        }
    }

    fn grow(&self, limit: u64) {
        let clients = half(limit);
        if self.clients.fetch_max(clients, Ordering::Relaxed) < clients {
            tracing::info!(limit, "the limit of open files was raised");
            self.for_clients.resize(clients, self.per_circuit);
        }
    }

    /// How many clients have.
    pub(super) fn open(&self) -> u64 {
        self.limit() - (self.for_clients.left() as u64).min(self.limit())
    }

    /// How many they may have.
    pub(super) fn limit(&self) -> u64 {
        self.clients.load(Ordering::Relaxed) as u64
    }

    /// How many streams one circuit may have open, where the operator allows
    /// this many.
    pub(super) fn per_circuit(&self, allowed: usize) -> usize {
        allowed.min(self.per_circuit)
    }
}

/// What clients get.
fn half(limit: u64) -> usize {
    usize::try_from(limit.min(AT_MOST) / 2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_get_half_and_one_circuit_a_small_part_of_that() {
        let handles = FileHandles::of(4096);
        assert_eq!([10, 65_535].map(|allowed| handles.per_circuit(allowed)), [10, 128]);
        assert_eq!(handles.for_clients.left(), 2048);
        let mut taken = Vec::new();
        while let Some(handle) = handles.for_clients.take(7).await {
            taken.push(handle);
        }
        assert_eq!((taken.len(), handles.for_clients.left()), (128, 1920));
        assert!(handles.for_clients.take(8).await.is_some());
    }

    #[test]
    fn clients_get_half_of_what_is_added_and_lose_nothing_when_the_limit_sinks() {
        let handles = FileHandles::of(100);
        for (limit, left) in [(4096, 2048), (50, 2048), (u64::MAX, 32_768)] {
            handles.grow(limit);
            assert_eq!(handles.for_clients.left(), left, "{limit}");
        }
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
