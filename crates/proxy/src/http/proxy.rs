//! The reverse proxy of one virtual port: what all of its streams share.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::circuits::CircuitHistories;
use super::counts::Counts;
use crate::failure::Failure;
use crate::guard::Guard;
use crate::headers::OwnNames;
use crate::pages::Pages;
use crate::settings::HttpSettings;
use crate::status;
use crate::upstream::Upstream;

/// Requests that the process may have under way, over all of its services. Each
/// takes some 20 KiB, more if its answer waits to be read.
const MAX_UNDER_WAY: usize = 16_384;

/// Those that may still begin.
static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_UNDER_WAY)));

/// How many requests the process has under way, and how many it may have.
pub fn requests_under_way() -> (usize, usize) {
    (MAX_UNDER_WAY.saturating_sub(ROOM.available_permits()), MAX_UNDER_WAY)
}

/// The room that all proxies of the process share.
fn room() -> Arc<Semaphore> {
    Arc::clone(&ROOM)
}

/// The reverse proxy of one virtual port. All streams to the port share it.
pub struct Proxy {
    /// What the operator wants.
    pub(super) settings: Arc<HttpSettings>,
    /// What stands before the origins.
    pub(super) guard: Guard,
    /// The pages for our own answers.
    pub(super) pages: Pages,
    /// Who answers.
    pub(super) upstream: Arc<dyn Upstream>,
    /// What those call themselves.
    pub(super) own: OwnNames,
    /// What clients have done.
    pub(super) circuits: Mutex<CircuitHistories>,
    /// What has become of their requests.
    pub(super) counts: Counts,
    /// For each request under way, one.
    pub(super) room: Arc<Semaphore>,
}

/// What the proxy can do to the client's circuit.
pub trait CircuitControl: Send + Sync + 'static {
    /// Closes it, with all of its streams.
    fn close(&self);
}

impl Proxy {
    /// A proxy that leads requests to `upstream` and shows these pages where
    /// that fails.
    pub fn new(
        settings: Arc<HttpSettings>,
        pages: Pages,
        upstream: Arc<dyn Upstream>,
    ) -> Arc<Self> {
        Self::within(room(), settings, pages, upstream)
    }

    /// The same, where as many requests may be under way as there is room,
    /// instead of as many as the process may have.
    pub fn within(
        room: Arc<Semaphore>,
        mut settings: Arc<HttpSettings>,
        pages: Pages,
        upstream: Arc<dyn Upstream>,
    ) -> Arc<Self> {
        let circuits = Mutex::new(CircuitHistories::new(settings.circuit.clone()));
        let guard = Guard::new(&settings.guard);
        let own = upstream.own();
        if settings.headers.proto.is_none() {
            Arc::make_mut(&mut settings).headers.proto = Some(own.scheme());
        }
        let counts = Counts::default();
        let pages = pages.in_style_of(&settings);
        Arc::new(Self { settings, guard, pages, upstream, own, circuits, counts, room })
    }

    /// How long a client may take for a head.
    pub(crate) fn patience(&self) -> Duration {
        self.settings.guard.head_timeout
    }

    /// A client was turned away before it could ask for anything.
    pub(crate) fn turned_away(&self, failure: Failure, control: &impl CircuitControl) {
        self.counts.refused(failure);
        if failure == Failure::TooMany && self.settings.circuit.close_abusers {
            control.close();
        }
    }

    /// What there is to say of it in the status.
    pub fn status(&self) -> status::HttpStatus {
        status::HttpStatus {
            requests: self.counts.requests(),
            by_class: self.counts.classes(),
            failures: self.counts.failures(),
            seconds: self.counts.seconds(),
            origins: self.upstream.origins(),
        }
    }
}
