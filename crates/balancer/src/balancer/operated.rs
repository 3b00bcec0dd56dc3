//! An operator's word on a backend: whether it is taken, and what it changes.

use rand::Rng;

use super::Balancer;
use crate::backend::TrackedBackend;
use crate::fact::{BackendId, Now};
use crate::memory::Memory;
use crate::operator::{MAX_WEIGHT, OperatorOrder, OrderRefused, Verb, Word};
use crate::taken_out::is_in_use;

impl Balancer {
    /// The operator says something of a backend. It holds at once, and until it is
    /// taken back.
    ///
    /// # Errors
    ///
    /// If the order makes no sense, or would take out the last backend that
    /// clients can be sent to without saying so.
    pub fn obey(
        &mut self,
        order: &OperatorOrder,
        now: Now,
        rng: &mut impl Rng,
    ) -> Result<(), OrderRefused> {
        self.consider(order)?;
        let backend = self.backend(order.backend).ok_or(OrderRefused::Unknown)?;
        backend.obey(order, now);
        // Nobody waits long for what an operator says.
        self.publisher.allow_changes();
        self.progress(now, rng);
        Ok(())
    }

    /// What a restart would find with this order obeyed: it can be written down
    /// before [`obey`](Self::obey), so that no order holds that a restart forgets.
    ///
    /// # Errors
    ///
    /// Those of `obey`.
    pub fn memory_obeying(&self, order: &OperatorOrder, now: Now) -> Result<Memory, OrderRefused> {
        let backend = self.consider(order)?;
        Ok(self.memory(now).with_operator(backend.key(), backend.obeying(order, now)))
    }

    /// Whether an order can be obeyed, and by which backend.
    fn consider(&self, order: &OperatorOrder) -> Result<&TrackedBackend, OrderRefused> {
        let (these, others): (Vec<_>, Vec<_>) =
            self.backends.iter().partition(|backend| backend.id() == order.backend);
        let [backend] = these.as_slice() else { return Err(OrderRefused::Unknown) };
        let word = match order.verb {
            Verb::Weight { weight } if weight > MAX_WEIGHT => return Err(OrderRefused::Weight),
            Verb::Weight { .. } | Verb::Ready => return Ok(backend),
            Verb::Drain => Word::Drain,
            Verb::Maintenance => Word::Maintenance,
        };
        // Weights do not matter here: one without takes over when nobody else is left.
        let takes_over = |other: &&TrackedBackend| {
            is_in_use(other) && other.is_live() && !(self.withdrawing && other.is_local())
        };
        let nobody_else = match backend.is_live() {
            true => !others.iter().any(takes_over),
            false => !others.iter().any(|other| is_in_use(other)),
        };
        let out_further = word > backend.operator().word;
        if out_further && nobody_else && !order.force {
            return Err(OrderRefused::TheLast);
        }
        Ok(backend)
    }

    /// The backend that the operator calls so.
    pub fn backend_named(&self, name: &str) -> Option<BackendId> {
        self.backends.iter().find(|it| it.belief().name == name).map(TrackedBackend::id)
    }

    /// Whether the operator has a backend in use; one that there is not is.
    pub fn word(&self, backend: BackendId) -> Word {
        let backend = self.backends.iter().find(|it| it.id() == backend);
        backend.map(|it| it.operator().word).unwrap_or_default()
    }
}
