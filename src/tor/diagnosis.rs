//! What keeps Tor from coming up, in words that say what to do about it.
//!
//! Pure: what was [`ObservedClient`] of connections, relays' clocks and the directory
//! goes in, a [`Trouble`] comes out. Called by [`watch`](super::watch).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// A clock that differs by less from what relays say is right enough.
pub(super) const CLOCK_MAY_DIFFER: Duration = Duration::from_secs(15 * 60);

/// Without a directory, a clock that was just set by so much may be why.
const CLOCK_SET_BY: Duration = Duration::from_secs(60 * 60);

/// So long without progress means trouble, though nothing is seen to fail.
const STALLED_FOR: Duration = Duration::from_secs(12);

/// While Tor is ready, so many relays have to fail before anything is said:
/// single ones always do.
const RELAYS_THAT_TELL: usize = 3;

/// How many ports a message names.
const NAMED_PORTS: usize = 5;

/// How an attempt to open a TCP connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ConnectionOutcome {
    /// It opened.
    Connected,
    /// The system knows no way there.
    NoRoute,
    /// The network says that it cannot be reached: a router, or a firewall that
    /// rejects.
    Unreachable,
    /// The system, or a host on the way, does not allow it.
    Forbidden,
    /// The other side closed it at once.
    Refused,
    /// Nothing came back.
    Silent,
    /// It failed in another way.
    Broken,
}

/// The network directory at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NetworkDirectory {
    /// None.
    #[default]
    Missing,
    /// It was valid until so long ago.
    Expired(Duration),
    /// It is valid from so far in the future on.
    NotYetValid(Duration),
    /// It can be used.
    Usable,
}

/// Why Arti gave an attempt to bootstrap up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BootstrapFailure {
    /// No space is left where the directory is kept.
    DiskFull,
    /// The process has no file handle left.
    NoHandles,
    /// Anything else.
    Other,
}

/// Why no bridge behind a pluggable transport is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreached {
    /// A transport's program does not do its work.
    Program {
        /// Which transport.
        transport: String,
        /// What is wrong with it.
        error: String,
    },
    /// It does, and no bridge answers.
    Bridges {
        /// So many were tried.
        tried: usize,
        /// At these ports.
        ports: BTreeSet<u16>,
    },
}

/// What is known of the Tor client.
#[derive(Clone, Debug, Default)]
pub(super) struct ObservedClient {
    /// The last attempt of the last minute at each address, whatever is there:
    /// relays or bridges. While Tor is ready, none that was before the last that
    /// succeeded.
    pub(super) attempts: BTreeMap<SocketAddr, ConnectionOutcome>,
    /// The same of the time before, where nothing was attempted in the last minute.
    pub(super) earlier: BTreeMap<SocketAddr, ConnectionOutcome>,
    /// Whether a connection to a relay is open on which nothing speaks against that
    /// it answers.
    pub(super) answering: bool,
    /// The relays that we are connected to, if none of them answers any more, though
    /// the system has sent the same again and again.
    pub(super) lost: BTreeSet<SocketAddr>,
    /// How far our clock is ahead of those of relays that were reached, in
    /// seconds; negative where it is behind.
    pub(super) clocks: Vec<i64>,
    /// Relays that took a TCP connection in the last minute and then did not
    /// answer as a relay does.
    pub(super) strange: usize,
    /// The directory at hand.
    pub(super) directory: NetworkDirectory,
    /// By how many seconds the clock was set forward lately; negative: back.
    pub(super) clock_set_by: Option<i64>,
    /// Why the last attempt to bootstrap was given up.
    pub(super) failure: Option<BootstrapFailure>,
    /// How long there has been no progress; 0 while Tor is ready.
    pub(super) stalled: Duration,
    /// So many bridges are to be used; 0: none are.
    pub(super) bridges: usize,
    /// Why none of those behind pluggable transports was reached, if it is so.
    pub(super) unreached: Option<Unreached>,
}

/// What is wrong, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A word that stays the same in all versions.
    pub kind: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// What is wrong, if anything is.
