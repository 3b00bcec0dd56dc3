//! Does the daemon end without harm to those who are served?

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::frontend::{Frontend, PAGE, SOON, everywhere, service};
use crate::network;
use crate::network::origin::Origin;

/// A server whose one page comes in two parts: the second when it is allowed.
struct TwoParts {
    address: SocketAddr,
    /// Gets one permit with each request.
    asked: Arc<Semaphore>,
    /// Wants one for each second part.
    allowed: Arc<Semaphore>,
    _connections: JoinSet<()>,
}

impl TwoParts {
    async fn start() -> Result<TwoParts> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let [asked, allowed] = [(); 2].map(|()| Arc::new(Semaphore::new(0)));
        let mut connections = JoinSet::new();
        connections.spawn({
            let (asked, allowed) = (Arc::clone(&asked), Arc::clone(&allowed));
            async move {
                let mut served = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    served.spawn(serve(stream, Arc::clone(&asked), Arc::clone(&allowed)));
                }
            }
        });
        Ok(TwoParts { address, asked, allowed, _connections: connections })
    }
}

/// Who looks whether the server is there sends nothing, and is sent nothing.
async fn serve(mut stream: tokio::net::TcpStream, asked: Arc<Semaphore>, allowed: Arc<Semaphore>) {
    let mut request = [0; 4096];
    if stream.read(&mut request).await.unwrap_or(0) == 0 {
        return;
    }
    let first = b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\nconnection: close\r\n\r\nthe first, ";
    if stream.write_all(first).await.is_err() {
        return;
    }
    asked.add_permits(1);
    if let Ok(permit) = allowed.acquire().await {
        permit.forget();
        // Whether the client is there still is what the test looks at.
        let _ = stream.write_all(b"second").await;
        let _ = stream.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_under_way_is_finished_after_the_points_have_left_the_descriptor() {
    let network = network::shared().await.unwrap();
    let here = TwoParts::start().await.unwrap();
    let elsewhere = Origin::start("elsewhere").unwrap();
    let remote = network.future_backend("elsewhere", elsewhere.address).await.unwrap();
    let frontend = Frontend::start(
        network,
        "drained",
        &format!(
            "local_instances = 1\nproxy_ports = [['80', '{}']]\nbackends = ['{}']\n\
             [shutdown]\ngrace = '1s'\nlimit = '10m'\n",
            here.address,
            remote.onion_address(),
        ),
    )
    .unwrap();
    let onion = frontend.address().await.unwrap();
    remote.answer_for(&onion).await.unwrap();
    frontend.ready().await.unwrap();
    let client = Arc::new(network.client("visitor-of-drained").await.unwrap());

    // Clients choose a backend by chance: visit until one is at ours.
    let mut visits = JoinSet::new();
    let mut download = None;
    for visit in 0..100 {
        let (client, onion) = (Arc::clone(&client), onion.clone());
        visits.spawn(
            async move { client.get(&format!("visit-{visit}"), &onion, "/", SOON * 4).await },
        );
        tokio::select! {
            page = visits.join_next() => {
                assert_eq!(page.unwrap().unwrap().unwrap().text().trim(), "elsewhere");
            }
            asked = here.asked.acquire() => {
                asked.unwrap().forget();
                download = visits.join_next().into();
                break;
            }
        }
    }
    let download = download.expect("a visitor comes to the local instance");

    // Twice at once, as timeout(1) does: that is one signal.
    frontend.daemon.process.terminate().unwrap();
    frontend.daemon.process.terminate().unwrap();
    let withdrawn = |snapshot: &_| {
        let service = service(snapshot);
        service.backends[0].published_intro_points == 0 && everywhere(service)
    };
    let snapshot = frontend.daemon.until("withdrawn", SOON, withdrawn).await.unwrap();
    assert_eq!(service(&snapshot).descriptors.iter().find(|d| d.current).unwrap().intro_points, 3);
    let fresh = network.client("visitor-after-drained").await.unwrap();
    for visit in 0..5 {
        let page = fresh.get(&format!("later-{visit}"), &onion, "/", PAGE).await.unwrap();
        assert_eq!(page.text().trim(), "elsewhere");
    }

    assert!(frontend.daemon.process.is_running());
    here.allowed.add_permits(1);
    let page = download.await.unwrap().unwrap().unwrap();
    assert_eq!(page.text(), "the first, second");
    let ended = frontend.daemon.process.wait(SOON).await.unwrap();
    assert_eq!(ended.code(), Some(0), "{}", frontend.daemon.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_to_wait_for_it_ends_at_once_and_a_second_signal_waits_for_nothing() {
    let network = network::shared().await.unwrap();
    let here = TwoParts::start().await.unwrap();
    let limits = "[shutdown]\ngrace = '10m'\nlimit = '1h'\n";
    let config = format!("proxy_ports = [['80', '{}']]\n{limits}", here.address);
    let mut frontend = Frontend::start(network, "at-once", &config).unwrap();
    let onion = frontend.address().await.unwrap();
    frontend.ready().await.unwrap();
    // No grace and no limit is waited for: the next process goes on soon.
    frontend.restart().await.unwrap();
    frontend.ready().await.unwrap();

    let client = network.client("visitor-of-at-once").await.unwrap();
    let download = client.get("download", &onion, "/", SOON * 4);
    let twice = async {
        // Not for ever: the download may have failed before it came here.
        let asked = tokio::time::timeout(SOON, here.asked.acquire()).await;
        asked.expect("the download comes here").unwrap().forget();
        frontend.daemon.process.terminate().unwrap();
        let said = async || {
            anyhow::ensure!(frontend.daemon.process.log().contains("a second signal ends at once"));
            Ok(())
        };
        network::fetch::eventually(SOON, said).await.unwrap();
        // Within a second it would be one with the first.
        tokio::time::sleep(Duration::from_secs(2)).await;
        frontend.daemon.process.terminate().unwrap();
        frontend.daemon.process.wait(SOON).await.unwrap()
    };
    let (download, ended) = tokio::join!(download, twice);
    assert!(download.is_err(), "{download:?}");
    assert_eq!(ended.code(), Some(0), "{}", frontend.daemon.tail());
}
