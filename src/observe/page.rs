//! The Snapshot for a person with a browser, as a page without scripts.
//!
//! It works in Tor Browser at its strictest level: no script, no image, nothing
//! from elsewhere. It comes anew by itself until it is told to pause. States are
//! words, colour only repeats them; numbers stand beside their limits.

mod parts;
mod pieces;

use maud::{DOCTYPE, Markup, html};

use super::Snapshot;
use super::glance::Glance;
use super::handover;
use super::snapshot::{Load, Reload, Service, ServiceState, Timestamp};
use super::troubles::{self, of_process, of_tor, troubles};
use super::words::{
    anonymity, bundle, bytes, duration, guards, number, rate, seconds, service_state,
};
use pieces::{of_limit, state, table};

/// Where [`STYLE`] is found.
pub const STYLE_PATH: &str = "/style.css";

/// How the pages look.
pub const STYLE: &str = include_str!("page.css");

/// What browsers may do with a page: show it, with our style.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; \
                                           form-action 'none'; frame-ancestors 'none'";

/// What the paths of services' pages begin with.
pub const SERVICES: &str = "/services/";

/// How often a page comes anew, in seconds: what a field `Refresh` of the answer
/// says, since pages without one can be read in peace.
pub const EVERY: &str = "5";

/// Whether a page comes anew by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Every few seconds.
    Itself,
    /// Only when the reader asks for it.
    Paused,
}

/// The page of the whole daemon.
pub fn overview(snapshot: &Snapshot, now: Timestamp, refresh: Refresh) -> String {
    let title = if snapshot.ready { "ready" } else { "NOT READY" };
    let content = html! {
        h1 { "onionbraid is " (state(title, snapshot.ready)) }
        (freshness(now, refresh, "/"))
        (what_is_wrong(snapshot, refresh))
        h2 #services { "Services" }
        (services(&snapshot.services, refresh))
        h2 { "The process" }
        (process(snapshot, now))
    };
    whole(title, content)
}

/// The page of one service; `None`: there is none of this name.
pub fn service(
    snapshot: &Snapshot,
    nickname: &str,
    now: Timestamp,
    refresh: Refresh,
) -> Option<String> {
    let service = snapshot.services.iter().find(|service| service.nickname == nickname)?;
    let (word, is_good) = of_service(service);
    let troubles: Vec<_> = troubles(service).collect();
    let here = format!("{SERVICES}{nickname}");
    let content = html! {
        nav { p { a href=(link("/", refresh)) { "All services" } } }
        h1 { (service.nickname) " is " (state(word, is_good)) }
        p { (service.address) }
        (freshness(now, refresh, &here))
        (list_of_troubles(&troubles))
        @if let Some(words) = handover::words(service) { p { "Of several publishers: " (words) "." } }
        @if let Some(words) = anonymity(service) { p { "This service is " (words) "." } }
        @if let Some(words) = guards(service) { p { (words) "." } }
        @if let Some(words) = bundle(service) { p { (words) "." } }
        @if let Some(Reload { at, error, .. }) = &service.backends_file {
            p { "backends_file read at " (at) ": " (error.as_deref().unwrap_or("in force")) }
        }
        h2 #load { "Load" }
        (parts::load(&service.load))
        h2 #backends { "Backends" }
        (parts::backends(&service.backends, now))
        @if let Some(http) = &service.http {
            h2 #http { "HTTP" }
            (parts::proxy(http))
        }
        @if !service.certificates.is_empty() {
            h2 #certificates { "Certificates" }
            (parts::certificates(&service.certificates))
        }
        @if service.probe_seconds.count() > 0 {
            h2 { "Probes" }
            p {
                (service.probe_seconds.count()) " succeeded: half of them within "
                (seconds(service.probe_seconds.quantile(0.5))) ", 95 of 100 within "
                (seconds(service.probe_seconds.quantile(0.95)))
            }
        }
        p {
            "Uploads of descriptors since the start: " (service.uploads_accepted) " taken, "
            (service.uploads_failed) " failed."
        }
        @for one in &service.descriptors {
            (parts::descriptor(one, now))
        }
    };
    Some(whole(&format!("{nickname} {word}"), content))
}

