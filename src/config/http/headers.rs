//! What is changed in the heads of requests and responses: which keys of `http`
//! say so.

use crate::config::document::Value;
use crate::config::error::ConfigReport;
use crate::config::keys::{OrFalse, Pass, Switch, Words, array, own, texts};
use crate::config::names;
use crate::config::reader::TableItem;
use crate::config::units::table;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_proxy::headers::{is_reserved, is_told, is_translated, matches};
use onionbraid_proxy::rules::ProxyTarget;
use onionbraid_proxy::settings::{HeaderSettings, HostHeader, NamePair, SecureCookies};
use onionbraid_proxy::token;

/// The words of `proto`.
const PROTOS: [(&str, Option<&str>); 3] =
    [("auto", None), ("http", Some("http")), ("https", Some("https"))];

/// The words of `secure_cookies`.
const SECURE_COOKIES: [(&str, SecureCookies); 2] =
    [("keep", SecureCookies::Keep), ("drop", SecureCookies::Drop)];

/// What stands for the service's own address.
const OWN: &str = "self";

/// The most names of a site, and header fields that are taken out: each is looked
/// for in every response.
const MOST: usize = 100;

/// Request headers that mean something already: an origin would take the number
/// of a circuit for something else.
const TAKEN: [&str; 8] = [
    "accept",
    "authorization",
    "content-type",
    "cookie",
    "forwarded",
    "origin",
    "referer",
    "user-agent",
];

/// Protocols in which requests would follow.
const HIDDEN: [&str; 6] = ["h2", "h2c", "h3", "http", "https", "tls"];

/// The keys about heads.
pub(super) fn keys(pass: &mut Pass<'_, '_>, headers: &mut HeaderSettings) {
    let host = pass.key("host", &mut headers.host, own(host, host_value));
    pass.key("x_forwarded", &mut headers.x_forwarded, Switch);
    pass.key("forwarded", &mut headers.forwarded, Switch);
    pass.key("proto", &mut headers.proto, Words(&PROTOS));
    let circuit_id = OrFalse(own(circuit_id, |name| name.clone().into()));
    let circuit_id = pass.key("circuit_id_header", &mut headers.circuit_id, circuit_id);
    let names = own(names, |names: &Vec<_>| array(names, pair_value));
    let names = pass.key("names", &mut headers.names, names);
    pass.key("url_fields", &mut headers.url_fields, own(url_fields, texts));
    pass.key("map_own_address", &mut headers.map_own_address, Switch);
    pass.key("secure_cookies", &mut headers.secure_cookies, Words(&SECURE_COOKIES));
    let strip = |item: &TableItem<'_>, report: &mut ConfigReport| {
        fields(item, "Alt-Svc", |_| Ok(()), report)
    };
    pass.key("strip", &mut headers.strip, own(strip, texts));
    let strip = pass.key("strip_request", &mut headers.strip_request, own(strip_request, texts));
    let pass_request = |item: &TableItem<'_>, report: &mut ConfigReport| {
        fields(item, "X-Username", may_pass, report)
    };
    let passed = pass.key("pass_request", &mut headers.pass_request, own(pass_request, texts));
    if let (Some(problem), Some(item)) = (passes_in_vain(headers), passed.or(strip).or(circuit_id))
    {
        pass.wrong(&item, problem);
    }
    let upgrades = own(
        |item, report| item.unless_false(report, upgrades).map(Option::unwrap_or_default),
        |upgrades: &Vec<_>| if upgrades.is_empty() { false.into() } else { texts(upgrades) },
    );
    pass.key("upgrades", &mut headers.upgrades, upgrades);
    // Names that are wrong were meant all the same.
    let listed = |item: &TableItem<'_>| match &item.node.value {
        Value::Array(entries) => !entries.is_empty(),
        _ => true,
    };
    if headers.host == HostHeader::Mapped
        && headers.names.is_empty()
        && !names.as_ref().is_some_and(listed)
        && let Some(item) = host.or(names)
    {
        pass.wrong(
            &item,
            "`host = \"mapped\"` needs `names`: which public name belongs to which onion name, \
             such as names = [{ public = \"example.com\" }]",
        );
    }
}

fn host_value(host: &HostHeader) -> toml::Value {
    match host {
        HostHeader::Pass => "pass".into(),
        HostHeader::Mapped => "mapped".into(),
        HostHeader::Fixed(host) => table([("fixed", host.clone().into())]),
    }
}

fn pair_value(pair: &NamePair) -> toml::Value {
    let onion = pair.onion.as_deref().unwrap_or(OWN);
    table([("public", pair.public.clone().into()), ("onion", onion.into())])
}

