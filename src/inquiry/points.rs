//! Does every introduction point of a service answer, right now, through Tor?
//!
//! Asks each of them as a client of the service would: those in the backends'
//! own descriptors, and those that the service itself has published.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::owners::{self, Fetched, RemoteOwner};
use super::tries::{FoundPoint, PointStanding, Tries, in_turn};
use crate::clock::now;
use crate::tor::fetch;
use crate::tor::network::Network;
use crate::tor::probe::{self, Request, Steps, Verdict};
use onionbraid_balancer::fact::FetchFailure;
use onionbraid_balancer::onion::{IntroPoint, OnionAddress};
use onionbraid_balancer::status::LinkState;

/// Points, and descriptors, that are asked for at a time, of all services
/// together. A probe takes two circuits.
const AT_ONCE: usize = 16;

/// How often a descriptor is asked for while no HSDir can be asked.
const FETCHES: usize = 3;

/// The most services and backends that one question may be about.
const MOST: usize = 10_000;

/// Services to ask about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointsQuestion {
    /// In the order of the answers.
    pub services: Vec<ServiceQuestion>,
}

/// A service, and what to ask its points for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceQuestion {
    /// The address that clients use.
    pub address: OnionAddress,
    /// Its backends elsewhere.
    pub backends: Vec<RemoteOwner>,
    /// The port to open a stream to.
    pub port: u16,
    /// What to ask for on that stream; `None`: it is enough that it opens.
    pub request: Option<PageQuestion>,
}

/// A page to ask the server behind a port for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageQuestion {
    /// Begins with `/`, in ASCII without blanks.
    pub path: String,
    /// The status that the answer must have; `None`: any.
    pub status: Option<u16>,
}

/// What was found out, service by service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointsAnswer {
    /// In the order of the question.
    pub services: Vec<ServiceAnswer>,
}

/// What was found out about one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAnswer {
    /// Its backends', in their order, then what only the service itself has
    /// published.
    pub findings: Vec<Finding>,
    /// What the daemon runs under this address, if it was the one who answered.
    #[serde(default)]
    pub running: Option<RunningService>,
}

/// A service as a daemon runs it: its files may say something else by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningService {
    /// The addresses of its backends elsewhere.
    pub backends: BTreeSet<OnionAddress>,
    /// How the control links to those are that have one.
    #[serde(default)]
    pub links: BTreeMap<OnionAddress, LinkState>,
}

/// Whose introduction points they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Those of a backend elsewhere, by its name.
    Backend(String),
    /// Those in the service's own descriptor that no backend elsewhere has: of
    /// local instances, or left over.
    Published,
}

/// What was found out about one descriptor and its points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Whose descriptor.
    pub whose: Whose,
    /// What became of each of its points, or why there are none.
    pub points: Result<Vec<PointFinding>, FetchFailure>,
}

/// What was found out about one introduction point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointFinding {
    /// The first digits of its session id key.
    pub session_id: String,
    /// The fingerprint of its relay.
    pub relay: String,
    /// The relay's name, if the directory has it.
    pub nickname: Option<String>,
    /// What the last try came to.
    pub verdict: Verdict,
    /// What all tries prove.
    pub standing: PointStanding,
    /// How many there were.
    pub tries: usize,
    /// How long the steps of the last one took.
    pub steps: Steps,
}

impl Finding {
    /// Whether clients are served there.
    pub fn standing(&self) -> PointStanding {
        let points = match &self.points {
            Ok(points) => points,
            Err(FetchFailure::Unreachable(_)) => return PointStanding::InDoubt,
            Err(FetchFailure::NotFound | FetchFailure::Unusable(_)) => return PointStanding::Fails,
        };
        let any = |standing| points.iter().any(|point| point.standing == standing);
        if points.is_empty() || any(PointStanding::Fails) {
            PointStanding::Fails
        } else if any(PointStanding::InDoubt) {
            PointStanding::InDoubt
        } else {
            PointStanding::Answers
        }
    }

    /// What it is called in the table.
    pub fn name(&self) -> &str {
        match &self.whose {
            Whose::Backend(name) => name,
            Whose::Published => "(published)",
        }
    }
}

impl PointsQuestion {
    /// What is wrong with a question that came from another process.
    pub fn fault(&self) -> Option<&'static str> {
        let size: usize = self.services.iter().map(|service| service.backends.len() + 1).sum();
        let pages = self.services.iter().filter_map(|service| service.request.as_ref());
        let is_path =
            |path: &str| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
        if size > MOST {
            Some("too many services and backends at a time")
        } else if pages.into_iter().any(|page| !is_path(&page.path)) {
            Some("a path must begin with / and have no blanks")
        } else {
            None
        }
    }
}

/// Asks about all services at the same time.
pub async fn ask(network: &Network, question: &PointsQuestion) -> PointsAnswer {
    let inquiry = Inquiry { network, tries: Tries::new(AT_ONCE), fetches: Semaphore::new(AT_ONCE) };
    let services = question.services.iter().map(|service| inquiry.service(service).boxed());
    let found = join_all(services.collect::<Vec<_>>()).await;
    let answer = |findings| ServiceAnswer { findings, running: None };
    PointsAnswer { services: found.into_iter().map(answer).collect() }
}

/// One question being answered.
struct Inquiry<'a> {
    network: &'a Network,
    tries: Tries<'a>,
    fetches: Semaphore,
}

