//! Which values stand in the configuration files, and on which line of which
//! file: reads the files, reports what is no TOML, and lays later files over
//! earlier ones.
//!
//! Nothing here knows what a key means.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigReport, Place, whole_file};
use crate::ordinary::at_most;

/// The longest text of a value that an error shows, in characters.
const SHOWN: usize = 100;

/// The longest file, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where its key stands, or for an array's element the element itself;
    /// `None` for the root of all files.
    pub(crate) place: Option<Place>,
    /// The value.
    pub(crate) value: Value,
}

/// A TOML value whose parts know where they stand.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A table.
    Table(Table),
    /// An array.
    Array(Vec<Node>),
    /// A string, number, boolean or date.
    Scalar(toml::Value),
}

/// The entries of a table.
pub(crate) type Table = BTreeMap<String, Node>;

impl Node {
    /// The value without its places.
    pub(crate) fn to_toml(&self) -> toml::Value {
        match &self.value {
            Value::Scalar(value) => value.clone(),
            Value::Array(nodes) => nodes.iter().map(Self::to_toml).collect::<Vec<_>>().into(),
            Value::Table(entries) => table_to_toml(entries).into(),
        }
    }

    /// What TOML calls this kind of value, with its article.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Table(_) => "a table",
            Value::Array(_) => "an array",
            Value::Scalar(toml::Value::String(_)) => "a string",
            Value::Scalar(toml::Value::Integer(_)) => "an integer",
            Value::Scalar(toml::Value::Float(_)) => "a floating-point number",
            Value::Scalar(toml::Value::Boolean(_)) => "a boolean",
            Value::Scalar(_) => "a date or time",
        }
    }
}

/// The value as TOML on one line, cut where it is long.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_toml().to_string().replace('\n', " ");
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{} ...", &text[..end]),
            None => f.write_str(&text),
        }
    }
}

/// The entries of a table without their places.
pub(crate) fn table_to_toml(entries: &Table) -> toml::Table {
    entries.iter().map(|(key, node)| (key.clone(), node.to_toml())).collect()
}

/// Reads the files and lays each over the ones before it.
///
/// A file that cannot be read or is no TOML is reported; the others are
/// returned all the same, so that the caller can decide whether to go on.
/// `named_by` is the variable that names them, if one does.
pub(crate) fn read(files: &[PathBuf], named_by: Option<&str>, report: &mut ConfigReport) -> Table {
    let mut all = Table::new();
    for (order, file) in files.iter().enumerate() {
        match read_text(file) {
            Ok(text) => overlay(&mut all, parse(&text, order, file, report)),
            Err(error) => {
                let denied = error.kind() == io::ErrorKind::PermissionDenied;
                let mut problem = unreadable(file, &error);
                if let Some(variable) = named_by {
                    problem.push_str(&format!(
                        " ({variable} names it, where a colon ends one file and begins another)"
                    ));
                }
                let error = ConfigError::in_file(whole_file(order, file), problem);
                report.error(if denied { error.denied() } else { error });
            }
        }
    }
    all
}

fn read_text(file: &Path) -> io::Result<String> {
    let bytes = at_most(file, LONGEST)?.ok_or(io::ErrorKind::FileTooLarge)?;
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn unreadable(file: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => format!(
            "this is a directory: name the file in it, for instance {}",
            file.join("arti.toml").display()
        ),
        io::ErrorKind::PermissionDenied => "the system does not let this user read it".to_owned(),
        io::ErrorKind::InvalidData => "the file is not UTF-8 text, so it is no TOML".to_owned(),
        io::ErrorKind::FileTooLarge => {
            "the file is longer than 4 MiB: is it the right one?".to_owned()
        }
        _ => format!("it cannot be read: {error}"),
    }
}

/// Reads one file's text; what is no TOML is reported with its line.
pub(crate) fn parse(text: &str, order: usize, file: &Path, report: &mut ConfigReport) -> Table {
    let lines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    let lines = lines.map(|(offset, _)| offset).collect();
    let source = SourceFile { lines, order, file: Arc::from(file) };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = match error.span() {
            Some(span) => source.place(span.start),
            None => whole_file(order, file),
        };
        report.error(ConfigError::in_file(place, format!("no valid TOML: {}", error.message())));
    }
    source.table(document.into_inner(), report)
}

