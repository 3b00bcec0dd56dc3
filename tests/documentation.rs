//! Does what the documentation says work? Every configuration in README.md and
//! docs/ is read by the program's own parser, every command line of onionbraid
//! by its own command line parser, and every complaint that docs/operations.md
//! explains is one that the program has. Links lead to files, and sources that
//! are named are there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};
use onionbraid::cli::Cli;
use onionbraid::config::{BackendsFile, Config, Environment, ServiceConfig};

/// What placeholders such as `<address>.onion` stand for, one after the other.
const ADDRESSES: [&str; 3] = [
    "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion",
    "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion",
    "facebookwkhpilnemxj7asaniu7vnjjbiltxjqhye3mhbshg7kx5tfyd.onion",
];

/// A fenced block: where it begins, its language and its lines.
struct Block {
    place: String,
    language: String,
    text: String,
}

#[test]
fn every_configuration_in_the_documentation_is_good() {
    let environment = Environment::new([("HOME", "/nonexistent")]);
    let mut count = 0;
    for block in blocks() {
        if block.language != "toml" {
            let table = block.text.lines().any(|line| line.starts_with("[onion_services"));
            assert!(!table, "{}: a configuration is marked as toml", block.place);
            continue;
        }
        let text = with_addresses(&block.text);
        if text.lines().next().is_some_and(|line| line.ends_with("backends.toml")) {
            let file = Some(BackendsFile { path: "backends.toml".into(), listed: 0 });
            let service = ServiceConfig::with_defaults("shop".parse().unwrap());
            let service = ServiceConfig { backends_file: file, ..service };
            assert!(service.with_backends_file(&text).is_ok(), "{}", block.place);
            continue;
        }
        let config = Config::from_text(&text, &environment);
        assert!(config.is_ok(), "{}:\n{}\n{}", block.place, text, config.unwrap_err());
        count += 1;
    }
    assert!(count >= 3, "the documentation shows {count} configurations");
}

#[test]
fn every_command_line_in_the_documentation_is_understood() {
    let mut count = 0;
    for block in blocks() {
        for line in block.text.lines() {
            let line = line.split(" #").next().unwrap_or_default().trim_end();
            let command = line.trim_start_matches("sudo ").trim_start_matches("-u onionbraid ");
            if !command.starts_with("onionbraid ") {
                continue;
            }
            let words = with_addresses(command);
            let parsed = Cli::try_parse_from(words.split_whitespace());
            assert!(parsed.is_ok(), "{}: {command}\n{}", block.place, parsed.unwrap_err());
            count += 1;
        }
    }
    assert!(count >= 2, "the documentation shows {count} command lines");
}

#[test]
fn every_example_in_the_help_is_understood() {
    let mut commands = vec![Cli::command()];
    let mut count = 0;
    while let Some(command) = commands.pop() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().map(str::trim).filter(|line| line.starts_with("onionbraid ")) {
            let line = line.split("  ").next().unwrap_or_default();
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}\n{}", parsed.unwrap_err());
            count += 1;
        }
        commands.extend(command.get_subcommands().cloned());
    }
    assert!(count >= 5, "the help shows {count} examples");
}

#[test]
fn every_complaint_that_is_explained_is_one_that_the_program_has() {
    let mut sources = String::new();
    let mut places = vec![PathBuf::from("src"), PathBuf::from("crates")];
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()));
        } else if place.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(place).unwrap());
        }
    }
    // A string goes on behind the blanks of the next line.
    let sources = sources.split("\\\n").map(str::trim_start).collect::<String>();

    let text = fs::read_to_string("docs/operations.md").unwrap();
    let (_, table) = text.split_once("| it says |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split(" | ").next().unwrap());
    let complaints: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(complaints.len() > 20, "{complaints:?}");
    for complaint in complaints {
        // What stands for something else is not to be found.
        for part in complaint.split(['…', '(', ')', ':']).map(str::trim) {
            assert!(sources.contains(part), "{complaint:?}: the program never says {part:?}");
        }
    }
}

/// What leads to a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_in_the_documentation_leads_to_a_file() {
    let mut count = 0;
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            assert!(there.exists(), "{}: {target} leads nowhere", file.display());
            let has_heading = || {
                let text = fs::read_to_string(&there).unwrap();
                text.lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line) == heading)
            };
            assert!(heading.is_empty() || has_heading(), "{}: no {target}", file.display());
            count += 1;
        }
    }
    assert!(count >= 5, "the documentation has {count} links");
}

#[test]
fn every_source_that_the_documentation_names_is_there() {
    let mut count = 0;
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        for name in text.split('`').skip(1).step_by(2) {
            let directories =
                ["src/", "crates/", "tests/", "integration/", "bench/", "docs/", ".github/"];
            let is_path = directories.iter().any(|directory| name.starts_with(directory));
            if is_path && !name.contains(|c: char| c.is_whitespace() || "{*<".contains(c)) {
                assert!(Path::new(name).exists(), "{}: there is no {name}", file.display());
                count += 1;
            }
        }
    }
    assert!(count >= 30, "the documentation names {count} sources");
}

/// Replaces each `<anything>.onion` by an address.
fn with_addresses(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    let mut addresses = ADDRESSES.iter().cycle();
    while let Some(end) = rest.find(">.onion") {
        let begin = rest[..end].rfind('<').unwrap();
        out.push_str(&rest[..begin]);
        out.push_str(addresses.next().unwrap());
        rest = &rest[end + ">.onion".len()..];
    }
    out + rest
}

/// What people read.
fn files() -> Vec<PathBuf> {
    let here = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "fuzz/README.md"];
    let mut files: Vec<PathBuf> = here.into_iter().map(PathBuf::from).collect();
    let mut directories = vec![PathBuf::from("docs"), PathBuf::from(".github")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                files.push(path);
            }
        }
    }
    files
}

/// All fenced blocks of the documentation.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        let mut open: Option<Block> = None;
        for (number, line) in text.lines().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    let place = format!("{}:{}", file.display(), number + 1);
                    open = Some(Block { place, language: language.into(), text: String::new() });
                }
                (None, Some(block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", file.display());
    }
    blocks
}
