//! What happens after a request has changed the protocol?

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::gate::Gate;
use super::progress::{Flow, Progress};
use super::record::Record;
use crate::forward::forward;

/// Copies bytes both ways after the protocol has changed, until either side
/// ends or nothing moves for too long.
pub(super) async fn copy(
    client: OnUpgrade,
    origin: OnUpgrade,
    progress: Arc<Progress>,
    mut record: Record,
) {
    let flow = progress.flow();
    let copying = async {
        // Either side may have gone with the 101 under way. And the protocol
        // changes only after the request, of which the body may still be to come.
        let (Ok(client), Ok(origin)) = tokio::join!(client, origin) else { return false };
        // What hyper has served is a gate.
        let Ok(Parts { io, read_buf, .. }) = client.downcast::<TokioIo<Gate>>() else {
            return false;
        };
        let client = io.into_inner().open(&read_buf);
        // How they end is theirs to know.
        let _ = forward(WatchedStream { client, flow }, TokioIo::new(origin)).await;
        true
    };
    tokio::select! {
        has_changed = copying => if has_changed { record.ended() },
        failure = progress.overdue() => record.failed(failure),
    }
}

/// A stream of bytes whose movement is told.
struct WatchedStream {
    client: Gate,
    flow: Flow,
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let watched = self.get_mut();
        let read = Pin::new(&mut watched.client).poll_read(context, space);
        if read.is_ready() {
            watched.flow.client_moved(true);
        }
        read
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let watched = self.get_mut();
        let written = Pin::new(&mut watched.client).poll_write(context, bytes);
        if written.is_ready() {
            watched.flow.origin_moved(true);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_shutdown(context)
    }
}
