//! Which identity key a service has: the one in the file that its
//! `identity_key` names, else the one in Arti's keystore in the state directory,
//! so that `arti` finds the same key and the service keeps its address.
//!
//! Touches files below the keystore's directory and key files that the operator
//! names. The daemon and the commands ask for keys here.
//!
//! | file | question |
//! |---|---|
//! | `identity` | what is a key, whatever file it came from? |
//! | `format` | which format is it in? |
//! | `ctor`, `pem`, `openssh` | how does each format write it? |
//! | `client` | with which keys do clients read descriptors that are for them alone? |
//! | `request` | how does it ask for a certificate? |
//! | `file` | where does a key file lie, and may it be used? |
//! | `write` | how is one written to a new file? |

mod client;
mod ctor;
mod file;
mod format;
mod identity;
mod openssh;
mod pem;
mod request;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_mistrust::Mistrust;
use tor_hscrypto::pk::{HsClientDescEncKeypair, HsIdKey, HsIdKeypair};
use tor_hsservice::{HsIdKeypairSpecifier, HsIdPublicKeySpecifier, HsNickname};
use tor_keymgr::config::{ArtiKeystoreConfig, CTorServiceKeystoreConfig};
use tor_keymgr::{
    ArtiNativeKeystore, CTorServiceKeystore, KeyMgr, KeyMgrBuilder, Keystore, KeystoreSelector,
};
use tor_llcrypto::rng::CautiousRng;

use crate::trust::advice;
use onionbraid_balancer::onion::OnionAddress;

pub use client::{ClientSecret, check_client_secret, read_client_secret};
pub use ctor::secret_file as ctor_file;
pub use file::{
    Format, KeyFileError, files_of, read_address, read_secret, read_secret_from, stored_at,
};
pub(crate) use file::{SECRET_MODE, check_opened, others_can_read};
pub(super) use file::{open as open_key_file, unreadable};
pub use format::parse;
pub use identity::{IdentityKey, ParseError, Parsed};
pub use request::{LONGEST_NONCE, certificate_request};
pub use write::{ctor_files, pem_file, write_file, write_new};

/// What went wrong with a key: the operator has to look at its files.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// The keystore cannot be opened, most often because others may write to
    /// its directory.
    #[error("the keystore cannot be opened: {}", advice::with_causes(.0))]
    Open(tor_keymgr::Error),
    /// It cannot be seen whether there is a keystore, most often because its
    /// directory belongs to another user.
    #[error("{} cannot be looked at", directory.display())]
    Look {
        /// The keystore's directory.
        directory: PathBuf,
        /// Why.
        #[source]
        cause: Arc<io::Error>,
    },
    /// A key is there but cannot be read or is damaged.
    #[error("the key of service \"{nickname}\" cannot be read")]
    Read {
        /// The service.
        nickname: HsNickname,
        /// Why.
        #[source]
        cause: tor_keymgr::Error,
    },
    /// The file that `identity_key` names cannot be used.
    #[error("the `identity_key` of service \"{nickname}\"")]
    File {
        /// The service.
        nickname: HsNickname,
        /// Why.
        #[source]
        cause: KeyFileError,
    },
    /// The file that `client_key` of a backend names cannot be used.
    #[error("the `client_key` of backend \"{backend}\" of service \"{nickname}\"")]
    ClientKey {
        /// The service.
        nickname: HsNickname,
        /// The backend.
        backend: String,
        /// Why.
        #[source]
        cause: KeyFileError,
    },
    /// The directory that `identity_bundle` names cannot be used.
    #[error("the `identity_bundle` of service \"{nickname}\"")]
    Bundle {
        /// The service.
        nickname: HsNickname,
        /// Why.
        #[source]
        cause: KeyFileError,
    },
    /// The configuration names both the key and a bundle.
    #[error(
        "service \"{nickname}\" has `identity_key` beside `identity_bundle`, which is to do without \
         that key: take out one of both, and keep the key on another machine"
    )]
    KeyBesideBundle {
        /// The service.
        nickname: HsNickname,
    },
    /// The keystore has another key than the one that the bundle was made with.
    #[error(
        "the `identity_bundle` of service \"{nickname}\" is of the address {bundle}, and its key in \
         the keystore has the address {stored}: take away whichever is not the service's"
    )]
    OtherBundle {
        /// The service.
        nickname: HsNickname,
        /// The address of the key in the keystore.
        stored: OnionAddress,
        /// The address of the bundle.
        bundle: OnionAddress,
    },
    /// A new key cannot be made or stored.
    #[error("no key for service \"{nickname}\" can be stored")]
    Store {
        /// The service.
        nickname: HsNickname,
        /// Why.
        #[source]
        cause: tor_keymgr::Error,
    },
    /// The keystore has the public half of a key alone: a new key would mean a
    /// new address.
    #[error(
        "only the public key of service \"{nickname}\" is in the keystore, the secret key is missing"
    )]
    PublicOnly {
        /// The service.
        nickname: HsNickname,
    },
    /// The service has a key already, which is never overwritten.
    #[error(
        "service \"{nickname}\" has a key already, with the address {address}: it is left as it is"
    )]
    HasAnother {
        /// The service.
        nickname: HsNickname,
        /// The address of the key that it has.
        address: OnionAddress,
    },
    /// The keystores cannot be used together.
    #[error("the keystores cannot be used together: {0}")]
    Assemble(String),
}

