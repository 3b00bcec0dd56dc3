//! What a new configuration changes.
//!
//! Pure: two configurations in, what to do out. Nothing is done here, and what
//! could still go wrong is looked at before anything is done: see `services`.

use std::collections::{BTreeMap, BTreeSet};

use tor_hsservice::HsNickname;

use crate::config::{Config, ServiceConfig};
use onionbraid_balancer::onion::OnionAddress;

/// A service as it is to run: what the operator says, and whose key it has.
pub(super) type WantedService = (ServiceConfig, OnionAddress);

/// What happens to the services. Those in no list stay as they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReloadPlan {
    /// To be removed: gone from the files, disabled, or under another address.
    pub(super) removed: Vec<HsNickname>,
    /// To be started: new in the files, enabled, or under another address.
    pub(super) added: Vec<HsNickname>,
    /// To be told what the operator says now.
    pub(super) changed: Vec<HsNickname>,
}

/// What has to happen so that `wanted` runs where `running` does. Another key
/// is another service, whatever its nickname.
pub(super) fn plan(
    running: &BTreeMap<HsNickname, WantedService>,
    wanted: &BTreeMap<HsNickname, WantedService>,
) -> ReloadPlan {
    let mut plan = ReloadPlan::default();
    for (nickname, (config, address)) in running {
        match wanted.get(nickname) {
            Some((_, other)) if other != address => {
                plan.removed.push(nickname.clone());
                plan.added.push(nickname.clone());
            }
            Some((other, _)) if other != config => plan.changed.push(nickname.clone()),
            Some(_) => {}
            None => plan.removed.push(nickname.clone()),
        }
    }
    let new = wanted.keys().filter(|nickname| !running.contains_key(*nickname));
    plan.added.extend(new.cloned());
    plan
}

/// The tables and keys that differ and stay as they are until a restart, as the
/// files write them: what Tor itself runs with, where everything lies and
/// where the admin endpoint is.
pub(super) fn until_a_restart(running: &Config, wanted: &Config) -> Vec<String> {
    let mut differ = BTreeSet::new();
    let tables = running.arti_tables.keys().chain(wanted.arti_tables.keys());
    for table in tables {
        if running.arti_tables.get(table) != wanted.arti_tables.get(table) {
            differ.insert(format!("[{table}]"));
        }
    }
    if running.storage != wanted.storage {
        differ.insert("[storage]".to_owned());
    }
    if running.admin != wanted.admin {
        differ.insert("[admin]".to_owned());
    }
    if running.metrics != wanted.metrics {
        differ.insert("[metrics]".to_owned());
    }
    if running.permit_debugging != wanted.permit_debugging {
        differ.insert("application.permit_debugging".to_owned());
    }
    let (now, then) = (&running.logging, &wanted.logging);
    if now.format != then.format {
        differ.insert("logging.format".to_owned());
    }
    if now.log_sensitive_information != then.log_sensitive_information {
        differ.insert("logging.log_sensitive_information".to_owned());
    }
    differ.into_iter().collect()
}

/// Has services that run go on with the guards that they have: another set of them is
/// taken at a start alone, so that no series of reloads tries one after the other. The keys
/// that wait for a restart, as the status writes them.
pub(super) fn keep_guards(running: &Config, wanted: &mut Config) -> Vec<String> {
    let mut waiting = Vec::new();
    for service in wanted.services.iter_mut().filter(|it| it.enabled) {
        let same = |it: &&ServiceConfig| it.enabled && it.nickname == service.nickname;
        let Some(runs) = running.services.iter().find(same) else { continue };
        if runs.guards != service.guards {
            service.guards = runs.guards;
            waiting.push(format!("onion_services.{}.guards", service.nickname));
        }
    }
    waiting
}

