//! What `onionbraid keys export-periods` takes that no other command does.

use std::time::SystemTime;

use clap::Args;

pub(super) const EXPORT_PERIODS: &str = "\
Examples:
  onionbraid keys export-periods shop --count 30 --out ./shop-bundle
  onionbraid keys export-periods shop --count 30 --out ./next --from 2027-01-20T12:00:00Z

One period lasts a day. Neither the identity key nor a blinded secret key is among
what is written; whoever has the files can publish the service in these periods,
which nobody can take back.";

/// How long the network's time periods are.
#[derive(Clone, Copy, Debug, Args)]
pub struct PeriodShape {
    /// How long a time period is, in minutes: the network's `hsdir_interval`
    #[arg(
        long = "period-minutes", value_name = "MINUTES", default_value_t = 1440,
        value_parser = clap::value_parser!(u32).range(5..=10080)
    )]
    pub minutes: u32,
    /// When time periods begin, in seconds after the beginning of 1970: 12 voting intervals
    #[arg(
        long = "period-offset", value_name = "SECONDS", default_value_t = 43200,
        value_parser = clap::value_parser!(u32).range(0..=604800)
    )]
    pub offset_seconds: u32,
}

/// Reads a day or a moment, in UTC.
pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    humantime::parse_rfc3339(&whole).map_err(|_| {
        "a moment in UTC after 1970 is wanted, 2027-01-20 or 2027-01-20T12:00:00Z".to_owned()
    })
}
