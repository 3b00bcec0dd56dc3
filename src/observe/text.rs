//! The Snapshot for a person at a terminal: is each address reachable, and if
//! not, what is wrong?
//!
//! The first lines answer that: one line for the daemon, one for each service,
//! one for each thing that is wrong. The details follow.

use std::fmt::{self, Write as _};

use super::snapshot::{
    Backend, BackendKind, BackendState, Descriptor, Hsdir, HsdirState, Http, OriginState, Reload,
    Service, ServiceState, Snapshot, StatusClasses,
};

/// Renders a Snapshot as text.
pub fn render(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_snapshot(&mut out, snapshot);
    out
}

fn write_snapshot(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let ready = if snapshot.ready { "ready" } else { "NOT READY" };
    let tor = &snapshot.tor;
    write!(out, "onionbraid {} is {ready}, Tor is ", snapshot.version)?;
    if tor.bootstrap >= 1.0 {
        writeln!(out, "ready\n")?;
    } else {
        writeln!(out, "at {:.0} %: {}\n", tor.bootstrap * 100.0, tor.message)?;
    }
    write_summary(out, &snapshot.services)?;
    if let Some(Reload { at, error: Some(error), .. }) = &snapshot.reload {
        writeln!(out, "! configuration read again at {at}: {}", error.replace('\n', "\n!     "))?;
    }
    for service in &snapshot.services {
        troubles(service)
            .try_for_each(|trouble| writeln!(out, "! {}: {trouble}", service.nickname))?;
    }
    snapshot.services.iter().try_for_each(|service| write_service(out, service))
}

/// One line for each service.
fn write_summary(out: &mut String, services: &[Service]) -> fmt::Result {
    let mut lines = vec![
        ["SERVICE", "STATE", "BACKENDS", "POINTS", "HSDIRS", "ADDRESS"].map(str::to_owned).to_vec(),
    ];
    for service in services {
        let up = service.backends.iter().filter(|b| b.state == BackendState::Up).count();
        let current = service.descriptors.iter().find(|descriptor| descriptor.current);
        let hsdirs = current.map_or(&[][..], |descriptor| &descriptor.hsdirs);
        lines.push(vec![
            service.nickname.clone(),
            in_a_word(service.state).to_owned(),
            format!("{up}/{} up", service.backends.len()),
            current.map_or(0, |descriptor| descriptor.intro_points).to_string(),
            format!("{}/{}", uploaded(hsdirs), hsdirs.len()),
            service.address.clone(),
        ]);
    }
    write_table(out, "", &lines)
}

/// What is wrong with a service, worst first.
fn troubles(service: &Service) -> impl Iterator<Item = String> {
    let down = (service.state == ServiceState::Down)
        .then(|| "no backend answers; what was published last is left where it is".to_owned());
    let backends = service.backends.iter().filter_map(|backend| {
        let state = match backend.state {
            BackendState::Down => "down",
            BackendState::Stale => "stale",
            BackendState::Up if backend.failing_intro_points > 0 => "up, but not whole",
            BackendState::Unknown | BackendState::Up => return None,
        };
        let reason = backend.reason.as_deref().unwrap_or("no reason known");
        Some(format!("backend {} is {state}: {reason}", backend.name))
    });
    let failing = service.descriptors.iter().flat_map(|d| &d.hsdirs).filter_map(|hsdir| {
        let error = hsdir.last_error.as_ref()?;
        Some(format!("HSDir {} after {} attempts: {error}", hsdir.relay, hsdir.attempts))
    });
    let origins = service.http.iter().flat_map(|http| &http.origins).filter_map(|origin| {
        let reason = origin.reason.as_deref()?;
        Some(format!("origin {} gets no requests: {reason}", origin.name))
    });
    let problems = service.problems.iter().cloned();
    down.into_iter().chain(problems).chain(backends).chain(origins).chain(failing)
}

