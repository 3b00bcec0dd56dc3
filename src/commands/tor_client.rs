//! How does a command get at the Tor network? With an embedded client of its
//! own, on directories that are made for it and removed afterwards.
//!
//! So it disturbs no daemon: neither its lock, nor its guards, nor its cache.
//! What a command has left behind that was killed, the next one removes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::clock::now;
use crate::config::Config;
use crate::exit::Exit;
use crate::tor::bootstrap::{Tor, TorError};
use crate::tor::network::Network;

/// How long a client without any cache may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// How long to wait for the last microdescriptors once Tor can be used.
const COMPLETE_WITHIN: Duration = Duration::from_secs(20);

/// How long Arti's tasks may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// How long to try to remove their directory: one that has not ended by then
/// may still write to it.
const REMOVE_WITHIN: Duration = Duration::from_secs(3);

/// How long to wait before the next try.
const REMOVE_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How the names of the directories begin.
const PREFIX: &str = "client-";

/// Does `work` on a Tor network, and cleans up whatever becomes of it.
///
/// # Errors
///
/// If the directories cannot be made, if Tor does not get ready, or on SIGINT
/// and SIGTERM.
pub(crate) fn with_network<T>(
    config: &Config,
    work: impl AsyncFnOnce(Network) -> T,
) -> Result<T, Failure> {
    let Directory { directory, _lock } = make_directory(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Failed, format!("no tokio runtime: {error}")))?;
    let result = runtime.block_on(async {
        let interrupted = interrupted()?;
        tokio::select! {
            result = connect_and(config, directory.path(), work) => result,
            failure = interrupted => Err(failure),
        }
    });
    // Before the directory goes: Arti writes to it as long as it lives.
    runtime.shutdown_timeout(END_WITHIN);
    let path = directory.keep();
    if let Err(error) = persistently(|| fs::remove_dir_all(&path)) {
        let path = path.display();
        let _ = writeln!(io::stderr(), "onionbraid: warning: {path} cannot be removed: {error}");
    }
    result
}

/// Tries until it works, or it is time to go.
fn persistently(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let end = now().monotonic + REMOVE_WITHIN;
    loop {
        match attempt() {
            Err(_) if now().monotonic < end => std::thread::sleep(REMOVE_AGAIN_AFTER),
            result => return result,
        }
    }
}

/// A directory for one client.
struct Directory {
    directory: TempDir,
    /// Says that its owner lives: the system releases it however that ends.
    _lock: Option<File>,
}

/// A directory (0700) below the cache directory, which may have to be made.
fn make_directory(config: &Config) -> Result<Directory, Failure> {
    let cache = &config.storage.cache_dir;
    let failed = |error: &dyn std::fmt::Display| {
        let text =
            format!("no directory for a Tor client can be made below {}: {error}", cache.display());
        Failure::new(Exit::Permission, text)
    };
    config
        .storage
        .mistrust
        .verifier()
        .make_directory(cache)
        .map_err(|error| failed(&format!("{:#}", anyhow::Error::from(error))))?;
    make_directory_in(cache).map_err(|error| failed(&error))
}

/// A directory in this one, and none there any more whose owner is dead. Where
/// the file system has no locks, nobody's is removed.
fn make_directory_in(cache: &Path) -> io::Result<Directory> {
    // Held until the new directory has its own: nobody takes it for a dead one's.
    let turn = locked(cache);
    if turn.is_some() {
        remove_left_over(cache);
    }
    let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(cache)?;
    let _lock = turn.and_then(|_turn| locked(directory.path()));
    Ok(Directory { directory, _lock })
}

/// The lock on a directory, once nobody else has it.
fn locked(directory: &Path) -> Option<File> {
    let opened = File::open(directory).ok()?;
    opened.lock().ok()?;
    Some(opened)
}

/// Removes the directories on which nobody has a lock.
fn remove_left_over(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        let dead = || File::open(entry.path()).is_ok_and(|opened| opened.try_lock().is_ok());
        if ours && dead() {
            // What cannot be removed now is tried by the next command.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

async fn connect_and<T>(
    config: &Config,
    directory: &Path,
    work: impl AsyncFnOnce(Network) -> T,
) -> Result<T, Failure> {
    let tor = Tor::new(config.tor_below(directory)?)?;
    let _ = writeln!(io::stderr(), "connecting to Tor ...");
    let network = match tokio::time::timeout(READY_WITHIN, tor.bootstrap()).await {
        Ok(network) => network,
        Err(_) => {
            let view = tor.view();
            let text = format!(
                "Tor is not ready after {READY_WITHIN:?}: {:.0} %, {}",
                view.fraction * 100.0,
                view.message
            );
            return Err(Failure::new(Exit::Failed, text));
        }
    };
    network.described_within(COMPLETE_WITHIN).await;
    Ok(work(network).await)
}

/// From now on SIGINT and SIGTERM end nothing by themselves; the future waits
/// for one.
fn interrupted() -> Result<impl Future<Output = Failure>, Failure> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot receive signals: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Failure::new(Exit::Failed, "interrupted")
    })
}

impl From<TorError> for Failure {
    fn from(error: TorError) -> Self {
        Self::new(Exit::Failed, format!("{:#}", anyhow::Error::from(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_command_has_left_is_removed_and_nothing_else() {
        let cache = tempfile::tempdir().unwrap();
        let living = make_directory_in(cache.path()).unwrap();
        let [dead, other, file] =
            ["client-dead", "dir-blobs", "client-file"].map(|name| cache.path().join(name));
        fs::create_dir_all(dead.join("state")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(&file, "").unwrap();
        let also_living = make_directory_in(cache.path()).unwrap();
        assert!(!dead.exists());
        assert!(other.exists() && file.exists());
        assert!(living.directory.path().exists() && also_living.directory.path().exists());

        let path = living.directory.path().to_owned();
        // As if it were killed: the lock goes and the directory stays.
        let _ = living.directory.keep();
        drop(living._lock);
        make_directory_in(cache.path()).unwrap();
        assert!(!path.exists());
        assert!(also_living.directory.path().exists());
    }

    #[test]
    fn a_directory_that_is_written_to_at_first_is_removed_at_last() {
        let mut attempts = 0;
        let removed = persistently(|| {
            attempts += 1;
            if attempts < 3 { Err(io::ErrorKind::DirectoryNotEmpty.into()) } else { Ok(()) }
        });
        assert!(removed.is_ok());
        assert_eq!(attempts, 3);
    }
}
