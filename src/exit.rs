//! The codes with which the program exits, for scripts and service files.

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use crate::causes::chain;

/// Why the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything went well.
    Ok = 0,
    /// It failed while it ran.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The daemon cannot be reached (`EX_UNAVAILABLE` of sysexits(3)).
    Unreachable = 69,
    /// The system denies access, or a key cannot be used (`EX_NOPERM`).
    Permission = 77,
    /// The configuration is wrong (`EX_CONFIG`).
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // The discriminants are the codes themselves.
        Self::from(exit as u8)
    }
}

/// Which code an error of the system comes to: 77 where access is denied or
/// others could have it, else 1.
pub fn exit_of(error: &(dyn Error + 'static)) -> Exit {
    match chain(error).any(is_denied) {
        true => Exit::Permission,
        false => Exit::Failed,
    }
}

fn is_denied(error: &(dyn Error + 'static)) -> bool {
    use fs_mistrust::Error as E;
    let shared = error.downcast_ref::<Arc<io::Error>>().map(AsRef::as_ref);
    if let Some(error) = error.downcast_ref::<io::Error>().or(shared) {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        return matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem);
    }
    match error.downcast_ref::<E>() {
        Some(E::BadPermission(..) | E::BadOwner(..)) => true,
        Some(E::Content(error)) => is_denied(error.as_ref()),
        Some(E::Multiple(errors)) => errors.iter().any(|error| is_denied(error.as_ref())),
        _ => false,
    }
}
