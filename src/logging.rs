//! Where log lines go, and which.

mod lines;
mod masks;

use std::io::IsTerminal as _;

use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::{FormatEvent, FormatFields, MakeWriter, SubscriberBuilder};
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{LogFormat, Logging};

use lines::OneLine;

/// Arti warns at every circuit that a small network has few usable relays, of
/// each failed attempt to get a directory, and tells of each step of its own at
/// info: the operator wants ours, which say what to do.
const QUIET: &[&str] = &[
    "tor_netdir=error",
    "tor_guardmgr=error",
    "tor_dirmgr=error",
    "tor_circmgr=error",
    "tor_chanmgr=warn",
    "tor_proto=warn",
    "arti_client=warn",
    "tor_memquota=warn",
    "tor_hsclient=warn",
    "hyper=warn",
    "rustls=warn",
];

/// Keeps logging as configured while it lives.
pub struct LoggingGuard {
    /// Puts another filter in place of the one at work.
    replace_filter: ReplaceFilter,
    /// Sensitive values are shown as long as this is held.
    _show_sensitive: Option<safelog::Guard>,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is checked with the configuration, so this is rare.
    #[error("logging.console is no filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("logging has been started before")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Arti will not show sensitive values.
    #[error("cannot turn off redaction")]
    Redaction(#[from] safelog::Error),
}

/// Why the filter stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum RefilterError {
    /// The filter is checked with the configuration, so this is rare.
    #[error("logging.console is no filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The log is in another's hands.
    #[error("the log does not take it")]
    Log(#[from] reload::Error),
}

impl LoggingGuard {
    /// From now on, what this filter says is logged.
    ///
    /// # Errors
    ///
    /// If it is no filter. The one before stays in place then.
    pub fn refilter(&self, console: &str) -> Result<(), RefilterError> {
        Ok((self.replace_filter)(filter(console)?)?)
    }
}

/// Sends log lines to standard error from now on.
pub fn start(logging: &Logging) -> Result<LoggingGuard, LoggingError> {
    let (journal, masks) = (goes_to_the_journal(), !logging.log_sensitive_information);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&logging.console)?)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let replace_filter = match logging.format {
        LogFormat::Json => install(builder.json().map_event_format(|format| OneLine {
            format,
            priority: journal,
            masks,
        })),
        // The journal has times and levels of its own.
        LogFormat::Text | LogFormat::Auto if journal => install(
            builder
                .with_ansi(false)
                .without_time()
                .with_level(false)
                .map_event_format(|format| OneLine { format, priority: true, masks }),
        ),
        LogFormat::Text | LogFormat::Auto => {
            let colours = has_colours();
            install(builder.with_ansi(colours).map_event_format(|format| OneLine {
                format: format.with_ansi(colours),
                priority: false,
                masks,
            }))
        }
    };
    let replace_filter = replace_filter.map_err(LoggingError::Twice)?;
    let show = logging.log_sensitive_information.then(safelog::disable_safe_logging).transpose()?;
    Ok(LoggingGuard { replace_filter, _show_sensitive: show })
}

/// Puts another filter in place of the one at work.
type ReplaceFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Has all events of the process formatted so.
fn install<N, E, W>(
    builder: SubscriberBuilder<N, E, EnvFilter, W>,
) -> Result<ReplaceFilter, Box<dyn std::error::Error + Send + Sync>>
where
    N: for<'a> FormatFields<'a> + Send + Sync + 'static,
    E: FormatEvent<Registry, N> + Send + Sync + 'static,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = builder.with_filter_reloading();
    let handle = builder.reload_handle();
    builder.try_init()?;
    Ok(Box::new(move |filter| handle.reload(filter)))
}

/// Whether the journal reads what is written to standard error.
pub(crate) fn goes_to_the_journal() -> bool {
    lines::is_the_journal(variable("JOURNAL_STREAM").as_deref(), std::io::stderr())
}

fn has_colours() -> bool {
    let (no_color, term) = (variable("NO_COLOR"), variable("TERM"));
    lines::may_be_coloured(std::io::stderr().is_terminal(), no_color.as_deref(), term.as_deref())
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// The operator's filter over our own defaults for Arti's crates: whatever the
/// operator says of one of them wins.
fn filter(console: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let mut directives = QUIET.join(",");
    directives.push(',');
    directives.push_str(console);
    EnvFilter::builder().parse(directives)
}
