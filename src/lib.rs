//! onionbraid: one `.onion` address, many backends, no tor daemon.

pub mod balancer;
pub mod observe;
pub mod onion;
pub mod proxy;
