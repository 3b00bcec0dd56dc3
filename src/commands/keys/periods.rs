//! `onionbraid keys export-periods`: the keys of some periods, for a publisher without
//! the identity key.
//!
//! Runs where that key is, needs no network, and writes files that are good for their
//! periods alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use tor_hscrypto::pk::HsIdKeypair;

use super::identity::identity_key;
use super::owner::{self, Owner};
use crate::clock::now;
use crate::commands::hand_over::{NewFile, write_for};
use crate::commands::{CommandFailure, ask, remark, service};
use crate::exit::Exit;
use crate::tor::bundle::{self, BundleFile};
use crate::tor::keys::KeyFileError;
use crate::tor::wiped;
use onionbraid_balancer::onion::{OnionAddress, Period};
use onionbraid_balancer::status::Timestamp;

/// What to export.
pub(super) struct WantedPeriods {
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
    wanted: &WantedPeriods,
    files: &[PathBuf],
) -> Result<OnionAddress, CommandFailure> {
    let config = owner::load(files)?;
    let key = identity_key(&config, service(&config, name)?)?;
    let address = key.address();
    let &WantedPeriods { count, from, length_minutes, offset_seconds } = wanted;
    let first = Period { number: 0, length_minutes, offset_seconds };
    let first = first.at(from.unwrap_or(now().wall));
    let number = |n: u16| first.number.saturating_add(n.into());
    let periods: Vec<_> = (0..count).map(|n| Period { number: number(n), ..first }).collect();
    if let Some(late) = periods.iter().find(|period| !bundle::is_possible(**period)) {
        let text = format!("there is no time period {} of {length_minutes} minutes", late.number);
        return Err(CommandFailure::new(Exit::Usage, text));
    }
    write(&key.into(), &periods, out)?;
    let over = periods.iter().filter(|period| period.ends() <= now().wall).count();
    if over > 0 {
        remark(&format!(
            "Warning: {over} of these time periods are over already{}.",
            if over == periods.len() {
                ", so nothing can be published with these keys"
            } else {
                ""
            }
        ));
    }
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

/// Writes the files, unless a signal asks for the end: then nothing is left of them.
fn write(key: &HsIdKeypair, periods: &[Period], out: &Path) -> Result<(), CommandFailure> {
    let (stop, runtime) = (AtomicBool::new(false), ask::runtime()?);
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let listening: io::Result<Vec<_>> = {
        let _inside = runtime.enter();
        signals.into_iter().map(signal).collect()
    };
    let failed =
        |error| CommandFailure::new(Exit::Failed, format!("cannot receive signals: {error}"));
    let mut listening = listening.map_err(failed)?;
    std::thread::scope(|scope| {
        let (writing, written) = oneshot::channel::<()>();
        let stop = &stop;
        scope.spawn(move || {
            let asked = listening.iter_mut().map(|it| Box::pin(it.recv()));
            let asked = futures::future::select_all(asked);
            runtime.block_on(async {
                tokio::select! {
                    _ = asked => stop.store(true, Relaxed),
                    _ = written => {}
                }
            });
        });
        let is_interrupted = || stop.load(Relaxed);
        let outcome = match owner_of(out) {
            Some(owner) => wiped(|| bundle::contents(key, periods, out, is_interrupted))
                .map_err(failure)
                .and_then(|files| hand_over(owner, out, &files)),
            None => wiped(|| bundle::export(key, periods, out, is_interrupted)).map_err(failure),
        };
        drop(writing);
        outcome
    })
}

fn failure(error: KeyFileError) -> CommandFailure {
    match error {
        KeyFileError::Interrupted(_) => CommandFailure::new(Exit::Failed, error.to_string()),
        error => error.into(),
    }
}

/// Whose the files are to be that root writes: the owner's of the directory, or of the
/// one above where it is new.
fn owner_of(out: &Path) -> Option<Owner> {
    match out.exists() {
        true => owner::of_existing(out),
        false => owner::of_new(out),
    }
}

fn hand_over(owner: Owner, out: &Path, files: &[BundleFile]) -> Result<(), CommandFailure> {
    let file = |(name, bytes): &BundleFile| NewFile::secret(name.into(), bytes);
    write_for(Some(owner), out, files.iter().map(file).collect())
}
