//! The JSON schema of the configuration knows the keys that the program knows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;

use onionbraid::config::EXAMPLE;
use serde_json::Value;

fn schema() -> Value {
    serde_json::from_str(include_str!("../packaging/arti.schema.json")).unwrap()
}

#[test]
fn the_program_prints_the_schema_that_packages_have() {
    let output = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
        .args(["config", "schema"])
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, include_bytes!("../packaging/arti.schema.json"));
}

/// The keys of a table of the example: those that are set, and those in comments.
fn keys_of_example(table: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut here = "";
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            here = name;
        }
        let line = line.trim_start_matches('#').trim_start();
        let Some((key, _)) = line.split_once(" = ") else { continue };
        let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if here == table && is_key && !key.is_empty() {
            keys.insert(key.to_owned());
        }
    }
    keys
}

fn keys_of_schema(schema: &Value, pointer: &str) -> BTreeSet<String> {
    schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_schema_has_the_keys_of_the_example_and_no_others() {
    let schema = schema();
    for (table, definition) in
        [("onion_services.\"shop\"", "service"), ("onion_services.\"shop\".http", "http")]
    {
        let mut known = keys_of_schema(&schema, &format!("/definitions/{definition}/properties"));
        // A table of its own in the example.
        known.remove("http");
        assert_eq!(known, keys_of_example(table), "[{table}]");
        let closed = format!("/definitions/{definition}/additionalProperties");
        assert_eq!(schema.pointer(&closed), Some(&Value::Bool(false)));
    }
    for table in ["admin", "logging", "shutdown"] {
        let known = keys_of_schema(&schema, &format!("/properties/{table}/properties"));
        assert_eq!(known, keys_of_example(table), "[{table}]");
    }
    let known = keys_of_schema(&schema, "/properties");
    for line in EXAMPLE.lines().filter(|line| line.starts_with('[') && line.ends_with(']')) {
        let table = line.trim_matches(['[', ']']);
        let (first, _) = table.split_once('.').unwrap_or((table, ""));
        assert!(known.contains(first), "[{table}]");
    }
}

#[test]
fn a_port_has_the_keys_of_its_service_except_ports() {
    let schema = schema();
    let mut all = keys_of_schema(&schema, "/definitions/http/properties");
    assert!(all.remove("ports"));
    assert_eq!(keys_of_schema(&schema, "/definitions/http_port/properties"), all);
}

/// The example with its keys out of their comments: the defaults, or the examples.
fn uncommented(examples: bool) -> String {
    let is_key = |line: &str| {
        line.split_once(" = ").is_some_and(|(key, _)| {
            !key.is_empty()
                && key
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c))
        })
    };
    let line = |line: &'static str| match line.strip_prefix(if examples { "# " } else { "#" }) {
        Some(key) if is_key(key) => key,
        _ => line,
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether Taplo, which editors use, accepts a file by our schema; what it says.
#[cfg(target_arch = "x86_64")]
fn taplo(file: &std::path::Path) -> (bool, String) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = format!("file://{}/packaging/arti.schema.json", root.display());
    let output = Command::new(root.join("target/tools/validators/bin/taplo"))
        .args(["check", "--no-auto-config", "--schema", &schema])
        .arg(file)
        .output()
        .expect("taplo (`make deps`)");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("excluded=0"), "it has not looked: {said}");
    (output.status.success(), said)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn taplo_accepts_the_example_by_the_schema_and_refuses_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good.toml");
    for text in [EXAMPLE.to_owned(), uncommented(false), uncommented(true)] {
        std::fs::write(&good, text).unwrap();
        let (accepts, said) = taplo(&good);
        assert!(accepts, "{said}");
    }
    for wrong in [
        "backend-unknown-key",
        "enabled-string",
        "http-balance",
        "http-unknown-key",
        "local-instances-many",
        "max-intro-points-word",
        "num-intro-points-low",
        "ports-too-high",
        "probe-unknown-key",
        "rate-limit-without-burst",
        "shutdown-unknown-key",
        "ten-mistakes",
        "unknown-key",
        "unknown-table",
    ] {
        let file = format!("{}/tests/config/{wrong}.toml", env!("CARGO_MANIFEST_DIR"));
        let (accepts, said) = taplo(file.as_ref());
        assert!(!accepts && said.contains("error: "), "{wrong}: {said}");
    }
}

#[test]
fn all_readers_of_the_configuration_get_paths_from_one_place_which_keeps_them_for_backups() {
    let mut directories = vec![std::path::PathBuf::from("src/config")];
    let mut seen = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if !path.ends_with("config/files.rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                assert!(!source.contains("base_resolver"), "{}: files::read", path.display());
                assert!(!source.contains("path::absolute"), "{}: files::read", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}
