//! How a file is opened so that no path and no symbolic link leads out of the
//! root, and nothing but a file is ever opened to be read.
//!
//! The system itself walks the path below the root's handle (`cap_std`:
//! `openat2` with `RESOLVE_BENEATH`, or an equally strict walk where that is
//! missing), so there is no moment between a check and its use.

use std::future::Future;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File, Metadata};

use super::validators::blurred;

/// What lies below a directory.
#[derive(Clone, Debug)]
pub struct Beneath(Arc<Dir>);

/// A file that is open for reading.
#[derive(Debug)]
pub struct OpenedFile {
    file: tokio::fs::File,
    facts: Facts,
}

/// What is known of a file or directory.
#[derive(Clone, Debug)]
pub struct Facts {
    is_dir: bool,
    length: u64,
    modified: Option<SystemTime>,
}

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl Beneath {
    /// Opens the root.
    pub fn new(root: &Path) -> io::Result<Self> {
        Dir::open_ambient_dir(root, ambient_authority()).map(|root| Self(Arc::new(root)))
    }

    /// Opens a file; whatever is no file is not found. Asking first leaves
    /// devices untouched.
    fn open_file(&self, path: &Path) -> io::Result<(std::fs::File, Facts)> {
        if self.facts(path)?.is_dir {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.open_unchecked(path)
    }

    /// Opens what may have taken a file's place since it was looked at: a pipe
    /// is not waited for, and whatever is no file is not found.
    pub(super) fn open_unchecked(&self, path: &Path) -> io::Result<(std::fs::File, Facts)> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = self.0.open_with(path, &options)?.into_std();
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let facts =
            Facts { is_dir: false, length: metadata.len(), modified: metadata.modified().ok() };
        Ok((file, facts))
    }

    /// What a path leads to; whatever is neither file nor directory is not found.
    fn facts(&self, path: &Path) -> io::Result<Facts> {
        let metadata = self.0.metadata(path)?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Facts {
            is_dir: metadata.is_dir(),
            length: metadata.len(),
            modified: metadata.modified().ok().map(cap_std::time::SystemTime::into_std),
        })
    }
}

impl Backend for Beneath {
    type File = OpenedFile;
    type Metadata = Facts;
    type OpenFuture = Opening<OpenedFile>;
    type MetadataFuture = Opening<Facts>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let beneath = self.clone();
        Box::pin(async move {
            let (file, facts) = blocking(move || beneath.open_file(&path)).await?;
            Ok(OpenedFile { file: tokio::fs::File::from_std(file), facts })
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let beneath = self.clone();
        Box::pin(blocking(move || beneath.facts(&path)))
    }
}

/// Waits for a disk without keeping others waiting.
pub(super) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(ask).await.map_err(io::Error::other)?
}

impl File for OpenedFile {
    type Metadata = Facts;
    type MetadataFuture<'a> = std::future::Ready<io::Result<Facts>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        std::future::ready(Ok(self.facts.clone()))
    }
}

impl Metadata for Facts {
    fn is_dir(&self) -> bool {
        self.is_dir
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.modified.map(blurred).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        self.length
    }
}

impl AsyncRead for OpenedFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(context, buffer)
    }
}

impl AsyncSeek for OpenedFile {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(context)
    }
}
