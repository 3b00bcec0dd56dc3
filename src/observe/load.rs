//! How much do clients want of a service, and how much of what it can bear is
//! that? Rates come from counters that were looked at now and then: pure, no
//! clock of its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::snapshot::{Activity, Durations, HttpStatus, Rates, Service};

/// How often the counters are looked at.
pub const EVERY: Duration = Duration::from_secs(5);

/// What "now" means for a rate: so short that an attack shows at once, so long
/// that one visitor is no attack.
const NOW: Duration = Duration::from_secs(10);

/// The longer time that it is compared with.
const LATELY: Duration = Duration::from_mins(1);

/// What the status calls requests beyond what a circuit may have.
const TOO_MANY: &str = "too_many";

/// What a service has counted up to one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Introductions that were looked at.
    pub introductions: u64,
    /// Introductions that were dropped because of a limit.
    pub introductions_dropped: u64,
    /// Introductions that were replays.
    pub replays: u64,
    /// Rendezvous that failed.
    pub rendezvous_failed: u64,
    /// Clients that were met.
    pub clients_met: u64,
    /// Circuits that were closed to make room for new ones.
    pub circuits_closed: u64,
    /// Introductions that were dropped, by the limit.
    pub dropped_by: BTreeMap<String, u64>,
    /// Streams that were opened.
    pub streams: u64,
    /// HTTP requests.
    pub requests: u64,
    /// HTTP requests beyond what a circuit may have.
    pub requests_limited: u64,
    /// HTTP requests that were answered with 5xx.
    pub server_errors: u64,
    /// How long each origin took, by its name.
    pub origins: BTreeMap<String, Durations>,
}

impl Totals {
    /// What these instances and this HTTP proxy have counted.
    pub fn of<'a>(
        instances: impl IntoIterator<Item = &'a Activity>,
        http: Option<&HttpStatus>,
    ) -> Self {
        let mut totals = Self::default();
        for activity in instances {
            totals.introductions += activity.introductions;
            totals.introductions_dropped += activity.introductions_dropped;
            totals.replays += activity.replays;
            totals.rendezvous_failed += activity.rendezvous_failed;
            totals.clients_met += activity.rendezvous_succeeded;
            totals.circuits_closed += activity.circuits_closed_idle
                + activity.circuits_closed_silent
                + activity.circuits_closed_slow;
            for (limit, count) in &activity.introductions_dropped_by {
                match totals.dropped_by.get_mut(limit) {
                    Some(sum) => *sum += count,
                    None => drop(totals.dropped_by.insert(limit.clone(), *count)),
                }
            }
            totals.streams += activity.streams;
        }
        if let Some(http) = http {
            totals.requests = http.requests;
            totals.requests_limited = http.failures.get(TOO_MANY).copied().unwrap_or_default();
            totals.server_errors = http.by_class.server_error;
            let origins = http.origins.iter();
            totals.origins =
                origins.map(|origin| (origin.name.clone(), origin.seconds.clone())).collect();
        }
        totals
    }
}

/// What a service has counted at some moments of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Past(VecDeque<(Instant, Totals)>);

impl Past {
    /// Remembers this, and forgets what is older than anybody asks for.
    pub fn remember(&mut self, totals: Totals, now: Instant) {
        // One beyond the minute stays: what has happened since is a minute's.
        while self.0.get(1).is_some_and(|(at, _)| *at + LATELY <= now) {
            self.0.pop_front();
        }
        self.0.push_back((now, totals));
    }

    /// Adds the rates, and how long origins take.
    pub fn complete(&self, service: &mut Service, now: Instant) {
        let activities = service.backends.iter().map(|backend| &backend.activity);
        let totals = Totals::of(activities, service.http.as_ref());
        (service.load.rates, service.load.last_minute) = self.rates(&totals, now);
        service.load.dropped_by_per_s = self.dropped_by(&totals, now);
        for origin in service.http.iter_mut().flat_map(|http| &mut http.origins) {
            let lately = self.latencies(&origin.name, &origin.seconds, now);
            origin.median_seconds = lately.quantile(0.5);
            origin.p95_seconds = lately.quantile(0.95);
        }
    }

    /// The rates of the last ten seconds and of the last minute.
    fn rates(&self, totals: &Totals, now: Instant) -> (Rates, Rates) {
        let since = |length| match self.before(length, now) {
            Some((then, before)) => rates(totals, before, now.saturating_duration_since(*then)),
            None => Rates::default(),
        };
        (since(NOW), since(LATELY))
    }

