//! Where log lines go, and which.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::reload;

use crate::config::{LogFormat, Logging};

/// Arti warns at every circuit that a small network has few usable relays, and
/// tells of each step of its own at info: the operator wants ours.
const QUIET: &[&str] = &[
    "tor_netdir=error",
    "tor_guardmgr=warn",
    "tor_dirmgr=warn",
    "tor_circmgr=warn",
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
    replace_filter: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
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
    let filter = filter(&logging.console)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let json = match logging.format {
        LogFormat::Json => true,
        LogFormat::Text | LogFormat::Auto => false,
    };
    let (started, replace_filter): (_, Box<dyn Fn(_) -> _ + Send + Sync>) = if json {
        let builder = builder.json().with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Box::new(move |filter| handle.reload(filter)))
    } else {
        let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Box::new(move |filter| handle.reload(filter)))
    };
    started.map_err(LoggingError::Twice)?;
    let show = logging.log_sensitive_information.then(safelog::disable_safe_logging).transpose()?;
    Ok(LoggingGuard { replace_filter, _show_sensitive: show })
}

/// The operator's filter over our own defaults for Arti's crates: whatever the
/// operator says of one of them wins.
fn filter(console: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let mut directives = QUIET.join(",");
    directives.push(',');
    directives.push_str(console);
    EnvFilter::builder().parse(directives)
}
