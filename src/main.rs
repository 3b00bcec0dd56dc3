//! The `onionbraid` program.

fn main() {}
