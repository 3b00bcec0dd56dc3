//! What each command of the command line does, one file a command.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "commands talk to the person who typed them"
)]

pub mod run;
pub mod status;