/// Where the keystores lie. The configuration's `Storage` says so.
#[derive(Clone, Debug)]
pub struct Keystores {
    /// Arti's keystore, the one that is written.
    pub directory: PathBuf,
    /// Which keystores there are beside it (`storage.keystore`).
    pub others: ArtiKeystoreConfig,
    /// Which permissions they and key files may have (`storage.permissions`).
    pub mistrust: Mistrust,
}

/// The keys that the configuration names.
pub struct Keys {
    /// The keystores; none if there is none yet and none was to be made.
    keystores: Option<KeyMgr>,
    /// Which permissions a key file may have.
    mistrust: Mistrust,
}

/// What [`Keys::import`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// The key is in the keystore now.
    New,
    /// It was there before.
    Already,
}

/// Opens the keystores, and makes the directory of the main one (mode 0700) if
/// it is not there.
///
/// # Errors
///
/// If a directory cannot be made, or if others may read or write it.
pub fn open(stores: impl Into<Keystores>) -> Result<Keys, KeyError> {
    let stores = stores.into();
    let main = main_store(&stores)?;
    let keystores = Some(assemble(main, ctor_stores(&stores)?)?);
    Ok(Keys { keystores, mistrust: stores.mistrust })
}

/// Opens the keystores that exist, without making anything.
///
/// # Errors
///
/// If others may read or write a directory.
pub fn open_existing(stores: impl Into<Keystores>) -> Result<Keys, KeyError> {
    let stores = stores.into();
    let mut others = ctor_stores(&stores)?;
    let there = stores.directory.try_exists().map_err(|error| KeyError::Look {
        directory: stores.directory.clone(),
        cause: Arc::new(error),
    })?;
    let main = if there {
        Some(main_store(&stores)?)
    } else if others.is_empty() {
        None
    } else {
        Some(others.remove(0))
    };
    let keystores = main.map(|main| assemble(main, others)).transpose()?;
    Ok(Keys { keystores, mistrust: stores.mistrust })
}

/// The onion address that a key stands for.
pub fn address(key: &HsIdKeypair) -> OnionAddress {
    let id = HsIdKey::from(key).id();
    OnionAddress::from_public_key(id.into())
}

impl Keys {
    /// The key of a service, if it has one: from `file` where the configuration
    /// names one (`identity_key`), else from the keystore.
    ///
    /// # Errors
    ///
    /// If the key is there but cannot be read, if only its public half is, or
    /// if there is no such file.
    pub fn identity(
        &self,
        nickname: &HsNickname,
        file: Option<&Path>,
    ) -> Result<Option<HsIdKeypair>, KeyError> {
        Ok(self.identity_key(nickname, file)?.map(HsIdKeypair::from))
    }

    /// The same, with the key's seed where the file has it.
    ///
    /// # Errors
    ///
    /// As [`identity`](Self::identity).
    pub fn identity_key(
        &self,
        nickname: &HsNickname,
        file: Option<&Path>,
    ) -> Result<Option<IdentityKey>, KeyError> {
        match file {
            None => Ok(self.stored(nickname)?.map(IdentityKey::from)),
            Some(file) => read_secret(file, &self.mistrust)
                .map(Some)
                .map_err(|cause| KeyError::File { nickname: nickname.clone(), cause }),
        }
    }

