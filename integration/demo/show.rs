//! Which steps does the demo take, from nothing to pages from every backend?
//!
//! Called by `demo.rs`. Everything runs below one temporary directory and ends
//! with the values that are held here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use onionbraid::observe::snapshot::{Backend, BackendState, Service as Status, Snapshot};
use tempfile::TempDir;

use crate::network::client::Client;
use crate::network::daemon::{Daemon, built_program};
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::service::Service;
use crate::network::{Network, Options};

/// What the pages behind the local instances say.
const LOCAL: &str = "origin of the local instances";
/// What the page behind the C tor backend says, and its name as a backend.
const REMOTE: &str = "c-tor";
/// How many relays the network has.
const RELAYS: usize = 12;
/// How many backends the address has.
const BACKENDS: usize = 3;
/// How many pages are fetched at most until each backend has answered.
const PAGES: usize = 60;
/// How long one page may take, and one attempt at it.
const PAGE_LIMIT: Duration = Duration::from_secs(60);
const ATTEMPT_LIMIT: Duration = Duration::from_secs(20);
/// How long the daemon may take for its first word, and for everything.
const START_LIMIT: Duration = Duration::from_secs(60);
const PUBLISH_LIMIT: Duration = Duration::from_secs(180);

/// How many pages each backend answered, by its name.
type Tally = BTreeMap<String, u64>;

/// Runs the whole demo; with `keep`, waits for Ctrl-C before it cleans up.
pub(crate) async fn run(keep: bool) -> Result<()> {
    let clock = Clock(Instant::now());
    // Short, because the path of a Unix socket is limited to 107 bytes. First
    // here, so that it is removed last.
    let dir = TempDir::with_prefix("onionbraid-")?;

    clock.say(&format!("starting a private Tor network of {RELAYS} relays on 127.0.0.1"));
    let network = Network::start(Options::below(dir.path(), RELAYS)).await?;
    clock.say("the network has a consensus");

    let (local, remote) = (Origin::start(LOCAL)?, Origin::start(REMOTE)?);
    let backend = network.future_backend("backend", remote.address).await?;
    clock.say(&format!("C tor backend: {}", backend.onion_address()));

    let files = write_config(dir.path(), &network, &local, &backend)?;
    let config: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let daemon = Daemon::start(&built_program()?, &config, &dir.path().join("onionbraid.log"))?;
    clock.say("onionbraid runs: two local instances and the C tor backend");

    let show =
        Show { clock, dir: dir.path(), network: &network, daemon: &daemon, backend: &backend };
    let shown = show.run(keep).await;
    if shown.is_err() {
        eprintln!("--- onionbraid\n{}\n--- C tor backend\n{}", daemon.tail(), backend.node.tail());
    }
    shown
}

/// What runs, once all of it has been started.
struct Show<'a> {
    clock: Clock,
    dir: &'a Path,
    network: &'a Network,
    daemon: &'a Daemon,
    backend: &'a Service,
}

