//! Where the admin endpoint listens, and whether it can be opened there.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};

use crate::config::AdminListen;

/// Why the endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another process answers there.
    #[error("{0} is in use: another process answers on it")]
    InUse(PathBuf),
    /// Something else than a socket lies there; it is left alone.
    #[error("{0} exists and is no socket; remove it or choose another path")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {listen}")]
    Io {
        /// Where.
        listen: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// Either kind of listener.
pub(super) enum AdminListener {
    /// And the path, to remove it at the end.
    Unix(UnixListener, PathBuf),
    /// On loopback.
    Tcp(TcpListener),
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // A socket that stays behind is replaced at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

impl AdminListener {
    /// Opens it. A socket that a dead process left behind is replaced.
    pub(super) async fn open(listen: &AdminListen) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Io { listen: listen.to_string(), source };
        match listen {
            AdminListen::Tcp(address) => {
                TcpListener::bind(address).await.map(Self::Tcp).map_err(failed)
            }
            AdminListen::Unix(path) => {
                remove_stale(path).await.map_err(|error| error.unwrap_or_else(failed))?;
                let socket = bind_private(path).map_err(failed)?;
                let listener = socket.listen(BACKLOG).map_err(failed)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Whether only the owner of the process can connect; on loopback every
    /// user of the machine can.
    pub(super) fn is_private(&self) -> bool {
        matches!(self, Self::Unix(..))
    }

    /// The next connection, and the user that has made it, by its number on the
    /// machine, where the system tells.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn AdminConnection>, Option<u32>)> {
        Ok(match self {
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().ok().map(|peer| peer.uid());
                (Box::new(stream), user)
            }
            Self::Tcp(listener) => (Box::new(listener.accept().await?.0), None),
        })
    }
}

/// A socket at this path for the owner of the process alone. Nobody can connect
/// before it listens, so not before its mode is what it has to be either; the
/// umask is the whole process's and cannot be set for this.
fn bind_private(path: &Path) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

/// A connection of either kind.
pub(super) trait AdminConnection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> AdminConnection for T {}

/// Removes a socket that nobody answers on. `Err(Err(_))` is an I/O error.
async fn remove_stale(path: &Path) -> Result<(), Result<AdminError, io::Error>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Err(error)),
    };
    if !found.file_type().is_socket() {
        return Err(Ok(AdminError::NotASocket(path.to_owned())));
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(Ok(AdminError::InUse(path.to_owned())));
    }
    fs::remove_file(path).map_err(Err)
}

/// Whether the endpoint could be opened; makes nothing. A directory that is to be
/// made is not looked at. Where a daemon is `running`, it is the one that answers.
///
/// # Errors
///
/// What opening it would say.
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
                Ok(_) if !running && std::os::unix::net::UnixStream::connect(path).is_ok() => {
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
    match std::net::TcpListener::bind(address) {
        Err(error) if running && error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        Err(source) => Err(AdminError::Io { listen: address.to_string(), source }),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_can_connect_to_the_socket_before_it_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let socket = bind_private(&path).unwrap();
        let refused = UnixStream::connect(&path).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let _listener = socket.listen(BACKLOG).unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
    }
}
