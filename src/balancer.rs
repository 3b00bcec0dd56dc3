//! The balancer: decides, for one service, which introduction points stand in
//! which descriptor on which HSDir, and when to look and publish again.
//!
//! It is pure: facts and the time come in, commands come out, and it owns no
//! socket, clock or random source.

pub mod command;
pub mod fact;
