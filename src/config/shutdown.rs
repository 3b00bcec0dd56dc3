//! How the daemon ends, and what it takes out while it runs: the `[shutdown]`
//! table.

use std::time::Duration;

use super::document::Node;
use super::error::{ConfigReport, KeyPath};
use super::reader::TableItem;
use super::units;

/// How long ending may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long introductions are still answered after the last HSDir has the
    /// descriptor without the points, 0 to 10 min: clients keep the old one
    /// for a while.
    pub grace: Duration,
    /// How long everything may take together, open streams among it, 1 s to 1 h.
    pub limit: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), limit: Duration::from_secs(30) }
    }
}

/// Reads `[shutdown]`.
pub(crate) fn read(node: Option<&Node>, report: &mut ConfigReport) -> Shutdown {
    let mut shutdown = Shutdown::default();
    let Some(node) = node else { return shutdown };
    let Some(mut table) =
        (TableItem { node, path: KeyPath::default().key("shutdown") }).table(report)
    else {
        return shutdown;
    };
    let (grace, limit) = (table.get("grace"), table.get("limit"));
    let grace_range = Duration::ZERO..=Duration::from_mins(10);
    let limit_range = Duration::from_secs(1)..=Duration::from_hours(1);
    let read_grace = grace.as_ref().and_then(|item| units::time(item, grace_range, report));
    let read_limit = limit.as_ref().and_then(|item| units::time(item, limit_range, report));
    table.finish(report);
    shutdown.grace = read_grace.unwrap_or(shutdown.grace);
    shutdown.limit = read_limit.unwrap_or(shutdown.limit);
    // Only of values that are good by themselves.
    let good = grace.is_some() == read_grace.is_some() && limit.is_some() == read_limit.is_some();
    if good && shutdown.grace >= shutdown.limit {
        let limit_text = humantime::format_duration(shutdown.limit);
        let grace_text = humantime::format_duration(shutdown.grace);
        match (&grace, &limit) {
            (Some(grace), _) => grace.wrong(
                format!("the grace is a part of `limit`, {limit_text}: it must be shorter"),
                report,
            ),
            (None, Some(limit)) => limit.wrong(
                format!("`grace`, {grace_text}, is a part of it: this must be longer"),
                report,
            ),
            (None, None) => {}
        }
    }
    shutdown
}
