//! HSDirs hold what another program has published with the same key, which counts
//! further.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;
use crate::command::Command;
use crate::onion::{Period, RelayId};

/// What an HSDir of the other program holds: in these tests a revision is the second from
/// which it was counted.
#[derive(Clone, Copy)]
enum Answer {
    /// The truth.
    Honest,
    /// An older descriptor than the one because of which it refuses.
    Old,
    /// Nothing at all.
    Silent,
}

/// HSDirs that refuse what is not newer, and count what they are asked for.
struct Hsdirs {
    world: World,
    held: BTreeMap<(Period, RelayId), SystemTime>,
    answer: Answer,
    refused: BTreeMap<(Period, RelayId), usize>,
    questions: Vec<(Period, RelayId)>,
    newest: SystemTime,
    /// Those of which the first answer to an upload comes late, and what they have
    /// answered.
    slow: Vec<RelayId>,
    late: Vec<Fact>,
}

/// The publisher of a service with one instance finds descriptors so far ahead, in the
/// current period and the next.
fn hsdirs(ahead: Duration, answer: Answer) -> Hsdirs {
    found_by(World::new(1, 0), ahead, answer)
}

fn found_by(world: World, ahead: Duration, answer: Answer) -> Hsdirs {
    let mut view = network(1, [1, 2]);
    let next = network(2, [3, 4]).periods.remove(0);
    view.periods.push(PeriodView { current: false, ..next });
    holding(world, view, ahead, answer)
}

fn holding(mut world: World, view: NetworkView, ahead: Duration, answer: Answer) -> Hsdirs {
    let places = view.periods.iter();
    let places = places.flat_map(|it| it.hsdirs.iter().map(|hsdir| (it.period, hsdir.relay)));
    let held = places.map(|place| (place, world.now.wall + ahead)).collect();
    let newest = world.now.wall;
    world.balancer.handle_fact(Fact::Network(view), world.now, &mut world.rng);
    let (refused, questions) = (BTreeMap::new(), Vec::new());
    let (slow, late) = (Vec::new(), Vec::new());
    Hsdirs { world, held, answer, refused, questions, newest, slow, late }
}

/// As many HSDirs in one period as clients ask on the public network.
fn six() -> NetworkView {
    let hsdir = |n: u16| ResponsibleHsdir {
        relay: relay(n),
        replica: if n < 4 { 1 } else { 2 },
        asked_by_clients: true,
    };
    let mut view = network(1, [1, 2]);
    view.periods[0].hsdirs = (1..=6).map(hsdir).collect();
    view
}

impl Hsdirs {
    fn points(&mut self, sessions: &[u16]) {
        let points = sessions.iter().map(|n| point(*n, *n)).collect();
        let (backend, capabilities) = (BackendId(0), Capabilities::default());
        let fact = Fact::LocalPoints { backend, points, capabilities };
        self.world.balancer.handle_fact(fact, self.world.now, &mut self.world.rng);
    }

    /// All that was asked for at one moment is under way before the first answer comes.
    fn answer(&mut self) {
        loop {
            let commands: Vec<Command> =
                std::iter::from_fn(|| self.world.balancer.poll_command()).collect();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                let fact = match command {
                    Command::Publish(publication) => {
                        let answer = self.take(&publication);
                        let hsdir = publication.hsdir;
                        let slow = self.slow.iter().position(|relay| *relay == hsdir);
                        match slow.map(|at| self.slow.swap_remove(at)) {
                            Some(_) => {
                                self.late.push(answer);
                                None
                            }
                            None => Some(answer),
                        }
                    }
                    Command::Inspect { period, hsdir } => self.say(period, hsdir),
                    _ => None,
                };
                if let Some(fact) = fact {
                    self.world.balancer.handle_fact(fact, self.world.now, &mut self.world.rng);
                }
            }
        }
    }

    fn take(&mut self, publication: &Publication) -> Fact {
        let Publication { period, hsdir, as_of, .. } = *publication;
        self.newest = self.newest.max(as_of);
        let held = self.held.get_mut(&(period, hsdir)).unwrap();
        let outcome = if as_of > *held {
            *held = as_of;
            Ok(1)
        } else {
            *self.refused.entry((period, hsdir)).or_default() += 1;
            Err(UploadFailure::Refused("400".into()))
        };
        Fact::Uploaded { period, hsdir, as_of, outcome }
    }

    fn say(&mut self, period: Period, hsdir: RelayId) -> Option<Fact> {
        self.questions.push((period, hsdir));
        let held = self.held[&(period, hsdir)];
        let counted_to = match self.answer {
            Answer::Honest => held,
            Answer::Old => self.world.now.wall - MINUTE,
            Answer::Silent => return None,
        };
        let descriptor = descriptor(period, 1_000_000, points(&[99]));
        let counted_to = Some(counted_to);
        let signed = Some(descriptor.revision);
        Some(Fact::Inspected { period, hsdir, outcome: Ok(descriptor), signed, counted_to })
    }

    fn pass(&mut self, time: Duration) {
        self.answer();
        let end = later(self.world.now, time);
        while let Some(at) = self.world.balancer.poll_timeout()
            && at <= end.monotonic
        {
            self.world.now = later(self.world.now, at - self.world.now.monotonic);
            self.world.balancer.handle_timeout(self.world.now, &mut self.world.rng);
            self.answer();
        }
        self.world.now = end;
    }

    /// How often each of them has refused.
    fn refusals(&self) -> Vec<usize> {
        self.held.keys().map(|place| self.refused.get(place).copied().unwrap_or(0)).collect()
    }
}

