//! What do commands want to know of the network? Answers `descriptor` and
//! `check --online` with the daemon's own Tor client, so that they need no guards
//! and no circuits of their own.

use std::sync::Arc;

use futures::FutureExt as _;
use hyper::body::Bytes;
use tokio::sync::watch;

use crate::admin::{AnswerQuestion, NoAnswer};
use crate::inquiry::{self, points, published};
use crate::tor::bootstrap::Tor;
use crate::tor::network::Network;

use onionbraid_balancer::onion::OnionAddress;

use super::orders::{OrderTaker, read, write};
use super::snapshot::Board;

/// What answers questions: with this network, once there is one.
pub(super) fn answering(
    network: watch::Receiver<Option<Network>>,
    tor: Tor,
    board: Arc<Board>,
    orders: OrderTaker,
) -> AnswerQuestion {
    Arc::new(move |asked| {
        if let Some(obeyed) = orders.obey(&asked) {
            return obeyed;
        }
        let network = network.borrow().clone().ok_or_else(|| not_ready(&tor));
        let board = Arc::clone(&board);
        async move { answer(&asked.path, &asked.body, network, &board).await }.boxed()
    })
}

fn not_ready(tor: &Tor) -> NoAnswer {
    let view = tor.view();
    let percent = view.fraction * 100.0;
    NoAnswer::NotReady(format!("Tor is not ready yet: {percent:.0} %, {}", view.in_words()))
}

async fn answer(
    path: &str,
    question: &Bytes,
    network: Result<Network, NoAnswer>,
    board: &Board,
) -> Result<Vec<u8>, NoAnswer> {
    match path {
        inquiry::PUBLISHED => {
            let question: published::AddressQuestion = read(question)?;
            let here = board.here(&question.address);
            let answer = published::ask(&network?, &question, here).await;
            write(&answer.map_err(|failure| NoAnswer::Failed(failure.to_string()))?)
        }
        inquiry::POINTS => {
            let question: points::PointsQuestion = read(question)?;
            if let Some(fault) = question.fault() {
                return Err(NoAnswer::Malformed(fault.into()));
            }
            let mut answer = points::ask(&network?, &question).await;
            for (asked, answer) in question.services.iter().zip(&mut answer.services) {
                answer.running = board.here(&asked.address).service.map(|service| {
                    let backends = service.backends.iter();
                    let remote = backends
                        .filter_map(|it| Some((it.address.as_ref()?.parse().ok()?, it.link)));
                    let remote: Vec<(OnionAddress, _)> = remote.collect();
                    points::RunningService {
                        backends: remote.iter().map(|(address, _)| *address).collect(),
                        links: remote
                            .iter()
                            .filter_map(|(of, link)| Some((*of, (*link)?)))
                            .collect(),
                    }
                });
            }
            write(&answer)
        }
        _ => Err(NoAnswer::Unknown),
    }
}
