//! What is an identity key, whatever file it came from?
//!
//! Bytes in, a key or the reason why there is none out; no files. `file` reads
//! and writes them, `ctor`, `pem` and `openssh` know one format each.

use tor_hscrypto::pk::HsIdKeypair;
use tor_llcrypto::pk::ed25519::{ExpandedKeypair, Keypair, PublicKey};
use tor_llcrypto::rng::CautiousRng;
use zeroize::Zeroizing;

use onionbraid_balancer::onion::OnionAddress;

/// The secret identity key of an onion service (`KS_hs_id`).
pub struct IdentityKey {
    /// Scalar and hash prefix: what signs. Wiped when dropped.
    expanded: ExpandedKeypair,
    /// What they were made from, if that is known: a PEM file holds this.
    seed: Option<Zeroizing<[u8; 32]>>,
}

/// What a key file can hold.
#[expect(clippy::large_enum_variant, reason = "there is never more than one")]
pub enum Parsed {
    /// A secret key.
    Secret(IdentityKey),
    /// A public key, or an address written out.
    Public(OnionAddress),
}

/// Why bytes are no identity key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// None of the formats.
    #[error(
        "it is in no format that is known: there are C tor's hs_ed25519_secret_key, Ed25519 keys as \
         PEM (PKCS8) and the keys of Arti's keystore"
    )]
    Unknown,
    /// C tor's header announces something else.
    #[error("it begins with `{0}`, where C tor's key files begin with `{1}`")]
    Header(String, &'static str),
    /// C tor's header, then too little or too much.
    #[error("it has {found} bytes and should have {right}: it is damaged")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        right: usize,
    },
    /// RSA: a version 2 onion service.
    #[error(
        "it is the RSA key of a version 2 onion service: Tor has dropped those, and no version 3 \
         address can be made from it"
    )]
    Version2,
    /// PEM with a password.
    #[error(
        "it is protected by a password: take that off with `openssl pkey -in OLD -out NEW`, under \
         umask 077"
    )]
    Password,
    /// What `ssh-keygen` makes.
    #[error(
        "it is a key for SSH ({0}), and one that is used elsewhere should be no onion service's: \
         `onionbraid keys generate` makes one. Of OpenSSH's format only the keys of Arti's keystore \
         are read"
    )]
    Ssh(String),
    /// A secret key as tor's control port has it.
    #[error(
        "it is a key in base64, as tor's control port (ADD_ONION) has it. What C tor reads from a \
         file has a header and no base64: under umask 077, write `(printf '== ed25519v1-secret: type0 \
         ==\\0\\0\\0'; base64 -d) > hs_ed25519_secret_key` and give it what follows `ED25519-V3:`"
    )]
    Base64,
    /// A key file as a manifest of Kubernetes has it.
    #[error(
        "it is a whole key file in base64, as a Secret of Kubernetes is written out: under umask 077, \
         `base64 -d` makes the key file of it"
    )]
    FileInBase64,
    /// Another kind of key.
    #[error("it is {0}, where an Ed25519 key is needed")]
    OtherKind(String),
    /// The right format, and damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// A number that belongs to no usable key.
    #[error("it is no usable key: its public key is a point of small order")]
    Weak,
}

impl IdentityKey {
    /// A new key.
    pub fn generate() -> Self {
        let pair = Keypair::generate(&mut CautiousRng);
        Self { expanded: (&pair).into(), seed: Some(Zeroizing::new(pair.to_bytes())) }
    }

    /// The key that a seed stands for (RFC 8032, section 5.1.5).
    pub(super) fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let expanded = ExpandedKeypair::from(&Keypair::from_bytes(&seed));
        Self { expanded, seed: Some(seed) }
    }

    /// The key with this scalar and hash prefix. All 64 bytes are the key: they
    /// are nobody's seed.
    ///
    /// # Errors
    ///
    /// If the scalar is a multiple of the group's order.
    pub(super) fn from_expanded(bytes: &[u8; 64]) -> Result<Self, ParseError> {
        // The number may lie above the group's order and need not be clamped:
        // C tor and Arti alike take it modulo the order.
        let expanded = ExpandedKeypair::from_secret_key_bytes(*bytes).ok_or(ParseError::Weak)?;
        Self::from_pair(expanded)
    }

    /// The same for a key that is one already.
    pub(super) fn from_pair(expanded: ExpandedKeypair) -> Result<Self, ParseError> {
        match public_is_usable(&expanded.public().to_bytes()) {
            true => Ok(Self { expanded, seed: None }),
            false => Err(ParseError::Weak),
        }
    }

    /// The address of the service with this key.
    pub fn address(&self) -> OnionAddress {
        OnionAddress::from_public_key(self.expanded.public().to_bytes())
    }

    /// The public key.
    pub(super) fn public(&self) -> PublicKey {
        *self.expanded.public()
    }

    /// Signs with the whole of the key.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.expanded.sign(message).to_bytes()
    }

    /// Scalar and hash prefix.
    pub(super) fn expanded_bytes(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.expanded.to_secret_key_bytes())
    }

    /// The seed, if it is known. It cannot be computed from the rest.
    pub(super) fn seed(&self) -> Option<&[u8; 32]> {
        self.seed.as_deref()
    }
}

impl From<IdentityKey> for HsIdKeypair {
    fn from(key: IdentityKey) -> Self {
        key.expanded.into()
    }
}

/// Takes a key from the keystore.
impl From<HsIdKeypair> for IdentityKey {
    fn from(key: HsIdKeypair) -> Self {
        Self { expanded: key.into(), seed: None }
    }
}

/// The address that a public key stands for.
pub(super) fn address_of(public: [u8; 32]) -> Result<OnionAddress, ParseError> {
    PublicKey::from_bytes(&public)
        .map_err(|_| ParseError::Damaged("these bytes are no public key".to_owned()))?;
    match public_is_usable(&public) {
        true => Ok(OnionAddress::from_public_key(public)),
        false => Err(ParseError::Weak),
    }
}

/// Whether clients can check signatures with this key: not with a point of
/// small order.
fn public_is_usable(public: &[u8; 32]) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(public).is_ok_and(|key| !key.is_weak())
}
