//! onionbraid: one `.onion` address, many backends, no tor daemon.
//!
//! This is the program. It puts two packages to use that build without Arti:
//! [`onionbraid_balancer`], which decides what is published where and when, and
//! [`onionbraid_proxy`], which leads clients' streams to origins.
//!
//! In the order in which a start-up meets them:
//!
//! | part | does |
//! |---|---|
//! | [`cli`] | describes the command line, as types for clap |
//! | [`commands`] | carries out one subcommand each; the only part that prints; [`exit`] has its exit codes |
//! | [`config`] | turns TOML files into types that cannot be wrong |
//! | [`logging`] | sets up log lines |
//! | [`daemon`] | assembles everything for `run`: services, signals, reloads, state; carries facts to the balancers and their commands out |
//! | [`tor`] | bootstraps Arti; fetches, signs, uploads and probes when asked; reads keys |
//! | [`instance`] | is one backend inside this process: introduction points, rendezvous, streams |
//! | [`link`] | holds control links between publishers and backends: both ends |
//! | [`observe`] | describes the daemon at one moment and renders that |
//! | [`admin`] | serves it over HTTP on a socket |
//! | [`inquiry`] | asks the network what an operator wants to know now |
//! | [`import`] | makes a configuration of other systems' files |
//! | [`backup`] | puts the configuration and the keys into one encrypted file, and back |
//! | [`kubernetes`] | writes what several pods of one address need |
//! | [`trust`] | finds out who else on this system can read a file |
//! | [`clock`], [`durable`], [`ordinary`] | read the clocks; replace files whole; open none that keep us waiting |
//!
//! Only [`tor`], [`instance`] and [`link`] touch circuits, cells and descriptors of Arti.
//! [`instance`] hands a client's stream to whoever implements
//! [`instance::Serve`]: [`daemon`] does, with a proxy for each port. So a client's
//! introduction becomes a request at an origin in `instance/intro.rs`, `running.rs`,
//! `rendezvous.rs` and `streams.rs`, then `daemon/streams.rs`, then, in the proxy's
//! package, `setup.rs`, `http.rs`, `http/exchange.rs`, `origins.rs`,
//! `origins/attempt.rs` and `origins/connection.rs`.
//!
//! The repository's `docs/architecture.md` says what each part does not do, and
//! follows an introduction, file by file, until it is a request at an origin.
//! `docs/tor-facts.md` has what the code assumes of Tor, `docs/decisions` why
//! it is built like this.

pub mod admin;
mod backup;
mod causes;
pub mod cli;
mod clock;
pub mod commands;
mod complaints;
pub mod config;
pub mod daemon;
mod durable;
pub mod exit;
pub mod import;
pub mod inquiry;
pub mod instance;
pub mod kubernetes;
mod link;
pub mod logging;
pub mod observe;
mod ordinary;
mod spare_handle;
mod throttle;
pub mod tor;
mod trust;