fn host(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<HostHeader> {
    const WANTED: &str = "\"pass\", \"mapped\" or { fixed = \"example.com\" }";
    if let Value::Table(_) = item.node.value {
        let mut table = item.table(report)?;
        let fixed = table.get("fixed");
        table.finish(report);
        let Some(item) = fixed else {
            item.wrong("the host is missing: { fixed = \"example.com\" }", report);
            return None;
        };
        let text = item.text("a host such as \"example.com\"", report)?;
        // A port may stand behind it; an IP address is a host, too.
        let good = text.parse::<std::net::SocketAddr>().is_ok()
            || text.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_ipv4())
            || match text.rsplit_once(':') {
                None => names::host(text).is_ok(),
                Some((name, port)) => names::host(name).is_ok() && is_port(port),
            };
        if !good {
            item.wrong("this must be a host such as \"example.com\" or \"web:8080\"", report);
        }
        return good.then(|| HostHeader::Fixed(text.to_owned()));
    }
    match item.text(WANTED, report)? {
        "pass" => Some(HostHeader::Pass),
        "mapped" => Some(HostHeader::Mapped),
        _ => {
            item.wrong(format!("this must be {WANTED}"), report);
            None
        }
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn circuit_id(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<String> {
    let text = item.text("the name of a header field, such as \"X-Circuit\"", report)?;
    // Many origins take `_` for `-`.
    let lower = text.to_ascii_lowercase().replace('_', "-");
    let problem = match names::field(text) {
        Err(problem) => problem,
        Ok(()) if TAKEN.contains(&lower.as_str()) || lower.starts_with("x-forwarded-") => {
            format!("`{text}` means something already: take a name of your own, \"X-Circuit\"")
        }
        Ok(()) => return Some(text.to_owned()),
    };
    item.wrong(problem, report);
    None
}

fn url_fields(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Vec<String>> {
    let good = |text: &str| match is_translated(text) {
        true => Err("URLs in this header field are translated in any case".to_owned()),
        false => Ok(()),
    };
    fields(item, "X-Next-Page", good, report)
}

/// Different header fields, each of which is `good`.
fn fields(
    item: &TableItem<'_>,
    example: &str,
    good: impl Fn(&str) -> Result<(), String>,
    report: &mut ConfigReport,
) -> Option<Vec<String>> {
    let mut fields: Vec<String> = Vec::new();
    let wanted = format!("an array of header fields, such as [\"{example}\"]");
    let entries = item.array(&wanted, report)?;
    if entries.len() > MOST {
        item.wrong(format!("there can be at most {MOST} header fields"), report);
        return None;
    }
    for entry in entries {
        let Some(text) = entry.text("the name of a header field", report) else { continue };
        match names::field(text).and_then(|()| good(text)) {
            Err(problem) => entry.wrong(problem, report),
            Ok(()) if fields.iter().any(|field| field.eq_ignore_ascii_case(text)) => {
                entry.wrong("this header field is there already", report);
            }
            Ok(()) => fields.push(text.to_owned()),
        }
    }
    Some(fields)
}

/// Reports settings with which the checks of applications against forged
/// requests must fail: a server that speaks TLS sees the scheme for itself, and
/// another takes it for `http` where no field tells it. `Origin` has to agree.
pub(super) fn check_scheme(
    item: &TableItem<'_>,
    settings: &HeaderSettings,
    target: &ProxyTarget,
    report: &mut ConfigReport,
) {
    let (ProxyTarget::Http(target), Some(proto)) = (target, settings.proto) else { return };
    let told = settings.x_forwarded || settings.forwarded;
    let text = match target.origins.iter().any(|origin| origin.tls) {
        true if proto == "http" => {
            "with `proto = \"http\"` the checks of `Origin` by https:// servers would fail: they see \
             for themselves that the scheme is https. Take `proto = \"auto\"`"
        }
        false if proto == "https" && !told => {
            "with `proto = \"https\"` the checks of `Origin` by servers would fail: no header field \
             tells them the scheme. Take `x_forwarded = true`, `forwarded = true` or `proto = \"auto\"`"
        }
        _ => return,
    };
    item.wrong(text, report);
}

/// Names of request headers, of which the end may be left open.
fn strip_request(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Vec<String>> {
    let mut fields: Vec<String> = Vec::new();
    let entries =
        item.array("an array of header fields, such as [\"X-Role\", \"X-Own-*\"]", report)?;
    if entries.len() > MOST {
        item.wrong(format!("there can be at most {MOST} header fields"), report);
        return None;
    }
    for entry in entries {
        let Some(text) = entry.text("the name of a header field", report) else { continue };
        let name = text.strip_suffix('*').unwrap_or(text);
        match names::field(name) {
            Err(problem) => entry.wrong(problem, report),
            Ok(()) if name.eq_ignore_ascii_case("content-type") => {
                entry.wrong("without it nobody could read the content", report);
            }
            Ok(()) if !name.bytes().all(token::is_plain) => {
                let text = "fields with other characters than letters, digits and `-` in their \
                            names reach no origin in any case; only a `*` at the end has a meaning";
                entry.wrong(text, report);
            }
            Ok(()) if fields.iter().any(|field| field.eq_ignore_ascii_case(text)) => {
                entry.wrong("this header field is there already", report);
            }
            Ok(()) => fields.push(text.to_owned()),
        }
    }
    Some(fields)
}

/// Whether the operator may let a field of this name pass: one that would not.
fn may_pass(text: &str) -> Result<(), String> {
    let name = text.to_ascii_lowercase();
    if text.contains('*') {
        return Err(
            "each header field has to be written out: what else begins so, only servers and \
                    proxies may send"
                .to_owned(),
        );
    }
    if !text.bytes().all(token::is_plain) {
        return Err(
            "fields with other characters than letters, digits and `-` in their names reach \
                    no origin in any case"
                .to_owned(),
        );
    }
    if is_told(&name) {
        return Err(format!(
            "what `{text}` says is for this proxy to say: no client can be believed"
        ));
    }
    if !is_reserved(&name) {
        return Err("this header field passes in any case".to_owned());
    }
    Ok(())
}

/// A field that other settings keep from passing.
fn passes_in_vain(headers: &HeaderSettings) -> Option<String> {
    headers.pass_request.iter().find_map(|name| {
        if headers.strip_request.iter().any(|pattern| matches(pattern, name)) {
            return Some(format!("`{name}` is in `pass_request` and `strip_request`: it cannot be both"));
        }
        let id = token::plain(headers.circuit_id.as_ref()?.as_bytes());
        id.eq(token::plain(name.as_bytes())).then(|| {
            format!("`{name}` is in `pass_request` and is `circuit_id_header` too, which this proxy sets")
        })
    })
}

/// Protocols that clients may go on in, none of which is another HTTP: what came
/// after would be requests that nobody here has looked at.
fn upgrades(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Vec<String>> {
    const WANTED: &str = "a protocol such as \"websocket\"";
    let mut protocols: Vec<String> = Vec::new();
    let entries = item.array("an array of protocols, such as [\"websocket\"]", report)?;
    if entries.len() > MOST {
        item.wrong(format!("there can be at most {MOST} protocols"), report);
        return None;
    }
    for entry in entries {
        let Some(text) = entry.text(WANTED, report) else { continue };
        let is_token = |part: &str| !part.is_empty() && part.bytes().all(token::is_token);
        let mut parts = text.splitn(2, '/');
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        if text.len() > 100 || !is_token(&name) || !parts.all(is_token) {
            entry.wrong(format!("this must be {WANTED}"), report);
        } else if HIDDEN.contains(&name.as_str()) {
            let text = format!(
                "`{text}` would hide requests from the rules: another HTTP, or TLS, is not led on"
            );
            entry.wrong(text, report);
        } else if protocols.iter().any(|protocol| protocol.eq_ignore_ascii_case(text)) {
            entry.wrong("this protocol is there already", report);
        } else {
            protocols.push(text.to_owned());
        }
    }
    Some(protocols)
}

fn names(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Vec<NamePair>> {
    let mut pairs: Vec<NamePair> = Vec::new();
    let entries = item.array("an array such as [{ public = \"example.com\" }]", report)?;
    if entries.len() > MOST {
        item.wrong(format!("there can be at most {MOST} names"), report);
        return None;
    }
    for entry in entries {
        let Some(pair) = pair(&entry, report) else { continue };
        if pairs.iter().any(|other| other.public == pair.public) {
            let text = format!("`{}` is there already, and can become one name only", pair.public);
            entry.wrong(text, report);
        } else {
            pairs.push(pair);
        }
    }
    Some(pairs)
}

fn pair(entry: &TableItem<'_>, report: &mut ConfigReport) -> Option<NamePair> {
    let mut table = entry.table(report)?;
    let (public, onion) = (table.get("public"), table.get("onion"));
    table.finish(report);
    let Some(public) = public else {
        entry.wrong("the public name is missing: { public = \"example.com\" }", report);
        return None;
    };
    let read = |item: &TableItem<'_>,
                good: fn(&str) -> Result<String, String>,
                report: &mut ConfigReport| {
        match good(item.text("a host name", report)?) {
            Ok(name) => Some(name),
            Err(problem) => {
                item.wrong(problem, report);
                None
            }
        }
    };
    let public = read(&public, public_name, report);
    let onion = match onion {
        Some(item) if item.as_text() != Some(OWN) => Some(read(&item, onion_name, report)?),
        _ => None,
    };
    Some(NamePair { public: public?, onion })
}

fn public_name(text: &str) -> Result<String, String> {
    let name = names::host(text)?;
    if names::is_onion(&name) {
        return Err("the onion name belongs in `onion`, and here the public one".to_owned());
    }
    Ok(name)
}

/// An onion address, with a subdomain or without.
fn onion_name(text: &str) -> Result<String, String> {
    let name = names::host(text)?;
    if !names::is_onion(&name) {
        return Err(format!(
            "this must be an onion address such as \"....onion\", or \"{OWN}\" for the one of this \
             service"
        ));
    }
    let address = name.match_indices('.').rev().nth(1).map_or(0, |(dot, _)| dot + 1);
    match name.get(address..).unwrap_or_default().parse::<OnionAddress>() {
        Ok(_) => Ok(name),
        Err(problem) => Err(problem.to_string()),
    }
}
