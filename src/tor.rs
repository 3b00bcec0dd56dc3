//! The only door to Arti: bootstrapping, keys, HSDirs, descriptors, probes.
//!
//! Everything here carries out one thing when asked and reports how it went;
//! when and whether, the balancer decides. Arti's interface moves with every
//! release, so no other part but `instance` and `link` touches its circuits, cells
//! and descriptors.

pub(crate) mod binding;
pub mod bootstrap;
pub mod bundle;
pub mod credentials;
pub mod descriptor;
pub(crate) mod direct;
pub mod fetch;
pub(crate) mod guard_sets;
pub mod held;
pub mod hsdirs;
pub(crate) mod keyring;
pub mod keys;
pub mod network;
pub mod probe;
pub(crate) mod puzzles;
pub mod subcredentials;
pub mod upload;
pub mod watch;

mod attempts;
mod clock_watch;
mod derived;
mod diagnosis;
mod directory_request;
mod full_disk;
mod known;
mod period_keys;
pub(crate) mod private_address;
mod protocols;
mod seed_secret;
mod stack;
mod transports;
mod unanswered;
mod values;

pub use diagnosis::Trouble;
pub(crate) use stack::wiped;

/// The source of randomness for keys and choices on this side of the border.
#[expect(clippy::disallowed_methods, reason = "randomness enters the program here")]
pub(crate) fn rng() -> rand::rngs::ThreadRng {
    rand::rng()
}
