//! How often may the log say the same? Pure.

use std::time::{Duration, Instant};

/// Lets one line through in a while, and counts the others.
#[derive(Debug)]
pub(crate) struct Throttle {
    every: Duration,
    last: Option<Instant>,
    /// Lines held back since the last one.
    held_back: u64,
}

impl Throttle {
    /// One line in this time.
    pub(crate) const fn new(every: Duration) -> Self {
        Self { every, last: None, held_back: 0 }
    }

    /// Whether a line may be written now; with the number of those held back
    /// since the one before it.
    pub(crate) fn permits(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.every) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_in_a_while_and_the_next_one_tells_how_many_did_not() {
        let (mut throttle, now) =
            (Throttle::new(Duration::from_mins(1)), crate::clock::now().monotonic);
        assert_eq!(throttle.permits(now), Some(0));
        for second in 1..60 {
            assert_eq!(throttle.permits(now + Duration::from_secs(second)), None);
        }
        assert_eq!(throttle.permits(now + Duration::from_secs(60)), Some(59));
        assert_eq!(throttle.permits(now + Duration::from_secs(120)), Some(0));
    }
}
