//! What a balancer keeps over a restart, as it is serialised.
//!
//! What it cannot learn again at once: the last known points of the remote
//! backends, so that they are published before the first fetch has ended; the
//! revisions already seen and used, below which nobody may go; what probes have
//! found to fail, so that it is not listed until they find it good; and which
//! points were listed, so that no other ones are chosen without need. Whoever
//! keeps it writes it down as serde says and gives it back, unchanged or torn:
//! an entry that cannot be read is left out, one that is not known ignored.
//!
//! Backends go by what survives a change of the configuration: a remote one by
//! its address, a local instance by its name.

use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::hsdir::LIFETIME;
use crate::link::WorkReport;
use crate::onion::{Access, Capabilities, IntroPoint, OnionAddress, Period, SessionId};
use crate::operator::{Override, Word};
use crate::pow::Effort;
use crate::status::Timestamp;

/// The version that this program writes. It reads every other one as well as
/// it can: what has another meaning must get another name.
const VERSION: u32 = 1;
/// A moment so far in the future was not written by a clock with which Tor
/// would have worked: no consensus is valid then.
const FUTURE: Duration = Duration::from_secs(24 * 60 * 60);

/// After so long an attack may well be over, whether it is shows within a minute, and a
/// process that verified work may have been replaced.
const WORK_FOR: Duration = Duration::from_secs(10 * 60);

/// What one service's balancer knows that a restart should not lose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Of the program that wrote it.
    #[serde(default, deserialize_with = "legible")]
    pub(super) version: u32,
    #[serde(default, deserialize_with = "legible_entries")]
    pub(super) backends: Vec<KnownBackend>,
    #[serde(default, deserialize_with = "legible_entries")]
    pub(super) counted: Vec<CountedPeriod>,
    #[serde(default, deserialize_with = "legible_entries")]
    pub(super) listed: Vec<ListedSet>,
    #[serde(default, deserialize_with = "legible_entries")]
    pub(super) operator: Vec<KnownOverride>,
    /// Who could read the descriptors.
    #[serde(default, deserialize_with = "legible")]
    pub(super) access: Access,
    /// How much work the queue suggested that there is here, if it did.
    #[serde(default, deserialize_with = "legible")]
    pub(super) effort: Option<KnownEffort>,
}

/// How much work was suggested.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownEffort {
    pub(super) effort: Effort,
    /// When that was still so.
    pub(super) at: Timestamp,
}

/// How a backend said that it verifies work, and proved it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownWork {
    #[serde(flatten)]
    pub(super) said: WorkReport,
    /// When that was still so.
    pub(super) at: Timestamp,
}

impl KnownWork {
    /// What is still to be believed of it.
    pub(super) fn recent(self, now: SystemTime) -> Option<WorkReport> {
        is_recent(self.at, now).then_some(self.said)
    }
}

/// What the operator said of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownOverride {
    /// Which: an address, or the name of a local instance.
    pub(super) backend: String,
    /// What.
    #[serde(flatten)]
    pub(super) said: Override,
}

/// A remote backend, by its address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownBackend {
    pub(super) address: OnionAddress,
    /// The highest revision seen in each period.
    #[serde(default, deserialize_with = "legible_entries")]
    pub(super) revisions: Vec<Revision>,
    /// Its newest descriptor, while it is believed.
    #[serde(default, deserialize_with = "legible")]
    pub(super) descriptor: Option<KnownDescriptor>,
    /// Its points that fail.
    #[serde(default, deserialize_with = "legible_entries")]
    pub(super) failing: Vec<FailingPoint>,
    /// Why its application fails, if it does.
    #[serde(default, deserialize_with = "legible")]
    pub(super) broken: Option<String>,
    /// How it verifies work, if it has proven that.
    #[serde(default, deserialize_with = "legible")]
    pub(super) work: Option<KnownWork>,
}

/// A point that fails, by what probes say, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FailingPoint {
    pub(super) session: SessionId,
    #[serde(default, deserialize_with = "legible")]
    pub(super) reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Revision {
    pub(super) period: Period,
    pub(super) revision: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownDescriptor {
    pub(super) period: Period,
    pub(super) revision: u64,
    /// When this revision was first seen ...
    pub(super) first_seen: Timestamp,
    /// ... and when last.
    pub(super) last_seen: Timestamp,
    #[serde(default, deserialize_with = "legible_entries")]
    pub(super) points: Vec<IntroPoint>,
    /// Without them, the points could be promised too much of.
    pub(super) capabilities: Capabilities,
}

/// From which moments our own revisions were counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CountedPeriod {
    pub(super) period: Period,
    /// The highest `as_of` used in this period.
    pub(super) as_of: Timestamp,
}

