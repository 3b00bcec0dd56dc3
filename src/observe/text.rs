//! The Snapshot for a person at a terminal: is each address reachable, and if
//! not, why.

use std::fmt::Write as _;

use super::snapshot::{
    Backend, BackendState, Descriptor, HsdirState, Service, ServiceState, Snapshot,
};

/// Renders a Snapshot as text.
pub fn render(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_snapshot(&mut out, snapshot);
    out
}

/// One line for the daemon, then a block for each service.
fn write_snapshot(out: &mut String, snapshot: &Snapshot) -> std::fmt::Result {
    let ready = if snapshot.ready { "ready" } else { "NOT READY" };
    let tor = &snapshot.tor;
    write!(out, "onionbraid {}: {ready}; Tor {:.0} %", snapshot.version, tor.bootstrap * 100.0)?;
    if tor.bootstrap < 1.0 {
        write!(out, " ({})", tor.message)?;
    }
    writeln!(out)?;
    snapshot.services.iter().try_for_each(|service| write_service(out, service))
}

/// A service: its address, its backends, its descriptors.
fn write_service(out: &mut String, service: &Service) -> std::fmt::Result {
    let state = match service.state {
        ServiceState::Starting => "STARTING",
        ServiceState::Publishing => "PUBLISHING",
        ServiceState::Published => "published",
        ServiceState::Down => "DOWN: no backend answers",
    };
    writeln!(out, "\n{}  {}  {state}", service.nickname, service.address)?;
    let width = service.backends.iter().map(|b| b.name.chars().count()).max().unwrap_or(0).max(7);
    writeln!(out, "  {:width$}  state    points  introductions  streams", "backend")?;
    for backend in &service.backends {
        write_backend(out, backend, width)?;
    }
    service.descriptors.iter().try_for_each(|descriptor| write_descriptor(out, descriptor))
}

/// A line for a backend.
fn write_backend(out: &mut String, backend: &Backend, width: usize) -> std::fmt::Result {
    let state = match backend.state {
        BackendState::Unknown => "unknown",
        BackendState::Up => "up",
        BackendState::Stale => "STALE",
        BackendState::Down => "DOWN",
    };
    let points = format!("{}/{}", backend.published_intro_points, backend.intro_points);
    write!(out, "  {:width$}  {state:7}  {points:>6}", backend.name)?;
    match backend.kind {
        super::snapshot::BackendKind::Local => {
            write!(out, "  {:>13}  {:>7}", backend.introductions, backend.streams)?;
        }
        super::snapshot::BackendKind::Remote => write!(out, "  {:>13}  {:>7}", "-", "-")?,
    }
    match &backend.reason {
        Some(reason) => writeln!(out, "  {reason}"),
        None => writeln!(out),
    }
}

/// A line for a descriptor, and one for each HSDir with trouble.
fn write_descriptor(out: &mut String, descriptor: &Descriptor) -> std::fmt::Result {
    let accepted = descriptor.hsdirs.iter().filter(|h| h.state == HsdirState::Uploaded).count();
    let current = if descriptor.current { " (current)" } else { "" };
    writeln!(
        out,
        "  period {}{current}: {} points on {accepted} of {} HSDirs",
        descriptor.period,
        descriptor.intro_points,
        descriptor.hsdirs.len()
    )?;
    for hsdir in &descriptor.hsdirs {
        if let Some(error) = &hsdir.last_error {
            writeln!(out, "    {}: {error} ({} attempts)", hsdir.relay, hsdir.attempts)?;
        }
    }
    Ok(())
}
