//! `onionbraid backup`: the configuration and the keys in one encrypted file.
//!
//! Standard output has the backup where `-` says so, else nothing. No file is ever
//! overwritten, and none is left that is half written.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::keys::owner;
use super::{CommandFailure, exists, finish, new_file, passphrase, remark};
use crate::backup::collect::{CollectError, Collected, collect};
use crate::backup::contents::{Backup, FileKind};
use crate::backup::seal::{self, Seal};
use crate::cli::BackupArgs;
use crate::clock::now;
use crate::exit::{Exit, exit_of};

/// In the place of a path: standard output.
const STANDARD_OUTPUT: &str = "-";

/// Writes the backup.
pub fn backup(args: &BackupArgs) -> ExitCode {
    finish(write(args))
}

fn write(args: &BackupArgs) -> Result<(), CommandFailure> {
    let to_output = args.out == Path::new(STANDARD_OUTPUT);
    if to_output && io::stdout().is_terminal() {
        let text = "a backup is not for a terminal: name a file, or lead it into one";
        return Err(CommandFailure::new(Exit::Usage, text));
    }
    if !to_output && args.out.symlink_metadata().is_ok() {
        return Err(exists(&args.out));
    }
    let recipients: Result<Vec<_>, CommandFailure> =
        args.recipient.iter().map(|it| recipient(it)).collect();
    let recipients = recipients?;

    let config = owner::load_without_delivered(&args.config.files)?;
    let made = humantime::format_rfc3339_seconds(now().wall).to_string();
    let Collected { backup, services, left_out } = collect(&config, made)?;
    let seal = match recipients.is_empty() {
        true => Seal::Passphrase(passphrase::new(args.passphrase_file.as_deref())?),
        false => Seal::Recipients(recipients),
    };
    match to_output {
        true => {
            seal::write(&backup, seal, io::stdout().lock())?.flush()?;
        }
        false => write_new(&args.out, &backup, seal)?,
    }

    for (nickname, address) in services {
        match address {
            Some(address) => remark(&format!("service \"{nickname}\": {address}")),
            None => remark(&format!(
                "Warning: service \"{nickname}\" has no key yet, so its address is not in the \
                 backup: make one after its first start."
            )),
        }
    }
    for left_out in left_out {
        remark(&format!("Not in the backup: {left_out}."));
    }
    remark(&summary(&backup));
    Ok(())
}

fn recipient(text: &str) -> Result<age::x25519::Recipient, CommandFailure> {
    seal::recipient(text).map_err(|problem| {
        CommandFailure::new(Exit::Usage, format!("--recipient {text}: {problem}"))
    })
}

fn summary(backup: &Backup) -> String {
    let files = &backup.manifest.files;
    let keys =
        files.iter().filter(|file| file.kind.is_key() && file.kind != FileKind::BesideKey).count();
    let configuration = backup.manifest.configuration().count();
    let others =
        files.iter().filter(|file| matches!(file.kind, FileKind::Named | FileKind::Client)).count();
    format!(
        "In the backup: configuration files: {configuration}; files that they name: {others}; keys: \
         {keys}. Try it with `onionbraid restore FILE --list`."
    )
}

/// Writes the backup to a new file, for its owner alone.
fn write_new(out: &Path, backup: &Backup, seal: Seal) -> Result<(), CommandFailure> {
    let file = new_file::begin(out, 0o600)?;
    let file = seal::write(backup, seal, file);
    new_file::put(file.map_err(|error| new_file::unwritable(out, error))?, out)
}

impl From<CollectError> for CommandFailure {
    fn from(error: CollectError) -> Self {
        match error {
            CollectError::Key(error) => error.into(),
            CollectError::KeyFile(error) => error.into(),
            error => Self::new(exit_of(&error), crate::causes::in_one_line(&error)),
        }
    }
}
