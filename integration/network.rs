//! Which Tor network do the end-to-end tests, the demo and the benchmarks run on?
//!
//! A private one, of real C tor relays on 127.0.0.1, ready in about ten
//! seconds. This module may start processes and write below the directory that
//! it is given; nothing of it outlives the process that uses it.
//!
//! | part | answers |
//! |---|---|
//! | [`process`] | how a child process never outlives this one |
//! | [`place`] | which directory and ports belong to one network |
//! | [`keys`] | where the relays' keys come from |
//! | [`torrc`] | what the configurations say |
//! | [`node`] | how one C tor is started, watched and disturbed |
//! | [`startup`] | how the relays come to a consensus quickly |
//! | [`consensus`], [`period`] | what the consensus says, when time periods change |
//! | [`client`], [`service`], [`bridge`] | C tor as a visitor, as a backend, as a way in |
//! | [`connections`] | whom a process connects to |
//! | [`attacker`] | a client that wants a service to be busy |
//! | [`origin`], [`fetch`] | the server behind, and the page in front |
//! | [`published`], [`anatomy`] | what HSDirs hold of an address, and how it was made |
//! | [`learner`] | a program that learns to tell two kinds of descriptors apart |
//! | [`web`] | real web servers behind the reverse proxy |
//! | [`browser`], [`prometheus`] | who looks at the page, and at the metrics |
//! | [`daemon`] | the program under test |
//! | [`small_disk`], [`slow_link`] | a disk for it that can be filled, a slow way to the network |

#![allow(dead_code, reason = "the tests and the demo use different parts of one network")]

pub mod anatomy;
pub mod attacker;
pub mod bridge;
pub mod browser;
pub mod client;
pub mod connections;
pub mod consensus;
pub mod daemon;
pub mod fetch;
pub mod keys;
pub mod learner;
pub mod node;
pub mod origin;
pub mod period;
pub mod place;
pub mod process;
pub mod prometheus;
pub mod published;
pub mod service;
pub mod slow_link;
pub mod small_disk;
pub mod startup;
pub mod torrc;
pub mod web;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use client::Client;
use consensus::Consensus;
use node::Node;
use period::Period;
use place::Place;
use service::Service;
use torrc::{Authority, Member, Voting};

/// How many of the relays are directory authorities.
const AUTHORITIES: usize = 3;

/// What makes a C tor publish single onion services.
pub const SINGLE_ONION: &[&str] =
    &["HiddenServiceSingleHopMode 1", "HiddenServiceNonAnonymousMode 1"];

/// How long after the change of a time period its first consensus may be late,
/// besides the intervals that it takes, on a busy machine.
const LATE: Duration = Duration::from_secs(60);

/// What network to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Relays in all, the three authorities included; at least 5, because an
    /// onion service needs that many for its circuits.
    pub relays: usize,
    /// From one consensus to the next: a divisor of a day, at least 15 s. A
    /// time period of onion services lasts 24 of these: 8 minutes for 20 s.
    pub voting_interval: Duration,
    /// Whether consensuses come at multiples of the voting interval, as on the
    /// public network. The start then takes up to an interval longer. Otherwise
    /// C tor counts the revisions of descriptors from a moment that is up to an
    /// interval later than where the specification and Arti count from.
    pub aligned: bool,
    /// Consensus parameters, as in `ConsensusParams`.
    pub params: String,
    /// Directories of networks are made below this one.
    pub root: PathBuf,
    /// Where the relays' keys are kept between runs.
    pub keys: PathBuf,
    /// How long the start may take on a busy machine.
    pub limit: Duration,
    /// The last relays, if they are to be slow.
    pub slow: Option<SlowRelays>,
}

/// Relays that pass on little: what begins there is as fast as they are. Nobody chooses
/// one for another place in a circuit, as good as never.
#[derive(Clone, Copy, Debug)]
pub struct SlowRelays {
    /// How many of the relays; no authority is one.
    pub number: usize,
    /// Bytes a second that each passes on in either direction, 75,000 or more.
    pub rate: u64,
}

