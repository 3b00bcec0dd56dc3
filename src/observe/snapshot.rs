//! The Snapshot: everything that status, dashboards and health checks show,
//! at one moment.
//!
//! Field names are a contract with scripts and dashboards: names may be added,
//! none is renamed or removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use onionbraid_balancer::operator::Word;
pub use onionbraid_balancer::status::{
    Activity, Anonymity, Backend, BackendKind, BackendState, BundleStatus, Canary, CanaryOutcome,
    Descriptor, Hsdir, HsdirState, LinkState, ServiceState, Timestamp,
};
pub use onionbraid_proxy::status::{
    DurationBucket, Durations, HttpStatus, OriginState, OriginStatus, StatusClasses,
};

/// The daemon at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of the running program.
    pub version: String,
    /// When the daemon started.
    pub started: Timestamp,
    /// Whether every enabled service is published: clients can reach each address.
    pub ready: bool,
    /// What became of the last reload of the configuration, if there was one.
    #[serde(default)]
    pub reload: Option<Reload>,
    /// The Tor client that everything goes through.
    pub tor: TorStatus,
    /// Tasks of the runtime that are alive, Arti's among them.
    #[serde(default)]
    pub tasks: usize,
    /// Files and connections that it has open.
    #[serde(default)]
    pub handles: Handles,
    /// The processor time that it has taken since it started, in seconds;
    /// `None`: the system does not tell.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// What it takes of the machine's memory.
    #[serde(default)]
    pub memory: ProcessMemory,
    /// Requests to the HTTP reverse proxies of all services that are under way.
    #[serde(default)]
    pub requests: Requests,
    /// Every service, in the order of the nicknames.
    pub services: Vec<Service>,
}

/// A reload of the configuration, or of a file that lists more backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// When.
    pub at: Timestamp,
    /// Whether everything that the files say is in force since.
    pub ok: bool,
    /// What is not, and why: nothing, where something is wrong with the files,
    /// or what only a restart can change.
    pub error: Option<String>,
}

/// Files and connections of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handles {
    /// So many are open; `None`: the system does not tell.
    pub open: Option<u64>,
    /// So many may be open.
    pub limit: u64,
    /// So many of them are there for clients' streams and files.
    pub clients_open: u64,
    /// So many of them may be.
    pub clients_limit: u64,
    /// So many relays are connected to directly (`anonymity = "not_anonymous"`), beside
    /// guards.
    #[serde(default)]
    pub direct_open: u64,
    /// So many may be; 0: none, the services hide.
    #[serde(default)]
    pub direct_limit: u64,
}

/// The memory of the process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMemory {
    /// What lies in the machine's memory; `None`: the system does not tell.
    pub resident: Option<u64>,
    /// The most that it may take (of its control group, else of the machine);
    /// `None`: the system does not tell.
    pub limit: Option<u64>,
}

/// Requests under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// So many are.
    pub under_way: u64,
    /// So many may be.
    pub limit: u64,
}

/// The state of the embedded Tor client.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TorStatus {
    /// How far the client is with bootstrapping, 0.0 to 1.0.
    pub bootstrap: f32,
    /// What it does, or what is wrong, in words.
    pub message: String,
    /// What is wrong, in one word that stays the same in all versions, such as
    /// `no_route` or `clock`; `None`: nothing is.
    #[serde(default)]
    pub trouble: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub advice: Option<String>,
    /// Until when the network directory is valid.
    pub consensus_valid_until: Option<Timestamp>,
    /// What the operator should act on although the client can be used.
    #[serde(default)]
    pub problem: Option<String>,
}

/// One onion service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Service {
    /// Its nickname in the configuration.
    pub nickname: String,
    /// Its whole `.onion` address.
    pub address: String,
    /// Whether clients can find it.
    pub state: ServiceState,
    /// What the operator should act on and the state of no backend tells.
    #[serde(default)]
    pub problems: Vec<String>,
    /// Whether other processes publish it, too (`publishers = "several"`).
    #[serde(default)]
    pub several_publishers: bool,
    /// `not_anonymous`: relays see where this process is.
    #[serde(default)]
    pub anonymity: Anonymity,
    /// The guards of its local instances, where those have their own (`guards = "own"`);
    /// `None`: they share those of the process.
    #[serde(default)]
    pub guards: Option<GuardSets>,
    /// How many clients may find it (`restricted_discovery`); `None`: everybody who knows
    /// the address.
    #[serde(default)]
    pub clients: Option<usize>,
    /// How long the keys of its `identity_bundle` last; `None`: it has its identity key,
    /// or no network is known yet.
    #[serde(default)]
    pub bundle: Option<BundleStatus>,
    /// What became of its `backends_file` when that was last read; `None`: it has none.
    #[serde(default)]
    pub backends_file: Option<Reload>,
    /// What its clients want of it now, beside what it can bear.
    #[serde(default)]
    pub load: Load,
    /// Everything that answers for it.
    pub backends: Vec<Backend>,
    /// One descriptor for each time period in which it is published.
    pub descriptors: Vec<Descriptor>,
    /// What its HTTP reverse proxy has done; `None`: it has none.
    #[serde(default)]
    pub http: Option<HttpStatus>,
    /// The certificates of its ports that speak TLS, in the order of the configuration.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Uploads of its descriptors that HSDirs took, since the start.
    #[serde(default)]
    pub uploads_accepted: u64,
    /// Those that failed.
    #[serde(default)]
    pub uploads_failed: u64,
    /// How long successful probes of its backends took.
    #[serde(default)]
    pub probe_seconds: Durations,
}

