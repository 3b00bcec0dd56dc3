//! What becomes of the TCP connections that Arti opens: the provider between it
//! and the system, which notes the outcome of each.
//!
//! Arti says little of them, and late. Read by [`watch`](super::watch).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use onionbraid_balancer::fact::Now;
use parking_lot::Mutex;
use tor_rtcompat::{CompoundRuntime, NetStreamProvider, PreferredRuntime};

use super::diagnosis::ConnectionOutcome;
use crate::clock::now;

/// The runtime under Arti: tokio with rustls, and connections that are noted.
pub type Runtime = CompoundRuntime<
    PreferredRuntime,
    PreferredRuntime,
    PreferredRuntime,
    Noted,
    PreferredRuntime,
    PreferredRuntime,
    PreferredRuntime,
>;

/// So many outcomes are kept, the newest.
const KEPT: usize = 128;

/// Who gets no answer for so long will hardly get one. Arti gives an attempt up
/// after five seconds.
const SILENT_AFTER: Duration = Duration::from_secs(3);

/// The runtime, and what it notes.
pub(super) fn runtime() -> io::Result<(Runtime, Attempts)> {
    let system = PreferredRuntime::current()?;
    let attempts = Attempts::default();
    let tcp = Noted { system: system.clone(), attempts: attempts.clone() };
    let [a, b, c, d, e] = std::array::from_fn(|_| system.clone());
    Ok((CompoundRuntime::new(a, b, c, tcp, d, e, system), attempts))
}

/// One attempt that is over, or that nobody answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Where.
    pub(super) address: SocketAddr,
    /// How it went.
    pub(super) outcome: ConnectionOutcome,
    /// When that was known.
    pub(super) at: Now,
}

/// The newest attempts.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    /// Those that are over, oldest first.
    ended: VecDeque<Attempt>,
    /// Where connections opened, the newest last, each once.
    connected: VecDeque<SocketAddr>,
    /// Those under way, by a number each. Arti bounds them.
    pending: BTreeMap<u64, (SocketAddr, Now)>,
    /// The number of the next.
    next: u64,
}

impl Attempts {
    /// The attempts that ended within this time, and those under way that have
    /// been without an answer for long; oldest first.
    pub(super) fn within(&self, window: Duration, now: Now) -> Vec<Attempt> {
        let age = |at: Now| now.monotonic.saturating_duration_since(at.monotonic);
        let notes = self.0.lock();
        let ended = notes.ended.iter().filter(|attempt| age(attempt.at) <= window).copied();
        let silent = notes.pending.values().filter(|(_, since)| age(*since) >= SILENT_AFTER);
        let silent = silent.map(|(address, _)| Attempt {
            address: *address,
            outcome: ConnectionOutcome::Silent,
            at: now,
        });
        ended.chain(silent).collect()
    }

    /// Where connections have opened, whether they are open still or not.
    pub(super) fn connected(&self) -> BTreeSet<SocketAddr> {
        self.0.lock().connected.iter().copied().collect()
    }

    fn begin(&self, address: SocketAddr) -> Pending {
        let mut notes = self.0.lock();
        let number = notes.next;
        notes.next += 1;
        notes.pending.insert(number, (address, now()));
        Pending { attempts: self.clone(), number, outcome: None }
    }
}

/// An attempt under way; noted when it is dropped.
struct Pending {
    attempts: Attempts,
    number: u64,
    /// How it ended; `None`: it was given up.
    outcome: Option<ConnectionOutcome>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let at = now();
        let mut notes = self.attempts.0.lock();
        let Some((address, since)) = notes.pending.remove(&self.number) else { return };
        let waited = at.monotonic.saturating_duration_since(since.monotonic);
        // Who was given up sooner has lost a race to another address.
        let given_up = (waited >= SILENT_AFTER).then_some(ConnectionOutcome::Silent);
        let Some(outcome) = self.outcome.or(given_up) else { return };
        if outcome == ConnectionOutcome::Connected {
            notes.connected.retain(|other| *other != address);
            notes.connected.push_back(address);
            while notes.connected.len() > KEPT {
                notes.connected.pop_front();
            }
        }
        notes.ended.push_back(Attempt { address, outcome, at });
        while notes.ended.len() > KEPT {
            notes.ended.pop_front();
        }
    }
}

/// The system's TCP, with every connection that is opened noted.
#[derive(Clone, Debug)]
pub struct Noted {
    system: PreferredRuntime,
    attempts: Attempts,
}

