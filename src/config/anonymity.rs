//! Whether services hide where they are: the keys `anonymity` and
//! `confirm_not_anonymous`, and what they rule out beside them.
//!
//! A service that does not hide is faster, and a mistake cannot be undone: it has to
//! be said twice, as with C tor, and the whole process says the same.

use super::document::Node;
use super::error::{ConfigError, ConfigReport, KeyPath};
use super::reader::{TableItem, TableReader};
use onionbraid_balancer::onion::Anonymity;

/// What the services that run say, all of them the same: a single onion service is
/// refused beside others.
pub(super) fn of_all(mut enabled: impl Iterator<Item = Anonymity>) -> Anonymity {
    enabled.next().unwrap_or_default()
}

/// Reads the two keys of a service.
pub(super) fn read(table: &mut TableReader<'_>, report: &mut ConfigReport) -> Anonymity {
    let (said, confirmed) = (table.get("anonymity"), table.get("confirm_not_anonymous"));
    let words = [Anonymity::Anonymous, Anonymity::NotAnonymous].map(|it| (it.word(), it));
    let anonymity = match &said {
        None => Some(Anonymity::default()),
        Some(item) => item.word(&words, report),
    };
    let confirms = match &confirmed {
        None => Some(false),
        Some(item) => item.boolean(report),
    };
    let (Some(anonymity), Some(confirms)) = (anonymity, confirms) else {
        return anonymity.unwrap_or_default();
    };
    match (anonymity, confirms) {
        (Anonymity::NotAnonymous, false) => {
            if let Some(item) = said {
                let problem = "relays, and whoever watches them, learn where this service is: if \
                               that is meant, say so a second time, with `confirm_not_anonymous = \
                               true`";
                item.wrong(problem, report);
            }
        }
        (Anonymity::Anonymous, true) => {
            if let Some(item) = confirmed {
                let problem = "it confirms `anonymity = \"not_anonymous\"`, which this service does \
                               not say: add that, or take this away";
                item.wrong(problem, report);
            }
        }
        (Anonymity::NotAnonymous, true) | (Anonymity::Anonymous, false) => {}
    }
    anonymity
}

/// Reports services that hide beside some that do not. `enabled` has the table of each
/// service that runs, its nickname and what it says.
pub(super) fn look(enabled: &[(TableItem<'_>, &str, Anonymity)], report: &mut ConfigReport) {
    let hides = |anonymity| anonymity == Anonymity::Anonymous;
    let mut all = enabled.iter();
    let Some((_, located, _)) = all.find(|(.., anonymity)| !hides(*anonymity)) else { return };
    for (item, ..) in enabled.iter().filter(|(.., anonymity)| hides(*anonymity)) {
        let problem = format!(
            "it is anonymous, and \"{located}\" in the same process is not: whoever finds that \
             finds this one, too. Say `anonymity = \"not_anonymous\"` in all services or in none, \
             or run them in two processes, better on two machines, with a `state_dir` each",
        );
        report.error(ConfigError::at_key(item.place(), item.path.clone(), problem));
    }
}

/// Reports what cannot be kept up by a process that connects to relays directly: with
/// the table of `bridges` that are used, nothing is connected to beside them.
pub(super) fn beside_bridges(
    anonymity: Anonymity,
    bridges: Option<&Node>,
    report: &mut ConfigReport,
) {
    let (Anonymity::NotAnonymous, Some(node)) = (anonymity, bridges) else { return };
    let path = KeyPath::default().key("bridges");
    let problem = "single onion services connect to relays directly, which is what bridges are to \
                   hide: leave out the bridges or `anonymity = \"not_anonymous\"`";
    report.error(ConfigError::at_key(node.place.clone(), path, problem));
}
