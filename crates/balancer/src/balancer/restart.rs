//! Carries a balancer over a restart of the process: from its state to the
//! [`Memory`] that is written down, and back.

use std::collections::BTreeMap;

use super::Balancer;
use crate::backend::TrackedBackend;
use crate::fact::{BackendId, Now};
use crate::memory::{KnownBackend, KnownOverride, ListedPoint, ListedSet, Memory};
use crate::onion::SessionId;
use crate::settings::BalancerSettings;

impl Balancer {
    /// A balancer that goes on after a restart, with what the one before it
    /// knew ([`memory`](Self::memory)) of the backends that there are still.
    ///
    /// Points that HSDirs may still hold are published at once, until fetches
    /// tell better; revisions never go back, even if the clock has.
    pub fn remembering(settings: BalancerSettings, memory: Memory, now: Now) -> Self {
        let mut balancer = Self::new(settings);
        for known in memory.backends {
            let key = known.address.to_string();
            if let Some(backend) = balancer.backends.iter_mut().find(|b| b.key() == key) {
                let KnownBackend { failing, broken, .. } = &known;
                balancer.probing.recall(backend.id(), failing, broken.as_deref(), now);
                backend.recall(known, now);
            }
        }
        for KnownOverride { backend: key, said } in memory.operator {
            match balancer.backends.iter_mut().find(|b| b.key() == key) {
                Some(backend) => backend.recall_operator(said),
                None => balancer.absent.keep(key, said),
            }
        }
        let ids: BTreeMap<String, BackendId> =
            balancer.backends.iter().map(|backend| (backend.key(), backend.id())).collect();
        let set = |set: ListedSet| -> Vec<(BackendId, SessionId)> {
            let point = |it: ListedPoint| Some((*ids.get(&it.backend)?, it.session));
            set.points.into_iter().filter_map(point).collect()
        };
        let listed = memory.listed.into_iter().map(set).collect();
        balancer.publisher.recall(listed, memory.counted, now);
        if memory.access.loses_somebody(&balancer.access) {
            balancer.renew_points();
        }
        balancer
    }

    /// What [`remembering`](Self::remembering) wants to know after a restart,
    /// as of the last `handle_*`. It changes with almost every fact.
    pub fn memory(&self, now: Now) -> Memory {
        let keys: BTreeMap<BackendId, String> =
            self.backends.iter().map(|backend| (backend.id(), backend.key())).collect();
        let set = |set: &Vec<(BackendId, SessionId)>| {
            let point = |(backend, session): &(BackendId, SessionId)| {
                Some(ListedPoint { backend: keys.get(backend)?.clone(), session: *session })
            };
            ListedSet { points: set.iter().filter_map(point).collect() }
        };
        let known =
            |backend: &TrackedBackend| backend.memory(self.probing.health(backend.id()), now);
        let overridden = |backend: &TrackedBackend| {
            let said = backend.operator();
            let said = said.says_something().then(|| said.clone())?;
            Some(KnownOverride { backend: backend.key(), said })
        };
        Memory {
            backends: self.backends.iter().filter_map(known).collect(),
            counted: self.publisher.counted(),
            listed: self.publisher.listed().iter().map(set).collect(),
            operator: self
                .backends
                .iter()
                .filter_map(overridden)
                .chain(self.absent.known())
                .collect(),
            access: self.access.clone(),
            ..Memory::default()
        }
    }
}
