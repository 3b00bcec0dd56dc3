//! onionbraid: one `.onion` address, many backends, no tor daemon.
//!
//! `docs/architecture.md` says what each part does and does not do.

pub mod admin;
pub mod cli;
mod clock;
pub mod commands;
pub mod config;
pub mod daemon;
mod durable;
pub mod exit;
pub mod inquiry;
pub mod instance;
pub mod logging;
pub mod observe;
pub mod tor;
