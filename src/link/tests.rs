//! Both ends of a link in memory, and ends that lie.

#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::listen::{SaidToPublishers, serve};
use super::seats::Seats;
use super::speak::speak;
use super::wire::{GAP, LinkPace};
use crate::instance::Verified;
use onionbraid_balancer::fact::{DialFailure, LinkNews};
use onionbraid_balancer::link::{
    Condition, LinkOrders, Offered, Path, Report, Standing, WorkOrder, WorkReport, line,
};
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::pow::SeedSlot;

const SOON: Duration = Duration::from_secs(60);

/// Both ends, and what can be done to them.
struct Ends {
    said: watch::Sender<SaidToPublishers>,
    standing: watch::Sender<Option<(u64, Standing)>>,
    seats: Arc<Seats>,
    /// Of the local instance that the link came through.
    finishing: CancellationToken,
    news: mpsc::Receiver<LinkNews>,
    tasks: JoinSet<Option<LinkNews>>,
}

impl Ends {
    /// A publisher on one end of a stream.
    fn publisher() -> (Self, DuplexStream) {
        let (near, far) = duplex(64 * 1024);
        let report = report(1, Condition::Serving);
        let (said, _) = watch::channel(SaidToPublishers { report, verified: None });
        let (standing, watched) = watch::channel(None);
        let (told, news) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { Some(speak(near, watched, &told, reported).await) });
        let (seats, finishing) = (Arc::default(), CancellationToken::new());
        (Self { said, standing, seats, finishing, news, tasks }, far)
    }

    /// And a backend on the other one.
    fn linked() -> Self {
        let (mut ends, far) = Self::publisher();
        ends.serve(far);
        ends
    }

    fn serve(&mut self, stream: DuplexStream) {
        let frontend = OnionAddress::from_public_key([1; 32]);
        self.seats.answer_for(vec![frontend]);
        let seat = self.seats.take(frontend).unwrap();
        let (said, finishing) = (self.said.subscribe(), self.finishing.clone());
        self.tasks.spawn(async move {
            serve(stream, said, seat, finishing).await;
            None
        });
    }

    fn report(&self, report: Report) {
        self.said.send_modify(|said| said.report = report);
    }

    async fn next(&mut self) -> Option<LinkNews> {
        timeout(SOON, self.news.recv()).await.unwrap()
    }

    /// How the publisher's end has ended.
    async fn ended(&mut self) -> LinkNews {
        while let Some(ended) = timeout(SOON, self.tasks.join_next()).await.unwrap() {
            if let Some(news) = ended.unwrap() {
                return news;
            }
        }
        panic!("it has not ended");
    }
}

fn report(number: u64, condition: Condition) -> Report {
    Report { number, offer: Offered { condition, ..Offered::default() } }
}

fn reported(report: Report) -> LinkNews {
    LinkNews::Reported { number: report.number, offered: report.offer, flaw: None }
}

fn says(number: u64, condition: Condition) -> Option<LinkNews> {
    Some(reported(report(number, condition)))
}

