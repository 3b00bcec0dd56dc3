//! How remote backends are checked through Tor: the `probe` key.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::Value;
use super::error::{ConfigError, ConfigReport};
use super::reader::TableItem;
use super::units;

/// An end-to-end check of remote backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The virtual port to connect to.
    pub port: u16,
    /// How long after a check of a point the next one follows, on average, 10 s to
    /// 1 h. Without it, [`IN_DOUBT`](Self::IN_DOUBT) while something speaks against
    /// a backend, and [`CALM`](Self::CALM) from one check of a backend to the next
    /// while nothing does.
    pub interval: Option<Duration>,
    /// What to ask an HTTP server for; without it, a connection is enough.
    pub path: Option<String>,
    /// The status that the server has to answer with, 100 to 599; without it, any
    /// answer is enough.
    pub status: Option<u16>,
}

impl Probe {
    /// Where nothing else is said, and something speaks against a backend.
    pub const IN_DOUBT: Duration = Duration::from_secs(60);
    /// Where nothing else is said, and nothing does: so rarely that checks do not
    /// stand out among the visitors of a site.
    pub const CALM: Duration = Duration::from_secs(5 * 60);
}

/// More often would be load on the network, more rarely no check.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3600);

/// Reads `probe`. What is wrong has been reported. `true` asks `port`, which is
/// the service's first.
pub(crate) fn read(item: &TableItem<'_>, port: u16, report: &mut ConfigReport) -> Option<Probe> {
    match item.node.value {
        Value::Scalar(toml::Value::Boolean(wanted)) => {
            let probe = Probe { port, interval: None, path: None, status: None };
            return wanted.then_some(probe);
        }
        Value::Table(_) => {}
        _ => {
            item.wrong("this must be true, false, or a table such as { port = 80 }", report);
            return None;
        }
    }
    let mut table = item.table(report)?;
    let port = match table.get("port") {
        Some(item) => item.integer(1..=u16::MAX, report),
        None => {
            let problem = "it is missing: { port = 80 }";
            report.error(ConfigError::at_key(item.place(), item.path.key("port"), problem));
            None
        }
    };
    let interval = table.get("interval").map(|item| units::time(&item, INTERVALS, report));
    let path_item = table.get("path");
    let path = path_item.as_ref().map(|item| path(item, report));
    let status = table.get("status").map(|item| {
        if path_item.is_none() {
            item.wrong("only an HTTP server has a status: give a `path` too", report);
        }
        item.integer(100..=599, report)
    });
    table.finish(report);
    // Where a key is given and wrong, there is no probe.
    Some(Probe {
        port: port?,
        interval: interval.map_or(Some(None), |interval| interval.map(Some))?,
        path: path.map_or(Some(None), |path| path.map(Some))?,
        status: status.map_or(Some(None), |status| status.map(Some))?,
    })
}

/// Reads the path of a request.
pub(crate) fn path(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<String> {
    const WANTED: &str = "a path such as \"/health\"";
    let text = item.text(WANTED, report)?;
    let sendable = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if text.starts_with('/') && sendable {
        return Some(text.to_owned());
    }
    item.wrong(
        format!("this must be {WANTED}, in ASCII and without blanks: write others as %20"),
        report,
    );
    None
}
