//! `check` and `run` say the same of everything that keeps the daemon from
//! running, with the same code, and `check` makes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::unprivileged::{Process, command, give, is_root, own, until};
use super::{stderr, stdout, write};

/// A user that is neither root nor the one who runs the program.
const STRANGER: u32 = 54_321;

/// Something that is wrong, and the code that it gives.
struct Fault {
    name: &'static str,
    code: i32,
    /// Whether it takes root to play it.
    needs_root: bool,
    /// What the complaint says.
    says: &'static str,
    make: fn(&Path) -> Situation,
}

/// What to add to the configuration, and what to keep open meanwhile.
#[derive(Default)]
struct Situation {
    /// Keys of the service.
    service: String,
    /// Other tables.
    tables: String,
    /// In place of a home directory of its own; empty: none at all.
    home: Option<&'static str>,
    /// Without a `[storage]`.
    without_storage: bool,
    /// A socket.
    _open: Option<Box<dyn std::any::Any>>,
}

fn tables(text: impl Into<String>) -> Situation {
    Situation { tables: text.into(), ..Situation::default() }
}

fn service(text: &str) -> Situation {
    Situation { service: text.to_owned(), ..Situation::default() }
}

fn directory(path: PathBuf, mode: u32) {
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn file(path: PathBuf, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory that is nobody else's business.
fn private(path: PathBuf) {
    directory(path, 0o700);
}

fn listen_in(dir: &Path, socket: &str) -> Situation {
    tables(format!("[admin]\nlisten = \"unix:{}/{socket}\"\n", dir.display()))
}

fn behind_a_transport(program: &Path) -> Situation {
    tables(format!(
        "[bridges]\nenabled = true\nbridges = ['obfs4 127.0.0.1:1 \
         316E643333645F6D79216558614D3931657A5F5F']\n[[bridges.transports]]\nprotocols = \
         ['obfs4']\npath = '{}'\n",
        program.display()
    ))
}

/// Taken as long as the listener is there.
fn taken_port() -> (SocketAddr, TcpListener) {
    taken_port_from(20_000)
}

/// Free as soon as it is looked for; other tests look for theirs elsewhere.
fn free_port() -> SocketAddr {
    let offset = u16::try_from(std::process::id() % 5000).unwrap();
    taken_port_from(26_000 + offset).0
}

fn taken_port_from(first: u16) -> (SocketAddr, TcpListener) {
    let ports = (first..32_000).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    ports.into_iter().find_map(|at| Some((at, TcpListener::bind(at).ok()?))).unwrap()
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "state directory writable by its group",
        code: 77,
        needs_root: false,
        says: "state",
        make: |dir| {
            directory(dir.join("state"), 0o2775);
            Situation::default()
        },
    },
    Fault {
        name: "state directory readable by others",
        code: 77,
        needs_root: false,
        says: "state",
        make: |dir| {
            directory(dir.join("state"), 0o755);
            Situation::default()
        },
    },
    Fault {
        name: "state directory of another user",
        code: 77,
        needs_root: true,
        says: "54321",
        make: |dir| {
            private(dir.join("state"));
            own(&dir.join("state"), STRANGER);
            Situation::default()
        },
    },
    Fault {
        name: "state directory of root",
        code: 77,
        needs_root: true,
        says: "state",
        make: |dir| {
            private(dir.join("state"));
            own(&dir.join("state"), 0);
            Situation::default()
        },
    },
    Fault {
        name: "program of a bridge's transport missing",
        code: 1,
        needs_root: false,
        says: "missing/obfs4proxy cannot be used: this user cannot execute it: No such file",
        make: |dir| behind_a_transport(&dir.join("missing/obfs4proxy")),
    },
    Fault {
        name: "program of a bridge's transport not executable",
        code: 77,
        needs_root: false,
        says: "this user cannot execute it: Permission denied",
        make: |dir| {
            file(dir.join("obfs4proxy"), "#!/bin/sh\n", 0o644);
            behind_a_transport(&dir.join("obfs4proxy"))
        },
    },
    Fault {
        name: "parent of the state directory not writable",
        code: 77,
        needs_root: false,
        says: "this user cannot write to",
        make: |dir| {
            directory(dir.join("parent"), 0o555);
            tables("[storage]\nstate_dir = \"parent/state\"\ncache_dir = \"cache\"\n")
        },
    },
    Fault {
        name: "state directory that may not be written to",
        code: 77,
        needs_root: false,
        says: "this user cannot write to",
        make: |dir| {
            directory(dir.join("state"), 0o500);
            Situation::default()
        },
    },
    Fault {
        name: "file in the place of the state directory",
        code: 1,
        needs_root: false,
        says: "state",
        make: |dir| {
            file(dir.join("state"), "precious", 0o600);
            Situation::default()
        },
    },
    Fault {
        name: "link to nowhere in the place of the state directory",
        code: 1,
        needs_root: false,
        says: "not found",
        make: |dir| {
            std::os::unix::fs::symlink("nowhere", dir.join("state")).unwrap();
            Situation::default()
        },
    },
    Fault {
        name: "home at the root of the file system",
        code: 77,
        needs_root: false,
        says: "this user cannot write to /",
        make: |_| Situation { home: Some("/"), without_storage: true, ..Situation::default() },
    },
    Fault {
        name: "no home",
        code: 78,
        needs_root: false,
        says: "without HOME",
        make: |_| Situation { home: Some(""), without_storage: true, ..Situation::default() },
    },
    Fault {
        name: "lock of another user",
        code: 77,
        needs_root: true,
        says: "onionbraid.lock",
        make: |dir| {
            private(dir.join("state"));
            file(dir.join("state/onionbraid.lock"), "", 0o600);
            give(&dir.join("state"));
            own(&dir.join("state/onionbraid.lock"), 0);
            Situation::default()
        },
    },
    Fault {
        name: "state of Arti that others can read",
        code: 77,
        needs_root: false,
        says: "state/state",
        make: |dir| {
            private(dir.join("state"));
            private(dir.join("state/state"));
            file(dir.join("state/state/guards.json"), "{}", 0o666);
            Situation::default()
        },
    },
    Fault {
        name: "cache directory not writable",
        code: 77,
        needs_root: false,
        says: "cache",
        make: |dir| {
            directory(dir.join("cache"), 0o500);
            Situation::default()
        },
    },
    Fault {
        name: "service's directory open to others",
        code: 77,
        needs_root: false,
        says: "onionbraid/shop",
        make: |dir| {
            private(dir.join("state"));
            private(dir.join("state/onionbraid"));
            directory(dir.join("state/onionbraid/shop"), 0o777);
            Situation::default()
        },
    },
    Fault {
        name: "keystore open to others",
        code: 77,
        needs_root: false,
        says: "keystore",
        make: |dir| {
            private(dir.join("state"));
            directory(dir.join("state/keystore"), 0o777);
            Situation::default()
        },
    },
    Fault {
        name: "keystore without the key, not writable",
        code: 77,
        needs_root: false,
        says: "keystore",
        make: |dir| {
            private(dir.join("state"));
            directory(dir.join("state/keystore"), 0o500);
            Situation::default()
        },
    },
    Fault {
        name: "damaged key",
        code: 77,
        needs_root: false,
        says: "the key of service \"shop\" cannot be read",
        make: |dir| {
            for below in
                ["state", "state/keystore", "state/keystore/hss", "state/keystore/hss/shop"]
            {
                private(dir.join(below));
            }
            let key = "state/keystore/hss/shop/ks_hs_id.ed25519_expanded_private";
            file(dir.join(key), "damaged", 0o600);
            Situation::default()
        },
    },
    Fault {
        name: "no identity key",
        code: 78,
        needs_root: false,
        says: "identity_key",
        make: |_| service("identity_key = \"none\""),
    },
    Fault {
        name: "identity key that cannot be read",
        code: 77,
        needs_root: false,
        says: "identity_key",
        make: |dir| {
            file(dir.join("key"), "secret", 0o000);
            service("identity_key = \"key\"")
        },
    },
    Fault {
        name: "identity key that is none",
        code: 77,
        needs_root: false,
        says: "identity_key",
        make: |dir| {
            file(dir.join("key"), "no key", 0o600);
            service("identity_key = \"key\"")
        },
    },
    Fault {
        name: "no directory for the socket",
        code: 1,
        needs_root: false,
        says: "cannot listen on unix:",
        make: |dir| listen_in(dir, "none/admin.sock"),
    },
    Fault {
        name: "directory of the socket not writable",
        code: 77,
        needs_root: false,
        says: "cannot listen on unix:",
        make: |dir| {
            directory(dir.join("run"), 0o555);
            listen_in(dir, "run/admin.sock")
        },
    },
    Fault {
        name: "file in the place of the socket",
        code: 1,
        needs_root: false,
        says: "exists and is no socket",
        make: |dir| {
            file(dir.join("run/admin.sock"), "precious", 0o600);
            listen_in(dir, "run/admin.sock")
        },
    },
    Fault {
        name: "socket on which another process answers",
        code: 1,
        needs_root: false,
        says: "another process answers",
        make: |dir| {
            private(dir.join("run"));
            let listener = UnixListener::bind(dir.join("run/admin.sock")).unwrap();
            let open: Option<Box<dyn std::any::Any>> = Some(Box::new(listener));
            Situation { _open: open, ..listen_in(dir, "run/admin.sock") }
        },
    },
    Fault {
        name: "path of the socket too long",
        code: 78,
        needs_root: false,
        says: "admin.listen",
        make: |dir| listen_in(dir, &"x".repeat(120)),
    },
    Fault {
        name: "port taken",
        code: 1,
        needs_root: false,
        says: "cannot listen on 127.0.0.1:",
        make: |_| {
            let (address, listener) = taken_port();
            let open: Option<Box<dyn std::any::Any>> = Some(Box::new(listener));
            Situation { _open: open, ..tables(format!("[admin]\nlisten = \"{address}\"\n")) }
        },
    },
    Fault {
        name: "page that is not there",
        code: 78,
        needs_root: false,
        says: "page.html",
        make: |_| service("http = { error_pages = { \"502\" = \"page.html\" } }"),
    },
    Fault {
        name: "no directory of files",
        code: 78,
        needs_root: false,
        says: "public",
        make: |_| tables("[onion_services.files]\nproxy_ports = [[80, \"file:public\"]]\n"),
    },
    Fault {
        name: "directory of files that cannot be read",
        code: 77,
        needs_root: false,
        says: "public",
        make: |dir| {
            directory(dir.join("public"), 0o000);
            tables("[onion_services.files]\nproxy_ports = [[80, \"file:public\"]]\n")
        },
    },
    Fault {
        name: "no file of authorities",
        code: 78,
        needs_root: false,
        says: "ca.pem",
        make: |_| {
            tables(
                "[onion_services.tls]\nproxy_ports = [[80, \"https://127.0.0.1:1\"]]\nhttp = { tls = \
                 { ca_file = \"ca.pem\" } }\n",
            )
        },
    },
];

/// Everything below a directory, save when it was last read.
fn tree(directory: &Path) -> BTreeMap<PathBuf, (u32, u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut places = vec![directory.to_owned()];
    while let Some(place) = places.pop() {
        let of = fs::symlink_metadata(&place).unwrap();
        let (mode, user, size) = (of.mode(), of.uid(), of.size());
        found.insert(place.clone(), (mode, user, size, of.mtime_nsec(), of.ctime_nsec()));
        if of.is_dir() {
            // What cannot be read cannot be written below either.
            places
                .extend(place.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn onionbraid(dir: &Path, situation: &Situation, arguments: &[&str]) -> Command {
    let mut program = command(env!("CARGO_BIN_EXE_onionbraid"));
    program.args(arguments).args(["-c", "arti.toml"]).env_clear().current_dir(dir);
    match situation.home {
        None => program.env("HOME", dir),
        Some("") => &mut program,
        Some(home) => program.env("HOME", home),
    };
    program
}

/// Writes what the situation says. Nothing there leads to a network.
fn configure(dir: &Path, situation: &Situation) {
    let mut text = format!(
        "[onion_services.shop]\nproxy_ports = [[80, \"http://127.0.0.1:1\"]]\n{}\n{}",
        situation.service, situation.tables
    );
    if !situation.without_storage && !text.contains("[storage]") {
        text.push_str("[storage]\nstate_dir = \"state\"\ncache_dir = \"cache\"\n");
    }
    text.push_str(
        "[tor_network]\nfallback_caches = [{ rsa_identity = \
         \"911F7C74212214823DDBDE3044B5B1AF3EFB98A0\", ed_identity = \
         \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", orports = [\"127.0.0.1:1\"] }]\n",
    );
    write(dir, "arti.toml", &text);
}

#[test]
fn check_and_run_agree_on_what_is_wrong_and_make_nothing() {
    let mut wrong = String::new();
    let mut played = 0;
    for fault in FAULTS.iter().filter(|fault| is_root() || !fault.needs_root) {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        // What a fault gives to others stays theirs.
        give(dir);
        let situation = (fault.make)(dir);
        configure(dir, &situation);
        if !fault.needs_root {
            give(dir);
        }
        let before = tree(dir);
        let check = onionbraid(dir, &situation, &["check"]).output().unwrap();
        let after_check = tree(dir);
        let run = Process::start(&mut onionbraid(dir, &situation, &["run"])).ended();
        let (run_code, run_said) = match run {
            Some((status, said)) => (status.code(), said),
            None => (None, "it runs".to_owned()),
        };
        let (code, said) = (check.status.code(), stderr(&check));
        let good = code == Some(fault.code)
            && run_code == code
            && said.contains(fault.says)
            && run_said.ends_with(&said)
            && before == after_check
            && before == tree(dir);
        if !good {
            wrong += &format!(
                "\n--- {}: expected {}, {:?}\ncheck: {code:?}, nothing made: {}\n{said}\nrun: \
                 {run_code:?}\n{run_said}\n",
                fault.name,
                fault.code,
                fault.says,
                before == after_check
            );
        }
        played += 1;
        // So that it can be removed.
        let _ = Command::new("chmod").args(["-R", "u+rwx"]).arg(dir).status();
    }
    assert!(played >= 15, "{played}");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_check_finds_good_runs_and_check_does_not_mind_the_daemon_that_does() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // Directories that are missing are made by `run`.
    let address = free_port();
    let situations = [
        tables("[storage]\nstate_dir = \"a/b/state\"\ncache_dir = \"c/cache\"\n"),
        tables(format!(
            "[storage]\nstate_dir = \"d/state\"\ncache_dir = \"c/cache\"\n[admin]\nlisten = \
             \"{address}\"\n"
        )),
        // The socket's directory is one of those that are made.
        tables(format!(
            "[storage]\nstate_dir = \"e/state\"\ncache_dir = \"c/cache\"\n[admin]\nlisten = \
             \"unix:{}/e/state/onionbraid/admin.sock\"\n",
            dir.display()
        )),
    ];
    let sockets = ["a/b/state/admin.sock", "none", "e/state/onionbraid/admin.sock"];
    for (situation, socket) in situations.iter().zip(sockets) {
        configure(dir, situation);
        give(dir);
        let before = tree(dir);
        let check = onionbraid(dir, situation, &["check"]).output().unwrap();
        assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
        assert!(!stdout(&check).contains("A daemon is running"));
        assert_eq!(tree(dir), before);
        let daemon = Process::start(&mut onionbraid(dir, situation, &["run"]));
        let admin = dir.join(socket);
        let answers = || match socket {
            "none" => std::net::TcpStream::connect(address).is_ok(),
            _ => admin.exists(),
        };
        until("an answer of the daemon", answers);
        let check = onionbraid(dir, situation, &["check"]).output().unwrap();
        assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
        assert!(stdout(&check).contains("A daemon is running on this state directory."));
        let second = Process::start(&mut onionbraid(dir, situation, &["run"])).ended().unwrap();
        assert_eq!(second.0.code(), Some(1));
        assert!(second.1.contains("another onionbraid is running"), "{}", second.1);
        drop(daemon);
    }
}

#[test]
fn a_key_of_a_service_that_does_not_run_keeps_nothing_from_running() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    file(dir.join("key"), "no key", 0o600);
    let situation = tables(
        "[onion_services.old]\nenabled = false\nidentity_key = \"key\"\nproxy_ports = [[80, \
         \"127.0.0.1:1\"]]\n",
    );
    configure(dir, &situation);
    give(dir);
    let check = onionbraid(dir, &situation, &["check"]).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
    assert!(stdout(&check).contains("warning: the `identity_key` of service \"old\""));
}
