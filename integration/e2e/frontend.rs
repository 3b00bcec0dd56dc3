//! How do tests run the daemon and look at it through clients?
//!
//! A `Frontend` is the real program with a configuration of its own on a
//! network; everything is asked of it through its command line. An `ArtiClient`
//! is a visitor who does not use C tor.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arti_client::config::TorClientConfigBuilder;
use arti_client::{StreamPrefs, TorClient};
use onionbraid::config::{Config, Environment};
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{Backend, BackendState, HsdirState, Service};
use onionbraid::tor::keys;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tor_config::BoolOrAuto;
use tor_hscrypto::pk::HsIdKeypair;
use tor_rtcompat::PreferredRuntime;

use crate::network::daemon::Daemon;
use crate::network::fetch::{self, Response};
use crate::network::process::Signal;
use crate::network::slow_link::SlowLink;
use crate::network::{Network, client::Client};

/// Generous: no test is about how long these take.
pub const SOON: Duration = Duration::from_secs(120);

/// How long the time period has to stay the same for a test that compares: a
/// quarter of a minute's work, on a machine that is several times slower.
pub const CALM: Duration = Duration::from_secs(90);

/// How long one page may take before it counts as failed.
pub const PAGE: Duration = Duration::from_secs(60);

/// The program under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_onionbraid"))
}

/// A daemon with one service called `shop`.
pub struct Frontend {
    /// The process.
    pub daemon: Daemon,
    files: Vec<PathBuf>,
    dir: PathBuf,
    admin: String,
}

impl Frontend {
    /// Starts a daemon whose service has these keys, in a new directory.
    pub fn start(network: &Network, name: &str, service: &str) -> Result<Frontend> {
        Prepared::new(network, name)?.start(service)
    }

    /// Ends the daemon and starts it again with the same files.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.restart_stopped()
    }

    /// Starts the daemon again after [`Frontend::stop`].
    pub fn restart_stopped(&mut self) -> Result<()> {
        self.daemon = Self::run(&self.files, &self.dir)?;
        Ok(())
    }

    /// Ends the daemon as a service manager would.
    pub async fn stop(&mut self) -> Result<()> {
        self.daemon.process.terminate()?;
        let ended = self.daemon.process.wait(SOON).await?;
        anyhow::ensure!(ended.success(), "{ended}:\n{}", self.daemon.tail());
        Ok(())
    }

    /// Gives the service other keys, and tells the daemon to read them.
    pub fn reload(&self, service: &str) -> Result<()> {
        self.configure(service)?;
        self.daemon.process.signal(Signal::Hangup)
    }

    /// Writes other keys into the service's table, of which the daemon hears nothing.
    pub fn configure(&self, service: &str) -> Result<()> {
        let (files, dir, admin) = (self.files.clone(), self.dir.clone(), self.admin.clone());
        Prepared { files, dir, admin }.configure(service)
    }

    /// A second daemon on the same files.
    pub fn run_once_more(&self) -> Result<Daemon> {
        Daemon::start(program(), &self.paths(), &self.dir.join("second.log"))
    }

    /// The configuration files.
    pub fn paths(&self) -> Vec<&Path> {
        self.files.iter().map(PathBuf::as_path).collect()
    }

    /// What another subcommand says about the same files, however it ends.
    pub async fn command(&self, arguments: &[&str]) -> Result<std::process::Output> {
        self.command_with(arguments, &[]).await
    }

    /// The same with further files, which are laid over the daemon's.
    pub async fn command_with(
        &self,
        arguments: &[&str],
        more: &[&Path],
    ) -> Result<std::process::Output> {
        let mut command = tokio::process::Command::new(program());
        command.args(arguments).kill_on_drop(true);
        // Where commands keep guards of their own: those of another network, else.
        command.env("XDG_STATE_HOME", self.home());
        for file in self.files.iter().map(PathBuf::as_path).chain(more.iter().copied()) {
            command.arg("-c").arg(file);
        }
        let output = tokio::time::timeout(SOON * 2, command.output()).await;
        Ok(output.with_context(|| format!("onionbraid {arguments:?} does not end"))??)
    }

    /// The daemon's state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The address or the path of its admin endpoint.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Where commands keep what is not the daemon's.
    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    fn run(files: &[PathBuf], dir: &Path) -> Result<Daemon> {
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        Daemon::start(program(), &files, &dir.join("daemon.log"))
    }

    /// The service's address.
    pub async fn address(&self) -> Result<String> {
        let snapshot = self.daemon.until("answering", SOON, |_| true).await?;
        Ok(service(&snapshot).address.clone())
    }

    /// Waits until the service is published with this many points of each of its
    /// backends: all that they will have. The first descriptor of a local
    /// instance goes out with those points that are established by then.
    pub async fn complete(&self, points: usize) -> Result<Snapshot> {
        let all_listed = |snapshot: &Snapshot| is_complete(snapshot, points);
        self.daemon.until("published with every point", SOON, all_listed).await
    }

    /// Waits until the service is published with points of every backend.
    pub async fn ready(&self) -> Result<Snapshot> {
        let everybody_listed = |snapshot: &Snapshot| {
            let backends = &service(snapshot).backends;
            snapshot.ready
                && everywhere(service(snapshot))
                && backends
                    .iter()
                    .all(|b| b.state == BackendState::Up && b.published_intro_points > 0)
        };
        self.daemon.until("published with every backend", SOON, everybody_listed).await
    }
}

