//! What `onionbraid import` makes of other systems' files, and what it says of
//! those that are wrong.
//!
//! Each directory `tests/import/NAME` holds the files of an operator and
//!
//! - `setup`: the command, and what cannot lie in a repository, a line each:
//!   `run ARGUMENTS`, `ctor DIRECTORY KEY`, `pem FILE KEY`, `mode PATH MODE`,
//!   `move FROM TO`, `link TARGET PATH`, `dir PATH`, and `strict`, which has permissions checked;
//! - `expected`: the exit code, and all that is said and written.
//!
//! In a path and an argument `\xHH` is that byte. A KEY is a number; `@KEY@` in a file is its address without `.onion`, `@^KEY@` the
//! same in upper case, `@KEY:20@` its first 20 characters. What is made must pass `onionbraid check`, with the same
//! addresses. With `UPDATE_EXPECTED=1` in the environment the answers are written
//! anew; read the difference before committing it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use onionbraid::import::{ImportFiles, Unreadable, onionbalance, onionspray, torrc};
use onionbraid::tor::keys::{self, Format, IdentityKey, Parsed};
use onionbraid_balancer::onion::OnionAddress;
use proptest::prelude::*;

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/import").unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

/// A key that is the same in every run.
fn key(number: &str) -> IdentityKey {
    let seed = [number.parse::<u8>().unwrap(); 32];
    let pem = SigningKey::from_bytes(&seed).to_pkcs8_pem(Default::default()).unwrap();
    match keys::parse(pem.as_bytes()).unwrap() {
        Parsed::Secret(key) => key,
        Parsed::Public(_) => panic!("a secret key"),
    }
}

/// An operator's machine.
struct Machine {
    dir: tempfile::TempDir,
    command: Vec<String>,
    strict: bool,
}

impl Machine {
    fn of(case: &Path) -> Self {
        // Above it nobody else may write, so that permissions can be checked.
        let above = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let dir = tempfile::tempdir_in(above).unwrap();
        copy(case, dir.path());
        let mut machine = Self { dir, command: Vec::new(), strict: false };
        for line in fs::read_to_string(case.join("setup")).unwrap().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = |name: &str| machine.dir.path().join(unescaped(name));
            let parents = |path: &Path| fs::create_dir_all(path.parent().unwrap()).unwrap();
            match words.as_slice() {
                ["run", arguments @ ..] => {
                    machine.command = arguments.iter().map(|word| (*word).to_owned()).collect();
                }
                ["ctor", path, number] => {
                    // The directory may be there already, with other files in it.
                    let made = tempfile::tempdir_in(machine.dir.path()).unwrap();
                    let new = made.path().join("new");
                    keys::write_new(&new, &key(number), Format::Ctor).unwrap();
                    fs::create_dir_all(at(path)).unwrap();
                    for entry in new.read_dir().unwrap().map(|entry| entry.unwrap()) {
                        let to = at(path).join(entry.file_name());
                        if !to.exists() {
                            fs::rename(entry.path(), to).unwrap();
                        }
                    }
                }
                ["pem", path, number] => {
                    parents(&at(path));
                    let seed = [number.parse::<u8>().unwrap(); 32];
                    let pem = SigningKey::from_bytes(&seed).to_pkcs8_pem(Default::default());
                    fs::write(at(path), pem.unwrap().as_bytes()).unwrap();
                    fs::set_permissions(at(path), fs::Permissions::from_mode(0o600)).unwrap();
                }
                ["mode", path, mode] => {
                    let mode = u32::from_str_radix(mode, 8).unwrap();
                    fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
                }
                ["link", target, path] => {
                    parents(&at(path));
                    symlink(unescaped(target), at(path)).unwrap();
                }
                ["move", from, to] => {
                    parents(&at(to));
                    fs::rename(at(from), at(to)).unwrap();
                }
                ["dir", path] => fs::create_dir_all(at(path)).unwrap(),
                ["strict"] => machine.strict = true,
                _ => panic!("{}: {line}", case.display()),
            }
        }
        rename_placeholders(machine.dir.path());
        machine
    }

    fn onionbraid(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onionbraid"));
        command.args(arguments.iter().map(|it| unescaped(it)));
        command.env_clear().env("HOME", self.dir.path());
        if !self.strict {
            command.env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1");
        }
        command.current_dir(self.dir.path()).output().unwrap()
    }

    /// A text without what differs between runs.
    fn constant(&self, text: &[u8]) -> String {
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.replace(self.dir.path().to_str().unwrap(), "/DIR")
    }
}

/// A name with the bytes that stand for `\xHH`.
fn unescaped(name: &str) -> OsString {
    let mut parts = name.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    OsStr::from_bytes(&bytes).to_owned()
}

