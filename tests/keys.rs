//! Identity keys in every format: what is read back is the same key, and what is
//! no usable key says why.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ed25519_dalek::hazmat::ExpandedSecretKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use fs_mistrust::Mistrust;
use onionbraid::tor::keys::{
    Format, IdentityKey, KeyFileError, ParseError, Parsed, parse, read_address, read_secret,
    write_new,
};
use onionbraid_balancer::onion::OnionAddress;
use proptest::prelude::*;
use tor_hscrypto::pk::{HsBlindIdKeypair, HsIdKeypair};
use tor_hscrypto::time::TimePeriod;
use tor_llcrypto::pk::ed25519::{Ed25519SigningKey, ExpandedKeypair};

/// A `HiddenServiceDir` that tor 0.4.9 made for this test. It has never been
/// used for a service and must never be.
mod made_by_tor {
    pub(super) const SECRET: &str = "\
        3d3d206564323535313976312d7365637265743a207479706530203d3d000000\
        b8ee909b231378c3ca7cd65da5cfb94086e6ca886faf8cdd7aa6b5cdc109c044\
        3a640282fa2020fc2bc670890ed25958c72d6f5998f16a290361f83825ebb21a";
    pub(super) const PUBLIC: &str = "\
        3d3d206564323535313976312d7075626c69633a207479706530203d3d000000\
        be64e32b31c00e32a0167b63ff1e25744de8d3aeafe9f73d5d44986d575b4d6f";
    pub(super) const HOSTNAME: &str =
        "xzsogkzryahdfiawpnr76hrforg6ru5ov7u7opk5ismg2v23jvx7ljqd.onion\n";
}

/// What `openssl genpkey -algorithm ed25519` wrote for this test, and the public
/// key that `openssl pkey -pubout` gives for it. Never used for a service.
mod made_by_openssl {
    pub(super) const SECRET: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIKmOPnlzddo1oG5qN+0xZFbslEdh5XEmPho20PdhvXSW
-----END PRIVATE KEY-----
";
    pub(super) const PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAgDqTZ7bCkBOye+/Z4e18UFn5/I8vMgIk7+LlaVq4tDM=
-----END PUBLIC KEY-----
";
    pub(super) const PUBLIC_HEX: &str =
        "803a9367b6c29013b27befd9e1ed7c5059f9fc8f2f320224efe2e5695ab8b433";
    pub(super) const X25519: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEICAstWIo14mynlEgSpI/m36e7Vl1gWfdgSIkuHMR4khS
-----END PRIVATE KEY-----
";
    pub(super) const WITH_PASSWORD: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgqFK4D+mnO4QICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEENWj6oHWrraGdwm6WRDiQ7YEQHfj
vdKUCx9b+FIjVCpifKCElwO8QIRNS/cAR0XSR+3EEQaEtm/efmUNskZ3glndsXaZ
7OxB8EDI0vkEcuvLst8=
-----END ENCRYPTED PRIVATE KEY-----
";
    pub(super) const RSA: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIICXQIBAAKBgQCvP+oXlnkG\n";
}

