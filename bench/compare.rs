//! How fast and how large is the reverse proxy, beside nginx in the same run?
//!
//! `make compare` builds the release and runs this, in about two minutes. Plain
//! TCP on loopback, no Tor: an nginx with two files is the origin; in front of
//! it stand in turn our proxy, with as many threads as `onionbraid run` has, and an
//! nginx as reverse proxy with two workers and kept-alive connections to its
//! origin; wrk asks. It prints figures and judges nothing.

#![allow(clippy::disallowed_methods, reason = "measuring is about clocks and tasks")]
#![allow(clippy::print_stdout, reason = "a person reads it")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use onionbraid_proxy::http::CircuitControl;
use onionbraid_proxy::rules::{CertificateFiles, HttpOrigin, HttpTarget, Origin, ProxyTarget};
use onionbraid_proxy::settings::HttpSettings;
use onionbraid_proxy::setup::Setup;
use onionbraid_proxy::shares::Shares;
use onionbraid_proxy::tls::KeyCheck;
use onionbraid_proxy::visitor::Visitor;

/// How often each figure is taken, the two in turn.
const RUNS: usize = 5;

/// Connections that wrk keeps busy.
const BUSY: &str = "32";

/// Connections whose memory is measured.
const CONNECTIONS: usize = 1_000;

/// The files of the origin: name, bytes.
const FILES: [(&str, usize); 3] = [("1k", 1_000), ("100k", 100_000), ("large", 50_000_000)];

/// What end-to-end tests stand on.
#[path = "../integration"]
pub mod integration {
    pub mod network;
}

use integration::network;

use network::process::{Process, program};

fn main() -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        // As `onionbraid run` has it.
        let cores = std::thread::available_parallelism()?.get();
        runtime.worker_threads(cores.div_ceil(2));
    }
    runtime.enable_all().build()?.block_on(compare())
}

async fn compare() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", origin, listen] => {
            return serve(origin.parse()?, listen.parse()?, Vec::new()).await;
        }
        // What looks for weaknesses of TLS is pointed at this.
        ["serve", origin, listen, certificate, key] => {
            let (certificate, key) = (certificate.into(), key.into());
            let tls = vec![CertificateFiles { certificate, key }];
            return serve(origin.parse()?, listen.parse()?, tls).await;
        }
        _ => {}
    }
    let scratch = tempfile::tempdir()?;
    let contest = Contest::start(scratch.path()).await?;
    for (file, connections) in [("1k", "1"), ("1k", BUSY), ("100k", BUSY)] {
        contest.speed(file, connections)?;
    }
    contest.memory("idle", "/1k", true).await?;
    contest.memory("half-sent", "/1k", false).await?;
    contest.memory("unread", "/large", true).await
}

