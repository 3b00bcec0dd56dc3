//! More backends of a service, in a file that another program writes: the
//! `backends_file` key.
//!
//! The file has one key, `backends`, with what the key of that name in the
//! configuration may have. An empty list has to be written, `backends = []`: a file
//! that was cut off or emptied by mistake takes no backend out of use. Reads the
//! file; `daemon/backends_files` has it read again whenever it changes.

use std::io;
use std::path::{Path, PathBuf};

use super::backends::{self, BackendsFile, RemoteBackend};
use super::document::{self, Node, Table, Value};
use super::error::{ConfigError, ConfigErrors, ConfigReport, KeyPath, whole_file};
use super::files;
use super::reader::{TableItem, TableReader};
use super::service::{NO_WEIGHT, ServiceConfig};
use crate::ordinary;

/// The longest file, in bytes.
const MAX_FILE: u64 = 256 * 1024;

/// The most backends in it. On the public network a descriptor and its HSDirs have
/// room for 120 at a time; beyond, backends take turns.
const MAX_BACKENDS: usize = 1000;

impl BackendsFile {
    /// The text of the file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is longer than 256 KiB or no UTF-8 text.
    pub fn text(&self) -> Result<String, ConfigErrors> {
        let path = &self.path;
        let problem = match ordinary::at_most(path, MAX_FILE) {
            Ok(Some(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => return Ok(text),
                Err(_) => "the file is not UTF-8 text, so it is no TOML".to_owned(),
            },
            Ok(None) => "the file is longer than 256 KiB".to_owned(),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => {
                    "there is no such file: write one, with `backends = []` for no backend".into()
                }
                io::ErrorKind::IsADirectory => "this is a directory: name the file in it".into(),
                io::ErrorKind::PermissionDenied => {
                    let problem = "the system does not let this user read it";
                    let error = ConfigError::in_file(whole_file(0, path), problem.to_owned());
                    return Err(error.denied().into());
                }
                _ => format!("it cannot be read: {error}"),
            },
        };
        Err(ConfigError::in_file(whole_file(0, path), problem).into())
    }
}

impl ServiceConfig {
    /// The backends that the configuration itself lists.
    pub fn listed_backends(&self) -> &[RemoteBackend] {
        let listed = self.backends_file.as_ref().map_or(self.backends.len(), |file| file.listed);
        self.backends.get(..listed).unwrap_or(&self.backends)
    }

    /// Those that the file lists.
    pub fn backends_of_file(&self) -> &[RemoteBackend] {
        self.backends.get(self.listed_backends().len()..).unwrap_or_default()
    }

    /// The same service with the backends that its `backends_file` lists in `text`, in
    /// the place of those that it listed before.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the text.
    pub fn with_backends_file(&self, text: &str) -> Result<Self, ConfigErrors> {
        let Some(file) = &self.backends_file else { return Ok(self.clone()) };
        let mut report = ConfigReport::default();
        let table = document::parse(text, 0, &file.path, &mut report);
        if report.has_errors() {
            return Err(report.into_errors());
        }
        let more = read(&table, &file.path, self.listed_backends(), &mut report);
        report.finish()?;
        let backends = self.listed_backends().iter().cloned().chain(more).collect();
        Ok(Self { backends, ..self.clone() })
    }
}

/// Reads the keys of the file.
fn read(
    table: &Table,
    file: &Path,
    listed: &[RemoteBackend],
    report: &mut ConfigReport,
) -> Vec<RemoteBackend> {
    let mut keys = TableReader::new(table, KeyPath::default());
    let found = match keys.get("backends") {
        None => {
            let problem = "the key `backends` is missing: write `backends = []` for no backend";
            report.error(ConfigError::in_file(whole_file(0, file), problem.to_owned()));
            Vec::new()
        }
        Some(TableItem { node: Node { value: Value::Array(all), place }, path })
            if all.len() > MAX_BACKENDS =>
        {
            let problem =
                format!("{} backends are listed; at most {MAX_BACKENDS} may be", all.len());
            report.error(ConfigError::at_key(place.clone(), path, problem));
            Vec::new()
        }
        Some(item) => backends::read(&item, listed, report),
    };
    keys.finish(report);
    found
}

