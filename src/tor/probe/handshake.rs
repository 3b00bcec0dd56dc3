//! The client's part of the handshake with an onion service (hs-ntor,
//! rend-spec-v3, section 3.3), with introductions as long as C tor's.
//!
//! That of `tor-proto` fills every introduction to 490 bytes, where those of
//! nearly all clients have 310: the relays at which backends are probed would
//! tell probes from visitors.

use cipher::{KeyIvInit as _, StreamCipher as _};
use digest::{ExtendableOutput as _, Update as _, XofReader as _};
use tor_bytes::SecretBuf;
use tor_hscrypto::Subcredential;
use tor_hscrypto::ops::hs_mac;
use tor_llcrypto::cipher::aes::Aes256Ctr;
use tor_llcrypto::d::Shake256;
use tor_llcrypto::pk::curve25519;
use tor_llcrypto::util::ct::CtByteArray;
use tor_proto::client::circuit::handshake::hs_ntor::HsNtorHkdfKeyGenerator;
use zeroize::Zeroizing;

const PROTOCOL: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1";
const EXTRACT: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1:hs_key_extract";
const EXPAND: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1:hs_key_expand";
const VERIFY: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1:hs_verify";
const MAC: &[u8] = b"tor-hs-ntor-curve25519-sha3-256-1:hs_mac";

/// The header and what is encrypted have at least so many bytes together
/// (`HS_CELL_INTRODUCE1_MIN_SIZE`); a key and a MAC come on top.
const FILLED_TO: usize = 246;

/// The answer proves nothing of who answers for the address.
#[derive(Debug, thiserror::Error)]
#[error("the responder could not prove its identity")]
pub(super) struct Unproven;

/// A handshake that is under way.
pub(super) struct Handshake {
    secret: curve25519::StaticSecret,
    /// The public half, `X`.
    public: curve25519::PublicKey,
    /// The key of the service at the point, `B`.
    service: curve25519::PublicKey,
    /// `AUTH_KEY`.
    session_id: [u8; 32],
    subcredential: Subcredential,
}

impl Handshake {
    /// A new one with the service at a point.
    pub(super) fn new(
        service: curve25519::PublicKey,
        session_id: [u8; 32],
        subcredential: Subcredential,
    ) -> Self {
        let secret = curve25519::StaticSecret::random_from_rng(crate::tor::rng());
        let public = (&secret).into();
        Self { secret, public, service, session_id, subcredential }
    }

    /// The encrypted part of the INTRODUCE1 message with this header.
    pub(super) fn introduction(&self, header: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut kdf = Shake256::default();
        kdf.update(self.secret.diffie_hellman(&self.service).as_bytes());
        for part in
            [&self.session_id, self.public.as_bytes(), self.service.as_bytes(), PROTOCOL, EXTRACT]
        {
            kdf.update(part);
        }
        kdf.update(EXPAND);
        kdf.update(self.subcredential.as_ref());
        let mut keys = kdf.finalize_xof();
        let (mut key, mut mac_key) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        keys.read(&mut *key);
        keys.read(&mut *mac_key);

        let mut encrypted = plaintext.to_vec();
        let filled_to = FILLED_TO.saturating_sub(header.len());
        encrypted.resize(encrypted.len().max(filled_to), 0);
        Aes256Ctr::new((&*key).into(), &[0; 16].into()).apply_keystream(&mut encrypted);
        let mut message = [self.public.as_bytes(), &encrypted[..]].concat();
        let mac = hs_mac(&*mac_key, &[header, &message].concat());
        message.extend_from_slice(mac.as_ref());
        message
    }

