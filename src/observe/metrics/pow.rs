//! Proof of work for Prometheus: what clients are asked for, and what comes of it.
//! A service that asks for nothing has no samples here.

use super::family::{Family, Labels, SampleValue};
use crate::observe::snapshot::{Pow, Snapshot};

/// All of them.
pub(super) fn families(snapshot: &Snapshot) -> Vec<Family<'_>> {
    let asking = || {
        let services = snapshot.services.iter();
        services.filter_map(|service| Some((&*service.nickname, service.load.pow.as_ref()?)))
    };
    let gauge = |value: fn(&Pow) -> u64| -> Vec<(Labels<'_>, SampleValue<'_>)> {
        let sample =
            |(service, pow)| (vec![("service", service)], SampleValue::Gauge(value(pow) as f64));
        asking().map(sample).collect()
    };
    let counter = |value: fn(&Pow) -> u64| -> Vec<(Labels<'_>, SampleValue<'_>)> {
        let sample =
            |(service, pow)| (vec![("service", service)], SampleValue::Counter(value(pow)));
        asking().map(sample).collect()
    };
    let refused = asking().flat_map(|(service, pow)| {
        pow.refused.iter().map(move |(reason, count)| {
            (vec![("service", service), ("reason", reason.as_str())], SampleValue::Counter(*count))
        })
    });
    vec![
        Family::new(
            "onionbraid_pow_effort",
            "Work that clients are asked for (C tor: tor_hs_pow_suggested_effort)",
            gauge(|pow| pow.effort.into()),
        ),
        Family::new(
            "onionbraid_pow_queue_requests",
            "Introductions that wait for their turn (C tor: tor_hs_rdv_pow_pqueue_count)",
            gauge(|pow| pow.queue),
        ),
        Family::new(
            "onionbraid_pow_queue_requests_limit",
            "How many may",
            gauge(|pow| pow.queue_limit),
        ),
        Family::new(
            "onionbraid_pow_trimmed_effort",
            "The greatest effort that was dropped in the last minute",
            gauge(|pow| pow.trimmed_effort.into()),
        ),
        Family::new(
            "onionbraid_pow_trimmed",
            "Introductions dropped for better ones",
            counter(|pow| pow.trimmed),
        ),
        Family::new(
            "onionbraid_pow_expired",
            "Introductions dropped because they had waited too long",
            counter(|pow| pow.expired),
        ),
        Family::new(
            "onionbraid_pow_solutions_verified",
            "Solutions that were right and counted",
            counter(|pow| pow.verified),
        ),
        Family::new("onionbraid_pow_solutions_refused", "Solutions that were not", refused),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::render;
    use super::*;
    use crate::observe::snapshot::{Load, Service, Timestamp};

    #[test]
    fn a_service_that_asks_for_work_says_so_and_others_are_silent() {
        let service = |nickname: &str, pow| Service {
            nickname: nickname.to_owned(),
            load: Load { pow, ..Load::default() },
            ..Service::default()
        };
        let refused = BTreeMap::from([("used".to_owned(), 3)]);
        let pow = Pow { effort: 40, queue: 7, queue_limit: 100, refused, ..Pow::default() };
        let services = vec![service("shop", Some(pow)), service("blog", None)];
        let snapshot = Snapshot { services, ..Snapshot::default() };
        let text = render(snapshot, Timestamp(std::time::UNIX_EPOCH)).unwrap();
        for line in [
            "onionbraid_pow_effort{service=\"shop\"} 40",
            "onionbraid_pow_queue_requests{service=\"shop\"} 7",
            "onionbraid_pow_solutions_refused_total{service=\"shop\",reason=\"used\"} 3",
        ] {
            assert!(text.lines().any(|it| it.starts_with(line)), "{line}\n{text}");
        }
        let of_blog = text.lines().filter(|line| line.starts_with("onionbraid_pow"));
        assert_eq!(of_blog.filter(|line| line.contains("blog")).count(), 0);
    }
}
