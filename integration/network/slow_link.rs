//! A slow way to the network for one daemon: a SOCKS proxy on loopback that holds
//! back what it passes on, as a bad line does. Whoever has root could use netem,
//! where the kernel has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The proxy; dropping it ends every connection.
#[derive(Debug)]
pub struct SlowLink {
    /// Where it listens.
    pub address: SocketAddr,
    delay: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl SlowLink {
    /// A proxy that holds nothing back yet.
    pub async fn start() -> Result<SlowLink> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let delay = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let of_all = Arc::clone(&delay);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let delay = Arc::clone(&of_all);
                connections.spawn(async move {
                    // Whoever is cut off connects again.
                    let _ = pass_on(client, delay).await;
                });
            }
        });
        Ok(SlowLink { address, delay, _tasks: tasks })
    }

    /// From now on each byte takes so long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Arti's table that sends a client's connections through it.
    pub fn arti_toml(&self) -> String {
        format!("[channel]\noutbound_proxy = 'socks5://{}'\n", self.address)
    }
}

/// SOCKS 5 without a password, CONNECT to an IPv4 address (RFC 1928).
async fn pass_on(mut client: TcpStream, delay: Arc<AtomicU64>) -> Result<()> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting).await?;
    client.read_exact(&mut vec![0; greeting[1].into()]).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 10];
    client.read_exact(&mut request).await?;
    ensure!(request[..4] == [5, 1, 0, 1], "not CONNECT to an IPv4 address");
    let [.., a, b, c, d, high, low] = request;
    let target = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
    let relay = TcpStream::connect(target).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    let (from_client, to_client) = client.into_split();
    let (from_relay, to_relay) = relay.into_split();
    // Either end closes both.
    tokio::select! {
        () = one_way(from_client, to_relay, &delay) => {}
        () = one_way(from_relay, to_client, &delay) => {}
    }
    Ok(())
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: &AtomicU64,
) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(4096);
    let read = async {
        let mut buffer = vec![0; 16_384];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + Duration::from_millis(delay.load(Ordering::SeqCst));
            if queue.send((due, buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, bytes)) = queued.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
