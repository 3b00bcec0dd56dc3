//! Whether each field of the Snapshot is seen where an operator looks: in the
//! metrics and on the pages. Whoever adds a field says here where it is.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::example::{self, EPOCH};
use super::page::{self, Refresh};
use super::snapshot::{
    Activity, Anonymity, Backend, BackendKind, BackendState, BundleStatus, Canary, CanaryOutcome,
    CertificateStatus, GuardSets, Handles, HttpStatus, LinkState, Load, OriginStatus, Pow,
    ProcessMemory, Reload, Service, Snapshot, Timestamp, TorStatus, Word,
};
use super::{metrics, text, watch};
use onionbraid_proxy::histogram::Histogram;

/// The field, its metric, and what the pages have of it; nothing where it would be
/// out of place there.
const FIELDS: &[(&str, &str, &str)] = &[
    ("cpu_seconds", "process_cpu_seconds_total", "Processor time"),
    ("handles.clients_limit", "onionbraid_client_file_handles_limit", "of 13"),
    ("handles.clients_open", "onionbraid_client_file_handles_open", "12 of"),
    ("handles.direct_limit", "onionbraid_direct_connections_limit", "of 257"),
    ("handles.direct_open", "onionbraid_direct_connections_open", "21 of"),
    ("handles.limit", "process_max_fds", "of 4096"),
    ("handles.open", "process_open_fds", "11 of"),
    ("memory.limit", "onionbraid_memory_limit_bytes", "of 64 MiB"),
    ("memory.resident", "process_resident_memory_bytes", "32 MiB of"),
    ("ready", "onionbraid_ready", "onionbraid is"),
    ("reload.at", "", "configuration read again at 1970"),
    ("reload.error", "", "a key is wrong"),
    ("reload.ok", "onionbraid_configuration_reload_ok", "configuration read again"),
    ("requests.limit", "onionbraid_http_requests_under_way_limit", "of 16384"),
    ("requests.under_way", "onionbraid_http_requests_under_way", "14 of"),
    ("services[].address", "", "abc.onion"),
    // Whoever scrapes it knows which processes do not hide: they have a limit above 0.
    ("services[].anonymity", "", "relays see where"),
    ("services[].backends[].address", "", "elsewhere, def.onion"),
    (
        "services[].backends[].circuits_closed_idle",
        "onionbraid_circuits_closed_total",
        "Closed for room",
    ),
    (
        "services[].backends[].circuits_closed_silent",
        "onionbraid_circuits_closed_total",
        "Closed for room",
    ),
    (
        "services[].backends[].circuits_closed_slow",
        "onionbraid_circuits_closed_total",
        "Closed for room",
    ),
    ("services[].backends[].circuits_open", "onionbraid_circuits_open", "Circuits"),
    ("services[].backends[].configured_weight", "", "1 in place of 3"),
    (
        "services[].backends[].congestion_controlled",
        "onionbraid_rendezvous_congestion_controlled_total",
        "",
    ),
    (
        "services[].backends[].failing_intro_points",
        "onionbraid_backend_introduction_points_failing",
        "Failing",
    ),
    ("services[].backends[].intro_points", "onionbraid_backend_introduction_points", "2 of 3"),
    ("services[].backends[].introductions", "onionbraid_introductions_total", "Introductions"),
    (
        "services[].backends[].introductions_dropped",
        "onionbraid_introductions_dropped_total",
        "Dropped",
    ),
    (
        "services[].backends[].introductions_dropped_by.*",
        "onionbraid_introductions_dropped_total",
        "2 dropped (rate)",
    ),
    ("services[].backends[].kind", "", "in this process"),
    (
        "services[].backends[].last_seen",
        "onionbraid_backend_last_seen_seconds",
        "points confirmed 30 s ago",
    ),
    ("services[].backends[].link", "onionbraid_backend_link_up", "control link DOWN"),
    ("services[].backends[].name", "onionbraid_backend_state", "local-0"),
    ("services[].backends[].operator", "onionbraid_backend_operator", "MAINTENANCE"),
    ("services[].backends[].operator_by", "", "by user 1000"),
    ("services[].backends[].operator_since", "", "since 1970"),
    (
        "services[].backends[].published_intro_points",
        "onionbraid_backend_introduction_points",
        "2 of 3",
    ),
    ("services[].backends[].reason", "", "half dead"),
    // `onionbraid descriptor` shows which relays hold which points.
    ("services[].backends[].relays[]", "", ""),
    (
        "services[].backends[].rendezvous_abandoned",
        "onionbraid_rendezvous_abandoned_total",
        "Gone before a stream",
    ),
    (
        "services[].backends[].rendezvous_direct",
        "onionbraid_rendezvous_direct_total",
        "22 met by one hop",
    ),
    ("services[].backends[].rendezvous_failed", "onionbraid_rendezvous_failed_total", "Not met"),
    (
        "services[].backends[].rendezvous_failed_by.*",
        "onionbraid_rendezvous_failed_total",
        "3 not met (closed)",
    ),
    ("services[].backends[].rendezvous_succeeded", "onionbraid_rendezvous_succeeded_total", "Met"),
    (
        "services[].backends[].rendezvous_under_way",
        "onionbraid_rendezvous_under_way",
        "Clients being met",
    ),
    ("services[].backends[].replays", "onionbraid_introductions_replayed_total", "Replayed"),
    ("services[].backends[].revision", "", "revision 77"),
    ("services[].backends[].state", "onionbraid_backend_state", "STALE"),
    ("services[].backends[].streams", "onionbraid_streams_total", "Streams"),
    ("services[].backends[].streams_open", "onionbraid_streams_open", "Streams"),
    ("services[].backends[].weight", "onionbraid_backend_weight", "Weight"),
    ("services[].backends[].weight_by", "", "by user 2000"),
    ("services[].backends[].weight_since", "", "since 1970-01-02"),
    ("services[].bundle.ends", "onionbraid_bundle_ends_seconds", "until 1970"),
    ("services[].bundle.periods_left", "onionbraid_bundle_periods_left", "for 9 time periods"),
    ("services[].certificates[].error", "onionbraid_certificate_ok", "no private key"),
    ("services[].certificates[].file", "", "shop.pem"),
    ("services[].certificates[].names[]", "", "www.abc.onion"),
    (
        "services[].certificates[].not_after",
        "onionbraid_certificate_not_after_seconds",
        "1970-01-01T00:00:00Z",
    ),
    (
        "services[].certificates[].not_before",
        "onionbraid_certificate_not_before_seconds",
        "1970-01-01T00:00:00Z",
    ),
    ("services[].certificates[].number", "onionbraid_certificate_not_after_seconds", "number 2"),
    ("services[].certificates[].port", "onionbraid_certificate_not_after_seconds", "8443"),
    ("services[].certificates[].self_signed", "onionbraid_certificate_self_signed", "itself"),
    ("services[].descriptors[].canary.checked_at", "", "HSDirs asked at 1970"),
    ("services[].descriptors[].canary.outcome", "onionbraid_descriptor_check", "another publisher"),
    ("services[].descriptors[].current", "onionbraid_descriptor_age_seconds", "current"),
    ("services[].descriptors[].distinct", "", "in distinct descriptors"),
    ("services[].descriptors[].hsdirs[].attempts", "", "Attempts"),
    ("services[].descriptors[].hsdirs[].intro_points", "", "Points"),
    ("services[].descriptors[].hsdirs[].last_error", "", "disk full"),
    ("services[].descriptors[].hsdirs[].relay", "", "AABBCCDD"),
    ("services[].descriptors[].hsdirs[].state", "onionbraid_hsdirs", "FAILED"),
    (
        "services[].descriptors[].intro_points",
        "onionbraid_descriptor_introduction_points",
        "introduction points",
    ),
    ("services[].descriptors[].period", "", "20780"),
    ("services[].descriptors[].published_at", "onionbraid_descriptor_age_seconds", "last 30 s ago"),
    ("services[].descriptors[].revision", "", "revision 1"),
    ("services[].guards.first_guards", "onionbraid_first_guards", "1 first guard"),
    ("services[].guards.overlapping[]", "", "local-0, local-1 share one"),
    ("services[].guards.sets", "onionbraid_guard_sets", "2 local instances with guards"),
    ("services[].http.by_class.1xx", "onionbraid_http_requests_total", "1xx"),
    ("services[].http.by_class.2xx", "onionbraid_http_requests_total", "2xx"),
    ("services[].http.by_class.3xx", "onionbraid_http_requests_total", "3xx"),
    ("services[].http.by_class.4xx", "onionbraid_http_requests_total", "4xx"),
    ("services[].http.by_class.5xx", "onionbraid_http_requests_total", "5xx"),
    ("services[].http.failures.*", "onionbraid_http_failures_total", "too_many 3"),
    ("services[].http.origins[].failures", "onionbraid_origin_failures_total", "Failed"),
    ("services[].http.origins[].in_flight", "onionbraid_origin_requests_under_way", "Under way"),
    (
        "services[].http.origins[].in_flight_limit",
        "onionbraid_origin_requests_under_way_limit",
        "of 32",
    ),
    // Prometheus has histograms for these.
    ("services[].http.origins[].median_seconds", "", "Median"),
    ("services[].http.origins[].name", "onionbraid_origin_up", "http://10.0.0.7"),
    ("services[].http.origins[].p95_seconds", "", "95 of 100"),
    ("services[].http.origins[].reason", "", "refused"),
    ("services[].http.origins[].requests", "onionbraid_origin_requests_total", "Requests"),
    (
        "services[].http.origins[].seconds.buckets[].count",
        "onionbraid_origin_request_seconds_bucket",
        "Median",
    ),
    (
        "services[].http.origins[].seconds.buckets[].le",
        "onionbraid_origin_request_seconds_bucket",
        "Median",
    ),
    ("services[].http.origins[].seconds.sum", "onionbraid_origin_request_seconds_sum", "Median"),
    ("services[].http.origins[].state", "onionbraid_origin_up", "State"),
    ("services[].http.requests", "onionbraid_http_requests_total", "requests, answered"),
    ("services[].http.seconds.buckets[].count", "onionbraid_http_request_seconds_bucket", ""),
    ("services[].http.seconds.buckets[].le", "onionbraid_http_request_seconds_bucket", ""),
    ("services[].http.seconds.sum", "onionbraid_http_request_seconds_sum", ""),
    ("services[].load.circuits_limit", "onionbraid_circuits_open_limit", "of 8192"),
    ("services[].load.circuits_open", "onionbraid_circuits_open", "40 of"),
    (
        "services[].load.dropped_by_per_s.*",
        "onionbraid_introductions_dropped_total",
        "limit `rate`",
    ),
    (
        "services[].load.introductions_limit_per_s",
        "onionbraid_introductions_limit_per_second",
        "of 200",
    ),
    ("services[].load.introductions_waiting", "onionbraid_introductions_waiting", "6 of"),
    (
        "services[].load.introductions_waiting_limit",
        "onionbraid_introductions_waiting_limit",
        "of 1536",
    ),
    ("services[].load.pow.effort", "onionbraid_pow_effort", "effort 41"),
    ("services[].load.pow.expired", "onionbraid_pow_expired_total", "after too long a wait"),
    ("services[].load.pow.queue", "onionbraid_pow_queue_requests", "7 of"),
    ("services[].load.pow.queue_limit", "onionbraid_pow_queue_requests_limit", "of 16384"),
    ("services[].load.pow.refused.*", "onionbraid_pow_solutions_refused_total", "refused: 3 used"),
    ("services[].load.pow.trimmed", "onionbraid_pow_trimmed_total", "for better ones"),
    ("services[].load.pow.trimmed_effort", "onionbraid_pow_trimmed_effort", "at most lately"),
    ("services[].load.pow.verified", "onionbraid_pow_solutions_verified_total", "right solutions"),
    ("services[].load.rendezvous_limit", "onionbraid_rendezvous_under_way_limit", "of 1024"),
    ("services[].load.rendezvous_under_way", "onionbraid_rendezvous_under_way", "5 of"),
    (
        "services[].load.streams_limit_per_circuit",
        "onionbraid_streams_per_circuit_limit",
        "on one circuit at most 512",
    ),
    ("services[].load.streams_open", "onionbraid_streams_open", "Streams"),
    ("services[].nickname", "onionbraid_service_reachable", "shop"),
    ("services[].probe_seconds.buckets[].count", "onionbraid_probe_seconds_bucket", "succeeded"),
    ("services[].probe_seconds.buckets[].le", "onionbraid_probe_seconds_bucket", "succeeded"),
    ("services[].backends_file.at", "", "backends_file read at 1970"),
    ("services[].backends_file.error", "", "no such list"),
    ("services[].backends_file.ok", "", "backends_file read at"),
    ("services[].probe_seconds.sum", "onionbraid_probe_seconds_sum", "succeeded"),
    ("services[].problems[]", "onionbraid_service_problems", "a thief"),
    ("services[].several_publishers", "", "leave the other publishers running"),
    ("services[].state", "onionbraid_service_reachable", "published"),
    ("services[].uploads_accepted", "onionbraid_hsdir_uploads_total", "8 taken"),
    ("services[].uploads_failed", "onionbraid_hsdir_uploads_total", "9 failed"),
    ("started", "process_start_time_seconds", "since 1970"),
    ("tasks", "onionbraid_tasks_alive", "Tasks"),
    ("tor.advice", "", "let it connect"),
    ("tor.bootstrap", "onionbraid_tor_bootstrap_ratio", "Tor"),
    ("tor.consensus_valid_until", "onionbraid_consensus_valid_until_seconds", "valid until 1970"),
    ("tor.message", "", "guards refuse"),
    ("tor.problem", "onionbraid_problems", "the disk is full"),
    ("tor.trouble", "onionbraid_tor_trouble", "guards refuse"),
    ("version", "onionbraid_build", "1.2.3"),
];

