//! What is refused before anything is made for it, and what is given up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onionbraid_proxy::http::Proxy;
use onionbraid_proxy::pages::Pages;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::world::{GET, LONG, Silent, World, read_head, read_until, status};

/// A client of HTTP/2 with this SETTINGS_INITIAL_WINDOW_SIZE.
async fn preface(world: &mut World, circuit: u64, window: u8) -> DuplexStream {
    let mut client = world.client_on(circuit);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, window]);
    client.write_all(&bytes).await.unwrap();
    client
}

/// Asks for `/` on a stream.
async fn get(client: &mut DuplexStream, stream: u32) {
    client.write_all(&frame_of_get(stream)).await.unwrap();
}

/// A GET of `/` on a stream.
fn frame_of_get(stream: u32) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 7];
    block.extend(b"a.onion");
    let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 5];
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

/// The next frame of this type: its stream, and what is in it.
async fn frame(client: &mut DuplexStream, wanted: u8) -> (u32, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        client.read_exact(&mut payload).await.unwrap();
        if head[3] == wanted {
            return (u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload);
        }
    }
}

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
const CANCEL: [u8; 4] = [0, 0, 0, 8];

#[tokio::test(start_paused = true)]
pub(crate) async fn streams_beyond_those_of_a_circuit_are_refused_over_all_of_its_connections() {
    let mut world = World::with(|settings| {
        settings.circuit.max_requests = Some(2);
        settings.circuit.close_abusers = true;
    });
    let mut first = preface(&mut world, 1, 0).await;
    get(&mut first, 1).await;
    get(&mut first, 3).await;
    let origins = (world.origin().await, world.origin().await);
    let mut second = preface(&mut world, 1, 0).await;
    get(&mut second, 1).await;
    assert_eq!(frame(&mut second, RST_STREAM).await, (1, REFUSED_STREAM.to_vec()));
    assert_eq!(world.failures("too_many"), 1);
    assert_eq!(world.closed_circuits.load(Ordering::SeqCst), 1);
    assert!(world.origin_is_untouched());
    // Another circuit is another client.
    let mut other = preface(&mut world, 2, 0).await;
    get(&mut other, 1).await;
    read_head(&mut world.origin().await).await;
    drop(origins);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_connection_whose_streams_are_refused_again_and_again_is_closed() {
    let mut world = World::with(|settings| settings.circuit.max_requests = Some(1));
    let mut holder = preface(&mut world, 1, 0).await;
    get(&mut holder, 1).await;
    let _origin = world.origin().await;
    let mut client = preface(&mut world, 1, 0).await;
    let (mut farewells, mut refused) = (0, 0);
    let mut stream = 1;
    // It answers no PING, and goes on after every GOAWAY.
    let mut header = [0; 9];
    get(&mut client, stream).await;
    while refused < 2000 && client.read_exact(&mut header).await.is_ok() {
        let mut payload = vec![0; usize::from(header[2])];
        client.read_exact(&mut payload).await.unwrap();
        match header[3] {
            GOAWAY => farewells += 1,
            RST_STREAM => {
                refused += 1;
                stream += 2;
                let _ = client.write_all(&frame_of_get(stream)).await;
            }
            _ => {}
        }
    }
    assert_eq!(farewells, 1, "{refused}");
    assert_eq!(world.failures("too_many"), 1000);
    // The connection may end before the last one is told.
    assert!((999..=1000).contains(&refused), "{refused}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn without_another_word_a_circuit_has_128_requests_under_way() {
    let mut world = World::new();
    let mut clients = Vec::new();
    for _ in 0..128 {
        clients.push(world.asking(GET).await);
        clients.push(world.origin().await);
    }
    let mut beyond = world.asking(GET).await;
    assert_eq!(status(&read_until(&mut beyond, "</html>\n").await), 429);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_circuit_has_eight_connections_of_http_2() {
    let mut world = World::new();
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut client = preface(&mut world, 1, 9).await;
        get(&mut client, 1).await;
        open.push((world.origin().await, client));
    }
    let mut beyond = preface(&mut world, 1, 9).await;
    assert_eq!(frame(&mut beyond, GOAWAY).await, (0, vec![0, 0, 0, 0, 0, 0, 0, 11]));
    assert_eq!(beyond.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(world.failures("too_many"), 1);
    let mut other = preface(&mut world, 2, 9).await;
    get(&mut other, 1).await;
    world.origin().await;
    drop(open.pop());
    world.served().await;
    world.served().await;
    let mut again = preface(&mut world, 1, 9).await;
    get(&mut again, 1).await;
    world.origin().await;
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_page_of_ours_that_nobody_takes_is_given_up_soon() {
    let mut world = World::with(|settings| {
        settings.guard.block =
            vec![onionbraid_proxy::settings::BlockRule { status: 403, ..Default::default() }];
    });
    let mut client = preface(&mut world, 1, 0).await;
    let began = Instant::now();
    get(&mut client, 1).await;
    assert_eq!(frame(&mut client, RST_STREAM).await, (1, CANCEL.to_vec()));
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_process_with_enough_requests_refuses_others_and_blames_nobody() {
    let room = Arc::new(Semaphore::new(1));
    let mut settings =
        onionbraid_proxy::settings::HttpSettings { http2_without_tls: true, ..Default::default() };
    settings.circuit.close_abusers = true;
    settings.origins.idle_timeout = LONG;
    let proxy = Proxy::within(room, Arc::new(settings), Pages::default(), Arc::new(Silent));
    let mut world = World::of(proxy);
    let mut first = preface(&mut world, 1, 9).await;
    get(&mut first, 1).await;
    while world.status().requests == 0 {
        tokio::task::yield_now().await;
    }
    let mut second = preface(&mut world, 2, 9).await;
    get(&mut second, 1).await;
    assert_eq!(frame(&mut second, RST_STREAM).await, (1, REFUSED_STREAM.to_vec()));
    let mut third = world.client_on(3);
    third.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(status(&read_until(&mut third, "</html>\n").await), 503);
    assert_eq!(world.failures("overloaded"), 2);
    assert_eq!(world.closed_circuits.load(Ordering::SeqCst), 0);
}