impl Options {
    /// A network of this many relays; with directories and keys below the one
    /// that cargo has for tests, where a test is built.
    pub fn new(relays: usize) -> Options {
        let root = match option_env!("CARGO_TARGET_TMPDIR") {
            Some(dir) => PathBuf::from(dir),
            None => std::env::temp_dir().join("onionbraid"),
        };
        Options::below(&root, relays)
    }

    /// The same, with everything below a directory of the caller.
    pub fn below(root: &Path, relays: usize) -> Options {
        Options {
            relays,
            voting_interval: Duration::from_secs(20),
            aligned: false,
            // Else clients that have seen a few relays die refuse to try more.
            // And circuits on loopback take milliseconds: Arti learns a timeout
            // of that order, and when the machine is busy for a moment takes
            // every guard for dead, for minutes.
            params: "guard-max-sample-threshold=100 cbtmintimeout=2000".to_owned(),
            root: root.join("networks"),
            keys: root.join("keys"),
            limit: Duration::from_secs(180),
            slow: None,
        }
    }

    fn check(&self) -> Result<()> {
        let seconds = self.voting_interval.as_secs();
        ensure!(self.relays >= 5, "a network needs at least 5 relays");
        ensure!(
            seconds >= 15 && 86400 % seconds == 0 && (24 * seconds).is_multiple_of(60),
            "a voting interval must be at least 15 s, divide a day and give whole minutes when \
             taken 24 times (15, 20, 30, 60, 300, ...)"
        );
        Ok(())
    }
}

/// A running network; dropping it ends its relays. Clients and services that
/// were started on it end when their own values are dropped.
#[derive(Debug)]
pub struct Network {
    relays: Vec<Relay>,
    voting_interval: Duration,
    place: Arc<Place>,
    /// Given back last, when the relays have ended.
    _turn: SemaphorePermit<'static>,
}

/// How many relays run at once in one process, with those of the shared network. Each
/// takes part of every consensus, and tests that run beside each other wait for the
/// processor all together where there are more: their clients then give circuits up. With
/// so many, the largest networks run beside the shared one and one of the usual size, which
/// a test may need for a quarter of an hour.
const RELAYS_AT_ONCE: usize = 48;
/// Of these, the relays of the shared network.
const SHARED_RELAYS: usize = 12;

/// One relay of the network.
#[derive(Debug)]
pub struct Relay {
    /// Its process: to be killed, frozen, restarted.
    pub node: Node,
    member: Member,
}

/// The network that tests of one process share, started by the first one that asks. Its
/// relays end with the process. Whoever kills or freezes relays starts a network of its own.
pub async fn shared() -> Result<&'static Network> {
    static SHARED: OnceCell<Network> = OnceCell::const_new();
    SHARED.get_or_try_init(|| Network::start(Options::new(SHARED_RELAYS))).await
}

impl Network {
    /// Starts a network, once there is room for its relays, and waits until it is usable: all
    /// are in the consensus as HSDirs and know each other. About ten seconds. Who holds one
    /// network must not wait for another.
    pub async fn start(options: Options) -> Result<Network> {
        static TURNS: Semaphore = Semaphore::const_new(RELAYS_AT_ONCE);
        options.check()?;
        // The shared network stays, once it is there.
        let most = RELAYS_AT_ONCE - SHARED_RELAYS;
        let turn = TURNS.acquire_many(u32::try_from(options.relays.min(most))?).await?;
        let place = Arc::new(Place::claim(&options.root)?);
        let relays = prepare_relays(&place, &options).await?;
        let voting_interval = options.voting_interval;
        let network = Network { relays, voting_interval, place, _turn: turn };
        let members = network.members();
        let dir = network.dir();
        // Nobody listens at port 53 of loopback: no name is ever resolved.
        fs::write(dir.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
        fs::write(dir.join("empty"), "")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let number_of_slow = options.slow.map_or(0, |slow| slow.number);
        let (fast, slow) = members.split_at(members.len().saturating_sub(number_of_slow));
        fs::write(dir.join("bandwidths"), torrc::bandwidths(fast, slow, now))?;
        let common = torrc::common(&members, dir);
        let configure = |relay: &Relay, voting: &Voting| {
            let mut lines = common.clone() + &torrc::relay(&relay.member, voting.interval, dir);
            if let Some(authority) = &relay.member.authority {
                lines += &torrc::authority(authority, voting, &options.params, dir);
                let state = torrc::shared_random_state(SystemTime::now(), voting.interval);
                fs::write(relay.node.dir().join("data/sr-state"), state)?;
            }
            let is_slow = |slow: &Member| slow.nickname == relay.member.nickname;
            if let Some(SlowRelays { rate, .. }) = options.slow.filter(|_| slow.iter().any(is_slow))
            {
                lines += &torrc::slow(rate);
            }
            relay.node.configure(&lines);
            Ok(())
        };
        let Options { aligned, limit, .. } = options;
        let started =
            startup::start(&network.relays, voting_interval, aligned, limit, configure).await;
        if started.is_err() {
            network.place.keep();
        }
        started.context("the private Tor network does not start")?;
        Ok(network)
    }

    /// Its directory, removed with it: logs and data of all its processes.
    pub fn dir(&self) -> &Path {
        self.place.dir()
    }

    /// A new empty directory in it, for whatever a test writes.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        self.place.subdirectory(name)
    }

