//! Commands that ask the running daemon. Its admin interface is the real one,
//! with a Snapshot made for the test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use onionbraid::admin::Admin;
use onionbraid::config::AdminListen;
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{Timestamp, Tor};

use super::{onionbraid, stderr, stdout, write};

/// A directory with a configuration whose daemon is not running.
fn configured() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let text = format!(
        "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:8080\"]]\n[admin]\nlisten = \
         \"unix:{}\"\n",
        socket.display()
    );
    write(dir.path(), "arti.toml", &text);
    dir
}

/// An admin interface that answers until it is dropped.
struct Daemon {
    ready: Arc<AtomicBool>,
    /// Its tasks end with it.
    _runtime: tokio::runtime::Runtime,
}

fn daemon(dir: &Path) -> Daemon {
    let ready = Arc::new(AtomicBool::new(false));
    let snapshot = {
        let ready = Arc::clone(&ready);
        Arc::new(move || Snapshot {
            reload: None,
            version: "1".into(),
            started: Timestamp(SystemTime::UNIX_EPOCH),
            ready: ready.load(Ordering::SeqCst),
            tor: Tor { bootstrap: 1.0, message: "done".into(), consensus_valid_until: None },
            services: Vec::new(),
        })
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listen = AdminListen::Unix(dir.join("admin.sock"));
    let admin = runtime.block_on(Admin::open(&listen, snapshot)).unwrap();
    runtime.handle().spawn(admin.serve());
    Daemon { ready, _runtime: runtime }
}

#[test]
fn the_health_of_the_daemon_is_an_exit_code() {
    let dir = configured();
    let ask = || onionbraid(dir.path(), &["healthcheck", "-c", "arti.toml"]);
    let absent = ask();
    assert_eq!(absent.status.code(), Some(69));
    assert!(stderr(&absent).contains("the daemon does not answer"), "{}", stderr(&absent));
    let daemon = daemon(dir.path());
    let starting = ask();
    assert_eq!(starting.status.code(), Some(1));
    assert_eq!(stderr(&starting), "onionbraid: the daemon is not ready\n");
    daemon.ready.store(true, Ordering::SeqCst);
    let ready = ask();
    assert_eq!((ready.status.code(), stdout(&ready).as_str()), (Some(0), "ready\n"));
}

#[test]
fn the_status_is_text_or_the_whole_snapshot_as_json() {
    let dir = configured();
    let absent = onionbraid(dir.path(), &["status", "--watch", "-c", "arti.toml"]);
    assert_eq!(absent.status.code(), Some(69));
    let _daemon = daemon(dir.path());
    let text = onionbraid(dir.path(), &["status", "-c", "arti.toml"]);
    assert_eq!(text.status.code(), Some(0), "{}", stderr(&text));
    let json = onionbraid(dir.path(), &["status", "--json", "-c", "arti.toml"]);
    let snapshot: Snapshot = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(snapshot.version, "1");
}

fn watch(dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_onionbraid"))
        .args(["status", "--watch", "--json", "-c", "arti.toml"])
        .env_clear()
        .env("HOME", dir)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The next status, up to the blank line behind it.
fn next_status(lines: &mut impl std::io::BufRead) -> Snapshot {
    let mut text = String::new();
    loop {
        let before = text.len();
        lines.read_line(&mut text).unwrap();
        assert!(text.len() > before, "it ended after {text:?}");
        if &text[before..] == "}\n" {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[test]
fn a_watched_status_is_shown_anew_until_it_is_interrupted() {
    let dir = configured();
    let daemon = daemon(dir.path());
    let mut child = watch(dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    assert!(!next_status(&mut lines).ready);
    daemon.ready.store(true, Ordering::SeqCst);
    let mut blank = String::new();
    lines.read_line(&mut blank).unwrap();
    assert_eq!(blank, "\n");
    assert!(next_status(&mut lines).ready);
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_watched_status_that_nobody_reads_any_more_ends() {
    let dir = configured();
    let _daemon = daemon(dir.path());
    let mut child = watch(dir.path());
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
