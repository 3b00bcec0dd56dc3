//! The text of a descriptor, byte for byte as C tor 0.4.9 writes it
//! (rend-spec-v3, sections 2.4 and 2.5; hs_descriptor.c, hs_service.c).
//!
//! Nearly all services are C tor's: what differs from theirs would name ours to
//! whoever knows an address.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Base64Unpadded, Encoding as _};
use tor_cert::{CertEncodeError, CertType, CertifiedKey, Ed25519Cert, EncodedEd25519Cert};
use tor_llcrypto::pk::keymanip::convert_curve25519_to_ed25519_public;
use tor_llcrypto::pk::{curve25519, ed25519};

use super::super::period_keys::{LIFETIME, Lock, NotCertified, PeriodKeys};
use super::layer::{Layer, Sealer};
use onionbraid_balancer::onion::{Access, Capabilities, IntroPoint};
use onionbraid_balancer::pow::Seed;

/// How long HSDirs may keep a descriptor, in minutes: what C tor and Arti write.
const LIFETIME_MINUTES: u16 = 180;

/// The middle layer is filled to multiples of so many bytes
/// (`HS_DESC_SUPERENC_PLAINTEXT_PAD_MULTIPLE`; Arti: 10,240).
const PADDING: usize = 10_000;

/// Base64 goes into lines of so many characters.
pub(super) const LINE: usize = 64;

/// What a descriptor says.
pub(super) struct Document<'a> {
    pub(super) keys: &'a PeriodKeys,
    pub(super) revision: u64,
    /// From when its certificates count.
    pub(super) as_of: SystemTime,
    pub(super) points: &'a [IntroPoint],
    pub(super) capabilities: &'a Capabilities,
    pub(super) puzzle: Option<PublishedPuzzle>,
    /// Who may read it.
    pub(super) access: &'a Access,
}

/// The `pow-params` (torspec hspow-spec, section "Parameter descriptor").
pub(super) struct PublishedPuzzle {
    pub(super) seed: Seed,
    pub(super) effort: u32,
    pub(super) expires: SystemTime,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("cannot certify a key")]
    Certificate(#[from] NotCertified),
    /// A key or the link specifiers of a point.
    #[error("an introduction point cannot be encoded")]
    Point,
}

