//! What the operator sees of the daemon: one serialisable truth, the
//! [`Snapshot`], and its renderings. Plain values in, text out; nothing here
//! asks Tor, a file or a clock.

pub mod brief;
pub(crate) mod certificates;
#[cfg(test)]
mod everywhere;
#[cfg(test)]
pub(crate) mod example;
mod glance;
mod handover;
mod limits;
pub mod load;
pub mod metrics;
pub mod page;
pub mod snapshot;
pub mod table;
pub mod text;
mod troubles;
pub mod watch;
mod words;

pub use snapshot::Snapshot;
pub(crate) use words::{counted, printable_text};
