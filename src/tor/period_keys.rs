//! What all descriptors of one address in one period have in common, whoever
//! signs them, and when.
//!
//! C tor makes these at the beginning of a period and keeps them in memory. Ours
//! follow from the identity key: HSDirs see neither a restart nor that there are
//! several publishers. Nothing of it leads back to the identity key but the blinded
//! key, which a publisher with a bundle does not have.

mod certificates;
mod revision;

use std::time::SystemTime;

use cipher::{KeyIvInit as _, StreamCipher as _};
use digest::{ExtendableOutput as _, Update as _, XofReader as _};
use sha2::{Digest as _, Sha256};
use tor_hscrypto::Subcredential;
use tor_hscrypto::pk::{HsBlindId, HsIdKeypair};
use tor_llcrypto::cipher::aes::Aes256Ctr;
use tor_llcrypto::d::Shake256;
use tor_llcrypto::pk::keymanip::BlindingError;
use tor_llcrypto::pk::{curve25519, ed25519};
use zeroize::Zeroizing;

use super::derived::{Derivation, named};
use super::values::to_arti;
pub(super) use certificates::{Certificates, LENGTH, LIFETIME, Made, NotCertified};
use onionbraid_balancer::onion::{Access, IntroPoint, Period};
pub(super) use revision::RevisionKey;

/// Tells these keys from any other that is derived from an identity.
const SALT: &[u8] = b"onionbraid descriptor keys v1";

/// C tor fills the list of authorized clients to multiples of so many
/// (`HS_DESC_AUTH_CLIENT_MULTIPLE`).
pub(super) const CLIENTS_STEP: usize = 16;

/// An `auth-client` line (rend-spec-v3, section 2.5.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuthClient {
    pub(super) id: [u8; 8],
    pub(super) iv: [u8; 16],
    pub(super) cookie: [u8; 16],
}

/// The keys of one address in one period.
pub(super) struct PeriodKeys {
    pub(super) period: Period,
    /// Under which name HSDirs store the descriptor.
    pub(super) blinded: HsBlindId,
    /// The key to its encryption.
    pub(super) subcredential: Subcredential,
    /// Signs the descriptors and what is certified in them.
    pub(super) signing: ed25519::Keypair,
    /// Vouches for that key.
    pub(super) certificates: Certificates,
    /// Counts the descriptors.
    pub(super) revision: RevisionKey,
    /// Decides the order of points and clients.
    pub(super) order: Zeroizing<[u8; 32]>,
    /// What the middle layer says where everybody may read the inner one.
    pub(super) open: Lock,
    /// From which it follows where only clients may.
    pub(super) restricted: Derivation,
}

/// What the middle layer says of who may read the inner one.
#[derive(Clone)]
pub(super) struct Lock {
    /// `desc-auth-ephemeral-key`.
    pub(super) ephemeral: curve25519::PublicKey,
    /// The `auth-client` lines.
    pub(super) lines: Vec<AuthClient>,
    /// The descriptor cookie, which authorized clients can decrypt; `None` where
    /// everybody may read.
    pub(super) cookie: Option<Zeroizing<[u8; 16]>>,
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
    pub(super) fn new(identity: &HsIdKeypair, period: Period) -> Result<Self, BlindingError> {
        let (public, blinded, subcredential) = identity.compute_blinded_key(to_arti(period))?;
        let secrets = Secrets { derivation: Derivation::of(identity, SALT), period: named(period) };
        let ephemeral = curve25519::StaticSecret::from(*secrets.expanded(b"ephemeral key", 0));
        let decoy = |n| AuthClient {
            id: *secrets.expanded(b"client id", n),
            iv: *secrets.expanded(b"client iv", n),
            cookie: *secrets.expanded(b"client cookie", n),
        };
        let lines = (0_u64..).take(CLIENTS_STEP).map(decoy).collect();
        let mut keys = Self {
            period,
            blinded: public.id(),
            subcredential,
            revision: RevisionKey::of(&blinded),
            certificates: Certificates::Key(Box::new(blinded)),
            signing: ed25519::Keypair::from_bytes(&secrets.expanded(b"signing key", 0)),
            order: secrets.expanded(b"order", 0),
            open: Lock { ephemeral: (&ephemeral).into(), lines, cookie: None },
            restricted: Derivation::from_secret(secrets.expanded(b"restricted discovery", 0)),
        };
        let mut lines = std::mem::take(&mut keys.open.lines);
        lines.sort_by_cached_key(|client| keys.place(&client.id));
        keys.open.lines = lines;
        Ok(keys)
    }

    /// The certificate for a descriptor of this moment.
    pub(super) fn certificate(&self, moment: SystemTime) -> Result<Vec<u8>, NotCertified> {
        self.certificates.at(&self.signing, moment)
    }

