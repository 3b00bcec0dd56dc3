//! The Snapshot for Prometheus, as OpenMetrics text.
//!
//! Names are `onionbraid_<noun>_<unit>`, with `_total` for counters, and a
//! contract as those of the Snapshot. No label holds an onion address: what
//! scrapes it and what stores it need not know which sites are served here.

mod backends;
mod bundles;
mod certificates;
mod family;
mod guards;
mod pow;

use std::fmt::{self, Error};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::{Registry, Unit};

use super::Snapshot;
use super::glance::{Glance, current};
use super::snapshot::{
    CanaryOutcome, HsdirState, HttpStatus, OriginState, OriginStatus, Service, ServiceState,
    Timestamp,
};
use super::troubles;
use family::{Family, Labels, SampleValue, flag, gauge, moment};

/// What [`render`] returns, for a `Content-Type` field.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Renders a Snapshot.
///
/// # Errors
///
/// None: writing to a `String` does not fail.
pub fn render(snapshot: Snapshot, now: Timestamp) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { snapshot, now }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// One moment, to be written down.
#[derive(Debug)]
struct Scrape {
    snapshot: Snapshot,
    now: Timestamp,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Self { snapshot, now } = self;
        let numbers = certificates::numbers(snapshot);
        let families = process(snapshot)
            .into_iter()
            .chain(services(snapshot, *now))
            .chain(backends::families(snapshot))
            .chain(bundles::families(snapshot))
            .chain(guards::families(snapshot))
            .chain(proxies(snapshot))
            .chain(origins(snapshot))
            .chain(certificates::families(snapshot, &numbers));
        families.into_iter().try_for_each(|family| family.write(&mut encoder))
    }
}

/// One sample without labels.
fn one<'a>(value: SampleValue<'a>) -> Option<(Labels<'a>, SampleValue<'a>)> {
    Some((Vec::new(), value))
}

/// The process and its Tor client.
fn process(snapshot: &Snapshot) -> Vec<Family<'_>> {
    let Snapshot { handles, memory, requests, tor, .. } = snapshot;
    let known = |value: Option<u64>| value.and_then(|value| one(gauge(value)));
    let build = vec![("version", snapshot.version.as_str())];
    let problems = usize::from(tor.trouble.is_some()) + troubles::of_process(snapshot).len();
    vec![
        Family::new("onionbraid_build", "Version of the program", [(build, gauge(1))]),
        Family::new(
            "onionbraid_ready",
            "1: clients can reach every service",
            one(flag(snapshot.ready)),
        ),
        Family::new(
            "onionbraid_configuration_reload_ok",
            "1: the last reload of the configuration is in force",
            snapshot.reload.as_ref().and_then(|reload| one(flag(reload.ok))),
        ),
        Family::new(
            "onionbraid_tor_bootstrap_ratio",
            "How far the Tor client is with starting, 0 to 1",
            one(SampleValue::Gauge(tor.bootstrap.into())),
        ),
        Family::new(
            "onionbraid_tor_trouble",
            "1: this is wrong with the Tor client; the status says what to do",
            tor.trouble.as_deref().map(|trouble| (vec![("trouble", trouble)], gauge(1))),
        ),
        Family::new(
            "onionbraid_problems",
            "What an operator should act on that is no single service's; see the status",
            one(gauge(problems as u64)),
        ),
        Family::new(
            "onionbraid_consensus_valid_until",
            "When the network directory ends to be valid, in seconds since 1970",
            tor.consensus_valid_until.and_then(|at| one(moment(at))),
        )
        .in_unit(Unit::Seconds),
        Family::new(
            "onionbraid_client_file_handles_open",
            "File handles that clients' streams and files have",
            one(gauge(handles.clients_open)),
        ),
        Family::new(
            "onionbraid_client_file_handles_limit",
            "File handles that clients' streams and files may have",
            one(gauge(handles.clients_limit)),
        ),
        Family::new(
            "onionbraid_direct_connections_open",
            "Relays that a process that does not hide is connected to directly",
            one(gauge(handles.direct_open)),
        ),
        Family::new(
            "onionbraid_direct_connections_limit",
            "How many may be; 0 in a process that hides",
            one(gauge(handles.direct_limit)),
        ),
        Family::new(
            "onionbraid_http_requests_under_way",
            "HTTP requests of all services that are under way",
            one(gauge(requests.under_way)),
        ),
        Family::new(
            "onionbraid_http_requests_under_way_limit",
            "How many may be",
            one(gauge(requests.limit)),
        ),
        Family::new(
            "onionbraid_tasks_alive",
            "Tasks of the runtime",
            one(gauge(snapshot.tasks as u64)),
        ),
        Family::new("process_open_fds", "Open file descriptors", known(handles.open)),
        Family::new("process_max_fds", "How many may be open", one(gauge(handles.limit))),
        Family::new("process_resident_memory", "Resident memory", known(memory.resident))
            .in_unit(Unit::Bytes),
        Family::new("onionbraid_memory_limit", "How much memory it may have", known(memory.limit))
            .in_unit(Unit::Bytes),
        Family::new(
            "process_cpu",
            "Processor time, in user and kernel mode",
            snapshot.cpu_seconds.and_then(|seconds| one(SampleValue::Seconds(seconds))),
        )
        .in_unit(Unit::Seconds),
        Family::new(
            "process_start_time",
            "When it started, in seconds since 1970",
            one(moment(snapshot.started)),
        )
        .in_unit(Unit::Seconds),
    ]
}

