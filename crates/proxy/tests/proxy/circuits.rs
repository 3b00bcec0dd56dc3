//! What one circuit may do, over all of its streams.

use std::sync::atomic::Ordering;
use std::time::Duration;

use onionbraid_proxy::settings::RequestRate;
use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use crate::world::{GET, World, read_head, read_until, status};

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_rate_are_answered_429_until_time_has_passed() {
    let mut world = World::with(|settings| {
        settings.circuit.request_rate = Some(RequestRate { rate: 1, burst: 2 });
        settings.guard.head_timeout = Duration::from_secs(999);
    });
    let mut client = world.asking(&GET.repeat(3)).await;
    for _ in 0..2 {
        let mut origin = world.origin().await;
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        assert_eq!(status(&read_until(&mut client, "hi").await), 200);
    }
    let answer = read_until(&mut client, "</html>\n").await.to_ascii_lowercase();
    assert_eq!(status(&answer), 429);
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    // Another circuit is another client.
    let mut other = world.client_on(2);
    other.write_all(GET.as_bytes()).await.unwrap();
    read_head(&mut world.origin().await).await;
    // And a second later there is another token.
    sleep(Duration::from_secs(1)).await;
    client.write_all(GET.as_bytes()).await.unwrap();
    read_head(&mut world.origin().await).await;
    assert_eq!(world.failures("too_many"), 1);
    assert_eq!(world.closed_circuits.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn requests_under_way_count_over_all_streams_of_a_circuit() {
    let mut world = World::with(|settings| settings.circuit.max_requests = Some(2));
    let mut first = world.asking(GET).await;
    let mut origin = world.origin().await;
    let _second = world.asking(GET).await;
    let _other_origin = world.origin().await;
    let mut third = world.asking(GET).await;
    assert_eq!(status(&read_until(&mut third, "</html>\n").await), 429);
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    read_until(&mut first, "hi").await;
    third.write_all(GET.as_bytes()).await.unwrap();
    read_head(&mut world.origin().await).await;
}

#[tokio::test(start_paused = true)]
async fn the_circuit_of_an_abuser_is_closed_if_the_operator_wants_that() {
    let mut world = World::with(|settings| {
        settings.circuit.max_requests = Some(1);
        settings.circuit.close_abusers = true;
    });
    let _first = world.asking(GET).await;
    let _origin = world.origin().await;
    let mut second = world.asking(GET).await;
    read_head(&mut second).await;
    assert_eq!(world.closed_circuits.load(Ordering::SeqCst), 1);
}
