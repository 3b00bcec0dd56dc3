//! What is said of a service first, in numbers, by every rendering.

use super::snapshot::{BackendState, Descriptor, Hsdir, HsdirState, Service};

/// How much of a service works.
pub(super) struct Glance {
    /// Backends that are up.
    pub(super) up: usize,
    /// Introduction points in the current descriptor.
    pub(super) points: usize,
    /// HSDirs that hold it.
    pub(super) uploaded: usize,
    /// HSDirs that should.
    pub(super) hsdirs: usize,
}

impl Glance {
    /// At a service.
    pub(super) fn at(service: &Service) -> Self {
        let hsdirs = current(service).map_or(&[][..], |descriptor| &descriptor.hsdirs);
        Self {
            up: service.backends.iter().filter(|it| it.state == BackendState::Up).count(),
            points: current(service).map_or(0, |descriptor| descriptor.intro_points),
            uploaded: uploaded(hsdirs),
            hsdirs: hsdirs.len(),
        }
    }
}

/// The descriptor that clients look for now.
pub(super) fn current(service: &Service) -> Option<&Descriptor> {
    service.descriptors.iter().find(|descriptor| descriptor.current)
}

/// How many of these HSDirs hold what is published now.
pub(super) fn uploaded(hsdirs: &[Hsdir]) -> usize {
    hsdirs.iter().filter(|hsdir| hsdir.state == HsdirState::Uploaded).count()
}
