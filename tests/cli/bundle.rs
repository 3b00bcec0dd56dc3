//! `onionbraid keys export-periods`, and what `check` says of a bundle.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use onionbraid::observe::Snapshot;

use super::unprivileged::{Process, until};
use super::{NO_NETWORK, onionbraid, stderr, stdout, write};

const SAFE: &str = "\
[onion_services.shop]
proxy_ports = [[80, \"http://127.0.0.1:8080\"]]
[storage]
state_dir = \"safe\"
[storage.permissions]
dangerously_trust_everyone = true
";

fn publisher(keys: &str) -> String {
    SAFE.replace("\"safe\"", "\"state\"").replacen(
        "proxy_ports",
        &format!("{keys}\nproxy_ports"),
        1,
    )
}

/// A machine with a key; its address.
fn safe(dir: &Path) -> String {
    write(dir, "safe.toml", SAFE);
    stdout(&onionbraid(dir, &["keys", "generate", "shop", "-c", "safe.toml"])).trim().to_owned()
}

fn export(dir: &Path, more: &[&str]) -> std::process::Output {
    let command = ["keys", "export-periods", "shop", "-c", "safe.toml"];
    onionbraid(dir, &[&command, more].concat())
}

fn check(dir: &Path, keys: &str) -> (Option<i32>, String) {
    write(dir, "arti.toml", &publisher(keys));
    let checked = onionbraid(dir, &["check", "-c", "arti.toml"]);
    (checked.status.code(), stdout(&checked) + &stderr(&checked))
}

const BUNDLE: &str = "identity_bundle = \"bundle\"";

#[test]
fn a_bundle_takes_the_place_of_the_key_and_check_says_for_how_long() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let address = safe(dir);
    let exported = export(dir, &["--count", "3", "--out", "bundle"]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    assert_eq!(stdout(&exported).trim(), address);
    let files: Vec<_> = dir.join("bundle").read_dir().unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 3);
    for file in &files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (code, said) = check(dir, BUNDLE);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&address) && said.contains("keys of 3 time periods"), "{said}");
    // The few that are left are told of.
    assert!(said.contains("warning: service \"shop\": identity_bundle: keys for"), "{said}");
    let of = onionbraid(dir, &["keys", "address", "shop", "-c", "arti.toml"]);
    assert_eq!(stdout(&of).trim(), address);

    for command in [
        &["keys", "export", "shop", "--out", "copy"][..],
        &["keys", "export-periods", "shop", "--count", "1", "--out", "copy"],
        &["certificate", "request", "shop", "--nonce", "AAAAAAAAAAAAAAAAAAAAAA"],
    ] {
        let refused = onionbraid(dir, &[command, &["-c", "arti.toml"]].concat());
        assert_eq!(refused.status.code(), Some(77), "{command:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains("identity key"), "{}", stderr(&refused));
    }
    assert!(!dir.join("copy").exists());
    let again = export(dir, &["--count", "5", "--out", "bundle"]);
    assert!(!again.status.success() && stderr(&again).contains("exists already"));
    for bad in ["0", "367"] {
        assert_eq!(export(dir, &["--count", bad, "--out", "none"]).status.code(), Some(2));
    }
    assert!(export(dir, &["--count", "366", "--out", "year"]).status.success());
    assert_eq!(dir.join("year").read_dir().unwrap().count(), 366);
}

#[test]
fn bundles_that_are_over_to_come_foreign_or_mixed_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    safe(dir);
    let made = |out: &str, from: &str| {
        let made = export(dir, &["--count", "2", "--out", out, "--from", from]);
        assert!(made.status.success(), "{}", stderr(&made));
        format!("identity_bundle = \"{out}\"")
    };
    // Of these the daemon runs without the service.
    let (code, said) = check(dir, &made("over", "2020-01-01"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the last time period with keys ended at 2020-01-0"), "{said}");
    let (code, said) = check(dir, &made("coming", "2090-01-01T13:00:00Z"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("begins at 2090-01-01T12:00:00Z"), "{said}");
    let gap = made("gap", "2020-01-01");
    made("gap", "2090-01-01");
    let (code, said) = check(dir, &gap);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no keys for the current time period"), "{said}");

    let (code, said) = check(dir, "identity_bundle = \"missing\"");
    assert_eq!(code, Some(78), "{said}");
    std::fs::create_dir(dir.join("empty")).unwrap();
    let (code, said) = check(dir, "identity_bundle = \"empty\"");
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("has no keys of a period in it"), "{said}");
    std::fs::create_dir(dir.join("pipe")).unwrap();
    let pipe = dir.join("pipe/x.period");
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(pipe).status();
    assert!(made.unwrap().success());
    let (code, said) = check(dir, "identity_bundle = \"pipe\"");
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("no ordinary file"), "{said}");
    write(&dir.join("coming"), "x.period", "damaged");
    let (code, said) = check(dir, "identity_bundle = \"coming\"");
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("holds no keys of a period"), "{said}");

    // Both the key and a bundle.
    let (code, said) = check(dir, "identity_key = \"safe\"\nidentity_bundle = \"gap\"");
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("identity_bundle"), "{said}");
    let other = onionbraid(dir, &["keys", "generate", "shop", "-c", "other.toml"]);
    assert!(!other.status.success());
    write(dir, "other.toml", &publisher(""));
    assert!(onionbraid(dir, &["keys", "generate", "shop", "-c", "other.toml"]).status.success());
    assert!(export(dir, &["--count", "9", "--out", "bundle"]).status.success());
    let (code, said) = check(dir, BUNDLE);
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("its key in the keystore has the address"), "{said}");
    std::fs::remove_dir_all(dir.join("state/keystore")).unwrap();
    let (code, said) = check(dir, BUNDLE);
    assert_eq!(code, Some(0), "{said}");
    std::fs::rename(dir.join("safe/keystore"), dir.join("state/keystore")).unwrap();
    let (code, said) = check(dir, BUNDLE);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("the bundle protects it only if the key is on another machine"),
        "{said}"
    );
}

