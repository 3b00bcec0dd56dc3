//! What is a service called that had no name, or one that is no nickname here?

use std::collections::BTreeSet;
use std::path::Path;

/// Names of files and directories that say nothing of a service.
const GENERIC: [&str; 16] = [
    "config",
    "etc",
    "hidden-service",
    "hidden_service",
    "hs",
    "hs_ed25519_secret_key",
    "key",
    "keys",
    "main",
    "master",
    "onion",
    "onionbalance",
    "private_key",
    "secret",
    "secrets",
    "tor",
];

/// Base32 this long is taken for an address: nicknames are logged, addresses are
/// not.
const LIKE_AN_ADDRESS: usize = 16;

/// The longest nickname that is made, in characters.
const LONGEST: usize = 40;

/// Nicknames that are given already.
#[derive(Debug, Default)]
pub(super) struct Nicknames(BTreeSet<String>);

impl Nicknames {
    /// A new nickname after the first of these words that makes a good one.
    pub(super) fn after<'w>(&mut self, words: impl IntoIterator<Item = &'w str>) -> String {
        let word = words.into_iter().map(nickname).find(|word| !says_nothing(word));
        let numbered = |number| match &word {
            Some(word) if number == 1 => word.clone(),
            Some(word) => format!("{word}-{number}"),
            None => format!("service-{number}"),
        };
        let free = (1..).map(numbered).find(|name| !self.0.contains(name)).unwrap_or_default();
        self.0.insert(free.clone());
        free
    }

    /// A new nickname after a key's file, or the directory that it lies in.
    pub(super) fn after_path(&mut self, path: &Path) -> String {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let parent = path.parent().and_then(Path::file_name);
        let parent = parent.map(|parent| parent.to_string_lossy().into_owned());
        self.after([stem, parent].iter().flatten().map(String::as_str))
    }
}

/// The characters that a nickname may have, in the place of the others.
fn nickname(word: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || c == '_' => c,
        _ => '-',
    };
    let word: String = word.chars().map(letter).take(LONGEST).collect();
    word.trim_matches('-').to_owned()
}

fn says_nothing(word: &str) -> bool {
    let base32 = |c: char| matches!(c, 'a'..='z' | '2'..='7');
    let longest = word.split(|c| !base32(c)).map(str::len).max().unwrap_or_default();
    word.is_empty() || GENERIC.contains(&word) || longest >= LIKE_AN_ADDRESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nickname_is_unique_and_gives_no_address_away() {
        let mut names = Nicknames::default();
        assert_eq!(names.after(["www.Example.com"]), "www-example-com");
        assert_eq!(names.after(["www.example.com"]), "www-example-com-2");
        let address = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.key";
        assert_eq!(
            names.after_path(Path::new(&format!("/etc/onionbalance/{address}"))),
            "service-1"
        );
        assert_eq!(names.after_path(Path::new("/var/lib/tor/shop/hs_ed25519_secret_key")), "shop");
        assert_eq!(names.after(["", "--", "key"]), "service-2");
    }
}
