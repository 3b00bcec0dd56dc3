//! Are the files there that the configuration names, and are they what they
//! should be?
//!
//! [`read`] is text in, path out; [`look`] opens the files, so that what is wrong
//! with one is an error with its key path. What is in a key, `tor/keys` reads.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tor_config_path::{CfgPath, CfgPathError, CfgPathResolver};

use super::error::{ConfigError, ConfigReport, Expected, NamedFile};
use super::reader::TableItem;
use crate::ordinary::at_most;
use onionbraid_proxy::tls::certificate::Certificate;

/// Where systemd puts what `LoadCredential=` names, for one unit alone.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where such files are for a process that has no such variable: nowhere.
const OUTSIDE_THE_UNIT: &str = "/run/credentials/-";

/// What does not outlast the system's run. Platforms deliver secrets there, from a source
/// of their own.
const RUN: [&str; 2] = ["/run", "/var/run"];

/// The longest page for an answer of ours, in bytes.
const MAX_PAGE: u64 = 256 * 1024;

/// The longest file of certificates, in bytes: the public authorities together
/// need a quarter of it.
const MAX_CERTIFICATES: u64 = 1024 * 1024;

/// Reads a path that is written as Arti writes them; see [`named`]. There is no other way
/// to one, so that nothing that the configuration names is forgotten.
pub(crate) fn read(
    item: &TableItem<'_>,
    wanted: Expected,
    report: &mut ConfigReport,
) -> Option<PathBuf> {
    let path = expand(item, report)?;
    Some(named(item, &path, wanted, report))
}

