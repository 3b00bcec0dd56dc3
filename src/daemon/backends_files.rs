//! Files that others write while the daemon runs: of more backends (`backends_file`),
//! of clients (`restricted_discovery.key_dirs`) and of keys (`identity_bundle`). They are looked at every second,
//! read again when they have changed, and what they list is put into force.
//!
//! A mistake in a file of backends or keys changes nothing, one in a client's file keeps
//! this client out; status says what it is, and the log once, without what is written there.
//! What could not be put into force is tried again, changed or not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;
use tor_hsservice::HsNickname;

use crate::causes::{in_one_line, on_one_line};
use crate::clock::now;
use crate::config::{BackendsFile, Config, ConfigErrors, KeyDir, ServiceConfig, Shutdown};
use crate::observe::counted;
use crate::tor::bundle;
use onionbraid_balancer::onion::ClientKey;

use super::file_looks::{EVERY, FilesSeen};
use super::file_tries::FileTries;
use super::services::Services;
use super::snapshot::Board;

/// A list of a service.
type ListId = (HsNickname, ListKind);

/// What is watched.
type WatchedLists = BTreeMap<ListId, ListSource>;

/// What was seen of the files of each list.
type AllSeen = BTreeMap<ListId, FilesSeen>;

/// What files list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ListKind {
    Backends,
    Clients,
    Bundle,
}

/// Files that list something.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ListSource {
    Backends(BackendsFile),
    Clients(Vec<KeyDir>),
    /// The directory of an `identity_bundle`.
    Bundle(PathBuf),
}

/// Something has changed.
pub(super) enum Changed {
    Backends { nickname: HsNickname, file: BackendsFile, text: Result<String, ConfigErrors> },
    Clients { nickname: HsNickname },
    Bundle { nickname: HsNickname },
}

/// The files of all services, as the daemon sees them.
pub(super) struct BackendsFiles {
    watched: watch::Sender<WatchedLists>,
    changes: mpsc::Receiver<Changed>,
    /// How putting each into force went.
    tries: BTreeMap<ListId, FileTries>,
    /// Which to read again, and when, changed or not.
    again: mpsc::UnboundedSender<(ListId, Instant)>,
}

/// Looks at the files.
pub(super) struct Watcher {
    watched: watch::Receiver<WatchedLists>,
    changes: mpsc::Sender<Changed>,
    again: mpsc::UnboundedReceiver<(ListId, Instant)>,
    /// What came of that.
    due: BTreeMap<ListId, Instant>,
}

/// Watches nothing yet.
pub(super) fn watching() -> (BackendsFiles, Watcher) {
    let (watched, received) = watch::channel(WatchedLists::new());
    let (sender, changes) = mpsc::channel(1);
    // A few entries for each list, by way of the failures that are told of it.
    let (again, received_again) = mpsc::unbounded_channel();
    let files = BackendsFiles { watched, changes, tries: BTreeMap::new(), again };
    let due = BTreeMap::new();
    (files, Watcher { watched: received, changes: sender, again: received_again, due })
}

impl BackendsFiles {
    /// The files of these services are watched from now on, and no others. What they
    /// listed when the configuration was read is in force.
    pub(super) fn follow(&mut self, services: &[ServiceConfig], board: &Board) {
        let enabled = || services.iter().filter(|service| service.enabled);
        let backends = enabled().filter_map(|it| {
            let file = ListSource::Backends(it.backends_file.clone()?);
            Some(((it.nickname.clone(), ListKind::Backends), file))
        });
        let clients = enabled().filter_map(|it| {
            let directories = it.restricted_discovery.as_ref()?.key_dirs.clone();
            Some(((it.nickname.clone(), ListKind::Clients), ListSource::Clients(directories)))
        });
        let bundles = enabled().filter_map(|it| {
            let directory = ListSource::Bundle(it.identity_bundle.clone()?);
            Some(((it.nickname.clone(), ListKind::Bundle), directory))
        });
        let watched: WatchedLists = backends.chain(clients).chain(bundles).collect();
        self.tries.retain(|which, _| watched.contains_key(which));
        let backends = watched.keys().filter(|(_, kind)| *kind == ListKind::Backends);
        board.backends_files(backends.map(|(nickname, _)| nickname.to_string()));
        let of = |wanted| watched.keys().filter(move |(_, kind)| *kind == wanted);
        board.clients_files(of(ListKind::Clients).map(|(nickname, _)| nickname.as_ref()));
        board.bundles(of(ListKind::Bundle).map(|(nickname, _)| nickname.as_ref()));
        self.watched.send_replace(watched);
    }

