//! Do control links tell at once what descriptors tell in minutes?
//!
//! The times that are promised are asserted with what a busy machine adds; what was
//! measured is printed.

use std::time::{Duration, Instant};

use anyhow::Result;
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{Backend, BackendState, LinkState};
use onionbraid_balancer::onion::OnionAddress;

use super::frontend::{Frontend, PAGE, Prepared, SOON, everywhere, points_on_hsdirs, service};
use crate::network;
use crate::network::Network;
use crate::network::client::Client;
use crate::network::origin::Origin;
use crate::network::process::Signal;
use crate::network::slow_link::SlowLink;

/// A busy machine may take so many times what is promised.
const BUSY: u32 = 2;

/// Points that are added wait so long after the last round, in the short periods of
/// this network.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(20);

/// A publisher with a local instance, and a backend of our own kind.
struct Pair {
    publisher: Frontend,
    backend: Frontend,
    onion: String,
    /// What each has behind it.
    _origins: [Origin; 2],
}

impl Pair {
    /// Their link is up, and the points of both are with all HSDirs.
    async fn start(network: &Network, name: &str, way: Option<&SlowLink>) -> Result<Pair> {
        Self::beside(1, network, name, way).await
    }

    /// The same with so many local instances.
    async fn beside(
        local: u8,
        network: &Network,
        name: &str,
        way: Option<&SlowLink>,
    ) -> Result<Pair> {
        let origins = [Origin::start("here")?, Origin::start("there")?];
        let publisher = Prepared::new(network, &format!("{name}-publisher"))?;
        let onion = publisher.address()?;
        let mut backend = Prepared::new(network, &format!("{name}-backend"))?;
        let own = backend.address()?;
        if let Some(way) = way {
            backend = backend.through(way)?;
        }
        let backend = backend.start(&format!(
            "frontends = ['{onion}']\nproxy_ports = [['80', '{}']]",
            origins[1].address
        ))?;
        backend.ready().await?;
        let publisher = publisher.start(&format!(
            "local_instances = {local}\nproxy_ports = [['80', '{}']]\n\
             backends = [{{ address = '{own}', name = 'there' }}]",
            origins[0].address
        ))?;
        let pair = Pair { publisher, backend, onion, _origins: origins };
        pair.until("linked", |there| there.link == Some(LinkState::Up)).await?;
        pair.until_listed(true).await?;
        Ok(pair)
    }

    async fn until(&self, what: &str, is: impl Fn(&Backend) -> bool) -> Result<Snapshot> {
        self.publisher.daemon.until(what, SOON, |snapshot| is(there(snapshot))).await
    }

    /// Waits until all HSDirs have the backend's points, or none; how long that took.
    async fn until_listed(&self, listed: bool) -> Result<Duration> {
        let began = Instant::now();
        let wanted = |snapshot: &Snapshot| {
            (there(snapshot).published_intro_points > 0) == listed && everywhere(service(snapshot))
        };
        self.publisher.daemon.until("as wanted with all HSDirs", SOON, wanted).await?;
        Ok(began.elapsed())
    }
}

