//! What clients that never read can make the proxy hold, and whether others are
//! served meanwhile: over sockets, in a process of its own, whose memory is
//! measured.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the figures are worth reading")]

#[path = "floods/memory.rs"]
mod memory;
#[path = "floods/pressure.rs"]
mod pressure;
#[path = "floods/site.rs"]
mod site;
