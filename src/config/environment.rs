//! What the surroundings say where the file is silent: which file to read and
//! where state and cache lie by default.
//!
//! The process's environment comes in as a value, so that tests and a reload
//! see exactly what they were given.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directory below the XDG directories that is ours.
const NAME: &str = "onionbraid";

/// The file's name, wherever it lies.
const FILE: &str = "arti.toml";

/// Names the configuration where the command line does not: one file, or several
/// with colons between them.
const VARIABLE: &str = "ONIONBRAID_CONFIG";

/// The environment variables that matter, and where the system's own file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The variables of the environment.
    pub variables: BTreeMap<OsString, OsString>,
    /// The file to read where the user has none: `/etc/onionbraid/arti.toml`.
    pub system_file: PathBuf,
}

impl Environment {
    /// The variables that say where things are, for a process that runs on with
    /// these alone.
    pub(crate) const VARIABLES: [&str; 7] = [
        "HOME",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
        "XDG_CACHE_HOME",
        "STATE_DIRECTORY",
        "CACHE_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
    ];

    /// The environment of this process.
    pub fn of_process() -> Self {
        Self::new(std::env::vars_os())
    }

    /// An environment made of these variables.
    pub fn new<K, V>(variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter().map(|(key, value)| (key.into(), value.into()));
        Self {
            variables: variables.collect(),
            system_file: Path::new("/etc").join(NAME).join(FILE),
        }
    }

    /// The files that the environment names, else the first of the usual places that
    /// has one.
    pub(crate) fn config_files(&self) -> Vec<PathBuf> {
        match self.named_files() {
            None => self.config_file().into_iter().collect(),
            Some(named) => named,
        }
    }

    /// Where the configuration may lie: the files that the environment names, else the
    /// usual places, whether they have one or not.
    pub(crate) fn config_places(&self) -> Vec<PathBuf> {
        match self.named_files() {
            Some(named) => named,
            None => self.usual_places().collect(),
        }
    }

    /// Where keys and state may lie without a word about it: this user's own
    /// directory, and that of the packages.
    pub(crate) fn state_places(&self) -> Vec<PathBuf> {
        self.state_dir().into_iter().chain([Path::new("/var/lib").join(NAME)]).collect()
    }

    /// The variable that names the files, if it does.
    pub(crate) fn naming_variable(&self) -> Option<&'static str> {
        self.named_files().map(|_| VARIABLE)
    }

    fn named_files(&self) -> Option<Vec<PathBuf>> {
        let named = self.variables.get(&OsString::from(VARIABLE))?;
        let named: Vec<PathBuf> =
            std::env::split_paths(named).filter(|path| !path.as_os_str().is_empty()).collect();
        (!named.is_empty()).then_some(named)
    }

    fn usual_places(&self) -> impl Iterator<Item = PathBuf> {
        let own = self.xdg("XDG_CONFIG_HOME", ".config").map(|directory| directory.join(FILE));
        own.into_iter().chain([self.system_file.clone()])
    }

    /// The first of the usual places that has a file.
    fn config_file(&self) -> Option<PathBuf> {
        // A home directory that this process may not enter counts as one without
        // a file: under systemd's ProtectHome= that is the usual case.
        let there = |file: &PathBuf| std::fs::symlink_metadata(file).is_ok();
        self.usual_places().find(there)
    }

    /// Where keys and state lie by default.
    pub(crate) fn state_dir(&self) -> Option<PathBuf> {
        self.systemd("STATE_DIRECTORY").or_else(|| self.xdg("XDG_STATE_HOME", ".local/state"))
    }

    /// Where what can be fetched again lies by default.
    pub(crate) fn cache_dir(&self) -> Option<PathBuf> {
        self.systemd("CACHE_DIRECTORY").or_else(|| self.xdg("XDG_CACHE_HOME", ".cache"))
    }

    /// Where commands keep a Tor client of their own, if they cannot use the
    /// daemon's directories: the user's, whatever directories systemd made.
    pub(crate) fn client_dir(&self) -> Option<PathBuf> {
        self.xdg("XDG_STATE_HOME", ".local/state").map(|directory| directory.join("client"))
    }

    /// An absolute path in a variable; the XDG specification wants relative
    /// ones ignored.
    fn path(&self, variable: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.variables.get(&OsString::from(variable))?);
        path.is_absolute().then_some(path)
    }

    fn xdg(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let base =
            self.path(variable).or_else(|| self.path("HOME").map(|home| home.join(below_home)))?;
        Some(base.join(NAME))
    }

    /// systemd names several directories with colons between them: the first
    /// is the one to use (systemd.exec(5)).
    fn systemd(&self, variable: &str) -> Option<PathBuf> {
        let value = self.variables.get(&OsString::from(variable))?;
        let first = std::env::split_paths(value).next()?;
        first.is_absolute().then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_follow_xdg_and_fall_back_to_home() {
        let env = Environment::new([("HOME", "/home/u"), ("XDG_CACHE_HOME", "/c")]);
        assert_eq!(env.state_dir(), Some("/home/u/.local/state/onionbraid".into()));
        assert_eq!(env.cache_dir(), Some("/c/onionbraid".into()));
    }

    #[test]
    fn the_directories_that_systemd_made_come_first() {
        let env = Environment::new([
            ("HOME", "/root"),
            ("STATE_DIRECTORY", "/var/lib/onionbraid:/var/lib/other"),
            ("CACHE_DIRECTORY", "/var/cache/onionbraid"),
        ]);
        assert_eq!(env.state_dir(), Some("/var/lib/onionbraid".into()));
        assert_eq!(env.cache_dir(), Some("/var/cache/onionbraid".into()));
    }

    #[test]
    fn relative_and_empty_variables_are_ignored() {
        let env =
            Environment::new([("HOME", "/h"), ("XDG_STATE_HOME", "s"), ("XDG_CACHE_HOME", "")]);
        assert_eq!(env.state_dir(), Some("/h/.local/state/onionbraid".into()));
        assert_eq!(env.cache_dir(), Some("/h/.cache/onionbraid".into()));
        assert_eq!(Environment::new([("A", "b")]).state_dir(), None);
    }

    #[test]
    fn the_users_file_comes_before_the_systems() {
        let dir = tempfile::tempdir().unwrap();
        let mut env = Environment::new([("XDG_CONFIG_HOME", dir.path())]);
        env.system_file = dir.path().join("system.toml");
        assert_eq!(env.config_file(), None);
        std::fs::write(&env.system_file, "").unwrap();
        assert_eq!(env.config_file(), Some(env.system_file.clone()));
        let own = dir.path().join("onionbraid/arti.toml");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(env.config_file(), Some(own));
    }

    #[test]
    fn files_that_the_environment_names_come_before_the_usual_places() {
        let dir = tempfile::tempdir().unwrap();
        let files = |value: &str| {
            let mut env = Environment::new([("ONIONBRAID_CONFIG", value)]);
            env.system_file = dir.path().to_owned();
            env.config_files()
        };
        assert_eq!(files("/a.toml:b.toml"), ["/a.toml", "b.toml"].map(PathBuf::from));
        assert_eq!(files("/missing.toml"), [PathBuf::from("/missing.toml")]);
        assert_eq!(files(""), [dir.path().to_owned()]);
    }
}
