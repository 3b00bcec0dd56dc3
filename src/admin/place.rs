//! Can the admin endpoint be opened at its place? Looks, and makes nothing.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::AdminError;
use crate::config::AdminListen;

/// Whether [`open`](super::Admin::open) would succeed. A directory that is to be
/// made is not looked at. Where a daemon is `running`, it is the one that answers.
///
/// # Errors
///
/// What `open` would say.
pub fn can_open(
    listen: &AdminListen,
    directory_is_made: bool,
    running: bool,
) -> Result<(), AdminError> {
    let failed = |source| AdminError::Io { listen: listen.to_string(), source };
    match listen {
        AdminListen::Tcp(address) => can_listen(*address, running),
        AdminListen::Unix(path) => {
            if !directory_is_made {
                let directory = path.parent().unwrap_or(Path::new("/"));
                accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
                    .map_err(|error| failed(error.into()))?;
            }
            match fs::symlink_metadata(path) {
                Ok(found) if !found.file_type().is_socket() => {
                    Err(AdminError::NotASocket(path.clone()))
                }
                Ok(_) if !running && UnixStream::connect(path).is_ok() => {
                    Err(AdminError::InUse(path.clone()))
                }
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(failed(error)),
            }
        }
    }
}

/// Whether a port can be opened; where a daemon is `running`, it has it.
///
/// # Errors
///
/// What opening it would say.
pub(super) fn can_listen(address: SocketAddr, running: bool) -> Result<(), AdminError> {
    // For a moment, which writes nothing; nobody can connect meanwhile and be
    // answered.
    match TcpListener::bind(address) {
        Err(error) if running && error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        Err(source) => Err(AdminError::Io { listen: address.to_string(), source }),
        Ok(_) => Ok(()),
    }
}
