//! The state machine of one service: takes facts in, looks at everything
//! again, gives commands out. Every other part is called from here.

mod access;
mod bundle;
mod looks;
mod operated;
mod renewal;
mod restart;
mod state;

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use rand::Rng;

use self::renewal::PointRenewal;
use crate::backend::TrackedBackend;
use crate::bundle::BundlePeriods;
use crate::command::Command;
use crate::content::{Content, ContentPolicy, ListedSets, Live};
use crate::fact::{BackendId, Fact, NetworkView, Now, ProbeFailure};
use crate::held_back::{self, Listable, PuzzlesAsked};
use crate::link::{MAX_LISTED, Offered, Standing};
use crate::offered;
use crate::onion::{Access, SessionId};
use crate::operator::Word;
use crate::pause::Clocks;
use crate::pow::{Effort, Puzzle};
use crate::probing::Probing;
use crate::publish::{Publisher, Readiness};
use crate::schedule::Alarm;
use crate::settings::BalancerSettings;
use crate::status::{Belief, Status};
use crate::taken_out::{Absent, left_published};

/// The policy of one service.
#[derive(Debug)]
pub struct Balancer {
    backends: Vec<TrackedBackend>,
    /// What the operator said of backends that the settings do not have now.
    absent: Absent,
    choice: ContentPolicy,
    /// Who may read the descriptors.
    access: Access,
    renewal: PointRenewal,
    /// What the network directory said last.
    network: Option<NetworkView>,
    /// For which periods there are keys; `None`: for all.
    bundle: Option<BundlePeriods>,
    /// Why no origin behind the local instances answers, if so.
    origins_down: Option<String>,
    /// Whether the local instances are about to end.
    withdrawing: bool,
    /// What clients are asked for.
    puzzles: PuzzlesAsked,
    clocks: Clocks,
    probing: Probing,
    publisher: Publisher,
    commands: VecDeque<Command>,
    timeout: Option<Instant>,
}

impl Balancer {
    /// A balancer that knows nothing of the network and its backends yet.
    pub fn new(settings: BalancerSettings) -> Self {
        let links = settings.links;
        let with_link = |settings| TrackedBackend::new(settings).wanting_link(links);
        let mut backends: Vec<_> = settings.backends.into_iter().map(with_link).collect();
        backends.iter_mut().for_each(|it| it.set_probed(settings.probe_every.is_some()));
        let mut puzzles = PuzzlesAsked::default();
        puzzles.ask_at_most(settings.max_effort);
        Self {
            backends,
            absent: Absent::default(),
            choice: ContentPolicy::new(settings.max_points, settings.distinct, settings.publishers),
            access: settings.access,
            renewal: PointRenewal::default(),
            network: None,
            bundle: None,
            origins_down: None,
            withdrawing: false,
            puzzles,
            clocks: Clocks::default(),
            probing: Probing::new(settings.probe_every, settings.probe_calm),
            publisher: Publisher::new(settings.publishers, settings.in_company),
            commands: VecDeque::new(),
            timeout: None,
        }
    }

    /// The operator wants this from now on.
    ///
    /// A backend with an id that is known keeps everything that is known of
    /// it, under its new name and weight; new ones start unknown; the points
    /// of those that are gone leave the descriptor like any point that is gone.
    /// What the operator said of one holds again when it comes back.
    pub fn reconfigure(&mut self, settings: BalancerSettings, now: Now, rng: &mut impl Rng) {
        let links = settings.links;
        let mut known = std::mem::take(&mut self.backends);
        let probed = settings.probe_every.is_some();
        for settings in settings.backends {
            let same = known.iter().position(|backend| backend.is_meant_by(&settings));
            let mut backend = match same {
                Some(index) => known.swap_remove(index).with_settings(settings),
                None => self.absent.back(TrackedBackend::new(settings)),
            }
            .wanting_link(links);
            if let Some(view) = self.network.as_ref().filter(|_| same.is_none()) {
                backend.network_changed(view, now);
            }
            backend.set_probed(probed);
            self.backends.push(backend);
        }
        self.absent.gone(&known);
        if !known.is_empty() {
            // Nobody waits long for a backend that ends.
            self.publisher.allow_changes();
        }
        self.puzzles.ask_at_most(settings.max_effort);
        self.choice.max_points = settings.max_points;
        self.choice.distinct = settings.distinct;
        self.choice.publishers = settings.publishers;
        self.publisher.with_publishers(settings.publishers);
        self.publisher.set_company(settings.in_company);
        self.allow(settings.access, now.monotonic);
        self.probing.set_interval(settings.probe_every, settings.probe_calm, now);
        self.progress(now, rng);
    }

