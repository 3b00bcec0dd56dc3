//! A service that waits for a Tor network: which backends it is to have, and what
//! operators say of them meanwhile. Their words hold from before, are shown, and
//! new ones are written down for the loop that starts later; nothing else is known.

use std::sync::Arc;

use crate::admin::NoAnswer;
use crate::clock::now;
use crate::config::ServiceConfig;
use crate::tor::network::Network;
use onionbraid_balancer::memory::Memory;
use onionbraid_balancer::{Balancer, BalancerSettings};

use super::log_lines;
use super::orders::{BackendOrderOf, Obeyed};
use super::service::PreparedService;
use super::settings::Ids;
use super::state::StateDir;
use super::words;

/// Said while another service ends.
const WAITS_FOR_ANOTHER: &str =
    "waits until the service that has its directory or its address has ended";

/// Waits for those before it, and for a Tor network. `None`: it is to end.
pub(super) async fn wait_for_network(
    mut service: PreparedService,
) -> Option<(PreparedService, Network)> {
    let (before, mut network) = (service.after.clone(), service.common.network.clone());
    let mut waiting = before.is_empty().then(|| WaitingService::open(&service));
    let before = async move {
        for before in before {
            before.cancelled().await;
        }
    };
    let network = async move { network.wait_for(Option::is_some).await.ok()?.clone() };
    tokio::pin!(before, network);
    let mut beat = service.common.pulse.join();
    loop {
        let view = match &waiting {
            Some(waiting) => service.shows(&waiting.balancer()),
            None => {
                let config = &service.updates.borrow().config;
                service.shows_idle(config, WAITS_FOR_ANOTHER)
            }
        };
        service.view.send_replace(Arc::new(view));
        loop {
            tokio::select! {
                () = beat.next() => {}
                () = &mut before, if waiting.is_none() => {
                    waiting = Some(WaitingService::open(&service));
                    break;
                }
                network = &mut network, if waiting.is_some() => return Some((service, network?)),
                Some(order) = service.orders.recv() => match &mut waiting {
                    Some(waiting) => {
                        waiting.obey(order);
                        break;
                    }
                    None => {
                        let text = format!("the service {WAITS_FOR_ANOTHER}");
                        order.answer(Err(NoAnswer::NotReady(text)));
                    }
                },
                changed = service.updates.changed() => {
                    let update = service.updates.borrow_and_update().clone();
                    // The handle is dropped only when everything ends.
                    if changed.is_err() || update.end {
                        return None;
                    }
                    if let Some(waiting) = &mut waiting {
                        waiting.apply(&update.config);
                    }
                    break;
                }
            }
        }
    }
}

/// What a service knows that has not started.
pub(super) struct WaitingService {
    ids: Ids,
    settings: BalancerSettings,
    state: Option<StateDir>,
    /// As it is written down.
    memory: Memory,
}

impl WaitingService {
    /// Looks into the service's directory, which nobody else may use any more.
    pub(super) fn open(service: &PreparedService) -> Self {
        let storage = &service.common.storage;
        let mut state = StateDir::open(storage, &service.nickname, &service.address);
        let memory = state.as_mut().and_then(StateDir::remembered).unwrap_or_default();
        let mut ids = Ids::default();
        let settings = ids.settings(&service.updates.borrow().config);
        let waiting = Self { ids, settings, state, memory };
        log_lines::still_operated(&service.nickname, &waiting.balancer().status().backends);
        waiting
    }

    /// The service is to be this from now on.
    pub(super) fn apply(&mut self, config: &ServiceConfig) {
        self.settings = self.ids.settings(config);
    }

    /// A balancer that knows the words and nothing else.
    pub(super) fn balancer(&self) -> Balancer {
        Balancer::remembering(self.settings.clone(), self.memory.words_alone(), now())
    }

    /// Writes down what an operator says of a backend; it holds from the start.
    pub(super) fn obey(&mut self, order: BackendOrderOf) {
        let obeyed = self.try_obey(&order);
        if let Err(refused) = &obeyed {
            words::log_refused(&order, refused);
        }
        order.answer(obeyed);
    }

    fn try_obey(&mut self, order: &BackendOrderOf) -> Obeyed<()> {
        let (_, words) = words::consider(&self.balancer(), order, now())?;
        let memory = self.memory.clone().with_words_of(words);
        words::keep(self.state.as_mut(), &memory)?;
        self.memory = memory;
        log_lines::operator(order);
        Ok(())
    }
}
