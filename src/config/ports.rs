//! What an entry of `proxy_ports` means: Arti's pairs, plus several targets for
//! one port and a table of options.
//!
//! Which targets there are, `target` knows. Text in, [`ProxyRules`] out; names
//! are taken as they stand and never looked up here.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use super::certificates;
use super::document::{Node, Value};
use super::error::{ConfigReport, Expected};
use super::files;
use super::http::{HttpKeys, PROXY_PROTOCOLS};
use super::reader::TableItem;
use super::target::{self, Target};
use onionbraid_proxy::rules::{
    FilesTarget, ForwardTarget, HttpOrigin, HttpTarget, MAX_ORIGINS, Origin, PortRange, ProxyRule,
    ProxyRules, ProxyTarget, RedirectTarget,
};

const ENTRY: &str = "an array of [PORT, TARGET] pairs, such as [[\"80\", \"127.0.0.1:8080\"]]";

/// Reads `proxy_ports`, and gives HTTP rules what `http` says. What is wrong has
/// been reported; the rest is returned.
pub(crate) fn read(
    item: &TableItem<'_>,
    http: &HttpKeys<'_>,
    report: &mut ConfigReport,
) -> ProxyRules {
    let entries = item.array(ENTRY, report);
    let mut rules: Vec<(usize, ProxyRule)> = Vec::new();
    for (index, entry) in entries.iter().flatten().enumerate() {
        let Some(rule) = rule(entry, http, report) else { continue };
        if let Some(problem) = unreachable_behind(&rule.ports, &rules) {
            entry.wrong(problem, report);
        } else {
            rules.push((index, rule));
        }
    }
    let complete = entries.is_some_and(|entries| entries.len() == rules.len());
    let mut rules: Vec<ProxyRule> = rules.into_iter().map(|(_, rule)| rule).collect();
    http.single_out(&mut rules);
    let rules = ProxyRules(reachable(rules));
    if complete {
        leads_to_tls(item, &rules, report);
    }
    http.unused(&rules, complete, report);
    rules
}

fn rule(
    entry: &TableItem<'_>,
    http: &HttpKeys<'_>,
    report: &mut ConfigReport,
) -> Option<ProxyRule> {
    let Value::Array(pair) = &entry.node.value else {
        entry.wrong(
            "this must be a pair [PORT, TARGET], such as [\"80\", \"127.0.0.1:8080\"]",
            report,
        );
        return None;
    };
    let (port, target, options) = match pair.as_slice() {
        [port, target] => (port, target, None),
        [port, target, options @ Node { value: Value::Table(_), .. }] => {
            (port, target, Some(options))
        }
        [_, _, _] => {
            entry.wrong(
                "a third element is a table of options, such as { proxy_protocol = \"v1\" }; \
                 several targets go into an array: [PORT, [TARGET, TARGET]]",
                report,
            );
            return None;
        }
        all => {
            entry.wrong(
                format!("this must have two elements, [PORT, TARGET]; it has {}", all.len()),
                report,
            );
            return None;
        }
    };
    let item = |index, node| TableItem { node, path: entry.path.index(index) };
    let ports = ports(&item(0, port), report);
    let target = targets(&item(1, target), ports.as_ref(), http, report);
    let options = options.map(|options| item(2, options));
    let mut target = target;
    if let Some(options) = options {
        self::options(&options, target.as_mut(), report);
    }
    Some(ProxyRule { ports: ports?, target: target? })
}

/// Reads one target, or an array of origins.
fn targets(
    item: &TableItem<'_>,
    ports: Option<&RangeInclusive<u16>>,
    http: &HttpKeys<'_>,
    report: &mut ConfigReport,
) -> Option<ProxyTarget> {
    const WANTED: &str = "a target such as \"127.0.0.1:8080\", or an array of them";
    let items = match &item.node.value {
        Value::Array(_) => item.array(WANTED, report)?,
        _ => {
            item.text(WANTED, report)?;
            vec![item.clone()]
        }
    };
    if !(1..=MAX_ORIGINS).contains(&items.len()) {
        let problem = format!("there must be 1 to {MAX_ORIGINS} targets, not {}", items.len());
        item.wrong(problem, report);
        return None;
    }
    let mut found: Vec<Target> = Vec::new();
    let mut all_good = true;
    for item in &items {
        let Some(target) = self::target(item, ports, http, report) else {
            all_good = false;
            continue;
        };
        if let Some(earlier) = found.iter().position(|other| *other == target) {
            item.wrong(format!("this target is there already, as number {}", earlier + 1), report);
            all_good = false;
        } else if items.len() > 1 && !matches!(target, Target::Raw(_) | Target::Http(_)) {
            item.wrong("only servers can share a port: this target has to stand alone", report);
            all_good = false;
        } else if found.first().is_some_and(|first| first.kind() != target.kind()) {
            item.wrong(
                "targets that share a port must all be http:// or https:// ones, or none of them",
                report,
            );
            all_good = false;
        }
        found.push(target);
    }
    if !all_good {
        return None;
    }
    together(found, http)
}

