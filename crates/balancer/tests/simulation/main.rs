//! Days in the life of a balancer, on a clock of our own: backends rotate
//! their points, die and come back, HSDirs come, go, refuse and fall silent,
//! periods change. What must never happen is checked at every upload; what
//! must come true is checked in the calm that follows every few hours.
//!
//! Everything derives from a seed, which every failure names. `SEEDS=20` in the
//! environment runs twenty times as many of them, `SEED=17` that one alone.
//!
//! Of every descriptor that is uploaded:
//!
//! - It has 1 to 20 points, each once, and no two of one relay where a backend has others.
//! - It lists every backend that was believed to live when it was decided, but for those held
//!   back because they cannot verify work.
//! - Where it asks for work, it lists only points at which that work is verified.
//! - It asks for no more work than somebody needed in the ten minutes before, not counting
//!   the time in which no backend was live.
//! - While nobody dies, no point leaves that its backend still has, whatever becomes of links.
//! - Its moment is a second or more after that of the one before, an HSDir gets one at a time
//!   and at most 90 in an hour, and the status says what is in it.
//!
//! Of time:
//!
//! - Who had a link is out of the descriptor a minute after its death; where the publisher's
//!   own network fails all dials meanwhile, half a minute after the first that it lets through;
//!   and where nobody else lives, half a minute after somebody does.
//! - No backend is fetched more than 80 times an hour, and nothing wakes up for nothing.
//! - After 25 minutes of calm nothing changes any more: the service is found, each live backend
//!   is listed with the points that it has, no dead local instance is, every HSDir holds the
//!   newest descriptor, and the status says so.
//!
//! [`judging`] and [`publishing`] state theirs with their checks.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod attacks;
mod judging;
mod publishing;
mod simulation;
mod timeline;
mod world;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use onionbraid_balancer::fact::BackendId;
use onionbraid_balancer::status::ServiceState;

use judging::Judging;
use publishing::Site;
use simulation::{Plan, Simulation};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// An ordinary site.
const SMALL: publishing::Plan = publishing::Plan {
    seed: 0,
    backends: 6,
    local: false,
    publishers: 1,
    trouble_every: None,
    renewing: false,
};

/// `count` seeds from `first` on, unless the environment says otherwise.
fn seeds(first: u64, count: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|number| number.parse().unwrap());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + count * number("SEEDS").unwrap_or(1),
    }
}

/// Runs for `hours` with a calm at the end of each three, in which everything
/// must be in its place.
fn survive(plan: Plan, hours: u32) {
    let mut simulation = Simulation::new(plan);
    for _ in 0..hours / 3 {
        simulation.run(3 * HOUR - 25 * MINUTE, true);
        simulation.run(25 * MINUTE, false);
        simulation.check_calm();
    }
}

#[test]
fn it_survives_weeks_of_trouble_on_the_public_network() {
    for seed in seeds(0, 16) {
        survive(Plan { seed, locals: 2, remotes: 3, ..Plan::default() }, 48);
    }
}

#[test]
fn it_survives_a_private_network_with_periods_of_minutes() {
    for seed in seeds(100, 6) {
        survive(Plan { seed, locals: 1, remotes: 2, period_minutes: 30, ..Plan::default() }, 12);
    }
}

#[test]
fn it_survives_on_so_few_relays_that_points_collide() {
    for seed in seeds(200, 6) {
        survive(Plan { seed, locals: 2, remotes: 2, intro_relays: 8, ..Plan::default() }, 24);
    }
}

#[test]
fn it_survives_remote_backends_alone_and_locals_alone() {
    for seed in seeds(300, 4) {
        survive(Plan { seed, locals: 0, remotes: 2, ..Plan::default() }, 24);
        survive(Plan { seed, locals: 2, remotes: 0, ..Plan::default() }, 24);
    }
}

#[test]
fn while_backends_only_rotate_points_no_working_point_leaves_the_descriptor() {
    for seed in seeds(400, 4) {
        let plan = Plan { seed, locals: 1, remotes: 2, deaths: false, ..Plan::default() };
        let mut simulation = Simulation::new(plan);
        simulation.run(30 * MINUTE, false);
        simulation.forbid_removals();
        simulation.run(48 * HOUR, true);
        assert!(simulation.rotations() > 20, "seed {seed}");
    }
}

