//! Who is listed while clients are asked for work, and what does a backend that is full
//! keep?

use super::links::unmet;
use super::*;
use crate::link::WorkReport;
use crate::settings::LinkPolicy;

impl World {
    /// Linked backends say of themselves that they verify solutions of this slot, and want
    /// this effort.
    fn verify(&mut self, slot: Option<u64>, effort: u32) {
        self.also.work = Some(WorkReport { slot: slot.map(SeedSlot), effort });
    }

    /// The effort of the newest descriptor.
    fn effort(&self) -> Option<u32> {
        self.uploads.last().and_then(|(_, newest)| newest.puzzle).map(|puzzle| puzzle.effort)
    }

    fn is_held_back(&self, backend: usize) -> bool {
        let status = self.balancer.status();
        status.backends[backend].reason.as_deref() == Some(held_back::REASON)
    }

    fn asks(&mut self, slot: u64, effort: u32) {
        self.tell(Fact::Puzzle(puzzle(slot, effort)));
    }
}

/// A local instance, and two remote backends whose links are up, as of the second minute.
fn linked(world: &mut World) {
    world.local(0, &[11, 12, 13]);
    world.fetched(1, 5, &[1, 2, 3]);
    world.fetched(2, 7, &[4, 5, 6]);
    world.pass(11 * SECOND);
    world.reports(1, 1, &[1, 2, 3]);
    world.reports(2, 1, &[4, 5, 6]);
    world.pass(2 * MINUTE);
}

#[test]
fn a_backend_elsewhere_is_listed_under_attack_once_it_has_the_seeds_and_has_proven_it() {
    let mut world = World::on_network(1, 2);
    world.asks(1, 0);
    linked(&mut world);
    assert_eq!((world.proofs.len(), world.effort()), (0, Some(0)), "they have said nothing");
    // One of them has the seeds.
    world.verify(Some(1), 0);
    world.reports(1, 2, &[1, 2, 3]);
    assert_eq!(world.proofs.len(), 1, "tried in peace");
    let (backend, point, work) = &world.proofs[0];
    assert_eq!((*backend, *work), (1, OwnWork { slot: SeedSlot(1), effort: 1 }));
    assert!([1, 2, 3].iter().any(|n| crate::samples::point(*n, *n) == *point));
    world.asks(1, 40);
    world.pass(MINUTE);
    assert_eq!((world.sessions(), world.effort()), (vec![1, 2, 3, 11, 12, 13], Some(40)));
    assert!(!world.is_held_back(1) && world.is_held_back(2));
    // The other one gets them, and is tried under attack.
    world.proven = None;
    world.reports(2, 2, &[4, 5, 6]);
    world.pass(MINUTE);
    assert!(world.is_held_back(2));
    world.tell(Fact::Proved { backend: BackendId(2), outcome: Ok(()) });
    world.pass(2 * MINUTE);
    assert_eq!(world.sessions(), [1, 2, 3, 4, 5, 6, 11, 12, 13]);
}

#[test]
fn one_that_does_not_answer_who_worked_stays_out_whatever_it_says() {
    let mut world = World::on_network(1, 2);
    world.proven = Some(Err(ProbeFailure::Point("no answer to the introduction".into())));
    world.verify(Some(9), 0);
    world.asks(1, 0);
    linked(&mut world);
    world.asks(1, 40);
    world.pass(10 * MINUTE);
    assert_eq!(world.sessions(), [11, 12, 13]);
    assert!(world.proofs.len() >= 8, "{}", world.proofs.len());
}

#[test]
fn who_has_lost_the_seeds_or_lags_behind_leaves_and_a_link_that_is_found_again_costs_nothing() {
    let mut world = World::on_network(1, 2);
    world.verify(Some(1), 0);
    world.asks(1, 40);
    linked(&mut world);
    assert_eq!(world.sessions().len(), 9);
    // The link breaks, and the same process answers.
    let uploads = world.uploads.len();
    world.loses(1);
    world.pass(5 * SECOND);
    world.reports(1, 1, &[1, 2, 3]);
    world.pass(2 * MINUTE);
    assert_eq!(world.uploads.len(), uploads);
    // Another process has no seeds, and is back when it has proven itself.
    world.verify(None, 0);
    world.loses(1);
    world.reports(1, 1, &[1, 2, 3]);
    world.pass(2 * MINUTE);
    assert!(world.is_held_back(1) && world.sessions() == [4, 5, 6, 11, 12, 13]);
    world.verify(Some(1), 0);
    world.reports(1, 2, &[1, 2, 3]);
    world.pass(2 * MINUTE);
    assert_eq!(world.sessions().len(), 9);
    // The next slot begins: who has its seeds stays.
    world.verify(Some(2), 0);
    world.reports(1, 3, &[1, 2, 3]);
    world.asks(2, 40);
    world.pass(3 * MINUTE);
    assert_eq!(world.sessions(), [1, 2, 3, 11, 12, 13]);
    // Nobody knows what becomes of one that is not met: it has its seeds until they are old.
    world.undialled = Some(DialFailure::Inconclusive("no circuit".into()));
    world.loses(1);
    world.pass(5 * MINUTE);
    assert_eq!(world.sessions(), [1, 2, 3, 11, 12, 13]);
    world.asks(3, 40);
    world.pass(3 * MINUTE);
    assert_eq!(world.sessions(), [11, 12, 13]);
}