/// The target that these make together, which are of one kind.
fn together(found: Vec<Target>, http: &HttpKeys<'_>) -> Option<ProxyTarget> {
    let settings = || Arc::clone(&http.settings);
    let mut raw: Vec<Origin> = Vec::new();
    let mut origins: Vec<HttpOrigin> = Vec::new();
    for target in found {
        match target {
            Target::Raw(origin) => raw.push(origin),
            Target::Http(origin) => origins.push(origin),
            Target::Files(root) => {
                let (settings, tls) = (settings(), Vec::new());
                return Some(ProxyTarget::Files(FilesTarget { root, settings, tls }));
            }
            Target::Redirect(port) => {
                let settings = settings();
                return Some(ProxyTarget::Redirect(RedirectTarget { port, settings }));
            }
            Target::Destroy => return Some(ProxyTarget::Destroy),
            Target::Reject => return Some(ProxyTarget::Reject),
            Target::Ignore => return Some(ProxyTarget::Ignore),
        }
    }
    if raw.is_empty() && origins.is_empty() {
        return None;
    }
    Some(if raw.is_empty() {
        ProxyTarget::Http(HttpTarget { origins, settings: settings(), tls: Vec::new() })
    } else {
        ProxyTarget::Forward(ForwardTarget { origins: raw, proxy_protocol: None })
    })
}

fn target(
    item: &TableItem<'_>,
    ports: Option<&RangeInclusive<u16>>,
    http: &HttpKeys<'_>,
    report: &mut ConfigReport,
) -> Option<Target> {
    let text = item.text("a target such as \"127.0.0.1:8080\"", report)?;
    let mut target = match target::parse(text) {
        Ok(target) => target,
        Err(problem) => {
            // Before an `@` there may be a password.
            if text.contains('@') {
                item.wrong_secret(problem, report);
            } else {
                item.wrong(problem, report);
            }
            return None;
        }
    };
    let warning = match target.address() {
        Some((Origin::Tcp(address), tls)) if !tls && !is_private(address.ip()) => {
            format!("{address} is a public address: clients' data leaves this machine in clear")
        }
        // Names without a dot are of this machine or its network: containers'.
        Some((Origin::Name(name, _), tls)) if name.contains('.') => {
            let clear = if tls {
                ""
            } else {
                "; outside your own network, clients' data goes there in clear"
            };
            format!(
                "the system looks up {name} for every connection, so its resolver learns the name: \
                 an IP address tells nobody{clear}"
            )
        }
        _ => String::new(),
    };
    if !warning.is_empty() {
        report.warn(item.place(), &item.path, &warning);
    }
    if let Some((Origin::Unix(_), true)) = target.address()
        && ports.is_some_and(|ports| !http.gives_server_name(ports))
    {
        item.wrong(
            "a certificate is for a name, and a socket has none: say which in the table `http` of \
             this service, tls = { server_name = \"example.com\" }",
            report,
        );
        return None;
    }
    match &mut target {
        Target::Files(root) => {
            *root = files::named(item, Path::new(root), Expected::Directory, report);
        }
        Target::Raw(Origin::Unix(path))
        | Target::Http(HttpOrigin { address: Origin::Unix(path), .. }) => {
            *path = files::named(item, path, Expected::Socket, report);
            if let Err(problem) = target::too_long(&path.to_string_lossy()) {
                item.wrong(problem, report);
                return None;
            }
        }
        _ => {}
    }
    Some(target)
}

/// Reports clients that are sent to a port that does not speak TLS.
fn leads_to_tls(item: &TableItem<'_>, rules: &ProxyRules, report: &mut ConfigReport) {
    for rule in &rules.0 {
        let ProxyTarget::Redirect(redirect) = &rule.target else { continue };
        let to = rules.target(redirect.port);
        // A server that bytes are forwarded to has its own certificate.
        if to.tls().is_empty() && !matches!(to, ProxyTarget::Forward(_)) {
            item.wrong(
                format!(
                    "`{}` sends clients to https:// at port {}, which speaks no TLS: give it a \
                     certificate, [\"{1}\", TARGET, {{ tls = {{ certificate = \"certificate.pem\", \
                     key = \"key.pem\" }} }}]",
                    rule.target, redirect.port
                ),
                report,
            );
        }
    }
}

/// Reads the third element, the options of a target.
fn options(item: &TableItem<'_>, target: Option<&mut ProxyTarget>, report: &mut ConfigReport) {
    let Some(mut table) = item.table(report) else { return };
    let line = table.get("proxy_protocol").and_then(|item| {
        item.unless_false(report, |item, report| item.word(&PROXY_PROTOCOLS, report))
    });
    let certificates = table.get("tls");
    let tls = certificates.as_ref().and_then(|item| certificates::read(item, report));
    table.finish(report);
    match target {
        Some(ProxyTarget::Forward(_)) if certificates.is_some() => item.wrong(
            "TLS is spoken by ports with http://, https:// or file: targets. To any other server \
             the bytes go as they come, so that itself has to have the certificate: take `tls` \
             out, or name the server with http://",
            report,
        ),
        Some(ProxyTarget::Forward(target)) => target.proxy_protocol = line.flatten(),
        Some(ProxyTarget::Http(HttpTarget { tls: own, .. }))
        | Some(ProxyTarget::Files(FilesTarget { tls: own, .. }))
            if line.is_none() =>
        {
            *own = tls.unwrap_or_default();
        }
        Some(ProxyTarget::Http(_) | ProxyTarget::Files(_)) => item.wrong(
            "what is special about this port belongs in the table `http.ports.\"PORT\"` of this \
             service",
            report,
        ),
        Some(_) => item.wrong("this target has no options: take the table out", report),
        None => {}
    }
}

