//! What in another system's configuration has an equivalent in an arti.toml, and
//! what has none?
//!
//! Pure: texts in, a [`Draft`](draft::Draft) or all faults out. Files are seen through
//! [`ImportFiles`], which `commands/import.rs` implements on the disk and nothing here
//! can write through. Called by that command alone.
//!
//! | file | answers |
//! |---|---|
//! | `onionbalance`, `yaml` | what does Onionbalance's `config.yaml` say? |
//! | `torrc`, `torrc/*` | what do the onion services and bridges of a torrc say? |
//! | `onionspray` | what do the maps and settings of an Onionspray or EOTK project say? |
//! | `draft` | how is the result written as an arti.toml? |
//! | `nicknames` | what is a service called that had no name? |

pub mod draft;
mod nicknames;
pub mod onionbalance;
pub mod onionspray;
pub mod torrc;
mod yaml;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use onionbraid_balancer::onion::OnionAddress;

/// What an import may see of the disk.
pub trait ImportFiles {
    /// The text of a file, or `None` if there is none. Bytes that are not UTF-8 are
    /// U+FFFD, which no value may contain: see [`check_encoding`].
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    fn text(&self, path: &Path) -> Result<Option<String>, Unreadable>;

    /// The names in a directory, sorted; `None` if it is no directory.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    fn list(&self, path: &Path) -> Result<Option<Vec<OsString>>, Unreadable>;

    /// Whether anything has this name, be it a link that leads nowhere.
    ///
    /// # Errors
    ///
    /// Why that cannot be known.
    fn is_there(&self, path: &Path) -> Result<bool, Unreadable>;

    /// The same path from the root of the file system, as it is written into the new
    /// file, which may lie elsewhere.
    ///
    /// # Errors
    ///
    /// Why the working directory, where it begins, cannot be known.
    fn absolute(&self, path: &Path) -> Result<PathBuf, Unreadable>;

    /// The address of the secret key at `path`, a file or a directory of C tor's,
    /// computed from the key itself.
    ///
    /// # Errors
    ///
    /// Why the key cannot be used, and what to do.
    fn address(&self, path: &Path) -> Result<OnionAddress, String>;

    /// The user's home, for paths that begin with `~`.
    fn home(&self) -> Option<PathBuf>;
}

/// Why a file or directory that is there cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be read: {reason}", path.display())]
pub struct Unreadable {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
    /// Whether the system lets this user not read it.
    pub denied: bool,
}

/// A line of a file that was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePlace {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// How a line of the old configuration fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFate {
    /// It has an equivalent that is not quite the same, or was one of several.
    Decided,
    /// Nothing in onionbraid does this.
    NoEquivalent,
    /// Without it the service is less protected than before.
    Warning,
}

impl fmt::Display for LineFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decided => "decided",
            Self::NoEquivalent => "no equivalent",
            Self::Warning => "WARNING",
        })
    }
}

/// What became of a line that did not go over unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The line.
    pub place: SourcePlace,
    /// How it fares.
    pub kind: LineFate,
    /// What was there, what is here, and what to do if that is wrong.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.kind, self.text)
    }
}

/// Why nothing can be imported: one mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Fault {
    /// Where.
    pub place: SourcePlace,
    /// What is wrong and what would be right.
    pub problem: String,
    /// Whether a key or who may read a file is at fault, not the configuration.
    pub key: bool,
}

/// Every mistake, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl Fault {
    fn new(place: &SourcePlace, problem: impl Into<String>) -> Self {
        Self { place: place.clone(), problem: printable(problem.into()), key: false }
    }

    fn of_key(place: &SourcePlace, problem: impl Into<String>) -> Self {
        Self { key: true, ..Self::new(place, problem) }
    }

    fn unreadable(place: &SourcePlace, error: Unreadable) -> Self {
        let denied = error.denied;
        let problem = match place.line == 0 && place.file == error.path {
            true => format!("it cannot be read: {}", error.reason),
            false => error.to_string(),
        };
        Self { key: denied, ..Self::new(place, problem) }
    }
}

impl Note {
    fn new(place: &SourcePlace, kind: LineFate, text: impl Into<String>) -> Self {
        Self { place: place.clone(), kind, text: printable(text.into()) }
    }
}

/// Text without what a terminal would obey: values of the files are in it.
fn printable(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

/// The directory of a file, where relative paths begin.
fn directory_of(file: &Path) -> &Path {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Reads an onion address, and explains the kinds that are gone.
fn address(text: &str) -> Result<OnionAddress, String> {
    let label = text.trim().to_ascii_lowercase();
    let label = label.strip_suffix(".onion").unwrap_or(&label);
    let old = label.len() == 16 && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
    if old {
        return Err(format!(
            "{text} is an address of a version 2 onion service, which Tor has dropped: name the \
             version 3 address, of 56 characters"
        ));
    }
    text.parse().map_err(|error| format!("{text}: {error}"))
}

/// Refuses a text of a file, named `what`, that is in another encoding. Comments are
/// never asked.
fn check_encoding(what: &str, text: &str) -> Result<(), String> {
    match text.contains(char::REPLACEMENT_CHARACTER) {
        false => Ok(()),
        true => Err(format!(
            "{what} is not UTF-8, or has U+FFFD in it, as only comments may: save the file as \
             UTF-8. If what it names has such a name itself, rename that, too"
        )),
    }
}

/// A path as it is written into the new file, absolute.
fn written_path(
    path: &Path,
    place: &SourcePlace,
    files: &impl ImportFiles,
) -> Result<String, Fault> {
    let path = files.absolute(path).map_err(|error| Fault::unreadable(place, error))?;
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        let problem = format!(
            "{} is not UTF-8, as every path in the new file has to be: rename what is called so",
            path.display()
        );
        Fault::new(place, problem)
    })
}

/// Text without the mark that some editors put at its beginning.
fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A path as a configuration file writes it: `~` is the home, relative paths
/// begin at `base`.
fn resolve(path: &str, base: &Path, files: &impl ImportFiles) -> PathBuf {
    match (path.strip_prefix("~/"), files.home()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => base.join(path),
    }
}
