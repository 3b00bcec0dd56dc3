//! What becomes of one request: counted and logged in one place, when it ends.

use std::sync::Arc;

use hyper::{Method, StatusCode};
use tokio::time::Instant;

use super::activity::RequestUnderWay;
use super::counts::{self, RequestOutcome};
use super::proxy::Proxy;
use super::turns::RequestTurn;
use crate::failure::Failure;
use crate::settings::HeaderSettings;

/// What is noted of a request while it is under way, counted and logged when
/// it ends, however that happens.
pub(super) struct Record {
    /// Where it is counted.
    proxy: Arc<Proxy>,
    /// Whose request it is.
    circuit: u64,
    /// It counts among those under way; or why it may not.
    turn: Result<RequestTurn, Failure>,
    /// When it began.
    began: Instant,
    /// What has become of it so far.
    pub(super) outcome: RequestOutcome,
    _under_way: RequestUnderWay,
}

impl Record {
    /// Of a request that begins.
    pub(super) fn new(
        proxy: Arc<Proxy>,
        circuit: u64,
        method: Method,
        turn: Result<RequestTurn, Failure>,
        _under_way: RequestUnderWay,
    ) -> Self {
        proxy.counts.begun();
        // Until something is known, it is the client who has gone.
        let failure = Some(Failure::ClientGone);
        let outcome = RequestOutcome { method, status: None, bytes: 0, origin: None, failure };
        Self { proxy, circuit, turn, began: Instant::now(), outcome, _under_way }
    }

    /// Whether it is its turn, and there is a token for it.
    pub(super) fn take_turn(&self) -> Result<(), Failure> {
        self.turn.as_ref().map_err(|failure| *failure)?;
        let now = Instant::now().into_std();
        let token = self.proxy.circuits.lock().take_token(self.circuit, now);
        token.map_err(|_| Failure::TooMany)
    }

    /// How the headers and trailers of its proxy are written.
    pub(super) fn settings(&self) -> &HeaderSettings {
        &self.proxy.settings.headers
    }

    /// So much of the body of the answer has been given.
    pub(super) fn gave(&mut self, bytes: u64) {
        self.outcome.bytes += bytes;
    }

    /// This is the head of its answer.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.outcome.status = Some(status);
        self.proxy.counts.answered(self.began.elapsed());
    }

    /// It has failed.
    pub(super) fn failed(&mut self, failure: Failure) {
        self.outcome.failure = Some(failure);
    }

    /// It has ended as it should.
    pub(super) fn ended(&mut self) {
        self.outcome.failure = None;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.proxy.counts.ended(&self.outcome);
        if self.proxy.settings.access_log {
            counts::log(self.circuit, &self.outcome, self.began.elapsed());
        }
    }
}
