//! One onion service from outside: what it is made of, what is asked of its loop
//! and what it shows.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::NoAnswer;
use crate::config::{ServiceConfig, Shutdown, Storage};
use crate::tor::credentials::Credentials;
use crate::tor::network::Network;
use onionbraid_balancer::Balancer;
use onionbraid_balancer::onion::OnionAddress;

use super::fetches::Fetches;
use super::file_handles::FileHandles;
use super::orders::BackendOrderOf;
use super::pulse::Pulse;
use super::settings::Ids;
use super::snapshot::{ServiceView, Views};

/// Orders that may wait for a service at a time.
const ORDERS: usize = 16;

/// What the operator wants of a service.
#[derive(Clone, Debug)]
pub(super) struct ServiceUpdate {
    pub(super) config: ServiceConfig,
    /// How long taking things out may take.
    pub(super) times: Shutdown,
    /// Whether the process has other services.
    pub(super) in_company: bool,
    /// Whether it is to end.
    pub(super) end: bool,
}

/// What all services share.
#[derive(Clone)]
pub(super) struct Common {
    /// The Tor network, once there is one.
    pub(super) network: watch::Receiver<Option<Network>>,
    /// Fetches for all of them.
    pub(super) fetches: Fetches,
    /// Where their state is kept.
    pub(super) storage: Arc<Storage>,
    /// What their clients may take.
    pub(super) file_handles: FileHandles,
    /// Asks whether their loops turn.
    pub(super) pulse: Pulse,
}

/// A service that was started. Whatever is asked of its loop is asked here, and
/// whatever is seen of it is seen from here.
pub(super) struct ServiceHandle {
    nickname: String,
    pub(super) address: OnionAddress,
    updates: watch::Sender<ServiceUpdate>,
    orders: mpsc::Sender<BackendOrderOf>,
    views: Views,
    ended: CancellationToken,
}

/// An onion service, ready to run.
pub(super) struct PreparedService {
    pub(super) nickname: String,
    pub(super) credentials: Arc<Credentials>,
    pub(super) address: OnionAddress,
    /// What the operator wants, now and later.
    pub(super) updates: watch::Receiver<ServiceUpdate>,
    /// What the operator says of its backends.
    pub(super) orders: mpsc::Receiver<BackendOrderOf>,
    /// Where it shows what it is.
    pub(super) view: watch::Sender<Arc<ServiceView>>,
    pub(super) common: Common,
    /// Those that must have ended before: they have its directory or address.
    pub(super) after: Vec<CancellationToken>,
    /// Tells the handle when all of it is gone.
    pub(super) ended: CancellationToken,
}

impl ServiceHandle {
    /// What the operator wants of it now.
    pub(super) fn config(&self) -> ServiceConfig {
        self.updates.borrow().config.clone()
    }

    /// Whether it was told that the process has other services.
    #[cfg(test)]
    pub(super) fn is_in_company(&self) -> bool {
        self.updates.borrow().in_company
    }

    /// Has it be this from now on.
    pub(super) fn update(&self, config: ServiceConfig, times: Shutdown) {
        self.updates.send_modify(|update| (update.config, update.times) = (config, times));
    }

    /// Whether the process has other services from now on.
    pub(super) fn set_company(&self, in_company: bool) {
        self.updates.send_if_modified(|update| {
            std::mem::replace(&mut update.in_company, in_company) != in_company
        });
    }

    /// Has its loop obey an order on one of its backends.
    pub(super) fn obey(&self, order: BackendOrderOf) {
        use mpsc::error::TrySendError::{Closed, Full};
        if let Err(Closed(order) | Full(order)) = self.orders.try_send(order) {
            let text = "the service is ending, or has too many orders waiting";
            order.answer(Err(NoAnswer::NotReady(text.to_owned())));
        }
    }

    /// Has it end in order.
    pub(super) fn end(&self) {
        self.updates.send_modify(|update| update.end = true);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// What it shows, now and later.
    pub(super) fn views(&self) -> Views {
        self.views.clone()
    }

    /// Whether the other one has the directory or the descriptor of this one.
    fn is_in_the_way_of(&self, nickname: &str, address: &OnionAddress) -> bool {
        self.nickname == nickname || self.address == *address
    }
}

impl PreparedService {
    /// A service and its handle. Where one of those that are `ending` has its
    /// nickname or its address, it waits for that: they would have one directory
    /// or one descriptor.
    pub(super) fn new(
        credentials: Arc<Credentials>,
        (config, times): (ServiceConfig, Shutdown),
        common: Common,
        ending: &[ServiceHandle],
    ) -> (ServiceHandle, Self) {
        let (nickname, address) = (config.nickname.to_string(), credentials.address());
        let before = ending.iter().filter(|other| other.is_in_the_way_of(&nickname, &address));
        let after = before.map(|other| other.ended.clone()).collect();
        let view = ServiceView::new(&nickname, address, &idle(&config));
        let (view, views) = watch::channel(Arc::new(view));
        let (in_company, end) = (false, false);
        let (updates, received) = watch::channel(ServiceUpdate { config, times, in_company, end });
        let (orders, received_orders) = mpsc::channel(ORDERS);
        let ended = CancellationToken::new();
        let service = Self {
            nickname: nickname.clone(),
            credentials,
            address,
            updates: received,
            orders: received_orders,
            view,
            common,
            after,
            ended: ended.clone(),
        };
        (ServiceHandle { nickname, address, updates, orders, views, ended }, service)
    }

    /// What it shows while it decides with this balancer.
    pub(super) fn shows(&self, balancer: &Balancer) -> ServiceView {
        ServiceView::new(&self.nickname, self.address, balancer)
    }

    /// What it shows as long as it has not started: the backends that the operator
    /// wants, of which nothing is known, and what keeps it from starting.
    pub(super) fn shows_idle(&self, config: &ServiceConfig, problem: &str) -> ServiceView {
        self.shows(&idle(config)).with_problem(problem)
    }
}

/// The balancer of a service that has not started: it has the backends that the
/// operator wants, and knows nothing of them.
fn idle(config: &ServiceConfig) -> Balancer {
    Balancer::new(Ids::default().settings(config))
}
