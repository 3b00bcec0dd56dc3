//! Which introductions of a service are acted upon, while clients are asked for
//! work?
//!
//! All local instances of the service share one `Defence`. What arrives at their
//! points is decrypted and verified on threads of its own, a bounded number of
//! them, and waits in one queue, ordered by the work that its client did. From
//! there it goes back to its instance, which meets the client. How that is
//! ordered, and how much work to ask for, `onionbraid_balancer::pow` decides.

mod claims;
mod figures;
mod given;
mod ordered;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tor_hscrypto::time::TimePeriod;

pub(super) use self::claims::Claims;
pub use self::figures::{DefenceSettings, DefenceStatus};
use self::given::AddressSeeds;
pub(crate) use self::given::PublishersSay;
pub(super) use self::ordered::{AdmittedIntroduction, Arrived, RendezvousUnderWay};
use self::ordered::{DroppedUnlessMet, WaitingIntroduction};
use super::fair_queue::FairQueue;
use super::limits::{RENDEZVOUS_AT_ONCE, TO_DECRYPT};
use super::rendezvous::open;
use crate::clock::{now, sleep_until};
use crate::tor::credentials::Credentials;
use crate::tor::network::Network;
use crate::tor::puzzles::{AddressPuzzles, SeedId, Verifiers};
use crate::tor::subcredentials::Subcredentials;
use onionbraid_balancer::fact::Now;
use onionbraid_balancer::onion::{OnionAddress, SessionId};
use onionbraid_balancer::pow::{AdmissionQueue, AdmissionSettings, Effort, Puzzle, SeedSlot};

/// Threads that examine introductions at most, and no more than half of the cores.
const MOST_THREADS: usize = 4;

/// Introductions that a thread takes at a time.
const BATCH: usize = 16;

/// How often the time is looked at for other seeds.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// So long after it was turned off no seed is accepted that was then, should it be on again:
/// the newest is for three slots of 95 minutes.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(5);

/// So long after a restart seeds may come until what was suggested before is too old.
const RESUMED_WITHIN: Duration = Duration::from_mins(10);

/// Nonces that are remembered for each introduction a second that may be acted
/// upon: so many seconds pass until a seed is not accepted any more, and some.
const NONCES: usize = 16_000;

/// The most that are remembered, of about 20 bytes each.
const MOST_NONCES: usize = 4_000_000;

/// Orders the introductions of a service.
pub struct Defence {
    network: Network,
    credentials: Arc<Credentials>,
    puzzles: AddressPuzzles,
    subcredentials: Arc<Subcredentials>,
    settings: Mutex<Option<DefenceSettings>>,
    /// The seeds of other addresses.
    given: Mutex<AddressSeeds>,
    /// What clients of the service's own address are to be asked for.
    asked: AtomicU32,
    on: AtomicBool,
    /// Whether it ends once nothing waits any more.
    ending: AtomicBool,
    /// What was suggested before a restart, and until when it still tells something.
    resumed: Mutex<(Effort, Instant)>,
    wake: Arc<Notify>,
    arrived: Mutex<FairQueue<SessionId, Arrived>>,
    desk: Mutex<Desk>,
    /// For the seeds that are accepted now.
    verifiers: Mutex<Arc<Verifiers>>,
    under_way: Arc<AtomicUsize>,
    puzzle: watch::Sender<Option<Puzzle>>,
    /// What publishers of other addresses are told.
    verified: watch::Sender<Option<Verified>>,
}

/// What is verified for publishers of other addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// How much work clients should do, by the queue that there is.
    pub(crate) effort: Effort,
    /// The newest slot of each address whose seeds are accepted.
    pub(crate) slots: BTreeMap<OnionAddress, SeedSlot>,
}

/// What waits, and what was used.
struct Desk {
    queue: AdmissionQueue<WaitingIntroduction>,
    claims: Claims,
    /// Since when nothing is verified any more, while what was used is remembered.
    off_since: Option<Instant>,
}

impl Defence {
    /// Asks for nothing so far, and first for the effort `suggested` before a restart.
    pub(crate) fn new(
        network: Network,
        credentials: Arc<Credentials>,
        subcredentials: Arc<Subcredentials>,
        suggested: Effort,
    ) -> Arc<Self> {
        let puzzles = AddressPuzzles::of(&credentials);
        let queue = AdmissionQueue::new(AdmissionSettings::default());
        Arc::new(Self {
            network,
            credentials,
            puzzles,
            subcredentials,
            settings: Mutex::default(),
            given: Mutex::default(),
            asked: AtomicU32::new(Effort::MAX),
            on: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            resumed: Mutex::new((suggested, now().monotonic + RESUMED_WITHIN)),
            wake: Arc::default(),
            arrived: Mutex::new(FairQueue::new(TO_DECRYPT)),
            desk: Mutex::new(Desk { queue, claims: Claims::new(), off_since: None }),
            verifiers: Mutex::default(),
            under_way: Arc::default(),
            puzzle: watch::Sender::new(None),
            verified: watch::Sender::new(None),
        })
    }

