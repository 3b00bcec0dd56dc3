//! How the configuration in force is written as TOML again: our tables with
//! their defaults filled in, Arti's as the files give them and with our defaults.

use toml::{Table, Value};

use super::units::{path, table};
use super::{
    Config, Probe, ProofOfWork, RemoteBackend, RestrictedDiscovery, ServiceConfig, Shutdown, arti,
    http, keys, logging, ports, units,
};
use onionbraid_balancer::onion::Anonymity;
use onionbraid_balancer::{Distinct, LinkPolicy, Publishers};
use onionbraid_proxy::rules::{PortRange, ProxyRule, ProxyRules};
use onionbraid_proxy::settings::HttpSettings;

impl Config {
    /// The configuration in force. Reading the text again gives the same
    /// configuration, save for the built-in welcome page, which no file can say.
    pub fn to_toml(&self) -> Table {
        let mut root = Table::new();
        let services: Table = self
            .services
            .iter()
            .filter(|service| !service.is_built_in())
            .map(|service| (service.nickname.to_string(), service.to_toml().into()))
            .collect();
        if !services.is_empty() {
            root.insert("onion_services".to_owned(), services.into());
        }
        root.insert("admin".to_owned(), table([("listen", self.admin.to_string().into())]));
        let listen: Vec<Value> =
            self.metrics.iter().map(|address| address.to_string().into()).collect();
        let prometheus = table([("listen", listen.into())]);
        root.insert("metrics".to_owned(), table([("prometheus", prometheus)]));
        let debugging = ("permit_debugging", self.permit_debugging.into());
        root.insert("application".to_owned(), table([debugging]));
        root.insert("logging".to_owned(), keys::show(logging::keys, &self.logging).into());
        let Shutdown { grace, limit } = self.shutdown;
        let time = units::time_value;
        root.insert("shutdown".to_owned(), table([("grace", time(grace)), ("limit", time(limit))]));
        root.extend(arti::with_defaults(&self.arti_tables));
        let storage = root.entry("storage").or_insert_with(|| Table::new().into());
        if let Some(storage) = storage.as_table_mut() {
            storage.insert("state_dir".to_owned(), path(&self.storage.state_dir));
            storage.insert("cache_dir".to_owned(), path(&self.storage.cache_dir));
        }
        root
    }
}

impl ServiceConfig {
    /// What the table `http` says that is not the default; `ports` what they say
    /// that is not the service's.
    pub fn http_to_toml(&self) -> Table {
        let defaults = http::to_toml(&HttpSettings::default(), &ProxyRules::default());
        let whole = http::to_toml(&self.http, &self.proxy_ports);
        let mut table = different(&whole, &defaults);
        if let Some(Value::Table(ports)) = table.get_mut("ports") {
            for (_, port) in ports.iter_mut() {
                if let Value::Table(own) = port {
                    *own = different(own, &whole);
                }
            }
        }
        table
    }