/// A page around its content.
fn whole(title: &str, content: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                meta name="referrer" content="no-referrer";
                title { (title) " - onionbraid" }
                link rel="stylesheet" href=(STYLE_PATH);
            }
            body { main { (content) } }
        }
    };
    page.into_string()
}

/// The path of another page, which pauses if this one does.
fn link(path: &str, refresh: Refresh) -> String {
    match refresh {
        Refresh::Itself => path.to_owned(),
        Refresh::Paused => format!("{path}?paused"),
    }
}

/// From when the page is, and how to have it stay or go on.
fn freshness(now: Timestamp, refresh: Refresh, here: &str) -> Markup {
    html! {
        p.dim {
            "As of " (now) ". "
            @match refresh {
                Refresh::Itself => {
                    "It comes anew every " (EVERY) " seconds: "
                    a href=(link(here, Refresh::Paused)) { "pause" } "."
                }
                Refresh::Paused => {
                    "Paused: " a href=(link(here, refresh)) { "look again" } ", "
                    a href=(here) { "go on by itself" } "."
                }
            }
        }
    }
}

/// What an operator should act on, of everything.
fn what_is_wrong(snapshot: &Snapshot, refresh: Refresh) -> Markup {
    let reload = snapshot.reload.as_ref().and_then(|Reload { at, error, .. }| {
        error.as_ref().map(|error| format!("configuration read again at {at}: {error}"))
    });
    let of_daemon: Vec<_> =
        of_tor(&snapshot.tor).into_iter().chain(of_process(snapshot)).chain(reload).collect();
    let of_services: Vec<_> = worst_first(&snapshot.services)
        .into_iter()
        .flat_map(|service| troubles(service).map(move |trouble| (service, trouble)))
        .collect();
    html! {
        @if of_daemon.is_empty() && of_services.is_empty() {
            p { "Nothing is wrong that onionbraid knows of." }
        } @else {
            ul.troubles {
                @for trouble in &of_daemon { li { (trouble) } }
                @for (service, trouble) in &of_services {
                    li { (service_link(service, refresh)) ": " (trouble) }
                }
            }
        }
    }
}

fn list_of_troubles(troubles: &[String]) -> Markup {
    html! {
        @if !troubles.is_empty() {
            ul.troubles { @for trouble in troubles { li { (trouble) } } }
        }
    }
}

fn service_link(service: &Service, refresh: Refresh) -> Markup {
    let path = format!("{SERVICES}{}", service.nickname);
    html! { a href=(link(&path, refresh)) { (service.nickname) } }
}

/// The services in need of somebody before the others.
fn worst_first(services: &[Service]) -> Vec<&Service> {
    let mut all: Vec<_> = services.iter().collect();
    all.sort_by_key(|service| troubles::worst_first(service));
    all
}

fn of_service(service: &Service) -> (&'static str, bool) {
    (service_state(service.state), service.state == ServiceState::Published)
}

fn services(services: &[Service], refresh: Refresh) -> Markup {
    let titles = [
        "State",
        "Backends up",
        "Points",
        "HSDirs",
        "Introductions/s",
        "Dropped/s",
        "Circuits",
        "Streams",
        "Requests/s",
        "429/s",
        "5xx/s",
    ];
    html! {
        (table("services", "Worst first. Rates are those of the last ten seconds.", html! {
            thead { tr {
                th scope="col" { "Service" }
                @for title in titles { th scope="col" { (title) } }
            } }
            tbody { @for service in worst_first(services) {
                @let (word, is_good) = of_service(service);
                @let Glance { up, points, uploaded, hsdirs } = Glance::at(service);
                @let Load { rates, circuits_open, circuits_limit, .. } = &service.load;
                tr {
                    th scope="row" { (service_link(service, refresh)) }
                    td { (state(word, is_good)) }
                    td { (up) " of " (service.backends.len()) }
                    td { (points) }
                    td { (uploaded) " of " (hsdirs) }
                    td { (of_limit("introductions a second", rates.introductions_per_s, service.load.introductions_limit_per_s as f64, rate)) }
                    td { (rate(rates.introductions_dropped_per_s)) }
                    td { (of_limit("circuits", *circuits_open as f64, *circuits_limit as f64, number)) }
                    td { (service.load.streams_open) }
                    td { (rate(rates.requests_per_s)) }
                    td { (rate(rates.requests_limited_per_s)) }
                    td { (rate(rates.server_errors_per_s)) }
                }
            } }
        }))
    }
}