/// The points of one descriptor, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct ListedSet {
    #[serde(deserialize_with = "legible_entries")]
    pub(super) points: Vec<ListedPoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ListedPoint {
    /// Whose: an address, or the name of a local instance.
    pub(super) backend: String,
    pub(super) session: SessionId,
}

impl Default for Memory {
    /// Nothing to remember.
    fn default() -> Self {
        Self {
            version: VERSION,
            backends: Vec::new(),
            counted: Vec::new(),
            listed: Vec::new(),
            operator: Vec::new(),
            access: Access::default(),
            effort: None,
        }
    }
}

impl Memory {
    /// What operators said, and nothing else.
    #[must_use]
    pub fn words_alone(&self) -> Self {
        Self { operator: self.operator.clone(), ..Self::default() }
    }

    /// With what operators said as the other one has it.
    #[must_use]
    pub fn with_words_of(self, other: Self) -> Self {
        Self { operator: other.operator, ..self }
    }

    /// How much work to suggest from the start on: as much as before a restart, if that was
    /// a moment ago.
    pub fn suggested_effort(&self, now: SystemTime) -> Effort {
        self.effort.filter(|known| is_recent(known.at, now)).map_or(0, |known| known.effort)
    }

    /// With the work that is suggested now.
    #[must_use]
    pub fn with_suggested_effort(self, effort: Effort, now: SystemTime) -> Self {
        let effort = (effort > 0).then(|| KnownEffort { effort, at: written(now) });
        Self { effort, ..self }
    }

    /// The backends that operators have out of use: addresses, and the names of local
    /// instances.
    pub fn out_of_use(&self) -> impl Iterator<Item = (&str, Word)> {
        let out = self.operator.iter().filter(|known| known.said.word != Word::Ready);
        out.map(|known| (known.backend.as_str(), known.said.word))
    }

    /// With this as what the operator says of one backend.
    #[must_use]
    pub(super) fn with_operator(mut self, backend: String, said: Override) -> Self {
        self.operator.retain(|known| known.backend != backend);
        if said.says_something() {
            self.operator.push(KnownOverride { backend, said });
        }
        self
    }
}

impl KnownDescriptor {
    /// Whether HSDirs may still hold it: what none can hold any more is forgotten.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        let age = now.duration_since(self.last_seen.0).unwrap_or_default();
        age < LIFETIME && !is_impossible(self.last_seen, now)
    }
}

impl CountedPeriod {
    pub(super) fn is_possible(&self, now: SystemTime) -> bool {
        !is_impossible(self.as_of, now)
    }
}

/// Whether what was so at this moment may still be; the clock may have been set since.
fn is_recent(moment: Timestamp, now: SystemTime) -> bool {
    now.duration_since(moment.0).unwrap_or_else(|it| it.duration()) <= WORK_FOR
}

fn is_impossible(moment: Timestamp, now: SystemTime) -> bool {
    moment.0.duration_since(now).is_ok_and(|ahead| ahead > FUTURE)
}

/// A moment as it is kept: in whole seconds, from which revisions are counted.
pub(super) fn written(moment: SystemTime) -> Timestamp {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

/// A value, or something that is none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Maybe<T> {
    Legible(T),
    Illegible(IgnoredAny),
}

impl<T> Maybe<T> {
    fn legible(self) -> Option<T> {
        match self {
            Self::Legible(value) => Some(value),
            Self::Illegible(_) => None,
        }
    }
}

/// What can be read; else the default.
fn legible<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Maybe::<T>::deserialize(deserializer)?.legible().unwrap_or_default())
}

