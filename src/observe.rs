//! What the operator sees of the daemon: one serialisable truth, the
//! [`Snapshot`], and its renderings. Plain values in, text out; nothing here
//! asks Tor, a file or a clock.

#[cfg(test)]
pub(crate) mod example;
pub mod load;
pub mod metrics;
pub mod snapshot;
pub mod table;
pub mod text;

pub use snapshot::Snapshot;