#[tokio::test(start_paused = true)]
async fn reports_go_up_and_orders_come_down_the_moment_they_change() {
    let mut ends = Ends::linked();
    assert_eq!(ends.next().await, says(1, Condition::Serving));
    let last = report(7, Condition::Ending);
    ends.report(last.clone());
    assert_eq!(ends.next().await, says(7, Condition::Ending));
    assert!(!ends.seats.release(&last));
    ends.standing.send_replace(Some((7, Standing::default())));
    timeout(SOON, async {
        while !ends.seats.release(&last) {
            ends.seats.changed().await;
        }
    })
    .await
    .unwrap();
    // The publisher goes.
    ends.seats.answer_for(Vec::new());
    assert!(matches!(ends.ended().await, LinkNews::Lost(_)));
    assert!(ends.seats.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_link_takes_no_seeds_back_before_it_knows_which_there_are() {
    let mut ends = Ends::linked();
    assert_eq!(ends.next().await, says(1, Condition::Serving));
    tokio::time::sleep(SOON).await;
    // An order without seeds would take away those of the link before.
    assert!(ends.seats.work().is_empty());
    let work = Some(WorkOrder { effort: 3, seeds: Vec::new() });
    ends.standing.send_replace(Some((1, Standing { work: work.clone(), ..Standing::default() })));
    timeout(SOON, async {
        while ends.seats.work().is_empty() {
            ends.seats.changed().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(ends.seats.work().into_values().collect::<Vec<_>>(), [work]);
}

#[tokio::test(start_paused = true)]
async fn each_publisher_is_told_which_of_the_seeds_of_its_own_address_are_verified() {
    let mut ends = Ends::linked();
    assert_eq!(ends.next().await, says(1, Condition::Serving));
    let address = |n| OnionAddress::from_public_key([n; 32]);
    // The publisher is that of 1.
    let told = [(vec![], None), (vec![(2, 9)], None), (vec![(1, 7), (2, 9)], Some(SeedSlot(7)))];
    for (number, (slots, expected)) in (2..).zip(told) {
        let slots = slots.into_iter().map(|(n, slot)| (address(n), SeedSlot(slot))).collect();
        ends.said.send_modify(|said| {
            said.report.number = number;
            said.verified = Some(Verified { effort: 3, slots });
        });
        let Some(LinkNews::Reported { offered, .. }) = ends.next().await else { panic!("lost") };
        assert_eq!(offered.work, Some(WorkReport { slot: expected, effort: 3 }));
    }
}

#[tokio::test(start_paused = true)]
async fn changes_without_end_are_sent_together_and_the_newest_arrives() {
    let mut ends = Ends::linked();
    for number in 2..=1000 {
        ends.report(report(number, Condition::Serving));
        tokio::time::sleep(Duration::from_millis(1)).await;
        // Read as fast as they come.
        while ends.news.try_recv().is_ok() {}
    }
    ends.report(report(1001, Condition::Ending));
    let mut more = 0;
    while ends.next().await != says(1001, Condition::Ending) {
        more += 1;
    }
    assert!(more < 3, "{more}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_stands_still_is_noticed_within_ten_seconds() {
    let (mut ends, far) = Ends::publisher();
    let (near, wire) = duplex(64 * 1024);
    ends.serve(near);
    // What is between them passes nothing on after a while, and closes nothing.
    let still = tokio::time::Instant::now() + Duration::from_secs(20);
    let (mut to, mut from) = (far, wire);
    ends.tasks.spawn(async move {
        let copy = tokio::io::copy_bidirectional(&mut to, &mut from);
        let _ = tokio::time::timeout_at(still, copy).await;
        std::future::pending().await
    });
    assert_eq!(ends.next().await, says(1, Condition::Serving));
    let ended = ends.ended().await;
    assert!(matches!(ended, LinkNews::Lost(_)), "{ended:?}");
    let took = still.elapsed();
    assert!(took <= Duration::from_secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_link_does_not_outlive_the_local_instance_that_it_came_through() {
    let mut ends = Ends::linked();
    assert_eq!(ends.next().await, says(1, Condition::Serving));
    ends.finishing.cancel();
    assert!(matches!(ends.ended().await, LinkNews::Lost(_)));
    assert!(ends.seats.is_empty());
}

/// A publisher that asks without end: so many times for the state, or with orders.
async fn asks(path: Path, times: u32) -> Duration {
    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let (mut ends, _) = Ends::publisher();
    let (near, far) = duplex(64 * 1024);
    ends.serve(far);
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(near));
    let (mut sender, connection) = handshake.await.unwrap();
    ends.tasks.spawn(async move {
        let _ = connection.await;
        None
    });
    let began = tokio::time::Instant::now();
    for number in 1..=times {
        let (method, body) = match path {
            Path::State => (http::Method::GET, Vec::new()),
            Path::Orders => (
                http::Method::POST,
                line(&LinkOrders { number: number.into(), ..LinkOrders::default() }),
            ),
        };
        let request = http::Request::builder().method(method).uri(format!("http://link{path}"));
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        sender.ready().await.unwrap();
        // What the answer says is not waited for.
        drop(timeout(SOON, sender.send_request(request)).await.unwrap().unwrap());
    }
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_asks_again_and_again_is_answered_no_faster_than_one_may_ask() {
    for path in [Path::State, Path::Orders] {
        let took = asks(path, 24).await;
        // Four at once, then one in five seconds.
        assert!(took >= Duration::from_secs(95), "{path}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn orders_are_read_ten_times_a_second_at_most_however_many_requests_bring_them() {
    let pace = Arc::new(LinkPace::new(1, GAP));
    let began = tokio::time::Instant::now();
    let turns = (0..8).map(|_| async {
        for _ in 0..10 {
            pace.turn().await;
        }
    });
    futures::future::join_all(turns).await;
    assert!(began.elapsed() >= 79 * GAP, "{:?}", began.elapsed());
}

/// A backend that accepts the stream and answers with these bytes of its own.
async fn answered_with(bytes: &[u8]) -> LinkNews {
    let (mut ends, mut far) = Ends::publisher();
    let _ = far.write_all(bytes).await;
    let mut heard = vec![0; 1024];
    let read = async {
        while far.read(&mut heard).await.is_ok_and(|read| read > 0) {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = ends.ended() => ended,
        () = read => unreachable!("it does not end"),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_speaks_no_http2_has_no_link_to_offer() {
    let not_offered = LinkNews::NotDialled(DialFailure::NotOffered);
    for bytes in [&b"SSH-2.0-OpenSSH_9\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0xff; 9000]]
    {
        for _ in 0..20 {
            assert_eq!(answered_with(bytes).await, not_offered);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_stream_that_breaks_or_stays_silent_before_the_first_report_nobody_knows() {
    let is_not_known = |news: &LinkNews| match news {
        LinkNews::NotDialled(DialFailure::Inconclusive(why)) => {
            why.contains("before the first report")
        }
        _ => false,
    };
    // The settings of a server of HTTP/2, whole and torn.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for bytes in [&b""[..], &settings, &settings[..4]] {
        let silent = answered_with(bytes).await;
        assert!(is_not_known(&silent), "{silent:?}");
        for _ in 0..20 {
            let (mut ends, mut far) = Ends::publisher();
            far.write_all(bytes).await.unwrap();
            drop(far);
            let broken = ends.ended().await;
            assert!(is_not_known(&broken), "{broken:?}");
        }
    }
}

/// A backend of another making: answers the first request with this status and
/// body, and the others with nothing.
async fn answered_by(status: u16, body: Vec<u8>) -> (Vec<LinkNews>, LinkNews) {
    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper::server::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let (mut ends, far) = Ends::publisher();
    ends.tasks.spawn(async move {
        let service = hyper::service::service_fn(move |request: http::Request<_>| {
            let _: &hyper::body::Incoming = request.body();
            let body = body.clone();
            async move {
                if request.method() == http::Method::POST {
                    std::future::pending::<()>().await;
                }
                let body = Full::new(Bytes::from(body));
                http::Response::builder().status(status).body(body)
            }
        });
        let server = http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(far), service).await;
        None
    });
    let mut news = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(next) = ends.news.recv() => news.push(next),
            ended = ends.tasks.join_next() => if let Some(ended) = ended.unwrap().unwrap() {
                return (news, ended);
            },
        }
    }
}

#[tokio::test]
async fn another_version_is_no_link_and_what_is_no_newer_report_ends_one() {
    let not_offered = LinkNews::NotDialled(DialFailure::NotOffered);
    for status in [404, 301, 500] {
        assert_eq!(answered_by(status, Vec::new()).await, (Vec::new(), not_offered.clone()));
    }
    let good = line(&report(2, Condition::Serving));
    let again = good.clone();
    let garbage = b"{\"number\":3}\n".to_vec();
    let endless = vec![b'x'; 200_000];
    for bad in [again, garbage, endless, Vec::new()] {
        let (news, ended) = answered_by(200, [good.clone(), bad.clone()].concat()).await;
        assert_eq!(news, [reported(report(2, Condition::Serving))]);
        assert!(matches!(ended, LinkNews::Lost(_)), "{ended:?}");
        // Nothing good before it: never a link.
        assert_eq!(
            answered_by(200, bad.clone()).await.1,
            match bad == good {
                true => LinkNews::Lost("it has ended the link".into()),
                false => not_offered.clone(),
            }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_floods_is_read_ten_times_a_second_at_most() {
    let flood: Vec<u8> = (1..400).flat_map(|n| line(&report(n, Condition::Serving))).collect();
    let began = tokio::time::Instant::now();
    let (news, _) = answered_by(200, flood).await;
    assert_eq!(news.len(), 399);
    assert!(began.elapsed() >= Duration::from_secs(39), "{:?}", began.elapsed());
}
