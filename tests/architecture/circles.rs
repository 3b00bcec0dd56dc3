//! Finds import circles: files of one package that use each other, directly or
//! through others.
//!
//! Each `.rs` file is a module; naming a path below `crate::`, `super::`,
//! `self::` or a child module uses the file that the path leads to.

use std::collections::{BTreeMap, BTreeSet};

use super::{before_tests, paths, without_comments_and_strings};

/// The sources of a package by their paths below its `src`.
pub(super) type Sources = BTreeMap<String, String>;

/// The module of a file: `onion/flaw.rs` is `[onion, flaw]`.
type Module = Vec<String>;

/// The circles of a package: of each, the files in it. No file is in two.
pub(super) fn circles(sources: &Sources) -> Vec<BTreeSet<String>> {
    let modules: BTreeMap<Module, &str> =
        sources.keys().filter_map(|file| Some((module(file)?, file.as_str()))).collect();
    let used: BTreeMap<&str, BTreeSet<&str>> =
        modules.iter().map(|(at, file)| (*file, used_by(at, &sources[*file], &modules))).collect();
    let reaches: BTreeMap<&str, BTreeSet<&str>> =
        used.keys().map(|file| (*file, reached(file, &used))).collect();
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for (file, reached) in &reaches {
        let circle = reached.iter().filter(|other| reaches[**other].contains(file));
        let circle: BTreeSet<String> = circle.map(|file| (*file).to_owned()).collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// `main.rs` uses the package from outside.
fn module(file: &str) -> Option<Module> {
    match file.strip_suffix(".rs")? {
        "main" => None,
        "lib" => Some(Module::new()),
        module => Some(module.split('/').map(str::to_owned).collect()),
    }
}

fn used_by<'a>(
    at: &Module,
    source: &str,
    modules: &BTreeMap<Module, &'a str>,
) -> BTreeSet<&'a str> {
    let named = paths(&without_comments_and_strings(before_tests(source)));
    let files = named.iter().filter_map(|path| {
        let mut words = path.split("::").peekable();
        let mut to = match words.peek().copied()? {
            "crate" => Module::new(),
            "self" | "super" => at.clone(),
            child => {
                let child = [at.as_slice(), &[child.to_owned()]].concat();
                modules.contains_key(&child).then(|| at.clone())?
            }
        };
        for word in words {
            match word {
                "crate" | "self" => {}
                "super" => drop(to.pop()),
                word => to.push(word.to_owned()),
            }
        }
        // The module that the item is in.
        while !modules.contains_key(&to) {
            to.pop()?;
        }
        (to != *at).then(|| modules[&to])
    });
    files.collect()
}

/// Every file that this one uses, directly or through others.
fn reached<'a>(file: &str, used: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = used[file].iter().copied().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(&used[file]);
        }
    }
    reached
}

#[test]
fn a_circle_is_noticed_whichever_way_it_is_written_and_tests_make_none() {
    let found = |files: &[(&str, &str)]| {
        let sources = files.iter().map(|(file, code)| ((*file).to_owned(), (*code).to_owned()));
        circles(&sources.collect())
    };
    let circle = |files: &[&str]| vec![files.iter().map(|file| (*file).to_owned()).collect()];
    let direct = [("a.rs", "use crate::b::B;"), ("b.rs", "fn f(a: &super::a::A) {}")];
    assert_eq!(found(&direct), circle(&["a.rs", "b.rs"]));
    let long = [
        ("a.rs", "use super::{b, c::C};"),
        ("b.rs", "use crate::{\n    d::{self, D},\n};"),
        ("c.rs", "use std::fmt;"),
        ("d.rs", "use crate::a;\nfn f() { a::g() }"),
    ];
    assert_eq!(found(&long), circle(&["a.rs", "b.rs", "d.rs"]));
    let parent = [("a.rs", "mod b;\npub use b::B;"), ("a/b.rs", "use super::A;")];
    assert_eq!(found(&parent), circle(&["a.rs", "a/b.rs"]));
    let root = [("lib.rs", "mod a;\npub use self::a::A;"), ("a.rs", "use crate::B;")];
    assert_eq!(found(&root), circle(&["a.rs", "lib.rs"]));

    let one_way = [
        ("lib.rs", "mod a;\nmod b;\npub use a::A;"),
        ("a.rs", "use super::b::B; // use crate::A"),
        ("b.rs", "#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}"),
        ("main.rs", "use crate::a::A;"),
    ];
    assert_eq!(found(&one_way), Vec::<BTreeSet<String>>::new());
}
