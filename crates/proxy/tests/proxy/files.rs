//! Files in place of an origin: what clients see of them, and what they cost.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onionbraid_proxy::files::Files;
use onionbraid_proxy::files::site::FileSite;
use onionbraid_proxy::http::Proxy;
use onionbraid_proxy::pages::Pages;
use onionbraid_proxy::settings::HttpSettings;
use onionbraid_proxy::shares::Shares;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::world::{GET, LAST_GET, World, read_all, read_head, read_until, status};

/// A site whose clients may have so many files open, and one circuit so many.
fn site(all: usize, each: usize) -> (World, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x"), "hello!").unwrap();
    let handles = Shares::new(all, each, Duration::from_secs(5));
    let files = Files::new(directory.path(), handles).unwrap();
    let site = FileSite { files, pages: Pages::default() };
    let settings = HttpSettings { http2_without_tls: true, ..HttpSettings::default() };
    let proxy = Proxy::new(Arc::new(settings), Pages::default(), Arc::new(site));
    (World::of(proxy), directory)
}

#[tokio::test]
async fn files_are_answered_with_and_pages_where_there_are_none() {
    let (mut world, _directory) = site(1, 1);
    let mut client = world.asking(GET).await;
    assert_eq!(status(&read_until(&mut client, "hello!").await), 200);
    client.write_all(LAST_GET.replace("/x", "/y").as_bytes()).await.unwrap();
    let answer = read_all(&mut client).await;
    assert!(status(&answer) == 404 && answer.contains("</html>"), "{answer}");
    world.served().await;
    assert!(world.status().failures.is_empty(), "{:?}", world.status().failures);
}

/// A client of HTTP/2 that takes nothing of any body.
async fn who_does_not_read(
    world: &mut World,
    circuit: u64,
    connections: &mut JoinSet<()>,
) -> SendRequest<Empty<Bytes>> {
    let stream = TokioIo::new(world.client_on(circuit));
    let mut client = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) =
        client.initial_stream_window_size(0).handshake(stream).await.unwrap();
    connections.spawn(async {
        let _ = connection.await;
    });
    sender
}

/// How many files below this directory the process has open.
fn open_files(directory: &Path) -> usize {
    let handles = fs::read_dir("/proc/self/fd").unwrap();
    let links = handles.filter_map(|handle| fs::read_link(handle.ok()?.path()).ok());
    links.filter(|link| link.starts_with(directory) && link != directory).count()
}

#[tokio::test(start_paused = true)]
async fn no_circuit_opens_more_files_than_its_share() {
    let get = || Request::get("http://a.onion/x").body(Empty::new()).unwrap();
    let (mut world, directory) = site(20, 5);
    let mut connections = JoinSet::new();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let client = who_does_not_read(&mut world, 1, &mut connections).await;
        let requests = (0..10).map(|_| client.clone().send_request(get()));
        answers.extend(join_all(requests).await.into_iter().map(Result::unwrap));
    }
    let (mut sent, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status() == StatusCode::OK);
    assert!(refused.iter().all(|answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!((sent.len(), refused.len()), (5, 15));
    assert_eq!(open_files(directory.path()), 5);

    // Others have theirs, and what is given back can be had again.
    let mut other = who_does_not_read(&mut world, 2, &mut connections).await;
    assert_eq!(other.send_request(get()).await.unwrap().status(), StatusCode::OK);
    drop(sent.pop());
    let mut again = who_does_not_read(&mut world, 1, &mut connections).await;
    assert_eq!(again.send_request(get()).await.unwrap().status(), StatusCode::OK);
    drop((sent, refused));
    connections.shutdown().await;
    while open_files(directory.path()) > 0 || world.failures("files_busy") < 15 {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_goes_wrong_with_a_file_is_counted_by_its_name() {
    let (mut world, directory) = site(9, 9);
    let post = "POST /x HTTP/1.1\r\nHost: a.onion\r\nContent-Length: 0\r\n\r\n";
    let mut client = world.asking(post).await;
    let answer = read_until(&mut client, "</html>\n").await.to_ascii_lowercase();
    assert!(status(&answer) == 405 && answer.contains("\r\nallow: get, head\r\n"), "{answer}");
    assert_eq!(world.failures("read_only"), 1);

    // A file that is not there is no failure.
    client.write_all(GET.replace("/x", "/y").as_bytes()).await.unwrap();
    assert_eq!(status(&read_until(&mut client, "</html>\n").await), 404);

    let file = fs::File::create(directory.path().join("x")).unwrap();
    file.set_len(1 << 20).unwrap();
    client.write_all(LAST_GET.as_bytes()).await.unwrap();
    let head = read_head(&mut client).await.to_ascii_lowercase();
    assert!(head.contains("\r\ncontent-length: 1048576\r\n"), "{head}");
    file.set_len(100_000).unwrap();
    assert!(read_all(&mut client).await.len() < 1 << 20);
    world.served().await;
    let failures = world.status().failures;
    assert_eq!(failures, [("file_broken".to_owned(), 1), ("read_only".to_owned(), 1)].into());
}
