//! Which target a text in `proxy_ports` means: Arti's grammar, plus `http://`,
//! `https://` and `file:`, and names.
//!
//! Text in, value out: nothing is looked up or opened.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::names;
use onionbraid_proxy::rules::{HTTPS, HttpOrigin, Origin};

/// The longest path of a Unix socket, in bytes: `sun_path` of unix(7) has 108,
/// the last of which is a NUL.
pub(crate) const MAX_UNIX_PATH: usize = 107;

/// One target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A server for bytes of any kind.
    Raw(Origin),
    /// A server that speaks HTTP.
    Http(HttpOrigin),
    /// A directory, as it is written.
    Files(PathBuf),
    /// The same host by HTTPS, at this port.
    Redirect(u16),
    /// Close the client's circuit.
    Destroy,
    /// Refuse the stream.
    Reject,
    /// Leave the stream unanswered.
    Ignore,
}

impl Target {
    /// Where its server listens, and whether it speaks TLS.
    pub(crate) fn address(&self) -> Option<(&Origin, bool)> {
        match self {
            Self::Raw(origin) => Some((origin, false)),
            Self::Http(origin) => Some((&origin.address, origin.tls)),
            _ => None,
        }
    }

    /// Whether it is a raw, an HTTP or another target: only the same share a port.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Raw(_) => 0,
            Self::Http(_) => 1,
            _ => 2,
        }
    }
}

const WANTED: &str = "this must be an address such as \"127.0.0.1:8080\", \"unix:/path\", \
                      \"http://127.0.0.1:8080\", \"https://example.com\", \"http+unix:/path\", a \
                      directory \"file:/path\", or one of \"redirect\", \"destroy\", \"reject\", \
                      \"ignore\"";

/// Reads one target.
///
/// # Errors
///
/// What is wrong with it, and what would be right.
pub(crate) fn parse(text: &str) -> Result<Target, String> {
    match text {
        "destroy" => return Ok(Target::Destroy),
        "reject" => return Ok(Target::Reject),
        "ignore" => return Ok(Target::Ignore),
        "redirect" => return Ok(Target::Redirect(HTTPS)),
        _ => {}
    }
    if let Some(port) = text.strip_prefix("redirect:") {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port: &u16| digits && *port > 0);
        let wrong = "behind `redirect:` comes the port that speaks TLS: \"redirect:8443\"";
        return port.map(Target::Redirect).ok_or_else(|| wrong.to_owned());
    }
    for (tls, scheme) in [(false, "http"), (true, "https")] {
        let Some(rest) = text.strip_prefix(scheme) else { continue };
        let http = |address| Target::Http(HttpOrigin { address, tls });
        if let Some(path) = rest.strip_prefix("+unix:").or_else(|| rest.strip_prefix("://unix:")) {
            return unix(without_authority(path)).map(http);
        }
        if let Some(authority) = rest.strip_prefix("://") {
            return http_origin(authority, if tls { 443 } else { 80 }).map(http);
        }
    }
    if let Some(path) = text.strip_prefix("file:") {
        return directory(without_authority(path));
    }
    if let Some((scheme, rest)) = text.split_once(':')
        && scheme.bytes().any(|byte| byte.is_ascii_uppercase())
        && SCHEMES.contains(&scheme.to_ascii_lowercase().as_str())
    {
        let scheme = scheme.to_ascii_lowercase();
        return Err(format!("the scheme has only lower-case letters: \"{scheme}:{rest}\""));
    }
    if text.parse::<u16>().is_ok() {
        return Err(format!(
            "this is a port alone: \"http://127.0.0.1:{text}\" is a web server on this machine, \
             \"127.0.0.1:{text}\" a server of any kind"
        ));
    }
    let target = text.strip_prefix("simple:").unwrap_or(text);
    if let Some(path) = target.strip_prefix("unix:") {
        return unix(path).map(Target::Raw);
    }
    address(target.strip_prefix("inet:").unwrap_or(target)).map(Target::Raw)
}

/// What a target can begin with.
const SCHEMES: [&str; 8] =
    ["file", "http", "http+unix", "https", "https+unix", "inet", "simple", "unix"];

/// Both `http+unix:/path` and `http+unix:///path` are in use.
fn without_authority(path: &str) -> &str {
    path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

fn http_origin(authority: &str, default_port: u16) -> Result<Origin, String> {
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
        Ok(ip) => SocketAddr::new(ip, default_port).to_string(),
        Err(_) if authority.ends_with(']') || !authority.contains(':') => {
            format!("{authority}:{default_port}")
        }
        Err(_) => authority.to_owned(),
    };
    address(&with_port)
}

/// An IP address or a name, and a port.
fn address(text: &str) -> Result<Origin, String> {
    if let Some(address) = socket_addr(text)? {
        return Ok(Origin::Tcp(address));
    }
    let (name, port) = text.rsplit_once(':').ok_or(WANTED)?;
    let name = names::host(name).map_err(|_| WANTED)?;
    if names::is_onion(&name) {
        return Err(format!(
            "{name} is an onion address, which the system's resolver must not be asked for: list \
             it in `backends` if it is one of this service"
        ));
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(0) => Err(PORT_ZERO.to_owned()),
        Ok(port) if digits => Ok(Origin::Name(name, port)),
        _ => Err(WANTED.to_owned()),
    }
}

const PORT_ZERO: &str = "the port must be from 1 to 65535";