    fn to_toml(&self) -> Table {
        let mut entries = vec![("enabled", self.enabled.into())];
        if let Some(file) = &self.identity_key {
            entries.push(("identity_key", path(file)));
        }
        if let Some(directory) = &self.identity_bundle {
            entries.push(("identity_bundle", path(directory)));
        }
        entries.extend([
            ("num_intro_points", i64::from(self.num_intro_points).into()),
            (
                "max_concurrent_streams_per_circuit",
                i64::from(self.max_concurrent_streams_per_circuit).into(),
            ),
            ("max_streams_close_circuit", self.max_streams_close_circuit.into()),
        ]);
        if let Some(limit) = self.rate_limit_at_intro {
            let limit =
                [("rate", i64::from(limit.rate).into()), ("burst", i64::from(limit.burst).into())];
            entries.push(("rate_limit_at_intro", table(limit)));
        }
        entries.push(("anonymity", self.anonymity.word().into()));
        let confirmed = self.anonymity == Anonymity::NotAnonymous;
        entries.push(("confirm_not_anonymous", confirmed.into()));
        let restricted = self.restricted_discovery.as_ref();
        let restricted = restricted
            .map_or_else(|| table([("enabled", false.into())]), RestrictedDiscovery::to_toml);
        entries.push(("restricted_discovery", restricted));
        entries.extend(self.pow.to_toml());
        entries.push(("proxy_ports", proxy_ports(&self.proxy_ports).into()));
        entries.push(("http", http::to_toml(&self.http, &self.proxy_ports).into()));
        entries.push(("local_instances", i64::from(self.local_instances).into()));
        if let Some(points) = self.local_intro_points {
            entries.push(("local_intro_points", i64::from(points).into()));
        }
        entries.push(("local_weight", i64::from(self.local_weight).into()));
        entries.push(("guards", self.guards.word().into()));
        let backends = self.listed_backends().iter().map(RemoteBackend::to_toml);
        entries.push(("backends", backends.collect::<Vec<_>>().into()));
        if let Some(file) = &self.backends_file {
            entries.push(("backends_file", path(&file.path)));
        }
        let frontends: Vec<Value> =
            self.frontends.iter().map(|address| address.to_string().into()).collect();
        entries.push(("frontends", frontends.into()));
        if let Some(probe) = &self.probe {
            entries.push(("probe", probe.to_toml()));
        }
        let link = match self.link {
            LinkPolicy::Auto => "auto".into(),
            LinkPolicy::Always => true.into(),
            LinkPolicy::Never => false.into(),
        };
        entries.push(("link", link));
        let max = self.max_intro_points.map_or_else(|| "auto".into(), |max| i64::from(max).into());
        entries.push(("max_intro_points", max));
        let distinct = match self.distinct_descriptors {
            Distinct::Auto => "auto".into(),
            Distinct::Always => true.into(),
            Distinct::Never => false.into(),
        };
        entries.push(("distinct_descriptors", distinct));
        let publishers = match self.publishers {
            Publishers::One => "one",
            Publishers::Several => "several",
        };
        entries.push(("publishers", publishers.into()));
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl RestrictedDiscovery {
    fn to_toml(&self) -> Value {
        let keys = self.static_keys.iter();
        let keys = keys.map(|(name, key)| (name.clone(), key.to_string().into()));
        let directories = self.key_dirs.iter().map(|directory| {
            let trust = ("dangerously_trust_everyone", directory.trust_everyone.into());
            table([("path", path(&directory.path)), ("permissions", table([trust]))])
        });
        table([
            ("enabled", true.into()),
            ("static_keys", keys.collect::<Table>().into()),
            ("key_dirs", directories.collect::<Vec<_>>().into()),
        ])
    }
}

impl ProofOfWork {
    fn to_toml(self) -> [(&'static str, Value); 4] {
        let rate = [("rate", i64::from(self.rate).into()), ("burst", i64::from(self.burst).into())];
        [
            ("enable_pow", self.enabled.into()),
            ("pow_rend_queue_depth", i64::from(self.queue_depth).into()),
            ("pow_rate", table(rate)),
            ("pow_max_effort", i64::from(self.max_effort).into()),
        ]
    }
}

impl Probe {
    fn to_toml(&self) -> Value {
        let mut entries = Table::new();
        entries.insert("port".to_owned(), i64::from(self.port).into());
        if let Some(interval) = self.interval {
            let interval = humantime::format_duration(interval).to_string();
            entries.insert("interval".to_owned(), interval.into());
        }
        if let Some(path) = &self.path {
            entries.insert("path".to_owned(), path.clone().into());
        }
        if let Some(status) = self.status {
            entries.insert("status".to_owned(), i64::from(status).into());
        }
        entries.into()
    }
}

/// The entries of a table that another has not, or not so.
fn different(table: &Table, other: &Table) -> Table {
    let entries = table.iter().filter(|(key, value)| other.get(*key) != Some(value));
    entries.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The entries of `proxy_ports`, save for the welcome page.
pub fn proxy_ports(rules: &ProxyRules) -> Vec<Value> {
    rules.0.iter().filter_map(rule).collect()
}

fn rule(rule: &ProxyRule) -> Option<Value> {
    let mut words: Vec<Value> = rule.target.words().into_iter().map(Value::from).collect();
    let target = match words.len() {
        0 => return None,
        1 => words.pop()?,
        _ => words.into(),
    };
    let options = ports::options_value(&rule.target);
    let pair = [PortRange(&rule.ports).to_string().into(), target];
    Some(pair.into_iter().chain(options).collect::<Vec<_>>().into())
}
