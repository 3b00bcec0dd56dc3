//! What is wrong with the certificates of a service, in words?

use std::time::{Duration, SystemTime};

use super::snapshot::CertificateStatus;
use super::words::counted;

/// How long before its end a certificate should be renewed.
pub(crate) const RENEW_BEFORE: Duration = Duration::from_secs(14 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// A line for each certificate that an operator should act on.
pub(crate) fn problems(certificates: &[CertificateStatus], now: SystemTime) -> Vec<String> {
    let mut told: Vec<&str> = Vec::new();
    let mut problems = Vec::new();
    for certificate in certificates {
        let CertificateStatus { port, not_before, not_after, .. } = certificate;
        if let Some(error) = certificate.error.as_ref().filter(|_| !told.contains(&port.as_str())) {
            told.push(port);
            problems.push(format!(
                "the certificate of port {port} was replaced by one that cannot be used, and stays \
                 as it was: {error}"
            ));
        }
        if let Some(what) = validity(not_before.0, not_after.0, now) {
            problems.push(format!("the certificate of port {port} {what}"));
        }
    }
    problems
}

/// What time makes of a certificate; `None`: it is valid, and will be for some time.
pub(crate) fn validity(
    not_before: SystemTime,
    not_after: SystemTime,
    now: SystemTime,
) -> Option<String> {
    let moment = humantime::format_rfc3339_seconds;
    match not_after.duration_since(now) {
        Err(_) => Some(format!("expired at {}: clients refuse it", moment(not_after))),
        _ if now < not_before => Some(format!(
            "is not valid before {}: clients refuse it until then",
            moment(not_before)
        )),
        Ok(left) if left < RENEW_BEFORE => {
            let days = counted(left.as_secs() / DAY, "day");
            Some(format!("expires in {days}, at {}: renew it", moment(not_after)))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::snapshot::Timestamp;

    fn days(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY)
    }

    #[test]
    fn an_operator_hears_of_it_from_14_days_before_the_end_on() {
        let said = |now| validity(days(10), days(100), now);
        assert_eq!(said(days(86)), None);
        let soon = days(86) + Duration::from_secs(1);
        assert_eq!(said(soon).unwrap(), "expires in 13 days, at 1970-04-11T00:00:00Z: renew it");
        assert!(
            said(days(100) + Duration::from_secs(1)).unwrap().starts_with("expired at 1970-04-11")
        );
        assert!(said(days(9)).unwrap().starts_with("is not valid before 1970-01-11"));
    }

    #[test]
    fn a_replacement_that_cannot_be_used_is_told_once_a_port() {
        let certificate = |port: &str| CertificateStatus {
            port: port.into(),
            number: 1,
            file: "c.pem".into(),
            names: Vec::new(),
            not_before: Timestamp(days(0)),
            not_after: Timestamp(days(100)),
            self_signed: false,
            error: Some("no key".into()),
        };
        let certificates = ["443", "443", "8443"].map(certificate);
        let said = problems(&certificates, days(1));
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("port 443") && said[0].ends_with("stays as it was: no key"));
    }
}
