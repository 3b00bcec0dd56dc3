//! What `run` says to whoever starts it at a terminal: the addresses, how to
//! look at the daemon, and how far Tor is. Elsewhere it prints nothing.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use crate::daemon::News;

/// Prints news where standard output is a terminal.
pub(super) fn tell(files: &[PathBuf]) -> Arc<dyn Fn(News) + Send + Sync> {
    if !io::stdout().is_terminal() {
        return Arc::new(|_| {});
    }
    let files = files.to_vec();
    Arc::new(move |news| {
        let text = match news {
            News::Started(addresses) => started(&addresses, &files),
            // The log says so at the same place.
            News::Progress(_) if io::stderr().is_terminal() && logs_progress() => return,
            News::Progress(text) => format!("{text}\n"),
        };
        // A terminal that is gone is nothing to end for.
        let _ = io::stdout().write_all(text.as_bytes());
    })
}

/// Whether what the log says of the progress is to be seen.
fn logs_progress() -> bool {
    tracing::enabled!(target: "onionbraid::daemon::tor_lines", tracing::Level::INFO)
}

fn started(addresses: &[(String, String)], files: &[PathBuf]) -> String {
    let width = addresses.iter().map(|(nickname, _)| nickname.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (nickname, address) in addresses {
        text.push_str(&format!("{nickname:width$}  {address}\n"));
    }
    let files: String =
        files.iter().map(|file| format!(" -c {}", quoted(&file.display().to_string()))).collect();
    text.push_str(&format!("Look at it with: onionbraid status --watch{files}\n"));
    text.push_str("Ctrl-C ends it.\n");
    text
}

/// A path that a shell takes as it is, and that steers no terminal.
fn quoted(path: &str) -> String {
    let path: String = path.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match !path.is_empty() && path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_followed_by_how_to_look_at_them() {
        let service = |name: &str, address: &str| (name.to_owned(), address.to_owned());
        let services = [service("shop", "a.onion"), service("blog-2", "b.onion")];
        assert_eq!(
            started(&services, &["/etc/arti.toml".into(), "my file".into()]),
            "shop    a.onion\nblog-2  b.onion\nLook at it with: onionbraid status --watch -c \
             /etc/arti.toml -c 'my file'\nCtrl-C ends it.\n"
        );
        assert!(started(&services, &[]).contains("status --watch\n"));
    }

    #[test]
    fn a_path_is_what_the_shell_takes_it_for() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("a\x1b[2J"), "'a?[2J'");
        assert_eq!(quoted(""), "''");
    }
}
