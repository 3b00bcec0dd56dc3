//! Control links between publishers and backends of our own kind.
//!
//! The publisher of an address dials each of its backends at the backend's own
//! onion service and keeps one stream open, over which the backend reports its
//! introduction points the moment they change, and the publisher what has become
//! of them. Both need nothing but outgoing connections to Tor.
//!
//! - The backend proves who it is by its onion service, the publisher by a
//!   signature with the address's key over the secret of the very circuit, which
//!   comes with the request for the stream ([`dial`], [`proof`]). So nobody else can tell
//!   the port from one that is not in use.
//! - On the stream: HTTP/2, whose pings notice a peer that has stopped; one request
//!   for each direction ([`speak`], [`listen`]), with states as lines of JSON
//!   ([`wire`]; the states, [`onionbraid_balancer::link`]).
//! - What the backend says is a fact among others to the balancer, which knows when
//!   to dial and what a lost link means.

pub(crate) mod dial;
pub(crate) mod listen;

mod proof;
mod seats;
mod speak;
#[cfg(test)]
mod tests;
mod wire;