/// Guards of their own of local instances. Which relays these are, nobody is told: whoever
/// knows that is one step nearer to the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardSets {
    /// How many instances have guards of their own.
    pub sets: usize,
    /// At how many different relays their circuits begin now.
    pub first_guards: usize,
    /// The instances whose circuits begin at a relay at which those of another do, too.
    #[serde(default)]
    pub overlapping: Vec<String>,
}

/// A certificate with which a port speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The ports, as `proxy_ports` writes them.
    pub port: String,
    /// Which of them, from 1, where the port has several.
    pub number: u64,
    /// Its file.
    pub file: String,
    /// The names that it is for.
    pub names: Vec<String>,
    /// Since when it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Whether nobody vouches for it but itself.
    pub self_signed: bool,
    /// Why what the files of the port hold now is not in force; `None`: it is.
    pub error: Option<String>,
}

/// What clients want of a service now, beside what it can bear.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Over the last ten seconds.
    #[serde(flatten)]
    pub rates: Rates,
    /// The same over the last minute.
    #[serde(default)]
    pub last_minute: Rates,
    /// Introductions dropped over the last ten seconds, a second, by the limit that
    /// was hit; those limits alone that were. See `introductions_dropped_by`.
    #[serde(default)]
    pub dropped_by_per_s: BTreeMap<String, f64>,
    /// Introductions a second that are looked at, over all local instances.
    #[serde(default)]
    pub introductions_limit_per_s: u64,
    /// Introductions that wait to be looked at.
    #[serde(default)]
    pub introductions_waiting: u64,
    /// So many may; more are dropped.
    #[serde(default)]
    pub introductions_waiting_limit: u64,
    /// Clients that are being met.
    pub rendezvous_under_way: u64,
    /// So many may be.
    pub rendezvous_limit: u64,
    /// Circuits of clients that are open.
    pub circuits_open: u64,
    /// So many may be.
    pub circuits_limit: u64,
    /// Streams of clients that are open.
    pub streams_open: u64,
    /// So many may be open on one circuit.
    #[serde(default)]
    pub streams_limit_per_circuit: u64,
    /// Proof of work; `None`: no client is asked for any.
    #[serde(default)]
    pub pow: Option<Pow>,
}

/// What clients are asked for while more come than can be met, and what comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pow {
    /// The effort that clients are asked for, by its own descriptors or those of the publishers
    /// that it is a backend of, whichever is more; 0 in peace.
    pub effort: u32,
    /// Introductions that wait for their turn.
    pub queue: u64,
    /// So many may; at that, the worse half is dropped.
    pub queue_limit: u64,
    /// The greatest effort that was dropped in the last minute: clients that did no
    /// more than this were not met.
    pub trimmed_effort: u32,
    /// Introductions dropped for better ones, since the start.
    pub trimmed: u64,
    /// Those dropped because they had waited too long.
    pub expired: u64,
    /// Solutions that were right and counted.
    pub verified: u64,
    /// Solutions that were not, by reason: `unknown_seed` (expired, or not ours),
    /// `wrong`, `used`, `cheap` (worth too little to be remembered).
    pub refused: BTreeMap<String, u64>,
}

/// How often something happened, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Introductions that were looked at.
    pub introductions_per_s: f64,
    /// Introductions that were dropped because of a limit.
    pub introductions_dropped_per_s: f64,
    /// Introductions that were replays.
    pub replays_per_s: f64,
    /// Rendezvous that failed.
    pub rendezvous_failed_per_s: f64,
    /// Clients that were met.
    pub clients_met_per_s: f64,
    /// Circuits that were closed to make room for new ones.
    pub circuits_closed_per_s: f64,
    /// Streams that were opened.
    pub streams_per_s: f64,
    /// HTTP requests.
    pub requests_per_s: f64,
    /// HTTP requests beyond what a circuit may have (429).
    pub requests_limited_per_s: f64,
    /// HTTP requests that were answered with 5xx.
    pub server_errors_per_s: f64,
}
