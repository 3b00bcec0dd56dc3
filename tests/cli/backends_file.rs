//! A file of more backends, replaced while the daemon runs.

use std::path::Path;
use std::process::{Command, Stdio};

use onionbraid::observe::Snapshot;
use onionbraid_balancer::onion::OnionAddress;

use super::unprivileged::{Process, until};
use super::{NO_NETWORK, onionbraid, stderr, stdout, write};

fn address(n: u8) -> String {
    OnionAddress::from_public_key([n; 32]).to_string()
}

/// A backend as the file lists it.
fn entry(name: &str, address: &str) -> String {
    format!("{{ address = '{address}', name = '{name}' }}")
}

/// Replaces the file whole, as a program should.
fn replace(directory: &Path, entries: &[String]) {
    write(directory, "new.toml", &format!("backends = [{}]\n", entries.join(", ")));
    std::fs::rename(directory.join("new.toml"), directory.join("backends.toml")).unwrap();
}

fn status(directory: &Path) -> Option<Snapshot> {
    let output = onionbraid(directory, &["status", "--json", "-c", "arti.toml"]);
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// The names of the backends, and the complaints.
fn seen(directory: &Path) -> (Vec<String>, Vec<String>) {
    let Some(mut snapshot) = status(directory) else { return Default::default() };
    let service = snapshot.services.remove(0);
    (service.backends.into_iter().map(|backend| backend.name).collect(), service.problems)
}

#[test]
fn a_file_of_backends_is_followed_and_a_mistake_in_it_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let text = format!(
        "[onion_services.shop]\nbackends = [{}]\nbackends_file = 'backends.toml'\n\
         [admin]\nlisten = 'unix:{1}/admin.sock'\n\
         [storage]\nstate_dir = '{1}/state'\ncache_dir = '{1}/cache'\n\
         [storage.permissions]\ndangerously_trust_everyone = true\n{2}",
        entry("berlin", &address(1)),
        dir.display(),
        NO_NETWORK
    );
    write(dir, "arti.toml", &text);
    let check = || onionbraid(dir, &["check", "-c", "arti.toml"]);
    assert_eq!(check().status.code(), Some(78));
    assert!(stderr(&check()).contains("there is no such file"), "{}", stderr(&check()));
    replace(dir, &[entry("oslo", &address(2))]);
    assert!(stdout(&check()).contains("backend oslo: "), "{}", stdout(&check()));

    let log = std::fs::File::create(dir.join("log")).unwrap();
    let daemon = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
        .args(["run", "-c", "arti.toml"])
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir.join("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let _daemon = Process(daemon.unwrap());
    until("its status", || seen(dir).0 == ["berlin", "oslo"]);

    replace(dir, &[entry("oslo", &address(2)), entry("rome", &address(3))]);
    until("rome", || seen(dir).0 == ["berlin", "oslo", "rome"]);

    // In turn: twice the same address, none at all, the service's own.
    let complains = |of: &str| {
        let (names, problems) = seen(dir);
        assert_eq!(names, ["berlin", "oslo", "rome"]);
        problems.iter().any(|problem| problem.contains("backends_file") && problem.contains(of))
    };
    replace(dir, &[entry("oslo", &address(2)), entry("rome", &address(2))]);
    until("a complaint", || complains("listed already"));
    std::fs::remove_file(dir.join("backends.toml")).unwrap();
    until("another one", || complains("no such file"));
    let own = status(dir).unwrap().services[0].address.clone();
    replace(dir, &[entry("oslo", &own)]);
    until("the last one", || complains("lists itself as its backend"));
    let reload = onionbraid(dir, &["reload", "-c", "arti.toml"]);
    assert_eq!(reload.status.code(), Some(78), "{}", stderr(&reload));
    assert!(complains("lists itself"));
    let file = status(dir).unwrap().services[0].backends_file.clone().unwrap();
    assert!(!file.ok && file.error.is_some());

    replace(dir, &[]);
    until("berlin alone", || seen(dir) == (vec!["berlin".to_owned()], Vec::new()));
    assert!(status(dir).unwrap().services[0].backends_file.as_ref().is_some_and(|file| file.ok));

    let shown = onionbraid(dir, &["config", "show", "-c", "arti.toml"]);
    let expected = format!("backends_file = \"{}\"", dir.join("backends.toml").display());
    assert!(stdout(&shown).contains(&expected), "{}", stdout(&shown));
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    let said: Vec<_> = log.lines().filter(|line| line.contains("backends file is wrong")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains("backends[1]") && !said[0].contains(".onion"), "{log}");
}
