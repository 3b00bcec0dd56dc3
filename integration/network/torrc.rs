//! What do the configurations of the private network say?
//!
//! Pure text: torrc lines for C tor and the TOML tables for Arti. The network
//! and its nodes ask for them and write the files.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64ct::{Base64, Encoding as _};

use super::{AUTHORITIES, period};

/// What the other participants must know of a relay.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its nickname, `auth0` or `relay7`.
    pub nickname: String,
    /// Its RSA fingerprint: 40 hexadecimal digits, upper case.
    pub fingerprint: String,
    /// Its Ed25519 identity: base64 without padding.
    pub ed25519: String,
    /// Where it takes connections of other relays and clients.
    pub or_address: SocketAddr,
    /// Set for a directory authority, which is a relay as well.
    pub authority: Option<Authority>,
}

/// What makes a relay a directory authority.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Fingerprint of its authority identity key.
    pub v3ident: String,
    /// Where it serves the directory.
    pub dir_address: SocketAddr,
}

/// When the authorities vote.
#[derive(Clone, Copy, Debug)]
pub struct Voting {
    /// From one consensus to the next.
    pub interval: Duration,
    /// Shifts the moments of the votes from multiples of the interval.
    pub offset: Duration,
}

/// Vote delay and distribution delay before the first consensus.
pub const INITIAL_DELAY: Duration = Duration::from_secs(2);

impl Voting {
    fn delay(&self) -> u64 {
        (self.interval.as_secs() / 5).clamp(2, 20)
    }
}

/// The lines that every tor on the network needs, whatever it does.
pub fn common(members: &[Member], network_dir: &Path) -> String {
    let mut text = String::from("TestingTorNetwork 1\n");
    for member in members {
        if let Some(authority) = &member.authority {
            let _ = writeln!(
                text,
                "DirAuthority {} orport={} no-v2 v3ident={} {} {}",
                member.nickname,
                member.or_address.port(),
                authority.v3ident,
                authority.dir_address,
                member.fingerprint,
            );
        }
    }
    // `OutboundBindAddress`: the kernel then refuses every connection to
    // elsewhere. `GeoIPFile`: reading the real ones is most of what a tor does at
    // its start, so these are empty. The owning process: if this one is killed in the very moment in
    // which a tor starts, tor itself notices within 15 seconds.
    let _ = write!(
        text,
        "UseDefaultFallbackDirs 0\n\
         OutboundBindAddress 127.0.0.1\n\
         PathsNeededToBuildCircuits 0.67\n\
         V3AuthNIntervalsValid 4\n\
         ProtocolWarnings 1\n\
         SafeLogging 0\n\
         LogTimeGranularity 1\n\
         ShutdownWaitLength 0\n\
         ConnLimit 60\n\
         CookieAuthentication 0\n\
         GeoIPFile {network_dir}/empty\n\
         GeoIPv6File {network_dir}/empty\n\
         Log notice stdout\n\
         __OwningControllerProcess {owner}\n",
        network_dir = network_dir.display(),
        owner = std::process::id(),
    );
    text
}

/// What relays and bridges have in common, beside the common lines.
pub fn entrance(nickname: &str, or_address: SocketAddr) -> String {
    format!(
        "Nickname {nickname}\n\
         Address 127.0.0.1\n\
         ORPort {or_address} IPv4Only\n\
         AddressDisableIPv6 1\n\
         SocksPort 0\n\
         AssumeReachable 1\n\
         ExtraInfoStatistics 0\n\
         DirReqStatistics 0\n\
         ExitRelay 0\n\
         ExitPolicy reject *:*\n"
    )
}

/// The lines of a relay, authority or not, beside the common ones.
pub fn relay(member: &Member, interval: Duration, network_dir: &Path) -> String {
    // A cache makes a diff from each older consensus that it keeps to each new
    // one: with a vote every 20 seconds it would soon do little else. What is
    // younger than this it keeps. Were the newest not among them, the cache
    // would answer 404 until the next, and a client that has chosen it waits.
    let entrance = entrance(&member.nickname, member.or_address);
    format!(
        "{entrance}\
         BridgeRelay 0\n\
         ContactInfo {nickname}@testnet.invalid\n\
         MaxMemInQueues 256 MB\n\
         NumCPUs 1\n\
         DirCache 1\n\
         MaxConsensusAgeForDiffs {diffs} seconds\n\
         HiddenServiceStatistics 0\n\
         OverloadStatistics 0\n\
         ServerDNSResolvConfFile {network_dir}/resolv.conf\n\
         ServerDNSDetectHijacking 0\n\
         ServerDNSAllowBrokenConfig 1\n",
        diffs = 3 * interval.as_secs(),
        nickname = member.nickname,
        network_dir = network_dir.display(),
    )
}

