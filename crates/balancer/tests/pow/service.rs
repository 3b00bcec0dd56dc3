//! Two services under attack: ours, and one with C tor's rules as they are
//! (0.4.9: `update_suggested_effort`, `handle_rend_pqueue_cb`).

use std::time::{Duration, Instant};

use onionbraid_balancer::pow::{
    AdmissionQueue, AdmissionSettings, Effort, PriorityQueue, WAIT_LIMIT,
};

/// Which client's introduction; `None`: the attacker's.
pub(crate) type Who = Option<usize>;

/// What the world needs of a service.
pub(crate) trait Service {
    fn push(&mut self, effort: Effort, who: Who, now: Instant);
    fn poll(&mut self, under_way: usize, now: Instant) -> Option<Who>;
    fn suggested(&self) -> Effort;
    /// Descriptors are to ask for this, as soon as they may change.
    fn asked(&mut self, _asked: Effort) {}
    fn waiting(&self) -> usize;
}

const RATE: u32 = 50;
const BURST: u32 = 500;

/// What this crate has.
pub(crate) struct Ours(AdmissionQueue<Who>);

impl Ours {
    pub(crate) const DEPTH: usize = 2_048;

    pub(crate) fn new() -> Self {
        let settings = AdmissionSettings {
            rate: RATE,
            burst: BURST,
            depth: Self::DEPTH,
            ..AdmissionSettings::default()
        };
        Self(AdmissionQueue::new(settings))
    }

    /// Configured as it is by default.
    pub(crate) fn by_default() -> Self {
        Self(AdmissionQueue::new(AdmissionSettings::default()))
    }
}

impl Service for Ours {
    fn push(&mut self, effort: Effort, who: Who, now: Instant) {
        self.0.push(effort, who, now);
    }

    fn poll(&mut self, under_way: usize, now: Instant) -> Option<Who> {
        self.0.poll(under_way, now).map(|admitted| admitted.item)
    }

    fn suggested(&self) -> Effort {
        self.0.suggested_effort()
    }

    fn asked(&mut self, asked: Effort) {
        self.0.set_asked(asked);
    }

    fn waiting(&self) -> usize {
        self.0.len()
    }
}

/// C tor's.
pub(crate) struct CTor {
    queue: PriorityQueue<(Who, Instant)>,
    suggested: Effort,
    tokens: f64,
    filled: Option<Instant>,
    next: Option<Instant>,
    total: u64,
    handled: u64,
    trimmed: Effort,
    had_queue: bool,
}

impl CTor {
    const LOW: usize = if RATE / 4 > 8 { RATE as usize / 4 } else { 8 };
    const HIGH: usize = (BURST + 60 * RATE) as usize;

    pub(crate) fn new() -> Self {
        Self {
            queue: PriorityQueue::new(Self::HIGH),
            suggested: 0,
            tokens: BURST.into(),
            filled: None,
            next: None,
            total: 0,
            handled: 0,
            trimmed: 0,
            had_queue: false,
        }
    }

    fn update(&mut self, now: Instant) {
        let next = *self.next.get_or_insert(now + Duration::from_secs(300));
        if now < next {
            return;
        }
        self.next = Some(now + Duration::from_secs(300));
        let worthwhile = self.queue.top().is_some_and(|top| top >= self.suggested);
        if self.trimmed > self.suggested || (self.had_queue && worthwhile) {
            let average = (self.total / self.handled.max(1)) as Effort;
            self.suggested = average.max(self.suggested + 1);
        } else if !self.had_queue && self.queue.len() < Self::LOW {
            self.suggested = 2 * self.suggested / 3;
        }
        (self.total, self.handled, self.trimmed, self.had_queue) = (0, 0, 0, false);
    }
}

impl Service for CTor {
    fn push(&mut self, effort: Effort, who: Who, now: Instant) {
        self.total += u64::from(effort);
        for (effort, _) in self.queue.push(effort, (who, now), now) {
            self.trimmed = self.trimmed.max(effort);
        }
    }

    fn poll(&mut self, under_way: usize, now: Instant) -> Option<Who> {
        self.update(now);
        let passed = self.filled.map_or(0.0, |then| (now - then).as_secs_f64());
        self.filled = Some(now);
        self.tokens = (self.tokens + passed * f64::from(RATE)).min(BURST.into());
        loop {
            let top = self.queue.top()?;
            if (under_way >= 16 && top < self.suggested) || self.tokens < 1.0 {
                return None;
            }
            self.tokens -= 1.0;
            let (_, (who, arrived)) = self.queue.pop()?;
            if now - arrived > WAIT_LIMIT {
                // Not quite free: it has cost a token.
                continue;
            }
            self.handled += 1;
            self.had_queue |= self.queue.len() >= Self::LOW;
            return Some(who);
        }
    }

    fn suggested(&self) -> Effort {
        self.suggested
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}