/// An entry of Arti's keystore (arti crates 0.47), and its address. Made for
/// this test and never used for a service.
mod made_by_arti {
    pub(super) const SECRET: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAATAAAACRlZDI1NT
E5LWV4cGFuZGVkQHNwZWMudG9ycHJvamVjdC5vcmcAAAAgkU2gAP33hTuN/NzcJk0PJWJN
sL88+Py8d2Qgn7UdXQwAAACgf0Jern9CXq4AAAAkZWQyNTUxOS1leHBhbmRlZEBzcGVjLn
RvcnByb2plY3Qub3JnAAAAIJFNoAD994U7jfzc3CZNDyViTbC/PPj8vHdkIJ+1HV0MAAAA
QJ+QBN0tB+Yxu3UJLeJ+iGCy5m5UTAXYTWHXIf0HS/gKnvhjQx+uh4wgrECOT9lhDR/3Kb
gm/FeJ/ADYLSeJMbEAAAAAAQIDBA==
-----END OPENSSH PRIVATE KEY-----
";
    pub(super) const ADDRESS: &str =
        "sfg2aah566ctxdp43tocmtipevre3mf7ht4pzpdxmqqj7ni5lugoqhqd.onion";
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap();
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn hostname() -> OnionAddress {
    made_by_tor::HOSTNAME.trim().parse().unwrap()
}

fn secret(bytes: &[u8]) -> IdentityKey {
    match parse(bytes) {
        Ok(Parsed::Secret(key)) => key,
        Ok(Parsed::Public(_)) => panic!("a public key"),
        Err(error) => panic!("{error}"),
    }
}

fn refused(bytes: &[u8]) -> ParseError {
    parse(bytes).err().unwrap()
}

/// The file that C tor writes for the key of this seed.
fn ctor_file(seed: &[u8; 32]) -> Vec<u8> {
    use digest::Digest as _;
    let mut expanded: [u8; 64] = tor_llcrypto::d::Sha512::digest(seed).into();
    expanded[0] &= 248;
    expanded[31] = expanded[31] & 127 | 64;
    [&from_hex(made_by_tor::SECRET)[..32], &expanded].concat()
}

fn trusting() -> Mistrust {
    Mistrust::new_dangerously_trust_everyone()
}

/// Strict below `dir`, whatever lies above it.
fn strict(dir: &Path) -> Mistrust {
    Mistrust::builder().ignore_environment().ignore_prefix(dir).build().unwrap()
}

/// A directory like C tor's.
fn service_dir(dir: &Path) -> PathBuf {
    let service = dir.join("service");
    std::fs::create_dir(&service).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(service.join(name), bytes).unwrap();
        set_mode(&service.join(name), 0o600);
    };
    write("hs_ed25519_secret_key", &from_hex(made_by_tor::SECRET));
    write("hs_ed25519_public_key", &from_hex(made_by_tor::PUBLIC));
    write("hostname", made_by_tor::HOSTNAME.as_bytes());
    set_mode(&service, 0o700);
    service
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_that_tor_made_gives_the_address_that_tor_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let service = service_dir(dir.path());
    for path in [service.clone(), service.join("hs_ed25519_secret_key")] {
        let key = read_secret(&path, &strict(dir.path())).unwrap();
        assert_eq!(key.address(), hostname());
    }
    for file in ["hs_ed25519_public_key", "hostname"] {
        assert_eq!(read_address(&service.join(file), &trusting()).unwrap(), hostname());
    }
}

#[test]
fn a_pem_file_that_openssl_made_gives_the_public_key_that_openssl_gives() {
    let public: [u8; 32] = from_hex(made_by_openssl::PUBLIC_HEX).try_into().unwrap();
    let expected = OnionAddress::from_public_key(public);
    assert_eq!(secret(made_by_openssl::SECRET.as_bytes()).address(), expected);
    let crlf = made_by_openssl::SECRET.replace('\n', "\r\n");
    assert_eq!(secret(crlf.as_bytes()).address(), expected);
    let Ok(Parsed::Public(address)) = parse(made_by_openssl::PUBLIC.as_bytes()) else {
        panic!("no public key");
    };
    assert_eq!(address, expected);
}

#[test]
fn an_entry_of_artis_keystore_is_read_wherever_it_lies() {
    let key = secret(made_by_arti::SECRET.as_bytes());
    assert_eq!(key.address().to_string(), made_by_arti::ADDRESS);
    let cut = &made_by_arti::SECRET[..200];
    assert!(matches!(refused(cut.as_bytes()), ParseError::Damaged(_)));
}