    /// An address on loopback that nobody else is given.
    pub fn free_address(&self) -> Result<SocketAddr> {
        self.place.address()
    }

    /// All relays, the authorities first.
    pub fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// The relay with this RSA fingerprint (40 hexadecimal digits, upper or
    /// lower case, with or without `$`) or this nickname.
    pub fn relay(&self, name: &str) -> Result<&Relay> {
        let name = name.trim_start_matches('$');
        self.relays
            .iter()
            .find(|relay| {
                relay.nickname() == name || relay.fingerprint().eq_ignore_ascii_case(name)
            })
            .with_context(|| format!("there is no relay {name}"))
    }

    /// The consensus that the first answering authority serves.
    pub async fn consensus(&self) -> Result<Consensus> {
        for address in self.relays.iter().filter_map(Relay::dir_address) {
            if let Some(consensus) = Consensus::download(address).await {
                return Ok(consensus);
            }
        }
        anyhow::bail!("no authority serves a consensus")
    }

    /// Waits, if the time period changes within `duration`, until it has: whoever
    /// starts afterwards is in one period with everybody for that long.
    ///
    /// While it changes, participants disagree. Each takes the old period for
    /// over when it gets a consensus of the new one, which is at once for who
    /// starts and takes up to 75 s for C tor and Arti that run already. Then C
    /// tor clients drop the descriptors that they hold, C tor backends are
    /// found with other points, and the daemon looks at those only 5 to 30 s
    /// after it has noticed. None of that is a fault, so a test that compares
    /// before and after, or what different participants see, calls this before
    /// it starts any of them. A third of a period is the most to ask for.
    ///
    /// # Errors
    ///
    /// If some relay has no consensus of the present period after a few voting
    /// intervals: relays that a test has stopped are left out.
    pub async fn calm_for(&self, duration: Duration) -> Result<()> {
        ensure!(3 * duration <= period::length(self.voting_interval), "no period is that long");
        let now = SystemTime::now();
        let mut period = Period::at(now, self.voting_interval);
        if let Ok(left) = period.ends.duration_since(now)
            && left < duration
        {
            tokio::time::sleep(left).await;
            period = Period::at(period.ends, self.voting_interval);
        }
        // Any of them may be the one that whoever starts gets a consensus from.
        let known_to_all = async {
            for relay in self.relays.iter().filter(|relay| relay.node.is_running()) {
                while !period.is_known_to(&relay.node).await {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        tokio::time::timeout(4 * self.voting_interval + LATE, known_to_all)
            .await
            .context("some relay serves no consensus of the new time period")
    }

    /// Arti's configuration tables for this network, without `[storage]`'s
    /// directories, which the caller names in another file.
    pub fn arti_toml(&self) -> String {
        torrc::arti(&self.members())
    }

    /// The torrc lines that every tor on this network needs.
    pub fn torrc(&self) -> String {
        torrc::common(&self.members(), self.dir())
    }

    /// Starts a C tor client and waits until it knows the whole network.
    pub async fn client(&self, name: &str) -> Result<Client> {
        self.client_with(name, "").await
    }

    /// The same with further torrc lines.
    pub async fn client_with(&self, name: &str, lines: &str) -> Result<Client> {
        let socks = self.place.address()?;
        let client = Client { socks, node: Node::new(&self.place, name)? };
        client.node.configure(&(self.torrc() + &torrc::client(Some(socks)) + lines));
        client.node.start()?;
        client.node.listening().await?;
        client.ready(self.relays.len()).await?;
        Ok(client)
    }

    /// Starts a C tor with an onion service whose virtual port 80 is `origin`.
    /// It is reachable a few seconds later.
    pub async fn service(&self, name: &str, origin: SocketAddr) -> Result<Service> {
        self.service_with(name, origin, &[], &[]).await
    }

    /// The same with further torrc lines for the service, and files (name,
    /// content) that are in its directory before tor starts.
    pub async fn service_with(
        &self,
        name: &str,
        origin: SocketAddr,
        lines: &[&str],
        files: &[(&str, &str)],
    ) -> Result<Service> {
        let service = self.prepare_services(name, &[origin], lines, files).await?;
        service.node.restart().await?;
        Ok(service)
    }

    /// A C tor backend that has its address and does not run: for a frontend
    /// that has to know the address first. [`Service::answer_for`] starts it.
    pub async fn future_backend(&self, name: &str, origin: SocketAddr) -> Result<Service> {
        self.future_backends(name, &[origin]).await
    }

    /// The same for several backends in one process, one for each origin.
    pub async fn future_backends(&self, name: &str, origins: &[SocketAddr]) -> Result<Service> {
        self.prepare_services(name, origins, &[], &[]).await
    }

    /// The same with a single onion service: tor does not hide where it is.
    pub async fn future_single_onion(&self, name: &str, origin: SocketAddr) -> Result<Service> {
        self.prepare_services(name, &[origin], SINGLE_ONION, &[]).await
    }

    async fn prepare_services(
        &self,
        name: &str,
        origins: &[SocketAddr],
        lines: &[&str],
        files: &[(&str, &str)],
    ) -> Result<Service> {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let common = self.torrc() + &torrc::client(None);
        let torrc = service::Torrc { common, origins: origins.to_vec(), lines };
        Service::prepare(Node::new(&self.place, name)?, torrc, files).await
    }

    fn members(&self) -> Vec<Member> {
        self.relays.iter().map(|relay| relay.member.clone()).collect()
    }
}

impl Relay {
    /// Its nickname, `auth0` or `relay7`.
    pub fn nickname(&self) -> &str {
        &self.member.nickname
    }

    /// Its RSA fingerprint: 40 hexadecimal digits, upper case.
    pub fn fingerprint(&self) -> &str {
        &self.member.fingerprint
    }

    /// Its Ed25519 identity: base64 without padding.
    pub fn ed25519(&self) -> &str {
        &self.member.ed25519
    }

    /// Where it takes connections of other relays and of clients.
    pub fn or_address(&self) -> SocketAddr {
        self.member.or_address
    }

    /// Where it serves the directory, if it is an authority.
    pub fn dir_address(&self) -> Option<SocketAddr> {
        self.member.authority.as_ref().map(|authority| authority.dir_address)
    }
}

/// Gives each relay its directory, ports and keys.
async fn prepare_relays(place: &Arc<Place>, options: &Options) -> Result<Vec<Relay>> {
    let names: Vec<(String, bool)> = (0..options.relays)
        .map(|number| match number.checked_sub(AUTHORITIES) {
            None => (format!("auth{number}"), true),
            Some(number) => (format!("relay{number}"), false),
        })
        .collect();
    let keys = keys::provide(&options.keys, &names).await?;
    let mut relays = Vec::new();
    for ((nickname, _), keys) in names.into_iter().zip(keys) {
        let node = Node::new(place, &nickname)?;
        keys.install(&node.dir().join("data"))?;
        let keys::Identity { fingerprint, ed25519, v3ident } = keys.identity;
        let authority = match v3ident {
            Some(v3ident) => Some(Authority { v3ident, dir_address: place.address()? }),
            None => None,
        };
        let or_address = place.address()?;
        let member = Member { nickname, fingerprint, ed25519, or_address, authority };
        relays.push(Relay { node, member });
    }
    Ok(relays)
}
