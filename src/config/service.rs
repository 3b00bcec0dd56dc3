//! What one onion service is: the `[onion_services."NICK"]` tables, with Arti's
//! keys and ours.

use std::path::PathBuf;
use std::sync::Arc;

use tor_hsservice::HsNickname;

use super::anonymity;
use super::backends::{self, BackendsFile, RemoteBackend};
use super::clients::{self, RestrictedDiscovery};
use super::document::{Node, Table, Value};
use super::error::{ConfigError, ConfigReport, Expected, KeyPath};
use super::files;
use super::frontends;
use super::guards::{self, Guards};
use super::http;
use super::ports;
use super::probe::{self, Probe};
use super::proof_of_work::{self, ProofOfWork};
use super::reader::{TableItem, TableReader};
use crate::tor::credentials::KeyPlace;
use onionbraid_balancer::onion::{Anonymity, MAX_INTRO_POINTS, OnionAddress};
use onionbraid_balancer::{Distinct, LinkPolicy, Publishers};
use onionbraid_proxy::rules::{ProxyRule, ProxyRules, ProxyTarget};
use onionbraid_proxy::settings::HttpSettings;

/// One onion address that this process publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// The name of the table, and of the keys in the keystore.
    pub nickname: HsNickname,
    /// Whether the service runs.
    pub enabled: bool,
    /// The file with the service's key, or its directory; `None` where the key
    /// lies in the keystore.
    pub identity_key: Option<PathBuf>,
    /// The directory with the keys of some periods, in place of the service's key.
    pub identity_bundle: Option<PathBuf>,
    /// Introduction points of each local instance, 3 to 20, where
    /// `local_intro_points` says nothing else.
    pub num_intro_points: u8,
    /// Streams that one client may have open at once over one rendezvous
    /// circuit, at least 1.
    pub max_concurrent_streams_per_circuit: u32,
    /// Whether a circuit that wants more is closed, or only refused them.
    pub max_streams_close_circuit: bool,
    /// What the introduction points are asked to let through; `None` leaves it
    /// to them.
    pub rate_limit_at_intro: Option<RateLimit>,
    /// Whether it hides where it is.
    pub anonymity: Anonymity,
    /// Who may find it; `None`: everybody who knows its address.
    pub restricted_discovery: Option<RestrictedDiscovery>,
    /// Whether clients are asked for work while many come.
    pub pow: ProofOfWork,
    /// Where the streams of the local instances go.
    pub proxy_ports: ProxyRules,
    /// What holds for HTTP on every port of which nothing else is said; rules
    /// have what holds for their ports.
    pub http: Arc<HttpSettings>,
    /// Backends in this process, 0 to 40.
    pub local_instances: u8,
    /// Introduction points of each local instance, 1 to 20; `None` leaves it to
    /// `num_intro_points`, which is Arti's and allows no fewer than 3.
    pub local_intro_points: Option<u8>,
    /// The share of each local instance of the introduction points against other
    /// backends, 0 to 100. 0 takes them out of use.
    pub local_weight: u16,
    /// Whose guards their circuits begin at.
    pub guards: Guards,
    /// Backends elsewhere: those that the configuration lists, then those of
    /// `backends_file`.
    pub backends: Vec<RemoteBackend>,
    /// The file that lists more of them.
    pub backends_file: Option<BackendsFile>,
    /// Addresses published elsewhere for which the local instances answer too.
    pub frontends: Vec<OnionAddress>,
    /// How remote backends are checked through Tor, if they are.
    pub probe: Option<Probe>,
    /// Whether there are control links to its backends, and to the publishers of its
    /// frontends.
    pub link: LinkPolicy,
    /// The most introduction points in a descriptor, 1 to 20; `None` where
    /// onionbraid decides ("auto").
    pub max_intro_points: Option<u8>,
    /// Whether different HSDirs may get different points.
    pub distinct_descriptors: Distinct,
    /// Whether other processes publish the same address.
    pub publishers: Publishers,
}

impl ServiceConfig {
    /// Whether this is the built-in welcome page, which no file can describe.
    pub fn is_built_in(&self) -> bool {
        self.proxy_ports.0.iter().any(|rule| rule.target == ProxyTarget::Welcome)
    }

