//! The Snapshot for a person at a terminal: is each address reachable, and if
//! not, what is wrong?
//!
//! The first lines answer that: one line for the daemon, one for each service,
//! one for each thing that is wrong. The details follow.

use std::fmt::{self, Write as _};

use super::glance::{Glance, uploaded};
use super::handover;
use super::snapshot::{
    Activity, Backend, BackendKind, Descriptor, HttpStatus, LinkState, Pow, Reload, Service,
    Snapshot, StatusClasses,
};
use super::table::table;
use super::troubles::{of_process, of_tor, troubles};
use super::words::{
    anonymity, backend_state, bundle, canary_outcome, counted, guards, origin_state, printable,
    service_state, weight,
};

/// Renders a Snapshot as text.
pub fn render(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_snapshot(&mut out, snapshot);
    out.lines().flat_map(|line| printable(line).chain(['\n'])).collect()
}

fn write_snapshot(out: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let ready = if snapshot.ready { "ready" } else { "NOT READY" };
    let tor = &snapshot.tor;
    write!(out, "onionbraid {} is {ready}, Tor is ", snapshot.version)?;
    let percent = tor.bootstrap * 100.0;
    match (tor.bootstrap >= 1.0, &tor.trouble) {
        (true, _) => writeln!(out, "ready\n")?,
        (false, None) => writeln!(out, "at {percent:.0} %: {}\n", tor.message)?,
        (false, Some(_)) => writeln!(out, "at {percent:.0} %\n")?,
    }
    if let (Some(_), Some(wrong)) = (&tor.trouble, of_tor(tor)) {
        writeln!(out, "! {wrong}\n")?;
    }
    out.write_str(&summary(&snapshot.services))?;
    of_process(snapshot).iter().try_for_each(|problem| writeln!(out, "! {problem}"))?;
    match &snapshot.reload {
        None => {}
        Some(Reload { at, error: None, .. }) => {
            writeln!(out, "configuration read again at {at}: it is in force")?;
        }
        Some(Reload { at, error: Some(error), .. }) => {
            let error = error.replace('\n', "\n!     ");
            writeln!(out, "! configuration read again at {at}: {error}")?;
        }
    }
    for service in &snapshot.services {
        troubles(service)
            .try_for_each(|trouble| writeln!(out, "! {}: {trouble}", service.nickname))?;
    }
    for service in &snapshot.services {
        handover::words(service)
            .map_or(Ok(()), |words| writeln!(out, "{}: {words}", service.nickname))?;
    }
    snapshot.services.iter().try_for_each(|service| write_service(out, service))
}

/// One line for each service.
fn summary(services: &[Service]) -> String {
    let titles = ["SERVICE", "STATE", "BACKENDS", "POINTS", "HSDIRS", "ADDRESS"];
    let mut lines = vec![titles.map(str::to_owned).to_vec()];
    for service in services {
        let Glance { up, points, uploaded, hsdirs } = Glance::at(service);
        lines.push(vec![
            service.nickname.clone(),
            service_state(service.state).to_owned(),
            format!("{up}/{} up", service.backends.len()),
            points.to_string(),
            format!("{uploaded}/{hsdirs}"),
            service.address.clone(),
        ]);
    }
    table("", &lines)
}

/// A service's backends and descriptors.
fn write_service(out: &mut String, service: &Service) -> fmt::Result {
    writeln!(out, "\n{}", service.nickname)?;
    anonymity(service).map_or(Ok(()), |words| writeln!(out, "  {words}"))?;
    guards(service).map_or(Ok(()), |words| writeln!(out, "  {words}"))?;
    bundle(service).map_or(Ok(()), |words| writeln!(out, "  {words}"))?;
    let titles = [
        "BACKEND",
        "STATE",
        "PUBLISHED",
        "WEIGHT",
        "INTRODUCTIONS",
        "DROPPED",
        "FAILED",
        "STREAMS",
    ];
    let mut lines = vec![titles.map(str::to_owned).to_vec()];
    lines.extend(service.backends.iter().map(backend_line));
    out.write_str(&table("  ", &lines))?;
    write_links(out, &service.backends)?;
    service.load.pow.as_ref().map_or(Ok(()), |pow| write_pow(out, pow))?;
    service.http.as_ref().map_or(Ok(()), |http| write_http(out, http))?;
    service.descriptors.iter().try_for_each(|descriptor| write_descriptor(out, descriptor))
}

fn backend_line(backend: &Backend) -> Vec<String> {
    let mut line = vec![
        backend.name.clone(),
        backend_state(backend).to_owned(),
        format!("{} of {}", backend.published_intro_points, backend.intro_points),
        weight(backend),
    ];
    // What happens at a backend elsewhere, nobody sees here.
    let Activity { introductions, introductions_dropped, rendezvous_failed, streams, .. } =
        backend.activity;
    let counted = [introductions, introductions_dropped, rendezvous_failed, streams];
    line.extend(counted.map(|count| match backend.kind {
        BackendKind::Local => count.to_string(),
        BackendKind::Remote => "-".to_owned(),
    }));
    line
}

