//! How is a child process started so that it never outlives this one?
//!
//! Every long-running process of the private network, and the daemon under
//! test, is started here. Three things end it: [`Process::kill`], dropping the
//! [`Process`], and the kernel when this process is gone for whatever reason,
//! SIGKILL included (`setpriv --pdeathsig`). Nothing is ever looked up or
//! killed by name.
//!
//! The kernel sends the parent death signal when the *thread* that started the
//! child ends, so one thread, which lives as long as the process, starts all.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How often a process that should end is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A running or ended child process; dropping it kills and reaps it.
#[derive(Debug)]
pub struct Process {
    /// What error messages call it.
    name: String,
    /// Where its output goes.
    log: PathBuf,
    /// How long that file was before: what processes of the same log wrote.
    log_began_at: u64,
    /// Not reaped before its end was noticed here, so its id is never another's.
    child: Mutex<Child>,
}

/// The signals that tests send, apart from [`Process::kill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Hangup,
    /// SIGINT: what Ctrl-C sends.
    Interrupt,
    /// SIGTERM: end in an orderly way.
    Terminate,
    /// SIGSTOP: stand still, with all connections open.
    Stop,
    /// SIGCONT: go on after [`Signal::Stop`].
    Continue,
}

impl Process {
    /// Starts `command` (program, arguments, environment and directory are
    /// taken from it) with its output appended to the file `log`.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Result<Process> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let log_began_at = output.metadata()?.len();
        let child = start(bound_to_this_process(command), output)
            .with_context(|| format!("cannot start {name} through setpriv (package util-linux)"))?;
        let (name, log) = (name.to_owned(), log.to_owned());
        Ok(Process { name, log, log_began_at, child: Mutex::new(child) })
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Whether it has not ended yet. A stopped process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// All that it has written so far, and nothing of those before it.
    pub fn log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let began_at = usize::try_from(self.log_began_at).unwrap_or(usize::MAX);
        String::from_utf8_lossy(log.get(began_at..).unwrap_or_default()).into_owned()
    }

    /// Sends `signal`; an error if the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        ensure!(child.try_wait()?.is_none(), "{} has ended already", self.name);
        // The shell's own `kill`: there without any package, and no unsafe code.
        let status = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "kill", signal.name()])
            .arg(child.id().to_string())
            .status()
            .context("cannot run sh")?;
        ensure!(status.success(), "cannot send {} to {}", signal.name(), self.name);
        Ok(())
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::Terminate)
    }

    /// Kills the process, if it still runs, and reaps it.
    pub fn kill(&self) -> Result<ExitStatus> {
        let mut child = self.child();
        child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        child.wait().with_context(|| format!("cannot reap {}", self.name))
    }

    /// Waits for its end; an error if it still runs after `limit`.
    pub async fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let ended = async {
            loop {
                if let Some(status) = self.child().try_wait()? {
                    return Ok(status);
                }
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(limit, ended).await {
            Ok(status) => status,
            Err(_) => bail!("{} still runs after {limit:?}", self.name),
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only where the process cannot be there any more.
        let _ = self.kill();
    }
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Hangup => "HUP",
            Signal::Interrupt => "INT",
            Signal::Terminate => "TERM",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        }
    }
}

/// Where a program is: in the `PATH`, or where Debian puts programs that are
/// not in the `PATH` of ordinary users.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("`{name}` is not installed (on Debian: apt-get install tor)"))
}

/// The last `lines` lines of a log.
pub fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The text of a file that may not be there yet.
pub fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// `command` as it is, but killed by the kernel with the thread that starts it.
fn bound_to_this_process(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(key, value),
            None => bound.env_remove(key),
        };
    }
    bound.current_dir(command.get_current_dir().unwrap_or(Path::new(OsStr::new("/"))));
    // A group of its own: Ctrl-C in a terminal reaches this process only, which
    // then ends its children in order.
    bound.process_group(0).stdin(Stdio::null());
    bound
}

/// Starts a command on the one thread that lives as long as the process.
fn start(mut command: Command, output: fs::File) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static STARTER: LazyLock<Sender<Job>> = LazyLock::new(|| {
        let (jobs, queue) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in queue {
                // The caller waits for the answer, so somebody owns the child.
                let _ = reply.send(command.spawn());
            }
        });
        jobs
    });
    command.stdout(output.try_clone()?).stderr(output);
    let (reply, answer) = channel();
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    STARTER.send((command, reply)).map_err(|_| gone(()))?;
    answer.recv().map_err(|_| gone(()))?
}
