//! What does the operator, or a service manager, ask for by signals?

use std::time::{Duration, Instant};

use tokio::signal::unix::{self, SignalKind, signal};

use crate::clock::now;

/// Signals to end within this time of the first are one with it. timeout(1)
/// sends its signal to the process and again to the whole process group; Ctrl-C
/// reaches the group while a supervisor in it passes on its own.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: end in order; another one later: end at once.
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
    /// Which signals to end have come.
    requests: EndRequests,
}

/// Tells a second request to end from an echo of the first. Pure.
#[derive(Clone, Copy, Debug, Default)]
struct EndRequests {
    /// When the first came.
    first: Option<Instant>,
}

impl EndRequests {
    /// Takes in a signal to end, SIGTERM or SIGINT; whether it asks for anything
    /// that was not asked for before. The time counts from the first signal, so
    /// that repeating it without a pause ends the process too.
    fn is_new(&mut self, now: Instant) -> bool {
        match self.first {
            None => {
                self.first = Some(now);
                true
            }
            Some(first) => now.saturating_duration_since(first) >= ONE_REQUEST,
        }
    }
}

impl Signals {
    /// From now on these signals end nothing by themselves.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            requests: EndRequests::default(),
        })
    }

    /// Waits for the next request; signals that repeat one are passed over.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = self.hangup.recv() => return Signal::Reload,
            }
            if self.requests.is_new(now().monotonic) {
                return Signal::End;
            }
        }
    }

    /// Waits for the next one that asks for the end.
    pub(super) async fn end(&mut self) {
        while self.next().await != Signal::End {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_to_end_within_a_second_of_the_first_are_one_request() {
        let (start, mut requests) = (now().monotonic, EndRequests::default());
        let mut at = |millis| requests.is_new(start + Duration::from_millis(millis));
        assert!(at(0));
        assert!(![0, 1, 200, 700, 999].into_iter().any(&mut at));
        assert!(at(1000), "repeating it without a pause does not put the end off");
        assert!(at(1001));
    }

    #[test]
    fn the_second_counts_from_the_first_signal_whenever_that_came() {
        let (start, mut requests) = (now().monotonic, EndRequests::default());
        assert!(requests.is_new(start + Duration::from_secs(3600)));
        assert!(!requests.is_new(start + Duration::from_secs(3600)));
        // A clock that is read out of order is no second request.
        assert!(!requests.is_new(start));
        assert!(requests.is_new(start + Duration::from_secs(3602)));
    }
}
