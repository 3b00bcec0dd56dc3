//! Whether a service hides where it is.

use serde::{Deserialize, Serialize};

/// Whether a service hides where it is; its clients are hidden in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anonymity {
    /// As onion services do.
    #[default]
    Anonymous,
    /// A single onion service: relays see its network address.
    NotAnonymous,
}

impl Anonymity {
    /// As files write it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::NotAnonymous => "not_anonymous",
        }
    }
}
