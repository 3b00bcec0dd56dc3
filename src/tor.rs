//! The door to Arti: everything that touches the Tor network, its directory
//! and its keys. Nothing here decides what is published or when.

pub mod keys;
