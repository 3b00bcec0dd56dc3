//! Has an introduction been seen before? Pure.
//!
//! A hostile relay can send the same INTRODUCE2 again and watch what the
//! service does (rend-spec-v3, section 3.3). One log belongs to one set of
//! introduction point keys and lives exactly as long; the plan replaces a
//! point before its log is full.

use std::collections::BTreeSet;

/// The most entries: what a point may see in its life, retirement included.
/// Beyond that everything counts as a replay.
pub(super) const CAPACITY: usize = 70_000;

/// A digest of what is unique in an introduction, cut to 128 bits: an attacker
/// would have to find a second preimage, and gains one dropped introduction.
pub(super) type Digest = [u8; 16];

/// The introductions that one introduction point has seen.
#[derive(Debug, Default)]
pub(super) struct ReplayLog {
    /// All of them.
    seen: BTreeSet<Digest>,
}

impl ReplayLog {
    /// How many were seen.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether this one was seen before; once the log is full, each.
    pub(super) fn has(&self, digest: Digest) -> bool {
        self.seen.len() >= CAPACITY || self.seen.contains(&digest)
    }

    /// This one is seen now.
    pub(super) fn add(&mut self, digest: Digest) {
        if self.seen.len() < CAPACITY {
            self.seen.insert(digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_time_is_a_replay() {
        let mut log = ReplayLog::default();
        assert!(!log.has([1; 16]));
        log.add([1; 16]);
        assert!(!log.has([2; 16]));
        assert!(log.has([1; 16]));
    }

    #[test]
    fn a_full_log_takes_nothing_for_new() {
        let mut log = ReplayLog::default();
        for n in 0..CAPACITY as u128 {
            assert!(!log.has(n.to_be_bytes()));
            log.add(n.to_be_bytes());
        }
        assert!(log.has([0xff; 16]));
    }
}
