//! Which settings does a torrc have, with the files that it includes?
//!
//! The syntax is C tor's: a key and a value a line, `#` begins a comment, a
//! backslash at the end continues the line, a value in double quotes has the
//! escapes of C.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::import::{
    Fault, Faults, ImportFiles, LineFate, Note, SourcePlace, Unreadable, check_encoding,
    directory_of, resolve, without_bom,
};

/// How deep files may include each other, as in C tor.
const DEEPEST: usize = 31;

/// The most files that are read: those that include each other twice grow fast.
const MOST_FILES: usize = 1000;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::import) struct Line {
    /// Where it begins.
    pub(in crate::import) place: SourcePlace,
    /// The key in lower case, without `+` or `/` before it.
    pub(in crate::import) key: String,
    /// The key as it is written.
    pub(in crate::import) name: String,
    /// The value, without quotes and comments.
    pub(in crate::import) value: String,
}

impl Line {
    /// Refuses a setting in another encoding than UTF-8.
    pub(super) fn check_encoding(&self) -> Result<(), Fault> {
        let name = check_encoding("the name of this setting", &self.name);
        name.and_then(|()| check_encoding(&format!("the value of {}", self.name), &self.value))
            .map_err(|problem| Fault::new(&self.place, problem))
    }
}

/// Reads a file and what it includes.
pub(super) fn read(
    file: &Path,
    files: &impl ImportFiles,
    notes: &mut Vec<Note>,
) -> Result<Vec<Line>, Faults> {
    let place = SourcePlace { file: file.to_owned(), line: 0 };
    let mut reader = TorrcReader { files, notes, lines: Vec::new(), faults: Vec::new(), read: 0 };
    match files.text(file) {
        Ok(Some(text)) => reader.add(file, &text, 0),
        Ok(None) => reader.faults.push(Fault::new(&place, "there is no such file")),
        Err(error) => reader.faults.push(Fault::unreadable(&place, error)),
    }
    // A file that is included twice is wrong twice.
    reader.faults.dedup();
    if reader.faults.is_empty() { Ok(reader.lines) } else { Err(Faults(reader.faults)) }
}

/// One pass through a file and what it includes.
struct TorrcReader<'r, F> {
    files: &'r F,
    notes: &'r mut Vec<Note>,
    lines: Vec<Line>,
    faults: Vec<Fault>,
    /// Files so far.
    read: usize,
}

impl<F: ImportFiles> TorrcReader<'_, F> {
    /// Adds the settings of one text, those of other files in the place of
    /// `%include`.
    fn add(&mut self, file: &Path, text: &str, depth: usize) {
        self.read += 1;
        let parsed = match parse(text, file) {
            Ok(parsed) => parsed,
            Err(fault) => return self.faults.push(fault),
        };
        for line in parsed {
            if let Err(fault) = line.check_encoding() {
                self.faults.push(fault);
            } else if line.key != "%include" {
                self.lines.push(line);
            } else if depth >= DEEPEST || self.read >= MOST_FILES {
                let problem = format!(
                    "more than {DEEPEST} files include each other, or more than {MOST_FILES} are \
                     included: as if in a ring"
                );
                return self.faults.push(Fault::new(&line.place, problem));
            } else {
                self.include(file, &line, depth + 1);
            }
        }
    }

    fn include(&mut self, file: &Path, line: &Line, depth: usize) {
        let pattern = resolve(&line.value, directory_of(file), self.files);
        if Path::new(&line.value).is_relative() {
            let text = format!(
                "%include {} is a relative path: it begins at the directory of this file here, for \
                 tor at its working directory",
                line.value
            );
            self.notes.push(Note::new(&line.place, LineFate::Decided, text));
        }
        let found = match matching(&pattern, self.files) {
            Ok(found) => found,
            Err(error) => return self.faults.push(Fault::unreadable(&line.place, error)),
        };
        // A pattern may match nothing, a plain name must be there.
        if found.is_empty() && !line.value.contains(['*', '?']) {
            let problem = format!("{} is not there: tor would refuse this file", pattern.display());
            self.faults.push(Fault::new(&line.place, problem));
        }
        for path in found {
            if self.read >= MOST_FILES {
                let problem = format!("more than {MOST_FILES} files are included");
                return self.faults.push(Fault::new(&line.place, problem));
            }
            match self.files.text(&path) {
                Ok(Some(text)) => self.add(&path, &text, depth),
                Ok(None) => {}
                Err(error) => self.faults.push(Fault::unreadable(&line.place, error)),
            }
        }
    }
}