/// A sample of each service.
fn each<'a>(
    snapshot: &'a Snapshot,
    value: impl Fn(&'a Service) -> SampleValue<'a>,
) -> Vec<(Labels<'a>, SampleValue<'a>)> {
    let sample = |service: &'a Service| (vec![("service", &*service.nickname)], value(service));
    snapshot.services.iter().map(sample).collect()
}

fn services(snapshot: &Snapshot, now: Timestamp) -> Vec<Family<'_>> {
    let age = |service: &Service| {
        let at = current(service)?.published_at?;
        Some(now.0.duration_since(at.0).unwrap_or_default().as_secs_f64())
    };
    let ages = snapshot.services.iter().filter_map(|service| {
        Some((vec![("service", &*service.nickname)], SampleValue::Gauge(age(service)?)))
    });
    let uploads = snapshot.services.iter().flat_map(|service| {
        [("accepted", service.uploads_accepted), ("failed", service.uploads_failed)].map(
            |(result, count)| {
                (
                    vec![("service", &*service.nickname), ("result", result)],
                    SampleValue::Counter(count),
                )
            },
        )
    });
    let load = |value: fn(&Service) -> u64| each(snapshot, move |service| gauge(value(service)));
    vec![
        Family::new(
            "onionbraid_service_reachable",
            "1: HSDirs hold a descriptor with introduction points that are believed to work",
            each(snapshot, |service| flag(service.state == ServiceState::Published)),
        ),
        Family::new(
            "onionbraid_service_problems",
            "What an operator should act on and no other metric says; see the status",
            load(|service| service.problems.len() as u64),
        ),
        Family::new("onionbraid_descriptor_age", "Since an HSDir last took the descriptor", ages)
            .in_unit(Unit::Seconds),
        Family::new(
            "onionbraid_descriptor_introduction_points",
            "Introduction points in the current descriptor",
            load(|service| Glance::at(service).points as u64),
        ),
        Family::new(
            "onionbraid_hsdirs",
            "HSDirs of the current descriptor, by what became of the upload",
            hsdirs(snapshot),
        ),
        Family::new(
            "onionbraid_descriptor_check",
            "1: what HSDirs were last seen to hold when asked as clients ask",
            checks(snapshot),
        ),
        Family::new("onionbraid_hsdir_uploads", "Uploads of descriptors to HSDirs", uploads),
        Family::new(
            "onionbraid_probe",
            "How long successful probes took",
            each(snapshot, |service| SampleValue::Histogram(&service.probe_seconds)),
        )
        .in_unit(Unit::Seconds),
        Family::new(
            "onionbraid_introductions_limit_per_second",
            "Introductions a second that are looked at",
            load(|service| service.load.introductions_limit_per_s),
        ),
        Family::new(
            "onionbraid_introductions_waiting",
            "Introductions that wait to be looked at",
            load(|service| service.load.introductions_waiting),
        ),
        Family::new(
            "onionbraid_introductions_waiting_limit",
            "How many may wait; more are dropped",
            load(|service| service.load.introductions_waiting_limit),
        ),
        Family::new(
            "onionbraid_rendezvous_under_way",
            "Clients that are being met",
            load(|service| service.load.rendezvous_under_way),
        ),
        Family::new(
            "onionbraid_rendezvous_under_way_limit",
            "How many may be",
            load(|service| service.load.rendezvous_limit),
        ),
        Family::new(
            "onionbraid_circuits_open",
            "Circuits of clients",
            load(|service| service.load.circuits_open),
        ),
        Family::new(
            "onionbraid_circuits_open_limit",
            "How many may be open",
            load(|service| service.load.circuits_limit),
        ),
        Family::new(
            "onionbraid_streams_open",
            "Streams of clients",
            load(|service| service.load.streams_open),
        ),
        Family::new(
            "onionbraid_streams_per_circuit_limit",
            "Streams that one circuit may have open",
            load(|service| service.load.streams_limit_per_circuit),
        ),
    ]
    .into_iter()
    .chain(pow::families(snapshot))
    .collect()
}

