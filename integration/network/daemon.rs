//! How is the onionbraid daemon run and asked, as an operator would?
//!
//! Through its command line alone: `onionbraid run` as a child process and
//! `onionbraid status` for what it knows. Used by tests, the demo and benchmarks.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use onionbraid::observe::snapshot::Snapshot;

use super::process::{Process, tail};

/// How long `onionbraid status` may take.
const STATUS_LIMIT: Duration = Duration::from_secs(10);

/// The program, which cargo puts one directory above its examples and benchmarks.
pub fn built_program() -> Result<PathBuf> {
    let running = std::env::current_exe()?;
    let profile = running.parent().and_then(Path::parent).context("no directory above it")?;
    Ok(profile.join("onionbraid"))
}

/// A daemon; dropping it ends the process.
#[derive(Debug)]
pub struct Daemon {
    /// `onionbraid run`.
    pub process: Process,
    program: PathBuf,
    config: Vec<PathBuf>,
}

impl Daemon {
    /// Starts `program run -c FILE -c FILE…`, logging to the file `log`.
    pub fn start(program: &Path, config: &[&Path], log: &Path) -> Result<Daemon> {
        ensure!(program.is_file(), "{} is not built", program.display());
        let config: Vec<PathBuf> = config.iter().map(|file| (*file).to_owned()).collect();
        let process = Process::spawn("onionbraid", &command(program, "run", &config), log)?;
        Ok(Daemon { process, program: program.to_owned(), config })
    }

    /// The command line that asks this daemon for its status.
    pub fn status_command(&self) -> Command {
        command(&self.program, "status", &self.config)
    }

    /// What `onionbraid status --json` says.
    pub async fn status(&self) -> Result<Snapshot> {
        let mut command = self.status_command();
        command.arg("--json");
        let output = run(command).await?;
        serde_json::from_slice(&output.stdout).context("the status is not what it should be")
    }

    /// What `onionbraid status` says.
    pub async fn status_text(&self) -> Result<String> {
        let output = run(self.status_command()).await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Asks for the status until it is as wanted; after `limit`, or when the
    /// daemon ends, an error with what it says then.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Snapshot) -> bool,
    ) -> Result<Snapshot> {
        let end = Instant::now() + limit;
        loop {
            let status = self.status().await;
            if let Ok(snapshot) = &status
                && wanted(snapshot)
            {
                return status;
            }
            if !self.process.is_running() {
                bail!("the daemon has ended, not {what}:\n{}", self.tail());
            }
            if Instant::now() >= end {
                let status = match status {
                    Ok(snapshot) => serde_json::to_string_pretty(&snapshot)?,
                    Err(error) => format!("{error:#}"),
                };
                bail!("not {what} after {limit:?}: {status}\n{}", self.tail());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The end of its log, for an error message.
    pub fn tail(&self) -> String {
        tail(&self.process.log(), 30)
    }
}

fn command(program: &Path, subcommand: &str, config: &[PathBuf]) -> Command {
    let mut command = Command::new(program);
    command.arg(subcommand);
    for file in config {
        command.arg("-c").arg(file);
    }
    command
}

async fn run(command: Command) -> Result<Output> {
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(STATUS_LIMIT, command.kill_on_drop(true).output());
    let output = output.await.context("no answer to `onionbraid status`")??;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", output.status, error.trim_end());
    Ok(output)
}
