//! Whether a backend has as many clients as it can bear, which publishers are told.
//!
//! Pure. It becomes full near its limits and has room again well below them, so that it
//! does not change its word with every client.

/// Full from this part of a limit on ...
const FULL_FROM: f64 = 0.9;
/// ... until less than this is in use.
const ROOM_BELOW: f64 = 0.6;

/// Whether it is full now, which `was_full` before and uses such a part of its limits.
pub(super) fn is_full(was_full: bool, used: f64) -> bool {
    used >= if was_full { ROOM_BELOW } else { FULL_FROM }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_near_the_limit_and_has_room_only_well_below_it() {
        let mut full = false;
        let mut after = |used| {
            full = is_full(full, used);
            full
        };
        let said = [0.0, 0.89, 0.9, 0.85, 0.61, 0.89, 0.59, 0.7, 0.89, 1.5].map(&mut after);
        assert_eq!(said, [false, false, true, true, true, true, false, false, false, true]);
        assert!(!is_full(false, f64::NAN) && !is_full(true, f64::NAN));
    }
}
