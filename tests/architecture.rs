//! Holds the borders that packages cannot: what each file may name within its
//! package, that no files use each other in a circle, what files may be called,
//! how long they may be.
//!
//! It reads the sources as text: `use` declarations and paths in the code, not
//! comments, strings and tests. That is enough to notice a border crossed by
//! oversight; nobody crosses one through a macro by accident.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "architecture/circles.rs"]
mod circles;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What the files of one part may name.
struct Part {
    name: &'static str,
    /// Files and directories below the root.
    files: &'static [&'static str],
    /// If not empty: of other crates, only paths that begin so.
    only: &'static [&'static str],
    /// No path that begins so, ...
    never: &'static [&'static str],
    /// ... save these.
    save: &'static [&'static str],
}

/// Ours, I/O, time and chance: what pure code may not name, whatever else.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::io",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "std::sync::Mutex",
    "parking_lot",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "Instant::now",
    "SystemTime::now",
    "rand::rng",
    "rand::random",
    "rand::rngs",
    "crate::tor",
    "crate::instance",
    "crate::config",
    "crate::daemon",
    "crate::commands",
    "crate::admin",
];

/// Address types are values, not sockets.
const ADDRESSES: &[&str] = &[
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
    "std::net::AddrParseError",
];

/// What pure code may name of other crates: values and traits.
const VALUES: &[&str] = &[
    "std",
    "core",
    "alloc",
    "rand",
    "thiserror",
    "serde",
    "serde_json",
    "data_encoding",
    "sha2",
    "sha3",
    "onionbraid_balancer",
    "humantime",
    "http",
    "percent_encoding",
];

const PARTS: &[Part] = &[
    Part {
        name: "pure",
        files: &[
            "crates/balancer/src/",
            "crates/proxy/src/answer.rs",
            "crates/proxy/src/files/range.rs",
            "crates/proxy/src/files/validators.rs",
            "crates/proxy/src/guard.rs",
            "crates/proxy/src/guard/",
            "crates/proxy/src/headers.rs",
            "crates/proxy/src/headers/",
            "crates/proxy/src/http/circuits.rs",
            "crates/proxy/src/http/framing.rs",
            "crates/proxy/src/host.rs",
            "crates/proxy/src/proxy_line.rs",
            "crates/proxy/src/origins/balance.rs",
            "crates/proxy/src/origins/health.rs",
            "crates/proxy/src/rules.rs",
            "crates/proxy/src/settings.rs",
            "crates/proxy/src/token.rs",
            "crates/proxy/src/visitor.rs",
            "src/instance/fair_queue.rs",
            "src/instance/limits.rs",
            "src/instance/plan.rs",
            "src/instance/plan/",
            "src/instance/replay.rs",
            "src/tor/diagnosis.rs",
        ],
        only: VALUES,
        never: IMPURE,
        save: ADDRESSES,
    },
    Part {
        name: "import",
        files: &["src/import.rs", "src/import/"],
        only: &["std", "core", "thiserror", "serde", "serde_saphyr", "toml", "onionbraid_balancer"],
        never: IMPURE,
        save: &[],
    },
    Part {
        name: "the pure part of the daemon",
        files: &["src/daemon/drain.rs", "src/daemon/reload.rs", "src/daemon/settings.rs"],
        only: &["std", "core", "tor_hsservice", "onionbraid_balancer", "onionbraid_proxy"],
        never: &[
            "std::fs",
            "std::net",
            "std::io",
            "std::thread",
            "std::env",
            "std::sync::Mutex",
            "parking_lot",
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "crate::clock",
            "crate::tor",
        ],
        save: &[],
    },
    Part {
        name: "tor and instance",
        files: &["src/tor.rs", "src/tor/", "src/instance.rs", "src/instance/"],
        only: &[],
        never: &[
            "hyper",
            "hyper_util",
            "crate::config",
            "onionbraid_balancer",
            "onionbraid_proxy",
            "crate::daemon",
        ],
        save: &[
            "onionbraid_balancer::fact",
            "onionbraid_balancer::command",
            "onionbraid_balancer::link",
            "onionbraid_balancer::onion",
            "onionbraid_balancer::pow",
        ],
    },
    Part {
        name: "link",
        files: &["src/link.rs", "src/link/"],
        only: &[],
        never: &[
            "std::fs",
            "std::net",
            "onionbraid_balancer",
            "onionbraid_proxy",
            "crate::config",
            "crate::commands",
            "crate::daemon",
        ],
        save: &[
            "onionbraid_balancer::fact",
            "onionbraid_balancer::link",
            "onionbraid_balancer::onion",
            "onionbraid_balancer::operator",
            "onionbraid_balancer::pow",
            "onionbraid_proxy::tasks",
        ],
    },
    Part {
        name: "inquiry",
        files: &["src/inquiry.rs", "src/inquiry/"],
        only: &[],
        never: &[
            "hyper",
            "arti_client",
            "tor_",
            "std::fs",
            "std::net",
            "onionbraid_balancer",
            "onionbraid_proxy",
            "crate::config",
            "crate::commands",
            "crate::daemon",
        ],
        save: &[
            "onionbraid_balancer::fact",
            "onionbraid_balancer::onion",
            "onionbraid_balancer::status",
        ],
    },
    Part {
        name: "observe",
        files: &["src/observe.rs", "src/observe/"],
        only: &[
            "std",
            "core",
            "serde",
            "serde_json",
            "humantime",
            "prometheus_client",
            "onionbraid_balancer::operator",
            "onionbraid_balancer::status",
            "onionbraid_proxy::status",
        ],
        never: &["crate", "std::fs", "std::net"],
        save: &["crate::observe"],
    },
    Part {
        name: "admin",
        files: &["src/admin.rs", "src/admin/"],
        only: &[],
        never: &["tor_", "arti_client", "crate::tor", "crate::instance", "onionbraid_balancer"],
        save: &["onionbraid_balancer::operator"],
    },
];

