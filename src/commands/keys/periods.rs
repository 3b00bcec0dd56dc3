//! `onionbraid keys export-periods`: the keys of some periods, for a publisher without
//! the identity key.
//!
//! Runs where that key is, needs no network, and writes files that are good for their
//! periods alone.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::identity::identity_key;
use super::owner;
use crate::clock::now;
use crate::commands::{Failure, remark, service};
use crate::exit::Exit;
use crate::tor::{bundle, wiped};
use onionbraid_balancer::onion::{OnionAddress, Period};
use onionbraid_balancer::status::Timestamp;

/// What to export.
pub(super) struct Wanted {
    /// How many periods.
    pub(super) count: u16,
    /// From which moment on; `None`: from now on.
    pub(super) from: Option<SystemTime>,
    /// The length of a period, in minutes.
    pub(super) length_minutes: u32,
    /// By how many seconds periods begin after multiples of it.
    pub(super) offset_seconds: u32,
}

/// Writes them to a directory; the address of the key.
pub(super) fn export(
    name: &str,
    out: &Path,
    wanted: &Wanted,
    files: &[PathBuf],
) -> Result<OnionAddress, Failure> {
    let config = owner::load(files)?;
    let key = identity_key(&config, service(&config, name)?)?;
    let address = key.address();
    let &Wanted { count, from, length_minutes, offset_seconds } = wanted;
    let first = Period { number: 0, length_minutes, offset_seconds };
    let first = first.at(from.unwrap_or(now().wall));
    let number = |n: u16| first.number.saturating_add(n.into());
    let periods: Vec<_> = (0..count).map(|n| Period { number: number(n), ..first }).collect();
    if let Some(late) = periods.iter().find(|period| !bundle::is_possible(**period)) {
        let text = format!("there is no time period {} of {length_minutes} minutes", late.number);
        return Err(Failure::new(Exit::Usage, text));
    }
    wiped(|| bundle::export(&key.into(), &periods, out))?;
    let ends = periods.last().map_or(first, |last| *last).ends();
    remark(&format!(
        "The keys of {count} time periods, from {} to {}, lie in {}. Move them to the publisher, \
         whose `identity_bundle` names the directory; whoever has them can publish the service \
         in these periods, and nothing else.",
        Timestamp(first.begins()),
        Timestamp(ends),
        out.display()
    ));
    Ok(address)
}
