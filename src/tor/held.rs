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

    /// Whether everybody can read it, although it is ours and only clients should.
    fn is_open(&self, text: &str) -> bool {
        let closed = |reader: &DescriptorReader| matches!(reader, DescriptorReader::Publisher(..));
        let parse = || {
            HsDesc::parse_decrypt_validate(text, &self.blinded, &self.subcredential, None).is_ok()
        };
        self.readers.iter().any(closed) && parse()
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

/// What one HSDir holds of our own in a period, asked once as a client would ask; and the
/// revision counter of what is signed with the address's key, even if more of it cannot be
/// read, or is for others than it should be.
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
        Ok((wanted, text)) if wanted.is_open(&text) => {
            let open = FetchFailure::Unusable("its descriptor is open to everybody".into());
            (Err(open), wanted.signed_revision(&text))
        }
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
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use tor_hscrypto::pk::HsIdKeypair;
    use tor_llcrypto::pk::ed25519;

    use super::super::credentials::Credentials;
    use super::*;
    use onionbraid_balancer::command::Publication;
    use onionbraid_balancer::onion::{Access, ClientKey, IntroPoint, LinkSpecifier, SessionId};

    /// Of Curve25519 (RFC 7748, section 4.1), and no point of its twist.
    const BASE_POINT: [u8; 32] = [
        9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ];

    /// A point with keys that can be used, at a relay that does not matter.
    fn point() -> IntroPoint {
        let key = |n: u8| {
            let key = ed25519::Keypair::from_bytes(&[n; 32]);
            key.verifying_key().to_bytes()
        };
        let specifier = |kind, body: &[u8]| LinkSpecifier { kind, body: body.to_vec() };
        IntroPoint {
            session_id: SessionId(key(1)),
            relay: RelayId([1; 20]),
            link_specifiers: vec![
                specifier(0, &[127, 0, 0, 1, 0, 1]),
                specifier(2, &[1; 20]),
                specifier(3, &[1; 32]),
            ],
            relay_ntor_key: [9; 32],
            service_ntor_key: BASE_POINT,
        }
    }

    #[test]
    fn what_our_key_has_signed_for_others_has_a_revision_and_is_open_only_if_it_should_not_be() {
        let period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 12 * 3600 };
        let key = ed25519::Keypair::from_bytes(&[7; 32]);
        let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&key));
        let credentials = Arc::new(Credentials::of_identity(identity));
        let clients = |n: u8| Access::Clients([ClientKey::new([n; 32]).unwrap()].into());
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let published = |access: &Access| {
            let publication = Publication {
                period,
                hsdir: RelayId([0; 20]),
                as_of: now,
                points: vec![point()].into(),
                capabilities: Capabilities::default(),
                puzzle: None,
                access: access.clone(),
            };
            descriptor::build(&credentials, &publication, 1000, 50_000).unwrap().text
        };
        let public = credentials.public_key();
        let (blinded, subcredential) = public.compute_blinded_key(to_arti(period)).unwrap();
        let wanted = |access: &Access| WantedDescriptor {
            period,
            blinded: blinded.id(),
            subcredential,
            readers: match access {
                Access::Everybody => Vec::new(),
                access => {
                    let (credentials, access) = (Arc::clone(&credentials), access.clone());
                    vec![DescriptorReader::Publisher(credentials, access)]
                }
            },
            max_length: 50_000,
            now,
        };
        let all = [Access::Everybody, clients(9), clients(10)];
        for (ours, theirs) in all.iter().flat_map(|ours| all.iter().map(move |it| (ours, it))) {
            let (wanted, text) = (wanted(ours), published(theirs));
            assert!(revision_line(&text).is_some());
            assert_eq!(wanted.signed_revision(&text), revision_line(&text));
            let should_not_be = *ours != Access::Everybody && *theirs == Access::Everybody;
            assert_eq!(wanted.is_open(&text), should_not_be, "{ours:?} {theirs:?}");
            let readable = ours == theirs || *theirs == Access::Everybody;
            assert_eq!(wanted.open(&text).is_ok(), readable, "{ours:?} {theirs:?}");
            let forged = text.replace("revision-counter ", "revision-counter 1");
            assert_eq!(wanted.signed_revision(&forged), None);
        }
    }

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
