//! What is said when Tor does not come up, and whether it comes up by itself
//! once the trouble is over.
//!
//! The network and the daemon run in a network namespace of the test's own,
//! which takes root (or user namespaces): there the way to the relays is cut
//! with `ip` and `nft`, without touching the machine's.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onionbraid::observe::Snapshot;
use tokio::net::{TcpStream, UnixStream};

use super::clock::with_clock;
use super::frontend::{Prepared, SOON, program};
use crate::network::daemon::Daemon;
use crate::network::fetch::get;
use crate::network::{Network, Options};

/// Set in the process that runs in the namespace.
const INSIDE: &str = "ONIONBRAID_TEST_NAMESPACE";

/// Trouble has to be said within this time, ...
const SAID_WITHIN: Duration = Duration::from_secs(15);
/// ... and the daemon to be ready so long after it is over; both twice, for a
/// machine that does much else.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Runs the test of this name again in a namespace of its own; whether this is
/// that run.
fn in_a_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--kill-child"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let status = command.status().unwrap();
    assert!(status.success(), "{status}");
    false
}

fn is_root() -> bool {
    let uid = Command::new("id").arg("-u").output().unwrap();
    uid.stdout.trim_ascii() == b"0"
}

fn sh(script: &str) -> Result<()> {
    let status = Command::new("sh").args(["-ec", script]).status()?;
    ensure!(status.success(), "{script}: {status} (ip: iproute2, nft: nftables)");
    Ok(())
}

/// Waits until the daemon says what is wrong; what it says, and after how long.
async fn said(daemon: &Daemon, kind: &str) -> Result<(Snapshot, Duration)> {
    let began = Instant::now();
    let wanted = |status: &Snapshot| status.tor.trouble.as_deref() == Some(kind);
    let status = daemon.until(kind, 2 * SAID_WITHIN, wanted).await?;
    Ok((status, began.elapsed()))
}

