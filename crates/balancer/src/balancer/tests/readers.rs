//! For whom are descriptors, when whose points they list does not change?

use super::*;

/// A frontend of one remote backend that is open to everybody, published.
fn open_frontend() -> World {
    let mut world = World::on_network(0, 1);
    world.fetched(0, 1, &[11, 12, 13]);
    world.pass(5 * MINUTE);
    assert_eq!(world.state(), ServiceState::Published);
    world
}

/// The same, and its backend is not found any more.
fn without_a_live_backend() -> World {
    let mut world = open_frontend();
    for _ in 0..400 {
        world.tell(Fact::Fetched { backend: BackendId(0), outcome: Err(FetchFailure::NotFound) });
        world.pass(MINUTE);
    }
    assert_eq!(world.state(), ServiceState::Down);
    world
}

fn closed_to(keys: &[u8]) -> BalancerSettings {
    readable_by(World::settings(0, 1), keys)
}

/// Who may read what was uploaded since so many uploads.
fn readers(world: &World, since: usize) -> Vec<&Access> {
    let mut all: Vec<_> = world.uploads[since..].iter().map(|(_, it)| &it.access).collect();
    all.dedup();
    all
}

#[test]
fn who_is_shut_out_while_no_backend_is_live_finds_no_descriptor_that_is_uploaded_later() {
    let mut world = without_a_live_backend();
    let mut before = world.uploads.len();
    for keys in [&[2, 3][..], &[2], &[2, 4]] {
        let settings = closed_to(keys);
        let expected = settings.access.clone();
        world.reconfigure(settings);
        world.pass(3 * SECOND);
        assert_eq!(world.uploads.len(), before + 2, "at once, with the points of before");
        assert_eq!(world.newest(), points(&[11, 12, 13]));
        // It is published again, and to new HSDirs, for them alone.
        world.pass(300 * MINUTE);
        world.tell(Fact::Network(network(1, [1, 3])));
        world.pass(10 * MINUTE);
        assert!(world.uploads.len() > before + 5);
        assert_eq!(readers(&world, before), [&expected]);
        before = world.uploads.len();
    }
    world.reconfigure(World::settings(0, 1));
    world.pass(3 * SECOND);
    assert_eq!(readers(&world, before), [&Access::Everybody]);
}

#[test]
fn the_last_client_that_goes_while_no_backend_is_live_ends_the_publishing() {
    let mut world = without_a_live_backend();
    let before = world.uploads.len();
    world.reconfigure(closed_to(&[]));
    world.pass(300 * MINUTE);
    assert_eq!(world.uploads.len(), before);
}

#[test]
fn what_an_hsdir_has_not_taken_yet_is_not_brought_to_it_for_who_is_shut_out() {
    let mut world = World::on_network(0, 1);
    world.deaf = true;
    world.fetched(0, 1, &[11, 12, 13]);
    world.pass(SECOND);
    let uploads = std::mem::take(&mut world.uploads);
    assert_eq!(uploads.len(), 2);
    for (_, it) in uploads {
        let outcome = Err(UploadFailure::Unreachable("no circuit".into()));
        let Publication { period, hsdir, as_of, .. } = it;
        world.tell(Fact::Uploaded { period, hsdir, as_of, outcome });
    }
    world.deaf = false;
    world.reconfigure(closed_to(&[2]));
    world.pass(5 * MINUTE);
    assert_eq!(readers(&world, 0), [&closed_to(&[2]).access]);
}

#[test]
fn points_that_a_descriptor_for_clients_has_no_room_for_are_not_left_published_openly() {
    let large = |session| {
        let mut point = point(session, session);
        point.link_specifiers.push(crate::onion::LinkSpecifier { kind: 99, body: vec![0; 62] });
        point
    };
    let mut world = World::on_network(0, 1);
    let descriptor = |points| Ok(descriptor(period(1), 1, points));
    let outcome = descriptor(vec![large(1)]);
    world.tell(Fact::Fetched { backend: BackendId(0), outcome });
    world.pass(5 * MINUTE);
    let before = world.uploads.len();
    world.reconfigure(closed_to(&[2]));
    world.pass(300 * MINUTE);
    assert_eq!(world.uploads.len(), before);
    assert_eq!(world.state(), ServiceState::Down);
    let problems = world.balancer.status().problems;
    assert!(problems[0].contains("more link specifiers"), "{problems:?}");
}

