//! Do the origins behind a service's local instances accept connections?
//!
//! A backend whose application is down is worse than a dead one: its clients
//! get an error at once and try no other point. So the balancer is told when
//! no origin can be reached, and when one can again. It is asked by connecting,
//! every few seconds, and at once when a client's stream found its origin dead.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rand::RngExt as _;
use tokio::sync::{Notify, mpsc, watch};

use crate::balancer::fact::Fact;
use crate::proxy::origin;
use crate::proxy::rules::{Origin, ProxyRules, ProxyTarget};

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
pub(super) struct Origins {
    /// Which origins there are.
    pub(super) rules: watch::Receiver<Arc<ProxyRules>>,
    /// A client's stream found its origin dead.
    pub(super) failed: Arc<Notify>,
    /// Where changes are told.
    pub(super) told: mpsc::Sender<Fact>,
}

impl Origins {
    /// Tells every change, beginning with trouble: as long as nothing is told,
    /// all is well.
    pub(super) async fn watch(mut self) {
        let mut health = Health::default();
        loop {
            let rules = Arc::clone(&self.rules.borrow_and_update());
            let looked = match origins(&rules) {
                Some(origins) => any_accepts(&origins).await,
                None => Ok(()),
            };
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
                changed = self.rules.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// What is believed of the origins.
#[derive(Debug, Default)]
struct Health {
    /// Looks that failed in a row.
    bad: u32,
    /// Whether it was told that nobody can be reached.
    told_down: bool,
}

impl Health {
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

/// All origins that streams are led to; `None` if nothing needs one, or
/// something is answered without.
fn origins(rules: &ProxyRules) -> Option<Vec<&Origin>> {
    let mut origins = Vec::new();
    for rule in &rules.0 {
        match &rule.target {
            ProxyTarget::Forward(target) => origins.extend(&target.origins),
            ProxyTarget::Http(target) => {
                origins.extend(target.origins.iter().map(|origin| &origin.address));
            }
            ProxyTarget::Files(_) | ProxyTarget::Welcome => return None,
            ProxyTarget::Destroy | ProxyTarget::Reject | ProxyTarget::Ignore => {}
        }
    }
    (!origins.is_empty()).then_some(origins)
}

/// Connects to all at once, and to no more when one has accepted.
async fn any_accepts(origins: &[&Origin]) -> Result<(), String> {
    let mut asked: FuturesUnordered<_> = origins
        .iter()
        .map(async |origin| origin::connect(origin).await.map_err(|e| format!("{origin}: {e}")))
        .collect();
    let mut first = None;
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(_) => return Ok(()),
            Err(why) => {
                first.get_or_insert(why);
            }
        }
    }
    let why = first.unwrap_or_default();
    Err(match origins.len() {
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

    use tokio::net::TcpListener;

    use super::*;
    use crate::proxy::rules::{ForwardTarget, ProxyRule};

    fn forwarding_to(addresses: &[SocketAddr]) -> ProxyRules {
        let origins = addresses.iter().copied().map(Origin::Tcp).collect();
        let target = ProxyTarget::Forward(ForwardTarget { origins, proxy_protocol: None });
        ProxyRules(vec![
            ProxyRule { ports: 80..=80, target },
            ProxyRule { ports: 1..=u16::MAX, target: ProxyTarget::Reject },
        ])
    }

    #[test]
    fn two_bad_looks_in_a_row_are_trouble_and_one_good_look_ends_it() {
        let mut health = Health::default();
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

    #[test]
    fn only_rules_that_lead_to_origins_alone_are_looked_after() {
        let mut rules = forwarding_to(&[([127, 0, 0, 1], 1).into()]);
        assert_eq!(origins(&rules).map(|origins| origins.len()), Some(1));
        rules.0.push(ProxyRule { ports: 81..=81, target: ProxyTarget::Welcome });
        assert_eq!(origins(&rules), None);
        rules.0.retain(|rule| rule.target == ProxyTarget::Reject);
        assert_eq!(origins(&rules), None);
    }

    #[tokio::test]
    async fn one_origin_that_accepts_is_enough() {
        let alive = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let dead = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (alive, gone) = (alive.local_addr().map(|a| (a, alive)).unwrap(), dead);
        let dead = gone.local_addr().unwrap();
        drop(gone);
        let both = forwarding_to(&[dead, alive.0]);
        assert_eq!(any_accepts(&origins(&both).unwrap()).await, Ok(()));
        let one = forwarding_to(&[dead]);
        let why = any_accepts(&origins(&one).unwrap()).await.unwrap_err();
        assert!(why.contains(&dead.to_string()), "{why}");
    }

    #[tokio::test]
    async fn trouble_is_told_and_new_rules_are_looked_at_soon() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let alive = listener.local_addr().unwrap();
        let gone = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let dead = gone.local_addr().unwrap();
        drop(gone);
        let (rules, watched) = watch::channel(Arc::new(forwarding_to(&[dead])));
        let (told, mut facts) = mpsc::channel(1);
        let watching = Origins { rules: watched, failed: Arc::default(), told };
        let told = async {
            assert!(matches!(facts.recv().await, Some(Fact::Origins(Err(_)))));
            rules.send_replace(Arc::new(forwarding_to(&[alive])));
            assert!(matches!(facts.recv().await, Some(Fact::Origins(Ok(())))));
        };
        tokio::select! {
            () = watching.watch() => panic!("it ended"),
            () = told => {}
        }
    }
}
