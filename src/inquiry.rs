//! Questions that an operator asks the Tor network on demand: what is published
//! under an address, and does every introduction point of a service answer?
//!
//! Whoever has a Tor client answers them: the running daemon, for a command that
//! asks it over the admin socket; the command itself only where no daemon can be
//! asked. Questions and answers are plain values, JSON on the socket. Reads no
//! configuration and prints nothing.
//!
//! | file | question |
//! |---|---|
//! | `published` | what do the HSDirs hold of an address? |
//! | `owners` | whose introduction points are these? |
//! | `points` | does every introduction point of a service answer? |
//! | `tries` | what do several tries at one point prove? |

pub mod owners;
pub mod points;
pub mod published;
pub mod tries;

/// Where the daemon's admin socket takes a [`published::AddressQuestion`].
pub const PUBLISHED: &str = "/v1/descriptor";

/// Where it takes a [`points::PointsQuestion`].
pub const POINTS: &str = "/v1/check";
