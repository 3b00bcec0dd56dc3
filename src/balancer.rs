//! The balancer: decides, for one service, which introduction points stand in
//! which descriptor on which HSDir, and when to look and publish again.
//!
//! It is pure: facts and the time come in, commands come out, and it owns no
//! socket, clock or random source. The daemon that drives it
//!
//! - passes every [`Fact`] to [`Balancer::handle_fact`],
//! - then carries out every [`Command`] from [`Balancer::poll_command`],
//! - and calls [`Balancer::handle_timeout`] at [`Balancer::poll_timeout`].
//!
//! On every wake-up it looks at the whole of its small state again
//! (`progress`) rather than reacting to the single event: what is missed once,
//! a lost answer say, is seen the next time.

pub mod command;
pub mod fact;

mod backend;
mod hsdir;
mod publish;
mod remote;
mod schedule;
mod select;
mod turns;

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use rand::Rng;

use self::backend::Backend;
use self::command::Command;
use self::fact::{BackendId, Fact, Now};
use self::publish::{Content, Publisher};
use self::schedule::Alarm;
use self::select::{Candidate, select};
use self::turns::Turns;
use crate::observe::snapshot::{self, BackendState, ServiceState};
use crate::onion::{Capabilities, MAX_INTRO_POINTS, OnionAddress};

/// What the operator wants of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Everything that answers for it. A [`BackendId`] is a place in this list.
    pub backends: Vec<BackendSettings>,
    /// The most introduction points to list, save that every backend gets one;
    /// never more than 20. `None`: 9, the size of an ordinary service, and 20
    /// with more than 9 backends.
    pub max_points: Option<u8>,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSettings {
    /// What logs and status call it.
    pub name: String,
    /// Where it runs.
    pub kind: BackendKind,
    /// Its share of the traffic relative to the others; with 0 it gets none
    /// while others are live.
    pub weight: u16,
}

/// Where a backend runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// In this process: reports its points by itself.
    Local {
        /// How many points it is going to establish. The first publication
        /// need not wait for more.
        expected_points: u8,
    },
    /// Elsewhere: known by its own descriptor.
    Remote {
        /// Its own address.
        address: OnionAddress,
    },
}

/// What the operator sees of one service.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether clients can find it; it is ready exactly if `Published`.
    pub state: ServiceState,
    /// In the order of the settings; what the shell counts is 0.
    pub backends: Vec<snapshot::Backend>,
    /// One for each period of the network view, in its order.
    pub descriptors: Vec<snapshot::Descriptor>,
}

/// The policy of one service.
#[derive(Debug)]
pub struct Balancer {
    backends: Vec<Backend>,
    max_points: Option<u8>,
    turns: Turns,
    publisher: Publisher,
    commands: VecDeque<Command>,
    timeout: Option<Instant>,
}

impl Balancer {
    /// A balancer that knows nothing of the network and its backends yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            backends: settings.backends.into_iter().map(Backend::new).collect(),
            max_points: settings.max_points,
            turns: Turns::default(),
            publisher: Publisher::new(),
            commands: VecDeque::new(),
            timeout: None,
        }
    }

    /// Something has happened. Facts about backends that the settings do not
    /// have, and answers to what was given up, are ignored.
    pub fn handle_fact(&mut self, fact: Fact, now: Now, rng: &mut impl Rng) {
        match fact {
            Fact::Network(view) => {
                for backend in &mut self.backends {
                    backend.network_changed(&view, now, rng);
                }
                self.publisher.network_changed(view, now, rng);
            }
            Fact::LocalPoints { backend, points, capabilities } => {
                if let Some(backend) = self.backend(backend) {
                    backend.local_points(backend::Offer { points, capabilities }, now);
                }
            }
            Fact::Fetched { backend, outcome } => {
                if let Some(backend) = self.backend(backend) {
                    backend.fetched(outcome, now, rng);
                }
            }
            Fact::Uploaded { period, hsdir, as_of, outcome } => {
                self.publisher.uploaded((period, hsdir), as_of, outcome, now, rng);
            }
        }
        self.progress(now, rng);
    }

    /// The moment that [`poll_timeout`](Self::poll_timeout) named has come.
    /// Calling it at any other time does no harm.
    pub fn handle_timeout(&mut self, now: Now, rng: &mut impl Rng) {
        self.progress(now, rng);
    }

    /// The next thing to do. To be called until there is none, after every
    /// `handle_*`.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing
    /// happens before. To be asked again after every `handle_*`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// What the operator sees, as of the last `handle_*`.
    pub fn status(&self) -> Status {
        let backends = (0..).map(BackendId).zip(&self.backends).map(|(id, backend)| {
            let listed = self.publisher.listed().iter().filter(|chosen| chosen.backend == id);
            backend.snapshot(listed.count())
        });
        Status {
            state: self.state(),
            backends: backends.collect(),
            descriptors: self.publisher.snapshot(),
        }
    }

    fn backend(&mut self, BackendId(index): BackendId) -> Option<&mut Backend> {
        self.backends.get_mut(usize::try_from(index).ok()?)
    }

    /// Looks at everything again and does whatever is due.
    fn progress(&mut self, now: Now, rng: &mut impl Rng) {
        let mut alarm = Alarm::new(now.monotonic);
        for (id, backend) in (0..).map(BackendId).zip(&mut self.backends) {
            if backend.progress(&mut alarm, rng) {
                self.commands.push_back(Command::Fetch { backend: id });
            }
        }
        let wanted = self.wanted(&mut alarm);
        let settled = self.backends.iter().all(Backend::is_settled);
        self.publisher.progress(wanted, settled, now, &mut alarm, rng, &mut self.commands);
        self.timeout = alarm.next();
    }

    /// What should be published: `None` if no backend is live. Then what is
    /// published stays, since all of them failing at once is more likely our
    /// own error, and a descriptor without points helps nobody.
    fn wanted(&mut self, alarm: &mut Alarm) -> Option<Content> {
        let backends = || (0..).map(BackendId).zip(&self.backends);
        let weighted = backends().any(|(_, b)| b.is_live() && b.weight() > 0);
        let live: BTreeSet<BackendId> = backends()
            .filter(|(_, b)| b.is_live() && (b.weight() > 0 || !weighted))
            .map(|(id, _)| id)
            .collect();
        let seated = self.turns.seated(&live, MAX_INTRO_POINTS, alarm);
        let candidates: Vec<Candidate<'_>> = backends()
            .filter(|(id, _)| seated.contains(id))
            .map(|(backend, b)| Candidate {
                backend,
                weight: b.weight(),
                points: &b.offer().points,
            })
            .collect();
        let chosen = select(&candidates, self.publisher.listed(), self.max_points);
        let listed: BTreeSet<BackendId> = chosen.iter().map(|chosen| chosen.backend).collect();
        let capabilities = Capabilities::merged(
            backends().filter(|(id, _)| listed.contains(id)).map(|(_, b)| &b.offer().capabilities),
        );
        (!chosen.is_empty()).then_some(Content { chosen, capabilities })
    }

    fn state(&self) -> ServiceState {
        let starting = !self.publisher.has_network()
            || (self.publisher.listed().is_empty()
                && self.backends.iter().any(|b| b.state() == BackendState::Unknown));
        if self.backends.iter().any(Backend::is_live) {
            match (self.publisher.has_network(), self.publisher.is_found()) {
                (false, _) => ServiceState::Starting,
                (true, false) => ServiceState::Publishing,
                (true, true) => ServiceState::Published,
            }
        } else if starting {
            ServiceState::Starting
        } else {
            ServiceState::Down
        }
    }
}