#[test]
fn links_that_come_and_go_take_no_working_point_out_of_the_descriptor() {
    for seed in seeds(420, 4) {
        let plan =
            Plan { seed, locals: 1, remotes: 3, deaths: false, links: true, ..Plan::default() };
        let mut simulation = Simulation::new(plan);
        simulation.run(30 * MINUTE, false);
        simulation.forbid_removals();
        simulation.run(48 * HOUR, true);
        let (broken, _) = simulation.lost_links();
        assert!(broken > 50, "seed {seed}: {broken}");
    }
}

#[test]
fn who_dies_with_a_link_is_out_of_the_descriptor_within_a_minute() {
    let (mut worlds, mut deaths) = (0, 0);
    for seed in seeds(440, 8) {
        let plan = Plan { seed, locals: 1, remotes: 4, links: true, ..Plan::default() };
        let mut simulation = Simulation::new(plan);
        for _ in 0..8 {
            simulation.run(3 * HOUR - 25 * MINUTE, true);
            simulation.run(25 * MINUTE, false);
            simulation.check_calm();
        }
        let (broken, noticed) = simulation.lost_links();
        assert!(broken > 20, "seed {seed}: {broken}");
        worlds += 1;
        deaths += noticed;
    }
    assert!(deaths > 3 * worlds, "{deaths} in {worlds} worlds");
}

/// A week of links that come and go, deaths and attacks; how often work was asked for, and
/// how often somebody elsewhere was listed then.
fn week_of_attacks(seed: u64) -> (usize, usize) {
    let locals = (seed % 3) as u32;
    let remotes = 1 + (seed / 3 % 4) as u32;
    let plan = Plan { seed, locals, remotes, links: true, attacks: true, ..Plan::default() };
    let mut simulation = Simulation::new(plan);
    for _ in 0..7 {
        simulation.run(24 * HOUR - 30 * MINUTE, true);
        simulation.end_attack();
        simulation.run(30 * MINUTE, false);
        simulation.check_calm();
    }
    (simulation.attacks.asked, simulation.attacks.elsewhere)
}

#[test]
fn weeks_of_attacks_and_lost_links_violate_no_property() {
    let (mut asked, mut elsewhere) = (0, 0);
    for seed in seeds(1_000, 24) {
        let week = week_of_attacks(seed);
        asked += week.0;
        elsewhere += week.1;
    }
    assert!(asked > 0 && elsewhere > 0, "{asked} {elsewhere}");
}

#[test]
fn of_twenty_five_backends_each_gets_its_turn_within_a_day_and_two() {
    let plan = Plan { seed: 500, locals: 25, remotes: 0, deaths: false, ..Plan::default() };
    let mut simulation = Simulation::new(plan);
    let mut listed = BTreeSet::new();
    let mut left_out = BTreeSet::new();
    for _ in 0..50 {
        simulation.run(HOUR, false);
        let now = simulation.listed();
        assert_eq!(now.len(), 20);
        left_out.extend((0..25).map(BackendId).filter(|id| !now.contains(id)));
        listed.extend(now);
    }
    assert_eq!((listed.len(), left_out.len()), (25, 25));
    assert_eq!(simulation.state(), ServiceState::Published);
}

#[test]
fn clients_find_a_service_of_local_instances_within_seconds_of_the_start() {
    for seed in seeds(600, 10) {
        let plan = Plan { seed, locals: 2, remotes: 1, ..Plan::default() };
        let mut simulation = Simulation::new(plan);
        simulation.run(Duration::from_secs(15), false);
        assert_eq!(simulation.state(), ServiceState::Published, "seed {seed}");
    }
}

/// Runs for two hours of trouble; then everybody recovers, and it shuts down.
fn judge(plan: judging::Plan) -> usize {
    let mut world = Judging::new(plan);
    world.run(5 * MINUTE, false);
    world.run(2 * HOUR, true);
    world.check_calm();
    world.check_withdrawal();
    world.removals()
}

const JUDGED: judging::Plan = judging::Plan {
    seed: 0,
    locals: 1,
    remotes: 3,
    reloads: false,
    restarts: false,
    outages: false,
    flakes: 0,
};

#[test]
fn who_answers_nobody_leaves_the_descriptor_in_time_and_nobody_else_does() {
    let seeds = seeds(0, 12);
    let removals = seeds.clone().map(|seed| judge(judging::Plan { seed, ..JUDGED }) as u64);
    let (removals, worlds) = (removals.sum::<u64>(), seeds.end - seeds.start);
    assert!(removals > 2 * worlds, "{removals} in {worlds} worlds");
}

