//! Do control links bear hostile ends: those who cannot prove to be the publisher, and
//! backends that flood it or lie to it?
//!
//! What is hostile here speaks through real circuits: strangers by Arti's, backends by
//! Arti's onion services or C tor's. The publishers and honest backends are daemons.

mod hostile;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Result;
use data_encoding::HEXLOWER;
use futures::future::try_join_all;
use futures::{StreamExt as _, stream};
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{Backend, BackendState, LinkState};
use onionbraid::tor::keys;
use onionbraid_balancer::link::{self, Condition, Offered, Report, WorkReport, line};
use onionbraid_balancer::onion::{IntroPoint, LinkSpecifier, OnionAddress, RelayId, SessionId};
use onionbraid_balancer::pow::{Effort, SeedSlot};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tor_llcrypto::pk::{curve25519, ed25519};

use self::hostile::{Listening, Speaker, Words, behind_a_gate, forged, outcome, points};
use super::frontend::{
    ArtiClient, Frontend, PAGE, Prepared, SOON, everywhere, service, until_all_answered,
};
use crate::network;
use crate::network::Network;
use crate::network::attacker::{Attacker, Target};
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

/// Reports that are read ten times a second, and probes, on a machine that is several
/// times slower.
const LIMIT: Duration = Duration::from_secs(180);

/// What a flood may make the publisher's memory grow by, in bytes.
const MOST_MEMORY: u64 = 64 * 1024 * 1024;

/// How often a flood may have everything uploaded again: what the reports of one backend
/// may change in a minute, and a little more.
const MOST_ROUNDS: usize = 10;

/// How many points one of four backends may have in a descriptor of eight.
const SHARE: usize = 2;

fn backend<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Backend {
    service(snapshot).backends.iter().find(|backend| backend.name == name).unwrap()
}

fn is_linked(snapshot: &Snapshot, name: &str) -> bool {
    backend(snapshot, name).link == Some(LinkState::Up)
}

fn address(onion: &str) -> OnionAddress {
    onion.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_proof_of_his_own_for_this_very_circuit_finds_no_port_there() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("there").unwrap();
    let publisher = Prepared::new(network, "unproven-publisher").unwrap();
    let onion = publisher.address().unwrap();
    let [there, other] =
        ["unproven-backend", "unproven-other"].map(|name| Prepared::new(network, name).unwrap());
    let (key, key_of_other) = (there.key().unwrap(), other.key().unwrap());
    let [own, relaying] = [keys::address(&key), keys::address(&key_of_other)];

    // Both backends are the test's own at first: they see all that a hostile one sees.
    let arti = ArtiClient::start(network, "unproven-hostile").await.unwrap();
    let mut stand_in = Listening::start(&arti, "stand-in", key).unwrap();
    let mut relay = Listening::start(&arti, "relay", key_of_other).unwrap();
    let mut publisher = publisher
        .start(&format!(
            "local_instances = 0\nbackends = [{{ address = '{own}', name = 'there' }},\n\
             {{ address = '{relaying}', name = 'relay' }}]"
        ))
        .unwrap();
    let port = link::port(&own, &address(&onion));
    let (to_own, to_other) = (stand_in.next().await.unwrap(), relay.next().await.unwrap());
    assert_eq!(to_own.port, port);
    assert_eq!(to_other.port, link::port(&relaying, &address(&onion)));
    let (replayed, passed_on) = (to_own.host.clone(), to_other.host.clone());
    assert!(HEXLOWER.decode(replayed.as_bytes()).is_ok_and(|proof| proof.len() > 64));
    to_own.refuse().await.unwrap();
    to_other.refuse().await.unwrap();

    // From here on the one is what it should be, and the other has another proof.
    drop(stand_in);
    publisher.stop().await.unwrap();
    let keys = format!("frontends = ['{onion}']\nproxy_ports = [['80', '{}']]", origin.address);
    let there = there.start(&keys).unwrap();
    there.ready().await.unwrap();
    publisher.restart_stopped().unwrap();
    let linked = |snapshot: &Snapshot| is_linked(snapshot, "there");
    publisher.daemon.until("linked", LIMIT, linked).await.unwrap();
    let fresh = relay.next().await.unwrap();
    assert_ne!(fresh.host, passed_on);

    let held = || {
        let accepted = there.daemon.process.log().matches("a publisher holds a control").count();
        (accepted, publisher.daemon.process.log().matches("control link lost").count())
    };
    let before = (held(), there.daemon.status().await.unwrap());
    let attacker = Attacker::start(network, "unproven-stranger").await.unwrap();
    let noise: Vec<u8> = (0..replayed.len() / 2).map(|_| rand::rng().random()).collect();
    let noise = HEXLOWER.encode(&noise);
    // As long as a cell allows.
    let longest = "0".repeat(480);
    let hosts = [
        ("no proof", ""),
        ("random bytes", &noise),
        ("another key's", &forged(&own).unwrap()),
        ("too long", &longest),
        ("made for another circuit", &replayed),
        ("made for another backend", &passed_on),
        ("made for another backend just now", &fresh.host),
    ];
    let onion_of_it = own.to_string();
    let attempts =
        hosts.iter().flat_map(|(what, host)| [(*what, *host, port), (*what, *host, port ^ 1)]);
    let outcomes = attempts.map(async |(what, host, port)| {
        let dialled = || outcome(&attacker, &onion_of_it, host, port);
        anyhow::Ok((what, eventually(SOON, dialled).await?))
    });
    let outcomes = try_join_all(outcomes).await.unwrap();
    println!("{:?}", outcomes[0]);
    // At once with the one port, so with the other.
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == outcomes[0].1), "{outcomes:?}");
    assert_ne!(outcomes[0].1.0, "opened");
    fresh.refuse().await.unwrap();

    // It is the right port, and its publisher is there as before.
    let now = there.daemon.status().await.unwrap();
    let shown = |snapshot: &Snapshot| {
        let Backend { state, reason, intro_points, published_intro_points, .. } =
            service(snapshot).backends[0].clone();
        let problems = service(snapshot).problems.clone();
        (problems, state, reason, intro_points, published_intro_points)
    };
    assert_eq!((before.0, shown(&before.1)), (held(), shown(&now)));
    assert!(linked(&publisher.daemon.status().await.unwrap()));
    let client = network.client("visitor-of-unproven").await.unwrap();
    until_all_answered(&client, &onion_of_it, &["there"]).await.unwrap();
}

