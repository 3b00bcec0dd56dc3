//! What do the HSDirs hold of an address, and do all of them hold the same?
//!
//! Every responsible HSDir of the current period is asked. What comes out is the
//! JSON of `onionbraid descriptor --json`, whose names scripts may rely on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::owners::{self, Owners, RemoteOwner};
use crate::clock::now;
use crate::observe::snapshot::{Service, Timestamp};
use crate::tor::held::{self, DescriptorAtHsdir};
use crate::tor::network::Network;
use onionbraid_balancer::fact::{FetchFailure, FetchedDescriptor, ResponsibleHsdir};
use onionbraid_balancer::onion::{IntroPoint, OnionAddress, Period, RelayId};

/// An address to ask about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressQuestion {
    /// Whose descriptor.
    pub address: OnionAddress,
    /// The backends elsewhere that the files list for it: those of a daemon that
    /// runs it are known anyway.
    #[serde(default)]
    pub backends: Vec<RemoteOwner>,
}

/// What the daemon that answers knows of an address that it publishes.
#[derive(Clone, Debug, Default)]
pub struct Here {
    /// The service's status.
    pub service: Option<Service>,
    /// The backends of its introduction points.
    pub owners: Owners,
}

/// Everything that was found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The whole address.
    pub address: String,
    /// The nickname of the service here that publishes it.
    pub service: Option<String>,
    /// The number of the current time period.
    pub period: u64,
    /// How long a time period is, in minutes.
    pub period_minutes: u32,
    /// Whether all HSDirs hold a descriptor, and of one revision.
    pub all_agree: bool,
    /// Whether HSDirs hold different points of one revision, or the service here
    /// publishes them so: on purpose, and no disagreement.
    pub distinct: bool,
    /// Every responsible HSDir, replica by replica.
    pub hsdirs: Vec<AskedHsdir>,
    /// The different descriptors, the highest revision first.
    pub descriptors: Vec<PublishedDescriptor>,
}

/// What one HSDir answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AskedHsdir {
    /// Its fingerprint.
    pub relay: String,
    /// Its name, if the directory has it.
    pub nickname: Option<String>,
    /// From 1.
    pub replica: u8,
    /// Whether clients ask it; the others only store.
    pub asked_by_clients: bool,
    /// Whether it has a descriptor.
    pub state: HsdirAnswer,
    /// The revision counter of what it holds.
    pub revision: Option<u64>,
    /// Which of `descriptors` it holds, from 0.
    pub descriptor: Option<usize>,
    /// Why nothing usable came.
    pub error: Option<String>,
}

/// Whether an HSDir has a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HsdirAnswer {
    /// It has one that clients can use.
    Held,
    /// It says that it has none.
    None,
    /// It has one that cannot be decrypted or is not valid.
    Unusable,
    /// It could not be asked.
    Unreachable,
}

/// One descriptor that HSDirs hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishedDescriptor {
    /// Its revision counter.
    pub revision: u64,
    /// How many HSDirs hold it.
    pub hsdirs: usize,
    /// Its length, encrypted.
    pub bytes: usize,
    /// How long HSDirs may keep it.
    pub lifetime_minutes: Option<u16>,
    /// When its first certificate expires.
    pub certified_until: Option<Timestamp>,
    /// When it was published, if the daemon here did that.
    pub published_at: Option<Timestamp>,
    /// The `flow-control` line: versions and cells between two SENDMEs.
    pub flow_control: Option<String>,
    /// The `proto` line.
    pub protocols: String,
    /// Whether the service gives up its own anonymity.
    pub single_onion: bool,
    /// In its order.
    pub intro_points: Vec<PublishedPoint>,
}

/// One introduction point.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishedPoint {
    /// The first digits of its session id key.
    pub session_id: String,
    /// The fingerprint of its relay.
    pub relay: String,
    /// The relay's name, if the directory has it.
    pub nickname: Option<String>,
    /// The backend that has this very point: one, or none where it is not known.
    pub backends: Vec<String>,
}

