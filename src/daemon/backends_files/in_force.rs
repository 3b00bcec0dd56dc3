//! Does what files say come into force, whatever else is wrong?

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::Environment;
use crate::daemon::fetches::fetches;
use crate::daemon::file_handles::FileHandles;
use crate::daemon::pulse::Pulse;
use crate::daemon::service::Common;
use crate::daemon::services;
use crate::tor::bootstrap::Tor;
use crate::tor::keys::ClientSecret;
use onionbraid_balancer::onion::{ClientKey, OnionAddress};

/// A daemon without a network, and the directory in which its files are.
struct Daemon {
    directory: tempfile::TempDir,
    config: Config,
    services: Services,
    board: Arc<Board>,
    files: BackendsFiles,
    watcher: Watcher,
    seen: AllSeen,
    /// Its services' end of that.
    _network: watch::Sender<Option<crate::tor::network::Network>>,
}

fn client(n: u16) -> ClientKey {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    ClientKey::new(bytes).unwrap()
}

fn berlin() -> OnionAddress {
    OnionAddress::from_public_key([1; 32])
}

impl Daemon {
    /// One of the service `shop`, with alice and bob, and a backend that is closed.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        std::fs::create_dir(dir.join("clients")).unwrap();
        std::fs::write(dir.join("backends.toml"), "backends = []\n").unwrap();
        let address = berlin();
        let text = format!(
            "[onion_services.shop]\nbackends_file = 'backends.toml'\n\
             backends = [{{ address = '{address}', name = 'berlin', client_key = 'berlin.key' }}]\n\
             [onion_services.shop.restricted_discovery]\nenabled = true\n\
             key_dirs = [{{ path = 'clients' }}]\n\
             [storage]\nstate_dir = 'state'\ncache_dir = 'cache'\n\
             [storage.permissions]\ndangerously_trust_everyone = true\n"
        );
        std::fs::write(dir.join("arti.toml"), text).unwrap();
        for (name, n) in [("alice", 1), ("bob", 2)] {
            put_client(dir, name, n);
        }
        put_key(dir, "berlin.key");
        let environment = Environment::new([("HOME", "/home/user")]);
        let config = Config::load(&[dir.join("arti.toml")], &environment).unwrap();
        let checked = services::check(&config, &config.storage, &BTreeSet::new()).unwrap();
        let tor = Tor::new(config.tor.clone(), None).unwrap();
        let keyring = tor.keyring.clone();
        let handles = FileHandles::raise();
        let board = Arc::new(Board::new(tor, handles.clone()));
        let (network, received) = watch::channel(None);
        let common = Common {
            network: received,
            fetches: fetches().0,
            storage: Arc::new(config.storage.clone()),
            file_handles: handles,
            pulse: Pulse::new(),
        };
        let mut services = Services::new(common, Arc::clone(&board), keyring);
        services.apply(checked, config.shutdown);
        let (mut files, watcher) = watching();
        files.follow(&config.services, &board);
        let mut daemon = Self {
            directory,
            config,
            services,
            board,
            files,
            watcher,
            seen: AllSeen::new(),
            _network: network,
        };
        // What the first look reads is in force.
        daemon.look();
        assert_eq!(daemon.clients(), [client(1), client(2)].into());
        daemon
    }

    /// Looks at the files until they are at rest, and puts into force what has changed.
    fn look(&mut self) {
        for _ in 0..3 {
            let seen = std::mem::take(&mut self.seen);
            let (seen, changes) = look_at_all(seen, self.watcher.watched.borrow().clone());
            self.seen = seen;
            for change in changes {
                self.files.apply(change, &mut self.config, &mut self.services, &self.board);
            }
        }
    }

    /// The same, so much later.
    fn look_after(&mut self, time: Duration) {
        self.watcher.forget_due(&mut self.seen, now().monotonic + time);
        self.look();
    }

    /// Who is let in, as the service itself has it.
    fn clients(&self) -> BTreeSet<ClientKey> {
        let service = self.services.config_of(&"shop".parse().unwrap()).unwrap();
        let configured = self.config.services[0].restricted_discovery.as_ref().unwrap();
        let keys = service.restricted_discovery.unwrap().keys();
        assert_eq!(keys, configured.keys());
        keys
    }

    fn backends(&self) -> Vec<String> {
        let service = self.services.config_of(&"shop".parse().unwrap()).unwrap();
        service.backends.into_iter().map(|backend| backend.name).collect()
    }

    fn problems(&self) -> String {
        self.board.snapshot().services[0].problems.join("\n")
    }
}

