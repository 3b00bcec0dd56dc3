//! What may surprise an operator about the certificates of ports? Reads the
//! certificates, which are public, and no keys.

use std::time::SystemTime;

use crate::config::ServiceConfig;
use crate::observe::certificates::validity;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_proxy::rules::{PortRange, ProxyRule};
use onionbraid_proxy::tls::certificate::Certificate;

/// Of one service: what keeps clients out, and what there is to think about.
#[derive(Default)]
pub(super) struct CertificateFindings {
    pub(super) warnings: Vec<String>,
    pub(super) hints: Vec<String>,
}

/// Looks at all certificates of a service, whose address this is.
pub(super) fn on(
    service: &ServiceConfig,
    address: Option<OnionAddress>,
    now: SystemTime,
) -> CertificateFindings {
    let mut said = CertificateFindings::default();
    for rule in service.proxy_ports.0.iter().filter(|_| service.enabled) {
        of_port(rule, service, address, now, &mut said);
    }
    said
}

fn of_port(
    rule: &ProxyRule,
    service: &ServiceConfig,
    address: Option<OnionAddress>,
    now: SystemTime,
    said: &mut CertificateFindings,
) {
    // Those that cannot be read are errors, which others tell.
    let files = rule.target.tls().iter();
    let certificates: Vec<Certificate> =
        files.filter_map(|files| Certificate::of_file(&files.certificate).ok()).collect();
    if certificates.is_empty() {
        return;
    }
    let whose = format!("service \"{}\":", service.nickname);
    let port = PortRange(&rule.ports);
    let end = |it: &Certificate| validity(it.not_before, it.not_after, now);
    for what in certificates.iter().filter_map(end) {
        said.warnings.push(format!("{whose} the certificate of port {port} {what}"));
    }
    let named = |address: &OnionAddress| {
        certificates.iter().any(|certificate| certificate.is_for(&address.to_string()))
    };
    if address.iter().chain(&service.frontends).any(|address| !named(address)) {
        said.warnings.push(format!(
            "{whose} no certificate of port {port} is for an address by which clients come, its \
             own or one of its `frontends`: they refuse it"
        ));
    }
    if let Some(probe) = &service.probe
        && probe.path.is_some()
        && rule.ports.contains(&probe.port)
    {
        said.warnings.push(format!(
            "{whose} probes with a `path` speak plain HTTP, and port {port} speaks TLS: every \
             backend would fail them; probe another port, or without a path"
        ));
    }
    said.hints.push(match certificates.iter().any(|certificate| certificate.self_signed) {
        true => format!(
            "{whose} nobody vouches for the certificate of port {port}: browsers warn of it \
             (docs/https.md)"
        ),
        false => format!(
            "{whose} an authority vouches for the certificate of port {port}; a public one \
             publishes the address in logs that everybody can search (docs/https.md)"
        ),
    });
}
