//! Which origin a request goes to, and what happens when it fails there.
//!
//! [`Origins`] are those behind one rule of `proxy_ports`. The daemon owns
//! them, and the future of their health checks ([`Origins::watch`]).
//!
//! | file | answers |
//! |---|---|
//! | `balance` (pure) | which origin gets the next request |
//! | `health` (pure) | whether an origin is in use |
//! | `attempt` | what one try at one origin comes to, and whether another may follow |
//! | `check` | how an origin that is asked every now and then is |
//! | `pool` | which connection a request gets, of those that serve one at a time |
//! | `shared` | which stream it gets, of the HTTP/2 connections that all share |
//! | `connection`, `tls` | how a connection is made and verified, and what it does |
//! | `request`, `upload`, `download` | what passes through |
//!
//! Connections are hyper's; which of them a request gets is decided here.
//! hyper-util's pooled client cannot be told how many connections there may
//! be, that one serves a single client, or that a repetition has to have a
//! fresh one; it takes the name of the origin from `:authority`, which is the
//! client's to choose, and so has a connection for every name; and it does not
//! tell the time that connecting took from the time of the answer.

mod attempt;
mod balance;
mod check;
mod connection;
mod counts;
mod download;
mod health;
mod pool;
mod request;
mod shared;
mod tls;
mod upload;
mod upstream;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::{Request, Response};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use self::balance::{OriginCandidate, choose};
use self::connection::{Dialer, HeadLimits};
pub use self::counts::Client;
use self::counts::OriginCounts;
use self::health::{OriginHealth, OriginTrouble, Thresholds, Trial, UseChange};
use self::pool::Pool;
pub use self::tls::TrustError;
use super::body::Body;
use super::failure::Failure;
use super::headers::OwnNames;
use super::rules::{HttpOrigin, Origin};
use super::settings::{HttpSettings, OriginSettings};
use crate::clock::now;
use crate::upstream::FromOrigin;

/// The HTTP origins behind one rule.
pub struct Origins {
    members: Vec<Member>,
    choice: Mutex<ChoiceState>,
    settings: OriginSettings,
    /// The bounds on heads of responses.
    heads: HeadLimits,
    /// What the members call themselves.
    own: OwnNames,
}

/// One of them.
struct Member {
    /// As the configuration writes it.
    name: String,
    /// What checks call it.
    host: String,
    tls: bool,
    pool: Arc<Pool>,
    counts: Arc<OriginCounts>,
}

/// What the next choice depends on.
struct ChoiceState {
    /// By the places of the members.
    health: Vec<OriginHealth>,
    last: Option<usize>,
}

/// How one origin is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginReport {
    /// As the configuration writes it.
    pub name: String,
    /// Why it is not in use; `None`: it is. Without any in use, those get
    /// requests all the same that checks do not find ill.
    pub out: Option<String>,
    /// What the last request, check or look came to, if to nothing good.
    pub trouble: Option<String>,
    /// Requests that went to it, each repetition among them.
    pub requests: u64,
    /// Those that failed by its fault.
    pub failures: u64,
    /// Those under way, upgraded connections among them.
    pub in_flight: usize,
}

/// Why there can be no proxy to these origins.
#[derive(Debug, thiserror::Error)]
pub enum OriginsError {
    /// There is nothing to verify `https://` origins by.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A certificate cannot be for this.
    #[error("{origin}: {name:?} is no name that a certificate can have; give a `server_name`")]
    ServerName {
        /// Which origin.
        origin: String,
        /// The name of it, or the one to use instead.
        name: String,
    },
    /// A path says nothing of what the certificate is for.
    #[error("{origin}: a TLS origin at a Unix socket needs a `server_name`")]
    NoServerName {
        /// Which origin.
        origin: String,
    },
}

