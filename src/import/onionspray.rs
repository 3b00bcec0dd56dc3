//! What do the maps and settings of an Onionspray or EOTK project say?
//!
//! A hardmap becomes a service that is a proxy for the public site; a softmap one
//! whose backends are the workers, which go on as they are.
//!
//! | file | answers |
//! |---|---|
//! | `project` | which maps and settings does a file have? |
//! | `settings` | what do the settings mean for a proxy here? |

mod project;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::draft::{Draft, DraftLine, DraftService, none_enabled};
use super::nicknames::Nicknames;
use super::torrc::clients;
use super::{
    Fault, Faults, ImportFiles, LineFate, Note, SourcePlace, address, directory_of, onionbalance,
};
use onionbraid_balancer::onion::OnionAddress;
use project::{Map, MapKind, Project};
use settings::OnionspraySettings;

/// The directory of keys, of the projects and of Onionbalance's configuration: as
/// EOTK calls them, and as Onionspray does.
const SECRETS: [&str; 2] = ["secrets.d", "secrets"];
const PROJECTS: [&str; 2] = ["projects.d", "projects"];
const BALANCERS: [&str; 2] = ["onionbalance.d", "onionbalance"];

/// The characters of an address that name its directory in a project.
const SHORT: usize = 20;

/// The most names of a site.
const MOST_NAMES: usize = 100;

/// Reads the project at `path`: its `.conf`, or the directory of an installation
/// with all of them.
///
/// # Errors
///
/// Everything that is wrong with it and with its keys.
pub fn import(path: &Path, files: &impl ImportFiles) -> Result<Draft, Faults> {
    let place = SourcePlace { file: path.to_owned(), line: 0 };
    let names = files.list(path).map_err(|error| Fault::unreadable(&place, error))?;
    let (home, confs) = match names {
        None => (directory_of(path).to_owned(), vec![path.to_owned()]),
        Some(names) => {
            let confs = names.iter().filter(|name| name.as_encoded_bytes().ends_with(b".conf"));
            (path.to_owned(), confs.map(|name| path.join(name)).collect())
        }
    };
    let mut faults = Vec::new();
    let mut projects = Vec::new();
    for conf in &confs {
        match files.text(conf) {
            Ok(Some(text)) => match project::parse(&text, conf) {
                Ok(project) if !project.maps.is_empty() => projects.push(project),
                Ok(_) => {}
                // In a directory lie other files of that name, such as lists of hosts.
                Err(fault) if confs.len() == 1 || project::has_maps(&text) => faults.push(fault),
                Err(_) => {}
            },
            Ok(None) => faults.push(Fault::new(&place, "there is no such file")),
            Err(error) => faults.push(Fault::unreadable(&place, error)),
        }
    }
    if projects.is_empty() && faults.is_empty() {
        let problem = "there is no hardmap or softmap: name the .conf of a project, or the \
                       directory that Onionspray or EOTK is installed in";
        faults.push(Fault::new(&place, problem));
    }
    let mut reading = OnionsprayReading {
        home,
        files,
        faults,
        general: Vec::new(),
        nicknames: Nicknames::default(),
        seen: BTreeMap::new(),
    };
    let mut services = Vec::new();
    for project in &projects {
        services.extend(reading.project(project));
    }
    if reading.faults.is_empty() {
        reading.faults.extend(none_enabled(&services));
    }
    match reading.faults.is_empty() {
        true => {
            let source = format!("the project {}", path.display());
            Ok(Draft { source, general: reading.general, services, tables: Vec::new() })
        }
        false => Err(Faults(reading.faults)),
    }
}

/// One pass over the projects.
struct OnionsprayReading<'f, F> {
    home: PathBuf,
    files: &'f F,
    faults: Vec<Fault>,
    general: Vec<Note>,
    nicknames: Nicknames,
    seen: BTreeMap<OnionAddress, SourcePlace>,
}