fn put_client(dir: &Path, name: &str, n: u16) {
    let path = dir.join(format!("clients/{name}.auth"));
    std::fs::write(&path, client(n).to_string()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
}

/// A key that opens berlin's descriptors.
fn put_key(dir: &Path, name: &str) {
    let text = ClientSecret::generate(berlin()).file().unwrap();
    let path = dir.join(name);
    std::fs::write(&path, &**text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_is_taken_out_is_out_whatever_has_become_of_a_backends_key() {
    let mut daemon = Daemon::start();
    let dir = daemon.directory.path().to_owned();
    std::fs::remove_file(dir.join("berlin.key")).unwrap();
    std::fs::remove_file(dir.join("clients/bob.auth")).unwrap();
    daemon.look();
    assert_eq!(daemon.clients(), [client(1)].into());
    assert_eq!(daemon.problems(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_is_taken_out_is_out_also_where_too_many_others_come() {
    let mut daemon = Daemon::start();
    let dir = daemon.directory.path().to_owned();
    std::fs::remove_file(dir.join("clients/bob.auth")).unwrap();
    for n in 10..600 {
        put_client(&dir, &format!("c{n}"), n);
    }
    daemon.look();
    assert_eq!(daemon.clients(), [client(1)].into());
    let problems = daemon.problems();
    assert!(problems.contains("591 clients are authorized"), "{problems}");
    assert!(problems.contains("nobody new is let in"), "{problems}");
    for n in 20..600 {
        std::fs::remove_file(dir.join(format!("clients/c{n}.auth"))).unwrap();
    }
    daemon.look();
    assert_eq!(daemon.clients().len(), 11);
    assert_eq!(daemon.problems(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_failed_for_a_cause_that_no_watched_file_shows_comes_into_force_later() {
    let mut daemon = Daemon::start();
    let dir = daemon.directory.path().to_owned();
    let oslo = OnionAddress::from_public_key([2; 32]);
    let key = dir.join("oslo.key");
    let text = format!(
        "[[backends]]\naddress = '{oslo}'\nname = 'oslo'\nclient_key = '{}'\n",
        key.display()
    );
    std::fs::write(dir.join("backends.toml"), text).unwrap();
    daemon.look();
    assert_eq!(daemon.backends(), ["berlin"]);
    assert!(daemon.problems().contains("backends_file is wrong"), "{}", daemon.problems());
    // Its key comes, and the file that names it stays as it is.
    let secret = ClientSecret::generate(oslo).file().unwrap();
    std::fs::write(&key, &**secret).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    daemon.look();
    assert_eq!(daemon.backends(), ["berlin"], "not yet");
    daemon.look_after(Duration::from_secs(10));
    assert_eq!(daemon.backends(), ["berlin", "oslo"]);
    assert_eq!(daemon.problems(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_service_of_several_knows_that_it_has_company_whichever_was_the_first() {
    let mut daemon = Daemon::start();
    let file = daemon.directory.path().join("arti.toml");
    let alone = std::fs::read_to_string(&file).unwrap();
    let mut load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let environment = Environment::new([("HOME", "/home/user")]);
        let config = Config::load(std::slice::from_ref(&file), &environment).unwrap();
        let running = daemon.services.nicknames();
        let checked = services::check(&config, &config.storage, &running).unwrap();
        daemon.services.apply(checked, config.shutdown);
        let all = daemon.services.in_company().into_iter();
        all.map(|(nickname, company)| (nickname.to_owned(), company)).collect::<Vec<_>>()
    };
    let is = |nickname: &str, company| (nickname.to_owned(), company);
    assert_eq!(load(&alone), [is("shop", false)]);
    let more = "[onion_services.web]\nproxy_ports = [[80, '127.0.0.1:1']]\n";
    assert_eq!(load(&format!("{alone}{more}")), [is("shop", true), is("web", true)]);
    assert_eq!(load(&alone), [is("shop", false)]);
    let both = format!("{alone}{more}{}", more.replace("web", "also"));
    assert!(load(&both).into_iter().all(|(_, company)| company));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_directory_that_is_gone_for_a_moment_throws_nobody_out_and_one_that_stays_gone_does() {
    let mut daemon = Daemon::start();
    let dir = daemon.directory.path().to_owned();
    let both = daemon.clients();
    std::fs::rename(dir.join("clients"), dir.join("aside")).unwrap();
    daemon.look();
    assert_eq!(daemon.clients(), both);
    assert!(daemon.problems().contains("its clients stay"), "{}", daemon.problems());
    std::fs::rename(dir.join("aside"), dir.join("clients")).unwrap();
    daemon.look();
    assert_eq!((daemon.clients(), daemon.problems()), (both.clone(), String::new()));
    std::fs::remove_dir_all(dir.join("clients")).unwrap();
    daemon.look();
    assert_eq!(daemon.clients(), both);
    daemon.look_after(Duration::from_secs(6));
    assert_eq!(daemon.clients(), BTreeSet::new());
    assert!(daemon.problems().contains("makes the directory"), "{}", daemon.problems());
}
