//! What the log says of the Tor client: progress, what keeps it from coming up,
//! and when that is over.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::now;
use crate::tor::Trouble;
use crate::tor::bootstrap::{BootstrapView, Tor};

use super::news::News;

/// How often to look at the progress.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Trouble that goes on is logged again, no more often than this.
const AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);

/// Logs for ever.
pub(super) async fn tell(tor: Tor, tell: Arc<dyn Fn(News) + Send + Sync>) -> Infallible {
    let mut told = LastLogged::default();
    let mut at_the_terminal = String::new();
    loop {
        let view = tor.view();
        told.look(&view, now().monotonic);
        let news = progress(&view);
        if news != at_the_terminal {
            tell(News::Progress(news.clone()));
            at_the_terminal = news;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How far it is, for a terminal.
fn progress(view: &BootstrapView) -> String {
    let percent = view.fraction.clamp(0.0, 1.0) * 100.0;
    match (&view.trouble, view.fraction >= 1.0) {
        (Some(_), _) => format!("Tor: {}", view.in_words()),
        (None, true) => "Tor is ready".to_owned(),
        (None, false) => format!("Tor is at {percent:.0} %: {}", view.step),
    }
}

/// What was logged last.
#[derive(Debug, Default)]
struct LastLogged {
    /// Tenths of the way to a usable client.
    tenths: Option<u8>,
    /// The trouble, and when.
    trouble: Option<(Trouble, Instant)>,
}

impl LastLogged {
    /// A line for what has changed.
    fn look(&mut self, view: &BootstrapView, now: Instant) {
        self.look_at_trouble(view, now);
        let percent = view.fraction.clamp(0.0, 1.0) * 100.0;
        let tenths = (0..=10).rev().find(|tenth| percent >= f32::from(*tenth) * 10.0);
        let ready = view.fraction >= 1.0;
        if tenths > self.tenths {
            match ready {
                true => tracing::info!("Tor is ready"),
                false if view.trouble.is_none() => {
                    tracing::info!("Tor is at {percent:.0} %: {}", view.step);
                }
                false => {}
            }
            self.tenths = tenths;
        } else if self.tenths == Some(10) && !ready {
            self.tenths = tenths;
            // What is wrong is said as soon as it is known.
            tracing::warn!("Tor is no longer ready; looking for a new network directory");
        }
    }

    /// While Tor cannot be used nobody reaches any service, which is an error.
    fn look_at_trouble(&mut self, view: &BootstrapView, now: Instant) {
        match (&self.trouble, &view.trouble) {
            (None, None) => {}
            (Some((told, _)), None) => {
                tracing::info!(trouble = told.kind, "no longer: {}", told.message);
                self.trouble = None;
            }
            (Some((told, at)), Some(trouble))
                if told.kind == trouble.kind
                    && now.saturating_duration_since(*at) < AGAIN_AFTER => {}
            (_, Some(trouble)) => {
                let Trouble { kind, message, advice } = trouble;
                match view.fraction >= 1.0 {
                    true => tracing::warn!(trouble = kind, "{message}: {advice}"),
                    false => {
                        tracing::error!(trouble = kind, "Tor cannot be used: {message}: {advice}");
                    }
                }
                self.trouble = Some((trouble.clone(), now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::logged::lines;

    fn view(fraction: f32, trouble: Option<Trouble>) -> BootstrapView {
        BootstrapView { fraction, step: "fetching", trouble, valid_until: None, problem: None }
    }

    fn slow(message: &str) -> Option<Trouble> {
        Some(Trouble { kind: "clock", message: message.into(), advice: "set it right".into() })
    }

    #[test]
    fn trouble_is_an_error_while_tor_cannot_be_used_and_is_said_again_now_and_then() {
        let mut told = LastLogged::default();
        let start = now().monotonic;
        let mut look = |minute: u64, view: BootstrapView| {
            lines(|| told.look(&view, start + Duration::from_secs(60 * minute)))
        };
        let error = "ERROR Tor cannot be used: 3 days slow: set it right trouble=\"clock\"";
        assert_eq!(look(0, view(0.05, slow("3 days slow"))), [error]);
        assert_eq!(look(9, view(0.05, slow("4 days slow"))), [""; 0]);
        assert_eq!(look(10, view(0.05, slow("3 days slow"))), [error]);
        assert_eq!(
            look(11, view(1.0, None)),
            ["INFO no longer: 3 days slow trouble=\"clock\"", "INFO Tor is ready"]
        );
        assert_eq!(
            look(12, view(1.0, slow("3 hours slow"))),
            ["WARN 3 hours slow: set it right trouble=\"clock\""]
        );
    }

    #[test]
    fn progress_is_said_by_the_tenth_and_being_ready_once() {
        let mut told = LastLogged::default();
        let mut look = |fraction| lines(|| told.look(&view(fraction, None), now().monotonic));
        assert_eq!(look(0.0), ["INFO Tor is at 0 %: fetching"]);
        assert_eq!(look(0.05), [""; 0]);
        assert_eq!(look(0.85), ["INFO Tor is at 85 %: fetching"]);
        assert_eq!(look(1.0), ["INFO Tor is ready"]);
        assert_eq!(look(1.0), [""; 0]);
        let lost = "WARN Tor is no longer ready; looking for a new network directory";
        assert_eq!(look(0.15), [lost]);
        assert_eq!(look(0.15), [""; 0]);
        assert_eq!(look(1.0), ["INFO Tor is ready"]);
    }
}
