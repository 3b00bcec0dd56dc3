//! The explanation of what is published under an address: as JSON, whose names
//! scripts may rely on, and as text.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use super::Found;
use crate::observe::snapshot::{Service, Timestamp};
use crate::observe::table::table;
use crate::tor::held::Held;
use onionbraid_balancer::fact::{FetchFailure, FetchedDescriptor};
use onionbraid_balancer::onion::{OnionAddress, RelayId};

/// What tables begin their lines with.
const INDENT: &str = "    ";

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The whole address.
    address: String,
    /// The nickname of the service here that publishes it.
    service: Option<String>,
    /// The number of the current time period.
    period: u64,
    /// How long a time period is, in minutes.
    period_minutes: u32,
    /// Whether all HSDirs hold a descriptor, and of one revision.
    all_agree: bool,
    /// Whether HSDirs hold different points of one revision, or the service here
    /// publishes them so: on purpose, and no disagreement.
    distinct: bool,
    /// Every responsible HSDir, replica by replica.
    hsdirs: Vec<Hsdir>,
    /// The different descriptors, the highest revision first.
    descriptors: Vec<Descriptor>,
}

/// What one HSDir answers.
#[derive(Debug, Serialize)]
struct Hsdir {
    /// Its fingerprint.
    relay: String,
    /// Its name, if the directory has it.
    nickname: Option<String>,
    /// From 1.
    replica: u8,
    /// Whether clients ask it; the others only store.
    asked_by_clients: bool,
    state: HsdirState,
    /// The revision counter of what it holds.
    revision: Option<u64>,
    /// Which of `descriptors` it holds, from 0.
    descriptor: Option<usize>,
    /// Why nothing usable came.
    error: Option<String>,
}

/// Whether an HSDir has a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum HsdirState {
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
#[derive(Debug, Serialize)]
struct Descriptor {
    revision: u64,
    /// How many HSDirs hold it.
    hsdirs: usize,
    /// Its length, encrypted.
    bytes: usize,
    /// How long HSDirs may keep it.
    lifetime_minutes: Option<u16>,
    /// When its first certificate expires.
    certified_until: Option<Timestamp>,
    /// When it was published, if the daemon here did that.
    published_at: Option<Timestamp>,
    /// The `flow-control` line: versions and cells between two SENDMEs.
    flow_control: Option<String>,
    /// The `proto` line.
    protocols: String,
    /// Whether the service gives up its own anonymity.
    single_onion: bool,
    intro_points: Vec<Point>,
}

/// One introduction point.
#[derive(Debug, Serialize)]
struct Point {
    /// The first digits of its session id key.
    session_id: String,
    /// The fingerprint of its relay.
    relay: String,
    /// The relay's name, if the directory has it.
    nickname: Option<String>,
    /// The backends here that have a point at this relay: one, as a rule.
    backends: Vec<String>,
}

