//! How the settings of HTTP are written as TOML again.

use toml::{Table, Value};

use super::headers::{PROTOS, SECURE_COOKIES};
use super::origins::{BALANCES, PROTOCOLS, PROXY_PROTOCOLS};
use super::tls;
use crate::config::units::{path, size_value, statuses_text, table, time_value};
use onionbraid_proxy::rules::{PortRange, ProxyRules, ProxyTarget};
use onionbraid_proxy::settings::{
    AllowedHost, BlockRule, BufferSettings, CircuitSettings, GuardSettings, HeaderSettings,
    HealthCheck, HostHeader, HttpSettings, NamePair, OriginSettings, TlsSettings,
};

/// The table `http` of a service with these settings and rules.
pub(crate) fn to_toml(settings: &HttpSettings, rules: &ProxyRules) -> Table {
    let mut table = one(settings);
    let mut ports = Table::new();
    for rule in &rules.0 {
        let own = match &rule.target {
            ProxyTarget::Http(target) => &target.settings,
            ProxyTarget::Files(target) => &target.settings,
            _ => continue,
        };
        if **own != *settings {
            ports.insert(PortRange(&rule.ports).to_string(), one(own).into());
        }
    }
    if !ports.is_empty() {
        table.insert("ports".to_owned(), ports.into());
    }
    table
}