impl Document<'_> {
    /// The document, encrypted with new salts and signed.
    pub(super) fn text(&self) -> Result<String, DocumentError> {
        let sealer = Sealer::new(self.keys, self.revision);
        let lock = self.keys.lock(self.access);
        let cookie = lock.cookie.as_deref();
        let inner = sealer.seal(&Layer::Inner { cookie }, self.inner()?.as_bytes());
        let middle = sealer.seal(&Layer::Middle, &padded(middle(&lock, &inner)));

        let signing = &self.keys.signing;
        let moment = UNIX_EPOCH + Duration::from_secs(self.seconds());
        let certificate = object("ED25519 CERT", &self.keys.certificate(moment)?);
        let revision = self.revision;
        let mut text = format!(
            "hs-descriptor 3\ndescriptor-lifetime {LIFETIME_MINUTES}\n\
             descriptor-signing-key-cert\n{certificate}revision-counter {revision}\n\
             superencrypted\n{}",
            object("MESSAGE", &middle)
        );
        let signed = ["Tor onion service descriptor sig v3", &text].concat();
        let signature = signing.sign(signed.as_bytes()).to_bytes();
        let _ = writeln!(text, "signature {}", Base64Unpadded::encode_string(&signature));
        Ok(text)
    }

    /// The inner layer (section 2.5.2.2).
    fn inner(&self) -> Result<String, DocumentError> {
        let mut text = String::from("create2-formats 2\n");
        if self.capabilities.single_onion {
            text.push_str("single-onion-service\n");
        }
        if let Some((versions, increment)) = &self.capabilities.flow_control {
            // C tor writes the versions alone, and knows no others.
            let known = "FlowCtrl=1-2".parse().unwrap_or_default();
            if let Some(versions) =
                versions.intersection(&known).to_string().strip_prefix("FlowCtrl=")
            {
                let _ = writeln!(text, "flow-control {versions} {increment}");
            }
        }
        if let Some(PublishedPuzzle { seed, effort, expires }) = &self.puzzle {
            let expires = humantime::format_rfc3339_seconds(*expires).to_string();
            let (seed, expires) = (Base64::encode_string(seed), expires.trim_end_matches('Z'));
            let _ = writeln!(text, "pow-params v1 {seed} {effort} {expires}");
        }
        // C tor has no such line: it is there only if every backend is Arti's.
        if !self.capabilities.protocols.is_empty() {
            let _ = writeln!(text, "proto {}", self.capabilities.protocols);
        }
        for point in self.keys.in_order(self.points) {
            self.point(point, &mut text)?;
        }
        Ok(text)
    }

    fn point(&self, point: &IntroPoint, text: &mut String) -> Result<(), DocumentError> {
        let count = u8::try_from(point.link_specifiers.len()).map_err(|_| DocumentError::Point)?;
        let mut link_specifiers = vec![count];
        for specifier in &point.link_specifiers {
            let length = u8::try_from(specifier.body.len()).map_err(|_| DocumentError::Point)?;
            link_specifiers.extend([specifier.kind, length]);
            link_specifiers.extend(&specifier.body);
        }
        let service_key = curve25519::PublicKey::from(point.service_ntor_key);
        // The sign bit is 0, whatever the key (section 2.5.2.2, `enc-key-cert`).
        let converted = convert_curve25519_to_ed25519_public(&service_key, 0);
        let converted = converted.ok_or(DocumentError::Point)?;
        let certified = |kind, key| self.certified(kind, key).map_err(NotCertified::from);
        let session = certified(CertType::HS_IP_V_SIGNING, point.session_id.0.into())?;
        let encryption = certified(CertType::HS_IP_CC_SIGNING, (&converted).into())?;
        let _ = write!(
            text,
            "introduction-point {}\nonion-key ntor {}\nauth-key\n{}enc-key ntor {}\nenc-key-cert\n{}",
            Base64::encode_string(&link_specifiers),
            Base64::encode_string(&point.relay_ntor_key),
            object("ED25519 CERT", session.as_ref()),
            Base64::encode_string(&point.service_ntor_key),
            object("ED25519 CERT", encryption.as_ref()),
        );
        Ok(())
    }

    /// From when its certificates count, as C tor counts: a part of a second would be
    /// another hour.
    fn seconds(&self) -> u64 {
        self.as_of.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// A certificate over a key of a point. It expires up to an hour before that
    /// over the signing key: C tor counts it from the beginning of the hour.
    fn certified(
        &self,
        kind: CertType,
        key: ed25519::Ed25519Identity,
    ) -> Result<EncodedEd25519Cert, CertEncodeError> {
        let hour = Duration::from_hours(self.seconds() / 3600);
        let signing = &self.keys.signing;
        Ed25519Cert::builder()
            .cert_type(kind)
            .expiration(UNIX_EPOCH + hour + LIFETIME)
            .signing_key(signing.verifying_key().into())
            .cert_key(CertifiedKey::Ed25519(key))
            .encode_and_sign(signing)
    }
}

/// The middle layer, before it is filled (section 2.5.1.2). It ends without a
/// newline.
pub(super) fn middle(lock: &Lock, inner: &[u8]) -> String {
    let key = Base64::encode_string(lock.ephemeral.as_bytes());
    let mut text = format!("desc-auth-type x25519\ndesc-auth-ephemeral-key {key}\n");
    for client in &lock.lines {
        let [id, iv, cookie] =
            [&client.id[..], &client.iv, &client.cookie].map(Base64Unpadded::encode_string);
        let _ = writeln!(text, "auth-client {id} {iv} {cookie}");
    }
    text.push_str("encrypted\n");
    text.push_str(object("MESSAGE", inner).trim_end());
    text
}

/// The middle layer, filled.
pub(super) fn padded(middle: String) -> Vec<u8> {
    let mut middle = middle.into_bytes();
    middle.resize(middle.len().next_multiple_of(PADDING), 0);
    middle
}

/// Bytes between a line that names them and one that ends them.
pub(super) fn object(name: &str, bytes: &[u8]) -> String {
    let encoded = Base64::encode_string(bytes);
    let mut text = format!("-----BEGIN {name}-----\n");
    let mut rest = encoded.as_str();
    while let Some((line, more)) = rest.split_at_checked(LINE) {
        let _ = writeln!(text, "{line}");
        rest = more;
    }
    if !rest.is_empty() {
        let _ = writeln!(text, "{rest}");
    }
    let _ = writeln!(text, "-----END {name}-----");
    text
}
