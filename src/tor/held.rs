//! What does one HSDir hold of an address? One question to one HSDir,
//! decrypted and checked, and the same question to all of them.
//!
//! `fetch` asks a few for the newest descriptor; who wants to see how well it
//! is published asks all.

use std::time::SystemTime;

use futures::future::join_all;
use tor_checkable::TimeBound as _;
use tor_checkable::timed::TimeRangeBound;
use tor_hscrypto::Subcredential;
use tor_hscrypto::pk::{HsBlindId, HsClientDescEncKeypair};
use tor_hscrypto::time::TimePeriod;
use tor_netdir::NetDir;
use tor_netdoc::doc::hsdesc::{HsDesc, HsDescError};

use super::descriptor;
use super::directory_request::{As, Request, ask};
use super::hsdirs::{from_arti, identity_key, responsible, to_arti};
use super::keyring::DescriptorReader;
use super::network::Network;
use super::private_address;
use super::protocols;
use crate::causes::in_one_line;
use onionbraid_balancer::fact::{FetchFailure, FetchedDescriptor, ResponsibleHsdir};
use onionbraid_balancer::onion::{Capabilities, OnionAddress, Period, RelayId};

/// A descriptor as one HSDir holds it.
#[derive(Clone, Debug)]
pub struct DescriptorAtHsdir {
    /// What it says.
    pub descriptor: FetchedDescriptor,
    /// Its length in bytes, encrypted as it is.
    pub length: usize,
    /// How long HSDirs may keep it, in minutes; `None` if it does not say so
    /// in the way of the specification.
    pub lifetime_minutes: Option<u16>,
    /// When the first of its certificates expires.
    pub certified_until: Option<SystemTime>,
}

/// What to ask for, and what is needed to read the answer.
pub(super) struct WantedDescriptor {
    /// In which period.
    period: Period,
    /// Under which name HSDirs store the descriptor.
    blinded: HsBlindId,
    /// The key to its encryption ...
    subcredential: Subcredential,
    /// ... and what else it takes where it is not for everybody.
    readers: Vec<DescriptorReader>,
    /// The longest answer to accept, in bytes.
    max_length: usize,
    /// When it has to be valid.
    now: SystemTime,
}

impl WantedDescriptor {
    /// The descriptor of an address in the current period, and who should
    /// have it.
    pub(super) fn of(
        network: &Network,
        address: &OnionAddress,
        now: SystemTime,
    ) -> Result<(Self, Vec<ResponsibleHsdir>), FetchFailure> {
        let directory =
            network.directory().map_err(|error| FetchFailure::Unreachable(error.to_string()))?;
        Self::in_period(network, &directory, address, directory.hs_time_period(), now)
    }

    /// The same in the periods before and after, as far as services publish in
    /// them now (rend-spec-v3, section 2.2.4).
    pub(super) fn beside(
        network: &Network,
        address: &OnionAddress,
        now: SystemTime,
    ) -> Vec<(Self, Vec<ResponsibleHsdir>)> {
        let Ok(directory) = network.directory() else { return Vec::new() };
        let all = directory.hs_all_time_periods();
        let others = all.iter().map(tor_netdir::HsDirParams::time_period);
        others
            .filter(|period| *period != directory.hs_time_period())
            .filter_map(|period| Self::in_period(network, &directory, address, period, now).ok())
            .collect()
    }

    fn in_period(
        network: &Network,
        directory: &NetDir,
        address: &OnionAddress,
        period: TimePeriod,
        now: SystemTime,
    ) -> Result<(Self, Vec<ResponsibleHsdir>), FetchFailure> {
        let unusable = || FetchFailure::Unusable("its address is no valid Ed25519 key".into());
        let key = identity_key(address).ok_or_else(unusable)?;
        let (blinded, subcredential) = key.compute_blinded_key(period).map_err(|_| unusable())?;
        let most = directory.params().hsdir_max_desc_size.get();
        let wanted = Self {
            period: from_arti(period),
            blinded: blinded.id(),
            subcredential,
            readers: network.keyring.of(address),
            max_length: usize::try_from(most).unwrap_or(50_000),
            now,
        };
        Ok((wanted, responsible(directory, address, period)))
    }

