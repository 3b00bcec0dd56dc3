//! What the program itself does on the command line: output and exit codes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cli/admin.rs"]
mod admin;
#[path = "cli/backend_config.rs"]
mod backend_config;
#[path = "cli/backends_file.rs"]
mod backends_file;
#[path = "cli/backup.rs"]
mod backup;
#[path = "cli/bundle.rs"]
mod bundle;
#[path = "cli/certificate.rs"]
mod certificate;
#[path = "cli/clients.rs"]
mod clients;
#[path = "cli/delivered.rs"]
mod delivered;
#[path = "cli/first_run.rs"]
mod first_run;
#[path = "cli/hardening.rs"]
mod hardening;
#[path = "cli/inquiries.rs"]
mod inquiries;
#[path = "cli/keys.rs"]
mod key_commands;
#[path = "cli/notify.rs"]
mod notify;
#[path = "cli/one_service.rs"]
mod one_service;
#[path = "cli/orders.rs"]
mod orders;
#[path = "cli/outputs.rs"]
mod outputs;
#[path = "cli/preflight.rs"]
mod preflight;
#[path = "cli/screen.rs"]
mod screen;
#[path = "cli/unprivileged.rs"]
mod unprivileged;
#[path = "cli/written.rs"]
mod written;

use std::path::Path;
use std::process::{Command, Output};

use onionbraid::config::{Config, Environment};
use onionbraid::tor::keys;

