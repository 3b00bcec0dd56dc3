//! The part of the status that the balancer fills: a service's backends and
//! descriptors, as they are serialised.
//!
//! Field names are a contract with scripts and dashboards: names may be added,
//! none is renamed or removed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fact::BackendId;
pub use crate::onion::Anonymity;
use crate::operator::Word;
use crate::settings::Publishers;
pub use crate::timestamp::Timestamp;

/// What the operator sees of one service.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether clients can find it; it is ready exactly if `Published`.
    pub state: ServiceState,
    /// In the order of the settings; what the shell counts is 0.
    pub backends: Vec<Backend>,
    /// One for each period of the network view, in its order.
    pub descriptors: Vec<Descriptor>,
    /// What the operator should act on and no backend's state tells.
    pub problems: Vec<String>,
    /// Whether other processes publish the address, too.
    pub publishers: Publishers,
    /// How many clients may read the descriptors; `None` if everybody may.
    pub clients: Option<usize>,
    /// How long the publisher's keys last, where it has none but those of some periods.
    pub bundle: Option<BundleStatus>,
}

/// How long the keys of an `identity_bundle` last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BundleStatus {
    /// Periods that can be published, from the current one on and without a gap; 0:
    /// nothing is published now.
    pub periods_left: u64,
    /// When the last of them ends; where there is none, when the last one ended.
    pub ends: Option<Timestamp>,
}

/// What is believed of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belief<'a> {
    /// The id that facts and commands use.
    pub backend: BackendId,
    /// What the operator calls it.
    pub name: &'a str,
    /// Whether it is believed to answer.
    pub state: BackendState,
    /// How many of its introduction points fail.
    pub failing: usize,
    /// Why, where that is not obvious.
    pub reason: Option<&'a str>,
}

/// Whether clients can find a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// No backend or no network directory is known yet.
    #[default]
    Starting,
    /// Points are known, and no HSDir that clients ask has them yet.
    Publishing,
    /// In the current period, HSDirs that clients ask hold the descriptor.
    Published,
    /// No backend is up: the last descriptor is left where it is. Or no client may
    /// read descriptors, or there are no keys for the current period: none is published.
    Down,
}

/// Something that answers for a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Backend {
    /// Its name: `local-N`, or what the configuration says.
    pub name: String,
    /// In this process or elsewhere.
    pub kind: BackendKind,
    /// A remote backend's own address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// Whether it is believed to answer.
    pub state: BackendState,
    /// Why the state is what it is, where that is not obvious.
    pub reason: Option<String>,
    /// How many introduction points it has.
    pub intro_points: usize,
    /// How many of them fail when a client asks there: they are left out of
    /// the descriptor while the backend has others.
    #[serde(default)]
    pub failing_intro_points: usize,
    /// The fingerprints of the relays at which they are.
    #[serde(default)]
    pub relays: Vec<String>,
    /// How many of them clients find: they are in the descriptor that the HSDirs
    /// of the current period have taken.
    pub published_intro_points: usize,
    /// Its share of the traffic relative to the others.
    pub weight: u16,
    /// The configuration's weight, where an operator has said another.
    #[serde(default)]
    pub configured_weight: Option<u16>,
    /// Whether the operator has it in use.
    #[serde(default)]
    pub operator: Word,
    /// When the operator said that it is out of use; where it is in use, when its
    /// weight was said, if that holds.
    #[serde(default)]
    pub operator_since: Option<Timestamp>,
    /// The user that said it, by its number on the machine.
    #[serde(default)]
    pub operator_by: Option<u32>,
    /// When an operator said the weight in place of the configuration's ...
    #[serde(default)]
    pub weight_since: Option<Timestamp>,
    /// ... and which user.
    #[serde(default)]
    pub weight_by: Option<u32>,
    /// How its control link is, if it can have one.
    #[serde(default)]
    pub link: Option<LinkState>,
    /// When its points were last confirmed.
    pub last_seen: Option<Timestamp>,
    /// The revision counter of its newest descriptor (remote backends).
    pub revision: Option<u64>,
    /// What it has done and does; nothing of a backend elsewhere, where nobody
    /// here sees it.
    #[serde(flatten)]
    pub activity: Activity,
}

