//! `onionbraid keys`, and services whose keys lie in files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use super::{onionbraid, stderr, stdout, strict_check, write};

const SERVICES: &str = "\
[onion_services.shop]
proxy_ports = [[80, \"http://127.0.0.1:8080\"]]
[onion_services.blog]
proxy_ports = [[80, \"http://127.0.0.1:8081\"]]
[storage]
state_dir = \"state\"
";

fn with_services() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "arti.toml", SERVICES);
    dir
}

fn keys(dir: &Path, arguments: &[&str]) -> Output {
    onionbraid(dir, &[&["keys"], arguments, &["-c", "arti.toml"]].concat())
}

/// What a command that succeeds prints: an address, and nothing else.
fn address(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let said = stdout(output);
    let line = said.strip_suffix('\n').unwrap();
    assert!(line.ends_with(".onion") && line.len() == 62, "{said}");
    line.to_owned()
}

#[test]
fn a_generated_key_is_what_check_shows_and_is_made_once() {
    let dir = with_services();
    let made = address(&keys(dir.path(), &["generate", "shop"]));
    assert_eq!(address(&keys(dir.path(), &["address", "shop"])), made);
    let check = stdout(&onionbraid(dir.path(), &["check", "-c", "arti.toml"]));
    assert!(check.contains(&format!("address {made}\n    key from the keystore")), "{check}");
    let again = keys(dir.path(), &["generate", "shop"]);
    assert_eq!(again.status.code(), Some(77));
    assert!(stderr(&again).contains(&format!("has a key already, with the address {made}")));
    assert_eq!(address(&keys(dir.path(), &["address", "shop"])), made);
}

#[test]
fn a_key_travels_from_c_tor_to_the_keystore_and_back_unchanged() {
    let dir = with_services();
    let made = address(&onionbraid(dir.path(), &["keys", "generate", "--out", "tor"]));
    assert_eq!(std::fs::read_to_string(dir.path().join("tor/hostname")).unwrap().trim(), made);
    assert_eq!(address(&keys(dir.path(), &["import", "shop", "tor"])), made);
    assert_eq!(address(&keys(dir.path(), &["export", "shop", "--out", "back"])), made);
    for file in ["hs_ed25519_secret_key", "hs_ed25519_public_key", "hostname"] {
        let bytes = |of: &str| std::fs::read(dir.path().join(of).join(file)).unwrap();
        assert_eq!(bytes("tor"), bytes("back"), "{file}");
    }
    let again = keys(dir.path(), &["import", "shop", "tor/hs_ed25519_secret_key"]);
    assert_eq!(address(&again), made);
    assert!(stderr(&again).contains("has this key already"));

    let entry = "state/keystore/hss/shop/ks_hs_id.ed25519_expanded_private";
    assert_eq!(address(&onionbraid(dir.path(), &["keys", "address", entry])), made);
    std::fs::copy(dir.path().join(entry), dir.path().join("entry")).unwrap();
    assert_eq!(address(&keys(dir.path(), &["import", "blog", "./entry"])), made);
    for command in ["check", "run"] {
        let refused = onionbraid(dir.path(), &[command, "-c", "arti.toml"]);
        assert_eq!(refused.status.code(), Some(78), "{command}: {}", stderr(&refused));
        let said = stderr(&refused);
        assert!(said.contains("services \"blog\" and \"shop\" have the same key"), "{said}");
    }
}

#[test]
fn an_existing_key_is_never_replaced() {
    let dir = with_services();
    let made = address(&keys(dir.path(), &["generate", "shop"]));
    address(&onionbraid(dir.path(), &["keys", "generate", "--out", "other"]));
    let refused = keys(dir.path(), &["import", "shop", "other"]);
    assert_eq!(refused.status.code(), Some(77));
    assert!(stderr(&refused).contains("it is left as it is"), "{}", stderr(&refused));
    assert_eq!(address(&keys(dir.path(), &["address", "shop"])), made);
    let refused = keys(dir.path(), &["export", "shop", "--out", "other"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("other exists already"), "{}", stderr(&refused));
}

#[test]
fn a_pem_file_is_written_only_where_the_seed_is_known() {
    let dir = with_services();
    let pem = ["keys", "generate", "--out", "key.pem", "--format", "pem"];
    let made = address(&onionbraid(dir.path(), &pem));
    assert_eq!(address(&onionbraid(dir.path(), &["keys", "address", "./key.pem"])), made);
    address(&keys(dir.path(), &["import", "shop", "key.pem"]));
    let refused = keys(dir.path(), &["export", "shop", "--out", "back.pem", "--format", "pem"]);
    assert_eq!(refused.status.code(), Some(77));
    assert!(stderr(&refused).contains("cannot be written as PEM"), "{}", stderr(&refused));

    let named = SERVICES.replacen("proxy", "identity_key = \"key.pem\"\nproxy", 1);
    write(dir.path(), "arti.toml", &named);
    let written = keys(dir.path(), &["export", "shop", "--out", "back.pem", "--format", "pem"]);
    assert_eq!(address(&written), made);
    let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(file("back.pem"), file("key.pem"));
}

#[test]
fn a_service_uses_the_key_in_the_file_that_it_names() {
    let dir = with_services();
    let own = address(&keys(dir.path(), &["generate", "shop"]));
    std::fs::create_dir_all(dir.path().join("etc/keys")).unwrap();
    let made = address(&onionbraid(dir.path(), &["keys", "generate", "--out", "etc/keys/shop"]));
    write(
        dir.path(),
        "etc/key.toml",
        "[onion_services.shop]\nidentity_key = \"keys/shop\" # beside this file\n",
    );
    let both = ["-c", "arti.toml", "-c", "etc/key.toml"];
    let check = onionbraid(dir.path(), &[&["check"][..], &both].concat());
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
    let check = stdout(&check);
    assert!(check.contains(&format!("address {made}\n    key from /")), "{check}");
    assert!(check.contains("/etc/keys/shop\n"), "{check}");
    assert!(check.contains("has another key in the keystore"), "{check}");
    assert_ne!(own, made);
    let shown = stdout(&onionbraid(dir.path(), &[&["config", "show"][..], &both].concat()));
    assert!(shown.contains("etc/keys/shop\""), "{shown}");
    for command in [&["generate", "shop"][..], &["import", "shop", "etc/keys/shop"]] {
        let refused = onionbraid(dir.path(), &[&["keys"], command, &both].concat());
        assert_eq!(refused.status.code(), Some(78));
        assert!(stderr(&refused).contains("does not use the keystore"), "{}", stderr(&refused));
    }
}

#[test]
fn a_key_file_that_others_can_read_gives_77_and_the_command_that_helps() {
    let dir = with_services();
    address(&onionbraid(dir.path(), &["keys", "generate", "--out", "key.pem", "--format", "pem"]));
    let key = dir.path().join("key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    // This prefix is above suspicion, not what lies in it.
    let strict = format!(
        "{}identity_key = \"key.pem\"\n[storage]\nstate_dir = \"state\"\n[storage.permissions]\n\
         ignore_prefix = \"{}\"\ntrust_group = false\n",
        SERVICES.split("[onion_services.blog]").next().unwrap(),
        dir.path().display(),
    );
    write(dir.path(), "arti.toml", &strict);
    let check = strict_check(dir.path());
    assert_eq!(check.status.code(), Some(77), "{}", stderr(&check));
    let said = stderr(&check);
    assert!(said.contains("the `identity_key` of service \"shop\""), "{said}");
    assert!(said.contains("(mode 0644): chmod 600 "), "{said}");
}

#[test]
fn restricted_clients_of_a_tor_are_not_forgotten_in_silence() {
    let dir = with_services();
    address(&onionbraid(dir.path(), &["keys", "generate", "--out", "tor"]));
    std::fs::create_dir(dir.path().join("tor/authorized_clients")).unwrap();
    let import = |name| stderr(&keys(dir.path(), &["import", name, "tor"]));
    assert!(!import("shop").contains("authorized_clients"));
    std::fs::write(dir.path().join("tor/authorized_clients/alice.auth"), "").unwrap();
    assert!(import("shop").contains("without it everybody could reach it"));
}

#[test]
fn what_cannot_be_done_says_why() {
    let dir = with_services();
    let said = |arguments: &[&str], code: i32| {
        let output = keys(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(said(&["address", "shop"], 77).contains("onionbraid keys generate shop"));
    assert!(said(&["export", "shop", "--out", "x"], 77).contains("has no key yet"));
    assert!(said(&["generate", "show"], 2).contains("there is no service \"show\""));
    write(dir.path(), "show", "");
    assert!(said(&["address", "show"], 2).contains("a file is ./show"));
    assert!(said(&["address", "./show"], 77).contains("it is empty"));
    assert!(said(&["address", "./none"], 77).contains("there is no ./none"));
    assert!(said(&["import", "shop", "none"], 77).contains("there is no none"));
    assert!(said(&["generate"], 2).contains("<SERVICE>"));
    assert!(said(&["generate", "shop", "--out", "x"], 2).contains("cannot be used with"));
    assert!(said(&["generate", "shop", "--format", "pem"], 2).contains("cannot be used with"));
    assert!(said(&["generate", "--out", "none/x"], 1).contains("cannot be written"));
}
