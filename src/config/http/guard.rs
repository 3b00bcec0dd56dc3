//! What is refused, and what one client circuit may do: which keys of `http`
//! say so.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::error::{ConfigError, ConfigReport};
use crate::config::keys::{Integer, OrFalse, Pass, Size, Switch, Time, array, own, texts};
use crate::config::reader::TableItem;
use crate::config::units::table;
use crate::config::{names, probe};
use onionbraid_proxy::settings::{
    AllowedHost, BlockRule, CircuitSettings, GuardSettings, RequestRate,
};
use onionbraid_proxy::token;

/// The most rules of `block`, and the most hosts of `allowed_hosts`: each request
/// is held against all of them.
const MAX_RULES: usize = 1000;

/// The longest head of a request or response, in bytes.
const HEAD: RangeInclusive<u64> = 1024..=1024 * 1024;

/// Tor needs a few seconds, and who is slower than ten minutes has gone.
const HEAD_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// The status of a refusal where nothing else is said.
const REFUSED: u16 = 403;

/// The keys about refused requests.
pub(super) fn keys(pass: &mut Pass<'_, '_>, guard: &mut GuardSettings) {
    pass.key("block_tor2web", &mut guard.block_tor2web, Switch);
    let hosts = own(allowed_hosts, |hosts: &Vec<_>| array(hosts, host_value));
    pass.key("allowed_hosts", &mut guard.allowed_hosts, OrFalse(hosts));
    let rules = own(block, |rules: &Vec<_>| array(rules, rule_value));
    pass.key("block", &mut guard.block, rules);
    pass.key("max_headers", &mut guard.max_headers, Integer(1..=1000));
    pass.key("max_head_size", &mut guard.max_head_bytes, Size(HEAD));
    let body = OrFalse(Size(0..=1024_u64.pow(5)));
    pass.key("max_body_size", &mut guard.max_body_bytes, body);
    pass.key("head_timeout", &mut guard.head_timeout, Time(HEAD_TIMES));
    pass.key("client_keep_alive", &mut guard.client_keep_alive, Time(HEAD_TIMES));
}

/// The keys about circuits.
pub(super) fn circuit_keys(pass: &mut Pass<'_, '_>, circuit: &mut CircuitSettings) {
    let rate = own(request_rate, |rate: &RequestRate| {
        table([("rate", rate.rate.into()), ("burst", rate.burst.into())])
    });
    pass.key("request_rate", &mut circuit.request_rate, OrFalse(rate));
    let most = OrFalse(Integer(1..=65535));
    pass.key("max_requests_per_circuit", &mut circuit.max_requests, most);
    let close = pass.key("close_abusers", &mut circuit.close_abusers, Switch);
    let limits = circuit.request_rate.is_some() || circuit.max_requests.is_some();
    if let Some(item) = close.filter(|_| circuit.close_abusers && !limits) {
        let text = "it does nothing without a limit: give `request_rate` or \
                    `max_requests_per_circuit`";
        pass.warn(&item, text);
    }
}