    /// The operator wants this from now on; `None`: no work is asked for, and what
    /// waits is dropped.
    pub(crate) fn configure(&self, settings: Option<DefenceSettings>) {
        *self.settings.lock() = settings;
        self.switch();
    }

    /// Descriptors of the service's own address are to ask clients for this.
    pub(crate) fn asks_for(&self, effort: Effort) {
        if self.asked.swap(effort, Ordering::Relaxed) != effort {
            self.wake.notify_one();
        }
    }

    /// Publishers of other addresses say this now, of which these `frontends` count.
    pub(crate) fn give(&self, told: &PublishersSay, frontends: &[OnionAddress]) {
        let mut given = self.given.lock();
        let asked = given.asked();
        let has_changed = given.update(told, frontends, now().wall);
        let asks_otherwise = given.asked() != asked;
        drop(given);
        if has_changed {
            self.switch();
        }
        if has_changed || asks_otherwise {
            self.wake.notify_one();
        }
    }

    /// What publishers of other addresses are to be told of that; `None`: that nothing is
    /// verified for them.
    pub(crate) fn verified(&self) -> watch::Receiver<Option<Verified>> {
        self.verified.subscribe()
    }

    /// How much work clients are asked for by the publishers of other addresses.
    pub(crate) fn asked_elsewhere(&self) -> Effort {
        self.given.lock().asked()
    }

    /// How much work the queue suggests to ask clients for; before there are seeds, as much as
    /// before a restart.
    pub(crate) fn suggested(&self) -> Effort {
        match self.is_on() {
            true => self.desk.lock().queue.suggested_effort(),
            false => self.resumed(),
        }
    }

    /// What was suggested before a restart, while that still tells something.
    fn resumed(&self) -> Effort {
        let (resumed, until) = *self.resumed.lock();
        if now().monotonic < until { resumed } else { 0 }
    }

    /// Whether introductions wait, of which those of other addresses may be.
    fn has_waiting(&self) -> bool {
        !self.arrived.lock().is_empty() || !self.desk.lock().queue.is_empty()
    }

    /// Orders introductions from now on if there is anything to order them by.
    fn switch(&self) {
        let settings = *self.settings.lock();
        self.ending.store(false, Ordering::Relaxed);
        let has_seeds = !self.given.lock().is_empty();
        let verifies = settings.is_some_and(|settings| settings.has_frontends);
        let Some(settings) = settings.filter(|settings| settings.asks || has_seeds) else {
            // A publisher that takes its seeds back drops no introduction of another's.
            if settings.is_some() && self.is_on() && self.has_waiting() {
                return self.ending.store(true, Ordering::Relaxed);
            }
            let nothing = verifies.then(Verified::default);
            self.verified
                .send_if_modified(|told| std::mem::replace(told, nothing.clone()) != nothing);
            if settings.is_none() || self.is_on() {
                self.resumed.lock().0 = 0;
            }
            let mut desk = self.desk.lock();
            if self.on.swap(false, Ordering::Relaxed) {
                desk.off_since = Some(now().monotonic);
            }
            desk.queue = AdmissionQueue::new(AdmissionSettings::default());
            self.puzzle.send_if_modified(|told| told.take().is_some());
            drop(desk);
            self.arrived.lock().clear();
            self.wake.notify_one();
            return;
        };
        let DefenceSettings { rate: (rate, burst), depth, max_effort, has_frontends, .. } =
            settings;
        let at_once = usize::try_from(RENDEZVOUS_AT_ONCE).unwrap_or(usize::MAX);
        let queue = AdmissionSettings { rate, burst, depth, max_effort, at_once };
        let mut desk = self.desk.lock();
        desk.claims.has_frontends = has_frontends;
        desk.off_since = None;
        if self.on.swap(true, Ordering::Relaxed) {
            desk.queue.reconfigure(queue);
        } else {
            desk.queue = AdmissionQueue::new(queue);
            // At a backend, seeds come a moment after the start.
            desk.queue.resume(self.resumed());
            self.resumed.lock().0 = 0;
        }
        let seconds = usize::try_from(rate).unwrap_or(usize::MAX);
        desk.claims.nonces.set_capacity(seconds.saturating_mul(NONCES).min(MOST_NONCES));
        drop(desk);
        self.verified.send_if_modified(|told| match (verifies, told.is_some()) {
            (true, false) => told.insert(Verified::default()).slots.is_empty(),
            (false, true) => told.take().is_some(),
            _ => false,
        });
        // So that the first descriptor has it.
        self.tell(now());
        self.wake.notify_one();
    }