/// Starts a daemon in trouble, waits until that is said in status and log, ends
/// the trouble and waits until the daemon is ready; tells how all that went.
async fn in_trouble(
    network: &Network,
    program: &Path,
    kind: &str,
    begin: impl FnOnce() -> Result<()>,
    end: impl FnOnce() -> Result<()>,
) -> Result<String> {
    let prepared = Prepared::new(network, kind)?.on_a_socket();
    begin()?;
    let daemon = prepared.start_as(program, "proxy_ports = [['80', 'reject']]")?;
    let (status, after) = said(&daemon, kind).await?;
    let advice = status.tor.advice.clone().context("no advice")?;
    let sentence = format!("{}: {advice}", status.tor.message);
    let mut told = format!("{kind} after {after:?}: {sentence}\n");
    ensure!(!status.ready || status.tor.bootstrap >= 1.0);
    let text = daemon.status_text().await?;
    ensure!(text.contains(&format!("! Tor: {sentence}")), "{text}");
    let in_the_log = |_: &Snapshot| daemon.process.log().contains(&status.tor.message);
    daemon.until("in the log", SAID_WITHIN, in_the_log).await?;
    let log = daemon.process.log();
    let ours: Vec<_> = log.lines().filter(|line| line.contains(" onionbraid::")).collect();
    for dump in ["Err(", "Sensitive", "sources=", " { ", "100 %: "] {
        ensure!(!ours.iter().any(|line| line.contains(dump)), "{dump} in {log}");
    }
    end()?;
    let ended = Instant::now();
    let fine = |status: &Snapshot| status.ready && status.tor.trouble.is_none();
    daemon.until("ready again", 2 * READY_WITHIN, fine).await?;
    told.push_str(&format!("ready {:?} after it was over", ended.elapsed()));
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_network_is_told_by_how_it_is_cut_and_the_service_is_published_once_it_is_whole() {
    let test = "e2e::tor_trouble::a_cut_network_is_told_by_how_it_is_cut_and_the_service_is_\
                published_once_it_is_whole";
    if !in_a_namespace(test) {
        return;
    }
    sh("ip link set lo up").unwrap();
    let network = Network::start(Options::new(8)).await.unwrap();

    // Only new connections are cut: the relays keep theirs.
    let cut = |verdict: &str| {
        sh(&format!(
            "nft add table inet cut; nft 'add chain inet cut out {{ type filter hook output \
             priority 0; }}'; nft add rule inet cut out ct state new tcp dport 1024-65535 {verdict}"
        ))
    };
    let heal = || sh("nft delete table inet cut");

    let words = in_trouble(&network, program(), "silent", || cut("drop"), heal).await.unwrap();
    println!("{words}");
    assert!(words.contains("in every firewall"), "{words}");

    let reset = "reject with tcp reset";
    let words = in_trouble(&network, program(), "refused", || cut(reset), heal).await.unwrap();
    println!("{words}");
    assert!(words.contains("refuses the connection (TCP ports "), "{words}");

    // The address comes back with the interface.
    let down = || sh("ip link set lo down; ip address flush dev lo");
    let up = || sh("ip link set lo up");
    let words = in_trouble(&network, program(), "no_route", down, up).await.unwrap();
    println!("{words}");
    assert!(words.contains("no route to the Tor network"), "{words}");
}

/// Cuts the way to all relays while a daemon runs that is ready, and heals it once
/// that is said everywhere; what was said, and how all that went.
async fn cut_while_it_runs(
    network: &Network,
    name: &str,
    cut: impl FnOnce(u16) -> Result<()>,
    heal: impl FnOnce() -> Result<()>,
) -> Result<String> {
    let prepared = Prepared::new(network, name)?.on_a_socket();
    let metrics = network.free_address()?;
    let keys =
        format!("proxy_ports = [['80', 'reject']]\n[metrics]\nprometheus.listen = '{metrics}'");
    let socket = prepared.dir().join("admin.sock");
    let files = [prepared.dir().join("onionbraid.toml"), prepared.dir().join("network.toml")];
    let daemon = prepared.start_as(program(), &keys)?;
    let ready = daemon.until("ready", SOON, |status| status.ready).await?;
    cut(metrics.port())?;
    // Something is sent, as by a daemon that has clients.
    let mut asking = tokio::process::Command::new(program());
    asking.args(["descriptor", &ready.services[0].address]).kill_on_drop(true);
    for file in &files {
        asking.arg("-c").arg(file);
    }
    let _asking = asking.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let (status, after) = said(&daemon, "guards_down").await?;
    let mut told = format!("{name}: after {after:?}: {}", status.tor.message);
    let advice = status.tor.advice.clone().context("no advice")?;
    let sentence = format!("{}: {advice}", status.tor.message);
    ensure!(status.tor.bootstrap >= 1.0, "it was to be ready: {sentence}");
    let text = daemon.status_text().await?;
    ensure!(text.contains("! Tor: "), "{text}");
    let in_the_log = |_: &Snapshot| daemon.process.log().contains("trouble=\"guards_down\"");
    daemon.until("in the log", SAID_WITHIN, in_the_log).await?;
    let page = get(UnixStream::connect(&socket).await?, "localhost", "/").await?.text();
    ensure!(page.contains("<li>Tor: ") && page.contains("let this machine connect"), "{page}");
    let scraped = get(TcpStream::connect(metrics).await?, "localhost", "/metrics").await?.text();
    ensure!(scraped.contains("onionbraid_tor_trouble{trouble=\"guards_down\"} 1"), "{scraped}");
    heal()?;
    let ended = Instant::now();
    let fine = |status: &Snapshot| status.ready && status.tor.trouble.is_none();
    daemon.until("well again", 4 * READY_WITHIN, fine).await?;
    told.push_str(&format!("; well {:?} after it was over", ended.elapsed()));
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_that_are_lost_while_the_daemon_runs_are_told_in_every_form() {
    let test =
        "e2e::tor_trouble::guards_that_are_lost_while_the_daemon_runs_are_told_in_every_form";
    if !in_a_namespace(test) {
        return;
    }
    sh("ip link set lo up").unwrap();
    let network = Network::start(Options::new(8)).await.unwrap();
    // All connections, those that are open as well; but not who scrapes, nor what
    // ends a connection.
    let cut = |verdict: &'static str| {
        move |metrics: u16| {
            sh(&format!(
                "nft add table inet cut; nft 'add chain inet cut out {{ type filter hook output \
                 priority 0; }}'; nft add rule inet cut out tcp dport {metrics} accept; nft add \
                 rule inet cut out tcp sport {metrics} accept; nft add rule inet cut out tcp flags \
                 rst accept; nft add rule inet cut out meta l4proto tcp {verdict}"
            ))
        }
    };
    let heal = || sh("nft delete table inet cut");
    let reset = cut_while_it_runs(&network, "reset", cut("reject with tcp reset"), heal).await;
    println!("{}", reset.unwrap());
    let dropped = cut_while_it_runs(&network, "dropped", cut("drop"), heal).await;
    println!("{}", dropped.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_told_by_how_much_and_the_service_is_published_once_it_is_right() {
    let network = crate::network::shared().await.unwrap();
    for (offset, words) in [("-3d", "3 days slow"), ("-3h", "3 hours slow"), ("+2d", "2 days fast")]
    {
        let dir = network.scratch(&format!("clock{offset}")).unwrap();
        let file = dir.join("offset");
        let program = with_clock(&dir, &file).unwrap();
        let set = |to: &str| Ok(std::fs::write(&file, format!("{to}\n"))?);
        let told =
            in_trouble(network, &program, "clock", || set(offset), || set("+0")).await.unwrap();
        println!("{told}");
        assert!(told.contains(&format!(": this machine's clock is {words}, as ")), "{told}");
    }
}
