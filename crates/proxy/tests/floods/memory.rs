//! What a client can make the proxy hold.

use tokio::io::AsyncWriteExt as _;

use crate::site::{Site, resident, settled, zero_window};

const MB: usize = 1_000_000;

/// What the memory grows by while so many streams on each of so many circuits
/// send this, and what is left of that when they have gone.
async fn growth(circuits: u64, streams: usize, sent: &[u8]) -> (usize, usize) {
    let mut site = Site::with(|_| {}).await;
    // What is made once.
    for circuit in 1000..1020 {
        site.get(circuit, "/").await;
    }
    let before = settled().await;
    let mut open = Vec::new();
    for _ in 0..streams {
        for circuit in 0..circuits {
            let mut client = site.client(circuit).await;
            // A client may be refused while it still sends.
            let _ = client.write_all(sent).await;
            open.push(client);
        }
    }
    let grown = settled().await.saturating_sub(before);
    drop(open);
    settled().await;
    (grown, resident().saturating_sub(before))
}

/// The same attack again and again in one process grows it no further.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_flood_took_serves_for_the_next_one() {
    let unread = b"GET /large HTTP/1.1\r\nHost: a.onion\r\n\r\n".to_vec();
    for (what, circuits, streams, sent) in
        [("zero windows", 1, 300, zero_window("/", 100)), ("unread over HTTP/1", 50, 10, unread)]
    {
        let mut site = Site::with(|_| {}).await;
        site.get(1000, "/").await;
        let before = settled().await;
        let mut most = Vec::new();
        for round in 0..5 {
            let mut open = Vec::new();
            for stream in 0..streams * circuits {
                let mut client = site.client(stream % circuits).await;
                let _ = client.write_all(&sent).await;
                open.push(client);
            }
            most.push(settled().await.saturating_sub(before));
            drop(open);
            site.nothing_under_way().await;
            let left = settled().await.saturating_sub(before);
            println!("{what}, {round}: {} kB, then {} kB", most[round] / 1000, left / 1000);
        }
        // The allocator needs a few rounds to find its places; what each leaves behind adds up.
        for grown in &most[1..] {
            assert!(*grown < 2 * most[0] + 4 * MB, "{what}: {most:?}");
        }
    }
}

/// Fails where so many circuits make more than 64 MB of it.
async fn zero_windows(circuits: u64, path: &str) {
    let (grown, left) = growth(circuits, 300, &zero_window(path, 100)).await;
    println!("{circuits} circuits, {path}: {} kB, then {} kB", grown / 1000, left / 1000);
    assert!(grown < 64 * MB && left < 64 * MB, "{grown}, then {left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_with_thirty_thousand_unread_answers_costs_little() {
    zero_windows(1, "/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_do_two_and_ten_circuits() {
    zero_windows(2, "/").await;
    zero_windows(10, "/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_do_pages_of_ours_and_large_files() {
    // No path of HTTP/1: 400.
    zero_windows(1, "x").await;
    zero_windows(1, "/large").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_of_http_1_are_cheap() {
    let request = "GET / HTTP/1.1\r\nHost: a.onion\r\n\r\n";
    let large = request.replace("/ ", "/large ");
    for (what, sent, most) in
        [("idle", request, 16), ("half sent", &request[..20], 16), ("unread", &large, 512)]
    {
        let (grown, left) = growth(100, 10, sent.as_bytes()).await;
        println!("{what}: {} kB, then {} kB", grown / 1000, left / 1000);
        assert!(grown < most * MB, "{what}: {grown}");
    }
}