/// The control links, where there are or should be any.
fn write_links(out: &mut String, backends: &[Backend]) -> fmt::Result {
    let which = |state| backends.iter().filter(move |backend| backend.link == Some(state));
    let (up, down) = (which(LinkState::Up).count(), which(LinkState::Down).count());
    if up + down == 0 {
        return Ok(());
    }
    write!(out, "  control links: {up} up")?;
    let down = which(LinkState::Down).map(|backend| backend.name.as_str()).collect::<Vec<_>>();
    match down.as_slice() {
        [] => writeln!(out),
        few if few.len() <= 5 => writeln!(out, ", {} down", few.join(", ")),
        many => writeln!(out, ", {} down", many.len()),
    }
}

/// What its clients are asked for.
fn write_pow(out: &mut String, pow: &Pow) -> fmt::Result {
    let Pow { effort, queue, queue_limit, trimmed, expired, verified, refused, .. } = pow;
    write!(out, "  proof of work: effort {effort}, {queue} of {queue_limit} waiting, ")?;
    let refused: u64 = refused.values().sum();
    let dropped = trimmed + expired;
    let verified = counted(*verified, "solution");
    writeln!(out, "{verified} verified, {refused} refused, {dropped} dropped")
}

/// What its HTTP reverse proxy has done.
fn write_http(out: &mut String, http: &HttpStatus) -> fmt::Result {
    let StatusClasses { informational, success, redirection, client_error, server_error } =
        http.by_class;
    let requests = counted(http.requests, "request");
    write!(out, "  {requests}, answered 1xx {informational}, 2xx {success}, ")?;
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
        let counts = [origin.requests, origin.failures, origin.in_flight];
        let cells = [origin.name.clone(), origin_state(origin.state).to_owned()];
        cells.into_iter().chain(counts.map(|count| count.to_string())).collect()
    }));
    out.write_str(&table("  ", &lines))
}

