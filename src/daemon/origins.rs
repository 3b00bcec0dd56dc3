//! Do the origins behind a service's local instances accept connections?
//!
//! A backend whose application is down is worse than a dead one: its clients
//! get an error at once and try no other point. So the balancer is told when
//! no origin can be reached, and when one can again. Of origins with health
//! checks these are the judge; the others are asked by connecting, every few
//! seconds, and at once when a client's stream found its origin dead.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use libc::{EMFILE, ENFILE};
use rand::RngExt as _;
use tokio::sync::{Notify, mpsc, watch};

use onionbraid_balancer::fact::Fact;
use onionbraid_proxy::origin;
use onionbraid_proxy::origins::Origins as HttpOrigins;
use onionbraid_proxy::rules::{Origin, ProxyTarget};

use super::proxies::ProxiesInForce;

/// How long after a look the next one follows while all is well, spread by a
/// quarter either way so that services do not ask one origin in step.
const CALM: Duration = Duration::from_secs(10);

/// The same while the last look found nobody: a doubt is resolved soon, and so
/// is the return of an origin seen.
const DOUBT: Duration = Duration::from_secs(2);

/// Clients cannot make us look more often than this.
const LEAST: Duration = Duration::from_secs(1);

/// So many looks in a row have to fail. One good one is enough to believe in
/// origins again.
const BAD_LOOKS: u32 = 2;

/// Looks after the origins of one service, for as long as somebody listens.
pub(super) struct OriginWatch {
    /// Which origins there are, and what their checks say.
    pub(super) in_force: watch::Receiver<Arc<ProxiesInForce>>,
    /// A client's stream found its origin dead.
    pub(super) failed: Arc<Notify>,
    /// Where changes are told.
    pub(super) told: mpsc::Sender<Fact>,
}

