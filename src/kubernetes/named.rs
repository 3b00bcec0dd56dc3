//! Which addresses the files of a directory name that was made before: those whose keys
//! it has to have still. Text in, values out; edited files name what is left of them.

use onionbraid_balancer::onion::OnionAddress;
use toml::{Table, Value};

/// The files that name the service's address.
pub const OF_SERVICE: [&str; 2] = super::CONFIGURATIONS;

/// The file that names those of the slots.
pub const OF_SLOTS: &str = "slots.toml";

/// The service's addresses in one of [`OF_SERVICE`]: in the comment at its head, and in
/// `frontends`.
pub fn of_service(text: &str) -> Vec<OnionAddress> {
    let head = text.lines().filter_map(|line| {
        let line = line.strip_prefix("# ")?;
        let address = line.strip_prefix("Publishers of ").or(line.strip_prefix("Backends of "))?;
        address.parse().ok()
    });
    let mut found: Vec<OnionAddress> = head.collect();
    let table: Table = text.parse().unwrap_or_default();
    let services = table.get("onion_services").and_then(Value::as_table);
    let frontends = services.into_iter().flatten().filter_map(|(_, it)| it.get("frontends"));
    let frontends = frontends.filter_map(Value::as_array).flatten();
    let addresses = frontends.filter_map(Value::as_str).map(str::parse::<OnionAddress>);
    found.extend(addresses.flatten());
    found.sort();
    found.dedup();
    found
}

/// The slots and their addresses in [`OF_SLOTS`]: by the name `slot-N`, else by the place
/// in the list.
///
/// # Errors
///
/// It cannot be read as such a list.
pub fn of_slots(text: &str) -> Result<Vec<(usize, OnionAddress)>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let list = table.get("backends").and_then(Value::as_array).ok_or("it has no `backends`")?;
    let slot = |(place, backend): (usize, &Value)| {
        let name = backend.get("name").and_then(Value::as_str);
        let slot = name.and_then(|name| name.strip_prefix("slot-")?.parse().ok()).unwrap_or(place);
        let address = backend.get("address").unwrap_or(backend).as_str();
        let address = address.and_then(|text| text.parse().ok());
        let wrong = || format!("entry {} of `backends` has no address", place + 1);
        address.map(|address| (slot, address)).ok_or_else(wrong)
    };
    list.iter().enumerate().map(slot).collect()
}