impl<'a> Inquiry<'a> {
    /// Fetches the descriptors of one service and its backends, tries the points.
    async fn service(&self, asked: &'a ServiceQuestion) -> Vec<Finding> {
        let addresses = asked.backends.iter().map(|backend| backend.address);
        let fetches = addresses.chain([asked.address]).map(|address| self.fetch(address).boxed());
        let mut fetched: Vec<Fetched> = join_all(fetches.collect::<Vec<_>>()).await;
        let Some(published) = fetched.pop() else { return Vec::new() };
        let mut unclaimed = owners::unclaimed(&published, &fetched);
        owners::claim(self.network, &asked.backends, &mut fetched, &mut unclaimed).await;

        // A point that a backend has told already is not tried again because it
        // is published, too: that it should be.
        let mut seen = BTreeSet::new();
        let mut findings: Vec<BoxFuture<'_, Finding>> = Vec::new();
        let whose = asked.backends.iter().map(|it| (Whose::Backend(it.name.clone()), Some(it)));
        let sources = whose.chain([(Whose::Published, None)]);
        for ((whose, backend), fetched) in sources.zip(fetched.into_iter().chain([published])) {
            let points = match fetched {
                Err(failure) => Err(failure),
                Ok(descriptor) => {
                    let any = !descriptor.points.is_empty();
                    let points = descriptor.points.into_iter();
                    let new: Vec<_> = points.filter(|it| seen.insert(it.session_id)).collect();
                    if new.is_empty() && any {
                        continue;
                    }
                    Ok(new)
                }
            };
            let own = backend.map(|backend| backend.address);
            findings.push(self.finding(asked, whose, own, points).boxed());
        }
        join_all(findings).await
    }

    /// Fetches one descriptor; again, if no HSDir could be asked.
    async fn fetch(&self, address: OnionAddress) -> Fetched {
        let mut fetches = 1;
        loop {
            let fetch = fetch::fetch(self.network, &address, now().wall);
            let fetched = in_turn(&self.fetches, fetch).await;
            if !matches!(fetched, Err(FetchFailure::Unreachable(_))) || fetches == FETCHES {
                return fetched;
            }
            fetches += 1;
        }
    }

    /// Tries the points of one descriptor.
    async fn finding(
        &self,
        asked: &'a ServiceQuestion,
        whose: Whose,
        own: Option<OnionAddress>,
        points: Result<Vec<IntroPoint>, FetchFailure>,
    ) -> Finding {
        let points = match points {
            Err(failure) => Err(failure),
            Ok(points) => {
                let tried = points.into_iter().map(|point| self.point(asked, own, point).boxed());
                Ok(join_all(tried.collect::<Vec<_>>()).await)
            }
        };
        Finding { whose, points }
    }

    async fn point(
        &self,
        asked: &'a ServiceQuestion,
        own: Option<OnionAddress>,
        point: IntroPoint,
    ) -> PointFinding {
        let request = asked
            .request
            .as_ref()
            .map(|page| Request::new(&asked.address, asked.port, page.path.clone(), page.status));
        let (address, port) = (asked.address, Some(asked.port));
        let question = probe::ProbeQuestion { address, backend: own, port, request };
        let (session_id, relay) = (point.session_id.prefix(), point.relay);
        let network = self.network;
        let once = move || {
            let (point, question) = (point.clone(), question.clone());
            async move { probe::probe(network, &point, &question).await }.boxed()
        };
        let FoundPoint { probe, tries, standing } = self.tries.at(Box::new(once)).await;
        PointFinding {
            session_id,
            relay: relay.to_string(),
            nickname: self.network.relay_nickname(relay),
            verdict: probe.verdict,
            standing,
            tries,
            steps: probe.steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(standings: &[PointStanding]) -> Finding {
        let point = |standing: &PointStanding| PointFinding {
            session_id: String::new(),
            relay: String::new(),
            nickname: None,
            verdict: Verdict::Silent,
            standing: *standing,
            tries: 3,
            steps: Steps::default(),
        };
        let points = Ok(standings.iter().map(point).collect());
        Finding { whose: Whose::Published, points }
    }

    #[test]
    fn the_worst_of_its_points_is_the_standing_of_a_backend() {
        use PointStanding::{Answers, Fails, InDoubt};
        assert_eq!(finding(&[Answers, Answers]).standing(), Answers);
        assert_eq!(finding(&[Answers, InDoubt]).standing(), InDoubt);
        assert_eq!(finding(&[InDoubt, Fails, Answers]).standing(), Fails);
        assert_eq!(finding(&[]).standing(), Fails);
    }

    #[test]
    fn a_descriptor_that_no_hsdir_could_be_asked_for_is_in_doubt_and_a_missing_one_is_not() {
        let without = |failure| Finding { whose: Whose::Published, points: Err(failure) };
        let unreachable = FetchFailure::Unreachable("no circuit".into());
        assert_eq!(without(unreachable).standing(), PointStanding::InDoubt);
        assert_eq!(without(FetchFailure::NotFound).standing(), PointStanding::Fails);
    }

    #[test]
    fn a_question_cannot_smuggle_anything_into_a_request() {
        let question = |path: &str| PointsQuestion {
            services: vec![ServiceQuestion {
                address: OnionAddress::from_public_key([1; 32]),
                backends: Vec::new(),
                port: 80,
                request: Some(PageQuestion { path: path.into(), status: None }),
            }],
        };
        for path in ["", "x", "/a b", "/\r\nHost: x", "/\u{fc}", "/\0"] {
            assert!(question(path).fault().is_some(), "{path:?}");
        }
        assert_eq!(question("/up?x=1").fault(), None);
    }

    #[test]
    fn answers_are_the_same_on_both_sides_of_the_socket() {
        let mut one = finding(&[PointStanding::InDoubt]);
        one.whose = Whose::Backend("berlin".into());
        let services = vec![ServiceAnswer { findings: vec![one], running: None }];
        let answer = PointsAnswer { services };
        let sent = serde_json::to_vec(&answer).unwrap();
        assert_eq!(serde_json::from_slice::<PointsAnswer>(&sent).unwrap(), answer);
    }
}
