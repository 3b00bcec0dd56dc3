//! Does a publisher without the identity key serve clients over changes of the time
//! period, and does it say when its keys end?

use std::time::Duration;

use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::ServiceState;

use super::frontend::{Frontend, PAGE, Prepared, SOON, program, service, until_all_answered};
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::{Network, Options, period};

/// Periods of six minutes, the shortest of a private network.
const INTERVAL: Duration = Duration::from_secs(15);

/// How many periods there are keys for: two changes, and the end.
const PERIODS: u64 = 3;

fn left(snapshot: &Snapshot) -> Option<u64> {
    service(snapshot).bundle.map(|bundle| bundle.periods_left)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_some_periods_publish_in_those_and_their_end_is_announced() {
    let options = Options { voting_interval: INTERVAL, ..Options::new(10) };
    let network = Network::start(options).await.unwrap();
    network.calm_for(Duration::from_secs(60)).await.unwrap();
    let origin = Origin::start("berlin").unwrap();
    let berlin = network.future_backend("offline-berlin", origin.address).await.unwrap();
    let backends = format!("backends = ['{}']\npublishers = 'several'\n", berlin.onion_address());

    // The safe machine, which publishes for a while, too.
    let prepared = Prepared::new(&network, "whole").unwrap();
    let (key, bundle) = (prepared.dir().join("key"), network.dir().join("bundle"));
    let made = std::process::Command::new(program())
        .args(["keys", "generate", "--out"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let with_key = format!("identity_key = '{}'\n{backends}", key.display());
    let mut whole = prepared.start(&with_key).unwrap();
    let onion = whole.address().await.unwrap();
    let (length, offset) = (period::length(INTERVAL), period::offset(INTERVAL));
    let (minutes, seconds) = ((length.as_secs() / 60).to_string(), offset.as_secs().to_string());
    let (count, out) = (PERIODS.to_string(), bundle.display().to_string());
    let mut export = vec!["keys", "export-periods", "shop", "--count", &count, "--out", &out];
    export.extend(["--period-minutes", &minutes, "--period-offset", &seconds]);
    let exported = whole.command(&export).await.unwrap();
    assert!(exported.status.success(), "{exported:?}");

    let with_bundle = format!("identity_bundle = '{out}'\n{backends}");
    let mut offline: Frontend =
        Prepared::new(&network, "offline").unwrap().start(&with_bundle).unwrap();
    assert_eq!(offline.address().await.unwrap(), onion);
    berlin.answer_for(&onion).await.unwrap();
    whole.ready().await.unwrap();
    let ready = offline.ready().await.unwrap();
    let at_first = left(&ready).unwrap();
    assert!((2..=PERIODS).contains(&at_first), "{at_first}");
    let warned = |snapshot: &Snapshot| {
        let problems = &service(snapshot).problems;
        problems.iter().any(|it| it.starts_with("identity_bundle: "))
    };
    assert!(warned(&ready), "{ready:?}");
    for publisher in [&whole, &offline] {
        let snapshot = publisher.daemon.until("looked at", SOON, |_| true).await.unwrap();
        let problems = &service(&snapshot).problems;
        assert!(!problems.iter().any(|it| it.contains("in other hands")), "{problems:?}");
    }

    // From here on, whoever has the identity key is gone.
    whole.stop().await.unwrap();
    let client = network.client("visitor-of-offline").await.unwrap();
    until_all_answered(&client, &onion, &["berlin"]).await.unwrap();
    for wanted in (1..at_first).rev() {
        let changed = |snapshot: &Snapshot| snapshot.ready && left(snapshot) == Some(wanted);
        offline.daemon.until("in the next period", length + SOON, changed).await.unwrap();
        // A new client has nothing of the period before.
        let late = network.client(&format!("visitor-of-offline-{wanted}")).await.unwrap();
        eventually(SOON, async || {
            late.new_identity().await?;
            late.get("late", &onion, "/", PAGE).await.map(drop)
        })
        .await
        .unwrap();
    }

    let ended = |snapshot: &Snapshot| {
        left(snapshot) == Some(0)
            && service(snapshot).state == ServiceState::Down
            && warned(snapshot)
    };
    let snapshot = offline.daemon.until("at its end", length + SOON, ended).await.unwrap();
    assert!(!snapshot.ready);
    let problems = service(&snapshot).problems.join("\n");
    assert!(problems.contains("nothing is published any more"), "{problems}");
    let check = offline.command(&["check"]).await.unwrap();
    // A warning: the daemon runs, and might have others to serve.
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    let said = String::from_utf8_lossy(&check.stdout) + String::from_utf8_lossy(&check.stderr);
    assert!(said.contains("the last time period with keys ended at"), "{said}");
    offline.stop().await.unwrap();
}
