//! `onionbraid backend-config`.

use std::path::Path;

use super::{onionbraid, stderr, stdout, write};

/// A service with a key, and its address.
fn with_key(proxy_ports: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[onion_services.shop]\nproxy_ports = {proxy_ports}\n[storage]\nstate_dir = \"state\"\n"
    );
    write(dir.path(), "arti.toml", &text);
    let made = onionbraid(dir.path(), &["keys", "generate", "shop", "-c", "arti.toml"]);
    (dir, stdout(&made).trim().to_owned())
}

fn backend_config(dir: &Path, more: &[&str]) -> std::process::Output {
    onionbraid(dir, &[&["backend-config", "shop", "-c", "arti.toml"], more].concat())
}

/// The lines that tor reads.
fn settings(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

#[test]
fn a_backend_of_c_tor_gets_one_line_for_each_port_and_the_address_to_answer_for() {
    let (dir, address) = with_key(
        "[[80, \"http://127.0.0.1:8080\"], [\"79-82\", \"127.0.0.1:9000\"], \
         [22, \"unix:/run/a b.sock\"], [443, \"reject\"], [\"1000-2000\", \"127.0.0.1:1\"]]",
    );
    let output = backend_config(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert_eq!(
        settings(&said),
        [
            "HiddenServiceDir /var/lib/tor/shop-backend",
            "HiddenServiceVersion 3",
            "HiddenServiceOnionBalanceInstance 1",
            "HiddenServicePort 80 127.0.0.1:8080",
            "HiddenServicePort 79 127.0.0.1:9000",
            "HiddenServicePort 81 127.0.0.1:9000",
            "HiddenServicePort 82 127.0.0.1:9000",
            "HiddenServicePort 22 unix:\"/run/a b.sock\"",
            &format!("MasterOnionAddress {address}"),
        ]
    );
    assert!(said.contains("no word for this rule of ours: port 443: reject"), "{said}");
    assert!(said.contains("write those of 1000-2000 that are needed"), "{said}");
}

#[test]
fn the_files_go_to_a_new_directory_and_overwrite_nothing() {
    let (dir, address) = with_key("[[80, \"127.0.0.1:8080\"]]");
    assert_eq!(backend_config(dir.path(), &["--out", "backend"]).status.code(), Some(0));
    let file = |name: &str| std::fs::read_to_string(dir.path().join("backend").join(name));
    assert_eq!(settings(&file("torrc").unwrap()).len(), 4);
    let ob_config = file("ob_config").unwrap();
    assert_eq!(settings(&ob_config), [format!("MasterOnionAddress {address}")]);
    write(&dir.path().join("backend"), "torrc", "precious");
    let again = backend_config(dir.path(), &["--out", "backend"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("backend exists already"), "{}", stderr(&again));
    assert_eq!(file("torrc").unwrap(), "precious");
}

#[test]
fn what_another_onionbraid_gets_is_a_configuration_that_it_accepts() {
    let (dir, address) = with_key("[[80, \"http://127.0.0.1:8080\"], [\"*\", \"reject\"]]");
    let output = backend_config(dir.path(), &["--for", "onionbraid", "--out", "backend"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let check = onionbraid(dir.path(), &["check", "-c", "backend/arti.toml"]);
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
    let check = stdout(&check);
    assert!(check.contains(&format!("they answer for {address} too")), "{check}");
    assert!(check.contains("port 80: http://127.0.0.1:8080\n    port *: reject"), "{check}");
}

#[test]
fn without_a_key_there_is_no_address_to_answer_for() {
    let dir = tempfile::tempdir().unwrap();
    let service = "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:8080\"]]\n";
    write(dir.path(), "arti.toml", service);
    let output = backend_config(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(77));
    assert!(stderr(&output).contains("onionbraid keys generate shop"), "{}", stderr(&output));
}
