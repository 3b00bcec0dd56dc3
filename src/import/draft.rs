//! How is the result of an import written as an arti.toml?
//!
//! Values and notes in, text out. What had no equivalent is a comment where it
//! would have had its place.

use std::fmt::Write as _;
use std::path::PathBuf;

use toml::{Table, Value};

use super::{Fault, LineFate, Note, SourcePlace};
use onionbraid_balancer::onion::OnionAddress;

/// The longest line of a comment, in characters.
const WIDTH: usize = 80;

/// A line of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum DraftLine {
    /// A key and its value.
    Key(&'static str, Value),
    /// A key and a list, an element a line.
    List(&'static str, Vec<Value>),
    /// What became of a line of the old configuration.
    Note(Note),
    /// An explanation.
    Comment(String),
}

/// An onion service as it will run.
#[derive(Debug, Clone, PartialEq)]
pub struct DraftService {
    /// The nickname that it gets.
    pub nickname: String,
    /// Where it was in the old configuration.
    pub place: SourcePlace,
    /// Where its key lies.
    pub key: PathBuf,
    /// The address, computed from the key.
    pub address: OnionAddress,
    /// The keys of its table, without `identity_key`.
    pub entries: Vec<DraftLine>,
    /// The keys of its table `http`.
    pub http: Vec<DraftLine>,
}

impl DraftService {
    /// Whether it runs as it is written.
    pub fn is_enabled(&self) -> bool {
        !self.entries.contains(&DraftLine::Key("enabled", false.into()))
    }
}

/// Why there is nothing to run, if no service is enabled.
pub(super) fn none_enabled(services: &[DraftService]) -> Option<Fault> {
    let first = services.first().filter(|_| !services.iter().any(DraftService::is_enabled))?;
    let notes = first.entries.iter().filter_map(|entry| match entry {
        DraftLine::Note(note) if note.kind == LineFate::Warning => Some(note.text.as_str()),
        _ => None,
    });
    let reasons: Vec<&str> = notes.collect();
    let problem = format!(
        "none of the services could be enabled here, so there is nothing to run: {}",
        reasons.join("; ")
    );
    Some(Fault::new(&first.place, problem))
}

/// A path as Arti reads it: what it would expand is marked as meant literally.
pub(super) fn path_value(path: &str) -> Value {
    match path.contains('$') || path.starts_with('~') {
        false => path.into(),
        true => Table::from_iter([("literal".to_owned(), path.into())]).into(),
    }
}

/// Everything that goes into the new file.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What the file was made from, as the first comment says.
    pub source: String,
    /// What concerns no service alone.
    pub general: Vec<Note>,
    /// The services, in the order of the old configuration.
    pub services: Vec<DraftService>,
    /// Tables of Arti's, with their headers.
    pub tables: Vec<(&'static str, Vec<DraftLine>)>,
}

impl Draft {
    /// Every note, in the order of the new file.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        let services = self.services.iter().flat_map(|s| s.entries.iter().chain(&s.http));
        let entries = services.chain(self.tables.iter().flat_map(|(_, entries)| entries));
        let notes = entries.filter_map(|entry| match entry {
            DraftLine::Note(note) => Some(note),
            _ => None,
        });
        self.general.iter().chain(notes)
    }

    /// Where what stands in a line of that text, from 1, was in the old configuration.
    pub fn place_of(&self, text: &str, line: usize) -> Option<&SourcePlace> {
        let above: Vec<&str> = text.lines().take(line).collect();
        let header = above.iter().rev().find(|line| line.starts_with('['))?;
        let name = header.strip_prefix("[onion_services.\"")?.split('"').next()?;
        self.services.iter().find(|it| it.nickname == name).map(|service| &service.place)
    }

    /// The text of the new file, where `key` says which path each service's
    /// `identity_key` has there.
    pub fn to_text(&self, key: impl Fn(&DraftService) -> String) -> String {
        let mut text = String::new();
        let head = format!(
            "Made by `onionbraid import` from {}. Look it over, then: onionbraid check -c FILE",
            self.source
        );
        comment(&mut text, &head);
        for note in &self.general {
            comment(&mut text, &note.to_string());
        }
        for service in &self.services {
            let nickname = &service.nickname;
            text.push('\n');
            comment(&mut text, &format!("{}, from {}", service.address, service.place));
            let _ = writeln!(text, "[onion_services.\"{nickname}\"]");
            entry(&mut text, &DraftLine::Key("identity_key", path_value(&key(service))));
            for line in &service.entries {
                entry(&mut text, line);
            }
            if !service.http.is_empty() {
                let _ = writeln!(text, "\n[onion_services.\"{nickname}\".http]");
            }
            for line in &service.http {
                entry(&mut text, line);
            }
        }
        for (header, entries) in &self.tables {
            let _ = writeln!(text, "\n{header}");
            for line in entries {
                entry(&mut text, line);
            }
        }
        text
    }
}

fn entry(text: &mut String, entry: &DraftLine) {
    // Writing to a string cannot fail.
    let _ = match entry {
        DraftLine::Key(key, value) => writeln!(text, "{key} = {value}"),
        DraftLine::List(key, values) if values.len() < 2 => {
            writeln!(text, "{key} = {}", Value::from(values.clone()))
        }
        DraftLine::List(key, values) => {
            let _ = writeln!(text, "{key} = [");
            for value in values {
                let _ = writeln!(text, "    {value},");
            }
            writeln!(text, "]")
        }
        DraftLine::Note(note) => {
            comment(text, &note.to_string());
            Ok(())
        }
        DraftLine::Comment(line) => {
            comment(text, line);
            Ok(())
        }
    };
}

/// Writes a comment, broken between words. Whatever the old file held, no line
/// begins outside of it.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty())
    {
        if line.len() > 3 && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#  ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_note_can_break_out_of_its_comment() {
        let mut text = String::new();
        comment(&mut text, "a\nb = 1\r\u{85}\u{2028}c\u{0}d");
        assert_eq!(text, "# a b = 1 c d\n");
        let long = "word ".repeat(40);
        text.clear();
        comment(&mut text, &long);
        assert!(text.lines().all(|line| line.starts_with('#') && line.len() <= WIDTH), "{text}");
    }
}