    /// Which permissions a key file may have.
    pub(super) fn mistrust(&self) -> &Mistrust {
        &self.mistrust
    }

    /// The key with which the descriptors of a backend are read.
    ///
    /// # Errors
    ///
    /// If there is none, if it is for another address, or if others may read it.
    pub(crate) fn client_key(
        &self,
        nickname: &HsNickname,
        (backend, address): (&str, &OnionAddress),
        file: &Path,
    ) -> Result<HsClientDescEncKeypair, KeyError> {
        let read = read_client_secret(file, address, &self.mistrust);
        read.map(ClientSecret::into_pair).map_err(|cause| KeyError::ClientKey {
            nickname: nickname.clone(),
            backend: backend.to_owned(),
            cause,
        })
    }

    /// The key of a service in the keystore, if it has one there.
    ///
    /// # Errors
    ///
    /// If the key is there but cannot be read, or only its public half is.
    pub fn stored(&self, nickname: &HsNickname) -> Result<Option<HsIdKeypair>, KeyError> {
        let Some(keystores) = &self.keystores else { return Ok(None) };
        let read = |cause| KeyError::Read { nickname: nickname.clone(), cause };
        let pair = HsIdKeypairSpecifier::new(nickname.clone());
        if let Some(key) = keystores.get::<HsIdKeypair>(&pair).map_err(read)? {
            return Ok(Some(key));
        }
        let public = HsIdPublicKeySpecifier::new(nickname.clone());
        match keystores.get::<HsIdKey>(&public).map_err(read)? {
            Some(_) => Err(KeyError::PublicOnly { nickname: nickname.clone() }),
            None => Ok(None),
        }
    }

    /// Makes a service's key in the keystore. As in Arti, only the pair is stored: the
    /// public key follows from it.
    ///
    /// # Errors
    ///
    /// If it has one already, or the new one cannot be stored.
    pub fn generate(&self, nickname: &HsNickname) -> Result<HsIdKeypair, KeyError> {
        if let Some(key) = self.stored(nickname)? {
            return Err(has_another(nickname, &key));
        }
        let pair = HsIdKeypairSpecifier::new(nickname.clone());
        self.writable()?
            .generate(&pair, KeystoreSelector::Primary, &mut CautiousRng, false)
            .map_err(|cause| KeyError::Store { nickname: nickname.clone(), cause })
    }

    /// Puts a key into the keystore, as a service's.
    ///
    /// # Errors
    ///
    /// If the service has another key already, or the key cannot be stored.
    pub fn import(&self, nickname: &HsNickname, key: IdentityKey) -> Result<Imported, KeyError> {
        if let Some(there) = self.stored(nickname)? {
            return match address(&there) == key.address() {
                true => Ok(Imported::Already),
                false => Err(has_another(nickname, &there)),
            };
        }
        let pair = HsIdKeypairSpecifier::new(nickname.clone());
        self.writable()?
            .insert(HsIdKeypair::from(key), &pair, KeystoreSelector::Primary, false)
            .map(|_| Imported::New)
            .map_err(|cause| KeyError::Store { nickname: nickname.clone(), cause })
    }

    fn writable(&self) -> Result<&KeyMgr, KeyError> {
        let problem = || KeyError::Assemble("there is none yet".to_owned());
        self.keystores.as_ref().ok_or_else(problem)
    }
}

fn has_another(nickname: &HsNickname, key: &HsIdKeypair) -> KeyError {
    KeyError::HasAnother { nickname: nickname.clone(), address: address(key) }
}

fn main_store(stores: &Keystores) -> Result<Box<dyn Keystore>, KeyError> {
    let store = ArtiNativeKeystore::from_path_and_mistrust(&stores.directory, &stores.mistrust);
    Ok(Box::new(store.map_err(KeyError::Open)?))
}

/// The directories of C tor that `storage.keystore.ctor.services` names.
fn ctor_stores(stores: &Keystores) -> Result<Vec<Box<dyn Keystore>>, KeyError> {
    let open = |config: &CTorServiceKeystoreConfig| {
        let store = CTorServiceKeystore::from_path_and_mistrust(
            config.path(),
            &stores.mistrust,
            config.id().clone(),
            config.nickname().clone(),
        );
        Ok(Box::new(store.map_err(KeyError::Open)?) as Box<dyn Keystore>)
    };
    stores.others.ctor_svc_stores().map(open).collect()
}

