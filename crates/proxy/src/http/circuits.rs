//! May this circuit make another request? Pure.
//!
//! Every circuit has a bucket of tokens, one for each request, a number of
//! requests under way over all of its streams, and of connections of HTTP/2. The
//! table is bounded: a circuit
//! with nothing under way and a full bucket is as good as one never seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::settings::{CircuitSettings, RequestRate};

/// The most circuits that are remembered; beyond, new ones are refused.
const MAX_CIRCUITS: usize = 65_536;

/// The most connections of HTTP/2 that one circuit may have: one is enough for a
/// hundred requests, and each costs as much as some requests.
const MAX_CONNECTIONS: u32 = 8;

/// How often the table is searched for circuits to forget, at most.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// The circuits that have made requests of late.
#[derive(Debug)]
pub(super) struct CircuitHistories {
    /// What each of them may do.
    settings: CircuitSettings,
    /// What each of them has done.
    known: BTreeMap<u64, CircuitHistory>,
    /// When the table was last searched.
    searched: Option<Instant>,
}

/// What one circuit has done.
#[derive(Clone, Copy, Debug)]
struct CircuitHistory {
    /// Tokens in its bucket, at `since`.
    tokens: f64,
    /// When its tokens were last counted.
    since: Instant,
    /// Requests under way.
    under_way: u32,
    /// Connections of HTTP/2.
    connections: u32,
}

/// The circuit has gone beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl CircuitHistories {
    /// No circuit has asked for anything yet.
    pub(super) fn new(settings: CircuitSettings) -> Self {
        Self { settings, known: BTreeMap::new(), searched: None }
    }

    /// A circuit begins a request. [`CircuitHistories::end`] has to follow if it may.
    ///
    /// # Errors
    ///
    /// [`TooMany`]: nothing is to be made for the request; it does not count as
    /// under way.
    pub(super) fn begin(&mut self, id: u64, now: Instant) -> Result<(), TooMany> {
        let most = self.settings.max_requests.unwrap_or(u32::MAX);
        let circuit = self.circuit(id, now)?;
        if circuit.under_way >= most {
            return Err(TooMany);
        }
        circuit.under_way += 1;
        Ok(())
    }

    /// A circuit takes a token for a request under way.
    ///
    /// # Errors
    ///
    /// [`TooMany`]: there is none, and the request is not to be answered.
    pub(super) fn take_token(&mut self, id: u64, now: Instant) -> Result<(), TooMany> {
        let Some(rate) = self.settings.request_rate else { return Ok(()) };
        let circuit = self.circuit(id, now)?;
        circuit.tokens = circuit.tokens_at(now, rate);
        circuit.since = now;
        if circuit.tokens < 1.0 {
            return Err(TooMany);
        }
        circuit.tokens -= 1.0;
        Ok(())
    }

    /// A request that was begun has ended.
    pub(super) fn end(&mut self, id: u64) {
        if let Some(circuit) = self.known.get_mut(&id) {
            circuit.under_way = circuit.under_way.saturating_sub(1);
        }
    }

    /// A circuit begins a connection of HTTP/2. [`CircuitHistories::disconnect`] has to
    /// follow if it may.
    ///
    /// # Errors
    ///
    /// [`TooMany`]: it is to be closed.
    pub(super) fn connect(&mut self, id: u64, now: Instant) -> Result<(), TooMany> {
        let circuit = self.circuit(id, now)?;
        if circuit.connections >= MAX_CONNECTIONS {
            return Err(TooMany);
        }
        circuit.connections += 1;
        Ok(())
    }

    /// A connection that was begun has ended.
    pub(super) fn disconnect(&mut self, id: u64) {
        if let Some(circuit) = self.known.get_mut(&id) {
            circuit.connections = circuit.connections.saturating_sub(1);
        }
    }

    /// What a circuit has done, if there is room to remember it.
    fn circuit(&mut self, id: u64, now: Instant) -> Result<&mut CircuitHistory, TooMany> {
        self.forget(now);
        if self.known.len() >= MAX_CIRCUITS && !self.known.contains_key(&id) {
            return Err(TooMany);
        }
        let tokens = self.settings.request_rate.map_or(0.0, |rate| f64::from(rate.burst));
        let new = CircuitHistory { tokens, since: now, under_way: 0, connections: 0 };
        Ok(self.known.entry(id).or_insert(new))
    }

    /// Forgets circuits that are as good as new, now and then.
    fn forget(&mut self, now: Instant) {
        if self.searched.is_some_and(|last| now.saturating_duration_since(last) < FORGET_EVERY) {
            return;
        }
        self.searched = Some(now);
        let rate = self.settings.request_rate;
        self.known.retain(|_, circuit| {
            let full =
                rate.is_none_or(|rate| circuit.tokens_at(now, rate) >= f64::from(rate.burst));
            circuit.under_way > 0 || circuit.connections > 0 || !full
        });
    }
}