pub(super) fn diagnose(seen: &ObservedClient) -> Option<Trouble> {
    own_limits(seen)
        .or_else(|| clock(seen))
        .or_else(|| transports(seen))
        .or_else(|| connections(seen))
        .or_else(|| strange_answers(seen))
        .or_else(|| directory(seen))
}

fn trouble(
    kind: &'static str,
    message: impl Into<String>,
    advice: impl Into<String>,
) -> Option<Trouble> {
    Some(Trouble { kind, message: message.into(), advice: advice.into() })
}

/// What this machine has too little of.
fn own_limits(seen: &ObservedClient) -> Option<Trouble> {
    match seen.failure? {
        BootstrapFailure::DiskFull => trouble(
            "disk_full",
            "no space is left for the Tor directory in cache_dir or state_dir",
            "make room; no restart is needed",
        ),
        BootstrapFailure::NoHandles => trouble(
            "no_handles",
            "no file handle is left",
            "raise the limit of open files (`ulimit -n`, `LimitNOFILE`)",
        ),
        BootstrapFailure::Other => None,
    }
}

const SET_IT_RIGHT: &str = "set it right, and have it kept right (NTP); no restart is needed";

/// A clock that is wrong, by what relays say or by what the directory does.
fn clock(seen: &ObservedClient) -> Option<Trouble> {
    if let Some(ahead) = median(&seen.clocks) {
        let by = Duration::from_secs(ahead.unsigned_abs());
        if by >= CLOCK_MAY_DIFFER {
            let way = if ahead > 0 { "fast" } else { "slow" };
            let says = match seen.clocks.len() {
                1 => "as a relay says".to_owned(),
                relays => format!("as {relays} relays say"),
            };
            let message = format!("this machine's clock is {} {way}, {says}", roughly(by));
            return trouble("clock", message, SET_IT_RIGHT);
        }
        // They have seen it, and it is right.
        return None;
    }
    match seen.directory {
        // It was signed by the authorities, so that time has come.
        NetworkDirectory::NotYetValid(by) => {
            let by = roughly(by);
            let message = format!("this machine's clock is at least {by} slow");
            trouble("clock", message, SET_IT_RIGHT)
        }
        NetworkDirectory::Missing | NetworkDirectory::Expired(_) => {
            let by = seen.clock_set_by?;
            let set = Duration::from_secs(by.unsigned_abs());
            let way = if by > 0 { "forward" } else { "back" };
            if set < CLOCK_SET_BY || seen.stalled < STALLED_FOR {
                return None;
            }
            let message = format!(
                "this machine's clock was just set {way} by {}, and no network directory is valid \
                 at the time that it shows now",
                roughly(set)
            );
            trouble("clock", message, format!("if the time is wrong, {SET_IT_RIGHT}"))
        }
        NetworkDirectory::Usable => None,
    }
}

/// No bridge is reached by the programs that are to do so.
fn transports(seen: &ObservedClient) -> Option<Trouble> {
    match seen.unreached.as_ref()? {
        Unreached::Program { transport, error } => trouble(
            "transport",
            format!("the program of the transport {transport} does not work: {error}"),
            "see that `path` and `arguments` of its [[bridges.transports]] are right, and that this \
             user may execute it",
        ),
        Unreached::Bridges { tried, ports: at } => {
            let who = match tried {
                1 => "the only bridge tried".to_owned(),
                tried => format!("each of the {tried} bridges tried"),
            };
            let ports = ports(at.iter().copied());
            trouble(
                "bridges_down",
                format!("no answer from {who} by its transport"),
                format!(
                    "let this machine connect out to TCP {ports} in every firewall, and look at its \
                     network{}",
                    otherwise(seen)
                ),
            )
        }
    }
}

