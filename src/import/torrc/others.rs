//! Why has a setting that is about no onion service no equivalent?

use super::lines::Line;
use crate::import::{LineFate, Note, SourcePlace};

/// Settings by how they begin, in lower case, and what there is in their place.
/// The first that fits counts.
const KNOWN: &[(&[&str], LineFate, &str)] = &[
    (
        &["socks4proxy", "socks5proxy", "httpproxy", "httpsproxy", "tcpproxy"],
        LineFate::Warning,
        "Arti connects to the Tor network directly or through bridges, never through a proxy: \
         whoever watches this machine sees that",
    ),
    (
        &["outboundbind"],
        LineFate::Warning,
        "the system's routes decide which of its addresses connections come from",
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
        LineFate::Warning,
        "Arti cannot be told which relays to use or to keep away from",
    ),
    (
        &["socks", "dnsport", "transport", "natdport", "httptunnelport", "automap", "virtualaddr"],
        LineFate::NoEquivalent,
        "there is no SOCKS or other proxy for programs on this machine. If some use it, keep a tor \
         or arti for them",
    ),
    (
        &["control", "cookieauth", "hashedcontrol", "__"],
        LineFate::NoEquivalent,
        "there is no control port: see `onionbraid status`, and SIGHUP for changes",
    ),
    (
        &["log", "safelogging", "syslog", "heartbeat", "truncatelog"],
        LineFate::NoEquivalent,
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
        LineFate::NoEquivalent,
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
            "metricsport",
            "ipv6exit",
            "reducedexit",
            "maxadvertised",
            "serverdns",
            "assumereachable",
            "dirpolicy",
            "dircache",
        ],
        LineFate::NoEquivalent,
        "this tor is a relay, too, or was set up as one: keep it for that, without its \
         HiddenServiceDirs",
    ),
    (
        &["reachable", "fascistfirewall", "firewallports"],
        LineFate::NoEquivalent,
        "see reachable_addrs in [path_rules]",
    ),
    (&["vanguards"], LineFate::NoEquivalent, "see mode in [vanguards]"),
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
        LineFate::NoEquivalent,
        "see authorities and fallback_caches in [tor_network], for a network of your own",
    ),
    (
        &["clientonionauthdir"],
        LineFate::NoEquivalent,
        "backends that demand client authorization cannot be used in this version",
    ),
];

/// What is said of settings that are not known.
const UNKNOWN: &str = "not known to this import: does the service need it?";

/// Settings of one kind: the first of them, their names, and what is said.
#[derive(Debug)]
struct Group {
    place: SourcePlace,
    names: Vec<String>,
    kind: LineFate,
    text: &'static str,
}

/// The settings that have no equivalent, those of one kind together.
#[derive(Debug, Default)]
pub(super) struct Others(Vec<Group>);

impl Others {
    /// Adds a setting, unless it asks for what is so anyway.
    pub(super) fn add(&mut self, line: &Line) {
        let so_anyway = matches!(
            (line.key.as_str(), line.value.as_str()),
            ("socksport" | "controlport" | "orport" | "clientonly", "0")
                | ("clientonly" | "safelogging", "1")
        );
        if so_anyway {
            return;
        }
        let known =
            KNOWN.iter().find(|(keys, ..)| keys.iter().any(|key| line.key.starts_with(key)));
        let (kind, text) =
            known.map_or((LineFate::NoEquivalent, UNKNOWN), |(_, kind, text)| (*kind, *text));
        match self.0.iter_mut().find(|group| group.text == text) {
            Some(group) if group.names.contains(&line.name) => {}
            Some(group) => group.names.push(line.name.clone()),
            None => {
                let (place, names) = (line.place.clone(), vec![line.name.clone()]);
                self.0.push(Group { place, names, kind, text });
            }
        }
    }

    /// What is said of them.
    pub(super) fn notes(self) -> impl Iterator<Item = Note> {
        self.0.into_iter().map(|group| {
            let Group { place, names, kind, text } = group;
            Note::new(&place, kind, format!("{}: {text}", names.join(", ")))
        })
    }
}
