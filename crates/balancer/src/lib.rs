//! The balancer: decides, for one service, which introduction points stand in
//! which descriptor on which HSDir, and when to look and publish again.
//!
//! It is pure: facts and the time come in, commands come out, and it owns no
//! socket, clock or random source. The daemon that drives it
//!
//! - passes every [`Fact`](fact::Fact) to [`Balancer::handle_fact`],
//! - then carries out every [`Command`](command::Command) from
//!   [`Balancer::poll_command`],
//! - and calls [`Balancer::handle_timeout`] at [`Balancer::poll_timeout`].
//!
//! On every wake-up it looks at the whole of its small state again (`progress`
//! in [`balancer`]) rather than reacting to the single event: what is missed
//! once, a lost answer say, is seen the next time.
//!
//! Where to find what, in the order in which it looks:
//!
//! | part | answers |
//! |---|---|
//! | [`fact`], [`command`], [`settings`] | what comes in, what is asked for, what the operator wants |
//! | [`onion`] | addresses, introduction points, relays, periods, as plain values |
//! | [`balancer`] | what happens when: calls every part below |
//! | [`backend`] | whether one backend is live, and with which points |
//! | [`offer`] | which of a backend's points may be offered to clients |
//! | [`offered`] | what the local instances offer to publishers of other addresses |
//! | [`remote`] | what a remote backend's own descriptor says, and when to fetch it again |
//! | [`linked`] | when to dial a remote backend's control link, and what it says of the backend |
//! | [`probing`], [`health`] | which point is probed when, and what the answers say |
//! | [`content`] | what the descriptors should say |
//! | [`held_back`], [`proven`] | which backends leave while clients are asked for work, and who verifies it |
//! | [`fullness`] | how many points a full backend keeps |
//! | [`turns`] | whose turn it is, where there are too many backends |
//! | [`quota`] | how many places each backend should have |
//! | [`select`], [`distinct`] | which points are listed: one set for all HSDirs, or several |
//! | [`seating`] | who has which place, while those two give them out |
//! | [`publish`], [`ring`], [`hsdir`] | what is uploaded when: a round, a period's HSDirs, one HSDir |
//! | [`change`] | when a change of the points is due to be published |
//! | [`canary`] | whether HSDirs still hold it, and whether somebody else publishes |
//! | [`refusals`] | how far an HSDir counts that refuses descriptors |
//! | [`bundle`] | for how long a publisher without the identity key can publish |
//! | [`others`] | whose a descriptor is, and what another publisher's is worth |
//! | [`operator`] | what an operator says of one backend |
//! | [`link`] | what publishers and backends say to each other over control links |
//! | [`pow`] | proof of work: who is met first, and how much work clients do |
//! | [`memory`] | what outlives the process |
//! | [`schedule`], [`pause`] | how to wait, and whether the machine has slept |
//! | [`status`] | what the operator sees |
//!
//! `tests/simulation` runs it against a simulated network for days of virtual
//! time.

pub mod command;
pub mod fact;
pub mod link;
pub mod memory;
pub mod onion;
pub mod operator;
pub mod pow;
pub mod status;

mod backend;
mod backend_id;
mod balancer;
mod bundle;
mod canary;
mod change;
mod content;
mod distinct;
mod fullness;
mod health;
mod held_back;
mod hsdir;
mod linked;
mod offer;
mod offered;
mod others;
mod pause;
mod period_change;
mod probing;
mod proven;
mod publish;
mod quota;
mod refusals;
mod remote;
mod ring;
mod room;
mod samples;
mod schedule;
mod seating;
mod select;
mod settings;
mod taken_out;
mod timestamp;
mod turns;

pub use self::balancer::Balancer;
pub use self::bundle::{BundlePeriods, Coverage, WARN_FROM};
pub use self::room::{clients_that_fit, most_points};
pub use self::settings::{
    BackendPlace, BackendSettings, BalancerSettings, Distinct, LinkPolicy, Publishers,
};
pub use self::status::{Belief, Status};
