//! Where Prometheus is answered: the `[metrics]` table, Arti's.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::admin::AdminListen;
use super::document::{Node, Value};
use super::error::{ConfigError, ConfigReport, KeyPath};
use super::reader::TableItem;
use super::target;

const WANTED: &str =
    "\"127.0.0.1:9035\", a port of the loopback interface, a list of these, or false";

/// Reads `[metrics]`; without it nobody is answered.
pub(crate) fn read(node: Option<&Node>, report: &mut ConfigReport) -> Vec<SocketAddr> {
    let path = KeyPath::default().key("metrics");
    let Some(mut table) = node.and_then(|node| TableItem { node, path }.table(report)) else {
        return Vec::new();
    };
    let prometheus = table.get("prometheus");
    table.finish(report);
    let Some(mut table) = prometheus.and_then(|item| item.table(report)) else {
        return Vec::new();
    };
    let listen = table.get("listen");
    table.finish(report);
    let mut all = listen.map_or_else(Vec::new, |item| addresses(&item, report));
    all.sort_unstable();
    all.dedup();
    all
}

/// Reports a port that two things would listen on: the second could not.
pub(crate) fn collide(
    admin: &AdminListen,
    metrics: &[SocketAddr],
    node: Option<&Node>,
    report: &mut ConfigReport,
) {
    let key = KeyPath::default().key("metrics").key("prometheus").key("listen");
    let place = node.and_then(|node| node.place.clone());
    let mut error = |first: &str, address: &SocketAddr| {
        let problem =
            format!("{first} listens there already, so {address} is taken: give another port");
        report.error(ConfigError::at_key(place.clone(), key.clone(), problem));
    };
    for (index, address) in metrics.iter().enumerate() {
        match admin {
            AdminListen::Tcp(admin) if overlap(admin, address) => {
                error(&format!("admin.listen = \"{admin}\""), address);
            }
            _ => {}
        }
        if let Some(other) = metrics.iter().take(index).find(|other| overlap(other, address)) {
            error(&format!("\"{other}\" of the same list"), address);
        }
    }
}

/// Whether only one of the addresses can be listened on. All addresses of IPv6 are
/// those of IPv4, too.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |all: &SocketAddr, one: &SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    let same = a.ip().to_canonical() == b.ip().to_canonical();
    a.port() != 0 && a.port() == b.port() && (same || covers(a, b) || covers(b, a))
}

fn addresses(item: &TableItem<'_>, report: &mut ConfigReport) -> Vec<SocketAddr> {
    match &item.node.value {
        _ if item.is_false() => Vec::new(),
        Value::Array(_) => {
            let items = item.array(WANTED, report).unwrap_or_default();
            items.iter().flat_map(|item| addresses(item, report)).collect()
        }
        // Arti's way to say that nothing listens.
        Value::Scalar(toml::Value::Integer(0)) => Vec::new(),
        Value::Scalar(toml::Value::Integer(_)) => {
            let Some(port) = item.integer(1..=u16::MAX, report) else { return Vec::new() };
            vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
        }
        _ => {
            let Some(text) = item.text(WANTED, report) else { return Vec::new() };
            match target::socket_addr(text) {
                Ok(Some(address)) => {
                    if !address.ip().is_loopback() {
                        let text = format!(
                            "everybody who reaches {address} sees how this service is doing, though \
                             not its address: only monitoring should reach it"
                        );
                        report.warn(item.place(), &item.path, &text);
                    }
                    vec![address]
                }
                Ok(None) => {
                    item.wrong(format!("this must be {WANTED}"), report);
                    Vec::new()
                }
                Err(problem) => {
                    item.wrong(problem, report);
                    Vec::new()
                }
            }
        }
    }
}