impl Origins {
    /// Reads what TLS needs; connects to nobody.
    ///
    /// # Errors
    ///
    /// Those of the file with the certificate authorities, and names that no
    /// certificate can have. Only with `https://` origins.
    pub fn new(origins: &[HttpOrigin], settings: &HttpSettings) -> Result<Arc<Self>, OriginsError> {
        let guard = &settings.guard;
        let heads = HeadLimits { fields: guard.max_headers, bytes: guard.max_head_bytes };
        let config = if origins.iter().any(|origin| origin.tls) {
            let settings = &settings.origins;
            Some(Arc::new(tls::client_config(&settings.tls, settings.protocol)?))
        } else {
            None
        };
        let members = origins
            .iter()
            .map(|origin| Member::new(origin, settings, config.as_ref(), heads))
            .collect::<Result<Vec<_>, _>>()?;
        let settings = &settings.origins;
        let own = OwnNames::of(origins, settings.tls.server_name.as_deref());
        let check = settings.health_check.clone().unwrap_or_default();
        let thresholds = Thresholds {
            fail_after: settings.fail_after,
            fail_for: settings.fail_for,
            rise: check.rise,
            fall: check.fall,
        };
        let health = members.iter().map(|_| OriginHealth::new(thresholds)).collect();
        Ok(Arc::new(Self {
            members,
            choice: Mutex::new(ChoiceState { health, last: None }),
            settings: settings.clone(),
            heads,
            own,
        }))
    }

    /// Leads a request to an origin. `Host`, which it has to have, and everything
    /// else in its head is passed on as it is; the target becomes that of the
    /// origin's protocol.
    ///
    /// The response comes as soon as its head is there. If it is 101, hyper's
    /// `OnUpgrade` is in its extensions; [`FromOrigin`] always is. Dropping the
    /// future, or the response, ends the request at the origin as well.
    ///
    /// # Errors
    ///
    /// What kept an origin from answering; if the client's body broke off with
    /// a [`Failure`], that one.
    pub async fn send(
        &self,
        mut request: Request<Body>,
        client: Client,
    ) -> Result<Response<Body>, Failure> {
        // The head alone: there is no body in what may be repeated.
        let copy = request::is_repeatable(&request).then(|| request::copy_of_head(&request));
        let mut left = self.settings.retries;
        let mut tried = Vec::new();
        let mut failure = Failure::NoOrigin;
        while let Some(turn) = self.turn(&tried) {
            tried.push(turn.index);
            let result = match self.attempt(&turn, request, client, false).await {
                Err(lost) if lost.stale => {
                    failure = lost.failure;
                    let Some(again) = lost.again(copy.as_ref(), &mut left) else { break };
                    self.attempt(&turn, again, client, true).await
                }
                result => result,
            };
            let lost = match result {
                Ok(mut response) => {
                    response.extensions_mut().insert(FromOrigin(turn.index));
                    turn.answered();
                    return Ok(response);
                }
                Err(lost) => lost,
            };
            failure = lost.failure;
            if lost.blames_origin() {
                let trouble = match failure {
                    Failure::OriginUnreachable => OriginTrouble::Connecting,
                    _ => OriginTrouble::Answering,
                };
                turn.failed(trouble, &lost.why);
            }
            match lost.again(copy.as_ref(), &mut left) {
                Some(again) => request = again,
                None => break,
            }
        }
        Err(failure)
    }

    /// Whether checks find any origin well; `None`: there are no checks. What
    /// requests come to does not count: clients could make them fail, and nobody
    /// would ask any more whether an origin is back.
    ///
    /// # Errors
    ///
    /// Why none is.
    pub fn checked(&self) -> Option<Result<(), String>> {
        self.settings.health_check.as_ref()?;
        let mut report = String::new();
        for (member, health) in self.members.iter().zip(&self.choice.lock().health) {
            let Some(why) = health.ill() else { return Some(Ok(())) };
            let separator = if report.is_empty() { "" } else { "; " };
            // Writing to a string cannot fail.
            let _ = write!(report, "{separator}{}: {why}", member.name);
        }
        Some(Err(report))
    }

    /// Takes in whether the origin in this place accepts connections. That is
    /// for the status: no request is led elsewhere for it.
    pub fn looked(&self, index: usize, result: Result<(), String>) {
        self.learn(index, |health| {
            health.looked(result);
            None
        });
    }

    /// How every origin is, in the order of the configuration.
    pub fn snapshot(&self) -> Vec<OriginReport> {
        let now = now();
        let choice = self.choice.lock();
        let states = self.members.iter().zip(&choice.health).map(|(member, health)| OriginReport {
            name: member.name.clone(),
            out: health.out(now).map(str::to_owned),
            trouble: health.trouble().map(str::to_owned),
            requests: member.counts.requests.load(Ordering::Relaxed),
            failures: member.counts.failures.load(Ordering::Relaxed),
            in_flight: member.counts.in_flight(),
        });
        states.collect()
    }