/// Copies the files of a case, with addresses in the place of keys' numbers.
fn copy(from: &Path, to: &Path) {
    for entry in from.read_dir().unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        let (path, to) = (entry.path(), to.join(&name));
        if path.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&path, &to);
        } else if name != "setup" && name != "expected" {
            let bytes = fs::read(&path).unwrap();
            match String::from_utf8(bytes) {
                Ok(text) => fs::write(&to, with_addresses(&text)).unwrap(),
                Err(error) => {
                    let bytes = error.as_bytes().iter().copied();
                    let latin1: String = bytes.map(char::from).collect();
                    let latin1 = with_addresses(&latin1);
                    let bytes: Vec<u8> = latin1.chars().map(|c| u8::try_from(c).unwrap()).collect();
                    fs::write(&to, bytes).unwrap();
                }
            }
        }
    }
}

/// The same for the names of files.
fn rename_placeholders(dir: &Path) {
    for entry in dir.read_dir().unwrap().map(|entry| entry.unwrap()) {
        // What is no text has no placeholder in it.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = dir.join(with_addresses(&name));
        if path != entry.path() {
            fs::rename(entry.path(), &path).unwrap();
        }
        if path.is_dir() && !path.is_symlink() {
            rename_placeholders(&path);
        }
    }
}

fn with_addresses(text: &str) -> String {
    let mut text = text.to_owned();
    for number in 1..=9 {
        let number = number.to_string();
        let address = key(&number).address().to_string();
        let label = address.trim_end_matches(".onion");
        text = text.replace(&format!("@{number}@"), label);
        text = text.replace(&format!("@^{number}@"), &label.to_ascii_uppercase());
        text = text.replace(&format!("@{number}:20@"), &label[..20]);
    }
    text
}

/// All that a case says and makes.
fn outcome(case: &Path) -> String {
    let machine = Machine::of(case);
    let arguments: Vec<String> = machine.command.iter().map(|word| with_addresses(word)).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = machine.onionbraid(&arguments);
    let code = output.status.code().unwrap();
    let said = machine.constant(&output.stderr);
    let mut text = format!("exit {code}\n--- standard error\n{said}");
    let out = arguments.iter().position(|word| *word == "--out").map(|at| arguments[at + 1]);
    let made = match out {
        Some(out) => {
            assert!(output.stdout.is_empty());
            fs::read(machine.dir.path().join(out)).unwrap_or_default()
        }
        None => output.stdout.clone(),
    };
    let _ = write!(text, "--- {}\n{}", out.unwrap_or("standard output"), machine.constant(&made));
    if code == 0 {
        let file = machine.dir.path().join("made-by-import.toml");
        fs::write(&file, &made).unwrap();
        let check = machine.onionbraid(&["check", "-c", "made-by-import.toml"]);
        let accepted = machine.constant(&check.stdout);
        assert!(
            check.status.success(),
            "{}:\n{}{}",
            case.display(),
            machine.constant(&made),
            machine.constant(&check.stderr)
        );
        let addresses = said.lines().filter(|line| line.starts_with("service "));
        for address in addresses.filter_map(|line| line.split([' ', ',']).nth(2)) {
            assert!(accepted.contains(&format!("address {address}")), "{address}\n{accepted}");
        }
    } else {
        let there = out.is_some_and(|out| case.join(out).exists());
        assert!(made.is_empty() || there, "{}: a file in spite of errors", case.display());
    }
    text
}

