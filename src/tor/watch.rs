//! Looks every two seconds at how the Tor client is: what keeps it from coming
//! up, and whether it should try again sooner than it means to.
//!
//! It opens no connection that Arti has not just opened itself: what a relay
//! says of our clock is read off the channel that Arti has to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use onionbraid_balancer::fact::Now;
use tor_chanmgr::{ChanMgr, ChannelUsage};
use tor_linkspec::OwnedChanTarget;
use tor_netdir::{NetDir, Timeliness};
use tor_proto::ClockSkew;

use super::attempts::{Attempt, Runtime};
use super::bootstrap::Tor;
use super::clock_watch::{ClockWatch, LOOK_EVERY};
use super::diagnosis::{ConnectionOutcome, NetworkDirectory, ObservedClient, diagnose};
use super::transports::Transports;
use super::unanswered::UnansweredConnections;
use crate::clock::now;

/// Attempts that ended longer ago tell nothing of now.
const RECENT: Duration = Duration::from_secs(60);
/// Unless there are none since: Arti waits for ever longer.
const EARLIER: Duration = Duration::from_secs(60 * 60);

/// What a relay said of the clock counts for so long, ...
const CLOCK_COUNTS_FOR: Duration = Duration::from_secs(60 * 60);
/// ... of so many relays.
const CLOCKS: usize = 9;

/// A relay is asked no more often.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// So many are asked at a time.
const ASKED_AT_ONCE: usize = 4;
/// An answer takes no longer, or there will be none.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// How long a clock that was set is remembered.
const SET_COUNTS_FOR: Duration = Duration::from_secs(10 * 60);

/// What was learned, look by look.
struct WatchedTor {
    clock: ClockWatch,
    /// When the clock was last set, and by how many seconds.
    set: Option<(Instant, i64)>,
    /// What relays said, newest last.
    clocks: VecDeque<(SocketAddr, Instant, i64)>,
    /// When relays were asked, at which addresses.
    asked: BTreeMap<SocketAddr, Instant>,
    /// Those that answered otherwise than a relay does.
    strange: BTreeMap<SocketAddr, Instant>,
    /// Whether relays that we are connected to answer.
    unanswered: UnansweredConnections,
    /// Bridges to which others connect for us.
    transports: Transports,
    /// The best progress, and since when there is none that is better.
    progress: (f32, Instant),
}