/// The origin, and those who stand in front of it.
struct Contest {
    _origin: Process,
    /// Name, processes, address.
    proxies: Vec<(&'static str, Vec<Process>, SocketAddr)>,
}

impl Contest {
    async fn start(dir: &Path) -> Result<Contest> {
        let files = dir.join("files");
        fs::create_dir(&files)?;
        for (name, length) in FILES {
            fs::write(files.join(name), vec![b'x'; length])?;
        }
        let at_origin = free_address()?;
        let place = format!("root {};", files.display());
        let origin = nginx(dir, "origin", at_origin, &place)?;
        let (ours, theirs) = (free_address()?, free_address()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", &at_origin.to_string(), &ours.to_string()]);
        let ours_process = Process::spawn("onionbraid", &command, &dir.join("onionbraid.log"))?;
        let place = "location / { proxy_pass http://origin; proxy_http_version 1.1; \
                     proxy_set_header Connection \"\"; proxy_set_header Host $host; }";
        // Two processes at one port instead of a master with two workers: who
        // kills a master leaves its workers behind.
        let place = format!("{place} }} upstream origin {{ server {at_origin}; keepalive 64;");
        let names = ["nginx-1", "nginx-2"].into_iter();
        let theirs_processes =
            names.map(|name| nginx(dir, name, theirs, &place)).collect::<Result<_>>()?;
        for address in [at_origin, ours, theirs] {
            listening(address).await?;
        }
        let proxies =
            vec![("onionbraid", vec![ours_process], ours), ("nginx", theirs_processes, theirs)];
        Ok(Contest { _origin: origin, proxies })
    }

    /// Requests per second and latency, the two in turn.
    fn speed(&self, file: &str, connections: &str) -> Result<()> {
        let mut rates = [const { Vec::new() }; 2];
        let mut medians = [const { Vec::new() }; 2];
        let mut tails = [const { Vec::new() }; 2];
        let mut ratios = Vec::new();
        for _ in 0..RUNS {
            for (n, (_, _, address)) in self.proxies.iter().enumerate() {
                let url = format!("http://{address}/{file}");
                let said = output(Command::new(program("wrk")?).args([
                    "-t1",
                    "-d3s",
                    "--latency",
                    "-c",
                    connections,
                    &url,
                ]))?;
                ensure!(!said.contains("Non-2xx"), "{said}");
                rates[n].push(after(&said, "Requests/sec:")?.parse()?);
                // Further up, wrk says what part of all is near the mean.
                let spread = said.split_once("Latency Distribution").context("no spread")?.1;
                medians[n].push(milliseconds(after(spread, "50%")?)?);
                tails[n].push(milliseconds(after(spread, "99%")?)?);
            }
            let last = |n: usize| rates[n].last().copied().unwrap_or(f64::NAN);
            ratios.push(last(0) / last(1));
        }
        for (n, (name, _, _)) in self.proxies.iter().enumerate() {
            println!(
                "{file}, {connections} connections, {name}: {} requests/s; latency ms 50 %: {}, 99 %: {}",
                summary(&mut rates[n]),
                summary(&mut medians[n]),
                summary(&mut tails[n])
            );
        }
        println!("{file}, {connections} connections: ratio {}", summary(&mut ratios));
        Ok(())
    }

    /// Resident memory for a thousand connections that have asked for `path`
    /// once, `whole` or without the end of the head, and read no more than the
    /// beginning of the answer.
    async fn memory(&self, what: &str, path: &str, whole: bool) -> Result<()> {
        for (name, processes, address) in &self.proxies {
            let memory =
                || -> Result<f64> { processes.iter().map(|process| resident(process.pid())).sum() };
            let before = memory()?;
            let mut open = Vec::new();
            for _ in 0..CONNECTIONS {
                let mut stream = TcpStream::connect(address).await?;
                let end = if whole { "\r\n" } else { "" };
                let request = format!("GET {path} HTTP/1.1\r\nHost: example.onion\r\n{end}");
                stream.write_all(request.as_bytes()).await?;
                if whole {
                    let mut head = [0; 12];
                    stream.read_exact(&mut head).await?;
                    ensure!(head.ends_with(b"200"), "{name}: {:?}", String::from_utf8_lossy(&head));
                }
                open.push(stream);
            }
            // Until buffers have filled: what is not read waits somewhere.
            let mut after = memory()?;
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let now = memory()?;
                if now <= after * 1.005 {
                    break;
                }
                after = now;
            }
            println!(
                "{CONNECTIONS} {what} connections, {name}: {:.1} MB more ({:.1} KB each)",
                after - before,
                1000.0 * (after - before) / CONNECTIONS as f64
            );
        }
        Ok(())
    }
}

/// Our proxy on a TCP port, as a local instance has it on the streams of clients.
async fn serve(origin: SocketAddr, listen: SocketAddr, tls: Vec<CertificateFiles>) -> Result<()> {
    struct NoCircuit;
    impl CircuitControl for NoCircuit {
        fn close(&self) {}
    }
    let settings = Arc::new(HttpSettings { http2_without_tls: true, ..HttpSettings::default() });
    let origins = vec![HttpOrigin { address: Origin::Tcp(origin), tls: false }];
    let target = ProxyTarget::Http(HttpTarget { origins, settings, tls });
    let handles = Shares::new(0, 0, Duration::ZERO);
    let setup =
        Setup::new(&target, &handles, &KeyCheck::new(|_, _| Ok(())))?.context("no proxy")?;
    let setup = Arc::new(setup);
    let listener = TcpListener::bind(listen).await?;
    for circuit in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let setup = Arc::clone(&setup);
        let visitor = Visitor { circuit, port: 80, onion: "example.onion".into(), tls: false };
        tokio::spawn(async move { setup.serve(stream, visitor, NoCircuit).await });
    }
    Ok(())
}

/// An nginx with one server that says this.
fn nginx(dir: &Path, name: &str, listen: SocketAddr, says: &str) -> Result<Process> {
    let dir = dir.join(name);
    fs::create_dir(&dir)?;
    let at = dir.display();
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_rlimit_nofile 8192;\npid {at}/pid;\n\
         error_log stderr;\nevents {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000; keepalive_timeout 600;\n\
         client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
         uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         server {{ listen {listen} reuseport; {says} }}\n}}\n"
    );
    fs::write(dir.join("nginx.conf"), text)?;
    let mut command = Command::new(program("nginx")?);
    command.arg("-c").arg(dir.join("nginx.conf")).arg("-p").arg(&dir).args(["-e", "stderr"]);
    Process::spawn(name, &command, &dir.join("log"))
}

/// The memory of a process, in MB.
fn resident(pid: u32) -> Result<f64> {
    let map = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = map.lines().find(|line| line.starts_with("Rss:")).context("no memory map")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1.024 / 1000.0)
}

fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn listening(address: SocketAddr) -> Result<()> {
    for _ in 0..500 {
        if TcpStream::connect(address).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("nobody listens at {address}")
}

fn output(command: &mut Command) -> Result<String> {
    let Output { stdout, stderr, status } = command.output().context("cannot run wrk")?;
    ensure!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// The word after `label`.
fn after<'a>(text: &'a str, label: &str) -> Result<&'a str> {
    let rest = text.split_once(label).with_context(|| format!("no {label} in {text}"))?.1;
    rest.split_whitespace().next().context("nothing follows")
}

/// wrk's durations: `87.00us`, `1.20ms`, `1.01s`.
fn milliseconds(text: &str) -> Result<f64> {
    let split = text.find(|c: char| c.is_alphabetic()).context("no unit")?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        _ => bail!("no duration: {text}"),
    };
    Ok(number.parse::<f64>()? * factor)
}

/// Median, and the range.
fn summary(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    let last = values.len().saturating_sub(1);
    format!("median {:.2} ({:.2} to {:.2})", at(values.len() / 2), at(0), at(last))
}