#[test]
fn where_another_program_counts_further_each_hsdir_refuses_once_and_one_is_asked_in_a_period() {
    let mut hsdirs = hsdirs(15 * MINUTE, Answer::Honest);
    hsdirs.points(&[1, 2, 3]);
    hsdirs.pass(2 * SECOND);
    assert_eq!(hsdirs.refusals(), [1; 4]);
    let asked: Vec<u64> = hsdirs.questions.iter().map(|(period, _)| period.number).collect();
    assert_eq!(asked, [1, 2]);
    let ahead = hsdirs.newest.duration_since(hsdirs.world.now.wall).unwrap();
    assert!(ahead < 15 * MINUTE + 10 * SECOND, "no further than needed: {ahead:?}");
    assert_eq!(hsdirs.world.state(), ServiceState::Published);
    // And that it was another publisher's is not lost on the operator.
    let problems = hsdirs.world.balancer.status().problems;
    assert!(problems[0].contains("another publisher"), "{problems:?}");

    // Later changes count on from there, after a restart, too.
    hsdirs.points(&[1, 2, 4]);
    hsdirs.pass(3 * MINUTE);
    let memory = hsdirs.world.balancer.memory(hsdirs.world.now);
    let now = hsdirs.world.now;
    let balancer = Balancer::remembering(World::settings(1, 0), memory, now);
    let world = World { balancer, now, ..World::new(1, 0) };
    let mut again = found_by(world, Duration::ZERO, Answer::Honest);
    again.held.clone_from(&hsdirs.held);
    again.points(&[4, 5, 6]);
    again.pass(3 * MINUTE);
    assert_eq!((hsdirs.refusals(), again.refusals()), (vec![1; 4], vec![0; 4]));
    assert_eq!(hsdirs.questions.len() + again.questions.len(), 2);
}

#[test]
fn where_another_program_was_on_some_of_the_hsdirs_those_refuse_once_and_no_more() {
    for refusing in 2..=5 {
        let mut hsdirs = holding(World::new(1, 0), six(), 15 * MINUTE, Answer::Honest);
        for held in hsdirs.held.values_mut().skip(refusing) {
            *held = hsdirs.world.now.wall - MINUTE;
        }
        hsdirs.points(&[1, 2, 3]);
        hsdirs.pass(30 * SECOND);
        let refusals: usize = hsdirs.refusals().into_iter().sum();
        assert_eq!((refusals, hsdirs.questions.len()), (refusing, 1));
        assert!(hsdirs.held.values().all(|held| *held > hsdirs.world.now.wall - MINUTE));
    }
}

#[test]
fn an_hsdir_that_refuses_when_the_others_have_the_next_gets_that_as_soon() {
    let mut hsdirs = holding(World::new(1, 0), six(), 15 * MINUTE, Answer::Honest);
    hsdirs.slow = vec![relay(5), relay(6)];
    hsdirs.points(&[1, 2, 3]);
    hsdirs.pass(4 * SECOND);
    assert_eq!((hsdirs.late.len(), hsdirs.world.state()), (2, ServiceState::Published));
    for late in std::mem::take(&mut hsdirs.late) {
        hsdirs.world.balancer.handle_fact(late, hsdirs.world.now, &mut hsdirs.world.rng);
    }
    hsdirs.pass(2 * SECOND);
    assert_eq!((hsdirs.refusals(), hsdirs.questions.len()), (vec![1; 6], 1));
    let all = hsdirs.held.values().all(|held| *held == hsdirs.newest);
    assert!(all, "{:?}", hsdirs.held);
}

#[test]
fn where_nobody_says_what_it_holds_the_last_of_them_gets_the_next_within_minutes_of_the_first() {
    for seed in 0..10 {
        let world = World { rng: StdRng::seed_from_u64(seed), ..World::new(1, 0) };
        let mut hsdirs = holding(world, six(), 15 * MINUTE, Answer::Silent);
        let before = hsdirs.world.now.wall + 15 * MINUTE;
        hsdirs.points(&[1, 2, 3]);
        hsdirs.pass(15 * MINUTE);
        assert!(hsdirs.held.values().all(|held| *held == before), "seed {seed}");
        hsdirs.pass(2 * MINUTE);
        assert!(hsdirs.held.values().all(|held| *held > before), "seed {seed}");
    }
}

#[test]
fn a_count_that_no_clock_shows_is_not_followed() {
    let mut hsdirs = hsdirs(25 * 60 * MINUTE, Answer::Honest);
    hsdirs.points(&[1, 2, 3]);
    hsdirs.pass(30 * MINUTE);
    assert!(hsdirs.newest <= hsdirs.world.now.wall);
    assert!(hsdirs.questions.len() <= 10, "{}", hsdirs.questions.len());
}

#[test]
fn an_hsdir_that_hands_out_what_is_old_or_nothing_moves_no_count_and_stops_no_other() {
    for answer in [Answer::Old, Answer::Silent] {
        let mut hsdirs = hsdirs(15 * MINUTE, answer);
        let fine = *hsdirs.held.keys().nth(1).unwrap();
        hsdirs.held.insert(fine, hsdirs.world.now.wall - MINUTE);
        hsdirs.points(&[1, 2, 3]);
        hsdirs.pass(10 * MINUTE);
        assert_eq!(hsdirs.refused.get(&fine), None);
        assert!(hsdirs.newest <= hsdirs.world.now.wall);
        // Three at once in each period.
        assert!(hsdirs.questions.len() <= 2 * 4, "{}", hsdirs.questions.len());
        // The clock gets there by itself.
        hsdirs.pass(8 * MINUTE);
        let lags = hsdirs.held.values().filter(|held| **held < hsdirs.world.now.wall - MINUTE * 4);
        assert!(lags.count() <= 1, "all but the one that had it first");
    }
}
