//! `onionbraid run --to` and `--files`: one service without any file.

use std::path::Path;
use std::process::Command;

use super::unprivileged::{Process, command, give, until};
use super::{stderr, write};

const NO_NETWORK: &str = "\
[storage]\nstate_dir = \"state\"\ncache_dir = \"cache\"\n\
[tor_network]\nfallback_caches = [{ rsa_identity = \"911F7C74212214823DDBDE3044B5B1AF3EFB98A0\", \
ed_identity = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", orports = [\"127.0.0.1:1\"] }]\n";

fn onionbraid(dir: &Path, arguments: &[&str]) -> Command {
    let mut program = command(env!("CARGO_BIN_EXE_onionbraid"));
    program.args(arguments).env_clear().env("HOME", dir).current_dir(dir);
    program
}

#[test]
fn a_service_of_the_command_line_runs_and_keeps_its_key_by_its_nickname() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "network.toml", NO_NETWORK);
    // It is not read: another service would run beside this one.
    std::fs::create_dir_all(dir.join(".config/onionbraid")).unwrap();
    write(dir, ".config/onionbraid/arti.toml", "this is no TOML");
    std::fs::create_dir(dir.join("public")).unwrap();
    give(dir);
    for (what, nickname) in
        [(&["--to", "http://127.0.0.1:8080"][..], "site"), (&["--files", "public"], "blog")]
    {
        let named = ["run", "-c", "network.toml", "--nickname", nickname, "--port", "8080"];
        let daemon = Process::start(&mut onionbraid(dir, &[&named, what].concat()));
        until("the daemon's socket", || dir.join("state/admin.sock").exists());
        let key = format!("state/keystore/hss/{nickname}/ks_hs_id.ed25519_expanded_private");
        assert!(dir.join(key).exists());
        let json = onionbraid(dir, &["status", "--json", "-c", "network.toml"]).output().unwrap();
        let said = String::from_utf8(json.stdout).unwrap();
        assert!(said.contains(&format!("\"nickname\": \"{nickname}\"")), "{said}");
        drop(daemon);
        std::fs::remove_file(dir.join("state/admin.sock")).unwrap();
    }
}

#[test]
fn what_is_wrong_on_the_command_line_is_said_as_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "network.toml", NO_NETWORK);
    give(dir);
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--to", "8080"], 78, "this is a port alone"),
        (&["--to", "x\"]]\n[admin]\nlisten = \"0.0.0.0:1"], 78, "command line"),
        (&["--to", "http://127.0.0.1:1", "--nickname", "Shop"], 78, "a nickname has only"),
        (&["--files", "missing"], 78, "there is no directory"),
        (&["--to", "http://127.0.0.1:1", "--files", "."], 2, "cannot be used with"),
        (&["--to", "http://127.0.0.1:1", "--port", "0"], 2, "--port"),
        (&["--port", "80"], 2, "required"),
        (&["--nickname", "shop"], 2, "required"),
    ];
    for (arguments, code, says) in cases {
        let output = onionbraid(dir, &[&["run", "-c", "network.toml"], arguments].concat())
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    assert!(!dir.join("state").exists());
}
