//! The rules of `proxy_ports` in force, each with what serves its streams, and
//! what of it survives when the rules change.
//!
//! A rule that stays as it was keeps its proxy: connections to origins, what is
//! known of their health, limits of circuits and counters live on; unless a file
//! that it was made from has changed. Streams that are open keep the proxy that
//! they began with.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::observe::snapshot;
use onionbraid_proxy::origin::Failures;
use onionbraid_proxy::rules::{PortRange, ProxyRules, ProxyTarget};
use onionbraid_proxy::setup::Setup;
use onionbraid_proxy::shares::Shares;
use onionbraid_proxy::tls::KeyCheck;

use super::certificates;

/// The rules of a service, and the proxies that they need.
pub(super) struct Proxies {
    /// The file handles that clients may take.
    for_clients: Shares,
    /// Which keys of certificates are private enough.
    keys: KeyCheck,
    /// For the streams that come now.
    in_force: watch::Sender<Arc<ProxiesInForce>>,
}

/// What is in force at one time.
pub(super) struct ProxiesInForce {
    /// Ports and what serves them, in the order of the file; the first rule that
    /// covers a port decides.
    rules: Vec<(RangeInclusive<u16>, Arc<ServedTarget>)>,
    /// For a port that no rule covers.
    uncovered: Arc<ServedTarget>,
    /// What the rules share: one for each different target.
    targets: Vec<Arc<ServedTarget>>,
}

/// A target and what serves it.
pub(super) struct ServedTarget {
    pub(super) target: ProxyTarget,
    /// Serves its requests; `None`: its streams carry none of ours, or it could
    /// not be set up.
    pub(super) setup: Option<Setup>,
    /// Which of the origins that bytes are forwarded to did not answer lately.
    pub(super) failures: Failures,
    /// Check the health of its origins, and its certificates, as long as it is there.
    _checks: JoinSet<Infallible>,
}

impl Proxies {
    /// For these rules, whose clients may take these file handles, and keys that are
    /// this private.
    pub(super) fn new(rules: Arc<ProxyRules>, for_clients: Shares, keys: KeyCheck) -> Self {
        let in_force = ProxiesInForce::new(&rules, &for_clients, &keys, &[]);
        Self { for_clients, keys, in_force: watch::Sender::new(Arc::new(in_force)) }
    }

    /// Follows the rules as they are told, until nobody tells any more.
    pub(super) async fn follow(self: Arc<Self>, mut rules: watch::Receiver<Arc<ProxyRules>>) {
        while rules.changed().await.is_ok() {
            let rules = Arc::clone(&rules.borrow_and_update());
            self.apply(&rules);
        }
    }

    /// What is in force, now and later.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<ProxiesInForce>> {
        self.in_force.subscribe()
    }

    /// What serves the streams to this port that come now.
    pub(super) fn serving(&self, port: u16) -> Arc<ServedTarget> {
        Arc::clone(self.in_force.borrow().serving(port))
    }

    /// What all proxies have done; `None`: there are none.
    pub(super) fn status(&self) -> Option<snapshot::HttpStatus> {
        let in_force = Arc::clone(&self.in_force.borrow());
        let setups = in_force.targets.iter().filter_map(|served| served.setup.as_ref());
        setups.map(|setup| setup.proxy.status()).reduce(snapshot::HttpStatus::and)
    }

    /// The certificates in force.
    pub(super) fn certificates(&self) -> Vec<snapshot::CertificateStatus> {
        let in_force = Arc::clone(&self.in_force.borrow());
        let with_tls = in_force.rules.iter().filter_map(|(ports, served)| {
            Some((PortRange(ports), served.setup.as_ref()?.tls.as_ref()?))
        });
        with_tls.flat_map(|(ports, tls)| certificates::shown(&ports.to_string(), tls)).collect()
    }

    /// Puts rules in force.
    fn apply(&self, rules: &ProxyRules) {
        let before = Arc::clone(&self.in_force.borrow());
        self.in_force.send_replace(Arc::new(ProxiesInForce::new(
            rules,
            &self.for_clients,
            &self.keys,
            &before.targets,
        )));
    }
}

impl ProxiesInForce {
    /// These rules; what served one of their targets `before` goes on.
    fn new(
        rules: &ProxyRules,
        for_clients: &Shares,
        keys: &KeyCheck,
        before: &[Arc<ServedTarget>],
    ) -> Self {
        let of = |served: &[Arc<ServedTarget>], target: &ProxyTarget| {
            served.iter().find(|served| served.target == *target).cloned()
        };
        let mut targets: Vec<Arc<ServedTarget>> = Vec::new();
        let mut served = |target: &ProxyTarget| {
            of(&targets, target).unwrap_or_else(|| {
                let before = of(before, target);
                let served = ServedTarget::from_now_on(target, for_clients, keys, before.as_ref());
                targets.push(Arc::clone(&served));
                served
            })
        };
        let rules = rules.0.iter().map(|rule| (rule.ports.clone(), served(&rule.target))).collect();
        let uncovered = served(&ProxyTarget::Destroy);
        Self { rules, uncovered, targets }
    }

    fn serving(&self, port: u16) -> &Arc<ServedTarget> {
        let rule = self.rules.iter().find(|(ports, _)| ports.contains(&port));
        rule.map_or(&self.uncovered, |(_, served)| served)
    }

