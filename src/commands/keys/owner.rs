//! Whose are the keys that root handles? They belong to the owner of the state
//! directory: the daemon runs as that user and must be able to read them.
//!
//! What is written there, that user writes: the same command is run again as it.
//! Root itself would follow links that the user made, to places that only root may
//! write to.

use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Output, Stdio};

use fs_mistrust::Mistrust;
use tor_config::mistrust::FS_PERMISSIONS_CHECKS_DISABLE_VAR;

use crate::commands::new_file::directory_of;
use crate::commands::{self, CommandFailure, remark};
use crate::config::Config;
use crate::exit::{Exit, exit_of};
use crate::trust::way::handle;
use onionbraid_balancer::onion::OnionAddress;

/// The longest output of such a command, in bytes.
const SAID_AT_MOST: u64 = 64 * 1024;

/// Says that files have their places, and that they keep them.
pub(crate) const SIGN: u8 = b'+';

/// Whether this process may read everything.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A user that is not root, and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// Whose the keys of this configuration are, if root asks and they are another's:
/// the owner's of the state directory, or of where it will be made.
pub(crate) fn of_state(config: &Config) -> Option<Owner> {
    of_directory(&config.storage.state_dir)
}

/// The same for a state directory of which nothing else is known.
pub(crate) fn of_directory(state_dir: &Path) -> Option<Owner> {
    of(state_dir).filter(|_| is_root())
}

/// Whose a new file is to be that root writes: the owner's of the directory that it is
/// to be in, if that is there.
pub(crate) fn of_new(path: &Path) -> Option<Owner> {
    let above = directory_of(path);
    above.is_dir().then(|| of_existing(above)).flatten()
}

/// The owner of a path, if root asks and it is another's.
pub(crate) fn of_existing(path: &Path) -> Option<Owner> {
    of(path).filter(|_| is_root())
}

/// The owner of a path, or of where it will be made, unless that is root.
fn of(path: &Path) -> Option<Owner> {
    let found = path.ancestors().find_map(|path| path.metadata().ok())?;
    let owner = Owner { user: found.uid(), group: found.gid() };
    (owner.user != 0).then_some(owner)
}

/// Has `make` make what it needs below a state directory; warns where root has made that
/// with nothing to tell for whom.
pub(crate) fn warning_of_roots<T, E>(
    state_dir: &Path,
    make: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let is_for_root = is_root() && of(state_dir).is_none() && !state_dir.exists();
    let made = make()?;
    if is_for_root {
        remark(&format!(
            "Warning: there was no {} yet, whose owner could have told which user runs the daemon. \
             All of this is root's: if it is to be another's, hand it over with chown.",
            state_dir.display()
        ));
    }
    Ok(made)
}

/// Reads the configuration for a command that reads keys and writes none to the
/// state directory: root may read those of the user whose that is.
pub(crate) fn load(files: &[PathBuf]) -> Result<Config, CommandFailure> {
    trusting_owner(commands::load(files)?)
}

/// The same where what the platform delivers to the daemon alone may be missing.
pub(crate) fn load_without_delivered(files: &[PathBuf]) -> Result<Config, CommandFailure> {
    trusting_owner(commands::load_without_delivered(files)?)
}

fn trusting_owner(config: Config) -> Result<Config, CommandFailure> {
    match of_state(&config) {
        Some(owner) => Ok(config.trusting(owner.user)?),
        None => Ok(config),
    }
}

/// Which permissions a key may have that root takes from somewhere: its owner, who
/// has it already, may have it.
pub(crate) fn mistrust(path: &Path) -> Result<Mistrust, CommandFailure> {
    let mut builder = Mistrust::builder();
    builder.controlled_by_env_var(FS_PERMISSIONS_CHECKS_DISABLE_VAR);
    if let Some(owner) = path.metadata().ok().filter(|_| is_root()) {
        builder.trust_user(owner.uid());
    }
    builder.build().map_err(|error| CommandFailure::new(Exit::Failed, error.to_string()))
}

/// Runs `onionbraid keys ARGUMENTS` as another user, with this on standard input;
/// the address that it prints.
pub(crate) fn run_as(
    owner: Owner,
    arguments: &[&str],
    config: &Config,
    input: &[u8],
) -> Result<OnionAddress, CommandFailure> {
    let arguments: Vec<&str> = ["keys"].iter().chain(arguments).copied().collect();
    let address = run_with(owner, &arguments, config, input)?;
    address.trim_end().parse().map_err(|error| {
        CommandFailure::new(Exit::Failed, format!("cannot do this as UID {}: {error}", owner.user))
    })
}

