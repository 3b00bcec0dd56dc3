//! What does Arti read of the bridges of a torrc?

use toml::Value;

use super::base::Base;
use super::lines::Line;
use crate::import::draft::{DraftLine, path_value};
use crate::import::{Fault, ImportFiles, LineFate, Note};

/// The bridges and the programs that reach them.
#[derive(Debug, Default)]
pub(super) struct Bridges {
    used: Option<bool>,
    bridges: Vec<Line>,
    transports: Vec<Vec<DraftLine>>,
}

impl Bridges {
    /// Takes a setting, if it is about bridges.
    pub(super) fn takes(
        &mut self,
        line: &Line,
        base: &Base,
        files: &impl ImportFiles,
        faults: &mut Vec<Fault>,
    ) -> bool {
        match line.key.as_str() {
            "usebridges" => self.used = Some(line.value != "0"),
            "bridge" => self.bridges.push(line.clone()),
            "clienttransportplugin" => match transport(line, base, files) {
                Ok(transport) => self.transports.push(transport),
                Err(fault) => faults.push(fault),
            },
            _ => return false,
        }
        true
    }

    /// Arti's tables.
    pub(super) fn tables(self) -> Vec<(&'static str, Vec<DraftLine>)> {
        if self.bridges.is_empty() {
            return Vec::new();
        }
        let mut entries = Vec::new();
        let used = self.used.unwrap_or(false);
        if let (false, Some(first)) = (used, self.bridges.first()) {
            let text = "the bridges are not in use, since UseBridges is not 1: `enabled = true` \
                        would use them";
            entries.push(DraftLine::Note(Note::new(&first.place, LineFate::Decided, text)));
        }
        entries.push(DraftLine::Key("enabled", used.into()));
        let lines = self.bridges.into_iter().map(|line| Value::from(line.value));
        entries.push(DraftLine::List("bridges", lines.collect()));
        let transports = self.transports.into_iter();
        let transports = transports.map(|entries| ("[[bridges.transports]]", entries));
        std::iter::once(("[bridges]", entries)).chain(transports).collect()
    }
}

/// One pluggable transport: `NAMES exec PROGRAM ARGUMENTS` or `NAMES socks5 ADDRESS`.
fn transport(line: &Line, base: &Base, files: &impl ImportFiles) -> Result<Vec<DraftLine>, Fault> {
    let fault = |problem: String| Fault::new(&line.place, problem);
    let mut words = line.value.split_whitespace();
    let (names, kind, target) = (words.next(), words.next(), words.next());
    let (Some(names), Some(kind), Some(target)) = (names, kind, target) else {
        let problem = "this has to be NAMES exec PROGRAM, or NAMES socks5 ADDRESS:PORT";
        return Err(fault(problem.to_owned()));
    };
    let protocols = names.split(',').map(Value::from).collect::<Vec<_>>();
    let mut entries = vec![DraftLine::Key("protocols", protocols.into())];
    match kind {
        "exec" => {
            let (path, note) = base.whole(target, target, &line.place, files)?;
            entries.extend(note.map(DraftLine::Note));
            entries.push(DraftLine::Key("path", path_value(&path)));
            let arguments: Vec<Value> = words.map(Value::from).collect();
            if !arguments.is_empty() {
                entries.push(DraftLine::Key("arguments", arguments.into()));
            }
        }
        "socks5" => entries.push(DraftLine::Key("proxy_addr", target.into())),
        "socks4" => {
            let text = "Arti speaks SOCKS 5 to transports, this line has SOCKS 4: does the program \
                        take both?";
            entries.push(DraftLine::Note(Note::new(&line.place, LineFate::Decided, text)));
            entries.push(DraftLine::Key("proxy_addr", target.into()));
        }
        other => {
            return Err(fault(format!("{other} is no kind of transport: it is exec or socks5")));
        }
    }
    Ok(entries)
}
