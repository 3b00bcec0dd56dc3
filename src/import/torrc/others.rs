//! Why has a setting that is about no onion service no equivalent?

use super::lines::Line;
use crate::import::{Kind, Note};

/// Settings by how they begin, in lower case, and what there is in their place.
/// The first that fits counts.
const KNOWN: &[(&[&str], &str)] = &[
    (
        &["socks", "dnsport", "transport", "natdport", "httptunnelport", "automap", "virtualaddr"],
        "there is no SOCKS or other proxy for programs on this machine. If some use it, keep a tor \
         or arti for them",
    ),
    (
        &["control", "cookieauth", "hashedcontrol", "__"],
        "there is no control port: see `onionbraid status`, and SIGHUP for changes",
    ),
    (
        &["log", "safelogging", "syslog", "heartbeat", "truncatelog", "logmessage", "logtimegran"],
        "logs go to standard error, as [logging] says; addresses are left out of them",
    ),
    (
        &[
            "user",
            "runasdaemon",
            "pidfile",
            "sandbox",
            "noexec",
            "disabledebugger",
            "datadirectory",
            "cachedirectory",
            "keydirectory",
            "disableallswap",
            "constrainedsockets",
            "avoiddiskwrites",
            "numcpus",
            "hardwareaccel",
            "accel",
            "maxmemin",
            "shutdownwait",
            "signalhup",
        ],
        "onionbraid stays in the foreground with the rights that it was started with, in \
         directories of its own ([storage]): the service manager says the rest",
    ),
    (
        &[
            "orport",
            "dirport",
            "extorport",
            "nickname",
            "contactinfo",
            "exitpolicy",
            "exitrelay",
            "relaybandwidth",
            "bandwidth",
            "myfamily",
            "familyid",
            "address",
            "bridgerelay",
            "bridgedistribution",
            "publishserverdescriptor",
            "servertransport",
            "accounting",
            "dirportfront",
            "metricsport",
            "ipv6exit",
            "reducedexit",
            "maxadvertised",
            "serverdns",
            "assumereachable",
            "dirpolicy",
            "dircache",
            "outboundbind",
        ],
        "this tor is a relay, too, or was set up as one: keep it for that, without its \
         HiddenServiceDirs",
    ),
    (&["reachable", "fascistfirewall", "firewallports"], "see reachable_addrs in [path_rules]"),
    (&["vanguards"], "see mode in [vanguards]; the default is at least as strict"),
    (
        &[
            "testing",
            "dirauthority",
            "alternate",
            "fallbackdir",
            "v3auth",
            "bridgeauthority",
            "authoritative",
            "usedefaultfallback",
        ],
        "see authorities and fallback_caches in [tor_network], for a network of your own",
    ),
    (
        &[
            "entrynodes",
            "exitnodes",
            "middlenodes",
            "excludenodes",
            "excludeexit",
            "strictnodes",
            "geoip",
            "numentryguards",
            "numdirectoryguards",
            "useentryguards",
            "hslayer",
            "enforcedistinct",
            "nodefamily",
        ],
        "Arti cannot be told which relays to use",
    ),
    (
        &["http", "https", "tcpproxy"],
        "Arti reaches the Tor network directly or through bridges, not through a proxy",
    ),
    (
        &["clientonionauthdir"],
        "backends that demand client authorization cannot be used in this version",
    ),
];

/// What is said of a setting; nothing of one that asks for what is so anyway.
pub(super) fn note(line: &Line) -> Option<Note> {
    let off = matches!(
        (line.key.as_str(), line.value.as_str()),
        ("socksport" | "controlport" | "orport" | "clientonly", "0")
            | ("socksport" | "controlport", "auto")
            | ("clientonly" | "safelogging", "1")
    );
    if off {
        return None;
    }
    let known = KNOWN.iter().find(|(keys, _)| keys.iter().any(|key| line.key.starts_with(key)));
    let text = match known {
        Some((_, text)) => format!("{}: {text}", line.name),
        None => format!("{} is not known to this import: does the service need it?", line.name),
    };
    Some(Note::new(&line.place, Kind::NoEquivalent, text))
}