impl OriginWatch {
    /// Tells every change, beginning with trouble: as long as nothing is told,
    /// all is well.
    pub(super) async fn watch(mut self) {
        let mut health = OriginsHealth::default();
        loop {
            let in_force = Arc::clone(&self.in_force.borrow_and_update());
            let looked = any_serves(&in_force).await;
            // What is replaced meanwhile must not live on for this.
            drop(in_force);
            let well = looked.is_ok();
            if let Some(news) = health.looked(looked)
                && self.told.send(Fact::Origins(news)).await.is_err()
            {
                return;
            }
            let pause = if well { CALM } else { DOUBT };
            tokio::time::sleep(LEAST).await;
            tokio::select! {
                () = tokio::time::sleep(spread(pause - LEAST)) => {}
                () = self.failed.notified() => {}
                changed = self.in_force.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// What is believed of the origins.
#[derive(Debug, Default)]
struct OriginsHealth {
    /// Looks that failed in a row.
    bad: u32,
    /// Whether it was told that nobody can be reached.
    told_down: bool,
}

impl OriginsHealth {
    /// Takes in the result of a look; the news, if it is any.
    fn looked(&mut self, looked: Result<(), String>) -> Option<Result<(), String>> {
        match looked {
            Ok(()) => {
                self.bad = 0;
                std::mem::take(&mut self.told_down).then_some(Ok(()))
            }
            Err(why) => {
                self.bad = self.bad.saturating_add(1);
                let news = self.bad >= BAD_LOOKS && !self.told_down;
                self.told_down |= news;
                news.then_some(Err(why))
            }
        }
    }
}

/// Whether clients who come now are served by anybody; so they are where
/// something is answered without an origin, and where nothing is.
async fn any_serves(in_force: &ProxiesInForce) -> Result<(), String> {
    let mut unchecked: Vec<OriginLook<'_>> = Vec::new();
    let (mut ill, mut served_otherwise) = (Vec::new(), false);
    for served in in_force.served() {
        match (&served.target, served.checked()) {
            (_, Some(Ok(()))) => served_otherwise = true,
            (_, Some(Err(why))) => ill.push(why),
            (ProxyTarget::Forward(target), None) => {
                unchecked
                    .extend(target.origins.iter().map(|origin| OriginLook { origin, http: None }));
            }
            (ProxyTarget::Http(target), None) => {
                let http = served.setup.as_ref().and_then(|setup| setup.origins.as_deref());
                let origins = target.origins.iter().enumerate();
                unchecked.extend(origins.map(|(index, origin)| OriginLook {
                    origin: &origin.address,
                    http: http.map(|origins| (origins, index)),
                }));
            }
            _ => served_otherwise = true,
        }
    }
    served_otherwise |= in_force.welcomes();
    let answers = match unchecked.as_slice() {
        [] => None,
        // Whoever else serves, the status shows how each of these is.
        looks => Some(any_accepts(looks).await),
    };
    match (answers, ill.as_slice()) {
        _ if served_otherwise => Ok(()),
        (None, []) => Ok(()),
        (Some(answers), []) => answers,
        (None, _) => Err(format!("no origin is well: {}", ill.join("; "))),
        (Some(answers), _) => answers.map_err(|why| format!("{why}; {}", ill.join("; "))),
    }
}

/// An origin to connect to.
struct OriginLook<'a> {
    origin: &'a Origin,
    /// Those that it is one of, by its place among them, where the status shows
    /// how each is: it must not call up what is found down here.
    http: Option<(&'a HttpOrigins, usize)>,
}

impl OriginLook<'_> {
    /// Connects. `Err(None)` says nothing of the origin.
    async fn look(&self) -> Result<(), Option<String>> {
        let result = match origin::connect(self.origin).await {
            Ok(_) => Ok(()),
            // No file handle is left.
            Err(error) if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => {
                return Err(None);
            }
            Err(error) => Err(error.to_string()),
        };
        if let Some((origins, index)) = self.http {
            origins.looked(index, result.clone());
        }
        result.map_err(Some)
    }
}

/// Connects to all at once. Once one has accepted, the others have a second
/// left to show how they are.
async fn any_accepts(looks: &[OriginLook<'_>]) -> Result<(), String> {
    let mut asked: FuturesUnordered<_> =
        looks.iter().map(async |look| (look, look.look().await)).collect();
    let mut first = None;
    while let Some(answer) = asked.next().await {
        match answer {
            (_, Ok(()) | Err(None)) => {
                let _ = tokio::time::timeout(LEAST, asked.count()).await;
                return Ok(());
            }
            (look, Err(Some(why))) => {
                first.get_or_insert(format!("{}: {why}", look.origin));
            }
        }
    }
    let why = first.unwrap_or_default();
    Err(match looks.len() {
        1 => format!("its origin does not answer: {why}"),
        count => format!("none of its {count} origins answers, the first: {why}"),
    })
}

/// A pause, a quarter longer or shorter.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(crate::tor::rng().random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::daemon::file_handles::FileHandles;
    use crate::daemon::proxies::Proxies;
    use onionbraid_proxy::rules::{ForwardTarget, HttpOrigin, HttpTarget, ProxyRule, ProxyRules};
    use onionbraid_proxy::settings::{HealthCheck, HttpSettings};
    use onionbraid_proxy::status::OriginState;
    use onionbraid_proxy::tls::KeyCheck;

    fn rules(target: ProxyTarget) -> ProxyRules {
        ProxyRules(vec![
            ProxyRule { ports: 80..=80, target },
            ProxyRule { ports: 1..=u16::MAX, target: ProxyTarget::Reject },
        ])
    }

    fn forwarding_to(addresses: &[SocketAddr]) -> ProxyRules {
        let origins = addresses.iter().copied().map(Origin::Tcp).collect();
        rules(ProxyTarget::Forward(ForwardTarget { origins, proxy_protocol: None }))
    }

    fn in_force(rules: ProxyRules) -> Arc<ProxiesInForce> {
        let proxies = Proxies::new(
            Arc::new(rules),
            FileHandles::of(1024).for_clients,
            KeyCheck::new(|_, _| Ok(())),
        );
        let in_force = proxies.watch();
        Arc::clone(&in_force.borrow())
    }

    /// An address where nobody listens, and one where somebody does. Both stay
    /// taken for as long as the sockets are there.
    async fn dead_and_alive() -> (SocketAddr, SocketAddr, (TcpSocket, TcpListener)) {
        let alive = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let dead = TcpSocket::new_v4().unwrap();
        dead.bind(([127, 0, 0, 1], 0).into()).unwrap();
        (dead.local_addr().unwrap(), alive.local_addr().unwrap(), (dead, alive))
    }

    #[test]
    fn two_bad_looks_in_a_row_are_trouble_and_one_good_look_ends_it() {
        let mut health = OriginsHealth::default();
        let bad = || Err("refused".to_owned());
        assert_eq!(health.looked(Ok(())), None);
        assert_eq!(health.looked(bad()), None);
        assert_eq!(health.looked(Ok(())), None);
        assert_eq!(health.looked(bad()), None);
        assert_eq!(health.looked(bad()), Some(bad()));
        assert_eq!(health.looked(bad()), None);
        assert_eq!(health.looked(Ok(())), Some(Ok(())));
        assert_eq!(health.looked(bad()), None);
    }

    #[tokio::test]
    async fn only_rules_that_lead_to_origins_alone_are_looked_after() {
        let (dead, _, _sockets) = dead_and_alive().await;
        let mut rules = forwarding_to(&[dead]);
        assert!(any_serves(&in_force(rules.clone())).await.is_err());
        rules.0.push(ProxyRule { ports: 81..=81, target: ProxyTarget::Welcome });
        assert_eq!(any_serves(&in_force(rules.clone())).await, Ok(()));
        rules.0.retain(|rule| rule.target == ProxyTarget::Reject);
        assert_eq!(any_serves(&in_force(rules)).await, Ok(()));
    }

    #[tokio::test]
    async fn one_origin_that_accepts_is_enough() {
        let (dead, alive, _sockets) = dead_and_alive().await;
        assert_eq!(any_serves(&in_force(forwarding_to(&[dead, alive]))).await, Ok(()));
        let why = any_serves(&in_force(forwarding_to(&[dead]))).await.unwrap_err();
        assert!(why.contains(&dead.to_string()), "{why}");
    }

    #[tokio::test]
    async fn the_status_calls_no_origin_up_that_refuses_connections() {
        let (dead, alive, _sockets) = dead_and_alive().await;
        let origins = [alive, dead]
            .map(|address| HttpOrigin { address: Origin::Tcp(address), tls: false })
            .to_vec();
        let settings = Arc::new(HttpSettings::default());
        let target = ProxyTarget::Http(HttpTarget { origins, settings, tls: Vec::new() });
        let mut rules = rules(target);
        // Somebody else serves clients, so the service as a whole is well.
        rules.0.push(ProxyRule { ports: 81..=81, target: ProxyTarget::Welcome });
        let proxies = Proxies::new(
            Arc::new(rules),
            FileHandles::of(1024).for_clients,
            KeyCheck::new(|_, _| Ok(())),
        );
        let in_force = proxies.watch();
        let in_force = Arc::clone(&in_force.borrow());
        assert_eq!(any_serves(&in_force).await, Ok(()));
        let shown = proxies.status().unwrap().origins;
        assert_eq!((shown[0].state, &shown[0].reason), (OriginState::Up, &None));
        assert_eq!(shown[1].state, OriginState::Failing);
        assert!(shown[1].reason.as_ref().unwrap().contains("refused"), "{shown:?}");
    }

    #[tokio::test]
    async fn an_origin_with_a_health_check_is_down_when_that_fails_though_it_accepts() {
        // It accepts connections, and never answers on one.
        let (_, alive, _sockets) = dead_and_alive().await;
        let http = |check: Option<HealthCheck>| {
            let mut settings = HttpSettings::default();
            settings.origins.health_check = check;
            let origins = vec![HttpOrigin { address: Origin::Tcp(alive), tls: false }];
            rules(ProxyTarget::Http(HttpTarget {
                origins,
                settings: Arc::new(settings),
                tls: Vec::new(),
            }))
        };
        assert_eq!(any_serves(&in_force(http(None))).await, Ok(()));
        let check = HealthCheck {
            path: Some("/health".into()),
            timeout: Duration::from_millis(20),
            interval: Duration::from_millis(20),
            fall: 1,
            ..HealthCheck::default()
        };
        let in_force = in_force(http(Some(check)));
        let report = loop {
            match any_serves(&in_force).await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(report) => break report,
            }
        };
        assert!(report.contains("health check") && report.contains(&alive.to_string()), "{report}");
    }

    #[tokio::test]
    async fn trouble_is_told_and_new_rules_are_looked_at_soon() {
        let (dead, alive, _sockets) = dead_and_alive().await;
        let (rules, watched) = watch::channel(Arc::new(forwarding_to(&[dead])));
        let for_clients = FileHandles::of(1024).for_clients;
        let proxies = Arc::new(Proxies::new(
            Arc::clone(&watched.borrow()),
            for_clients,
            KeyCheck::new(|_, _| Ok(())),
        ));
        let (told, mut facts) = mpsc::channel(1);
        let watching = OriginWatch { in_force: proxies.watch(), failed: Arc::default(), told };
        let told = async {
            assert!(matches!(facts.recv().await, Some(Fact::Origins(Err(_)))));
            rules.send_replace(Arc::new(forwarding_to(&[alive])));
            assert!(matches!(facts.recv().await, Some(Fact::Origins(Ok(())))));
        };
        tokio::select! {
            () = watching.watch() => panic!("it ended"),
            () = proxies.follow(watched) => panic!("it ended"),
            () = told => {}
        }
    }
}