    /// Asks one HSDir.
    pub(super) async fn held_by(
        &self,
        network: &Network,
        hsdir: RelayId,
    ) -> Result<DescriptorAtHsdir, FetchFailure> {
        let text = self.text_at(network, hsdir).await?;
        let unreachable = |error: String| FetchFailure::Unreachable(format!("{hsdir}: {error}"));
        let directory = network.directory().map_err(|error| unreachable(error.to_string()))?;
        self.read(&text, &directory)
    }

    /// What one HSDir answers, as it is.
    async fn text_at(&self, network: &Network, hsdir: RelayId) -> Result<String, FetchFailure> {
        let request = Request::Fetch { blinded: self.blinded, max_length: self.max_length };
        let unreachable = |error: String| FetchFailure::Unreachable(format!("{hsdir}: {error}"));
        let answer = ask(network, hsdir, As::Client, &request)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        match answer.status {
            200 => {}
            404 => return Err(FetchFailure::NotFound),
            code => return Err(unreachable(format!("answered {code}"))),
        }
        String::from_utf8(answer.body).map_err(|error| unreachable(error.to_string()))
    }

    /// The revision counter of a descriptor that is signed with the address's key in this
    /// period, whoever may read what it says.
    fn signed_revision(&self, text: &str) -> Option<u64> {
        let parsed = HsDesc::parse_decrypt_validate(text, &self.blinded, &self.subcredential, None);
        match parsed {
            Ok(read) => Some(read.dangerously_assume_timely().revision().into()),
            Err(
                HsDescError::OuterParsing(_)
                | HsDescError::OuterValidation(_)
                | HsDescError::Bug(_),
            ) => None,
            // The outer layer was found good.
            Err(_) => revision_line(text),
        }
    }

    /// Decrypts a descriptor, as whoever may read it, and checks its signatures.
    fn open(&self, text: &str) -> Result<TimeRangeBound<HsDesc>, FetchFailure> {
        let parse = |text: &str, pair: Option<&HsClientDescEncKeypair>| {
            HsDesc::parse_decrypt_validate(text, &self.blinded, &self.subcredential, pair)
        };
        let mut outcome = parse(text, None);
        for reader in &self.readers {
            // Everything around what is for clients was found good.
            if !matches!(
                outcome,
                Err(HsDescError::MissingDecryptionKey | HsDescError::WrongDecryptionKey)
            ) {
                break;
            }
            outcome = match reader {
                DescriptorReader::Client(pair) => parse(text, Some(pair)),
                DescriptorReader::Publisher(credentials, access) => {
                    match descriptor::reopened(credentials, access, self.period, text) {
                        Some(text) => parse(&text, None),
                        None => outcome,
                    }
                }
            };
        }
        outcome.map_err(|error| {
            FetchFailure::Unusable(match (&error, self.readers.as_slice()) {
                (HsDescError::MissingDecryptionKey, []) => {
                    "only authorized clients can read its descriptor, and there is no `client_key`"
                        .to_owned()
                }
                (HsDescError::MissingDecryptionKey | HsDescError::WrongDecryptionKey, _) => {
                    "its descriptor is for other clients".to_owned()
                }
                _ => in_one_line(&error),
            })
        })
    }

