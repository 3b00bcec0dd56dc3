//! The origins of the HTTP reverse proxy, against real servers on loopback and
//! Unix sockets that behave as badly as servers do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "origins/connections.rs"]
mod connections;
#[path = "origins/failures.rs"]
mod failures;
#[path = "origins/http2.rs"]
mod http2;
#[path = "origins/server.rs"]
mod server;
#[path = "origins/tls.rs"]
mod tls;
#[path = "origins/watching.rs"]
mod watching;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use http_body_util::BodyExt as _;
use hyper::{Request, Response};
use onionbraid_proxy::body::{self, Body};
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::origins::{Client, Origins};
use onionbraid_proxy::rules::HttpOrigin;
use onionbraid_proxy::settings::{HttpSettings, OriginSettings};
use tokio::sync::Semaphore;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short enough to be waited for, where nothing can come before it.
const SHORT: Duration = Duration::from_millis(100);

/// Settings under which nothing times out by accident.
fn settings() -> OriginSettings {
    OriginSettings {
        connect_timeout: PATIENCE,
        response_timeout: PATIENCE,
        keep_alive: PATIENCE,
        retries: 0,
        ..OriginSettings::default()
    }
}

fn origins(origins: &[&HttpOrigin], settings: OriginSettings) -> Arc<Origins> {
    let settings = HttpSettings { origins: settings, ..HttpSettings::default() };
    let origins: Vec<_> = origins.iter().map(|&origin| origin.clone()).collect();
    Origins::new(&origins, &settings).unwrap()
}

const CLIENT: Client = Client { circuit: 7, port: 80 };

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("Host", "shop.onion").body(body::empty()).unwrap()
}

fn post(path: &str) -> Request<Body> {
    Request::post(path).header("Host", "shop.onion").body(body::full("question")).unwrap()
}

/// Sends a request and reads the whole body of its response.
async fn ask(origins: &Origins, request: Request<Body>) -> Result<String, Failure> {
    let response = within(origins.send(request, CLIENT)).await?;
    Ok(text(response).await)
}

async fn text(response: Response<Body>) -> String {
    let body = within(response.into_body().collect()).await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

fn any_in_use(origins: &Origins) -> bool {
    origins.snapshot().iter().any(|state| state.out.is_none())
}

/// A test that would hang fails instead.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(2 * PATIENCE, future).await.unwrap()
}

/// Waits until a condition holds.
async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Where an origin has requests wait until they may all go on.
struct WaitingRoom {
    waiting: AtomicUsize,
    go: Semaphore,
}

impl WaitingRoom {
    fn new() -> Arc<Self> {
        Arc::new(Self { waiting: AtomicUsize::new(0), go: Semaphore::new(0) })
    }

    async fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _ = self.go.acquire().await.unwrap();
    }

    /// One circuit asks for `/wait` so often, of which its share is waiting; others
    /// get this answer meanwhile, and in the end it gets all of its own.
    async fn leaves_to_others(&self, origins: &Origins, asked: usize, share: usize, answer: &str) {
        let greedy = join_all((0..asked).map(|_| ask(origins, get("/wait"))));
        let others = async {
            until(|| self.waiting.load(Ordering::SeqCst) == share).await;
            for circuit in 100..110 {
                let client = Client { circuit, port: 80 };
                let response = within(origins.send(get("/"), client)).await.unwrap();
                assert_eq!(text(response).await, answer);
            }
            assert_eq!(self.waiting.load(Ordering::SeqCst), share);
            self.go.add_permits(1);
        };
        let (answers, ()) = tokio::join!(greedy, others);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
}
