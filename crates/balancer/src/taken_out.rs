//! What holds of backends that the operator has taken out of use: what stays
//! published where all are, and what was said of those that are not in the settings
//! for a while.

use std::collections::BTreeMap;

use super::backend::TrackedBackend;
use super::memory::KnownOverride;
use super::operator::{Override, Word};
use super::publish::Publisher;
use crate::status::BackendState;

/// So many words on absent backends are kept, the newest.
const ABSENT_AT_MOST: usize = 256;

/// The backends to list where nobody is in use: those that are published
/// although the operator has taken them out, since a descriptor without points
/// helps nobody. The same after a restart, which waits for those in use first.
pub(super) fn left_published<'a>(
    backends: &'a [TrackedBackend],
    publisher: &Publisher,
    withdrawing: bool,
) -> Vec<&'a TrackedBackend> {
    let may_come = |it: &TrackedBackend| is_in_use(it) && it.state() == BackendState::Unknown;
    if !publisher.has_published() && backends.iter().any(may_come) {
        return Vec::new();
    }
    let listed = |id| publisher.listed().iter().flatten().any(|(it, _)| *it == id);
    let left = |it: &&TrackedBackend| {
        it.is_live() && !is_in_use(it) && listed(it.id()) && !(withdrawing && it.is_local())
    };
    backends.iter().filter(left).collect()
}

/// Whether the operator has it in use.
pub(super) fn is_in_use(backend: &TrackedBackend) -> bool {
    backend.operator().word == Word::Ready
}

/// What the operator said of backends that the settings do not have, by their
/// keys: it holds again when they come back.
#[derive(Debug, Default)]
pub(super) struct Absent(BTreeMap<String, Override>);

impl Absent {
    /// These are not in the settings any more.
    pub(super) fn gone(&mut self, backends: &[TrackedBackend]) {
        for backend in backends {
            self.keep(backend.key(), backend.operator().clone());
        }
    }

    /// This holds of a backend that the settings do not have.
    pub(super) fn keep(&mut self, key: String, said: Override) {
        if !said.says_something() {
            return;
        }
        self.0.insert(key, said);
        while self.0.len() > ABSENT_AT_MOST {
            let oldest =
                self.0.iter().min_by_key(|(_, said)| said.last_said().0).map(|(key, _)| key);
            let Some(oldest) = oldest.cloned() else { return };
            self.0.remove(&oldest);
        }
    }

    /// A backend that is new in the settings, with what was said of it before.
    pub(super) fn back(&mut self, mut backend: TrackedBackend) -> TrackedBackend {
        if let Some(said) = self.0.remove(&backend.key()) {
            backend.recall_operator(said);
        }
        backend
    }

    /// All of it, to be written down.
    pub(super) fn known(&self) -> impl Iterator<Item = KnownOverride> {
        let known = |(backend, said): (&String, &Override)| KnownOverride {
            backend: backend.clone(),
            said: said.clone(),
        };
        self.0.iter().map(known)
    }
}