/// How many HSDirs of the current descriptor are in each state.
fn hsdirs(snapshot: &Snapshot) -> Vec<(Labels<'_>, SampleValue<'_>)> {
    let states = [
        ("pending", HsdirState::Pending),
        ("uploading", HsdirState::Uploading),
        ("uploaded", HsdirState::Uploaded),
        ("failed", HsdirState::Failed),
    ];
    let of = |service| {
        let hsdirs = current(service).map_or(&[][..], |descriptor| &descriptor.hsdirs);
        states.map(|(name, state)| {
            let count = hsdirs.iter().filter(|hsdir| hsdir.state == state).count();
            (vec![("service", &*service.nickname), ("state", name)], gauge(count as u64))
        })
    };
    snapshot.services.iter().flat_map(of).collect()
}

/// What the HSDirs of the current descriptor were seen to hold; nothing where none
/// has been asked.
fn checks(snapshot: &Snapshot) -> Vec<(Labels<'_>, SampleValue<'_>)> {
    let outcomes = [
        ("ok", CanaryOutcome::Ok),
        ("unreachable", CanaryOutcome::Unreachable),
        ("old", CanaryOutcome::Old),
        ("missing", CanaryOutcome::Missing),
        ("foreign", CanaryOutcome::Foreign),
    ];
    let checked = snapshot.services.iter().filter_map(|service| {
        let canary = current(service)?.canary?;
        Some(outcomes.map(|(name, outcome)| {
            let labels = vec![("service", &*service.nickname), ("outcome", name)];
            (labels, flag(canary.outcome == outcome))
        }))
    });
    checked.flatten().collect()
}

/// Samples of each service that has an HTTP reverse proxy.
fn each_proxy<'a>(
    snapshot: &'a Snapshot,
    label: &'static str,
    samples: impl Fn(&'a HttpStatus) -> Vec<(&'a str, SampleValue<'a>)>,
) -> Vec<(Labels<'a>, SampleValue<'a>)> {
    let mut all = Vec::new();
    for service in &snapshot.services {
        for (name, value) in service.http.iter().flat_map(&samples) {
            all.push((vec![("service", &*service.nickname), (label, name)], value));
        }
    }
    all
}

fn proxies(snapshot: &Snapshot) -> Vec<Family<'_>> {
    let classes = |http: &HttpStatus| {
        let classes = http.by_class;
        let counts = [
            ("1xx", classes.informational),
            ("2xx", classes.success),
            ("3xx", classes.redirection),
            ("4xx", classes.client_error),
            ("5xx", classes.server_error),
        ];
        Vec::from(counts.map(|(name, count)| (name, SampleValue::Counter(count))))
    };
    let services = snapshot.services.iter();
    let seconds = services.filter_map(|service| {
        let http = service.http.as_ref()?;
        Some((vec![("service", &*service.nickname)], SampleValue::Histogram(&http.seconds)))
    });
    vec![
        Family::new(
            "onionbraid_http_requests",
            "HTTP requests that were answered, by the class of the status",
            each_proxy(snapshot, "class", classes),
        ),
        Family::new(
            "onionbraid_http_failures",
            "HTTP requests that failed, by the reason",
            each_proxy(snapshot, "reason", |http| {
                http.failures
                    .iter()
                    .map(|(name, count)| (name.as_str(), SampleValue::Counter(*count)))
                    .collect()
            }),
        ),
        Family::new("onionbraid_http_request", "Until the head of the answer", seconds)
            .in_unit(Unit::Seconds),
    ]
}