    /// A service with this nickname and every key at its default.
    pub fn with_defaults(nickname: HsNickname) -> Self {
        Self {
            nickname,
            enabled: true,
            identity_key: None,
            identity_bundle: None,
            num_intro_points: 3,
            max_concurrent_streams_per_circuit: 65535,
            max_streams_close_circuit: true,
            rate_limit_at_intro: None,
            anonymity: Anonymity::default(),
            restricted_discovery: None,
            pow: ProofOfWork::default(),
            proxy_ports: ProxyRules::default(),
            http: Arc::default(),
            local_instances: 1,
            local_intro_points: None,
            local_weight: 1,
            guards: Guards::default(),
            backends: Vec::new(),
            backends_file: None,
            frontends: Vec::new(),
            probe: None,
            link: LinkPolicy::default(),
            max_intro_points: None,
            distinct_descriptors: Distinct::default(),
            publishers: Publishers::default(),
        }
    }

    /// Where its key is.
    pub(crate) fn key_place(&self) -> KeyPlace<'_> {
        let (file, bundle) = (self.identity_key.as_deref(), self.identity_bundle.as_deref());
        KeyPlace { file, bundle }
    }

    /// Introduction points of each local instance, 1 to 20.
    pub fn points_per_instance(&self) -> u8 {
        self.local_intro_points.unwrap_or(self.num_intro_points)
    }

    /// The first port that leads somewhere, 80 where it may be: what is asked where
    /// nothing else is said.
    pub fn first_port(&self) -> u16 {
        let leads = |target: &ProxyTarget| {
            !matches!(target, ProxyTarget::Destroy | ProxyTarget::Reject | ProxyTarget::Ignore)
        };
        let first = self.proxy_ports.0.iter().find(|rule| leads(&rule.target));
        first.map_or(80, |rule| if rule.ports.contains(&80) { 80 } else { *rule.ports.start() })
    }

    /// Whether it has backends, and the weights take all of them out of use.
    pub(crate) fn all_weights_are_zero(&self) -> bool {
        let local = (self.local_instances > 0).then_some(self.local_weight);
        let weights = || local.into_iter().chain(self.backends.iter().map(|it| it.weight));
        weights().next().is_some() && weights().all(|weight| weight == 0)
    }
}

/// A token bucket for introduction requests (`rate_limit_at_intro`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests a second, 1 to 2,147,483,647.
    pub rate: u32,
    /// Requests at once, 2 or more and no fewer than in a second.
    pub burst: u32,
}

/// The most local instances of one service: two descriptors' worth of points,
/// if each has one.
const MAX_LOCAL_INSTANCES: u8 = 40;

/// The most introduction points of a backend or a descriptor.
const MOST: u8 = MAX_INTRO_POINTS as u8;

/// What runs where no service is configured: a welcome page on port 80.
fn welcome(report: &mut ConfigReport) -> Vec<ServiceConfig> {
    let Ok(nickname) = "welcome".parse() else {
        report.error(ConfigError::general("the built-in configuration is wrong"));
        return Vec::new();
    };
    let rule = ProxyRule { ports: 80..=80, target: ProxyTarget::Welcome };
    vec![ServiceConfig {
        local_instances: 2,
        proxy_ports: ProxyRules(vec![rule]),
        ..ServiceConfig::with_defaults(nickname)
    }]
}

/// Reads all services, sorted by nickname. What is wrong has been reported.
pub(crate) fn read(root: &Table, report: &mut ConfigReport) -> Vec<ServiceConfig> {
    const NOTHING: &str = "there is nothing to serve: write at least one table \
                           [onion_services.\"NICKNAME\"]";
    let path = KeyPath::default().key("onion_services");
    let Some(node) = root.get("onion_services") else { return welcome(report) };
    let Value::Table(entries) = &node.value else {
        TableItem { node, path }
            .wrong("this must be a table: [onion_services.\"NICKNAME\"]", report);
        return Vec::new();
    };
    if entries.is_empty() {
        report.error(ConfigError::at_key(node.place.clone(), path, NOTHING));
        return Vec::new();
    }
    let had_errors = report.has_errors();
    let services: Vec<ServiceConfig> = entries
        .iter()
        .filter_map(|(nickname, node)| service(nickname, node, &path, report))
        .collect();
    let enabled = services.iter().filter(|service| service.enabled);
    let enabled = enabled.filter_map(|service| {
        let name = service.nickname.as_ref();
        let item = TableItem { node: entries.get(name)?, path: path.quoted(name) };
        Some((item, name, service.anonymity))
    });
    anonymity::look(&enabled.collect::<Vec<_>>(), report);
    if !had_errors && !report.has_errors() && services.iter().all(|service| !service.enabled) {
        let problem = "there is nothing to serve: every service says `enabled = false`";
        report.error(ConfigError::at_key(node.place.clone(), path, problem));
    }
    services
}

