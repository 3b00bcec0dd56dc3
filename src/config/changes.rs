//! What differs between two configurations, key by key, as a reload tells it.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::difference::Difference;
use super::units::path;
use super::{Config, RemoteBackend, ServiceConfig};

/// So many characters of a value are shown.
const SHOWN: usize = 60;

impl Config {
    /// The keys whose values differ in `other`, with their values before and after.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let mut all = Vec::new();
        in_table("", &self.to_toml(), &other.to_toml(), &mut all);
        for after in &other.services {
            let nickname = &after.nickname;
            let same = |it: &&ServiceConfig| it.nickname == *nickname;
            let Some(before) = self.services.iter().find(same) else { continue };
            let listed = |it: &ServiceConfig| -> Vec<_> {
                it.backends_of_file().iter().map(RemoteBackend::to_toml).collect()
            };
            let key = format!("onion_services.{nickname}.backends_file");
            in_array(&key, &listed(before), &listed(after), &mut all);
            let clients = |it: &ServiceConfig| it.restricted_discovery.as_ref().map(|it| it.keys());
            if clients(before) != clients(after) && clients(before).is_some() {
                let key = format!("onion_services.{nickname}.restricted_discovery");
                all.push(Difference { key, what: "other clients".to_owned() });
            }
        }
        all
    }
}

impl RemoteBackend {
    /// As a file lists it.
    pub(crate) fn to_toml(&self) -> Value {
        let client_key = self.client_key.as_deref().map(|file| ("client_key", path(file)));
        let entries = [
            ("address", self.address.to_string().into()),
            ("name", self.name.clone().into()),
            ("weight", i64::from(self.weight).into()),
        ];
        let entries = entries.into_iter().chain(client_key);
        entries.map(|(key, value)| (key.to_owned(), value)).collect::<Table>().into()
    }
}

fn in_table(below: &str, before: &Table, after: &Table, all: &mut Vec<Difference>) {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let path = if below.is_empty() { key.clone() } else { format!("{below}.{key}") };
        in_value(&path, before.get(key), after.get(key), all);
    }
}

fn in_value(key: &str, before: Option<&Value>, after: Option<&Value>, all: &mut Vec<Difference>) {
    use Value::{Array, Table};
    let what = match (before, after) {
        (before, after) if before == after => return,
        (Some(Table(before)), Some(Table(after))) => return in_table(key, before, after, all),
        (Some(Array(before)), Some(Array(after))) => return in_array(key, before, after, all),
        (None, Some(Table(_))) => "added".to_owned(),
        (Some(Table(_)), None) => "removed".to_owned(),
        (None, Some(after)) => format!("added, {}", shortened(&after.to_string())),
        (Some(before), None) => format!("removed, was {}", shortened(&before.to_string())),
        (Some(before), Some(after)) => {
            let (before, after) = (before.to_string(), after.to_string());
            let same = alike(&before, &after);
            format!("{} -> {}", shortened_from(&before, same), shortened_from(&after, same))
        }
        (None, None) => return,
    };
    all.push(Difference { key: key.to_owned(), what });
}

/// What was added to a list and removed from it; what has a name is the same by that.
fn in_array(key: &str, before: &[Value], after: &[Value], all: &mut Vec<Difference>) {
    let mut push = |what| all.push(Difference { key: key.to_owned(), what });
    let id = |value: &Value| name(value).map_or_else(|| value.to_string(), str::to_owned);
    let named = |values: &[Value], wanted: &Value| {
        values.iter().find(|value| id(value) == id(wanted)).cloned()
    };
    for gone in before.iter().filter(|value| named(after, value).is_none()) {
        push(format!("removed {}", in_words(gone)));
    }
    for new in after.iter().filter(|value| named(before, value).is_none()) {
        push(format!("added {}", in_words(new)));
    }
    let ids = |values: &[Value]| values.iter().map(id).collect::<Vec<_>>();
    let (ids_before, ids_after) = (ids(before), ids(after));
    let both = |ids: &[String], others: &[String]| -> Vec<String> {
        ids.iter().filter(|id| others.contains(id)).cloned().collect()
    };
    if both(&ids_before, &ids_after) != both(&ids_after, &ids_before) {
        push("in another order".to_owned());
    }
    for value in before {
        if let (Some(name), Some(other)) = (name(value), named(after, value)) {
            in_value(&format!("{key}.{name}"), Some(value), Some(&other), all);
        }
    }
}

