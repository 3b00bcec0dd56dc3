//! The orders of operators, as commands send them and the daemon obeys them. They
//! are JSON, and part of the contract with scripts.
//!
//! | POST to | body | does |
//! |---|---|---|
//! | `/v1/reload` | `{}`, or nothing | has the configuration read again |
//! | `/v1/services/NICKNAME/backends/NAME` | a [`BackendOrder`] | says something of one backend |

use serde::{Deserialize, Serialize};

use onionbraid_balancer::operator::Verb;

/// Where the configuration is read again.
pub const RELOAD: &str = "/v1/reload";

/// What the paths of services begin with.
pub const SERVICES: &str = "/v1/services/";

/// What lies between a service and its backend.
const BACKENDS: &str = "/backends/";

/// What is said of an order when its outcome is no longer waited for.
pub const MAYBE_LATER: &str =
    "no answer in time: the order may still be obeyed, so look at `onionbraid status`";

/// An order on one backend: `{"verb": "drain"}`, `"maintenance"`, `"ready"`, or
/// `{"verb": "weight", "weight": 3}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendOrder {
    /// What.
    #[serde(flatten)]
    pub verb: Verb,
    /// Whether even the last backend in use may be taken out.
    #[serde(default)]
    pub force: bool,
}

/// What a reload has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is different from before, one line for each key.
    pub changed: Vec<String>,
    /// What of it holds only after a restart.
    pub after_restart: Vec<String>,
    /// What is accepted and perhaps not meant.
    pub warnings: Vec<String>,
}

/// The path of a backend.
pub fn backend_path(service: &str, backend: &str) -> String {
    format!("{SERVICES}{service}{BACKENDS}{backend}")
}

/// The service and the backend of such a path.
pub fn backend_of(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix(SERVICES)?.split_once(BACKENDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_service_and_a_backend_whose_names_have_no_slash() {
        assert_eq!(backend_of(&backend_path("shop", "local-0")), Some(("shop", "local-0")));
        assert_eq!(backend_of("/v1/services/shop"), None);
        assert_eq!(backend_of("/v1/reload"), None);
    }

    #[test]
    fn orders_are_short_json() {
        let read = |text| serde_json::from_str::<BackendOrder>(text).ok();
        let order = |verb, force| Some(BackendOrder { verb, force });
        assert_eq!(read("{\"verb\": \"drain\"}"), order(Verb::Drain, false));
        assert_eq!(
            read("{\"verb\": \"weight\", \"weight\": 3, \"force\": true}"),
            order(Verb::Weight { weight: 3 }, true)
        );
        for wrong in ["{}", "{\"verb\": \"stop\"}", "{\"verb\": \"weight\"}", "[]"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
