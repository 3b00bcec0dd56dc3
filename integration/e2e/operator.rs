//! Does the daemon do what an operator says of its backends, and is no visitor
//! lost by it?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{Backend, Word};

use super::frontend::{Frontend, PAGE, Prepared, everywhere, service};
use crate::network;
use crate::network::origin::Origin;

/// Generous: how long it took is printed.
const LIMIT: Duration = Duration::from_secs(180);

/// So many visitors come at least.
const VISITS: u64 = 500;

fn backend<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Backend {
    service(snapshot).backends.iter().find(|backend| backend.name == name).unwrap()
}

/// Has the operator say something, as a command.
async fn say(frontend: &Frontend, words: &[&str]) -> (Option<i32>, String) {
    let output = frontend.command(&[&["backend", "shop"], words].concat()).await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_are_drained_and_maintained_while_visitors_come_and_none_is_lost() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let elsewhere = Origin::start("elsewhere").unwrap();
    let remote = network.future_backend("operated", elsewhere.address).await.unwrap();
    let prepared = Prepared::new(network, "operator").unwrap().on_a_socket();
    let onion = prepared.address().unwrap();
    remote.answer_for(&onion).await.unwrap();
    let config = format!(
        "proxy_ports = [['80', 'http://{}']]\nlocal_instances = 2\n\
         backends = [{{ address = '{}', name = 'berlin' }}]\n",
        origin.address,
        remote.onion_address()
    );
    let mut frontend = prepared.start(&config).unwrap();
    let listed = |snapshot: &Snapshot| {
        service(snapshot).backends.iter().all(|it| it.published_intro_points > 0)
    };
    frontend.daemon.until("with all backends", LIMIT, listed).await.unwrap();

    // Visitors of two kinds: one keeps its descriptor, one always asks for a new one.
    let done = Arc::new(AtomicBool::new(false));
    let (visits, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut visitors = tokio::task::JoinSet::new();
    for fresh in [false, true] {
        let client = network.client(&format!("visitor-of-operator-{fresh}")).await.unwrap();
        let (done, onion) = (Arc::clone(&done), onion.clone());
        let (visits, failed) = (Arc::clone(&visits), Arc::clone(&failed));
        visitors.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                if fresh {
                    client.new_identity().await.unwrap();
                }
                let visit = client.get("visit", &onion, "/", PAGE).await;
                visits.fetch_add(1, Ordering::SeqCst);
                if !visit.as_ref().is_ok_and(|page| page.status == 200) {
                    eprintln!("lost: {:?}", visit.err());
                    failed.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }

    let out = |name: &'static str, word: Word| {
        move |snapshot: &Snapshot| {
            let backend = backend(snapshot, name);
            backend.operator == word
                && backend.published_intro_points == 0
                && everywhere(service(snapshot))
        }
    };
    let said = Instant::now();
    assert_eq!(say(&frontend, &["local-0", "drain"]).await, (Some(0), String::new()));
    frontend.daemon.until("local-0 drained", LIMIT, out("local-0", Word::Drain)).await.unwrap();
    println!("drained after {:.1?}", said.elapsed());
    let said = Instant::now();
    assert_eq!(say(&frontend, &["berlin", "maintenance"]).await, (Some(0), String::new()));
    let berlin = out("berlin", Word::Maintenance);
    frontend.daemon.until("berlin in maintenance", LIMIT, berlin).await.unwrap();
    println!("in maintenance after {:.1?}", said.elapsed());
    let (code, text) = say(&frontend, &["local-1", "drain"]).await;
    assert!(code == Some(1) && text.contains("--force"), "{code:?} {text}");
    let (code, text) = say(&frontend, &["paris", "drain"]).await;
    assert!(code == Some(1) && text.contains("no backend \"paris\""), "{code:?} {text}");

    // What a restart would forget is not taken. Not even root can write a file where
    // a directory is.
    let in_the_way = frontend.state_dir().join("onionbraid/shop/balancer.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let (code, text) = say(&frontend, &["local-1", "weight", "7"]).await;
    assert!(code == Some(1) && text.contains("nothing has changed"), "{code:?} {text}");
    let status = frontend.daemon.status().await.unwrap();
    assert_eq!((backend(&status, "local-1").weight, status.ready), (1, true));
    std::fs::remove_dir(&in_the_way).unwrap();

    // It is shown, logged, and outlives the process.
    let text = frontend.daemon.status_text().await.unwrap();
    assert!(text.contains("backend berlin is in maintenance since"), "{text}");
    let log = frontend.daemon.process.log();
    assert!(log.contains("operator: maintenance") && log.contains("user="), "{log}");
    while visits.load(Ordering::SeqCst) < VISITS {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    done.store(true, Ordering::SeqCst);
    while let Some(ended) = visitors.join_next().await {
        ended.unwrap();
    }
    let (visits, failed) = (visits.load(Ordering::SeqCst), failed.load(Ordering::SeqCst));
    println!("{visits} visits, {failed} lost");
    assert!(visits > 0 && failed == 0, "{failed} of {visits}");

    frontend.restart().await.unwrap();
    let still = |snapshot: &Snapshot| {
        snapshot.ready
            && out("berlin", Word::Maintenance)(snapshot)
            && out("local-0", Word::Drain)(snapshot)
    };
    frontend.daemon.until("still out after a restart", LIMIT, still).await.unwrap();
    for name in ["local-0", "berlin"] {
        assert_eq!(say(&frontend, &[name, "ready"]).await, (Some(0), String::new()));
    }
    frontend.daemon.until("with all backends again", LIMIT, listed).await.unwrap();

    // A reload says what it has changed, and a bad file changes nothing.
    let output = frontend.command(&["reload"]).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "reloaded: nothing has changed\n");
}
