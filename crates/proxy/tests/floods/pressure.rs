//! Whether others are served while slow readers hold all connections.

use onionbraid_proxy::settings::{BufferSettings, HttpSettings, OriginProtocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::site::{LARGE, LONG, Site, large, zero_window};

/// Few connections, so that a flood is small.
fn few(settings: &mut HttpSettings) {
    settings.origins.max_connections = 64;
}

/// Waits until every connection to the origin is in use.
async fn all_taken(site: &Site, most: u64) {
    let taken = async {
        while site.proxy.status().origins[0].in_flight < most {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, taken).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_is_served_while_others_fill_all_connections_again_and_again() {
    let mut site = Site::with(few).await;
    let mut flood = Vec::new();
    for round in 0..3 {
        for circuit in 0..5 {
            let mut client = site.client(circuit).await;
            client.write_all(&zero_window("/large", 60)).await.unwrap();
            flood.push(client);
        }
        all_taken(&site, 64).await;
        for honest in 0..3 {
            let answer = site.get(100 + 10 * round + honest, "/").await;
            assert!(answer.ends_with(b"word"), "{round}: {:?}", String::from_utf8_lossy(&answer));
        }
    }
    assert!(site.proxy.status().failures["given_up"] > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_silent_connection_of_who_has_most_makes_room() {
    let mut site = Site::with(|settings| {
        settings.origins.max_connections = 8;
        settings.origins.connect_timeout = LONG / 2;
    })
    .await;
    let mut upgraded = Vec::new();
    // The first one is silent longest, but the circuit of the others has more.
    for circuit in [1, 2, 2, 2, 2, 2, 2, 3] {
        let mut client = site.client(circuit).await;
        let ask = b"GET /chat HTTP/1.1\r\nHost: a.onion\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n";
        client.write_all(ask).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        upgraded.push(client);
    }
    assert!(site.get(4, "/").await.ends_with(b"word"));
    assert_eq!(site.proxy.status().failures["given_up"], 1);
    // The oldest of circuit 2 has gone, and no other.
    for (number, client) in upgraded.iter_mut().enumerate() {
        let _ = client.write_all(b"x").await;
        let echo = tokio::time::timeout(LONG, client.read_u8()).await.unwrap();
        assert_eq!(echo.is_ok(), number != 1, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_to_an_origin_of_http_2_are_freed_too() {
    let mut site = Site::with(|settings| {
        settings.origins.protocol = OriginProtocol::Http2;
        settings.origins.connect_timeout = LONG / 2;
        // As many as one connection has streams.
        settings.origins.max_connections = 100;
    })
    .await;
    let mut flood = Vec::new();
    for circuit in 0..3 {
        let mut client = site.client(circuit).await;
        client.write_all(&zero_window("/large", 60)).await.unwrap();
        flood.push(client);
    }
    all_taken(&site, 100).await;
    for honest in 0..3 {
        assert!(site.get(100 + honest, "/").await.ends_with(b"word"));
    }
    assert!(site.proxy.status().failures["given_up"] > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_request_does_not_wait_behind_a_flood_for_an_origin_of_http_2() {
    let mut site = Site::with(|settings| {
        settings.origins.protocol = OriginProtocol::Http2;
        settings.origins.max_connections = 100;
        settings.origins.connect_timeout = LONG / 2;
    })
    .await;
    let mut flood = Vec::new();
    for circuit in 0..11 {
        let mut client = site.client(circuit).await;
        client.write_all(&zero_window("/large", 100)).await.unwrap();
        flood.push(client);
    }
    // Those of the flood that wait count among those under way, too.
    all_taken(&site, 200).await;
    for honest in 0..5 {
        assert!(site.get(100 + honest, "/").await.ends_with(b"word"));
    }
    // It got what was freed, and no one of the flood before it: that many at most
    // were given up for it, and not the hundreds that wait.
    let given_up = site.proxy.status().failures["given_up"];
    assert!((1..100).contains(&given_up), "{given_up}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_senders_make_room_too() {
    let mut site = Site::with(few).await;
    let request = "POST / HTTP/1.1\r\nHost: a.onion\r\nContent-Length: 100000\r\n\r\nx";
    let mut flood = Vec::new();
    for number in 0..70 {
        let mut client = site.client(number % 3).await;
        client.write_all(request.as_bytes()).await.unwrap();
        flood.push(client);
    }
    all_taken(&site, 64).await;
    assert!(site.get(100, "/").await.ends_with(b"word"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_fast_enough_keeps_the_answer_whoever_waits() {
    let mut site = Site::with(|settings| settings.origins.max_connections = 2).await;
    let mut reader = site.client(1).await;
    reader.write_all(b"GET /large HTTP/1.1\r\nHost: a.onion\r\n\r\n").await.unwrap();
    let mut other = site.client(2).await;
    other.write_all(&zero_window("/large", 1)).await.unwrap();
    all_taken(&site, 2).await;
    let reading = async move {
        let mut read = 0;
        let mut bytes = vec![0; 64 * 1024];
        while read < 4 * 1024 * 1024 {
            match reader.read(&mut bytes).await.unwrap() {
                0 => break,
                length => read += length,
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        read
    };
    let (read, answer) = tokio::join!(reading, site.get(3, "/"));
    assert!(answer.ends_with(b"word"));
    assert!(read >= 4 * 1024 * 1024, "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_buffer_a_slow_reader_does_not_stop_a_server_of_one_worker() {
    let mut site = Site::with(|settings| {
        settings.origins.max_connections = 1;
        settings.origins.min_rate = None;
        settings.origins.buffer_response = Some(BufferSettings::default());
    })
    .await;
    let mut slow = site.client(1).await;
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: a.onion\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut other = site.client(2).await;
    other.write_all(&zero_window("/large", 1)).await.unwrap();
    assert!(site.get(3, "/").await.ends_with(b"word"));
    // What was kept is all there.
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > LARGE, "{}", answer.len());
    let body = &answer[answer.len() - LARGE..];
    assert!(body == large(), "it is another");
}
