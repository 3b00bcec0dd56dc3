//! The certificates by which a blinded key vouches for a descriptor signing key
//! (rend-spec-v3, section 2.4, type 08): made when one is needed, or one for each hour
//! of a period in advance.
//!
//! C tor and Arti make one for each descriptor, which expires 54 hours later in whole
//! hours. HSDirs see that, so those that are made in advance are the same, byte for
//! byte.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tor_cert::{CertEncodeError, CertType, Ed25519Cert};
use tor_checkable::{SelfSigned as _, TimeBound as _};
use tor_hscrypto::pk::HsBlindIdKeypair;
use tor_llcrypto::pk::ed25519;
use tor_netdoc::doc::hsdesc::create_desc_sign_key_cert;

use onionbraid_balancer::onion::Period;

/// How long the certificates in a descriptor are valid: what C tor and Arti use.
pub(in crate::tor) const LIFETIME: Duration = Duration::from_hours(54);

/// Beyond half a period, in which a descriptor is published before and after it,
/// certificates reach so far: clocks differ, and a consensus is used for some hours.
const SPARE: Duration = Duration::from_hours(6);

/// The length of one, in bytes.
pub(in crate::tor) const LENGTH: usize = 140;

/// Where in it is until when it is valid, in hours since 1970 (cert-spec, section 2.1).
const EXPIRY: std::ops::Range<usize> = 2..6;

/// Where its signature begins.
const SIGNATURE: usize = LENGTH - 64;

/// What certifies the descriptor signing key of one period.
pub(in crate::tor) enum Certificates {
    /// The blinded key.
    Key(Box<HsBlindIdKeypair>),
    /// Certificates that it has made.
    Made(Made),
}

