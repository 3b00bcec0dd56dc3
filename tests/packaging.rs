//! What packages hold beside the program is what the program says of itself.
//!
//! With `UPDATE_EXPECTED=1` in the environment the files below `packaging/` are
//! written anew; read the difference before committing it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Every file of a directory, by name.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = directory.read_dir() else { return BTreeMap::new() };
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let entries = entries.map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), read(&e.path()))).collect()
}

/// Compares `packaging/NAME` with what the commands write.
fn holds(name: &str, commands: &[&[&str]]) {
    let made = tempfile::tempdir().unwrap();
    for command in commands {
        let status = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
            .arg("generate")
            .args(*command)
            .arg("--out")
            .arg(made.path())
            .status();
        assert!(status.unwrap().success());
    }
    let made = files(made.path());
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(&kept).unwrap();
        for (file, text) in &made {
            std::fs::write(kept.join(file), text).unwrap();
        }
    }
    let kept = files(&kept);
    assert!(!made.is_empty());
    assert_eq!(made.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (file, text) in &made {
        assert!(*text == kept[file], "packaging/{name}/{file}: UPDATE_EXPECTED=1 writes it anew");
    }
}

#[test]
fn the_completions_are_those_of_the_program() {
    holds(
        "completions",
        &[&["completions", "bash"], &["completions", "zsh"], &["completions", "fish"]],
    );
}

#[test]
fn the_manual_pages_are_those_of_the_program() {
    holds("man", &[&["man"]]);
    let pages = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man"));
    assert!(pages.keys().any(|page| page == "onionbraid-keys-import.1"), "{:?}", pages.keys());
    assert!(pages.keys().all(|page| !page.contains("generate-")), "{:?}", pages.keys());
    assert!(pages["arti.toml.5"].contains(".SH [onion_services.\"shop\".http]"));
}

#[test]
fn the_alerts_are_good_and_say_what_they_should() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus");
    for arguments in
        [["check", "rules", "onionbraid.rules.yml"], ["test", "rules", "onionbraid.rules.test.yml"]]
    {
        let output = Command::new("promtool").args(arguments).current_dir(&directory).output();
        let output = output.expect("promtool, of Prometheus (`make deps`)");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}");
    }
}

#[test]
fn packages_hold_the_licences_of_what_is_linked_into_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let held = files(&root.join("packaging/licences"));
    assert_eq!(held.keys().collect::<Vec<_>>(), ["GPL-3", "LGPL-3", "NOTICE"]);
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let metadata = &manifest["package"]["metadata"];
    let deb = metadata["deb"]["assets"].as_array().unwrap().iter();
    let deb: Vec<_> = deb.filter_map(|asset| asset[0].as_str()).collect();
    let rpm = metadata["generate-rpm"]["assets"].as_array().unwrap().iter();
    let rpm: Vec<_> = rpm.filter_map(|asset| asset["source"].as_str()).collect();
    for assets in [deb, rpm] {
        assert!(assets.contains(&"packaging/licences/*"), "{assets:?}");
    }
}
