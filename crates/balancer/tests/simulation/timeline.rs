//! What time is it in a simulation, and what happens next?

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use onionbraid_balancer::fact::Now;

/// A clock of our own, and the events to come.
pub(crate) struct Timeline<Event> {
    pub(crate) now: Now,
    began: Instant,
    /// Of one moment, those scheduled first come first.
    events: BTreeMap<(Instant, u64), Event>,
    numbers: u64,
}

impl<Event> Timeline<Event> {
    pub(crate) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "there is no other way to have an Instant")]
        let began = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let now = Now { monotonic: began, wall };
        Self { now, began, events: BTreeMap::new(), numbers: 0 }
    }

    pub(crate) fn schedule(&mut self, delay: Duration, event: Event) {
        let number = self.number();
        self.events.insert((self.now.monotonic + delay, number), event);
    }

    /// When the next event happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    /// The next event, which happens now.
    pub(crate) fn take(&mut self) -> Option<Event> {
        self.events.pop_first().map(|(_, event)| event)
    }

    /// Events that will not happen after all.
    pub(crate) fn cancel(&mut self, which: impl Fn(&Event) -> bool) {
        self.events.retain(|_, event| !which(event));
    }

    /// Lets both clocks run to this moment.
    pub(crate) fn advance(&mut self, to: Instant) {
        self.now.wall += to - self.now.monotonic;
        self.now.monotonic = to;
    }

    /// How long it has run.
    pub(crate) fn hours(&self) -> f64 {
        (self.now.monotonic - self.began).as_secs_f64() / 3600.0
    }

    /// A number that no event and nobody else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}
