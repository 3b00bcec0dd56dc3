//! How much may clients cost an instance? Pure.
//!
//! Anybody who knows the address can send introductions, and each one that is
//! looked at costs public key operations and a circuit. What is beyond these
//! limits is dropped and counted; the client's Tor tries again by itself.

use std::time::{Duration, Instant};

/// Introductions that may wait to be looked at. More are dropped, as C tor
/// drops them: the relay cannot be told to slow down.
pub(super) const INTRODUCTION_QUEUE: usize = 512;

/// Introductions looked at in a second, over time: more than a process on one
/// guard can build circuits for, and a small part of what a core can decrypt.
const INTRODUCTIONS_PER_SECOND: u32 = 200;

/// Introductions looked at in one go after a quiet time.
const INTRODUCTIONS_IN_A_BURST: u32 = 1_000;

/// Rendezvous that may be under way at a time. Each builds a circuit, which
/// costs a few tens of kilobytes and a public key operation for every hop.
const RENDEZVOUS_AT_ONCE: u64 = 256;

/// Clients at a time, those included that are being met.
const CLIENTS_AT_ONCE: usize = 8_192;

/// How long a client's circuit may stay without a stream. C tor's clients close
/// theirs after ten minutes; who keeps one longer wants to keep us busy.
pub(super) const IDLE_FOR: Duration = Duration::from_hours(1);

/// The same while the instance finishes: as long as a client may need between
/// two requests for one page.
pub(super) const IDLE_WHILE_FINISHING: Duration = Duration::from_secs(5);

/// What an instance is busy with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Rendezvous under way.
    pub(super) rendezvous: u64,
    /// Clients, those included that are being met.
    pub(super) clients: usize,
}

/// Lets introductions through, and no more than is good: a bucket of tokens
/// that fills over time.
#[derive(Debug)]
pub(super) struct Admission {
    /// What may be let through at this moment.
    tokens: f64,
    /// When that was so.
    as_of: Option<Instant>,
}

impl Admission {
    /// Nothing was let through so far.
    pub(super) fn new() -> Self {
        Self { tokens: INTRODUCTIONS_IN_A_BURST.into(), as_of: None }
    }

    /// Whether one more introduction is to be looked at.
    pub(super) fn admits(&mut self, load: Load, now: Instant) -> bool {
        let passed = self.as_of.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let filled = self.tokens + passed.as_secs_f64() * f64::from(INTRODUCTIONS_PER_SECOND);
        self.tokens = filled.min(INTRODUCTIONS_IN_A_BURST.into());
        self.as_of = Some(now);
        let admits = load.rendezvous < RENDEZVOUS_AT_ONCE
            && load.clients < CLIENTS_AT_ONCE
            && self.tokens >= 1.0;
        if admits {
            self.tokens -= 1.0;
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Load = Load { rendezvous: 0, clients: 0 };

    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
    fn some_moment() -> Instant {
        Instant::now()
    }

    fn admitted(admission: &mut Admission, now: Instant) -> u32 {
        (0..).take_while(|_| admission.admits(IDLE, now)).count().try_into().unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let now = some_moment();
        let mut admission = Admission::new();
        assert_eq!(admitted(&mut admission, now), INTRODUCTIONS_IN_A_BURST);
        let later = now + Duration::from_secs(2);
        assert_eq!(admitted(&mut admission, later), 2 * INTRODUCTIONS_PER_SECOND);
    }

    #[test]
    fn a_long_quiet_time_allows_no_more_than_one_burst() {
        let now = some_moment();
        let mut admission = Admission::new();
        assert!(admission.admits(IDLE, now));
        let later = now + Duration::from_hours(24);
        assert_eq!(admitted(&mut admission, later), INTRODUCTIONS_IN_A_BURST);
    }

    #[test]
    fn who_is_busy_enough_takes_nobody_else_and_loses_no_token_for_it() {
        let now = some_moment();
        let mut admission = Admission::new();
        let meeting = Load { rendezvous: RENDEZVOUS_AT_ONCE, ..IDLE };
        let serving = Load { clients: CLIENTS_AT_ONCE, ..IDLE };
        assert!(!admission.admits(meeting, now));
        assert!(!admission.admits(serving, now));
        assert_eq!(admitted(&mut admission, now), INTRODUCTIONS_IN_A_BURST);
    }
}
