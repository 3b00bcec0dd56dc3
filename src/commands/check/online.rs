//! `onionbraid check --online`: does every backend answer for its service,
//! right now, through Tor?
//!
//! Asks about what the files say, whatever the running daemon has read of them,
//! and says where the two differ.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::advice;
use crate::commands::CommandFailure;
use crate::commands::descriptor::backends;
use crate::commands::inquire::{By, inquire};
use crate::config::{Config, Environment, RemoteBackend, ServiceConfig};
use crate::exit::Exit;
use crate::inquiry::POINTS;
use crate::inquiry::points::{
    self, PageQuestion, PointFinding, PointsAnswer, PointsQuestion, RunningService, ServiceAnswer,
    ServiceQuestion,
};
use crate::inquiry::tries::PointStanding;
use crate::observe::table::table;
use crate::tor::probe::Steps;
use onionbraid_balancer::LinkPolicy;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::status::LinkState;

/// A service to ask about.
pub(super) struct AskedService<'a> {
    /// What the operator wants.
    pub(super) service: &'a ServiceConfig,
    /// Its address, which is why there is something to ask.
    pub(super) address: OnionAddress,
}

/// Asks all services' backends, and tells; an error if not everything answers.
pub(super) fn check(
    config: &Config,
    env: &Environment,
    asked: &[AskedService<'_>],
    out: &mut impl Write,
) -> Result<(), CommandFailure> {
    let question = PointsQuestion { services: asked.iter().map(question).collect() };
    let (answer, by) = inquire(config, env, POINTS, &question, async |network, question| {
        Ok(points::ask(&network, question).await)
    })?;
    let answer: PointsAnswer = answer;
    for (asked, answer) in asked.iter().zip(&answer.services) {
        write_service(asked, answer, out)?;
        for line in answer.running.iter().flat_map(|running| links(asked.service, running)) {
            writeln!(out, "    {line}")?;
        }
        if by == By::Daemon
            && let Some(difference) = difference(asked.service, answer.running.as_ref())
        {
            writeln!(out, "    {difference}\n")?;
        }
    }
    let findings = answer.services.iter().flat_map(|service| &service.findings);
    let standings: Vec<_> = findings.map(points::Finding::standing).collect();
    if standings.contains(&PointStanding::Fails) || answer.services.len() != asked.len() {
        Err(CommandFailure::new(Exit::Failed, "not everything answers"))
    } else if standings.contains(&PointStanding::InDoubt) {
        let text = "nothing was found to be dead, but what is in doubt did not answer: ask again";
        Err(CommandFailure::new(Exit::Failed, text))
    } else {
        Ok(writeln!(out, "Everything answers.")?)
    }
}

/// What to ask about a service.
fn question(asked: &AskedService<'_>) -> ServiceQuestion {
    let page = |probe: &crate::config::Probe| {
        Some(PageQuestion { path: probe.path.clone()?, status: probe.status })
    };
    ServiceQuestion {
        address: asked.address,
        backends: backends(asked.service),
        port: port(asked.service),
        request: asked.service.probe.as_ref().and_then(page),
    }
}

/// The port that is tried: what `probe` says, else the service's first.
pub(super) fn port(service: &ServiceConfig) -> u16 {
    service.probe.as_ref().map_or_else(|| service.first_port(), |probe| probe.port)
}

/// How the control links of the running daemon are, one line for each backend.
fn links(service: &ServiceConfig, running: &RunningService) -> Vec<String> {
    let used = service.backends.iter().filter(|it| running.backends.contains(&it.address));
    let line =
        |RemoteBackend { name, address, .. }: &RemoteBackend| match running.links.get(address) {
            Some(LinkState::Up) => format!("control link to {name}: up"),
            Some(LinkState::Down) => {
                format!("control link to {name}: down; what its descriptor says is used")
            }
            None => format!("control link to {name}: none, as with every C tor backend"),
        };
    used.filter(|_| service.link != LinkPolicy::Never).map(line).collect()
}

/// What the running daemon does otherwise than the files say.
fn difference(service: &ServiceConfig, running: Option<&RunningService>) -> Option<String> {
    let nickname = &service.nickname;
    let Some(running) = running else {
        return Some(format!(
            "the running daemon does not serve \"{nickname}\" under this address: have it reload \
             its configuration"
        ));
    };
    let listed: BTreeSet<_> = service.backends.iter().map(|backend| backend.address).collect();
    if listed == running.backends {
        return None;
    }
    let added = service.backends.iter().filter(|it| !running.backends.contains(&it.address));
    let added: Vec<_> = added.map(|backend| backend.name.as_str()).collect();
    let gone = running.backends.difference(&listed).count();
    let mut differences = Vec::new();
    if !added.is_empty() {
        differences.push(format!("does not use {}", added.join(", ")));
    }
    if gone > 0 {
        let backends = if gone == 1 { "one backend" } else { &format!("{gone} backends") };
        differences.push(format!("still uses {backends} that the files no longer list"));
    }
    Some(format!(
        "the running daemon {}: have it reload its configuration",
        differences.join(" and ")
    ))
}

/// The table of one service, and what to do.
fn write_service(
    asked: &AskedService<'_>,
    answer: &ServiceAnswer,
    out: &mut impl Write,
) -> io::Result<()> {
    let port = port(asked.service);
    writeln!(out, "\nservice \"{}\", {} port {port}\n", asked.service.nickname, asked.address)?;
    let heading = ["backend", "point", "relay", "", "verdict", "tries", "time"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for finding in &answer.findings {
        let points = finding.points.iter().flatten();
        rows.extend(points.map(|found| {
            vec![
                finding.name().to_owned(),
                found.session_id.clone(),
                found.relay.clone(),
                found.nickname.clone().unwrap_or_default(),
                verdict(found),
                found.tries.to_string(),
                times(&found.steps),
            ]
        }));
    }
    if rows.len() > 1 {
        writeln!(out, "{}", table("    ", &rows))?;
    }
    for finding in &answer.findings {
        for line in advice::on(finding, &asked.address, port) {
            writeln!(out, "    {line}")?;
        }
    }
    writeln!(out)
}

/// The verdict of the last try, and whether it is one.
fn verdict(found: &PointFinding) -> String {
    match found.standing {
        PointStanding::InDoubt => format!("in doubt: {}", found.verdict),
        PointStanding::Answers | PointStanding::Fails => found.verdict.to_string(),
    }
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
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_backend_that_the_daemon_uses_is_named_with_the_state_of_its_control_link() {
        let addresses = [1, 2, 3, 4].map(|n| OnionAddress::from_public_key([n; 32]));
        let mut service = ServiceConfig::with_defaults("shop".parse().unwrap());
        let backend = |(name, address): (&str, OnionAddress)| RemoteBackend {
            address,
            name: name.into(),
            weight: 1,
            client_key: None,
        };
        service.backends =
            ["berlin", "oslo", "rome", "new"].into_iter().zip(addresses).map(backend).collect();
        let links = [(addresses[0], LinkState::Up), (addresses[1], LinkState::Down)].into();
        let running = RunningService { backends: addresses[..3].iter().copied().collect(), links };
        // What another process reads of it.
        let running = serde_json::from_slice(&serde_json::to_vec(&running).unwrap()).unwrap();
        let lines = super::links(&service, &running);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "control link to berlin: up");
        assert!(lines[1].starts_with("control link to oslo: down"), "{lines:?}");
        assert!(lines[2].starts_with("control link to rome: none"), "{lines:?}");
        service.link = LinkPolicy::Never;
        assert!(super::links(&service, &running).is_empty());
    }

    #[test]
    fn what_the_daemon_has_not_read_yet_is_said() {
        let [berlin, oslo, rome] = [1, 2, 3].map(|n| OnionAddress::from_public_key([n; 32]));
        let mut service = ServiceConfig::with_defaults("shop".parse().unwrap());
        let backend = |name: &str, address| RemoteBackend {
            address,
            name: name.into(),
            weight: 1,
            client_key: None,
        };
        service.backends = vec![backend("berlin", berlin), backend("oslo", oslo)];
        let runs = |backends: &[OnionAddress]| {
            let backends = backends.iter().copied().collect();
            let running = RunningService { backends, links: BTreeMap::new() };
            difference(&service, Some(&running))
        };
        assert_eq!(runs(&[oslo, berlin]), None);
        let missing = runs(&[berlin]).unwrap();
        assert!(missing.contains("daemon does not use oslo: have it reload"), "{missing}");
        let both = runs(&[berlin, rome]).unwrap();
        assert!(both.contains("does not use oslo and still uses one backend that"), "{both}");
        assert!(difference(&service, None).unwrap().contains("does not serve \"shop\""));
    }
}
