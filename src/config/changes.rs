//! What differs between two configurations, key by key, as a reload tells it.

use toml::{Table, Value};

use super::{Config, ServiceConfig};

/// A longer value is not shown.
const SHOWN: usize = 60;

impl Config {
    /// The keys whose values differ in `other`, one line each, with their values
    /// before and after.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut all = Vec::new();
        differences("", &self.to_toml(), &other.to_toml(), &mut all);
        for after in &other.services {
            let nickname = &after.nickname;
            let same = |it: &&ServiceConfig| it.nickname == *nickname;
            let Some(before) = self.services.iter().find(same) else { continue };
            if before.backends_of_file() != after.backends_of_file() {
                all.push(format!("onion_services.{nickname}.backends_file: lists other backends"));
            }
        }
        all
    }
}

fn differences(below: &str, before: &Table, after: &Table, all: &mut Vec<String>) {
    let new = after.keys().filter(|key| !before.contains_key(*key));
    for key in before.keys().chain(new) {
        let path = if below.is_empty() { key.clone() } else { format!("{below}.{key}") };
        match (before.get(key), after.get(key)) {
            (Some(Value::Table(before)), Some(Value::Table(after))) => {
                differences(&path, before, after, all);
            }
            (Some(before), Some(after)) if before == after => {}
            (before, after) => {
                all.push(format!("{path}: {} -> {}", shown(before), shown(after)));
            }
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "not there".to_owned(),
        Some(Value::Table(_)) => "there".to_owned(),
        Some(value) => {
            let text = value.to_string();
            if text.chars().count() <= SHOWN { text } else { "another value".to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_gone_or_different_is_named_by_its_key() {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let before = table("b = \"gone\"\na.x = 1\na.same = 2\n");
        let after = table("a.x = 3\na.same = 2\n[c]\nd = 1\n");
        let mut all = Vec::new();
        differences("", &before, &after, &mut all);
        all.sort();
        assert_eq!(all, ["a.x: 1 -> 3", "b: \"gone\" -> not there", "c: not there -> there"]);
    }
}
