//! A remote backend's own descriptor: fetched from more than one HSDir,
//! decrypted and checked; the newest wins.

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures::future::join_all;
use rand::seq::SliceRandom as _;
use tor_checkable::TimeBound as _;
use tor_dirclient::request::HsDescDownloadRequest;
use tor_hscrypto::Subcredential;
use tor_hscrypto::pk::HsBlindId;
use tor_netdoc::doc::hsdesc::HsDesc;

use super::descriptor;
use super::directory_request::{As, ask};
use super::hsdirs::{from_arti, identity_key, responsible};
use super::network::Network;
use crate::balancer::fact::{FetchFailure, FetchedDescriptor, ResponsibleHsdir};
use crate::onion::{Capabilities, OnionAddress, RelayId};

/// Fetches the descriptor of `address` in the current time period.
///
/// First it asks one HSDir of each replica at the same time, as two clients
/// would; if neither has a descriptor, all others that clients may ask. Of
/// several answers the highest revision counter wins: a single HSDir may hold
/// an old descriptor, or claim to have none.
pub(crate) async fn fetch(
    network: &Network,
    address: &OnionAddress,
    now: SystemTime,
) -> Result<FetchedDescriptor, FetchFailure> {
    let directory =
        network.directory().map_err(|error| FetchFailure::Unreachable(error.to_string()))?;
    let period = directory.hs_time_period();
    let unusable = || FetchFailure::Unusable("its address is no valid Ed25519 key".into());
    let key = identity_key(address).ok_or_else(unusable)?;
    let (blinded, subcredential) = key.compute_blinded_key(period).map_err(|_| unusable())?;
    let target = Target {
        blinded: blinded.id(),
        subcredential,
        max_length: usize::try_from(directory.params().hsdir_max_desc_size.get()).unwrap_or(50_000),
        now,
    };
    let (first, others) = in_order_of_asking(responsible(&directory, address, period));
    drop(directory);

    let mut failures = Vec::new();
    for hsdirs in [first, others] {
        let answers = join_all(hsdirs.iter().map(|hsdir| target.fetch_from(network, *hsdir))).await;
        let (found, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        failures.extend(failed.into_iter().filter_map(Result::err));
        if let Some(newest) = found.into_iter().flatten().max_by_key(HsDesc::revision) {
            return Ok(FetchedDescriptor {
                period: from_arti(period),
                revision: newest.revision().into(),
                points: newest.intro_points().iter().filter_map(descriptor::from_arti).collect(),
                capabilities: Capabilities {
                    flow_control: newest.flow_control().map(|(p, inc)| (p, inc.get())),
                    protocols: newest.declared_capabilities().clone(),
                    single_onion: newest.is_single_onion_service(),
                },
            });
        }
    }
    Err(most_telling(failures))
}

/// One replica's HSDir each to begin with, then the others; all in random
/// order, and only those that clients ask.
fn in_order_of_asking(hsdirs: Vec<ResponsibleHsdir>) -> (Vec<RelayId>, Vec<RelayId>) {
    let mut rng = super::rng();
    let mut replicas: BTreeMap<u8, Vec<RelayId>> = BTreeMap::new();
    for hsdir in hsdirs.into_iter().filter(|hsdir| hsdir.asked_by_clients) {
        replicas.entry(hsdir.replica).or_default().push(hsdir.relay);
    }
    let mut first = Vec::new();
    let mut others = Vec::new();
    for mut relays in replicas.into_values() {
        relays.shuffle(&mut rng);
        first.extend(relays.pop());
        others.extend(relays);
    }
    (first, others)
}

/// What to ask for, and what is needed to read the answer.
struct Target {
    /// Under which name HSDirs store it.
    blinded: HsBlindId,
    /// The key to its encryption.
    subcredential: Subcredential,
    /// The longest answer to accept, in bytes.
    max_length: usize,
    /// When it has to be valid.
    now: SystemTime,
}

impl Target {
    /// Asks one HSDir.
    async fn fetch_from(&self, network: &Network, hsdir: RelayId) -> Result<HsDesc, FetchFailure> {
        let mut request = HsDescDownloadRequest::new(self.blinded);
        request.set_max_len(self.max_length);
        let unreachable = |error: String| FetchFailure::Unreachable(format!("{hsdir}: {error}"));
        let response = ask(network, hsdir, As::Client, &request)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        match response.status_code() {
            200 => {}
            404 => return Err(FetchFailure::NotFound),
            code => return Err(unreachable(format!("answered {code}"))),
        }
        let text = response.into_output_string().map_err(|error| unreachable(error.to_string()))?;
        HsDesc::parse_decrypt_validate(&text, &self.blinded, &self.subcredential, None)
            .map_err(|error| FetchFailure::Unusable(chain(&error)))?
            .if_valid_at(&self.now)
            .map_err(|error| FetchFailure::Unusable(error.to_string()))
    }
}

/// Of several failures the one to act on: a descriptor that cannot be used
/// says most, an HSDir that could not be asked says least of the backend.
fn most_telling(failures: Vec<FetchFailure>) -> FetchFailure {
    failures
        .into_iter()
        .max_by_key(|failure| match failure {
            FetchFailure::Unusable(_) => 2,
            FetchFailure::NotFound => 1,
            FetchFailure::Unreachable(_) => 0,
        })
        .unwrap_or_else(|| FetchFailure::Unreachable("no HSDir is responsible".into()))
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