impl Report {
    /// Puts the answers together; `nickname` knows the relays' names.
    pub(super) fn new(
        address: &OnionAddress,
        found: &Found,
        nickname: impl Fn(RelayId) -> Option<String>,
    ) -> Self {
        let mut held: Vec<&Held> = Vec::new();
        for new in found.answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
            if !held.iter().any(|old| says_the_same(&old.descriptor, &new.descriptor)) {
                held.push(new);
            }
        }
        held.sort_by_key(|held| std::cmp::Reverse(held.descriptor.revision));
        let which = |one: &Held| {
            held.iter().position(|old| says_the_same(&old.descriptor, &one.descriptor))
        };
        let hsdirs: Vec<Hsdir> = found
            .answers
            .iter()
            .map(|(hsdir, answer)| {
                let (state, error) = match answer {
                    Ok(_) => (HsdirState::Held, None),
                    Err(FetchFailure::NotFound) => (HsdirState::None, None),
                    Err(FetchFailure::Unusable(why)) => (HsdirState::Unusable, Some(why.clone())),
                    Err(FetchFailure::Unreachable(why)) => {
                        (HsdirState::Unreachable, Some(why.clone()))
                    }
                };
                Hsdir {
                    relay: hsdir.relay.to_string(),
                    nickname: nickname(hsdir.relay),
                    replica: hsdir.replica,
                    asked_by_clients: hsdir.asked_by_clients,
                    state,
                    revision: answer.as_ref().ok().map(|held| held.descriptor.revision),
                    descriptor: answer.as_ref().ok().and_then(which),
                    error,
                }
            })
            .collect();
        let newest = held.first().map(|held| held.descriptor.revision);
        let count = |index| hsdirs.iter().filter(|h| h.descriptor == Some(index)).count();
        let descriptors = held.iter().enumerate();
        Self {
            address: address.to_string(),
            service: found.service.as_ref().map(|service| service.nickname.clone()),
            period: found.period.number,
            period_minutes: found.period.length_minutes,
            all_agree: newest.is_some() && hsdirs.iter().all(|hsdir| hsdir.revision == newest),
            distinct: is_distinct(&held, found.service.as_ref()),
            descriptors: descriptors
                .map(|(index, held)| Descriptor::new(held, count(index), found, &nickname))
                .collect(),
            hsdirs,
        }
    }

    /// Whether a client finds a descriptor, wherever it asks first.
    pub(super) fn can_be_found(&self) -> bool {
        self.hsdirs.iter().any(|h| h.asked_by_clients && h.state == HsdirState::Held)
    }

    /// The same as text.
    pub(super) fn write(&self, now: SystemTime, out: &mut impl Write) -> io::Result<()> {
        let (address, number, minutes) = (&self.address, self.period, self.period_minutes);
        writeln!(out, "{address}, time period {number} ({minutes} minutes)")?;
        if let Some(service) = &self.service {
            writeln!(out, "published here as service \"{service}\"")?;
        }
        writeln!(out)?;
        let heading = ["HSDir", "", "replica", "clients", "descriptor", "revision"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(self.hsdirs.iter().map(Hsdir::row));
        writeln!(out, "{}\n{}", table(INDENT, &rows), self.agreement())?;
        let mut descriptors = self.descriptors.iter().enumerate();
        descriptors.try_for_each(|(index, descriptor)| descriptor.write(index + 1, now, out))
    }

    /// Whether the HSDirs agree, and what it means if they do not.
    fn agreement(&self) -> String {
        let all = self.hsdirs.len();
        let holding = self.hsdirs.iter().filter(|h| h.state == HsdirState::Held).count();
        let different = self.descriptors.len();
        let who = match holding == all {
            true => format!("All {all} HSDirs hold"),
            false => format!("{holding} of {all} HSDirs hold"),
        };
        let revisions: BTreeSet<u64> = self.descriptors.iter().map(|it| it.revision).collect();
        match (different, revisions.len(), self.distinct) {
            (0, ..) => "No HSDir holds a descriptor that can be used.".to_owned(),
            (1, ..) if holding == all => format!("{who} the same descriptor."),
            (1, ..) => format!("{who} a descriptor, all the same one."),
            (_, 1, _) => format!(
                "{who} one revision, in {different} distinct descriptors: different introduction \
                 points\non different HSDirs are no fault, they are how more than 20 are in use."
            ),
            (_, revisions, distinct) => format!(
                "{who} {different} {} descriptors, of {revisions} revisions: the newest is still \
                 on its way\nto HSDirs with an older one, or they have missed it.",
                if distinct { "distinct" } else { "different" }
            ),
        }
    }
}

impl Hsdir {
    /// Its line of the table.
    fn row(&self) -> Vec<String> {
        let answer = match (self.state, self.revision) {
            (HsdirState::Held, Some(revision)) => revision.to_string(),
            (HsdirState::None, _) => "none".to_owned(),
            (HsdirState::Unusable, _) => format!("UNUSABLE: {}", text(&self.error)),
            (_, _) => format!("UNREACHABLE: {}", text(&self.error)),
        };
        vec![
            self.relay.clone(),
            text(&self.nickname),
            self.replica.to_string(),
            if self.asked_by_clients { "ask it" } else { "-" }.to_owned(),
            self.descriptor.map_or("-".to_owned(), |index| (index + 1).to_string()),
            answer,
        ]
    }
}

impl Descriptor {
    fn new(
        held: &Held,
        hsdirs: usize,
        found: &Found,
        nickname: &impl Fn(RelayId) -> Option<String>,
    ) -> Self {
        let FetchedDescriptor { revision, points, capabilities, .. } = &held.descriptor;
        let service = found.service.as_ref();
        let point = |point: &onionbraid_balancer::onion::IntroPoint| Point {
            session_id: point.session_id.prefix(),
            relay: point.relay.to_string(),
            nickname: nickname(point.relay),
            backends: service.map(|service| backends(service, point.relay)).unwrap_or_default(),
        };
        let flow_control = capabilities.flow_control.as_ref();
        Self {
            revision: *revision,
            hsdirs,
            bytes: held.length,
            lifetime_minutes: held.lifetime_minutes,
            certified_until: held.certified_until.map(Timestamp),
            published_at: service.and_then(|service| published_at(service, *revision)),
            flow_control: flow_control
                .map(|(versions, increment)| format!("{versions} {increment}")),
            protocols: capabilities.protocols.to_string(),
            single_onion: capabilities.single_onion,
            intro_points: points.iter().map(point).collect(),
        }
    }