/// The options of a target, if any is not at its default.
pub(super) fn options_value(target: &ProxyTarget) -> Option<toml::Value> {
    let line = match target {
        ProxyTarget::Forward(target) => target.proxy_protocol,
        _ => None,
    };
    let word = PROXY_PROTOCOLS.iter().find(|(_, it)| Some(*it) == line);
    let line = word.map(|(word, _)| ("proxy_protocol".to_owned(), toml::Value::from(*word)));
    let tls = certificates::to_toml(target.tls()).map(|tls| ("tls".to_owned(), tls));
    let options: toml::Table = line.into_iter().chain(tls).collect();
    (!options.is_empty()).then(|| options.into())
}

fn ports(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<RangeInclusive<u16>> {
    const WANTED: &str = "a port from 1 to 65535, a range such as \"8000-8010\", or \"*\"";
    if let Value::Scalar(toml::Value::Integer(_)) = item.node.value {
        return item.integer(1..=u16::MAX, report).map(|port| port..=port);
    }
    let ports = parse_ports(item.text(WANTED, report)?);
    if ports.is_none() {
        item.wrong(format!("this must be {WANTED}"), report);
    }
    ports
}

/// The ports that a pattern stands for. As with Arti, a range may begin at 0,
/// which means 1.
fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let ports = match text.split_once('-') {
        None if text == "*" => 1..=u16::MAX,
        None => {
            let port: u16 = text.parse().ok()?;
            (port > 0).then_some(port..=port)?
        }
        Some((first, last)) => first.parse::<u16>().ok()?.max(1)..=last.parse().ok()?,
    };
    (!ports.is_empty()).then_some(ports)
}

/// Whether data sent there stays on this machine or in its private network.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_private() || ip.is_link_local()
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
        }
    }
}

/// Says so if no port of `ports` gets past the earlier rules, naming them.
fn unreachable_behind(
    ports: &RangeInclusive<u16>,
    earlier: &[(usize, ProxyRule)],
) -> Option<String> {
    let names: Vec<String> = covering(ports, earlier.iter().map(|(_, rule)| rule))?
        .into_iter()
        .filter_map(|at| earlier.get(at))
        .map(|(index, rule)| format!("proxy_ports[{index}] (\"{}\")", PortRange(&rule.ports)))
        .collect();
    Some(format!(
        "no stream ever reaches this rule: {} before it takes port {}",
        names.join(" and "),
        PortRange(ports)
    ))
}

/// The rules that some port gets to.
fn reachable(rules: Vec<ProxyRule>) -> Vec<ProxyRule> {
    let mut kept: Vec<ProxyRule> = Vec::new();
    for rule in rules {
        if covering(&rule.ports, kept.iter()).is_none() {
            kept.push(rule);
        }
    }
    kept
}

/// The positions of the rules that together take all of `ports`, if they do.
fn covering<'r>(
    ports: &RangeInclusive<u16>,
    rules: impl Iterator<Item = &'r ProxyRule> + Clone,
) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    let mut next = *ports.start();
    loop {
        let (at, rule) = rules.clone().enumerate().find(|(_, rule)| rule.ports.contains(&next))?;
        if !found.contains(&at) {
            found.push(at);
        }
        if rule.ports.end() >= ports.end() {
            return Some(found);
        }
        next = rule.ports.end().saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_artis() {
        assert_eq!(parse_ports("80"), Some(80..=80));
        assert_eq!(parse_ports("*"), Some(1..=65535));
        assert_eq!(parse_ports("1-1023"), Some(1..=1023));
        assert_eq!(parse_ports("0-200"), Some(1..=200));
        for wrong in ["0", "65536", "10-5", "-5", "5-", "", "http", "0-0"] {
            assert_eq!(parse_ports(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_rule_behind_several_others_is_unreachable_when_they_cover_it_together() {
        let rule = |ports| ProxyRule { ports, target: ProxyTarget::Reject };
        let earlier = [(0, rule(1..=100)), (1, rule(101..=200))];
        let problem = unreachable_behind(&(50..=150), &earlier).unwrap();
        assert!(problem.contains("proxy_ports[0]") && problem.contains("proxy_ports[1]"));
        assert_eq!(unreachable_behind(&(50..=201), &earlier), None);
        assert_eq!(unreachable_behind(&(1..=65535), &earlier), None);
        assert!(unreachable_behind(&(1..=65535), &[(0, rule(1..=65535))]).is_some());
    }
}
