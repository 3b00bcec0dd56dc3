//! Proof of work (hs-pow v1; torspec hspow-spec, proposals 327 and 362): who is
//! met first when more clients come than can be met, and how much work clients
//! are asked for.
//!
//! Everything here is pure: moments are arguments, secrets come in as bytes that
//! others derive, and no circuit is known. The shell verifies solutions, derives
//! seeds and meets clients.
//!
//! | part | answers |
//! |---|---|
//! | [`AdmissionQueue`] | which introduction is acted upon next, and when |
//! | [`SuggestedEffort`] | how much work the descriptor asks for |
//! | [`SeedSchedule`], [`distinct_seed`] | which seed is published until when, and which are accepted |
//! | [`NonceLog`] | whether a solution was used before |
//! | [`Puzzle`] | what a descriptor says of all that |
//!
//! `tests/pow` simulates attackers and clients that retry as C tor's do.

mod admission;
mod effort;
mod nonces;
mod puzzle;
mod queue;
mod seeds;

pub use self::admission::{AdmissionQueue, AdmissionSettings, Admitted};
pub use self::effort::{ObservedQueue, SuggestedEffort};
pub use self::nonces::{NonceLog, NonceVerdict};
pub use self::puzzle::{CLIENT_MAX_EFFORT, Effort, OwnWork, Puzzle};
pub use self::queue::{PriorityQueue, WAIT_LIMIT};
pub use self::seeds::{Seed, SeedSchedule, SeedSlot, distinct_seed};
