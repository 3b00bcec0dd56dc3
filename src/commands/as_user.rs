//! Has root run a command of this program as another user: in a session of its own
//! and with few variables, since whoever has that user may take hold of the process.
//! With root's terminal it could type what root runs next.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use tor_config::mistrust::FS_PERMISSIONS_CHECKS_DISABLE_VAR;

use super::{CommandFailure, finish};
use crate::config::Environment;
use crate::exit::Exit;

/// Becomes that command, of that user; `here` in the directory where root is.
pub fn as_user(user: u32, group: u32, here: bool, arguments: &[OsString]) -> ExitCode {
    finish(Err(become_user(user, group, here, arguments)))
}

/// Why it did not come to that.
fn become_user(user: u32, group: u32, here: bool, arguments: &[OsString]) -> CommandFailure {
    if !rustix::process::geteuid().is_root() {
        return CommandFailure::new(Exit::Permission, "only root runs commands as another user");
    }
    // No terminal from here on.
    if let Err(error) = rustix::process::setsid() {
        return CommandFailure::new(Exit::Failed, format!("no session of its own: {error}"));
    }
    let kept = Environment::VARIABLES.into_iter().chain([FS_PERMISSIONS_CHECKS_DISABLE_VAR]);
    let kept = kept.filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).env_clear().envs(kept).uid(user).gid(group);
    if !here {
        // Where root is, that user may have no access.
        command.current_dir("/");
    }
    CommandFailure::new(Exit::Failed, format!("cannot run as UID {user}: {}", command.exec()))
}
