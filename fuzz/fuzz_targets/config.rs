//! No text makes the configuration parser panic, and a configuration that is
//! shown reads as the same one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbraid::config::{Config, Environment};

fuzz_target!(|text: &str| {
    let env = Environment::new([("HOME", "/home/user")]);
    let Ok(config) = Config::from_text(text, &env) else { return };
    let shown = toml::to_string(&config.to_toml()).expect("what is shown is TOML");
    let again = Config::from_text(&shown, &env).expect("what is shown is accepted");
    assert_eq!(again.services, config.services);
    assert_eq!(again.admin, config.admin);
    assert_eq!(again.logging, config.logging);
});
