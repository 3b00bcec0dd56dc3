//! Clients that retry as C tor's do (0.4.9: `consider_sending_introduce1`).
//!
//! A client chooses an introduction point at random, does the work that its
//! descriptor asks for, doubled for each time that it did not reach that point,
//! and waits. When no point has worked it fetches the descriptor again. Its user
//! has patience for two minutes.

use std::time::{Duration, Instant};

use onionbraid_balancer::pow::{CLIENT_MAX_EFFORT, Effort};
use rand::{Rng, RngExt as _};

/// How long one unit of effort takes on a client's core.
const UNIT: f64 = 0.0028;
/// How long a client waits for a rendezvous before it tries another point.
const WAITS: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(120);
const POINTS: usize = 3;

pub(crate) struct Client {
    pub(crate) came: Instant,
    /// Whether it can work at all.
    works: bool,
    /// What its descriptor asks for.
    effort: Effort,
    unreachable: [u32; POINTS],
    point: usize,
    failures: usize,
    step: Step,
}

enum Step {
    /// Works until then, at so much effort.
    Solves(Instant, Effort),
    /// Has introduced itself, and waits until then.
    Waits(Instant),
    Over,
}

/// What a client does at some moment.
pub(crate) enum Does {
    Nothing,
    Introduces(Effort),
    GivesUp,
}

impl Client {
    pub(crate) fn new(works: bool, effort: Effort, now: Instant, rng: &mut impl Rng) -> Self {
        let mut client = Self {
            came: now,
            works,
            effort,
            unreachable: [0; POINTS],
            point: 0,
            failures: 0,
            step: Step::Over,
        };
        client.begin(now, rng);
        client
    }

    fn begin(&mut self, now: Instant, rng: &mut impl Rng) {
        self.point = rng.random_range(0..POINTS);
        let mut effort = f64::from(self.effort.min(CLIENT_MAX_EFFORT));
        for _ in 0..self.unreachable[self.point] {
            effort *= if effort < 1_000.0 { 2.0 } else { 1.5 };
            effort = effort.clamp(8.0, CLIENT_MAX_EFFORT.into());
        }
        if !self.works {
            effort = 0.0;
        }
        // How long it takes is a matter of luck, exponentially distributed.
        let luck: f64 = -(1.0 - rng.random::<f64>()).ln();
        let takes = if effort < 1.0 { 0.0 } else { effort * UNIT * luck };
        self.step = Step::Solves(now + Duration::from_secs_f64(takes), effort as Effort);
    }

    /// `published` is what a descriptor asks for that is fetched now.
    pub(crate) fn step(&mut self, published: Effort, now: Instant, rng: &mut impl Rng) -> Does {
        if now - self.came > PATIENCE && !matches!(self.step, Step::Over) {
            self.step = Step::Over;
            return Does::GivesUp;
        }
        match self.step {
            Step::Solves(until, effort) if until <= now => {
                self.step = Step::Waits(now + WAITS);
                Does::Introduces(effort)
            }
            Step::Waits(until) if until <= now => {
                self.unreachable[self.point] += 1;
                self.failures += 1;
                if self.failures.is_multiple_of(POINTS) {
                    self.effort = published;
                }
                self.begin(now, rng);
                Does::Nothing
            }
            Step::Solves(..) | Step::Waits(_) | Step::Over => Does::Nothing,
        }
    }

    /// Whether it has got through or given up.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// It was met. False if it had gone, or was met before.
    pub(crate) fn met(&mut self) -> bool {
        let waited = !matches!(self.step, Step::Over);
        self.step = Step::Over;
        waited
    }
}
