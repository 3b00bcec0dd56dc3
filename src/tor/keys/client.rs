//! The keys of clients of restricted discovery: with which we read the descriptors of
//! backends, and which we make for clients of ours.
//!
//! A file holds what C tor's `ClientOnionAuthDir` has, or an entry of Arti's keystore.

use std::io;
use std::path::Path;

use data_encoding::BASE32_NOPAD;
use fs_mistrust::Mistrust;
use ssh_key::PrivateKey;
use ssh_key::private::KeypairData;
use tor_hscrypto::pk::{HsClientDescEncKeypair, HsClientDescEncSecretKey};
use tor_llcrypto::pk::curve25519::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::file::{self, KeyFileError};
use super::identity::ParseError;
use onionbraid_balancer::onion::{ClientKey, OnionAddress};

/// What stands between the address and the key in C tor's file.
const KIND: &str = ":descriptor:x25519:";

/// The algorithm of Arti's.
const ARTI: &str = "x25519@spec.torproject.org";

/// The secret key of a client (`KS_hsc_desc_enc`), and whose descriptors it is for,
/// where the file says so.
pub struct ClientSecret {
    address: Option<OnionAddress>,
    secret: StaticSecret,
}

impl ClientSecret {
    /// A new one, for the descriptors of this address.
    pub fn generate(address: OnionAddress) -> Self {
        let secret = StaticSecret::random_from_rng(crate::tor::rng());
        Self { address: Some(address), secret }
    }

    /// The public key that the service has to have.
    pub fn public(&self) -> Option<ClientKey> {
        ClientKey::new(PublicKey::from(&self.secret).to_bytes()).ok()
    }

    /// What goes into a file of C tor's `ClientOnionAuthDir`.
    pub fn file(&self) -> Option<Zeroizing<String>> {
        let address = self.address?.to_string();
        let address = address.trim_end_matches(".onion");
        let key = Zeroizing::new(self.secret.to_bytes());
        let key = Zeroizing::new(BASE32_NOPAD.encode(&*key));
        // Large enough from the beginning: growing leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(128));
        for part in [address, KIND, &key, "\n"] {
            text.push_str(part);
        }
        Some(text)
    }

    /// Writes that to a new file (mode 0600).
    ///
    /// # Errors
    ///
    /// If something lies there already, or it cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyFileError> {
        let text = self.file().unwrap_or_default();
        super::write::write_file(path, text.as_bytes(), file::SECRET_MODE)
    }

    /// As Arti wants it.
    pub(crate) fn into_pair(self) -> HsClientDescEncKeypair {
        let public = PublicKey::from(&self.secret);
        HsClientDescEncKeypair::new(public.into(), HsClientDescEncSecretKey::from(self.secret))
    }
}

/// Reads the key in a file with which descriptors of this address are read.
///
/// # Errors
///
/// If there is none, if it is for another address, or if others may read it.
pub fn read_client_secret(
    path: &Path,
    address: &OnionAddress,
    mistrust: &Mistrust,
) -> Result<ClientSecret, KeyFileError> {
    let (opened, bytes) = file::open(path).map_err(|error| match error {
        KeyFileError::Read { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
            KeyFileError::NoClient(path.to_owned())
        }
        error => error,
    })?;
    let wrong = |cause| KeyFileError::Client { path: path.to_owned(), cause };
    let key = parse(&bytes).map_err(wrong)?;
    if key.address.is_some_and(|other| other != *address) {
        return Err(wrong(ParseError::Damaged("it is for another address".to_owned())));
    }
    file::check_opened(&opened, path, mistrust)?;
    Ok(key)
}

/// Whether this is what a file with such a key holds.
///
/// # Errors
///
/// Why not.
pub fn check_client_secret(bytes: &[u8]) -> Result<(), ParseError> {
    parse(bytes).map(drop)
}

