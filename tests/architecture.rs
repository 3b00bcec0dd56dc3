//! Holds the borders between the parts of the program: what each file below
//! `src/` may name, what files may be called, how long they may be.
//!
//! It reads the sources as text: `use` declarations and paths in the code, not
//! comments, strings and tests. That is enough to notice a border crossed by
//! oversight; nobody crosses one through a macro by accident.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What the files of one part may name.
struct Part {
    name: &'static str,
    /// Files and directories below `src/`.
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
    "safelog",
    "tor_hscrypto",
    "tor_protover",
    "humantime",
    "http",
    "percent_encoding",
];

const PARTS: &[Part] = &[
    Part {
        name: "pure",
        files: &[
            "onion.rs",
            "onion/",
            "balancer.rs",
            "balancer/",
            "proxy/guard.rs",
            "proxy/guard/",
            "proxy/headers.rs",
            "proxy/headers/",
            "proxy/http/circuits.rs",
            "proxy/http/framing.rs",
            "proxy/host.rs",
            "proxy/proxy_line.rs",
            "proxy/origins/balance.rs",
            "proxy/origins/health.rs",
            "proxy/rules.rs",
            "proxy/settings.rs",
            "proxy/token.rs",
            "proxy/visitor.rs",
            "instance/limits.rs",
            "instance/plan.rs",
            "instance/replay.rs",
        ],
        only: VALUES,
        never: IMPURE,
        save: ADDRESSES,
    },
    Part {
        name: "the pure part of the daemon",
        files: &["daemon/drain.rs", "daemon/reload.rs", "daemon/settings.rs"],
        only: &["std", "core", "tor_hsservice"],
        never: &[
            "std::fs",
            "std::net",
            "std::io",
            "std::thread",
            "std::env",
            "std::sync::Mutex",
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "crate::clock",
            "crate::tor",
        ],
        save: &[],
    },
    Part {
        name: "tor and instance",
        files: &["tor.rs", "tor/", "instance.rs", "instance/"],
        only: &[],
        never: &["hyper", "hyper_util", "crate::config", "crate::balancer", "crate::daemon"],
        save: &["crate::balancer::fact", "crate::balancer::command"],
    },
    Part {
        name: "proxy",
        files: &["proxy.rs", "proxy/"],
        only: &[],
        never: &["tor_", "arti_client", "crate::tor", "crate::instance", "crate::balancer"],
        save: &[],
    },
    Part {
        name: "observe",
        files: &["observe.rs", "observe/"],
        only: &["std", "core", "serde", "serde_json", "humantime", "prometheus_client"],
        never: &["crate", "std::fs", "std::net"],
        save: &["crate::observe"],
    },
    Part {
        name: "admin",
        files: &["admin.rs", "admin/"],
        only: &[],
        never: &["tor_", "arti_client", "crate::tor", "crate::instance", "crate::balancer"],
        save: &[],
    },
];

/// Names that say nothing of the question a file answers.
const EMPTY_NAMES: &[&str] = &["manager", "handler", "util", "utils", "helper", "core", "misc"];

const MOST_LINES: usize = 500;

/// Everything that is wrong with one file, by its path below `src/`.
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
    "fs_mistrust",
    "futures",
    "h2",
    "http",
    "http_body_util",
    "humantime",
    "hyper",
    "hyper_util",
    "libc",
    "percent_encoding",
    "prometheus_client",
    "rand",
    "rustls",
    "safelog",
    "serde",
    "serde_json",
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