/// The files that an `%include` names: those that match it, and of directories the
/// files in them, without those that begin with a dot.
fn matching(pattern: &Path, files: &impl ImportFiles) -> Result<Vec<PathBuf>, Unreadable> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str();
        let part = name.to_string_lossy();
        let mut next = Vec::new();
        for base in found {
            if !part.contains(['*', '?']) {
                next.push(base.join(name));
                continue;
            }
            let names = files.list(&base)?.unwrap_or_default();
            let fits = |name: &&OsString| {
                (!is_hidden(name) || part.starts_with('.'))
                    && wildcard(&part, &name.to_string_lossy())
            };
            next.extend(names.iter().filter(fits).map(|name| base.join(name)));
        }
        found = next;
    }
    let mut all = Vec::new();
    for path in found {
        match files.list(&path)? {
            Some(names) => {
                let names = names.iter().filter(|name| !is_hidden(name));
                let inside = names.map(|name| path.join(name));
                for path in inside {
                    if files.list(&path)?.is_none() {
                        all.push(path);
                    }
                }
            }
            None if files.text(&path)?.is_some() => all.push(path),
            None => {}
        }
    }
    Ok(all)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a name fits a pattern with `*` and `?`.
fn wildcard(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // Which prefixes of the name the pattern so far fits.
    let mut fits: Vec<bool> = (0..=name.len()).map(|length| length == 0).collect();
    for wanted in pattern {
        let before = fits.clone();
        for length in 0..=name.len() {
            let shorter = length.checked_sub(1);
            fits[length] = match wanted {
                '*' => before[length] || shorter.is_some_and(|shorter| fits[shorter]),
                wanted => shorter.is_some_and(|shorter| {
                    before[shorter] && (wanted == '?' || name[shorter] == wanted)
                }),
            };
        }
    }
    fits[name.len()]
}

/// The settings of one text.
pub(in crate::import) fn parse(text: &str, file: &Path) -> Result<Vec<Line>, Fault> {
    let mut lines = Vec::new();
    let mut physical = without_bom(text).lines().enumerate();
    while let Some((index, first)) = physical.next() {
        let place = SourcePlace { file: file.to_owned(), line: index + 1 };
        let first = first.trim();
        if first.is_empty() || first.starts_with('#') {
            continue;
        }
        if first.contains('\0') {
            return Err(Fault::new(&place, "there is a NUL in it: this is no text"));
        }
        let (name, rest) = first.split_once(char::is_whitespace).unwrap_or((first, ""));
        let mut rest = rest.trim_start().to_owned();
        let value = if rest.starts_with('"') {
            quoted(&rest).map_err(|problem| Fault::new(&place, problem))?
        } else {
            while let (None, Some(begin)) = (rest.find('#'), rest.strip_suffix('\\')) {
                let mut value = begin.to_owned();
                // Comments between the parts count for nothing.
                let next = physical.find(|(_, line)| !line.trim_start().starts_with('#'));
                let Some((_, next)) = next else {
                    return Err(Fault::new(&place, "the file ends behind a backslash"));
                };
                value.push_str(next.trim_end());
                rest = value;
            }
            rest.split('#').next().unwrap_or_default().trim().to_owned()
        };
        let name = name.trim_start_matches(['+', '/']).to_owned();
        lines.push(Line { place, key: name.to_ascii_lowercase(), name, value });
    }
    Ok(lines)
}