/// A directory that the program makes, as an absolute path: commands that ask the daemon
/// may run elsewhere.
pub(super) fn directory(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<PathBuf> {
    Some(absolute(&item.beside_its_file(&expand(item, report)?)))
}

/// Expands a path as Arti does: `~`, `${ARTI_LOCAL_DATA}` and its other variables.
fn expand(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<PathBuf> {
    let path: CfgPath = match item.node.to_toml().try_into() {
        Ok(path) => path,
        Err(_) => {
            item.wrong("this must be a path, as a string", report);
            return None;
        }
    };
    let expanded = match resolved(&path) {
        Err(CfgPathError::UnknownVar(name))
            if name == CREDENTIALS && report.is_without_delivered() =>
        {
            path.path(&with_credentials(OUTSIDE_THE_UNIT.into()))
        }
        expanded => expanded,
    };
    match expanded {
        Ok(path) if path.as_os_str().is_empty() => {
            item.wrong("this must be a path", report);
            None
        }
        Ok(path) => Some(path),
        Err(CfgPathError::UnknownVar(name)) if name == CREDENTIALS => {
            let problem = "systemd gives no credentials to this process: the unit needs \
                           LoadCredential=, and commands outside it do not see them";
            item.wrong(problem, report);
            None
        }
        Err(error) => {
            item.wrong(format!("this path cannot be expanded: {error}"), report);
            None
        }
    }
}

/// The same of a path that was read; of a program, which no backup keeps.
pub(super) fn resolved(path: &CfgPath) -> Result<PathBuf, CfgPathError> {
    match credentials() {
        Some(directory) => path.path(&with_credentials(directory)),
        None => path.path(&tor_config_path::arti_client_base_resolver()),
    }
}

/// The directory of the credentials of this process's unit, if it has any.
fn credentials() -> Option<PathBuf> {
    let directory = std::env::var_os(CREDENTIALS).filter(|it| it.as_bytes().starts_with(b"/"));
    directory.map(PathBuf::from)
}

fn with_credentials(directory: PathBuf) -> CfgPathResolver {
    let mut resolver = tor_config_path::arti_client_base_resolver();
    resolver.set_var(CREDENTIALS, Ok(directory.into()));
    resolver
}

/// What a file is called that the platform delivers anew for each start, such as a
/// credential of systemd's or a container's secret; `None` for any other.
pub(crate) fn delivered(path: &Path) -> Option<String> {
    let credentials = credentials().into_iter().chain([OUTSIDE_THE_UNIT.into()]);
    for directory in credentials {
        if let Ok(below) = path.strip_prefix(directory) {
            return Some(format!("${{{CREDENTIALS}}}/{}", below.display()));
        }
    }
    RUN.iter().any(|run| path.starts_with(run)).then(|| path.display().to_string())
}

/// The file `path`, which begins at the directory of the file that names it, as
/// an absolute path: it means the same wherever it is shown. [`look`] will ask
/// whether it is there.
pub(crate) fn named(
    item: &TableItem<'_>,
    path: &Path,
    wanted: Expected,
    report: &mut ConfigReport,
) -> PathBuf {
    let relative = item.beside_its_file(path);
    let (key, value) = (item.path.clone(), item.node.to_string());
    let whole = absolute(&relative);
    report.names(NamedFile { place: item.place(), key, value, path: relative, wanted });
    whole
}

/// Reports every file that is not there, or is not what it should be; all that are
/// named, as absolute paths.
pub(crate) fn look(report: &mut ConfigReport) -> Vec<(PathBuf, Expected)> {
    let named = report.take_files();
    let paths: Vec<_> = named.iter().map(|file| (absolute(&file.path), file.wanted)).collect();
    for (file, (path, _)) in named.into_iter().zip(&paths) {
        if report.is_without_delivered() && delivered(path).is_some() {
            continue;
        }
        if let Err(problem) = wrong_with(&file.path, file.wanted) {
            report.error(problem.with_key(file.place, file.key).with_value(file.value));
        }
    }
    paths
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn wrong_with(path: &Path, wanted: Expected) -> Result<(), ConfigError> {
    let told = |error: io::Error| unreadable(path, wanted, &error);
    match wanted {
        Expected::Key => fs::metadata(path).map(drop).map_err(told),
        Expected::TlsKey => at_most(path, MAX_CERTIFICATES).map(drop).map_err(told),
        Expected::Certificate => {
            at_most(path, MAX_CERTIFICATES).map_err(told)?;
            Certificate::of_file(path)
                .map(drop)
                .map_err(|problem| ConfigError::general(problem.to_string()))
        }
        // What is wrong with these, whoever reads them says.
        Expected::ClientKey | Expected::Clients | Expected::Backends | Expected::Socket => Ok(()),
        Expected::Directory | Expected::Bundle => fs::read_dir(path).map(drop).map_err(told),
        Expected::Page => at_most(path, MAX_PAGE).map_err(told)?.map(drop).ok_or_else(|| {
            let path = path.display();
            ConfigError::general(format!("{path} is longer than 256 KiB: make it shorter"))
        }),
        Expected::Certificates => {
            let text = at_most(path, MAX_CERTIFICATES).map_err(told)?.unwrap_or_default();
            certificates(&text)
                .map_err(|problem| ConfigError::general(format!("{}: {problem}", path.display())))
        }
    }
}

/// Checks that a text has certificates of authorities that can be used.
fn certificates(text: &[u8]) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(text).enumerate() {
        let number = index + 1;
        let certificate = certificate.map_err(|error| format!("this is no PEM file: {error}"))?;
        store.add(certificate).map_err(|error| {
            format!("certificate {number} in it cannot be that of an authority: {error}")
        })?;
    }
    if store.is_empty() {
        return Err("there is no certificate in it: a PEM file of at most 1 MiB is wanted, with \
                    lines BEGIN CERTIFICATE and END CERTIFICATE"
            .to_owned());
    }
    Ok(())
}

fn unreadable(path: &Path, wanted: Expected, error: &io::Error) -> ConfigError {
    let path = path.display();
    let problem = match (error.kind(), wanted) {
        (io::ErrorKind::NotFound, Expected::Key) => format!(
            "there is no {path}: bring the key there, or remove this line to have one made in the \
             keystore"
        ),
        (io::ErrorKind::NotFound, Expected::Directory) => {
            format!("there is no directory {path}: make it, or name the one with the files")
        }
        (io::ErrorKind::NotFound, Expected::Bundle) => format!(
            "there is no directory {path}: copy there what `onionbraid keys export-periods` wrote"
        ),
        (io::ErrorKind::NotADirectory, Expected::Bundle) => {
            format!("{path} is no directory: name the one with the keys of periods")
        }
        (io::ErrorKind::NotADirectory, Expected::Directory) => {
            format!("{path} is no directory: name the one that the file lies in")
        }
        (io::ErrorKind::NotFound, Expected::Certificate | Expected::TlsKey) => format!(
            "there is no file {path}; `onionbraid certificate self-signed SERVICE` makes a \
             certificate and its key"
        ),
        (io::ErrorKind::NotFound, _) => format!("there is no file {path}"),
        (io::ErrorKind::IsADirectory, _) => format!("{path} is a directory: name the file in it"),
        (io::ErrorKind::PermissionDenied, _) => format!(
            "the system does not let this user read {path}: run this as the user that runs \
             onionbraid, and give that the right to read it"
        ),
        _ => format!("{path}: {error}"),
    };
    let problem = ConfigError::general(problem);
    if error.kind() == io::ErrorKind::PermissionDenied { problem.denied() } else { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_an_ordinary_file_of_at_most_256_kib() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("page.html");
        let problem = |path: &Path| wrong_with(path, Expected::Page).err().map(|e| e.to_string());
        std::fs::write(&page, vec![b'x'; 256 * 1024]).unwrap();
        assert_eq!(problem(&page), None);
        std::fs::write(&page, vec![b'x'; 256 * 1024 + 1]).unwrap();
        assert!(problem(&page).unwrap().contains("longer than 256 KiB"));
        assert!(problem(Path::new("/dev/null")).unwrap().contains("no ordinary file"));
    }

    #[test]
    fn certificates_are_those_of_authorities_in_pem() {
        let certificate = include_bytes!("../../tests/config/http-files/ca.pem");
        assert_eq!(certificates(certificate), Ok(()));
        assert_eq!(certificates(&[certificate.as_slice(), certificate].concat()), Ok(()));
        let garbage = include_bytes!("../../tests/config/http-files/garbage.pem");
        for wrong in [b"".as_slice(), garbage, &[certificate.as_slice(), garbage].concat()] {
            assert!(certificates(wrong).is_err());
        }
    }
}