/// A service's backends and descriptors.
fn write_service(out: &mut String, service: &Service) -> fmt::Result {
    writeln!(out, "\n{}", service.nickname)?;
    let mut lines = vec![
        ["BACKEND", "STATE", "PUBLISHED", "WEIGHT", "INTRODUCTIONS", "FAILED", "STREAMS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    lines.extend(service.backends.iter().map(backend_line));
    write_table(out, "  ", &lines)?;
    service.http.as_ref().map_or(Ok(()), |http| write_http(out, http))?;
    service.descriptors.iter().try_for_each(|descriptor| write_descriptor(out, descriptor))
}

fn backend_line(backend: &Backend) -> Vec<String> {
    let state = match backend.state {
        BackendState::Unknown => "unknown",
        BackendState::Up => "up",
        BackendState::Stale => "STALE",
        BackendState::Down => "DOWN",
    };
    let mut line = vec![
        backend.name.clone(),
        state.to_owned(),
        format!("{} of {}", backend.published_intro_points, backend.intro_points),
        backend.weight.to_string(),
    ];
    // What happens at a backend elsewhere, nobody sees here.
    let counted = [backend.introductions, backend.rendezvous_failed, backend.streams];
    line.extend(counted.map(|count| match backend.kind {
        BackendKind::Local => count.to_string(),
        BackendKind::Remote => "-".to_owned(),
    }));
    line
}

/// What its HTTP reverse proxy has done.
fn write_http(out: &mut String, http: &Http) -> fmt::Result {
    let StatusClasses { informational, success, redirection, client_error, server_error } =
        http.by_class;
    write!(out, "  {} requests, answered 1xx {informational}, 2xx {success}, ", http.requests)?;
    writeln!(out, "3xx {redirection}, 4xx {client_error}, 5xx {server_error}")?;
    if !http.failures.is_empty() {
        let failures: Vec<_> =
            http.failures.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(out, "  failed: {}", failures.join(", "))?;
    }
    if http.origins.is_empty() {
        return Ok(());
    }
    let titles = ["ORIGIN", "STATE", "REQUESTS", "FAILED", "UNDER WAY"];
    let mut lines = vec![titles.map(str::to_owned).to_vec()];
    lines.extend(http.origins.iter().map(|origin| {
        let state = match origin.state {
            OriginState::Up => "up",
            OriginState::Down => "DOWN",
        };
        let counts = [origin.requests, origin.failures, origin.in_flight];
        let cells = [origin.name.clone(), state.to_owned()];
        cells.into_iter().chain(counts.map(|count| count.to_string())).collect()
    }));
    write_table(out, "  ", &lines)
}

fn write_descriptor(out: &mut String, descriptor: &Descriptor) -> fmt::Result {
    let current = if descriptor.current { "current" } else { "other" };
    let (hsdirs, points) = (&descriptor.hsdirs, descriptor.intro_points);
    write!(out, "  {current} period {}: {points} points on ", descriptor.period)?;
    write!(out, "{} of {} HSDirs", uploaded(hsdirs), hsdirs.len())?;
    match descriptor.published_at {
        Some(at) => writeln!(out, ", last at {at}"),
        None => writeln!(out),
    }
}

fn uploaded(hsdirs: &[Hsdir]) -> usize {
    hsdirs.iter().filter(|hsdir| hsdir.state == HsdirState::Uploaded).count()
}

fn in_a_word(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Starting => "STARTING",
        ServiceState::Publishing => "PUBLISHING",
        ServiceState::Published => "published",
        ServiceState::Down => "DOWN",
    }
}

/// Columns as wide as their longest cell, two spaces between them.
fn write_table(out: &mut String, indent: &str, lines: &[Vec<String>]) -> fmt::Result {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "{indent}{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::snapshot::{Origin, Timestamp, Tor};

    fn backend(name: &str, kind: BackendKind, state: BackendState) -> Backend {
        Backend {
            name: name.into(),
            kind,
            address: None,
            state,
            reason: (state == BackendState::Down).then(|| "no HSDir has a descriptor of it".into()),
            intro_points: 3,
            failing_intro_points: 0,
            relays: Vec::new(),
            published_intro_points: 3,
            weight: 1,
            last_seen: None,
            revision: None,
            introductions: 17,
            introductions_dropped: 0,
            rendezvous_failed: 0,
            congestion_controlled: 0,
            streams: 12,
        }
    }

    fn hsdir(relay: &str, last_error: Option<&str>) -> Hsdir {
        Hsdir {
            intro_points: 6,
            relay: relay.into(),
            state: if last_error.is_some() { HsdirState::Failed } else { HsdirState::Uploaded },
            attempts: 4,
            last_error: last_error.map(str::to_owned),
        }
    }

    #[test]
    fn the_first_lines_say_whether_each_address_is_reachable_and_what_is_wrong() {
        let service = Service {
            nickname: "shop".into(),
            address: "abc.onion".into(),
            state: ServiceState::Published,
            problems: vec!["no probe of any backend succeeds".into()],
            backends: vec![
                backend("local-0", BackendKind::Local, BackendState::Up),
                Backend {
                    failing_intro_points: 1,
                    published_intro_points: 2,
                    reason: Some("1 of 3 introduction points fails: no answer".into()),
                    ..backend("paris", BackendKind::Remote, BackendState::Up)
                },
                backend("berlin", BackendKind::Remote, BackendState::Down),
            ],
            descriptors: vec![Descriptor {
                distinct: false,
                canary: None,
                period: 20780,
                current: true,
                revision: Some(1),
                intro_points: 3,
                published_at: Some(Timestamp(std::time::UNIX_EPOCH)),
                hsdirs: vec![hsdir("AA", None), hsdir("BB", Some("refused: 400 Bad Request"))],
            }],
            http: Some(Http {
                requests: 9,
                by_class: StatusClasses { success: 7, server_error: 1, ..Default::default() },
                failures: [("no_origin".to_owned(), 1), ("client_gone".to_owned(), 1)].into(),
                origins: vec![Origin {
                    name: "http://127.0.0.1:8080".into(),
                    state: OriginState::Down,
                    reason: Some("connection refused".into()),
                    requests: 8,
                    failures: 3,
                    in_flight: 0,
                }],
            }),
        };
        let snapshot = Snapshot {
            version: "1.2.3".into(),
            started: Timestamp(std::time::UNIX_EPOCH),
            ready: true,
            reload: Some(Reload {
                at: Timestamp(std::time::UNIX_EPOCH),
                ok: false,
                error: Some("nothing has changed: arti.toml:3: a key\nis wrong".into()),
            }),
            tor: Tor { bootstrap: 1.0, message: String::new(), consensus_valid_until: None },
            tasks: 0,
            services: vec![service],
        };
        let expected = "\
onionbraid 1.2.3 is ready, Tor is ready

SERVICE  STATE      BACKENDS  POINTS  HSDIRS  ADDRESS
shop     published  2/3 up    3       1/2     abc.onion
! configuration read again at 1970-01-01T00:00:00Z: nothing has changed: arti.toml:3: a key
!     is wrong
! shop: no probe of any backend succeeds
! shop: backend paris is up, but not whole: 1 of 3 introduction points fails: no answer
! shop: backend berlin is down: no HSDir has a descriptor of it
! shop: origin http://127.0.0.1:8080 gets no requests: connection refused
! shop: HSDir BB after 4 attempts: refused: 400 Bad Request

shop
  BACKEND  STATE  PUBLISHED  WEIGHT  INTRODUCTIONS  FAILED  STREAMS
  local-0  up     3 of 3     1       17             0       12
  paris    up     2 of 3     1       -              -       -
  berlin   DOWN   3 of 3     1       -              -       -
  9 requests, answered 1xx 0, 2xx 7, 3xx 0, 4xx 0, 5xx 1
  failed: client_gone 1, no_origin 1
  ORIGIN                 STATE  REQUESTS  FAILED  UNDER WAY
  http://127.0.0.1:8080  DOWN   8         3       0
  current period 20780: 3 points on 1 of 2 HSDirs, last at 1970-01-01T00:00:00Z
";
        assert_eq!(render(&snapshot), expected);
    }
}