/// Reads the files of all services. `order` is the position of errors in them after
/// those in the configuration.
pub(super) fn look(services: &mut [ServiceConfig], order: usize, report: &mut ConfigReport) {
    for service in services {
        let Some(file) = &service.backends_file else { continue };
        if report.is_without_delivered() && files::delivered(&file.path).is_some() {
            continue;
        }
        let path = KeyPath::default().key("onion_services").quoted(service.nickname.as_ref());
        match file.text().and_then(|text| service.with_backends_file(&text)) {
            Ok(whole) => *service = whole,
            Err(errors) => {
                errors.0.into_iter().for_each(|error| report.error(error.after(order)));
                continue;
            }
        }
        let place = whole_file(order, &file_of(service));
        if !service.enabled {
            continue;
        }
        if service.local_instances == 0 && service.backends.is_empty() {
            let text = "it lists no backend and nothing else answers for the service, so no client \
                        reaches it";
            report.warn(Some(place), &path.key("backends_file"), text);
        } else if service.all_weights_are_zero() {
            report.warn(Some(place), &path, NO_WEIGHT);
        }
    }
}

fn file_of(service: &ServiceConfig) -> PathBuf {
    service.backends_file.as_ref().map(|file| file.path.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use onionbraid_balancer::onion::OnionAddress;

    use super::*;
    use crate::config::{Config, Environment};

    fn address(n: u8) -> OnionAddress {
        OnionAddress::from_public_key([n; 32])
    }

    fn service() -> ServiceConfig {
        let listed = RemoteBackend {
            address: address(1),
            name: "berlin".into(),
            weight: 1,
            client_key: None,
        };
        let file = BackendsFile { path: "/etc/onionbraid/more.toml".into(), listed: 1 };
        ServiceConfig {
            backends: vec![listed],
            backends_file: Some(file),
            ..ServiceConfig::with_defaults("shop".parse().unwrap())
        }
    }

    fn names(service: &ServiceConfig) -> Vec<&str> {
        service.backends.iter().map(|backend| backend.name.as_str()).collect()
    }

    fn problem(text: &str) -> String {
        service().with_backends_file(text).unwrap_err().to_string()
    }

    #[test]
    fn what_the_file_lists_comes_after_the_listed_backends_and_replaces_what_it_listed_before() {
        let text = format!(
            "backends = ['{}', {{ address = '{}', name = 'oslo', weight = 3 }}]\n",
            address(2),
            address(3)
        );
        let first = service().with_backends_file(&text).unwrap();
        assert_eq!(names(&first), ["berlin", "remote-1", "oslo"]);
        assert_eq!(first.listed_backends().len(), 1);
        let second = first.with_backends_file("backends = []\n").unwrap();
        assert_eq!(second, service());
        // The long form of an array of tables, with a comment.
        let text = format!("# mine\n[[backends]]\naddress = '{}'\n", address(4));
        assert_eq!(names(&second.with_backends_file(&text).unwrap()), ["berlin", "remote-1"]);
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_changes_nothing() {
        let (one, two) = (address(1), address(2));
        for (text, expected) in [
            ("backends = [", "/etc/onionbraid/more.toml:1\n    no valid TOML".to_owned()),
            ("", "the key `backends` is missing".to_owned()),
            ("backend = []\n", "did you mean `backends`?".to_owned()),
            ("backends = []\nprobe = true\n", "more.toml:2: probe".to_owned()),
            ("backends = 'none'\n", "not a string".to_owned()),
            (&format!("backends = [\n'{one}']\n"), "in `backends` of the configuration".to_owned()),
            (&format!("backends = ['{two}',\n'{two}']\n"), "more.toml:2: backends[1]".to_owned()),
            (
                &format!("backends = [{{ address = '{two}', name = 'berlin' }}]\n"),
                "the name \"berlin\" is taken".to_owned(),
            ),
            // Its position among all, not that in the file.
            (
                &format!("backends = [{{ address = '{two}', name = 'remote-0' }}]\n"),
                "are the names of backends that have no other".to_owned(),
            ),
        ] {
            let said = problem(text);
            assert!(said.contains(&expected), "{text}: {said}");
        }
    }

    #[test]
    fn a_file_has_bounds() {
        let many: Vec<String> = (0..=MAX_BACKENDS).map(|n| n.to_string()).collect();
        let said = problem(&format!("backends = [{}]\n", many.join(",\n")));
        assert!(said.contains("1001 backends are listed; at most 1000 may be"), "{said}");
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| BackendsFile { path: directory.path().join(name), listed: 0 };
        std::fs::write(&file("long").path, vec![b'#'; 256 * 1024 + 1]).unwrap();
        std::fs::write(&file("bytes").path, [0xff, 0xfe]).unwrap();
        for (name, expected) in [
            ("long", "longer than 256 KiB"),
            ("bytes", "not UTF-8"),
            ("absent", "there is no such file"),
            ("", "this is a directory"),
        ] {
            let said = file(name).text().unwrap_err().to_string();
            assert!(said.contains(expected), "{name}: {said}");
        }
    }

    fn load(configuration: &str, file: &str) -> (tempfile::TempDir, Result<Config, ConfigErrors>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arti.toml");
        std::fs::write(&path, format!("[onion_services.shop]\n{configuration}")).unwrap();
        std::fs::write(directory.path().join("more.toml"), file).unwrap();
        let loaded = Config::load(&[path], &Environment::new([("HOME", "/home/user")]));
        (directory, loaded)
    }

    #[test]
    fn the_configuration_is_read_with_the_file_that_lies_beside_it() {
        let text = format!("backends = ['{}']\n", address(2));
        let (directory, config) = load("backends_file = 'more.toml'\n", &text);
        let service = config.unwrap().services.pop().unwrap();
        assert_eq!(names(&service), ["remote-0"]);
        assert_eq!(service.local_instances, 0);
        let path = service.backends_file.unwrap().path;
        assert_eq!(path, directory.path().join("more.toml"));
        let other = load("backends_file = 'more.toml'\n", "backends = []\n").1.unwrap();
        let same = load("backends_file = 'more.toml'\n", "backends = []\n").1.unwrap();
        assert_eq!(other.differences(&same).len(), 1, "the files lie in two directories");
        let said = other.differences(&load("backends_file = 'more.toml'\n", &text).1.unwrap());
        assert_eq!(said[1].key, "onion_services.shop.backends_file");
        assert_eq!(said[1].what, "added remote-0");
        let (_directory, config) = load("backends_file = 'more.toml'\n", "backends = [1]\n");
        let said = config.unwrap_err().to_string();
        assert!(said.contains("more.toml:1: backends[0] = 1"), "{said}");
        let (_directory, config) = load("backends_file = 'none.toml'\nenabled = 1\n", "");
        let said = config.unwrap_err().to_string();
        assert!(
            said.find("enabled").unwrap() < said.find("there is no such file").unwrap(),
            "{said}"
        );
    }

    #[test]
    fn a_file_without_a_backend_in_use_is_warned_of() {
        let none = load("backends_file = 'more.toml'\n", "backends = []\n").1.unwrap();
        assert!(none.warnings[0].contains("it lists no backend"), "{:?}", none.warnings);
        let zero = format!("backends = [{{ address = '{}', weight = 0 }}]\n", address(2));
        let zero = load("backends_file = 'more.toml'\n", &zero).1.unwrap();
        assert!(zero.warnings[0].contains("have the weight 0"), "{:?}", zero.warnings);
        let local = "backends_file = 'more.toml'\nlocal_instances = 1\n\
                     proxy_ports = [[80, '127.0.0.1:1']]\n";
        assert_eq!(load(local, "backends = []\n").1.unwrap().warnings, [""; 0]);
    }
}
