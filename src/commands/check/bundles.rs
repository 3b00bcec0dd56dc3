//! What `check` says of services whose identity key is kept elsewhere: for how long
//! their keys last.

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::config::ServiceConfig;
use crate::tor::credentials::Credentials;
use onionbraid_balancer::status::Timestamp;
use onionbraid_balancer::{BundlePeriods, Coverage};

/// The keys of a service, where they are those of some periods.
pub(super) struct CheckedBundle<'a> {
    service: &'a ServiceConfig,
    directory: &'a Path,
    count: usize,
    coverage: Coverage,
}

impl<'a> CheckedBundle<'a> {
    /// That of a service, as of now.
    pub(super) fn of(
        service: &'a ServiceConfig,
        credentials: &Credentials,
        now: SystemTime,
    ) -> Option<Self> {
        let directory = service.identity_bundle.as_deref()?;
        let periods: BundlePeriods = credentials.periods()?.into_iter().collect();
        Some(Self { service, directory, count: periods.count(), coverage: periods.at(now) })
    }

    /// Where the keys are, and for how long they last.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (directory, count) = (self.directory.display(), self.count);
        writeln!(out, "    keys of {count} time periods from {directory}, and no identity key")?;
        if let Coverage::Left { periods, until, .. } = self.coverage {
            let until = Timestamp(until);
            writeln!(
                out,
                "    {periods} of them are left, the present one included, until {until}"
            )?;
        }
        Ok(())
    }

    /// What there is to think about: also that it is not published any more, since the
    /// daemon runs without it and has others to serve.
    pub(super) fn warning(&self) -> Option<String> {
        let problem = self.coverage.problem()?;
        Some(format!("service \"{}\": {problem}", self.service.nickname))
    }
}

/// That the identity key lies on this machine, too.
pub(super) fn key_beside(service: &ServiceConfig) -> String {
    format!(
        "service \"{}\" has its identity key in the keystore here, beside `identity_bundle`: the \
         bundle protects it only if the key is on another machine; move it away (docs/\
         offline-master-key.md)",
        service.nickname
    )
}