    /// The process is about to end: the points of the local instances leave
    /// the descriptor, if another backend is live. If none is, what is
    /// published stays. There is no way back.
    pub fn withdraw(&mut self, now: Now, rng: &mut impl Rng) {
        if !self.withdrawing {
            self.withdrawing = true;
            self.publisher.allow_changes();
        }
        self.progress(now, rng);
    }

    /// Whether nothing is left to wait for after [`withdraw`](Self::withdraw):
    /// no HSDir that clients ask in the current period holds a point of a
    /// local instance, as far as is known, or no other backend is live.
    pub fn is_withdrawn(&self) -> bool {
        let local = |id| self.backends.iter().any(|b| b.id() == id && b.is_local());
        let listed = self.publisher.listed().iter().flatten().any(|(id, _)| local(*id));
        let replaced = !listed && self.publisher.has_replaced_all();
        self.withdrawing && (!self.has_others() || replaced)
    }

    /// Whether a remote backend is live, which could take the clients of the local
    /// instances.
    pub fn has_others(&self) -> bool {
        self.backends.iter().any(|b| b.is_live() && !b.is_local())
    }

    /// Whether clients may find points of a backend still: they are in the
    /// descriptor, or an HSDir that clients ask may hold one from before. Also
    /// of a backend that [`reconfigure`](Self::reconfigure) has taken out.
    pub fn may_be_found(&self, backend: BackendId) -> bool {
        let listed = self.publisher.listed().iter().flatten().any(|(id, _)| *id == backend);
        listed || !self.publisher.has_replaced_all()
    }

    /// What a remote backend whose control link is up has to know: the number of
    /// its newest report that is taken into account, and what has become of its
    /// points.
    pub fn standing(&self, backend: BackendId) -> Option<(u64, Standing)> {
        let linked = self.backends.iter().find(|it| it.id() == backend)?;
        let heard = linked.linked()?;
        let of_it = |(id, session): &(BackendId, SessionId)| (*id == backend).then_some(*session);
        let listed: BTreeSet<_> =
            self.publisher.listed().iter().flatten().filter_map(of_it).collect();
        let live = live(&self.backends, self.withdrawing);
        let standing = Standing {
            listed: listed.into_iter().take(MAX_LISTED).collect(),
            changing: !self.publisher.has_replaced_all(),
            alone: live.iter().all(|live| live.id() == backend),
            word: linked.operator().word,
            // The seeds, others know.
            work: None,
        };
        Some((heard, standing))
    }

    /// What the last descriptor asks clients for.
    pub fn published_effort(&self) -> Effort {
        self.publisher.puzzle().map_or(0, |puzzle| puzzle.effort)
    }

    /// What clients are to be asked for; `None`: nothing, ever.
    pub fn asked(&self) -> Option<Puzzle> {
        self.puzzles.asked(&live(&self.backends, self.withdrawing))
    }

    /// How much work clients are to be asked for: none where no descriptor can say so.
    pub fn asked_effort(&self) -> Effort {
        self.publisher.puzzle().and(self.asked()).map_or(0, |puzzle| puzzle.effort)
    }

    /// What the local instances offer to publishers of other addresses.
    pub fn offered(&self) -> Offered {
        let local: Vec<_> = self.backends.iter().filter(|backend| backend.is_local()).collect();
        let live = live(&self.backends, self.withdrawing);
        let live = live.into_iter().filter(|backend| backend.is_local());
        offered::offered(&local, live, self.withdrawing, self.origins_down.is_some())
    }

