//! The HTTP reverse proxy between a client and an origin that both misbehave,
//! over streams in memory and on a clock that stands still unless everybody
//! waits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "proxy/answers.rs"]
mod answers;
#[path = "proxy/bodies.rs"]
mod bodies;
#[path = "proxy/circuits.rs"]
mod circuits;
#[path = "proxy/failures.rs"]
mod failures;
#[path = "proxy/files.rs"]
mod files;
#[path = "proxy/floods.rs"]
mod floods;
#[path = "proxy/heads.rs"]
mod heads;
#[path = "proxy/http2.rs"]
mod http2;
#[path = "proxy/messages.rs"]
mod messages;
#[path = "proxy/nginx.rs"]
mod nginx;
#[path = "proxy/over_tls.rs"]
mod over_tls;
#[path = "proxy/refusals.rs"]
mod refusals;
#[path = "proxy/smuggling.rs"]
mod smuggling;
#[path = "proxy/timeouts.rs"]
mod timeouts;
#[path = "proxy/upgrades.rs"]
mod upgrades;
#[path = "proxy/whole.rs"]
mod whole;
#[path = "proxy/world.rs"]
mod world;
