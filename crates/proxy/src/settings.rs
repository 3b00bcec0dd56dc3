//! How requests are led to origins: what `[onion_services."NICK".http]` says,
//! as types. Pure values; `config` makes them, the rest of the proxy obeys.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that can be said of the HTTP reverse proxy of one virtual port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSettings {
    /// How origins are reached and watched.
    pub origins: OriginSettings,
    /// What is changed in the heads of requests and responses.
    pub headers: HeaderSettings,
    /// What is refused.
    pub guard: GuardSettings,
    /// What one client circuit may do.
    pub circuit: CircuitSettings,
    /// The operator's own pages, shown for these answers of ours (400 to 599).
    /// The files are read at the start and at every reload; each at most 256 KiB.
    pub error_pages: Vec<ErrorPage>,
    /// In whose words the others of these answers are.
    pub error_style: ErrorStyle,
    /// Whether clients are answered that speak HTTP/2 without TLS, by prior knowledge.
    pub http2_without_tls: bool,
    /// Whether every request leaves a line in the log.
    pub access_log: bool,
}

/// How origins are reached and watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSettings {
    /// Which of several live origins gets the next request.
    pub balance: Balance,
    /// What is spoken to them.
    pub protocol: OriginProtocol,
    /// Which line begins every connection to them. With one, a connection
    /// serves one client circuit alone.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How long connecting, and the TLS handshake, may take together, 100 ms to 1 min.
    pub connect_timeout: Duration,
    /// How long an origin may take from the end of the request to the head of
    /// its response, 1 s to 1 h.
    pub response_timeout: Duration,
    /// How long a body may make no progress, in either direction, and how long a
    /// request may go on that is answered or abandoned. Upgraded
    /// connections and event streams may be silent for longer: see
    /// `upgrade_timeout`. 1 s to 1 h.
    pub idle_timeout: Duration,
    /// How long an upgraded connection, or a response of the type
    /// `text/event-stream`, may be silent, 1 s to 1 day.
    pub upgrade_timeout: Duration,
    /// How long a request may take as a whole, 1 s to 1 day; `None`: as long as it
    /// makes progress.
    pub total_timeout: Option<Duration>,
    /// Bytes a second that a client has to take, or send, while others wait for
    /// the connection that its request holds, 1 to 1 MiB; `None`: it may be as
    /// slow as it likes.
    pub min_rate: Option<u64>,
    /// What of an answer is kept for a client that reads slowly; `None`: the origin
    /// waits for the client.
    pub buffer_response: Option<BufferSettings>,
    /// Connections to one origin at a time, 1 to 65535; requests beyond wait,
    /// and those of one circuit beyond its share of them. With HTTP/2, streams:
    /// beyond those no connection is added.
    pub max_connections: usize,
    /// How long an idle connection is kept for the next request, up to 1 h; with
    /// 0 none is kept.
    pub keep_alive: Duration,
    /// How often a request that may be repeated is tried again, at another
    /// origin or on a fresh connection, before anything was answered. 0 to 10.
    pub retries: u8,
    /// Watching by asking; `None`: only requests tell how an origin is.
    pub health_check: Option<HealthCheck>,
    /// So many failures in a row (1 to 1000) take an origin out of use ...
    pub fail_after: u32,
    /// ... for this long, 1 s to 1 h.
    pub fail_for: Duration,
    /// How `https://` origins prove who they are.
    pub tls: TlsSettings,
}

/// Which of several live origins gets the next request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastConnections,
    /// The first in the list that is live: the others are its reserve.
    First,
}

/// Requests of one circuit that may be under way at an HTTP/2 origin. The origin
/// says how many there may be on a connection: it should be no fewer than 100 (RFC
/// 9113, section 6.5.2), and is 100 to 250 with the usual servers.
pub const STREAMS_OF_A_CIRCUIT: u16 = 64;

/// What is spoken to origins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by prior knowledge to `http://`, by ALPN to `https://` origins.
    Http2,
}

/// Watching an origin by asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What to `GET`; `None`: that it accepts a connection is enough.
    pub path: Option<String>,
    /// The status of a healthy answer, within 100 to 599.
    pub status: RangeInclusive<u16>,
    /// How long after a check the next one follows, 1 s to 1 h.
    pub interval: Duration,
    /// How long an answer may take, 100 ms to 1 min.
    pub timeout: Duration,
    /// So many good answers in a row bring an origin back, 1 to 100.
    pub rise: u32,
    /// So many bad ones take it out, 1 to 100.
    pub fall: u32,
}