#[test]
fn every_file_becomes_what_is_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut differences = String::new();
    for case in cases() {
        let said = outcome(&case);
        let file = case.join("expected");
        if update {
            fs::write(&file, &said).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if said != expected {
            let name = case.display();
            let _ = writeln!(differences, "=== {name} expected:\n{expected}=== was:\n{said}");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn copied_keys_are_their_owners_alone_and_the_old_ones_stay_as_they_are() {
    let machine = Machine::of(Path::new("tests/import/torrc-copied-keys"));
    let path = |name: &str| machine.dir.path().join(name);
    let secret = |dir: &str| fs::read(path(dir).join("hs_ed25519_secret_key")).unwrap();
    let before = secret("tor/shop");
    let import =
        |out| machine.onionbraid(&["import", "torrc", "torrc", "--copy-keys", "new", "--out", out]);
    assert_eq!(import("a.toml").status.code(), Some(0));
    let mode = |name: &str| path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("new"), mode("new/shop")), (0o700, 0o700));
    assert_eq!(mode("new/shop/hs_ed25519_secret_key"), 0o600);
    assert_eq!((secret("tor/shop"), secret("new/shop")), (before.clone(), before));
    // What is there already is the same key.
    assert_eq!(import("b.toml").status.code(), Some(0));
    let text = |name: &str| fs::read_to_string(path(name)).unwrap();
    assert_eq!(text("a.toml"), text("b.toml"));
    // No key is left of an import that failed.
    let failed = machine.onionbraid(&[
        "import",
        "torrc",
        "torrc",
        "--copy-keys",
        "no/such",
        "--out",
        "c.toml",
    ]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(!path("c.toml").exists() && !path("no").exists());
}

#[test]
fn root_copies_the_keys_of_another_user_for_a_third_one() {
    let mut machine = Machine::of(Path::new("tests/import/torrc-copied-keys"));
    let path = |name: &str| machine.dir.path().join(name);
    let give = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), Some(user)).is_ok();
    fs::create_dir(path("new")).unwrap();
    if !give(&path("new"), 1234) {
        // Not root: nothing of this can be tried.
        return;
    }
    for dir in ["tor/shop", "tor/blog"] {
        for entry in path(dir).read_dir().unwrap().map(|entry| entry.unwrap()) {
            assert!(give(&entry.path(), 4321));
        }
        assert!(give(&path(dir), 4321));
    }
    machine.strict = true;
    let plain = machine.onionbraid(&["import", "torrc", "torrc"]);
    assert_eq!(plain.status.code(), Some(77));
    let said = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(said.contains("or give --copy-keys DIR"), "{said}");
    let copied = machine.onionbraid(&["import", "torrc", "torrc", "--copy-keys", "new"]);
    assert_eq!(copied.status.code(), Some(0), "{}", String::from_utf8_lossy(&copied.stderr));
    let owner = |name: &str| machine.dir.path().join(name).metadata().unwrap().uid();
    assert_eq!((owner("new/shop"), owner("new/shop/hs_ed25519_secret_key")), (1234, 1234));
    assert_eq!(owner("tor/shop/hs_ed25519_secret_key"), 4321);
    let again = machine.onionbraid(&["import", "torrc", "torrc", "--copy-keys", "new"]);
    assert_eq!((again.status.code(), again.stdout), (Some(0), copied.stdout));
}

#[test]
fn root_follows_no_link_that_the_owner_puts_in_the_place_of_a_new_directory() {
    let machine = Machine::of(Path::new("tests/import/torrc-copied-keys"));
    let path = |name: &str| machine.dir.path().join(name);
    for directory in ["new", "victim"] {
        fs::create_dir(path(directory)).unwrap();
    }
    if std::os::unix::fs::chown(path("new"), Some(1234), Some(1234)).is_err() {
        return;
    }
    fs::write(path("victim/shadow"), "").unwrap();
    let ended = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        // Exchanges the new directory as soon as it is there, as its owner could.
        scope.spawn(|| {
            let (new, aside) = (path("new/shop"), path("new/aside"));
            while !ended.load(order) && fs::rename(&new, &aside).is_err() {
                std::hint::spin_loop();
            }
            let _ = symlink(path("victim"), &new);
        });
        machine.onionbraid(&["import", "torrc", "torrc", "--copy-keys", "new"]);
        ended.store(true, order);
    });
    let owner = |name: &str| path(name).metadata().unwrap().uid();
    assert_eq!((owner("victim"), owner("victim/shadow")), (0, 0));
    assert_eq!(path("victim").read_dir().unwrap().count(), 1);
}

/// The file that the packages install.
const PACKAGES: &str = include_str!("../packaging/etc/arti.toml");

#[test]
fn the_packages_untouched_file_is_replaced_and_its_directories_stay() {
    let machine = Machine::of(Path::new("tests/import/torrc-copied-keys"));
    let path = |name: &str| machine.dir.path().join(name);
    fs::write(path("arti.toml"), PACKAGES).unwrap();
    fs::set_permissions(path("arti.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    let import = || machine.onionbraid(&["import", "torrc", "torrc", "--out", "arti.toml"]);
    let replaced = import();
    assert_eq!(replaced.status.code(), Some(0), "{}", String::from_utf8_lossy(&replaced.stderr));
    let text = fs::read_to_string(path("arti.toml")).unwrap();
    let directories = &PACKAGES[PACKAGES.find("[storage]").unwrap()..];
    assert!(text.contains("[onion_services.") && text.ends_with(directories), "{text}");
    assert_eq!(path("arti.toml").metadata().unwrap().permissions().mode() & 0o777, 0o640);
    // What anybody has changed is left as it is.
    assert_eq!(import().status.code(), Some(1));
    for changed in [format!("{PACKAGES}\n"), PACKAGES.replacen('#', ";", 1)] {
        fs::write(path("arti.toml"), &changed).unwrap();
        assert_eq!(import().status.code(), Some(1));
        assert_eq!(fs::read_to_string(path("arti.toml")).unwrap(), changed);
    }
    fs::rename(path("arti.toml"), path("other")).unwrap();
    fs::write(path("other"), PACKAGES).unwrap();
    symlink("other", path("arti.toml")).unwrap();
    assert_eq!(import().status.code(), Some(1));
}

#[test]
fn nothing_is_left_of_an_import_that_cannot_write_its_file() {
    let machine = Machine::of(Path::new("tests/import/torrc-copied-keys"));
    let path = |name: &str| machine.dir.path().join(name);
    let import = |out: &str| {
        machine.onionbraid(&["import", "torrc", "torrc", "--copy-keys", "new", "--out", out])
    };
    let failed = import("no/such/arti.toml");
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("no/such/arti.toml cannot be written"), "{said}");
    assert!(!path("new").exists());
    // The directory that is made for the keys may have it.
    assert_eq!(import("new/arti.toml").status.code(), Some(0));
    assert!(path("new/arti.toml").exists() && path("new/shop").exists());
}

#[test]
fn without_a_home_an_import_is_the_same() {
    let machine = Machine::of(Path::new("tests/import/torrc-copied-keys"));
    let import = |home: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onionbraid"));
        command.args(["import", "torrc", "torrc"]).env_clear().current_dir(machine.dir.path());
        command.env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1");
        if home {
            command.env("HOME", machine.dir.path());
        }
        command.output().unwrap()
    };
    let without = import(false);
    assert_eq!(without.status.code(), Some(0), "{}", String::from_utf8_lossy(&without.stderr));
    assert_eq!(without.stdout, import(true).stdout);
}