/// What an entry of a list goes by.
fn name(value: &Value) -> Option<&str> {
    value.as_table()?.get("name")?.as_str()
}

fn in_words(value: &Value) -> String {
    name(value).map_or_else(|| shortened(&value.to_string()), str::to_owned)
}

fn shortened(text: &str) -> String {
    shortened_from(text, 0)
}

/// So many characters are the same at the beginning.
fn alike(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count()
}

/// The part of a value that is shown: the beginning, or if the others are the same for
/// so many characters, where they begin to differ.
fn shortened_from(text: &str, same: usize) -> String {
    let length = text.chars().count();
    if length <= SHOWN {
        return text.to_owned();
    }
    let skipped = if same < SHOWN / 2 { 0 } else { same - SHOWN / 4 };
    let shown: String = text.chars().skip(skipped).take(SHOWN).collect();
    let before = if skipped > 0 { "..." } else { "" };
    let after = if skipped + SHOWN < length { "..." } else { "" };
    format!("{before}{shown}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: &str, after: &str) -> Vec<String> {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let mut all = Vec::new();
        in_table("", &table(before), &table(after), &mut all);
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_new_gone_or_different_is_named_by_its_key() {
        let before = "b = \"gone\"\na.x = 1\na.same = 2\n[old]\n";
        let after = "a.x = 3\na.same = 2\nnew = true\n[c]\nd = 1\n";
        let expected = [
            "a.x: 1 -> 3",
            "b: removed, was \"gone\"",
            "c: added",
            "new: added, true",
            "old: removed",
        ];
        assert_eq!(told(before, after), expected);
    }

    #[test]
    fn of_a_list_is_named_what_was_added_removed_or_changed() {
        let backend = |name: &str, address: &str, weight: u8| {
            format!(
                "{{ address = \"{address}{}\", name = \"{name}\", weight = {weight} }}",
                "a".repeat(55)
            )
        };
        let list = |all: &[String]| format!("backends = [{}]", all.join(", "));
        let before = list(&[backend("berlin", "b", 1), backend("paris", "p", 1)]);
        let after = list(&[backend("rome", "r", 1), backend("berlin", "b", 3)]);
        let expected =
            ["backends: removed paris", "backends: added rome", "backends.berlin.weight: 1 -> 3"];
        assert_eq!(told(&before, &after), expected);
        let moved = list(&[backend("paris", "p", 1), backend("berlin", "b", 1)]);
        assert_eq!(told(&before, &moved), ["backends: in another order"]);
        assert_eq!(
            told("p = [[80, \"a:1\"], [443, \"a:2\"]]", "p = [[80, \"a:3\"], [443, \"a:2\"]]"),
            ["p: removed [80, \"a:1\"]", "p: added [80, \"a:3\"]"]
        );
    }

    #[test]
    fn of_long_values_the_part_that_differs_is_shown() {
        let text = |end: &str| format!("a = \"{}{end}\"", "x".repeat(200));
        let [told] = told(&text("one"), &text("another")).try_into().unwrap();
        assert!(told.contains("one\"") && told.contains("another\""), "{told}");
        assert!(told.chars().count() < 200, "{told}");
        let long = "y".repeat(100);
        let told = self::told("a = \"x\"", &format!("a = \"{long}\""));
        assert!(told[0].starts_with("a: \"x\" -> \"yyy") && told[0].ends_with("..."), "{told:?}");
    }
}
