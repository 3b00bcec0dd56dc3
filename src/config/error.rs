//! What can be wrong with a configuration, and how it is told: one block for
//! each error, with its file and line, the whole key path, the value found and
//! what would be right.
//!
//! The readers of `config/` put errors and warnings into a [`ConfigReport`]; nobody
//! else makes them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::exit::Exit;

/// Every error of a configuration, in the order of the files and their lines.
///
/// `Display` shows all of them, one block each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// What a command says of them: how many there are, and each.
    pub fn report(&self) -> String {
        let count = match self.0.len() {
            1 => "an error".to_owned(),
            count => format!("{count} errors"),
        };
        format!("the configuration has {count}\n\n{self}")
    }

    /// The code to exit with: 78, or 77 where the system refused to let a file
    /// be read.
    pub fn exit(&self) -> Exit {
        if self.0.iter().any(|error| error.permission) {
            Exit::Permission
        } else {
            Exit::Configuration
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    place: Option<Place>,
    key: Option<KeyPath>,
    value: Option<String>,
    problem: String,
    permission: bool,
}

impl ConfigError {
    /// An error of the configuration as a whole.
    pub(crate) fn general(problem: impl Into<String>) -> Self {
        Self { place: None, key: None, value: None, problem: problem.into(), permission: false }
    }

    /// An error of a file: it cannot be read, or it is no TOML.
    pub(crate) fn in_file(place: Place, problem: impl Into<String>) -> Self {
        Self { place: Some(place), ..Self::general(problem) }
    }

    /// Says that the system denied access, which has an exit code of its own.
    pub(crate) fn denied(self) -> Self {
        Self { permission: true, ..self }
    }

    /// An error of one key, or of a table.
    pub(crate) fn at_key(place: Option<Place>, key: KeyPath, problem: impl Into<String>) -> Self {
        Self { place, key: Some(key), ..Self::general(problem) }
    }

    /// Says which key it is about.
    pub(crate) fn with_key(self, place: Option<Place>, key: KeyPath) -> Self {
        Self { place, key: Some(key), ..self }
    }

    /// The same in a file that comes after `order` others.
    pub(crate) fn after(mut self, order: usize) -> Self {
        if let Some(place) = &mut self.place {
            place.order += order;
        }
        self
    }

    /// The line that it is about, from 1.
    pub(crate) fn line(&self) -> Option<usize> {
        self.place.as_ref().and_then(|place| place.line)
    }

    /// The same without its place, for a text that nobody has as a file.
    pub(crate) fn without_place(&self) -> Self {
        Self { place: None, ..self.clone() }
    }

    /// Where it is, without what is written there: for the log, which names no address.
    pub(crate) fn place_and_key(&self) -> String {
        let place = self.place.as_ref().map(Place::to_string);
        let key = self.key.as_ref().map(KeyPath::to_string);
        place.into_iter().chain(key).collect::<Vec<_>>().join(": ")
    }

    /// Adds the offending value, as TOML.
    pub(crate) fn with_value(self, value: impl Into<String>) -> Self {
        Self { value: Some(value.into()), ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            self.place.as_ref().map(Place::to_string),
            self.key.as_ref().map(|key| match &self.value {
                Some(value) => format!("{key} = {value}"),
                None => key.to_string(),
            }),
        ];
        let head: Vec<String> = head.into_iter().flatten().collect();
        if head.is_empty() {
            return writeln!(f, "{}", self.problem);
        }
        writeln!(f, "{}", head.join(": "))?;
        for line in self.problem.lines() {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The position of the file among all files: errors are shown in this order.
    pub(crate) order: usize,
    /// The line, from 1; `None` for the whole file.
    pub(crate) line: Option<usize>,
    /// The file.
    pub(crate) file: Arc<Path>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match self.line {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

/// The full path of a key, as one would write it in TOML.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyPath(String);

impl KeyPath {
    /// The path of `key` in the table at this path.
    pub(crate) fn key(&self, key: &str) -> Self {
        let bare = !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if bare { self.join(key) } else { self.quoted(key) }
    }

    /// The same, always within quotes: for names that the operator chose.
    pub(crate) fn quoted(&self, key: &str) -> Self {
        self.join(&format!("{key:?}"))
    }

    /// The path of an element of the array at this path.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    fn join(&self, key: &str) -> Self {
        if self.0.is_empty() { Self(key.to_owned()) } else { Self(format!("{}.{key}", self.0)) }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a file should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A service's key, or the directory that has it.
    Key,
    /// A directory with the keys of periods.
    Bundle,
    /// A directory of files to answer with.
    Directory,
    /// Certificates of authorities, in PEM.
    Certificates,
    /// The certificate of a port, in PEM.
    Certificate,
    /// Its key.
    TlsKey,
    /// A page.
    Page,
    /// The key with which the descriptor of a backend is read.
    ClientKey,
    /// A directory with the keys of clients.
    Clients,
    /// A file of more backends.
    Backends,
    /// A socket, which whoever answers there makes.
    Socket,
}

/// A file that the configuration names, and where.
#[derive(Debug)]
pub(crate) struct NamedFile {
    pub(crate) place: Option<Place>,
    pub(crate) key: KeyPath,
    pub(crate) value: String,
    pub(crate) path: PathBuf,
    pub(crate) wanted: Expected,
}

/// What the readers have found so far.
#[derive(Debug, Default)]
pub(crate) struct ConfigReport {
    errors: Vec<ConfigError>,
    warnings: Vec<(Option<Place>, String)>,
    files: Vec<NamedFile>,
    /// Whether what the platform delivers to the daemon alone may be missing here.
    without_delivered: bool,
}

impl ConfigReport {
    /// A report for a process that is not the daemon, for which the platform's secrets
    /// may be missing.
    pub(crate) fn without_delivered() -> Self {
        Self { without_delivered: true, ..Self::default() }
    }

    /// Whether what the platform delivers to the daemon alone may be missing here.
    pub(crate) fn is_without_delivered(&self) -> bool {
        self.without_delivered
    }

    /// Adds an error.
    pub(crate) fn error(&mut self, error: ConfigError) {
        self.errors.push(error);
    }

    /// Adds a warning about one key: something is accepted and perhaps not meant.
    pub(crate) fn warn(&mut self, place: Option<Place>, key: &KeyPath, text: &str) {
        let text = match &place {
            Some(place) => format!("{place}: {key}: {text}"),
            None => format!("{key}: {text}"),
        };
        self.warnings.push((place, text));
    }

    /// Remembers a file that the configuration names.
    pub(crate) fn names(&mut self, file: NamedFile) {
        self.files.push(file);
    }

    /// The files that were named so far.
    pub(crate) fn take_files(&mut self) -> Vec<NamedFile> {
        std::mem::take(&mut self.files)
    }

    /// Whether anything is wrong so far.
    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// All errors in the order of the files and their lines.
    pub(crate) fn into_errors(mut self) -> ConfigErrors {
        self.errors.sort_by(|a, b| a.place.cmp(&b.place));
        ConfigErrors(self.errors)
    }

    /// The warnings, or all errors in the order of the files and their lines.
    pub(crate) fn finish(mut self) -> Result<Vec<String>, ConfigErrors> {
        if self.has_errors() {
            return Err(self.into_errors());
        }
        self.warnings.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(self.warnings.into_iter().map(|(_, text)| text).collect())
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

/// A place that is a whole file.
pub(crate) fn whole_file(order: usize, file: &Path) -> Place {
    Place { order, line: None, file: Arc::from(PathBuf::from(file)) }
}