/// Runs `onionbraid ARGUMENTS` as another user with the files of this configuration and
/// with this on standard input; what it prints.
pub(crate) fn run_with(
    owner: Owner,
    arguments: &[&str],
    config: &Config,
    input: &[u8],
) -> Result<String, CommandFailure> {
    let mut command = as_user(owner, &[]);
    command.args(arguments);
    for file in &config.files {
        command.arg("-c").arg(std::path::absolute(file).unwrap_or_else(|_| file.clone()));
    }
    run(command, &format!("as UID {}, whose the state directory is", owner.user), |stdin, _| {
        // Where it ends before it has read, what it says matters.
        let _ = stdin.write_all(input);
    })
}

/// Runs `onionbraid ARGUMENTS` as another user in a directory that root has opened. It
/// gets the length of this and this on standard input, and once it gives [`SIGN`], `then`
/// comes: if that succeeds, it is given the sign back, else the end.
pub(crate) fn run_in(
    owner: Owner,
    directory: OwnedFd,
    arguments: &[&str],
    input: &[u8],
    then: impl FnOnce() -> Result<(), CommandFailure>,
) -> Result<(), CommandFailure> {
    let mut command = as_user(owner, &["--here"]);
    command.args(arguments).current_dir(handle(&directory));
    let whose = format!("as UID {}, whose this is", owner.user);
    let mut done = None;
    let run = run(command, &whose, |stdin, stdout| {
        let length = u64::try_from(input.len()).unwrap_or(u64::MAX).to_le_bytes();
        let asked = stdin.write_all(&length).and_then(|()| stdin.write_all(input));
        let mut sign = [0];
        // Where it ends before, what it says matters.
        if asked.and_then(|()| stdout.read_exact(&mut sign)).is_ok() && sign == [SIGN] {
            let outcome = then();
            if outcome.is_ok() {
                let _ = stdin.write_all(&[SIGN]);
            }
            done = Some(outcome);
        }
    });
    match (done, run) {
        (Some(Ok(())), run) => run.map(drop),
        (Some(Err(failure)), Err(taken_back)) if !taken_back.text.ends_with(": ") => {
            let text = format!("{} ({})", failure.text, taken_back.text);
            Err(CommandFailure::new(failure.exit, text))
        }
        (Some(Err(failure)), _) => Err(failure),
        (None, run) => {
            run?;
            Err(CommandFailure::new(Exit::Failed, format!("{whose}: it ended too early")))
        }
    }
}

/// This program, as another user.
fn as_user(owner: Owner, options: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("as-user").args(options).args([owner.user.to_string(), owner.group.to_string()]);
    command
}

fn run(
    mut command: Command,
    whose: &str,
    talk: impl FnOnce(&mut ChildStdin, &mut ChildStdout),
) -> Result<String, CommandFailure> {
    let failed = |error: &io::Error| {
        CommandFailure::new(exit_of(error), format!("cannot do this {whose}: {error}"))
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    // Whoever has that user has a say in what comes, and in how much.
    let stderr = child.stderr.take().map(|stderr| std::thread::spawn(move || beginning(stderr)));
    let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take());
    if let (Some(mut stdin), Some(stdout)) = (stdin, &mut stdout) {
        talk(&mut stdin, stdout);
    }
    let stdout = stdout.map(beginning).unwrap_or_default();
    let stderr = stderr.and_then(|stderr| stderr.join().ok()).unwrap_or_default();
    let status = child.wait().map_err(|error| failed(&error))?;
    let output = Output { status, stdout, stderr };
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim_end();
    let exits = [Exit::Usage, Exit::Permission, Exit::Configuration];
    if !output.status.success() {
        let code = output.status.code();
        let exit = exits.into_iter().find(|exit| code == Some(*exit as i32));
        let text = said.strip_prefix("onionbraid: ").unwrap_or(said);
        return Err(CommandFailure::new(exit.unwrap_or(Exit::Failed), format!("{whose}: {text}")));
    }
    if !said.is_empty() {
        remark(said);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As much of an output as anybody reads.
fn beginning(output: impl Read) -> Vec<u8> {
    let mut read = Vec::new();
    // What was read before it broke off is what there is.
    let _ = output.take(SAID_AT_MOST).read_to_end(&mut read);
    read
}
