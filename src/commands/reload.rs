//! `onionbraid reload`: has the running daemon read its configuration again, and
//! says what that has come to.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::ask::order;
use super::{CommandFailure, finish, print};
use crate::admin::orders::{self, Reloaded};
use crate::config::{Config, Environment};
use crate::exit::Exit;
use crate::observe::printable_text;

/// Reloads, and waits for it.
pub fn reload(files: &[PathBuf]) -> ExitCode {
    finish(try_reload(files))
}

fn try_reload(files: &[PathBuf]) -> Result<(), CommandFailure> {
    let admin = Config::admin_of(files, &Environment::of_process())?;
    let answer = order(&admin, orders::RELOAD, &json!({}))?;
    let reloaded: Reloaded = serde_json::from_str(&answer).map_err(|error| {
        let text = format!("the daemon's answer makes no sense to this version: {error}");
        CommandFailure::new(Exit::Failed, text)
    })?;
    print(&printable_text(&told(&reloaded)).to_string())
}

/// What to tell the operator.
fn told(reloaded: &Reloaded) -> String {
    let Reloaded { changed, after_restart, warnings } = reloaded;
    let mut text: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    match changed.as_slice() {
        [] => text.push_str("reloaded: nothing has changed\n"),
        changed => {
            text.push_str("reloaded:\n");
            text.extend(changed.iter().map(|line| format!("  {line}\n")));
        }
    }
    if !after_restart.is_empty() {
        let keys = after_restart.join(", ");
        text.push_str(&format!("only a restart brings in force what has changed in {keys}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_is_told_what_is_different_and_what_waits_for_a_restart() {
        assert_eq!(told(&Reloaded::default()), "reloaded: nothing has changed\n");
        let reloaded = Reloaded {
            changed: vec!["a: 1 -> 2".into()],
            after_restart: vec!["[admin]".into()],
            warnings: vec!["odd".into()],
        };
        let expected = "warning: odd\nreloaded:\n  a: 1 -> 2\n\
                        only a restart brings in force what has changed in [admin]\n";
        assert_eq!(told(&reloaded), expected);
    }
}
