//! Every mistake in a configuration file gets an answer that helps: each file
//! `tests/config/NAME.toml` is wrong, and `NAME.expected` is all that is said
//! about it. Where there is a `NAME.over.toml`, it is laid over the first. What
//! is accepted with a warning is called `warning-NAME`.
//!
//! With `UPDATE_EXPECTED=1` in the environment the answers are written anew;
//! read the difference before committing it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use onionbraid::config::{Config, Environment};

fn environment() -> Environment {
    Environment::new([("HOME", "/home/user")])
}

/// The wrong files, as paths relative to the package: the way they are shown.
fn cases() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir("tests/config")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| !path.to_string_lossy().ends_with(".over.toml"))
        .collect();
    files.sort();
    files
}

fn errors_of(file: &Path) -> String {
    let over = file.with_extension("over.toml");
    let mut files = vec![file.to_owned()];
    if over.exists() {
        files.push(over);
    }
    match Config::load(&files, &environment()) {
        Ok(config) => format!("no error, only a warning:\n{}\n", config.warnings.join("\n")),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn every_wrong_file_is_answered_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut differences = String::new();
    for file in cases() {
        let expected_file = file.with_extension("expected");
        let said = errors_of(&file);
        if update {
            std::fs::write(&expected_file, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        let name = file.display();
        let is_warning = name.to_string().starts_with("tests/config/warning-");
        if said != expected || said.starts_with("no error") != is_warning {
            let _ = writeln!(differences, "--- {name} expected:\n{expected}--- said:\n{said}");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn the_corpus_is_large() {
    assert!(cases().len() >= 60, "only {} cases", cases().len());
}

#[test]
fn ten_different_mistakes_are_all_named_in_one_run() {
    let said = errors_of(Path::new("tests/config/ten-mistakes.toml"));
    let blocks: Vec<&str> = said.split("\n\n").filter(|block| !block.trim().is_empty()).collect();
    assert_eq!(blocks.len(), 10, "{said}");
    assert!(blocks.iter().all(|block| block.starts_with("tests/config/ten-mistakes.toml:")));
}

#[test]
fn a_file_that_is_missing_or_a_directory_is_an_error_that_says_so() {
    let load = |file: &str| Config::load(&[file.into()], &environment()).unwrap_err();
    let missing = load("tests/config/there-is-none.toml");
    assert!(missing.to_string().contains("there is no such file"), "{missing}");
    let directory = load("tests/config");
    assert!(directory.to_string().contains("this is a directory"), "{directory}");
    assert_eq!(directory.exit() as u8, 78);
}

#[test]
fn without_a_home_the_directories_are_asked_for() {
    let mut env = Environment::new([("LANG", "C")]);
    env.system_file = "/nonexistent/arti.toml".into();
    let errors = Config::load(&[], &env).unwrap_err().to_string();
    assert!(
        errors.contains("storage.state_dir") && errors.contains("storage.cache_dir"),
        "{errors}"
    );
}

#[test]
fn a_state_directory_too_deep_for_the_admin_socket_is_an_error_that_says_so() {
    let deep = format!("/{}", "d".repeat(120));
    let mut env = Environment::new([("HOME", deep)]);
    env.system_file = "/nonexistent/arti.toml".into();
    let errors = Config::load(&[], &env).unwrap_err().to_string();
    assert!(errors.contains("admin.listen") && errors.contains("at most 107 bytes"), "{errors}");
}
