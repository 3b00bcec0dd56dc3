//! The parts of a service's page: what clients want of it, its backends, its HTTP
//! reverse proxy and its descriptors.

use maud::{Markup, html};

use super::pieces::{of_limit, state, table};
use crate::observe::glance::uploaded;
use crate::observe::snapshot::{
    Backend, BackendKind, BackendState, CertificateStatus, Descriptor, HsdirState, HttpStatus,
    LinkState, Load, OriginState, Rates, Timestamp, Word,
};
use crate::observe::words::{
    backend_state, canary_outcome, counted, duration, hsdir_state, number, origin_state, rate,
    seconds, weight,
};

/// What clients want of a service.
pub(super) fn load(load: &Load) -> Markup {
    let Load { rates: now, last_minute, .. } = load;
    let of = |rates: &Rates| {
        [
            ("Introductions", rates.introductions_per_s),
            ("Introductions dropped", rates.introductions_dropped_per_s),
            ("Replays dropped", rates.replays_per_s),
            ("Clients met", rates.clients_met_per_s),
            ("Clients not met", rates.rendezvous_failed_per_s),
            ("Circuits closed to make room", rates.circuits_closed_per_s),
            ("Streams opened", rates.streams_per_s),
            ("HTTP requests", rates.requests_per_s),
            ("HTTP requests beyond a circuit's limit (429)", rates.requests_limited_per_s),
            ("HTTP errors of servers (5xx)", rates.server_errors_per_s),
        ]
    };
    let lines = of(now).into_iter().zip(of(last_minute));
    html! {
        dl {
            dt { "Introductions a second" }
            dd { (of_limit("introductions a second", now.introductions_per_s, load.introductions_limit_per_s as f64, rate)) }
            dt { "Introductions waiting" }
            dd { (of_limit("introductions to be looked at", load.introductions_waiting as f64, load.introductions_waiting_limit as f64, number)) }
            dt { "Clients being met" }
            dd { (of_limit("clients being met", load.rendezvous_under_way as f64, load.rendezvous_limit as f64, number)) }
            dt { "Circuits" }
            dd { (of_limit("circuits", load.circuits_open as f64, load.circuits_limit as f64, number)) }
            @if let Some(pow) = &load.pow {
                dt { "Proof of work" }
                dd {
                    "effort " (pow.effort) ", "
                    (of_limit("introductions waiting", pow.queue as f64, pow.queue_limit as f64, number))
                }
                dt { "Work of clients" }
                dd {
                    (counted(pow.verified, "right solution")) "; dropped: " (pow.trimmed)
                    " for better ones, of effort " (pow.trimmed_effort) " at most lately, "
                    (pow.expired) " after too long a wait"
                    @for (reason, count) in &pow.refused { "; refused: " (count) " " (reason) }
                }
            }
            dt { "Streams" }
            dd {
                (load.streams_open)
                @if load.streams_limit_per_circuit > 0 {
                    ", on one circuit at most " (load.streams_limit_per_circuit)
                }
            }
        }
        @if !load.dropped_by_per_s.is_empty() {
            p {
                "Introductions dropped by the limit that was hit, a second: "
                @for (n, (limit, per_s)) in load.dropped_by_per_s.iter().enumerate() {
                    @if n > 0 { ", " } (limit) " " (rate(*per_s))
                }
            }
        }
        (table("load", "So many a second.", html! {
            thead { tr {
                th scope="col" { "What" }
                th.number scope="col" { "Last ten seconds" }
                th.number scope="col" { "Last minute" }
            } }
            tbody { @for ((what, now), (_, lately)) in lines {
                tr {
                    th scope="row" { (what) }
                    td.number { (rate(now)) }
                    td.number { (rate(lately)) }
                }
            } }
        }))
    }
}

/// The certificates of its ports.
pub(super) fn certificates(certificates: &[CertificateStatus]) -> Markup {
    html! {
        (table("certificates", "With which its ports speak TLS.", html! {
            thead { tr {
                th scope="col" { "Port" }
                @for title in ["File", "For", "Valid from", "Until", "Of", "Files"] {
                    th scope="col" { (title) }
                }
            } }
            tbody { @for it in certificates {
                tr {
                    th scope="row" {
                        (it.port) @if it.number > 1 { ", number " (it.number) }
                    }
                    td { (it.file) }
                    td { (it.names.join(", ")) }
                    td { (it.not_before) }
                    td { (it.not_after) }
                    td { @if it.self_signed { "itself" } @else { "an authority" } }
                    td { (it.error.as_deref().unwrap_or("in force")) }
                }
            } }
        }))
    }
}