    fn write(&self, number: usize, now: SystemTime, out: &mut impl Write) -> io::Result<()> {
        let Self { revision, hsdirs, bytes, .. } = self;
        write!(out, "\nDescriptor {number}, revision {revision}, on {hsdirs} ")?;
        write!(out, "HSDir{}: {bytes} bytes", if *hsdirs == 1 { "" } else { "s" })?;
        if let Some(minutes) = self.lifetime_minutes {
            write!(out, ", kept for {minutes} minutes")?;
        }
        if let Some(Timestamp(until)) = self.certified_until {
            write!(out, ", certified until {}", humantime::format_rfc3339_seconds(until))?;
        }
        if let Some(age) = self.published_at.and_then(|at| now.duration_since(at.0).ok()) {
            write!(out, ", published {} s ago", age.as_secs())?;
        }
        writeln!(out)?;
        let flow_control = self.flow_control.as_deref().unwrap_or("none");
        let protocols = if self.protocols.is_empty() { "none" } else { &self.protocols };
        let kind = if self.single_onion { "a single onion service" } else { "anonymous" };
        writeln!(out, "flow-control: {flow_control}; proto: {protocols}; {kind}\n")?;
        let heading = ["point", "relay", "", "backend"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(self.intro_points.iter().map(|point| {
            let backends = point.backends.join(" or ");
            vec![point.session_id.clone(), point.relay.clone(), text(&point.nickname), backends]
        }));
        out.write_all(table(INDENT, &rows).as_bytes())
    }
}

/// Whether HSDirs get different points on purpose: descriptors of one revision
/// differ, or the daemon here says that it publishes such.
fn is_distinct(held: &[&Held], service: Option<&Service>) -> bool {
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

/// The backends that have a point at this relay.
fn backends(service: &Service, relay: RelayId) -> Vec<String> {
    let relay = relay.to_string();
    let there = service.backends.iter().filter(|backend| backend.relays.contains(&relay));
    there.map(|backend| backend.name.clone()).collect()
}

/// When the daemon's descriptor with this revision was last accepted.
fn published_at(service: &Service, revision: u64) -> Option<Timestamp> {
    let published = service.descriptors.iter().find(|d| d.current && d.revision == Some(revision));
    published.and_then(|descriptor| descriptor.published_at)
}

fn text(maybe: &Option<String>) -> String {
    maybe.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use onionbraid_balancer::fact::ResponsibleHsdir;
    use onionbraid_balancer::onion::{Capabilities, IntroPoint, Period, SessionId};

    fn held(revision: u64, points: &[u8]) -> Result<Held, FetchFailure> {
        let point = |n: &u8| IntroPoint {
            session_id: SessionId([*n; 32]),
            relay: RelayId([*n; 20]),
            link_specifiers: Vec::new(),
            relay_ntor_key: [0; 32],
            service_ntor_key: [0; 32],
        };
        let period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 0 };
        Ok(Held {
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

    fn report(answers: Vec<Result<Held, FetchFailure>>) -> Report {
        let hsdir = |n: u8| ResponsibleHsdir {
            relay: RelayId([n; 20]),
            replica: 1,
            asked_by_clients: n < 3,
        };
        let found = Found {
            period: Period { number: 20_000, length_minutes: 1440, offset_seconds: 0 },
            answers: (0..).map(hsdir).zip(answers).collect(),
            service: None,
        };
        let address = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";
        Report::new(&address.parse().unwrap(), &found, |_| None)
    }

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        report.write(UNIX_EPOCH + Duration::from_secs(1), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_same_points_in_another_order_are_the_same_descriptor() {
        let report = report(vec![held(7, &[1, 2]), held(7, &[2, 1])]);
        assert!(report.all_agree && !report.distinct);
        assert!(text(&report).contains("All 2 HSDirs hold the same descriptor."));
        assert_eq!((report.descriptors.len(), report.descriptors[0].hsdirs), (1, 2));
    }

    #[test]
    fn an_old_revision_on_one_hsdir_is_seen_and_comes_last() {
        let report = report(vec![held(7, &[1]), held(8, &[1]), held(8, &[1])]);
        assert!(!report.all_agree && !report.distinct);
        let revisions: Vec<_> = report.descriptors.iter().map(|d| d.revision).collect();
        assert_eq!(revisions, [8, 7]);
        assert_eq!(report.hsdirs[0].descriptor, Some(1));
        assert!(text(&report).contains("All 3 HSDirs hold 2 different descriptors, of 2"));
    }

    #[test]
    fn different_points_of_one_revision_are_distinct_descriptors_and_no_fault() {
        let report = report(vec![held(7, &[1]), held(7, &[2]), held(7, &[1])]);
        assert!(report.all_agree && report.distinct);
        let text = text(&report);
        assert!(text.contains("All 3 HSDirs hold one revision, in 2 distinct desc"), "{text}");
        assert!(text.contains("Descriptor 2, revision 7, on 1 HSDir: "), "{text}");
    }

    #[test]
    fn an_old_one_among_distinct_descriptors_is_seen() {
        let report = report(vec![held(7, &[1]), held(8, &[2]), held(8, &[3])]);
        assert!(!report.all_agree && report.distinct);
        let text = text(&report);
        assert!(text.contains("All 3 HSDirs hold 3 distinct descriptors, of 2 rev"), "{text}");
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
    fn a_descriptor_that_only_the_others_hold_is_not_found_by_clients() {
        let missing = || Err(FetchFailure::NotFound);
        let unreachable = Err(FetchFailure::Unreachable("no circuit".into()));
        let report = report(vec![missing(), unreachable, missing(), held(7, &[1])]);
        assert!(!report.can_be_found() && !report.all_agree);
        let text = text(&report);
        assert!(text.contains("none") && text.contains("UNREACHABLE: no circuit"), "{text}");
        assert!(text.contains("1 of 4 HSDirs hold a descriptor, all the same one."), "{text}");
    }
}
