//! How an operator's word on a backend is taken: considered, written down, and
//! refused with a line in the log where it cannot be. Called by the loop of a
//! service, and by [`WaitingService`](super::waiting::WaitingService) before there is one.

use tokio::task::block_in_place;

use crate::admin::NoAnswer;
use crate::admin::orders::BackendOrder;
use crate::config::is_backend_name;
use onionbraid_balancer::Balancer;
use onionbraid_balancer::fact::Now;
use onionbraid_balancer::memory::Memory;
use onionbraid_balancer::operator::{OperatorOrder, OrderRefused};

use super::orders::{BackendOrderOf, Obeyed};
use super::state::StateDir;

/// What an order says to the balancer of its service, and what is to be written down
/// before that obeys it.
pub(super) fn consider(
    balancer: &Balancer,
    order: &BackendOrderOf,
    now: Now,
) -> Obeyed<(OperatorOrder, Memory)> {
    let (service, name) = (&order.service, &order.backend);
    let backend = balancer.backend_named(name).ok_or_else(|| {
        NoAnswer::NotFound(format!("the service \"{service}\" has no backend \"{name}\""))
    })?;
    let BackendOrder { verb, force } = order.order;
    let said = OperatorOrder { backend, verb, force, by: order.user };
    let memory = balancer.memory_obeying(&said, now).map_err(|refused| why(name, refused))?;
    Ok((said, memory))
}

/// Why a word is not taken.
pub(super) fn why(name: &str, refused: OrderRefused) -> NoAnswer {
    match refused {
        OrderRefused::TheLast => NoAnswer::Refused(format!("{name}: {refused}")),
        OrderRefused::Weight | OrderRefused::Unknown => NoAnswer::Malformed(refused.to_string()),
    }
}

/// Writes down what a restart is to find: an order that it would forget is not taken.
pub(super) fn keep(state: Option<&mut StateDir>, memory: &Memory) -> Obeyed<()> {
    let kept = match state {
        Some(state) => block_in_place(|| state.keep(memory)).map_err(|error| error.to_string()),
        None => Err("its state directory cannot be used".to_owned()),
    };
    kept.map_err(|problem| {
        NoAnswer::NotKept(format!(
            "nothing has changed: the order cannot be written to the state directory, so a restart \
             would forget it: {problem}"
        ))
    })
}

/// Tells the log that an order was not taken.
pub(super) fn log_refused(order: &BackendOrderOf, refused: &NoAnswer) {
    let service = &order.service;
    // What is no name stays out of the log: it could be anything.
    let backend = Some(&order.backend).filter(|name| is_backend_name(name));
    let user = order.user.map(tracing::field::display);
    let BackendOrder { verb, force } = order.order;
    let verb = tracing::field::debug(verb);
    match refused {
        NoAnswer::NotKept(problem) => {
            tracing::error!(service, backend, verb, user, problem, "operator: order not taken");
        }
        NoAnswer::NotFound(_) => {
            let problem = "no such backend";
            tracing::warn!(service, backend, verb, user, problem, "operator: order refused");
        }
        refused => {
            let problem = tracing::field::display(refused);
            tracing::warn!(service, backend, verb, user, force, problem, "operator: order refused");
        }
    }
}