fn parse(bytes: &[u8]) -> Result<ClientSecret, ParseError> {
    let unknown = || {
        ParseError::Damaged(
        "it is neither a line of C tor's, ADDRESS:descriptor:x25519:KEY, nor a key of Arti's keystore"
            .to_owned(),
    )
    };
    let text = std::str::from_utf8(bytes).map_err(|_| unknown())?.trim();
    if text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
        return parse_arti(text);
    }
    let (address, key) = text.split_once(KIND).ok_or_else(unknown)?;
    let address = format!("{address}.onion").parse().map_err(|_| unknown())?;
    let key = Zeroizing::new(key.to_ascii_uppercase());
    let mut secret = Zeroizing::new([0; 32]);
    let fits = BASE32_NOPAD.decode_len(key.len()) == Ok(secret.len());
    if !fits || BASE32_NOPAD.decode_mut(key.as_bytes(), &mut *secret).is_err() {
        return Err(ParseError::Damaged("its key has to be 52 characters of base32".to_owned()));
    }
    Ok(ClientSecret { address: Some(address), secret: StaticSecret::from(*secret) })
}

fn parse_arti(text: &str) -> Result<ClientSecret, ParseError> {
    let damaged = |error: ssh_key::Error| ParseError::Damaged(error.to_string());
    let key = PrivateKey::from_openssh(text).map_err(damaged)?;
    match (key.algorithm().as_str(), key.key_data()) {
        (ARTI, KeypairData::Other(pair)) => {
            let secret: Result<Zeroizing<[u8; 32]>, _> =
                pair.private.as_ref().try_into().map(Zeroizing::new);
            let secret = secret
                .map_err(|_| ParseError::Damaged("the secret key has not 32 bytes".to_owned()))?;
            Ok(ClientSecret { address: None, secret: StaticSecret::from(*secret) })
        }
        (kind, _) => Err(ParseError::OtherKind(format!("a key of the kind {kind}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> OnionAddress {
        OnionAddress::from_public_key([n; 32])
    }

    fn mistrust() -> Mistrust {
        Mistrust::new_dangerously_trust_everyone()
    }

    #[test]
    fn what_is_written_for_a_client_is_read_again_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alice.auth_private");
        let made = ClientSecret::generate(address(1));
        made.write_new(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = read_client_secret(&path, &address(1), &mistrust()).unwrap();
        assert_eq!(read.public(), made.public());
        let other = read_client_secret(&path, &address(2), &mistrust());
        assert!(matches!(other, Err(KeyFileError::Client { .. })));
        let before = std::fs::read(&path).unwrap();
        let again = ClientSecret::generate(address(1)).write_new(&path);
        assert!(matches!(again, Err(KeyFileError::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("berlin.auth_private");
        ClientSecret::generate(address(1)).write_new(&path).unwrap();
        let strict = Mistrust::builder().ignore_prefix(directory.path()).build().unwrap();
        read_client_secret(&path, &address(1), &strict).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(
            read_client_secret(&path, &address(1), &strict),
            Err(KeyFileError::Permissions { .. })
        ));
    }

    #[test]
    fn the_file_is_c_tors() {
        // What C tor's documentation shows, for a key of zeros and one address.
        let address = address(1).to_string();
        let address = address.trim_end_matches(".onion");
        let line = format!("{address}{KIND}{}\n", "a".repeat(52));
        assert_eq!(parse(line.as_bytes()).unwrap().secret.to_bytes(), [0; 32]);
        for wrong in [
            "",
            "descriptor:x25519:",
            &line[..line.len() - 2],
            &line.replace("x25519", "ed25519"),
            &line[1..],
            &format!("{address}.onion{KIND}{}", "a".repeat(52)),
            &line.replace("aaaa\n", "aaa1\n"),
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_entry_of_artis_keystore_is_read_too() {
        use tor_hsservice::HsIdKeypairSpecifier;
        use tor_keymgr::{ArtiNativeKeystore, Keystore as _};
        use tor_llcrypto::pk::curve25519::StaticKeypair;
        let directory = tempfile::tempdir().unwrap();
        let store =
            ArtiNativeKeystore::from_path_and_mistrust(directory.path(), &mistrust()).unwrap();
        let made = ClientSecret::generate(address(1));
        let public = made.public();
        let pair =
            StaticKeypair { public: PublicKey::from(&made.secret), secret: made.secret.clone() };
        // Any place will do: the file says nothing of it.
        let place = HsIdKeypairSpecifier::new("shop".parse().unwrap());
        store.insert(&pair, &place).unwrap();
        let path = directory.path().join("hss/shop/ks_hs_id.x25519_private");
        let read = read_client_secret(&path, &address(2), &mistrust()).unwrap();
        assert_eq!(read.public(), public);
    }
}
