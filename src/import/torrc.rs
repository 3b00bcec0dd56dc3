//! What do the onion services and bridges of a torrc say?
//!
//! | file | answers |
//! |---|---|
//! | `lines` | which settings does the file have, with what it includes? |
//! | `service` | what does one `HiddenServiceDir` become? |
//! | `ports` | where do the streams of its ports go? |
//! | `bridges` | what does Arti read of the bridges? |
//! | `others` | why has a setting of another kind no equivalent? |

mod bridges;
pub(super) mod lines;
mod others;
mod ports;
pub(super) mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::nicknames::Nicknames;
use super::{Fault, Faults, ImportFiles, LineFate, Note, SourcePlace, directory_of, resolve};
use bridges::Bridges;
use lines::Line;
use onionbraid_balancer::onion::OnionAddress;
use others::Others;
use service::ServiceDirectory;

/// Reads the torrc at `file`.
///
/// # Errors
///
/// Everything that is wrong with it, with what it includes, and with the keys of
/// its services.
pub fn import(file: &Path, files: &impl ImportFiles) -> Result<Draft, Faults> {
    let mut general = Vec::new();
    let settings = lines::read(file, files, &mut general)?;
    let base = data_directory(&settings, file, files);
    let (mut faults, mut bridges) = (Vec::new(), Bridges::default());
    let mut directories: Vec<ServiceDirectory> = Vec::new();
    let mut whole = service::WholeProcess::default();
    let mut others = Others::default();
    for line in &settings {
        let key = line.key.as_str();
        if key == "hiddenservicedir" {
            directories.push(ServiceDirectory::new(line));
        } else if whole.takes(line) || bridges.takes(line, &mut faults) {
        } else if key.starts_with("hiddenservice") {
            match directories.last_mut() {
                Some(directory) => directory.set(line, &mut faults),
                None => faults.push(Fault::new(
                    &line.place,
                    format!("{} has no HiddenServiceDir before it: whose is it?", line.name),
                )),
            }
        } else {
            others.add(line);
        }
    }
    general.extend(others.notes());
    general.extend(whole.notes());
    if directories.is_empty() && faults.is_empty() {
        let place = SourcePlace { file: file.to_owned(), line: 0 };
        let problem = "there is no HiddenServiceDir in it: nothing to import. Is it the torrc of \
                       the tor that runs the onion services?";
        return Err(Fault::new(&place, problem).into());
    }
    let mut nicknames = Nicknames::default();
    let mut seen: BTreeMap<PathBuf, SourcePlace> = BTreeMap::new();
    let mut addresses: BTreeMap<OnionAddress, SourcePlace> = BTreeMap::new();
    let mut services = Vec::new();
    let mut open = false;
    for mut directory in directories {
        let path = base.find(&directory.path, &directory.place, files, &mut general);
        if let Some(first) = seen.get(&path) {
            let problem = format!(
                "{} is the directory of the service at {first} already: each has its own",
                path.display()
            );
            faults.push(Fault::new(&directory.place, problem));
            continue;
        }
        seen.insert(path.clone(), directory.place.clone());
        directory.path_on_disk = path;
        let read = directory.import(&whole, files, &mut nicknames, &mut faults);
        let Some((service, enabled)) = read else { continue };
        match addresses.get(&service.address) {
            Some(first) => {
                let problem = format!(
                    "{} has the key of the service at {first}, and so its address: write the ports \
                     of both below one HiddenServiceDir",
                    service.key.display()
                );
                faults.push(Fault::new(&service.place, problem));
            }
            None => {
                addresses.insert(service.address, service.place.clone());
                open |= enabled;
                services.push(service);
            }
        }
    }
    if let (false, true, Some(service)) = (open, faults.is_empty(), services.first()) {
        let notes = service.entries.iter().filter_map(|entry| match entry {
            super::draft::DraftLine::Note(note) if note.kind == LineFate::Warning => {
                Some(note.text.clone())
            }
            _ => None,
        });
        let reasons: Vec<String> = notes.collect();
        let problem = format!(
            "none of the services could be enabled here, so there is nothing to run: {}",
            reasons.join("; ")
        );
        faults.push(Fault::new(&service.place, problem));
    }
    if !faults.is_empty() {
        faults.sort_by(|a, b| a.place.cmp(&b.place));
        return Err(Faults(faults));
    }
    general.sort_by(|a, b| a.place.cmp(&b.place));
    let source = format!("the torrc {}", file.display());
    Ok(Draft { source, general, services, tables: bridges.tables() })
}

/// Where relative paths begin.
struct Base {
    /// `DataDirectory`, if the file names it.
    data: Option<PathBuf>,
    /// The directory of the torrc.
    beside: PathBuf,
}

fn data_directory(settings: &[Line], file: &Path, files: &impl ImportFiles) -> Base {
    let beside = directory_of(file).to_owned();
    let line = settings.iter().rfind(|line| line.key == "datadirectory");
    let data = line.map(|line| resolve(&line.value, &beside, files));
    Base { data, beside }
}

impl Base {
    /// The directory that a path means. tor begins relative ones where it was
    /// started, or as a daemon in its DataDirectory: what is there decides.
    fn find(
        &self,
        path: &str,
        place: &SourcePlace,
        files: &impl ImportFiles,
        notes: &mut Vec<Note>,
    ) -> PathBuf {
        let below = |base: &PathBuf| resolve(path, base, files);
        let places: Vec<PathBuf> = self.data.iter().chain([&self.beside]).map(below).collect();
        let is_there = |path: &&PathBuf| matches!(files.list(path), Ok(Some(_)) | Err(_));
        let found = places.iter().find(is_there).or(places.first());
        // Without what says nothing, such as a slash at the end.
        let found: PathBuf = found.map(|path| path.components().collect()).unwrap_or_default();
        if Path::new(path).is_relative() && !path.starts_with("~/") {
            let text = format!(
                "HiddenServiceDir {path} is a relative path: {} is used here. tor begins at its \
                 working directory, which this file does not tell",
                found.display()
            );
            notes.push(Note::new(place, LineFate::Decided, text));
        }
        found
    }
}
