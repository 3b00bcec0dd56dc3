//! How one of our own tables is read: typed access to its keys, each error
//! with the full key path, and at the end every key that nobody asked for is
//! an error.
//!
//! The files beside this one use it; it knows no key by name.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::document::{Node, Table, Value};
use super::error::{ConfigError, ConfigReport, KeyPath, Place};

/// A table that is being read. Keys count as known once they were asked for.
pub(crate) struct TableReader<'a> {
    entries: &'a Table,
    path: KeyPath,
    asked: Vec<&'static str>,
    unlisted: Vec<&'static str>,
}

impl<'a> TableReader<'a> {
    /// Reads the entries of the table at `path`.
    pub(crate) fn new(entries: &'a Table, path: KeyPath) -> Self {
        Self { entries, path, asked: Vec::new(), unlisted: Vec::new() }
    }

    /// The value of a key, if the table has it.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<TableItem<'a>> {
        self.asked.push(key);
        self.entry(key)
    }

    /// The same for a key that is known and not offered: refused or of no use.
    pub(crate) fn get_unlisted(&mut self, key: &'static str) -> Option<TableItem<'a>> {
        self.unlisted.push(key);
        self.entry(key)
    }

    fn entry(&self, key: &str) -> Option<TableItem<'a>> {
        let node = self.entries.get(key)?;
        Some(TableItem { node, path: self.path.key(key) })
    }

    /// Reports every key that nobody asked for, with the nearest known one.
    pub(crate) fn finish(self, report: &mut ConfigReport) {
        for (key, node) in self.entries {
            let known = |keys: &[&str]| keys.contains(&key.as_str());
            if !known(&self.asked) && !known(&self.unlisted) {
                let problem = unknown("key", key, self.asked.iter().copied());
                let key = self.path.key(key);
                report.error(ConfigError::at_key(node.place.clone(), key, problem));
            }
        }
    }
}

/// The text of an error about an unknown name among known ones.
pub(crate) fn unknown<'k>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("there is no such {what}: did you mean `{near}`?");
    }
    let mut all: Vec<&str> = known.collect();
    all.sort_unstable();
    match all.as_slice() {
        [] => format!("there is no such {what}"),
        [one] => format!("there is no such {what}, only `{one}`"),
        all => format!("there is no such {what}; there are {}", all.join(", ")),
    }
}

/// The known name that `name` was probably meant to be.
pub(crate) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A value together with its key path.
#[derive(Clone)]
pub(crate) struct TableItem<'a> {
    /// The value.
    pub(crate) node: &'a Node,
    /// Its key.
    pub(crate) path: KeyPath,
}

impl<'a> TableItem<'a> {
    /// Where it stands.
    pub(crate) fn place(&self) -> Option<Place> {
        self.node.place.clone()
    }

    /// A path that begins at the directory of the file that names it.
    pub(crate) fn beside_its_file(&self, path: &Path) -> PathBuf {
        let place = self.place();
        let directory = place.as_ref().and_then(|place| place.file.parent());
        directory.unwrap_or(Path::new("")).join(path)
    }

    /// Reports that the value is wrong; `right` says why and what would be right.
    pub(crate) fn wrong(&self, right: impl Display, report: &mut ConfigReport) {
        let error = ConfigError::at_key(self.place(), self.path.clone(), right.to_string());
        report.error(match self.node.value {
            Value::Table(_) => error,
            _ => error.with_value(self.node.to_string()),
        });
    }

    /// The same without showing the value: it may hold a secret.
    pub(crate) fn wrong_secret(&self, right: impl Display, report: &mut ConfigReport) {
        report.error(ConfigError::at_key(self.place(), self.path.clone(), right.to_string()));
    }

    fn wrong_kind(&self, wanted: &str, report: &mut ConfigReport) {
        self.wrong(format!("this must be {wanted}, not {}", self.node.kind()), report);
    }

