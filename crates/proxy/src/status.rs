//! The part of the status that the HTTP reverse proxy fills, as it is serialised.
//!
//! Field names are a contract with scripts and dashboards: names may be added,
//! none is renamed or removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the HTTP reverse proxy of a service has done since it was set up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpStatus {
    /// Requests that have begun.
    pub requests: u64,
    /// Answers by the class of their status.
    pub by_class: StatusClasses,
    /// How long it took to answer, from the head of a request to the head of
    /// the answer.
    #[serde(default)]
    pub seconds: Durations,
    /// Requests that failed, by what went wrong.
    pub failures: BTreeMap<String, u64>,
    /// The origins, in the order of the configuration.
    pub origins: Vec<OriginStatus>,
}

/// How long things took, by size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// The sum of all, in seconds.
    pub sum: f64,
    /// How many there were of each size, in ascending order.
    pub buckets: Vec<DurationBucket>,
}

/// Durations of one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DurationBucket {
    /// None of them is longer, in seconds; `None`: they may be of any length.
    pub le: Option<f64>,
    /// How many are longer than the bucket before allows.
    pub count: u64,
}

impl Durations {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// What has come since an earlier count of the same things.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |n: usize| earlier.buckets.get(n).map_or(0, |bucket| bucket.count);
        let buckets = self.buckets.iter().enumerate().map(|(n, bucket)| DurationBucket {
            count: bucket.count.saturating_sub(before(n)),
            ..*bucket
        });
        Self { sum: (self.sum - earlier.sum).max(0.0), buckets: buckets.collect() }
    }

    /// So much of them (0.5: half) took no longer than this, in seconds: an
    /// estimate within a bucket. What is longer than all bounds counts as the
    /// last of these. `None`: there were none.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let wanted = part * self.count() as f64;
        let (mut below, mut from) = (0.0, 0.0);
        for DurationBucket { le, count } in &self.buckets {
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                let to = le.unwrap_or(from);
                return Some(from + (to - from) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            from = le.unwrap_or(from);
        }
        None
    }
}

impl HttpStatus {
    /// Both together: the origins of `self` come first.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.requests += other.requests;
        let (sum, more) = (&mut self.by_class, other.by_class);
        sum.informational += more.informational;
        sum.success += more.success;
        sum.redirection += more.redirection;
        sum.client_error += more.client_error;
        sum.server_error += more.server_error;
        for (name, count) in other.failures {
            *self.failures.entry(name).or_default() += count;
        }
        self.origins.extend(other.origins);
        self
    }
}

/// Answers by the class of their status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusClasses {
    /// Protocols that have changed.
    #[serde(rename = "1xx")]
    pub informational: u64,
    /// Successes.
    #[serde(rename = "2xx")]
    pub success: u64,
    /// Redirections.
    #[serde(rename = "3xx")]
    pub redirection: u64,
    /// Errors of clients.
    #[serde(rename = "4xx")]
    pub client_error: u64,
    /// Errors of servers, ours among them.
    #[serde(rename = "5xx")]
    pub server_error: u64,
}

/// One origin that speaks HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OriginStatus {
    /// Where it is, as the configuration says.
    pub name: String,
    /// Whether it gets requests, and answers them.
    pub state: OriginState,
    /// Why not.
    pub reason: Option<String>,
    /// Requests that were sent to it.
    pub requests: u64,
    /// Requests and checks that failed there.
    pub failures: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// So many requests may be under way there.
    #[serde(default)]
    pub in_flight_limit: u64,
    /// How long it took to the heads of its answers.
    #[serde(default)]
    pub seconds: Durations,
    /// Half of the answers of the last minute took no longer, in seconds.
    #[serde(default)]
    pub median_seconds: Option<f64>,
    /// 95 of a hundred took no longer.
    #[serde(default)]
    pub p95_seconds: Option<f64>,
}

/// Whether an origin gets requests, and answers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OriginState {
    /// It does, and nothing has gone wrong since it last answered.
    #[default]
    Up,
    /// It gets them, and the last attempt to reach it or to get an answer failed.
    Failing,
    /// It has failed too often.
    Down,
}
