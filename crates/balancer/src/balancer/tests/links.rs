//! What do control links change?

use super::*;
use crate::link::{Condition, LinkOrders, MAX_LISTED, Report};
use crate::settings::LinkPolicy;
use crate::status::LinkState;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl World {
    /// Two remote backends with the points 1 to 3 and 4 to 6 in their descriptors,
    /// and published.
    pub(super) fn with_remotes(links: LinkPolicy) -> Self {
        let settings = BalancerSettings { links, ..Self::settings(0, 2) };
        let mut world = Self::new(0, 2);
        world.balancer = Balancer::new(settings);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.fetched(0, 5, &[1, 2, 3]);
        world.fetched(1, 7, &[4, 5, 6]);
        world
    }

    /// The same, and links to both are up.
    pub(super) fn with_links() -> Self {
        let mut world = Self::with_remotes(LinkPolicy::Auto);
        world.pass(11 * SECOND);
        world.reports(0, 1, &[1, 2, 3]);
        world.reports(1, 1, &[4, 5, 6]);
        world
    }

    fn news(&mut self, backend: u32, news: LinkNews) {
        self.tell(Fact::Link { backend: BackendId(backend), news });
    }

    pub(super) fn says(
        &mut self,
        backend: u32,
        number: u64,
        condition: Condition,
        sessions: &[u16],
    ) {
        let points = sessions.iter().map(|n| point(*n, *n)).collect();
        let offered = Offered { condition, points, ..self.also.clone() };
        self.news(backend, LinkNews::Reported { number, offered, flaw: None });
    }

    pub(super) fn reports(&mut self, backend: u32, number: u64, sessions: &[u16]) {
        self.says(backend, number, Condition::Serving, sessions);
    }

    pub(super) fn loses(&mut self, backend: u32) {
        self.news(backend, LinkNews::Lost("the circuit broke".into()));
    }

    pub(super) fn fails(&mut self, backend: u32, failure: DialFailure) {
        self.news(backend, LinkNews::NotDialled(failure));
    }

    /// The sessions that the newest descriptor lists.
    pub(super) fn sessions(&self) -> Vec<u16> {
        let number =
            |point: &IntroPoint| u16::from_be_bytes([point.session_id.0[0], point.session_id.0[1]]);
        let mut sessions: Vec<_> = self.newest().iter().map(number).collect();
        sessions.sort_unstable();
        sessions
    }

    pub(super) fn dials_of(&self, backend: u32) -> Vec<(u64, usize)> {
        let of_it = self.dials.iter().filter(|(_, dialled, _)| *dialled == backend);
        of_it.map(|(at, _, points)| (at.as_secs(), *points)).collect()
    }

    pub(super) fn link(&self, backend: usize) -> Option<LinkState> {
        self.balancer.status().backends[backend].link
    }
}

pub(super) fn unmet() -> DialFailure {
    DialFailure::Unmet("the relay does not know the point".into())
}

#[test]
fn a_c_tor_backend_is_asked_at_one_point_soon_after_the_start_and_then_daily() {
    let mut world = World::with_remotes(LinkPolicy::Auto);
    world.undialled = Some(DialFailure::NotOffered);
    for revision in 0..60 {
        // Its points change now and then.
        world.fetched(0, 10 + revision, &[1, 2, 20 + revision as u16]);
        world.pass(HOUR);
    }
    let dials = world.dials_of(0);
    assert!((2..=3).contains(&dials.len()), "{dials:?}");
    assert!(dials[0].0 <= 10 && dials.iter().all(|(_, points)| *points == 1));
    assert!(dials.windows(2).all(|two| two[1].0 - two[0].0 >= DAY.as_secs()));
    assert_eq!(world.link(0), None);
}