/// An IP address and port, if it is one; `localhost` is the one name that needs
/// no lookup.
///
/// # Errors
///
/// The port is 0.
pub(crate) fn socket_addr(text: &str) -> Result<Option<SocketAddr>, String> {
    let address = match text.strip_prefix("localhost:") {
        Some(port) => {
            port.parse().ok().map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
        }
        None => text.parse().ok(),
    };
    match address {
        Some(address) if address.port() == 0 => Err(PORT_ZERO.to_owned()),
        address => Ok(address),
    }
}

fn unix(path: &str) -> Result<Origin, String> {
    if path.is_empty() {
        return Err("the path of the socket is missing: \"unix:/path\"".to_owned());
    }
    if path.starts_with('@') {
        return Err(
            "this is an abstract socket, which any program on this machine can open in the \
                    server's place: have the server listen on a path, \"unix:/path\""
                .to_owned(),
        );
    }
    too_long(path)?;
    if path.contains('\0') {
        return Err("the path of a socket cannot contain a NUL".to_owned());
    }
    Ok(Origin::Unix(PathBuf::from(path)))
}

/// Whether the system takes a path for a Unix socket.
///
/// # Errors
///
/// If it is too long for that.
pub(crate) fn too_long(path: &str) -> Result<(), String> {
    match path.len() {
        ..=MAX_UNIX_PATH => Ok(()),
        length => Err(format!(
            "the path of a Unix socket has at most {MAX_UNIX_PATH} bytes, this one has {length}"
        )),
    }
}

fn directory(path: &str) -> Result<Target, String> {
    if path.is_empty() || path.contains('\0') {
        return Err("this must name a directory: \"file:/path\"".to_owned());
    }
    Ok(Target::Files(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Origin {
        Origin::Tcp(text.parse().unwrap())
    }

    fn to_socket() -> Origin {
        Origin::Unix("/run/x".into())
    }

    fn name(name: &str, port: u16) -> Origin {
        Origin::Name(name.to_owned(), port)
    }

    #[test]
    fn targets_are_artis_and_http_and_files() {
        let raw = Target::Raw;
        let http = |address| Target::Http(HttpOrigin { address, tls: false });
        let https = |address| Target::Http(HttpOrigin { address, tls: true });
        let cases = [
            ("127.0.0.1:80", raw(tcp("127.0.0.1:80"))),
            ("inet:127.0.0.1:80", raw(tcp("127.0.0.1:80"))),
            ("simple:inet:127.0.0.1:80", raw(tcp("127.0.0.1:80"))),
            ("simple:127.0.0.1:80", raw(tcp("127.0.0.1:80"))),
            ("[::1]:80", raw(tcp("[::1]:80"))),
            ("localhost:8080", raw(tcp("127.0.0.1:8080"))),
            ("db:5432", raw(name("db", 5432))),
            ("unix:/run/x", raw(to_socket())),
            ("simple:unix:/run/x", raw(to_socket())),
            ("http://127.0.0.1:8080", http(tcp("127.0.0.1:8080"))),
            ("http://127.0.0.1:8080/", http(tcp("127.0.0.1:8080"))),
            ("http://127.0.0.1", http(tcp("127.0.0.1:80"))),
            ("http://[::1]", http(tcp("[::1]:80"))),
            ("http://[::1]:81", http(tcp("[::1]:81"))),
            ("http://localhost", http(tcp("127.0.0.1:80"))),
            ("http://Web:8080", http(name("web", 8080))),
            ("http+unix:/run/x", http(to_socket())),
            ("http+unix:///run/x", http(to_socket())),
            ("http://unix:/run/x", http(to_socket())),
            ("https://www.example.com", https(name("www.example.com", 443))),
            ("https://127.0.0.1", https(tcp("127.0.0.1:443"))),
            ("https://[::1]:8443/", https(tcp("[::1]:8443"))),
            ("https+unix:/run/x", https(to_socket())),
            ("file:/srv/www", Target::Files("/srv/www".into())),
            ("file:///srv/www", Target::Files("/srv/www".into())),
            ("file:public", Target::Files("public".into())),
            ("redirect", Target::Redirect(443)),
            ("redirect:8443", Target::Redirect(8443)),
            ("destroy", Target::Destroy),
            ("reject", Target::Reject),
            ("ignore", Target::Ignore),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        let wrong = [
            "",
            "web",
            "80",
            "redirect:",
            "redirect:0",
            "redirect:+1",
            "redirect:https",
            "destory",
            "tcp:127.0.0.1:80",
            "1.2.3:80",
            "web:",
            "web:+1",
            "web:0",
            "http:",
            "http://",
            "http://:80",
            "HTTP://127.0.0.1:80",
            "Unix:/run/x",
            "unix:@web",
            "http+unix:@web",
            "http://a/b",
            "http://a?b",
            "http://u@a",
            "ftp://a",
            "http://a b",
            "https://a:b",
            "file:",
            "unix:",
            "http+unix:",
            "x.onion:80",
            "https://x.onion",
            "http://[::1",
            "a.:80",
        ];
        for text in wrong {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for text in ["127.0.0.1:80", "unix:/x", "db:1"] {
            let Ok(Target::Raw(origin)) = parse(text) else { panic!("{text}") };
            assert_eq!(origin.to_string(), text);
        }
        for text in ["http://[::1]:8", "http+unix:/x", "https://a.b:443", "https+unix:/x"] {
            let Ok(Target::Http(origin)) = parse(text) else { panic!("{text}") };
            assert_eq!(origin.to_string(), text);
        }
    }
}