fn there(snapshot: &Snapshot) -> &Backend {
    service(snapshot).backends.iter().find(|backend| backend.name == "there").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_out_of_the_hsdirs_in_seconds_and_back_when_it_is() {
    let network = network::shared().await.unwrap();
    let mut pair = Pair::start(network, "link-killed", None).await.unwrap();
    pair.backend.daemon.process.kill().unwrap();
    let took = pair.until_listed(false).await.unwrap();
    println!("killed: out of the HSDirs after {took:?}");
    assert!(took <= BUSY * Duration::from_secs(20), "{took:?}");
    let held = points_on_hsdirs(&pair.publisher, &pair.onion).await.unwrap();
    assert_eq!(held.len(), 3, "{held:?}");

    // With the points that it had; its link is found again by them alone.
    pair.backend.restart_stopped().unwrap();
    let took = pair.until_listed(true).await.unwrap();
    println!("started again: with the HSDirs after {took:?}");
    pair.until("linked", |there| there.link == Some(LinkState::Up)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_has_stopped_is_out_of_the_hsdirs_within_half_a_minute() {
    let network = network::shared().await.unwrap();
    let pair = Pair::start(network, "link-stopped", None).await.unwrap();
    pair.backend.daemon.process.signal(Signal::Stop).unwrap();
    let took = pair.until_listed(false).await.unwrap();
    println!("stopped: out of the HSDirs after {took:?}");
    assert!(took <= BUSY * Duration::from_secs(30), "{took:?}");
    pair.backend.daemon.process.signal(Signal::Continue).unwrap();
    let took = pair.until_listed(true).await.unwrap();
    println!("continued: with the HSDirs after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_cut_off_is_out_of_the_hsdirs_within_half_a_minute() {
    let network = network::shared().await.unwrap();
    let way = SlowLink::start().await.unwrap();
    let pair = Pair::start(network, "link-cut", Some(&way)).await.unwrap();
    way.delay(Duration::from_secs(3600));
    let took = pair.until_listed(false).await.unwrap();
    println!("cut off: out of the HSDirs after {took:?}");
    assert!(took <= BUSY * Duration::from_secs(30), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_points_are_in_the_descriptor_seconds_after_they_are_established() {
    let network = network::shared().await.unwrap();
    let pair = Pair::beside(0, network, "link-points", None).await.unwrap();
    let origin = &pair._origins[1].address;
    pair.backend
        .reload(&format!(
            "frontends = ['{}']\nnum_intro_points = 4\nproxy_ports = [['80', '{origin}']]",
            pair.onion
        ))
        .unwrap();
    let has_four = |snapshot: &Snapshot| service(snapshot).backends[0].intro_points == 4;
    pair.backend.daemon.until("four points", SOON, has_four).await.unwrap();
    let began = Instant::now();
    let listed = |snapshot: &Snapshot| {
        there(snapshot).intro_points == 4
            && there(snapshot).published_intro_points == 4
            && everywhere(service(snapshot))
    };
    pair.publisher.daemon.until("all four listed", SOON, listed).await.unwrap();
    let took = began.elapsed();
    println!("new points: with the HSDirs after {took:?}");
    assert!(took <= BUSY * Duration::from_secs(10) + BETWEEN_ROUNDS, "{took:?}");
}

/// Fetches a page again and again as clients without a descriptor do, and gives
/// the number of pages; every one has to come. On a busy machine a circuit of the
/// client's own fails now and then: one may be asked for twice.
async fn visit(client: &Client, onion: &str, until: &tokio::sync::Notify) -> usize {
    let (mut visits, mut failed) = (0, 0);
    loop {
        let isolation = format!("visit-{visits}");
        let page = client.get(&isolation, onion, "/", PAGE);
        tokio::select! {
            page = page => {
                if let Err(error) = page {
                    failed += 1;
                    assert!(failed < 2, "visit {visits} failed, and one before it: {error:#}");
                    client.get("again", onion, "/", PAGE).await.unwrap();
                }
                visits += 1;
                if visits % 10 == 0 {
                    client.new_identity().await.unwrap();
                }
            }
            () = until.notified() => return visits,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_ends_in_order_is_out_before_it_stops_and_no_request_fails() {
    let network = network::shared().await.unwrap();
    let mut pair = Pair::start(network, "link-ends", None).await.unwrap();
    let client = network.client("visitor-of-link-ends").await.unwrap();
    let stop = tokio::sync::Notify::new();
    let ends = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let began = Instant::now();
        pair.backend.daemon.process.terminate().unwrap();
        let out = pair.until_listed(false).await.unwrap();
        assert!(pair.backend.daemon.process.is_running(), "it waits for its clients");
        let status = pair.backend.daemon.process.wait(SOON).await.unwrap();
        assert!(status.success());
        let ended = began.elapsed();
        println!("ended in order: out of the HSDirs after {out:?}, ended after {ended:?}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.notify_one();
    };
    let (visits, ()) = tokio::join!(visit(&client, &pair.onion, &stop), ends);
    println!("{visits} visits");
    assert!(visits > 5, "{visits}");
    let log = pair.backend.daemon.process.log();
    assert!(!log.contains("shutdown timed out"), "{log}");

    // What its descriptor says is not believed over its word; started again it is back.
    pair.backend.restart_stopped().unwrap();
    pair.until_listed(true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_publishers_hold_links_to_one_backend_and_strangers_find_no_port_there() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("there").unwrap();
    let names = ["link-two-first", "link-two-second"];
    let publishers = names.map(|name| Prepared::new(network, name).unwrap().on_a_socket());
    let onions = [0, 1].map(|n: usize| publishers[n].address().unwrap());
    let backend = Prepared::new(network, "link-two-backend").unwrap();
    let own = backend.address().unwrap();
    let keys = |frontends: &str| {
        format!("frontends = [{frontends}]\nproxy_ports = [['80', '{}']]", origin.address)
    };
    let both = format!("'{}', '{}'", onions[0], onions[1]);
    let backend = backend.start(&keys(&both)).unwrap();
    backend.ready().await.unwrap();
    let keys_of =
        format!("local_instances = 0\nbackends = [{{ address = '{own}', name = 'there' }}]");
    let publishers = publishers.map(|publisher| publisher.start(&keys_of).unwrap());
    let is = |state| move |snapshot: &Snapshot| there(snapshot).link == Some(state);
    for publisher in &publishers {
        publisher.daemon.until("linked", SOON, is(LinkState::Up)).await.unwrap();
    }
    let checked = publishers[0].command(&["check", "--online"]).await.unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("control link to there: up"), "{said}");

    // The port of the first one's link is like any other that is not in use.
    let address = |onion: &str| onion.parse::<OnionAddress>().unwrap();
    let port = onionbraid_balancer::link::port(&address(&own), &address(&onions[0]));
    let stranger = network.client("stranger-of-link-two").await.unwrap();
    stranger.get("page", &own, "/", PAGE).await.unwrap();
    let mut refusals = Vec::new();
    for port in [port, port ^ 1] {
        let refused = stranger.get_at("port", &own, port, "/", PAGE).await;
        refusals.push(format!("{:#}", refused.unwrap_err()).replace(&port.to_string(), "PORT"));
    }
    let without_times = |text: &String| text.split(" after ").next().map(str::to_owned);
    assert_eq!(without_times(&refusals[0]), without_times(&refusals[1]), "{refusals:?}");

    // What an operator says at one publisher, the backend shows.
    let drained = |wanted: bool| {
        move |snapshot: &Snapshot| {
            let mut problems = service(snapshot).problems.iter();
            problems.any(|problem| problem.contains("a publisher drains this backend")) == wanted
        }
    };
    let orders = ["drain", "ready"];
    for (order, wanted) in orders.into_iter().zip([true, false]) {
        let mut words = vec!["backend", "shop", "there", order];
        words.extend((order == "drain").then_some("--force"));
        let obeyed = publishers[0].command(&words).await.unwrap();
        assert!(obeyed.status.success(), "{obeyed:?}");
        backend.daemon.until("told", SOON, drained(wanted)).await.unwrap();
    }

    // The first one is no frontend any more: its link ends, the other one's stays.
    backend.reload(&keys(&format!("'{}'", onions[1]))).unwrap();
    publishers[0].daemon.until("unlinked", SOON, is(LinkState::Down)).await.unwrap();
    assert!(is(LinkState::Up)(&publishers[1].daemon.status().await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_c_tor_backend_that_is_asked_for_a_link_logs_nothing() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("plain").unwrap();
    let plain = network.future_backend("link-plain", origin.address).await.unwrap();
    let publisher = Frontend::start(
        network,
        "link-of-none",
        &format!("local_instances = 0\nbackends = ['{}']", plain.onion_address()),
    )
    .unwrap();
    let onion = publisher.address().await.unwrap();
    plain.answer_for(&onion).await.unwrap();
    publisher.ready().await.unwrap();
    let asked = async {
        while !publisher.daemon.process.log().contains("met; it offers no control link") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, asked).await.unwrap();
    let snapshot = publisher.daemon.status().await.unwrap();
    assert_eq!(service(&snapshot).backends[0].link, None);
    assert_eq!(service(&snapshot).backends[0].state, BackendState::Up);
    let log = plain.node.log();
    let (_, log) = log.split_once("Bootstrapped 100%").unwrap();
    let loud = log.lines().filter(|line| line.contains("[warn]") || line.contains("[notice]"));
    assert_eq!(loud.collect::<Vec<_>>(), [""; 0]);
}
