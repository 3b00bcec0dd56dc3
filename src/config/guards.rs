//! Whose guards local instances use: the key `guards`, and what it does not go with.
//!
//! More guards are more bandwidth, and more relays that see the circuits of a service
//! begin: so it is said for each service, and never without being asked for.

use super::document::Node;
use super::error::{ConfigError, ConfigReport, KeyPath};
use super::reader::TableReader;
use onionbraid_balancer::onion::Anonymity;

/// At whose guards the circuits of a service's local instances begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guards {
    /// At those of the process, as everything else that it does.
    #[default]
    Shared,
    /// Each instance at its own: more bandwidth, and more relays that see circuits of the
    /// service begin.
    Own,
}

impl Guards {
    /// As files write it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Own => "own",
        }
    }
}

/// Reads the key of a service that hides or not, with so many local instances.
pub(super) fn read(
    table: &mut TableReader<'_>,
    anonymity: Anonymity,
    local_instances: u8,
    report: &mut ConfigReport,
) -> Guards {
    let words = [Guards::Shared, Guards::Own].map(|it| (it.word(), it));
    let Some(item) = table.get("guards") else { return Guards::default() };
    let guards = item.word(&words, report).unwrap_or_default();
    if guards == Guards::Own && anonymity == Anonymity::NotAnonymous {
        let problem = "a single onion service connects to relays directly, without guards: leave \
                       this out, or `anonymity = \"not_anonymous\"`";
        item.wrong(problem, report);
    }
    if guards == Guards::Own && local_instances == 0 {
        let text = "it is for local instances, of which this service has none";
        report.warn(item.place(), &item.path, text);
    }
    guards
}

/// Reports services that want guards of their own where circuits begin at these
/// `bridges`. `services` are the nicknames of those that run and want them.
pub(super) fn beside_bridges<'a>(
    mut services: impl Iterator<Item = &'a str>,
    bridges: Option<&Node>,
    report: &mut ConfigReport,
) {
    let (Some(nickname), Some(node)) = (services.next(), bridges) else { return };
    let path = KeyPath::default().key("bridges");
    let problem = format!(
        "bridges are the guards of everything in the process, and service \"{nickname}\" says \
         `guards = \"own\"`: leave out one of the two"
    );
    report.error(ConfigError::at_key(node.place.clone(), path, problem));
}