/// A report of these points.
fn report(number: u64, points: &[IntroPoint]) -> Vec<u8> {
    let (condition, points) = (Condition::Serving, points.to_vec());
    line(&Report { number, offer: Offered { condition, points, ..Offered::default() } })
}

/// A visitor's page, the second time at the latest: a circuit of the client's own fails
/// now and then on a busy machine.
async fn page(client: &Client, onion: &str) -> Result<String> {
    let name = format!("page-{}", rand::rng().random::<u64>());
    let page = match client.get(&name, onion, "/", PAGE).await {
        Ok(page) => page,
        Err(_) => client.get(&format!("{name}-again"), onion, "/", PAGE).await?,
    };
    Ok(page.text().trim().to_owned())
}

/// Waits until the service at an address is found, and tells its points.
async fn points_of(network: &Network, client: &Client, onion: &str) -> Vec<IntroPoint> {
    let target = eventually(SOON, || Target::of(network, client, onion)).await;
    points(&target.unwrap()).unwrap()
}

/// What floods do: each has told its points once, and begins when the gate opens.
fn flood(kind: &str, known: &OnceLock<Vec<IntroPoint>>, gate: watch::Receiver<bool>) -> Words {
    let points = known.get().cloned().unwrap_or_default();
    let first = report(1, &points);
    let others: Box<dyn Iterator<Item = Vec<u8>> + Send> = match kind {
        "fast" => Box::new((2..).map(move |number| {
            let some = usize::try_from(number).unwrap() % (points.len() + 1);
            report(number, &points[..some])
        })),
        "endless" => Box::new(std::iter::repeat_with(|| vec![b'x'; 8192])),
        "giant" => {
            let room = link::MAX_LINE * 9 / 10 / report(1, &points).len();
            let many: Vec<_> = std::iter::repeat_n(points, room).flatten().collect();
            Box::new((2..).map(move |number| report(number, &many)))
        }
        _ => Box::new(std::iter::repeat_with(move || report(1, &points))),
    };
    behind_a_gate(first, gate, others)
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_that_flood_cost_the_publisher_little_and_keep_nobody_out() {
    let network = network::shared().await.unwrap();
    let origins = ["here", "flooding"].map(|name| Origin::start(name).unwrap());
    let publisher = Prepared::new(network, "flooded-publisher").unwrap();
    let onion = publisher.address().unwrap();
    let client = network.client("visitor-of-flooded").await.unwrap();
    let kinds = ["fast", "endless", "giant", "back", "pings"];
    let origins_there = kinds.map(|_| origins[1].address);
    let mut floods = network.future_backends("flooding", &origins_there).await.unwrap();
    let onions = floods.onion_addresses().to_vec();
    let known = kinds.map(|_| Arc::<OnceLock<Vec<IntroPoint>>>::default());
    let (open, gate) = watch::channel(false);
    let mut speakers = Vec::new();
    for (n, kind) in kinds.into_iter().enumerate() {
        let (known, gate) = (Arc::clone(&known[n]), gate.clone());
        let speaker = match kind {
            "pings" => {
                let ping = [[0, 0, 8, 6, 0, 0, 0, 0, 0].as_slice(), &[7; 8]].concat();
                Speaker::raw(vec![0, 0, 0, 4, 0, 0, 0, 0, 0], ping.repeat(1000)).await
            }
            kind => Speaker::start(200, move || flood(kind, &known, gate.clone())).await,
        };
        let speaker = speaker.unwrap();
        floods.lead(link::port(&address(&onions[n]), &address(&onion)), speaker.address);
        speakers.push(speaker);
    }
    floods.answer_for(&onion).await.unwrap();
    for (known, onion) in known.iter().zip(&onions) {
        known.set(points_of(network, &client, onion).await).unwrap();
    }
    let backends = onions.iter().zip(kinds);
    let backends: Vec<_> = backends
        .map(|(onion, kind)| format!("{{ address = '{onion}', name = '{kind}' }}"))
        .collect();
    let publisher = publisher
        .start(&format!(
            "local_instances = 1\nproxy_ports = [['80', '{}']]\nbackends = [{}]",
            origins[0].address,
            backends.join(", ")
        ))
        .unwrap();
    let linked = |snapshot: &Snapshot| kinds[..4].iter().all(|kind| is_linked(snapshot, kind));
    publisher.daemon.until("linked", LIMIT, linked).await.unwrap();
    publisher.ready().await.unwrap();
    page(&client, &onion).await.unwrap();

    let before = publisher.daemon.status().await.unwrap();
    open.send_replace(true);
    let [fast, _, giant, back, pings] = &speakers[..] else { unreachable!() };
    let mut visits = 0;
    let visiting = async {
        while fast.said() < 200 || giant.said() < 20 || back.heard() < 2 || pings.heard() < 1 {
            page(&client, &onion).await.unwrap();
            publisher.daemon.status().await.unwrap();
            visits += 1;
        }
    };
    tokio::time::timeout(LIMIT, visiting).await.unwrap();
    until_all_answered(&client, &onion, &["here"]).await.unwrap();
    let after = publisher.daemon.status().await.unwrap();
    let resident = |snapshot: &Snapshot| snapshot.memory.resident.unwrap();
    let grown = resident(&after).saturating_sub(resident(&before));
    let uploads =
        |snapshot: &Snapshot| service(snapshot).uploads_accepted + service(snapshot).uploads_failed;
    let uploaded = uploads(&after) - uploads(&before);
    let said: Vec<_> = kinds.iter().zip(&speakers).map(|(k, s)| (k, s.heard(), s.said())).collect();
    println!("{visits} visits, {} kB more, {uploaded} uploads, {said:?}", grown / 1000);
    assert!(grown < MOST_MEMORY, "{grown}");
    let hsdirs: usize = service(&after).descriptors.iter().map(|it| it.hsdirs.len()).sum();
    assert!(uploaded <= (MOST_ROUNDS * hsdirs) as u64, "{uploaded} for {hsdirs} HSDirs");
    assert!(speakers.iter().all(|speaker| speaker.heard() <= 20), "{said:?}");
    // Who floods stays in use as what its descriptor says.
    assert!(is_linked(&after, "fast"), "{said:?}");
}

/// What a backend says in place of its true words, numbered as it should be.
fn spoken(offers: watch::Receiver<Value>) -> Words {
    let words = stream::unfold((offers, 0), |(mut offers, said)| async move {
        if said > 0 {
            offers.changed().await.ok()?;
        }
        let mut offer = offers.borrow_and_update().clone();
        offer["number"] = json!(said + 1);
        Some((line(&offer).into(), (offers, said + 1)))
    });
    words.boxed()
}

/// A point at the same relay that nobody has.
fn made_up(point: &IntroPoint) -> IntroPoint {
    let key: ed25519::Keypair = ed25519::Keypair::from_bytes(&rand::rng().random());
    let session_id = SessionId(key.verifying_key().to_bytes());
    IntroPoint { session_id, ..with_another_key(point) }
}

/// The same point with a service key that nobody has.
fn with_another_key(point: &IntroPoint) -> IntroPoint {
    let secret = curve25519::StaticSecret::from(rand::rng().random::<[u8; 32]>());
    let service_ntor_key = curve25519::PublicKey::from(&secret).to_bytes();
    IntroPoint { service_ntor_key, ..point.clone() }
}

/// A publisher with honest backends of several kinds, and one that lies.
struct Site {
    publisher: Frontend,
    onion: String,
    client: Client,
    lies: watch::Sender<Value>,
}

impl Site {
    /// Has the liar say this.
    fn lie(&self, points: &[IntroPoint], more: &Value) {
        let offer = Offered {
            condition: Condition::Serving,
            points: points.to_vec(),
            ..Offered::default()
        };
        let mut offer = serde_json::to_value(offer).unwrap();
        let fields = more.as_object().unwrap().clone();
        offer.as_object_mut().unwrap().extend(fields);
        self.lies.send_replace(offer);
    }

    /// Waits until the liar is seen so, while everybody else is seen and found as ever.
    async fn until(&self, what: &str, is: impl Fn(&Backend) -> bool) {
        let wanted = |snapshot: &Snapshot| {
            let honest = ["local-0", "old", "new"].map(|name| backend(snapshot, name));
            let is_found =
                |it: &&Backend| it.state == BackendState::Up && it.published_intro_points > 0;
            let liar = backend(snapshot, "liar");
            assert!(liar.published_intro_points <= SHARE, "{what}: {liar:?}");
            honest.iter().all(is_found) && is(liar) && everywhere(service(snapshot))
        };
        let seen = self.publisher.daemon.until(what, LIMIT, wanted).await.unwrap();
        self.client.new_identity().await.unwrap();
        let pages = [page(&self.client, &self.onion).await, page(&self.client, &self.onion).await];
        assert!(pages.iter().all(Result::is_ok), "{what}: {pages:?} {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_lies_or_has_another_version_harms_nobody_but_itself() {
    let network = network::shared().await.unwrap();
    let names = ["old", "new", "liar"];
    let here = Origin::start("local-0").unwrap();
    let origins = names.map(|name| Origin::start(name).unwrap());
    let publisher = Prepared::new(network, "deceived-publisher").unwrap();
    let onion = publisher.address().unwrap();
    let client = network.client("visitor-of-deceived").await.unwrap();
    let addresses = [0, 1, 2].map(|n: usize| origins[n].address);
    let mut backends = network.future_backends("deceiving", &addresses).await.unwrap();
    let onions = backends.onion_addresses().to_vec();
    let (lies, lied) = watch::channel(Value::Null);
    let (news, told) = watch::channel(Value::Null);
    let speakers = [
        Speaker::start(404, || stream::empty().boxed()).await.unwrap(),
        Speaker::start(200, move || spoken(told.clone())).await.unwrap(),
        Speaker::start(200, move || spoken(lied.clone())).await.unwrap(),
    ];
    for (onion_of_it, speaker) in onions.iter().zip(&speakers) {
        backends.lead(link::port(&address(onion_of_it), &address(&onion)), speaker.address);
    }
    backends.answer_for(&onion).await.unwrap();
    let honest = points_of(network, &client, &onions[1]).await;
    let own = points_of(network, &client, &onions[2]).await;
    // What a later version may say.
    let offer =
        Offered { condition: Condition::Serving, points: honest.clone(), ..Offered::default() };
    let mut offer = serde_json::to_value(offer).unwrap();
    offer["since"] = json!([1, { "x": null }]);
    offer["capabilities"]["later"] = json!("more");
    offer["points"][0]["later"] = json!({});
    news.send_replace(offer);
    let entries = onions.iter().zip(names);
    let entries: Vec<_> = entries
        .map(|(onion, name)| format!("{{ address = '{onion}', name = '{name}' }}"))
        .collect();
    let keys = format!(
        "local_instances = 1\nproxy_ports = [['80', '{}']]\n\
         probe = {{ port = 80, interval = '10s' }}\nbackends = [{}]",
        here.address,
        entries.join(", ")
    );
    let site = Site { publisher: publisher.start(&keys).unwrap(), onion, client, lies };
    site.lie(&own, &json!({}));

    // "No link" and fields that are not known: both are listed and found.
    let linked = |snapshot: &Snapshot| is_linked(snapshot, "new") && is_linked(snapshot, "liar");
    let log = || site.publisher.daemon.process.log();
    site.publisher.daemon.until("linked", LIMIT, linked).await.unwrap();
    site.publisher.ready().await.unwrap();
    let everybody = ["local-0", "old", "new", "liar"];
    until_all_answered(&site.client, &site.onion, &everybody).await.unwrap();
    let answered = async {
        while !log().contains("met; it offers no control link") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LIMIT, answered).await.unwrap();
    let old = site.publisher.daemon.status().await.unwrap();
    let old = backend(&old, "old");
    assert_eq!((old.link, old.state, speakers[0].heard()), (None, BackendState::Up, 1));

    // The points of others, with a key that none of their clients could use.
    let here = points_of(network, &site.client, &site.onion).await;
    let is_own = |point: &&IntroPoint| own.iter().any(|it| it.session_id == point.session_id);
    let stolen: Vec<_> = here.iter().filter(|it| !is_own(it)).map(with_another_key).collect();
    assert!(stolen.len() >= 3, "{stolen:?}");
    site.lie(&stolen, &json!({}));
    site.until("points of others", |liar| liar.published_intro_points == 0).await;

    // Relays that there are not, keys that give clients away, and those that no descriptor
    // can hold: they are no point of the curve.
    let nowhere = LinkSpecifier { kind: 0, body: vec![127, 0, 0, 1, 0, 9] };
    let relay = RelayId(rand::rng().random());
    let unknown = IntroPoint { relay, link_specifiers: vec![nowhere], ..made_up(&own[0]) };
    let weak = IntroPoint { service_ntor_key: [0; 32], ..made_up(&own[1]) };
    let uncertified = IntroPoint { service_ntor_key: [9; 32], ..made_up(&own[2]) };
    site.lie(&[unknown, weak, uncertified], &json!({}));
    let refused = |liar: &Backend| liar.state == BackendState::Down && liar.intro_points == 0;
    site.until("points that are none", refused).await;

    // Nobody else has to do as it says.
    let work = WorkReport { slot: Some(SeedSlot(u64::MAX)), effort: Effort::MAX };
    site.lie(&own, &json!({ "full": true, "work": work }));
    site.until("full and attacked", |liar| liar.published_intro_points > 0).await;

    // Points that nobody has: probes find out.
    let nobodys: Vec<_> = own.iter().map(made_up).chain([made_up(&own[0])]).collect();
    site.lie(&nobodys, &json!({ "full": false }));
    let listed = |liar: &Backend| liar.intro_points == 4 && liar.published_intro_points > 0;
    site.until("nobody's points", listed).await;
    let found_out = |liar: &Backend| liar.published_intro_points == 0;
    site.until("nobody's points, probed", found_out).await;

    // More than a message holds ends the link.
    let lost = log().matches("control link lost").count();
    let thousands: Vec<_> = (0..3000).map(|_| made_up(&own[0])).collect();
    site.lie(&thousands, &json!({}));
    site.until("thousands", |_| log().matches("control link lost").count() > lost).await;
    assert!(is_linked(&site.publisher.daemon.status().await.unwrap(), "new"));
}
