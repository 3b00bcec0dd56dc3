//! What is right in a configuration, and may still not be what its operator
//! wants? Words only.

use super::online::port;
use crate::config::ServiceConfig;
use onionbraid_balancer::onion::{MAX_INTRO_POINTS, OnionAddress};
use onionbraid_balancer::{Distinct, Publishers};
use onionbraid_proxy::settings::HttpSettings;

/// A line for each thing to think about. `address` is the service's, and `all`
/// are the services beside it.
pub(super) fn on(
    service: &ServiceConfig,
    address: Option<OnionAddress>,
    all: &[ServiceConfig],
) -> Vec<String> {
    if !service.enabled {
        return Vec::new();
    }
    let hints = [
        not_probed(service),
        unknown_to_publishers(service, address, all),
        take_turns(service),
        names_of_another(service),
        held_back(service),
        shares_a_backend(service, all),
    ];
    let hint = |hint| format!("service \"{}\": {hint}", service.nickname);
    hints.into_iter().flatten().map(hint).collect()
}

/// The same, of all services together.
pub(super) fn on_all(services: &[ServiceConfig]) -> Option<String> {
    let enabled = services.iter().filter(|service| service.enabled).count();
    (enabled > 1).then(|| {
        format!(
            "{enabled} services share guards and times at which they come and go, so whoever \
             watches those can tell that they belong together; where nobody may know, give each a \
             process and a machine of its own (docs/threat-model.md)"
        )
    })
}

/// The backends that get traffic while all of them are well.
fn in_use(service: &ServiceConfig) -> usize {
    let local = if service.local_weight > 0 { usize::from(service.local_instances) } else { 0 };
    local + service.backends.iter().filter(|backend| backend.weight > 0).count()
}

/// A lone backend stays listed whatever probes say: there is nobody else.
fn not_probed(service: &ServiceConfig) -> Option<String> {
    (service.probe.is_none() && !service.backends.is_empty() && in_use(service) > 1).then(|| {
        format!(
            "nothing probes its backends elsewhere, so one that dies stays listed for up to three \
             hours, and one whose server is down for as long as its tor runs; probe = {{ port = {} \
             }} asks each of them",
            port(service)
        )
    })
}

/// Unless a service beside it makes them known under an address of its own.
fn unknown_to_publishers(
    service: &ServiceConfig,
    address: Option<OnionAddress>,
    all: &[ServiceConfig],
) -> Option<String> {
    let known = |address| all.iter().any(|it| it.enabled && it.frontends.contains(&address));
    let unknown = service.publishers == Publishers::Several
        && service.local_instances > 0
        && !address.is_some_and(known);
    unknown.then(|| {
        "the other publishers do not know its local instances, and leave them out of what they \
         publish; a service with an address of its own and `frontends` makes them known \
         (docs/several-publishers.md)"
            .to_owned()
    })
}

fn take_turns(service: &ServiceConfig) -> Option<String> {
    let count = in_use(service);
    let too_many = service.distinct_descriptors == Distinct::Never && count > MAX_INTRO_POINTS;
    too_many.then(|| {
        format!(
            "one descriptor has room for {MAX_INTRO_POINTS} of its {count} backends, so they take \
             turns; without `distinct_descriptors = false` all of them are in use"
        )
    })
}

/// Who cannot verify work is no help while it is asked for.
fn held_back(service: &ServiceConfig) -> Option<String> {
    let held_back = service.pow.enabled && service.local_instances > 0;
    (held_back && !service.backends.is_empty()).then(|| {
        "while its clients are asked for work (`enable_pow`), its backends elsewhere leave the \
         descriptor, since they cannot verify it: its local instances then serve everybody \
         (docs/proof-of-work.md)"
            .to_owned()
    })
}

/// What two services list can be seen in the descriptors of both.
fn shares_a_backend(service: &ServiceConfig, all: &[ServiceConfig]) -> Option<String> {
    let lists = |other: &ServiceConfig, address| {
        other.backends.iter().any(|backend| backend.address == address)
    };
    let others = all.iter().filter(|it| it.enabled && it.nickname != service.nickname);
    let (other, backend) = others
        .flat_map(|other| service.backends.iter().map(move |backend| (other, backend)))
        .find(|(other, backend)| lists(other, backend.address))?;
    Some(format!(
        "its backend \"{}\" answers for service \"{}\", too: whoever knows both addresses sees the \
         same introduction points in both descriptors (docs/threat-model.md)",
        backend.name, other.nickname
    ))
}