/// Looks for ever: says what is wrong, and has Arti try again where that is due.
pub async fn watch(tor: &Tor) -> Infallible {
    let mut watch = WatchedTor::new(now());
    loop {
        watch.look(tor).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl WatchedTor {
    fn new(now: Now) -> Self {
        Self {
            clock: ClockWatch::new(now),
            set: None,
            clocks: VecDeque::new(),
            asked: BTreeMap::new(),
            strange: BTreeMap::new(),
            unanswered: UnansweredConnections::default(),
            transports: Transports::default(),
            progress: (0.0, now.monotonic),
        }
    }

    async fn look(&mut self, tor: &Tor) {
        let directory = tor.directory(Timeliness::Unchecked);
        let usable = tor.directory(Timeliness::Timely).is_some();
        let look = self.clock.look(now(), usable);
        if let Some(by) = look.set_by {
            // What relays said before is of another clock.
            self.clocks.clear();
            self.asked.clear();
            self.strange.clear();
            self.set = Some((now().monotonic, by));
            self.progress.1 = now().monotonic;
        }
        if look.try_again {
            tor.try_again();
        }
        let attempts = tor.attempts.within(RECENT, now());
        self.ask_for_the_time(tor, &attempts, directory.as_deref()).await;
        let progress = tor.fraction();
        if usable || progress > self.progress.0 || progress < self.progress.0 / 2.0 {
            self.progress = (progress, now().monotonic);
        }
        let mut seen = self.observed(tor, &attempts, directory.as_deref(), usable, now());
        let in_trouble = !usable || !seen.answering;
        let bridges = &tor.known.behind_transports;
        self.transports.look(bridges, tor.channels().as_deref(), in_trouble).await;
        seen.unreached = self.transports.unreached();
        tor.found(diagnose(&seen));
    }

    /// Reads off the channels to relays that were just connected to what they
    /// say of our clock.
    async fn ask_for_the_time(
        &mut self,
        tor: &Tor,
        attempts: &[Attempt],
        directory: Option<&NetDir>,
    ) {
        let Some(channels) = tor.channels() else { return };
        let began = now().monotonic;
        self.asked.retain(|_, at| began.saturating_duration_since(*at) < ASK_AGAIN_AFTER);
        let connected: BTreeSet<_> = attempts
            .iter()
            .filter(|attempt| attempt.outcome == ConnectionOutcome::Connected)
            .map(|attempt| attempt.address)
            .filter(|address| !self.asked.contains_key(address))
            .take(ASKED_AT_ONCE)
            .collect();
        let set = self.set.map(|(at, _)| at);
        let answers = connected.iter().filter_map(|address| {
            let relay = tor.known.at(address, directory)?;
            let channels = &channels;
            Some(async move { (*address, ahead(channels, &relay, set).await) })
        });
        let answers = futures::future::join_all(answers).await;
        let at = now().monotonic;
        for address in connected {
            self.asked.insert(address, at);
        }
        for (address, answer) in answers {
            match answer {
                ClockAnswer::Ahead(seconds) => {
                    self.strange.remove(&address);
                    self.clocks.retain(|(other, ..)| *other != address);
                    self.clocks.push_back((address, at, seconds));
                    while self.clocks.len() > CLOCKS {
                        self.clocks.pop_front();
                    }
                }
                ClockAnswer::None => {
                    self.strange.insert(address, at);
                }
                ClockAnswer::Before => {}
            }
        }
    }

    fn observed(
        &mut self,
        tor: &Tor,
        attempts: &[Attempt],
        directory: Option<&NetDir>,
        usable: bool,
        now: Now,
    ) -> ObservedClient {
        let age = |at: Instant| now.monotonic.saturating_duration_since(at);
        self.clocks.retain(|(_, at, _)| age(*at) < CLOCK_COUNTS_FOR);
        self.strange.retain(|_, at| age(*at) < RECENT);
        self.set = self.set.filter(|(at, _)| age(*at) < SET_COUNTS_FOR);
        let relays = self.unanswered.look(&tor.attempts.connected()).clone();
        // That a guard was reached says nothing of what has failed since.
        let is_reached = |attempt: &Attempt| attempt.outcome == ConnectionOutcome::Connected;
        let reached = attempts.iter().rposition(is_reached).filter(|_| usable);
        let mut attempts = attempts.get(reached.map_or(0, |last| last + 1)..).unwrap_or_default();
        let mut answering = relays.answering;
        // A connection on which nothing is sent stays open on a way that is cut: what
        // failed since something last came says more.
        if let Some(silent_for) = relays.silent_for.filter(|_| answering) {
            let since = attempts.partition_point(|it| age(it.at.monotonic) > silent_for);
            if let Some(failed @ [_, ..]) = attempts.get(since..) {
                (attempts, answering) = (failed, false);
            }
        }
        ObservedClient {
            attempts: outcomes(attempts),
            earlier: match attempts.is_empty() && !usable {
                true => outcomes(&tor.attempts.within(EARLIER, now)),
                false => BTreeMap::new(),
            },
            answering,
            lost: relays.lost,
            clocks: self.clocks.iter().map(|(.., ahead)| *ahead).collect(),
            strange: self.strange.len(),
            directory: match directory {
                _ if usable => NetworkDirectory::Usable,
                None => NetworkDirectory::Missing,
                Some(directory) => timeliness(directory, now.wall),
            },
            clock_set_by: self.set.map(|(_, by)| by),
            failure: tor.failure(),
            stalled: if usable { Duration::ZERO } else { age(self.progress.1) },
            bridges: tor.known.bridges,
            unreached: None,
        }
    }
}

/// The last outcome at each address.
fn outcomes(attempts: &[Attempt]) -> BTreeMap<SocketAddr, ConnectionOutcome> {
    attempts.iter().map(|it| (it.address, it.outcome)).collect()
}

/// How far a directory that cannot be used is from being valid.
fn timeliness(directory: &NetDir, now: SystemTime) -> NetworkDirectory {
    let lifetime = directory.lifetime();
    if let Ok(ago) = now.duration_since(lifetime.valid_until()) {
        return NetworkDirectory::Expired(ago);
    }
    match lifetime.valid_after().duration_since(now) {
        Ok(by) => NetworkDirectory::NotYetValid(by),
        Err(_) => NetworkDirectory::Missing,
    }
}

/// What a relay says of our clock.
enum ClockAnswer {
    /// It is so many seconds ahead; negative: behind.
    Ahead(i64),
    /// It said so before our clock was set.
    Before,
    /// It does not answer as a relay does.
    None,
}

/// Asks a relay.
async fn ahead(
    channels: &ChanMgr<Runtime>,
    relay: &OwnedChanTarget,
    set: Option<Instant>,
) -> ClockAnswer {
    let channel = channels.get_or_launch(relay, ChannelUsage::UselessCircuit);
    match tokio::time::timeout(ANSWER_WITHIN, channel).await {
        Ok(Ok((channel, _))) => {
            let opened = now().monotonic.checked_sub(channel.age());
            match (set, opened) {
                (Some(set), Some(opened)) if opened < set => ClockAnswer::Before,
                _ => ClockAnswer::Ahead(seconds(channel.clock_skew())),
            }
        }
        // Certificates that are not valid yet, or any more.
        Ok(Err(tor_chanmgr::Error::Proto { clock_skew: Some(skew), .. })) => {
            ClockAnswer::Ahead(seconds(skew))
        }
        Ok(Err(error)) => {
            tracing::debug!(error = %crate::causes::in_one_line(&error), "no channel");
            ClockAnswer::None
        }
        Err(_) => ClockAnswer::None,
    }
}

fn seconds(skew: ClockSkew) -> i64 {
    let whole = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    match skew {
        ClockSkew::Slow(by) => -whole(by),
        ClockSkew::None => 0,
        ClockSkew::Fast(by) => whole(by),
    }
}
