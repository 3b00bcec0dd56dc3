//! What a publisher and a backend of our own kind say to each other over their
//! control link, and on which port.
//!
//! Each message is the complete state of whoever sends it, in one line of JSON,
//! and numbered: the newest is all that counts, and one that is lost does no
//! harm. Fields may be added; a reader passes over those that it does not know.
//! A change that an older reader would misunderstand needs another [`VERSION`].
//!
//! The other end may be hostile: [`Lines`] bounds what it can have us keep, and
//! the balancer treats points from a link as those from a descriptor.

mod lines;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha3::{Digest as _, Sha3_256};

use crate::onion::{Capabilities, IntroPoint, OnionAddress, Period, SessionId};
use crate::operator::Word;
use crate::pow::{Effort, Seed, SeedSlot};

pub use lines::{Lines, MAX_LINE, Malformed, line};

/// The version of these messages, which the paths of the requests and the port
/// depend on.
pub const VERSION: u8 = 1;

/// The most sessions that [`LinkOrders`] name: those of all points that a publisher
/// may list of one backend, over distinct descriptors.
pub const MAX_LISTED: usize = 128;

/// The most seeds that [`WorkOrder`]s give: those of three slots in three time periods.
pub const MAX_SEEDS: usize = 9;

/// What a backend says of itself, to the publisher of an address that it answers
/// for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Grows from one report of a link to the next, from 1 on.
    pub number: u64,
    /// What it is at.
    #[serde(flatten)]
    pub offer: Offered,
}

/// What a backend offers to publishers now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// Why it has the points that it has.
    pub condition: Condition,
    /// The introduction points at which it answers now; none if its clients should
    /// go elsewhere.
    pub points: Vec<IntroPoint>,
    /// What it keeps for every one of them.
    pub capabilities: Capabilities,
    /// Whether it has as many clients as it can bear.
    #[serde(default)]
    pub full: bool,
    /// What it makes of the seeds of the address; `None`: it verifies no work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<WorkReport>,
}

/// How a backend verifies the work of an address's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkReport {
    /// The newest slot whose seeds it has and solutions for which it verifies.
    #[serde(default)]
    pub slot: Option<SeedSlot>,
    /// How much work clients should do for it, by the queue that it has.
    pub effort: Effort,
}

/// What a backend is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It is in use.
    Serving,
    /// No introduction point is established yet, or any more.
    #[default]
    Unestablished,
    /// No origin behind it answers.
    Broken,
    /// Its operator has it out of use.
    Drained,
    /// Its process is about to end.
    Ending,
    /// Something that a later version says.
    #[serde(other)]
    Other,
}

/// What a publisher says to a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkOrders {
    /// Grows from one of a link to the next, from 1 on.
    pub number: u64,
    /// The number of the newest report that they take into account.
    pub answers: u64,
    /// What has become of the backend's points.
    #[serde(flatten)]
    pub standing: Standing,
}

/// What has become of a backend's points at a publisher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The points of it that the address's descriptor lists.
    pub listed: Vec<SessionId>,
    /// Whether HSDirs that clients ask may hold another descriptor still.
    pub changing: bool,
    /// Whether no other backend is live: whatever it says, its points stay listed.
    pub alone: bool,
    /// What the publisher's operator says of the backend.
    #[serde(default)]
    pub word: Word,
    /// What clients of the address are asked for; `None`: nothing, ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<WorkOrder>,
}

/// What clients of an address are asked for, and what is needed to verify it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkOrder {
    /// The effort that the descriptor suggests.
    pub effort: Effort,
    /// The seeds of now and of the slots beside it; the newer ones replace the older.
    pub seeds: Vec<GivenSeed>,
}

/// One seed, which is public from the moment that it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenSeed {
    /// The period of the blinded key that solutions are for ...
    pub period: Period,
    /// ... and the slot.
    pub slot: SeedSlot,
    /// The seed.
    #[serde(with = "crate::onion::hex")]
    pub seed: Seed,
    /// Until when clients may use it, in seconds since 1970.
    pub expires: u64,
}

impl Condition {
    /// What there is to say where a backend has no points.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Serving | Self::Unestablished => "it has no established introduction point",
            Self::Broken => "no origin behind it answers",
            Self::Drained => "its operator has it out of use",
            Self::Ending => "its process is ending",
            Self::Other => "it offers no introduction point",
        }
    }
}

impl LinkOrders {
    /// Whether the backend may let go of everything that the `report` does not
    /// offer: the publisher has taken it into account, and clients find nothing
    /// else any more, or would find nobody else.
    pub fn release(&self, report: &Report) -> bool {
        let Standing { listed, changing, alone, .. } = &self.standing;
        let offered = |session: &SessionId| {
            report.offer.points.iter().any(|point| point.session_id == *session)
        };
        let replaced = !changing && listed.iter().all(offered);
        self.answers >= report.number && (*alone || replaced)
    }
}

