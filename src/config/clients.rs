//! Which clients may find a service: Arti's table `restricted_discovery`, and the
//! directories that it names.
//!
//! A file `NAME.auth` holds what C tor has in `authorized_clients`, which is what Arti
//! reads too. Directories are read with the configuration, and again whenever they
//! change (`daemon/backends_files`): what is no key lets nobody in, and no mistake in
//! one file keeps another client in that was taken out. What cannot be read for reasons
//! of the disk or the process says nothing: who was let in before stays.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::error::{ConfigReport, Expected};
use super::files;
use super::reader::{TableItem, TableReader};
use crate::ordinary;
use onionbraid_balancer::onion::{ClientKey, check_client_name};

/// The longest file of a client's key, in bytes.
const MAX_FILE: u64 = 4096;

/// The most files that are looked at in a directory: more clients fit nowhere.
const MAX_FILES: usize = 4096;

/// How the files of clients end.
pub(crate) const EXTENSION: &str = "auth";

/// Who may find a service that is not for everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestrictedDiscovery {
    /// The clients that stand in the configuration.
    pub static_keys: BTreeMap<String, ClientKey>,
    /// The directories with files of more, the earlier before the later.
    pub key_dirs: Vec<KeyDir>,
    /// All of them, as the directories were last read.
    pub clients: BTreeMap<String, ClientKey>,
    /// What each directory gave then; those that could never be read are missing.
    known: BTreeMap<PathBuf, KnownDirectory>,
}

/// What a directory gave when it could last be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KnownDirectory {
    keys: BTreeMap<String, ClientKey>,
    /// Whether it was gone at the last look.
    gone: bool,
}

/// A directory of clients' keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDir {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Whether others may change it (`permissions.dangerously_trust_everyone`).
    pub trust_everyone: bool,
}

impl RestrictedDiscovery {
    /// The keys of its clients.
    pub fn keys(&self) -> BTreeSet<ClientKey> {
        self.clients.values().copied().collect()
    }

    /// The same with what the directories hold now, and what is wrong with them, one
    /// line each.
    pub fn read_again(&self) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut known = BTreeMap::new();
        for directory in &self.key_dirs {
            let read = directory.read(self.known.get(&directory.path), &mut problems);
            known.extend(read.map(|read| (directory.path.clone(), read)));
        }
        (self.with_known(known), problems)
    }

    /// The same with what directories gave `before` that could not be read this time, and not
    /// with a configuration from before either.
    pub(super) fn recalling(&self, before: &Self) -> Self {
        let mut known = self.known.clone();
        for directory in self.key_dirs.iter().filter(|it| before.key_dirs.contains(it)) {
            if let Some(read) = before.known.get(&directory.path) {
                known.entry(directory.path.clone()).or_insert_with(|| read.clone());
            }
        }
        self.with_known(known)
    }

    fn with_known(&self, known: BTreeMap<PathBuf, KnownDirectory>) -> Self {
        let mut clients = self.static_keys.clone();
        let directories = self.key_dirs.iter().filter_map(|it| known.get(&it.path));
        for (name, key) in directories.flat_map(|it| &it.keys) {
            clients.entry(name.clone()).or_insert(*key);
        }
        Self { clients, known, ..self.clone() }
    }

    /// The same without clients that were not let in `before`.
    pub fn without_new(mut self, before: &Self) -> Self {
        let known = before.keys();
        self.clients.retain(|_, key| known.contains(key));
        self
    }
}

impl KeyDir {
    /// The file of a client in it.
    pub fn file_of(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.{EXTENSION}"))
    }

