//! Whom does `authorized_clients` in a directory of tor's let in?
//!
//! A service that was closed never becomes one that is open: whatever cannot be read
//! here stops the import or leaves the service off.

use std::ffi::OsString;
use std::path::Path;

use toml::Table;

use crate::import::draft::DraftLine;
use crate::import::{Fault, ImportFiles, LineFate, Note, SourcePlace};
use onionbraid_balancer::onion::{ClientKey, check_client_name};

/// The directory, below that of the service.
pub(in crate::import) const DIRECTORY: &str = "authorized_clients";

/// How the files of clients end.
const EXTENSION: &str = ".auth";

/// What the table of a service says of its clients: nothing where it is open.
pub(in crate::import) fn entries(
    place: &SourcePlace,
    service: &Path,
    files: &impl ImportFiles,
    faults: &mut Vec<Fault>,
) -> Vec<DraftLine> {
    let directory = service.join(DIRECTORY);
    let names = match files.list(&directory) {
        Ok(Some(names)) => names,
        Ok(None) => {
            match files.is_there(&directory) {
                Ok(false) => {}
                Ok(true) => {
                    let problem = format!(
                        "{} is no directory, so whom the service lets in cannot be known: tor does \
                         not start with it either. Bring the directory, or take away what is in its \
                         place if everybody may reach the service",
                        directory.display()
                    );
                    faults.push(Fault::of_key(place, problem));
                }
                Err(error) => faults.push(Fault::of_key(place, error.to_string())),
            }
            return Vec::new();
        }
        Err(error) => {
            faults.push(Fault::of_key(place, error.to_string()));
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    let mut note = |kind, text: String| entries.push(DraftLine::Note(Note::new(place, kind, text)));
    let is_client = |name: &&OsString| name.as_encoded_bytes().ends_with(EXTENSION.as_bytes());
    let clients: Vec<&OsString> = names.iter().filter(is_client).collect();
    if clients.is_empty() {
        if let Some(first) = names.first() {
            let text = format!(
                "{} is no file of a client, since it does not end in .auth, and there is none \
                 beside it: as with tor, everybody who knows the address reaches the service",
                directory.join(first).display()
            );
            note(LineFate::Decided, text);
        }
        return entries;
    }
    let mut keys = Table::new();
    for name in clients {
        let file = directory.join(name);
        let text = match files.text(&file) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                faults.push(Fault::of_key(place, error.to_string()));
                continue;
            }
        };
        // One with U+FFFD in it is no name of a client, and says so.
        let name = name.to_string_lossy();
        let name = name.strip_suffix(EXTENSION).unwrap_or(&name);
        let key = check_client_name(name)
            .and_then(|()| text.parse::<ClientKey>().map_err(|error| error.to_string()));
        match key {
            Ok(key) => {
                keys.insert(name.to_owned(), key.to_string().into());
            }
            Err(problem) => {
                let text = format!("{}: {problem}; this client is not let in", file.display());
                note(LineFate::Warning, text);
            }
        }
    }
    if keys.is_empty() {
        let text = "authorized_clients lets nobody in whose key can be read, so the service is not \
                    enabled: without `restricted_discovery` EVERYBODY WHO KNOWS THE ADDRESS COULD \
                    REACH IT";
        note(LineFate::Warning, text.to_owned());
        entries.push(DraftLine::Key("enabled", false.into()));
        return entries;
    }
    let restricted = [("enabled".to_owned(), true.into()), ("static_keys".to_owned(), keys.into())];
    entries.push(DraftLine::Key("restricted_discovery", Table::from_iter(restricted).into()));
    entries
}