const GOOD: &str = "\
[onion_services.\"shop\"]
proxy_ports = [[80, \"http://127.0.0.1:8080\"], [\"*\", \"reject\"]]
local_instances = 2

[[onion_services.\"shop\".backends]]
address = \"2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion\"
name = \"berlin\"

";

/// Runs the program with nothing in its environment but a home below `dir`.
fn onionbraid(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onionbraid"))
        .args(arguments)
        .env_clear()
        .env("HOME", dir.join("home"))
        .env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1")
        .current_dir(dir)
        .output()
        .unwrap()
}

/// `check` where permissions are looked at.
fn strict_check(dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onionbraid"))
        .args(["check", "-c", "arti.toml"])
        .env_clear()
        .env("HOME", dir)
        .current_dir(dir)
        .output()
        .unwrap()
}

/// The only relay is where nobody listens.
const NO_NETWORK: &str = "[tor_network]\nfallback_caches = [{ rsa_identity = \
     \"911F7C74212214823DDBDE3044B5B1AF3EFB98A0\", ed_identity = \
     \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", orports = [\"127.0.0.1:1\"] }]\n";

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn check_shows_what_would_run_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "arti.toml", GOOD);
    let output = onionbraid(dir.path(), &["check", "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    for expected in [
        "configuration: arti.toml",
        "service \"shop\"",
        "a new key and address will be made at the first run",
        "local instances: 2",
        "port 80: http://127.0.0.1:8080",
        "port *: reject",
        "backend berlin: 2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion (weight 1)",
        "the keys are onionbraid's own",
        "hint: service \"shop\": nothing probes its backends elsewhere",
        "The configuration is good.",
    ] {
        assert!(said.contains(expected), "{expected:?} is missing:\n{said}");
    }
    assert!(!dir.path().join("home").exists());
}

#[test]
fn check_shows_the_address_once_there_is_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let storage = format!(
        "[storage]\nstate_dir = \"{}\"\n[storage.permissions]\ndangerously_trust_everyone = true\n",
        state.display()
    );
    write(dir.path(), "arti.toml", &format!("{GOOD}{storage}"));
    let file = dir.path().join("arti.toml");
    let config = Config::load(&[file], &Environment::new([("HOME", dir.path())])).unwrap();
    let nickname = &config.services[0].nickname;
    let key = keys::open(&config.storage).unwrap().generate(nickname).unwrap();
    let address = keys::address(&key);

    let output = onionbraid(dir.path(), &["check", "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("address {address}")));
    assert!(!stdout(&output).contains("onionbraid's own"));

    let itself = GOOD.replace(
        "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion",
        &address.to_string(),
    );
    write(dir.path(), "arti.toml", &format!("{itself}{storage}"));
    let output = onionbraid(dir.path(), &["check", "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("lists itself"), "{}", stderr(&output));
}

#[test]
fn keys_for_local_instances_that_there_are_not_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let backend = "[[onion_services.shop.backends]]\n\
        address = \"2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion\"\n";
    let text = format!("[onion_services.shop]\nlocal_weight = 2\n{backend}");
    write(dir.path(), "arti.toml", &text);
    let output = onionbraid(dir.path(), &["check", "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let warning = "local_weight: it is for local instances, of which this service has none";
    assert!(stdout(&output).contains(warning), "{}", stdout(&output));
}

#[test]
fn a_service_cannot_be_its_own_frontend() {
    let dir = tempfile::tempdir().unwrap();
    let made = stdout(&onionbraid(dir.path(), &["keys", "generate", "--out", "shop"]));
    let own = format!("identity_key = \"shop\"\nfrontends = [\"{}\"]\nlocal", made.trim());
    write(dir.path(), "arti.toml", &GOOD.replacen("local", &own, 1));
    let output = onionbraid(dir.path(), &["check", "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("its own address in `frontends`"), "{}", stderr(&output));
}

#[test]
fn the_check_tells_how_instances_count_and_how_backends_are_probed() {
    let dir = tempfile::tempdir().unwrap();
    let more = "probe = { port = 80, path = \"/\" }\nlocal_intro_points = 1\nlocal_weight = 3\n";
    write(dir.path(), "arti.toml", &GOOD.replacen("local", &format!("{more}local"), 1));
    let output = onionbraid(dir.path(), &["check", "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("with 1 introduction point each (weight 3)"), "{said}");
    assert!(
        said.contains("probed on port 80 every 1m in doubt, else every 5m")
            && !said.contains("hint"),
        "{said}"
    );
}

#[test]
fn a_damaged_key_gives_its_own_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "arti.toml", &format!("{GOOD}[storage]\nstate_dir = \"state\"\n"));
    let keys = dir.path().join("state/keystore/hss/shop");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join("ks_hs_id.ed25519_expanded_private"), "damaged").unwrap();
    let output = onionbraid(dir.path(), &["check", "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(77), "{}{}", stdout(&output), stderr(&output));
    assert!(stderr(&output).contains("the key of service \"shop\" cannot be read"));
}

#[test]
fn a_wrong_file_gives_all_errors_on_standard_error_and_78() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "arti.toml", &GOOD.replace("local_instances = 2", "enabled = 1\ncolor = 2"));
    for command in [&["check"][..], &["config", "show"]] {
        let output = onionbraid(dir.path(), &[command, &["-c", "arti.toml"]].concat());
        assert_eq!(output.status.code(), Some(78));
        assert_eq!(stdout(&output), "");
        let said = stderr(&output);
        assert!(said.starts_with("onionbraid: the configuration has 2 errors"), "{said}");
        assert!(said.contains("arti.toml:3: onion_services.\"shop\".enabled = 1"), "{said}");
        assert!(said.contains("arti.toml:4: onion_services.\"shop\".color"), "{said}");
    }
}

#[test]
fn a_missing_file_gives_78_and_a_wrong_command_line_gives_2() {
    let dir = tempfile::tempdir().unwrap();
    let output = onionbraid(dir.path(), &["check", "-c", "none.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("none.toml\n    there is no such file"));
    assert_eq!(onionbraid(dir.path(), &["chekc"]).status.code(), Some(2));
    assert_eq!(onionbraid(dir.path(), &[]).status.code(), Some(2));
}

#[test]
fn a_port_that_cannot_be_served_gives_78_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sorry.html"), b"d\xe9sol\xe9").unwrap();
    let text = "[onion_services.shop]\nproxy_ports = [[\"80-81\", \"http://127.0.0.1:1\"]]\n\
                http = { error_pages = { \"502\" = \"sorry.html\" } }\n";
    write(dir.path(), "arti.toml", text);
    for command in ["check", "run"] {
        let output = onionbraid(dir.path(), &[command, "-c", "arti.toml"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "{command}: {said}");
        assert!(said.contains("service \"shop\": port 80-81 cannot be served: "), "{said}");
        assert!(said.contains("sorry.html is not written in UTF-8"), "{said}");
    }
}

#[test]
fn later_files_override_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.toml", GOOD);
    write(dir.path(), "b.toml", "[onion_services.shop]\nbackends = []\nnum_intro_points = 5\n");
    let output = onionbraid(dir.path(), &["check", "-c", "a.toml", "-c", "b.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("local instances: 2, with 5 introduction points each"));
    assert!(!stdout(&output).contains("berlin"));
}

#[test]
fn the_users_own_file_is_found_without_being_named() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("home/.config/onionbraid");
    std::fs::create_dir_all(&own).unwrap();
    write(&own, "arti.toml", GOOD);
    let output = onionbraid(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("home/.config/onionbraid/arti.toml"));
}

#[test]
fn the_printed_example_passes_the_check_and_so_does_what_is_shown_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let example = stdout(&onionbraid(dir.path(), &["config", "example"]));
    write(dir.path(), "example.toml", &example);
    let output = onionbraid(dir.path(), &["check", "-c", "example.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let shown = onionbraid(dir.path(), &["config", "show", "-c", "example.toml"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    assert!(stdout(&shown).contains("max_intro_points = \"auto\""));
    write(dir.path(), "shown.toml", &stdout(&shown));
    let again = onionbraid(dir.path(), &["check", "-c", "shown.toml"]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
}

#[test]
fn the_help_names_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let help = stdout(&onionbraid(dir.path(), &["--help"]));
    for code in [0, 1, 2, 69, 77, 78] {
        assert!(help.contains(&format!("\n{code:>4}  ")), "{code} in {help}");
    }
}

#[test]
fn without_a_key_nobody_can_be_asked_online() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "arti.toml", GOOD);
    let output = onionbraid(dir.path(), &["check", "--online", "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("The configuration is good."));
    assert!(stderr(&output).contains("service \"shop\" has no key"), "{}", stderr(&output));
    assert!(!dir.path().join("home").exists());
}

#[test]
fn a_client_that_is_interrupted_leaves_its_directory_to_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there, so the client waits.
    let nowhere = "[tor_network]\nfallback_caches = [{ rsa_identity = \
                   \"911F7C74212214823DDBDE3044B5B1AF3EFB98A0\", ed_identity = \
                   \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", orports = [\"127.0.0.1:1\"] }]\n\
                   [storage]\nstate_dir = \"state\"\ncache_dir = \"cache\"\n";
    write(dir.path(), "arti.toml", &format!("{GOOD}{nowhere}"));
    let address = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";
    let kept = dir.path().join("home/.local/state/onionbraid");
    let kept = || -> Vec<_> {
        let entries = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path());
        entries.collect()
    };
    let mut before = None;
    for _ in 0..2 {
        let mut client = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
            .args(["descriptor", address, "-c", "arti.toml"])
            .env_clear()
            .env("HOME", dir.path().join("home"))
            .env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1")
            .current_dir(dir.path())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // It says so once it has its directory and its signals are in its hands.
        let mut said = String::new();
        let mut stderr = std::io::BufReader::new(client.stderr.take().unwrap());
        std::io::BufRead::read_line(&mut stderr, &mut said).unwrap();
        assert!(said.starts_with("connecting to Tor with guards of this user's"), "{said}");
        let killed = Command::new("kill").arg(client.id().to_string()).status().unwrap();
        assert!(killed.success());
        assert_eq!(client.wait().unwrap().code(), Some(1));
        assert_eq!(*before.get_or_insert_with(kept), kept());
    }
    assert_eq!(before.unwrap().len(), 1);
    // There was no daemon, and this command is none.
    assert!(!dir.path().join("state").exists() && !dir.path().join("cache").exists());
}
