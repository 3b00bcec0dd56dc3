//! When an origin is out of use, and how it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame};
use onionbraid_proxy::body::BodyError;
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::settings::{Balance, HealthCheck, OriginSettings, ProxyProtocol};
use tokio::sync::Notify;

use crate::server::{Nobody, Server, closed, read_head, respond, say};
use crate::{
    CLIENT, PATIENCE, SHORT, any_in_use, ask, get, origins, post, settings, until, within,
};

#[tokio::test]
async fn an_origin_that_fails_in_a_row_is_left_alone_and_then_tried_again() {
    let dead = Nobody::new();
    let settings = OriginSettings { fail_after: 2, fail_for: SHORT, ..settings() };
    let origins = origins(&[&dead.origin], settings);
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginUnreachable));
    assert!(any_in_use(&origins));
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginUnreachable));
    until(|| any_in_use(&origins)).await;
    let server = Server::on(dead.listen(), crate::server::serve);
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "0.0");
    assert_eq!(server.accepted(), 1);
    assert_eq!(origins.snapshot()[0].out, None);
}

#[tokio::test]
async fn without_an_origin_in_use_requests_go_where_only_requests_have_failed() {
    let dead = Nobody::new();
    let dead_too = Nobody::new();
    let settings =
        OriginSettings { fail_after: 1, fail_for: PATIENCE, balance: Balance::First, ..settings() };
    let origins = origins(&[&dead.origin, &dead_too.origin], settings);
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginUnreachable));
    assert!(any_in_use(&origins));
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginUnreachable));
    let states = origins.snapshot();
    assert_eq!(states[1].name, dead_too.origin.to_string());
    for state in states {
        assert!(state.out.unwrap().contains("refused"));
    }
    assert_eq!(origins.checked(), None, "clients could have made the requests fail");
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginUnreachable));
    assert!(!any_in_use(&origins));
    let _server = Server::on(dead.listen(), crate::server::serve);
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "0.0");
    assert_eq!(origins.snapshot()[0].out, None);
}

#[tokio::test]
async fn a_trial_without_an_end_turns_nobody_away() {
    let uploading = Arc::new(Notify::new());
    let told = Arc::clone(&uploading);
    let server = Server::start(move |number, mut connection| {
        let told = Arc::clone(&told);
        async move {
            let head = read_head(&mut connection).await.unwrap();
            if head.starts_with("GET /broken ") {
                return;
            }
            if head.starts_with("POST ") {
                told.notify_one();
                closed(&mut connection).await;
            }
            respond(&mut connection, &number.to_string()).await;
        }
    })
    .await;
    let settings = OriginSettings { fail_after: 1, fail_for: SHORT, ..settings() };
    let origins = origins(&[&server.origin], settings);
    assert_eq!(ask(&origins, get("/broken")).await, Err(Failure::OriginBroken));
    until(|| any_in_use(&origins)).await;
    let never = futures::stream::pending::<Result<Frame<Bytes>, BodyError>>();
    let trial = post("/").map(|_| http_body_util::StreamBody::new(never).boxed_unsync());
    let test = async {
        within(uploading.notified()).await;
        assert_eq!(ask(&origins, get("/")).await.unwrap(), "2");
        assert_eq!(origins.snapshot()[0].out, None, "any answer proves life");
    };
    tokio::select! {
        _ = origins.send(trial, CLIENT) => panic!("nothing was answered"),
        () = test => {}
    }
}

/// Asks often; thresholds that can be seen.
fn check(path: Option<&str>) -> HealthCheck {
    HealthCheck {
        path: path.map(str::to_owned),
        interval: Duration::from_millis(5),
        timeout: PATIENCE,
        rise: 2,
        fall: 2,
        ..HealthCheck::default()
    }
}