#[test]
fn under_attack_we_work_more_than_a_backend_asks_of_clients_before_it_has_proven_anything() {
    for (wanted, done) in [(0, 1), (60, 120), (200, 300), (10_000, 300)] {
        let mut world = World::on_network(0, 1);
        world.asks(1, 0);
        world.fetched(0, 5, &[1, 2, 3]);
        world.pass(11 * SECOND);
        world.verify(Some(1), wanted);
        world.reports(0, 1, &[1, 2, 3]);
        world.pass(MINUTE);
        let (_, _, work) = world.proofs.last().unwrap();
        assert_eq!(*work, OwnWork { slot: SeedSlot(1), effort: done });
        assert_eq!((world.effort(), world.sessions().len()), (Some(wanted), 3));
        // The link breaks, and the process has its seeds.
        world.undialled = Some(DialFailure::Inconclusive("no circuit".into()));
        world.loses(0);
        world.pass(10 * MINUTE);
        assert_eq!(
            (world.balancer.asked().map(|it| it.effort), world.effort()),
            (Some(wanted), Some(wanted))
        );
    }
}

#[test]
fn the_reports_of_most_points_decide_what_is_asked_and_one_that_lies_does_not() {
    let mut world = World::on_network(1, 2);
    world.verify(Some(1), 10_000);
    world.asks(1, 0);
    linked(&mut world);
    // Both of them, six points of nine.
    assert_eq!(world.effort(), Some(10_000));
    let settings = BalancerSettings { max_effort: Some(500), ..World::settings(1, 2) };
    world.reconfigure(settings);
    world.pass(3 * MINUTE);
    assert_eq!(world.effort(), Some(500));
    world.verify(Some(1), 0);
    world.reports(1, 2, &[1, 2, 3]);
    world.pass(3 * MINUTE);
    assert_eq!((world.effort(), world.balancer.asked().map(|it| it.effort)), (Some(0), Some(0)));
    // What our own instances need counts always.
    world.asks(1, 30);
    world.pass(3 * MINUTE);
    assert_eq!(world.effort(), Some(30));
}

#[test]
fn a_service_of_remote_backends_alone_asks_for_the_work_that_most_of_them_verify() {
    let settings = BalancerSettings { links: LinkPolicy::Auto, ..World::settings(0, 3) };
    let mut world = World::new(0, 3);
    world.balancer = Balancer::new(settings);
    world.tell(Fact::Network(network(1, [1, 2])));
    world.asks(1, 0);
    world.fetched(0, 5, &[1, 2, 3]);
    world.fetched(1, 7, &[4, 5, 6]);
    world.fetched(2, 9, &[7, 8, 9]);
    world.pass(11 * SECOND);
    assert_eq!(world.effort(), None);
    world.verify(Some(1), 25);
    world.reports(0, 1, &[1, 2, 3]);
    world.pass(3 * MINUTE);
    assert_eq!((world.sessions().len(), world.effort()), (9, Some(0)), "one alone");
    world.reports(1, 1, &[4, 5, 6]);
    world.pass(3 * MINUTE);
    assert_eq!((world.sessions(), world.effort()), (vec![1, 2, 3, 4, 5, 6], Some(25)));
    assert!(world.is_held_back(2));
    // The last ones that could verify go: nobody works for nothing.
    world.undialled = Some(unmet());
    world.loses(0);
    world.loses(1);
    world.pass(3 * MINUTE);
    assert_eq!((world.sessions(), world.effort()), (vec![7, 8, 9], None));
}

