//! A service, its clients and an attacker for two hours.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use onionbraid_balancer::pow::Effort;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::MINUTE;
use super::clients::{Client, Does};
use super::service::Service;

const STEP: Duration = Duration::from_millis(100);
const BEGINS: u64 = 10 * MINUTE;
const ENDS: u64 = 40 * MINUTE;
const OVER: u64 = 120 * MINUTE;
/// How old a client's descriptor is at most: of every third it is some age, the
/// others have just fetched it.
const OLDEST: u64 = 100 * MINUTE;
/// Meeting a client takes so long.
const RENDEZVOUS: Duration = Duration::from_millis(1_500);
/// A descriptor is on all HSDirs so long after it should be, and so often at most.
const PUBLISHING: Duration = Duration::from_secs(15);
const PUBLISHED_EVERY: Duration = Duration::from_secs(120);

/// What the attacker does, all at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attack {
    /// Introductions without work in a second.
    pub(crate) idle_rate: f64,
    /// Effort that it can do in a second, for as many introductions as that
    /// gives, at most 600 in a second.
    pub(crate) work: f64,
    /// The effort of each; `None`: what is suggested, and at least 1.
    pub(crate) fixed: Option<Effort>,
    /// More than what is suggested, by so much.
    pub(crate) over: Effort,
    /// Only for so many seconds of so many.
    pub(crate) on_off: Option<(u64, u64)>,
}

/// The honest clients, and what they are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Honest {
    /// So many come in a second.
    pub(crate) rate: f64,
    /// Whether they can work at all.
    pub(crate) work: bool,
    /// Descriptors ask for no more than this, whatever is suggested.
    pub(crate) asked_at_most: Effort,
}

impl Default for Honest {
    fn default() -> Self {
        Self { rate: 2.0, work: true, asked_at_most: Effort::MAX }
    }
}

/// How clients fared that came at some time.
#[derive(Default)]
pub(crate) struct Fared {
    /// How long it took those who got through, in seconds.
    took: Vec<f64>,
    failed: usize,
}

impl Fared {
    pub(crate) fn share(&self) -> f64 {
        self.took.len() as f64 / (self.took.len() + self.failed).max(1) as f64
    }

    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (part * sorted.len() as f64) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// What came of an attack.
pub(crate) struct Outcome {
    /// Before and after the attack.
    pub(crate) peace: Fared,
    pub(crate) during: Fared,
    /// Of those in peace, who came half an hour or more after the attack.
    pub(crate) afterwards: Fared,
    /// Of those, who came when the attack had lasted for a quarter of an hour.
    pub(crate) settled: Fared,
    pub(crate) most_effort: Effort,
    /// During the attack.
    pub(crate) mean_effort: f64,
    pub(crate) published: usize,
    /// How long after the attack nothing was suggested any more, for good.
    pub(crate) zero_after: Option<Duration>,
    pub(crate) longest_queue: usize,
}

pub(crate) struct World<S> {
    service: S,
    attack: Attack,
    honest: Honest,
    rng: StdRng,
    clients: Vec<Client>,
    /// The clients that still try.
    at_work: Vec<usize>,
    /// When rendezvous end that are under way, and of whom.
    under_way: VecDeque<(Instant, Option<usize>)>,
    /// What was suggested when, by second.
    suggested: Vec<Effort>,
    published: Effort,
    publish_at: Option<Instant>,
    published_at: Option<Instant>,
    /// Parts of an introduction or a client that is to come: without work, with
    /// work, honest.
    debt: (f64, f64, f64),
}

impl<S: Service> World<S> {
    pub(crate) fn new(service: S, attack: Attack, seed: u64) -> Self {
        Self {
            service,
            attack,
            honest: Honest::default(),
            rng: StdRng::seed_from_u64(seed),
            clients: Vec::new(),
            at_work: Vec::new(),
            under_way: VecDeque::new(),
            suggested: Vec::new(),
            published: 0,
            publish_at: None,
            published_at: None,
            debt: (0.0, 0.0, 0.0),
        }
    }

    /// With other clients.
    pub(crate) fn with(self, honest: Honest) -> Self {
        Self { honest, ..self }
    }

