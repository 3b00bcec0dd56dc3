//! What does Onionbalance's `config.yaml` say? Version 3 of it, as Onionbalance
//! 0.2 reads it.
//!
//! Each of its services becomes one of ours with `backends` alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::draft::{Draft, DraftLine, DraftService};
use super::nicknames::Nicknames;
use super::yaml::{self, Pair, YamlItem, YamlNode};
use super::{
    Fault, Faults, ImportFiles, LineFate, Note, SourcePlace, address, directory_of, without_bom,
};
use onionbraid_balancer::onion::OnionAddress;

/// The longest name of a backend, in characters.
const LONGEST_NAME: usize = 40;

/// Reads the configuration with this text.
///
/// # Errors
///
/// Everything that is wrong with it, and with the keys that it names.
pub fn import(text: &str, file: &Path, files: &impl ImportFiles) -> Result<Draft, Faults> {
    let place = |line| SourcePlace { file: file.to_owned(), line };
    let mut reading = OnionbalanceReading { file, files, faults: Vec::new(), general: Vec::new() };
    let root = yaml::parse(without_bom(text)).map_err(|(line, problem)| {
        Fault::new(&place(line), format!("this is no YAML: {problem}"))
    })?;
    let YamlNode::Map(pairs) = &root.node else {
        let problem = "this is no configuration of Onionbalance: a list `services:` is expected";
        return Err(Fault::new(&place(root.line), problem).into());
    };
    let mut services = Vec::new();
    let mut found = false;
    for Pair { line, key, value } in pairs {
        match key.as_str() {
            "services" => {
                found = true;
                services = reading.services(value);
            }
            "status-socket-location" => reading.note(
                *line,
                LineFate::Decided,
                format!(
                    "status-socket-location {}: `onionbraid status` asks a socket of its own, in \
                     the state directory, and needs no setting. What reads JSON from the old socket \
                     reads `onionbraid status --json` instead, whose fields are others",
                    value.text().unwrap_or_default()
                ),
            ),
            key => reading.note(*line, LineFate::NoEquivalent, format!("{key} is not known here")),
        }
    }
    if !found {
        reading.fault(0, "`services` is missing: it lists `key` and `instances` of each address");
    }
    if reading.faults.is_empty() {
        let source = format!("Onionbalance's {}", file.display());
        Ok(Draft { source, general: reading.general, services, tables: Vec::new() })
    } else {
        Err(Faults(reading.faults))
    }
}

/// The backends that a configuration has for an address, without looking at keys:
/// Onionspray writes one for its softmaps, with keys named after their addresses.
pub(super) fn backends_of(
    text: &str,
    file: &Path,
    wanted: &OnionAddress,
) -> Result<Vec<(OnionAddress, SourcePlace)>, Fault> {
    let place = |line| SourcePlace { file: file.to_owned(), line };
    let root = yaml::parse(without_bom(text)).map_err(|(line, problem)| {
        Fault::new(&place(line), format!("this is no YAML: {problem}"))
    })?;
    let mut found = Vec::new();
    for service in items(value_of(&root, "services")) {
        let key = value_of(service, "key").and_then(YamlItem::text).unwrap_or_default();
        if named_after(Path::new(key)) != Some(*wanted) {
            continue;
        }
        for instance in items(value_of(service, "instances")) {
            let text = value_of(instance, "address").and_then(YamlItem::text).unwrap_or_default();
            let at = place(instance.line);
            let address = address(text).map_err(|problem| Fault::new(&at, problem))?;
            if !found.iter().any(|(other, _)| *other == address) {
                found.push((address, at));
            }
        }
    }
    Ok(found)
}

fn value_of<'i>(item: &'i YamlItem, key: &str) -> Option<&'i YamlItem> {
    let YamlNode::Map(pairs) = &item.node else { return None };
    pairs.iter().find(|pair| pair.key == key).map(|pair| &pair.value)
}

fn items(list: Option<&YamlItem>) -> &[YamlItem] {
    match list.map(|item| &item.node) {
        Some(YamlNode::List(items)) => items,
        _ => &[],
    }
}

