//! From a client's stream to the origin. Takes any duplex stream and knows
//! nothing of Tor.

pub mod body;
pub mod failure;
pub mod forward;
pub mod origin;
pub mod rules;
pub mod settings;
pub mod welcome;