/// One certificate for each hour.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::tor) struct Made {
    /// The hour since 1970 in which the first expires; the others follow.
    pub(in crate::tor) first: u32,
    pub(in crate::tor) all: Vec<[u8; LENGTH]>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(in crate::tor) enum NotCertified {
    #[error(transparent)]
    Encode(#[from] CertEncodeError),
    /// None was made for this hour.
    #[error("there is no certificate for this hour: is the clock right?")]
    NotMade,
}

/// Until when a certificate is valid that is needed at a moment, in hours since 1970.
fn expiry_hour(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    since.div_ceil(3600) + LIFETIME.as_secs() / 3600
}

/// The hours since 1970 in which certificates expire that may be needed for a period.
fn hours(period: Period) -> std::ops::RangeInclusive<u64> {
    let beside = period.part(2) + SPARE;
    let first = expiry_hour(period.begins().checked_sub(beside).unwrap_or(UNIX_EPOCH));
    first..=expiry_hour(period.ends() + beside)
}

impl Certificates {
    /// The one for a descriptor of this moment, in whole seconds.
    pub(super) fn at(
        &self,
        signing: &ed25519::Keypair,
        moment: SystemTime,
    ) -> Result<Vec<u8>, NotCertified> {
        match self {
            Self::Key(blinded) => made_by(blinded, signing, expiry_hour(moment)),
            Self::Made(made) => {
                let index = expiry_hour(moment).checked_sub(made.first.into());
                let index = index.and_then(|index| usize::try_from(index).ok());
                let found = index.and_then(|index| made.all.get(index));
                found.map(|it| it.to_vec()).ok_or(NotCertified::NotMade)
            }
        }
    }
}

fn made_by(
    blinded: &HsBlindIdKeypair,
    signing: &ed25519::Keypair,
    expiry_hour: u64,
) -> Result<Vec<u8>, NotCertified> {
    let expiry = UNIX_EPOCH + Duration::from_hours(expiry_hour);
    let made = create_desc_sign_key_cert(&signing.verifying_key(), blinded, expiry)?;
    Ok(made.as_ref().to_vec())
}

impl Made {
    /// Those for all moments at which a descriptor of this period may be published.
    pub(in crate::tor) fn by(
        blinded: &HsBlindIdKeypair,
        signing: &ed25519::Keypair,
        period: Period,
    ) -> Result<Self, NotCertified> {
        let hours = hours(period);
        let first = *hours.start();
        let made = hours.map(|hour| {
            let made = made_by(blinded, signing, hour)?;
            made.try_into().map_err(|_| NotCertified::NotMade)
        });
        let all = made.collect::<Result<_, NotCertified>>()?;
        Ok(Self { first: u32::try_from(first).map_err(|_| NotCertified::NotMade)?, all })
    }

    /// Whether the blinded key of the period has made them for this signing key, each for
    /// its hour. The length of the period is in that key, its beginning is not. The
    /// signatures of the first and the last are checked: they belong together.
    pub(in crate::tor) fn are_by(
        &self,
        blinded: ed25519::Ed25519Identity,
        signing: &ed25519::Keypair,
        period: Period,
    ) -> bool {
        let hours = hours(period);
        let reached = u64::from(self.first) + self.all.len() as u64;
        if u64::from(self.first) != *hours.start() || reached != hours.end() + 1 {
            return false;
        }
        let (Some(first), Some(last)) = (self.all.first(), self.all.last()) else { return false };
        let subject = ed25519::Ed25519Identity::from(signing.verifying_key());
        let good = |bytes: &[u8; LENGTH]| {
            let certificate = Ed25519Cert::decode(bytes).ok()?;
            if certificate.peek_cert_type() != CertType::HS_BLINDED_ID_V_SIGNING {
                return None;
            }
            let certificate = certificate.should_be_signed_with(&blinded).ok()?;
            let certificate = certificate.check_signature().ok()?.dangerously_assume_timely();
            (certificate.subject_key().as_ed25519() == Some(&subject)).then_some(())
        };
        let hour =
            |bytes: &[u8; LENGTH]| bytes[EXPIRY].iter().fold(0, |n, it| n << 8 | u32::from(*it));
        let alike = |(bytes, n): (&[u8; LENGTH], u32)| {
            Some(hour(bytes)) == self.first.checked_add(n)
                && bytes[..EXPIRY.start] == first[..EXPIRY.start]
                && bytes[EXPIRY.end..SIGNATURE] == first[EXPIRY.end..SIGNATURE]
        };
        self.all.iter().zip(0..).all(alike) && good(first).is_some() && good(last).is_some()
    }
}

#[cfg(test)]
mod tests {
    use tor_hscrypto::pk::HsIdKeypair;
    use tor_hscrypto::time::TimePeriod;

    use super::*;

    const PERIOD: Period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 43_200 };

    fn blinded(n: u8) -> HsBlindIdKeypair {
        let identity = ed25519::Keypair::from_bytes(&[n; 32]);
        let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&identity));
        let period = TimePeriod::from_parts(1440, PERIOD.number, 43_200);
        identity.compute_blinded_key(period).unwrap().1
    }

    fn public(blinded: &HsBlindIdKeypair) -> ed25519::Ed25519Identity {
        let key: &ed25519::ExpandedKeypair = blinded.as_ref();
        (*key.public()).into()
    }

    #[test]
    fn those_made_in_advance_are_those_made_at_the_moment() {
        let signing = ed25519::Keypair::from_bytes(&[8; 32]);
        let key = blinded(7);
        let made = Made::by(&key, &signing, PERIOD).unwrap();
        assert_eq!(made.all.len(), 61);
        assert!(made.are_by(public(&key), &signing, PERIOD));
        let (key, made) = (Certificates::Key(Box::new(key)), Certificates::Made(made));
        let begins = PERIOD.begins();
        for seconds in [0, 1, 3599, 3600, 3601, 86_400, 2 * 86_400, 60 * 3600] {
            let moment = begins - Duration::from_hours(18) + Duration::from_secs(seconds);
            assert_eq!(
                made.at(&signing, moment).unwrap(),
                key.at(&signing, moment).unwrap(),
                "{seconds}"
            );
        }
        for moment in [begins - Duration::from_hours(20), begins + Duration::from_hours(43)] {
            assert!(matches!(made.at(&signing, moment), Err(NotCertified::NotMade)));
        }
    }

    #[test]
    fn those_of_another_key_or_of_another_hour_are_told() {
        let signing = ed25519::Keypair::from_bytes(&[8; 32]);
        let key = blinded(7);
        let made = || Made::by(&key, &signing, PERIOD).unwrap();
        assert!(!made().are_by(public(&blinded(9)), &signing, PERIOD));
        assert!(!made().are_by(public(&key), &ed25519::Keypair::from_bytes(&[9; 32]), PERIOD));
        let mut missing = made();
        missing.all.remove(30);
        assert!(!missing.are_by(public(&key), &signing, PERIOD));
        let mut late = made();
        late.first += 1;
        assert!(!late.are_by(public(&key), &signing, PERIOD));
        let mut other = made();
        other.all[30][60] ^= 1;
        assert!(!other.are_by(public(&key), &signing, PERIOD));
        assert!(!Made { first: 0, all: Vec::new() }.are_by(public(&key), &signing, PERIOD));
    }
}