#[test]
fn a_backend_that_lies_pushes_nobody_out_and_is_condemned_for_its_silence() {
    let mut world = World::on_network(0, 3);
    let probed = BalancerSettings {
        links: LinkPolicy::Auto,
        probe_every: Some(30 * SECOND),
        max_points: Some(20),
        ..World::settings(0, 3)
    };
    world.reconfigure(probed);
    world.asks(1, 0);
    world.fetched(0, 5, &[1, 2, 3]);
    world.fetched(1, 7, &[4, 5, 6]);
    world.fetched(2, 9, &[7, 8, 9]);
    world.pass(11 * SECOND);
    // However many points it offers.
    world.verify(Some(1), u32::MAX);
    let many: Vec<u16> = (20..40).collect();
    world.reports(2, 1, &many);
    world.pass(3 * MINUTE);
    assert_eq!(world.effort(), Some(0));
    let listed = |world: &World, sessions: &[u16]| {
        world.sessions().iter().any(|session| sessions.contains(session))
    };
    let honest = |world: &World| listed(world, &[1, 2, 3]) && listed(world, &[4, 5, 6]);
    assert!(honest(&world) && listed(&world, &many));
    world.dead = Some(BackendId(2));
    world.pass(5 * MINUTE);
    assert!(honest(&world) && !listed(&world, &many), "{:?}", world.sessions());
}

#[test]
fn under_attack_our_own_introductions_carry_work_and_silence_condemns_no_linked_backend() {
    let mut world = World::on_network(1, 2);
    let probed = BalancerSettings { probe_every: Some(30 * SECOND), ..World::settings(1, 2) };
    world.reconfigure(probed);
    world.verify(Some(1), 0);
    world.asks(1, 40);
    linked(&mut world);
    let silent = Err(ProbeFailure::Point("no answer to the introduction".into()));
    let mut worked = 0;
    for _ in 0..600 {
        world.pass_by(SECOND);
        while let Some(command) = world.balancer.poll_command() {
            let Command::Probe { backend, point, work } = command else { continue };
            let is_local = backend == BackendId(0);
            assert_eq!(work.is_some(), !is_local);
            worked += usize::from(work.is_some_and(|work| work.effort == 80));
            let outcome = if is_local { Ok(()) } else { silent.clone() };
            world.balancer.handle_fact(
                Fact::Probed { backend, session: point.session_id, outcome },
                world.now,
                &mut world.rng,
            );
        }
    }
    assert!(worked > 10, "{worked}");
    let status = world.balancer.status();
    assert!(status.backends.iter().all(|it| it.state == BackendState::Up), "{status:?}");
}

#[test]
fn a_full_backend_gives_up_points_but_one_and_has_them_back_when_it_has_room() {
    let mut world = World::on_network(1, 2);
    linked(&mut world);
    world.also.full = true;
    world.reports(1, 2, &[1, 2, 3]);
    let mut listed = Vec::new();
    for _ in 0..10 {
        world.pass(MINUTE);
        listed.push(world.sessions().iter().filter(|session| **session <= 3).count());
    }
    assert!(listed.windows(2).all(|two| two[1] <= two[0] && two[0] - two[1] <= 1), "{listed:?}");
    assert_eq!(listed.last(), Some(&1));
    let status = world.balancer.status();
    assert_eq!(status.backends[1].state, BackendState::Up);
    assert_eq!(status.backends[1].failing_intro_points, 0);
    assert!(status.backends[1].reason.as_deref().is_some_and(|it| it.starts_with("it is full")));
    world.also.full = false;
    world.reports(1, 3, &[1, 2, 3]);
    world.pass(30 * MINUTE);
    assert_eq!(world.sessions().len(), 9);
    // Where the other one cannot have its clients, it would help nobody: clients are asked
    // for work, or the operator has it out of use.
    for drained in [false, true] {
        let mut world = World::on_network(0, 2);
        world.asks(1, 0);
        world.fetched(0, 5, &[1, 2, 3]);
        world.fetched(1, 7, &[4, 5, 6]);
        world.pass(11 * SECOND);
        world.verify(Some(1), 0);
        world.reports(0, 1, &[1, 2, 3]);
        world.pass(2 * MINUTE);
        world.also.full = true;
        world.reports(0, 2, &[1, 2, 3]);
        if drained {
            world.say(1, Verb::Drain, false).unwrap();
        } else {
            world.asks(1, 40);
        }
        world.pass(30 * MINUTE);
        assert_eq!(world.sessions(), [1, 2, 3], "{drained}");
    }
    // Nor where all are full.
    let mut world = World::on_network(0, 2);
    world.fetched(0, 5, &[1, 2, 3]);
    world.fetched(1, 7, &[4, 5, 6]);
    world.pass(11 * SECOND);
    world.also.full = true;
    world.reports(0, 1, &[1, 2, 3]);
    world.reports(1, 1, &[4, 5, 6]);
    world.pass(30 * MINUTE);
    assert_eq!(world.sessions().len(), 6);
}

