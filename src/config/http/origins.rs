//! How origins are reached and watched: which keys of `http` say so.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::tls;
use crate::config::document::Value;
use crate::config::error::ConfigReport;
use crate::config::keys::{Integer, KeyTable, OrFalse, Pass, Size, Time, ValueForm, Words, own};
use crate::config::reader::TableItem;
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
const BALANCES: [(&str, Balance); 3] = [
    ("round-robin", Balance::RoundRobin),
    ("least-connections", Balance::LeastConnections),
    ("first", Balance::First),
];

/// The words of `origin_protocol`.
const PROTOCOLS: [(&str, OriginProtocol); 2] =
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

/// The keys about origins.
pub(super) fn keys(pass: &mut Pass<'_, '_>, origins: &mut OriginSettings) {
    pass.key("balance", &mut origins.balance, Words(&BALANCES));
    let protocol = pass.key("origin_protocol", &mut origins.protocol, Words(&PROTOCOLS));
    let line = OrFalse(Words(&PROXY_PROTOCOLS));
    let line = pass.key("proxy_protocol", &mut origins.proxy_protocol, line);
    if origins.protocol == OriginProtocol::Http2
        && origins.proxy_protocol.is_some()
        && let Some(item) = line.or(protocol)
    {
        pass.wrong(
            &item,
            "an HTTP/2 connection is for the requests of all clients, and this line would name \
             one: take `origin_protocol = \"http1\"`, or `proxy_protocol = false` and \
             `circuit_id_header`",
        );
    }
    pass.key("connect_timeout", &mut origins.connect_timeout, Time(CONNECT));
    pass.key("response_timeout", &mut origins.response_timeout, Time(PATIENCE));
    pass.key("idle_timeout", &mut origins.idle_timeout, Time(PATIENCE));
    pass.key("upgrade_timeout", &mut origins.upgrade_timeout, Time(LONG));
    pass.key("total_timeout", &mut origins.total_timeout, OrFalse(Time(LONG)));
    pass.key("min_rate", &mut origins.min_rate, OrFalse(Size(RATE)));
    pass.key("buffer_response", &mut origins.buffer_response, OrFalse(KeyTable(buffer)));
    pass.key("max_connections", &mut origins.max_connections, Integer(1..=65535));
    pass.key("keep_alive", &mut origins.keep_alive, Time(Duration::ZERO..=HOUR));
    pass.key("retries", &mut origins.retries, Integer(0..=10));
    pass.key("fail_after", &mut origins.fail_after, Integer(1..=1000));
    pass.key("fail_for", &mut origins.fail_for, Time(PATIENCE));
    pass.key("health_check", &mut origins.health_check, HealthCheckForm);
    pass.key("tls", &mut origins.tls, KeyTable(tls::keys));
}

fn buffer(pass: &mut Pass<'_, '_>, buffer: &mut BufferSettings) {
    pass.key("memory", &mut buffer.memory, Size(BUFFER_MEMORY));
    pass.key("file", &mut buffer.file, Size(BUFFER_FILE));
}

/// `true` and `false` as well as a table.
struct HealthCheckForm;

impl ValueForm<Option<HealthCheck>> for HealthCheckForm {
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Option<HealthCheck>> {
        match item.node.value {
            Value::Scalar(toml::Value::Boolean(wanted)) => Some(wanted.then(HealthCheck::default)),
            Value::Table(_) => KeyTable(health_check).read(item, report).map(Some),
            _ => {
                let right = "this must be true, false, or a table such as { path = \"/health\" }";
                item.wrong(right, report);
                None
            }
        }
    }

    fn show(&self, check: &Option<HealthCheck>) -> toml::Value {
        OrFalse(KeyTable(health_check)).show(check)
    }
}

fn health_check(pass: &mut Pass<'_, '_>, check: &mut HealthCheck) {
    let text = |text: &String| text.clone().into();
    let path = pass.optional("path", &mut check.path, own(probe::path, text));
    // Shown where it means something.
    if check.path.is_some() || matches!(pass, Pass::Read(..)) {
        let form = own(status, |status| units::statuses_text(status).into());
        let status = pass.key("status", &mut check.status, form);
        if let (Some(item), None) = (status, path) {
            pass.wrong(&item, "only an answer has a status: give a `path` too");
        }
    }
    pass.key("interval", &mut check.interval, Time(PATIENCE));
    pass.key("timeout", &mut check.timeout, Time(100 * MILLISECOND..=60 * SECOND));
    pass.key("rise", &mut check.rise, Integer(1..=100));
    pass.key("fall", &mut check.fall, Integer(1..=100));
}

/// The statuses of a good answer: `200`, `"200"` or `"200-399"`.
fn status(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<RangeInclusive<u16>> {
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
