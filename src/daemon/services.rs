//! The services that run: started at the beginning, changed by a reload, told to
//! end. All is looked at before anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;
use tor_hsservice::HsNickname;

use crate::admin::NoAnswer;
use crate::clock::now;
use crate::config::{AddressConflict, Config, ServiceConfig, Shutdown, Storage, check_addresses};
use crate::exit::{Exit, exit_of};
use crate::tor::credentials::Credentials;
use crate::tor::keyring::Keyring;
use crate::tor::keys::{self, KeyError, Keys};
use crate::tor::wiped;
use onionbraid_balancer::BundlePeriods;
use onionbraid_balancer::onion::{Anonymity, OnionAddress};
use onionbraid_proxy::setup::{self, RuleError};

use super::certificates::key_check;
use super::event_loop::{self, ServiceEnded};
use super::orders::BackendOrderOf;
use super::out_of_use;
use super::readers::{self, Readers};
use super::reload::{self, WantedService};
use super::service::{Common, PreparedService, ServiceHandle};
use super::snapshot::Board;
use super::state::{self, PastError, StateError};

/// Why the services of a configuration cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// An identity key cannot be read or made.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A service that runs would get a new address, and nothing would have its
    /// key any more.
    #[error(
        "the key of service \"{0}\", which runs, is not where it was: bring it back; to give the \
         service a new address, take it out of the configuration first"
    )]
    KeyGone(HsNickname),
    /// What lies in its `identity_bundle` now is of another address.
    #[error("the identity_bundle of service \"{0}\" is of another address: nothing has changed")]
    BundleOfOther(HsNickname),
    /// What lies in its `identity_bundle` now is for other times than those in force.
    #[error(
        "what is in the identity_bundle of service \"{0}\" now has no keys for the present time \
         period; the keys that were read before have some, and stay in force"
    )]
    BundleOfOtherTimes(HsNickname),
    /// It has been located under its address, and would only seem to hide now.
    #[error(
        "service \"{nickname}\" has run with `anonymity = \"not_anonymous\"` under this address: \
         relays know where it is, and nothing takes that back. Give it another key, say \
         \"not_anonymous\" again, or delete {} if it need not be hidden from those",
        file.display()
    )]
    WasNotAnonymous {
        /// Which.
        nickname: HsNickname,
        /// What tells it.
        file: PathBuf,
    },
    /// It cannot be seen or written whether one has been located.
    #[error(transparent)]
    Past(#[from] PastError),
    /// They cannot run together under the addresses of their keys.
    #[error(transparent)]
    Addresses(#[from] AddressConflict),
    /// A port of one cannot be served.
    #[error("service \"{nickname}\"")]
    Ports {
        /// The service that has the rule.
        nickname: HsNickname,
        /// Which, and why.
        source: RuleError,
    },
    /// The directory of one cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

impl CheckError {
    /// The code to exit with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Keys(_)
            | Self::KeyGone(_)
            | Self::BundleOfOther(_)
            | Self::BundleOfOtherTimes(_) => Exit::Permission,
            Self::Addresses(_) | Self::Ports { .. } | Self::WasNotAnonymous { .. } => {
                Exit::Configuration
            }
            Self::State(error) => exit_of(error),
            Self::Past(error) => exit_of(error),
        }
    }
}

/// Services that can run: nothing about them can go wrong any more.
pub(super) struct Checked(BTreeMap<HsNickname, CheckedService>);

struct CheckedService {
    config: ServiceConfig,
    credentials: Arc<Credentials>,
    /// What reads the descriptors of its backends.
    readers: Readers,
}

impl Checked {
    /// Each service, with its address.
    pub(super) fn services(&self) -> impl Iterator<Item = (&ServiceConfig, OnionAddress)> {
        self.0.values().map(|service| (&service.config, service.credentials.address()))
    }

    /// Notes which addresses do not hide, before they run.
    ///
    /// # Errors
    ///
    /// If that of one cannot be written: it could seem to hide later.
    pub(super) fn note_past(&self, storage: &Storage) -> Result<(), CheckError> {
        let located = self.services().filter(|(it, _)| it.anonymity == Anonymity::NotAnonymous);
        for (_, address) in located {
            state::note_not_anonymous(storage, &address)?;
        }
        Ok(())
    }
}