#[test]
fn a_linked_backend_is_told_the_operators_word_on_it() {
    let mut world = World::on_network(1, 2);
    linked(&mut world);
    let word = |world: &World| world.balancer.standing(BackendId(1)).unwrap().1.word;
    assert_eq!(word(&world), Word::Ready);
    world.say(1, Verb::Drain, false).unwrap();
    assert_eq!(word(&world), Word::Drain);
    world.say(1, Verb::Ready, false).unwrap();
    assert_eq!(word(&world), Word::Ready);
}

#[test]
fn a_restart_under_attack_loses_neither_what_backends_have_proven_nor_what_they_ask_for() {
    let mut before = with_two_remotes();
    before.asks(1, 0);
    before.pass(11 * SECOND);
    before.verify(Some(1), 60);
    before.reports(0, 1, &[1, 2, 3]);
    before.reports(1, 1, &[4, 5, 6]);
    before.pass(2 * MINUTE);
    assert_eq!((before.effort(), before.sessions().len()), (Some(60), 6));
    let after = |time, undialled, slot| {
        let settings = BalancerSettings { links: LinkPolicy::Auto, ..two_remotes() };
        let mut world = restarted(&before, settings, time);
        world.undialled = Some(undialled);
        world.asks(slot, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.fetched(0, 5, &[1, 2, 3]);
        world.fetched(1, 8, &[4, 5, 6]);
        world
    };
    let nobody_knows = || DialFailure::Inconclusive("no circuit".into());
    let mut world = after(MINUTE, nobody_knows(), 1);
    world.pass(MINUTE);
    assert_eq!((world.effort(), world.sessions().len()), (Some(60), 6));
    // The same processes answer, ...
    world.verify(Some(1), 60);
    world.reports(0, 1, &[1, 2, 3]);
    world.reports(1, 1, &[4, 5, 6]);
    world.pass(5 * MINUTE);
    assert!(world.proofs.is_empty() && world.effort() == Some(60));
    // ... or another one, which knows nothing.
    let mut world = after(MINUTE, nobody_knows(), 1);
    world.proven = None;
    world.verify(None, 0);
    world.reports(0, 1, &[1, 2, 3]);
    world.verify(Some(1), 60);
    world.reports(0, 2, &[1, 2, 3]);
    world.pass(5 * MINUTE);
    assert_eq!(
        (world.proofs.is_empty(), world.effort()),
        (false, Some(0)),
        "one of two is not most"
    );
    // Relays refuse while somebody floods a point.
    let refused = DialFailure::Refused("the relay refuses".into());
    let mut world = after(MINUTE, refused, 1);
    world.pass(15 * SECOND);
    assert_eq!((world.dials.is_empty(), world.effort()), (false, Some(60)));
    // Nothing of it holds after long, for other seeds, where nobody is met, where there is no
    // link, or where the backend has points that are new to us.
    for (time, undialled, slot) in [
        (11 * MINUTE, nobody_knows(), 1),
        (MINUTE, nobody_knows(), 2),
        (MINUTE, unmet(), 1),
        (MINUTE, DialFailure::NotOffered, 1),
    ] {
        let mut world = after(time, undialled.clone(), slot);
        world.pass(2 * MINUTE);
        assert_eq!(world.effort().unwrap_or(0), 0, "{time:?} {undialled:?} {slot}");
        // Who is still attacked there meets us only for work.
        let work = OwnWork { slot: SeedSlot(1), effort: 120 };
        let worked = world.dial_work == Some(work);
        assert_eq!(worked, time == MINUTE && slot == 1, "{time:?} {undialled:?} {slot}");
    }
    let mut world = after(MINUTE, nobody_knows(), 1);
    world.pass(MINUTE);
    world.fetched(0, 6, &[1, 2, 7]);
    world.fetched(1, 9, &[4, 5, 8]);
    world.pass(5 * MINUTE);
    assert_eq!(world.effort().unwrap_or(0), 0);
}
