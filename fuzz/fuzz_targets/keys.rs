//! No bytes make the key parsers panic, and a key that is read has an address.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid::tor::keys::{Parsed, parse};

fuzz_target!(|bytes: &[u8]| {
    let address = match parse(bytes) {
        Ok(Parsed::Secret(key)) => key.address(),
        Ok(Parsed::Public(address)) => address,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(address.to_string().parse(), Ok::<OnionAddress, _>(address));
});
