//! Floods of HTTP/2 requests whose answers nobody reads, through a real tor client:
//! what they cost the daemon in memory, and whether others are served meanwhile.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use onionbraid::observe::Snapshot;
use onionbraid_proxy::status::HttpStatus;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;

use super::frontend::{Frontend, service};
use crate::network;
use crate::network::client::Client;
use crate::network::fetch::{eventually, fetch};
use crate::network::origin::Origin;

/// Far more than any exchange here needs.
const LIMIT: Duration = Duration::from_secs(120);

/// Bytes that a flood may make the daemon's memory grow by.
const MOST_MEMORY: u64 = 64 * 1024 * 1024;

type Stream = Socks5Stream<TcpStream>;

#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_on_one_circuit_cost_little_and_keep_nobody_else_out() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("word").unwrap();
    let config = format!(
        "proxy_ports = [['80', 'http://{}']]\n[onion_services.shop.http]\n\
         http2_without_tls = true\n",
        origin.address
    );
    let frontend = Frontend::start(network, "unread", &config).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-unread").await.unwrap();
    let honest = async |circuit: &str| {
        fetch(client.socks, circuit, &onion, 80, "/", LIMIT).await.unwrap().status
    };
    eventually(LIMIT, || client.get("warm", &onion, "/", LIMIT)).await.unwrap();
    for visit in 0..4 {
        assert_eq!(honest(&format!("warm-{visit}")).await, 200);
    }

    let (before, mut refused) = (resident(&frontend).unwrap(), 0);
    for round in 0..3 {
        let flood = flood(&client, &onion, &format!("flood-{round}"), 60, "/", 100).await.unwrap();
        // One of eight connections gets so far that its requests are refused.
        let counted = |snapshot: &Snapshot| failures(snapshot, "too_many") > refused + 52;
        let snapshot = frontend.daemon.until("refusing", LIMIT, counted).await.unwrap();
        refused = failures(&snapshot, "too_many");
        for visit in 0..3 {
            assert_eq!(honest(&format!("honest-{round}-{visit}")).await, 200);
        }
        let grown = resident(&frontend).unwrap().saturating_sub(before);
        println!("round {round}: {} kB, {refused} refused", grown / 1000);
        assert!(grown < MOST_MEMORY, "round {round}: {grown}");
        drop(flood);
        let idle = |snapshot: &Snapshot| in_flight(snapshot) == 0;
        frontend.daemon.until("without requests under way", LIMIT, idle).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_is_served_while_other_circuits_fill_all_connections() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("word").unwrap();
    let config = format!(
        "proxy_ports = [['80', 'http://{}']]\n[onion_services.shop.http]\nmax_connections = 16\n\
         http2_without_tls = true\n",
        origin.address
    );
    let frontend = Frontend::start(network, "filled", &config).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-filled").await.unwrap();
    eventually(LIMIT, || client.get("warm", &onion, "/", LIMIT)).await.unwrap();

    let mut floods = Vec::new();
    for round in 0..3 {
        for circuit in 0..3 {
            let circuit = format!("flood-{round}-{circuit}");
            let flood = flood(&client, &onion, &circuit, 1, "/bytes/100000000", 20).await.unwrap();
            floods.push(flood);
        }
        let full = |snapshot: &Snapshot| in_flight(snapshot) >= 16;
        frontend.daemon.until("full", LIMIT, full).await.unwrap();
        for visit in 0..3 {
            let circuit = format!("honest-{round}-{visit}");
            let answer = fetch(client.socks, &circuit, &onion, 80, "/", LIMIT).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "word\n"), "{circuit}");
        }
    }
    let snapshot = frontend.daemon.status().await.unwrap();
    assert!(failures(&snapshot, "given_up") > 0);
    drop(floods);
    let idle = |snapshot: &Snapshot| in_flight(snapshot) == 0;
    frontend.daemon.until("without requests under way", LIMIT, idle).await.unwrap();
}

/// Streams on one circuit, each with this many GETs of `path` in HTTP/2 for
/// whose answers there is no window. The daemon may close some of them at once.
async fn flood(
    client: &Client,
    onion: &str,
    circuit: &str,
    streams: usize,
    path: &str,
    requests: u32,
) -> Result<Vec<Stream>> {
    // The first one makes the circuit, which the others would not wait for.
    let mut open = vec![connect(client, onion, circuit).await?];
    open.extend(try_join_all((1..streams).map(|_| connect(client, onion, circuit))).await?);
    let bytes = zero_window(onion, path, requests);
    for stream in &mut open {
        // A stream is refused while the client still sends.
        let _ = tokio::time::timeout(LIMIT, stream.write_all(&bytes)).await?;
    }
    Ok(open)
}

async fn connect(client: &Client, onion: &str, circuit: &str) -> Result<Stream> {
    let connecting =
        Socks5Stream::connect_with_password(client.socks, (onion, 80), circuit, "isolation");
    tokio::time::timeout(LIMIT, connecting).await.context("no stream")?.context("no stream")
}

/// The connection preface, SETTINGS_INITIAL_WINDOW_SIZE 0, and HEADERS of GETs in
/// literals that HPACK does not keep.
fn zero_window(host: &str, path: &str, requests: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let mut block = vec![0x82, 0x86, 0x04, length(path)];
    block.extend(path.as_bytes());
    block.extend([0x01, length(host)]);
    block.extend(host.as_bytes());
    for request in 0..requests {
        bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 5]);
        bytes.extend((2 * request + 1).to_be_bytes());
        bytes.extend(&block);
    }
    bytes
}

/// Bytes of memory that the daemon has.
fn resident(frontend: &Frontend) -> Result<u64> {
    let statm = fs::read_to_string(format!("/proc/{}/statm", frontend.daemon.process.pid()))?;
    let pages: u64 = statm.split(' ').nth(1).context("no second number")?.parse()?;
    Ok(pages * 4096)
}

fn http(snapshot: &Snapshot) -> Option<&HttpStatus> {
    service(snapshot).http.as_ref()
}

fn failures(snapshot: &Snapshot, name: &str) -> u64 {
    http(snapshot).and_then(|http| http.failures.get(name)).copied().unwrap_or_default()
}

fn in_flight(snapshot: &Snapshot) -> u64 {
    http(snapshot).map_or(0, |http| http.origins.iter().map(|origin| origin.in_flight).sum())
}
