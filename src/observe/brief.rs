//! The Snapshot in one line a service, and in one line for everything: for a
//! glance, for scripts that show it, and for the service manager.

use super::glance::Glance;
use super::snapshot::{Service, ServiceState, Snapshot};
use super::troubles::{of_process, of_tor, troubles};
use super::words::{counted, printable, rate, service_state};

/// One line for each service.
pub fn render(snapshot: &Snapshot) -> String {
    let mut lines: Vec<_> = snapshot.services.iter().map(line).collect();
    if lines.is_empty() {
        lines.push(summary(snapshot));
    }
    lines.iter().flat_map(|line| printable(line).chain(['\n'])).collect()
}

/// How the whole daemon is doing, in one line.
pub fn summary(snapshot: &Snapshot) -> String {
    let Snapshot { services, tor, .. } = snapshot;
    if tor.bootstrap < 1.0 {
        return format!("not ready: Tor is at {:.0} %: {}", tor.bootstrap * 100.0, tor.message);
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
    format!("{ready}: {counted}{}", worst.unwrap_or_default())
}

/// One service in one line.
fn line(service: &Service) -> String {
    let Glance { up, points, uploaded, hsdirs } = Glance::at(service);
    let load = &service.load;
    let dropped = match load.rates.introductions_dropped_per_s {
        some if some > 0.0 => format!(" ({}/s dropped)", rate(some)),
        _ => String::new(),
    };
    let trouble = troubles(service).next().map(|trouble| format!("; {trouble}"));
    format!(
        "{} {}: {up}/{} up, {} on {uploaded}/{}, {} introductions/s{dropped}, {}{}",
        service.nickname,
        service_state(service.state),
        counted(service.backends.len(), "backend"),
        counted(points, "point"),
        counted(hsdirs, "HSDir"),
        rate(load.rates.introductions_per_s),
        counted(load.circuits_open, "circuit"),
        trouble.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::example;
    use crate::observe::snapshot::{BackendKind, BackendState, Load, Rates, Tor};

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
            tor: Tor { bootstrap: 0.4, message: "no route".into(), ..Tor::default() },
            ..snapshot
        };
        assert_eq!(summary(&starting), "not ready: Tor is at 40 %: no route");
        assert_eq!(render(&example::snapshot(Vec::new())), "ready: no service is configured\n");
    }
}