#[tokio::test]
async fn an_origin_that_answers_checks_badly_gets_no_requests_until_it_answers_well() {
    let well = Arc::new(AtomicBool::new(true));
    let is_well = Arc::clone(&well);
    let server = Server::start(move |_, mut connection| {
        let well = Arc::clone(&is_well);
        async move {
            while let Some(head) = read_head(&mut connection).await {
                if !head.starts_with("GET /health HTTP/1.1\r\n") || well.load(Ordering::SeqCst) {
                    respond(&mut connection, "well").await;
                } else {
                    assert!(head.contains("\r\nhost: 127.0.0.1:"), "{head}");
                    let ill = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
                    say(&mut connection, ill).await;
                }
            }
        }
    })
    .await;
    let settings = OriginSettings { health_check: Some(check(Some("/health"))), ..settings() };
    let origins = origins(&[&server.origin], settings);
    let test = async {
        until(|| server.accepted() > 3).await;
        assert_eq!(ask(&origins, get("/")).await.unwrap(), "well");
        well.store(false, Ordering::SeqCst);
        until(|| !any_in_use(&origins)).await;
        let out = origins.snapshot()[0].out.clone();
        assert_eq!(out.unwrap(), "the health check was answered 503");
        let report = origins.checked().unwrap().unwrap_err();
        assert_eq!(report, format!("{}: the health check was answered 503", server.origin));
        assert_eq!(ask(&origins, get("/")).await, Err(Failure::NoOrigin));
        well.store(true, Ordering::SeqCst);
        until(|| any_in_use(&origins)).await;
        assert_eq!(ask(&origins, get("/")).await.unwrap(), "well");
    };
    tokio::select! {
        never = origins.watch() => match never {},
        () = test => {}
    }
}

#[tokio::test]
async fn a_check_without_a_path_only_connects() {
    let dead = Nobody::new();
    let settings = OriginSettings { health_check: Some(check(None)), ..settings() };
    let origins = origins(&[&dead.origin], settings);
    let test = async {
        until(|| !any_in_use(&origins)).await;
        let _server = Server::on(dead.listen(), crate::server::serve);
        until(|| any_in_use(&origins)).await;
    };
    tokio::select! {
        never = origins.watch() => match never {},
        () = test => {}
    }
}

#[tokio::test]
async fn a_check_that_hangs_is_a_bad_one() {
    let server = Server::start(|_, mut connection| async move {
        closed(&mut connection).await;
    })
    .await;
    let check = HealthCheck { timeout: SHORT, fall: 1, ..check(Some("/")) };
    let origins =
        origins(&[&server.origin], OriginSettings { health_check: Some(check), ..settings() });
    tokio::select! {
        never = origins.watch() => match never {},
        () = until(|| !any_in_use(&origins)) => {}
    }
    assert_eq!(
        origins.snapshot()[0].out.as_deref(),
        Some("the health check took longer than 100ms")
    );
}

#[tokio::test]
async fn a_check_of_an_origin_that_wants_a_proxy_line_speaks_for_no_client() {
    for (protocol, line) in [
        (ProxyProtocol::V1, &b"PROXY UNKNOWN\r\n"[..]),
        (ProxyProtocol::V2, &b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..]),
    ] {
        let right = Arc::new(AtomicBool::new(false));
        let is_right = Arc::clone(&right);
        let server = Server::start(move |_, mut connection| {
            let right = Arc::clone(&is_right);
            async move {
                use tokio::io::AsyncReadExt as _;
                let mut got = vec![0; line.len()];
                connection.read_exact(&mut got).await.unwrap();
                let head = read_head(&mut connection).await.unwrap();
                assert!(head.starts_with("GET / "), "{head}");
                right.store(got == line, Ordering::SeqCst);
                respond(&mut connection, "well").await;
            }
        })
        .await;
        let settings = OriginSettings {
            health_check: Some(check(Some("/"))),
            proxy_protocol: Some(protocol),
            ..settings()
        };
        let origins = origins(&[&server.origin], settings);
        tokio::select! {
            never = origins.watch() => match never {},
            () = until(|| right.load(Ordering::SeqCst)) => {}
        }
    }
}
