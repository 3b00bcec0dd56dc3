//! No bytes make the reader of a control link panic, and what is read of it can
//! be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbraid_balancer::link::{Lines, LinkOrders, Report, line};
use serde::{Serialize, de::DeserializeOwned};

fuzz_target!(|bytes: &[u8]| {
    read::<Report>(bytes);
    read::<LinkOrders>(bytes);
});

/// Feeds the bytes in two pieces, as they may come.
fn read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let mut lines = Lines::default();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for piece in [first, second] {
        if lines.push(piece).is_err() {
            return;
        }
        while let Some(message) = lines.message::<T>() {
            let Ok(message) = message else { return };
            let mut again = Lines::default();
            // Escapes and numbers may take more room than they came in.
            if again.push(&line(&message)).is_ok() {
                assert_eq!(again.message(), Some(Ok(message)));
            }
        }
    }
}
