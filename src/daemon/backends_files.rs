//! Files of more backends (`backends_file`): looked at every second, read again when
//! they have changed, and what they list put into force.
//!
//! A mistake in a file changes nothing; status says what it is, and the log
//! once, without what is written there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tor_hsservice::HsNickname;

use crate::causes::on_one_line;
use crate::clock::now;
use crate::config::{BackendsFile, Config, ConfigErrors, ServiceConfig};
use crate::observe::counted;
use crate::throttle::Throttle;

use super::file_looks::{EVERY, Seen};
use super::services::Services;
use super::snapshot::Board;

/// The log is told of mistakes no more often, whatever else writes the file.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The files that are watched, by their services.
type Watched = BTreeMap<HsNickname, BackendsFile>;

/// A file has changed.
pub(super) struct Changed {
    nickname: HsNickname,
    file: BackendsFile,
    text: Result<String, ConfigErrors>,
}

/// The files of all services, as the daemon sees them.
pub(super) struct BackendsFiles {
    watched: watch::Sender<Watched>,
    changes: mpsc::Receiver<Changed>,
    /// What the log says of the mistakes of each.
    logged: BTreeMap<HsNickname, Throttle>,
}

/// Looks at the files.
pub(super) struct Watcher {
    watched: watch::Receiver<Watched>,
    changes: mpsc::Sender<Changed>,
}

/// Watches nothing yet.
pub(super) fn watching() -> (BackendsFiles, Watcher) {
    let (watched, received) = watch::channel(Watched::new());
    let (sender, changes) = mpsc::channel(1);
    let files = BackendsFiles { watched, changes, logged: BTreeMap::new() };
    (files, Watcher { watched: received, changes: sender })
}

impl BackendsFiles {
    /// The files of these services are watched from now on, and no others. What they
    /// listed when the configuration was read is in force.
    pub(super) fn follow(&mut self, services: &[ServiceConfig], board: &Board) {
        let enabled = services.iter().filter(|service| service.enabled);
        let watched: Watched = enabled
            .filter_map(|it| Some((it.nickname.clone(), it.backends_file.clone()?)))
            .collect();
        self.logged.retain(|nickname, _| watched.contains_key(nickname));
        board.backends_files(watched.keys().map(ToString::to_string));
        self.watched.send_replace(watched);
    }

    /// Waits for a file that has changed.
    pub(super) async fn changed(&mut self) -> Option<Changed> {
        self.changes.recv().await
    }

    /// Puts into force what a file lists now, if nothing is wrong with it.
    pub(super) fn apply(
        &mut self,
        changed: Changed,
        config: &mut Config,
        services: &Services,
        board: &Board,
    ) {
        let Changed { nickname, file, text } = changed;
        let mut all = config.services.iter_mut();
        let Some(service) = all.find(|it| it.nickname == nickname && it.enabled) else { return };
        if service.backends_file.as_ref() != Some(&file) {
            return;
        }
        let new = text.and_then(|text| service.with_backends_file(&text));
        let outcome = match new {
            Ok(new) if new == *service => Ok(()),
            Ok(new) => services
                .change(&new, config.shutdown)
                .map(|()| {
                    let backends = new.backends_of_file().len();
                    tracing::info!(service = %nickname, backends, "backends file read again");
                    *service = new;
                })
                .map_err(|error| (String::new(), error.to_string())),
            Err(errors) => Err(brief(&errors)),
        };
        let throttle =
            self.logged.entry(nickname.clone()).or_insert_with(|| Throttle::new(LOG_EVERY));
        if let Err((place, _)) = &outcome
            && throttle.permits(now().monotonic).is_some()
        {
            tracing::error!(
                service = %nickname,
                place,
                "backends file is wrong; keeping its backends as they were"
            );
        }
        board.backends_file(nickname.as_ref(), outcome.err().map(|(_, text)| text));
    }
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

impl Watcher {
    /// Looks, again and again.
    pub(super) async fn run(mut self) -> Infallible {
        let mut next = tokio::time::interval(EVERY);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen: BTreeMap<HsNickname, Seen> = BTreeMap::new();
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
}

fn look_at_all(
    mut seen: BTreeMap<HsNickname, Seen>,
    watched: Watched,
) -> (BTreeMap<HsNickname, Seen>, Vec<Changed>) {
    let mut changes = Vec::new();
    for (nickname, file) in watched {
        let seen = seen.entry(nickname.clone()).or_default();
        if let Some(text) = seen.read_again(&[&file.path], || file.text()) {
            changes.push(Changed { nickname, file, text });
        }
    }
    (seen, changes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What is read of the file at each of a few looks, after something was done.
    struct Looks {
        seen: Seen,
        file: BackendsFile,
    }

    impl Looks {
        fn at(path: &Path) -> Self {
            let file = BackendsFile { path: path.to_owned(), listed: 0 };
            Self { seen: Seen::default(), file }
        }

        fn again(&mut self) -> Option<String> {
            let text = self.seen.read_again(&[&self.file.path], || self.file.text())?;
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
}
