//! Where the admin interface listens: the `[admin]` table.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::document::Node;
use super::error::{ConfigError, ConfigReport, KeyPath};
use super::reader::TableItem;
use super::target::{self, MAX_UNIX_PATH};

/// Where the admin interface listens. Whoever reaches it can see everything,
/// so it is a Unix socket or a loopback address, never more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// A Unix domain socket.
    Unix(PathBuf),
    /// A TCP port on a loopback address.
    Tcp(SocketAddr),
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// Reads `[admin]`; without it, the socket is `admin.sock` in the state directory.
pub(crate) fn read(
    node: Option<&Node>,
    state_dir: Option<&Path>,
    report: &mut ConfigReport,
) -> Option<AdminListen> {
    let path = KeyPath::default().key("admin");
    let listen_key = path.key("listen");
    let listen = match node {
        None => None,
        Some(node) => {
            let mut table = TableItem { node, path }.table(report)?;
            let listen = table.get("listen");
            table.finish(report);
            listen
        }
    };
    if let Some(item) = listen {
        let text = item.text("\"unix:/path\" or \"127.0.0.1:PORT\"", report)?;
        return match parse(text) {
            Ok(listen) => Some(listen),
            Err(problem) => {
                item.wrong(problem, report);
                None
            }
        };
    }
    let socket = state_dir?.join("admin.sock");
    match unix(&socket) {
        Ok(listen) => Some(listen),
        Err(problem) => {
            let problem = format!("the default, in the state directory, will not do: {problem}");
            let error = ConfigError::at_key(None, listen_key, problem);
            report.error(error.with_value(format!("\"unix:{}\"", socket.display())));
            None
        }
    }
}

fn parse(text: &str) -> Result<AdminListen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') {
            return Err("the path of the socket must be absolute: \"unix:/path\"".to_owned());
        }
        return unix(Path::new(path));
    }
    let address = target::socket_addr(text)?
        .ok_or_else(|| "this must be \"unix:/path\" or \"127.0.0.1:PORT\"".to_owned())?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "whoever reaches the admin interface sees everything, so it listens on loopback only: \
             \"127.0.0.1:{}\", or better \"unix:/path\"",
            address.port()
        ));
    }
    Ok(AdminListen::Tcp(address))
}

fn unix(path: &Path) -> Result<AdminListen, String> {
    let length = path.as_os_str().len();
    if length > MAX_UNIX_PATH {
        return Err(format!(
            "the path of a Unix socket has at most {MAX_UNIX_PATH} bytes, this one has {length}: \
             choose a shorter one for `admin.listen`"
        ));
    }
    Ok(AdminListen::Unix(path.to_owned()))
}
