//! What has become of the requests? Counters for the status, and a line in the
//! log for each request if the operator wants one.
//!
//! The line says nothing of what was asked for and by whom: no path, no host,
//! no field, no method that the client has made up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::{Method, StatusCode};
use parking_lot::Mutex;

use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::status::{Durations, StatusClasses};

/// What one proxy has counted since it was made.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Requests that have begun.
    requests: AtomicU64,
    /// Answers, by the first digit of their status.
    classes: [AtomicU64; 5],
    /// How long they took.
    seconds: Histogram,
    /// Requests that failed, by the failure's name.
    failures: Mutex<BTreeMap<&'static str, u64>>,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub(super) struct RequestOutcome {
    /// What the client wanted done.
    pub(super) method: Method,
    /// What it was answered; `None`: it went before.
    pub(super) status: Option<StatusCode>,
    /// Bytes of the response's body that were taken for sending.
    pub(super) bytes: u64,
    /// Which origin answered, by its place in the list.
    pub(super) origin: Option<usize>,
    /// What went wrong, if anything.
    pub(super) failure: Option<Failure>,
}

impl Counts {
    /// A request has begun.
    pub(super) fn begun(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The head of an answer is there after this time.
    pub(super) fn answered(&self, took: Duration) {
        self.seconds.observe(took);
    }

    /// A request has ended thus.
    pub(super) fn ended(&self, outcome: &RequestOutcome) {
        let class = outcome.status.map(|status| usize::from(status.as_u16() / 100));
        if let Some(count) = class.and_then(|class| self.classes.get(class.wrapping_sub(1))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(failure) = outcome.failure {
            self.failed(failure);
        }
    }

    /// A request, or a connection for some, was refused before it began.
    pub(super) fn refused(&self, failure: Failure) {
        self.begun();
        self.failed(failure);
    }

    fn failed(&self, failure: Failure) {
        let mut failures = self.failures.lock();
        *failures.entry(failure.name()).or_default() += 1;
    }

    /// Requests that have begun.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Answers by class.
    pub(super) fn classes(&self) -> StatusClasses {
        let [informational, success, redirection, client_error, server_error] =
            self.classes.each_ref().map(|count| count.load(Ordering::Relaxed));
        StatusClasses { informational, success, redirection, client_error, server_error }
    }

    /// How long it took to the heads of answers.
    pub(super) fn seconds(&self) -> Durations {
        self.seconds.durations()
    }

    /// Failures by name.
    pub(super) fn failures(&self) -> BTreeMap<String, u64> {
        let failures = self.failures.lock();
        failures.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }
}

/// The line in the log.
pub(super) fn log(circuit: u64, outcome: &RequestOutcome, took: Duration) {
    let method = match &outcome.method {
        known @ (&Method::GET
        | &Method::HEAD
        | &Method::POST
        | &Method::PUT
        | &Method::DELETE
        | &Method::PATCH
        | &Method::OPTIONS
        | &Method::CONNECT
        | &Method::TRACE) => known.as_str(),
        _ => "other",
    };
    tracing::info!(
        target: "onionbraid::access",
        circuit,
        method,
        status = outcome.status.map(|status| status.as_u16()),
        bytes = outcome.bytes,
        ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        origin = outcome.origin,
        failure = outcome.failure.map(Failure::name),
        "request"
    );
}
