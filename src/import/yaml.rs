//! A YAML document whose every key and value knows its line: keys that nobody
//! knows have to be named, too.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

use super::check_encoding;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum YamlNode {
    /// Nothing, `null` or `~`.
    Null,
    /// Anything that is neither a list nor a map, as text.
    Scalar(String),
    /// A list.
    List(Vec<YamlItem>),
    /// A map, in the order of the file.
    Map(Vec<Pair>),
}

/// A value and its line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct YamlItem {
    /// From 1.
    pub(super) line: usize,
    /// The value.
    pub(super) node: YamlNode,
}

/// An entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    /// The key's line, from 1.
    pub(super) line: usize,
    /// The key.
    pub(super) key: String,
    /// The value.
    pub(super) value: YamlItem,
}

impl YamlItem {
    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.node {
            YamlNode::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads a document.
///
/// # Errors
///
/// The line, and what is wrong there.
pub(super) fn parse(text: &str) -> Result<YamlItem, (usize, String)> {
    match serde_saphyr::from_str::<Spanned<YamlNode>>(text) {
        Ok(root) => {
            let root = YamlItem { line: line(&root), node: root.value };
            check(&root).map(|()| root)
        }
        Err(error) => {
            let line = error.location().map_or(0, |location| location.line() as usize);
            let error = error.without_snippet();
            let mut problem = match error {
                Error::MultipleDocuments { .. } => "there is more than one document".to_owned(),
                Error::Budget { .. } => "it is larger than any such file should be".to_owned(),
                error => error.to_string(),
            };
            // The line is told apart; what a programmer could do helps no operator.
            for end in [" at line ", ", set DuplicateKeyPolicy"] {
                if let Some(at) = problem.find(end) {
                    problem.truncate(at);
                }
            }
            let tabs = |line: &str| line.trim_start_matches(' ').starts_with('\t');
            if text.lines().skip(line.saturating_sub(2)).take(3).any(tabs) {
                problem.push_str("; YAML is indented by blanks, never by tabs");
            }
            Err((line, problem))
        }
    }
}

/// Finds keys and values in another encoding than UTF-8.
fn check(item: &YamlItem) -> Result<(), (usize, String)> {
    let encoding = |line, what, text| check_encoding(what, text).map_err(|error| (line, error));
    match &item.node {
        YamlNode::Null => Ok(()),
        YamlNode::Scalar(text) => encoding(item.line, "this value", text),
        YamlNode::List(items) => items.iter().try_for_each(check),
        YamlNode::Map(pairs) => pairs.iter().try_for_each(|Pair { line, key, value }| {
            encoding(*line, "this key", key).and_then(|()| check(value))
        }),
    }
}

fn line<T>(spanned: &Spanned<T>) -> usize {
    spanned.referenced.line() as usize
}

impl<'de> Deserialize<'de> for YamlNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = YamlNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Null)
    }

    fn visit_none<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<YamlNode, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<YamlNode>>()? {
            items.push(YamlItem { line: line(&item), node: item.value });
        }
        Ok(YamlNode::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<YamlNode, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<YamlNode>>()?;
            let value = YamlItem { line: line(&value), node: value.value };
            pairs.push(Pair { line: line(&key), key: key.value, value });
        }
        Ok(YamlNode::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_knows_its_line() {
        let YamlNode::Map(pairs) = parse("a: 1\nb:\n  - x: ~\n").unwrap().node else { panic!() };
        assert_eq!((pairs[0].line, pairs[1].line), (1, 2));
        assert_eq!(pairs[0].value.text(), Some("1"));
        let YamlNode::List(items) = &pairs[1].value.node else { panic!() };
        let YamlNode::Map(inner) = &items[0].node else { panic!() };
        assert_eq!((inner[0].line, &inner[0].value.node), (3, &YamlNode::Null));
    }

    #[test]
    fn a_tab_is_named_as_the_cause() {
        let (line, problem) = parse("services:\n\t- key: a\n").unwrap_err();
        assert_eq!(line, 2, "{problem}");
        assert!(problem.contains("never by tabs"), "{problem}");
    }

    #[test]
    fn bombs_and_depth_are_errors() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        assert!(parse(&bomb).is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