/// Rates come from counters, and Prometheus makes its own; the pages have each of
/// them in a table.
const RATES: [(&str, &str); 10] = [
    ("introductions_per_s", "Introductions"),
    ("introductions_dropped_per_s", "Introductions dropped"),
    ("replays_per_s", "Replays dropped"),
    ("rendezvous_failed_per_s", "Clients not met"),
    ("clients_met_per_s", "Clients met"),
    ("circuits_closed_per_s", "Circuits closed to make room"),
    ("streams_per_s", "Streams opened"),
    ("requests_per_s", "HTTP requests"),
    ("requests_limited_per_s", "(429)"),
    ("server_errors_per_s", "(5xx)"),
];

/// A Snapshot in which nothing is missing.
fn everything() -> Snapshot {
    let took = Histogram::default();
    took.observe(Duration::from_millis(70));
    took.observe(Duration::from_secs(90));
    let activity = Activity {
        rendezvous_direct: 22,
        introductions_dropped_by: BTreeMap::from([("rate".to_owned(), 2)]),
        rendezvous_failed_by: BTreeMap::from([("closed".to_owned(), 3)]),
        ..Activity::default()
    };
    let local = Backend {
        published_intro_points: 2,
        activity,
        ..example::backend("local-0", BackendKind::Local, BackendState::Up)
    };
    let remote = Backend {
        address: Some("def.onion".into()),
        reason: Some("half dead".into()),
        relays: vec!["AA".into()],
        link: Some(LinkState::Down),
        last_seen: Some(EPOCH),
        revision: Some(77),
        ..example::backend("berlin", BackendKind::Remote, BackendState::Stale)
    };
    let said = |name: &str, operator, configured_weight: Option<u16>| Backend {
        operator,
        configured_weight,
        operator_since: Some(EPOCH),
        operator_by: Some(1000),
        weight_since: configured_weight.map(|_| Timestamp(EPOCH.0 + Duration::from_secs(86_400))),
        weight_by: configured_weight.map(|_| 2000),
        ..example::backend(name, BackendKind::Remote, BackendState::Up)
    };
    let mut descriptor =
        example::descriptor(vec![example::hsdir("AABBCCDDEEFF", Some("disk full"))]);
    descriptor.distinct = true;
    descriptor.canary = Some(Canary { checked_at: EPOCH, outcome: CanaryOutcome::Foreign });
    let origin = OriginStatus {
        name: "http://10.0.0.7".into(),
        reason: Some("refused".into()),
        in_flight_limit: 32,
        seconds: took.durations(),
        median_seconds: Some(0.1),
        p95_seconds: Some(0.2),
        ..OriginStatus::default()
    };
    let http = HttpStatus {
        failures: BTreeMap::from([("too_many".to_owned(), 3)]),
        seconds: took.durations(),
        origins: vec![origin],
        ..HttpStatus::default()
    };
    let load = Load {
        dropped_by_per_s: BTreeMap::from([("rate".to_owned(), 81.0)]),
        introductions_limit_per_s: 200,
        introductions_waiting: 6,
        introductions_waiting_limit: 1536,
        rendezvous_under_way: 5,
        rendezvous_limit: 1024,
        circuits_open: 40,
        circuits_limit: 8192,
        streams_limit_per_circuit: 512,
        pow: Some(Pow {
            effort: 41,
            queue: 7,
            queue_limit: 16384,
            refused: BTreeMap::from([("used".to_owned(), 3)]),
            ..Pow::default()
        }),
        ..Load::default()
    };
    let certificate = CertificateStatus {
        port: "8443".into(),
        number: 2,
        file: "shop.pem".into(),
        names: vec!["www.abc.onion".into()],
        not_before: EPOCH,
        not_after: EPOCH,
        self_signed: true,
        error: Some("no private key".into()),
    };
    let backends = vec![
        local,
        remote,
        said("out", Word::Maintenance, None),
        said("light", Word::Ready, Some(3)),
    ];
    let service = Service {
        problems: vec!["a thief".into()],
        backends_file: Some(Reload { at: EPOCH, ok: false, error: Some("no such list".into()) }),
        several_publishers: true,
        anonymity: Anonymity::NotAnonymous,
        guards: Some(GuardSets {
            sets: 2,
            first_guards: 1,
            overlapping: vec!["local-0".into(), "local-1".into()],
        }),
        bundle: Some(BundleStatus { periods_left: 9, ends: Some(EPOCH) }),
        load,
        http: Some(http),
        certificates: vec![certificate],
        uploads_accepted: 8,
        uploads_failed: 9,
        probe_seconds: took.durations(),
        ..example::service("shop", backends, vec![descriptor])
    };
    Snapshot {
        started: EPOCH,
        reload: Some(Reload { at: EPOCH, ok: false, error: Some("a key is wrong".into()) }),
        tor: TorStatus {
            bootstrap: 1.0,
            message: "guards refuse".into(),
            trouble: Some("guards_down".into()),
            advice: Some("let it connect".into()),
            consensus_valid_until: Some(EPOCH),
            problem: Some("the disk is full".into()),
        },
        tasks: 99,
        handles: Handles {
            open: Some(11),
            limit: 4096,
            clients_open: 12,
            clients_limit: 13,
            direct_open: 21,
            direct_limit: 257,
        },
        cpu_seconds: Some(1.5),
        memory: ProcessMemory { resident: Some(32 << 20), limit: Some(64 << 20) },
        requests: super::snapshot::Requests { under_way: 14, limit: 16384 },
        ..example::snapshot(vec![service])
    }
}

