//! The manual page arti.toml(5), made of the configuration that explains every key
//! (`onionbraid config example`): what that says is said here, in the form of a page.

use clap_mangen::roff::{Roff, bold, roman};

use crate::config::EXAMPLE;

/// The file's name among manual pages.
pub(super) const NAME: &str = "arti.toml.5";

/// The page, in roff.
pub(super) fn page() -> String {
    let mut page = Roff::new();
    let version = concat!("onionbraid ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["arti.toml", "5", "", version, ""]);
    page.control("SH", ["NAME"]);
    page.text([roman("arti.toml - configuration of onionbraid")]);
    page.control("SH", ["DESCRIPTION"]);
    let mut lines = ExampleLines::of(EXAMPLE);
    let mut after_code = false;
    while let Some(block) = lines.next_block() {
        if after_code && matches!(block, Block::Verbatim(_)) {
            page.control("sp", []);
        }
        after_code = matches!(block, Block::Verbatim(_));
        match block {
            Block::Section => {}
            Block::Table(name) => {
                page.control("SH", [name]);
            }
            Block::Words(words) => {
                page.control("PP", []);
                page.text([roman(words.join(" "))]);
            }
            Block::Verbatim(code) => {
                page.control("RS", ["4"]);
                page.control("nf", []);
                for line in code {
                    page.text([bold(line)]);
                }
                page.control("fi", []);
                page.control("RE", []);
            }
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("onionbraid"), roman("(1), "), bold("onionbraid-check"), roman("(1), ")]);
    page.text([bold("onionbraid-config-example"), roman("(1)")]);
    page.render()
}

/// A part of the example.
#[derive(Debug, PartialEq, Eq)]
enum Block<'a> {
    /// A line across the page.
    Section,
    /// The header of a table.
    Table(&'a str),
    /// A paragraph of a comment.
    Words(Vec<&'a str>),
    /// Keys as the file has them, or examples within a comment.
    Verbatim(Vec<&'a str>),
}

/// What is left of the example.
struct ExampleLines<'a>(std::iter::Peekable<std::str::Lines<'a>>);

/// What a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineKind {
    Empty,
    Section,
    Table,
    Words,
    Key,
    Example,
}

/// Looks at a line: what it is, and what it says. A key without a default begins with
/// `# ` as words do.
fn look(line: &str) -> (LineKind, &str) {
    let is_key = |text: &str| {
        text.split_once(" = ").is_some_and(|(key, _)| {
            let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            key.chars().all(|c| letter(c) || matches!(c, '_' | '.')) && !key.is_empty()
        })
    };
    match line.strip_prefix('#') {
        None if line.trim().is_empty() => (LineKind::Empty, line),
        None if line.starts_with('[') => (LineKind::Table, line),
        None => (LineKind::Key, line),
        Some(comment) => match comment.strip_prefix(' ') {
            None if comment.is_empty() => (LineKind::Empty, line),
            None => (LineKind::Key, line),
            Some(rule) if rule.starts_with("---") => (LineKind::Section, line),
            Some(text) if text.starts_with("    ") => (LineKind::Example, &text[4..]),
            Some(text) if is_key(text) => (LineKind::Key, line),
            Some(text) => (LineKind::Words, text),
        },
    }
}

impl<'a> ExampleLines<'a> {
    fn of(text: &'a str) -> Self {
        Self(text.lines().peekable())
    }

    /// A text and those of the lines after it that are of its kind.
    fn with_more(&mut self, kind: LineKind, first: &'a str) -> Vec<&'a str> {
        let mut all = vec![first];
        while let Some(line) = self.0.next_if(|line| look(line).0 == kind) {
            all.push(look(line).1);
        }
        all
    }

    /// The next part: lines of one kind that follow each other.
    fn next_block(&mut self) -> Option<Block<'a>> {
        loop {
            let (kind, text) = look(self.0.next()?);
            return Some(match kind {
                LineKind::Empty => continue,
                LineKind::Section => Block::Section,
                LineKind::Table => Block::Table(text),
                LineKind::Words => Block::Words(self.with_more(kind, text)),
                LineKind::Key | LineKind::Example => Block::Verbatim(self.with_more(kind, text)),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_words_and_examples_from_both() {
        let mut lines = ExampleLines::of(
            "# ---------\n# Two lines\n# of words:\n#     [[80]]\n#       [81]\nset = 1\n#\n# More.\n#key = 1\n# other = 2\n\n[a]\nlist = [\n    1,\n]\n",
        );
        let blocks: Vec<_> = std::iter::from_fn(|| lines.next_block()).collect();
        let expected = [
            Block::Section,
            Block::Words(vec!["Two lines", "of words:"]),
            Block::Verbatim(vec!["[[80]]", "  [81]"]),
            Block::Verbatim(vec!["set = 1"]),
            Block::Words(vec!["More."]),
            Block::Verbatim(vec!["#key = 1", "# other = 2"]),
            Block::Table("[a]"),
            Block::Verbatim(vec!["list = [", "    1,", "]"]),
        ];
        assert_eq!(blocks, expected);
    }

    #[test]
    fn the_page_says_all_that_the_example_says() {
        let page = page().replace("\\-", "-").replace("\\'", "'");
        for word in EXAMPLE.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            assert!(page.contains(word), "{word}");
        }
    }
}