/// Lays the entries of `upper` over those of `lower`: tables are merged, every
/// other value is replaced.
pub(crate) fn overlay(lower: &mut Table, upper: Table) {
    for (key, mut node) in upper {
        if let (Some(Node { value: Value::Table(below), .. }), Value::Table(above)) =
            (lower.get_mut(&key), &mut node.value)
        {
            overlay(below, std::mem::take(above));
        } else {
            lower.insert(key, node);
        }
    }
}

/// One file while it is turned into nodes.
struct SourceFile {
    /// Where its lines end.
    lines: Vec<usize>,
    order: usize,
    file: Arc<Path>,
}

impl SourceFile {
    fn place(&self, offset: usize) -> Place {
        let line = 1 + self.lines.partition_point(|end| *end < offset);
        Place { order: self.order, line: Some(line), file: Arc::clone(&self.file) }
    }

    fn table(&self, table: DeTable<'_>, report: &mut ConfigReport) -> Table {
        let mut entries = Table::new();
        for (key, value) in table {
            let place = self.place(key.span().start);
            let value = self.value(value, &place, report);
            entries.insert(key.into_inner().into_owned(), Node { place: Some(place), value });
        }
        entries
    }

    fn value(
        &self,
        value: Spanned<DeValue<'_>>,
        place: &Place,
        report: &mut ConfigReport,
    ) -> Value {
        let scalar = match value.into_inner() {
            DeValue::Table(table) => return Value::Table(self.table(table, report)),
            DeValue::Array(array) => {
                let nodes = array.into_iter().map(|element| {
                    let place = self.place(element.span().start);
                    let value = self.value(element, &place, report);
                    Node { place: Some(place), value }
                });
                return Value::Array(nodes.collect());
            }
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => toml::Value::Integer(number),
                    Err(_) => {
                        let problem = format!("the number {number} is too large");
                        report.error(ConfigError::in_file(place.clone(), problem));
                        toml::Value::Integer(0)
                    }
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => toml::Value::Float(number),
                Err(_) => {
                    let problem = format!("{number} is no number");
                    report.error(ConfigError::in_file(place.clone(), problem));
                    toml::Value::Float(0.0)
                }
            },
            DeValue::String(text) => toml::Value::String(text.into_owned()),
            DeValue::Boolean(value) => toml::Value::Boolean(value),
            DeValue::Datetime(value) => toml::Value::Datetime(value),
        };
        Value::Scalar(scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Table {
        let mut report = ConfigReport::default();
        let table = parse(text, 0, Path::new("a.toml"), &mut report);
        assert!(report.finish().is_ok());
        table
    }

    #[test]
    fn a_later_file_replaces_values_and_merges_tables() {
        let mut all = parsed("[a]\nx = 1\nlist = [1, 2]\n[a.b]\ny = 1\n");
        overlay(&mut all, parsed("[a]\nx = 2\nlist = [3]\n[a.b]\nz = 3\n"));
        let expected: toml::Table =
            toml::from_str("a = { x = 2, list = [3], b = { y = 1, z = 3 } }").unwrap();
        assert_eq!(table_to_toml(&all), expected);
    }

    #[test]
    fn every_value_knows_its_line() {
        let all = parsed("# first\n[a.\"b\"]\nx = [\n  1,\n  2,\n]\n");
        let Value::Table(a) = &all["a"].value else { panic!("a is a table") };
        let Value::Table(b) = &a["b"].value else { panic!("b is a table") };
        let Value::Array(x) = &b["x"].value else { panic!("x is an array") };
        let line = |node: &Node| node.place.as_ref().unwrap().line;
        assert_eq!((line(&a["b"]), line(&b["x"]), line(&x[1])), (Some(2), Some(3), Some(5)));
    }

    #[test]
    fn all_syntax_errors_of_a_file_are_reported() {
        let mut report = ConfigReport::default();
        parse("a = \nb = 1\nc = [1,\n", 0, Path::new("a.toml"), &mut report);
        assert!(report.finish().unwrap_err().0.len() >= 2);
    }

    #[test]
    fn a_long_value_is_cut() {
        let node = Node { place: None, value: Value::Scalar("x".repeat(500).into()) };
        assert!(node.to_string().len() < 120);
    }
}
