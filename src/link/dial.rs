//! The publisher's end of one control link: dials a backend once and keeps the
//! link until it breaks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::proof;
use super::speak::speak;
use crate::clock::now;
use crate::tor::credentials::Credentials;
use crate::tor::network::Network;
use crate::tor::private_address::without_private;
use crate::tor::probe::{OpenStream, Steps, StreamRefusal, Verdict, meet_at_any};
use crate::tor::puzzles::Toil;
use onionbraid_balancer::fact::{DialFailure, LinkNews};
use onionbraid_balancer::link::{self, Offered, Report, Standing};
use onionbraid_balancer::onion::{IntroPoint, OnionAddress};
use onionbraid_balancer::pow::OwnWork;

/// How long it may take to meet a backend. Where all is well that is a second or
/// two; who is not there by then is dialled again.
const MEET_WITHIN: Duration = Duration::from_secs(8);

/// What is needed to dial.
pub(crate) struct Dial {
    /// Circuits and directory.
    pub(crate) network: Network,
    /// What we publish the address with, ...
    pub(crate) credentials: Arc<Credentials>,
    /// ... and the address.
    pub(crate) frontend: OnionAddress,
    /// Whom to dial.
    pub(crate) backend: OnionAddress,
    /// Where to meet it.
    pub(crate) points: Vec<IntroPoint>,
    /// The work to do for that, where only those are met who did some.
    pub(crate) work: Option<OwnWork>,
    /// What it has to know: the newest report that is taken into account, and what
    /// has become of its points.
    pub(crate) standing: watch::Receiver<Option<(u64, Standing)>>,
}

impl Dial {
    /// Dials, and tells what the backend reports as long as the link lasts. Gives
    /// back how it ended.
    pub(crate) async fn run(self, told: mpsc::Sender<LinkNews>) -> LinkNews {
        match self.open().await {
            Ok(OpenStream { stream, meeting: _circuit }) => {
                let look = |report| self.looked_at(report);
                speak(stream, self.standing.clone(), &told, look).await
            }
            Err(failure) => LinkNews::NotDialled(failure),
        }
    }

    /// A stream to the backend's end.
    async fn open(&self) -> Result<OpenStream, DialFailure> {
        let unknown = |why: &str| DialFailure::Inconclusive(why.to_owned());
        let credentials = || Arc::clone(&self.credentials);
        let toil = self.work.map(|work| Toil { credentials: credentials(), work });
        let (network, points) = (&self.network, &self.points);
        let meeting =
            meet_at_any(network, points, &self.backend, toil.as_ref(), MEET_WITHIN).await?;
        let directory = self.network.directory().map_err(|error| unknown(&error.to_string()))?;
        let period = directory.hs_time_period();
        drop(directory);
        let binding = meeting.binding().ok_or_else(|| unknown("the circuit has no binding"))?;
        let proof = crate::tor::wiped(|| {
            proof::prove(&self.credentials, period, &self.backend, binding, now().wall)
        });
        let proof = proof.ok_or_else(|| {
            unknown("there are no keys for this time period to prove ourselves with")
        })?;
        let port = link::port(&self.backend, &self.frontend);
        let opened = meeting.open_with(&proof, port, &mut Steps::default()).await;
        opened.map_err(|verdict| match verdict {
            Verdict::Refused(StreamRefusal::Broken(why)) => DialFailure::Inconclusive(why),
            Verdict::StreamSilent => unknown("no answer to the stream"),
            _ => DialFailure::NotOffered,
        })
    }

    /// A report without the points that no client could use.
    fn looked_at(&self, report: Report) -> LinkNews {
        let Report { number, offer: mut offered } = report;
        let points = std::mem::take(&mut offered.points);
        let (points, flaw) = without_private(points, &self.network);
        let offered = Offered { points, ..offered };
        LinkNews::Reported { number, offered, flaw }
    }
}
