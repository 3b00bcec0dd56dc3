//! What do the verdicts on a backend's introduction points mean for the
//! operator, and what is to be done? Words only.

use crate::inquiry::points::{Finding, PointFinding, Whose};
use crate::inquiry::tries::PointStanding;
use crate::observe::counted;
use crate::tor::probe::{StreamRefusal, Verdict};
use onionbraid_balancer::fact::FetchFailure;
use onionbraid_balancer::onion::OnionAddress;

/// One or more lines on one backend: each different trouble once.
pub(super) fn on(finding: &Finding, address: &OnionAddress, port: u16) -> Vec<String> {
    let name = finding.name();
    let points = match &finding.points {
        Ok(points) => points,
        Err(failure) => return vec![no_descriptor(finding, failure)],
    };
    let all = points.len();
    if all == 0 {
        return vec![format!("{name}: its descriptor has no usable introduction point")];
    }
    let mut lines: Vec<(String, usize)> = Vec::new();
    for found in points {
        let line = match found.standing {
            PointStanding::InDoubt => in_doubt(found),
            PointStanding::Answers | PointStanding::Fails => {
                in_words(&finding.whose, &found.verdict, address, port)
            }
        };
        match lines.iter_mut().find(|(other, _)| *other == line) {
            Some((_, count)) => *count += 1,
            None => lines.push((line, 1)),
        }
    }
    let counted = |(line, count): (String, usize)| match (count == all, count) {
        (true, _) => format!("{name} {line}"),
        (false, count) => format!("{name} ({count} of {all} points) {line}"),
    };
    lines.into_iter().map(counted).collect()
}

fn no_descriptor(finding: &Finding, failure: &FetchFailure) -> String {
    let name = finding.name();
    match (failure, &finding.whose) {
        (FetchFailure::NotFound, Whose::Backend(_)) => format!(
            "{name} publishes no descriptor: is tor or onionbraid running there, and is this its \
             address?"
        ),
        (FetchFailure::NotFound, Whose::Published) => "the service itself publishes no \
                                                       descriptor, so clients do not find it: is \
                                                       onionbraid running?"
            .to_owned(),
        (FetchFailure::Unreachable(_), Whose::Backend(_)) => {
            format!("{name} is in doubt: {failure}")
        }
        (FetchFailure::Unreachable(_), Whose::Published) => {
            format!("the service itself is in doubt: {failure}")
        }
        (failure, Whose::Backend(_)) => format!("{name}: {failure}"),
        (failure, Whose::Published) => format!("the service itself: {failure}"),
    }
}

/// What did not answer, and may for all that.
fn in_doubt(found: &PointFinding) -> String {
    let tries = found.tries;
    match &found.verdict {
        Verdict::Inconclusive(error) => {
            format!("is in doubt: it could not be tried ({}), {error}", counted(tries, "time"))
        }
        verdict => format!(
            "is in doubt: {verdict}, in {}; but nothing else answered meanwhile, so the\n    trouble \
             may be this machine's own network: ask again",
            if tries == 1 { "one try".to_owned() } else { format!("{tries} tries") }
        ),
    }
}

