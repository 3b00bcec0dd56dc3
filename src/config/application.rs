//! What of the arti program's `[application]` has a meaning here: whether others
//! may look into the process.

use super::document::{Node, Value};
use super::error::{ConfigReport, KeyPath};
use super::reader::TableItem;

/// Reads `[application]`: `permit_debugging`, false by default. Its other keys are
/// arti's own.
pub(crate) fn read(node: Option<&Node>, report: &mut ConfigReport) -> bool {
    let Some(node) = node else { return false };
    let path = KeyPath::default().key("application");
    let Some(mut table) = (TableItem { node, path: path.clone() }).table(report) else {
        return false;
    };
    let permitted = table.get("permit_debugging").and_then(|item| item.boolean(report));
    if let Value::Table(entries) = &node.value {
        for (key, node) in entries.iter().filter(|(key, _)| *key != "permit_debugging") {
            let text = "it belongs to the arti program and does nothing here";
            report.warn(node.place.clone(), &path.key(key), text);
        }
    }
    permitted.unwrap_or_default()
}