fn request_rate(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<RequestRate> {
    let mut table = item.table(report)?;
    let mut number = |key| match table.get(key) {
        Some(item) => item.integer(1..=1_000_000, report),
        None => {
            let problem = "it is missing: give both, { rate = 10, burst = 50 }";
            report.error(ConfigError::at_key(item.place(), item.path.key(key), problem));
            None
        }
    };
    let (rate, burst) = (number("rate"), number("burst"));
    table.finish(report);
    Some(RequestRate { rate: rate?, burst: burst? })
}

fn allowed_hosts(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Vec<AllowedHost>> {
    let entries = item.array("an array of host names, such as [\"self\"]", report)?;
    if entries.is_empty() {
        let text = "this would refuse every request: give \"self\" for the service's own address, \
                    or other names";
        item.wrong(text, report);
        return None;
    }
    if entries.len() > MAX_RULES {
        item.wrong(format!("there can be at most {MAX_RULES} hosts"), report);
        return None;
    }
    let mut allowed = Vec::new();
    for entry in entries {
        let host = match entry.text("\"self\" or a host name", report) {
            Some("self") => AllowedHost::Own,
            Some(_) => match self::host(&entry, report) {
                Some(name) => AllowedHost::Named(name),
                None => continue,
            },
            None => continue,
        };
        if allowed.contains(&host) {
            entry.wrong("this host is there already", report);
        } else {
            allowed.push(host);
        }
    }
    Some(allowed)
}

fn host_value(host: &AllowedHost) -> toml::Value {
    match host {
        AllowedHost::Own => "self".into(),
        AllowedHost::Named(name) => name.clone().into(),
    }
}

fn block(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Vec<BlockRule>> {
    let entries = item.array("an array of rules, such as [{ path = \"/admin\" }]", report)?;
    if entries.len() > MAX_RULES {
        item.wrong(format!("there can be at most {MAX_RULES} rules"), report);
        return None;
    }
    Some(entries.iter().filter_map(|entry| block_rule(entry, report)).collect())
}

fn block_rule(entry: &TableItem<'_>, report: &mut ConfigReport) -> Option<BlockRule> {
    let mut table = entry.table(report)?;
    let (host, path) = (table.get("host"), table.get("path"));
    let (methods, user_agent) = (table.get("methods"), table.get("user_agent"));
    let status = match table.get("status") {
        Some(item) => item.integer(400..=499, report),
        None => Some(REFUSED),
    };
    table.finish(report);
    if [&host, &path, &methods, &user_agent].into_iter().all(Option::is_none) {
        entry.wrong(
            "this rule would refuse every request: give `host`, `path`, `methods` or `user_agent`",
            report,
        );
        return None;
    }
    // What is given and wrong must not become a rule that matches more.
    let host = host.map(|item| self::host(&item, report));
    let path = path.map(|item| self::path(&item, report));
    let methods = methods.map(|item| self::methods(&item, report));
    let user_agent = user_agent.map(|item| self::user_agent(&item, report));
    Some(BlockRule {
        host: host.map_or(Some(None), |host| host.map(Some))?,
        path: path.map_or(Some(None), |path| path.map(Some))?,
        methods: methods.unwrap_or_else(|| Some(Vec::new()))?,
        user_agent: user_agent.map_or(Some(None), |part| part.map(Some))?,
        status: status?,
    })
}

fn rule_value(rule: &BlockRule) -> toml::Value {
    let text = |text: &Option<String>| text.clone().map(toml::Value::from);
    let methods = Some(&rule.methods).filter(|methods| !methods.is_empty());
    let entries = [
        ("host", text(&rule.host)),
        ("path", text(&rule.path)),
        ("user_agent", text(&rule.user_agent)),
        ("methods", methods.map(texts)),
        ("status", Some(i64::from(rule.status).into())),
    ];
    let given = entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    given.collect::<toml::Table>().into()
}

fn host(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<String> {
    match names::host(item.text("a host name", report)?) {
        Ok(name) => Some(name),
        Err(problem) => {
            item.wrong(problem, report);
            None
        }
    }
}

fn path(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<String> {
    let path = probe::path(item, report)?;
    if path.contains('?') {
        item.wrong("only the path is compared: leave out what follows the `?`", report);
        return None;
    }
    Some(path)
}

fn methods(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Vec<String>> {
    let entries = item.array("an array of methods, such as [\"POST\", \"PUT\"]", report)?;
    if entries.is_empty() {
        item.wrong("no method at all: leave the key out, if all of them are meant", report);
        return None;
    }
    let mut methods = Vec::new();
    for entry in entries {
        let Some(text) = entry.text("a method such as \"POST\"", report) else { continue };
        let token = !text.is_empty() && text.bytes().all(token::is_token);
        if !token || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            entry.wrong("this must be a method in capitals, such as \"POST\"", report);
        } else if methods.contains(&text.to_owned()) {
            entry.wrong("this method is there already", report);
        } else {
            methods.push(text.to_owned());
        }
    }
    Some(methods)
}

fn user_agent(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<String> {
    let text = item.text("a part of `User-Agent`, such as \"curl\"", report)?;
    if text.is_empty() || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        item.wrong(
            "this must be a part of `User-Agent`, such as \"curl\": one ASCII character or more",
            report,
        );
        return None;
    }
    Some(text.to_owned())
}
