//! Attacks on a service with proof of work, on a virtual clock: do clients get
//! through that do as they are asked, and does nobody work for nothing once the
//! attack is over?
//!
//! The same attacks are run against C tor's rules, for comparison: `--nocapture`
//! shows the figures, which `docs/decisions/0010-proof-of-work.md` cites.

#![expect(clippy::print_stdout, reason = "a comparison is for reading")]

mod clients;
mod service;
mod world;

use std::time::Duration;

use self::service::{CTor, Ours};
use self::world::{Attack, Honest, Outcome, World};

const MINUTE: u64 = 60;

/// The attacks: from minute 10 to 40.
fn attacks() -> Vec<(&'static str, Attack)> {
    // One core does 357 units of effort in a second.
    let cores = |n: f64| n * 357.0;
    vec![
        ("600/s without work", Attack { idle_rate: 600.0, ..Attack::default() }),
        ("16 cores, as asked for", Attack { work: cores(16.0), ..Attack::default() }),
        ("64 cores, as asked for", Attack { work: cores(64.0), ..Attack::default() }),
        (
            "64 cores at effort 1, and 300/s without work",
            Attack { work: cores(64.0), fixed: Some(1), idle_rate: 300.0, ..Attack::default() },
        ),
        (
            "16 cores, one more than asked",
            Attack { work: cores(16.0), over: 1, ..Attack::default() },
        ),
        (
            "64 cores, 2 minutes of every 10",
            Attack {
                work: cores(64.0),
                on_off: Some((2 * MINUTE, 10 * MINUTE)),
                ..Attack::default()
            },
        ),
    ]
}

fn line(name: &str, whose: &str, outcome: &Outcome) {
    println!(
        "{name:46} {whose:6} got through {:5.1} %, median {:5.1} s, 95 % within {:5.1} s; \
         after 15 minutes {:5.1} %, {:5.1} s, {:5.1} s; effort at most {:5}, mean {:5.0}, \
         published {:3} times, 0 after {:>3} min, queue {:4}",
        100.0 * outcome.during.share(),
        outcome.during.quantile(0.5),
        outcome.during.quantile(0.95),
        100.0 * outcome.settled.share(),
        outcome.settled.quantile(0.5),
        outcome.settled.quantile(0.95),
        outcome.most_effort,
        outcome.mean_effort,
        outcome.published,
        outcome.zero_after.map_or("-".to_owned(), |it| (it.as_secs() / 60).to_string()),
        outcome.longest_queue,
    );
}

#[test]
fn clients_get_through_every_attack_and_nobody_works_half_an_hour_after_it() {
    for (name, attack) in attacks() {
        let ours = World::new(Ours::new(), attack.clone(), 1).run();
        line(name, "ours", &ours);
        assert!(ours.peace.share() > 0.99, "{name}: in peace");
        assert!(ours.during.share() > 0.95, "{name}: {}", ours.during.share());
        assert!(ours.settled.share() > 0.95, "{name}: settled {}", ours.settled.share());
        assert!(ours.settled.quantile(0.5) < 5.0, "{name}: {} s", ours.settled.quantile(0.5));
        let zero_after = ours.zero_after.unwrap();
        assert!(zero_after <= Duration::from_secs(30 * MINUTE), "{name}: {zero_after:?}");
        assert!(ours.longest_queue < Ours::DEPTH, "{name}");
    }
}

#[test]
fn ctors_rules_under_the_same_attacks() {
    for (name, attack) in attacks() {
        let theirs = World::new(CTor::new(), attack, 1).run();
        line(name, "C tor", &theirs);
        assert!(theirs.peace.share() > 0.99, "{name}: in peace");
    }
}

/// Clients that are served well only if effort falls once the attack is over, or if who
/// was asked for nothing need not have worked.
fn crowds() -> Vec<(&'static str, Attack, Honest)> {
    let many = Honest { rate: 20.0, ..Honest::default() };
    let with_work = |work, effort| Attack { work, fixed: Some(effort), ..Attack::default() };
    vec![
        ("20/s, asked for nothing", with_work(3_000.0, 5), Honest { asked_at_most: 0, ..many }),
        (
            "20/s, asked for a tenth",
            with_work(300_000.0, 1_000),
            Honest { asked_at_most: 100, ..many },
        ),
        ("20/s that cannot work", with_work(3_000.0, 5), Honest { work: false, ..many }),
        (
            "20/s that cannot work, twice the rate without work",
            Attack { idle_rate: 500.0, ..Attack::default() },
            Honest { work: false, ..many },
        ),
    ]
}

#[test]
fn effort_falls_after_an_attack_though_nobody_works_and_everybody_is_served() {
    for (name, attack, honest) in crowds() {
        let outcome = World::new(Ours::by_default(), attack, 1).with(honest).run();
        line(name, "ours", &outcome);
        assert!(outcome.most_effort > 0, "{name}: the attack was none");
        let zero_after = outcome.zero_after.unwrap_or(Duration::MAX);
        assert!(zero_after <= Duration::from_secs(30 * MINUTE), "{name}: {zero_after:?}");
        assert!(outcome.afterwards.share() > 0.999, "{name}: {}", outcome.afterwards.share());
        assert!(outcome.afterwards.quantile(0.95) < 3.0, "{name}");
    }
}