fn write_descriptor(out: &mut String, descriptor: &Descriptor) -> fmt::Result {
    let current = if descriptor.current { "current" } else { "other" };
    let (hsdirs, points) = (&descriptor.hsdirs, counted(descriptor.intro_points, "point"));
    write!(out, "  {current} period {}: {points} ", descriptor.period)?;
    if descriptor.distinct {
        out.write_str("in distinct descriptors ")?;
    }
    write!(out, "on {} of {}", uploaded(hsdirs), counted(hsdirs.len(), "HSDir"))?;
    match descriptor.published_at {
        Some(at) => writeln!(out, ", last at {at}")?,
        None => writeln!(out)?,
    }
    let Some(canary) = descriptor.canary else { return Ok(()) };
    let found = canary_outcome(canary.outcome);
    writeln!(out, "    HSDirs asked at {}: {found}", canary.checked_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::example::{EPOCH, backend, descriptor, hsdir, service, snapshot};
    use crate::observe::snapshot::{
        BackendState, Canary, CanaryOutcome, OriginState, OriginStatus,
    };

    #[test]
    fn the_first_lines_say_whether_each_address_is_reachable_and_what_is_wrong() {
        let backends = vec![
            backend("local-0", BackendKind::Local, BackendState::Up),
            Backend {
                failing_intro_points: 1,
                published_intro_points: 2,
                reason: Some("1 of 3 introduction points fails: no answer".into()),
                ..backend("paris", BackendKind::Remote, BackendState::Up)
            },
            backend("berlin", BackendKind::Remote, BackendState::Down),
        ];
        let hsdirs = vec![hsdir("AA", None), hsdir("BB", Some("refused: 400 Bad Request"))];
        let shop = Service {
            problems: vec!["no probe of any backend succeeds".into()],
            http: Some(HttpStatus {
                requests: 9,
                by_class: StatusClasses { success: 7, server_error: 1, ..Default::default() },
                failures: [("no_origin".to_owned(), 1), ("client_gone".to_owned(), 1)].into(),
                origins: vec![OriginStatus {
                    name: "http://127.0.0.1:8080".into(),
                    state: OriginState::Down,
                    reason: Some("connection refused".into()),
                    requests: 8,
                    failures: 3,
                    ..OriginStatus::default()
                }],
                ..HttpStatus::default()
            }),
            ..service("shop", backends, vec![descriptor(hsdirs)])
        };
        let error = "nothing has changed: arti.toml:3: a key\nis wrong";
        let reload = Some(Reload { at: EPOCH, ok: false, error: Some(error.into()) });
        let snapshot = Snapshot { reload, ..snapshot(vec![shop]) };
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
  BACKEND  STATE  PUBLISHED  WEIGHT  INTRODUCTIONS  DROPPED  FAILED  STREAMS
  local-0  up     3 of 3     1       17             2        0       12
  paris    up     2 of 3     1       -              -        -       -
  berlin   DOWN   3 of 3     1       -              -        -       -
  9 requests, answered 1xx 0, 2xx 7, 3xx 0, 4xx 0, 5xx 1
  failed: client_gone 1, no_origin 1
  ORIGIN                 STATE  REQUESTS  FAILED  UNDER WAY
  http://127.0.0.1:8080  DOWN   8         3       0
  current period 20780: 3 points on 1 of 2 HSDirs, last at 1970-01-01T00:00:00Z
";
        assert_eq!(render(&snapshot), expected);
    }

    #[test]
    fn control_links_are_one_line_and_nothing_where_there_are_none() {
        let backends = |links: &[Option<LinkState>]| {
            let linked = |(n, link): (usize, &Option<LinkState>)| Backend {
                link: *link,
                ..backend(&format!("b{n}"), BackendKind::Remote, BackendState::Up)
            };
            links.iter().enumerate().map(linked).collect::<Vec<_>>()
        };
        let written = |links: &[Option<LinkState>]| {
            let text = render(&snapshot(vec![service("shop", backends(links), Vec::new())]));
            text.lines().find(|line| line.contains("control links")).map(str::to_owned)
        };
        let (up, down) = (Some(LinkState::Up), Some(LinkState::Down));
        assert_eq!(written(&[None, None]), None);
        assert_eq!(written(&[up, None, up]).as_deref(), Some("  control links: 2 up"));
        assert_eq!(written(&[up, down]).as_deref(), Some("  control links: 1 up, b1 down"));
        assert_eq!(written(&[down; 9]).as_deref(), Some("  control links: 0 up, 9 down"));
    }

    #[test]
    fn an_origin_that_refuses_connections_is_not_called_up() {
        let origin = OriginStatus {
            name: "http://127.0.0.1:8080".into(),
            state: OriginState::Failing,
            reason: Some("connection refused".into()),
            requests: 1,
            failures: 1,
            ..OriginStatus::default()
        };
        let http = Some(HttpStatus { origins: vec![origin], ..Default::default() });
        let shop = Service { http, ..service("shop", Vec::new(), Vec::new()) };
        let text = render(&snapshot(vec![shop]));
        let trouble = "! shop: origin http://127.0.0.1:8080 does not answer: connection refused\n";
        assert!(text.contains(trouble), "{text}");
        assert!(text.contains("http://127.0.0.1:8080  FAILING  1         1"), "{text}");
    }

    #[test]
    fn distinct_descriptors_what_hsdirs_were_seen_to_hold_and_a_good_reload_are_told_apart_from_trouble()
     {
        let canary = Some(Canary { checked_at: EPOCH, outcome: CanaryOutcome::Missing });
        let distinct = Descriptor {
            distinct: true,
            intro_points: 24,
            canary,
            ..descriptor(vec![hsdir("AA", None)])
        };
        let reload = Some(Reload { at: EPOCH, ok: true, error: None });
        let shop = service("shop", Vec::new(), vec![distinct]);
        let text = render(&Snapshot { reload, ..snapshot(vec![shop]) });
        let expected = "
  current period 20780: 24 points in distinct descriptors on 1 of 1 HSDir, last at \
                        1970-01-01T00:00:00Z
    HSDirs asked at 1970-01-01T00:00:00Z: one held none that can be used and gets it again
";
        assert!(text.ends_with(expected), "{text}");
        let reloaded = "\nconfiguration read again at 1970-01-01T00:00:00Z: it is in force\n";
        assert!(text.contains(reloaded) && !text.contains('!'), "{text}");
    }

    #[test]
    fn a_trouble_that_many_share_is_one_line_for_each_of_many_services() {
        let services = (0..10).map(|n| {
            let local = |n| backend(&format!("local-{n}"), BackendKind::Local, BackendState::Down);
            let refused = || hsdir("BB", Some("not reached: no circuit"));
            let descriptors = (0..2).map(|_| descriptor(vec![hsdir("AA", None), refused()]));
            service(&format!("shop-{n}"), (0..5).map(local).collect(), descriptors.collect())
        });
        let text = render(&snapshot(services.collect()));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[3].starts_with("shop-0") && lines[12].starts_with("shop-9"), "{text}");
        let troubles = lines.iter().filter(|line| line.starts_with('!'));
        assert_eq!(troubles.count(), 20);
        assert_eq!(
            lines[13..15],
            [
                "! shop-0: backends local-0, local-1, local-2 and 2 more are down: no HSDir has a \
                 descriptor of it",
                "! shop-0: 2 of 4 HSDirs have not taken it, HSDir BB after 4 attempts: not reached: \
                 no circuit",
            ]
        );
    }
}
