//! Would a configuration leave a service none but backends that operators have out of
//! use? Read from the state directory, where an order is written before it is obeyed,
//! so that `check` and a reload say the same. Reads alone; changes nothing.

use crate::config::{ServiceConfig, Storage};
use crate::observe::counted;
use onionbraid_balancer::memory::Memory;
use onionbraid_balancer::onion::OnionAddress;

use super::state;

/// So many backends are named.
const NAMED: usize = 3;

/// What to warn of where a service with this address would run so.
pub fn warning(
    storage: &Storage,
    service: &ServiceConfig,
    address: &OnionAddress,
) -> Option<String> {
    let memory: Memory = state::look(storage, service.nickname.as_ref(), address)?;
    nobody_in_use(service, &memory)
}

fn nobody_in_use(service: &ServiceConfig, memory: &Memory) -> Option<String> {
    let is_out = |key: &str| memory.out_of_use().any(|(out, _)| out == key);
    let local = (0..service.local_instances).map(|n| format!("local-{n}"));
    let local = local.map(|name| (name.clone(), name));
    let remote = service.backends.iter().map(|it| (it.address.to_string(), it.name.clone()));
    let mut names = Vec::new();
    for (key, name) in local.chain(remote) {
        if !is_out(&key) {
            return None;
        }
        names.push(name);
    }
    let nickname = &service.nickname;
    let first = names.first()?;
    let more = match names.len().checked_sub(NAMED) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {}", counted(more, "other")),
    };
    let named = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    Some(format!(
        "service \"{nickname}\" is down with this: operators have every backend of it out of use \
         ({named}{more}); `onionbraid backend {nickname} {first} ready` takes that back"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RemoteBackend;

    #[test]
    fn only_where_every_backend_is_out_of_use_is_that_said() {
        let berlin = OnionAddress::from_public_key([1; 32]);
        let text = format!(
            r#"{{"version": 1, "operator": [{{"backend": "{berlin}", "word": "drain"}},
                {{"backend": "local-0", "word": "maintenance"}},
                {{"backend": "local-1", "word": "ready", "weight": {{"weight": 1, "instead_of": 2}}}}]}}"#
        );
        let memory: Memory = serde_json::from_str(&text).unwrap();
        let mut service = ServiceConfig::with_defaults("shop".parse().unwrap());
        service.local_instances = 1;
        let said = nobody_in_use(&service, &memory).unwrap();
        assert!(said.contains("(local-0)") && said.contains("shop local-0 ready"), "{said}");
        service.backends = vec![RemoteBackend {
            address: berlin,
            name: "berlin".into(),
            weight: 1,
            client_key: None,
        }];
        assert!(nobody_in_use(&service, &memory).unwrap().contains("(local-0, berlin)"));
        service.local_instances = 2;
        assert_eq!(nobody_in_use(&service, &memory), None);
        service.local_instances = 0;
        assert!(nobody_in_use(&service, &memory).is_some());
        service.backends.clear();
        assert_eq!(nobody_in_use(&service, &memory), None);
        assert_eq!(nobody_in_use(&service, &Memory::default()), None);
    }
}
