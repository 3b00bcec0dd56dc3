//! Other processes of its user cannot look into the daemon.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::unprivileged::{Process, command, give, until};
use super::{stdout, write};

/// A daemon that waits for a Tor network that there is not.
fn daemon(dir: &Path, more: &str) -> Process {
    let text = format!(
        "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n[storage]\nstate_dir = \
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
    let daemon = daemon(dir.path(), "");
    assert!(!may_read_memory(&daemon));
    let process = daemon.0.id().to_string();
    assert_eq!(core_limit(&process), ["0", "0"]);
    let owner = fs::metadata(format!("/proc/{process}/mem")).unwrap().uid();
    assert_eq!(owner, 0, "it is not dumpable, so its files in /proc are root's");
}

#[test]
fn who_permits_debugging_can_debug() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = daemon(dir.path(), "[application]\npermit_debugging = true\n");
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
