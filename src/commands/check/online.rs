//! `onionbraid check --online`: does every backend answer for its service,
//! right now, through Tor?
//!
//! Asks each introduction point as a client of the service would: those in the
//! backends' own descriptors, and those that the service itself has published.

use std::collections::BTreeSet;
use std::io::{self, Write};

use futures::StreamExt as _;
use futures::future::join_all;

use super::advice;
use super::finding::{Finding, PointFinding, Whose};
use crate::clock;
use crate::commands::{Failure, tor_client};
use crate::config::{Config, ServiceConfig};
use crate::exit::Exit;
use crate::observe::table::table;
use crate::tor::fetch;
use crate::tor::network::Network;
use crate::tor::probe::{self, Question, Request, Steps};
use onionbraid_balancer::fact::{FetchFailure, FetchedDescriptor};
use onionbraid_balancer::onion::{IntroPoint, OnionAddress, SessionId};
use onionbraid_proxy::rules::ProxyTarget;

/// Backends, and points of each, that are asked at a time. A probe takes two
/// circuits.
const AT_ONCE: usize = 4;

/// A service to ask about.
pub(super) struct Asked<'a> {
    /// What the operator wants.
    pub(super) service: &'a ServiceConfig,
    /// Its address, which is why there is something to ask.
    pub(super) address: OnionAddress,
}

