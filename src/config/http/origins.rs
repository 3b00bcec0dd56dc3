//! How origins are reached and watched: which keys of `http` say so.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::tls;
use crate::config::document::Value;
use crate::config::error::Report;
use crate::config::reader::{Item, Reader, set};
use crate::config::{probe, units};
use onionbraid_proxy::settings::{
    Balance, BufferSettings, HealthCheck, OriginProtocol, OriginSettings, ProxyProtocol,
};

/// The keys that say something only of origins, those about request heads among
/// them.
pub(super) const KEYS: [&str; 27] = [
    "balance",
    "origin_protocol",
    "proxy_protocol",
    "connect_timeout",
    "response_timeout",
    "upgrade_timeout",
    "total_timeout",
    "buffer_response",
    "max_connections",
    "keep_alive",
    "retries",
    "fail_after",
    "fail_for",
    "health_check",
    "tls",
    "host",
    "x_forwarded",
    "forwarded",
    "proto",
    "circuit_id_header",
    "names",
    "url_fields",
    "map_own_address",
    "secure_cookies",
    "strip_request",
    "pass_request",
    "upgrades",
];

/// The words of `balance`.
pub(super) const BALANCES: [(&str, Balance); 3] = [
    ("round-robin", Balance::RoundRobin),
    ("least-connections", Balance::LeastConnections),
    ("first", Balance::First),
];

/// The words of `origin_protocol`.
pub(super) const PROTOCOLS: [(&str, OriginProtocol); 2] =
    [("http1", OriginProtocol::Http1), ("http2", OriginProtocol::Http2)];

/// The words of `proxy_protocol`.
pub(crate) const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 2] =
    [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Shorter would fail where nothing is wrong, longer keep a client for nothing.
const CONNECT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// What a client may be made to wait.
const PATIENCE: RangeInclusive<Duration> = SECOND..=HOUR;

/// Bytes a second: Tor is slow, but who is slower than this has gone.
const RATE: RangeInclusive<u64> = 1..=1024 * 1024;

/// What is kept of an answer in memory, and in a file.
const BUFFER_MEMORY: RangeInclusive<u64> = 4096..=1024 * 1024;
const BUFFER_FILE: RangeInclusive<u64> = 0..=256 * 1024 * 1024;

/// What may take longer: a whole request, or a connection for messages.
const LONG: RangeInclusive<Duration> = SECOND..=Duration::from_secs(24 * 3600);

/// Reads the keys about origins over what holds without them.
pub(super) fn read(table: &mut Reader<'_>, origins: &mut OriginSettings, report: &mut Report) {
    if let Some(item) = table.get("balance") {
        set(&mut origins.balance, item.word(&BALANCES, report));
    }
    protocols(table, origins, report);
    let mut time = |slot: &mut Duration, item: Option<Item<'_>>, range| {
        set(slot, item.and_then(|item| units::time(&item, range, report)));
    };
    time(&mut origins.connect_timeout, table.get("connect_timeout"), CONNECT);
    time(&mut origins.response_timeout, table.get("response_timeout"), PATIENCE);
    time(&mut origins.idle_timeout, table.get("idle_timeout"), PATIENCE);
    time(&mut origins.upgrade_timeout, table.get("upgrade_timeout"), LONG);
    time(&mut origins.keep_alive, table.get("keep_alive"), Duration::ZERO..=HOUR);
    time(&mut origins.fail_for, table.get("fail_for"), PATIENCE);
    if let Some(item) = table.get("total_timeout") {
        let time = item.unless_false(report, |item, report| units::time(item, LONG, report));
        set(&mut origins.total_timeout, time);
    }
    if let Some(item) = table.get("min_rate") {
        let rate = item.unless_false(report, |item, report| units::size(item, RATE, report));
        set(&mut origins.min_rate, rate);
    }
    if let Some(item) = table.get("buffer_response") {
        set(&mut origins.buffer_response, item.unless_false(report, buffer));
    }
    if let Some(item) = table.get("max_connections") {
        set(&mut origins.max_connections, item.integer(1..=65535, report));
    }
    if let Some(item) = table.get("retries") {
        set(&mut origins.retries, item.integer(0..=10, report));
    }
    if let Some(item) = table.get("fail_after") {
        set(&mut origins.fail_after, item.integer(1..=1000, report));
    }
    if let Some(item) = table.get("health_check") {
        set(&mut origins.health_check, health_check(&item, report));
    }
    if let Some(item) = table.get("tls") {
        set(&mut origins.tls, tls::read(&item, report));
    }
}

