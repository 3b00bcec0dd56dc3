//! The site that a request is for: as the client asked for it, and as the origin
//! believes to be reached. Pure.
//!
//! `Host`, `X-Forwarded-*`, `Forwarded`, `Origin` and `Referer` of a request that
//! reaches an origin all speak of the one [`Site`] that the origin is told of.
//! Frameworks compare any of them with any other to tell a request of their own
//! pages from one that another site has a browser make (CSRF): some by scheme,
//! host and port, some by host alone. So what the client has asked for becomes
//! that site wherever it stands, and nothing else ever does: what only claims to
//! come from there is foreign.

use std::borrow::Cow;

use super::pairs;
use crate::host::{self, Host};
use crate::settings::{HeaderSettings, HostHeader};
use crate::visitor::Visitor;

/// Replaces an `Origin` that must not pass for the site that the origin is told
/// of. The name cannot be registered (RFC 6761, section 6.4). `null` would not do:
/// some frameworks treat it as a missing `Origin`.
pub(super) const FOREIGN: &str = "https://foreign.invalid";

/// An origin in the sense of RFC 6454: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// A name without the dot at its end, or an address; IPv6 in brackets.
    pub(super) name: String,
    /// The port where it is not that of the scheme.
    port: Option<u16>,
}

/// The site of a request from both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sites {
    /// As the client sees it: by HTTPS where the port speaks TLS, else by plain HTTP,
    /// which the onion address makes as good.
    pub(super) asked: Site,
    /// As the origin is told of it.
    pub(super) told: Site,
}

/// What becomes of a URI in a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Translated {
    /// It stays.
    Same,
    /// It is this one now.
    To(String),
    /// It would pass for the site of the request, and is not.
    Foreign,
}

impl Site {
    fn new(scheme: &'static str, name: &str, port: Option<u16>) -> Self {
        let port = port.filter(|port| *port != usual_port(scheme));
        Self { scheme, name: name.to_owned(), port }
    }

    /// Its port, also if that goes without saying.
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or_else(|| usual_port(self.scheme))
    }

    /// As `Host` names it.
    pub(super) fn host(&self) -> Cow<'_, str> {
        match self.port {
            Some(port) => Cow::Owned(format!("{}:{port}", self.name)),
            None => Cow::Borrowed(&self.name),
        }
    }

    /// Whether a URI with this scheme and host belongs to this site.
    fn is(&self, scheme: &str, host: &Host<'_>) -> bool {
        let port = host.port.unwrap_or_else(|| usual_port(scheme));
        self.scheme.eq_ignore_ascii_case(scheme)
            && self.name.eq_ignore_ascii_case(host.name)
            && self.port() == port
    }

    /// Whether a comparison that ignores the scheme, or its default port, takes a
    /// URI with this scheme and host for one of this site.
    fn resembles(&self, scheme: &str, host: &Host<'_>) -> bool {
        let port = host.port.unwrap_or_else(|| usual_port(scheme));
        let unusual = Some(port).filter(|port| *port != usual_port(scheme));
        self.name.eq_ignore_ascii_case(host.name) && (port == self.port() || unusual == self.port)
    }
}

impl Sites {
    /// Of a request for this host; for none, it is the one that the client has
    /// connected to.
    pub fn new(settings: &HeaderSettings, visitor: &Visitor, asked: Option<Host<'_>>) -> Self {
        let asked = match asked {
            Some(host) => Site::new(visitor.scheme(), host.name, host.port),
            None => Site::new(visitor.scheme(), &visitor.onion, Some(visitor.port)),
        };
        let told = match &settings.host {
            HostHeader::Pass => None,
            HostHeader::Fixed(host) => {
                Host::parse(host).map(|host| Site::new(settings.scheme(), host.name, host.port))
            }
            HostHeader::Mapped => pairs::public(settings, visitor, &asked.name)
                .map(|name| Site::new(settings.scheme(), &name, None)),
        };
        let told = told.unwrap_or_else(|| Site::new(settings.scheme(), &asked.name, asked.port));
        Self { asked, told }
    }