    /// Waits for a file that has changed.
    pub(super) async fn changed(&mut self) -> Option<Changed> {
        self.changes.recv().await
    }

    /// Puts into force what files list now.
    pub(super) fn apply(
        &mut self,
        changed: Changed,
        config: &mut Config,
        services: &mut Services,
        board: &Board,
    ) {
        let (Changed::Backends { nickname, .. }
        | Changed::Clients { nickname }
        | Changed::Bundle { nickname }) = &changed;
        let mut all = config.services.iter_mut();
        let found = all.find(|it| it.nickname == *nickname && it.enabled);
        let Some(service) = found else { return };
        match changed {
            Changed::Backends { nickname, file, text } => {
                if service.backends_file.as_ref() == Some(&file) {
                    let outcome = backends(service, text, config.shutdown, services);
                    let problem = outcome.as_ref().err().map(|(_, text)| text.as_str());
                    let is_news = self.tried((nickname.clone(), ListKind::Backends), problem);
                    if let (Err((place, _)), true) = (&outcome, is_news) {
                        tracing::error!(
                            service = %nickname,
                            place,
                            "backends file is wrong; keeping its backends as they were"
                        );
                    }
                    board.backends_file(nickname.as_ref(), outcome.err().map(|(_, text)| text));
                }
            }
            Changed::Clients { nickname } => {
                let problem = clients(service, config.shutdown, services);
                if self.tried((nickname.clone(), ListKind::Clients), problem.as_deref()) {
                    tracing::error!(
                        service = %nickname,
                        "not all that the files of clients say is in force; see the status"
                    );
                }
                board.clients_file(nickname.as_ref(), problem);
            }
            Changed::Bundle { nickname } => {
                // Few files, and read only when they change, or could not be.
                let outcome = block_in_place(|| services.renew_bundle(service, config.shutdown));
                if let Ok(periods) = &outcome {
                    tracing::info!(service = %nickname, periods, "identity bundle read again");
                }
                let problem = outcome.err().map(|error| in_one_line(&error));
                if self.tried((nickname.clone(), ListKind::Bundle), problem.as_deref()) {
                    tracing::error!(
                        service = %nickname,
                        "identity bundle cannot be used; keeping the keys as they were; the status \
                         says why"
                    );
                }
                board.bundle(nickname.as_ref(), problem);
            }
        }
    }

    /// Notes what came of putting a list into force, and has it read again if there is a
    /// `problem`. Whether the log should say so.
    fn tried(&mut self, which: ListId, problem: Option<&str>) -> bool {
        let tries = self.tries.entry(which.clone()).or_default();
        let Some(problem) = problem else {
            tries.succeeded();
            return false;
        };
        let failure = tries.failed(problem, now().monotonic);
        // Nobody looks any more while the daemon ends.
        let _ = self.again.send((which, failure.again_at));
        failure.is_news
    }
}

/// Puts into force which backends a file lists; where its first mistake is, and what it
/// is, if there is one.
fn backends(
    service: &mut ServiceConfig,
    text: Result<String, ConfigErrors>,
    times: Shutdown,
    services: &mut Services,
) -> Result<(), (String, String)> {
    let new = text.and_then(|text| service.with_backends_file(&text));
    let new = new.map_err(|errors| brief(&errors))?;
    if new == *service {
        return Ok(());
    }
    let wrong = |problem: String| (String::new(), problem);
    if let Some(problem) = new.too_many_clients() {
        return Err(wrong(problem));
    }
    services.change(&new, times).map_err(|error| wrong(in_one_line(&error)))?;
    let (nickname, backends) = (&new.nickname, new.backends_of_file().len());
    tracing::info!(service = %nickname, backends, "backends file read again");
    *service = new;
    Ok(())
}