    #[expect(clippy::disallowed_methods, reason = "there is no other way to have an Instant")]
    pub(crate) fn run(mut self) -> Outcome {
        let start = Instant::now();
        let mut outcome = Outcome {
            peace: Fared::default(),
            during: Fared::default(),
            afterwards: Fared::default(),
            settled: Fared::default(),
            most_effort: 0,
            mean_effort: 0.0,
            published: 0,
            zero_after: None,
            longest_queue: 0,
        };
        let mut last_nonzero = 0;
        for step in 0..OVER * 10 {
            let now = start + step as u32 * STEP;
            let second = step / 10;
            if step % 10 == 0 {
                self.suggested.push(self.published);
            }
            self.service.asked(self.service.suggested().min(self.honest.asked_at_most));
            self.attack(second, now);
            self.clients_act(start, second, now, &mut outcome);
            while let Some(who) = self.service.poll(self.under_way.len(), now) {
                self.under_way.push_back((now + RENDEZVOUS, who));
            }
            self.meet(start, now, &mut outcome);
            outcome.published += usize::from(self.publish(now));
            let suggested = self.service.suggested();
            outcome.most_effort = outcome.most_effort.max(suggested);
            outcome.longest_queue = outcome.longest_queue.max(self.service.waiting());
            if suggested > 0 {
                last_nonzero = second;
            }
        }
        if last_nonzero + 60 < OVER {
            outcome.zero_after = Some(Duration::from_secs((last_nonzero + 1).saturating_sub(ENDS)));
        }
        let during = &self.suggested[BEGINS as usize..ENDS as usize];
        outcome.mean_effort =
            during.iter().copied().map(f64::from).sum::<f64>() / during.len() as f64;
        outcome
    }

    /// Notes how a client fared: how long it took, if it got through.
    fn note(start: Instant, client: &Client, took: Option<f64>, outcome: &mut Outcome) {
        let came = (client.came - start).as_secs();
        let note = |fared: &mut Fared| match took {
            Some(took) => fared.took.push(took),
            None => fared.failed += 1,
        };
        if came >= ENDS + 30 * MINUTE {
            note(&mut outcome.afterwards);
        }
        if !(BEGINS..ENDS).contains(&came) {
            return note(&mut outcome.peace);
        }
        note(&mut outcome.during);
        if came >= BEGINS + 15 * MINUTE {
            note(&mut outcome.settled);
        }
    }

    fn attack(&mut self, second: u64, now: Instant) {
        let on = |(for_, of): (u64, u64)| (second - BEGINS) % of < for_;
        if !(BEGINS..ENDS).contains(&second) || !self.attack.on_off.is_none_or(on) {
            return;
        }
        let effort = self.attack.fixed.unwrap_or(self.published.max(1)) + self.attack.over;
        self.debt.0 += self.attack.idle_rate / 10.0;
        self.debt.1 += (self.attack.work / f64::from(effort)).min(600.0) / 10.0;
        while self.debt.0 >= 1.0 {
            self.debt.0 -= 1.0;
            self.service.push(0, None, now);
        }
        while self.debt.1 >= 1.0 {
            self.debt.1 -= 1.0;
            self.service.push(effort, None, now);
        }
    }

    fn clients_act(&mut self, start: Instant, second: u64, now: Instant, outcome: &mut Outcome) {
        self.debt.2 += 2.0 * self.rng.random::<f64>() * self.honest.rate / 10.0;
        while self.debt.2 >= 1.0 {
            self.debt.2 -= 1.0;
            let age = self.rng.random_range(0..3 * OLDEST);
            let fetched = if age < OLDEST { second.saturating_sub(age) } else { second };
            let effort = self.suggested.get(fetched as usize).copied().unwrap_or(0);
            self.at_work.push(self.clients.len());
            self.clients.push(Client::new(self.honest.work, effort, now, &mut self.rng));
        }
        for who in self.at_work.clone() {
            let client = &mut self.clients[who];
            match client.step(self.published, now, &mut self.rng) {
                Does::Introduces(effort) => self.service.push(effort, Some(who), now),
                Does::GivesUp => Self::note(start, client, None, outcome),
                Does::Nothing => {}
            }
        }
        self.at_work.retain(|who| !self.clients[*who].is_over());
    }

    fn meet(&mut self, start: Instant, now: Instant, outcome: &mut Outcome) {
        while self.under_way.front().is_some_and(|(ends, _)| *ends <= now) {
            let Some((_, Some(who))) = self.under_way.pop_front() else { continue };
            let client = &mut self.clients[who];
            if client.met() {
                let took = (now - client.came).as_secs_f64();
                Self::note(start, client, Some(took), outcome);
            }
        }
    }

    /// Whether another descriptor was published.
    fn publish(&mut self, now: Instant) -> bool {
        let suggested = self.service.suggested().min(self.honest.asked_at_most);
        let (wanted, published) = (u64::from(suggested), u64::from(self.published));
        let is_close = (wanted == 0) == (published == 0)
            && 100 * wanted >= 85 * published
            && 100 * wanted <= 115 * published;
        if is_close {
            self.publish_at = None;
            return false;
        }
        let earliest = self.published_at.map_or(now, |at| now.max(at + PUBLISHED_EVERY));
        let due = *self.publish_at.get_or_insert(earliest + PUBLISHING);
        if now < due {
            return false;
        }
        self.published = suggested;
        self.published_at = Some(now);
        self.publish_at = None;
        true
    }
}
