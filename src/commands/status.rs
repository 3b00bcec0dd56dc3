//! `onionbraid status`: asks the running daemon, once or again and again.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::ask::{ask, runtime};
use super::{Failure, finish};
use crate::config::{AdminListen, Config, Environment};
use crate::exit::Exit;
use crate::observe::{Snapshot, text};

/// How long a status is shown before the next one.
const SHOWN: Duration = Duration::from_secs(2);

/// What a terminal is told before the next status: go to the upper left corner,
/// clear everything.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Prints the daemon's Snapshot, as text or as JSON; with `watch` until it is
/// interrupted.
pub fn status(files: &[PathBuf], json: bool, watch: bool) -> ExitCode {
    finish(write_status(files, json, watch))
}

fn write_status(files: &[PathBuf], json: bool, watch: bool) -> Result<(), Failure> {
    let admin = Config::admin_of(files, &Environment::of_process())?;
    let runtime = runtime()?;
    if !watch {
        let status = runtime.block_on(one(&admin, json))?;
        return Ok(io::stdout().lock().write_all(status.as_bytes())?);
    }
    let between = if io::stdout().is_terminal() { CLEAR } else { "\n" };
    let mut out = io::stdout();
    runtime.block_on(async {
        tokio::select! {
            watched = again_and_again(&admin, json, between, &mut out) => watched,
            // The way to end it, so no failure.
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    })
}

/// Prints one status after the other, for as long as somebody reads.
async fn again_and_again(
    admin: &AdminListen,
    json: bool,
    between: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut status = one(admin, json).await?;
    let mut before = if between == CLEAR { CLEAR } else { "" };
    loop {
        let written = out
            .write_all(before.as_bytes())
            .and_then(|()| out.write_all(status.as_bytes()))
            .and_then(|()| out.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
        before = between;
        tokio::time::sleep(SHOWN).await;
        // A daemon that is restarted comes back: who watches wants to see that.
        status = one(admin, json).await.unwrap_or_else(|failure| format!("{}\n", failure.text));
    }
}

/// One status, ready to print.
async fn one(admin: &AdminListen, json: bool) -> Result<String, Failure> {
    let body = ask(admin, "/status.json").await?.body;
    if json {
        return Ok(format!("{}\n", body.trim_end()));
    }
    let snapshot = serde_json::from_str::<Snapshot>(&body).map_err(|error| {
        let text = format!("the daemon's answer makes no sense to this version: {error}");
        Failure::new(Exit::Failed, text)
    })?;
    Ok(text::render(&snapshot))
}