/// A daemon that does not run yet: for addresses that others must know first.
pub struct Prepared {
    files: Vec<PathBuf>,
    dir: PathBuf,
    admin: String,
}

impl Prepared {
    /// A new directory with the files of a network.
    pub fn new(network: &Network, name: &str) -> Result<Prepared> {
        let dir = network.scratch(name)?;
        let files = vec![dir.join("onionbraid.toml"), dir.join("network.toml")];
        fs::write(&files[1], network.arti_toml())?;
        Ok(Prepared { files, dir, admin: network.free_address()?.to_string() })
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Has the daemon answer on a Unix socket, where it takes questions, too.
    #[must_use]
    pub fn on_a_socket(mut self) -> Prepared {
        self.admin = format!("unix:{}", self.dir.join("admin.sock").display());
        self
    }

    /// Has the daemon read one more file, which is laid over the others.
    #[must_use]
    pub fn with_file(mut self, file: PathBuf) -> Prepared {
        self.files.push(file);
        self
    }

    /// Sends the daemon's connections through a proxy.
    pub fn through(self, link: &SlowLink) -> Result<Prepared> {
        let tables = fs::read_to_string(&self.files[1])? + &link.arti_toml();
        fs::write(&self.files[1], tables)?;
        Ok(self)
    }

    /// The address that the service will have: its key is made now.
    pub fn address(&self) -> Result<String> {
        Ok(keys::address(&self.key()?).to_string())
    }

    /// The key that the service will have, which is made now.
    pub fn key(&self) -> Result<HsIdKeypair> {
        self.configure("proxy_ports = [['80', 'reject']]")?;
        let config = Config::load(&self.files, &Environment::of_process())?;
        let nickname = &config.services[0].nickname;
        Ok(keys::open(&config.storage)?.generate(nickname)?)
    }

    /// Starts the daemon, with these keys in the service's table.
    pub fn start(self, service: &str) -> Result<Frontend> {
        self.configure(service)?;
        self.run()
    }

    /// The same with another program in its place, which runs it.
    pub fn start_as(&self, program: &Path, service: &str) -> Result<Daemon> {
        self.configure(service)?;
        let files: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        Daemon::start(program, &files, &self.dir.join("daemon.log"))
    }

    /// Imports the key of a HiddenServiceDir, as an operator would, and starts
    /// the daemon.
    pub async fn start_with_key(self, service: &str, key: &Path) -> Result<Frontend> {
        self.configure(service)?;
        let mut import = tokio::process::Command::new(program());
        import.args(["keys", "import", "shop"]).arg(key);
        for file in &self.files {
            import.arg("-c").arg(file);
        }
        let output = import.kill_on_drop(true).output().await?;
        anyhow::ensure!(output.status.success(), "{output:?}");
        self.start(service)
    }

    /// Starts a daemon with nothing but its network and directories.
    pub fn start_without_service(self) -> Result<Frontend> {
        self.write("")?;
        self.run()
    }

    fn configure(&self, service: &str) -> Result<()> {
        self.write(&format!("[onion_services.\"shop\"]\n{service}\n"))
    }

    fn run(self) -> Result<Frontend> {
        let daemon = Frontend::run(&self.files, &self.dir)?;
        Ok(Frontend { daemon, files: self.files, dir: self.dir, admin: self.admin })
    }

    fn write(&self, services: &str) -> Result<()> {
        let config = format!(
            "{services}\
             [storage]\nstate_dir = '{0}/state'\ncache_dir = '{0}/cache'\n\
             [admin]\nlisten = '{1}'\n\
             [logging]\nconsole = 'info,onionbraid=debug,tor_dirmgr=debug,tor_dirclient=debug'\n",
            self.dir.display(),
            self.admin,
        );
        Ok(fs::write(&self.files[0], config)?)
    }
}

/// The one service of a frontend.
pub fn service(snapshot: &Snapshot) -> &Service {
    &snapshot.services[0]
}

/// Whether every HSDir of every period holds what is published.
pub fn everywhere(service: &Service) -> bool {
    let hsdirs = || service.descriptors.iter().flat_map(|descriptor| &descriptor.hsdirs);
    hsdirs().count() > 0 && hsdirs().all(|hsdir| hsdir.state == HsdirState::Uploaded)
}

/// Whether the service is published with this many points of each backend.
pub fn is_complete(snapshot: &Snapshot, points: usize) -> bool {
    let service = service(snapshot);
    let complete = |b: &Backend| (b.intro_points, b.published_intro_points) == (points, points);
    let backends = &service.backends;
    snapshot.ready && everywhere(service) && !backends.is_empty() && backends.iter().all(complete)
}

/// All points that any HSDir lists for an address, asked as a client would: the
/// first digits of their keys, which no two have in common.
pub async fn points_on_hsdirs(frontend: &Frontend, onion: &str) -> Result<BTreeSet<String>> {
    let output = frontend.command(&["descriptor", onion, "--json"]).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let descriptors = report["descriptors"].as_array().context("no descriptors")?;
    let points = descriptors.iter().flat_map(|one| one["intro_points"].as_array()).flatten();
    Ok(points.filter_map(|point| Some(point["session_id"].as_str()?.to_owned())).collect())
}

/// Somebody who visits all the time, over new circuits. Every page has to come.
pub struct Visitor {
    stop: CancellationToken,
    visiting: JoinSet<usize>,
}

impl Visitor {
    /// From now on.
    pub fn start(client: &Arc<Client>, onion: &str) -> Visitor {
        let (stop, mut visiting) = (CancellationToken::new(), JoinSet::new());
        let (client, onion, stopped) = (Arc::clone(client), onion.to_owned(), stop.clone());
        visiting.spawn(async move {
            let mut visits = 0;
            while !stopped.is_cancelled() {
                let page = client.get(&format!("all-the-time-{visits}"), &onion, "/", PAGE).await;
                let page = page.unwrap_or_else(|error| panic!("visit {visits}: {error:#}"));
                assert_eq!(page.status, 200);
                visits += 1;
            }
            visits
        });
        Visitor { stop, visiting }
    }