    /// Whether work is asked for.
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Rendezvous that are under way at all instances, which share one limit while
    /// introductions are ordered; `None`: they are not.
    pub(crate) fn rendezvous_together(&self) -> Option<u64> {
        self.is_on().then(|| self.under_way.load(Ordering::Relaxed) as u64)
    }

    /// What descriptors should say; `None`: nothing of it.
    pub(crate) fn puzzle(&self) -> watch::Receiver<Option<Puzzle>> {
        self.puzzle.subscribe()
    }

    /// What came of it so far; `None`: no work is asked for.
    pub(crate) fn status(&self) -> Option<DefenceStatus> {
        if !self.is_on() {
            return None;
        }
        let desk = self.desk.lock();
        Some(DefenceStatus {
            effort: desk.queue.suggested_effort(),
            asked_elsewhere: self.asked_elsewhere(),
            rate: desk.queue.rate(),
            queue: desk.queue.len(),
            queue_limit: desk.queue.depth(),
            trimmed_effort: desk.queue.trimmed_effort(),
            trimmed: desk.queue.trimmed(),
            expired: desk.queue.expired(),
            verified: desk.claims.verified,
            refused_unknown_seed: desk.claims.refused.unknown_seed,
            refused_wrong: desk.claims.refused.wrong,
            refused_used: desk.claims.refused.used,
            refused_cheap: desk.claims.refused.cheap,
        })
    }

    /// An introduction has arrived that is no replay.
    pub(super) fn examine(&self, arrived: Arrived) {
        let session = arrived.keys.session_id();
        if let Err(arrived) = self.arrived.lock().push(session, arrived) {
            arrived.counters.dropped.queue.fetch_add(1, Ordering::Relaxed);
        }
        self.wake.notify_one();
    }