#[test]
fn one_that_is_expected_to_have_a_link_is_asked_more_often_and_one_that_is_not_never() {
    let mut world = World::with_remotes(LinkPolicy::Always);
    world.undialled = Some(DialFailure::NotOffered);
    world.pass(HOUR);
    assert!((6..=12).contains(&world.dials_of(0).len()), "{:?}", world.dials_of(0));
    assert_eq!(world.link(0), Some(LinkState::Down));

    let mut world = World::with_remotes(LinkPolicy::Never);
    world.pass(HOUR);
    world.reports(0, 1, &[9]);
    world.pass(HOUR);
    assert_eq!((world.dials.len(), world.sessions()), (0, vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn points_are_in_the_descriptor_seconds_after_a_report_and_descriptors_change_nothing_then() {
    let mut world = World::with_links();
    assert_eq!(world.link(0), Some(LinkState::Up));
    world.pass(MINUTE);
    let uploads = world.uploads.len();
    world.reports(0, 2, &[1, 2, 8]);
    world.pass(8 * SECOND);
    assert_eq!(world.sessions(), [1, 2, 4, 5, 6, 8]);
    // Its descriptor is behind, for one reason or another.
    world.fetched(0, 6, &[1, 2, 3]);
    world.fetched(1, 7, &[4, 5, 6]);
    world.pass(5 * HOUR);
    assert_eq!(world.sessions(), [1, 2, 4, 5, 6, 8]);
    assert!(world.uploads.len() - uploads < 20);
}

#[test]
fn a_backend_whose_link_is_lost_and_that_nobody_meets_is_out_within_seconds() {
    let mut world = World::with_links();
    world.pass(MINUTE);
    world.loses(0);
    assert_eq!(world.dials_of(0).last().map(|(_, points)| *points), Some(3), "at once");
    world.fails(0, unmet());
    world.pass(3 * SECOND);
    assert_eq!(world.sessions(), [4, 5, 6]);
    // It comes back with the points that it had, or with others. No HSDir gets
    // descriptors of two rounds within a minute.
    world.reports(0, 1, &[1, 2, 3]);
    world.pass(2 * MINUTE);
    assert_eq!(world.sessions(), [1, 2, 3, 4, 5, 6]);
    world.loses(0);
    world.fails(0, unmet());
    world.pass(3 * SECOND);
    world.fetched(0, 6, &[7, 8, 9]);
    world.pass(2 * MINUTE);
    assert_eq!(world.sessions(), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_descriptor_from_before_its_death_does_not_bring_a_backend_back() {
    let mut world = World::with_links();
    world.reports(0, 2, &[1, 2, 8]);
    world.pass(10 * SECOND);
    world.undialled = Some(unmet());
    world.loses(0);
    // Nobody has looked at its descriptor for half an hour.
    world.fetched(0, 6, &[1, 2, 3]);
    world.pass(20 * SECOND);
    assert_eq!(world.sessions(), [4, 5, 6]);
    world.fetched(0, 7, &[1, 2, 8]);
    world.pass(20 * SECOND);
    assert_eq!(world.sessions(), [4, 5, 6]);
    // Points that it did not have are those of another life.
    world.fetched(0, 8, &[1, 2, 9]);
    world.pass(20 * SECOND);
    assert_eq!(world.sessions(), [1, 2, 4, 5, 6, 9]);
}

#[test]
fn relays_that_refuse_condemn_a_backend_only_if_that_goes_on() {
    let refused = || DialFailure::Refused("the relay does not know the point".into());
    let mut world = World::with_links();
    world.pass(2 * MINUTE);
    world.undialled = Some(refused());
    world.loses(0);
    world.pass(6 * SECOND);
    assert_eq!(world.sessions(), [1, 2, 3, 4, 5, 6], "somebody floods them, perhaps");
    // What is promised of a process that is killed.
    world.pass(14 * SECOND);
    assert_eq!(world.sessions(), [4, 5, 6]);
}

#[test]
fn a_link_that_is_lost_and_found_again_changes_nothing() {
    let mut world = World::with_links();
    let uploads = world.uploads.len();
    for _ in 0..3 {
        world.pass(3 * MINUTE);
        world.loses(0);
        world.pass(6 * SECOND);
        world.reports(0, 1, &[1, 2, 3]);
    }
    world.pass(MINUTE);
    assert_eq!(world.uploads.len(), uploads);
}

#[test]
fn while_nothing_is_known_after_a_loss_its_word_holds_for_minutes_and_then_its_descriptor() {
    let mut world = World::with_links();
    world.pass(2 * MINUTE);
    world.reports(0, 2, &[1, 2, 8]);
    world.pass(10 * SECOND);
    world.loses(0);
    for _ in 0..9 {
        world.fails(0, DialFailure::Inconclusive("no circuit".into()));
        world.pass(10 * SECOND);
        assert_eq!(world.sessions(), [1, 2, 4, 5, 6, 8]);
    }
    world.pass(MINUTE);
    assert_eq!(world.sessions(), [1, 2, 3, 4, 5, 6]);
    // One that is met and has no link is what its descriptor says.
    world.reports(0, 1, &[1, 8]);
    world.pass(10 * SECOND);
    world.loses(0);
    world.fails(0, DialFailure::NotOffered);
    world.pass(2 * MINUTE);
    assert_eq!(world.sessions(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(world.link(0), Some(LinkState::Down));
}

#[test]
fn one_that_has_ended_stays_out_and_is_dialled_where_it_was_until_it_is_back() {
    let mut world = World::with_links();
    world.says(0, 2, Condition::Ending, &[]);
    world.pass(3 * SECOND);
    world.undialled = Some(unmet());
    world.loses(0);
    for n in 0..40 {
        world.undialled = Some(match n % 2 {
            0 => unmet(),
            _ => DialFailure::Inconclusive("no circuit".into()),
        });
        // The descriptor of before.
        world.fetched(0, 5, &[1, 2, 3]);
        world.pass(10 * SECOND);
        assert_eq!(world.sessions(), [4, 5, 6]);
    }
    assert!(world.dials_of(0).len() >= 6);
    world.reports(0, 1, &[1, 2, 3]);
    world.pass(10 * SECOND);
    assert_eq!(world.sessions(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn one_that_is_decommissioned_is_dialled_daily_in_the_end_and_at_once_when_it_publishes_again() {
    let mut world = World::with_links();
    world.undialled = Some(unmet());
    world.loses(0);
    world.pass(40 * DAY);
    let dials = world.dials_of(0);
    assert!(dials.len() < 110, "{}", dials.len());
    let last = dials.windows(2).next_back().map(|two| two[1].0 - two[0].0);
    assert!(last.is_some_and(|last| last >= DAY.as_secs()), "{last:?}");
    // What HSDirs had of it says nothing new.
    world.fetched(0, 5, &[1, 2, 3]);
    world.pass(MINUTE);
    assert_eq!(world.dials_of(0).len(), dials.len());
    // It is back, with the points that it had.
    world.fetched(0, 6, &[1, 2, 3]);
    world.pass(10 * SECOND);
    assert_eq!(world.dials_of(0).len(), dials.len() + 1);
}

#[test]
fn what_is_published_stays_where_nobody_is_met_at_any_backend() {
    let mut world = World::with_links();
    world.pass(MINUTE);
    for backend in [0, 1] {
        world.loses(backend);
        world.fails(backend, unmet());
    }
    world.pass(HOUR);
    assert!(!world.sessions().is_empty());
}

#[test]
fn one_that_ends_leaves_at_once_however_often_the_descriptor_has_changed_and_is_told_so() {
    let mut world = World::with_links();
    let orders = |world: &World| {
        let (answers, standing) = world.balancer.standing(BackendId(0)).unwrap();
        LinkOrders { number: 1, answers, standing }
    };
    let ending = |number| {
        let offer = Offered { condition: Condition::Ending, ..Offered::default() };
        Report { number, offer }
    };
    for n in 0..8 {
        world.reports(1, 2 + n, &[4, 5, 20 + n as u16]);
        world.pass(20 * SECOND);
    }
    assert_eq!(orders(&world).standing.listed.len(), 3);
    world.deaf = true;
    world.says(0, 2, Condition::Ending, &[]);
    assert!(!orders(&world).release(&ending(2)));
    world.pass(3 * SECOND);
    assert!(orders(&world).standing.listed.is_empty());
    assert!(!orders(&world).release(&ending(2)), "HSDirs have not taken it");
    world.deaf = false;
    world.pass(5 * MINUTE);
    assert!(orders(&world).release(&ending(2)));
    let status = world.balancer.status();
    assert_eq!(status.backends[0].reason.as_deref(), Some("its process is ending"));
    // Who is the last one is told not to wait.
    world.says(1, 99, Condition::Ending, &[]);
    let (answers, standing) = world.balancer.standing(BackendId(1)).unwrap();
    assert!(standing.alone && LinkOrders { number: 1, answers, standing }.release(&ending(99)));
}

#[test]
fn one_that_reports_without_end_takes_nobody_elses_turn_to_leave() {
    let mut world = World::with_links();
    let uploads = world.uploads.len();
    for n in 0..3600_u16 {
        match n % 3 {
            0 => world.says(0, u64::from(n) + 2, Condition::Ending, &[]),
            _ => world.reports(0, u64::from(n) + 2, &[100 + n, 4000 + n, 8000 + n]),
        }
        if n == 3000 {
            world.says(1, 2, Condition::Ending, &[]);
        }
        if n == 3012 {
            let listed = world.sessions();
            assert!(!listed.contains(&4) && !listed.is_empty(), "{listed:?}");
        }
        world.pass(SECOND);
    }
    // Two HSDirs; about one change a minute, as its descriptor could cause.
    assert!(world.uploads.len() - uploads < 2 * 80, "{}", world.uploads.len() - uploads);
}

#[test]
fn a_link_that_breaks_again_and_again_is_not_dialled_without_end() {
    let mut world = World::with_links();
    let before = world.dials.len();
    for _ in 0..600 {
        world.reports(0, 1, &[1, 2, 3]);
        world.loses(0);
        world.pass(SECOND);
    }
    assert!(world.dials.len() - before < 25, "{}", world.dials.len() - before);
}

#[test]
fn points_from_a_link_are_held_to_what_points_from_a_descriptor_are() {
    let mut world = World::with_links();
    let many: Vec<u16> = (100..160).collect();
    world.reports(0, 2, &many);
    world.pass(10 * SECOND);
    let status = world.balancer.status();
    assert_eq!(status.backends[0].intro_points, 20);
    let (_, standing) = world.balancer.standing(BackendId(0)).unwrap();
    assert!(standing.listed.len() <= MAX_LISTED);

    let bad = IntroPoint { service_ntor_key: [0; 32], ..point(50, 50) };
    let points = vec![bad, point(51, 51), point(51, 52)];
    let capabilities = Capabilities::default();
    let offered =
        Offered { condition: Condition::Serving, points, capabilities, ..Offered::default() };
    world.news(0, LinkNews::Reported { number: 3, offered, flaw: None });
    world.pass(MINUTE);
    // One point against two: the shares are not to differ more.
    assert_eq!(world.sessions(), [4, 5, 51]);
    assert!(world.balancer.status().backends[0].reason.is_some());
}

#[test]
fn a_service_offers_its_live_local_points_in_turn_and_says_why_it_has_none() {
    let mut world = World::on_network(2, 1);
    assert_eq!(world.balancer.offered().condition, Condition::Unestablished);
    world.local(0, &[1, 2, 3]);
    world.local(1, &[4, 5, 6]);
    // Of its address alone.
    world.fetched(2, 1, &[7, 8]);
    let offered = world.balancer.offered();
    assert_eq!(offered.condition, Condition::Serving);
    assert_eq!(offered.points, [1, 4, 2, 5, 3, 6].map(|n| point(n, n)));
    world.local(0, &(30..60).collect::<Vec<_>>());
    assert_eq!(world.balancer.offered().points.len(), 20);

    world.tell(Fact::Origins(Err("refused".into())));
    let offered = world.balancer.offered();
    assert_eq!((offered.condition, offered.points.len()), (Condition::Broken, 0));
    world.tell(Fact::Origins(Ok(())));
    for backend in [0, 1] {
        let order =
            OperatorOrder { backend: BackendId(backend), verb: Verb::Drain, force: true, by: None };
        world.balancer.obey(&order, world.now, &mut world.rng).unwrap();
    }
    assert_eq!(world.balancer.offered().condition, Condition::Drained);
    world.withdraw();
    assert_eq!(world.balancer.offered().condition, Condition::Ending);
}
