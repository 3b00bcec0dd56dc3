//! Does it work on a Tor network? End-to-end tests on a private one.
//!
//! They need `tor` and `tor-gencert` (Debian package tor) and a minute; each
//! test has a file of its own in `e2e/`.

#![allow(clippy::disallowed_methods, reason = "test shell: clocks and tasks are its business")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod network;

/// The tests, one subject a file.
pub mod e2e {
    // It takes longest, two periods of time, and tests begin in the order of their names.
    mod absent_key;
    mod accessibility;
    mod attacks;
    mod backend_role;
    mod bridges;
    mod changing_machines;
    mod check_online;
    mod clock;
    #[cfg(feature = "pow")]
    mod cockpit;
    mod continuity;
    mod crowd;
    mod descriptor;
    mod distinct_descriptors;
    mod failing_relays;
    mod failover;
    mod few_handles;
    mod floods;
    pub mod frontend;
    mod full_disk;
    mod guard_sets;
    mod guards;
    mod hostile_introductions;
    mod https;
    mod impatient;
    mod keys;
    mod leftovers;
    mod links;
    mod links_attacked;
    mod local_instances;
    mod many_backends;
    mod migration;
    mod mixed_backends;
    mod monitoring;
    mod onionbalance;
    mod operator;
    mod plain_tor;
    #[cfg(feature = "pow")]
    mod proof_of_work;
    mod publishers;
    pub mod refusal;
    mod reload;
    mod restart;
    mod restricted;
    mod shutdown;
    mod single_onion;
    mod slow_network;
    mod tor_trouble;
    mod web;
    mod web_features;
    mod welcome;
}