/// The lines of an authority beside those of a relay.
pub fn authority(
    authority: &Authority,
    voting: &Voting,
    params: &str,
    network_dir: &Path,
) -> String {
    // Equal bandwidths make every relay Fast and spread paths and introduction
    // points evenly. C tor on a testing network computes the time period itself;
    // Arti obeys `hsdir_interval`.
    format!(
        "DirPort {dir_address} IPv4Only\n\
         AuthoritativeDirectory 1\n\
         V3AuthoritativeDirectory 1\n\
         TestingV3AuthInitialVotingInterval {interval}\n\
         TestingV3AuthInitialVoteDelay {initial_delay}\n\
         TestingV3AuthInitialDistDelay {initial_delay}\n\
         V3AuthVotingInterval {interval}\n\
         V3AuthVoteDelay {delay}\n\
         V3AuthDistDelay {delay}\n\
         TestingV3AuthVotingStartOffset {offset}\n\
         V3BandwidthsFile {network_dir}/bandwidths\n\
         MinMeasuredBWsForAuthToIgnoreAdvertised 1\n\
         TestingDirAuthVoteGuard *\n\
         TestingDirAuthVoteHSDir *\n\
         TestingMinExitFlagThreshold 0\n\
         MinUptimeHidServDirectoryV2 0\n\
         TestingAuthDirTimeToLearnReachability 0\n\
         AuthDirTestReachability 0\n\
         AuthDirMaxServersPerAddr 0\n\
         AuthDirVoteStableGuaranteeMinUptime 1 second\n\
         AuthDirVoteStableGuaranteeMTBF 1 second\n\
         ConsensusParams hsdir_interval={period} {params}\n",
        dir_address = authority.dir_address,
        initial_delay = INITIAL_DELAY.as_secs(),
        interval = voting.interval.as_secs(),
        delay = voting.delay(),
        offset = voting.offset.as_secs(),
        network_dir = network_dir.display(),
        period = period::length(voting.interval).as_secs() / 60,
    )
}

/// What an authority finds in its `sr-state`: the shared random values of the
/// run that is under way and of the one before it, the same for all authorities.
///
/// A network without a past agrees on its first value at the end of a run, after
/// up to 24 votes. Until then nobody can tell where the next time period's
/// HSDirs will be: when it begins, services and visitors look for each other at
/// different places until all know the same consensus. The public network always
/// has two values.
pub fn shared_random_state(now: SystemTime, interval: Duration) -> String {
    // From the round before this one on: the first vote brings it up to date.
    let [after, until] = [now - interval, now + Duration::from_secs(24 * 60 * 60)].map(|moment| {
        humantime::format_rfc3339_seconds(moment).to_string().replace('T', " ").replace('Z', "")
    });
    let value = |byte: u8| Base64::encode_string(&[byte; 32]);
    format!(
        "Version 1\n\
         TorVersion 0.4\n\
         ValidAfter {after}\n\
         ValidUntil {until}\n\
         SharedRandPreviousValue {AUTHORITIES} {}\n\
         SharedRandCurrentValue {AUTHORITIES} {}\n",
        value(1),
        value(2),
    )
}

/// The lines of a tor that is no relay: it fetches every consensus early,
/// because on this network one is outdated within seconds.
///
/// It takes a circuit for lost after five seconds. A tor that has run for a
/// while has learned as much by itself; a fresh one would wait a minute for
/// whoever is dead, and two for a service that does not come to a rendezvous.
pub fn client(socks: Option<SocketAddr>) -> String {
    let socks = socks.map_or_else(|| "0".to_owned(), |address| address.to_string());
    format!(
        "SocksPort {socks}\n\
         FetchDirInfoEarly 1\n\
         FetchDirInfoExtraEarly 1\n\
         LearnCircuitBuildTimeout 0\n\
         CircuitBuildTimeout 5\n"
    )
}

