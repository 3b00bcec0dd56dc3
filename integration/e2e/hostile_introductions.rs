//! What do introductions of somebody hostile come to where work is asked for: with
//! solutions that were used, that solve another puzzle or none, and without any, and is
//! what the service asks for still asked for after it was killed?

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::Pow;
use tor_cell::relaycell::hs::IntroduceAckStatus;
use tor_cell::relaycell::hs::pow::ProofOfWork;
use tor_cell::relaycell::hs::pow::v1::ProofOfWorkV1;

use super::frontend::{Frontend, PAGE, SOON, everywhere, service};
use crate::network;
use crate::network::attacker::{Attacker, Target};
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

/// A loop that decides once a minute, on a machine that is several times slower.
const LIMIT: Duration = Duration::from_secs(300);

fn pow(snapshot: &Snapshot) -> Pow {
    service(snapshot).load.pow.clone().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_counts_once_and_none_counts_that_solves_another_puzzle() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("here").unwrap();
    let keys = format!("enable_pow = true\nproxy_ports = [['80', '{}']]", origin.address);
    let frontend = Frontend::start(network, "solved", &keys).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-solved").await.unwrap();
    let attacker = Attacker::start(network, "attacker-of-solved").await.unwrap();
    let target = Target::of(network, &client, &onion).await.unwrap();
    let introduce = async |work: Option<ProofOfWork>| {
        // A circuit may fail by chance; then nothing has come to the service.
        let ack = eventually(SOON, || attacker.introduce(&target, work.clone())).await.unwrap();
        assert_eq!(ack, IntroduceAckStatus::SUCCESS);
    };
    let counts = async |what: &str, is: &dyn Fn(&Pow) -> bool| {
        frontend.daemon.until(what, SOON, |snapshot| is(&pow(snapshot))).await.unwrap();
    };

    let honest = target.solve(2, None).unwrap();
    introduce(Some(honest.clone())).await;
    counts("verified", &|pow| pow.verified == 1).await;
    introduce(Some(honest.clone())).await;
    counts("used", &|pow| pow.refused["used"] == 1).await;
    let expired = target.solve(2, Some([7; 32])).unwrap();
    introduce(Some(expired)).await;
    counts("of no seed", &|pow| pow.refused["unknown_seed"] == 1).await;
    // More than was done, and something that is no solution.
    let ProofOfWork::V1(honest) = target.solve(1, None).unwrap() else { panic!() };
    for (effort, solution) in [(5_000, *honest.solution()), (1, [0; 16])] {
        let (nonce, head) = (honest.nonce().clone(), honest.seed_head());
        let wrong = ProofOfWorkV1::new(nonce, effort.into(), head, solution);
        introduce(Some(ProofOfWork::V1(wrong))).await;
    }
    counts("wrong", &|pow| pow.refused["wrong"] == 2).await;
    let counted = pow(&frontend.daemon.status().await.unwrap());
    assert_eq!((counted.verified, counted.refused["used"]), (1, 1));
    let page = eventually(SOON, || client.get("after", &onion, "/", PAGE)).await.unwrap();
    assert_eq!(page.text().trim(), "here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_under_attack_asks_for_the_same_work_again() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("here").unwrap();
    let keys = format!(
        "enable_pow = true\npow_rate = {{ rate = 1, burst = 1 }}\n\
         proxy_ports = [['80', '{}']]",
        origin.address
    );
    let mut frontend = Frontend::start(network, "killed-at-work", &keys).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-killed-at-work").await.unwrap();
    let attacker = Attacker::start(network, "attacker-of-killed-at-work").await.unwrap();
    let target = Target::of(network, &client, &onion).await.unwrap();

    let attacks = AtomicBool::new(true);
    let flood = futures::future::join_all((0..8).map(async |_| {
        while attacks.load(Ordering::Relaxed) {
            let _ = attacker.introduce(&target, None).await;
        }
    }));
    let asking = |snapshot: &Snapshot| pow(snapshot).effort > 0 && everywhere(service(snapshot));
    let observed = async {
        let asked = frontend.daemon.until("asking for work", LIMIT, asking).await;
        attacks.store(false, Ordering::Relaxed);
        asked
    };
    let (_, asked) = tokio::join!(flood, observed);
    let before = Target::of(network, &client, &onion).await.unwrap().puzzle.unwrap();
    assert!(before.1 > 0 && asked.is_ok(), "{before:?}");
    let file = frontend.state_dir().join("onionbraid/shop/balancer.json");
    let written = async {
        while !fs::read_to_string(&file).unwrap_or_default().contains("\"effort\":{") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, written).await.unwrap();

    frontend.daemon.process.kill().unwrap();
    frontend.restart_stopped().unwrap();
    let again = frontend.daemon.until("asking again", SOON, asking).await.unwrap();
    let after = Target::of(network, &client, &onion).await.unwrap().puzzle.unwrap();
    println!("{before:?}, {:?}, {after:?}", pow(&again));
    assert_eq!(after.0, before.0, "the seed is another one");
    assert!(after.1 > 0);
    let page = eventually(SOON, || client.get("after", &onion, "/", PAGE)).await.unwrap();
    assert_eq!(page.text().trim(), "here");
}
