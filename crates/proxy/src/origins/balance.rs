//! Which of the origins in use gets the next request. Pure.

use crate::settings::Balance;

/// An origin that could be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct OriginCandidate {
    /// Its place in the list.
    pub(super) index: usize,
    /// Its requests under way.
    pub(super) in_flight: usize,
}

/// Chooses one by its index. `last` is the one that was chosen last; the
/// candidates are in the order of the list. `None`: there is no candidate.
pub(super) fn choose(
    balance: Balance,
    candidates: &[OriginCandidate],
    last: Option<usize>,
) -> Option<usize> {
    // The next one in turn: the first beyond the last, or the first of all.
    let turn = |candidate: &&OriginCandidate| {
        (last.is_some_and(|last| candidate.index <= last), candidate.index)
    };
    let chosen = match balance {
        Balance::First => candidates.first(),
        Balance::RoundRobin => candidates.iter().min_by_key(turn),
        Balance::LeastConnections => {
            candidates.iter().min_by_key(|candidate| (candidate.in_flight, turn(candidate)))
        }
    };
    chosen.map(|candidate| candidate.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(loads: &[(usize, usize)]) -> Vec<OriginCandidate> {
        loads.iter().map(|&(index, in_flight)| OriginCandidate { index, in_flight }).collect()
    }

    #[test]
    fn by_turns_everyone_gets_a_request_and_those_out_of_use_are_skipped() {
        let all = candidates(&[(0, 9), (1, 0), (2, 5)]);
        let mut last = None;
        let mut order = Vec::new();
        for _ in 0..6 {
            last = choose(Balance::RoundRobin, &all, last);
            order.extend(last);
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        let some = candidates(&[(0, 0), (2, 0)]);
        assert_eq!(choose(Balance::RoundRobin, &some, Some(0)), Some(2));
        assert_eq!(choose(Balance::RoundRobin, &some, Some(2)), Some(0));
    }

    #[test]
    fn the_least_busy_one_is_chosen_and_equals_by_turns() {
        let loads = candidates(&[(0, 3), (1, 1), (2, 2)]);
        assert_eq!(choose(Balance::LeastConnections, &loads, Some(1)), Some(1));
        let equal = candidates(&[(0, 1), (1, 1), (2, 1)]);
        assert_eq!(choose(Balance::LeastConnections, &equal, Some(1)), Some(2));
        assert_eq!(choose(Balance::LeastConnections, &equal, Some(2)), Some(0));
    }

    #[test]
    fn the_first_in_use_is_chosen_while_it_lasts() {
        let all = candidates(&[(1, 99), (2, 0)]);
        assert_eq!(choose(Balance::First, &all, Some(1)), Some(1));
        assert_eq!(choose(Balance::First, &[], Some(1)), None);
    }
}