/// Asks all services' backends, and tells; an error if not everything answers.
pub(super) fn check(
    config: &Config,
    asked: &[Asked<'_>],
    out: &mut impl Write,
) -> Result<(), Failure> {
    let findings = tor_client::with_network(config, async |network| {
        join_all(asked.iter().map(|asked| ask(&network, asked))).await
    })?;
    let mut all_well = true;
    for (asked, findings) in asked.iter().zip(&findings) {
        write_service(asked, findings, out)?;
        all_well &= findings.iter().all(Finding::is_good);
    }
    if all_well {
        writeln!(out, "Everything answers.")?;
        Ok(())
    } else {
        Err(Failure::new(Exit::Failed, "not everything answers"))
    }
}

/// What is asked for on the stream, if the service says so with `probe`.
fn request(asked: &Asked<'_>) -> Option<Request> {
    let probe = asked.service.probe.as_ref()?;
    Some(Request::new(&asked.address, probe.port, probe.path.clone()?, probe.status))
}

/// The port that is tried: what `probe` says, else the first that leads
/// somewhere, 80 where it may be.
pub(super) fn port(service: &ServiceConfig) -> u16 {
    if let Some(probe) = &service.probe {
        return probe.port;
    }
    let leads = |target: &ProxyTarget| {
        !matches!(target, ProxyTarget::Destroy | ProxyTarget::Reject | ProxyTarget::Ignore)
    };
    let first = service.proxy_ports.0.iter().find(|rule| leads(&rule.target));
    first.map_or(80, |rule| if rule.ports.contains(&80) { 80 } else { *rule.ports.start() })
}

/// Fetches the descriptors of one service and its backends, probes the points.
async fn ask(network: &Network, asked: &Asked<'_>) -> Vec<Finding> {
    let now = clock::now().wall;
    let backends = asked.service.backends.iter();
    let mut sources: Vec<_> = backends
        .map(|backend| (Whose::Backend(backend.name.clone(), backend.address), backend.address))
        .collect();
    sources.push((Whose::Published, asked.address));
    let mut fetched =
        join_all(sources.iter().map(|(_, address)| fetch::fetch(network, address, now))).await;
    let mut unclaimed = unclaimed(&fetched);
    if !unclaimed.is_empty() {
        let alive = sources.iter().zip(&mut fetched).filter_map(|(source, fetched)| match source {
            (Whose::Backend(..), address) => Some((address, fetched.as_mut().ok()?)),
            (Whose::Published, _) => None,
        });
        let beside = alive.map(async |(address, descriptor)| {
            (descriptor, fetch::beside(network, address, now).await)
        });
        for (descriptor, beside) in join_all(beside).await {
            claim(descriptor, beside, &mut unclaimed);
        }
    }

    // A point that a backend has told already is not tried again because it is
    // published, too: that it should be.
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for ((whose, _), fetched) in sources.into_iter().zip(fetched) {
        let points = match fetched {
            Ok(descriptor) => {
                let published = descriptor.points.len();
                let new = descriptor.points.into_iter().filter(|p| seen.insert(p.session_id));
                let new: Vec<_> = new.collect();
                if new.is_empty() && published > 0 {
                    continue;
                }
                Ok(new)
            }
            Err(failure) => Err(failure),
        };
        findings.push((whose, points));
    }
    let probed = findings.into_iter().map(async |(whose, points)| {
        let points = match points {
            Ok(points) => Ok(probe_all(network, asked, &whose, points).await),
            Err(failure) => Err(failure),
        };
        Finding { whose, points }
    });
    futures::stream::iter(probed).buffered(AT_ONCE).collect().await
}

/// The points of the last descriptor that are in none of those before it.
fn unclaimed(fetched: &[Result<FetchedDescriptor, FetchFailure>]) -> BTreeSet<SessionId> {
    let points = |descriptor: &FetchedDescriptor| {
        descriptor.points.iter().map(|point| point.session_id).collect::<BTreeSet<_>>()
    };
    let Some((Ok(published), backends)) = fetched.split_last() else { return BTreeSet::new() };
    let claimed: BTreeSet<_> = backends.iter().flatten().flat_map(points).collect();
    &points(published) - &claimed
}

/// Counts such points among those of a backend if they are in its descriptors of
/// the periods beside. After a change of the period, the daemon knows the old
/// one's points until it has a new consensus, which can take hours.
fn claim(
    descriptor: &mut FetchedDescriptor,
    beside: Vec<FetchedDescriptor>,
    unclaimed: &mut BTreeSet<SessionId>,
) {
    let points = beside.into_iter().flat_map(|descriptor| descriptor.points);
    descriptor.points.extend(points.filter(|point| unclaimed.remove(&point.session_id)));
}

/// Probes the points of one descriptor, a few at a time.
async fn probe_all(
    network: &Network,
    asked: &Asked<'_>,
    whose: &Whose,
    points: Vec<IntroPoint>,
) -> Vec<PointFinding> {
    let question = Question {
        address: asked.address,
        backend: match whose {
            Whose::Backend(_, address) => Some(*address),
            Whose::Published => None,
        },
        port: Some(port(asked.service)),
        request: request(asked),
    };
    let found = points.into_iter().map(async |point| {
        let probe = probe::probe(network, &point, &question).await;
        PointFinding { relay: network.relay_nickname(point.relay), point, probe }
    });
    futures::stream::iter(found).buffered(AT_ONCE).collect().await
}

/// The table of one service, and what to do.
fn write_service(asked: &Asked<'_>, findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    let port = port(asked.service);
    writeln!(out, "\nservice \"{}\", {} port {port}\n", asked.service.nickname, asked.address)?;
    let heading = ["backend", "point", "relay", "", "verdict", "time"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for finding in findings {
        let points = finding.points.iter().flatten();
        rows.extend(points.map(|found| {
            vec![
                finding.name().to_owned(),
                found.point.session_id.prefix(),
                found.point.relay.to_string(),
                found.relay.clone().unwrap_or_default(),
                found.probe.verdict.to_string(),
                times(&found.probe.steps),
            ]
        }));
    }
    if rows.len() > 1 {
        writeln!(out, "{}", table("    ", &rows))?;
    }
    for finding in findings {
        for line in advice::on(finding, &asked.address, port) {
            writeln!(out, "    {line}")?;
        }
    }
    writeln!(out)
}

/// The steps that were reached, in milliseconds.
fn times(steps: &Steps) -> String {
    let named = [
        ("rendezvous point", steps.rendezvous_point),
        ("circuit", steps.circuit),
        ("ack", steps.acknowledged),
        ("met", steps.met),
        ("stream", steps.stream),
        ("answer", steps.answer),
    ];
    let reached = named.iter().filter_map(|(name, time)| Some((name, (*time)?)));
    let texts: Vec<String> =
        reached.map(|(name, time)| format!("{name} {} ms", time.as_millis())).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use onionbraid_balancer::onion::{Capabilities, Period, RelayId};

    fn with_points(numbers: &[u8]) -> FetchedDescriptor {
        let points = numbers.iter().map(|n| IntroPoint {
            session_id: SessionId([*n; 32]),
            relay: RelayId([0; 20]),
            link_specifiers: Vec::new(),
            relay_ntor_key: [0; 32],
            service_ntor_key: [0; 32],
        });
        FetchedDescriptor {
            period: Period { number: 1, length_minutes: 1440, offset_seconds: 0 },
            revision: 1,
            points: points.collect(),
            flaw: None,
            capabilities: Capabilities::default(),
        }
    }

    #[test]
    fn published_points_of_the_period_before_belong_to_the_backend_that_had_them_then() {
        // A backend has moved on from 3, 4 and 5 to 1 and 2; 6 is local.
        let fetched =
            [Ok(with_points(&[1, 2])), Err(FetchFailure::NotFound), Ok(with_points(&[2, 3, 4, 6]))];
        let mut left = unclaimed(&fetched);
        assert_eq!(left, [3, 4, 6].map(|n| SessionId([n; 32])).into());
        let [Ok(mut backend), ..] = fetched else { panic!("it was fetched") };
        claim(&mut backend, vec![with_points(&[3, 4, 5])], &mut left);
        assert_eq!(backend.points, with_points(&[1, 2, 3, 4]).points);
        assert_eq!(left, [SessionId([6; 32])].into());
    }

    #[test]
    fn nothing_is_left_to_claim_where_nothing_is_published() {
        assert!(unclaimed(&[Ok(with_points(&[1])), Err(FetchFailure::NotFound)]).is_empty());
        assert!(unclaimed(&[]).is_empty());
    }
}
