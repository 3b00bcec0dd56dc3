//! Who may read the descriptors of a service.
//!
//! A client that may no longer read them knows the introduction points that it has
//! read. So the local instances get others whenever somebody is shut out, also if
//! that happened while the process did not run.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::client_key::ClientKey;
use super::intro_point::IntroPoint;

/// Who may read the descriptors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Everybody who knows the address.
    #[default]
    Everybody,
    /// The clients with these keys; without any, nothing is published.
    Clients(BTreeSet<ClientKey>),
}

impl Access {
    /// Whether nobody at all may read.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Clients(clients) if clients.is_empty())
    }

    /// How many may, unless everybody may.
    pub fn clients(&self) -> Option<usize> {
        match self {
            Self::Everybody => None,
            Self::Clients(clients) => Some(clients.len()),
        }
    }

    /// Whether a descriptor for these may list a point. Clients were counted with points
    /// of a relay's size: no backend is to make it too long for HSDirs.
    pub(crate) fn has_room_for(&self, point: &IntroPoint) -> bool {
        *self == Self::Everybody || point.is_of_ordinary_size()
    }

    /// Whether somebody may read now and could not if it were like `new`.
    pub(crate) fn loses_somebody(&self, new: &Self) -> bool {
        match (self, new) {
            (_, Self::Everybody) => false,
            (Self::Everybody, Self::Clients(_)) => true,
            (Self::Clients(before), Self::Clients(after)) => !before.is_subset(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(keys: &[u8]) -> Access {
        let keys = keys.iter().map(|n| ClientKey::new([*n; 32]).unwrap());
        Access::Clients(keys.collect())
    }

    #[test]
    fn somebody_is_shut_out_where_a_key_goes_or_the_address_was_enough() {
        let [none, one, two] = [&[][..], &[2], &[2, 3]].map(clients);
        let everybody = Access::Everybody;
        for (before, after, lost) in [
            (&everybody, &everybody, false),
            (&everybody, &two, true),
            (&everybody, &none, true),
            (&one, &two, false),
            (&two, &one, true),
            (&one, &clients(&[3]), true),
            (&two, &none, true),
            (&none, &two, false),
            (&two, &everybody, false),
        ] {
            assert_eq!(before.loses_somebody(after), lost, "{before:?} {after:?}");
        }
    }
}