    /// Decrypts and checks a descriptor.
    fn read(&self, text: &str, directory: &NetDir) -> Result<DescriptorAtHsdir, FetchFailure> {
        let bounded = self.open(text)?;
        let (_, certified_until) = bounded.bounds_start_end();
        let read = bounded
            .if_valid_at(&self.now)
            .map_err(|error| FetchFailure::Unusable(error.to_string()))?;
        let mut flaw = None;
        let mut points = Vec::new();
        for point in read.intro_points() {
            let point = descriptor::from_arti(point);
            match point.and_then(|point| private_address::checked(point, directory)) {
                Ok(point) => points.push(point),
                Err(found) => flaw = flaw.or(Some(found)),
            }
        }
        Ok(DescriptorAtHsdir {
            descriptor: FetchedDescriptor {
                period: self.period,
                revision: read.revision().into(),
                points,
                flaw,
                capabilities: Capabilities {
                    flow_control: read
                        .flow_control()
                        .map(|(p, inc)| (protocols::from_arti(&p), inc.get())),
                    protocols: protocols::from_arti(read.declared_capabilities()),
                    single_onion: read.is_single_onion_service(),
                },
            },
            length: text.len(),
            lifetime_minutes: lifetime(text),
            certified_until,
        })
    }
}

/// What every responsible HSDir of the current period holds, replica by
/// replica in the order of the ring; all are asked at the same time.
///
/// # Errors
///
/// Without a directory, or if the address is no key.
pub(crate) async fn everywhere(
    network: &Network,
    address: &OnionAddress,
    now: SystemTime,
) -> Result<(Period, Vec<(ResponsibleHsdir, Result<DescriptorAtHsdir, FetchFailure>)>), FetchFailure>
{
    let (wanted, hsdirs) = WantedDescriptor::of(network, address, now)?;
    let answers = join_all(hsdirs.iter().map(|hsdir| wanted.held_by(network, hsdir.relay))).await;
    Ok((wanted.period, hsdirs.into_iter().zip(answers).collect()))
}

/// What one HSDir holds in a period, asked once as a client would ask; and the revision
/// counter of what is signed with the address's key, even if more of it cannot be read.
pub(crate) async fn one(
    network: &Network,
    address: &OnionAddress,
    period: Period,
    hsdir: RelayId,
    now: SystemTime,
) -> (Result<FetchedDescriptor, FetchFailure>, Option<u64>) {
    let text = async {
        let directory =
            network.directory().map_err(|error| FetchFailure::Unreachable(error.to_string()))?;
        if !directory.hs_all_time_periods().iter().any(|it| it.time_period() == to_arti(period)) {
            let passed = format!("nobody publishes in period {} any more", period.number);
            return Err(FetchFailure::Unreachable(passed));
        }
        let (wanted, _) =
            WantedDescriptor::in_period(network, &directory, address, to_arti(period), now)?;
        drop(directory);
        let text = wanted.text_at(network, hsdir).await?;
        Ok((wanted, text))
    };
    match text.await {
        Ok((wanted, text)) => {
            let read = network
                .directory()
                .map_err(|error| FetchFailure::Unreachable(error.to_string()))
                .and_then(|directory| wanted.read(&text, &directory));
            (read.map(|held| held.descriptor), wanted.signed_revision(&text))
        }
        Err(failure) => (Err(failure), None),
    }
}

/// The line `revision-counter` of the outer layer, of which there is one
/// (rend-spec-v3, section 2.4).
fn revision_line(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("revision-counter "))?.trim().parse().ok()
}

/// The line `descriptor-lifetime`, which Arti's parser keeps to itself
/// (rend-spec-v3, section 2.4).
fn lifetime(text: &str) -> Option<u16> {
    text.lines().find_map(|line| line.strip_prefix("descriptor-lifetime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_read_from_its_own_line_alone() {
        let text = "hs-descriptor 3\ndescriptor-lifetime 180\nrevision-counter 7\n";
        assert_eq!(revision_line(text), Some(7));
        assert_eq!(revision_line("hs-descriptor 3\nrevision-counter -1\n"), None);
        assert_eq!(revision_line(""), None);
    }

    #[test]
    fn the_lifetime_is_read_from_its_own_line_alone() {
        let text = "hs-descriptor 3\ndescriptor-lifetime 180\nrevision-counter 7\n";
        assert_eq!(lifetime(text), Some(180));
        assert_eq!(lifetime("hs-descriptor 3\nrevision-counter 180\n"), None);
        assert_eq!(lifetime("descriptor-lifetime a while\n"), None);
    }
}