/// What of one answer is kept, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSettings {
    /// In memory, 4 KiB to 1 MiB.
    pub memory: u64,
    /// Then in a temporary file, up to 256 MiB; 0: in none.
    pub file: u64,
}

/// How `https://` origins prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// A PEM file with the certificate authorities to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// The name in the certificate, sent as SNI; `None`: the host of the target.
    /// There always is one where an origin with TLS is a Unix socket.
    pub server_name: Option<String>,
    /// SHA-256 digests of the subject public key info of certificates to accept
    /// (RFC 7469, section 2.4). With any, the chain must also be valid, unless
    /// the certificate is self-signed and pinned itself.
    pub pins: Vec<[u8; 32]>,
    /// Accept any certificate: whoever is in between can read and change everything.
    pub accept_any_certificate: bool,
}

/// What is changed in the heads of requests and responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSettings {
    /// What the origin sees as `Host`.
    pub host: HostHeader,
    /// Whether `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Port`
    /// are set. A client's own are always taken out, `X-Forwarded-For` too.
    pub x_forwarded: bool,
    /// Whether `Forwarded` (RFC 7239) is set, with `_c` and the number of the
    /// client's circuit for the client; a client's own is always taken out.
    pub forwarded: bool,
    /// What an origin is told of the scheme; `None`: what it sees itself, `https`
    /// where it speaks TLS. Browsers treat onion addresses as
    /// secure, so some applications want `https`. The onion names then change
    /// their scheme on the way, as those in `names` do. Where neither
    /// `x_forwarded` nor `forwarded` tells it, this is the scheme of the origin
    /// itself, or its checks would fail.
    pub proto: Option<&'static str>,
    /// The request header that tells the origin the number of the client's circuit.
    pub circuit_id: Option<String>,
    /// Names that are one site: in the fields of responses in which browsers
    /// look for names the first becomes the second; in `Origin`, `Referer` and
    /// the like in requests the second becomes the first, unless `host` is
    /// `Pass`: then the origin knows itself by the second. Bodies are not looked
    /// at.
    pub names: Vec<NamePair>,
    /// Fields of requests and responses, besides the known ones, in which URLs
    /// are translated.
    pub url_fields: Vec<String>,
    /// Whether an origin's own address and port, where it writes URLs with them,
    /// become the site that the client has asked for.
    pub map_own_address: bool,
    /// What becomes of `Secure` in cookies.
    pub secure_cookies: SecureCookies,
    /// Response headers that are taken out.
    pub strip: Vec<String>,
    /// Request headers and trailers that are taken out besides those that only
    /// servers and proxies may send; a `*` at the end of a name stands for
    /// anything.
    pub strip_request: Vec<String>,
    /// Of the request headers and trailers that only servers and proxies may send,
    /// those that clients may send all the same. None that is in `strip_request`, or
    /// that this proxy sets.
    pub pass_request: Vec<String>,
    /// The protocols that a client may go on in after a `GET` without content,
    /// none of them another HTTP.
    pub upgrades: Vec<String>,
}

/// What becomes of the attribute `Secure` of cookies: visitors come by plain
/// HTTP, which only browsers that know onion addresses take for secure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecureCookies {
    /// It stays: Tor Browser accepts and returns such cookies.
    #[default]
    Keep,
    /// It is taken out, with what a cookie cannot have without it. Cookies whose
    /// names demand it (`__Secure-`, `__Host-`) stay as they are.
    Drop,
}

/// What the origin sees as `Host`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// What the client sent.
    #[default]
    Pass,
    /// Always this host, which may have a port.
    Fixed(String),
    /// The public name that belongs to the onion name of the client, by `names`;
    /// without one, what the client sent.
    Mapped,
}

/// A public name and the onion name that stands for it. Subdomains go with
/// their domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePair {
    /// What the origin calls itself, such as `example.com`.
    pub public: String,
    /// What clients call it, such as `….onion`; `None`: the service's own
    /// address, which whoever has its key fills in.
    pub onion: Option<String>,
}

