//! How long did things take? Durations are counted by size, as Prometheus
//! counts them, so that many can be added up and none is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::status::{DurationBucket, Durations};

/// The largest duration of each bucket in seconds; what is longer goes into one
/// more. Through Tor hardly anything takes less than a hundredth of a second.
const BOUNDS: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counts durations by size.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// The sum of all, in microseconds.
    sum: AtomicU64,
}

impl Histogram {
    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn durations(&self) -> Durations {
        let bounds = BOUNDS.into_iter().map(Some).chain([None]);
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        Durations {
            sum: Duration::from_micros(self.sum.load(Ordering::Relaxed)).as_secs_f64(),
            buckets: bounds.zip(counts).map(|(le, count)| DurationBucket { le, count }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(millis: &[u64]) -> Durations {
        let histogram = Histogram::default();
        millis.iter().for_each(|millis| histogram.observe(Duration::from_millis(*millis)));
        histogram.durations()
    }

    #[test]
    fn a_duration_is_counted_where_it_is_no_longer_than_the_bound() {
        let durations = histogram(&[5, 6, 61_000]);
        let counted = durations.buckets.iter().filter(|bucket| bucket.count > 0);
        let counted: Vec<_> = counted.map(|bucket| (bucket.le, bucket.count)).collect();
        assert_eq!(counted, [(Some(0.005), 1), (Some(0.01), 1), (None, 1)]);
        assert!((durations.sum - 61.011).abs() < 1e-6);
        assert_eq!(durations.count(), 3);
    }

    #[test]
    fn quantiles_lie_in_the_bucket_that_holds_them() {
        let durations = histogram(&[vec![70; 90], vec![700; 10]].concat());
        let median = durations.quantile(0.5).unwrap();
        assert!((0.05..=0.1).contains(&median), "{median}");
        let p95 = durations.quantile(0.95).unwrap();
        assert!((0.5..=1.0).contains(&p95), "{p95}");
        assert_eq!(histogram(&[]).quantile(0.5), None);
        assert_eq!(histogram(&[100_000]).quantile(0.5), Some(60.0));
    }

    #[test]
    fn what_was_counted_before_can_be_left_out() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_secs(20));
        let before = histogram.durations();
        histogram.observe(Duration::from_millis(80));
        let since = histogram.durations().since(&before);
        assert_eq!(since.count(), 1);
        assert!(since.quantile(0.95).unwrap() <= 0.1);
        // Counted anew from nothing, after a change of the configuration.
        assert_eq!(Histogram::default().durations().since(&before).count(), 0);
    }
}
