//! Which addresses published elsewhere the local instances answer for: the
//! `frontends` key.

use super::backends;
use super::error::ConfigReport;
use super::reader::TableItem;
use onionbraid_balancer::onion::OnionAddress;

/// Reads `frontends`. What is wrong has been reported; the rest is returned.
/// That none is the service's own address, only who has its key can see:
/// `addresses`.
pub(crate) fn read(item: &TableItem<'_>, report: &mut ConfigReport) -> Vec<OnionAddress> {
    let wanted = "an array of onion addresses, such as [\"....onion\"]";
    let mut found: Vec<(usize, OnionAddress)> = Vec::new();
    for (index, entry) in item.array(wanted, report).into_iter().flatten().enumerate() {
        let Some(address) = backends::address(&entry, report) else { continue };
        if let Some((earlier, _)) = found.iter().find(|(_, other)| *other == address) {
            entry.wrong(format!("this is frontends[{earlier}] already"), report);
        }
        found.push((index, address));
    }
    found.into_iter().map(|(_, address)| address).collect()
}
