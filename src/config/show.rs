//! How the configuration in force is written as TOML again: our tables with
//! their defaults filled in, Arti's as the files give them.

use toml::{Table, Value};

use super::{Config, ServiceConfig};
use crate::proxy::rules::{PortRange, ProxyRule, ProxyTarget};

impl Config {
    /// The configuration in force. Reading the text again gives the same
    /// configuration, save for the built-in welcome page, which no file can say.
    pub fn to_toml(&self) -> Table {
        let mut root = Table::new();
        let services: Table = self
            .services
            .iter()
            .map(|service| (service.nickname.to_string(), service.to_toml().into()))
            .collect();
        root.insert("onion_services".to_owned(), services.into());
        root.insert("admin".to_owned(), table([("listen", self.admin.to_string().into())]));
        root.insert(
            "logging".to_owned(),
            table([
                ("console", self.logging.console.clone().into()),
                ("format", self.logging.format.name().into()),
                ("log_sensitive_information", self.logging.log_sensitive_information.into()),
            ]),
        );
        root.extend(self.arti_tables.clone());
        let storage = root.entry("storage").or_insert_with(|| Table::new().into());
        if let Some(storage) = storage.as_table_mut() {
            for (key, path) in
                [("state_dir", &self.storage.state_dir), ("cache_dir", &self.storage.cache_dir)]
            {
                let path = path.to_string_lossy().into_owned();
                // Arti expands `~` and `${...}` in a plain string.
                let plain = !path.contains(['$', '~']);
                let path = Value::from(path);
                let path = if plain { path } else { table([("literal", path)]) };
                storage.insert(key.to_owned(), path);
            }
        }
        root
    }
}

impl ServiceConfig {
    fn to_toml(&self) -> Table {
        let mut entries = vec![
            ("enabled", self.enabled.into()),
            ("num_intro_points", i64::from(self.num_intro_points).into()),
            (
                "max_concurrent_streams_per_circuit",
                i64::from(self.max_concurrent_streams_per_circuit).into(),
            ),
        ];
        if let Some(limit) = self.rate_limit_at_intro {
            let limit =
                [("rate", i64::from(limit.rate).into()), ("burst", i64::from(limit.burst).into())];
            entries.push(("rate_limit_at_intro", table(limit)));
        }
        let rules: Vec<Value> = self.proxy_ports.0.iter().filter_map(rule).collect();
        entries.push(("proxy_ports", rules.into()));
        entries.push(("local_instances", i64::from(self.local_instances).into()));
        let backends = self.backends.iter().map(|backend| {
            table([
                ("address", backend.address.to_string().into()),
                ("name", backend.name.clone().into()),
                ("weight", i64::from(backend.weight).into()),
            ])
        });
        entries.push(("backends", backends.collect::<Vec<_>>().into()));
        let frontends = self.frontends.iter().map(|address| Value::from(address.to_string()));
        entries.push(("frontends", frontends.collect::<Vec<_>>().into()));
        let max = self.max_intro_points.map_or_else(|| "auto".into(), |max| i64::from(max).into());
        entries.push(("max_intro_points", max));
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

fn rule(rule: &ProxyRule) -> Option<Value> {
    if rule.target == ProxyTarget::Welcome {
        return None;
    }
    let ports = PortRange(&rule.ports).to_string();
    Some(vec![Value::from(ports), rule.target.to_string().into()].into())
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Table>().into()
}