#[test]
fn a_directory_written_for_tor_is_what_tor_wrote_byte_for_byte_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let service = service_dir(dir.path());
    let key = read_secret(&service, &trusting()).unwrap();
    let written = dir.path().join("written");
    write_new(&written, &key, Format::Ctor).unwrap();
    assert_eq!(mode(&written), 0o700);
    for file in ["hs_ed25519_secret_key", "hs_ed25519_public_key", "hostname"] {
        let bytes = |dir: &Path| std::fs::read(dir.join(file)).unwrap();
        assert_eq!(bytes(&written), bytes(&service), "{file}");
        assert_eq!(mode(&written.join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_key_of_tors_has_no_seed_and_cannot_be_written_as_pem() {
    let dir = tempfile::tempdir().unwrap();
    let key = secret(&from_hex(made_by_tor::SECRET));
    let written = write_new(&dir.path().join("key.pem"), &key, Format::Pem);
    assert!(matches!(written, Err(KeyFileError::NoSeed)));
    assert!(!dir.path().join("key.pem").exists());
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (file, directory) = (dir.path().join("key.pem"), dir.path().join("service"));
    std::fs::write(&file, "precious").unwrap();
    std::fs::create_dir(&directory).unwrap();
    let key = IdentityKey::generate();
    let exists = |result| assert!(matches!(result, Err(KeyFileError::Exists(_))));
    exists(write_new(&file, &key, Format::Pem));
    exists(write_new(&directory, &key, Format::Ctor));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(directory.read_dir().unwrap().count(), 0);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    let service = service_dir(dir.path());
    let key = service.join("hs_ed25519_secret_key");
    // Below a directory that is closed to them, others could not read it.
    set_mode(dir.path(), 0o755);
    set_mode(&service, 0o755);
    for open in [0o640, 0o604, 0o644] {
        set_mode(&key, open);
        // The group may be one that fs-mistrust trusts: the user's own.
        if open == 0o640 && read_secret(&key, &strict(dir.path())).is_ok() {
            continue;
        }
        let error = read_secret(&service, &strict(dir.path())).err().unwrap().to_string();
        assert!(error.contains(&format!("(mode {open:04o}): chmod 600 ")), "{error}");
        assert!(error.ends_with("hs_ed25519_secret_key"), "{error}");
        assert!(read_secret(&service, &trusting()).is_ok());
    }
    set_mode(&key, 0o600);
    set_mode(&service, 0o777);
    let error = read_secret(&service, &strict(dir.path())).err().unwrap().to_string();
    assert!(error.contains("chmod go-w ") && error.ends_with("/service"), "{error}");
}

#[test]
fn the_files_beside_a_key_of_tors_have_to_belong_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let service = service_dir(dir.path());
    let other = IdentityKey::generate();
    write_new(&dir.path().join("other"), &other, Format::Ctor).unwrap();
    for file in ["hs_ed25519_public_key", "hostname"] {
        let own = std::fs::read(service.join(file)).unwrap();
        std::fs::copy(dir.path().join("other").join(file), service.join(file)).unwrap();
        let error = read_secret(&service, &trusting()).err().unwrap();
        let KeyFileError::Disagree { other, .. } = error else { panic!("{error}") };
        assert!(other.ends_with(file));
        std::fs::write(service.join(file), "damaged").unwrap();
        let error = read_secret(&service, &trusting()).err().unwrap();
        assert!(matches!(error, KeyFileError::Parse { .. }), "{error}");
        std::fs::write(service.join(file), own).unwrap();
    }
    std::fs::remove_file(service.join("hostname")).unwrap();
    assert!(read_secret(&service, &trusting()).is_ok());
}

#[test]
fn what_is_no_key_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let said = |path: &Path| read_secret(path, &trusting()).err().unwrap().to_string();
    assert!(said(&dir.path().join("none")).starts_with("there is no "));
    assert!(said(dir.path()).contains("has no identity key in it"));
    std::fs::write(dir.path().join("private_key"), made_by_openssl::RSA).unwrap();
    let error = read_secret(dir.path(), &trusting()).err().unwrap();
    let KeyFileError::Parse { cause: ParseError::Version2, path } = error else {
        panic!("{error}");
    };
    assert!(path.ends_with("private_key"));
    std::fs::write(dir.path().join("public"), from_hex(made_by_tor::PUBLIC)).unwrap();
    assert!(said(&dir.path().join("public")).contains("a public key alone"));
    assert!(said(Path::new("/dev/null")).contains("cannot be read"));
}

#[test]
fn every_kind_of_wrong_file_has_an_answer_of_its_own() {
    let good = from_hex(made_by_tor::SECRET);
    for length in 32..good.len() {
        assert_eq!(refused(&good[..length]), ParseError::Length { found: length, right: 96 });
    }
    for length in 1..29 {
        assert!(matches!(refused(&good[..length]), ParseError::Header(..) | ParseError::Unknown));
    }
    let long = [&good[..], b"\n"].concat();
    assert_eq!(refused(&long), ParseError::Length { found: 97, right: 96 });
    assert_eq!(refused(b""), ParseError::Empty);
    assert_eq!(refused(&good[32..]), ParseError::Unknown);
    assert_eq!(refused(b"hello"), ParseError::Unknown);
    let mut header = good.clone();
    header[5] = b'X';
    assert!(matches!(refused(&header), ParseError::Header(..)));
    let mut header = good.clone();
    header[31] = 1;
    assert!(matches!(refused(&header), ParseError::Header(..)));
    assert_eq!(refused(made_by_openssl::RSA.as_bytes()), ParseError::Version2);
    assert_eq!(refused(made_by_openssl::WITH_PASSWORD.as_bytes()), ParseError::Password);
    let x25519 = refused(made_by_openssl::X25519.as_bytes());
    assert!(matches!(x25519, ParseError::OtherKind(_)), "{x25519}");
    let cut = &made_by_openssl::SECRET[..60];
    assert!(matches!(refused(cut.as_bytes()), ParseError::Damaged(_)));
    let certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(refused(certificate), ParseError::OtherKind(_)));
}

