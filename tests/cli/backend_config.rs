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
fn several_servers_become_several_lines_and_what_tor_cannot_do_is_said() {
    let (dir, _) = with_key(
        "[[80, [\"http://127.0.0.1:1\", \"http://web:2\"]], [443, \"https://a.example\"], \
         [22, \"127.0.0.1:22\", { proxy_protocol = \"v1\" }]]\nhttp = { retries = 0 }",
    );
    let output = backend_config(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    let lines: Vec<&str> =
        settings(&said).into_iter().filter(|line| line.starts_with("HiddenServicePort")).collect();
    assert_eq!(lines, ["HiddenServicePort 80 127.0.0.1:1", "HiddenServicePort 80 web:2"]);
    assert!(said.contains("no word for this rule of ours: port 443: https://a.example"), "{said}");
    assert!(said.contains("port 22: 127.0.0.1:22 (PROXY protocol, version 1)"), "{said}");
    assert!(said.contains("what [onion_services.\"shop\".http] says has no effect"), "{said}");
}

#[test]
fn a_backend_of_c_tor_tells_servers_the_circuit_if_all_of_them_want_it_as_tor_writes_it() {
    let lines = |ports: &str| {
        let (dir, _) = with_key(ports);
        let said = stdout(&backend_config(dir.path(), &[]));
        settings(&said)[3..].iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()
    };
    let all = lines(
        "[[80, \"http://127.0.0.1:1\"], [22, \"127.0.0.1:2\", { proxy_protocol = \"v1\" }]]\n\
         http = { proxy_protocol = \"v1\" }",
    );
    let wanted = [
        "HiddenServiceExportCircuitID haproxy",
        "HiddenServicePort 80 127.0.0.1:1",
        "HiddenServicePort 22 127.0.0.1:2",
    ];
    assert_eq!(all[..3], wanted);
    for version in ["v1", "v2"] {
        let some = lines(&format!(
            "[[80, \"127.0.0.1:1\"], [22, \"127.0.0.1:2\", {{ proxy_protocol = \"{version}\" }}]]"
        ));
        assert_eq!(some[0], "HiddenServicePort 80 127.0.0.1:1");
        assert!(!some.iter().any(|line| line.contains("127.0.0.1:2")), "{some:?}");
    }
}

#[test]
fn another_onionbraid_leads_requests_in_the_same_way_under_the_address_that_clients_know() {
    let (dir, address) = with_key(
        "[[\"80-81\", \"http://127.0.0.1:8080\"], [22, \"127.0.0.1:22\", { proxy_protocol = \"v1\" }]]\n\
         http = { retries = 0, names = [{ public = \"a.example\" }], \
         allowed_hosts = [\"self\"], ports = { \"81\" = { retries = 2 } } }",
    );
    let output = backend_config(dir.path(), &["--for", "onionbraid", "--out", "backend"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let made = std::fs::read_to_string(dir.path().join("backend/arti.toml")).unwrap();
    assert!(made.contains("proxy_protocol = \"v1\"") && !made.contains("balance"), "{made}");
    assert!(made.contains(&format!("public = \"a.example\"\nonion = \"{address}\"")), "{made}");
    assert!(made.contains(&format!("allowed_hosts = [\"{address}\"]")), "{made}");
    let shown = onionbraid(dir.path(), &["config", "show", "-c", "backend/arti.toml"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let shown: toml::Table = toml::from_str(&stdout(&shown)).unwrap();
    let http = &shown["onion_services"]["shop"]["http"];
    assert_eq!(http["retries"].as_integer(), Some(0));
    assert_eq!(http["ports"]["81"]["retries"].as_integer(), Some(2));
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