#[test]
fn what_is_published_for_more_clients_keeps_the_points_that_fit() {
    let mut world = World::on_network(1, 1);
    let many: Vec<u16> = (10..16).collect();
    world.local(0, &[1, 2, 3]);
    world.fetched(1, 1, &many);
    world.pass(MINUTE);
    assert_eq!(world.newest().len(), 7);
    world.local(0, &[]);
    for _ in 0..400 {
        world.tell(Fact::Fetched { backend: BackendId(1), outcome: Err(FetchFailure::NotFound) });
        world.pass(MINUTE);
    }
    let key = |n: u16| {
        let mut bytes = [9; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        ClientKey::new(bytes).unwrap()
    };
    let access = Access::Clients((0..400).map(key).collect());
    let settings = World::settings(1, 1);
    world.reconfigure(BalancerSettings { access, max_points: Some(1), ..settings });
    world.pass(3 * SECOND);
    assert_eq!(world.newest().len(), 1);
}

/// Waits until one of the HSDirs is asked what it holds.
fn until_asked(world: &mut World) {
    world.fetches = 0;
    while world.fetches == 0 {
        world.pass(10 * SECOND);
    }
}

/// What every HSDir answers from a stranger who has the key and publishes for clients of their own.
fn answered_by_a_stranger(world: &mut World, revision: u64) {
    for hsdir in [relay(1), relay(2)] {
        let outcome = Err(FetchFailure::Unusable("its descriptor is for other clients".into()));
        let (signed, counted_to) = (Some(revision), None);
        world.tell(Fact::Inspected { period: period(1), hsdir, outcome, signed, counted_to });
    }
}

#[test]
fn who_has_the_key_and_publishes_for_clients_of_their_own_is_reported() {
    for settings in [World::settings(1, 0), readable_by(World::settings(1, 0), &[2])] {
        let mut world = World::on_network(1, 0);
        world.reconfigure(settings);
        world.local(0, &[1, 2, 3]);
        until_asked(&mut world);
        let uploads = world.uploads.len();
        answered_by_a_stranger(&mut world, 1_000);
        let status = world.balancer.status();
        assert!(status.problems[0].contains("the key is in other hands"), "{:?}", status.problems);
        let canary = status.descriptors[0].canary.unwrap();
        assert_eq!(canary.outcome, crate::status::CanaryOutcome::Foreign);
        world.pass(SECOND);
        assert_eq!(world.uploads.len(), uploads, "nobody learns that we have noticed");
    }
}

#[test]
fn of_several_publishers_one_with_other_clients_is_reported_and_answered() {
    let mut world = World::on_network(1, 0);
    let settings = readable_by(World::settings(1, 0), &[2]);
    world.reconfigure(BalancerSettings { publishers: Publishers::Several, ..settings.clone() });
    world.local(0, &[1, 2, 3]);
    let mut answered = Vec::new();
    for revision in 0..4 {
        until_asked(&mut world);
        let before = world.uploads.len();
        answered_by_a_stranger(&mut world, 1_000 + revision);
        let problems = world.balancer.status().problems;
        assert!(problems[0].contains("for other clients"), "{problems:?}");
        world.pass(2 * SECOND);
        answered.push(world.uploads.len() - before);
    }
    let uploads = [0, 2];
    assert!(answered[0] == 2 && answered.iter().all(|it| uploads.contains(it)), "{answered:?}");
}

/// A service of two local instances that everybody finds, and then two clients.
fn closed_while_it_runs() -> World {
    let mut world = World::on_network(2, 0);
    world.local(0, &[1, 2, 3]);
    world.local(1, &[4, 5, 6]);
    world.pass(5 * MINUTE);
    world.uploads.clear();
    world.reconfigure(readable_by(World::settings(2, 0), &[2, 3]));
    world
}

#[test]
fn who_is_shut_out_costs_hsdirs_one_descriptor_with_points_that_they_do_not_know() {
    let mut world = closed_while_it_runs();
    world.pass(SECOND);
    world.local(0, &[1, 7, 8]);
    world.local(1, &[10, 11, 12]);
    world.pass(SECOND);
    assert_eq!(world.uploads, [], "one of the old points is still offered");
    world.local(0, &[7, 8, 9]);
    world.pass(50 * MINUTE);
    assert_eq!(world.uploads.len(), 2);
    assert!(world.uploads.iter().all(|(at, _)| at.as_secs() <= 5 * 60 + 3));
    let published: BTreeSet<_> = world.newest().into_iter().collect();
    assert_eq!(published, points(&[7, 8, 9, 10, 11, 12]).into_iter().collect());
}

#[test]
fn a_point_that_is_not_replaced_keeps_nobody_in_for_longer_than_ten_seconds() {
    let mut world = closed_while_it_runs();
    world.local(1, &[10, 11, 12]);
    // Further changes do not put it off.
    world.pass(6 * SECOND);
    world.reconfigure(readable_by(World::settings(2, 0), &[2]));
    world.pass(3 * SECOND);
    assert_eq!(world.uploads, []);
    world.pass(2 * SECOND);
    let expected = readable_by(World::settings(2, 0), &[2]).access;
    assert_eq!(readers(&world, 0), [&expected]);
    assert_eq!(world.uploads.len(), 2);
}

#[test]
fn who_comes_in_waits_for_no_points() {
    let mut world = closed_while_it_runs();
    world.pass(MINUTE);
    world.uploads.clear();
    world.reconfigure(readable_by(World::settings(2, 0), &[2, 3, 4]));
    world.pass(2 * SECOND);
    assert_eq!(world.uploads.len(), 2);
}