impl<F: ImportFiles> OnionsprayReading<'_, F> {
    fn project(&mut self, project: &Project) -> Vec<DraftService> {
        let settings =
            OnionspraySettings::read(&project.settings, &mut self.general, &mut self.faults);
        let mut maps = Vec::new();
        for map in &project.maps {
            match address(&map.onion) {
                Ok(address) => maps.push((address, map)),
                Err(problem) => self.faults.push(Fault::new(&map.place, problem)),
            }
        }
        let mut services = Vec::new();
        for (address, map) in &maps {
            if map.kind == MapKind::Foreign {
                continue;
            }
            if let Some(first) = self.seen.get(address) {
                let problem =
                    format!("{address} is mapped at {first} already: an address has one site");
                self.faults.push(Fault::new(&map.place, problem));
                continue;
            }
            self.seen.insert(*address, map.place.clone());
            let Some(key) = self.key(address, map) else { continue };
            let (entries, http) = match map.kind {
                MapKind::Soft => match self.workers(address, map) {
                    Some(entries) => (entries, Vec::new()),
                    None => continue,
                },
                _ => self.proxy(*address, map, &maps, &settings),
            };
            let nickname = self.nicknames.after([map.domain.as_str()]);
            let place = map.place.clone();
            services.push(DraftService { nickname, place, key, address: *address, entries, http });
        }
        services
    }

    /// The path of the key of an address, which has to be its own.
    fn key(&mut self, wanted: &OnionAddress, map: &Map) -> Option<PathBuf> {
        let onion = wanted.to_string();
        let label = onion.trim_end_matches(".onion");
        let mut looked = Vec::new();
        for directory in SECRETS.map(|name| self.home.join(name)) {
            looked.push((directory, format!("{label}.v3sec.key")));
        }
        for directory in self.service_directories(wanted, map) {
            looked.push((directory, "hs_ed25519_secret_key".to_owned()));
        }
        let mut unreadable = Vec::new();
        let found = looked.iter().find(|(directory, name)| match self.files.list(directory) {
            Ok(names) => names.is_some_and(|names| names.iter().any(|it| it == name.as_str())),
            Err(error) => {
                unreadable.push(Fault::unreadable(&map.place, error));
                false
            }
        });
        let Some((directory, name)) = found else {
            if !unreadable.is_empty() {
                self.faults.extend(unreadable);
                return None;
            }
            let problem = format!(
                "the key of {onion} is in none of {}: import on the machine that has it",
                looked.iter().map(|(d, _)| d.display().to_string()).collect::<Vec<_>>().join(", ")
            );
            self.faults.push(Fault::of_key(&map.place, problem));
            return None;
        };
        let path = directory.join(name);
        match self.files.address(&path) {
            Ok(found) if found == *wanted => Some(path),
            Ok(found) => {
                let problem = format!(
                    "{} has the key of {found}, not of {onion}: bring the right one",
                    path.display()
                );
                self.faults.push(Fault::of_key(&map.place, problem));
                None
            }
            Err(problem) => {
                self.faults.push(Fault::of_key(&map.place, problem));
                None
            }
        }
    }

    /// Where the tor of a project may have the directory of an address.
    fn service_directories(&self, address: &OnionAddress, map: &Map) -> [PathBuf; 2] {
        let onion = address.to_string();
        let short = format!("{}-v3.d", onion.get(..SHORT).unwrap_or(&onion));
        self.project_directories(map).map(|directory| directory.join(&short))
    }

    fn project_directories(&self, map: &Map) -> [PathBuf; 2] {
        PROJECTS.map(|projects| self.home.join(projects).join(format!("{}.d", map.project)))
    }

    /// The clients that the tor of a project lets in, if it does not let in all.
    fn clients(&mut self, address: &OnionAddress, map: &Map) -> Vec<DraftLine> {
        let mut entries = Vec::new();
        for directory in self.service_directories(address, map) {
            // The first that closes it counts: a table has each key once.
            if !entries.iter().any(|entry| matches!(entry, DraftLine::Key(..))) {
                let clients =
                    clients::entries(&map.place, &directory, self.files, &mut self.faults);
                entries.extend(clients);
            }
        }
        entries
    }

    /// The workers of a softmap as backends.
    fn workers(&mut self, wanted: &OnionAddress, map: &Map) -> Option<Vec<DraftLine>> {
        let mut found: Vec<OnionAddress> = Vec::new();
        for name in BALANCERS {
            let file = self.home.join(name).join("config.yaml");
            let backends = match self.files.text(&file) {
                Ok(Some(text)) => onionbalance::backends_of(&text, &file, wanted),
                Ok(None) => continue,
                Err(error) => Err(Fault::unreadable(&map.place, error)),
            };
            match backends {
                Ok(backends) => found.extend(backends.into_iter().map(|(address, _)| address)),
                Err(fault) => {
                    self.faults.push(fault);
                    return None;
                }
            }
        }
        // Before the balancer was ever started there are the workers of this machine.
        let known = !found.is_empty();
        for directory in self.project_directories(map).into_iter().filter(|_| !known) {
            match self.workers_in(&directory, map) {
                Ok(workers) => found.extend(workers),
                Err(fault) => {
                    self.faults.push(fault);
                    return None;
                }
            }
        }
        let mut seen = BTreeSet::new();
        found.retain(|address| seen.insert(*address));
        if found.is_empty() {
            let problem = format!(
                "the workers of this softmap are not known: they are in onionbalance.d/config.yaml \
                 (onionbalance/config.yaml) below {}, once Onionbalance was started",
                self.home.display()
            );
            self.faults.push(Fault::new(&map.place, problem));
            return None;
        }
        let text = "the workers, their tor and nginx, stay as they are: only Onionbalance and its \
                    tor go";
        let note = DraftLine::Note(Note::new(&map.place, LineFate::Decided, text));
        let backends = found.into_iter().map(|address| Value::from(address.to_string()));
        Some(vec![note, DraftLine::List("backends", backends.collect())])
    }

    /// The workers that a project has on this machine.
    fn workers_in(&self, directory: &Path, map: &Map) -> Result<Vec<OnionAddress>, Fault> {
        let unreadable = |error| Fault::unreadable(&map.place, error);
        let mut found = Vec::new();
        for name in self.files.list(directory).map_err(unreadable)?.unwrap_or_default() {
            let bytes = name.as_encoded_bytes();
            if !(bytes.starts_with(b"hs-") && bytes.ends_with(b".d")) {
                continue;
            }
            let file = directory.join(name).join("hostname");
            let Some(text) = self.files.text(&file).map_err(unreadable)? else { continue };
            let place = SourcePlace { file, line: 1 };
            found.push(address(text.trim()).map_err(|problem| Fault::new(&place, problem))?);
        }
        Ok(found)
    }

    /// A hardmap as a proxy, and its table `http`.
    fn proxy(
        &mut self,
        own: OnionAddress,
        map: &Map,
        maps: &[(OnionAddress, &Map)],
        settings: &OnionspraySettings,
    ) -> (Vec<DraftLine>, Vec<DraftLine>) {
        let mut entries = self.clients(&own, map);
        entries.extend(settings.service(&map.place, &mut self.faults));
        let note = |kind, text: String| DraftLine::Note(Note::new(&map.place, kind, text));
        entries.push(note(
            LineFate::NoEquivalent,
            format!(
                "Onionspray answers on port 443, too, with its nginx, and sends visitors there: \
                 here the site is at http://{own} alone, which Tor encrypts as well. For links to \
                 https://{own} forward [\"443\", \"ADDRESS:PORT\"] byte for byte to a server with a \
                 certificate"
            ),
        ));
        if !map.subdomains.is_empty() {
            entries.push(note(
                LineFate::Decided,
                format!(
                    "the subdomains {} are asked of the server of {}, by their own Host: give them \
                     a service of their own if it does not have them",
                    map.subdomains.join(", "),
                    map.domain
                ),
            ));
        }
        let target = format!("https://{}", map.domain);
        let rule = vec![Value::from("80"), Value::from(target)];
        entries.push(DraftLine::List("proxy_ports", vec![rule.into()]));
        let mut http =
            vec![DraftLine::Key("host", "mapped".into()), DraftLine::Key("proto", "https".into())];
        let mut names = vec![Table::from_iter([pair("public", &map.domain)])];
        let mut publics = vec![map.domain.as_str()];
        for (address, other) in maps {
            if publics.contains(&other.domain.as_str()) || names.len() == MOST_NAMES {
                continue;
            }
            publics.push(&other.domain);
            let onion = pair("onion", &address.to_string());
            names.push(Table::from_iter([pair("public", &other.domain), onion]));
        }
        http.push(DraftLine::List("names", names.into_iter().map(Value::from).collect()));
        let directories = self.project_directories(map);
        http.extend(settings.http(&directories, self.files, &mut self.faults));
        (entries, http)
    }
}

fn pair(key: &str, value: &str) -> (String, Value) {
    (key.to_owned(), value.into())
}