    /// What serves each target that leads to an origin or to files.
    pub(super) fn served(&self) -> impl Iterator<Item = &ServedTarget> {
        self.targets.iter().map(AsRef::as_ref).filter(|served| served.target.is_served())
    }

    /// Whether a rule answers with the built-in welcome page.
    pub(super) fn welcomes(&self) -> bool {
        self.targets.iter().any(|served| served.target == ProxyTarget::Welcome)
    }
}

impl ServedTarget {
    /// What serves a target from now on: the same as before, if there is one and
    /// the files that it was made from have not changed.
    fn from_now_on(
        target: &ProxyTarget,
        for_clients: &Shares,
        keys: &KeyCheck,
        before: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let setup = match (Setup::new(target, for_clients, keys), before) {
            (Err(error), Some(before)) if before.setup.is_some() => {
                tracing::error!(%target, %error, "cannot apply the changed rule; keeping the proxy in force");
                return Arc::clone(before);
            }
            (Err(error), _) => {
                tracing::error!(%target, %error, "cannot serve the port");
                None
            }
            (Ok(setup), before) => {
                let known = before.map(|before| (before, &before.setup, &setup));
                match known {
                    Some((before, None, None)) => return Arc::clone(before),
                    Some((before, Some(old), Some(new))) if old.has_read_the_same(new) => {
                        old.follow(new);
                        return Arc::clone(before);
                    }
                    _ => setup,
                }
            }
        };
        let mut checks = JoinSet::new();
        if let Some(origins) = setup.as_ref().and_then(|setup| setup.origins.clone()) {
            checks.spawn(async move { origins.watch().await });
        }
        if let Some(tls) = setup.as_ref().and_then(|setup| setup.tls.clone()) {
            checks.spawn(certificates::watch(target.to_string(), tls));
        }
        let failures = Failures::default();
        Arc::new(Self { target: target.clone(), setup, failures, _checks: checks })
    }

    /// What checks say of its origins: why none of them is well. `None`: they
    /// are not checked.
    pub(super) fn checked(&self) -> Option<Result<(), String>> {
        self.setup.as_ref()?.origins.as_ref()?.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::file_handles::FileHandles;
    use onionbraid_proxy::rules::{HttpOrigin, HttpTarget, Origin, ProxyRule};
    use onionbraid_proxy::settings::{ErrorPage, HttpSettings};

    fn rule(port: u16, origin_port: u16, settings: HttpSettings) -> ProxyRule {
        let address = Origin::Tcp(([127, 0, 0, 1], origin_port).into());
        let origins = vec![HttpOrigin { address, tls: false }];
        let target = ProxyTarget::Http(HttpTarget {
            origins,
            settings: Arc::new(settings),
            tls: Vec::new(),
        });
        ProxyRule { ports: port..=port, target }
    }

    fn rules(rules: Vec<ProxyRule>) -> Arc<ProxyRules> {
        Arc::new(ProxyRules(rules))
    }

    fn proxies(rules: Arc<ProxyRules>) -> Proxies {
        Proxies::new(rules, FileHandles::of(1024).for_clients, KeyCheck::new(|_, _| Ok(())))
    }

    #[tokio::test]
    async fn a_target_that_stays_keeps_its_proxy_whatever_its_port() {
        let plain = HttpSettings::default;
        let proxies = proxies(rules(vec![rule(80, 8080, plain()), rule(81, 8081, plain())]));
        let proxy = |port| Arc::clone(&proxies.serving(port).setup.as_ref().unwrap().proxy);
        let (first, second) = (proxy(80), proxy(81));
        let other = HttpSettings { access_log: true, ..plain() };
        proxies.apply(&rules(vec![rule(82, 8080, plain()), rule(81, 8081, other)]));
        assert!(Arc::ptr_eq(&first, &proxy(82)));
        assert!(!Arc::ptr_eq(&second, &proxy(81)));
        assert_eq!(proxies.serving(80).target, ProxyTarget::Destroy);
        assert_eq!(proxies.status().unwrap().origins.len(), 2);
    }

    #[tokio::test]
    async fn a_file_that_has_changed_is_read_again_and_one_that_cannot_be_read_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("page.html");
        let page = ErrorPage { status: 500..=599, file: file.clone() };
        let settings = HttpSettings { error_pages: vec![page], ..HttpSettings::default() };
        let rules = rules(vec![rule(80, 8080, settings)]);
        let proxies = proxies(Arc::clone(&rules));
        let served = || proxies.serving(80);
        assert!(served().setup.is_none() && proxies.status().is_none());
        std::fs::write(&file, "<p>Sorry.").unwrap();
        proxies.apply(&rules);
        let first = served();
        assert!(first.setup.is_some());
        proxies.apply(&rules);
        assert!(Arc::ptr_eq(&first, &served()));
        std::fs::remove_file(&file).unwrap();
        proxies.apply(&rules);
        assert!(Arc::ptr_eq(&first, &served()));
        std::fs::write(&file, "<p>Really sorry.").unwrap();
        proxies.apply(&rules);
        assert!(!Arc::ptr_eq(&first, &served()));
    }
}