fn process(snapshot: &Snapshot, now: Timestamp) -> Markup {
    let Snapshot { handles, memory, requests, tor, .. } = snapshot;
    let since = now.0.duration_since(snapshot.started.0).unwrap_or_default();
    let unknown = || html! { "not known" };
    html! {
        dl {
            dt { "Version" } dd { (snapshot.version) }
            dt { "Running for" } dd { (duration(since)) ", since " (snapshot.started) }
            dt { "Tor" }
            dd {
                @if tor.bootstrap >= 1.0 { "ready" } @else {
                    "at " (format!("{:.0}", tor.bootstrap * 100.0)) " %"
                }
                @if tor.trouble.is_some() || tor.bootstrap < 1.0 { ": " (tor.message) }
            }
            @if let Some(until) = tor.consensus_valid_until {
                dt { "Network directory" } dd { "valid until " (until) }
            }
            dt { "Files and connections" }
            dd {
                @match handles.open {
                    Some(open) => (of_limit("files and connections", open as f64, handles.limit as f64, number)),
                    None => (unknown()),
                }
            }
            @if handles.direct_limit > 0 {
                dt { "Relays connected to directly" }
                dd { (of_limit("relays connected to directly", handles.direct_open as f64, handles.direct_limit as f64, number)) }
            }
            dt { "Those of clients" }
            dd { (of_limit("files and connections of clients", handles.clients_open as f64, handles.clients_limit as f64, number)) }
            dt { "HTTP requests under way" }
            dd { (of_limit("HTTP requests under way", requests.under_way as f64, requests.limit as f64, number)) }
            dt { "Memory" }
            dd {
                @match memory.resident {
                    Some(resident) => (of_limit("memory", resident as f64, memory.limit.unwrap_or(0) as f64, bytes)),
                    None => (unknown()),
                }
            }
            dt { "Processor time" } dd { (seconds(snapshot.cpu_seconds)) }
            dt { "Tasks" } dd { (snapshot.tasks) }
            @if let Some(Reload { at, error: None, .. }) = &snapshot.reload {
                dt { "Configuration" } dd { "read again at " (at) ": it is in force" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::example::{self, EPOCH};
    use crate::observe::snapshot::{BackendKind, BackendState};

    fn scene() -> Snapshot {
        let good = example::service("blog", Vec::new(), Vec::new());
        let bad = Service {
            state: ServiceState::Down,
            problems: vec!["<script>alert(1)</script>".into()],
            load: Load { circuits_open: 8_000, circuits_limit: 8_192, ..Load::default() },
            ..example::service(
                "shop",
                vec![example::backend("local-0", BackendKind::Local, BackendState::Down)],
                vec![example::descriptor(vec![example::hsdir("AA", Some("refused"))])],
            )
        };
        example::snapshot(vec![good, bad])
    }

    #[test]
    fn the_worst_comes_first_and_says_what_is_wrong() {
        let page = overview(&scene(), EPOCH, Refresh::Itself);
        let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
        assert!(place(">shop</a></th>") < place(">blog</a></th>"));
        assert!(place("no backend answers") < place("<table>"));
        assert!(page.contains("8000 of 8192"), "{page}");
    }

    #[test]
    fn nothing_in_a_page_is_executed_or_comes_from_elsewhere() {
        let service = service(&scene(), "shop", EPOCH, Refresh::Itself).unwrap();
        for page in [overview(&scene(), EPOCH, Refresh::Itself), service] {
            assert!(!page.contains("<script") && !page.contains("style="), "{page}");
            assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
            assert!(page.contains("&lt;script&gt;"), "{page}");
        }
    }

    #[test]
    fn a_paused_page_stays_and_so_do_the_pages_that_it_leads_to() {
        let page = overview(&scene(), EPOCH, Refresh::Paused);
        assert!(page.contains("/services/shop?paused") && page.contains("go on by itself"));
        let page = overview(&scene(), EPOCH, Refresh::Itself);
        assert!(page.contains("\"/services/shop\"") && page.contains("\"/?paused\""));
    }

    #[test]
    fn a_service_that_there_is_not_has_no_page() {
        assert_eq!(service(&scene(), "other", EPOCH, Refresh::Itself), None);
    }
}
