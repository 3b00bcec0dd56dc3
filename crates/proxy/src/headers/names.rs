//! How a URI of an origin changes on its way to a visitor. Pure.
//!
//! The scheme and the port of a URI change with its name, to those by which the
//! visitor has come. Parts of a URI behind its host stay.
//!
//! After the operator's names ([`pairs`]) come the origin's own address, and the
//! visitor's own name with the port of the origin: both stand for the site that the
//! visitor has asked for.

use super::own::OwnNames;
use super::pairs::{self, NameChange};
use super::site::{Parts, Sites, is_secure, usual_port};
use crate::host::{self, Host};
use crate::settings::HeaderSettings;
use crate::visitor::Visitor;

/// The names of a site, as a visitor knows it.
pub(super) struct Names<'a> {
    settings: &'a HeaderSettings,
    visitor: &'a Visitor,
    own: &'a OwnNames,
    sites: &'a Sites,
}

impl<'a> Names<'a> {
    pub(super) fn new(
        settings: &'a HeaderSettings,
        visitor: &'a Visitor,
        own: &'a OwnNames,
        sites: &'a Sites,
    ) -> Self {
        Self { settings, visitor, own, sites }
    }

    /// Whether the origin may believe to be reached by HTTPS, and visitors must
    /// not.
    pub(super) fn hide_https(&self) -> bool {
        !self.by_https() && (!self.settings.names.is_empty() || self.settings.scheme() == "https")
    }

    /// Whether the visitor has come by HTTPS.
    pub(super) fn by_https(&self) -> bool {
        self.visitor.tls
    }

    /// The name that stands for another towards the visitor, at any port.
    pub(super) fn partner(&self, name: &str) -> Option<String> {
        self.change(name).map(|change| format!("{}{}", change.labels, change.name))
    }

    /// The same for what may be the origin's own name without its port: the domain of
    /// a cookie, or a source at any port.
    pub(super) fn domain(&self, name: &str) -> Option<String> {
        let own = || {
            let own = self.settings.map_own_address
                && (self.own.has_name(name) || self.is_told(name))
                && !name.eq_ignore_ascii_case(&self.sites.asked.name);
            own.then(|| self.sites.asked.name.clone())
        };
        self.partner(name).or_else(own)
    }

    /// A URI, or a reference that begins with a host (`//host/path`), with its
    /// name, scheme and port changed; `None` where nothing is to be changed.
    pub(super) fn uri(&self, uri: &str) -> Option<String> {
        // Browsers leave these out wherever they stand.
        if uri.contains('\t') {
            return self.uri(&uri.replace('\t', ""));
        }
        let Some(parts) = Parts::as_browsers(uri) else {
            // Some policies name origins by patterns.
            return self.source(uri).filter(|_| uri.contains("://"));
        };
        let scheme = match parts.scheme {
            Some(scheme) => Some(self.scheme(scheme)?),
            None => None,
        };
        let host = self.host(parts.scheme, &parts.host)?;
        parts.with(scheme.unwrap_or_default(), &host)
    }

    /// A source in a list of them, as `Content-Security-Policy` writes it: like
    /// a URI, but perhaps without a scheme, for any subdomain (`*.`) or any
    /// port (`:*`).
    pub(super) fn source(&self, source: &str) -> Option<String> {
        let (scheme, rest) = match source.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, source),
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (any, host) = match host.strip_prefix("*.") {
            Some(host) => ("*.", host),
            None => ("", host),
        };
        let host = match host.strip_suffix(":*") {
            Some(name) => format!("{}:*", self.domain(Host::parse(name)?.name)?),
            None => self.host(scheme, &Host::parse(host)?)?,
        };
        let scheme = match scheme {
            Some(scheme) => format!("{}://", self.scheme(scheme)?),
            None => String::new(),
        };
        Some(format!("{scheme}{any}{host}{path}"))
    }

    /// A host behind this scheme, and the port that goes with it now.
    fn host(&self, scheme: Option<&str>, host: &Host<'_>) -> Option<String> {
        match self.change(host.name) {
            Some(NameChange { labels, name, .. }) => Some(self.at_port(labels, name)),
            None if self.is_downgrade(scheme, host) => Some(self.at_port("", host.name)),
            None => self.own(scheme.is_some_and(is_secure), host),
        }
    }

    /// Whether a host is the visitor's by plain HTTP, where the visitor has come by
    /// HTTPS: origins behind plain HTTP write so that believe what they see.
    fn is_downgrade(&self, scheme: Option<&str>, host: &Host<'_>) -> bool {
        self.visitor.tls
            && self.settings.map_own_address
            && scheme.is_some_and(|scheme| !is_secure(scheme))
            && matches!(host.port, None | Some(80))
            && host::below(host.name, &self.visitor.onion).is_some()
    }

    /// A name towards the visitor, at the port by which it has come to ours.
    fn at_port(&self, labels: &str, name: &str) -> String {
        let ours = host::below(name, &self.visitor.onion).is_some();
        match Some(self.visitor.port)
            .filter(|port| ours && *port != usual_port(self.visitor.scheme()))
        {
            Some(port) => format!("{labels}{name}:{port}"),
            None => format!("{labels}{name}"),
        }
    }

    /// What a host becomes by which the origin means itself.
    fn own(&self, secure: bool, host: &Host<'_>) -> Option<String> {
        if !self.settings.map_own_address {
            return None;
        }
        // The visitor's name, with the port or the scheme of the origin.
        let at_own_port = self.own.listens_at(secure, host.port);
        let asks = host.name.eq_ignore_ascii_case(&self.sites.asked.name);
        if at_own_port && !asks && host::below(host.name, &self.visitor.onion).is_some() {
            return Some(self.at_port("", host.name));
        }
        let told = self.is_told(host.name)
            && (at_own_port
                || matches!(host.port, None | Some(80 | 443))
                || host.port == Some(self.sites.told.port()));
        ((asks && at_own_port) || told || self.own.is(host)).then(|| self.asked())
    }

    /// Whether a list of other ways to the origin (RFC 7838, section 3) names its
    /// own address.
    pub(super) fn leads_to_own(&self, alternatives: &str) -> bool {
        let host = |authority: &str| {
            Host::parse(authority).is_some_and(|host| self.own.has_name(host.name))
        };
        self.settings.map_own_address && alternatives.split(['"', '=', ';', ',']).any(host)
    }

    /// Whether a name is the one that the origin is told, and not the visitor's.
    fn is_told(&self, name: &str) -> bool {
        self.sites.told.name != self.sites.asked.name
            && name.eq_ignore_ascii_case(&self.sites.told.name)
    }

    /// The site that the visitor has asked for.
    fn asked(&self) -> String {
        let asked = &self.sites.asked;
        match host::below(&asked.name, &self.visitor.onion) {
            // A client that names no port has come to this one all the same.
            Some(_) if asked.port() == usual_port(asked.scheme) => self.at_port("", &asked.name),
            _ => asked.host().into_owned(),
        }
    }

    /// The visitor's scheme in place of another; `None` for those that name no host
    /// of ours.
    fn scheme(&self, scheme: &str) -> Option<&'static str> {
        match (scheme.to_ascii_lowercase().as_str(), self.visitor.tls) {
            ("http" | "https", false) => Some("http"),
            ("http" | "https", true) => Some("https"),
            ("ws" | "wss", false) => Some("ws"),
            ("ws" | "wss", true) => Some("wss"),
            _ => None,
        }
    }

    fn change<'n>(&'n self, name: &'n str) -> Option<NameChange<'n>> {
        pairs::change(self.settings, self.visitor, name, true)
    }
}
