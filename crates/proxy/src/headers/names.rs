//! Which name stands for another, towards a visitor or towards the origin, and
//! how a URI changes with it. Pure.
//!
//! Only whole names match: `example.com` and what lies below it, but neither
//! `notexample.com` nor `example.com.evil`. Of several that match, the longest
//! decides. The scheme and the port of a URI change with its name: towards the
//! visitor to those by which it has come, towards the origin to those by which
//! the origin believes to be reached. Towards the origin an onion name stands
//! for the public one only at the port that the visitor has connected to: other
//! ports may be other sites, which `Origin` has to tell apart. Parts of a URI
//! behind its host stay.

use std::cmp::Reverse;

use crate::host::{self, Host};
use crate::settings::HeaderSettings;
use crate::visitor::Visitor;

/// The names of a site, seen from one side.
pub(super) struct Names<'a> {
    settings: &'a HeaderSettings,
    visitor: &'a Visitor,
    to_visitor: bool,
}

/// What a name becomes.
struct Change<'a> {
    /// The labels that stay in front.
    labels: &'a str,
    /// The name that it lies below now.
    name: &'a str,
    /// How specific the rule is that says so: the longest decides.
    length: usize,
    /// Whether it is the same name, under another scheme.
    same: bool,
}

impl<'a> Names<'a> {
    /// From public names to onion names.
    pub(super) fn for_visitor(settings: &'a HeaderSettings, visitor: &'a Visitor) -> Self {
        Self { settings, visitor, to_visitor: true }
    }

    /// From onion names to public names.
    pub(super) fn for_origin(settings: &'a HeaderSettings, visitor: &'a Visitor) -> Self {
        Self { settings, visitor, to_visitor: false }
    }

    /// Whether the origin may believe to be reached by HTTPS, and visitors must
    /// not.
    pub(super) fn hide_https(&self) -> bool {
        self.to_visitor && (!self.settings.names.is_empty() || self.settings.proto == "https")
    }

    /// The name that stands for another on the other side.
    pub(super) fn partner(&self, name: &str) -> Option<String> {
        self.change(name).map(|change| format!("{}{}", change.labels, change.name))
    }

    /// A URI, or a reference that begins with a host (`//host/path`), with its
    /// name, scheme and port changed; `None` where nothing is to be changed.
    pub(super) fn uri(&self, uri: &str) -> Option<String> {
        let (before, rest) = uri.split_once("//")?;
        let scheme = match before {
            "" => None,
            scheme => Some(scheme.strip_suffix(':')?),
        };
        // Browsers take a backslash for a slash.
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rfind('@') {
            Some(at) => authority.split_at(at + 1),
            None => ("", authority),
        };
        let host = self.host(scheme, host)?;
        let scheme = match scheme {
            Some(scheme) => format!("{}:", self.scheme(scheme)?),
            None => String::new(),
        };
        Some(format!("{scheme}//{user}{host}{path}"))
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
            Some(name) => format!("{}:*", self.partner(name)?),
            None => self.host(scheme, host)?,
        };
        let scheme = match scheme {
            Some(scheme) => format!("{}://", self.scheme(scheme)?),
            None => String::new(),
        };
        Some(format!("{scheme}{any}{host}{path}"))
    }

    /// A host behind this scheme and the port that goes with it now.
    fn host(&self, scheme: Option<&str>, host: &str) -> Option<String> {
        let host = Host::parse(host)?;
        let Change { labels, name, same, .. } = self.change(host.name)?;
        let ours = host::below(name, &self.visitor.onion).is_some();
        let usual = if scheme.is_some_and(is_secure) { 443 } else { 80 };
        let port = match self.to_visitor {
            true => Some(self.visitor.port).filter(|port| ours && *port != 80),
            false if same => host.port,
            false if host.port.unwrap_or(usual) == self.visitor.port => None,
            false => return None,
        };
        Some(match port {
            Some(port) => format!("{labels}{name}:{port}"),
            None => format!("{labels}{name}"),
        })
    }

    /// The scheme that takes the place of another; `None` for those that name
    /// no host of ours. Visitors come by plain HTTP: the onion address is what
    /// encrypts.
    fn scheme(&self, scheme: &str) -> Option<&'static str> {
        let secure = !self.to_visitor && self.settings.proto == "https";
        match (scheme.to_ascii_lowercase().as_str(), secure) {
            ("http" | "https", false) => Some("http"),
            ("http" | "https", true) => Some("https"),
            ("ws" | "wss", false) => Some("ws"),
            ("ws" | "wss", true) => Some("wss"),
            _ => None,
        }
    }

    /// What a name becomes; of rules of one length, the first with the address
    /// that the visitor has connected to.
    fn change<'n>(&'n self, name: &'n str) -> Option<Change<'n>> {
        let pairs = self.settings.names.iter().filter_map(|pair| {
            let onion = pair.onion.as_deref().unwrap_or(&self.visitor.onion);
            let (from, to) = match self.to_visitor {
                true => (pair.public.as_str(), onion),
                false => (onion, pair.public.as_str()),
            };
            let labels = host::below(name, from)?;
            Some(Change { labels, name: to, length: from.len(), same: false })
        });
        // An origin that is told another scheme than the visitor's writes it
        // before the visitor's own name too.
        let own = host::below(name, &self.visitor.onion)
            .filter(|_| self.settings.proto != "http")
            .map(|labels| {
                let name = self.visitor.onion.as_str();
                Change { labels, name, length: name.len(), same: true }
            });
        let ours = |change: &Change<'_>| host::below(change.name, &self.visitor.onion).is_some();
        pairs.chain(own).min_by_key(|change| (Reverse(change.length), change.same, !ours(change)))
    }
}

/// Whether a scheme has port 443 where no other is named.
fn is_secure(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss")
}