    /// The value as text.
    pub(crate) fn text(&self, wanted: &str, report: &mut ConfigReport) -> Option<&'a str> {
        let text = self.as_text();
        if text.is_none() {
            self.wrong_kind(wanted, report);
        }
        text
    }

    /// The value, if it is text.
    pub(crate) fn as_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(toml::Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The value as a boolean.
    pub(crate) fn boolean(&self, report: &mut ConfigReport) -> Option<bool> {
        match &self.node.value {
            Value::Scalar(toml::Value::Boolean(value)) => Some(*value),
            _ => {
                self.wrong_kind("true or false", report);
                None
            }
        }
    }

    /// The value as an integer within a range.
    pub(crate) fn integer<N>(
        &self,
        range: RangeInclusive<N>,
        report: &mut ConfigReport,
    ) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + Display,
    {
        let wanted = format!("an integer from {} to {}", range.start(), range.end());
        let Value::Scalar(toml::Value::Integer(number)) = &self.node.value else {
            self.wrong_kind(&wanted, report);
            return None;
        };
        let number = N::try_from(*number).ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(format!("this must be {wanted}"), report);
        }
        number
    }

    /// The elements of the value, which must be an array.
    pub(crate) fn array(
        &self,
        wanted: &str,
        report: &mut ConfigReport,
    ) -> Option<Vec<TableItem<'a>>> {
        let Value::Array(nodes) = &self.node.value else {
            self.wrong_kind(wanted, report);
            return None;
        };
        let element = |(index, node)| TableItem { node, path: self.path.index(index) };
        Some(nodes.iter().enumerate().map(element).collect())
    }

    /// The entries of the value, which must be a table whose keys the operator
    /// chooses.
    pub(crate) fn entries(
        &self,
        report: &mut ConfigReport,
    ) -> Option<Vec<(&'a str, TableItem<'a>)>> {
        let Value::Table(entries) = &self.node.value else {
            self.wrong_kind("a table", report);
            return None;
        };
        let entry = |(key, node): (&'a String, _)| {
            (key.as_str(), TableItem { node, path: self.path.key(key) })
        };
        Some(entries.iter().map(entry).collect())
    }

    /// Whether the value is `false`: of a key that can be switched off.
    pub(crate) fn is_false(&self) -> bool {
        matches!(self.node.value, Value::Scalar(toml::Value::Boolean(false)))
    }

    /// The value of a key that `false` switches off, read by `read`.
    pub(crate) fn unless_false<T>(
        &self,
        report: &mut ConfigReport,
        read: impl FnOnce(&Self, &mut ConfigReport) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.node.value {
            _ if self.is_false() => Some(None),
            Value::Scalar(toml::Value::Boolean(true)) => {
                self.wrong("`true` does not say what: give a value, or false for none", report);
                None
            }
            _ => read(self, report).map(Some),
        }
    }

    /// The value as one of a few words.
    pub(crate) fn word<T: Copy>(
        &self,
        words: &[(&str, T)],
        report: &mut ConfigReport,
    ) -> Option<T> {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let wanted = match quoted.as_slice() {
            [first, last] => format!("{first} or {last}"),
            all => format!("one of {}", all.join(", ")),
        };
        let text = self.text(&wanted, report)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            self.wrong(format!("this must be {wanted}"), report);
        }
        found
    }

    /// A reader of the value, which must be a table.
    pub(crate) fn table(&self, report: &mut ConfigReport) -> Option<TableReader<'a>> {
        let Value::Table(entries) = &self.node.value else {
            self.wrong_kind("a table", report);
            return None;
        };
        Some(TableReader::new(entries, self.path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_key_is_suggested_only_when_it_is_near() {
        let known = || ["proxy_ports", "backends", "enabled"].into_iter();
        assert_eq!(nearest("proxy_port", known()), Some("proxy_ports"));
        assert_eq!(nearest("bakcends", known()), Some("backends"));
        assert_eq!(nearest("colour", known()), None);
    }
}