/// Puts into force which clients the directories list; what is wrong with them, if
/// something is.
fn clients(
    service: &mut ServiceConfig,
    times: Shutdown,
    services: &mut Services,
) -> Option<String> {
    // Short files, and few: what was seen to change is read here and now, so that no
    // client that was taken out meanwhile stays in.
    let restricted = service.restricted_discovery.as_ref()?;
    let (read, mut problems) = block_in_place(|| restricted.read_again());
    let mut new = ServiceConfig { restricted_discovery: Some(read), ..service.clone() };
    if let Some(problem) = new.too_many_clients() {
        problems.insert(0, format!("{problem}; nobody new is let in"));
        // Who was taken out goes all the same.
        new.restricted_discovery = new.restricted_discovery.map(|it| it.without_new(restricted));
    }
    if names(&new) == names(service) {
        *service = new;
    } else {
        match services.change(&new, times) {
            Ok(()) => {
                let (nickname, clients) = (&new.nickname, new.access().clients());
                tracing::info!(service = %nickname, clients, "clients read again");
                *service = new;
            }
            Err(error) => {
                problems
                    .insert(0, format!("{}; the clients stay as they were", in_one_line(&error)));
            }
        }
    }
    let first = problems.first()?;
    Some(match problems.len() - 1 {
        0 => first.clone(),
        more => format!("{first}; and {}", counted(more, "more problem")),
    })
}

/// The clients of a service, with their keys.
fn names(service: &ServiceConfig) -> Option<&BTreeMap<String, ClientKey>> {
    service.restricted_discovery.as_ref().map(|restricted| &restricted.clients)
}

/// Where the first of the mistakes is, for the log, and what it is, for the status.
fn brief(errors: &ConfigErrors) -> (String, String) {
    let Some(first) = errors.0.first() else { return Default::default() };
    let text = on_one_line(&first.to_string());
    let text = match errors.0.len() - 1 {
        0 => text,
        more => format!("{text}; and {}", counted(more, "more mistake")),
    };
    (first.place_and_key(), text)
}

impl ListSource {
    /// Everything that is looked at.
    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Backends(file) => vec![file.path.clone()],
            Self::Clients(directories) => {
                let files = |directory: &KeyDir| directory.files().unwrap_or_default();
                let paths = directories
                    .iter()
                    .flat_map(|it| std::iter::once(it.path.clone()).chain(files(it).into_values()));
                paths.collect()
            }
            Self::Bundle(directory) => {
                let files = bundle::files(directory).unwrap_or_default();
                std::iter::once(directory.clone()).chain(files).collect()
            }
        }
    }

    /// What has changed, if something has and is at rest.
    fn changed(&self, nickname: &HsNickname, seen: &mut FilesSeen) -> Option<Changed> {
        let paths = self.paths();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        seen.read_again(&paths, || {
            let nickname = nickname.clone();
            match self {
                Self::Backends(file) => {
                    Changed::Backends { nickname, file: file.clone(), text: file.text() }
                }
                Self::Clients(_) => Changed::Clients { nickname },
                Self::Bundle(_) => Changed::Bundle { nickname },
            }
        })
    }
}

impl Watcher {
    /// Looks, again and again.
    pub(super) async fn run(mut self) -> Infallible {
        let mut next = tokio::time::interval(EVERY);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = AllSeen::new();
        loop {
            tokio::select! {
                _ = next.tick() => {}
                // What was read before may not be what is in force now.
                Ok(()) = self.watched.changed() => seen.clear(),
            }
            let watched = self.watched.borrow_and_update().clone();
            if watched.is_empty() {
                continue;
            }
            self.forget_due(&mut seen, now().monotonic);
            let before = std::mem::take(&mut seen);
            // The disk may be slow, or another machine's.
            let looked = tokio::task::spawn_blocking(move || look_at_all(before, watched)).await;
            let Ok((after, changes)) = looked else { continue };
            seen = after;
            for change in changes {
                // Nobody takes it while the daemon ends.
                let _ = self.changes.send(change).await;
            }
        }
    }

