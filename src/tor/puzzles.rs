//! The puzzles of one address (hs-pow v1; torspec hspow-spec): their seeds, and
//! whether a client has solved one.
//!
//! Every publisher of the address has the same seeds, without talking, and after a
//! restart too.

#[cfg_attr(not(feature = "pow"), allow(dead_code, reason = "what verifies them is left out"))]
mod seeds;
mod toil;
#[cfg_attr(not(feature = "pow"), path = "puzzles/absent.rs")]
mod verify;

pub(crate) use seeds::{AddressPuzzles, SeedId, SolutionRefusal, Solved};
pub(crate) use toil::Toil;
pub(crate) use verify::Verifiers;
#[cfg(feature = "pow")]
pub(crate) use verify::solve;