/// Names that say nothing of the question a file answers.
const EMPTY_NAMES: &[&str] = &["manager", "handler", "util", "utils", "helper", "core", "misc"];

const MOST_LINES: usize = 500;

/// Everything that is wrong with one file, by its path below the root.
fn faults(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if stem == "mod" {
        faults.push("is a mod.rs: name it after its module".into());
    }
    if stem.split('_').any(|word| EMPTY_NAMES.contains(&word.trim_end_matches('s'))) {
        faults.push("has a name that says nothing".into());
    }
    let code = before_tests(source);
    let lines = code.lines().count();
    if lines > MOST_LINES {
        faults.push(format!("has {lines} lines before its tests, more than {MOST_LINES}"));
    }
    if !code.trim_start().starts_with("//!") {
        faults.push("does not begin with the question that it answers".into());
    }
    let named = paths(&without_comments_and_strings(code));
    for part in PARTS.iter().filter(|part| part.files.iter().any(|files| lies_in(path, files))) {
        for named in &named {
            let begins = |list: &[&str]| list.iter().any(|start| begins_with(named, start));
            let foreign = !part.only.is_empty() && is_of_another_crate(named) && !begins(part.only);
            if foreign || (begins(part.never) && !begins(part.save)) {
                faults.push(format!("belongs to {} and may not name {named}", part.name));
            }
        }
    }
    faults
}

fn lies_in(path: &str, files: &str) -> bool {
    if files.ends_with('/') { path.starts_with(files) } else { path == files }
}

/// Whether a path is `start` or below it; a `start` ending in `_` is a prefix
/// of crate names.
fn begins_with(path: &str, start: &str) -> bool {
    path.strip_prefix(start)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || start.ends_with('_'))
}

fn is_of_another_crate(path: &str) -> bool {
    let first = path.split("::").next().unwrap_or_default();
    CRATES.contains(&first) || first.starts_with("tor_")
}

/// The crates that the sources can name; everything else is a module or type.
const CRATES: &[&str] = &[
    "std",
    "core",
    "alloc",
    "anyhow",
    "arti_client",
    "cap_std",
    "clap",
    "data_encoding",
    "fs_mistrust",
    "futures",
    "h2",
    "http",
    "http_body_util",
    "humantime",
    "hyper",
    "hyper_util",
    "libc",
    "onionbraid_balancer",
    "onionbraid_proxy",
    "parking_lot",
    "percent_encoding",
    "prometheus_client",
    "rand",
    "rustix",
    "rustls",
    "safelog",
    "secmem_proc",
    "serde",
    "serde_json",
    "serde_saphyr",
    "sha2",
    "thiserror",
    "tokio",
    "tokio_rustls",
    "tokio_util",
    "toml",
    "tower_http",
    "tracing",
    "tracing_subscriber",
    "webpki",
    "webpki_roots",
    "zeroize",
];