#[test]
fn every_file_stays_within_its_borders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    assert!(files.iter().any(|file| file.ends_with("balancer/select.rs")), "sources are found");
    let mut report = String::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        for fault in faults(&path, &fs::read_to_string(&file).unwrap()) {
            writeln!(report, "src/{path} {fault}").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn a_crossed_border_is_noticed_in_whatever_form_it_is_written() {
    let crossed = [
        ("balancer/a.rs", "use tokio::time;"),
        ("balancer/a.rs", "use std::{collections::BTreeMap, fs};"),
        ("balancer/a.rs", "pub(super) use std::{\n    time::Instant,\n    fs::{self, File},\n};"),
        ("balancer/a.rs", "use std::time::Instant;\nfn f() { Instant::now(); }"),
        (
            "balancer/a.rs",
            "use std::time;\nfn f() -> Option<time::Instant> { g(time::Instant::now()) }",
        ),
        ("balancer/a.rs", "fn f() { let x = std::time::SystemTime::now(); }"),
        ("balancer/a.rs", "use std::collections::HashMap;"),
        ("balancer/a.rs", "fn f() { std::thread::yield_now() }\nuse std::fmt;"),
        ("balancer/a.rs", "fn f() { tracing::info!(\"x\"); }"),
        ("balancer.rs", "use tor_netdir::NetDir;"),
        ("daemon/reload.rs", "use crate::tor::keys;"),
        ("daemon/drain.rs", "use crate::clock::now;"),
        ("onion/a.rs", "use std::net::TcpStream;"),
        ("proxy/rules.rs", "use std::net::UdpSocket;"),
        ("instance/plan.rs", "use tor_proto::stream;"),
        ("instance/intro.rs", "use crate::balancer::Balancer;"),
        ("instance/intro.rs", "use crate::{balancer::{self, Settings}, onion};"),
        ("tor/fetch.rs", "use hyper::Request;"),
        ("tor.rs", "fn f(c: &crate::config::Config) {}"),
        ("proxy/tcp.rs", "fn f() { tor_proto::x(); }"),
        ("proxy.rs", "use arti_client as arti;"),
        ("observe/text.rs", "use crate::onion::Period;"),
        ("observe.rs", "use tokio::sync::watch;"),
        ("admin.rs", "use crate::balancer::fact::Fact;"),
    ];
    for (path, code) in crossed {
        let found = faults(path, &format!("//! A question.\n\n{code}\n"));
        assert!(found.iter().any(|fault| fault.contains("may not name")), "{path}: {code}");
    }
}

#[test]
fn what_is_allowed_is_not_a_fault() {
    let allowed = [
        ("balancer/a.rs", "use std::time::{Duration, Instant};\nuse rand::{Rng, RngExt as _};"),
        ("balancer/a.rs", "use super::fact::Now;\nuse crate::onion::{Period, RelayId};"),
        ("balancer/a.rs", "use crate::observe::snapshot::{self, BackendState};"),
        ("balancer/a.rs", "// use tokio::time;\nconst A: &str = \"use tokio::fs; tokio::x\";"),
        ("balancer/a.rs", "#[cfg(test)]\nmod tests {\n    use proptest::prelude::*;\n}"),
        ("balancer/a.rs", "#![cfg(test)]\n\nuse std::fs;"),
        ("proxy/rules.rs", "use std::net::{IpAddr, SocketAddr};"),
        ("onion/a.rs", "use tor_hscrypto::pk::HsId;"),
        ("tor/fetch.rs", "use crate::balancer::{command::Command, fact::Fact};"),
        ("instance/intro.rs", "use tor_proto::x;\nuse tokio::sync::mpsc;"),
        ("proxy/http.rs", "use hyper::Request;\nuse std::net::TcpStream;"),
        ("observe/text.rs", "use crate::observe::Snapshot;\nuse super::snapshot::Tor;"),
        ("daemon.rs", "use crate::{balancer::Balancer, config, tor};"),
    ];
    for (path, code) in allowed {
        let found = faults(path, &format!("//! A question.\n\n{code}\n"));
        assert!(found.is_empty(), "{path}: {code}: {found:?}");
    }
}

#[test]
fn empty_names_long_files_and_missing_questions_are_noticed() {
    assert_eq!(faults("tor/mod.rs", "//! A question.\n").len(), 1);
    assert_eq!(faults("tor/circuit_manager.rs", "//! A question.\n").len(), 1);
    assert_eq!(faults("tor/utils.rs", "//! A question.\n").len(), 1);
    assert_eq!(faults("tor/score.rs", "//! A question.\n"), [""; 0]);
    assert_eq!(faults("tor/fetch.rs", "use std::fs;\n").len(), 1);
    let long = format!("//! A question.\n{}", "fn f() {}\n".repeat(500));
    assert_eq!(faults("tor/fetch.rs", &long).len(), 1);
    let tests = format!("//! A question.\n#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(500));
    assert_eq!(faults("tor/fetch.rs", &tests), [""; 0]);
}
