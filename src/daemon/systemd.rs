//! What a service manager such as systemd is told (sd_notify(3)): that the
//! daemon has started, how it is doing, that it reloads, ends, and that its
//! loops turn. Without `$NOTIFY_SOCKET` nothing is done at all.

use std::convert::Infallible;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc;

use crate::observe::brief;

use super::pulse::Pulse;
use super::snapshot::Board;

/// Messages that may wait; more are dropped, so that nothing ever waits for a
/// service manager that does not read.
const QUEUE: usize = 16;

/// How often the status is looked at; it is sent when it has changed.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// The same before Tor is ready.
const STATUS_EVERY_AT_FIRST: Duration = Duration::from_secs(2);

/// The loops are asked so many times in the time that the manager allows.
const BEATS: u32 = 4;

/// More of a status nobody reads.
const STATUS_CHARS: usize = 500;

/// Tells the service manager, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Systemd(Option<mpsc::Sender<String>>);

/// Carries the messages there.
#[derive(Debug)]
pub(super) struct Messages(Option<mpsc::Receiver<String>>);

/// The service manager, and what has to be run for it.
pub(super) fn connect() -> (Systemd, Messages) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return (Systemd(None), Messages(None));
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Systemd(Some(sender)), Messages(Some(receiver)))
}

impl Systemd {
    /// The daemon has started, or a reload is over.
    pub(super) fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// A reload begins.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(time) => self.send(&[NotifyState::Reloading, time]),
            Err(error) => tracing::debug!(%error, "cannot read the monotonic clock"),
        }
    }

    /// The end begins.
    pub(super) fn stopping(&self) {
        self.send(&[NotifyState::Stopping, NotifyState::Status("ending")]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if let Some(sender) = &self.0 {
            let text = states.iter().map(|state| format!("{state}\n")).collect();
            if sender.try_send(text).is_err() {
                tracing::debug!("the service manager does not read its messages");
            }
        }
    }

    /// Shows for ever how the daemon is doing, in a line, and that its loops
    /// turn, where the manager wants to know that.
    pub(super) async fn keep_informed(self, board: Arc<Board>, pulse: Pulse) -> Infallible {
        if self.0.is_none() {
            return std::future::pending().await;
        }
        tokio::join!(self.show_status(board), self.feed_watchdog(pulse)).0
    }

    async fn show_status(&self, board: Arc<Board>) -> Infallible {
        let mut shown = String::new();
        loop {
            let snapshot = board.snapshot();
            let status = status_line(&brief::summary(&snapshot));
            if status != shown {
                self.send(&[NotifyState::Status(&status)]);
                shown = status;
            }
            let ready = snapshot.tor.bootstrap >= 1.0 && snapshot.ready;
            tokio::time::sleep(if ready { STATUS_EVERY } else { STATUS_EVERY_AT_FIRST }).await;
        }
    }

    async fn feed_watchdog(&self, pulse: Pulse) -> Infallible {
        let Some(within) = sd_notify::watchdog_enabled().filter(|within| !within.is_zero()) else {
            return std::future::pending().await;
        };
        let mut was_fed = true;
        loop {
            let turn = pulse.all_turn();
            if turn {
                self.send(&[NotifyState::Watchdog]);
            } else if was_fed {
                tracing::warn!("an event loop has not come round; the watchdog is not fed");
            }
            was_fed = turn;
            tokio::time::sleep(within / BEATS).await;
        }
    }
}

impl Messages {
    /// Carries messages for ever, one after the other.
    pub(super) async fn carry(self) -> Infallible {
        let Messages(Some(mut messages)) = self else { return std::future::pending().await };
        while let Some(message) = messages.recv().await {
            // It waits where the manager's queue is full.
            let sent = tokio::task::spawn_blocking(move || tell(&message)).await;
            if let Err(error) = sent.map_err(io::Error::other).flatten() {
                tracing::debug!(%error, "cannot tell the service manager");
            }
        }
        std::future::pending().await
    }
}

/// Sends a message to `$NOTIFY_SOCKET`: a path, or `@` and an abstract name, which the
/// library does not know.
fn tell(message: &str) -> io::Result<()> {
    let socket = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    match socket.as_bytes() {
        [b'@', name @ ..] => {
            let manager = SocketAddr::from_abstract_name(name)?;
            UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &manager).map(drop)
        }
        _ => sd_notify::notify(&[NotifyState::Custom(message.trim_end())]),
    }
}

/// A status on one line: what relays have a say in must not look like another
/// message.
fn status_line(text: &str) -> String {
    text.chars().take(STATUS_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_and_not_long() {
        assert_eq!(status_line("ready\nMAINPID=1"), "ready MAINPID=1");
        assert_eq!(status_line(&"é".repeat(2 * STATUS_CHARS)).chars().count(), STATUS_CHARS);
    }
}