/// The address that a key's file is named after, as onionbalance-config and EOTK
/// name them: `ADDRESS.key`, `ADDRESS.v3sec.key`.
fn named_after(key: &Path) -> Option<OnionAddress> {
    let name = key.file_name()?.to_string_lossy().into_owned();
    name.split('.').next()?.parse().ok()
}

/// One pass through a configuration.
struct OnionbalanceReading<'f, F> {
    file: &'f Path,
    files: &'f F,
    faults: Vec<Fault>,
    general: Vec<Note>,
}

impl<F: ImportFiles> OnionbalanceReading<'_, F> {
    fn place(&self, line: usize) -> SourcePlace {
        SourcePlace { file: self.file.to_owned(), line }
    }

    fn fault(&mut self, line: usize, problem: impl Into<String>) {
        self.faults.push(Fault::new(&self.place(line), problem));
    }

    fn note(&mut self, line: usize, kind: LineFate, text: impl Into<String>) {
        self.general.push(Note::new(&self.place(line), kind, text));
    }

    fn services(&mut self, list: &YamlItem) -> Vec<DraftService> {
        let entries = items(Some(list));
        if entries.is_empty() {
            self.fault(list.line, "`services` has to be a list with at least one service");
        }
        let mut nicknames = Nicknames::default();
        let mut seen: BTreeMap<OnionAddress, usize> = BTreeMap::new();
        let mut services: Vec<DraftService> = Vec::new();
        for entry in entries {
            let Some(service) = self.service(entry, &mut nicknames) else { continue };
            match seen.get(&service.address) {
                None => {
                    seen.insert(service.address, entry.line);
                    services.push(service);
                }
                Some(line) => {
                    let problem = format!(
                        "this service has the key of the one in line {line}, and so its address: \
                         list the instances of both in one service"
                    );
                    self.fault(entry.line, problem);
                }
            }
        }
        services
    }

    fn service(&mut self, entry: &YamlItem, nicknames: &mut Nicknames) -> Option<DraftService> {
        let YamlNode::Map(pairs) = &entry.node else {
            self.fault(entry.line, "a service has to be a map with `key` and `instances`");
            return None;
        };
        let (mut key, mut instances, mut entries) = (None, None, Vec::new());
        for Pair { line, key: name, value } in pairs {
            match name.as_str() {
                "key" => key = Some(value),
                "instances" => instances = Some(value),
                name => entries.push(DraftLine::Note(Note::new(
                    &self.place(*line),
                    LineFate::NoEquivalent,
                    format!("`{name}` of a service is not known here"),
                ))),
            }
        }
        let instances = match instances {
            Some(list) => self.instances(list),
            None => {
                self.fault(entry.line, "`instances` is missing: a list of `address`");
                None
            }
        };
        let Some((path, at)) = key.and_then(|key| Some((key.text()?, key.line))) else {
            let problem = match key.map(|key| &key.node) {
                None | Some(YamlNode::Null) => {
                    "`key` is missing: the path of the service's secret key"
                }
                Some(_) => "`key` has to be one path: that of the service's secret key",
            };
            self.fault(key.map_or(entry.line, |key| key.line), problem);
            return None;
        };
        let path = self.beside(path);
        let address = match self.files.address(&path) {
            Ok(address) => address,
            Err(problem) => {
                self.faults.push(Fault::of_key(&self.place(at), problem));
                return None;
            }
        };
        if let Some(named) = named_after(&path).filter(|named| *named != address) {
            let problem = format!(
                "{} is named after {named}, and the key in it has the address {address}: which of \
                 them is the service's? Rename the file, or bring the right key",
                path.display()
            );
            self.faults.push(Fault::of_key(&self.place(at), problem));
            return None;
        }
        let (backends, notes) = instances?;
        if backends.iter().any(|(backend, _, _)| *backend == address) {
            let problem = format!(
                "{address} lists itself as an instance: name the instances' own addresses, from \
                 `hostname` in their HiddenServiceDir"
            );
            self.fault(entry.line, problem);
            return None;
        }
        entries.extend(notes.into_iter().map(DraftLine::Note));
        entries.push(DraftLine::List("backends", backends.into_iter().map(backend).collect()));
        let nickname = nicknames.after_path(&path);
        let place = self.place(entry.line);
        Some(DraftService { nickname, place, key: path, address, entries, http: Vec::new() })
    }

    /// Onionbalance's relative paths begin at the directory of its file.
    fn beside(&self, path: &str) -> PathBuf {
        directory_of(self.file).join(path)
    }

    /// The backends of one service.
    #[expect(clippy::type_complexity, reason = "an address, a name and a line")]
    fn instances(
        &mut self,
        list: &YamlItem,
    ) -> Option<(Vec<(OnionAddress, Option<String>, usize)>, Vec<Note>)> {
        let entries = items(Some(list));
        if entries.is_empty() {
            let problem = match &list.node {
                YamlNode::List(_) | YamlNode::Null => {
                    "there are no `instances`: nothing would answer for this address. List \
                     `address` of at least one"
                }
                _ => "`instances` has to be a list, whose entries begin with `- address:`",
            };
            self.fault(list.line, problem);
            return None;
        }
        let mut found: Vec<(OnionAddress, Option<String>, usize)> = Vec::new();
        let mut notes = Vec::new();
        let faults = self.faults.len();
        for entry in entries {
            let YamlNode::Map(pairs) = &entry.node else {
                self.fault(entry.line, "an instance has to be a map with `address`");
                continue;
            };
            let (mut own, mut name) = (None, None);
            for Pair { line, key, value } in pairs {
                match key.as_str() {
                    "address" => own = Some(value),
                    "name" => name = value.text().map(|name| (name, *line)),
                    key => notes.push(Note::new(
                        &self.place(*line),
                        LineFate::NoEquivalent,
                        format!("`{key}` of an instance is not known here"),
                    )),
                }
            }
            let Some((text, line)) = own.and_then(|own| Some((own.text()?, own.line))) else {
                let problem = match own.map(|own| &own.node) {
                    None | Some(YamlNode::Null) => {
                        "`address` is missing: the instance's own onion address"
                    }
                    Some(_) => "`address` has to be one onion address: the instance's own",
                };
                self.fault(entry.line, problem);
                continue;
            };
            let own = match address(text) {
                Ok(own) => own,
                Err(problem) => {
                    self.fault(line, problem);
                    continue;
                }
            };
            if let Some((_, _, first)) = found.iter().find(|(other, _, _)| *other == own) {
                let text = format!(
                    "this instance is that of line {first} again: it is listed once, and a higher \
                     `weight` would give it more clients"
                );
                notes.push(Note::new(&self.place(entry.line), LineFate::Decided, text));
                continue;
            }
            let name = name.and_then(|(name, line)| {
                let (good, note) = backend_name(name, found.iter().filter_map(|f| f.1.as_deref()));
                notes
                    .extend(note.map(|text| Note::new(&self.place(line), LineFate::Decided, text)));
                good
            });
            found.push((own, name, entry.line));
        }
        (self.faults.len() == faults).then_some((found, notes))
    }
}

fn backend((address, name, _): (OnionAddress, Option<String>, usize)) -> Value {
    match name {
        None => address.to_string().into(),
        Some(name) => {
            let address = ("address".to_owned(), Value::from(address.to_string()));
            Table::from_iter([address, ("name".to_owned(), name.into())]).into()
        }
    }
}

/// The name of a backend in letters that it may have here, if it can have one, and
/// what has changed.
fn backend_name<'n>(
    name: &str,
    mut taken: impl Iterator<Item = &'n str>,
) -> (Option<String>, Option<String>) {
    let letter = |c: char| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') => c,
        _ => '-',
    };
    let good: String = name.chars().map(letter).take(LONGEST_NAME).collect();
    let numbered =
        |prefix| good.strip_prefix(prefix).is_some_and(|rest: &str| rest.parse::<usize>().is_ok());
    if good.is_empty() || numbered("local-") || numbered("remote-") || taken.any(|t| t == good) {
        let text = format!("the name {name:?} is left out: names are unique and not empty");
        return (None, Some(text));
    }
    let changed = (good != name).then(|| {
        format!("the name {name:?} is {good:?} here: names have letters, digits, -, _, .")
    });
    (Some(good), changed)
}
