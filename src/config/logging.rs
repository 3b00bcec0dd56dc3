//! What is logged and how: the `[logging]` table, with the names of arti's.

use tracing_subscriber::EnvFilter;

use super::document::Node;
use super::error::{ConfigReport, KeyPath};
use super::keys::{Pass, Switch, Words, own};
use super::reader::{TableItem, nearest};

/// What is logged to standard error, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// The filter directives of [`EnvFilter`], known to parse.
    pub console: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether onion addresses and client data are logged in full.
    pub log_sensitive_information: bool,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            console: "info".to_owned(),
            format: LogFormat::Auto,
            log_sensitive_information: false,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text; the daemon decides on colours and timestamps.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// The words of `format`.
const FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];

/// Keys of arti's table that do nothing here.
const IGNORED: [&str; 8] = [
    "files",
    "journald",
    "opentelemetry",
    "protocol_warnings",
    "syslog",
    "time_granularity",
    "tokio_console",
    "unsafe_logging",
];

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Reads `[logging]`.
pub(crate) fn read(node: Option<&Node>, report: &mut ConfigReport) -> Logging {
    let mut logging = Logging::default();
    let Some(node) = node else { return logging };
    let Some(mut table) =
        (TableItem { node, path: KeyPath::default().key("logging") }).table(report)
    else {
        return logging;
    };
    keys(&mut Pass::Read(&mut table, report), &mut logging);
    for key in IGNORED {
        if let Some(item) = table.get_unlisted(key) {
            report.warn(item.place(), &item.path, "arti's own; it does nothing here");
        }
    }
    table.finish(report);
    logging
}

/// The keys of the table that do something here.
pub(crate) fn keys(pass: &mut Pass<'_, '_>, logging: &mut Logging) {
    pass.key("console", &mut logging.console, own(console, |text| text.clone().into()));
    pass.key("format", &mut logging.format, Words(&FORMATS));
    pass.key("log_sensitive_information", &mut logging.log_sensitive_information, Switch);
}

fn console(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<String> {
    let text = item.text("a filter such as \"info\"", report)?;
    check_filter(text).map_err(|problem| item.wrong(problem, report)).ok()?;
    Some(text.to_owned())
}

/// Checks filter directives. A lone word is a target to [`EnvFilter`], so that
/// a mistyped level would silently log nothing: that is caught here.
fn check_filter(text: &str) -> Result<(), String> {
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| format!("this is no filter ({error}): try \"info\""))?;
    for word in text.split(',').map(|word| word.trim().to_ascii_lowercase()) {
        let level = nearest(&word, LEVELS.into_iter());
        if let Some(level) = level.filter(|level| *level != word) {
            return Err(format!("`{word}` is no level: did you mean `{level}`?"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_with_targets_and_spans_are_accepted() {
        for filter in ["info", "INFO", "info,onionbraid=debug", "warn,tor_proto[circ]=trace", "off"]
        {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
    }

    #[test]
    fn a_mistyped_level_is_caught() {
        assert!(check_filter("inof").unwrap_err().contains("`info`"));
        assert!(check_filter("warn,onionbraid=loud").is_err());
    }
}
