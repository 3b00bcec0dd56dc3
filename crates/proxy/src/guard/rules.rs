//! Which of the operator's rules refuses a request. Pure.
//!
//! There may be a thousand rules, and clients choose what is held against them:
//! whatever has to be made of a request is made once for all of them, and only
//! if one wants to know.

use std::cell::LazyCell;
use std::collections::BTreeSet;

use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderName, HeaderValue};

use super::path::Starts;
use crate::host::{self, Host};
use crate::settings::BlockRule;
use crate::token;

/// The fields by which frameworks let a client ask for another method than that
/// of its request.
const OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// Where `COPY` and `MOVE` write to (RFC 4918, section 10.3).
const DESTINATION: HeaderName = HeaderName::from_static("destination");

/// The rules of one virtual port.
pub(super) struct Rules {
    /// In the operator's order; what they say of `User-Agent` in small letters.
    rules: Vec<BlockRule>,
    /// Their paths.
    starts: Starts,
}

impl Rules {
    /// Makes rules ready.
    pub(super) fn new(rules: &[BlockRule]) -> Self {
        let paths = rules.iter().enumerate();
        let starts = paths.filter_map(|(index, rule)| Some((index, rule.path.as_deref()?)));
        let small = |rule: &BlockRule| BlockRule {
            user_agent: rule.user_agent.as_ref().map(|part| part.to_lowercase()),
            ..rule.clone()
        };
        Self { starts: Starts::new(starts), rules: rules.iter().map(small).collect() }
    }

    /// The status of the first rule of which everything that it gives is so; none
    /// if there is none. A request that names no host could be for any.
    pub(super) fn status(&self, request: &Parts, host: Option<Host<'_>>) -> Option<u16> {
        let reached = LazyCell::new(|| self.starts.reached_by(request.uri.path()));
        // Each with the host that it names.
        let destinations = LazyCell::new(|| {
            let fields = request.headers.get_all(DESTINATION).iter();
            fields.map(|field| self.destination(field)).collect::<Vec<_>>()
        });
        let agents = LazyCell::new(|| {
            let small =
                |agent: &HeaderValue| String::from_utf8_lossy(agent.as_bytes()).to_lowercase();
            request.headers.get_all(USER_AGENT).iter().map(small).collect::<Vec<_>>()
        });
        let same_host =
            |domain: &String| host.is_none_or(|host| host::below(host.name, domain).is_some());
        let methods = LazyCell::new(|| methods(request));
        let same_method = |rule: &BlockRule| {
            rule.methods.is_empty() || rule.methods.iter().any(|method| methods.contains(method))
        };
        let same_agent = |part: &String| agents.iter().any(|agent| agent.contains(part));
        let same_place = |index: usize, rule: &BlockRule| {
            let asks = rule.host.as_ref().is_none_or(same_host)
                && (rule.path.is_none() || reached.contains(&index));
            asks || destinations.iter().any(|(name, reached)| {
                let at = |domain: &String| match name {
                    Some(name) => host::below(name, domain).is_some(),
                    None => same_host(domain),
                };
                rule.host.as_ref().is_none_or(at)
                    && (rule.path.is_none() || reached.contains(&index))
            })
        };
        let applies = |(index, rule): &(usize, &BlockRule)| {
            same_method(rule)
                && same_place(*index, rule)
                && rule.user_agent.as_ref().is_none_or(same_agent)
        };
        self.rules.iter().enumerate().find(applies).map(|(_, rule)| rule.status)
    }

    /// The host that a `Destination` names, and the rules whose paths it may be read to
    /// reach: as a path, and as what follows a scheme.
    fn destination(&self, value: &HeaderValue) -> (Option<String>, BTreeSet<usize>) {
        let whole = String::from_utf8_lossy(value.as_bytes());
        let reference = behind_scheme(&whole);
        let mut reached = self.starts.reached_by(&whole);
        reached.extend(self.starts.reached_by(reference));
        let host = authority(reference).and_then(Host::parse);
        (host.map(|host| host.name.to_owned()), reached)
    }
}

/// What follows the scheme of a URI, if it has one.
fn behind_scheme(uri: &str) -> &str {
    let of_scheme = |c: u8| c.is_ascii_alphanumeric() || b"+-.".contains(&c);
    match uri.split_once(':') {
        Some((scheme, rest)) if scheme.bytes().all(of_scheme) => rest,
        _ => uri,
    }
}

/// The host in a reference that begins with one, however many slashes, or backslashes, are
/// before it.
fn authority(reference: &str) -> Option<&str> {
    let slash = |c: char| matches!(c, '/' | '\\');
    let rest = reference.trim_start_matches(slash);
    let begins = reference.len() - rest.len() >= 2;
    let authority = rest.split(|c| slash(c) || matches!(c, '?' | '#')).next()?;
    begins.then(|| authority.rsplit('@').next().unwrap_or(authority))
}

/// The methods that an origin may find in a request, in capitals as rules have
/// them: some frameworks do not tell them apart by case. Of several in a field,
/// it may take any.
fn methods(request: &Parts) -> BTreeSet<String> {
    let overrides = request.headers.iter().filter(|(name, _)| {
        let name = token::plain(name.as_str().as_bytes());
        OVERRIDES.iter().any(|field| name.clone().eq(field.bytes()))
    });
    let mut methods = BTreeSet::from([request.method.as_str().to_ascii_uppercase()]);
    for (_, value) in overrides {
        let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_uppercase();
        methods.extend(value.split(',').map(|method| method.trim().to_owned()));
    }
    methods
}
