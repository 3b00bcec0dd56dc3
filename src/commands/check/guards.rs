//! What `check` says of local instances with guards of their own: what that costs.

use std::io::{self, Write};

use crate::config::{Guards, ServiceConfig};

/// How many guards see circuits of a service begin, where they are more than one.
pub(super) fn write(service: &ServiceConfig, out: &mut impl Write) -> io::Result<()> {
    let sets = service.local_instances;
    match (service.guards, sets) {
        (Guards::Shared, _) | (_, 0) => Ok(()),
        (Guards::Own, 1) => writeln!(
            out,
            "    its guards are its own: one more relay than the guards of the process sees \
             circuits of this machine begin"
        ),
        (Guards::Own, _) => writeln!(
            out,
            "    each has guards of its own, for more bandwidth. THE PRICE IS ANONYMITY: {sets} \
             guards see circuits of this\n    service begin, so a hostile one among them is {sets} \
             times as likely"
        ),
    }
}
