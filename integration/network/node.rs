//! How is one C tor of the network started, watched and disturbed?
//!
//! A node is a process with its directory, its torrc and its control port.
//! Relays, clients and onion services are nodes; what makes them so stands in
//! the torrc lines that they are given. Tests kill, freeze and restart them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::place::{Place, make_private_dir};
use super::process::{Process, Signal, program, read_lossy, tail};

/// How long tor may take until it listens, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long an answer on the control port may take.
const CONTROL_LIMIT: Duration = Duration::from_secs(10);

/// One C tor; dropping it ends the process.
#[derive(Debug)]
pub struct Node {
    name: String,
    dir: PathBuf,
    control: SocketAddr,
    state: Mutex<State>,
    /// Keeps the directory and the ports while the node is there.
    _place: Arc<Place>,
}

#[derive(Debug)]
struct State {
    torrc: String,
    process: Option<Process>,
}

impl Node {
    /// A node that does not run yet, with a directory and a control port.
    pub fn new(place: &Arc<Place>, name: &str) -> Result<Node> {
        let dir = place.subdirectory(name)?;
        make_private_dir(&dir.join("data"))?;
        Ok(Node {
            name: name.to_owned(),
            dir,
            control: place.address()?,
            state: Mutex::new(State { torrc: String::new(), process: None }),
            _place: Arc::clone(place),
        })
    }

    /// What it is called in messages, and a relay in the consensus.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory; tor's own is `data` in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where other programs control it.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// Sets the torrc lines that count from the next start on.
    pub fn configure(&self, lines: &str) {
        let torrc = format!(
            "{lines}DataDirectory {}/data\nControlPort {}\n",
            self.dir.display(),
            self.control
        );
        self.state().torrc = torrc;
    }

    /// Starts tor, without waiting for anything. An error if it runs already.
    pub fn start(&self) -> Result<()> {
        let mut state = self.state();
        if state.process.as_ref().is_some_and(Process::is_running) {
            bail!("{} runs already", self.name);
        }
        let torrc = self.dir.join("torrc");
        fs::write(&torrc, &state.torrc)?;
        let mut command = Command::new(program("tor")?);
        command.args(["--defaults-torrc", "/nonexistent", "--hush", "-f"]).arg(torrc);
        // Many small processes: one arena each, given back early.
        command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "131072");
        state.process = Some(Process::spawn(&self.name, &command, &self.log_file())?);
        Ok(())
    }

    /// Waits until it takes connections on its control port, which tor opens
    /// after it has read its torrc and keys.
    pub async fn listening(&self) -> Result<()> {
        self.accepts(self.control).await
    }

    /// Waits until it takes connections on one of its addresses.
    pub async fn accepts(&self, address: SocketAddr) -> Result<()> {
        let accepted = async {
            while TcpStream::connect(address).await.is_err() {
                ensure!(self.is_running(), "{} has ended:\n{}", self.name, self.tail());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        tokio::time::timeout(START_LIMIT, accepted)
            .await
            .unwrap_or_else(|_| bail!("{} does not listen:\n{}", self.name, self.tail()))
    }

    /// Kills it, if it runs, starts it again and waits until it listens.
    pub async fn restart(&self) -> Result<()> {
        self.kill()?;
        self.start()?;
        self.listening().await
    }

    /// Ends it with SIGKILL, as a crash would; nothing happens if it does not run.
    pub fn kill(&self) -> Result<()> {
        match self.state().process.take() {
            Some(process) => process.kill().map(|_| ()),
            None => Ok(()),
        }
    }

    /// Lets it stand still with its connections open, as a hanging machine would.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::Stop)
    }

    /// Lets it go on after [`Node::freeze`].
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::Continue)
    }

    /// Sends a signal; an error if it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let state = self.state();
        state
            .process
            .as_ref()
            .with_context(|| format!("{} does not run", self.name))?
            .signal(signal)
    }

    /// Whether its process is there, frozen or not.
    pub fn is_running(&self) -> bool {
        self.state().process.as_ref().is_some_and(Process::is_running)
    }

    /// The id of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.state().process.as_ref().map(Process::pid)
    }

    /// All that it has logged, over all its starts.
    pub fn log(&self) -> String {
        read_lossy(&self.log_file())
    }

    /// Where it logs to.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Sends one command, such as `GETINFO circuit-status`, to the control port
    /// and returns the whole reply to it. An error if tor refuses the command.
    pub async fn control(&self, command: &str) -> Result<String> {
        tokio::time::timeout(CONTROL_LIMIT, self.exchange(command))
            .await
            .with_context(|| format!("{} does not answer `{command}`", self.name))?
            .with_context(|| format!("{}: `{command}`", self.name))
    }

    /// Sends commands to the control port and collects what tor says, events too,
    /// until `enough` of it is there.
    pub async fn listen(
        &self,
        commands: &str,
        limit: Duration,
        mut enough: impl FnMut(&str) -> bool,
    ) -> Result<String> {
        let mut stream = TcpStream::connect(self.control).await?;
        stream.write_all(format!("AUTHENTICATE\r\n{commands}\r\n").as_bytes()).await?;
        let mut said = Vec::new();
        let heard = async {
            while !enough(&String::from_utf8_lossy(&said)) {
                ensure!(stream.read_buf(&mut said).await? > 0, "the control port closes");
            }
            Ok(())
        };
        let heard = tokio::time::timeout(limit, heard).await;
        heard.with_context(|| format!("{} has not said enough", self.name))??;
        Ok(String::from_utf8_lossy(&said).replace("\r\n", "\n"))
    }

    async fn exchange(&self, command: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.control).await?;
        stream.write_all(format!("AUTHENTICATE\r\n{command}\r\nQUIT\r\n").as_bytes()).await?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await?;
        let reply = String::from_utf8_lossy(&reply);
        let reply = reply.strip_prefix("250 OK\r\n").context("tor refuses to authenticate")?;
        let reply = reply.strip_suffix("250 closing connection\r\n").unwrap_or(reply);
        ensure!(reply.starts_with('2'), "refused: {}", reply.trim_end());
        Ok(reply.to_owned())
    }

    /// How far tor is with bootstrapping, in percent.
    pub async fn bootstrapped(&self) -> Result<u8> {
        let reply = self.control("GETINFO status/bootstrap-phase").await?;
        let (_, rest) = reply.split_once("PROGRESS=").context("no PROGRESS in the reply")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    }

    /// Whether it knows this many relays, from the consensus and in detail.
    pub async fn knows(&self, relays: usize) -> Result<bool> {
        let listed = self.control("GETINFO ns/all").await?.matches("\nr ").count();
        let described = self.control("GETINFO md/all").await?.matches("id ed25519 ").count();
        Ok(listed >= relays && described >= relays)
    }

    /// The end of its log, for an error message.
    pub fn tail(&self) -> String {
        tail(&self.log(), 15)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
