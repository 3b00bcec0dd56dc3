//! Bytes between a client and an origin, until one of them ends.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split};

/// Copies bytes both ways until either side ends or fails; then everything the
/// ended side has sent is delivered, and both are closed.
///
/// A Tor stream cannot be half closed: after its END nothing reaches the
/// client, so there is no use in reading on from the origin, and the other way
/// round (tor-spec, section 6.3). What is not yet read stays with the sender:
/// each direction holds one small buffer.
pub async fn forward<C, O>(client: C, origin: O) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client_reader, mut client_writer) = split(client);
    let (mut origin_reader, mut origin_writer) = split(origin);
    let up = async {
        copy(&mut client_reader, &mut origin_writer).await?;
        origin_writer.shutdown().await
    };
    let down = async {
        copy(&mut origin_reader, &mut client_writer).await?;
        client_writer.shutdown().await
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn both_directions_flow_and_the_origins_end_ends_the_client() {
        let (mut client, client_side) = duplex(64);
        let (mut origin, origin_side) = duplex(64);
        let origins_part = async {
            let mut question = [0; 4];
            origin.read_exact(&mut question).await.unwrap();
            assert_eq!(&question, b"ping");
            origin.write_all(b"pong and more than the buffer in between can hold").await.unwrap();
            origin.shutdown().await.unwrap();
        };
        let clients_part = async {
            client.write_all(b"ping").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (forwarded, (), answer) =
            tokio::join!(forward(client_side, origin_side), origins_part, clients_part);
        forwarded.unwrap();
        assert_eq!(answer, "pong and more than the buffer in between can hold");
    }

    #[tokio::test]
    async fn a_client_that_leaves_does_not_keep_a_silent_origin_connected() {
        let (client, client_side) = duplex(64);
        let (mut origin, origin_side) = duplex(64);
        drop(client);
        forward(client_side, origin_side).await.unwrap();
        assert_eq!(origin.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