fn assemble(main: Box<dyn Keystore>, others: Vec<Box<dyn Keystore>>) -> Result<KeyMgr, KeyError> {
    let builder = KeyMgrBuilder::default().primary_store(main).set_secondary_stores(others);
    builder.build().map_err(|error| KeyError::Assemble(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Environment, Storage};

    fn storage(state_dir: &Path, more: &str) -> Storage {
        let file = state_dir.with_extension("toml");
        let text = format!(
            "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n[storage]\n\
             state_dir = \"{}\"\n{more}\n[storage.permissions]\n\
             dangerously_trust_everyone = true\n",
            state_dir.display(),
        );
        std::fs::write(&file, text).unwrap();
        Config::load(&[file], &Environment::new([("HOME", "/nonexistent")])).unwrap().storage
    }

    fn nickname() -> HsNickname {
        "a".parse().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_survives_reopening_and_is_never_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(&dir.path().join("state"), "");
        let first = open(&storage).unwrap().generate(&nickname()).unwrap();
        let again = open(&storage).unwrap();
        let second = again.identity(&nickname(), None).unwrap().unwrap();
        assert_eq!(address(&first), address(&second));
        assert!(matches!(again.generate(&nickname()), Err(KeyError::HasAnother { .. })));
        let third = open_existing(&storage).unwrap().identity(&nickname(), None).unwrap();
        assert_eq!(address(&first), address(&third.unwrap()));
        assert!(again.identity(&"b".parse().unwrap(), None).unwrap().is_none());
    }

    #[test]
    fn directories_and_keys_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let storage = storage(&state, "");
        open(&storage).unwrap().generate(&nickname()).unwrap();
        assert_eq!(mode(&state), 0o700);
        assert_eq!(mode(&state.join("keystore")), 0o700);
        assert_eq!(mode(&state.join("keystore/hss/a")), 0o700);
        let key = state.join("keystore/hss/a/ks_hs_id.ed25519_expanded_private");
        assert_eq!(mode(&key), 0o600);
    }

    #[test]
    fn looking_for_keys_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let keys = open_existing(&storage(&state, "")).unwrap();
        assert!(keys.identity(&nickname(), None).unwrap().is_none());
        assert!(matches!(keys.generate(&nickname()), Err(KeyError::Assemble(_))));
        assert!(!state.exists());
    }

    #[test]
    fn a_key_in_a_directory_of_c_tor_is_found_as_arti_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let made = open(&storage(&dir.path().join("other"), "")).unwrap();
        let key = made.generate(&nickname()).unwrap();
        let ctor = dir.path().join("ctor");
        std::fs::create_dir(&ctor).unwrap();
        let secret = tor_llcrypto::pk::ed25519::ExpandedKeypair::from(key).to_secret_key_bytes();
        let file = [&b"== ed25519v1-secret: type0 ==\0\0\0"[..], &secret].concat();
        std::fs::write(ctor.join("hs_ed25519_secret_key"), file).unwrap();

        let expected = address(&made.identity(&nickname(), None).unwrap().unwrap());
        let more = format!(
            "[storage.keystore.ctor.services.a]\nid = \"ctor\"\npath = \"{}\"",
            ctor.display()
        );
        let state = dir.path().join("state");
        let storage = storage(&state, &more);
        let found = open_existing(&storage).unwrap().identity(&nickname(), None).unwrap();
        assert_eq!(address(&found.unwrap()), expected);
        assert!(!state.exists());
        let kept = open(&storage).unwrap().identity(&nickname(), None).unwrap().unwrap();
        assert_eq!(address(&kept), expected);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let storage = storage(&dir.path().join("state"), "");
        let keys = open(&storage).unwrap();
        keys.generate(&nickname()).unwrap();
        let file = dir.path().join("state/keystore/hss/a/ks_hs_id.ed25519_expanded_private");
        std::fs::write(&file, "damaged").unwrap();
        assert!(matches!(keys.identity(&nickname(), None), Err(KeyError::Read { .. })));
        assert!(matches!(keys.generate(&nickname()), Err(KeyError::Read { .. })));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "damaged");
    }
}
