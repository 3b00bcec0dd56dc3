//! `onionbraid certificate`, and what `check` says of certificates.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use base64ct::{Base64, Encoding as _};
use ed25519_dalek::{Signature, VerifyingKey};
use onionbraid_balancer::onion::OnionAddress;
use sha2::{Digest as _, Sha256};

use super::{onionbraid, stderr, stdout, strict_check, write};

const SERVICES: &str = "\
[onion_services.shop]
proxy_ports = [[80, \"http://127.0.0.1:8080\"]]
[onion_services.blog]
proxy_ports = [[80, \"http://127.0.0.1:8081\"]]
[storage]
state_dir = \"state\"
";

/// Two services with keys, and their addresses.
fn with_keys() -> (tempfile::TempDir, [String; 2]) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "arti.toml", SERVICES);
    let addresses = ["shop", "blog"].map(|name| {
        let made = onionbraid(dir.path(), &["keys", "generate", name, "-c", "arti.toml"]);
        stdout(&made).trim().to_owned()
    });
    (dir, addresses)
}

fn certificate(dir: &Path, arguments: &[&str]) -> Output {
    onionbraid(dir, &[&["certificate"], arguments, &["-c", "arti.toml"]].concat())
}

fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    Base64::decode_vec(&lines.collect::<String>()).unwrap()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_self_signed_certificate_names_all_services_and_replaces_nothing() {
    let (dir, addresses) = with_keys();
    let made = certificate(dir.path(), &["self-signed", "shop", "blog"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let path = |name: &str| dir.path().join(name);
    let mode = |name: &str| path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("shop-blog.key"), mode("shop-blog.pem")), (0o600, 0o644));
    let pem = std::fs::read_to_string(path("shop-blog.pem")).unwrap();
    let bytes = der(&pem);
    for address in &addresses {
        assert!(contains(&bytes, address.as_bytes()));
        assert!(contains(&bytes, format!("*.{address}").as_bytes()));
    }
    let digest: Vec<String> =
        Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(stdout(&made).trim(), digest.join(":"));

    let again = certificate(dir.path(), &["self-signed", "shop", "blog"]);
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
    assert!(stderr(&again).contains("exists already"), "{}", stderr(&again));
    // A directory that is missing is made, for its owner alone.
    let below = certificate(dir.path(), &["self-signed", "shop", "--out", "tls/new"]);
    assert_eq!(below.status.code(), Some(0), "{}", stderr(&below));
    assert_eq!((mode("tls"), mode("tls/new")), (0o700, 0o700));
    assert_eq!((mode("tls/new/shop.key"), mode("tls/new/shop.pem")), (0o600, 0o644));
    // Half of it in the way: nothing is left behind.
    std::fs::remove_file(path("shop-blog.key")).unwrap();
    assert_eq!(certificate(dir.path(), &["self-signed", "shop", "blog"]).status.code(), Some(1));
    assert!(!path("shop-blog.key").exists());
    assert_eq!(std::fs::read_to_string(path("shop-blog.pem")).unwrap(), pem);
    assert_eq!(certificate(dir.path(), &["self-signed", "nobody"]).status.code(), Some(2));
}

/// The first element of DER, with its tag and length, what is in it, and the rest.
fn element(der: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (length, head) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        0x81 => (usize::from(der[2]), 3),
        _ => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
    };
    let (whole, rest) = der.split_at(head + length);
    (whole, &whole[head..], rest)
}

#[test]
fn a_request_is_signed_with_the_key_of_the_address_and_has_both_nonces() {
    let (dir, [address, _]) = with_keys();
    let nonce = "3Jq1mV0xTqk3sS1m4bXo6A==";
    let asked = |more: &[&str]| {
        certificate(dir.path(), &[&["request", "shop", "--nonce", nonce], more].concat())
    };
    let made = asked(&[]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let request = der(&stdout(&made));
    let (_, parts, _) = element(&request);
    let (signed, info, rest) = element(parts);
    let (_, algorithm, rest) = element(rest);
    // Ed25519 (RFC 8410).
    assert_eq!(algorithm, [6, 3, 0x2b, 0x65, 0x70]);
    let (_, signature, _) = element(rest);
    let public = *address.parse::<OnionAddress>().unwrap().public_key();
    let key = VerifyingKey::from_bytes(&public).unwrap();
    let signature = Signature::from_slice(&signature[1..]).unwrap();
    key.verify_strict(signed, &signature).unwrap();
    assert!(contains(info, &public) && contains(info, address.as_bytes()));
    assert!(!contains(info, format!("*.{address}").as_bytes()));
    // 2.23.140.41 and .42, each with a SET of one OCTET STRING of 16 bytes.
    let attribute = |last: u8| [6, 4, 0x67, 0x81, 0x0c, last, 0x31, 18, 4, 16];
    let begins = attribute(41);
    let at = info.windows(10).position(|part| part == begins).unwrap() + 10;
    assert_eq!(info[at..at + 16], Base64::decode_vec(nonce).unwrap());
    assert!(contains(info, &attribute(42)));
    // The other nonce is another one each time.
    assert_ne!(der(&stdout(&asked(&[]))), request);

    let below = der(&stdout(&asked(&["--subdomains"])));
    assert!(contains(&below, format!("*.{address}").as_bytes()));
    assert_eq!(asked(&["--out", "shop.csr"]).status.code(), Some(0));
    assert_eq!(asked(&["--out", "shop.csr"]).status.code(), Some(1));
    let short = certificate(dir.path(), &["request", "shop", "--nonce", "AAAA"]);
    assert_eq!(short.status.code(), Some(2), "{}", stderr(&short));
}

#[test]
fn check_says_what_keeps_clients_out_and_what_a_certificate_gives_away() {
    let (dir, _) = with_keys();
    certificate(dir.path(), &["self-signed", "shop", "--days", "5"]);
    let with = |file: &str| {
        let port = format!(
            "[443, \"http://127.0.0.1:1\", {{ tls = {{ certificate = \"{file}.pem\", key = \
             \"{file}.key\" }} }}]"
        );
        write(dir.path(), "arti.toml", &SERVICES.replacen("[80", &format!("{port}, [80"), 1));
        let checked = onionbraid(dir.path(), &["check", "-c", "arti.toml"]);
        (checked.status.code(), stdout(&checked) + &stderr(&checked))
    };
    let (code, said) = with("shop");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the certificate of port 443 expires in 4 days"), "{said}");
    assert!(said.contains("nobody vouches for the certificate of port 443"), "{said}");
    assert!(!said.contains("they refuse it"), "{said}");

    write(dir.path(), "arti.toml", SERVICES);
    certificate(dir.path(), &["self-signed", "blog"]);
    let (code, said) = with("blog");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no certificate of port 443 is for an address"), "{said}");

    // A key that others can read.
    let key = dir.path().join("blog.key");
    for (path, mode) in [(dir.path(), 0o755), (&*key, 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    // This prefix is above suspicion, not what lies in it.
    let text = std::fs::read_to_string(dir.path().join("arti.toml")).unwrap();
    let prefix = dir.path().display();
    let strict =
        format!("{text}[storage.permissions]\nignore_prefix = \"{prefix}\"\ntrust_group = false\n");
    write(dir.path(), "arti.toml", &strict);
    let checked = strict_check(dir.path());
    assert_ne!(checked.status.code(), Some(0), "{}", stdout(&checked));
    let said = stderr(&checked);
    assert!(said.contains("others can read or change") && said.contains("chmod 600"), "{said}");
}