fn service(
    name: &str,
    node: &Node,
    parent: &KeyPath,
    report: &mut ConfigReport,
) -> Option<ServiceConfig> {
    let item = TableItem { node, path: parent.quoted(name) };
    let nickname = name.parse::<HsNickname>().ok();
    if nickname.is_none() {
        let problem = "a nickname has only lower-case letters, digits, `_` and `-`, and does not \
                       begin with `-`";
        report.error(ConfigError::at_key(item.place(), item.path.clone(), problem));
    }
    let mut table = item.table(report)?;
    // Read on with any nickname, so that all errors of the table are found.
    let service = keys(&item, nickname.clone().or_else(|| "x".parse().ok())?, &mut table, report);
    table.finish(report);
    nickname.map(|_| service)
}

fn keys(
    service: &TableItem<'_>,
    nickname: HsNickname,
    table: &mut TableReader<'_>,
    report: &mut ConfigReport,
) -> ServiceConfig {
    let mut config = ServiceConfig::with_defaults(nickname);
    if let Some(value) = table.get("enabled").and_then(|item| item.boolean(report)) {
        config.enabled = value;
    }
    if let Some(item) = table.get("identity_key") {
        config.identity_key = files::read(&item, Expected::Key, report);
    }
    if let Some(item) = table.get("identity_bundle") {
        config.identity_bundle = files::read(&item, Expected::Bundle, report);
    }
    if let Some(value) = table.get("num_intro_points").and_then(|item| item.integer(3..=20, report))
    {
        config.num_intro_points = value;
    }
    if let Some(value) = table
        .get("max_concurrent_streams_per_circuit")
        .and_then(|item| item.integer(1..=u32::MAX, report))
    {
        config.max_concurrent_streams_per_circuit = value;
    }
    if let Some(value) =
        table.get("max_streams_close_circuit").and_then(|item| item.boolean(report))
    {
        config.max_streams_close_circuit = value;
    }
    let limit_at_intro = table.get("rate_limit_at_intro");
    config.rate_limit_at_intro = limit_at_intro.as_ref().and_then(|it| rate_limit(it, report));
    config.anonymity = anonymity::read(table, report);
    let restricted = table.get("restricted_discovery");
    config.restricted_discovery = restricted.and_then(|item| clients::read(&item, report));

    let http = http::read(table.get("http"), report);
    let ports = table.get("proxy_ports");
    match &ports {
        Some(item) => config.proxy_ports = ports::read(item, &http, report),
        None => http.unused(&config.proxy_ports, true, report),
    }
    config.http = http.settings;
    let backends = table.get("backends");
    if let Some(item) = &backends {
        config.backends = backends::read(item, &[], report);
    }
    let more = table.get("backends_file");
    if let Some(item) = &more {
        config.backends_file = backends::file(item, config.backends.len(), report);
    }
    // Count what stands in the file: an entry that is wrong was still meant.
    let listed = |item: &Option<TableItem<'_>>| match item.as_ref().map(|item| &item.node.value) {
        Some(Value::Array(nodes)) => !nodes.is_empty(),
        Some(_) => true,
        None => false,
    };
    let elsewhere = listed(&backends) || more.is_some();
    config.local_instances = u8::from(!elsewhere);
    let local = table.get("local_instances");
    if let Some(value) =
        local.as_ref().and_then(|item| item.integer(0..=MAX_LOCAL_INSTANCES, report))
    {
        config.local_instances = value;
    }
    let (points, weight) = (table.get("local_intro_points"), table.get("local_weight"));
    if let Some(item) = &points {
        config.local_intro_points = item.integer(1..=MOST, report);
    }
    if let Some(value) = weight.as_ref().and_then(|item| item.integer(0..=100, report)) {
        config.local_weight = value;
    }
    let limit = limit_at_intro.as_ref();
    config.pow = proof_of_work::read(table, config.local_instances, limit, report);
    if config.local_instances == 0 {
        for item in points.iter().chain(&weight) {
            let text = "it is for local instances, of which this service has none";
            report.warn(item.place(), &item.path, text);
        }
    }
    config.guards = guards::read(table, config.anonymity, config.local_instances, report);
    let frontends = table.get("frontends");
    if let Some(item) = &frontends {
        config.frontends = frontends::read(item, report);
    }
    let port = config.first_port();
    config.probe = table.get("probe").and_then(|item| probe::read(&item, port, report));
    if let Some(value) = table.get("link").and_then(|item| link(&item, report)) {
        config.link = value;
    }
    config.max_intro_points =
        table.get("max_intro_points").and_then(|item| max_intro_points(&item, report));
    if let Some(value) =
        table.get("distinct_descriptors").and_then(|item| distinct_descriptors(&item, report))
    {
        config.distinct_descriptors = value;
    }
    if let Some(value) = table.get("publishers").and_then(|item| publishers(&item, report)) {
        config.publishers = value;
    }

    if config.enabled
        && config.local_instances == 0
        && listed(&frontends)
        && let Some(item) = &frontends
    {
        item.wrong(
            "local instances answer for these addresses, and this service has none: set \
             `local_instances` to 1 or more",
            report,
        );
    }
    if config.enabled && config.local_instances == 0 && !elsewhere {
        let item = local.as_ref().unwrap_or(service);
        item.wrong(
            "nothing answers for this service: list `backends`, or set `local_instances` to 1 or \
             more",
            report,
        );
    } else if config.enabled && config.local_instances > 0 && !listed(&ports) {
        let item = ports.as_ref().unwrap_or(service);
        item.wrong(
            "clients could reach nothing: say where the local instances forward to, for instance \
             proxy_ports = [[\"80\", \"http://127.0.0.1:8080\"]]",
            report,
        );
    } else if config.local_instances == 0
        && let Some(item) = ports
    {
        let text = "these rules are for local instances, of which this service has none";
        report.warn(item.place(), &item.path, text);
    }
    // What the file lists counts, too: `backends_file` looks then.
    if config.enabled && more.is_none() && config.all_weights_are_zero() {
        report.warn(service.place(), &service.path, NO_WEIGHT);
    }
    config
}

