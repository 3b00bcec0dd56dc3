//! What a client sees of an origin that misbehaves, and an origin of a client
//! that leaves.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{GET, LAST_GET, World, ended, read_all, read_head, read_until, status};

#[tokio::test(start_paused = true)]
async fn an_origin_without_a_proper_head_is_a_bad_gateway() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    let heads: [&[u8]; 17] = [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        many.as_bytes(),
        long.as_bytes(),
    ];
    for head in heads {
        let mut world = World::new();
        let answer = world.exchange(LAST_GET, head).await;
        assert_eq!(status(&answer), 502, "{}", String::from_utf8_lossy(head));
        assert_eq!(world.failures("origin_broken"), 1);
        assert_eq!(world.status().by_class.server_error, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_of_the_origin_the_clients_stream_stays_usable() {
    let mut world = World::new();
    let mut client = world.asking(GET).await;
    drop(world.origin().await);
    let answer = read_until(&mut client, "</html>\n").await;
    assert_eq!(status(&answer), 502);
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut origin = world.origin().await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    assert_eq!(status(&read_until(&mut client, "hi").await), 200);
}

#[tokio::test(start_paused = true)]
async fn informational_responses_are_not_answers() {
    let mut world = World::new();
    let flood = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(1000);
    let response = format!("{flood}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let answer = world.exchange(LAST_GET, response.as_bytes()).await;
    assert_eq!(status(&answer), 200);
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
}

/// What an origin sends before it goes, and what must not follow at the client.
const BROKEN: [&[u8]; 5] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbroken",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbroken\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nbroken",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbroken\r\nx\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbroken\r\n0\r\nX: y",
];

#[tokio::test(start_paused = true)]
async fn an_origin_that_breaks_off_leaves_the_client_a_broken_body_too() {
    for response in BROKEN {
        let mut world = World::new();
        let answer = world.exchange(GET, response).await;
        let what = format!("{} became {answer}", String::from_utf8_lossy(response));
        assert_eq!(status(&answer), 200, "{what}");
        let ends_well = answer.ends_with("0\r\n\r\n");
        let lower = answer.to_ascii_lowercase();
        assert!(!ends_well && !lower.contains("content-length: 6"), "{what}");
        assert_eq!(world.failures("origin_broken"), 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn chunk_extensions_without_end_break_the_body() {
    let mut world = World::new();
    let extension = "x".repeat(100_000);
    let response = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;{extension}\r\nhi\r\n0\r\n\r\n"
    );
    let answer = world.exchange(GET, response.as_bytes()).await;
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn what_an_origin_says_beyond_its_content_length_reaches_nobody() {
    let mut world = World::new();
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\nmore";
    origin.write_all(response).await.unwrap();
    read_until(&mut client, "\r\n\r\nhi").await;
    client.write_all(LAST_GET.as_bytes()).await.unwrap();
    let mut origin = world.origin().await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue").await.unwrap();
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\ntrue"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_the_answer_aborts_the_request() {
    let mut world = World::new();
    let client = world.asking(GET).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    drop(client);
    assert!(ended(&mut origin).await);
    world.served().await;
    assert_eq!(world.failures("client_gone"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_the_answer_aborts_it() {
    let mut world = World::new();
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nbegin").await.unwrap();
    read_until(&mut client, "begin").await;
    drop(client);
    assert!(ended(&mut origin).await);
    world.served().await;
    assert_eq!(world.failures("client_gone"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_its_body_never_completes_it() {
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut world = World::new();
        let request = format!("PUT / HTTP/1.1\r\nHost: a.onion\r\n{head}\r\n\r\n2\r\nhi\r\n");
        let client = world.asking(&request).await;
        let mut origin = world.origin().await;
        read_head(&mut origin).await;
        read_until(&mut origin, "hi\r\n").await;
        drop(client);
        let mut rest = Vec::new();
        origin.read_to_end(&mut rest).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
        world.served().await;
        assert_eq!(world.failures("client_gone"), 1, "{:?}", world.status());
    }
}