/// Looks at everything that the enabled services need: their keys, whether
/// their addresses go together, the files that serving their ports takes,
/// their directories. Keys and directories that are missing are made, once
/// nothing else is wrong; but no key for a service that is `running`.
///
/// # Errors
///
/// The first thing that is wrong.
pub(super) fn check(
    config: &Config,
    storage: &Storage,
    running: &BTreeSet<HsNickname>,
) -> Result<Checked, CheckError> {
    let keys = keys::open(storage)?;
    let found = look(config, &keys, running)?;
    for (service, _) in &found {
        state::prepare(storage, service.nickname.as_ref())?;
    }
    let with_key = |(service, credentials): WithKey<'_>| {
        let generate = || {
            let generated =
                wiped(|| keys.generate(&service.nickname).map(Credentials::of_identity));
            generated.map(Arc::new)
        };
        let credentials = credentials.map_or_else(generate, Ok)?;
        let (config, readers) = (service.clone(), readers::of_backends(service, &keys)?);
        Ok((service.nickname.clone(), CheckedService { config, credentials, readers }))
    };
    Ok(Checked(found.into_iter().map(with_key).collect::<Result<_, KeyError>>()?))
}

/// A service and its key, if it has one yet.
pub(super) type WithKey<'a> = (&'a ServiceConfig, Option<Arc<Credentials>>);

/// Looks at what the enabled services need and makes nothing: their keys, whether
/// their addresses go together, the files that serving their ports takes. Gives
/// each with its key, if it has one yet.
///
/// # Errors
///
/// The first thing that is wrong.
pub(super) fn look<'a>(
    config: &'a Config,
    keys: &Keys,
    running: &BTreeSet<HsNickname>,
) -> Result<Vec<WithKey<'a>>, CheckError> {
    let enabled = config.services.iter().filter(|service| service.enabled);
    let found = enabled
        .map(|service| {
            let place = service.key_place();
            let found = wiped(|| Credentials::of_service(keys, &service.nickname, place));
            Ok((service, found?.map(Arc::new)))
        })
        .collect::<Result<Vec<_>, KeyError>>()?;
    if let Some((service, _)) =
        found.iter().find(|(service, key)| key.is_none() && running.contains(&service.nickname))
    {
        return Err(CheckError::KeyGone(service.nickname.clone()));
    }
    let address = |key: &Option<Arc<Credentials>>| key.as_deref().map(Credentials::address);
    check_addresses(found.iter().map(|(service, key)| (*service, address(key))))?;
    let private = key_check(&config.storage.mistrust);
    for (service, key) in &found {
        let nickname = &service.nickname;
        if let (Anonymity::Anonymous, Some(address)) = (service.anonymity, address(key))
            && let Some(file) = state::was_not_anonymous(&config.storage, &address)?
        {
            return Err(CheckError::WasNotAnonymous { nickname: nickname.clone(), file });
        }
        readers::of_backends(service, keys)?;
        setup::check(&service.proxy_ports, &private)
            .map_err(|source| CheckError::Ports { nickname: service.nickname.clone(), source })?;
    }
    Ok(found)
}

/// Refuses keys without any for the present period in the place of some that have them.
fn keeps_present_keys(
    nickname: &HsNickname,
    running: &Credentials,
    found: &Credentials,
) -> Result<(), CheckError> {
    let has_some = |it: &Credentials| {
        let periods: Option<BundlePeriods> = it.periods().map(|all| all.into_iter().collect());
        periods.is_none_or(|periods| periods.at(now().wall).left() > 0)
    };
    match has_some(running) && !has_some(found) {
        true => Err(CheckError::BundleOfOtherTimes(nickname.clone())),
        false => Ok(()),
    }
}

pub(super) struct Services {
    common: Common,
    board: Arc<Board>,
    running: BTreeMap<HsNickname, ServiceHandle>,
    /// What reads descriptors for them that are not for everybody ...
    readers: BTreeMap<HsNickname, Readers>,
    /// ... and what they publish with, which reads their own.
    credentials: BTreeMap<HsNickname, Arc<Credentials>>,
    /// Where that is put in force.
    keyring: Keyring,
    /// Those that were told to end, and may not have.
    ending: Vec<ServiceHandle>,
    tasks: JoinSet<Result<(), ServiceEnded>>,
}

impl Services {
    pub(super) fn new(common: Common, board: Arc<Board>, keyring: Keyring) -> Self {
        let (running, readers, credentials) = Default::default();
        let (ending, tasks) = (Vec::new(), JoinSet::new());
        Self { common, board, running, readers, credentials, keyring, ending, tasks }
    }

    /// Whether services that run could go on with what was checked.
    ///
    /// # Errors
    ///
    /// The first of them that could not publish any more, and does now.
    pub(super) fn may_apply(&self, Checked(wanted): &Checked) -> Result<(), CheckError> {
        wanted.iter().try_for_each(|(nickname, service)| match self.credentials.get(nickname) {
            Some(running) if running.address() == service.credentials.address() => {
                keeps_present_keys(nickname, running, &service.credentials)
            }
            // One under another address starts anew.
            _ => Ok(()),
        })
    }

