//! A service that waits for a Tor network: which backends it is to have, and what
//! operators say of them meanwhile. Their words hold from before, are shown, and
//! new ones are written down for the loop that starts later; nothing else is known.

use crate::clock::now;
use crate::config::ServiceConfig;
use onionbraid_balancer::memory::Memory;
use onionbraid_balancer::{Balancer, BalancerSettings};

use super::log_lines;
use super::orders::{BackendOrderOf, Obeyed};
use super::service::PreparedService;
use super::settings::Ids;
use super::state::StateDir;
use super::words;

/// What a service knows that has not started.
pub(super) struct Waiting {
    ids: Ids,
    settings: BalancerSettings,
    state: Option<StateDir>,
    /// As it is written down.
    memory: Memory,
}

impl Waiting {
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