    /// Has the lists read once more that could not be put into force, and whose time has come.
    fn forget_due(&mut self, seen: &mut AllSeen, now: Instant) {
        while let Ok((which, at)) = self.again.try_recv() {
            self.due.insert(which, at);
        }
        self.due.retain(|which, at| {
            let is_due = *at <= now;
            if let Some(seen) = seen.get_mut(which).filter(|_| is_due) {
                seen.forget();
            }
            !is_due
        });
    }
}

fn look_at_all(mut seen: AllSeen, watched: WatchedLists) -> (AllSeen, Vec<Changed>) {
    let mut changes = Vec::new();
    for (which, source) in watched {
        let nickname = which.0.clone();
        changes.extend(source.changed(&nickname, seen.entry(which).or_default()));
    }
    (seen, changes)
}

#[cfg(test)]
mod in_force;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of the file at each of a few looks, after something was done.
    struct Looks {
        seen: FilesSeen,
        source: ListSource,
    }

    impl Looks {
        fn at(path: &Path) -> Self {
            let file = BackendsFile { path: path.to_owned(), listed: 0 };
            Self { seen: FilesSeen::default(), source: ListSource::Backends(file) }
        }

        fn again(&mut self) -> Option<String> {
            let changed = self.source.changed(&"shop".parse().unwrap(), &mut self.seen)?;
            let Changed::Backends { text, .. } = changed else { return Some(String::new()) };
            Some(text.unwrap_or_else(|errors| errors.to_string()))
        }
    }

    #[test]
    fn a_file_is_read_once_it_is_at_rest_and_again_when_it_was_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backends.toml");
        std::fs::write(&path, "one").unwrap();
        let mut looks = Looks::at(&path);
        assert_eq!([looks.again(), looks.again(), looks.again()], [None, Some("one".into()), None]);
        let new = directory.path().join("new");
        std::fs::write(&new, "two").unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert_eq!([looks.again(), looks.again(), looks.again()], [None, Some("two".into()), None]);
        // Written to in place, and once more before the next look.
        std::fs::write(&path, "three, ").unwrap();
        assert_eq!(looks.again(), None);
        std::fs::write(&path, "three, four").unwrap();
        assert_eq!([looks.again(), looks.again()], [None, Some("three, four".into())]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(looks.again(), None);
        assert!(looks.again().is_some_and(|text| text.contains("there is no such file")));
        assert_eq!(looks.again(), None);
    }

    #[test]
    fn a_symlink_that_leads_to_another_directory_is_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (name, text) in [("1", "one"), ("2", "two")] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join("backends.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/backends.toml", at("backends.toml")).unwrap();
        let mut looks = Looks::at(&at("backends.toml"));
        assert_eq!([looks.again(), looks.again()], [None, Some("one".into())]);
        std::os::unix::fs::symlink("2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!([looks.again(), looks.again()], [None, Some("two".into())]);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let mut looks = Looks::at(Path::new("/dev/zero"));
        looks.again();
        assert!(looks.again().is_some_and(|text| text.contains("no ordinary file")));
    }

    #[test]
    fn a_client_that_comes_goes_or_gets_another_key_is_a_change_of_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let source =
            ListSource::Clients(vec![KeyDir { path: path.clone(), trust_everyone: false }]);
        let mut looks = Looks { seen: FilesSeen::default(), source };
        let mut changed = || [looks.again(), looks.again(), looks.again()].map(|it| it.is_some());
        let once = [false, true, false];
        assert_eq!(changed(), once);
        std::fs::write(path.join("alice.auth"), "one").unwrap();
        assert_eq!(changed(), once);
        std::fs::write(path.join("alice.auth"), "other").unwrap();
        assert_eq!(changed(), once);
        std::fs::rename(path.join("alice.auth"), path.join("bob.auth")).unwrap();
        assert_eq!(changed(), once);
        std::fs::remove_file(path.join("bob.auth")).unwrap();
        assert_eq!(changed(), once);
    }
}