/// Those entries that can be read.
fn legible_entries<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let entries = Maybe::<Vec<Maybe<T>>>::deserialize(deserializer)?.legible().unwrap_or_default();
    Ok(entries.into_iter().filter_map(Maybe::legible).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::samples::{later, start};
    use super::*;
    use crate::onion::{LinkSpecifier, RelayId};
    use crate::operator::OverriddenWeight;
    use crate::pow::SeedSlot;

    fn moments() -> impl Strategy<Value = Timestamp> {
        (0u64..4_000_000_000)
            .prop_map(|seconds| Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
    }

    fn periods() -> impl Strategy<Value = Period> {
        let period = |(number, length_minutes, offset_seconds)| Period {
            number,
            length_minutes,
            offset_seconds,
        };
        any::<(u64, u32, u32)>().prop_map(period)
    }

    fn points() -> impl Strategy<Value = IntroPoint> {
        let specifier = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, body)| LinkSpecifier { kind, body });
        let parts = (
            any::<([u8; 32], [u8; 20], [u8; 32], [u8; 32])>(),
            prop::collection::vec(specifier, 0..4),
        );
        parts.prop_map(|((session, relay, ntor, service), link_specifiers)| IntroPoint {
            session_id: SessionId(session),
            relay: RelayId(relay),
            link_specifiers,
            relay_ntor_key: ntor,
            service_ntor_key: service,
        })
    }

    fn capabilities() -> impl Strategy<Value = Capabilities> {
        (any::<Option<u8>>(), any::<bool>(), any::<bool>()).prop_map(
            |(flow, relay, single_onion)| Capabilities {
                flow_control: flow.map(|increment| ("FlowCtrl=1-2".parse().unwrap(), increment)),
                protocols: if relay { "Relay=5-6" } else { "" }.parse().unwrap(),
                single_onion,
            },
        )
    }

    fn memories() -> impl Strategy<Value = Memory> {
        let revision =
            (periods(), any::<u64>()).prop_map(|(period, revision)| Revision { period, revision });
        let descriptor = (
            (periods(), any::<u64>(), moments(), moments()),
            (prop::collection::vec(points(), 0..4), capabilities()),
        )
            .prop_map(
                |((period, revision, first_seen, last_seen), (points, capabilities))| {
                    KnownDescriptor {
                        period,
                        revision,
                        first_seen,
                        last_seen,
                        points,
                        capabilities,
                    }
                },
            );
        let failing = (any::<[u8; 32]>(), "[a-z0-9 ]{0,8}")
            .prop_map(|(session, reason)| FailingPoint { session: SessionId(session), reason });
        let backend = (
            any::<[u8; 32]>(),
            prop::collection::vec(revision, 0..3),
            prop::option::of(descriptor),
            prop::collection::vec(failing, 0..3),
            prop::option::of("[a-z0-9 ]{0,8}"),
            prop::option::of((any::<Option<u64>>(), any::<Effort>(), moments())),
        )
            .prop_map(|(key, revisions, descriptor, failing, broken, work)| KnownBackend {
                address: OnionAddress::from_public_key(key),
                revisions,
                descriptor,
                failing,
                broken,
                work: work.map(|(slot, effort, at)| KnownWork {
                    said: WorkReport { slot: slot.map(SeedSlot), effort },
                    at,
                }),
            });
        let counted =
            (periods(), moments()).prop_map(|(period, as_of)| CountedPeriod { period, as_of });
        let listed = ("[a-z0-9.]{0,8}", any::<[u8; 32]>())
            .prop_map(|(backend, session)| ListedPoint { backend, session: SessionId(session) });
        let set = prop::collection::vec(listed, 0..4).prop_map(|points| ListedSet { points });
        let said = (prop::option::of(moments()), any::<Option<u32>>());
        let weight =
            (any::<u16>(), any::<u16>(), said).prop_map(|(weight, instead_of, (since, by))| {
                OverriddenWeight { weight, instead_of, since, by }
            });
        let word = prop_oneof![Just(Word::Ready), Just(Word::Drain), Just(Word::Maintenance)];
        let operator =
            ("[a-z0-9.]{0,8}", (word, prop::option::of(weight), moments(), any::<Option<u32>>()))
                .prop_map(|(backend, (word, weight, since, by))| KnownOverride {
                    backend,
                    said: Override { word, weight, since, by },
                });
        let effort = (any::<Effort>(), moments());
        let effort = effort.prop_map(|(effort, at)| KnownEffort { effort, at });
        (
            prop::collection::vec(backend, 0..4),
            prop::collection::vec(counted, 0..3),
            prop::collection::vec(set, 0..3),
            prop::collection::vec(operator, 0..3),
            prop::option::of(effort),
        )
            .prop_map(|(backends, counted, listed, operator, effort)| Memory {
                backends,
                counted,
                listed,
                operator,
                effort,
                ..Memory::default()
            })
    }

    /// Every place in a document, as the way to it.
    fn places(value: &Value, here: &str, all: &mut Vec<String>) {
        all.push(here.to_owned());
        match value {
            Value::Array(entries) => {
                for (n, entry) in entries.iter().enumerate() {
                    places(entry, &format!("{here}/{n}"), all);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    places(field, &format!("{here}/{name}"), all);
                }
            }
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read_again(memory in memories()) {
            let text = serde_json::to_string(&memory).unwrap();
            prop_assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), memory);
        }

        #[test]
        fn what_cannot_be_read_costs_its_entry_and_no_other(
            memory in memories(),
            place in any::<prop::sample::Index>(),
            garbage in prop_oneof![
                Just(Value::Null), Just(Value::from("?")), Just(Value::from(-1.5)), Just(Value::from(vec![1])),
            ],
        ) {
            let mut document = serde_json::to_value(&memory).unwrap();
            let mut all = Vec::new();
            places(&document, "", &mut all);
            let place = all.swap_remove(1 + place.index(all.len() - 1));
            *document.pointer_mut(&place).unwrap() = garbage;
            let read: Memory = serde_json::from_value(document).unwrap();

            let mut way = place.split('/').skip(1);
            let field = way.next().unwrap();
            let spared = |name: &str| field != name;
            // The other fields may be of other forms.
            let entry = way.next().filter(|_| !spared("backends"));
            let entry: Option<usize> = entry.map(|n| n.parse().unwrap());
            prop_assert!(!spared("backends") || read.backends == memory.backends);
            prop_assert!(!spared("counted") || read.counted == memory.counted);
            prop_assert!(!spared("listed") || read.listed == memory.listed);
            prop_assert!(!spared("effort") || read.effort == memory.effort);
            if let (false, Some(torn)) = (spared("backends"), entry) {
                for (n, backend) in memory.backends.iter().enumerate() {
                    prop_assert!(n == torn || read.backends.contains(backend));
                }
            }
        }
    }

    #[test]
    fn work_is_asked_for_again_after_a_restart_of_minutes_and_not_of_hours() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let memory = Memory::default().with_suggested_effort(70, now);
        let text = serde_json::to_string(&memory).unwrap();
        let memory: Memory = serde_json::from_str(&text).unwrap();
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(memory.suggested_effort(now + minutes(10)), 70);
        assert_eq!(memory.suggested_effort(now - minutes(1)), 70, "a clock that was set right");
        assert_eq!(memory.suggested_effort(now + minutes(11)), 0);
        assert_eq!(memory.suggested_effort(now - minutes(11)), 0);
        assert_eq!(Memory::default().suggested_effort(now), 0);
        let torn = text.replace("\"effort\":70", "\"effort\":-70");
        assert_ne!(torn, text);
        let torn: Memory = serde_json::from_str(&torn).unwrap();
        assert_eq!(torn.suggested_effort(now), 0);
    }

    #[test]
    fn what_is_not_known_is_ignored_and_what_is_missing_is_empty() {
        let read: Memory = serde_json::from_str(r#"{ "version": 7, "moods": ["blue"] }"#).unwrap();
        assert_eq!(read, Memory { version: 7, ..Memory::default() });
        assert_eq!(serde_json::from_str::<Memory>("{}").unwrap().backends, []);
    }

    #[test]
    fn a_file_of_a_version_that_kept_less_is_read() {
        let backend = KnownBackend {
            address: OnionAddress::from_public_key([7; 32]),
            revisions: Vec::new(),
            descriptor: None,
            failing: Vec::new(),
            broken: None,
            work: None,
        };
        let memory = Memory { backends: vec![backend], ..Memory::default() };
        let mut document = serde_json::to_value(&memory).unwrap();
        let fields = document["backends"][0].as_object_mut().unwrap();
        for newer in ["failing", "broken", "work"] {
            assert!(fields.remove(newer).is_some());
        }
        assert_eq!(serde_json::from_value::<Memory>(document).unwrap(), memory);
    }

    #[test]
    fn what_no_hsdir_can_hold_and_no_clock_can_have_said_is_forgotten() {
        let now = start();
        let known = |at| KnownDescriptor {
            period: super::super::samples::period(1),
            revision: 1,
            first_seen: Timestamp(at),
            last_seen: Timestamp(at),
            points: Vec::new(),
            capabilities: Capabilities::default(),
        };
        assert!(known(now.wall).is_fresh(later(now, LIFETIME / 2).wall));
        assert!(!known(now.wall).is_fresh(later(now, LIFETIME).wall));
        // The clock may have been set back a little.
        assert!(known(later(now, LIFETIME).wall).is_fresh(now.wall));
        assert!(!known(later(now, 2 * FUTURE).wall).is_fresh(now.wall));
    }
}
