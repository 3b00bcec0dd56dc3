//! Other processes of its user cannot look into the daemon.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use onionbraid::observe::Snapshot;
use sha2::{Digest as _, Sha512};

use super::unprivileged::{Process, command, give, until};
use super::{stdout, write};

/// A daemon that waits for a Tor network that there is not.
fn daemon(dir: &Path, service: &str, more: &str) -> Process {
    let text = format!(
        "[onion_services.shop]\n{service}\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n[storage]\nstate_dir = \
         \"state\"\ncache_dir = \"cache\"\n[tor_network]\nfallback_caches = [{{ rsa_identity = \
         \"911F7C74212214823DDBDE3044B5B1AF3EFB98A0\", ed_identity = \
         \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", orports = [\"127.0.0.1:1\"] }}]\n{more}"
    );
    write(dir, "arti.toml", &text);
    give(dir);
    // A core would be written, were it up to the shell.
    let raised = "ulimit -S -c \"$(ulimit -H -c)\"; exec \"$0\" \"$@\"";
    let mut sh = command("sh");
    sh.args(["-c", raised, env!("CARGO_BIN_EXE_onionbraid"), "run", "-c", "arti.toml"]);
    let daemon = Process::start(
        sh.env_clear().env("HOME", dir).env("PATH", "/usr/bin:/bin").current_dir(dir),
    );
    // It has its keys by then.
    until("the admin socket", || dir.join("state/admin.sock").exists());
    daemon
}

/// Whether another process of the same user may read its memory: what ptrace
/// needs, too.
fn may_read_memory(daemon: &Process) -> bool {
    let memory = format!("/proc/{}/mem", daemon.0.id());
    command("dd").args([&format!("if={memory}"), "count=0"]).output().unwrap().status.success()
}

fn core_limit(process: &str) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    line.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}

#[test]
fn no_process_of_the_same_user_can_read_the_daemons_memory_and_no_core_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = daemon(dir.path(), "", "");
    assert!(!may_read_memory(&daemon));
    let process = daemon.0.id().to_string();
    assert_eq!(core_limit(&process), ["0", "0"]);
    let owner = fs::metadata(format!("/proc/{process}/mem")).unwrap().uid();
    assert_eq!(owner, 0, "it is not dumpable, so its files in /proc are root's");
}

#[test]
fn who_permits_debugging_can_debug() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = daemon(dir.path(), "", "[application]\npermit_debugging = true\n");
    assert!(may_read_memory(&daemon));
    let hard = core_limit("self").remove(1);
    assert_eq!(core_limit(&daemon.0.id().to_string()), [hard.clone(), hard]);
}

#[test]
fn permission_to_debug_is_shown_and_other_keys_of_that_table_are_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n[application]\n\
                permit_debugging = true\nwatch_configuration = true\n";
    write(dir.path(), "arti.toml", text);
    let shown = stdout(&super::onionbraid(dir.path(), &["config", "show", "-c", "arti.toml"]));
    assert!(shown.contains("[application]\npermit_debugging = true"), "{shown}");
    assert!(shown.contains("application.watch_configuration: it belongs to the arti"), "{shown}");
    assert!(!shown.contains("application.permit_debugging:"), "{shown}");
}

/// How often these bytes are in what a process has written to its memory.
fn occurrences(process: &str, bytes: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut content = Vec::new();
        memory.seek(SeekFrom::Start(from)).unwrap();
        // What is not there any more, or is the system's own, holds no key.
        let _ = memory.by_ref().take(to - from).read_to_end(&mut content);
        count += content.windows(bytes.len()).filter(|window| *window == bytes).count();
    }
    count
}

#[test]
fn the_daemon_keeps_no_copies_of_its_key_at_the_start_and_after_reloads() {
    let dir = tempfile::tempdir().unwrap();
    let made =
        super::onionbraid(dir.path(), &["keys", "generate", "--out", "key.pem", "--format", "pem"]);
    assert!(made.status.success());
    let pem = fs::read_to_string(dir.path().join("key.pem")).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let document = Base64::decode_vec(&base64).unwrap();
    let seed = &document[document.len() - 32..];
    // Scalar and prefix follow from it; the prefix is never another number.
    let expanded = Sha512::digest(seed);
    let prefix = &expanded[32..];

    let permitted = "[application]\npermit_debugging = true\n";
    let daemon = daemon(dir.path(), "identity_key = \"key.pem\"", permitted);
    let process = daemon.0.id().to_string();
    let look = |when: &str| {
        assert_eq!(occurrences(&process, seed), 0, "the seed, {when}");
        // One that is in use, and one that a library may have left.
        let copies = occurrences(&process, prefix);
        assert!((1..=2).contains(&copies), "{copies} copies {when}");
    };
    look("at the start");
    let mut last = None;
    for _ in 0..3 {
        // The status tells reloads apart by the second.
        std::thread::sleep(Duration::from_millis(1100));
        let reload = command("kill").args(["-HUP", &process]).status().unwrap();
        assert!(reload.success());
        let reloaded_at = || {
            let mut status = command(env!("CARGO_BIN_EXE_onionbraid"));
            status.args(["status", "--json", "-c", "arti.toml"]).current_dir(dir.path());
            let status = status.env_clear().env("HOME", dir.path()).output().unwrap();
            let snapshot: Snapshot = serde_json::from_slice(&status.stdout).unwrap();
            snapshot.reload.map(|reload| reload.at)
        };
        until("the reload", || reloaded_at() != last);
        last = reloaded_at();
        look("after a reload");
    }
}
