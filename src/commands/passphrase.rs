//! The passphrase of a backup: asked for at the terminal, or the first line of a file.

use std::io::{self, Read as _};
use std::path::Path;

use age::secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{CommandFailure, remark};
use crate::exit::{Exit, exit_of};
use crate::tor::keys::others_can_read;

/// The longest passphrase, in bytes.
const LONGEST: u64 = 4096;

/// The passphrase for a new backup: from the file, or asked for twice.
pub(super) fn new(file: Option<&Path>) -> Result<SecretString, CommandFailure> {
    if let Some(file) = file {
        return read(file);
    }
    let first = ask("Passphrase of the new backup: ")?;
    let again = ask("The same once more: ")?;
    match first.expose_secret() == again.expose_secret() {
        true => Ok(first),
        false => Err(CommandFailure::new(Exit::Usage, "the two passphrases differ")),
    }
}

/// The passphrase of a backup that is there.
pub(super) fn known(file: Option<&Path>) -> Result<SecretString, CommandFailure> {
    file.map_or_else(|| ask("Passphrase of the backup: "), read)
}

/// Asks the terminal, also where standard input is something else.
fn ask(prompt: &str) -> Result<SecretString, CommandFailure> {
    let asked = rpassword::prompt_password(prompt).map_err(|error| {
        let text = format!(
            "there is no terminal to ask for the passphrase ({error}): give --passphrase-file"
        );
        CommandFailure::new(Exit::Usage, text)
    })?;
    not_empty(&Zeroizing::new(asked))
}

fn read(file: &Path) -> Result<SecretString, CommandFailure> {
    let path = file.display();
    let failed = |error: io::Error| {
        let exit = exit_of(&error);
        CommandFailure::new(exit, format!("the passphrase cannot be read from {path}: {error}"))
    };
    let opened = std::fs::File::open(file).map_err(failed)?;
    if others_can_read(file) {
        remark(&format!("Warning: others can read {path}, and so the passphrase."));
    }
    // Room for all, so that growing leaves no copy behind; nor does a buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    opened.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    let line = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|error| failed(io::Error::other(error)))?;
    if line.len() as u64 > LONGEST {
        let text = format!("the first line of {path} is longer than 4,096 bytes");
        return Err(CommandFailure::new(Exit::Usage, text));
    }
    not_empty(line)
}

/// The passphrase without the end of its line.
fn not_empty(line: &str) -> Result<SecretString, CommandFailure> {
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(CommandFailure::new(Exit::Usage, "the passphrase is empty")),
        passphrase => Ok(SecretString::from(passphrase.to_owned())),
    }
}
