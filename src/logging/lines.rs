//! The form of a log line: one for each event, whatever is in it, and as the
//! journal wants it where that reads them.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::AsFd;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::masks::masked;
use crate::causes::on_one_line;

/// Writes each event as another format does, on one line.
#[derive(Debug)]
pub(super) struct OneLine<F> {
    /// Writes it.
    pub(super) format: F,
    /// Whether its priority comes first, as the journal reads it
    /// (`SyslogLevelPrefix=` of systemd.exec(5)).
    pub(super) priority: bool,
    /// Whether lines at info and above say no addresses and no relays.
    pub(super) masks: bool,
}

impl<S, N, F> FormatEvent<S, N> for OneLine<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.format.format_event(context, Writer::new(&mut text), event)?;
        if self.priority {
            write!(writer, "<{}>", priority(*event.metadata().level()))?;
        }
        let line = text.trim_end();
        let line = match self.masks && *event.metadata().level() <= Level::INFO {
            true => masked(line),
            false => Cow::Borrowed(line),
        };
        match line.contains(['\n', '\r']) {
            true => writeln!(writer, "{}", on_one_line(&line)),
            false => writeln!(writer, "{line}"),
        }
    }
}

/// The level as syslog numbers it.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Whether the journal reads what is written there: `stream` is
/// `$JOURNAL_STREAM`, which names it by device and inode. A process that was
/// started by a service with its output elsewhere has the variable, too.
pub(super) fn is_the_journal(stream: Option<&str>, output: impl AsFd) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    let Ok(is) = rustix::fs::fstat(output) else { return false };
    device.parse() == Ok(is.st_dev) && inode.parse() == Ok(is.st_ino)
}

/// Whether text may be coloured, given `$NO_COLOR` (<https://no-color.org>) and
/// `$TERM`.
pub(super) fn may_be_coloured(terminal: bool, no_color: Option<&str>, term: Option<&str>) -> bool {
    terminal && no_color.is_none_or(str::is_empty) && term != Some("dumb")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_journal_is_told_by_device_and_inode() {
        let output = tempfile::tempfile().unwrap();
        let is = output.metadata().unwrap();
        let stream = format!("{}:{}", is.dev(), is.ino());
        assert!(is_the_journal(Some(&stream), &output));
        let other = File::open("/dev/null").unwrap();
        assert!(!is_the_journal(Some(&stream), &other));
        for stream in [None, Some(""), Some(":"), Some("8"), Some("a:b"), Some("8:1:1")] {
            assert!(!is_the_journal(stream, &output), "{stream:?}");
        }
    }

    #[test]
    fn colours_are_for_terminals_of_people_who_want_them() {
        assert!(may_be_coloured(true, None, Some("xterm")));
        assert!(may_be_coloured(true, Some(""), None));
        assert!(!may_be_coloured(true, Some("1"), None));
        assert!(!may_be_coloured(true, None, Some("dumb")));
        assert!(!may_be_coloured(false, None, Some("xterm")));
    }

    #[test]
    fn an_event_is_a_line_with_its_priority_first() {
        let (output, writer) = std::io::pipe().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_ansi(false)
            .with_target(false)
            .map_event_format(|format| OneLine { format, priority: true, masks: true })
            .with_max_level(Level::DEBUG)
            .with_writer(move || writer.try_clone().unwrap())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(error = %"first\n  second\n", "two errors:\nhere");
            tracing::warn!("a");
            tracing::info!("b");
            let address = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid";
            tracing::info!(reason = %format!("{address}.onion"), "{address}");
            tracing::debug!("{address}");
        });
        let text = std::io::read_to_string(output).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "<3>ERROR two errors: here error=first; second",
                "<4> WARN a",
                "<6> INFO b",
                "<6> INFO [address] reason=[address].onion",
                "<7>DEBUG 2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid"
            ]
        );
    }
}