/// The part of a file before its tests: nothing of one that is all for tests.
fn before_tests(source: &str) -> &str {
    if source.contains("\n#![cfg(test)]\n") {
        return "//!";
    }
    match source.find("#[cfg(test)]\nmod tests") {
        Some(tests) => &source[..tests],
        None => source,
    }
}

fn without_comments_and_strings(code: &str) -> String {
    let mut plain = String::new();
    for line in code.lines() {
        let mut in_string = false;
        let mut escaped = false;
        let mut previous = ' ';
        for c in line.chars() {
            if in_string {
                in_string = escaped || c != '"';
                escaped = c == '\\' && !escaped;
            } else if c == '"' && previous != '\'' {
                in_string = true;
            } else if c == '/' && previous == '/' {
                plain.pop();
                break;
            } else {
                plain.push(c);
            }
            previous = c;
        }
        plain.push('\n');
    }
    plain
}

/// Every path with `::` that the code names, `use` groups and aliases of
/// imported modules resolved.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        match use_tree(statement) {
            Some((before, tree)) => {
                rest.push_str(before);
                expand(tree, "", &mut found);
            }
            None => rest.push_str(statement),
        }
    }
    let imported = found.clone();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in rest.split(|c: char| !is_part(c)) {
        let word = word.trim_matches(':');
        let Some((first, tail)) = word.split_once("::") else { continue };
        found.push(word.to_owned());
        // `use std::fs; fs::read(..)` names `std::fs::read`.
        let import = imported.iter().find(|path| path.rsplit("::").next() == Some(first));
        found.extend(import.map(|path| format!("{path}::{tail}")));
    }
    found.sort();
    found.dedup();
    found
}

/// The tree of a `use` declaration, if the statement ends with one, and what
/// stands before it.
fn use_tree(statement: &str) -> Option<(&str, &str)> {
    let start = statement.rfind("use ").filter(|start| {
        let before = &statement[..*start];
        before.is_empty() || before.ends_with(char::is_whitespace)
    })?;
    Some((&statement[..start], statement[start + 4..].trim().trim_end_matches(';')))
}

/// `a::{b, c::{d as e}}` -> `a::b`, `a::c::d`.
fn expand(tree: &str, prefix: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        let path = path.trim_end_matches("::*").trim_end_matches("::self");
        if !path.is_empty() {
            let path = if path == "self" { String::new() } else { path.to_owned() };
            found.push(format!("{prefix}{path}").trim_matches(':').to_owned());
        }
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let group = group.rsplit_once('}').map_or(group, |(inside, _)| inside);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&group[start..at], &prefix, found);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&group[start..], &prefix, found);
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

const PACKAGES: &[&str] = &["src", "crates/balancer/src", "crates/proxy/src"];

