//! Commands that ask the running daemon. Its admin interface is the real one,
//! with a Snapshot made for the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onionbraid::admin::{Admin, AdminError};
use onionbraid::config::AdminListen;
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::TorStatus;

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
    daemon_at(&AdminListen::Unix(dir.join("admin.sock"))).unwrap()
}

/// The same on loopback, and where; its configuration takes the place of the other.
fn daemon_on_loopback(dir: &Path) -> (Daemon, SocketAddr) {
    let ports = (20_000..32_000).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let found = ports.into_iter().find_map(|address| {
        daemon_at(&AdminListen::Tcp(address)).map(|daemon| (daemon, address)).ok()
    });
    let (daemon, address) = found.unwrap();
    let text = format!(
        "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:8080\"]]\n[admin]\nlisten = \
         \"{address}\"\n"
    );
    write(dir, "arti.toml", &text);
    (daemon, address)
}

fn daemon_at(listen: &AdminListen) -> Result<Daemon, AdminError> {
    let ready = Arc::new(AtomicBool::new(false));
    let snapshot = {
        let ready = Arc::clone(&ready);
        Arc::new(move || Snapshot {
            version: "1".into(),
            ready: ready.load(Ordering::SeqCst),
            tor: TorStatus { bootstrap: 1.0, message: "done".into(), ..TorStatus::default() },
            ..Snapshot::default()
        })
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let admin = runtime.block_on(Admin::open(listen, snapshot))?;
    runtime.handle().spawn(admin.serve());
    Ok(Daemon { ready, _runtime: runtime })
}

#[test]
fn the_health_of_the_daemon_is_an_exit_code() {
    let dir = configured();
    let ask = || onionbraid(dir.path(), &["healthcheck", "-c", "arti.toml"]);
    let absent = ask();
    assert_eq!(absent.status.code(), Some(69));
    assert!(stderr(&absent).contains("no daemon is running"), "{}", stderr(&absent));
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

/// One request by hand, answered whole or not at all.
fn request(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn on_loopback_clients_that_never_read_or_never_send_do_not_shut_out_others() {
    let dir = configured();
    let (daemon, address) = daemon_on_loopback(dir.path());
    daemon.ready.store(true, Ordering::SeqCst);
    // More than are kept open, and more answers than the system buffers.
    let pipelined = b"GET /status.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(2000);
    let mut hostile = Vec::new();
    for kind in 0..210 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        match kind % 3 {
            0 => {}
            1 => drop(stream.write(b"GET /status HT")),
            _ => drop(stream.write(&pipelined)),
        }
        hostile.push(stream);
    }
    assert!(request(address).to_ascii_lowercase().contains("connection: close"));
    for command in [&["status"][..], &["status", "--json"], &["healthcheck"]] {
        let output = onionbraid(dir.path(), &[command, &["-c", "arti.toml"]].concat());
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", stderr(&output));
    }
    let mut child = watch(dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    assert!(next_status(&mut lines).ready);
    lines.read_line(&mut String::new()).unwrap();
    assert!(next_status(&mut lines).ready);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(hostile);
}

#[test]
fn the_socket_of_the_daemon_is_not_shut_by_clients_that_say_nothing() {
    let dir = configured();
    let _daemon = daemon(dir.path());
    let connect = |_| std::os::unix::net::UnixStream::connect(dir.path().join("admin.sock"));
    let silent: Vec<_> = (0..200).map(connect).collect::<Result<_, _>>().unwrap();
    let status = onionbraid(dir.path(), &["status", "-c", "arti.toml"]);
    assert_eq!(status.status.code(), Some(0), "{}", stderr(&status));
    drop(silent);
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
