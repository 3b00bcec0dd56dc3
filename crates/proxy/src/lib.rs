//! From a client's stream to the origin. Takes any duplex stream and knows
//! nothing of Tor.

pub mod body;
mod buffer;
mod clock;
pub mod failure;
pub mod files;
pub mod forward;
pub mod guard;
pub mod headers;
pub mod host;
pub mod http;
pub mod origin;
pub mod origins;
pub mod pace;
pub mod pages;
pub mod proxy_line;
pub mod rules;
pub mod settings;
pub mod setup;
pub mod shares;
pub mod status;
pub mod token;
pub mod visitor;
pub mod welcome;