/// The daemon with the only relay where nobody listens.
fn daemon(dir: &Path) -> Process {
    let text = publisher(BUNDLE) + NO_NETWORK;
    write(dir, "arti.toml", &text);
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbraid"));
    command.args(["run", "-c", "arti.toml"]).env_clear().env("HOME", dir).current_dir(dir);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let process = Process(child);
    until("the daemon's answer", || {
        onionbraid(dir, &["healthcheck", "-c", "arti.toml"]).status.code() != Some(69)
    });
    process
}

/// What the status says is wrong.
fn problems(dir: &Path) -> String {
    let status = onionbraid(dir, &["status", "--json", "-c", "arti.toml"]);
    let snapshot: Snapshot = serde_json::from_str(&stdout(&status)).unwrap();
    snapshot.services[0].problems.join("\n")
}

#[test]
fn a_bundle_is_replaced_while_the_daemon_runs_but_by_none_for_other_times() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    safe(dir);
    let made = |arguments: &[&str]| {
        let made = export(dir, arguments);
        assert!(made.status.success(), "{}", stderr(&made));
    };
    made(&["--count", "3", "--out", "bundle"]);
    made(&["--count", "9", "--out", "next"]);
    made(&["--count", "2", "--out", "coming", "--from", "2090-01-01"]);
    let _daemon = daemon(dir);
    let put = |name: &str, aside: &str| {
        std::fs::rename(dir.join("bundle"), dir.join(aside)).unwrap();
        std::fs::rename(dir.join(name), dir.join("bundle")).unwrap();
    };
    let reload = || onionbraid(dir, &["reload", "-c", "arti.toml"]);
    assert_eq!(reload().status.code(), Some(0));

    put("coming", "before");
    let other_times = "has no keys for the present time period";
    until("it is refused", || problems(dir).contains(other_times));
    let refused = reload();
    assert_eq!(refused.status.code(), Some(77), "{}", stderr(&refused));
    assert!(stderr(&refused).contains(other_times), "{}", stderr(&refused));
    assert!(problems(dir).contains(other_times), "{}", problems(dir));

    put("next", "coming");
    until("it is in force", || !problems(dir).contains("identity_bundle is wrong"));
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.contains("identity bundle read again") && log.contains("periods=9"), "{log}");
    assert_eq!(reload().status.code(), Some(0));

    // One that is damaged changes nothing, and neither does a reload.
    write(&dir.join("bundle"), "x.period", "damaged");
    until("it is told of", || problems(dir).contains("identity_bundle is wrong"));
    assert_eq!(reload().status.code(), Some(77));
}

#[test]
fn an_export_that_is_interrupted_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    safe(dir);
    std::fs::create_dir(dir.join("there")).unwrap();
    for out in ["new", "there"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onionbraid"));
        let arguments = ["keys", "export-periods", "shop", "--count", "366", "-c", "safe.toml"];
        command.args(arguments).args(["--out", out]).env_clear().env("HOME", dir);
        let command = command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let partial = match out {
            "new" => dir.join("new.partial"),
            _ => dir.join("there/.partial"),
        };
        until("it has begun", || partial.read_dir().is_ok_and(|files| files.count() > 2));
        assert!(!dir.join("new").exists());
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(stderr(&ended).contains("interrupted: nothing was written"), "{ended:?}");
        assert!(!partial.exists() && !dir.join("new").exists());
    }
    assert_eq!(dir.join("there").read_dir().unwrap().count(), 0);
    // What was killed where it stood is not taken for something else.
    std::fs::create_dir(dir.join("new.partial")).unwrap();
    let refused = export(dir, &["--count", "1", "--out", "new"]);
    assert!(!refused.status.success() && stderr(&refused).contains("look at it and delete it"));
}

#[test]
fn an_export_for_times_that_are_over_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    safe(dir);
    let said = |arguments: &[&str]| stderr(&export(dir, arguments));
    let over = said(&["--count", "2", "--out", "over", "--from", "2020-01-01"]);
    assert!(over.contains("2 of these time periods are over already, so nothing"), "{over}");
    let now = said(&["--count", "2", "--out", "now"]);
    assert!(!now.contains("Warning"), "{now}");
}
