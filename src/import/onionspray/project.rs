//! Which maps and settings does a project's file have?

use std::collections::BTreeMap;
use std::path::Path;

use crate::import::{Fault, SourcePlace, check_encoding, without_bom};

/// Who answers for a mapped address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapKind {
    /// One tor.
    Hard,
    /// Workers behind Onionbalance.
    Soft,
    /// Somebody else: only names are translated.
    Foreign,
}

/// An address and the public site that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) place: SourcePlace,
    pub(super) kind: MapKind,
    /// As it is written.
    pub(super) onion: String,
    pub(super) domain: String,
    pub(super) subdomains: Vec<String>,
    /// The project that `set project` named before.
    pub(super) project: String,
}

/// A setting: its value, and where it is.
pub(super) type Setting = (String, SourcePlace);

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Project {
    pub(super) maps: Vec<Map>,
    /// By their names in lower case; the last of each counts.
    pub(super) settings: BTreeMap<String, Setting>,
}

/// Whether a file was meant to have maps.
pub(super) fn has_maps(text: &str) -> bool {
    let is_map = |line: &str| line.starts_with("hardmap") || line.starts_with("softmap");
    without_bom(text).lines().map(str::trim_start).any(is_map)
}

/// Reads a `.conf`.
pub(super) fn parse(text: &str, file: &Path) -> Result<Project, Fault> {
    let mut project = Project::default();
    let mut name = "default".to_owned();
    for (number, line) in joined(text, file)? {
        let place = SourcePlace { file: file.to_owned(), line: number };
        let mut words = line.split_whitespace();
        let Some(command) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        check_encoding("this line", &line).map_err(|problem| Fault::new(&place, problem))?;
        let mut word = |what| {
            words
                .next()
                .map(str::to_owned)
                .ok_or_else(|| Fault::new(&place, format!("{command} has no {what}")))
        };
        let kind = match command {
            "set" => {
                let key = word("name of a setting")?.to_ascii_lowercase();
                let value = words.collect::<Vec<_>>().join(" ");
                if key == "project" {
                    name.clone_from(&value);
                }
                project.settings.insert(key, (value, place));
                continue;
            }
            "hardmap" => MapKind::Hard,
            "softmap" => MapKind::Soft,
            "foreignmap" => MapKind::Foreign,
            other => {
                let problem = format!(
                    "{other:?} is none of set, hardmap, softmap and foreignmap: is this the .conf \
                     of a project?"
                );
                return Err(Fault::new(&place, problem));
            }
        };
        let (onion, domain) = (word("onion address")?, word("domain")?);
        if onion.contains('%') {
            let problem = format!(
                "{onion} is a place for an address that is made later: import the .conf that \
                 `onionspray config` writes, not the .tconf"
            );
            return Err(Fault::new(&place, problem));
        }
        let onion = onion.rsplit('/').next().unwrap_or_default();
        let onion = onion.trim_end_matches(".key").trim_end_matches(".pem").to_owned();
        let domain = domain.to_ascii_lowercase();
        let subdomains = words.map(str::to_owned).collect();
        project.maps.push(Map { place, kind, onion, domain, subdomains, project: name.clone() });
    }
    Ok(project)
}

/// Lines with their numbers, those joined that end in an odd number of backslashes.
fn joined(text: &str, file: &Path) -> Result<Vec<(usize, String)>, Fault> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in without_bom(text).lines().enumerate() {
        let line = line.trim_end();
        let goes_on = line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        let part = if goes_on { line.strip_suffix('\\').unwrap_or(line) } else { line };
        match lines.last_mut().filter(|_| open) {
            Some((_, begun)) => {
                begun.push(' ');
                begun.push_str(part.trim());
            }
            None => lines.push((index + 1, part.trim().to_owned())),
        }
        open = goes_on;
    }
    match lines.last().filter(|_| open) {
        Some((line, _)) => {
            let place = SourcePlace { file: file.to_owned(), line: *line };
            Err(Fault::new(&place, "the file ends behind a backslash"))
        }
        None => Ok(lines),
    }
}
