//! What does `make demo` show? One onion address that three backends answer.
//!
//! On a private Tor network, in about a minute: two local instances and a stock
//! C tor behind one address, asked over fresh circuits until each has answered.
//! Whatever ends it, Ctrl-C included, leaves nothing behind. With `KEEP=1` all
//! stays up to be tried by hand until Ctrl-C.
//!
//! The steps of the show are in `demo/show.rs`; here is how it begins and ends.

#![allow(clippy::disallowed_methods, reason = "test shell: clocks and tasks are its business")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people to watch")]

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub mod network;

mod demo {
    pub(crate) mod show;
}

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::var_os("KEEP").is_some_and(|value| !value.is_empty() && value != "0");
    // Dropping the show, done or not, ends its processes and removes its files.
    tokio::select! {
        biased;
        shown = demo::show::run(keep) => match shown {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("demo: {error:#}");
                ExitCode::FAILURE
            }
        },
        code = interrupted() => {
            eprintln!("demo: interrupted, cleaning up");
            ExitCode::from(code)
        }
    }
}

/// Waits for a signal that asks to end, and gives the exit code that shells use
/// for it.
async fn interrupted() -> u8 {
    let caught = |kind| async move {
        match signal(kind) {
            Ok(mut signals) => drop(Signal::recv(&mut signals).await),
            // Then the signal ends the process as usual, and the kernel the rest.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = caught(SignalKind::hangup()) => 128 + 1,
        () = caught(SignalKind::interrupt()) => 128 + 2,
        () = caught(SignalKind::terminate()) => 128 + 15,
    }
}