    /// Has introductions examined and sent back to their instances, until it is
    /// dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // The others are for clients that are served already.
        let threads = (cores / 2).clamp(1, MOST_THREADS);
        let mut examining = JoinSet::new();
        let mut look_at = None;
        let (mut accepted, mut version) = (None, (0, 0));
        loop {
            let now = now();
            let wake;
            if self.is_on() {
                let given = (self.given.lock().version(), self.credentials.version());
                if given != version || look_at.is_none_or(|at| at <= now.monotonic) {
                    if given != version {
                        (version, accepted) = (given, None);
                    }
                    self.accept_seeds_of(now, &mut accepted);
                    look_at = Some(now.monotonic + LOOK_EVERY);
                }
                // One that ends soon may have seen nothing more to do.
                while examining.len() < threads
                    && !self.arrived.lock().is_empty()
                    && self.network.directory().is_ok()
                {
                    let defence = Arc::clone(&self);
                    examining.spawn_blocking(move || defence.examine_all());
                }
                wake = self.admit(now.monotonic).into_iter().chain(look_at).min();
                self.tell(now);
                if self.ending.load(Ordering::Relaxed)
                    && examining.is_empty()
                    && !self.has_waiting()
                {
                    self.switch();
                }
            } else {
                look_at = None;
                accepted = None;
                wake = self.forget_what_was_used(now.monotonic);
            }
            tokio::select! {
                () = self.wake.notified() => {}
                Some(ended) = examining.join_next() => ended.unwrap_or_else(panicked),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Forgets what was used once nobody could use it again. When to look again.
    fn forget_what_was_used(&self, now: Instant) -> Option<Instant> {
        let mut desk = self.desk.lock();
        let until = desk.off_since? + FORGOTTEN_AFTER;
        if now < until {
            return Some(until);
        }
        desk.off_since = None;
        desk.claims.nonces.retain(|_| false);
        None
    }

    /// Decrypts and verifies what has arrived, until there is no more, or no directory.
    fn examine_all(&self) {
        loop {
            let Ok(directory) = self.network.directory() else { return };
            let batch: Vec<Arrived> = {
                let mut arrived = self.arrived.lock();
                std::iter::from_fn(|| arrived.pop()).take(BATCH).collect()
            };
            if batch.is_empty() {
                return;
            }
            let subcredentials = self.subcredentials.acceptable(&directory);
            drop(directory);
            let verifiers = Arc::clone(&self.verifiers.lock());
            for arrived in batch {
                let Arrived { introduction, digest, keys, counters, back } = arrived;
                match open(&introduction, &keys, &subcredentials) {
                    Ok(opened) => {
                        let counted = DroppedUnlessMet(Some(counters));
                        let slot = introduction.slot;
                        self.enqueue(
                            WaitingIntroduction { slot, digest, opened, back, counted },
                            &verifiers,
                        );
                    }
                    Err(error) => {
                        counters.failed_with(&error);
                        tracing::debug!(%error, "introduction dropped");
                    }
                }
            }
            self.wake.notify_one();
        }
    }

    /// Puts an introduction into the queue by the work that its client did.
    fn enqueue(&self, mut waiting: WaitingIntroduction, verifiers: &Verifiers) {
        let solution = waiting.opened.proof_of_work().map(|proof| verifiers.check(proof));
        let now = now().monotonic;
        let mut desk = self.desk.lock();
        match desk.claims.effort(solution) {
            Some(effort) => desk.queue.push(effort, waiting, now),
            // It is counted as refused.
            None => waiting.counted.0 = None,
        }
    }

    /// Sends those back to their instances whose turn it is. When to look again.
    fn admit(&self, now: Instant) -> Option<Instant> {
        // One queue for the clients of all addresses.
        let asked = self.given.lock().asked().max(self.asked.load(Ordering::Relaxed));
        let mut desk = self.desk.lock();
        desk.queue.set_asked(asked);
        let floor = desk.claims.nonces.floor();
        desk.queue.set_floor(floor);
        loop {
            let under_way = self.under_way.load(Ordering::Relaxed);
            let Some(admitted) = desk.queue.poll(under_way, now) else {
                return desk.queue.poll_timeout(under_way);
            };
            let WaitingIntroduction { slot, digest, opened, back, mut counted } = admitted.item;
            let under_way = RendezvousUnderWay::begin(&self.under_way, &self.wake);
            // An instance that has ended meets nobody any more; that one is not
            // there for more than may be under way does not happen.
            if back.try_send(AdmittedIntroduction { slot, digest, opened, under_way }).is_ok() {
                counted.0 = None;
            }
        }
    }

    /// Accepts the seeds of now, unless these are `accepted` already, and forgets
    /// what was used with others.
    fn accept_seeds_of(&self, now: Now, accepted: &mut Option<(TimePeriod, [SeedSlot; 3])>) {
        let Ok(directory) = self.network.directory() else { return };
        let current = Some((directory.hs_time_period(), self.puzzles.accepted(now.wall)));
        if *accepted == current {
            return;
        }
        *accepted = current;
        let given: Vec<_> = self.given.lock().seeds().collect();
        let given = given.into_iter();
        let (puzzles, key) = (&self.puzzles, self.credentials.public_key());
        let verifiers = Verifiers::new(puzzles, &key, given, &directory, now.wall);
        let seeds: Vec<SeedId> = verifiers.seeds().collect();
        self.desk.lock().claims.nonces.retain(|seed| seeds.contains(seed));
        *self.verifiers.lock() = Arc::new(verifiers);
        let newest = newest(&seeds);
        self.verified.send_if_modified(|told| match told {
            Some(told) if told.slots != newest => {
                told.slots = newest;
                true
            }
            _ => false,
        });
    }

    /// Tells what descriptors should say now.
    fn tell(&self, now: Now) {
        let desk = self.desk.lock();
        if !self.is_on() {
            return;
        }
        let effort = desk.queue.suggested_effort();
        let asks = self.settings.lock().is_some_and(|settings| settings.asks);
        let puzzle = asks.then(|| self.puzzles.current(effort, now.wall));
        self.verified.send_if_modified(|told| match told {
            Some(told) => std::mem::replace(&mut told.effort, effort) != effort,
            None => false,
        });
        self.puzzle.send_if_modified(|told| {
            let changed = *told != puzzle;
            *told = puzzle;
            changed
        });
    }
}

/// The newest slot of each address of another publisher.
fn newest(seeds: &[SeedId]) -> BTreeMap<OnionAddress, SeedSlot> {
    let mut newest = BTreeMap::new();
    for (frontend, _, slot) in seeds {
        if let Some(frontend) = frontend {
            let known = newest.entry(*frontend).or_insert(*slot);
            *known = (*slot).max(*known);
        }
    }
    newest
}

fn panicked(error: JoinError) {
    tracing::error!(%error, "examining introductions has panicked");
}