fn one(settings: &HttpSettings) -> Table {
    let mut entries = Vec::new();
    origins(&settings.origins, &mut entries);
    headers(&settings.headers, &mut entries);
    guard(&settings.guard, &mut entries);
    circuit(&settings.circuit, &mut entries);
    let pages = settings.error_pages.iter();
    let pages: Table = pages.map(|page| (statuses_text(&page.status), path(&page.file))).collect();
    entries.push(("error_pages", pages.into()));
    entries.push(("access_log", settings.access_log.into()));
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn origins(origins: &OriginSettings, entries: &mut Vec<(&'static str, Value)>) {
    let proxy_protocol = origins.proxy_protocol.map(|line| word(&PROXY_PROTOCOLS, line));
    entries.extend([
        ("balance", word(&BALANCES, origins.balance)),
        ("origin_protocol", word(&PROTOCOLS, origins.protocol)),
        ("proxy_protocol", or_false(proxy_protocol)),
        ("connect_timeout", time_value(origins.connect_timeout)),
        ("response_timeout", time_value(origins.response_timeout)),
        ("idle_timeout", time_value(origins.idle_timeout)),
        ("upgrade_timeout", time_value(origins.upgrade_timeout)),
        ("total_timeout", or_false(origins.total_timeout.map(time_value))),
        ("min_rate", or_false(origins.min_rate.map(size_value))),
        ("buffer_response", or_false(origins.buffer_response.map(buffer))),
        ("max_connections", number(origins.max_connections)),
        ("keep_alive", time_value(origins.keep_alive)),
        ("retries", number(origins.retries)),
        ("fail_after", number(origins.fail_after)),
        ("fail_for", time_value(origins.fail_for)),
        ("health_check", or_false(origins.health_check.as_ref().map(health_check))),
        ("tls", tls_value(&origins.tls)),
    ]);
}

fn buffer(buffer: BufferSettings) -> Value {
    let mut entries = Table::new();
    entries.insert("memory".to_owned(), size_value(buffer.memory));
    entries.insert("file".to_owned(), size_value(buffer.file));
    Value::Table(entries)
}

fn health_check(check: &HealthCheck) -> Value {
    let mut entries = Table::new();
    if let Some(path) = &check.path {
        entries.insert("path".to_owned(), path.clone().into());
        entries.insert("status".to_owned(), statuses_text(&check.status).into());
    }
    entries.insert("interval".to_owned(), time_value(check.interval));
    entries.insert("timeout".to_owned(), time_value(check.timeout));
    entries.insert("rise".to_owned(), number(check.rise));
    entries.insert("fall".to_owned(), number(check.fall));
    entries.into()
}

fn tls_value(tls: &TlsSettings) -> Value {
    let mut entries = Table::new();
    if let Some(file) = &tls.ca_file {
        entries.insert("ca_file".to_owned(), path(file));
    }
    if let Some(name) = &tls.server_name {
        entries.insert("server_name".to_owned(), name.clone().into());
    }
    let pins: Vec<Value> = tls.pins.iter().map(|pin| tls::pin_text(pin).into()).collect();
    entries.insert("pins".to_owned(), pins.into());
    let any = tls.accept_any_certificate.then(|| tls::ANY.into());
    entries.insert("accept_any_certificate".to_owned(), or_false(any));
    entries.into()
}

fn headers(headers: &HeaderSettings, entries: &mut Vec<(&'static str, Value)>) {
    let host = match &headers.host {
        HostHeader::Pass => "pass".into(),
        HostHeader::Mapped => "mapped".into(),
        HostHeader::Fixed(host) => table([("fixed", host.clone().into())]),
    };
    let names: Vec<Value> = headers.names.iter().map(name_pair).collect();
    let upgrades = Some(&headers.upgrades).filter(|upgrades| !upgrades.is_empty());
    let upgrades = upgrades.map(|upgrades| upgrades.clone().into());
    entries.extend([
        ("host", host),
        ("x_forwarded", headers.x_forwarded.into()),
        ("forwarded", headers.forwarded.into()),
        ("proto", word(&PROTOS, headers.proto)),
        ("circuit_id_header", or_false(headers.circuit_id.clone().map(Into::into))),
        ("names", names.into()),
        ("url_fields", headers.url_fields.clone().into()),
        ("map_own_address", headers.map_own_address.into()),
        ("secure_cookies", word(&SECURE_COOKIES, headers.secure_cookies)),
        ("strip", headers.strip.clone().into()),
        ("strip_request", headers.strip_request.clone().into()),
        ("pass_request", headers.pass_request.clone().into()),
        ("upgrades", or_false(upgrades)),
    ]);
}

fn name_pair(pair: &NamePair) -> Value {
    let onion = pair.onion.as_deref().unwrap_or("self");
    table([("public", pair.public.clone().into()), ("onion", onion.into())])
}

fn guard(guard: &GuardSettings, entries: &mut Vec<(&'static str, Value)>) {
    let host = |host: &AllowedHost| match host {
        AllowedHost::Own => "self".into(),
        AllowedHost::Named(name) => name.clone().into(),
    };
    let hosts = guard.allowed_hosts.as_ref();
    let hosts = hosts.map(|hosts| Value::Array(hosts.iter().map(host).collect()));
    let block: Vec<Value> = guard.block.iter().map(block_rule).collect();
    let head = u64::try_from(guard.max_head_bytes).unwrap_or(u64::MAX);
    entries.extend([
        ("block_tor2web", guard.block_tor2web.into()),
        ("allowed_hosts", or_false(hosts)),
        ("block", block.into()),
        ("max_headers", number(guard.max_headers)),
        ("max_head_size", size_value(head)),
        ("max_body_size", or_false(guard.max_body_bytes.map(size_value))),
        ("head_timeout", time_value(guard.head_timeout)),
    ]);
}

fn block_rule(rule: &BlockRule) -> Value {
    let mut entries = Table::new();
    let texts = [("host", &rule.host), ("path", &rule.path), ("user_agent", &rule.user_agent)];
    for (key, text) in texts {
        if let Some(text) = text {
            entries.insert(key.to_owned(), text.clone().into());
        }
    }
    if !rule.methods.is_empty() {
        entries.insert("methods".to_owned(), rule.methods.clone().into());
    }
    entries.insert("status".to_owned(), number(rule.status));
    entries.into()
}

fn circuit(circuit: &CircuitSettings, entries: &mut Vec<(&'static str, Value)>) {
    let rate = circuit
        .request_rate
        .map(|rate| table([("rate", number(rate.rate)), ("burst", number(rate.burst))]));
    entries.extend([
        ("request_rate", or_false(rate)),
        ("max_requests_per_circuit", or_false(circuit.max_requests.map(number))),
        ("close_abusers", circuit.close_abusers.into()),
    ]);
}

/// What `false` switches off.
fn or_false(value: Option<Value>) -> Value {
    value.unwrap_or_else(|| false.into())
}

fn number(number: impl TryInto<i64>) -> Value {
    number.try_into().unwrap_or(i64::MAX).into()
}

fn word<T: PartialEq>(words: &[(&str, T)], value: T) -> Value {
    words.iter().find(|(_, other)| *other == value).map_or("", |(word, _)| word).into()
}