/// Asks every responsible HSDir for a descriptor, and whose its points are.
///
/// # Errors
///
/// Without a directory, or if the address is no key.
pub async fn ask(
    network: &Network,
    question: &AddressQuestion,
    mut here: Here,
) -> Result<Published, FetchFailure> {
    let address = &question.address;
    let (period, answers) = held::everywhere(network, address, now().wall).await?;
    let held = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let points = held.flat_map(|held| &held.descriptor.points).map(|point| point.session_id);
    let points: BTreeSet<_> = points.collect();
    owners::complete(&mut here.owners, network, &question.backends, points).await;
    Ok(Published::new(address, period, &answers, &here, |relay| network.relay_nickname(relay)))
}

impl Published {
    /// Puts the HSDirs' answers together; `nickname` knows the relays' names.
    pub(crate) fn new(
        address: &OnionAddress,
        period: Period,
        answers: &[(ResponsibleHsdir, Result<DescriptorAtHsdir, FetchFailure>)],
        here: &Here,
        nickname: impl Fn(RelayId) -> Option<String>,
    ) -> Self {
        let mut held: Vec<&DescriptorAtHsdir> = Vec::new();
        for new in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
            if !held.iter().any(|old| says_the_same(&old.descriptor, &new.descriptor)) {
                held.push(new);
            }
        }
        held.sort_by_key(|held| std::cmp::Reverse(held.descriptor.revision));
        let which = |one: &DescriptorAtHsdir| {
            held.iter().position(|old| says_the_same(&old.descriptor, &one.descriptor))
        };
        let hsdir =
            |(hsdir, answer): &(ResponsibleHsdir, Result<DescriptorAtHsdir, FetchFailure>)| {
                let (state, error) = match answer {
                    Ok(_) => (HsdirAnswer::Held, None),
                    Err(FetchFailure::NotFound) => (HsdirAnswer::None, None),
                    Err(FetchFailure::Unusable(why)) => (HsdirAnswer::Unusable, Some(why.clone())),
                    Err(FetchFailure::Unreachable(why)) => {
                        (HsdirAnswer::Unreachable, Some(why.clone()))
                    }
                };
                AskedHsdir {
                    relay: hsdir.relay.to_string(),
                    nickname: nickname(hsdir.relay),
                    replica: hsdir.replica,
                    asked_by_clients: hsdir.asked_by_clients,
                    state,
                    revision: answer.as_ref().ok().map(|held| held.descriptor.revision),
                    descriptor: answer.as_ref().ok().and_then(which),
                    error,
                }
            };
        let hsdirs: Vec<AskedHsdir> = answers.iter().map(hsdir).collect();
        let newest = held.first().map(|held| held.descriptor.revision);
        let count = |index| hsdirs.iter().filter(|h| h.descriptor == Some(index)).count();
        let descriptors = held.iter().enumerate();
        Self {
            address: address.to_string(),
            service: here.service.as_ref().map(|service| service.nickname.clone()),
            period: period.number,
            period_minutes: period.length_minutes,
            all_agree: newest.is_some() && hsdirs.iter().all(|hsdir| hsdir.revision == newest),
            distinct: is_distinct(&held, here.service.as_ref()),
            descriptors: descriptors
                .map(|(index, held)| PublishedDescriptor::new(held, count(index), here, &nickname))
                .collect(),
            hsdirs,
        }
    }

    /// Whether a client finds a descriptor, wherever it asks first.
    pub fn can_be_found(&self) -> bool {
        self.hsdirs.iter().any(|h| h.asked_by_clients && h.state == HsdirAnswer::Held)
    }
}

impl PublishedDescriptor {
    fn new(
        held: &DescriptorAtHsdir,
        hsdirs: usize,
        here: &Here,
        nickname: &impl Fn(RelayId) -> Option<String>,
    ) -> Self {
        let FetchedDescriptor { revision, points, capabilities, .. } = &held.descriptor;
        let point = |point: &IntroPoint| PublishedPoint {
            session_id: point.session_id.prefix(),
            relay: point.relay.to_string(),
            nickname: nickname(point.relay),
            backends: here.owners.get(&point.session_id).cloned().into_iter().collect(),
        };
        let flow_control = capabilities.flow_control.as_ref();
        Self {
            revision: *revision,
            hsdirs,
            bytes: held.length,
            lifetime_minutes: held.lifetime_minutes,
            certified_until: held.certified_until.map(Timestamp),
            published_at: here
                .service
                .as_ref()
                .and_then(|service| published_at(service, *revision)),
            flow_control: flow_control
                .map(|(versions, increment)| format!("{versions} {increment}")),
            protocols: capabilities.protocols.to_string(),
            single_onion: capabilities.single_onion,
            intro_points: points.iter().map(point).collect(),
        }
    }
}

