//! The certificates of ports.

use prometheus_client::registry::Unit;

use super::family::{Family, Labels, flag, moment};
use crate::observe::Snapshot;
use crate::observe::snapshot::CertificateStatus;

/// The numbers that certificates have, as labels write them, each at its place.
pub(super) fn numbers(snapshot: &Snapshot) -> Vec<String> {
    let all = snapshot.services.iter().flat_map(|service| &service.certificates);
    let most = all.map(|certificate| certificate.number).max().unwrap_or_default();
    (0..=most.min(99)).map(|number| number.to_string()).collect()
}

/// Until when they are valid, and whether what their files hold is in force.
pub(super) fn families<'a>(snapshot: &'a Snapshot, numbers: &'a [String]) -> Vec<Family<'a>> {
    let all = || {
        snapshot.services.iter().flat_map(|service| {
            service.certificates.iter().map(|it| (service.nickname.as_str(), it))
        })
    };
    let labels = |service: &'a str, it: &'a CertificateStatus| -> Labels<'a> {
        let number = usize::try_from(it.number).ok().and_then(|it| numbers.get(it));
        let number = number.map_or("", String::as_str);
        vec![("service", service), ("port", &it.port), ("certificate", number)]
    };
    vec![
        Family::new(
            "onionbraid_certificate_not_after",
            "When a certificate of a port expires, in seconds since 1970",
            all().map(|(service, it)| (labels(service, it), moment(it.not_after))),
        )
        .in_unit(Unit::Seconds),
        Family::new(
            "onionbraid_certificate_not_before",
            "Since when it is valid",
            all().map(|(service, it)| (labels(service, it), moment(it.not_before))),
        )
        .in_unit(Unit::Seconds),
        Family::new(
            "onionbraid_certificate_self_signed",
            "1: no authority vouches for it",
            all().map(|(service, it)| (labels(service, it), flag(it.self_signed))),
        ),
        Family::new(
            "onionbraid_certificate_ok",
            "1: what its files hold now is in force",
            all().map(|(service, it)| (labels(service, it), flag(it.error.is_none()))),
        ),
    ]
}
