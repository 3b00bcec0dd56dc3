//! What an entry of `proxy_ports` means: Arti's grammar, plus `http://` targets.
//!
//! Text in, [`ProxyRules`] out; the addresses are taken as they stand and never
//! looked up, since a lookup could tell others about the service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Value;
use super::error::Report;
use super::reader::Item;
use crate::proxy::rules::{
    ForwardTarget, HttpOrigin, HttpTarget, Origin, PortRange, ProxyRule, ProxyRules, ProxyTarget,
};

/// The longest path of a Unix socket, in bytes: `sun_path` of unix(7) has 108,
/// the last of which is a NUL.
pub(crate) const MAX_UNIX_PATH: usize = 107;

const ENTRY: &str = "an array of [PORT, TARGET] pairs, such as [[\"80\", \"127.0.0.1:8080\"]]";

/// Reads `proxy_ports`. What is wrong has been reported; the rest is returned.
pub(crate) fn read(item: &Item<'_>, report: &mut Report) -> ProxyRules {
    let mut rules: Vec<(usize, ProxyRule)> = Vec::new();
    for (index, entry) in item.array(ENTRY, report).into_iter().flatten().enumerate() {
        let Some(rule) = rule(&entry, report) else { continue };
        if let Some(problem) = unreachable_behind(&rule.ports, &rules) {
            entry.wrong(problem, report);
        } else {
            rules.push((index, rule));
        }
    }
    ProxyRules(rules.into_iter().map(|(_, rule)| rule).collect())
}

fn rule(entry: &Item<'_>, report: &mut Report) -> Option<ProxyRule> {
    let Value::Array(pair) = &entry.node.value else {
        entry.wrong(
            "this must be a pair [PORT, TARGET], such as [\"80\", \"127.0.0.1:8080\"]",
            report,
        );
        return None;
    };
    let [port, target] = pair.as_slice() else {
        entry.wrong(
            format!("this must have two elements, [PORT, TARGET]; it has {}", pair.len()),
            report,
        );
        return None;
    };
    let item = |index, node| Item { node, path: entry.path.index(index) };
    let (port, target) = (item(0, port), item(1, target));
    let ports = ports(&port, report);
    let target_text = target.text("a target such as \"127.0.0.1:8080\"", report);
    let parsed = target_text.and_then(|text| match parse_target(text) {
        Ok(parsed) => Some(parsed),
        Err(problem) => {
            // Before an `@` there may be a password.
            if text.contains('@') {
                target.wrong_secret(problem, report);
            } else {
                target.wrong(problem, report);
            }
            None
        }
    });
    let address = match &parsed {
        Some(ProxyTarget::Forward(target)) => target.origins.first(),
        Some(ProxyTarget::Http(target)) => target.origins.first().map(|origin| &origin.address),
        _ => None,
    };
    if let Some(Origin::Tcp(addr)) = address
        && !is_private(addr.ip())
    {
        let text =
            format!("{addr} is a public address: clients' data leaves this machine in clear");
        report.warn(target.place(), &target.path, &text);
    }
    Some(ProxyRule { ports: ports?, target: parsed? })
}

fn ports(item: &Item<'_>, report: &mut Report) -> Option<RangeInclusive<u16>> {
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

fn parse_target(text: &str) -> Result<ProxyTarget, String> {
    match text {
        "destroy" => return Ok(ProxyTarget::Destroy),
        "reject" => return Ok(ProxyTarget::Reject),
        "ignore" => return Ok(ProxyTarget::Ignore),
        _ => {}
    }
    if text.starts_with("https:") || text.starts_with("https+unix:") {
        return Err("not built yet in this version: use an http:// origin, or forward the bytes \
                    with \"127.0.0.1:443\""
            .to_owned());
    }
    if let Some(path) =
        text.strip_prefix("http+unix:").or_else(|| text.strip_prefix("http://unix:"))
    {
        // Both `http+unix:/path` and `http+unix:///path` are in use.
        let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        return unix(path).map(http);
    }
    if let Some(authority) = text.strip_prefix("http://") {
        return http_origin(authority).map(http);
    }
    let target = text.strip_prefix("simple:").unwrap_or(text);
    if let Some(path) = target.strip_prefix("unix:") {
        return unix(path).map(forward);
    }
    let address = socket_addr(target.strip_prefix("inet:").unwrap_or(target))?;
    Ok(forward(Origin::Tcp(address)))
}

fn forward(origin: Origin) -> ProxyTarget {
    ProxyTarget::Forward(ForwardTarget { origins: vec![origin], proxy_protocol: None })
}

fn http(address: Origin) -> ProxyTarget {
    let origins = vec![HttpOrigin { address, tls: false }];
    ProxyTarget::Http(HttpTarget { origins, settings: Arc::default() })
}

fn http_origin(authority: &str) -> Result<Origin, String> {
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        return Err("only the origin's address can be given, without a path: requests keep the \
                    path that the client asked for"
            .to_owned());
    }
    if authority.contains('@') {
        return Err("a user name or password cannot be given here".to_owned());
    }
    // A URL may leave out the port.
    let with_port = match authority.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, 80).to_string(),
        Err(_) if authority.ends_with(']') || !authority.contains(':') => format!("{authority}:80"),
        Err(_) => authority.to_owned(),
    };
    socket_addr(&with_port).map(Origin::Tcp)
}

