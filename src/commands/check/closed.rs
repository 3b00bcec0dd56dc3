//! What `check` says of services that are not for everybody: what that gives, and what
//! it gives away.

use std::io::{self, Write};

use crate::config::{Config, ServiceConfig};
use crate::observe::counted;

/// Who may find a service, where that is not everybody.
pub(super) fn write(service: &ServiceConfig, out: &mut impl Write) -> io::Result<()> {
    let Some(restricted) = &service.restricted_discovery else { return Ok(()) };
    writeln!(
        out,
        "    restricted discovery: {} may find it, and nobody else who knows the address; HSDirs \
         see that it is\n    published, not for whom",
        counted(restricted.keys().len(), "client")
    )
}

/// What keeps a service less closed than it looks.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let enabled = config.services.iter().filter(|service| service.enabled);
    enabled.flat_map(|service| [unpublished(service), open_backends(service)]).flatten().collect()
}

/// Whoever knows the address of a backend finds its introduction points in its own
/// descriptor, and they answer for the service.
fn open_backends(service: &ServiceConfig) -> Option<String> {
    service.restricted_discovery.as_ref()?;
    let open = service.backends.iter().filter(|backend| backend.client_key.is_none());
    let open: Vec<_> = open.map(|backend| backend.name.as_str()).collect();
    if open.is_empty() {
        return None;
    }
    Some(format!(
        "service \"{}\" is for its clients alone, and no `client_key` says that the same is true of \
         {}: whoever knows the address of a backend and that of the service reaches it there. \
         `onionbraid backend-config {} --backend NAME` closes one",
        service.nickname,
        open.join(", "),
        service.nickname
    ))
}

/// A service that runs and that nobody could find, until a client is authorized.
fn unpublished(service: &ServiceConfig) -> Option<String> {
    let nickname = &service.nickname;
    service.access().is_closed().then(|| {
        format!(
            "service \"{nickname}\": restricted discovery is on and no client is authorized, so it is \
             NOT PUBLISHED: `onionbraid clients add {nickname} NAME` authorizes one, and a running \
             daemon has seen it in a few seconds"
        )
    })
}
