//! Carries a backend over a restart of the process.

use super::{Remote, TrackedBackend};
use crate::fact::Now;
use crate::health::BackendHealth;
use crate::memory::{KnownBackend, KnownWork, written};
use crate::operator::Override;
use crate::proven::WorkProof;
use crate::settings::BackendPlace;

impl TrackedBackend {
    /// What a restart should not lose, with what probes say; nothing of a local
    /// instance, which tells of its points by itself.
    pub(crate) fn memory(&self, health: Option<&BackendHealth>, now: Now) -> Option<KnownBackend> {
        let BackendPlace::Remote { address } = self.settings.kind else { return None };
        let Remote { descriptor, link, proof, .. } = self.remote.as_ref()?;
        let known = descriptor.memory(address, &self.offer, self.is_live(), now);
        let proven = link.work().filter(|_| proof.is_proven());
        Some(KnownBackend {
            work: proven.map(|said| KnownWork { said, at: written(now.wall) }),
            failing: health.map(BackendHealth::failing).unwrap_or_default(),
            broken: health.and_then(BackendHealth::broken).map(str::to_owned),
            ..known
        })
    }

    /// What was known of a remote backend before a restart.
    pub(crate) fn recall(&mut self, known: KnownBackend, now: Now) {
        let Some(remote) = &mut self.remote else { return };
        self.last_seen = known.descriptor.as_ref().map(|descriptor| descriptor.last_seen.0);
        let work = known.work.and_then(|work| work.recent(now.wall));
        if let Some(offer) = remote.descriptor.recall(known, now) {
            remote.described = offer.clone();
            self.offer = offer;
        }
        if let Some(said) = work {
            remote.link.recall(said, self.offer.points());
            remote.proof = WorkProof::recalled(remote.link.work());
        }
    }

    /// What the operator said of it before a restart.
    pub(crate) fn recall_operator(&mut self, said: Override) {
        self.operator = said.under(self.settings.weight);
    }
}