impl CircuitHistory {
    /// The tokens in its bucket now.
    fn tokens_at(&self, now: Instant, rate: RequestRate) -> f64 {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        (self.tokens + passed * f64::from(rate.rate)).min(f64::from(rate.burst))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(rate: Option<(u32, u32)>, max_requests: Option<u32>) -> CircuitSettings {
        let request_rate = rate.map(|(rate, burst)| RequestRate { rate, burst });
        CircuitSettings { request_rate, max_requests, close_abusers: false }
    }

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    /// One request, over at once.
    fn request(circuits: &mut CircuitHistories, id: u64, now: Instant) -> Result<(), TooMany> {
        circuits.begin(id, now)?;
        let token = circuits.take_token(id, now);
        circuits.end(id);
        token
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let (mut circuits, start) = (CircuitHistories::new(settings(Some((2, 3)), None)), start());
        let mut allowed =
            |at: u64| request(&mut circuits, 7, start + Duration::from_millis(at)).is_ok();
        assert_eq!([0, 0, 0, 0].map(&mut allowed), [true, true, true, false]);
        assert_eq!([499, 500, 500].map(&mut allowed), [false, true, false]);
        assert_eq!([60_000; 4].map(&mut allowed), [true, true, true, false]);
    }

    #[test]
    fn circuits_do_not_pay_for_each_other() {
        let (mut circuits, now) = (CircuitHistories::new(settings(Some((1, 1)), None)), start());
        assert_eq!(request(&mut circuits, 1, now), Ok(()));
        assert_eq!(request(&mut circuits, 1, now), Err(TooMany));
        assert_eq!(request(&mut circuits, 2, now), Ok(()));
    }

    #[test]
    fn requests_under_way_count_until_they_end() {
        let (mut circuits, now) = (CircuitHistories::new(settings(None, Some(2))), start());
        assert_eq!([(); 3].map(|()| circuits.begin(1, now)), [Ok(()), Ok(()), Err(TooMany)]);
        circuits.end(1);
        assert_eq!([(); 2].map(|()| circuits.begin(1, now)), [Ok(()), Err(TooMany)]);
    }

    #[test]
    fn circuits_that_are_done_are_forgotten() {
        let (mut circuits, now) = (CircuitHistories::new(settings(Some((1, 5)), Some(9))), start());
        for id in 0..1000 {
            request(&mut circuits, id, now).unwrap();
        }
        circuits.begin(5000, now).unwrap();
        assert_eq!(circuits.known.len(), 1001);
        circuits.begin(5001, now + Duration::from_secs(10)).unwrap();
        assert_eq!(circuits.known.into_keys().collect::<Vec<_>>(), [5000, 5001]);
    }

    #[test]
    fn connections_count_until_they_end_and_are_remembered() {
        let (mut circuits, now) = (CircuitHistories::new(settings(None, None)), start());
        for _ in 0..MAX_CONNECTIONS {
            circuits.connect(1, now).unwrap();
        }
        let later = now + Duration::from_secs(10);
        assert_eq!(circuits.connect(1, later), Err(TooMany));
        assert_eq!(circuits.connect(2, later), Ok(()));
        circuits.disconnect(1);
        assert_eq!(circuits.connect(1, later), Ok(()));
    }

    #[test]
    fn the_table_is_bounded_and_who_is_in_it_stays() {
        let (mut circuits, now) = (CircuitHistories::new(settings(None, Some(2))), start());
        for id in 0..70_000 {
            assert_eq!(circuits.begin(id, now).is_ok(), id < 65_536);
        }
        assert_eq!(circuits.begin(3, now), Ok(()));
    }

    proptest! {
        #[test]
        fn no_circuit_gets_more_than_its_burst_and_rate(
            (rate, burst) in (1_u32..50, 1_u32..50),
            waits in proptest::collection::vec(0_u64..300, 1..200),
        ) {
            let start = start();
            let mut circuits = CircuitHistories::new(settings(Some((rate, burst)), None));
            let (mut passed, mut allowed) = (0_u64, 0_u64);
            for wait in waits {
                passed += wait;
                if request(&mut circuits, 1, start + Duration::from_millis(passed)).is_ok() {
                    allowed += 1;
                }
                let most = u64::from(burst) * 1000 + passed * u64::from(rate);
                prop_assert!(allowed * 1000 <= most + 1, "{} in {} ms", allowed, passed);
            }
        }
    }
}
