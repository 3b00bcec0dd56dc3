//! The certificates of ports: looked at every second, put into force when they were
//! replaced, and told of when they end soon.
//!
//! A replacement that cannot be used changes nothing; status says what is wrong, and
//! the log once. It is tried again, changed or not.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fs_mistrust::Mistrust;

use super::file_looks::{EVERY, FilesSeen};
use super::file_tries::FileTries;
use crate::causes::in_one_line;
use crate::clock::now;
use crate::observe::certificates::validity;
use crate::observe::snapshot::{self, Timestamp};
use crate::throttle::Throttle;
use crate::tor::keys::check_opened;
use onionbraid_proxy::tls::{KeyCheck, Reread, Tls};

/// The log is told of a certificate that ends soon, or has ended, no more often.
const REMIND_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Keys of certificates have to be as private as those of services.
pub(super) fn key_check(mistrust: &Mistrust) -> KeyCheck {
    let mistrust = mistrust.clone();
    KeyCheck::new(move |opened, path| {
        check_opened(opened, path, &mistrust).map_err(|error| in_one_line(&error))
    })
}

/// Looks at the files of a port, again and again.
pub(super) async fn watch(target: String, tls: Arc<Tls>) -> Infallible {
    let mut next = tokio::time::interval(EVERY);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut seen, mut reminded) = (FilesSeen::default(), Throttle::new(REMIND_EVERY));
    let (mut tries, mut again_at) = (FileTries::default(), None::<Instant>);
    loop {
        next.tick().await;
        let (looked_at, mut before) = (Arc::clone(&tls), std::mem::take(&mut seen));
        if again_at.take_if(|at| *at <= now().monotonic).is_some() {
            before.forget();
        }
        // The disk may be slow, or another machine's.
        let looked = tokio::task::spawn_blocking(move || look(&looked_at, before)).await;
        let Ok((after, found)) = looked else { continue };
        seen = after;
        match found {
            Some(Reread::Replaced) => {
                tries.succeeded();
                tracing::info!(served = %target, "certificate replaced");
            }
            Some(Reread::Same) => tries.succeeded(),
            Some(Reread::Wrong(problem)) => {
                let failure = tries.failed(&problem, now().monotonic);
                again_at = Some(failure.again_at);
                if failure.is_news {
                    // Names of files may be addresses.
                    tracing::error!(
                        served = %target,
                        "cannot use the replaced certificate; keeping the one in force; the status \
                         says why"
                    );
                }
            }
            None => {}
        }
        remind(&target, &tls, &mut reminded);
    }
}

fn look(tls: &Tls, mut seen: FilesSeen) -> (FilesSeen, Option<Reread>) {
    let files = tls.files().iter();
    let files: Vec<&Path> =
        files.flat_map(|files| [files.certificate.as_path(), files.key.as_path()]).collect();
    let found = seen.read_again(&files, || tls.read_again());
    (seen, found)
}

/// The certificates of these ports, as the status shows them.
pub(super) fn shown(port: &str, tls: &Tls) -> Vec<snapshot::CertificateStatus> {
    let wrong = tls.wrong();
    let certificates = tls.certificates();
    let shown =
        certificates.iter().zip(1..).map(|(certificate, number)| snapshot::CertificateStatus {
            port: port.to_owned(),
            number,
            file: certificate.file.display().to_string(),
            names: certificate.names.clone(),
            not_before: Timestamp(certificate.not_before),
            not_after: Timestamp(certificate.not_after),
            self_signed: certificate.self_signed,
            error: wrong.clone(),
        });
    shown.collect()
}

/// Tells the log of a certificate that should be renewed, now and then.
fn remind(target: &str, tls: &Tls, reminded: &mut Throttle) {
    let now = now();
    let certificates = tls.certificates();
    let due = certificates.iter().find_map(|it| validity(it.not_before, it.not_after, now.wall));
    if let Some(what) = due
        && reminded.permits(now.monotonic).is_some()
    {
        tracing::warn!(served = target, "certificate {what}");
    }
}
