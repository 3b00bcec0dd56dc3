//! Does what a hostile client sends through Tor reach only what it may? A real tor
//! client in front of the daemon, and an origin that makes what it can of bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_socks::tcp::Socks5Stream;

use super::frontend::Frontend;
use crate::network;
use crate::network::client::Client;
use crate::network::fetch::{eventually, fetch};

/// Far more than any exchange here needs.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_past_the_rules_in_the_content_of_an_upgrade() {
    let network = network::shared().await.unwrap();
    let origin = Careless::start().await.unwrap();
    let config = format!(
        "proxy_ports = [['80', 'http://{}']]\n\
         [onion_services.shop.http]\n\
         block = [{{ path = '/admin' }}]\n",
        origin.address
    );
    let frontend = Frontend::start(network, "attacks", &config).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-attacks").await.unwrap();
    let get = async |circuit: &str, path: &str| {
        fetch(client.socks, circuit, &onion, 80, path, LIMIT).await
    };
    eventually(LIMIT, || get("warm", "/warm")).await.unwrap();
    assert_eq!(get("attacker", "/admin/slow").await.unwrap().status, 403);

    let smuggled =
        format!("GET /admin/slow HTTP/1.1\r\nHost: {onion}\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    for protocol in ["foo", "websocket"] {
        let mut attacker = open(&client, &onion, "attacker").await.unwrap();
        let head = format!(
            "POST /attack HTTP/1.1\r\nHost: {onion}\r\nConnection: upgrade\r\n\
             Upgrade: {protocol}\r\nContent-Length: {}\r\n\r\n",
            smuggled.len()
        );
        attacker.write_all(head.as_bytes()).await.unwrap();
        // The head is where it goes before the content is sent.
        let arrived = async {
            while origin.heads().iter().filter(|line| line.contains("/attack")).count() == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, arrived).await.unwrap();
        attacker.write_all(smuggled.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        tokio::time::timeout(LIMIT, attacker.read_exact(&mut line)).await.unwrap().unwrap();
        assert_eq!(&line, b"HTTP/1.1 200");
        // Who comes next gets its own answer.
        for turn in 0..3 {
            let path = format!("/victim/{turn}");
            let answer = get("victim", &path).await.unwrap();
            assert_eq!(answer.text(), format!("GET {path} HTTP/1.1"), "{protocol}");
        }
        let heads = origin.forget();
        assert!(!heads.iter().any(|head| head.contains("/admin")), "{protocol}: {heads:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_only_servers_may_send_reach_no_origin() {
    let network = network::shared().await.unwrap();
    let origin = Careless::start().await.unwrap();
    let config = format!(
        "proxy_ports = [['80', 'http://{}']]\n\
         [onion_services.shop.http]\n\
         block = [{{ path = '/admin' }}]\n\
         strip_request = ['X-Tenant']\n",
        origin.address
    );
    let frontend = Frontend::start(network, "fields", &config).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-fields").await.unwrap();
    let get = async |path: &str| fetch(client.socks, "reader", &onion, 80, path, LIMIT).await;
    eventually(LIMIT, || get("/warm")).await.unwrap();
    origin.forget();

    // gunicorn takes the path of the first request for `/admin`.
    let mut attacker = open(&client, &onion, "attacker").await.unwrap();
    let fields = [
        "SCRIPT_NAME: /x",
        "Script-Name: /x",
        "PATH_INFO: /admin",
        "REMOTE_USER: forged",
        "X-Remote-User: forged",
        "X-SSL-Client-Verify: forged",
        "X-Sendfile-Type: forged",
        "X_Forwarded_For: forged",
        "X-Original-URL: /admin",
        "X-Tenant: forged",
    ];
    let fields = fields.join("\r\n");
    let request =
        format!("GET /x/admin HTTP/1.1\r\nHost: {onion}\r\nX-Kept: yes\r\n{fields}\r\n\r\n");
    attacker.write_all(request.as_bytes()).await.unwrap();
    let mut line = [0; 12];
    tokio::time::timeout(LIMIT, attacker.read_exact(&mut line)).await.unwrap().unwrap();
    assert_eq!(&line, b"HTTP/1.1 200");
    let heads = origin.forget();
    let [head] = heads.as_slice() else { panic!("{heads:?}") };
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("get /x/admin ") && head.contains("\r\nx-kept: yes\r\n"), "{head}");
    for name in ["script", "path", "remote", "ssl", "sendfile", "_", "original", "tenant", "forged"]
    {
        let rest = head.split_once("\r\n").map(|(_, fields)| fields).unwrap_or_default();
        assert!(!rest.contains(name), "{name} in {head}");
    }
    for path in ["/admin", "/ADMIN/", "/x/../admin", "//x/admin"] {
        assert_eq!(get(path).await.unwrap().status, 403, "{path}");
    }
    assert!(origin.forget().is_empty());
}

/// A stream to the service, on the circuit of this name.
async fn open(client: &Client, onion: &str, circuit: &str) -> Result<Socks5Stream<TcpStream>> {
    let connecting =
        Socks5Stream::connect_with_password(client.socks, (onion, 80), circuit, "isolation");
    tokio::time::timeout(LIMIT, connecting).await.context("no stream")?.context("no stream")
}

/// An origin that reads as uvicorn with httptools does: where a head asks for an
/// upgrade, what follows is no content, whatever it says of its length, but the next
/// request. It answers each with its request line, and keeps the connection.
struct Careless {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Careless {
    async fn start() -> Result<Careless> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let seen = Arc::clone(&noted);
                connections.spawn(async move { drop(serve(connection, seen).await) });
            }
        });
        Ok(Careless { address, seen, _tasks: tasks })
    }

    /// The heads of requests so far.
    fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// They are none any more.
    fn forget(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(mut connection: TcpStream, seen: Arc<Mutex<Vec<String>>>) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let line = head.lines().next().unwrap_or_default().to_owned();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
        let small = head.to_ascii_lowercase();
        let length = small.lines().find_map(|line| line.strip_prefix("content-length: "));
        if !small.contains("\r\nupgrade:") {
            let mut content = vec![0; length.and_then(|n| n.parse().ok()).unwrap_or(0)];
            connection.read_exact(&mut content).await?;
        }
        let length = line.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{line}");
        connection.write_all(answer.as_bytes()).await?;
    }
}
