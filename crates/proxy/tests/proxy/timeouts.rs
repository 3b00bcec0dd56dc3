//! How long anybody may keep the others waiting. The clock of these tests runs
//! only while everybody waits.

use std::time::Duration;

use onionbraid_proxy::settings::HttpSettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use crate::world::{GET, LAST_GET, LONG, World, ended, read_all, read_head, read_until, status};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Different times, so that it shows which of them has ended a wait.
fn world() -> World {
    World::with(times)
}

fn times(settings: &mut HttpSettings) {
    settings.guard.head_timeout = seconds(10);
    settings.guard.client_keep_alive = seconds(15);
    settings.origins.idle_timeout = seconds(20);
    settings.origins.upgrade_timeout = seconds(400);
}

/// How long something takes, in whole seconds.
async fn time<T>(what: impl Future<Output = T>) -> (u64, T) {
    let start = Instant::now();
    let done = what.await;
    (start.elapsed().as_secs(), done)
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_says_nothing_is_left_without_a_word() {
    let mut world = world();
    let mut client = world.client();
    assert_eq!(time(read_all(&mut client)).await, (10, String::new()));
    assert_eq!(world.status().requests, 0);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_head_that_does_not_end_is_answered_with_nothing() {
    for start in ["G", "PRI", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a.onion\r\n"] {
        let mut world = world();
        let mut client = world.asking(start).await;
        let (took, answer) = time(read_all(&mut client)).await;
        assert_eq!((took, answer.as_str()), (10, ""), "{start:?}");
        assert!(world.origin_is_untouched());
        assert_eq!(world.failures("slow_client"), 1);
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_head_that_drips_has_no_more_time() {
    let mut world = world();
    let mut client = world.client();
    let dripping = async {
        for byte in GET.bytes() {
            if client.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(seconds(1)).await;
        }
    };
    let took = time(dripping).await.0;
    assert!((10..=11).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_stream_without_a_next_request_ends_quietly() {
    let mut world = world();
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    read_until(&mut client, "hi").await;
    assert_eq!(time(read_all(&mut client)).await, (15, String::new()));
    assert_eq!(world.status().requests, 1);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_time_for_a_head_begins_with_the_head() {
    let mut world = world();
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    read_until(&mut client, "hi").await;
    sleep(seconds(14)).await;
    client.write_all(b"GET / HT").await.unwrap();
    assert_eq!(time(read_all(&mut client)).await, (10, String::new()));
    assert_eq!(world.failures("slow_client"), 1);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_time_for_the_next_head_begins_after_the_answer() {
    let mut world = world();
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n").await.unwrap();
    read_head(&mut client).await;
    for _ in 0..20 {
        sleep(seconds(3)).await;
        origin.write_all(b"x").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
    }
    assert_eq!(time(read_all(&mut client)).await, (15, String::new()));
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_stops_in_the_middle_of_its_body_is_answered_408() {
    let mut world = world();
    let mut client =
        world.asking("PUT / HTTP/1.1\r\nHost: a.onion\r\nContent-Length: 9\r\n\r\nhi").await;
    let mut origin = world.origin().await;
    read_until(&mut origin, "hi").await;
    let (took, answer) = time(read_all(&mut client)).await;
    assert_eq!((took, status(&answer)), (20, 408));
    assert!(ended(&mut origin).await);
    assert_eq!(world.failures("slow_client"), 1);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_body_that_moves_slowly_is_not_interrupted() {
    let mut world = world();
    let mut client =
        world.asking("PUT / HTTP/1.1\r\nHost: a.onion\r\nContent-Length: 9\r\n\r\n").await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    for _ in 0..9 {
        sleep(seconds(19)).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(origin.read_u8().await.unwrap(), b'x');
    }
    // How long the origin may think is not for the proxy's engine to say.
    sleep(LONG).await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(status(&read_head(&mut client).await), 200);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn an_origin_that_does_not_take_the_body_is_answered_for_504() {
    let mut world = world();
    let mut client =
        world.asking("PUT / HTTP/1.1\r\nHost: a.onion\r\nContent-Length: 9999999\r\n\r\n").await;
    let _origin = world.origin().await;
    let (mut reader, mut writer) = tokio::io::split(&mut client);
    let mut answer = Vec::new();
    let pouring = async { while writer.write_all(&[b'x'; 1024]).await.is_ok() {} };
    let (took, _) = time(async { tokio::join!(pouring, reader.read_to_end(&mut answer)) }).await;
    assert_eq!((took, status(&String::from_utf8(answer).unwrap())), (20, 504));
    assert_eq!(world.failures("origin_slow"), 1);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn an_origin_that_stops_in_the_middle_breaks_the_answer() {
    let mut world = world();
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nbegin").await.unwrap();
    let (took, answer) = time(read_all(&mut client)).await;
    assert!(took == 20 && answer.ends_with("begin"), "{took} {answer}");
    world.served().await;
    assert!(ended(&mut origin).await);
    assert_eq!(world.failures("origin_slow"), 1);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_stops_reading_is_given_up() {
    let mut world = world();
    let _client = world.asking(GET).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n").await.unwrap();
    let pouring = async { while origin.write_all(&[b'x'; 1024]).await.is_ok() {} };
    assert_eq!(time(pouring).await.0, 20);
    world.served().await;
    assert_eq!(world.failures("slow_client"), 1);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_does_not_take_the_end_of_an_answer_is_given_up() {
    let mut world = world();
    let _client = world.asking(GET).await;
    let mut origin = world.origin().await;
    // More than the stream holds, and less than the proxy does.
    let body = "x".repeat(10_000);
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{body}");
    origin.write_all(response.as_bytes()).await.unwrap();
    world.served().await;
    // No more than for an answer after which the stream ends.
    let _client = world.asking(LAST_GET).await;
    let mut origin = world.origin().await;
    origin.write_all(response.as_bytes()).await.unwrap();
    world.served().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_slowly_takes_the_end_of_an_answer_gets_it() {
    let mut world = world();
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    let body = "x".repeat(20_000);
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{body}");
    origin.write_all(response.as_bytes()).await.unwrap();
    read_head(&mut client).await;
    for _ in 0..20 {
        sleep(seconds(9)).await;
        client.read_exact(&mut [0; 1000]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn events_may_be_as_rare_as_the_operator_allows() {
    let mut world = world();
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\n";
    origin.write_all(head).await.unwrap();
    read_head(&mut client).await;
    sleep(seconds(399)).await;
    origin.write_all(b"data: 1\n\n").await.unwrap();
    read_until(&mut client, "data: 1\n\n\r\n").await;
    assert_eq!(time(ended(&mut client)).await, (400, true));
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_request_has_no_more_than_its_whole_time() {
    let limited = |settings: &mut HttpSettings| {
        times(settings);
        settings.origins.total_timeout = Some(seconds(60));
    };
    let mut world = World::with(limited);
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    let (took, answer) = time(read_until(&mut client, "</html>\n")).await;
    assert_eq!((took, status(&answer)), (60, 504));
    assert!(ended(&mut origin).await);

    let mut world = World::with(limited);
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n").await.unwrap();
    read_head(&mut client).await;
    let dripping = async {
        while origin.write_all(b"x").await.is_ok() {
            sleep(seconds(1)).await;
            let _ = client.read_u8().await;
        }
    };
    let took = time(dripping).await.0;
    assert!((60..=62).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_whole_time_of_a_request_ends_with_it() {
    let mut world = World::with(|settings| {
        settings.guard.head_timeout = LONG;
        settings.origins.total_timeout = Some(seconds(60));
    });
    let mut client = world.client();
    for _ in 0..3 {
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut origin = world.origin().await;
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        read_until(&mut client, "hi").await;
        sleep(seconds(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_all_of_a_long_answer() {
    // The proxy holds more than a client of 500 bytes a second takes in the time
    // for which nothing may move.
    const LENGTH: usize = 300_000;
    let mut world = world();
    let mut client = world.asking(LAST_GET).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    let pouring = async {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        origin.write_all(head.as_bytes()).await.unwrap();
        origin.write_all(&vec![b'x'; LENGTH]).await.unwrap();
    };
    let reading = async {
        read_head(&mut client).await;
        let (mut read, mut space) = (0, [0; 4500]);
        loop {
            sleep(seconds(9)).await;
            match client.read(&mut space).await.unwrap() {
                0 => return read,
                length => read += length,
            }
        }
    };
    assert_eq!(tokio::join!(reading, pouring).0, LENGTH);
    world.served().await;
    assert!(world.status().failures.is_empty());
}