/// What is wrong with files that want services to hide, or not, in a process that does
/// the other: what has been seen of it cannot be taken back, and half of it would be.
pub(super) fn other_anonymity(running: &Config, wanted: &Config) -> Option<String> {
    let (runs, wants) = (running.anonymity().word(), wanted.anonymity().word());
    (runs != wants).then(|| {
        format!(
            "the services run with `anonymity = \"{runs}\"`, and the files say \"{wants}\": that \
             changes only with a restart"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, RemoteBackend};

    fn nickname(name: &str) -> HsNickname {
        name.parse().unwrap()
    }

    fn services(all: &[(&str, u8)]) -> BTreeMap<HsNickname, WantedService> {
        let service = |(name, key): &(&str, u8)| {
            let config = ServiceConfig::with_defaults(nickname(name));
            (nickname(name), (config, OnionAddress::from_public_key([*key; 32])))
        };
        all.iter().map(service).collect()
    }

    #[test]
    fn a_process_that_hides_goes_on_to_and_the_other_way_round() {
        let config = |lines: &str| {
            let text =
                format!("[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n{lines}");
            Config::from_text(&text, &Environment::new([("HOME", "/home/user")])).unwrap()
        };
        let hidden = config("");
        let located = config("anonymity = \"not_anonymous\"\nconfirm_not_anonymous = true\n");
        for config in [&hidden, &located] {
            assert_eq!(other_anonymity(config, config), None);
        }
        let says = other_anonymity(&hidden, &located).unwrap();
        assert!(says.contains("run with `anonymity = \"anonymous\"`"), "{says}");
        let says = other_anonymity(&located, &hidden).unwrap();
        assert!(says.contains("the files say \"anonymous\""), "{says}");
    }

    #[test]
    fn a_service_that_runs_keeps_its_guards_until_a_restart_and_one_that_starts_has_those_it_says()
    {
        let config = |services: &[(&str, &str)]| {
            let table = |(name, lines): &(&str, &str)| {
                format!("[onion_services.{name}]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n{lines}\n")
            };
            let text: String = services.iter().map(table).collect();
            Config::from_text(&text, &Environment::new([("HOME", "/home/user")])).unwrap()
        };
        const OWN: &str = "guards = \"own\"";
        let off = format!("{OWN}\nenabled = false");
        let running = config(&[("a", ""), ("b", OWN), ("off", "enabled = false")]);
        let mut wanted = config(&[("a", OWN), ("b", ""), ("new", OWN), ("off", OWN)]);
        let waiting = keep_guards(&running, &mut wanted);
        assert_eq!(waiting, ["onion_services.a.guards", "onion_services.b.guards"]);
        let guards: Vec<_> = wanted.services.iter().map(|it| it.guards).collect();
        use crate::config::Guards::{Own, Shared};
        assert_eq!(guards, [Shared, Own, Own, Own]);
        // What waits is still waiting when the files are read again.
        assert_eq!(keep_guards(&wanted, &mut config(&[("a", OWN), ("b", "")])).len(), 2);
        assert_eq!(keep_guards(&running, &mut config(&[("a", &off), ("new", "")])), [""; 0]);
    }

    #[test]
    fn services_come_go_and_stay_by_their_nicknames() {
        let plan = plan(&services(&[("a", 1), ("b", 2)]), &services(&[("b", 2), ("c", 3)]));
        let expected = ReloadPlan {
            removed: vec![nickname("a")],
            added: vec![nickname("c")],
            changed: Vec::new(),
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn the_same_files_change_nothing() {
        let both = services(&[("a", 1), ("b", 2)]);
        assert_eq!(plan(&both, &both), ReloadPlan::default());
    }

    #[test]
    fn another_key_is_another_service_and_another_file_with_the_same_key_is_not() {
        let running = services(&[("a", 1), ("b", 2)]);
        let mut wanted = services(&[("a", 7), ("b", 2)]);
        wanted.get_mut(&nickname("b")).unwrap().0.identity_key = Some("/keys/b".into());
        let expected = ReloadPlan {
            removed: vec![nickname("a")],
            added: vec![nickname("a")],
            changed: vec![nickname("b")],
        };
        assert_eq!(plan(&running, &wanted), expected);
    }

    #[test]
    fn a_backend_more_changes_its_service_alone() {
        let running = services(&[("a", 1), ("b", 2)]);
        let mut wanted = running.clone();
        let address = OnionAddress::from_public_key([9; 32]);
        let backend = RemoteBackend { address, name: "berlin".into(), weight: 1, client_key: None };
        wanted.get_mut(&nickname("b")).unwrap().0.backends.push(backend);
        let expected = ReloadPlan { changed: vec![nickname("b")], ..ReloadPlan::default() };
        assert_eq!(plan(&running, &wanted), expected);
    }

    #[test]
    fn what_only_a_restart_changes_is_named_as_the_files_write_it() {
        let config = |text: &str| {
            let service = "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n";
            let env = Environment::new([("HOME", "/home/user")]);
            Config::from_text(&format!("{service}{text}"), &env).unwrap()
        };
        let running = config("");
        assert_eq!(until_a_restart(&running, &running), [""; 0]);
        let only_ours = config("[shutdown]\ngrace = \"1s\"\n[logging]\nconsole = \"debug\"\n");
        assert_eq!(until_a_restart(&running, &only_ours), [""; 0]);
        let others = config(
            "[storage]\nstate_dir = \"/elsewhere\"\n[path_rules]\n\
             ipv4_subnet_family_prefix = 33\n[logging]\nformat = \"json\"\n\
             [application]\npermit_debugging = true\n",
        );
        // The socket goes with the state directory.
        let differ = until_a_restart(&running, &others);
        let expected = [
            "[admin]",
            "[path_rules]",
            "[storage]",
            "application.permit_debugging",
            "logging.format",
        ];
        assert_eq!(differ, expected);
    }
}
