//! Turns a service's configuration into the settings of its balancer and its
//! instances.
//!
//! Pure. Remembers which number each backend
//! has, so that a reload leaves it to the same one and gives it to no other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::{Probe, ProofOfWork, ServiceConfig};
use crate::instance;
use onionbraid_balancer::fact::BackendId;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::{BackendPlace, BackendSettings, BalancerSettings, LinkPolicy};

use super::file_handles::FileHandles;

/// The numbers of the backends of one service.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// The next number; one that was given is not given again.
    next: u32,
    /// Those of the backends that there are.
    given: BTreeMap<Identity, BackendId>,
}

/// What makes a backend the same one over reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    /// A local instance, by its number.
    Local(u8),
    /// A remote backend, by its own address: a name can be changed.
    Remote(OnionAddress),
}

impl Ids {
    /// The balancer's settings: local instances first, then remote backends in
    /// the order of the file. A backend that comes back after it was taken out
    /// has a new number.
    pub(super) fn settings(&mut self, config: &ServiceConfig) -> BalancerSettings {
        let kind = BackendPlace::Local { expected_points: config.points_per_instance() };
        let local = (0..config.local_instances)
            .map(|n| (Identity::Local(n), format!("local-{n}"), kind.clone(), config.local_weight));
        let remote = config.backends.iter().map(|backend| {
            let address = backend.address;
            let kind = BackendPlace::Remote { address };
            (Identity::Remote(address), backend.name.clone(), kind, backend.weight)
        });
        let before = std::mem::take(&mut self.given);
        let mut backends = Vec::new();
        for (identity, name, kind, weight) in local.chain(remote) {
            let id = before.get(&identity).copied().unwrap_or_else(|| {
                let id = BackendId(self.next);
                self.next += 1;
                id
            });
            self.given.insert(identity, id);
            backends.push(BackendSettings { id, name, kind, weight });
        }
        BalancerSettings {
            backends,
            max_points: config.max_intro_points,
            distinct: config.distinct_descriptors,
            publishers: config.publishers,
            in_company: false,
            access: config.access(),
            links: config.link,
            max_effort: Some(config.pow.max_effort),
            probe_every: config.probe.as_ref().map(|it| it.interval.unwrap_or(Probe::IN_DOUBT)),
            probe_calm: config
                .probe
                .as_ref()
                .and_then(|it| it.interval.is_none().then_some(Probe::CALM)),
        }
    }
}

/// What clients of the address are asked for, and what is verified for publishers of others;
/// `None`: nothing, ever.
pub(super) fn of_defence(config: &ServiceConfig) -> Option<instance::DefenceSettings> {
    let ProofOfWork { enabled, queue_depth, rate, burst, max_effort } = config.pow;
    let has_links = config.link != LinkPolicy::Never;
    let asks = enabled && (config.local_instances > 0 || has_links && !config.backends.is_empty());
    let verifies = cfg!(feature = "pow") && has_links && !config.frontends.is_empty();
    (asks || verifies).then_some(instance::DefenceSettings {
        asks,
        rate: (rate, burst),
        depth: usize::try_from(queue_depth).unwrap_or(usize::MAX),
        max_effort,
        has_frontends: !config.frontends.is_empty(),
    })
}

/// The settings of one local instance.
pub(super) fn of_instance(
    config: &ServiceConfig,
    name: &str,
    keep_in: Option<PathBuf>,
    file_handles: &FileHandles,
) -> instance::InstanceSettings {
    let rate_limit = config.rate_limit_at_intro.as_ref();
    instance::InstanceSettings {
        name: format!("{}/{name}", config.nickname),
        intro_points: usize::from(config.points_per_instance()),
        max_streams_per_circuit: streams_per_circuit(config, file_handles),
        max_streams_close_circuit: config.max_streams_close_circuit,
        rate_limit_at_intro: rate_limit.map(|limit| (limit.rate, limit.burst)),
        keep_in,
    }
}

/// Streams that one circuit of a service may have open.
pub(super) fn streams_per_circuit(config: &ServiceConfig, file_handles: &FileHandles) -> usize {
    let allowed = usize::try_from(config.max_concurrent_streams_per_circuit);
    file_handles.per_circuit(allowed.unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RemoteBackend;

    fn remote(n: u8, name: &str) -> RemoteBackend {
        RemoteBackend {
            address: OnionAddress::from_public_key([n; 32]),
            name: name.to_owned(),
            weight: 1,
            client_key: None,
        }
    }

    fn numbers(settings: &BalancerSettings) -> Vec<(&str, u32)> {
        settings.backends.iter().map(|backend| (backend.name.as_str(), backend.id.0)).collect()
    }

    #[test]
    fn a_backend_keeps_its_number_over_reloads_and_no_other_ever_gets_it() {
        let mut config = ServiceConfig::with_defaults("shop".parse().unwrap());
        let mut ids = Ids::default();
        config.local_instances = 2;
        config.backends = vec![remote(1, "one"), remote(2, "two")];
        let first = ids.settings(&config);
        assert_eq!(numbers(&first), [("local-0", 0), ("local-1", 1), ("one", 2), ("two", 3)]);

        // One is taken out, one renamed and moved, one added.
        config.local_instances = 1;
        config.backends = vec![remote(3, "three"), remote(2, "zwei")];
        let second = ids.settings(&config);
        assert_eq!(numbers(&second), [("local-0", 0), ("three", 4), ("zwei", 3)]);

        // Who comes back is another one.
        config.local_instances = 2;
        config.backends = vec![remote(1, "one")];
        let third = ids.settings(&config);
        assert_eq!(numbers(&third), [("local-0", 0), ("local-1", 5), ("one", 6)]);
    }
}