    /// Chooses among the origins in use that were not tried yet. If none is in
    /// use, among those that only requests speak against: a client can have its
    /// requests fail, and must not take the site from everybody else.
    fn turn(&self, tried: &[usize]) -> Option<OriginTurn<'_>> {
        let now = now();
        let mut choice = self.choice.lock();
        let none_in_use = choice.health.iter().all(|health| health.out(now).is_some());
        let usable = |health: &OriginHealth| match none_in_use {
            true => health.ill().is_none(),
            false => health.out(now).is_none(),
        };
        let candidates: Vec<_> = (0..)
            .zip(self.members.iter().zip(&choice.health))
            .filter(|(index, (_, health))| !tried.contains(index) && usable(health))
            .map(|(index, (member, _))| OriginCandidate {
                index,
                in_flight: member.counts.in_flight(),
            })
            .collect();
        let index = choose(self.settings.balance, &candidates, choice.last)?;
        choice.last = Some(index);
        let trial = choice.health.get_mut(index)?.begin(now);
        let member = self.members.get(index)?;
        Some(OriginTurn { origins: self, member, index, trial, told: false })
    }

    /// Notes what is learned of an origin, and tells the log of changes.
    fn learn(&self, index: usize, learn: impl FnOnce(&mut OriginHealth) -> Option<UseChange>) {
        let change = self.choice.lock().health.get_mut(index).and_then(learn);
        let Some(member) = self.members.get(index) else { return };
        match change {
            Some(UseChange::Out(why)) => {
                tracing::warn!(origin = %member.name, %why, "an origin is out of use");
            }
            Some(UseChange::Back) => {
                tracing::info!(origin = %member.name, "an origin is in use again");
            }
            None => {}
        }
    }
}

/// An origin's turn to answer a request. It ends with a word on the origin, or
/// without one when it is dropped.
struct OriginTurn<'a> {
    origins: &'a Origins,
    member: &'a Member,
    index: usize,
    trial: Trial,
    told: bool,
}

impl OriginTurn<'_> {
    /// It answered.
    fn answered(mut self) {
        self.told = true;
        self.origins.learn(self.index, OriginHealth::answered);
    }

    /// It failed.
    fn failed(mut self, trouble: OriginTrouble, why: &str) {
        self.told = true;
        self.member.counts.failures.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(origin = %self.member.name, %why, "a request failed at an origin");
        self.origins.learn(self.index, |health| {
            health.saw(trouble, why);
            health.failed(self.trial, why, now())
        });
    }
}

impl Drop for OriginTurn<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.origins.learn(self.index, |health| {
                health.abandoned(self.trial, now());
                None
            });
        }
    }
}

impl Member {
    fn new(
        origin: &HttpOrigin,
        settings: &HttpSettings,
        config: Option<&Arc<ClientConfig>>,
        heads: HeadLimits,
    ) -> Result<Self, OriginsError> {
        let host = request::name_of(origin, settings);
        let settings = &settings.origins;
        let server_name = settings.tls.server_name.as_deref();
        let tls = match config.filter(|_| origin.tls) {
            Some(config) => Some((Arc::clone(config), certificate_name(origin, server_name)?)),
            None => None,
        };
        let dialer = Dialer {
            address: origin.address.clone(),
            tls,
            protocol: settings.protocol,
            proxy_protocol: settings.proxy_protocol,
            within: settings.connect_timeout,
            heads,
            tasks: Arc::default(),
        };
        Ok(Self {
            name: origin.to_string(),
            host,
            tls: origin.tls,
            pool: Arc::new(Pool::new(dialer, settings)),
            counts: Arc::default(),
        })
    }
}

/// Whom the certificate of an origin has to be for.
fn certificate_name(
    origin: &HttpOrigin,
    server_name: Option<&str>,
) -> Result<ServerName<'static>, OriginsError> {
    let name = match (server_name, &origin.address) {
        (Some(name), _) => name.to_owned(),
        (None, Origin::Name(name, _)) => name.clone(),
        (None, Origin::Tcp(address)) => return Ok(ServerName::from(address.ip())),
        (None, Origin::Unix(_)) => {
            return Err(OriginsError::NoServerName { origin: origin.to_string() });
        }
    };
    ServerName::try_from(name.clone())
        .map_err(|_| OriginsError::ServerName { origin: origin.to_string(), name })
}
