//! The part of the status that the HTTP reverse proxy fills, as it is serialised.
//!
//! Field names are a contract with scripts and dashboards: names may be added,
//! none is renamed or removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the HTTP reverse proxy of a service has done since it was set up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// Requests that have begun.
    pub requests: u64,
    /// Answers by the class of their status.
    pub by_class: StatusClasses,
    /// Requests that failed, by what went wrong.
    pub failures: BTreeMap<String, u64>,
    /// The origins, in the order of the configuration.
    pub origins: Vec<Origin>,
}

impl Http {
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
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
}

/// Whether an origin gets requests, and answers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OriginState {
    /// It does, and nothing has gone wrong since it last answered.
    Up,
    /// It gets them, and the last attempt to reach it or to get an answer failed.
    Failing,
    /// It has failed too often.
    Down,
}
