//! How much may clients cost an instance? Pure.
//!
//! Anybody who knows the address can send introductions, and each one that is
//! looked at costs public key operations and a circuit. What is beyond these
//! limits is dropped and counted; the client's Tor tries again by itself.
//!
//! # Memory
//!
//! A client that stops reading costs, for each of its streams, what `tor-proto`
//! queues on the way out: 128 messages of at most 498 bytes, 64 KiB; and one
//! buffer of the proxy. Then the queue is full, the stream takes no more, and
//! nothing more is read from the origin. What was sent is not held back for it:
//! a stream waits for SENDME (window of 500 cells), or after XOFF for XON, before
//! cells leave the queue (proposal 324).
//!
//! A client that sends what the origin does not read costs up to 500 cells,
//! 250 KB, for each stream with windows. With congestion control it is told
//! to stop (XOFF) at about the same; one that goes on although it was told is
//! stopped by Arti's own account of all such queues: beyond `system.memory.max`
//! (by default between 256 MiB and 8 GiB, after the size of the machine) the
//! circuits that have waited longest are closed.
//!
//! The number of streams is bounded for each circuit
//! (`max_concurrent_streams_per_circuit`), that of circuits here.

use std::time::{Duration, Instant};

/// Introductions that may wait to be looked at. More are dropped, as C tor
/// drops them: the relay cannot be told to slow down.
pub(super) const INTRODUCTION_QUEUE: usize = 512;

/// Introductions that may wait for decryption at each point, while they are ordered
/// by work: as many as are decrypted in a few tens of milliseconds.
pub(super) const TO_DECRYPT: usize = 256;

/// Introductions looked at in a second, over time and all points: more than a
/// process on one guard can build circuits for, and a small part of what a core
/// can decrypt. Each point has its share: a relay that floods us leaves the
/// clients at other relays theirs.
pub(super) const INTRODUCTIONS_PER_SECOND: u32 = 200;

/// Introductions looked at in one go after a quiet time, at all points.
const INTRODUCTIONS_IN_A_BURST: u32 = 1_000;

/// Rendezvous that may be under way at a time. Each builds a circuit, which
/// costs a few tens of kilobytes and a public key operation for every hop; one
/// to a point that does not answer takes a minute.
pub(super) const RENDEZVOUS_AT_ONCE: u64 = 1_024;

/// Clients at a time, those included that are being met. When there are so
/// many, whoever makes least use of a circuit makes room for one whose
/// introduction can be read.
pub(super) const CLIENTS_AT_ONCE: usize = 8_192;

/// How soon a client that was met opens its first stream: at once, since it
/// comes for nothing else.
pub(super) const FIRST_STREAM_WITHIN: Duration = Duration::from_mins(2);

/// How long a client's circuit may stay without a stream after that. C tor's
/// clients close theirs after ten minutes.
pub(super) const IDLE_FOR: Duration = Duration::from_mins(15);

/// The same while the instance finishes: as long as a client may need between
/// two requests for one page.
pub(super) const IDLE_WHILE_FINISHING: Duration = Duration::from_secs(5);

/// What keeps an introduction out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// More came than are looked at.
    Rate,
    /// As many rendezvous as may be are under way.
    Rendezvous,
    /// As many clients as may be are there, and none of them makes room.
    Circuits,
}

/// Lets introductions of one point through, and no more than is good: a bucket
/// of tokens that fills over time.
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

    /// Whether one more introduction may be looked at, at one of so many points,
    /// while so many rendezvous are under way. [`take`](Self::take) follows if it is.
    ///
    /// # Errors
    ///
    /// The limit that keeps it out.
    pub(super) fn admit(
        &mut self,
        rendezvous: u64,
        points: usize,
        now: Instant,
    ) -> Result<(), Limit> {
        let share = 1.0 / points.max(1) as f64;
        let passed = self.as_of.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let rate = share * f64::from(INTRODUCTIONS_PER_SECOND);
        let filled = self.tokens + passed.as_secs_f64() * rate;
        self.tokens = filled.min(share * f64::from(INTRODUCTIONS_IN_A_BURST));
        self.as_of = Some(now);
        if rendezvous >= RENDEZVOUS_AT_ONCE {
            return Err(Limit::Rendezvous);
        }
        if self.tokens < 1.0 { Err(Limit::Rate) } else { Ok(()) }
    }

    /// One is looked at.
    pub(super) fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
    fn some_moment() -> Instant {
        Instant::now()
    }

    /// How many are looked at in one go, at one of so many points.
    fn admitted_of(admission: &mut Admission, points: usize, now: Instant) -> u32 {
        let mut admitted = 0;
        while admission.admit(0, points, now).is_ok() {
            admission.take();
            admitted += 1;
        }
        admitted
    }

    fn admitted(admission: &mut Admission, now: Instant) -> u32 {
        admitted_of(admission, 1, now)
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
        assert_eq!(admission.admit(0, 1, now), Ok(()));
        let later = now + Duration::from_hours(24);
        assert_eq!(admitted(&mut admission, later), INTRODUCTIONS_IN_A_BURST);
    }

    #[test]
    fn who_is_busy_enough_takes_nobody_else_and_loses_no_token_for_it() {
        let now = some_moment();
        let mut admission = Admission::new();
        assert_eq!(admission.admit(RENDEZVOUS_AT_ONCE, 1, now), Err(Limit::Rendezvous));
        assert_eq!(admitted(&mut admission, now), INTRODUCTIONS_IN_A_BURST);
    }

    #[test]
    fn each_point_has_its_share() {
        let now = some_moment();
        let mut admission = Admission::new();
        let mut admitted = |now| admitted_of(&mut admission, 4, now);
        assert_eq!(admitted(now), 250);
        assert_eq!(admitted(now + Duration::from_secs(1)), 50);
    }
}