    pub(super) fn nicknames(&self) -> BTreeSet<HsNickname> {
        self.running.keys().cloned().collect()
    }

    /// Makes these services run, and no others. Those that run are told what
    /// the operator says now, and change what differs as they run.
    pub(super) fn apply(&mut self, Checked(wanted): Checked, times: Shutdown) {
        let running = self
            .running
            .iter()
            .map(|(nickname, service)| (nickname.clone(), (service.config(), service.address)));
        let to_run = wanted.iter().map(|(nickname, service)| {
            (nickname.clone(), (service.config.clone(), service.credentials.address()))
        });
        let (running, to_run): (BTreeMap<_, WantedService>, BTreeMap<_, WantedService>) =
            (running.collect(), to_run.collect());
        let plan = reload::plan(&running, &to_run);
        for nickname in &plan.removed {
            if let Some(service) = self.running.remove(nickname) {
                tracing::info!(service = %nickname, "service removed");
                service.end();
                self.ending.push(service);
            }
        }
        self.readers.clear();
        let before = std::mem::take(&mut self.credentials);
        let mut own = Vec::new();
        for (nickname, service) in &wanted {
            // A service that runs goes on with those that it has: what is in them changes.
            let kept = before.get(nickname).filter(|it| it.replace(&service.credentials));
            let credentials = kept.unwrap_or(&service.credentials);
            own.extend(readers::of_itself(&service.config, credentials));
            self.readers.insert(nickname.clone(), service.readers.clone());
            self.credentials.insert(nickname.clone(), Arc::clone(credentials));
        }
        self.keyring.replace(self.readers.values().flatten().cloned().chain(own));
        let in_company = wanted.len() > 1;
        for (nickname, CheckedService { config, credentials, .. }) in wanted {
            if plan.added.contains(&nickname) {
                let credentials = self.credentials.get(&nickname).cloned().unwrap_or(credentials);
                self.start(config, credentials, times, in_company);
            } else if let Some(service) = self.running.get(&nickname) {
                service.set_company(in_company);
                // Also if nothing has changed in the configuration: it names files.
                service.update(config, times);
            }
        }
        self.ending.retain(|service| !service.has_ended());
        self.board.show(self.running.values().map(ServiceHandle::views).collect());
    }

    /// Has a service that runs be this from now on: its own `config` changed while the
    /// rest of the configuration stays as it is.
    ///
    /// # Errors
    ///
    /// If it does not fit the service's address, or a key cannot be read; nothing has
    /// changed then.
    pub(super) fn change(
        &mut self,
        config: &ServiceConfig,
        times: Shutdown,
    ) -> Result<(), CheckError> {
        let Some(service) = self.running.get(&config.nickname) else { return Ok(()) };
        check_addresses([(config, Some(service.address))])?;
        // Those that are in force do for the same backends: no mistake in a file that only a
        // reload reads keeps a client in.
        if service.config().backends != config.backends {
            let keys = keys::open_existing(&*self.common.storage)?;
            self.readers.insert(config.nickname.clone(), readers::of_backends(config, &keys)?);
        }
        let own = self.running.iter().filter_map(|(nickname, service)| {
            let changed = nickname == &config.nickname;
            let config = if changed { config.clone() } else { service.config() };
            readers::of_itself(&config, self.credentials.get(nickname)?)
        });
        self.keyring.replace(self.readers.values().flatten().cloned().chain(own));
        if let Some(warning) = out_of_use(&self.common.storage, config, &service.address) {
            tracing::warn!("{warning}");
        }
        service.update(config.clone(), times);
        Ok(())
    }

    /// Has a service that runs publish with what lies in its `identity_bundle` now; for
    /// how many periods that has keys.
    ///
    /// # Errors
    ///
    /// If it cannot be used, or is of another address; nothing has changed then.
    pub(super) fn renew_bundle(
        &mut self,
        config: &ServiceConfig,
        times: Shutdown,
    ) -> Result<usize, CheckError> {
        let nickname = &config.nickname;
        let keys = keys::open_existing(&*self.common.storage)?;
        let place = config.key_place();
        let found = wiped(|| Credentials::of_service(&keys, nickname, place))?;
        let gone = || CheckError::KeyGone(nickname.clone());
        let (found, running) = found.zip(self.credentials.get(nickname)).ok_or_else(gone)?;
        keeps_present_keys(nickname, running, &found)?;
        if !running.replace(&found) {
            return Err(CheckError::BundleOfOther(nickname.clone()));
        }
        if let Some(service) = self.running.get(nickname) {
            service.update(config.clone(), times);
        }
        Ok(found.periods().map_or(0, |periods| periods.len()))
    }