    /// The points in the order in which descriptors list them: an arbitrary one
    /// in which a point keeps its place, as in C tor's hash table.
    pub(super) fn in_order<'a>(&self, points: &'a [IntroPoint]) -> Vec<&'a IntroPoint> {
        let mut points: Vec<_> = points.iter().collect();
        points.sort_by_cached_key(|point| self.place(&point.session_id.0));
        points
    }

    /// What the middle layer says where these may read: the list of authorized
    /// clients, filled with what nobody can tell from them and shuffled
    /// (hs_service.c, `build_service_desc_superencrypted`). Where everybody may, it
    /// is all of the kind that stands in.
    ///
    /// Every key of it is another one for every other list of clients. Who was on
    /// the list before knows the cookie of then; and of two cookies encrypted with
    /// one key and one IV, who knows one knows the other.
    pub(super) fn lock(&self, access: &Access) -> Lock {
        let clients = match access {
            Access::Everybody => return self.open.clone(),
            Access::Clients(clients) => clients,
        };
        let list = clients.iter().fold(Sha256::new(), |list, it| list.chain_update(it.as_bytes()));
        let list: [u8; 32] = list.finalize().into();
        let ephemeral: Zeroizing<[u8; 32]> = self.restricted.expanded(&[b"ephemeral key", &list]);
        let ephemeral = curve25519::StaticSecret::from(*ephemeral);
        let cookie: Zeroizing<[u8; 16]> = self.restricted.expanded(&[b"cookie", &list]);
        let count = clients.len().max(1).next_multiple_of(CLIENTS_STEP);
        let decoys = (0_u64..).take(count).map(|n| {
            let n = n.to_be_bytes();
            AuthClient {
                id: *self.restricted.expanded(&[b"client id", &list, &n]),
                iv: *self.restricted.expanded(&[b"client iv", &list, &n]),
                cookie: *self.restricted.expanded(&[b"client cookie", &list, &n]),
            }
        });
        let mut lines: Vec<_> = decoys.collect();
        for (line, client) in lines.iter_mut().zip(clients) {
            let client = curve25519::PublicKey::from(*client.as_bytes());
            let shared = ephemeral.diffie_hellman(&client);
            *line = authorized(&shared, line.iv, &cookie, &self.subcredential);
        }
        lines.sort_by_cached_key(|client| self.place(&client.id));
        Lock { ephemeral: (&ephemeral).into(), lines, cookie: Some(cookie) }
    }

    fn place(&self, what: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(*self.order).chain_update(what).finalize().into()
    }
}

/// The line of a client, with which the ephemeral key shares a secret (rend-spec-v3,
/// section 2.5.1.2).
fn authorized(
    shared: &curve25519::SharedSecret,
    iv: [u8; 16],
    cookie: &[u8; 16],
    subcredential: &Subcredential,
) -> AuthClient {
    let mut kdf = Shake256::default();
    kdf.update(subcredential.as_ref());
    kdf.update(shared.as_bytes());
    let mut keys = kdf.finalize_xof();
    let (mut id, mut key) = ([0; 8], Zeroizing::new([0; 32]));
    keys.read(&mut id);
    keys.read(&mut *key);
    let mut cookie = *cookie;
    Aes256Ctr::new((&*key).into(), (&iv).into()).apply_keystream(&mut cookie);
    AuthClient { id, iv, cookie }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onionbraid_balancer::onion::ClientKey;

    #[test]
    fn the_derivation_stays_as_it_is() {
        // Else HSDirs would see an update of the program as a change of the key,
        // and publishers of two releases would differ.
        let keypair = ed25519::Keypair::from_bytes(&[7; 32]);
        let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair));
        let period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 43_200 };
        let keys = PeriodKeys::new(&identity, period).unwrap();
        let begins = |bytes: &[u8]| u32::from_be_bytes(*bytes.first_chunk().unwrap());
        let lock = keys.lock(&Access::Everybody);
        assert_eq!(
            [
                begins(keys.signing.verifying_key().as_bytes()),
                begins(lock.ephemeral.as_bytes()),
                begins(&*keys.order),
                begins(&lock.lines[0].id),
            ],
            [2_012_347_615, 4_221_859_214, 3_151_080_427, 1_371_501_757]
        );
    }

    #[test]
    fn what_clients_of_before_know_says_nothing_of_what_others_get() {
        let keypair = ed25519::Keypair::from_bytes(&[7; 32]);
        let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair));
        let period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 43_200 };
        let keys = PeriodKeys::new(&identity, period).unwrap();
        let lock = |clients: &[u8]| {
            let clients = clients.iter().map(|n| ClientKey::new([*n; 32]).unwrap());
            keys.lock(&Access::Clients(clients.collect()))
        };
        let (before, after, same) = (lock(&[2, 3]), lock(&[3]), lock(&[3]));
        assert_eq!(after.lines, same.lines, "publishers of one key agree");
        assert_ne!(before.ephemeral.as_bytes(), after.ephemeral.as_bytes());
        assert_ne!(before.cookie, after.cookie);
        for line in &before.lines {
            assert!(!after.lines.iter().any(|it| it.id == line.id || it.iv == line.iv));
        }
        let open = keys.lock(&Access::Everybody);
        assert!(open.cookie.is_none());
        assert_ne!(open.ephemeral.as_bytes(), before.ephemeral.as_bytes());
    }
}