    /// Translates a URI that a client wrote to the one that the origin is to read.
    pub(super) fn translate(
        &self,
        settings: &HeaderSettings,
        visitor: &Visitor,
        uri: &str,
    ) -> Translated {
        let Some(parts) = Parts::of(uri) else { return Translated::Same };
        // A reference without a scheme has that of the page.
        let scheme = parts.scheme.unwrap_or(visitor.scheme());
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Translated::Same;
        }
        if self.asked.is(scheme, &parts.host) {
            let uri = parts.with(self.told.scheme, &self.told.host());
            return if uri.as_deref() == Some(parts.whole) {
                Translated::Same
            } else {
                uri.map_or(Translated::Same, Translated::To)
            };
        }
        if self.asked == self.told {
            return Translated::Same;
        }
        let others = self.other(settings, visitor, scheme, &parts.host);
        let (scheme, host) = match &others {
            Some((scheme, host)) => (*scheme, host.as_str()),
            None => (scheme, parts.authority),
        };
        let claims = others.is_none()
            && settings.host != HostHeader::Pass
            && settings
                .names
                .iter()
                .any(|pair| host::below(parts.host.name, &pair.public).is_some());
        let passes = Host::parse(host).is_some_and(|host| self.told.resembles(scheme, &host));
        if passes || claims {
            return Translated::Foreign;
        }
        let other = others.and_then(|(scheme, host)| parts.with(scheme, &host));
        other.map_or(Translated::Same, Translated::To)
    }

    /// The scheme and host by which the origin knows a site of ours that is not
    /// the one of the request. An onion name stands for a public one only at the
    /// port that the client has asked for: other ports may be other sites.
    fn other(
        &self,
        settings: &HeaderSettings,
        visitor: &Visitor,
        scheme: &str,
        host: &Host<'_>,
    ) -> Option<(&'static str, String)> {
        if !scheme.eq_ignore_ascii_case(visitor.scheme()) {
            return None;
        }
        let public = match settings.host {
            HostHeader::Pass => None,
            _ if host.port.unwrap_or_else(|| usual_port(scheme)) != self.asked.port() => None,
            _ => pairs::public(settings, visitor, host.name),
        };
        if let Some(name) = public {
            return Some((settings.scheme(), name));
        }
        let ours = host::below(host.name, &visitor.onion).is_some();
        (ours && settings.scheme() != visitor.scheme()).then(|| {
            let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
            (settings.scheme(), format!("{}{port}", host.name))
        })
    }
}

/// A URI that names a host, or a reference that begins with one (`//host/path`).
pub(super) struct Parts<'a> {
    /// All of it.
    whole: &'a str,
    /// Without its colon.
    pub(super) scheme: Option<&'a str>,
    /// The host as it is written, and the user before it, with its `@`.
    authority: &'a str,
    user: &'a str,
    /// The host as it is meant.
    pub(super) host: Host<'a>,
    /// What follows.
    path: &'a str,
}

impl<'a> Parts<'a> {
    /// Reads a URI; `None` if it names no host.
    pub(super) fn of(uri: &'a str) -> Option<Self> {
        let (before, rest) = uri.split_once("//")?;
        let scheme = match before {
            "" => None,
            scheme => Some(scheme.strip_suffix(':')?),
        };
        Self::behind(uri, scheme, rest)
    }

    /// Reads one of `http` or `ws`, or a reference, as browsers do: behind the scheme they
    /// want no slashes and take any number of them, a reference needs two to begin with a
    /// host, and a backslash is a slash (URL Standard, section 4.4).
    pub(super) fn as_browsers(uri: &'a str) -> Option<Self> {
        let uri = uri.trim_start_matches(|c: char| c <= ' ');
        let behind = |scheme: &&str| {
            let (before, rest) = uri.split_at_checked(scheme.len())?;
            before.eq_ignore_ascii_case(scheme).then(|| rest.strip_prefix(':'))?
        };
        let found = SPECIAL.iter().find_map(|scheme| behind(scheme).map(|rest| (scheme, rest)));
        let (scheme, rest) = match found {
            Some((scheme, rest)) => (Some(*scheme), rest),
            None => (None, uri),
        };
        let behind_slashes = rest.trim_start_matches(['/', '\\']);
        if scheme.is_none() && rest.len() - behind_slashes.len() < 2 {
            return None;
        }
        Self::behind(uri, scheme, behind_slashes)
    }

    /// What begins with a host.
    fn behind(uri: &'a str, scheme: Option<&'a str>, rest: &'a str) -> Option<Self> {
        // Browsers take a backslash for a slash.
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, authority) = match authority.rfind('@') {
            Some(at) => authority.split_at(at + 1),
            None => ("", authority),
        };
        let host = Host::parse(authority)?;
        Some(Self { whole: uri, scheme, authority, user, host, path })
    }

    /// The same path elsewhere.
    pub(super) fn with(&self, scheme: &str, host: &str) -> Option<String> {
        let Self { user, path, .. } = self;
        Some(match self.scheme {
            Some(_) => format!("{scheme}://{user}{host}{path}"),
            None => format!("//{user}{host}{path}"),
        })
    }
}

/// The schemes of URIs that name hosts of ours.
const SPECIAL: [&str; 4] = ["http", "https", "ws", "wss"];

pub(super) fn usual_port(scheme: &str) -> u16 {
    if is_secure(scheme) { 443 } else { 80 }
}

/// Whether a scheme has port 443 where no other is named.
pub(super) fn is_secure(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss")
}