/// What a local instance has done so far, and what it does now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    /// Introductions that were looked at.
    pub introductions: u64,
    /// Introductions that were dropped because of a limit.
    pub introductions_dropped: u64,
    /// The same by the limit: `queue` (more waited than may), `rate` (more came
    /// than are looked at), `rendezvous` (more were under way than may),
    /// `circuits` (more clients than may, and none of them made room), `work` (others
    /// did more of it, or it waited too long), `operator` (the operator has the
    /// backend out of use).
    pub introductions_dropped_by: BTreeMap<String, u64>,
    /// Introductions that had come before and were dropped.
    pub replays: u64,
    /// Rendezvous that failed: the introduction could not be read, or no circuit
    /// to the client's rendezvous point came about.
    pub rendezvous_failed: u64,
    /// The same by what failed: `unreadable` (the introduction: the client's fault, or
    /// made for another address), `circuit` (none to the rendezvous point came about),
    /// `closed` (the circuit did before the client was answered), `time` (a minute was
    /// not enough).
    pub rendezvous_failed_by: BTreeMap<String, u64>,
    /// Clients that were met: their rendezvous succeeded.
    pub rendezvous_succeeded: u64,
    /// Clients whose rendezvous point was reached by one hop (`anonymity =
    /// "not_anonymous"`).
    pub rendezvous_direct: u64,
    /// Rendezvous whose circuit closed before a stream was opened: the client had
    /// gone meanwhile, or only wanted to be met, as probes do.
    pub rendezvous_abandoned: u64,
    /// Rendezvous that are under way now.
    pub rendezvous_under_way: u64,
    /// Circuits without a stream that were closed to make room for a new client.
    pub circuits_closed_idle: u64,
    /// Circuits whose streams moved nothing, closed to make room.
    pub circuits_closed_silent: u64,
    /// Circuits whose streams moved next to nothing, closed to make room.
    pub circuits_closed_slow: u64,
    /// Circuits of clients that are open now.
    pub circuits_open: u64,
    /// Rendezvous with negotiated congestion control.
    pub congestion_controlled: u64,
    /// Streams that clients opened.
    pub streams: u64,
    /// Streams of clients that are open now.
    pub streams_open: u64,
}

/// How a control link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It carries states.
    Up,
    /// It is lost, or was never there.
    Down,
}

/// Where a backend runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// A local instance, in this process.
    Local,
    /// Another process with an onion address of its own.
    Remote,
}

/// Whether a backend is believed to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    /// Nothing is known of it yet.
    Unknown,
    /// It has introduction points that are believed to work.
    Up,
    /// Its points are old: nobody has confirmed them for a while.
    Stale,
    /// It is known not to answer.
    Down,
}

/// The descriptor of one time period.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Descriptor {
    /// The number of the time period.
    pub period: u64,
    /// Whether clients look in this period now.
    pub current: bool,
    /// The highest revision counter that an HSDir accepted.
    pub revision: Option<u64>,
    /// How many introduction points it holds.
    pub intro_points: usize,
    /// Whether HSDirs hold different ones of these points.
    #[serde(default)]
    pub distinct: bool,
    /// When an HSDir last accepted it.
    pub published_at: Option<Timestamp>,
    /// What HSDirs that clients ask were last seen to hold.
    #[serde(default)]
    pub canary: Option<Canary>,
    /// The HSDirs responsible for it.
    pub hsdirs: Vec<Hsdir>,
}

/// What came out when HSDirs were asked for the descriptor, as clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// When the last of them answered.
    pub checked_at: Timestamp,
    /// The worst that one of them held.
    pub outcome: CanaryOutcome,
}

/// What an HSDir held that was asked, the better before the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CanaryOutcome {
    /// What it should.
    Ok,
    /// It could not be asked, which says nothing.
    Unreachable,
    /// An older descriptor than it took; it gets the newest again.
    Old,
    /// Nothing that can be used; it gets the descriptor again.
    Missing,
    /// A descriptor of somebody else's with our key.
    Foreign,
}

/// One HSDir and what became of the upload to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hsdir {
    /// The relay's fingerprint.
    pub relay: String,
    /// What it holds.
    pub state: HsdirState,
    /// How many introduction points it should hold.
    #[serde(default)]
    pub intro_points: usize,
    /// How many uploads in a row it took to bring it what it holds, or has not
    /// been enough so far.
    pub attempts: u32,
    /// Why the last upload failed, until one succeeds.
    pub last_error: Option<String>,
}

/// What an HSDir holds of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HsdirState {
    /// An upload is due.
    Pending,
    /// An upload is under way.
    Uploading,
    /// It accepted what is published now.
    Uploaded,
    /// The last upload failed; another one follows.
    Failed,
}
