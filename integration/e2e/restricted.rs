//! Do clients that may find a service come in, and others not?

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use onionbraid::inquiry::published::Published;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::frontend::{Frontend, PAGE, Prepared, SOON, service};
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::{self, Network};

/// A C tor client whose SOCKS port says why it fails, and which has the private keys
/// in these files.
async fn client(network: &Network, name: &str, keys: &[&Path]) -> Result<Client> {
    let mut client = network.client(name).await?;
    // A listener that is there keeps its flags, and keys are forgotten with a new
    // configuration.
    client.socks = network.free_address()?;
    let socks = client.socks;
    client.node.control(&format!("SETCONF SocksPort=\"{socks} ExtendedErrors\"")).await?;
    for key in keys {
        let text = std::fs::read_to_string(key)?;
        let (address, key) = text.trim().split_once(":descriptor:x25519:").context("no key")?;
        let key = data_encoding::BASE32_NOPAD.decode(key.as_bytes())?;
        let key = data_encoding::BASE64.encode(&key);
        client.node.control(&format!("ONION_CLIENT_AUTH_ADD {address} x25519:{key}")).await?;
    }
    Ok(client)
}

/// The code with which tor refuses a connection (RFC 1928, section 6; proposal 304).
async fn refusal(socks: SocketAddr, isolation: &str, onion: &str) -> Result<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(socks).await?;
        stream.write_all(&[5, 1, 2]).await?;
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen).await?;
        let name = isolation.as_bytes();
        let password = [&[1, u8::try_from(name.len())?], name, &[1, b'x']].concat();
        stream.write_all(&password).await?;
        stream.read_exact(&mut chosen).await?;
        let host = [&[5, 1, 0, 3, u8::try_from(onion.len())?], onion.as_bytes(), &[0, 80]].concat();
        stream.write_all(&host).await?;
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).await?;
        Ok(reply[1])
    };
    tokio::time::timeout(SOON, exchange).await?
}

async fn said(frontend: &Frontend, arguments: &[&str]) -> Result<String> {
    let output = frontend.command(arguments).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {stderr}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The points of the local instance that clients find.
async fn local_points(frontend: &Frontend, onion: &str) -> Result<BTreeSet<String>> {
    let report = said(frontend, &["descriptor", onion, "--json"]).await?;
    let report: Published = serde_json::from_str(&report)?;
    let points = report.descriptors.into_iter().flat_map(|one| one.intro_points);
    let local = points.filter(|point| point.backends == ["local-0"]);
    Ok(local.map(|point| point.session_id).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_in_with_their_keys_others_not_and_one_that_is_taken_out_no_longer() {
    let network = network::shared().await.unwrap();
    let origins = ["here", "there"].map(|name| Origin::start(name).unwrap());
    let backend = network.future_backend("closed-backend", origins[1].address).await.unwrap();
    let prepared = Prepared::new(network, "restricted").unwrap().on_a_socket();
    let dir = prepared.dir().to_owned();
    std::fs::create_dir(dir.join("clients")).unwrap();
    let own = backend.onion_address();
    let text = format!(
        "local_instances = 1\nproxy_ports = [['80', '{}']]\n\
         backends = [{{ address = '{own}', name = 'there', client_key = 'there.auth_private' }}]\n\
         restricted_discovery = {{ enabled = true, key_dirs = [{{ path = 'clients' }}] }}",
        origins[0].address,
    );
    let onion = prepared.address().unwrap();
    // The backend lets the publisher alone read its descriptor.
    let frontend = {
        let empty = prepared.start("proxy_ports = [['80', 'reject']]").unwrap();
        empty.address().await.unwrap();
        empty.configure(&text).unwrap();
        let config = said(&empty, &["backend-config", "shop", "--backend", "there"]).await.unwrap();
        let line = config.lines().last().unwrap();
        let authorized = backend.directory().join("authorized_clients");
        std::fs::create_dir_all(&authorized).unwrap();
        std::fs::write(authorized.join("publisher.auth"), format!("{line}\n")).unwrap();
        backend.answer_for(&onion).await.unwrap();
        empty
    };
    let [alice, bob] = ["alice", "bob"].map(|name| dir.join(format!("{name}.auth_private")));
    for (name, file) in [("alice", &alice), ("bob", &bob)] {
        let out = file.to_str().unwrap();
        said(&frontend, &["clients", "add", "shop", name, "--out", out]).await.unwrap();
    }
    said(&frontend, &["reload"]).await.unwrap();
    let snapshot = frontend.ready().await.unwrap();
    assert_eq!(service(&snapshot).clients, Some(2));

    let with_key = client(network, "alice-of-restricted", &[&alice]).await.unwrap();
    let revoked = client(network, "bob-of-restricted", &[&bob]).await.unwrap();
    let without = client(network, "nobody-of-restricted", &[]).await.unwrap();
    let mut seen = BTreeSet::new();
    for visit in 0..40 {
        let page = with_key.get(&format!("alice-{visit}"), &onion, "/", PAGE).await.unwrap();
        seen.insert(page.text().trim().to_owned());
        if seen.len() == 2 {
            break;
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["here", "there"]);
    revoked.get("bob", &onion, "/", PAGE).await.unwrap();
    assert_eq!(refusal(without.socks, "nobody", &onion).await.unwrap(), 0xf4);
    // The backend's own address is closed, too.
    assert_eq!(refusal(without.socks, "nobody", own).await.unwrap(), 0xf4);

    // Commands read what only clients may.
    said(&frontend, &["check", "--online"]).await.unwrap();
    let before = local_points(&frontend, &onion).await.unwrap();
    assert!(!before.is_empty());

    // Without a reload: bob is out, and the points that he knows are others now.
    said(&frontend, &["clients", "remove", "shop", "bob"]).await.unwrap();
    eventually(SOON * 2, || async {
        let now = local_points(&frontend, &onion).await?;
        ensure!(!now.is_empty() && now.is_disjoint(&before), "{now:?} {before:?}");
        Ok(())
    })
    .await
    .unwrap();
    // One that has never been there: the other keeps the descriptor of before. It has a
    // key, so tor says that this is the wrong one.
    let revoked = client(network, "bob-again-of-restricted", &[&bob]).await.unwrap();
    assert_eq!(refusal(revoked.socks, "bob-again", &onion).await.unwrap(), 0xf5);
    with_key.get("alice-still", &onion, "/", PAGE).await.unwrap();

    // Nobody is left: it is not published, and that is said.
    said(&frontend, &["clients", "remove", "shop", "alice"]).await.unwrap();
    let closed = |snapshot: &onionbraid::observe::Snapshot| {
        let service = service(snapshot);
        service.clients == Some(0)
            && !snapshot.ready
            && service.problems.iter().any(|it| it.contains("no client is authorized"))
    };
    let limit = Duration::from_secs(30);
    frontend.daemon.until("closed to everybody", limit, closed).await.unwrap();
    // The daemon runs so, with its other services: it is a warning.
    let check = frontend.command(&["check"]).await.unwrap();
    let told = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && told.contains("NOT PUBLISHED"), "{check:?}");
}