    /// The keys of the circuit, if whoever sent the RENDEZVOUS2 message with this
    /// handshake is the service.
    pub(super) fn finish(&self, handshake: &[u8]) -> Result<HsNtorHkdfKeyGenerator, Unproven> {
        let (answered, rest) = handshake.split_first_chunk::<32>().ok_or(Unproven)?;
        // What follows the MAC fills the message.
        let proof = rest.first_chunk::<32>().ok_or(Unproven)?;
        let answered = curve25519::PublicKey::from(*answered);
        let mut input = SecretBuf::new();
        input.extend_from_slice(self.secret.diffie_hellman(&answered).as_bytes());
        input.extend_from_slice(self.secret.diffie_hellman(&self.service).as_bytes());
        input.extend_from_slice(&self.session_id);
        for part in [&self.service, &self.public, &answered] {
            input.extend_from_slice(part.as_bytes());
        }
        input.extend_from_slice(PROTOCOL);

        let verify = hs_mac(&input, VERIFY);
        let auth: [&[u8]; 7] = [
            verify.as_ref(),
            &self.session_id,
            self.service.as_bytes(),
            answered.as_bytes(),
            self.public.as_bytes(),
            PROTOCOL,
            b"Server",
        ];
        let expected = hs_mac(&auth.concat(), MAC);
        if expected != CtByteArray::from(*proof) {
            return Err(Unproven);
        }
        let mut seed = SecretBuf::new();
        seed.extend_from_slice(hs_mac(&input, EXTRACT).as_ref());
        seed.extend_from_slice(EXPAND);
        Ok(HsNtorHkdfKeyGenerator::new(seed))
    }
}

#[cfg(test)]
mod tests {
    use tor_hscrypto::pk::HsSvcNtorKeypair;
    use tor_llcrypto::pk::ed25519;
    use tor_proto::client::circuit::handshake::KeyGenerator as _;
    use tor_proto::client::circuit::handshake::hs_ntor::server_receive_intro;

    use super::*;

    /// A service of Arti's, and a client's handshake with it.
    fn pair() -> (HsSvcNtorKeypair, ed25519::PublicKey, Handshake) {
        let service = HsSvcNtorKeypair::generate(&mut crate::tor::rng());
        let session = ed25519::Keypair::generate(&mut crate::tor::rng()).verifying_key();
        let key = curve25519::PublicKey::from(service.public().to_bytes());
        let handshake = Handshake::new(key, session.to_bytes(), [7; 32].into());
        (service, session, handshake)
    }

    #[test]
    fn artis_service_reads_an_introduction_as_long_as_c_tors_and_both_get_the_same_keys() {
        let (service, session, handshake) = pair();
        let header = [1; 56];
        let message = handshake.introduction(&header, b"payload");
        assert_eq!(header.len() + message.len(), 310);
        let acceptable = [[6; 32].into(), [7; 32].into()];
        let (keys, reply, read) = server_receive_intro(
            &mut crate::tor::rng(),
            &service,
            &session.into(),
            &acceptable,
            &header,
            &message,
        )
        .unwrap();
        assert!(read.starts_with(b"payload") && read[7..].iter().all(|byte| *byte == 0));
        let filled = [&reply[..], &[9; 84]].concat();
        let ours = handshake.finish(&filled).unwrap().expand(100).unwrap();
        assert_eq!(&ours[..], &keys.expand(100).unwrap()[..]);
    }

    #[test]
    fn an_answer_of_somebody_else_or_cut_short_proves_nothing() {
        let (service, session, handshake) = pair();
        let message = handshake.introduction(&[1; 56], b"payload");
        let answer = |subcredential: [u8; 32], session: ed25519::PublicKey| {
            server_receive_intro(
                &mut crate::tor::rng(),
                &service,
                &session.into(),
                &[subcredential.into()],
                &[1; 56],
                &message,
            )
            .ok()
        };
        assert!(answer([8; 32], session).is_none());
        let (_, mut reply, _) = answer([7; 32], session).unwrap();
        assert!(handshake.finish(&reply[..63]).is_err());
        assert!(handshake.finish(&[]).is_err());
        reply[40] ^= 1;
        assert!(handshake.finish(&reply).is_err());
    }

    #[test]
    fn what_is_longer_than_the_filling_goes_as_it_is() {
        let (_, _, handshake) = pair();
        assert_eq!(handshake.introduction(&[1; 56], &[0; 300]).len(), 364);
    }
}