    /// The files in it that are those of clients, by their names, which may be none that
    /// a client can have.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn files(&self) -> io::Result<BTreeMap<OsString, PathBuf>> {
        self.listed().map(|(files, _)| files)
    }

    /// The same, and whether there are more files than are looked at.
    fn listed(&self) -> io::Result<(BTreeMap<OsString, PathBuf>, bool)> {
        let mut found = BTreeMap::new();
        let mut entries = fs::read_dir(&self.path)?;
        for entry in entries.by_ref().take(MAX_FILES) {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION)
                && let Some(name) = path.file_stem()
                && !name.as_encoded_bytes().starts_with(b".")
            {
                found.insert(name.to_owned(), path);
            }
        }
        Ok((found, entries.next().is_some()))
    }

    /// What it gives, where it gave this `before`; `None` if that is not known.
    fn read(
        &self,
        before: Option<&KnownDirectory>,
        problems: &mut Vec<String>,
    ) -> Option<KnownDirectory> {
        let place = self.path.display();
        let read = match fs::metadata(&self.path) {
            Ok(found) if self.others_can_change(&found) => {
                problems.push(format!(
                    "{place}: others can change it (mode {:04o}), so none of its clients is let \
                     in: take their write permission away",
                    found.mode() & 0o7777
                ));
                return Some(KnownDirectory::default());
            }
            found => found.and_then(|_| self.listed()),
        };
        let (files, has_more) = match read {
            Ok(listed) => listed,
            Err(error) => return self.unread(&error, before, problems),
        };
        if has_more {
            problems.push(format!(
                "{place}: it has more than {MAX_FILES} files, and those beyond are not looked at: \
                 take out what is no client's"
            ));
        }
        let mut keys = BTreeMap::new();
        for (name, path) in files {
            // One with U+FFFD in it is no name either, and says so.
            let name = name.to_string_lossy().into_owned();
            let known = before.and_then(|before| before.keys.get(&name).copied());
            let (key, follows) = match self.read_one(&name, &path) {
                Ok(key) => {
                    keys.insert(name, key);
                    continue;
                }
                Err(problem) if problem.passes => match known {
                    Some(key) => (Some(key), format!("{}; this client stays", problem.text)),
                    None => (None, format!("{}; this client is not let in", problem.text)),
                },
                Err(problem) => (None, format!("{}; this client is not let in", problem.text)),
            };
            problems.push(format!("{}: {follows}", path.display()));
            keys.extend(key.map(|key| (name, key)));
        }
        Some(KnownDirectory { keys, gone: false })
    }

    /// What it gives although it cannot be read. One that is being exchanged is gone for a
    /// moment; one that is still gone at the next look lets nobody in.
    fn unread(
        &self,
        error: &io::Error,
        before: Option<&KnownDirectory>,
        problems: &mut Vec<String>,
    ) -> Option<KnownDirectory> {
        let place = self.path.display();
        let gone = error.kind() == io::ErrorKind::NotFound;
        let kept = before.filter(|before| !(gone && before.gone));
        let follows = match kept {
            Some(kept) if !kept.keys.is_empty() => "; its clients stay, and it is looked at again",
            _ if gone => "; `onionbraid clients add` makes the directory with its first client",
            _ => "",
        };
        problems.push(format!("{place}: {error}{follows}"));
        match (kept, gone) {
            (Some(kept), _) => Some(KnownDirectory { gone, ..kept.clone() }),
            (None, true) => Some(KnownDirectory { gone, ..KnownDirectory::default() }),
            (None, false) => None,
        }
    }

    fn read_one(&self, name: &str, path: &Path) -> Result<ClientKey, FileProblem> {
        check_client_name(name)?;
        let found = fs::metadata(path)?;
        if !self.trust_everyone && found.mode() & 0o022 != 0 {
            return Err(format!("others can change it (mode {:04o})", found.mode() & 0o7777).into());
        }
        self.check_who_put_it_there(path, &found)?;
        let bytes = ordinary::at_most(path, MAX_FILE)?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        text.parse().map_err(|error| format!("{error}").into())
    }

    /// Where everybody can put a file into a directory, one counts that is root's, this
    /// process's or the owner's of the directory: the file, and the link that leads to it.
    fn check_who_put_it_there(&self, path: &Path, file: &fs::Metadata) -> Result<(), FileProblem> {
        let directory = fs::metadata(&self.path)?;
        if self.trust_everyone || directory.mode() & 0o022 == 0 {
            return Ok(());
        }
        let trusted = [0, geteuid().as_raw(), directory.uid()];
        for uid in [file.uid(), fs::symlink_metadata(path)?.uid()] {
            if !trusted.contains(&uid) {
                let mode = directory.mode() & 0o7777;
                return Err(FileProblem::from(format!(
                    "others can put files into its directory (mode {mode:04o}), and user {uid} has \
                     put it there: take their write permission away, or make it root's",
                )));
            }
        }
        Ok(())
    }

    /// Whether somebody else could change what is in it. With the sticky bit nobody changes
    /// what is another's: Kubernetes has such directories.
    fn others_can_change(&self, found: &fs::Metadata) -> bool {
        let mode = found.mode();
        !self.trust_everyone && mode & 0o022 != 0 && mode & 0o1000 == 0
    }
}