#[test]
fn no_files_use_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut report = String::new();
    for package in PACKAGES {
        let mut files = Vec::new();
        sources(&root.join(package), &mut files);
        let source = |file: &PathBuf| {
            let path = file.strip_prefix(root.join(package)).unwrap().to_str().unwrap();
            (path.to_owned(), fs::read_to_string(file).unwrap())
        };
        for circle in circles::circles(&files.iter().map(source).collect()) {
            writeln!(report, "{package}: {circle:?} use each other").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_file_stays_within_its_borders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for package in PACKAGES {
        sources(&root.join(package), &mut files);
    }
    files.sort();
    assert!(files.iter().any(|file| file.ends_with("balancer/src/select.rs")), "sources are found");
    let mut report = String::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap();
        for fault in faults(path, &fs::read_to_string(&file).unwrap()) {
            writeln!(report, "{path} {fault}").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn a_crossed_border_is_noticed_in_whatever_form_it_is_written() {
    let crossed = [
        ("crates/balancer/src/a.rs", "use tokio::time;"),
        ("crates/balancer/src/a.rs", "use std::{collections::BTreeMap, fs};"),
        (
            "crates/balancer/src/a.rs",
            "pub(super) use std::{\n    time::Instant,\n    fs::{self, File},\n};",
        ),
        ("crates/balancer/src/a.rs", "use std::time::Instant;\nfn f() { Instant::now(); }"),
        (
            "crates/balancer/src/a.rs",
            "use std::time;\nfn f() -> Option<time::Instant> { g(time::Instant::now()) }",
        ),
        ("crates/balancer/src/a.rs", "fn f() { let x = std::time::SystemTime::now(); }"),
        ("crates/balancer/src/a.rs", "use std::collections::HashMap;"),
        ("crates/balancer/src/a.rs", "fn f() { std::thread::yield_now() }\nuse std::fmt;"),
        ("crates/balancer/src/a.rs", "fn f() { tracing::info!(\"x\"); }"),
        ("crates/balancer/src/lib.rs", "use tor_netdir::NetDir;"),
        ("src/daemon/reload.rs", "use crate::tor::keys;"),
        ("src/daemon/drain.rs", "use crate::clock::now;"),
        ("crates/balancer/src/onion/a.rs", "use std::net::TcpStream;"),
        ("crates/proxy/src/rules.rs", "use std::net::UdpSocket;"),
        ("src/instance/plan.rs", "use tor_proto::stream;"),
        ("src/instance/intro.rs", "use onionbraid_balancer::Balancer;"),
        ("src/instance/intro.rs", "use onionbraid_balancer::{self, Settings};"),
        ("src/tor/fetch.rs", "use hyper::Request;"),
        ("src/tor.rs", "fn f(c: &crate::config::Config) {}"),
        ("src/observe/text.rs", "use onionbraid_balancer::onion::Period;"),
        ("src/observe.rs", "use tokio::sync::watch;"),
        ("src/admin.rs", "use onionbraid_balancer::fact::Fact;"),
        ("src/inquiry/points.rs", "use crate::config::Config;"),
    ];
    for (path, code) in crossed {
        let found = faults(path, &format!("//! A question.\n\n{code}\n"));
        assert!(found.iter().any(|fault| fault.contains("may not name")), "{path}: {code}");
    }
}

#[test]
fn what_is_allowed_is_not_a_fault() {
    let allowed = [
        (
            "crates/balancer/src/a.rs",
            "use std::time::{Duration, Instant};\nuse rand::{Rng, RngExt as _};",
        ),
        (
            "crates/balancer/src/a.rs",
            "use super::fact::Now;\nuse onionbraid_balancer::onion::{Period, RelayId};",
        ),
        ("crates/balancer/src/a.rs", "use crate::status::{self, BackendState};"),
        (
            "crates/balancer/src/a.rs",
            "// use tokio::time;\nconst A: &str = \"use tokio::fs; tokio::x\";",
        ),
        ("crates/balancer/src/a.rs", "#[cfg(test)]\nmod tests {\n    use proptest::prelude::*;\n}"),
        ("crates/balancer/src/a.rs", "#![cfg(test)]\n\nuse std::fs;"),
        ("crates/proxy/src/rules.rs", "use std::net::{IpAddr, SocketAddr};"),
        ("crates/balancer/src/onion/a.rs", "use sha3::Sha3_256;"),
        ("src/tor/fetch.rs", "use onionbraid_balancer::{command::Command, fact::Fact};"),
        ("src/instance/intro.rs", "use tor_proto::x;\nuse tokio::sync::mpsc;"),
        ("crates/proxy/src/http.rs", "use hyper::Request;\nuse std::net::TcpStream;"),
        ("src/observe/text.rs", "use crate::observe::Snapshot;\nuse super::snapshot::Tor;"),
        ("src/daemon.rs", "use crate::{config, tor};\nuse onionbraid_balancer::Balancer;"),
    ];
    for (path, code) in allowed {
        let found = faults(path, &format!("//! A question.\n\n{code}\n"));
        assert!(found.is_empty(), "{path}: {code}: {found:?}");
    }
}

#[test]
fn empty_names_long_files_and_missing_questions_are_noticed() {
    assert_eq!(faults("src/tor/mod.rs", "//! A question.\n").len(), 1);
    assert_eq!(faults("src/tor/circuit_manager.rs", "//! A question.\n").len(), 1);
    assert_eq!(faults("src/tor/utils.rs", "//! A question.\n").len(), 1);
    assert_eq!(faults("src/tor/score.rs", "//! A question.\n"), [""; 0]);
    assert_eq!(faults("src/tor/fetch.rs", "use std::fs;\n").len(), 1);
    let long = format!("//! A question.\n{}", "fn f() {}\n".repeat(500));
    assert_eq!(faults("src/tor/fetch.rs", &long).len(), 1);
    let tests = format!("//! A question.\n#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(500));
    assert_eq!(faults("src/tor/fetch.rs", &tests), [""; 0]);
}
