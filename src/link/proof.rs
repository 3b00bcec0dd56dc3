//! How a publisher proves to a backend that it publishes an address.
//!
//! With a descriptor signing key and its certificate by the blinded key of the
//! period (rend-spec-v3, section 2.4, type 08), as in every descriptor: whoever may
//! publish the address can make one, also where the identity key is kept offline.
//! What is signed names the backend that is dialled and holds the [`Binding`] of
//! the circuit. So a backend cannot use it to be taken for the publisher by
//! another one, and nobody can use it again.
//!
//! It is sent as the host of the BEGIN cell, which onion services pass over: before
//! the stream is answered, so that to strangers the port is like any other.

use std::time::SystemTime;

use data_encoding::HEXLOWER;
use tor_cert::{CertType, Ed25519Cert};
use tor_checkable::{SelfSigned as _, TimeBound as _};
use tor_hscrypto::pk::HsIdKey;
use tor_hscrypto::time::TimePeriod;
use tor_llcrypto::pk::ed25519;

use crate::tor::binding::Binding;
use crate::tor::credentials::Credentials;
use crate::tor::hsdirs::from_arti;
use onionbraid_balancer::link::VERSION;
use onionbraid_balancer::onion::OnionAddress;

/// The length of a signature, in bytes.
const SIGNATURE: usize = 64;

/// The longest proof that is looked at, in characters: a cell holds no more.
const LONGEST: usize = 498;

/// What is signed.
fn signed(backend: &OnionAddress, secret: &[u8; 32]) -> Vec<u8> {
    [b"onionbraid control link\0".as_slice(), &[VERSION], backend.public_key(), secret].concat()
}

/// Proves on the circuit of this binding to this backend that we publish the
/// address of `credentials`. `None` if there are no keys for the period, or the binding
/// was used before.
pub(super) fn prove(
    credentials: &Credentials,
    period: TimePeriod,
    backend: &OnionAddress,
    binding: &Binding,
    now: SystemTime,
) -> Option<String> {
    let message = signed(backend, binding.take()?);
    let (signature, certificate) = credentials.signed(from_arti(period), &message, now)?;
    Some(HEXLOWER.encode(&[signature.as_slice(), &certificate].concat()))
}

/// Whether `proof` proves on the circuit of this binding to us, the backend, that
/// the other end publishes the address with the key `frontend`. It looks once at
/// each circuit.
pub(super) fn is_proven(
    proof: &[u8],
    frontend: &HsIdKey,
    periods: &[TimePeriod],
    backend: &OnionAddress,
    binding: &Binding,
    now: SystemTime,
) -> bool {
    let check = || {
        let proof = HEXLOWER.decode(proof).ok()?;
        let (signature, certificate) = proof.split_first_chunk::<SIGNATURE>()?;
        let message = signed(backend, binding.take()?);
        let certificate = Ed25519Cert::decode(certificate).ok()?;
        if certificate.peek_cert_type() != CertType::HS_BLINDED_ID_V_SIGNING {
            return None;
        }
        let blinded = periods.iter().filter_map(|period| {
            let (blinded, _) = frontend.compute_blinded_key(*period).ok()?;
            Some(ed25519::Ed25519Identity::from(<[u8; 32]>::from(blinded.id())))
        });
        let mut certified =
            blinded.filter_map(|blinded| certificate.clone().should_be_signed_with(&blinded).ok());
        let certificate = certified.next()?.check_signature().ok()?.if_valid_at(&now).ok()?;
        let key: ed25519::PublicKey = certificate.subject_key().as_ed25519()?.try_into().ok()?;
        key.verify(&message, &ed25519::Signature::from_bytes(signature)).ok()
    };
    proof.len() <= LONGEST && check().is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tor_hscrypto::pk::HsIdKeypair;

    use super::*;
    use crate::clock;

    /// How long the certificates of descriptors are valid.
    const VALID_FOR: Duration = Duration::from_hours(54);

    fn key(n: u8) -> Credentials {
        let key = ed25519::Keypair::from_bytes(&[n; 32]);
        Credentials::of_identity(HsIdKeypair::from(ed25519::ExpandedKeypair::from(&key)))
    }

    fn period(number: u64) -> TimePeriod {
        TimePeriod::from_parts(1440, number, 43_200)
    }

    fn address(n: u8) -> OnionAddress {
        OnionAddress::from_public_key([n; 32])
    }

    /// The two ends of one circuit have equal ones.
    fn binding(n: u8) -> Binding {
        Binding::new([n; 32])
    }

    const PERIOD: u64 = 20_000;

    fn proof(frontend: u8, backend: u8, circuit: u8) -> Vec<u8> {
        let (key, binding) = (key(frontend), binding(circuit));
        let now = clock::now().wall;
        let proof = prove(&key, period(PERIOD), &address(backend), &binding, now);
        assert_eq!(prove(&key, period(PERIOD), &address(backend), &binding, now), None);
        proof.unwrap().into_bytes()
    }

    /// Whether backend 2 takes it on circuit 3 for that of the publisher of 1.
    fn holds(proof: &[u8]) -> bool {
        holds_in(proof, &[period(PERIOD), period(PERIOD - 1)], clock::now().wall)
    }

    fn holds_in(proof: &[u8], periods: &[TimePeriod], now: SystemTime) -> bool {
        let frontend = key(1).public_key();
        is_proven(proof, &frontend, periods, &address(2), &binding(3), now)
    }

    #[test]
    fn the_publisher_of_the_frontend_proves_itself_to_the_backend_that_it_dials() {
        let proof = proof(1, 2, 3);
        assert!(holds(&proof));
        // It fits a cell, with the port and the flags, and survives being a host.
        assert!(proof.len() + ":65535\0".len() + 4 <= LONGEST);
        assert!(
            proof.iter().all(|byte| byte.is_ascii_alphanumeric() && !byte.is_ascii_uppercase())
        );
    }

    #[test]
    fn neither_another_key_nor_what_was_said_to_another_backend_or_on_another_circuit_is_one() {
        assert!(!holds(&proof(9, 2, 3)));
        assert!(!holds(&proof(1, 9, 3)), "relayed by a backend that was dialled");
        assert!(!holds(&proof(1, 2, 9)), "replayed");
    }

    #[test]
    fn a_certificate_of_another_period_or_time_is_none() {
        let proof = proof(1, 2, 3);
        let now = clock::now().wall;
        assert!(!holds_in(&proof, &[period(PERIOD + 1)], now));
        assert!(!holds_in(&proof, &[], now));
        assert!(!holds_in(&proof, &[period(PERIOD)], now + VALID_FOR + Duration::from_hours(2)));
        assert!(holds_in(&proof, &[period(PERIOD)], now + Duration::from_hours(3)));
    }

    #[test]
    fn no_bit_of_it_can_be_another_and_no_other_text_is_one() {
        let good = proof(1, 2, 3);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
            assert!(!holds(&bad), "{at}");
        }
        for bad in [&b""[..], b"facebook.com", &good[..good.len() - 2], &good[2..], &[b'0'; 498]] {
            assert!(!holds(bad));
        }
        assert!(!holds(&[&good[..], b"00"].concat()));
        assert!(!holds(good.to_ascii_uppercase().as_slice()));
    }

    #[test]
    fn one_circuit_is_looked_at_once() {
        let (frontend, ours) = (key(1).public_key(), binding(3));
        let now = clock::now().wall;
        let look =
            |proof: &[u8]| is_proven(proof, &frontend, &[period(PERIOD)], &address(2), &ours, now);
        assert!(!look(&proof(9, 2, 3)));
        assert!(!look(&proof(1, 2, 3)));
    }
}