/// An IP address and port; `localhost` is the one name that needs no lookup.
pub(crate) fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    const WANTED: &str = "this must be an address such as \"127.0.0.1:8080\", \
                          \"unix:/path\", \"http://127.0.0.1:8080\", \"http+unix:/path\", or one \
                          of \"destroy\", \"reject\", \"ignore\"";
    let address = match text.strip_prefix("localhost:") {
        Some(port) => {
            let port = port.parse().map_err(|_| WANTED.to_owned())?;
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
        }
        None => text.parse().map_err(|_| match text.rsplit_once(':') {
            Some((name, port)) if is_host_name(name) && port.parse::<u16>().is_ok() => format!(
                "`{name}` is a name, an IP address is needed: looking up a name could tell others \
                 about the service"
            ),
            _ => WANTED.to_owned(),
        })?,
    };
    if address.port() == 0 {
        return Err("the port must be from 1 to 65535".to_owned());
    }
    Ok(address)
}

fn is_host_name(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

fn unix(path: &str) -> Result<Origin, String> {
    if path.is_empty() {
        return Err("the path of the socket is missing: \"unix:/path\"".to_owned());
    }
    if path.len() > MAX_UNIX_PATH {
        return Err(format!(
            "the path of a Unix socket has at most {MAX_UNIX_PATH} bytes, this one has {}",
            path.len()
        ));
    }
    if path.contains('\0') {
        return Err("the path of a socket cannot contain a NUL".to_owned());
    }
    Ok(Origin::Unix(PathBuf::from(Path::new(path))))
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
    let mut next = *ports.start();
    let covering = |port: u16| earlier.iter().find(|(_, rule)| rule.ports.contains(&port));
    let mut names: Vec<String> = Vec::new();
    loop {
        let (index, rule) = covering(next)?;
        let name = format!("proxy_ports[{index}] (\"{}\")", PortRange(&rule.ports));
        if !names.contains(&name) {
            names.push(name);
        }
        if rule.ports.end() >= ports.end() {
            break;
        }
        next = rule.ports.end().saturating_add(1);
    }
    Some(format!(
        "no stream ever reaches this rule: {} before it takes port {}",
        names.join(" and "),
        PortRange(ports)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Origin {
        Origin::Tcp(text.parse().unwrap())
    }

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
    fn targets_are_artis_and_http() {
        let to_socket = || Origin::Unix("/run/x".into());
        let http = |text| super::http(tcp(text));
        let forward = |text| super::forward(tcp(text));
        let cases = [
            ("127.0.0.1:80", forward("127.0.0.1:80")),
            ("inet:127.0.0.1:80", forward("127.0.0.1:80")),
            ("simple:inet:127.0.0.1:80", forward("127.0.0.1:80")),
            ("simple:127.0.0.1:80", forward("127.0.0.1:80")),
            ("[::1]:80", forward("[::1]:80")),
            ("localhost:8080", forward("127.0.0.1:8080")),
            ("unix:/run/x", super::forward(to_socket())),
            ("simple:unix:/run/x", super::forward(to_socket())),
            ("http://127.0.0.1:8080", http("127.0.0.1:8080")),
            ("http://127.0.0.1:8080/", http("127.0.0.1:8080")),
            ("http://127.0.0.1", http("127.0.0.1:80")),
            ("http://[::1]", http("[::1]:80")),
            ("http://[::1]:81", http("[::1]:81")),
            ("http://localhost", http("127.0.0.1:80")),
            ("http+unix:/run/x", super::http(to_socket())),
            ("http+unix:///run/x", super::http(to_socket())),
            ("http://unix:/run/x", super::http(to_socket())),
            ("destroy", ProxyTarget::Destroy),
            ("reject", ProxyTarget::Reject),
            ("ignore", ProxyTarget::Ignore),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_target(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in ["127.0.0.1:80", "unix:/x", "http://[::1]:8", "http+unix:/x", "reject"] {
            let target = parse_target(text).unwrap();
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn a_name_is_never_looked_up() {
        for text in ["example.com:80", "http://web:8080", "http://origin", "inet:db.internal:5432"]
        {
            assert!(parse_target(text).unwrap_err().contains("IP address"), "{text}");
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
