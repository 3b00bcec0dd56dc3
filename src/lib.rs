//! onionbraid: one `.onion` address, many backends, no tor daemon.

pub mod balancer;
pub mod cli;
pub mod commands;
pub mod config;
pub mod exit;
pub mod observe;
pub mod onion;
pub mod proxy;
pub mod tor;