fn origins(snapshot: &Snapshot) -> Vec<Family<'_>> {
    let origins = |value: fn(&OriginStatus) -> SampleValue<'_>| {
        each_proxy(snapshot, "origin", move |http| {
            http.origins.iter().map(|origin| (origin.name.as_str(), value(origin))).collect()
        })
    };
    vec![
        Family::new(
            "onionbraid_origin_up",
            "1: the origin gets requests and answers them",
            origins(|origin| flag(origin.state == OriginState::Up)),
        ),
        Family::new(
            "onionbraid_origin_requests",
            "Requests that were sent to the origin",
            origins(|origin| SampleValue::Counter(origin.requests)),
        ),
        Family::new(
            "onionbraid_origin_failures",
            "Requests and checks that failed there",
            origins(|origin| SampleValue::Counter(origin.failures)),
        ),
        Family::new(
            "onionbraid_origin_requests_under_way",
            "Requests that are under way there",
            origins(|origin| gauge(origin.in_flight)),
        ),
        Family::new(
            "onionbraid_origin_requests_under_way_limit",
            "How many may be",
            origins(|origin| gauge(origin.in_flight_limit)),
        ),
        Family::new(
            "onionbraid_origin_request",
            "Until the head of the origin's answer",
            origins(|origin| SampleValue::Histogram(&origin.seconds)),
        )
        .in_unit(Unit::Seconds),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::observe::example::{self, EPOCH};
    use crate::observe::snapshot::{Backend, BackendKind, BackendState};
    use onionbraid_proxy::histogram::Histogram;

    const ADDRESS: &str = "eu5irynzocmhu6k3x5nbaxvjeixp3o7ksk2pglk5aqjvjmyjrrybfjyd.onion";

    fn scene() -> Snapshot {
        let mut local = example::backend("local-0", BackendKind::Local, BackendState::Up);
        local.activity.introductions_dropped_by = [("rate".to_owned(), 2)].into();
        let remote = Backend {
            address: Some(ADDRESS.into()),
            intro_points: 5,
            ..example::backend("berlin", BackendKind::Remote, BackendState::Down)
        };
        let descriptor = example::descriptor(vec![example::hsdir("AA", None)]);
        let took = Histogram::default();
        took.observe(Duration::from_millis(70));
        took.observe(Duration::from_secs(90));
        let origin = OriginStatus {
            name: "unix:/run/a \"b\"".into(),
            seconds: took.durations(),
            ..OriginStatus::default()
        };
        let http = HttpStatus {
            failures: BTreeMap::from([("too_many".to_owned(), 3)]),
            seconds: took.durations(),
            origins: vec![origin],
            ..HttpStatus::default()
        };
        let shop = Service {
            address: ADDRESS.into(),
            http: Some(http),
            uploads_accepted: 8,
            ..example::service("shop", vec![local, remote], vec![descriptor])
        };
        example::snapshot(vec![shop])
    }

    fn text(snapshot: Snapshot) -> String {
        render(snapshot, Timestamp(EPOCH.0 + Duration::from_secs(30))).unwrap()
    }

    #[test]
    fn what_dashboards_and_alerts_rest_on_is_there() {
        let text = text(scene());
        for line in [
            "onionbraid_service_reachable{service=\"shop\"} 1.0",
            "onionbraid_backend_state{service=\"shop\",backend=\"local-0\",state=\"up\"} 1.0",
            "onionbraid_backend_state{service=\"shop\",backend=\"berlin\",state=\"down\"} 1.0",
            "onionbraid_backend_state{service=\"shop\",backend=\"berlin\",state=\"up\"} 0.0",
            "onionbraid_backend_introduction_points{service=\"shop\",backend=\"berlin\",published=\"true\"} 3.0",
            "onionbraid_backend_introduction_points{service=\"shop\",backend=\"berlin\",published=\"false\"} 2.0",
            "onionbraid_introductions_total{service=\"shop\",backend=\"local-0\"} 17",
            "onionbraid_introductions_dropped_total{service=\"shop\",backend=\"local-0\",reason=\"rate\"} 2",
            "onionbraid_hsdir_uploads_total{service=\"shop\",result=\"accepted\"} 8",
            "onionbraid_descriptor_age_seconds{service=\"shop\"} 30.0",
            "onionbraid_http_requests_total{service=\"shop\",class=\"2xx\"} 0",
            "onionbraid_http_failures_total{service=\"shop\",reason=\"too_many\"} 3",
            "onionbraid_http_request_seconds_bucket{le=\"0.1\",service=\"shop\"} 1",
            "onionbraid_http_request_seconds_bucket{le=\"+Inf\",service=\"shop\"} 2",
            "onionbraid_http_request_seconds_count{service=\"shop\"} 2",
            "onionbraid_origin_up{service=\"shop\",origin=\"unix:/run/a \\\"b\\\"\"} 1.0",
            "onionbraid_tor_bootstrap_ratio 1.0",
            "process_start_time_seconds 0.0",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\nis not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn no_label_names_an_address_and_a_backend_elsewhere_has_no_counters_of_ours() {
        let text = text(scene());
        assert!(!text.contains(".onion") && !text.contains(&ADDRESS[..56]), "{text}");
        assert!(
            !text.contains("onionbraid_introductions_total{service=\"shop\",backend=\"berlin\"")
        );
    }

    #[test]
    fn every_family_is_announced_once_and_has_a_sample() {
        let text = text(scene());
        let mut announced: Vec<_> =
            text.lines().filter_map(|it| it.strip_prefix("# TYPE ")).collect();
        let before = announced.len();
        announced.sort_unstable();
        announced.dedup();
        assert_eq!(announced.len(), before);
        for family in announced {
            let name = family.split(' ').next().unwrap();
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn with_nothing_known_there_is_no_sample_that_says_more() {
        let text = text(example::snapshot(Vec::new()));
        assert!(
            !text.contains("process_open_fds") && !text.contains("service_reachable"),
            "{text}"
        );
    }
}