/// Why a client's file lets nobody in.
struct FileProblem {
    text: String,
    /// Whether it is the disk or the process, of which the client can know nothing.
    passes: bool,
}

impl From<String> for FileProblem {
    fn from(text: String) -> Self {
        Self { text, passes: false }
    }
}

impl From<io::Error> for FileProblem {
    fn from(error: io::Error) -> Self {
        use libc::{EIO, EMFILE, ENFILE, ENOMEM, ESTALE, ETIMEDOUT};
        let passing = [EIO, EMFILE, ENFILE, ENOMEM, ESTALE, ETIMEDOUT];
        let passes = error.raw_os_error().is_some_and(|code| passing.contains(&code));
        Self { text: error.to_string(), passes }
    }
}

/// Reads the table; `None` where everybody may find the service.
pub(super) fn read(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<RestrictedDiscovery> {
    let mut table = item.table(report)?;
    let enabled = table.get("enabled").and_then(|item| item.boolean(report));
    let static_keys = table.get("static_keys").map(|item| static_keys(&item, report));
    let key_dirs = table.get("key_dirs").map(|item| key_dirs(&item, report));
    // Arti's, which has no such key in files: directories are always watched here.
    table.get_unlisted("watch_configuration");
    table.finish(report);
    let nobody = static_keys.is_none() && key_dirs.is_none();
    let named = static_keys.as_ref().is_some_and(|keys| !keys.is_empty())
        || key_dirs.as_ref().is_some_and(|directories| !directories.is_empty());
    match enabled {
        Some(true) if nobody => {
            item.wrong(
                "nobody could find the service: name clients in `static_keys`, or directories with \
                 their files in `key_dirs`",
                report,
            );
            None
        }
        Some(true) => {
            let (static_keys, key_dirs) =
                (static_keys.unwrap_or_default(), key_dirs.unwrap_or_default());
            let (clients, known) = (static_keys.clone(), BTreeMap::new());
            Some(RestrictedDiscovery { static_keys, key_dirs, clients, known })
        }
        // Arti refuses it, too: open to everybody is the last thing that is meant.
        _ if named => {
            item.wrong(
                "it names clients, and without `enabled = true` everybody who knows the address \
                 reaches the service: set it, or take them out to let everybody in",
                report,
            );
            None
        }
        _ => None,
    }
}

fn static_keys(item: &TableItem<'_>, report: &mut ConfigReport) -> BTreeMap<String, ClientKey> {
    let mut keys = BTreeMap::new();
    for (name, item) in item.entries(report).into_iter().flatten() {
        let wanted = "the public key of a client, \"descriptor:x25519:...\"";
        let Some(text) = item.text(wanted, report) else { continue };
        if let Err(problem) = check_client_name(name) {
            item.wrong(problem, report);
            continue;
        }
        match text.parse() {
            Ok(key) => {
                keys.insert(name.to_owned(), key);
            }
            Err(error) => item.wrong(error, report),
        }
    }
    keys
}

fn key_dirs(item: &TableItem<'_>, report: &mut ConfigReport) -> Vec<KeyDir> {
    let wanted = "an array of tables: [[onion_services.NICKNAME.restricted_discovery.key_dirs]]";
    let entries = item.array(wanted, report).into_iter().flatten();
    entries.filter_map(|entry| key_dir(&entry, report)).collect()
}

fn key_dir(entry: &TableItem<'_>, report: &mut ConfigReport) -> Option<KeyDir> {
    if let Some(path) = entry.as_text() {
        entry.wrong(format!("this must be a table: {{ path = {path:?} }}"), report);
        return None;
    }
    let mut table = entry.table(report)?;
    let path = match table.get("path") {
        Some(item) => files::read(&item, Expected::Clients, report),
        None => {
            entry.wrong("the `path` is missing: { path = \"clients/shop\" }", report);
            None
        }
    };
    let permissions = table.get("permissions").and_then(|item| item.table(report));
    let trust_everyone = permissions.is_some_and(|table| trust_everyone(table, report));
    table.finish(report);
    Some(KeyDir { path: path?, trust_everyone })
}

fn trust_everyone(mut table: TableReader<'_>, report: &mut ConfigReport) -> bool {
    let trust = table.get("dangerously_trust_everyone").and_then(|item| item.boolean(report));
    // Arti's: here, nobody else may write there whom these would name.
    for key in ["ignore_prefix", "trust_user", "trust_group"] {
        table.get(key);
    }
    table.finish(report);
    trust.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{Config, ConfigErrors, Environment};

    fn key(n: u8) -> ClientKey {
        ClientKey::new([n; 32]).unwrap()
    }

    fn numbered(n: usize) -> ClientKey {
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        ClientKey::new(bytes).unwrap()
    }

    /// Loads a service whose clients lie in `clients` beside the file.
    fn load(directory: &Path, more: &str) -> Result<Config, ConfigErrors> {
        let text = format!(
            "[onion_services.shop]\nproxy_ports = [[80, '127.0.0.1:1']]\n{more}\n\
             [onion_services.shop.restricted_discovery]\nenabled = true\n\
             static_keys.alice = '{}'\n\
             [[onion_services.shop.restricted_discovery.key_dirs]]\npath = 'clients'\n\
             [[onion_services.shop.restricted_discovery.key_dirs]]\npath = 'more'\n",
            key(2)
        );
        let file = directory.join("arti.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&[file], &Environment::new([("HOME", "/home/user")]))
    }

    fn directories() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in ["clients", "more"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        directory
    }

    fn put(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    fn clients(config: &Config) -> Vec<(&str, ClientKey)> {
        let restricted = config.services[0].restricted_discovery.as_ref().unwrap();
        restricted.clients.iter().map(|(name, key)| (name.as_str(), *key)).collect()
    }

    #[test]
    fn clients_stand_in_the_file_and_in_directories_and_the_first_of_a_name_wins() {
        let directory = directories();
        let dir = directory.path();
        put(dir, "clients/alice.auth", &key(3).to_string());
        put(dir, "clients/bob.auth", &format!("{}\n", key(4)));
        put(dir, "more/bob.auth", &key(5).to_string());
        put(dir, "more/Carol@home.auth", &key(6).to_string());
        for other in ["clients/README", "clients/x.auth~", "clients/.auth", "more/.y.auth"] {
            put(dir, other, "no key");
        }
        let config = load(dir, "").unwrap();
        let expected = [("Carol@home", key(6)), ("alice", key(2)), ("bob", key(4))];
        assert_eq!(clients(&config), expected);
        assert_eq!(config.warnings, [""; 0]);
    }

    #[test]
    fn whoever_can_put_a_file_into_a_directory_lets_nobody_in_with_it() {
        let directory = directories();
        let dir = directory.path();
        let clients_dir = dir.join("clients");
        put(&clients_dir, "ours.auth", &key(3).to_string());
        let theirs = put(&clients_dir, "theirs.auth", &key(4).to_string());
        let link = clients_dir.join("link.auth");
        std::os::unix::fs::symlink(put(dir, "key", &key(5).to_string()), &link).unwrap();
        // Nobody else can own a file unless this runs as root.
        if !geteuid().is_root() {
            return;
        }
        std::os::unix::fs::lchown(&theirs, Some(12345), None).unwrap();
        std::os::unix::fs::lchown(&link, Some(12345), None).unwrap();
        let open = std::fs::Permissions::from_mode(0o1777);
        std::fs::set_permissions(&clients_dir, open).unwrap();
        let config = load(dir, "").unwrap();
        assert_eq!(clients(&config), [("alice", key(2)), ("ours", key(3))]);
        let all = config.warnings.join("\n");
        for file in ["theirs.auth", "link.auth"] {
            let told = all.contains(&format!("{file}: others can put files"));
            assert!(told && all.contains("(mode 1777), and user 12345"), "{all}");
        }
        // In one that only its owner changes, whose the files are says nothing.
        let own = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&clients_dir, own).unwrap();
        assert_eq!(clients(&load(dir, "").unwrap()).len(), 4);
    }

    #[test]
    fn what_is_no_key_lets_nobody_in_and_is_warned_of() {
        let directory = directories();
        let dir = directory.path();
        put(dir, "clients/good.auth", &key(3).to_string());
        put(dir, "clients/empty.auth", "");
        put(dir, "clients/weak.auth", &format!("descriptor:x25519:{}", "A".repeat(52)));
        put(dir, "clients/b d.auth", &key(4).to_string());
        let open = put(dir, "clients/open.auth", &key(5).to_string());
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o666)).unwrap();
        std::fs::create_dir(dir.join("clients/directory.auth")).unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.join("clients/gone.auth")).unwrap();
        let config = load(dir, "").unwrap();
        assert_eq!(clients(&config), [("alice", key(2)), ("good", key(3))]);
        assert_eq!(config.warnings.len(), 6, "{:?}", config.warnings);
        let all = config.warnings.join("\n");
        for expected in ["empty.auth: this must be", "everybody could read", "(mode 0666)"] {
            assert!(all.contains(expected), "{all}");
        }
        assert!(!all.contains(&key(4).to_string()));

        std::fs::set_permissions(dir.join("clients"), std::fs::Permissions::from_mode(0o777))
            .unwrap();
        std::fs::remove_dir(dir.join("more")).unwrap();
        let config = load(dir, "").unwrap();
        assert_eq!(clients(&config), [("alice", key(2))]);
        assert!(config.warnings[0].contains("others can change it"), "{:?}", config.warnings);
        assert!(config.warnings[1].contains("No such file"), "{:?}", config.warnings);
    }

    #[test]
    fn a_name_that_is_not_utf_8_and_a_file_too_many_are_warned_of() {
        use std::os::unix::ffi::OsStrExt as _;

        let directory = directories();
        let dir = directory.path();
        let name = std::ffi::OsStr::from_bytes(b"andr\xe9.auth");
        std::fs::rename(put(dir, "key", &key(3).to_string()), dir.join("clients").join(name))
            .unwrap();
        for n in 0..=MAX_FILES {
            std::fs::write(dir.join(format!("more/{n}")), "").unwrap();
        }
        let config = load(dir, "").unwrap();
        assert_eq!(clients(&config), [("alice", key(2))]);
        let [name, many] = config.warnings.as_slice() else { panic!("{:?}", config.warnings) };
        assert!(name.contains("andr\u{fffd}.auth: the name of a client has"), "{name}");
        assert!(many.contains("more than 4096 files"), "{many}");
    }

    /// What is read after each change to the directory, as the daemon reads it.
    fn names(restricted: &mut RestrictedDiscovery) -> (Vec<String>, Vec<String>) {
        let (read, problems) = restricted.read_again();
        *restricted = read;
        (restricted.clients.keys().cloned().collect(), problems)
    }

    #[test]
    fn a_directory_that_cannot_be_read_throws_nobody_out_and_one_that_stays_gone_does() {
        let directory = directories();
        let dir = directory.path();
        let (place, aside) = (dir.join("clients"), dir.join("aside"));
        put(dir, "clients/bob.auth", &key(3).to_string());
        put(dir, "more/carol.auth", &key(4).to_string());
        let mut config = load(dir, "").unwrap();
        let mut restricted = config.services[0].restricted_discovery.take().unwrap();
        let all = ["alice", "bob", "carol"];
        // Not even root reads an ordinary file as a directory.
        std::fs::rename(&place, &aside).unwrap();
        std::fs::write(&place, "").unwrap();
        for _ in 0..3 {
            let (names, problems) = names(&mut restricted);
            assert_eq!(names, all);
            assert!(problems[0].contains("its clients stay"), "{problems:?}");
        }
        // Nor at a reload, which knows the directories from before.
        let fresh = load(dir, "").unwrap().services[0].restricted_discovery.take().unwrap();
        assert_eq!(fresh.clients.keys().collect::<Vec<_>>(), ["alice", "carol"]);
        assert_eq!(fresh.recalling(&restricted).clients, restricted.clients);
        std::fs::remove_file(&place).unwrap();
        // It is being exchanged: by the next look another one is there.
        assert_eq!(names(&mut restricted).0, all);
        std::fs::create_dir(&place).unwrap();
        put(dir, "clients/dave.auth", &key(5).to_string());
        let (now, problems) = names(&mut restricted);
        assert_eq!((now, problems), (["alice", "carol", "dave"].map(String::from).into(), vec![]));
        // It is gone, and stays so.
        std::fs::remove_dir_all(&place).unwrap();
        assert_eq!(names(&mut restricted).0, ["alice", "carol", "dave"]);
        let (names, problems) = names(&mut restricted);
        assert_eq!(names, ["alice", "carol"]);
        assert!(problems[0].contains("makes the directory"), "{problems:?}");
    }

    #[test]
    fn only_what_is_the_disks_or_the_process_fault_passes() {
        let passes = |code| FileProblem::from(io::Error::from_raw_os_error(code)).passes;
        for code in [libc::EMFILE, libc::ENFILE, libc::EIO, libc::ESTALE] {
            assert!(passes(code), "{code}");
        }
        for code in [libc::ENOENT, libc::EACCES, libc::EISDIR, libc::ELOOP] {
            assert!(!passes(code), "{code}");
        }
        assert!(!FileProblem::from("no key".to_owned()).passes);
    }

    #[test]
    fn the_client_too_many_is_refused_and_it_is_said_how_many_fit() {
        let directory = directories();
        let dir = directory.path();
        // With the one in the file, 112.
        for n in 0..111 {
            put(dir, &format!("clients/c{n}.auth"), &numbered(n).to_string());
        }
        let twenty = "max_intro_points = 20";
        assert_eq!(clients(&load(dir, twenty).unwrap()).len(), 112);
        put(dir, "clients/one-more.auth", &numbered(1000).to_string());
        let said = load(dir, twenty).unwrap_err().to_string();
        assert!(said.contains("113 clients are authorized, and 112 fit"), "{said}");
        assert!(said.contains("at most 19 leave room for all"), "{said}");
        // The same key twice is one client.
        put(dir, "clients/one-more.auth", &numbered(0).to_string());
        load(dir, twenty).unwrap();
        // An ordinary service has fewer points.
        put(dir, "clients/one-more.auth", &numbered(1000).to_string());
        load(dir, "").unwrap();
    }
}
