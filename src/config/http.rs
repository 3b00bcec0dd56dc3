//! How requests are led to origins: `[onion_services."NICK".http]`, and what it
//! says otherwise for single ports.
//!
//! | file | question |
//! |---|---|
//! | `origins`, `tls` | how are origins reached and watched? |
//! | `headers` | what is changed in heads? |
//! | `guard` | what is refused? |
//! | `pages` | what do clients see when we answer? |

mod guard;
mod headers;
mod origins;
mod pages;
mod tls;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::error::ConfigReport;
use super::keys::{self, Pass, Switch, Words};
use super::reader::TableItem;
use onionbraid_proxy::rules::{PortRange, ProxyRule, ProxyRules, ProxyTarget};
use onionbraid_proxy::settings::{HttpSettings, TlsSettings};

pub(crate) use origins::PROXY_PROTOCOLS;

/// What a service says of HTTP.
#[derive(Default)]
pub(crate) struct HttpKeys<'a> {
    /// For every port that is not among `ports`.
    pub(crate) settings: Arc<HttpSettings>,
    /// The table, if there is one.
    item: Option<TableItem<'a>>,
    /// For single ports.
    ports: BTreeMap<u16, OnePort<'a>>,
}

/// What is said otherwise for one virtual port.
struct OnePort<'a> {
    item: TableItem<'a>,
    settings: Arc<HttpSettings>,
}

/// Reads `http`. What is wrong has been reported.
pub(crate) fn read<'a>(item: Option<TableItem<'a>>, report: &mut ConfigReport) -> HttpKeys<'a> {
    let mut http = HttpKeys::default();
    let Some(item) = item else { return http };
    let Some(mut table) = item.table(report) else { return http };
    http.item = Some(item);
    let mut settings = HttpSettings::default();
    keys(&mut Pass::Read(&mut table, report), &mut settings);
    let ports = table.get("ports");
    table.finish(report);
    for (name, item) in ports.and_then(|item| item.entries(report)).into_iter().flatten() {
        // One spelling only, so that no port is there twice.
        let port = name.parse().ok().filter(|port: &u16| *port > 0 && port.to_string() == name);
        let Some(port) = port else {
            item.wrong(
                "this table is for one virtual port, from 1 to 65535: ports.\"8080\"",
                report,
            );
            continue;
        };
        let Some(mut table) = item.table(report) else { continue };
        let mut settings = settings.clone();
        keys(&mut Pass::Read(&mut table, report), &mut settings);
        table.finish(report);
        http.ports.insert(port, OnePort { item, settings: Arc::new(settings) });
    }
    http.settings = Arc::new(settings);
    http
}

/// The keys of a table.
fn keys(pass: &mut Pass<'_, '_>, settings: &mut HttpSettings) {
    origins::keys(pass, &mut settings.origins);
    headers::keys(pass, &mut settings.headers);
    guard::keys(pass, &mut settings.guard);
    guard::circuit_keys(pass, &mut settings.circuit);
    pass.key("error_pages", &mut settings.error_pages, pages::form());
    pass.key("error_style", &mut settings.error_style, Words(&pages::STYLES));
    pass.key("http2_without_tls", &mut settings.http2_without_tls, Switch);
    pass.key("access_log", &mut settings.access_log, Switch);
}

/// The table `http` of a service with these settings and rules.
pub(crate) fn to_toml(settings: &HttpSettings, rules: &ProxyRules) -> toml::Table {
    let mut table = keys::show(keys, settings);
    let mut ports = toml::Table::new();
    for rule in &rules.0 {
        let Some(own) = rule.target.settings() else { continue };
        if **own != *settings {
            ports.insert(PortRange(&rule.ports).to_string(), keys::show(keys, own.as_ref()).into());
        }
    }
    if !ports.is_empty() {
        table.insert("ports".to_owned(), ports.into());
    }
    table
}

impl HttpKeys<'_> {
    /// Whether every `https` origin behind one of these ports is given the name
    /// in its certificate.
    pub(crate) fn gives_server_name(&self, ports: &RangeInclusive<u16>) -> bool {
        let named = |settings: &HttpSettings| settings.origins.tls.server_name.is_some();
        let single = self.ports.range(ports.clone());
        let all_single = self.ports.range(ports.clone()).count() == ports.len();
        (all_single || named(&self.settings)) && single.into_iter().all(|(_, p)| named(&p.settings))
    }

    /// Gives single ports their own settings: a port of a range becomes a rule
    /// before it.
    pub(crate) fn single_out(&self, rules: &mut Vec<ProxyRule>) {
        for (port, own) in &self.ports {
            let Some(at) = rules.iter().position(|rule| rule.ports.contains(port)) else {
                continue;
            };
            let Some(rule) = rules.get_mut(at) else { continue };
            let Some(target) = with_settings(&rule.target, &own.settings) else { continue };
            if rule.ports.len() == 1 {
                rule.target = target;
            } else {
                rules.insert(at, ProxyRule { ports: *port..=*port, target });
            }
        }
    }

    /// Reports what is said of HTTP and applies to no rule. With `complete`, all
    /// rules of the file are among `rules`.
    pub(crate) fn unused(&self, rules: &ProxyRules, complete: bool, report: &mut ConfigReport) {
        let targets = rules.0.iter().map(|rule| &rule.target).filter(|target| is_http(target));
        let targets: Vec<&ProxyTarget> = targets.collect();
        for (port, own) in &self.ports {
            match rules.target(*port) {
                target if is_http(target) => {
                    warn_of_origins(&own.item, &own.settings, &[target], report);
                    headers::check_scheme(&own.item, &own.settings.headers, target, report);
                }
                _ if complete => {
                    let text = format!(
                        "no rule of `proxy_ports` leads port {port} to an http or file target"
                    );
                    own.item.wrong(text, report);
                }
                _ => {}
            }
        }
        let Some(item) = &self.item else { return };
        // Single ports have been looked at.
        let shared = rules
            .0
            .iter()
            .filter(|rule| rule.ports.len() > 1 || !self.ports.contains_key(rule.ports.start()));
        for rule in shared {
            headers::check_scheme(item, &self.settings.headers, &rule.target, report);
        }
        if !complete {
            return;
        }
        if targets.is_empty() {
            let text = "it applies to nothing: no rule of `proxy_ports` has an http or file target";
            report.warn(item.place(), &item.path, text);
        } else {
            warn_of_origins(item, &self.settings, &targets, report);
        }
    }
}