/// What a verdict says of whoever should answer.
fn in_words(whose: &Whose, verdict: &Verdict, address: &OnionAddress, port: u16) -> String {
    let remote = matches!(whose, Whose::Backend(_));
    match verdict {
        Verdict::Answers => "answers".to_owned(),
        Verdict::NotForThisAddress => format!(
            "does not answer for this address: its ob_config must contain\n        \
             MasterOnionAddress {address}\n    and its torrc \
             HiddenServiceOnionBalanceInstance 1 (an onionbraid backend: frontends = \
             [\"{address}\"]);\n    it reads them when it starts"
        ),
        Verdict::UnknownPoint(_) => "is dead: the relays of its introduction points have lost \
                                     it. Its descriptor outlives it by up to\n    three hours. \
                                     (While it is under attack, relays that limit introductions \
                                     say the same.)"
            .to_owned(),
        Verdict::Silent if remote => {
            "is dead: nobody answers an introduction, neither for this address nor for its own"
                .to_owned()
        }
        Verdict::Silent => "is dead: nobody answers an introduction".to_owned(),
        Verdict::NoCircuit(_) => {
            "is not reached: the relays of its introduction points do not answer".to_owned()
        }
        Verdict::WrongAnswer(_) => "is dead: what answers cannot prove to be it".to_owned(),
        Verdict::Refused(StreamRefusal::NoSuchPort) => format!(
            "answers, and port {port} is closed: {}",
            if remote {
                format!("it has no HiddenServicePort {port} (an onionbraid backend: proxy_ports)")
            } else {
                "no rule of proxy_ports leads anywhere".to_owned()
            }
        ),
        Verdict::Refused(StreamRefusal::Origin(reason)) => format!(
            "answers, and port {port} is closed: the server behind it does not answer ({reason})"
        ),
        Verdict::Refused(StreamRefusal::Broken(error)) => {
            format!("answers, and port {port} is closed: the circuit breaks ({error})")
        }
        Verdict::StreamSilent => {
            format!("answers, and port {port} hangs: the server behind it does not answer in time")
        }
        Verdict::WrongStatus(status) => format!(
            "answers, and the server behind port {port} answers the request with status {status}"
        ),
        Verdict::NoHttp(error) => {
            format!("answers, and the server behind port {port} does not speak HTTP: {error}")
        }
        Verdict::Inconclusive(error) => format!("could not be tried: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tor::probe::Steps;

    const PORT: u16 = 443;

    fn address() -> OnionAddress {
        "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion".parse().unwrap()
    }

    fn finding(whose: Whose, standing: PointStanding, verdicts: Vec<Verdict>) -> Finding {
        let points = verdicts.into_iter().map(|verdict| PointFinding {
            session_id: String::new(),
            relay: String::new(),
            nickname: None,
            standing,
            tries: 3,
            steps: Steps::default(),
            verdict,
        });
        Finding { whose, points: Ok(points.collect()) }
    }

    fn berlin(verdicts: Vec<Verdict>) -> Vec<String> {
        let whose = Whose::Backend("berlin".into());
        on(&finding(whose, PointStanding::Fails, verdicts), &address(), PORT)
    }

    #[test]
    fn points_with_the_same_trouble_share_one_line_and_different_ones_are_counted() {
        assert_eq!(berlin(vec![Verdict::Answers; 3]), ["berlin answers"]);
        let mixed = berlin(vec![Verdict::Answers, Verdict::Silent, Verdict::Answers]);
        assert_eq!(mixed[0], "berlin (2 of 3 points) answers");
        assert!(mixed[1].starts_with("berlin (1 of 3 points) is dead: "), "{mixed:?}");
    }

    #[test]
    fn a_backend_that_does_not_know_the_address_is_told_the_line_it_needs() {
        let [line] = berlin(vec![Verdict::NotForThisAddress; 2]).try_into().unwrap();
        assert!(line.contains(&format!("MasterOnionAddress {}", address())), "{line}");
        assert!(line.contains(&format!("frontends = [\"{}\"]", address())), "{line}");
    }

    #[test]
    fn a_closed_port_names_the_port_and_why() {
        let refused = |refusal| berlin(vec![Verdict::Refused(refusal)]).remove(0);
        assert!(refused(StreamRefusal::NoSuchPort).contains("no HiddenServicePort 443"));
        assert!(
            refused(StreamRefusal::Origin("END MISC".into()))
                .contains("port 443 is closed: the server")
        );
    }

    #[test]
    fn a_missing_descriptor_is_told_with_whose_it_is() {
        let missing = |whose| Finding { whose, points: Err(FetchFailure::NotFound) };
        let published = missing(Whose::Published);
        assert!(on(&published, &address(), PORT)[0].contains("is onionbraid running?"));
        let backend = missing(Whose::Backend("berlin".into()));
        assert!(on(&backend, &address(), PORT)[0].contains("berlin publishes no descriptor"));
    }

    #[test]
    fn what_is_in_doubt_is_called_neither_dead_nor_alive() {
        for verdict in [Verdict::Silent, Verdict::UnknownPoint("NOT_RECOGNIZED".into())] {
            let whose = Whose::Backend("berlin".into());
            let doubtful = finding(whose, PointStanding::InDoubt, vec![verdict]);
            let line = on(&doubtful, &address(), PORT).remove(0);
            assert!(
                line.starts_with("berlin is in doubt: no")
                    || line.starts_with("berlin is in doubt: the relay"),
                "{line}"
            );
            assert!(line.contains("in 3 tries") && !line.contains("dead"), "{line}");
        }
        let failure = FetchFailure::Unreachable("no circuit".into());
        let unfetched = Finding { whose: Whose::Published, points: Err(failure) };
        assert!(on(&unfetched, &address(), PORT)[0].starts_with("the service itself is in doubt"));
    }
}