fn buffer(item: &Item<'_>, report: &mut Report) -> Option<BufferSettings> {
    let mut table = item.table(report)?;
    let mut buffer = BufferSettings::default();
    if let Some(item) = table.get("memory") {
        set(&mut buffer.memory, units::size(&item, BUFFER_MEMORY, report));
    }
    if let Some(item) = table.get("file") {
        set(&mut buffer.file, units::size(&item, BUFFER_FILE, report));
    }
    table.finish(report);
    Some(buffer)
}

fn protocols(table: &mut Reader<'_>, origins: &mut OriginSettings, report: &mut Report) {
    let protocol = table.get("origin_protocol");
    if let Some(item) = &protocol {
        set(&mut origins.protocol, item.word(&PROTOCOLS, report));
    }
    let proxy_protocol = table.get("proxy_protocol");
    if let Some(item) = &proxy_protocol {
        let line = item.unless_false(report, |item, report| item.word(&PROXY_PROTOCOLS, report));
        set(&mut origins.proxy_protocol, line);
    }
    if origins.protocol == OriginProtocol::Http2
        && origins.proxy_protocol.is_some()
        && let Some(item) = proxy_protocol.or(protocol)
    {
        item.wrong(
            "an HTTP/2 connection is for the requests of all clients, and this line would name \
             one: take `origin_protocol = \"http1\"`, or `proxy_protocol = false` and \
             `circuit_id_header`",
            report,
        );
    }
}

fn health_check(item: &Item<'_>, report: &mut Report) -> Option<Option<HealthCheck>> {
    match item.node.value {
        Value::Scalar(toml::Value::Boolean(wanted)) => {
            return Some(wanted.then(HealthCheck::default));
        }
        Value::Table(_) => {}
        _ => {
            item.wrong(
                "this must be true, false, or a table such as { path = \"/health\" }",
                report,
            );
            return None;
        }
    }
    let mut table = item.table(report)?;
    let mut check = HealthCheck::default();
    let path = table.get("path");
    if let Some(item) = &path {
        check.path = probe::path(item, report);
    }
    if let Some(item) = table.get("status") {
        if path.is_none() {
            item.wrong("only an answer has a status: give a `path` too", report);
        }
        set(&mut check.status, status(&item, report));
    }
    if let Some(item) = table.get("interval") {
        set(&mut check.interval, units::time(&item, PATIENCE, report));
    }
    if let Some(item) = table.get("timeout") {
        let range = 100 * MILLISECOND..=60 * SECOND;
        set(&mut check.timeout, units::time(&item, range, report));
    }
    for (key, slot) in [("rise", &mut check.rise), ("fall", &mut check.fall)] {
        if let Some(item) = table.get(key) {
            set(slot, item.integer(1..=100, report));
        }
    }
    table.finish(report);
    Some(Some(check))
}

/// The statuses of a good answer: `200`, `"200"` or `"200-399"`.
fn status(item: &Item<'_>, report: &mut Report) -> Option<RangeInclusive<u16>> {
    const WITHIN: RangeInclusive<u16> = 100..=599;
    if let Value::Scalar(toml::Value::Integer(_)) = item.node.value {
        return item.integer(WITHIN, report).map(|status| status..=status);
    }
    const WANTED: &str = "a status from 100 to 599, or a range such as \"200-399\"";
    let status = units::statuses(item.text(WANTED, report)?, &WITHIN);
    if status.is_none() {
        item.wrong(format!("this must be {WANTED}"), report);
    }
    status
}
