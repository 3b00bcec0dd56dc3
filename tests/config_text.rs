//! No text makes the configuration parser panic, and whatever it accepts can be
//! shown and reads as the same configuration. `fuzz/` asks the same for longer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use onionbraid::config::{Config, EXAMPLE, Environment};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What stands in a configuration file: the example with every key uncommented,
/// and the wrong files of the other tests.
fn lines() -> Vec<String> {
    let mut text = EXAMPLE.lines().map(uncomment).collect::<Vec<_>>();
    for entry in Path::new("tests/config").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            text.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    text.retain(|line| !line.starts_with('#') && !line.is_empty());
    text
}

fn uncomment(line: &str) -> String {
    let rest = line.trim_start_matches(['#', ' ']);
    let is_key = rest
        .split_once(" = ")
        .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    if is_key { rest.to_owned() } else { line.to_owned() }
}

/// What stands in the table `http`: in the example, and in the wrong files.
fn http_lines() -> Vec<String> {
    let begin = EXAMPLE.lines().skip_while(|line| !line.ends_with(".http]")).skip(1);
    let mut text: Vec<String> =
        begin.take_while(|line| !line.starts_with('[')).map(uncomment).collect();
    for entry in Path::new("tests/config").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("/http-") && path.is_file() {
            text.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    let is_key = |line: &str| !line.starts_with(['#', '[']) && line.contains(" = ");
    text.retain(|line| is_key(line) && !line.starts_with("proxy_ports"));
    text
}

/// Lines with different keys.
fn table(mut lines: Vec<String>) -> String {
    let key = |line: &String| line.split(' ').next().map(str::to_owned);
    lines.sort_by_key(key);
    lines.dedup_by_key(|line| key(line));
    lines.join("\n")
}

/// The example with every key uncommented, once.
fn example() -> String {
    let mut seen: Vec<String> = Vec::new();
    let mut lines: Vec<String> = EXAMPLE.lines().map(uncomment).collect();
    lines.retain(|line| {
        if line.starts_with('[') {
            seen.clear();
        }
        let key = line.split(" = ").next().unwrap().to_owned();
        let again = seen.contains(&key);
        seen.push(key);
        !(line.starts_with('#') || line.is_empty() || again)
    });
    lines.join("\n")
}

#[test]
fn the_whole_example_is_accepted_and_reads_as_it_is_shown() {
    let env = Environment::new([("HOME", "/home/user")]);
    let config = Config::from_text(&example(), &env).unwrap();
    assert!(config.services[0].probe.is_some() && config.services[0].identity_key.is_some());
    check(&example()).unwrap();
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let env = Environment::new([("HOME", "/home/user")]);
    let config = match Config::from_text(text, &env) {
        Ok(config) => config,
        Err(errors) => {
            prop_assert!(!errors.0.is_empty() && !errors.to_string().is_empty());
            return Ok(());
        }
    };
    let shown = toml::to_string(&config.to_toml()).unwrap();
    let again = Config::from_text(&shown, &env);
    let again = again.map_err(|errors| TestCaseError::fail(format!("{shown}\n{errors}")))?;
    prop_assert_eq!(again.services, config.services);
    prop_assert_eq!(again.admin, config.admin);
    prop_assert_eq!(again.logging, config.logging);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn lines_in_any_order(some in prop::collection::vec(select(lines()), 0..12)) {
        check(&some.join("\n"))?;
        // Keys of a service, most of which would be at home nowhere else.
        let service = "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:80\"]]\n";
        check(&format!("{service}{}", some.join("\n")))?;
    }

    #[test]
    fn keys_of_a_service_one_at_a_time(key in select(lines()), value in any::<Index>()) {
        let values = lines();
        let (name, own) = key.split_once(" = ").unwrap_or((&key, "1"));
        let other = value.get(&values).split_once(" = ").map_or("\"x\"", |(_, value)| value);
        for value in [own, other] {
            let ports = if name == "proxy_ports" { "" } else { "proxy_ports = [[1, \"reject\"]]\n" };
            check(&format!("[onion_services.a]\n{ports}{name} = {value}\n"))?;
        }
    }

    #[test]
    fn keys_of_http_for_the_service_and_for_one_port(
        service in prop::collection::vec(select(http_lines()), 0..4),
        port in prop::collection::vec(select(http_lines()), 0..3),
    ) {
        let ports = "[[\"80-90\", [\"http://127.0.0.1:1\", \"https://a.example\"]], \
                      [\"91\", \"file:/srv\"]]";
        check(&format!(
            "[onion_services.a]\nproxy_ports = {ports}\n[onion_services.a.http.ports.\"85\"]\n{}\n\
             [onion_services.a.http]\n{}\n",
            table(port),
            table(service),
        ))?;
    }

    #[test]
    fn the_example_with_a_few_characters_changed(
        changes in prop::collection::vec((any::<Index>(), any::<char>()), 1..4),
    ) {
        let mut text: Vec<char> = example().chars().collect();
        for (at, c) in changes {
            let at = at.index(text.len());
            text[at] = c;
        }
        check(&text.into_iter().collect::<String>())?;
    }

    #[test]
    fn anything_at_all(text: String) {
        check(&text)?;
    }
}

#[test]
fn a_relative_state_directory_is_shown_as_the_absolute_one_that_it_means() {
    let text = "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n\
                [storage]\nstate_dir = \"${unclosed/x\"\n";
    let env = Environment::new([("HOME", "/nonexistent")]);
    let config = Config::from_text(text, &env).unwrap();
    assert!(config.storage.state_dir.is_absolute());
    let shown = toml::to_string(&config.to_toml()).unwrap();
    let again = Config::from_text(&shown, &env).unwrap();
    assert_eq!(again.admin, config.admin);
}