    /// Until now. How many pages came.
    pub async fn end(mut self) -> usize {
        self.stop.cancel();
        self.visiting.join_next().await.unwrap().unwrap()
    }
}

/// Fetches `/` over fresh circuits until every one of `names` has answered;
/// returns who answered how often.
pub async fn until_all_answered(
    client: &Client,
    onion: &str,
    names: &[&str],
) -> Result<std::collections::BTreeMap<String, u32>> {
    let mut answers = std::collections::BTreeMap::<String, u32>::new();
    for visit in 0..100 {
        let page = client.get(&format!("visit-{onion}-{visit}"), onion, "/", PAGE).await?;
        *answers.entry(page.text().trim().to_owned()).or_default() += 1;
        if names.iter().all(|name| answers.contains_key(*name)) {
            return Ok(answers);
        }
    }
    anyhow::bail!("not all of {names:?} have answered: {answers:?}")
}

/// A visitor with Arti instead of C tor.
pub struct ArtiClient(Arc<TorClient<PreferredRuntime>>);

impl ArtiClient {
    /// Bootstraps an Arti client on the network.
    pub async fn start(network: &Network, name: &str) -> Result<ArtiClient> {
        // A second installation fails, and that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = network.scratch(name)?;
        let mut config: TorClientConfigBuilder = toml::from_str(&network.arti_toml())?;
        config
            .storage()
            .state_dir(arti_client::config::CfgPath::new_literal(dir.join("state")))
            .cache_dir(arti_client::config::CfgPath::new_literal(dir.join("cache")));
        let client = TorClient::with_runtime(PreferredRuntime::current()?)
            .config(config.build()?)
            .create_unbootstrapped()?;
        tokio::time::timeout(SOON, client.bootstrap())
            .await
            .context("Arti does not bootstrap")??;
        Ok(ArtiClient(client))
    }

    /// Fetches a page over a fresh circuit.
    pub async fn get(&self, onion: &str, path: &str) -> Result<Response> {
        let mut prefs = StreamPrefs::new();
        prefs.connect_to_onion_services(BoolOrAuto::Explicit(true)).new_isolation_group();
        let exchange = async {
            let stream = self.0.connect_with_prefs((onion, 80), &prefs).await;
            // Only in full does it tell what became of each HSDir and introduction point.
            let stream = stream.map_err(|error| anyhow::anyhow!("{error:#?}"))?;
            fetch::get(stream, onion, path).await
        };
        tokio::time::timeout(PAGE, exchange).await.context("no answer to Arti")?
    }

    /// The client itself, for what no visitor does.
    pub fn tor(&self) -> &TorClient<PreferredRuntime> {
        &self.0
    }
}