/// A disk on which every file has the same text and every key an address of its own.
struct Everywhere(String);

impl ImportFiles for Everywhere {
    fn text(&self, _: &Path) -> Result<Option<String>, Unreadable> {
        Ok(Some(self.0.clone()))
    }

    fn list(&self, path: &Path) -> Result<Option<Vec<OsString>>, Unreadable> {
        let key = |n| with_addresses(&format!("@{n}@.v3sec.key")).into();
        Ok(path.ends_with("secrets").then(|| (1..4).map(key).collect()))
    }

    fn is_there(&self, _: &Path) -> Result<bool, Unreadable> {
        Ok(false)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, Unreadable> {
        Ok(Path::new("/").join(path))
    }

    fn address(&self, path: &Path) -> Result<OnionAddress, String> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let own = name.and_then(|name| name.split('.').next()?.parse().ok());
        let number = path.to_string_lossy().bytes().map(usize::from).sum::<usize>() % 9 + 1;
        Ok(own.unwrap_or_else(|| key(&number.to_string()).address()))
    }

    fn home(&self) -> Option<PathBuf> {
        Some("/home/user".into())
    }
}

/// Lines of the files of all cases.
fn lines() -> Vec<String> {
    let mut lines = Vec::new();
    let mut places = cases();
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()));
        } else if !place.ends_with("expected") && !place.ends_with("setup") {
            let text = String::from_utf8_lossy(&fs::read(place).unwrap()).into_owned();
            lines.extend(with_addresses(&text).lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines.dedup();
    lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// No text makes an import panic or run for long, and whatever it accepts is
    /// TOML in which the text of the old file is never more than a value or a comment.
    #[test]
    fn whatever_the_files_hold_is_refused_or_becomes_toml(
        some in prop::collection::vec(prop::sample::select(lines()), 0..14),
        odd in any::<String>(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut some = some;
        let at = at.index(some.len() + 1);
        some.insert(at, odd);
        let spray = with_addresses("hardmap @1@ news.example\n");
        for begin in ["", "HiddenServiceDir a\nHiddenServicePort 80\n", &spray] {
            let text = format!("{begin}{}", some.join("\n"));
            let files = Everywhere(text.clone());
            let file = Path::new("file");
            let drafts = [
                torrc::import(file, &files),
                onionbalance::import(&text, file, &files),
                onionspray::import(file, &files),
            ];
            for draft in drafts.into_iter().flatten() {
                let made = draft.to_text(|service| service.key.display().to_string());
                let table = made.parse::<toml::Table>();
                let table = table.map_err(|e| TestCaseError::fail(format!("{e}\n{made}")))?;
                let tables = ["onion_services", "bridges"];
                prop_assert!(table.keys().all(|key| tables.contains(&key.as_str())), "{}", made);
                let services = table["onion_services"].as_table().unwrap();
                prop_assert_eq!(services.len(), draft.services.len());
            }
        }
    }
}

#[test]
fn files_that_include_each_other_twice_end_soon() {
    let files = Everywhere("%include a\n%include b\n".to_owned());
    let faults = torrc::import(Path::new("torrc"), &files).unwrap_err();
    assert!(faults.to_string().contains("as if in a ring"), "{faults}");
}

#[test]
fn the_corpus_is_large() {
    assert!(cases().len() >= 25, "only {} cases", cases().len());
}
