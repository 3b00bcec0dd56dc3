//! The codes with which the program exits, for scripts and service files.

use std::process::ExitCode;

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