    fn start(
        &mut self,
        config: ServiceConfig,
        credentials: Arc<Credentials>,
        times: Shutdown,
        in_company: bool,
    ) {
        let nickname = config.nickname.clone();
        tracing::info!(service = %nickname, "service started");
        let common = self.common.clone();
        let (handle, service) =
            PreparedService::new(credentials, (config, times), common, &self.ending);
        handle.set_company(in_company);
        self.tasks.spawn(event_loop::run(service));
        self.running.insert(nickname, handle);
    }

    /// What the operator wants of a service that runs.
    #[cfg(test)]
    pub(super) fn config_of(&self, nickname: &HsNickname) -> Option<ServiceConfig> {
        self.running.get(nickname).map(ServiceHandle::config)
    }

    /// Which of those that run were told that there are others.
    #[cfg(test)]
    pub(super) fn in_company(&self) -> Vec<(&str, bool)> {
        let all = self.running.iter();
        all.map(|(nickname, service)| (nickname.as_ref(), service.is_in_company())).collect()
    }

    /// Passes an order on to the service that it is about.
    pub(super) fn obey(&self, order: BackendOrderOf) {
        let named = |(nickname, _): &(&HsNickname, _)| nickname.as_ref() == order.service;
        match self.running.iter().find(named) {
            Some((_, service)) => service.obey(order),
            None => {
                let text = format!("there is no service \"{}\"", order.service);
                order.answer(Err(NoAnswer::NotFound(text)));
            }
        }
    }

    /// Waits until one ends that nobody has told to; what to say of it.
    pub(super) async fn unexpected(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(unexpected))) => return unexpected.to_string(),
                Some(Err(error)) => return error.to_string(),
                None => std::future::pending().await,
            }
        }
    }

    /// Tells all of them to end, and waits until they have.
    pub(super) async fn end(mut self) {
        self.running.values().for_each(ServiceHandle::end);
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(unexpected)) => tracing::error!("{unexpected} ended unexpectedly"),
                Err(error) => tracing::error!(%error, "service panicked"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn an_address_that_was_located_is_refused_as_a_hidden_one_and_runs_only_once_that_is_noted() {
        let directory = tempfile::tempdir().unwrap();
        let config = |more: &str| {
            let text = format!(
                "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n\
                 {more}\n[storage]\n\
                 state_dir = \"{0}/state\"\ncache_dir = \"{0}/cache\"\n[storage.permissions]\n\
                 dangerously_trust_everyone = true\n",
                directory.path().display(),
            );
            Config::from_text(&text, &Environment::new([("HOME", "/home/user")])).unwrap()
        };
        let located = "anonymity = \"not_anonymous\"\nconfirm_not_anonymous = true";
        let check = |config: &Config| check(config, &config.storage, &BTreeSet::new());
        // What is only looked at is not noted.
        check(&config(located)).unwrap();
        check(&config("")).unwrap();
        let running = check(&config(located)).unwrap();
        running.note_past(&config(located).storage).unwrap();
        let refused = check(&config(""));
        assert!(matches!(refused, Err(CheckError::WasNotAnonymous { .. })));
        check(&config(located)).unwrap();
        // Where it cannot be written, it does not run.
        let lies = directory.path().join("state/onionbraid/not_anonymous.addresses");
        std::fs::remove_dir_all(&lies).unwrap();
        std::fs::write(&lies, "").unwrap();
        let refused = check(&config(located)).unwrap().note_past(&config(located).storage);
        assert!(matches!(refused, Err(CheckError::Past(_))));
    }

    #[test]
    fn a_service_that_runs_gets_no_new_key_when_its_own_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n[storage]\n\
             state_dir = \"{0}/state\"\ncache_dir = \"{0}/cache\"\n[storage.permissions]\n\
             dangerously_trust_everyone = true\n",
            directory.path().display(),
        );
        let environment = Environment::new([("HOME", "/home/user")]);
        let config = Config::from_text(&text, &environment).unwrap();
        let address = |checked: Checked| checked.services().map(|(_, address)| address).next();
        let check = |running: &[&str]| {
            let running = running.iter().map(|nickname| nickname.parse().unwrap()).collect();
            check(&config, &config.storage, &running)
        };
        let first = address(check(&[]).unwrap());
        assert_eq!(address(check(&["shop"]).unwrap()), first);
        let keystore = directory.path().join("state/keystore");
        let elsewhere = directory.path().join("elsewhere");
        std::fs::rename(&keystore, &elsewhere).unwrap();
        assert!(matches!(check(&["shop"]), Err(CheckError::KeyGone(_))));
        std::fs::remove_dir_all(&keystore).ok();
        std::fs::rename(&elsewhere, &keystore).unwrap();
        assert_eq!(address(check(&["shop"]).unwrap()), first);
    }
}
