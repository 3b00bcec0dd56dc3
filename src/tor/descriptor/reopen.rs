//! A descriptor of our own that only clients may read, read without being one: its
//! publisher knows the cookie that clients decrypt.
//!
//! Arti's parser asks for the key of a client. So what is in the descriptor is put
//! into one for everybody, which never leaves the process.

use std::fmt::Write as _;

use super::super::period_keys::PeriodKeys;
use super::document::{LINE, middle, object, padded};
use super::layer::{Layer, Sealer};
use base64ct::{Base64, Base64Unpadded, Decoder, Encoding as _};
use onionbraid_balancer::onion::Access;

/// How the encrypted part of a layer begins and ends.
const BEGIN: &str = "-----BEGIN MESSAGE-----\n";
/// See [`BEGIN`].
const END: &str = "-----END MESSAGE-----";

impl PeriodKeys {
    /// A descriptor that says the same to everybody as this one says to these clients;
    /// `None` if it was not made with these keys, for these clients. Its signature has
    /// to have been checked.
    pub(super) fn reopened(&self, text: &str, access: &Access) -> Option<String> {
        let lock = self.lock(access);
        let cookie = lock.cookie.as_deref()?;
        let (head, _) = text.split_once(BEGIN)?;
        let revision = head.lines().find_map(|line| line.strip_prefix("revision-counter "));
        let revision = revision?.parse().ok()?;
        let sealer = Sealer::new(self, revision);
        let outer = sealer.open(&Layer::Middle, &message(text)?)?;
        let outer = String::from_utf8(outer).ok()?;
        let inner = sealer.open(&Layer::Inner { cookie: Some(cookie) }, &message(&outer)?)?;

        let open = self.lock(&Access::Everybody);
        let inner = sealer.seal(&Layer::Inner { cookie: None }, &inner);
        let outer = sealer.seal(&Layer::Middle, &padded(middle(&open, &inner)));
        let mut reopened = format!("{head}{}", object("MESSAGE", &outer));
        let signed = ["Tor onion service descriptor sig v3", &reopened].concat();
        let signature = self.signing.sign(signed.as_bytes()).to_bytes();
        let _ = writeln!(reopened, "signature {}", Base64Unpadded::encode_string(&signature));
        Some(reopened)
    }
}

/// The bytes of the first message in a layer.
fn message(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(BEGIN)?;
    let (encoded, _) = rest.split_once(END)?;
    let mut decoder = Decoder::<Base64>::new_wrapped(encoded.trim_end().as_bytes(), LINE).ok()?;
    let mut bytes = vec![0; decoder.remaining_len()];
    decoder.decode(&mut bytes).ok()?;
    Some(bytes)
}