/// The paths of the two requests of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `GET`: the reports of the backend.
    State,
    /// `POST`: the orders of the publisher.
    Orders,
}

impl Path {
    /// As requests have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::State => "/v1/state",
            Self::Orders => "/v1/orders",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The virtual port of the link that the publisher of `frontend` has to
/// `backend`. Who does not know both addresses cannot tell it from any other, and
/// who does meets an unknown port there.
pub fn port(backend: &OnionAddress, frontend: &OnionAddress) -> u16 {
    let digest = Sha3_256::new()
        .chain_update(b"onionbraid control link port")
        .chain_update([VERSION])
        .chain_update(backend.public_key())
        .chain_update(frontend.public_key())
        .finalize();
    let [high, low, ..] = <[u8; 32]>::from(digest);
    // Port 0 is none.
    u16::from_be_bytes([high, low]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::point;

    fn report(points: u16) -> Report {
        let points = (1..=points).map(|n| point(n, n)).collect();
        let offer = Offered { condition: Condition::Serving, points, ..Offered::default() };
        Report { number: 7, offer }
    }

    fn seed(slot: u64) -> GivenSeed {
        let period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 43_200 };
        GivenSeed { period, slot: SeedSlot(slot), seed: [0xab; 32], expires: 1_800_000_000 }
    }

    #[test]
    fn seeds_and_what_was_not_said_before_are_read_as_they_were_written() {
        let work = Some(WorkOrder { effort: 7, seeds: vec![seed(1), seed(2)] });
        let standing = Standing { work, word: Word::Drain, ..Standing::default() };
        let orders = LinkOrders { number: 1, answers: 2, standing };
        let text = String::from_utf8(line(&orders)).unwrap();
        assert!(text.contains(&"ab".repeat(32)) && text.contains("\"word\":\"drain\""), "{text}");
        assert_eq!(serde_json::from_str::<LinkOrders>(&text).unwrap(), orders);
        // An older publisher says neither.
        let older = r#"{"number":1,"answers":2,"listed":[],"changing":false,"alone":true}"#;
        let standing = serde_json::from_str::<LinkOrders>(older).unwrap().standing;
        assert_eq!(standing, Standing { alone: true, ..Standing::default() });
    }

    #[test]
    fn the_port_depends_on_both_addresses_in_their_order() {
        let [a, b, c] = [1, 2, 3].map(|n| OnionAddress::from_public_key([n; 32]));
        // What other processes have computed: it must never change.
        assert_eq!(port(&a, &b), 21152);
        assert_ne!(port(&a, &b), port(&b, &a));
        assert_ne!(port(&a, &b), port(&a, &c));
    }

    #[test]
    fn the_largest_honest_report_fits_a_line() {
        let mut report = report(20);
        for point in &mut report.offer.points {
            let body = vec![0xff; crate::onion::LINK_SPECIFIER_BYTES];
            point.link_specifiers = vec![crate::onion::LinkSpecifier { kind: 255, body }];
        }
        let written = line(&report);
        assert!(written.len() < MAX_LINE, "{}", written.len());
        let mut lines = Lines::default();
        lines.push(&written).unwrap();
        assert_eq!(lines.message::<Report>(), Some(Ok(report)));
        let standing = Standing {
            listed: vec![SessionId([255; 32]); MAX_LISTED],
            work: Some(WorkOrder { effort: Effort::MAX, seeds: vec![seed(u64::MAX); MAX_SEEDS] }),
            ..Standing::default()
        };
        let orders = LinkOrders { number: u64::MAX, answers: u64::MAX, standing };
        assert!(line(&orders).len() < MAX_LINE);
    }

    #[test]
    fn a_later_version_may_say_more_and_name_conditions_that_are_not_known() {
        let text = r#"{"number":1,"condition":"asleep","since":[1,{"x":null}],"points":[],
            "capabilities":{"flow_control":null,"protocols":"","single_onion":false,"new":1}}"#;
        let report: Report = serde_json::from_str(&text.replace('\n', " ")).unwrap();
        assert_eq!(report.offer.condition, Condition::Other);
    }

    #[test]
    fn a_backend_is_released_by_orders_that_know_its_report_and_list_nothing_else_of_it() {
        let orders = |answers, listed: &[u16], changing, alone| {
            let listed = listed.iter().map(|n| point(*n, *n).session_id).collect();
            let standing = Standing { listed, changing, alone, ..Standing::default() };
            LinkOrders { number: 9, answers, standing }
        };
        // Number 7, of the points 1 and 2.
        let report = report(2);
        assert!(orders(7, &[], false, false).release(&report));
        assert!(orders(8, &[1, 2], false, false).release(&report));
        // They were written before.
        assert!(!orders(6, &[], false, false).release(&report));
        assert!(!orders(7, &[1, 3], false, false).release(&report));
        assert!(!orders(7, &[], true, false).release(&report));
        // Nobody else could take its clients.
        assert!(orders(7, &[3], true, true).release(&report));
    }
}
