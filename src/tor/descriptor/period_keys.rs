//! What all descriptors of one address in one period have in common, whoever
//! signs them, and when.
//!
//! C tor makes these at the beginning of a period and keeps them in memory. Ours
//! follow from the identity key: HSDirs see neither a restart nor that there are
//! several publishers.

use cipher::{KeyIvInit as _, StreamCipher as _};
use digest::{ExtendableOutput as _, Update as _, XofReader as _};
use sha2::{Digest as _, Sha256};
use tor_hscrypto::Subcredential;
use tor_hscrypto::pk::HsIdKeypair;
use tor_llcrypto::cipher::aes::Aes256Ctr;
use tor_llcrypto::d::Shake256;
use tor_llcrypto::pk::{curve25519, ed25519};
use zeroize::Zeroizing;

use super::super::derived::{Derivation, named};
use onionbraid_balancer::onion::{IntroPoint, Period};

/// Tells these keys from any other that is derived from an identity.
const SALT: &[u8] = b"onionbraid descriptor keys v1";

/// C tor fills the list of authorized clients to multiples of so many
/// (`HS_DESC_AUTH_CLIENT_MULTIPLE`).
const CLIENTS_STEP: usize = 16;

/// An `auth-client` line (rend-spec-v3, section 2.5.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuthClient {
    pub(super) id: [u8; 8],
    pub(super) iv: [u8; 16],
    pub(super) cookie: [u8; 16],
}

/// The keys of one address in one period.
pub(super) struct PeriodKeys {
    /// Signs the descriptors and what is certified in them.
    pub(super) signing: ed25519::Keypair,
    /// `desc-auth-ephemeral-key`.
    ephemeral: curve25519::StaticSecret,
    /// The descriptor cookie, which authorized clients can decrypt.
    pub(super) cookie: Zeroizing<[u8; 16]>,
    /// Decides the order of points and clients.
    order: Zeroizing<[u8; 32]>,
    secrets: Secrets,
}

/// From which those of a period follow.
struct Secrets {
    derivation: Derivation,
    period: [[u8; 8]; 3],
}

impl Secrets {
    fn expanded<const N: usize>(&self, purpose: &[u8], n: u64) -> Zeroizing<[u8; N]> {
        let [number, length, offset] = &self.period;
        self.derivation.expanded(&[purpose, &n.to_be_bytes(), number, length, offset])
    }
}

impl PeriodKeys {
    /// Those of the address with this identity.
    pub(super) fn new(identity: &HsIdKeypair, period: Period) -> Self {
        let secrets = Secrets { derivation: Derivation::of(identity, SALT), period: named(period) };
        Self {
            signing: ed25519::Keypair::from_bytes(&secrets.expanded(b"signing key", 0)),
            ephemeral: curve25519::StaticSecret::from(*secrets.expanded(b"ephemeral key", 0)),
            cookie: secrets.expanded(b"cookie", 0),
            order: secrets.expanded(b"order", 0),
            secrets,
        }
    }

    /// The public half of `desc-auth-ephemeral-key`.
    pub(super) fn ephemeral(&self) -> curve25519::PublicKey {
        (&self.ephemeral).into()
    }

    /// The points in the order in which descriptors list them: an arbitrary one
    /// in which a point keeps its place, as in C tor's hash table.
    pub(super) fn in_order<'a>(&self, points: &'a [IntroPoint]) -> Vec<&'a IntroPoint> {
        let mut points: Vec<_> = points.iter().collect();
        points.sort_by_cached_key(|point| self.place(&point.session_id.0));
        points
    }

    /// The list of authorized clients, filled with what nobody can tell from them
    /// and shuffled (hs_service.c, `build_service_desc_superencrypted`). Without
    /// a client it is all of the kind that stands in.
    pub(super) fn clients(
        &self,
        clients: &[curve25519::PublicKey],
        subcredential: &Subcredential,
    ) -> Vec<AuthClient> {
        let lines = clients.len().max(1).next_multiple_of(CLIENTS_STEP);
        let mut all: Vec<_> = (0_u64..)
            .take(lines)
            .map(|n| AuthClient {
                id: *self.secrets.expanded(b"client id", n),
                iv: *self.secrets.expanded(b"client iv", n),
                cookie: *self.secrets.expanded(b"client cookie", n),
            })
            .collect();
        for (line, client) in all.iter_mut().zip(clients) {
            *line = self.authorized(client, line.iv, subcredential);
        }
        all.sort_by_cached_key(|client| self.place(&client.id));
        all
    }

    /// The line of a client (rend-spec-v3, section 2.5.1.2).
    fn authorized(
        &self,
        client: &curve25519::PublicKey,
        iv: [u8; 16],
        subcredential: &Subcredential,
    ) -> AuthClient {
        let shared = self.ephemeral.diffie_hellman(client);
        let mut kdf = Shake256::default();
        kdf.update(subcredential.as_ref());
        kdf.update(shared.as_bytes());
        let mut keys = kdf.finalize_xof();
        let (mut id, mut key) = ([0; 8], Zeroizing::new([0; 32]));
        keys.read(&mut id);
        keys.read(&mut *key);
        let mut cookie = *self.cookie;
        Aes256Ctr::new((&*key).into(), (&iv).into()).apply_keystream(&mut cookie);
        AuthClient { id, iv, cookie }
    }

    fn place(&self, what: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(*self.order).chain_update(what).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derivation_stays_as_it_is() {
        // Else HSDirs would see an update of the program as a change of the key,
        // and publishers of two releases would differ.
        let keypair = ed25519::Keypair::from_bytes(&[7; 32]);
        let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair));
        let period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 43_200 };
        let keys = PeriodKeys::new(&identity, period);
        let begins = |bytes: &[u8]| u32::from_be_bytes(*bytes.first_chunk().unwrap());
        let clients = keys.clients(&[], &[1; 32].into());
        assert_eq!(
            [
                begins(keys.signing.verifying_key().as_bytes()),
                begins(keys.ephemeral().as_bytes()),
                begins(&*keys.cookie),
                begins(&*keys.order),
                begins(&clients[0].id),
            ],
            [2_012_347_615, 4_221_859_214, 610_023_059, 3_151_080_427, 1_371_501_757]
        );
    }
}
