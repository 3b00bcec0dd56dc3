//! Does what an operator says of requests hold on real circuits? What an origin
//! learns of them, what its clients see when it is down, what is refused.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_socks::tcp::Socks5Stream;

use onionbraid::observe::Snapshot;
use onionbraid_proxy::proxy_line;

use super::frontend::Frontend;
use crate::network;
use crate::network::client::Client;
use crate::network::fetch::{Response, eventually, fetch};

/// Far more than any exchange here needs.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_says_of_requests_holds_on_real_circuits() {
    let network = network::shared().await.unwrap();
    let mirror = Mirror::start().await.unwrap();
    let nobody = network.free_address().unwrap();
    let files = network.scratch("features-files").unwrap();
    fs::create_dir(files.join("below")).unwrap();
    fs::write(files.join("index.html"), "the index").unwrap();
    fs::write(files.join("below/index.html"), "the index below").unwrap();
    let page = files.join("down.html");
    fs::write(&page, "<p>Back soon.").unwrap();
    let config = format!(
        "proxy_ports = [['80', 'http://{mirror}'], ['81', 'http://{nobody}'], \
         ['82', 'http://{mirror}'], ['83', 'file:{files}']]\n\
         [onion_services.shop.http]\n\
         circuit_id_header = 'X-Circuit'\n\
         error_pages = {{ '502-504' = '{page}' }}\n\
         [onion_services.shop.http.ports.'82']\n\
         request_rate = {{ rate = 1, burst = 3 }}\n\
         close_abusers = true\n\
         head_timeout = '10m'\n",
        mirror = mirror.address,
        files = files.display(),
        page = page.display(),
    );
    let frontend = Frontend::start(network, "features", &config).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-features").await.unwrap();
    let get = async |circuit: &str, port: u16, path: &str| {
        fetch(client.socks, circuit, &onion, port, path, LIMIT).await
    };
    eventually(LIMIT, || get("warm", 80, "/")).await.unwrap();

    // The origin is told circuits apart.
    let circuit = async |name: &str| circuit_of(&get(name, 80, "/").await.unwrap());
    let (one, same, other) = (circuit("one").await, circuit("one").await, circuit("other").await);
    assert_eq!(one, same);
    assert_ne!(one, other);

    // The origin is down.
    let down = get("one", 81, "/").await.unwrap();
    assert_eq!((down.status, down.text().as_str()), (502, "<p>Back soon."));

    // Files.
    for (path, status, text) in [("/", 200, "the index"), ("/below/", 200, "the index below")] {
        let page = get("one", 83, path).await.unwrap();
        assert_eq!((page.status, page.text().as_str()), (status, text), "{path}");
    }
    let missing = get("one", 83, "/missing").await.unwrap();
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("Not Found"), "{}", missing.text());

    // Who asks too often loses the circuit with all of its streams.
    let mut bystander = open(&client, &onion, "abuser").await.unwrap();
    ask(&mut bystander, &onion).await.unwrap();
    let mut abuser = open(&client, &onion, "abuser").await.unwrap();
    let abuse = async {
        // All at once: tokens come back with time.
        let request = format!("GET / HTTP/1.1\r\nHost: {onion}\r\n\r\n");
        abuser.write_all(request.repeat(20).as_bytes()).await.unwrap();
        let _ = abuser.read_to_end(&mut Vec::new()).await;
        let mut rest = Vec::new();
        let _ = bystander.read_to_end(&mut rest).await;
        assert_eq!(String::from_utf8_lossy(&rest), "", "the bystander has not asked again");
    };
    tokio::time::timeout(LIMIT, abuse).await.expect("the circuit stays open");
    let refused = |snapshot: &Snapshot| {
        let http = snapshot.services[0].http.as_ref();
        http.is_some_and(|http| http.failures.get("too_many").is_some_and(|n| *n > 0))
    };
    frontend.daemon.until("counting the refusal", LIMIT, refused).await.unwrap();
    let mut again = open(&client, &onion, "abuser-with-a-new-circuit").await.unwrap();
    ask(&mut again, &onion).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_reads_the_same_proxy_line_from_us_and_from_c_tor() {
    let network = network::shared().await.unwrap();
    let mirror = Mirror::start().await.unwrap();
    let config =
        format!("proxy_ports = [['80', '{}', {{ proxy_protocol = 'v1' }}]]", mirror.address);
    let frontend = Frontend::start(network, "proxy-line", &config).unwrap();
    let lines = ["HiddenServiceExportCircuitID haproxy"];
    let tor = network.service_with("proxy-line-of-tor", mirror.address, &lines, &[]).await.unwrap();
    frontend.ready().await.unwrap();
    let ours = frontend.address().await.unwrap();
    let client = network.client("visitor-of-proxy-line").await.unwrap();
    for onion in [ours.as_str(), tor.onion_address()] {
        let page = eventually(LIMIT, || client.get("line", onion, "/", LIMIT)).await.unwrap();
        let line = page.text().lines().next().unwrap().to_owned() + "\r\n";
        let number = number_in(&line).unwrap_or_else(|| panic!("{onion}: {line:?}"));
        assert_eq!(line.as_bytes(), proxy_line::v1(number, 80), "{onion}");
    }
}

/// The number of the circuit in a line of the PROXY protocol.
fn number_in(line: &str) -> Option<u64> {
    let address: std::net::Ipv6Addr = line.split(' ').nth(2)?.parse().ok()?;
    let [.., high, low] = address.segments();
    Some(u64::from(high) << 16 | u64::from(low))
}

/// What the origin was told of a circuit.
fn circuit_of(page: &Response) -> u64 {
    let text = page.text().to_ascii_lowercase();
    let line = text.lines().find_map(|line| line.strip_prefix("x-circuit: "));
    line.unwrap_or_else(|| panic!("no number of a circuit in {text:?}")).parse().unwrap()
}

/// A stream to the port with limits, on the circuit of this name.
async fn open(client: &Client, onion: &str, circuit: &str) -> Result<Socks5Stream<TcpStream>> {
    let connecting =
        Socks5Stream::connect_with_password(client.socks, (onion, 82), circuit, "isolation");
    tokio::time::timeout(LIMIT, connecting).await.context("no stream")?.context("no stream")
}

/// Asks once, and reads the whole answer if it is a good one; the stream stays
/// open for more.
async fn ask(stream: &mut Socks5Stream<TcpStream>, onion: &str) -> io::Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: {onion}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n.\r\n") {
        answer.push(stream.read_u8().await?);
    }
    Ok(())
}

/// An origin that answers each request with what it has got, and ends with a
/// line with a dot.
struct Mirror {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Mirror {
    async fn start() -> Result<Mirror> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(mirror(connection));
            }
        });
        Ok(Mirror { address, _tasks: tasks })
    }
}

async fn mirror(mut connection: TcpStream) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await?);
        }
        head.extend_from_slice(b".\r\n");
        let length = head.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        connection.write_all(answer.as_bytes()).await?;
        connection.write_all(&head).await?;
    }
}
