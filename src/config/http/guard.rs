//! What is refused, and what one client circuit may do: which keys of `http`
//! say so.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::error::{ConfigError, Report};
use crate::config::reader::{Item, Reader, set};
use crate::config::{names, probe, units};
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

/// Reads the keys about refused requests over what holds without them.
pub(super) fn read(table: &mut Reader<'_>, guard: &mut GuardSettings, report: &mut Report) {
    if let Some(item) = table.get("block_tor2web") {
        set(&mut guard.block_tor2web, item.boolean(report));
    }
    if let Some(item) = table.get("allowed_hosts") {
        set(&mut guard.allowed_hosts, item.unless_false(report, allowed_hosts));
    }
    if let Some(item) = table.get("block") {
        set(&mut guard.block, block(&item, report));
    }
    if let Some(item) = table.get("max_headers") {
        set(&mut guard.max_headers, item.integer(1..=1000, report));
    }
    if let Some(item) = table.get("max_head_size") {
        let size = units::size(&item, HEAD, report);
        set(&mut guard.max_head_bytes, size.and_then(|size| size.try_into().ok()));
    }
    if let Some(item) = table.get("max_body_size") {
        let size = item
            .unless_false(report, |item, report| units::size(item, 0..=1024_u64.pow(5), report));
        set(&mut guard.max_body_bytes, size);
    }
    if let Some(item) = table.get("head_timeout") {
        set(&mut guard.head_timeout, units::time(&item, HEAD_TIMES, report));
    }
}

/// Reads the keys about circuits over what holds without them.
pub(super) fn read_circuit(
    table: &mut Reader<'_>,
    circuit: &mut CircuitSettings,
    report: &mut Report,
) {
    if let Some(item) = table.get("request_rate") {
        set(&mut circuit.request_rate, item.unless_false(report, request_rate));
    }
    if let Some(item) = table.get("max_requests_per_circuit") {
        let most = item.unless_false(report, |item, report| item.integer(1..=65535, report));
        set(&mut circuit.max_requests, most);
    }
    if let Some(item) = table.get("close_abusers") {
        set(&mut circuit.close_abusers, item.boolean(report));
        let limits = circuit.request_rate.is_some() || circuit.max_requests.is_some();
        if circuit.close_abusers && !limits {
            let text = "it does nothing without a limit: give `request_rate` or \
                        `max_requests_per_circuit`";
            report.warn(item.place(), &item.path, text);
        }
    }
}

fn request_rate(item: &Item<'_>, report: &mut Report) -> Option<RequestRate> {
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

fn allowed_hosts(item: &Item<'_>, report: &mut Report) -> Option<Vec<AllowedHost>> {
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

fn block(item: &Item<'_>, report: &mut Report) -> Option<Vec<BlockRule>> {
    let entries = item.array("an array of rules, such as [{ path = \"/admin\" }]", report)?;
    if entries.len() > MAX_RULES {
        item.wrong(format!("there can be at most {MAX_RULES} rules"), report);
        return None;
    }
    Some(entries.iter().filter_map(|entry| block_rule(entry, report)).collect())
}

fn block_rule(entry: &Item<'_>, report: &mut Report) -> Option<BlockRule> {
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

fn host(item: &Item<'_>, report: &mut Report) -> Option<String> {
    match names::host(item.text("a host name", report)?) {
        Ok(name) => Some(name),
        Err(problem) => {
            item.wrong(problem, report);
            None
        }
    }
}

fn path(item: &Item<'_>, report: &mut Report) -> Option<String> {
    let path = probe::path(item, report)?;
    if path.contains('?') {
        item.wrong("only the path is compared: leave out what follows the `?`", report);
        return None;
    }
    Some(path)
}

fn methods(item: &Item<'_>, report: &mut Report) -> Option<Vec<String>> {
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

fn user_agent(item: &Item<'_>, report: &mut Report) -> Option<String> {
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
