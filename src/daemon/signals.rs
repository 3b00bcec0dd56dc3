//! What does the operator, or a service manager, ask for by signals?

use tokio::signal::unix::{self, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: end in order; the second one: end at once.
    End,
}

/// The signals that the daemon answers to.
pub(super) struct Signals {
    /// From a service manager.
    terminate: unix::Signal,
    /// From a terminal.
    interrupt: unix::Signal,
    /// From either.
    hangup: unix::Signal,
}

impl Signals {
    /// From now on these signals end nothing by themselves.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// Waits for the next one that asks for the end.
    pub(super) async fn end(&mut self) {
        while self.next().await != Signal::End {}
    }
}