#[test]
fn while_our_own_network_fails_nothing_leaves_and_afterwards_only_who_is_dead() {
    for seed in seeds(1000, 12) {
        judge(judging::Plan { seed, outages: true, ..JUDGED });
    }
}

#[test]
fn reloads_among_deaths_move_nobody_whom_they_do_not_name() {
    for seed in seeds(2000, 12) {
        judge(judging::Plan { seed, locals: 2, reloads: true, outages: true, ..JUDGED });
    }
}

#[test]
fn restarts_among_deaths_list_nobody_again_who_was_found_dead() {
    for seed in seeds(5000, 6) {
        let plan = judging::Plan { seed, locals: 0, remotes: 4, restarts: true, ..JUDGED };
        judge(plan);
        judge(judging::Plan { outages: true, ..plan });
    }
}

#[test]
fn two_backends_judge_each_other_and_one_keeps_itself() {
    for seed in seeds(3000, 5) {
        judge(judging::Plan { seed, locals: 0, remotes: 2, outages: true, ..JUDGED });
        judge(judging::Plan { seed, locals: 2, remotes: 0, outages: true, ..JUDGED });
        judge(judging::Plan { seed, locals: 0, remotes: 1, outages: true, ..JUDGED });
    }
}

#[test]
fn probes_that_fail_for_nothing_keep_nobody_dead_in_the_descriptor() {
    for seed in seeds(4000, 6) {
        judge(judging::Plan { seed, flakes: 5, ..JUDGED });
    }
}

#[test]
fn forty_backends_are_all_found_with_equal_shares_and_through_both_replicas() {
    for seed in seeds(700, 1) {
        let plan = publishing::Plan {
            seed,
            backends: 40,
            local: false,
            publishers: 1,
            trouble_every: Some(20 * MINUTE),
            ..SMALL
        };
        let mut site = Site::new(plan);
        site.run(HOUR);
        site.check_coverage(2);
        let points = site.points_in_use();
        site.check(points == 120, &format!("all points are in use, not {points}"));
        for share in site.shares() {
            site.check((0.8..1.25).contains(&(share * 40.0)), "equal shares");
        }
        for _ in 0..4 {
            site.run(2 * HOUR);
            site.check_coverage(1);
        }
    }
}

#[test]
fn of_a_hundred_and_thirty_backends_each_is_found_within_a_week() {
    let plan = publishing::Plan { seed: 710, backends: 130, local: true, publishers: 1, ..SMALL };
    let mut site = Site::new(plan);
    let mut found = BTreeSet::new();
    let mut left_out = BTreeSet::new();
    for _ in 0..140 {
        site.run(HOUR);
        let shares = site.shares();
        site.check(shares.iter().filter(|share| **share > 0.0).count() == 120, "120 at a time");
        for (who, share) in shares.into_iter().enumerate() {
            if share > 0.0 {
                found.insert(who)
            } else {
                left_out.insert(who)
            };
        }
    }
    assert_eq!((found.len(), left_out.len()), (130, 130));
}

#[test]
fn what_hsdirs_forget_is_brought_to_them_again() {
    for seed in seeds(720, 4) {
        let mut site = Site::new(publishing::Plan { seed, ..SMALL });
        site.run(10 * MINUTE);
        site.check(site.complete() == 6, "published");
        site.forget();
        site.run(2 * HOUR + 5 * MINUTE);
        site.check(site.complete() == 6, "all are");
        site.check(site.most_uploads(3 * HOUR) <= 10, "without a storm");
    }
}

#[test]
fn hsdirs_see_no_more_of_a_service_than_of_any_other() {
    for seed in seeds(790, 4) {
        let trouble_every = Some(40 * MINUTE);
        let mut site = Site::new(publishing::Plan { seed, trouble_every, ..SMALL });
        site.run(96 * HOUR);
        let (gap, quiet, looks) = (site.shortest_gap(), site.soonest_look(), site.looks());
        site.check(gap >= MINUTE, "a minute between two descriptors of one HSDir");
        site.check(quiet.is_none_or(|it| it >= 30 * MINUTE), "no look soon after an upload");
        site.check((8..=45).contains(&looks), "a look every few hours");
    }
}