/// Warns of keys about origins where there are none, and of TLS where none
/// speaks it.
fn warn_of_origins(
    item: &TableItem<'_>,
    settings: &HttpSettings,
    targets: &[&ProxyTarget],
    report: &mut ConfigReport,
) {
    let origins = || {
        targets.iter().filter_map(|target| match target {
            ProxyTarget::Http(target) => Some(&target.origins),
            _ => None,
        })
    };
    let no_tls = !origins().flatten().any(|origin| origin.tls)
        && settings.origins.tls != TlsSettings::default();
    for (key, item) in item.entries(report).into_iter().flatten() {
        let text = if origins().next().is_none() && origins::KEYS.contains(&key) {
            "it does nothing here: files are answered without an origin"
        } else if key == "tls" && no_tls {
            "it does nothing here: no origin is an https:// one"
        } else {
            continue;
        };
        report.warn(item.place(), &item.path, text);
    }
}

fn is_http(target: &ProxyTarget) -> bool {
    target.settings().is_some()
}

fn with_settings(target: &ProxyTarget, settings: &Arc<HttpSettings>) -> Option<ProxyTarget> {
    let mut target = target.clone();
    match &mut target {
        ProxyTarget::Http(target) => target.settings = Arc::clone(settings),
        ProxyTarget::Files(target) => target.settings = Arc::clone(settings),
        ProxyTarget::Redirect(target) => target.settings = Arc::clone(settings),
        _ => return None,
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Environment, ServiceConfig};
    use onionbraid_proxy::rules::ProxyTarget;
    use onionbraid_proxy::settings::HttpSettings;

    fn service(ports: &str, http: &str) -> ServiceConfig {
        let text = format!(
            "[onion_services.shop]\nproxy_ports = {ports}\n[onion_services.shop.http]\n{http}\n"
        );
        let env = Environment::new([("HOME", "/home/user")]);
        let mut config = Config::from_text(&text, &env).unwrap_or_else(|e| panic!("{e}"));
        config.services.remove(0)
    }

    fn settings(service: &ServiceConfig, port: u16) -> &HttpSettings {
        match service.proxy_ports.target(port) {
            ProxyTarget::Http(target) => &target.settings,
            ProxyTarget::Files(target) => &target.settings,
            other => panic!("port {port}: {other}"),
        }
    }

    #[test]
    fn one_port_of_a_range_has_its_own_settings_over_those_of_the_service() {
        let service = service(
            "[[\"22\", \"127.0.0.1:22\"], [\"80-90\", \"http://127.0.0.1:1\"]]",
            "retries = 3\nmax_body_size = 10\nports.\"85\" = { max_body_size = false }",
        );
        for port in [80, 84, 86, 90] {
            let settings = settings(&service, port);
            assert_eq!((settings.origins.retries, settings.guard.max_body_bytes), (3, Some(10)));
        }
        let own = settings(&service, 85);
        assert_eq!((own.origins.retries, own.guard.max_body_bytes), (3, None));
    }

    #[test]
    fn a_range_of_which_every_port_is_special_leaves_no_rule_that_nobody_reaches() {
        let service = service(
            "[[\"80-81\", \"http://127.0.0.1:1\"]]",
            "ports.\"80\" = { retries = 2 }\nports.\"81\" = { retries = 4 }",
        );
        assert_eq!(service.proxy_ports.0.len(), 2);
        assert_eq!(settings(&service, 81).origins.retries, 4);
    }

    #[test]
    fn what_one_port_says_replaces_the_whole_value() {
        let service = service(
            "[[80, \"https://127.0.0.1\"], [81, \"https://127.0.0.1\"]]",
            "tls = { server_name = \"a.example\" }\nports.\"81\" = { tls = {} }",
        );
        assert_eq!(settings(&service, 80).origins.tls.server_name.as_deref(), Some("a.example"));
        assert_eq!(settings(&service, 81).origins.tls.server_name, None);
    }

    #[test]
    fn a_socket_with_tls_needs_the_name_in_its_certificate_on_each_of_its_ports() {
        let text = |http: &str| {
            format!(
                "[onion_services.a]\nproxy_ports = [[\"80-81\", \"https+unix:/x\"]]\n\
                 [onion_services.a.http]\n{http}\n"
            )
        };
        let env = Environment::new([("HOME", "/home/user")]);
        let good = |http: &str| Config::from_text(&text(http), &env).is_ok();
        let name = "tls = { server_name = \"a.example\" }";
        assert!(good(name));
        assert!(good(&format!("ports = {{ \"80\" = {{ {name} }}, \"81\" = {{ {name} }} }}")));
        assert!(!good(&format!("ports = {{ \"80\" = {{ {name} }} }}")));
        assert!(!good(&format!("{name}\nports = {{ \"81\" = {{ tls = {{}} }} }}")));
    }
}