impl Show<'_> {
    async fn run(&self, keep: bool) -> Result<()> {
        let started = self.daemon.until("started", START_LIMIT, |status| service(status).is_ok());
        let address = service(&started.await?)?.address.clone();
        self.clock.say(&format!("the address: {address}"));

        // The backend has to know whom it answers for.
        self.backend.answer_for(&address).await?;
        let client = self.network.client("visitor").await?;
        self.published().await?;

        let tally = self.visit(&client, &address).await?;
        let counts: Vec<String> =
            tally.iter().map(|(name, count)| format!("{name} {count}")).collect();
        self.clock.say(&format!("every backend has answered: {}", counts.join(", ")));
        println!("\n{}", self.daemon.status_text().await?.trim_end());
        println!("\ndemo: ok");
        if keep {
            self.explain(&client, &address);
            tokio::signal::ctrl_c().await?;
            println!("\ncleaning up");
        }
        Ok(())
    }

    /// Waits until the current descriptor holds points of every backend, and
    /// tells how each of them comes along.
    async fn published(&self) -> Result<()> {
        let mut told = BTreeMap::new();
        self.daemon
            .until("published with all backends", PUBLISH_LIMIT, |status| {
                let Ok(service) = service(status) else { return false };
                for backend in &service.backends {
                    let line = describe(backend);
                    if told.insert(backend.name.clone(), line.clone()).as_ref() != Some(&line) {
                        self.clock.say(&line);
                    }
                }
                let published = service.backends.iter().filter(|b| is_published(b)).count();
                status.ready && published == BACKENDS
            })
            .await?;
        self.clock.say("published with introduction points of all three");
        Ok(())
    }

    /// Fetches pages over fresh circuits until each backend has answered.
    async fn visit(&self, client: &Client, address: &str) -> Result<Tally> {
        let before = introductions(&self.daemon.status().await?)?;
        let mut remote = 0;
        for number in 1..=PAGES {
            let attempt = std::cell::Cell::new(0);
            let page = eventually(PAGE_LIMIT, || {
                attempt.set(attempt.get() + 1);
                let isolation = format!("page-{number}-{}", attempt.get());
                async move { client.get(&isolation, address, "/", ATTEMPT_LIMIT).await }
            })
            .await?;
            ensure!(page.status == 200, "page {number}: status {}", page.status);
            let body = page.text();
            let seconds = page.elapsed.as_secs_f64();
            self.clock.say(&format!("page {number} in {seconds:.2} s from: {}", body.trim_end()));
            remote += u64::from(body.trim_end() == REMOTE);
            // Both local instances have the same origin: the daemon knows which
            // of them was introduced.
            let mut tally = introductions(&self.daemon.status().await?)?;
            for (name, count) in &mut tally {
                *count = count.saturating_sub(before.get(name).copied().unwrap_or(0));
            }
            tally.insert(REMOTE.to_owned(), remote);
            if tally.len() == BACKENDS && tally.values().all(|count| *count > 0) {
                return Ok(tally);
            }
        }
        anyhow::bail!("not every backend has answered one of {PAGES} pages: C tor {remote}")
    }

    /// What to do with all that still runs.
    fn explain(&self, client: &Client, address: &str) {
        let status = self.daemon.status_command();
        let words = std::iter::once(status.get_program()).chain(status.get_args());
        let status: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        println!("\nKEEP: all of it runs until Ctrl-C.\n");
        println!("  page    curl --proxy socks5h://any-name:x@{} http://{address}/", client.socks);
        println!("          (another name, another circuit, perhaps another backend)");
        println!("  status  {}", status.join(" "));
        println!("  config  {}", self.dir.display());
        println!("  logs    {}", self.dir.join("onionbraid.log").display());
        println!("          {}", self.backend.node.log_file().display());
        println!("          {}", client.node.log_file().display());
    }
}

/// Writes `demo.toml` and, to be laid over it, `network.toml`.
fn write_config(
    dir: &Path,
    network: &Network,
    origin: &Origin,
    backend: &Service,
) -> Result<[PathBuf; 2]> {
    let files = [dir.join("demo.toml"), dir.join("network.toml")];
    let demo = format!(
        r#"[storage]
state_dir = "{dir}/state"
cache_dir = "{dir}/cache"

[onion_services."demo"]
local_instances = 2
backends = [{{ address = "{backend}", name = "{REMOTE}" }}]
proxy_ports = [["80", "{origin}"]]

[admin]
listen = "unix:{dir}/admin.sock"
"#,
        dir = dir.display(),
        backend = backend.onion_address(),
        origin = origin.address,
    );
    fs::write(&files[0], demo)?;
    fs::write(&files[1], network.arti_toml())?;
    Ok(files)
}

fn service(status: &Snapshot) -> Result<&Status> {
    status.services.first().context("the daemon has no service")
}

fn is_published(backend: &Backend) -> bool {
    backend.state == BackendState::Up && backend.published_intro_points > 0
}

fn describe(backend: &Backend) -> String {
    let Backend { name, state, intro_points, published_intro_points, .. } = backend;
    format!(
        "{name}: {state:?}, {intro_points} introduction points, {published_intro_points} published"
    )
    .to_lowercase()
}

/// How many clients were introduced to each local instance so far.
fn introductions(status: &Snapshot) -> Result<Tally> {
    let backends = service(status)?.backends.iter().filter(|backend| backend.address.is_none());
    Ok(backends.map(|backend| (backend.name.clone(), backend.activity.introductions)).collect())
}

/// Tells each step with the seconds since the start.
struct Clock(Instant);

impl Clock {
    fn say(&self, line: &str) {
        println!("[{:5.1} s] {line}", self.0.elapsed().as_secs_f64());
    }
}