#[test]
fn a_change_of_the_period_brings_hsdirs_one_upload_under_a_key() {
    let mut counts = Vec::new();
    for seed in seeds(795, 4) {
        let mut site = Site::new(publishing::Plan { seed, renewing: true, ..SMALL });
        site.run(144 * HOUR);
        let at_once = site.uploads_after_changes(MINUTE);
        site.check(at_once.iter().all(|count| *count == 1), "one in the first minute");
        let after = site.uploads_after_changes(30 * MINUTE);
        // The round that was due in any case, and what backends have in the new period.
        site.check(after.iter().all(|count| *count <= 2), "no more than two in half an hour");
        site.check(site.shortest_gap() >= MINUTE, "a minute between two descriptors");
        counts.extend(after);
    }
    let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    assert!(mean < 1.3, "{mean} of {}", counts.len());
}

#[test]
fn a_stranger_with_the_key_is_told_of_and_not_fought() {
    for seed in seeds(730, 4) {
        let mut site = Site::new(publishing::Plan { seed, ..SMALL });
        site.run(HOUR);
        site.check(site.status(0).problems.is_empty(), "nothing is wrong");
        site.intrude();
        let uploads = site.most_uploads(10 * HOUR);
        site.run(25 * MINUTE);
        site.check(site.most_uploads(10 * HOUR) <= uploads + 1, "nobody fights");
        site.run(2 * HOUR);
        site.check(site.intruded() == 0, "the normal schedule goes on");
        site.run(4 * HOUR);
        site.check(site.status(0).problems.is_empty(), "it is over");
    }
}

#[test]
fn after_a_restart_with_the_clock_set_back_everything_is_published_at_once() {
    for seed in seeds(740, 4) {
        let plan = publishing::Plan { seed, trouble_every: Some(30 * MINUTE), ..SMALL };
        let mut site = Site::new(plan);
        for hour in 0..12 {
            site.run(HOUR);
            site.restart(0, MINUTE * (hour % 3) * 4);
            site.run(10 * SECOND);
            site.check(site.least_uploads(MINUTE) >= 1, "at once");
            site.check(site.most_uploads(MINUTE) <= 2, "no HSDir refuses");
            site.run(15 * MINUTE);
            site.check_coverage(2);
            site.check(site.status(0).problems.is_empty(), "it knows its own points");
        }
    }
}

#[test]
fn after_a_sleep_clients_find_it_again_within_minutes() {
    for seed in seeds(780, 8) {
        let mut site = Site::new(publishing::Plan { seed, ..SMALL });
        for hours in [1, 4, 2, 5] {
            site.run(3 * HOUR + 7 * MINUTE * hours);
            site.sleep(0, HOUR * hours);
            site.run(5 * MINUTE);
            site.check(site.complete() == 6, "everything is there again");
            site.check(site.most_uploads(5 * MINUTE) <= 2, "once, or twice after a change");
            site.run(10 * MINUTE);
            site.check_coverage(2);
        }
    }
}

#[test]
fn two_publishers_come_to_say_the_same_and_one_alone_keeps_it_up() {
    for seed in seeds(750, 6) {
        let mut site = Site::new(publishing::Plan { seed, publishers: 2, ..SMALL });
        site.run(8 * HOUR);
        site.check(site.agrees(), "all HSDirs hold the same points");
        for _ in 0..12 {
            site.run(HOUR);
            site.check(site.agrees(), "and keep holding the same");
            site.check(site.most_uploads(HOUR) <= 4, "nobody uploads much more than one alone");
            site.check_coverage(2);
        }
        site.kill(usize::from(seed % 2 == 0));
        for _ in 0..8 {
            site.run(HOUR);
            site.check(site.complete() == 6, "nothing runs out");
            site.check_coverage(2);
        }
    }
}

#[test]
fn two_publishers_of_thirty_backends_leave_none_out() {
    let plan = publishing::Plan { seed: 770, backends: 30, publishers: 2, ..SMALL };
    let mut site = Site::new(plan);
    site.run(HOUR);
    for _ in 0..5 {
        site.check_coverage(1);
        site.run(HOUR);
        site.check(site.most_uploads(HOUR) <= 6, "nobody fights");
    }
}

#[test]
fn two_publishers_in_trouble_do_not_fight() {
    for seed in seeds(760, 4) {
        let plan =
            publishing::Plan { seed, publishers: 2, trouble_every: Some(40 * MINUTE), ..SMALL };
        let mut site = Site::new(plan);
        for _ in 0..24 {
            site.run(HOUR);
            site.check_coverage(1);
            site.check(site.most_uploads(HOUR) <= 24, "the number of uploads is bounded");
            site.check(site.status(0).problems.is_empty(), "the other is welcome");
        }
    }
}