/// No TCP connection opens.
fn connections(seen: &ObservedClient) -> Option<Trouble> {
    // What opened before says nothing of a way that is cut now.
    let is_cut = !seen.lost.is_empty();
    let mut attempts = seen.attempts.clone();
    attempts.retain(|_, outcome| !is_cut || *outcome != ConnectionOutcome::Connected);
    for relay in &seen.lost {
        attempts.entry(*relay).or_insert(ConnectionOutcome::Silent);
    }
    let ready = seen.directory == NetworkDirectory::Usable;
    let works = if ready {
        seen.answering
    } else {
        attempts.values().any(|outcome| *outcome == ConnectionOutcome::Connected)
    };
    if works {
        return None;
    }
    attempts.retain(|_, outcome| *outcome != ConnectionOutcome::Connected);
    // Half of the machines have no way to IPv6: that tells nothing where
    // something else is tried.
    let known =
        |attempt: &(&SocketAddr, &ConnectionOutcome)| *attempt.1 != ConnectionOutcome::NoRoute;
    let telling: Vec<_> = match attempts.iter().any(|attempt| known(&attempt)) {
        true => attempts.iter().filter(known).collect(),
        false => attempts.iter().collect(),
    };
    // Who has fewer bridges can try no more.
    let that_tell = match seen.bridges {
        // All that there are.
        _ if is_cut => 1,
        0 => RELAYS_THAT_TELL,
        bridges => RELAYS_THAT_TELL.min(bridges),
    };
    if telling.is_empty() || (ready && telling.len() < that_tell) {
        return None;
    }
    let mut counts: BTreeMap<ConnectionOutcome, usize> = BTreeMap::new();
    for (_, outcome) in &telling {
        *counts.entry(**outcome).or_default() += 1;
    }
    let (most, _) = counts.iter().max_by_key(|(_, count)| **count)?;
    let who = match (telling.len(), who(seen)) {
        (1, (one, _)) => format!("the only {one} tried"),
        (all, (_, many)) => format!("each of the {all} {many} tried"),
    };
    let ports = ports(telling.iter().map(|(address, _)| address.port()));
    let open = format!("let this machine connect out to TCP {ports}");
    // With a directory, only guards are tried.
    let guards = |kind| if ready { "guards_down" } else { kind };
    match most {
        ConnectionOutcome::NoRoute => trouble(
            "no_route",
            format!(
                "this machine has no route to the Tor network: tried {}",
                tried(&telling, seen)
            ),
            "bring its network up: `ip route` must show a default route",
        ),
        ConnectionOutcome::Forbidden => trouble(
            "forbidden",
            format!("this machine is not allowed to connect to {who}"),
            format!("{open}: look at its firewall, and at IPAddressDeny of the service's unit"),
        ),
        ConnectionOutcome::Unreachable => trouble(
            guards("unreachable"),
            format!("the network says that it cannot reach {who} (TCP {ports})"),
            format!(
                "look at this machine's router, and {open} in every firewall{}",
                otherwise(seen)
            ),
        ),
        ConnectionOutcome::Refused => trouble(
            guards("refused"),
            format!("{who} refuses the connection (TCP {ports})"),
            format!("{open} in every firewall{}", otherwise(seen)),
        ),
        ConnectionOutcome::Silent => trouble(
            guards("silent"),
            format!("no answer from {who}: packets to TCP {ports} are lost or dropped"),
            format!("{open} in every firewall, and look at its network{}", otherwise(seen)),
        ),
        ConnectionOutcome::Broken | ConnectionOutcome::Connected => trouble(
            guards("failing"),
            format!("no connection to {who} opens (TCP {ports})"),
            format!("look at this machine's network{}", otherwise(seen)),
        ),
    }
}

/// How many of what were tried.
fn tried(telling: &[(&SocketAddr, &ConnectionOutcome)], seen: &ObservedClient) -> String {
    match (telling.len(), who(seen)) {
        (1, (one, _)) => format!("1 {one}"),
        (all, (_, many)) => format!("{all} {many}"),
    }
}