    /// Something has happened. Facts about backends that the settings do not
    /// have, and answers to what was given up, are ignored.
    pub fn handle_fact(&mut self, fact: Fact, now: Now, rng: &mut impl Rng) {
        self.notice_pause(now, rng);
        match fact {
            Fact::Network(view) => {
                for backend in &mut self.backends {
                    backend.network_changed(&view, now);
                }
                let before = self.network.as_ref().and_then(NetworkView::current);
                if let Some(period) = view.current()
                    && before.is_some_and(|before| before != period)
                {
                    self.publisher.period_changed(period, now, rng);
                }
                self.network = Some(view);
                self.tell_publisher(now, rng);
            }
            Fact::Bundle(bundle) => {
                self.bundle = bundle;
                self.tell_publisher(now, rng);
            }
            Fact::LocalPoints { backend, points, capabilities } => {
                if let Some(backend) = self.backend(backend) {
                    backend.local_points(points, capabilities, now);
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
            Fact::Inspected { period, hsdir, outcome, signed, counted_to } => {
                let live =
                    listable(&self.backends, &self.publisher, &self.puzzles, self.withdrawing);
                let live = live.backends.into_iter();
                let points = |backend: &TrackedBackend| backend.points().to_vec();
                let owned =
                    live.flat_map(|b| points(b).into_iter().map(|it| (it.session_id, b.id())));
                let live = owned.collect();
                let seen = (&outcome, signed, counted_to);
                self.publisher.inspected((period, hsdir), seen, &live, now);
            }
            Fact::Link { backend, news } => {
                if let Some(backend) = self.backend(backend) {
                    backend.link_news(news, now, rng);
                }
            }
            Fact::Proved { backend, outcome } => {
                if let Some(backend) = self.backend(backend) {
                    backend.proved(&outcome, now);
                }
            }
            Fact::Probed { backend, session, outcome } => {
                let outcome = self.in_view_of_the_flood(backend, outcome);
                let moved = self.probing.probed(backend, session, &outcome, now, rng);
                if let Some(backend) = self.backend(backend).filter(|_| moved) {
                    backend.may_have_moved(now, rng);
                }
            }
            Fact::Origins(outcome) => self.origins(outcome),
            Fact::Puzzle(puzzle) => self.puzzles.offer(puzzle),
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
        let live = live(&self.backends, self.withdrawing);
        let backends = self.backends.iter().map(|backend| {
            let id = backend.id();
            let listed = self.publisher.found().iter().filter(|chosen| chosen.backend == id);
            let mut status = backend.snapshot(listed.count());
            if self.puzzles.holds_back(backend, &live) {
                status.reason = Some(held_back::REASON.to_owned());
            }
            status
        });
        Status {
            state: self.state(),
            backends: backends.collect(),
            descriptors: self.publisher.snapshot(),
            problems: self.problems().into_iter().flatten().collect(),
            publishers: self.publisher.publishers(),
            clients: self.access.clients(),
            bundle: self.bundle_status(),
        }
    }

    /// What is believed of each backend, as of the last `handle_*`.
    pub fn beliefs(&self) -> impl Iterator<Item = Belief<'_>> {
        let live = live(&self.backends, self.withdrawing);
        self.backends.iter().map(move |backend| match backend.belief() {
            belief if self.puzzles.holds_back(backend, &live) => {
                Belief { reason: Some(held_back::REASON), ..belief }
            }
            belief => belief,
        })
    }

    /// What the operator calls a backend, if the settings have it.
    pub fn name(&self, backend: BackendId) -> Option<&str> {
        let backend = self.backends.iter().find(|it| it.id() == backend)?;
        Some(backend.belief().name)
    }

    /// The backend of each introduction point that is known: of those that the
    /// backends have now, and of those that are still listed.
    pub fn owners(&self) -> impl Iterator<Item = (SessionId, &str)> {
        let offered = self.backends.iter().flat_map(|backend| {
            let name = backend.belief().name;
            backend.offer().points().iter().map(move |point| (point.session_id, name))
        });
        let listed = self.publisher.listed().iter().flatten().filter_map(|(id, session)| {
            let owner = self.backends.iter().find(|backend| backend.id() == *id)?;
            Some((*session, owner.belief().name))
        });
        listed.chain(offered)
    }

    fn backend(&mut self, id: BackendId) -> Option<&mut TrackedBackend> {
        self.backends.iter_mut().find(|backend| backend.id() == id)
    }

    /// Where clients are asked for work, one that is not met may have done too little, and
    /// so may we: silence says nothing of a backend whose link is up.
    fn in_view_of_the_flood(
        &self,
        backend: BackendId,
        outcome: Result<(), ProbeFailure>,
    ) -> Result<(), ProbeFailure> {
        let is_linked = self.backends.iter().any(|b| b.id() == backend && b.linked().is_some());
        // Its own word excuses nobody.
        let mut others = live(&self.backends, self.withdrawing);
        others.retain(|other| other.id() != backend);
        match outcome {
            Err(ProbeFailure::Point(reason)) if is_linked && self.puzzles.wants_work(&others) => {
                let reason = format!("{reason}, while clients are asked for work");
                Err(ProbeFailure::Inconclusive(reason))
            }
            outcome => outcome,
        }
    }

    /// When the origins answer again, what probes through the local instances
    /// found of them is out of date.
    fn origins(&mut self, outcome: Result<(), String>) {
        if outcome.is_ok() && self.origins_down.is_some() {
            for backend in self.backends.iter().filter(|backend| backend.is_local()) {
                self.probing.application_is_back(backend.id());
            }
        }
        self.origins_down = outcome.err();
    }

    /// Looks at everything again and does whatever is due.
    fn progress(&mut self, now: Now, rng: &mut impl Rng) {
        let mut alarm = Alarm::new(now.monotonic);
        self.notice_pause(now, rng);
        Clocks::look_again(&mut alarm);
        self.look_in_new_period(&mut alarm, rng);
        for backend in &mut self.backends {
            if backend.progress(self.origins_down.as_deref(), &mut alarm, rng) {
                self.commands.push_back(Command::Fetch { backend: backend.id() });
            }
            if let Some(points) = backend.dial(&mut alarm, rng) {
                self.commands.push_back(Command::Dial {
                    backend: backend.id(),
                    points,
                    work: None,
                });
            }
            if let Some(puzzle) = self.puzzles.offered()
                && let Some(point) = backend.prove(puzzle.slot, &mut alarm, rng)
            {
                let work = self.puzzles.proof(backend, puzzle.slot);
                self.commands.push_back(Command::Prove { backend: backend.id(), point, work });
            }
            if backend.take_departure() {
                self.publisher.allow_one_change(now.monotonic);
            }
        }
        self.probing.progress(&self.backends, now, &mut alarm, rng, &mut self.commands);
        self.work_where_it_is_asked_for();
        let found = listable(&self.backends, &self.publisher, &self.puzzles, self.withdrawing);
        let with_room = found.backends.iter().filter(|b| b.is_live() && !b.is_full());
        let with_room: Vec<_> = with_room.map(|b| b.id()).collect();
        for backend in &mut self.backends {
            let others_have_room = with_room.iter().any(|id| *id != backend.id());
            backend.give_up_points(others_have_room, &mut alarm);
            backend.apply_probe_health(self.probing.health(backend.id()));
        }
        // What another publisher asks clients for is not known.
        if let Some(seen) = self.publisher.take_seen()
            && self.puzzles.offered().is_none()
            && let Some(content) = self.wanted(&seen, now, &mut alarm)
            && content.listed() == seen
        {
            self.publisher.adopt(content);
        }
        let listed = self.publisher.listed().clone();
        let wanted = self.wanted(&listed, now, &mut alarm);
        let settled = self.backends.iter().all(TrackedBackend::is_settled);
        let in_period = |b: &TrackedBackend| !b.is_live() || b.is_found_in_period();
        let gathered = self.backends.iter().all(in_period);
        let points_renewed = self.renewal.is_done(&self.backends, &mut alarm) || self.withdrawing;
        let ready = Readiness { settled, gathered, points_renewed };
        let wanted = self.publisher.keep_to(&self.access, wanted);
        self.publisher.progress(wanted, ready, now, &mut alarm, rng, &mut self.commands);
        self.timeout = alarm.next();
    }

    /// Has introductions of our own carry work to backends at which those are met last who
    /// did none.
    fn work_where_it_is_asked_for(&mut self) {
        let live = live(&self.backends, self.withdrawing);
        for command in &mut self.commands {
            if let Command::Probe { backend, work, .. } | Command::Dial { backend, work, .. } =
                command
                && let Some(backend) = self.backends.iter().find(|it| it.id() == *backend)
            {
                *work = self.puzzles.own_work(backend, &live);
            }
        }
    }

    /// What should be published: `None` if no backend is live. Then what is
    /// published stays, since all of them failing at once is more likely our
    /// own error, and a descriptor without points helps nobody.
    fn wanted(&mut self, listed: &ListedSets, now: Now, alarm: &mut Alarm) -> Option<Content> {
        let Listable { backends, puzzle } =
            listable(&self.backends, &self.publisher, &self.puzzles, self.withdrawing);
        let points = Self::points_that_fit(&self.access, backends);
        let live = points.iter().map(|(backend, points)| Live {
            backend: backend.id(),
            order: backend.order(),
            weight: backend.weight(),
            points,
            capabilities: backend.offer().capabilities(),
        });
        let all: Vec<_> = self.backends.iter().map(|b| (b.order(), b.id())).collect();
        let replicas = self.publisher.replicas();
        let live = live.collect();
        let content = self.choice.content(live, &all, listed, replicas, now.wall, alarm)?;
        Some(Content { puzzle, access: self.access.clone(), ..content })
    }
}

/// The backends whose points may be listed.
fn listable<'a>(
    backends: &'a [TrackedBackend],
    publisher: &Publisher,
    puzzles: &PuzzlesAsked,
    withdrawing: bool,
) -> Listable<'a> {
    let live = match live(backends, withdrawing) {
        none if none.is_empty() => left_published(backends, publisher, withdrawing),
        live => live,
    };
    puzzles.listable(live, publisher.puzzle())
}

/// The live backends that the operator has in use.
fn live(backends: &[TrackedBackend], withdrawing: bool) -> Vec<&TrackedBackend> {
    let stays = |b: &&TrackedBackend| {
        b.is_live() && b.operator().word == Word::Ready && !(withdrawing && b.is_local())
    };
    backends.iter().filter(stays).collect()
}

#[cfg(test)]
mod tests;