#[async_trait]
impl NetStreamProvider<SocketAddr> for Noted {
    type Stream = <PreferredRuntime as NetStreamProvider<SocketAddr>>::Stream;
    type Listener = <PreferredRuntime as NetStreamProvider<SocketAddr>>::Listener;
    type ConnectOptions = <PreferredRuntime as NetStreamProvider<SocketAddr>>::ConnectOptions;
    type ListenOptions = <PreferredRuntime as NetStreamProvider<SocketAddr>>::ListenOptions;

    async fn connect(
        &self,
        address: &SocketAddr,
        options: &Self::ConnectOptions,
    ) -> io::Result<Self::Stream> {
        let mut pending = self.attempts.begin(*address);
        let result = self.system.connect(address, options).await;
        pending.outcome = Some(match &result {
            Ok(_) => ConnectionOutcome::Connected,
            Err(error) => outcome_of(error),
        });
        result
    }

    async fn listen(
        &self,
        address: &SocketAddr,
        options: &Self::ListenOptions,
    ) -> io::Result<Self::Listener> {
        self.system.listen(address, options).await
    }
}

/// What an error says of the way there.
fn outcome_of(error: &io::Error) -> ConnectionOutcome {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::NetworkUnreachable | Kind::NetworkDown | Kind::AddrNotAvailable => {
            ConnectionOutcome::NoRoute
        }
        Kind::HostUnreachable => ConnectionOutcome::Unreachable,
        Kind::PermissionDenied => ConnectionOutcome::Forbidden,
        Kind::ConnectionRefused | Kind::ConnectionReset => ConnectionOutcome::Refused,
        Kind::TimedOut => ConnectionOutcome::Silent,
        _ => ConnectionOutcome::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_outcome_is_noted_and_a_lost_race_is_not() {
        let (runtime, attempts) = runtime().unwrap();
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open_at = open.local_addr().unwrap();
        let connect = async |address: SocketAddr| {
            NetStreamProvider::<SocketAddr>::connect(&runtime, &address, &Default::default()).await
        };
        assert!(connect(open_at).await.is_ok());
        // Nobody can listen at port 0.
        let closed = SocketAddr::from(([127, 0, 0, 1], 0));
        assert!(connect(closed).await.is_err());
        drop(attempts.begin(open_at));
        let seen = attempts.within(Duration::from_secs(60), now());
        let seen: Vec<_> = seen.iter().map(|it| (it.address, it.outcome)).collect();
        assert_eq!(seen[0], (open_at, ConnectionOutcome::Connected));
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(seen[1].0, closed);
    }

    #[test]
    fn an_attempt_without_an_answer_is_silent_while_it_waits_and_when_it_is_given_up() {
        let attempts = Attempts::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 443));
        let pending = attempts.begin(address);
        assert!(attempts.within(Duration::from_secs(60), now()).is_empty());
        let began = now();
        let later = Now { monotonic: began.monotonic + SILENT_AFTER, ..began };
        let waiting = attempts.within(Duration::from_secs(60), later);
        assert_eq!(waiting.first().map(|it| it.outcome), Some(ConnectionOutcome::Silent));
        let began = began.monotonic.checked_sub(SILENT_AFTER).unwrap();
        attempts.0.lock().pending.get_mut(&pending.number).unwrap().1.monotonic = began;
        drop(pending);
        let given_up = attempts.within(Duration::from_secs(60), now());
        assert_eq!(given_up.first().map(|it| it.outcome), Some(ConnectionOutcome::Silent));
        assert_eq!(given_up.len(), 1);
        // An hour later it tells nothing any more.
        let later = Now { monotonic: now().monotonic + Duration::from_secs(3600), ..now() };
        assert!(attempts.within(Duration::from_secs(60), later).is_empty());
    }

    #[test]
    fn no_more_outcomes_are_kept_than_so_many() {
        let attempts = Attempts::default();
        for _ in 0..3 * KEPT {
            let mut pending = attempts.begin(SocketAddr::from(([192, 0, 2, 1], 443)));
            pending.outcome = Some(ConnectionOutcome::Refused);
        }
        assert_eq!(attempts.within(Duration::from_secs(60), now()).len(), KEPT);
    }

    #[test]
    fn the_systems_errors_are_told_apart() {
        let of = |code| outcome_of(&io::Error::from_raw_os_error(code));
        // ENETUNREACH, ENETDOWN, EADDRNOTAVAIL
        assert!([101, 100, 99].map(of).iter().all(|it| *it == ConnectionOutcome::NoRoute));
        // EHOSTUNREACH, EPERM, EACCES, ECONNREFUSED, ETIMEDOUT, EIO
        let others = [113, 1, 13, 111, 110, 5].map(of);
        use ConnectionOutcome::{Broken, Forbidden, Refused, Silent, Unreachable};
        assert_eq!(others, [Unreachable, Forbidden, Forbidden, Refused, Silent, Broken]);
    }
}
