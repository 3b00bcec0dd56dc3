//! Which target a virtual port leads to (`proxy_ports`). Pure.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use super::settings::{HttpSettings, ProxyProtocol};

/// The `proxy_ports` of one service, in the order of the file; the first rule
/// that covers a port decides.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ProxyRules(pub Vec<ProxyRule>);

/// One entry of `proxy_ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyRule {
    /// The virtual ports that clients connect to.
    pub ports: RangeInclusive<u16>,
    /// What happens to their streams.
    pub target: ProxyTarget,
}

/// What happens to a client's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyTarget {
    /// Forward the bytes to an origin.
    Forward(ForwardTarget),
    /// Forward requests to HTTP origins.
    Http(HttpTarget),
    /// Answer requests with files.
    Files(FilesTarget),
    /// Send clients to the same address by HTTPS.
    Redirect(RedirectTarget),
    /// Close the whole rendezvous circuit, as C tor does for an unknown port.
    Destroy,
    /// Refuse the stream.
    Reject,
    /// Leave the stream unanswered.
    Ignore,
    /// Answer with the welcome page that is built into the program. No file can
    /// say this: it is what runs where there is no configuration at all.
    Welcome,
}

/// Origins that take bytes of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardTarget {
    /// The origins, 1 to [`MAX_ORIGINS`], all different.
    pub origins: Vec<Origin>,
    /// Which line begins every connection to them.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Origins that speak HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// The origins, 1 to [`MAX_ORIGINS`], all different.
    pub origins: Vec<HttpOrigin>,
    /// How requests are led to them.
    pub settings: Arc<HttpSettings>,
    /// By which clients are spoken TLS with; none: they speak plain HTTP.
    pub tls: Vec<CertificateFiles>,
}

/// A directory whose files are answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesTarget {
    /// The directory.
    pub root: PathBuf,
    /// Which requests are answered, and how. What it says of origins does not apply.
    pub settings: Arc<HttpSettings>,
    /// By which clients are spoken TLS with; none: they speak plain HTTP.
    pub tls: Vec<CertificateFiles>,
}

/// The same host by HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTarget {
    /// The port to which clients are sent.
    pub port: u16,
    /// Which requests are answered, and how. What it says of origins and of fields
    /// does not apply.
    pub settings: Arc<HttpSettings>,
}

/// A certificate and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, then those of the authorities in between.
    pub certificate: PathBuf,
    /// The key, without a password.
    pub key: PathBuf,
}

/// The most certificates of one port.
pub const MAX_CERTIFICATES: usize = 16;

/// The port of `https://` where none is named.
pub const HTTPS: u16 = 443;

/// The most origins behind one rule.
pub const MAX_ORIGINS: usize = 32;

/// Where an origin listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
    /// A name that the system looks up for every connection, and a TCP port.
    Name(String, u16),
}

/// An origin that speaks HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOrigin {
    /// Where it listens.
    pub address: Origin,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl ProxyRules {
    /// The target of a virtual port; a port that no rule covers is `Destroy`.
    pub fn target(&self, port: u16) -> &ProxyTarget {
        self.0
            .iter()
            .find(|rule| rule.ports.contains(&port))
            .map_or(&ProxyTarget::Destroy, |rule| &rule.target)
    }
}

/// Ports as `proxy_ports` writes them: `80`, `8000-8010` or `*`.
#[derive(Clone, Copy, Debug)]
pub struct PortRange<'a>(pub &'a RangeInclusive<u16>);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// As a URL: `http://`, `https://`, `http+unix:` or `https+unix:`.
impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match &self.address {
            Origin::Unix(path) => write!(f, "{scheme}+unix:{}", path.display()),
            address => write!(f, "{scheme}://{address}"),
        }
    }
}

impl fmt::Display for PortRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self.0.start(), *self.0.end()) {
            (1, u16::MAX) => f.write_str("*"),
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for ProxyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}: {}", PortRange(&self.ports), self.target)
    }
}

impl ProxyTarget {
    /// Whether streams to it lead to an origin or to files.
    pub fn is_served(&self) -> bool {
        matches!(self, Self::Forward(_) | Self::Http(_) | Self::Files(_))
    }

    /// What requests to it are led by, where there are any.
    pub fn settings(&self) -> Option<&Arc<HttpSettings>> {
        match self {
            Self::Http(target) => Some(&target.settings),
            Self::Files(target) => Some(&target.settings),
            Self::Redirect(target) => Some(&target.settings),
            _ => None,
        }
    }

    /// The certificates with which its clients are spoken TLS with.
    pub fn tls(&self) -> &[CertificateFiles] {
        match self {
            Self::Http(target) => &target.tls,
            Self::Files(target) => &target.tls,
            _ => &[],
        }
    }

    /// The target as `proxy_ports` writes it, one word for each origin; none for
    /// the welcome page.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Forward(target) => target.origins.iter().map(ToString::to_string).collect(),
            Self::Http(target) => target.origins.iter().map(ToString::to_string).collect(),
            Self::Files(target) => vec![format!("file:{}", target.root.display())],
            Self::Redirect(RedirectTarget { port: HTTPS, .. }) => vec!["redirect".to_owned()],
            Self::Redirect(target) => vec![format!("redirect:{}", target.port)],
            Self::Destroy => vec!["destroy".to_owned()],
            Self::Reject => vec!["reject".to_owned()],
            Self::Ignore => vec!["ignore".to_owned()],
            Self::Welcome => Vec::new(),
        }
    }
}

/// For the operator: several origins have commas between them.
impl fmt::Display for ProxyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::Welcome {
            return f.write_str("the built-in welcome page");
        }
        f.write_str(&self.words().join(", "))?;
        match self {
            Self::Forward(ForwardTarget { proxy_protocol: Some(line), .. }) => {
                let version = match line {
                    ProxyProtocol::V1 => "1",
                    ProxyProtocol::V2 => "2",
                };
                write!(f, " (PROXY protocol, version {version})")
            }
            target if !target.tls().is_empty() => f.write_str(" (by HTTPS)"),
            _ => Ok(()),
        }
    }
}