/// The bandwidth file of the authorities: all relays alike, save for slow ones, which
/// weigh a thousandth beside the others.
pub fn bandwidths(fast: &[Member], slow: &[Member], unix_time: u64) -> String {
    let mut text = format!("{unix_time}\n");
    // What is above this has the flag Fast, whatever others have.
    const ENOUGH: u32 = 150;
    let of_fast = if slow.is_empty() { 1000 } else { 1000 * ENOUGH };
    let all = fast.iter().map(|it| (it, of_fast)).chain(slow.iter().map(|it| (it, ENOUGH)));
    for (Member { fingerprint, nickname, .. }, bandwidth) in all {
        let _ = writeln!(text, "node_id=${fingerprint} bw={bandwidth} nick={nickname}");
    }
    text
}

/// The lines of a relay that passes on so many bytes a second. Addresses of loopback are
/// not limited unless it is said.
pub fn slow(rate: u64) -> String {
    format!(
        "CountPrivateBandwidth 1\nRelayBandwidthRate {rate} bytes\nRelayBandwidthBurst {rate} bytes\n"
    )
}

/// Full vanguards keep four relays for the second place of a circuit and eight for the
/// third, and no relay stands twice in a row: fewer relays leave too few ways.
const ENOUGH_FOR_FULL: usize = 10;

/// Arti's tables for this network, without the directories of `[storage]`.
pub fn arti(members: &[Member]) -> String {
    let mut caches = String::new();
    let (mut v3idents, mut directories) = (String::new(), String::new());
    // Else full ones are the daemon's default, as for operators.
    let vanguards =
        if members.len() < ENOUGH_FOR_FULL { "[vanguards]\nmode = \"lite\"\n" } else { "" };
    for member in members {
        let _ = writeln!(
            caches,
            "  {{ rsa_identity = \"{}\", ed_identity = \"{}\", orports = [\"{}\"] }},",
            member.fingerprint, member.ed25519, member.or_address,
        );
        if let Some(authority) = &member.authority {
            let _ = writeln!(v3idents, "  \"{}\",", authority.v3ident);
            let _ = writeln!(directories, "  [\"{}\"],", authority.dir_address);
        }
    }
    format!(
        r#"# A private Tor network on 127.0.0.1, for tests only.

[tor_network]
fallback_caches = [
{caches}]

[tor_network.authorities]
v3idents = [
{v3idents}]
uploads = [
{directories}]
downloads = [
{directories}]
votes = [
{directories}]

[path_rules]
# All relays share one address: prefixes longer than an address switch the rule off.
ipv4_subnet_family_prefix = 33
ipv6_subnet_family_prefix = 129

[address_filter]
allow_local_addrs = true

[storage.permissions]
# Temporary directories may have parents that others can write to.
dangerously_trust_everyone = true

[download_schedule]
retry_bootstrap = {{ attempts = 128, initial_delay = "200 msec", parallelism = 1 }}

[circuit_timing]
# By default no HSDir is asked twice for the same descriptor within 15 minutes.
hs_dir_requery_interval = "1 sec"

{vanguards}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artis_tables_name_every_relay_as_a_cache_and_the_authorities_alone_as_such() {
        let relay = Member {
            nickname: "relay3".into(),
            fingerprint: "A".repeat(40),
            ed25519: "e".repeat(43),
            or_address: ([127, 0, 0, 1], 12001).into(),
            authority: None,
        };
        let dir_address = ([127, 0, 0, 1], 12002).into();
        let authority = Authority { v3ident: "B".repeat(40), dir_address };
        let members = [relay.clone(), Member { authority: Some(authority), ..relay }];
        let table: toml::Table = arti(&members).parse().unwrap();
        assert_eq!(table["tor_network"]["fallback_caches"].as_array().unwrap().len(), 2);
        let authorities = &table["tor_network"]["authorities"];
        assert_eq!(authorities["v3idents"].as_array().unwrap().len(), 1);
        assert_eq!(authorities["downloads"][0][0].as_str(), Some("127.0.0.1:12002"));
        assert_eq!(table["vanguards"]["mode"].as_str(), Some("lite"), "of two relays");
    }
}
