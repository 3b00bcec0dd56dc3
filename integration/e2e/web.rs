//! Does the reverse proxy carry the web? A real nginx and a real application
//! server behind it, real clients in front, onion services in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use digest::Digest as _;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio_socks::tcp::Socks5Stream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tor_llcrypto::d::Sha256;

use super::frontend::Frontend;
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::origin::pattern;
use crate::network::process::program;
use crate::network::{self, web};

/// Far more than any transfer here needs.
const LIMIT: Duration = Duration::from_secs(300);

/// What a large file has.
const LARGE: u64 = 100 * 1024 * 1024;

/// The resources of one page.
const RESOURCES: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn pages_downloads_and_uploads_pass_byte_for_byte() {
    let network = network::shared().await.unwrap();
    let files = network.scratch("web-files").unwrap();
    fs::write(files.join("index.html"), "<!doctype html><title>nginx</title>").unwrap();
    for n in 0..RESOURCES {
        fs::write(files.join(format!("{n}.bin")), pattern(n * 7919, 500 + n * n * 100)).unwrap();
    }
    fs::write(files.join("large.bin"), pattern(0, LARGE)).unwrap();
    let nginx = web::nginx(network, "web-nginx", &files).await.unwrap();
    let application = web::application(network, "web-application").await.unwrap();
    let config = format!(
        "proxy_ports = [['80', 'http://{}'], ['8000', 'http://{}']]",
        nginx.address, application.address
    );
    let frontend = Frontend::start(network, "web", &config).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-web").await.unwrap();
    eventually(LIMIT, || client.get("warm", &onion, "/", LIMIT)).await.unwrap();
    let out = network.scratch("web-out").unwrap();

    // A page with its resources, over six connections, as browsers do.
    let all = format!("http://{onion}/[0-{}].bin", RESOURCES - 1);
    let to = out.join("#1.bin").display().to_string();
    curl(&client, &["--parallel", "--parallel-max", "6", "-o", &to, &all]).await.unwrap();
    for n in 0..RESOURCES {
        let name = format!("{n}.bin");
        assert!(same(&files.join(&name), &out.join(&name)), "{name} has changed on the way");
    }

    let large = out.join("large.bin").display().to_string();
    curl(&client, &["-o", &large, &format!("http://{onion}/large.bin")]).await.unwrap();
    assert!(same(&files.join("large.bin"), Path::new(&large)), "the download has changed");
    let part = ["-r", "1000-70999", &format!("http://{onion}/large.bin")];
    assert_eq!(curl(&client, &part).await.unwrap().stdout, pattern(1000, 70_000));

    let upload = files.join("large.bin").display().to_string();
    let said = curl(&client, &["-T", &upload, &format!("http://{onion}:8000/upload")]).await;
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    let digest: String =
        Sha256::digest(pattern(0, LARGE)).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(said.trim(), format!("{LARGE} {digest}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_and_event_streams_pass_as_they_come() {
    let network = network::shared().await.unwrap();
    let application = web::application(network, "live-application").await.unwrap();
    let config = format!("proxy_ports = [['80', 'http://{}']]", application.address);
    let frontend = Frontend::start(network, "live", &config).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-live").await.unwrap();
    let connect = async |isolation: &str| {
        let target = (onion.as_str(), 80);
        Socks5Stream::connect_with_password(client.socks, target, isolation, "isolation").await
    };
    eventually(LIMIT, || client.get("warm", &onion, "/nothing", LIMIT)).await.unwrap();

    let echoed = async {
        let stream = connect("socket").await.unwrap();
        let (mut socket, _) = client_async(format!("ws://{onion}/ws"), stream).await.unwrap();
        let long = pattern(0, 1_000_000);
        let messages =
            [Message::text("first"), Message::binary(long), Message::text("after the long one")];
        for message in messages {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.close(None).await.unwrap();
        // The other side's close frame, then the end.
        while let Some(message) = socket.next().await {
            assert!(message.unwrap().is_close());
        }
    };
    tokio::time::timeout(LIMIT, echoed).await.expect("the WebSocket stands still");

    // Each event has to arrive before the server makes the next one.
    let events = async {
        let stream = connect("events").await.unwrap();
        let mut events = BufReader::new(stream);
        let request = format!("GET /events HTTP/1.1\r\nHost: {onion}\r\n\r\n");
        events.get_mut().write_all(request.as_bytes()).await.unwrap();
        for number in 0..3 {
            read_until(&mut events, &format!("data: event {number}")).await.unwrap();
            client.get("next", &onion, "/next", LIMIT).await.unwrap();
        }
        // The end of the chunks: the connection itself stays open.
        let mut rest = Vec::new();
        while !rest.ends_with(b"0\r\n\r\n") {
            rest.push(events.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(LIMIT, events).await.expect("an event is held back");
}

/// Reads lines until one is `wanted`.
async fn read_until(stream: &mut (impl AsyncBufRead + Unpin), wanted: &str) -> Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line).await? > 0, "the stream ends before {wanted:?}");
        if line.trim() == wanted {
            return Ok(());
        }
    }
}

/// Runs curl through a client's SOCKS port; an error unless it succeeds.
async fn curl(client: &Client, arguments: &[&str]) -> Result<Output> {
    let proxy = format!("socks5h://curl:curl@{}", client.socks);
    let mut command = tokio::process::Command::new(program("curl")?);
    command.args(["--silent", "--show-error", "--fail", "--proxy", &proxy]).args(arguments);
    let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output());
    let output = output.await.with_context(|| format!("curl {arguments:?} does not end"))??;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "curl {arguments:?}: {error}");
    Ok(output)
}

fn same(one: &Path, other: &Path) -> bool {
    let read = |path: &Path| fs::read(PathBuf::from(path)).unwrap();
    read(one) == read(other)
}
