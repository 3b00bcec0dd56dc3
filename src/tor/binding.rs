//! A secret that the two ends of one circuit between a client and an onion service
//! have, and nobody else.
//!
//! The handshake of a rendezvous (rend-spec-v3, section 4) gives both ends a seed,
//! from which a SHAKE makes the keys of the circuit. What comes after them is used
//! by nobody: the binding. Who signs it signs for this circuit alone, so a
//! signature can be neither replayed nor passed on to another circuit.

use std::sync::atomic::{AtomicBool, Ordering};

use tor_bytes::SecretBuf;
use tor_proto::client::circuit::handshake::KeyGenerator;
use zeroize::Zeroizing;

/// Its length in bytes.
const LENGTH: usize = 32;

/// The secret of one circuit.
pub(crate) struct Binding {
    secret: Zeroizing<[u8; LENGTH]>,
    /// Whether it was taken.
    taken: AtomicBool,
}

/// Makes the keys of a circuit, and its binding.
pub(crate) struct Exporting<'a, K> {
    keys: K,
    binding: &'a mut Option<Binding>,
}

impl Binding {
    pub(crate) fn new(secret: [u8; LENGTH]) -> Self {
        Self { secret: Zeroizing::new(secret), taken: AtomicBool::new(false) }
    }

    /// The secret, once: what is signed on a circuit is looked at once, so that a
    /// client cannot have us verify without end.
    pub(crate) fn take(&self) -> Option<&[u8; LENGTH]> {
        (!self.taken.swap(true, Ordering::Relaxed)).then_some(&*self.secret)
    }
}

impl<'a, K: KeyGenerator> Exporting<'a, K> {
    /// The keys that `keys` makes; the binding is put where it says.
    pub(crate) fn new(keys: K, binding: &'a mut Option<Binding>) -> Self {
        Self { keys, binding }
    }
}

impl<K: KeyGenerator> KeyGenerator for Exporting<'_, K> {
    fn expand(self, length: usize) -> tor_proto::Result<SecretBuf> {
        let all = self.keys.expand(length + LENGTH)?;
        let (keys, secret) = all.split_at(length.min(all.len()));
        *self.binding = secret.try_into().ok().map(Binding::new);
        Ok(keys.to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use tor_proto::client::circuit::handshake::hs_ntor::HsNtorHkdfKeyGenerator;

    use super::*;

    #[test]
    fn the_keys_are_those_that_the_circuit_has_without_it_and_the_binding_is_taken_once() {
        let keys = || HsNtorHkdfKeyGenerator::new(vec![7; 32].into());
        let mut bindings = [None, None];
        for binding in &mut bindings {
            let made = Exporting::new(keys(), binding).expand(148).unwrap();
            assert_eq!(&made[..], &keys().expand(148).unwrap()[..]);
        }
        let [ours, theirs] = bindings.map(Option::unwrap);
        let secret = *ours.take().unwrap();
        assert_eq!(theirs.take(), Some(&secret));
        assert_eq!(ours.take(), None);
        assert_eq!(&secret[..], &keys().expand(148 + LENGTH).unwrap()[148..]);
    }
}