/// Every field that is not null, by its path; the entries of a list, and those of
/// a map whose keys are data, are one.
fn fields(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    const MAPS: [&str; 5] = [
        "introductions_dropped_by",
        "rendezvous_failed_by",
        "failures",
        "refused",
        "dropped_by_per_s",
    ];
    match value {
        Value::Object(entries) => {
            for (name, entry) in entries {
                let is_map = MAPS.iter().any(|map| path.ends_with(map));
                let name = if is_map { "*" } else { name };
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                fields(entry, &path, all);
            }
        }
        Value::Array(entries) => {
            entries.iter().for_each(|entry| fields(entry, &format!("{path}[]"), all));
        }
        Value::Null => {}
        _ => drop(all.insert(path.to_owned())),
    }
}

#[test]
fn every_field_is_seen_where_operators_look() {
    let snapshot = everything();
    let mut all = BTreeSet::new();
    fields(&serde_json::to_value(&snapshot).unwrap(), "", &mut all);
    let mut known: BTreeSet<String> = FIELDS.iter().map(|(path, ..)| (*path).to_owned()).collect();
    for (name, _) in RATES {
        known.insert(format!("services[].load.{name}"));
        known.insert(format!("services[].load.last_minute.{name}"));
    }
    let unknown: Vec<_> = all.difference(&known).collect();
    let gone: Vec<_> = known.difference(&all).collect();
    assert!(unknown.is_empty() && gone.is_empty(), "new: {unknown:?}, gone: {gone:?}");

    let now = Timestamp(EPOCH.0 + Duration::from_secs(30));
    let pages = page::overview(&snapshot, now, Refresh::Itself)
        + &page::service(&snapshot, "shop", now, Refresh::Itself).unwrap();
    // As a reader sees them.
    let pages = pages.replace("&#39;", "'").replace("&amp;", "&");
    let pages: Vec<_> =
        pages.split('<').map(|part| part.split_once('>').unwrap_or_default().1).collect();
    let pages = pages.concat();
    let metrics = metrics::render(snapshot, now).unwrap();
    for (path, metric, on_page) in FIELDS {
        let sampled = metrics
            .lines()
            .any(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' '])));
        assert!(metric.is_empty() || sampled, "{path}: no {metric} in\n{metrics}");
        assert!(pages.contains(on_page), "{path}: no \"{on_page}\" in\n{pages}");
    }
    for (path, on_page) in RATES {
        assert!(pages.contains(on_page), "{path}: no \"{on_page}\" in\n{pages}");
    }
}

#[test]
fn what_is_wrong_is_said_in_every_form() {
    let snapshot = everything();
    let now = Timestamp(EPOCH.0 + Duration::from_secs(30));
    let view = watch::View {
        columns: 200,
        rows: 100,
        order: watch::SortOrder::default(),
        whole_addresses: false,
        paused: false,
    };
    let forms = [
        text::render(&snapshot),
        watch::screen(&snapshot, now, &view).join("\n"),
        page::overview(&snapshot, now, Refresh::Itself).replace("&#39;", "'"),
    ];
    for form in forms {
        for wrong in [
            "Tor: guards refuse: let it connect",
            "the disk is full",
            "a thief",
            "drops 81 introductions/s (limit `rate`)",
            "no client gets through",
            "is in maintenance since",
            "origin http://10.0.0.7 gets no requests: refused",
        ] {
            assert!(form.contains(wrong), "{wrong:?} is not in\n{form}");
        }
    }
    let brief = super::brief::summary(&snapshot);
    assert!(brief.contains("Tor: guards refuse: let it connect"), "{brief}");
}
