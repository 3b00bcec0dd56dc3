//! Which programs reach the bridges of `[bridges]`?
//!
//! The table is Arti's, which says nothing of a program before it is needed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Config, files};

impl Config {
    /// The programs of `[[bridges.transports]]` that bridges in use are reached by.
    pub fn transport_programs(&self) -> Vec<PathBuf> {
        programs(&self.arti_tables)
    }
}

/// The programs of `[[bridges.transports]]` that bridges in use are reached by, as the
/// tables name them.
fn programs(tables: &toml::Table) -> Vec<PathBuf> {
    let Some(bridges) = tables.get("bridges").and_then(toml::Value::as_table) else {
        return Vec::new();
    };
    let list = |key: &str| bridges.get(key).and_then(toml::Value::as_array).into_iter().flatten();
    let names: BTreeSet<&str> = match bridges.get("bridges") {
        Some(toml::Value::String(lines)) => lines.lines().filter_map(transport).collect(),
        _ => list("bridges").filter_map(|bridge| transport(bridge.as_str()?)).collect(),
    };
    if bridges.get("enabled").and_then(toml::Value::as_bool) == Some(false) {
        return Vec::new();
    }
    let is_used = |table: &&toml::Value| {
        let protocols = table.get("protocols").and_then(toml::Value::as_array);
        protocols.into_iter().flatten().filter_map(toml::Value::as_str).any(|it| names.contains(it))
    };
    let path =
        |table: &toml::Value| files::resolved(&table.get("path")?.clone().try_into().ok()?).ok();
    list("transports").filter(is_used).filter_map(path).collect()
}

/// The transport that a bridge line begins with, if it does with one.
fn transport(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let first = if first.eq_ignore_ascii_case("bridge") { words.next()? } else { first };
    (!first.contains([':', '.'])).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_those_that_bridges_in_use_need() {
        let programs = |text: &str| programs(&text.parse().unwrap());
        let transports = "[[bridges.transports]]\nprotocols = ['obfs4']\npath = '/usr/bin/obfs4proxy'\n\
                          [[bridges.transports]]\nprotocols = ['snowflake']\npath = '/usr/bin/snowflake'\n";
        let obfs4 = [PathBuf::from("/usr/bin/obfs4proxy")];
        for bridges in [
            "bridges = ['obfs4 192.0.2.1:443 AA cert=x iat-mode=0']",
            "bridges = '''\nBridge obfs4 192.0.2.1:443 AA\n192.0.2.2:443 BB\n'''",
        ] {
            assert_eq!(programs(&format!("[bridges]\n{bridges}\n{transports}")), obfs4);
        }
        let off = "[bridges]\nenabled = false\nbridges = ['obfs4 192.0.2.1:443 AA']\n";
        assert!(programs(&format!("{off}{transports}")).is_empty());
        let plain = "[bridges]\nbridges = ['192.0.2.1:443 AA', '[2001:db8::1]:443 BB']\n";
        assert!(programs(&format!("{plain}{transports}")).is_empty());
    }
}