#[test]
fn a_scalar_without_a_usable_public_key_is_refused() {
    let header = &from_hex(made_by_tor::SECRET)[..32];
    assert_eq!(refused(&[header, &[0; 64]].concat()), ParseError::Weak);
    let order = from_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    assert_eq!(refused(&[header, &order, &[7; 32]].concat()), ParseError::Weak);
}

#[test]
fn a_pem_file_whose_two_halves_disagree_is_refused() {
    let pair = ed25519_dalek::pkcs8::KeypairBytes {
        secret_key: [1; 32],
        public_key: Some(ed25519_dalek::pkcs8::PublicKeyBytes([2; 32])),
    };
    let pem = pair.to_pkcs8_pem(Default::default()).unwrap();
    assert!(matches!(refused(pem.as_bytes()), ParseError::Damaged(_)));
}

/// Signs with the key as the program does.
fn sign(key: IdentityKey, message: &[u8]) -> Signature {
    let pair = ExpandedKeypair::from(HsIdKeypair::from(key));
    Signature::from_bytes(&Ed25519SigningKey::sign(&pair, message).to_bytes())
}

proptest! {
    #[test]
    fn a_key_of_tors_signs_as_its_seed_does_and_comes_back_byte_for_byte(
        seed: [u8; 32], message: Vec<u8>,
    ) {
        let file = ctor_file(&seed);
        let signing = SigningKey::from_bytes(&seed);
        let key = secret(&file);
        let public = OnionAddress::from_public_key(signing.verifying_key().to_bytes());
        prop_assert_eq!(key.address(), public);
        let signature = sign(key, &message);
        signing.verifying_key().verify_strict(&message, &signature).unwrap();
        // Not only valid: the same, so the hash prefix is used as tor uses it.
        prop_assert_eq!(signature, ed25519_dalek::Signer::sign(&signing, &message));

        let dir = tempfile::tempdir().unwrap();
        let written = dir.path().join("service");
        write_new(&written, &secret(&file), Format::Ctor).unwrap();
        let again = std::fs::read(written.join("hs_ed25519_secret_key")).unwrap();
        prop_assert_eq!(again, file);
        let address = read_address(&written, &strict(dir.path())).unwrap();
        prop_assert_eq!(address.public_key(), &signing.verifying_key().to_bytes());
    }

    #[test]
    fn any_scalar_clamped_or_not_stands_for_one_key_however_often_it_is_written(
        scalar: [u8; 32], prefix: [u8; 32], message: Vec<u8>,
    ) {
        let header = &from_hex(made_by_tor::SECRET)[..32];
        let key = secret(&[header, &scalar, &prefix].concat());
        let address = key.address();
        let dir = tempfile::tempdir().unwrap();
        write_new(&dir.path().join("a"), &key, Format::Ctor).unwrap();
        let again = read_secret(&dir.path().join("a"), &trusting()).unwrap();
        prop_assert_eq!(again.address(), address);
        let (first, second) = (sign(key, &message), sign(again, &message));
        prop_assert_eq!(first, second);
        let public = VerifyingKey::from_bytes(address.public_key()).unwrap();
        public.verify_strict(&message, &first).unwrap();
        // The public key is the one that dalek computes for these 64 bytes.
        let expanded = ExpandedSecretKey {
            scalar: scalar_of(&scalar),
            hash_prefix: prefix,
        };
        prop_assert_eq!(VerifyingKey::from(&expanded), public);
    }

    #[test]
    fn two_messages_never_get_one_nonce(seed: [u8; 32], one: Vec<u8>, other: Vec<u8>) {
        let file = ctor_file(&seed);
        let (first, second) = (sign(secret(&file), &one), sign(secret(&file), &other));
        prop_assert_eq!(one == other, first.r_bytes() == second.r_bytes());
    }

    #[test]
    fn the_blinded_key_of_a_period_signs_what_its_public_half_verifies(
        seed: [u8; 32], number in 1_u64..100_000, message: Vec<u8>, other: Vec<u8>,
    ) {
        let day = Duration::from_secs(24 * 3600);
        let when = SystemTime::UNIX_EPOCH + day * u32::try_from(number).unwrap();
        let period = TimePeriod::new(day, when, day / 2).unwrap();
        let pair = HsIdKeypair::from(secret(&ctor_file(&seed)));
        let (public, blinded, _) = pair.compute_blinded_key(period).unwrap();
        let sign = |message: &[u8]| blinded_signature(&blinded, message);
        let public = VerifyingKey::from_bytes(&<[u8; 32]>::from(public.id())).unwrap();
        public.verify_strict(&message, &sign(&message)).unwrap();
        prop_assert_eq!(message == other, sign(&message).r_bytes() == sign(&other).r_bytes());
    }

    #[test]
    fn a_pem_file_comes_back_and_gives_the_same_key_to_tor(seed: [u8; 32]) {
        let pem = SigningKey::from_bytes(&seed).to_pkcs8_pem(Default::default()).unwrap();
        let key = secret(pem.as_bytes());
        let dir = tempfile::tempdir().unwrap();
        write_new(&dir.path().join("pem"), &key, Format::Pem).unwrap();
        prop_assert_eq!(mode(&dir.path().join("pem")), 0o600);
        let again = read_secret(&dir.path().join("pem"), &strict(dir.path())).unwrap();
        prop_assert_eq!(again.address(), key.address());
        write_new(&dir.path().join("ctor"), &again, Format::Ctor).unwrap();
        let file = std::fs::read(dir.path().join("ctor/hs_ed25519_secret_key")).unwrap();
        prop_assert_eq!(file, ctor_file(&seed));
    }

    #[test]
    fn a_damaged_entry_of_artis_keystore_never_gives_another_key(
        at in 36_usize..430, letter in "[A-Za-z0-9+/=\n-]",
    ) {
        let mut text = made_by_arti::SECRET.to_owned();
        text.replace_range(at..=at, &letter);
        if let Ok(Parsed::Secret(key)) = parse(text.as_bytes()) {
            prop_assert_eq!(key.address().to_string(), made_by_arti::ADDRESS);
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>, begin in 0_usize..6) {
        const BEGINS: [&str; 6] = [
            "", "== ed25519v1-secret: type0 ==\0\0\0", "== ed25519v1-public: type0 ==\0\0\0",
            "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN OPENSSH PRIVATE KEY-----\n",
            "ssh-ed25519 ",
        ];
        let _ = parse(&[BEGINS[begin].as_bytes(), &bytes].concat());
    }
}

fn scalar_of(bytes: &[u8; 32]) -> curve25519_dalek::Scalar {
    curve25519_dalek::Scalar::from_bytes_mod_order(*bytes)
}

fn blinded_signature(key: &HsBlindIdKeypair, message: &[u8]) -> Signature {
    Signature::from_bytes(&Ed25519SigningKey::sign(key, message).to_bytes())
}