/// Whether HSDirs get different points on purpose: descriptors of one revision
/// differ, or the daemon here says that it publishes such.
fn is_distinct(held: &[&DescriptorAtHsdir], service: Option<&Service>) -> bool {
    let revisions: BTreeSet<u64> = held.iter().map(|held| held.descriptor.revision).collect();
    let current = service.and_then(|service| service.descriptors.iter().find(|it| it.current));
    held.len() > revisions.len() || current.is_some_and(|descriptor| descriptor.distinct)
}

/// Whether two descriptors tell clients the same. C tor encrypts anew for each
/// HSDir, so the texts differ.
fn says_the_same(a: &FetchedDescriptor, b: &FetchedDescriptor) -> bool {
    let points = |descriptor: &FetchedDescriptor| {
        let mut points = descriptor.points.clone();
        points.sort_unstable();
        points
    };
    a.revision == b.revision && a.capabilities == b.capabilities && points(a) == points(b)
}

/// When the daemon's descriptor with this revision was last accepted.
fn published_at(service: &Service, revision: u64) -> Option<Timestamp> {
    let published = service.descriptors.iter().find(|d| d.current && d.revision == Some(revision));
    published.and_then(|descriptor| descriptor.published_at)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use onionbraid_balancer::onion::{Capabilities, SessionId};

    pub(crate) fn held(revision: u64, points: &[u8]) -> Result<DescriptorAtHsdir, FetchFailure> {
        let point = |n: &u8| IntroPoint {
            session_id: SessionId([*n; 32]),
            relay: RelayId([*n % 10; 20]),
            link_specifiers: Vec::new(),
            relay_ntor_key: [0; 32],
            service_ntor_key: [0; 32],
        };
        let period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 0 };
        Ok(DescriptorAtHsdir {
            descriptor: FetchedDescriptor {
                period,
                revision,
                points: points.iter().map(point).collect(),
                flaw: None,
                capabilities: Capabilities::default(),
            },
            length: 14_436,
            lifetime_minutes: Some(180),
            certified_until: None,
        })
    }

    pub(crate) fn published(
        answers: Vec<Result<DescriptorAtHsdir, FetchFailure>>,
        here: &Here,
    ) -> Published {
        let hsdir = |n: u8| ResponsibleHsdir {
            relay: RelayId([n; 20]),
            replica: 1,
            asked_by_clients: n < 3,
        };
        let period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 0 };
        let answers: Vec<_> = (0..).map(hsdir).zip(answers).collect();
        let address = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";
        Published::new(&address.parse().unwrap(), period, &answers, here, |_| None)
    }

    #[test]
    fn what_the_daemon_here_publishes_as_distinct_is_called_so_whatever_the_revisions() {
        let (one, other) = (held(7, &[1]).unwrap(), held(8, &[2]).unwrap());
        let service: Service = serde_json::from_value(serde_json::json!({
            "nickname": "shop", "address": "", "state": "published", "backends": [],
            "descriptors": [{
                "period": 20_000, "current": true, "revision": 8, "intro_points": 2,
                "distinct": true, "published_at": null, "hsdirs": [],
            }],
        }))
        .unwrap();
        assert!(is_distinct(&[&one, &other], Some(&service)));
        assert!(!is_distinct(&[&one, &other], None));
    }

    #[test]
    fn of_two_backends_at_one_relay_the_one_with_this_very_point_is_named() {
        // 1 and 11 are at the same relay.
        let owners = [(1, "berlin"), (11, "oslo")];
        let owners = owners.map(|(n, name)| (SessionId([n; 32]), name.to_owned()));
        let here = Here { service: None, owners: owners.into() };
        let published = published(vec![held(7, &[1, 11, 2])], &here);
        let points = &published.descriptors[0].intro_points;
        assert_eq!(points[0].relay, points[1].relay);
        let named: Vec<_> = points.iter().map(|point| point.backends.join("/")).collect();
        assert_eq!(named, ["berlin", "oslo", ""]);
    }
}