/// What is tried: one, and several of it.
fn who(seen: &ObservedClient) -> (&'static str, &'static str) {
    match (seen.bridges, seen.directory) {
        (1.., _) => ("bridge", "bridges"),
        (0, NetworkDirectory::Missing) => ("relay", "relays"),
        (0, _) => ("guard", "guards"),
    }
}

/// What to do where everything else on the network works.
fn otherwise(seen: &ObservedClient) -> &'static str {
    if seen.bridges > 0 {
        "; if all else works, ask for other bridges"
    } else if seen.directory == NetworkDirectory::Missing {
        "; if all else works, Tor is blocked here: configure [bridges]"
    } else {
        "; if all else works, wait, others are tried"
    }
}

/// Connections open, and nobody there speaks Tor.
fn strange_answers(seen: &ObservedClient) -> Option<Trouble> {
    if seen.strange == 0 || !seen.clocks.is_empty() || seen.directory == NetworkDirectory::Usable {
        return None;
    }
    let (one, many) = who(seen);
    let who =
        if seen.strange == 1 { format!("1 {one}") } else { format!("{} {many}", seen.strange) };
    trouble(
        "filtered",
        format!("{who} took a connection and did not answer as Tor does"),
        if seen.bridges > 0 {
            "take proxies and filters out of the way; if there are none, ask for other bridges"
        } else {
            "take proxies and filters out of the way; if there are none of yours, Tor is blocked \
             here: configure [bridges]"
        },
    )
}

/// Relays answer, and there is still no directory.
fn directory(seen: &ObservedClient) -> Option<Trouble> {
    if seen.stalled < STALLED_FOR {
        return None;
    }
    let reached = !seen.clocks.is_empty()
        || seen.attempts.values().any(|outcome| *outcome == ConnectionOutcome::Connected);
    match seen.directory {
        NetworkDirectory::Usable => None,
        NetworkDirectory::Expired(ago) => trouble(
            "directory_expired",
            format!(
                "the network directory expired {} ago, and none that is newer can be had",
                roughly(ago)
            ),
            "see that this machine's date is right and its network works; if both are, the \
             directory authorities are in trouble: wait",
        ),
        NetworkDirectory::Missing | NetworkDirectory::NotYetValid(_) if reached => trouble(
            "no_directory",
            "relays answer, but none gives a network directory that is valid now",
            "see that this machine's date is right; if it is, the directory authorities cannot be \
             reached or are in trouble: wait, or configure [bridges]",
        ),
        NetworkDirectory::Missing | NetworkDirectory::NotYetValid(_) => {
            const IN_PEACE: &str = "each is left in peace for a while before it is tried again";
            let earlier = ObservedClient { attempts: seen.earlier.clone(), ..seen.clone() };
            let (message, advice) = match connections(&earlier) {
                Some(Trouble { message, advice, .. }) => (message, advice),
                None => (
                    "no relay was reached".to_owned(),
                    "see that this machine's network works; it goes on by itself".to_owned(),
                ),
            };
            trouble("waiting", format!("{message}, and {IN_PEACE}"), advice)
        }
    }
}

/// The middle of them, which no single liar decides.
fn median(clocks: &[i64]) -> Option<i64> {
    let mut clocks = clocks.to_vec();
    clocks.sort_unstable();
    clocks.get(clocks.len() / 2).copied()
}

/// The ports, each once.
fn ports(all: impl Iterator<Item = u16>) -> String {
    let ports: std::collections::BTreeSet<_> = all.collect();
    let named: Vec<_> = ports.iter().take(NAMED_PORTS).map(u16::to_string).collect();
    let more = if ports.len() > NAMED_PORTS { " and others" } else { "" };
    let word = if ports.len() == 1 { "port" } else { "ports" };
    format!("{word} {}{more}", named.join(", "))
}

/// A length of time in one unit, as exactly as anybody cares.
fn roughly(length: Duration) -> String {
    let minutes = (length.as_secs() + 30) / 60;
    let (number, unit) = match minutes {
        0..120 => (minutes, "minute"),
        120..2880 => ((minutes + 30) / 60, "hour"),
        _ => ((minutes + 720) / 1440, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
