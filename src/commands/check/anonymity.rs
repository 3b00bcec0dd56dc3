//! What `check` says of single onion services: what that gives, and what it gives away.

use std::io::{self, Write};

use crate::config::{Config, ServiceConfig};
use onionbraid_balancer::onion::Anonymity;

/// That a service does not hide, where that is so.
pub(super) fn write(service: &ServiceConfig, out: &mut impl Write) -> io::Result<()> {
    match service.anonymity {
        Anonymity::Anonymous => Ok(()),
        Anonymity::NotAnonymous => writeln!(
            out,
            "    NOT ANONYMOUS: introduction points and the rendezvous points of clients see the \
             network address of this\n    machine, and descriptors tell everybody that it is so; \
             clients stay hidden"
        ),
    }
}

/// What keeps a service from being as fast as it could be.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let rules = config.arti_tables.get("path_rules").and_then(toml::Value::as_table);
    let filters = rules.is_some_and(|rules| rules.contains_key("reachable_addrs"));
    if config.anonymity() == Anonymity::Anonymous || !filters {
        return Vec::new();
    }
    let text = "`path_rules.reachable_addrs` holds for guards alone: services that are not anonymous \
                try every relay of the directory at its own address, and use ordinary circuits where \
                that fails";
    vec![text.to_owned()]
}