/// Clients of a frontend do not know the address that "self" stands for.
fn names_of_another(service: &ServiceConfig) -> Option<String> {
    let settings = service.proxy_ports.0.iter().filter_map(|rule| rule.target.settings());
    let own = |settings: &HttpSettings| settings.headers.names.iter().any(|it| it.onion.is_none());
    let mixed = !service.frontends.is_empty() && settings.into_iter().any(|it| own(it));
    mixed.then(|| {
        "a name without `onion` becomes this service's own address, also for clients that came by \
         one of its `frontends`; write the frontend's as `onion`"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    const FIRST: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";
    const SECOND: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion";

    /// The hints on the first service, which has the address of [`FIRST`].
    fn hints(text: &str) -> Vec<String> {
        let environment = Environment::new([("HOME", "/home/user")]);
        let config = Config::from_text(text, &environment).unwrap();
        on(&config.services[0], FIRST.parse().ok(), &config.services)
    }

    fn hints_on(keys: &str) -> Vec<String> {
        hints(&format!("[onion_services.shop]\nproxy_ports = [[8080, \"http://[::1]:1\"]]\n{keys}"))
    }

    fn assert_one(hints: &[String], text: &str) {
        assert!(hints.len() == 1 && hints[0].contains(text), "{text:?}: {hints:?}");
        assert!(!hints[0].contains("  "), "a run of blanks: {hints:?}");
    }

    #[test]
    fn backends_that_nobody_probes_are_mentioned_if_there_are_others() {
        let backends = format!("backends = [\"{SECOND}\"]\n");
        assert!(hints_on(&backends).is_empty());
        let several = format!("local_instances = 1\n{backends}");
        assert_one(&hints_on(&several), "probe = { port = 8080 }");
        assert!(hints_on(&format!("{several}probe = {{ port = 80 }}")).is_empty());
        assert!(hints_on(&format!("{several}local_weight = 0")).is_empty());
        assert!(hints_on(&format!("{several}enabled = false\n[onion_services.x]\nlocal_instances = 1\nproxy_ports = [[80, \"[::1]:1\"]]")).is_empty());
        assert!(hints_on("local_instances = 2").is_empty());
    }

    #[test]
    fn local_instances_that_other_publishers_do_not_know_are_mentioned() {
        let several = "[onion_services.a]\npublishers = \"several\"\nlocal_instances = 1\n\
                       proxy_ports = [[80, \"[::1]:1\"]]\n";
        assert_one(&hints(several), "docs/several-publishers.md");
        let known = format!(
            "{several}[onion_services.b]\nfrontends = [\"{FIRST}\"]\nproxy_ports = [[80, \
             \"[::1]:1\"]]\n"
        );
        assert!(hints(&known).is_empty());
        assert_one(&hints(&known.replace(FIRST, SECOND)), "docs/several-publishers.md");
    }

    #[test]
    fn more_backends_than_a_descriptor_has_room_for_are_mentioned_if_it_must_be_one() {
        let never = "distinct_descriptors = false\nlocal_instances =";
        assert_one(&hints_on(&format!("{never} 21")), "for 20 of its 21 backends");
        assert!(hints_on(&format!("{never} 20")).is_empty());
        assert!(hints_on("local_instances = 21").is_empty());
    }

    #[test]
    fn backends_that_are_held_back_while_clients_work_are_mentioned() {
        let mixed = format!(
            "local_instances = 1\nbackends = [\"{SECOND}\"]\nprobe = {{ port = 80 }}\nenable_pow ="
        );
        assert_one(&hints_on(&format!("{mixed} true")), "docs/proof-of-work.md");
        assert!(hints_on(&format!("{mixed} false")).is_empty());
        assert!(hints_on("local_instances = 2\nenable_pow = true").is_empty());
    }

    #[test]
    fn services_that_can_be_seen_to_belong_together_are_mentioned() {
        let service = |name: &str, keys: &str| {
            format!(
                "[onion_services.{name}]\nprobe = true\nproxy_ports = [[80, \"[::1]:1\"]]\n{keys}\n"
            )
        };
        let backends = format!("backends = [\"{SECOND}\"]\n");
        let one = service("a", &backends);
        let both = one.clone() + &service("b", &backends);
        assert_one(&hints(&both), "\"remote-0\" answers for service \"b\", too");
        let off = one.clone() + &service("b", &format!("enabled = false\n{backends}"));
        assert!(hints(&off).is_empty());
        let all = |text: &str| {
            let environment = Environment::new([("HOME", "/home/user")]);
            on_all(&Config::from_text(text, &environment).unwrap().services)
        };
        let said = all(&both).unwrap();
        assert!(said.starts_with("2 services share guards") && !said.contains("  "), "{said}");
        assert_eq!([all(&one), all(&off)], [None, None]);
    }

    #[test]
    fn names_that_become_an_address_which_clients_do_not_know_are_mentioned() {
        let names = |name: &str| {
            let frontends = format!("frontends = [\"{SECOND}\"]\n");
            hints_on(&format!(
                "{frontends}http = {{ names = [{{ public = \"a.example\"{name} }}] }}"
            ))
        };
        assert_one(&names(""), "write the frontend's");
        assert!(names(&format!(", onion = \"{SECOND}\"")).is_empty());
        assert!(hints_on("http = { names = [{ public = \"a.example\" }] }").is_empty());
    }
}