/// A text in double quotes with the escapes of C; behind it may be a comment.
pub(super) fn quoted(text: &str) -> Result<String, String> {
    const OPEN: &str = "the quote is not closed";
    let mut bytes = Vec::new();
    let mut rest = text.strip_prefix('"').ok_or(OPEN)?.bytes();
    loop {
        match rest.next().ok_or(OPEN)? {
            b'"' => break,
            b'\\' => bytes.push(escape(&mut rest)?),
            byte => bytes.push(byte),
        }
    }
    let behind: Vec<u8> = rest.collect();
    let behind = String::from_utf8_lossy(&behind).trim().to_owned();
    if !behind.is_empty() && !behind.starts_with('#') {
        return Err(format!("there is more behind the closing quote: {behind}"));
    }
    let value = String::from_utf8(bytes).map_err(|_| "the quoted text is not UTF-8".to_owned())?;
    match value.contains('\0') {
        true => Err("there is a NUL in the quoted text".to_owned()),
        false => Ok(value),
    }
}

/// The byte that stands for what is behind a backslash.
fn escape(rest: &mut std::str::Bytes<'_>) -> Result<u8, String> {
    let digit = |byte: Option<u8>, radix| {
        byte.and_then(|byte| char::from(byte).to_digit(radix))
            .ok_or_else(|| "a \\ has wrong digits behind it".to_owned())
    };
    Ok(match rest.next().unwrap_or(b' ') {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'x' => {
            let value = digit(rest.next(), 16)? * 16 + digit(rest.next(), 16)?;
            u8::try_from(value).unwrap_or_default()
        }
        first @ b'0'..=b'7' => {
            let value = digit(Some(first), 8)? * 64 + digit(rest.next(), 8)? * 8;
            let value = value + digit(rest.next(), 8)?;
            u8::try_from(value).map_err(|_| "an octal escape is above 377".to_owned())?
        }
        byte @ (b'"' | b'\\' | b'\'') => byte,
        byte => return Err(format!("\\{} is no escape of C", char::from(byte))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Vec<(String, String, usize)> {
        let lines = parse(text, Path::new("torrc")).unwrap();
        lines.into_iter().map(|line| (line.key, line.value, line.place.line)).collect()
    }

    fn one(key: &str, value: &str, line: usize) -> (String, String, usize) {
        (key.to_owned(), value.to_owned(), line)
    }

    #[test]
    fn the_syntax_is_that_of_c_tor() {
        let text = "\u{feff}# a comment\r\n  SOCKSPort 0 # another\r\n\r\nLog \"a # b\\\"\\x41\\101\" # c\n\
                    +Bridge obfs4 \\\n# between\n  1.2.3.4:5 \\\n cert=x\nUseBridges\t1";
        assert_eq!(
            settings(text),
            [
                one("socksport", "0", 2),
                one("log", "a # b\"AA", 4),
                one("bridge", "obfs4   1.2.3.4:5  cert=x", 5),
                one("usebridges", "1", 9),
            ]
        );
    }

    #[test]
    fn what_is_no_torrc_is_refused_with_its_line() {
        for (wrong, line) in [
            ("A 1\nB \"open", 2),
            ("A \"x\" y", 1),
            ("A \"\\q\"", 1),
            ("A \"\\400\"", 1),
            ("A \"\\000\"", 1),
            ("A b \\", 1),
            ("A \0", 1),
        ] {
            assert_eq!(parse(wrong, Path::new("t")).unwrap_err().place.line, line, "{wrong:?}");
        }
    }

    #[test]
    fn wildcards_are_any_characters_and_any_one() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("*.conf", "a.conf", true),
            ("*.conf", "a.confx", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxb", true),
            ("ab", "abc", false),
        ] {
            assert_eq!(wildcard(pattern, name), fits, "{pattern} {name}");
        }
    }
}