/// What is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// Refuse what came through a Tor2web gateway: it reads along.
    pub block_tor2web: bool,
    /// The only hosts that may be asked for, with their subdomains; others are
    /// answered 421. `None`: any, as with C tor.
    pub allowed_hosts: Option<Vec<AllowedHost>>,
    /// Refused requests; the first rule that matches decides.
    pub block: Vec<BlockRule>,
    /// The most header fields of a request or response, 1 to 1000.
    pub max_headers: usize,
    /// The longest head of a request or response, in bytes, 1 KiB to 1 MiB.
    pub max_head_bytes: usize,
    /// The longest body of a request, in bytes; `None`: no limit.
    pub max_body_bytes: Option<u64>,
    /// How long a client may take to send the head of a request, 1 s to 10 min.
    pub head_timeout: Duration,
    /// How long a client may take after an answer to begin the next request on its
    /// connection, 1 s to 10 min.
    pub client_keep_alive: Duration,
}

/// A host that may be asked for, with its subdomains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// The service's own address.
    Own,
    /// This name or address.
    Named(String),
}

/// Requests that are refused: everything that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockRule {
    /// A host name, with its subdomains.
    pub host: Option<String>,
    /// How the path begins, by whole segments, without a query, in any case.
    pub path: Option<String>,
    /// Methods, in capitals; they are refused in any case.
    pub methods: Vec<String>,
    /// A part of `User-Agent`, in any case.
    pub user_agent: Option<String>,
    /// The status of the answer, 400 to 499.
    pub status: u16,
}

/// What one client circuit may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitSettings {
    /// Requests per second and at once; `None`: no limit.
    pub request_rate: Option<RequestRate>,
    /// Requests under way at a time, our own answers among them; `None`: no
    /// limit but that of the process.
    pub max_requests: Option<u32>,
    /// Whether a circuit that goes beyond a limit is closed, not only answered 429.
    pub close_abusers: bool,
}

/// A token bucket for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRate {
    /// Requests a second in the long run, at least 1.
    pub rate: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

/// In whose words our own answers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorStyle {
    /// A heading and a sentence.
    #[default]
    Plain,
    /// The pages and fields of nginx, without its version and `Date`.
    Nginx,
}

/// A page of the operator's for an answer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    /// For which answers.
    pub status: RangeInclusive<u16>,
    /// The HTML file.
    pub file: PathBuf,
}

/// Which line begins a connection to an origin, so that it learns the circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// The text of version 1, as C tor writes it for `HiddenServiceExportCircuitID`.
    V1,
    /// The binary header of version 2, with the same addresses.
    V2,
}

impl Default for OriginSettings {
    fn default() -> Self {
        Self {
            balance: Balance::default(),
            protocol: OriginProtocol::default(),
            proxy_protocol: None,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            upgrade_timeout: Duration::from_secs(60 * 60),
            total_timeout: None,
            min_rate: Some(1024),
            buffer_response: None,
            max_connections: 1024,
            keep_alive: Duration::from_secs(30),
            retries: 1,
            health_check: None,
            fail_after: 3,
            fail_for: Duration::from_secs(10),
            tls: TlsSettings::default(),
        }
    }
}

impl Default for BufferSettings {
    fn default() -> Self {
        Self { memory: 64 * 1024, file: 16 * 1024 * 1024 }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: None,
            status: 200..=399,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            rise: 2,
            fall: 3,
        }
    }
}

impl HeaderSettings {
    /// The scheme that origins are told: `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        self.proto.unwrap_or("http")
    }
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self { request_rate: None, max_requests: Some(128), close_abusers: false }
    }
}

impl Default for HeaderSettings {
    fn default() -> Self {
        Self {
            host: HostHeader::default(),
            x_forwarded: true,
            forwarded: false,
            proto: None,
            circuit_id: None,
            names: Vec::new(),
            url_fields: Vec::new(),
            map_own_address: true,
            secure_cookies: SecureCookies::default(),
            strip: Vec::new(),
            strip_request: Vec::new(),
            pass_request: Vec::new(),
            upgrades: vec!["websocket".to_owned()],
        }
    }
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            block_tor2web: false,
            allowed_hosts: None,
            block: Vec::new(),
            max_headers: 100,
            max_head_bytes: 64 * 1024,
            max_body_bytes: None,
            head_timeout: Duration::from_secs(60),
            // As nginx.
            client_keep_alive: Duration::from_secs(75),
        }
    }
}