    /// What was dropped over the last ten seconds, a second, by the limits that were
    /// hit.
    fn dropped_by(&self, totals: &Totals, now: Instant) -> BTreeMap<String, f64> {
        let Some((then, before)) = self.before(NOW, now) else { return BTreeMap::new() };
        let passed = now.saturating_duration_since(*then);
        let rate = |(limit, count): (&String, &u64)| {
            let before = before.dropped_by.get(limit).copied().unwrap_or_default();
            let rate = per_second(*count, before, passed);
            (rate > 0.0).then(|| (limit.clone(), rate))
        };
        totals.dropped_by.iter().filter_map(rate).collect()
    }

    /// How long an origin took over the last minute.
    fn latencies(&self, origin: &str, durations: &Durations, now: Instant) -> Durations {
        let before = self.before(LATELY, now);
        match before.and_then(|(_, totals)| totals.origins.get(origin)) {
            Some(before) => durations.since(before),
            None => durations.clone(),
        }
    }

    /// The newest count that is as old as this, else the oldest.
    fn before(&self, length: Duration, now: Instant) -> Option<&(Instant, Totals)> {
        let old_enough = |(at, _): &&(Instant, Totals)| *at + length <= now;
        self.0.iter().rev().find(old_enough).or(self.0.front())
    }
}

/// What has happened a second between two counts.
fn rates(totals: &Totals, before: &Totals, passed: Duration) -> Rates {
    let rate = |count: fn(&Totals) -> u64| per_second(count(totals), count(before), passed);
    Rates {
        introductions_per_s: rate(|totals| totals.introductions),
        introductions_dropped_per_s: rate(|totals| totals.introductions_dropped),
        replays_per_s: rate(|totals| totals.replays),
        rendezvous_failed_per_s: rate(|totals| totals.rendezvous_failed),
        clients_met_per_s: rate(|totals| totals.clients_met),
        circuits_closed_per_s: rate(|totals| totals.circuits_closed),
        streams_per_s: rate(|totals| totals.streams),
        requests_per_s: rate(|totals| totals.requests),
        requests_limited_per_s: rate(|totals| totals.requests_limited),
        server_errors_per_s: rate(|totals| totals.server_errors),
    }
}

fn per_second(count: u64, before: u64, passed: Duration) -> f64 {
    // Counters begin anew when a part of the service is made anew.
    let more = count.saturating_sub(before);
    if passed.is_zero() { 0.0 } else { more as f64 / passed.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
    fn some_moment() -> Instant {
        Instant::now()
    }

    fn introduced(introductions: u64) -> Totals {
        Totals { introductions, ..Totals::default() }
    }

    /// Ten introductions a second for this long, looked at as the daemon does.
    fn steady(begin: Instant, seconds: u64) -> Past {
        let mut past = Past::default();
        for second in (0..=seconds).step_by(5) {
            past.remember(introduced(10 * second), begin + Duration::from_secs(second));
        }
        past
    }

    #[test]
    fn a_flood_shows_at_once_and_a_minute_still_tells_what_was_usual() {
        let begin = some_moment();
        let past = steady(begin, 120);
        let now = begin + Duration::from_secs(122);
        let (now_rates, minute) = past.rates(&introduced(1200 + 2_000), now);
        assert!(now_rates.introductions_per_s > 150.0, "{now_rates:?}");
        assert!(minute.introductions_per_s < 50.0, "{minute:?}");
        assert_eq!(now_rates.streams_per_s, 0.0);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_covers_a_minute() {
        let begin = some_moment();
        let past = steady(begin, 3600);
        assert!(past.0.len() <= 14, "{}", past.0.len());
        let (_, minute) = past.rates(&introduced(36_000), begin + Duration::from_secs(3600));
        assert_eq!(minute.introductions_per_s, 10.0);
    }

    #[test]
    fn before_anything_is_remembered_and_after_counters_began_anew_no_rate_is_wild() {
        let begin = some_moment();
        let (rates, minute) = Past::default().rates(&introduced(1_000), begin);
        assert_eq!((rates, minute), (Rates::default(), Rates::default()));
        let past = steady(begin, 60);
        let (rates, _) = past.rates(&introduced(3), begin + Duration::from_secs(61));
        assert_eq!(rates.introductions_per_s, 0.0);
        let at_once = steady(begin, 0).rates(&introduced(5), begin).0;
        assert_eq!(at_once.introductions_per_s, 0.0);
    }
}
