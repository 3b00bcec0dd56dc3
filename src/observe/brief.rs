//! The Snapshot in one line a service, and in one line for everything: for a
//! glance, for scripts that show it, and for the service manager.

use super::glance::Glance;
use super::snapshot::{Backend, Service, ServiceState, Snapshot, TorStatus, Word};
use super::troubles::{of_process, of_tor, troubles};
use super::words::{counted, printable, rate, service_state};

/// One line for each service.
pub fn render(snapshot: &Snapshot) -> String {
    let more = with_all(snapshot);
    let mut lines: Vec<_> =
        snapshot.services.iter().map(|service| line(service, &snapshot.tor) + &more).collect();
    if lines.is_empty() {
        lines.push(summary(snapshot));
    }
    lines.iter().flat_map(|line| printable(line).chain(['\n'])).collect()
}

/// What is to be known beside all services. What is wrong with the files may name
/// addresses, which a service manager would keep: so it is not here.
fn with_all(snapshot: &Snapshot) -> String {
    let refused = snapshot.reload.as_ref().is_some_and(|reload| !reload.ok);
    let text =
        if refused { "; not all of the configuration is in force, see `status`" } else { "" };
    text.to_owned()
}

/// How the whole daemon is doing, in one line.
pub fn summary(snapshot: &Snapshot) -> String {
    let Snapshot { services, tor, .. } = snapshot;
    let more = with_all(snapshot);
    if tor.bootstrap < 1.0 {
        let percent = tor.bootstrap * 100.0;
        return format!("not ready: Tor is at {percent:.0} %: {}{more}", tor.message);
    }
    let published =
        services.iter().filter(|service| service.state == ServiceState::Published).count();
    let ready = if snapshot.ready { "ready" } else { "not ready" };
    let of_services = services.iter().filter_map(|service| {
        troubles(service).next().map(|trouble| format!("{}: {trouble}", service.nickname))
    });
    // Without Tor, nothing else counts.
    let all = of_tor(tor).into_iter().chain(of_services).chain(of_process(snapshot));
    let worst = all.take(1).map(|trouble| format!("; {trouble}")).next();
    let counted = match services.len() {
        0 => "no service is configured".to_owned(),
        all => format!("{published} of {} published", counted(all, "service")),
    };
    format!("{ready}: {counted}{}{more}", worst.unwrap_or_default())
}

/// One service in one line.
fn line(service: &Service, tor: &TorStatus) -> String {
    let Glance { up, points, uploaded, hsdirs } = Glance::at(service);
    let load = &service.load;
    let dropped = match load.rates.introductions_dropped_per_s {
        some if some > 0.0 => format!(" ({}/s dropped)", rate(some)),
        _ => String::new(),
    };
    // Without Tor, nothing else counts.
    let trouble = of_tor(tor).or_else(|| troubles(service).next());
    let trouble = trouble.map(|trouble| format!("; {trouble}"));
    format!(
        "{} {}: {up}/{} up{}, {} on {uploaded}/{}, {} introductions/s{dropped}, {}{}",
        service.nickname,
        service_state(service.state),
        counted(service.backends.len(), "backend"),
        out_of_use(&service.backends),
        counted(points, "point"),
        counted(hsdirs, "HSDir"),
        rate(load.rates.introductions_per_s),
        counted(load.circuits_open, "circuit"),
        trouble.unwrap_or_default(),
    )
}

/// How many backends the operator has out of use, whatever state they are in.
fn out_of_use(backends: &[Backend]) -> String {
    let count = |word| backends.iter().filter(|it| it.operator == word).count();
    let words = [(count(Word::Drain), "drained"), (count(Word::Maintenance), "in maintenance")];
    let words = words.iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = words.map(|(count, word)| format!("{count} {word}")).collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::example;
    use crate::observe::snapshot::{BackendKind, BackendState, Load, Rates, Reload};

    fn shop(state: ServiceState) -> Service {
        let backends = vec![
            example::backend("local-0", BackendKind::Local, BackendState::Up),
            example::backend("berlin", BackendKind::Remote, BackendState::Down),
        ];
        let rates = Rates {
            introductions_per_s: 203.0,
            introductions_dropped_per_s: 81.0,
            ..Rates::default()
        };
        Service {
            state,
            load: Load { rates, circuits_open: 40, ..Load::default() },
            ..example::service(
                "shop",
                backends,
                vec![example::descriptor(vec![example::hsdir("AA", None)])],
            )
        }
    }

    #[test]
    fn a_service_is_a_line_with_its_worst_trouble() {
        let snapshot = example::snapshot(vec![shop(ServiceState::Published)]);
        let expected = "shop published: 1/2 backends up, 3 points on 1/1 HSDir, 203 introductions/s \
                        (81/s dropped), 40 circuits; backend berlin is down: no HSDir has a \
                        descriptor of it\n";
        assert_eq!(render(&snapshot), expected);
    }

    #[test]
    fn everything_is_a_line_too() {
        let snapshot = example::snapshot(vec![shop(ServiceState::Down)]);
        let snapshot = Snapshot { ready: false, ..snapshot };
        let expected = "not ready: 0 of 1 service published; shop: no backend answers; what was \
                        published last is left where it is";
        assert_eq!(summary(&snapshot), expected);
        let starting = Snapshot {
            tor: TorStatus { bootstrap: 0.4, message: "no route".into(), ..TorStatus::default() },
            ..snapshot
        };
        assert_eq!(summary(&starting), "not ready: Tor is at 40 %: no route");
        assert_eq!(render(&example::snapshot(Vec::new())), "ready: no service is configured\n");
    }

    #[test]
    fn a_backend_that_is_out_of_use_is_not_counted_as_up_without_a_word() {
        let mut service = shop(ServiceState::Published);
        service.backends[0].operator = Word::Drain;
        let line = render(&example::snapshot(vec![service.clone()]));
        assert!(line.contains(" 1/2 backends up (1 drained), "), "{line}");
        service.backends[1].operator = Word::Maintenance;
        let line = render(&example::snapshot(vec![service]));
        assert!(line.contains(" 1/2 backends up (1 drained, 1 in maintenance), "), "{line}");
    }

    #[test]
    fn each_line_says_why_tor_cannot_be_used_and_that_the_files_are_not_in_force() {
        let services = vec![shop(ServiceState::Starting), shop(ServiceState::Starting)];
        let tor = TorStatus { bootstrap: 0.1, message: "no route".into(), ..TorStatus::default() };
        let error = Some("nothing has changed: eu5irynz.onion is wrong".into());
        let reload = Some(Reload { at: example::EPOCH, ok: false, error });
        let snapshot = Snapshot { tor, ready: false, reload, ..example::snapshot(services) };
        let lines = render(&snapshot);
        assert_eq!(lines.lines().count(), 2);
        for line in lines.lines().chain([&*summary(&snapshot)]) {
            assert!(line.contains("; Tor is at 10 %: no route") || line.contains(": Tor is at 10"));
            assert!(line.contains("not all of the configuration is in force"), "{line}");
            assert!(!line.contains(".onion"), "{line}");
        }
        let ready = Snapshot { tor: example::snapshot(Vec::new()).tor, ready: true, ..snapshot };
        assert!(
            summary(&ready).ends_with("; not all of the configuration is in force, see `status`")
        );
    }
}
