//! `onionbraid status`: asks the running daemon, once or again and again.

mod screen;

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::ask::{ask, runtime, snapshot};
use super::{CommandFailure, finish, print};
use crate::config::{AdminListen, Config, Environment};
use crate::observe::{brief, text};

use screen::SHOWN;
pub use screen::WatchOptions;

/// In which form the status is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusForm {
    /// For a person.
    Text,
    /// All of it, for programs.
    Json,
    /// A line for each service.
    Brief,
}

impl StatusForm {
    /// What the command line says.
    pub fn of(json: bool, brief: bool) -> Self {
        match (json, brief) {
            (true, _) => Self::Json,
            (_, true) => Self::Brief,
            _ => Self::Text,
        }
    }
}

/// Prints the daemon's Snapshot; watched, until it is interrupted.
pub fn status(files: &[PathBuf], form: StatusForm, watch: Option<WatchOptions>) -> ExitCode {
    finish(write_status(files, form, watch))
}

fn write_status(
    files: &[PathBuf],
    form: StatusForm,
    watch: Option<WatchOptions>,
) -> Result<(), CommandFailure> {
    let admin = Config::admin_of(files, &Environment::of_process())?;
    let runtime = runtime()?;
    let Some(watch) = watch else {
        let status = runtime.block_on(one(&admin, form))?;
        return print(&status);
    };
    runtime.block_on(async {
        let on_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        let term = std::env::var("TERM").ok();
        if form == StatusForm::Text && on_terminal && screen::is_possible(term.as_deref()) {
            return screen::watch(&admin, watch).await;
        }
        tokio::select! {
            watched = again_and_again(&admin, form) => watched,
            // The way to end it, so no failure.
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        }
    })
}

/// Prints one status after the other, for as long as somebody reads.
async fn again_and_again(admin: &AdminListen, form: StatusForm) -> Result<(), CommandFailure> {
    let mut out = io::stdout();
    let mut status = one(admin, form).await?;
    loop {
        match out.write_all(status.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
        tokio::time::sleep(SHOWN).await;
        // A daemon that is restarted comes back: who watches wants to see that.
        let next = one(admin, form).await.unwrap_or_else(|failure| format!("{}\n", failure.text));
        status = format!("\n{next}");
    }
}

/// One status, ready to print.
async fn one(admin: &AdminListen, form: StatusForm) -> Result<String, CommandFailure> {
    match form {
        StatusForm::Json => {
            let body = ask(admin, "/status.json").await?.body;
            Ok(format!("{}\n", body.trim_end()))
        }
        StatusForm::Text => Ok(text::render(&snapshot(admin).await?)),
        StatusForm::Brief => Ok(brief::render(&snapshot(admin).await?)),
    }
}
