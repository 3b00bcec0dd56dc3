//! At whose guards do the circuits of local instances begin, and what is seen of that?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Guards, ServiceConfig};
use crate::observe::snapshot::GuardSets;
use crate::tor::guard_sets::GuardSet;
use crate::tor::network::Network;
use onionbraid_balancer::onion::RelayId;

/// At whose guards the circuits of an instance begin.
#[derive(Clone)]
pub(super) enum GuardsInUse {
    /// At those of the process.
    Shared,
    /// At its own.
    Own(Arc<GuardSet>),
    /// At those of the process, and why it has none of its own although it should.
    Missing(String),
}

/// The network by way of the guards that an instance is to have, which are kept in a
/// directory. Where it cannot have its own, it goes by those of the process, which costs
/// no anonymity; the log is told.
pub(super) fn network(
    network: &Network,
    config: &ServiceConfig,
    instance: &str,
    directory: Option<PathBuf>,
) -> (Network, GuardsInUse) {
    if config.guards == Guards::Shared {
        return (network.clone(), GuardsInUse::Shared);
    }
    let own = match directory {
        Some(directory) => network.with_guards_of(&directory).map_err(|error| error.to_string()),
        None => Err("the state directory cannot be used".to_owned()),
    };
    match own {
        Ok((network, guards)) => (network, GuardsInUse::Own(guards)),
        Err(error) => {
            tracing::warn!(
                service = %config.nickname, backend = instance, error,
                "no guards of its own; using those of the process"
            );
            (network.clone(), GuardsInUse::Missing(error))
        }
    }
}

/// What is shown of instances with guards of their own, all by their names; `None`: there
/// are none.
pub(super) fn sets(all: &BTreeMap<String, GuardsInUse>) -> Option<GuardSets> {
    let own = all.iter().filter_map(|(name, guards)| match guards {
        GuardsInUse::Own(set) => Some((name.as_str(), set.first_guard())),
        GuardsInUse::Shared | GuardsInUse::Missing(_) => None,
    });
    overlaps(own)
}

/// The same of the instances and the first guards that they have, if they have one now.
fn overlaps<'a>(instances: impl Iterator<Item = (&'a str, Option<RelayId>)>) -> Option<GuardSets> {
    let mut sets = 0;
    let mut of_relays: BTreeMap<RelayId, Vec<&str>> = BTreeMap::new();
    for (name, first) in instances {
        sets += 1;
        if let Some(relay) = first {
            of_relays.entry(relay).or_default().push(name);
        }
    }
    let first_guards = of_relays.len();
    let shared = of_relays.into_values().filter(|names| names.len() > 1).flatten();
    let mut overlapping: Vec<String> = shared.map(str::to_owned).collect();
    overlapping.sort_unstable();
    (sets > 0).then_some(GuardSets { sets, first_guards, overlapping })
}

/// What an operator should know of instances that have no guards of their own.
pub(super) fn problems(all: &BTreeMap<String, GuardsInUse>) -> impl Iterator<Item = String> {
    all.iter().filter_map(|(name, guards)| match guards {
        GuardsInUse::Missing(error) => {
            Some(format!("{name} has no guards of its own and uses those of the process: {error}"))
        }
        GuardsInUse::Shared | GuardsInUse::Own(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_that_begin_at_one_relay_are_named_and_those_without_a_guard_are_counted() {
        let relay = |n: u8| Some(RelayId([n; 20]));
        assert_eq!(overlaps(std::iter::empty()), None);
        let all = [
            ("local-0", relay(1)),
            ("local-1", relay(2)),
            ("local-2", relay(1)),
            ("local-3", None),
        ];
        let sets = overlaps(all.into_iter()).unwrap();
        assert_eq!((sets.sets, sets.first_guards), (4, 2));
        assert_eq!(sets.overlapping, ["local-0", "local-2"]);
        let apart = overlaps(all.into_iter().take(2)).unwrap();
        assert_eq!((apart.first_guards, apart.overlapping.len()), (2, 0));
    }
}
