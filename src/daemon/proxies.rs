//! What serves the streams to each port by the rules in force, and what of it
//! survives when the rules change.
//!
//! A rule that stays as it was keeps its proxy: connections to origins, what is
//! known of their health, limits of circuits and counters live on. Streams that
//! are open keep the proxy that they began with.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::observe::snapshot;
use crate::proxy::files::{Files, FilesError};
use crate::proxy::http::{Proxy, Site};
use crate::proxy::origin::Failures;
use crate::proxy::origins::{Origins, OriginsError};
use crate::proxy::pages::{Pages, PagesError};
use crate::proxy::rules::{ProxyRules, ProxyTarget};

/// The rules of a service, and the proxies that they need.
pub(super) struct Proxies {
    /// For the streams that come now.
    in_force: Mutex<InForce>,
}

/// What is in force at one time.
#[derive(Default)]
struct InForce {
    /// The rules.
    rules: Arc<ProxyRules>,
    /// What serves each target of theirs that leads to an origin or to files.
    served: Vec<Arc<Served>>,
}

/// A target and who serves it.
pub(super) struct Served {
    /// The target.
    target: ProxyTarget,
    /// Its proxy; `None`: it needs none, or that could not be set up.
    pub(super) proxy: Option<Arc<Proxy>>,
    /// Which of the origins that bytes are forwarded to did not answer lately.
    pub(super) failures: Failures,
    /// Checks the health of its origins as long as it is there.
    _checks: JoinSet<Infallible>,
}

/// Why a target cannot be served.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    /// Something is wrong with how its origins are reached.
    #[error(transparent)]
    Origins(#[from] OriginsError),
    /// Its directory cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// One of its pages cannot be shown.
    #[error(transparent)]
    Pages(#[from] PagesError),
}

impl Proxies {
    /// For these rules.
    pub(super) fn new(rules: Arc<ProxyRules>) -> Self {
        let proxies = Self { in_force: Mutex::default() };
        proxies.apply(rules);
        proxies
    }

    /// Follows the rules as they change, until nobody changes them any more.
    pub(super) async fn follow(self: Arc<Self>, mut rules: watch::Receiver<Arc<ProxyRules>>) {
        while rules.changed().await.is_ok() {
            let rules = Arc::clone(&rules.borrow_and_update());
            self.apply(rules);
        }
    }

    /// What happens to a stream to this port, and what serves it if that leads
    /// to an origin or to files.
    pub(super) fn target(&self, port: u16) -> (ProxyTarget, Option<Arc<Served>>) {
        let in_force = self.in_force();
        let target = in_force.rules.target(port);
        let served = in_force.served.iter().find(|served| served.target == *target);
        (target.clone(), served.cloned())
    }

    /// What all proxies have done; `None`: there are none.
    pub(super) fn status(&self) -> Option<snapshot::Http> {
        let in_force = self.in_force();
        let proxies = in_force.served.iter().filter_map(|served| served.proxy.as_ref());
        proxies.map(|proxy| proxy.status()).reduce(snapshot::Http::and)
    }

    /// Puts rules in force.
    fn apply(&self, rules: Arc<ProxyRules>) {
        let mut in_force = self.in_force();
        let mut before = std::mem::take(&mut in_force.served);
        for rule in &rules.0 {
            let target = &rule.target;
            let known = in_force.served.iter().any(|served| served.target == *target);
            let forward = matches!(target, ProxyTarget::Forward(_));
            let http = matches!(target, ProxyTarget::Http(_) | ProxyTarget::Files(_));
            if known || !(forward || http) {
                continue;
            }
            let kept = before.iter().position(|served| served.target == *target);
            // What could not be set up may be possible now.
            let kept = kept
                .map(|at| before.swap_remove(at))
                .filter(|kept| forward || kept.proxy.is_some());
            in_force.served.push(kept.unwrap_or_else(|| Arc::new(Served::set_up(target))));
        }
        in_force.rules = rules;
    }

    /// Nothing is left half changed under this lock, whoever panicked.
    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Served {
    /// A target and who serves it from now on.
    fn set_up(target: &ProxyTarget) -> Self {
        let mut checks = JoinSet::new();
        let proxy = proxy(target, &mut checks)
            .inspect_err(|error| tracing::error!(%target, %error, "this port cannot be served"))
            .ok()
            .flatten();
        Self { target: target.clone(), proxy, failures: Failures::default(), _checks: checks }
    }
}

/// The proxy for a target, if it needs one.
fn proxy(
    target: &ProxyTarget,
    checks: &mut JoinSet<Infallible>,
) -> Result<Option<Arc<Proxy>>, SetupError> {
    Ok(match target {
        ProxyTarget::Http(target) => {
            let pages = Pages::new(&target.settings.error_pages)?;
            let origins = Origins::new(&target.origins, &target.settings)?;
            let checked = Arc::clone(&origins);
            checks.spawn(async move { checked.watch().await });
            Some(Proxy::new(Arc::clone(&target.settings), pages, origins))
        }
        ProxyTarget::Files(target) => {
            let pages = Pages::new(&target.settings.error_pages)?;
            let site = Site { files: Files::new(&target.root)?, pages: pages.clone() };
            Some(Proxy::new(Arc::clone(&target.settings), pages, Arc::new(site)))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::rules::{HttpOrigin, HttpTarget, Origin, ProxyRule};
    use crate::proxy::settings::{ErrorPage, HttpSettings};

    fn rule(port: u16, origin_port: u16, settings: HttpSettings) -> ProxyRule {
        let address = Origin::Tcp(([127, 0, 0, 1], origin_port).into());
        let origins = vec![HttpOrigin { address, tls: false }];
        let target = ProxyTarget::Http(HttpTarget { origins, settings: Arc::new(settings) });
        ProxyRule { ports: port..=port, target }
    }

    fn rules(rules: Vec<ProxyRule>) -> Arc<ProxyRules> {
        Arc::new(ProxyRules(rules))
    }

    #[tokio::test]
    async fn a_target_that_stays_keeps_its_proxy_whatever_its_port() {
        let plain = HttpSettings::default;
        let proxies = Proxies::new(rules(vec![rule(80, 8080, plain()), rule(81, 8081, plain())]));
        let proxy = |port| proxies.target(port).1.unwrap().proxy.clone();
        let (first, second) = (proxy(80).unwrap(), proxy(81).unwrap());
        let other = HttpSettings { access_log: true, ..plain() };
        proxies.apply(rules(vec![rule(82, 8080, plain()), rule(81, 8081, other)]));
        assert!(Arc::ptr_eq(&first, &proxy(82).unwrap()));
        assert!(!Arc::ptr_eq(&second, &proxy(81).unwrap()));
        assert_eq!(proxies.target(80).0, ProxyTarget::Destroy);
        assert_eq!(proxies.status().unwrap().origins.len(), 2);
    }

    #[tokio::test]
    async fn a_target_that_cannot_be_set_up_is_tried_again_with_the_next_rules() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("page.html");
        let page = ErrorPage { status: 500..=599, file: file.clone() };
        let settings = HttpSettings { error_pages: vec![page], ..HttpSettings::default() };
        let rules = rules(vec![rule(80, 8080, settings)]);
        let proxies = Proxies::new(Arc::clone(&rules));
        let proxy = || proxies.target(80).1.unwrap().proxy.clone();
        assert!(proxy().is_none() && proxies.status().is_none());
        std::fs::write(file, "<p>Sorry.").unwrap();
        proxies.apply(rules);
        assert!(proxy().is_some());
    }
}