/// What to say of a service whose backends all have the weight 0.
pub(crate) const NO_WEIGHT: &str =
    "all its backends have the weight 0, so none is used and no client reaches it";

fn rate_limit(whole: &TableItem<'_>, report: &mut ConfigReport) -> Option<RateLimit> {
    // The extension of ESTABLISH_INTRO carries numbers up to INT32_MAX
    // (rend-spec-v3, section 3.1.1.1). Relays take a 0, and a burst below the
    // rate, for an order to switch their defence off; and since they take from
    // the bucket before they look into it, a burst of 1 lets nothing through.
    const MAX: u32 = i32::MAX as u32;
    let mut table = whole.table(report)?;
    let (rate, burst) = (table.get("rate"), table.get("burst"));
    let mut number = |item: &Option<TableItem<'_>>, key, least| match item {
        Some(item) => item.integer(least..=MAX, report),
        None => {
            let problem = "it is missing: give both, { rate = 25, burst = 200 }";
            report.error(ConfigError::at_key(whole.place(), whole.path.key(key), problem));
            None
        }
    };
    let numbers = (number(&rate, "rate", 1), number(&burst, "burst", 2));
    table.finish(report);
    let limit = RateLimit { rate: numbers.0?, burst: numbers.1? };
    if limit.burst < limit.rate {
        let problem = format!(
            "with a burst below the rate, relays let everything through: make it {} or more",
            limit.rate
        );
        burst.inspect(|item| item.wrong(&problem, report));
        return None;
    }
    Some(limit)
}

fn max_intro_points(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<u8> {
    match item.as_text() {
        Some("auto") => None,
        Some(_) => {
            item.wrong("this must be \"auto\" or an integer from 1 to 20", report);
            None
        }
        None => item.integer(1..=MOST, report),
    }
}

fn link(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<LinkPolicy> {
    auto_or_not(item, [LinkPolicy::Auto, LinkPolicy::Always, LinkPolicy::Never], report)
}

fn distinct_descriptors(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Distinct> {
    auto_or_not(item, [Distinct::Auto, Distinct::Always, Distinct::Never], report)
}

/// Reads "auto", true or false, and gives the value for each.
fn auto_or_not<T>(
    item: &TableItem<'_>,
    [auto, always, never]: [T; 3],
    report: &mut ConfigReport,
) -> Option<T> {
    match &item.node.value {
        Value::Scalar(toml::Value::Boolean(true)) => Some(always),
        Value::Scalar(toml::Value::Boolean(false)) => Some(never),
        _ if item.as_text() == Some("auto") => Some(auto),
        _ => {
            item.wrong("this must be \"auto\", true or false", report);
            None
        }
    }
}

fn publishers(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Publishers> {
    item.word(&[("one", Publishers::One), ("several", Publishers::Several)], report)
}