/// The backends of a service.
pub(super) fn backends(backends: &[Backend], now: Timestamp) -> Markup {
    let titles = [
        "State",
        "Published",
        "Failing",
        "Weight",
        "Introductions",
        "Dropped",
        "Replayed",
        "Met",
        "Not met",
        "Gone before a stream",
        "Circuits",
        "Closed for room",
        "Streams",
    ];
    html! {
        (table("backends", "Counts since the start. What happens at a backend elsewhere, nobody sees here.", html! {
            thead { tr {
                th scope="col" { "Backend" }
                @for title in titles { th scope="col" { (title) } }
            } }
            tbody { @for backend in backends {
                @let is_good = backend.state == BackendState::Up && backend.operator == Word::Ready;
                tr {
                    th scope="row" { (backend.name) }
                    td { (state(backend_state(backend), is_good)) }
                    td { (backend.published_intro_points) " of " (backend.intro_points) }
                    td { (backend.failing_intro_points) }
                    td { (weight(backend)) }
                    @let it = &backend.activity;
                    @let closed = it.circuits_closed_idle + it.circuits_closed_silent + it.circuits_closed_slow;
                    @for count in [
                        it.introductions, it.introductions_dropped, it.replays,
                        it.rendezvous_succeeded, it.rendezvous_failed, it.rendezvous_abandoned,
                        it.circuits_open, closed, it.streams_open,
                    ] {
                        td { @if backend.kind == BackendKind::Local { (count) } @else { "-" } }
                    }
                }
            } }
        }))
        ul { @for backend in backends { li { (about(backend, now)) } } }
    }
}

/// Where a backend is, and since when what is known of it.
fn about(backend: &Backend, now: Timestamp) -> Markup {
    let dropped = backend.activity.introductions_dropped_by.iter().filter(|(_, count)| **count > 0);
    let failed = backend.activity.rendezvous_failed_by.iter().filter(|(_, count)| **count > 0);
    html! {
        (backend.name) ": "
        @match &backend.address {
            Some(address) => { "elsewhere, " (address) }
            None => { "in this process" }
        }
        @if let Some(reason) = &backend.reason { ", " (reason) }
        @if let Some(at) = backend.last_seen {
            ", points confirmed " (duration(now.0.duration_since(at.0).unwrap_or_default())) " ago"
        }
        @if let Some(revision) = backend.revision { ", revision " (revision) }
        @let direct = backend.activity.rendezvous_direct;
        @if direct > 0 { ", " (direct) " met by one hop" }
        @match backend.link {
            Some(LinkState::Up) => { ", control link up" }
            Some(LinkState::Down) => { ", control link DOWN" }
            None => {}
        }
        @for (limit, count) in dropped { ", " (count) " dropped (" (limit) ")" }
        @for (what, count) in failed { ", " (count) " not met (" (what) ")" }
    }
}

/// What the HTTP reverse proxy of a service does.
pub(super) fn proxy(http: &HttpStatus) -> Markup {
    let classes = http.by_class;
    let titles = ["State", "Requests", "Failed", "Under way", "Median", "95 of 100", "Why"];
    html! {
        p {
            (counted(http.requests, "request")) ", answered 1xx " (classes.informational) ", 2xx "
            (classes.success) ", 3xx " (classes.redirection) ", 4xx " (classes.client_error)
            ", 5xx " (classes.server_error)
        }
        @if !http.failures.is_empty() {
            p { "Failed: " @for (n, (name, count)) in http.failures.iter().enumerate() {
                @if n > 0 { ", " } (name) " " (count)
            } }
        }
        @if !http.origins.is_empty() {
            (table("http", "Origins. Times until the head of an answer, of the last minute.", html! {
                thead { tr {
                    th scope="col" { "Origin" }
                    @for title in titles { th scope="col" { (title) } }
                } }
                tbody { @for origin in &http.origins {
                    tr {
                        th scope="row" { (origin.name) }
                        td { (state(origin_state(origin.state), origin.state == OriginState::Up)) }
                        td { (origin.requests) }
                        td { (origin.failures) }
                        td { (of_limit("requests under way", origin.in_flight as f64, origin.in_flight_limit as f64, number)) }
                        td { (seconds(origin.median_seconds)) }
                        td { (seconds(origin.p95_seconds)) }
                        td { (origin.reason.as_deref().unwrap_or_default()) }
                    }
                } }
            }))
        }
    }
}

/// The descriptor of one time period.
pub(super) fn descriptor(descriptor: &Descriptor, now: Timestamp) -> Markup {
    let which = if descriptor.current { "current" } else { "other" };
    let heading = format!("period-{}", descriptor.period);
    html! {
        h2 id=(heading) { "Descriptor of the " (which) " period, " (descriptor.period) }
        p {
            (counted(descriptor.intro_points, "introduction point")) " "
            @if descriptor.distinct { "in distinct descriptors " }
            "on " (uploaded(&descriptor.hsdirs)) " of " (counted(descriptor.hsdirs.len(), "HSDir"))
            @if let Some(at) = descriptor.published_at {
                ", last " (duration(now.0.duration_since(at.0).unwrap_or_default())) " ago"
            }
            @if let Some(revision) = descriptor.revision { ", revision " (revision) }
        }
        @if let Some(canary) = descriptor.canary {
            p { "HSDirs asked at " (canary.checked_at) ": " (canary_outcome(canary.outcome)) }
        }
        (table(&heading, "What each HSDir has of it.", html! {
            thead { tr { @for title in ["HSDir", "State", "Points", "Attempts", "Last error"] {
                th scope="col" { (title) }
            } } }
            tbody { @for hsdir in &descriptor.hsdirs {
                tr {
                    th scope="row" { (hsdir.relay.get(..8).unwrap_or(&hsdir.relay)) }
                    td { (state(hsdir_state(hsdir.state), hsdir.state != HsdirState::Failed)) }
                    td { (hsdir.intro_points) }
                    td { (hsdir.attempts) }
                    td { (hsdir.last_error.as_deref().unwrap_or_default()) }
                }
            } }
        }))
    }
}
