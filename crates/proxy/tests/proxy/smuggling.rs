//! No bytes of a client's are one request to the proxy and another to the origin.
//!
//! Each file in `smuggling/` is what one client sends. Those in `head` have to
//! be refused before anybody is asked. Those in `body` break in the middle of
//! a body: the origin may have seen the beginning, never a whole request. Those
//! in `passes` are unusual and right: they show that the others are refused for
//! what is wrong with them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use crate::world::{World, read_all, status};

/// The files of one directory, by name.
fn corpus(directory: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy/smuggling").join(directory);
    let mut files: Vec<_> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the corpus is found");
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

/// What a client gets that sends these bytes, and the targets of the whole
/// requests that the origin gets.
async fn send(bytes: &[u8]) -> (World, String, Vec<String>) {
    let mut world = World::new();
    let mut client = world.client();
    let whole = Arc::new(Mutex::new(Vec::new()));
    let answer = {
        let asking = async {
            // What is refused is not read to its end.
            let _ = client.write_all(bytes).await;
            read_all(&mut client).await
        };
        let answering = async {
            loop {
                let connection = world.origin().await;
                let service = service_fn(|request: Request<Incoming>| {
                    let whole = Arc::clone(&whole);
                    async move {
                        let target = request.uri().to_string();
                        request.into_body().collect().await?;
                        whole.lock().unwrap().push(target);
                        Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(connection), service)
                    .await;
            }
        };
        tokio::select! {
            answer = asking => answer,
            () = answering => unreachable!(),
        }
    };
    let whole = whole.lock().unwrap().clone();
    (world, answer, whole)
}

#[tokio::test(start_paused = true)]
pub(crate) async fn an_ambiguous_head_is_refused_before_anybody_is_asked() {
    for (file, bytes) in corpus("head") {
        let (mut world, answer, whole) = send(&bytes).await;
        assert_eq!(status(&answer), 400, "{}: {answer}", file.display());
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{}: {answer}", file.display());
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{}", file.display());
        assert!(whole.is_empty() && world.origin_is_untouched(), "{}", file.display());
        assert_eq!(world.failures("malformed"), 1, "{}", file.display());
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_body_that_breaks_its_framing_never_becomes_a_whole_request() {
    for (file, bytes) in corpus("body") {
        let (world, answer, whole) = send(&bytes).await;
        assert_eq!(whole, [""; 0], "{}", file.display());
        assert_eq!(status(&answer), 400, "{}: {answer}", file.display());
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{}: {answer}", file.display());
        assert_eq!(world.failures("malformed"), 1, "{}", file.display());
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn what_is_unusual_and_right_passes() {
    for (file, bytes) in corpus("passes") {
        let (_, answer, whole) = send(&bytes).await;
        assert_eq!(whole.last().map(String::as_str), Some("/end"), "{}: {answer}", file.display());
        assert!(!whole.iter().any(|target| target == "/smuggled"), "{}", file.display());
        assert_eq!(answer.matches("HTTP/1.1 200").count(), whole.len(), "{}", file.display());
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn requests_before_a_refused_one_get_their_answers_first() {
    let good = "GET /good HTTP/1.1\r\nHost: a.onion\r\n\r\n";
    let bad = "GET /bad HTTP/1.1\r\nHost: a.onion\r\nHost: b.onion\r\n\r\n";
    let (_, answer, whole) = send(format!("{good}{bad}{good}").as_bytes()).await;
    assert_eq!(whole, ["/good"]);
    let answers: Vec<u16> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| status(&answer[at..])).collect();
    assert_eq!(answers, [200, 400]);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn who_imitates_the_sign_of_a_refusal_is_a_client_like_any_other() {
    let imitation = "GET /refused HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
    let (_, answer, whole) = send(imitation.as_bytes()).await;
    assert_eq!((status(&answer), whole.as_slice()), (200, ["/refused".to_owned()].as_slice()));
}
