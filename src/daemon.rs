//! The daemon: takes the state directory, starts Tor, starts every service,
//! opens the operator's door, reads its configuration again when told to, and
//! ends in order when told to.
//!
//! It assembles the parts and carries facts and commands between them; it
//! decides nothing about backends, points or descriptors.
//!
//! | file | question |
//! |---|---|
//! | `signals` | what does the operator ask for by signals? |
//! | `preflight` | what would keep it from running? |
//! | `state_lock` | who has the state directory? |
//! | `services`, `reload` | which services run, and what does a new configuration change? |
//! | `backends_files`, `file_looks`, `file_tries` | which backends and clients stand in files that change, and when is one read? |
//! | `certificates` | with which certificates do ports answer? |
//! | `readers` | with which keys are descriptors read? |
//! | `service`, `event_loop` | how is one reached from outside, and what does it do? |
//! | `waiting` | what of it is there before Tor is? |
//! | `settings`, `instances`, `drain` | which backends has it, and how do those in this process come and go? |
//! | `guards` | at whose guards do their circuits begin? |
//! | `work`, `fetches`, `links` | who carries out its balancer's commands? |
//! | `streams`, `proxies` | where do clients' streams go, and who serves them? |
//! | `file_handles` | how many of them may there be? |
//! | `origins` | does anybody answer there? |
//! | `brim` | are there more clients than its backends here can bear? |
//! | `inquiries`, `orders`, `words`, `out_of_use` | what do commands want to know of the network, and what do operators say? |
//! | `state` | what does it find again after a restart? |
//! | `snapshot`, `usage`, `log_lines`, `tor_lines`, `news` | what is seen of it? |
//! | `systemd`, `pulse` | what is systemd told, and do the loops turn? |

mod backends_files;
mod brim;
mod certificates;
mod drain;
mod event_loop;
mod fetches;
mod file_handles;
mod file_looks;
mod file_tries;
mod guards;
mod inquiries;
mod instances;
mod links;
mod log_lines;
#[cfg(test)]
mod logged;
mod news;
mod orders;
mod origins;
mod out_of_use;
mod preflight;
mod proxies;
mod pulse;
pub(crate) mod readers;
mod reload;
mod service;
mod services;
mod settings;
mod signals;
mod snapshot;
mod state;
pub(crate) mod state_lock;
mod streams;
mod systemd;
mod tor_lines;
mod usage;
mod waiting;
mod words;
mod work;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::orders::Reloaded;
use crate::admin::{Admin, AdminError, NoAnswer, ScrapePorts};
use crate::causes::{in_one_line, on_one_line};
use crate::clock::now;
use crate::config::{Config, ConfigErrors, Difference};
use crate::exit::Exit;
use crate::logging::LoggingGuard;
use crate::tor::bootstrap::{Tor, TorError, UnwrittenCache};
use crate::tor::fetch;
use crate::tor::network::Network;
use crate::tor::watch::watch as watch_tor;
use onionbraid_balancer::onion::Anonymity;

use fetches::Fetching;
use file_handles::FileHandles;
pub use news::News;
use orders::{Obeyed, PendingOrder};
pub use out_of_use::warning as out_of_use;
pub use preflight::{Obstacles, preflight};
use pulse::Pulse;
use service::Common;
pub use services::CheckError;
use services::Services;
use signals::{Signal, Signals};
use snapshot::Board;
use state_lock::{StateLock, StateLockError};

/// How much longer than `shutdown.limit` the end may take: what is dropped at
/// the limit is written down still.
const SPARE: Duration = Duration::from_secs(5);

/// Why the daemon ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Something that it needs is not as it should be.
    #[error(transparent)]
    Obstacles(#[from] Obstacles),
    /// Another daemon has the state directory.
    #[error(transparent)]
    StateLock(#[from] StateLockError),
    /// The services cannot run.
    #[error(transparent)]
    Services(#[from] CheckError),
    /// The Tor client cannot start.
    #[error(transparent)]
    Tor(#[from] TorError),
    /// The operator's door cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
    /// Something that has to run for ever has ended; that is a bug.
    #[error("{0} has ended unexpectedly")]
    Ended(String),
}

/// What the daemon needs of the process.
pub struct Outside {
    /// Reads the same files again.
    pub load: Box<dyn Fn() -> Result<Config, ConfigErrors> + Send>,
    /// Can be told another filter.
    pub logging: LoggingGuard,
    /// Takes news, for whoever looks at a terminal.
    pub tell: Arc<dyn Fn(News) + Send + Sync>,
}

/// Runs until SIGTERM or SIGINT; another one, a second later or more, ends the
/// process at once. SIGHUP reads the configuration again.
pub async fn run(mut config: Config, outside: Outside) -> Result<(), DaemonError> {
    let mut signals = Signals::listen().map_err(DaemonError::Signals)?;
    preflight(&config)?;
    let _lock = tokio::select! {
        lock = StateLock::take(&config.storage) => lock?,
        // A command may have the directory, and the daemon waits for it.
        () = signals.end() => return Ok(()),
    };
    let checked = services::check(&config, &config.storage, &BTreeSet::new())?;
    checked.note_past(&config.storage)?;
    let unwritten = UnwrittenCache::where_full(&config.storage.cache_dir);
    let file_handles = FileHandles::raise();
    let tor = Tor::new(config.tor.clone(), unwritten)?;
    let tor = match config.anonymity() {
        Anonymity::Anonymous => tor,
        Anonymity::NotAnonymous => {
            tracing::warn!("services are not anonymous: relays see where this process is");
            tor.not_anonymous(file_handles.direct_connections())
        }
    };
    let board = Arc::new(Board::new(tor.clone(), file_handles.clone()));
    let (ready, network) = watch::channel(None);
    let (fetches, fetching) = fetches::fetches();
    let known = network.clone();
    let (systemd, messages) = systemd::connect();
    let pulse = Pulse::new();
    let common = Common {
        network,
        fetches,
        storage: Arc::new(config.storage.clone()),
        file_handles: file_handles.clone(),
        pulse: pulse.clone(),
    };
    let mut services = Services::new(common, Arc::clone(&board), tor.keyring.clone());
    let (mut backends_files, watcher) = backends_files::watching();
    let take_snapshot = {
        let board = Arc::clone(&board);
        Arc::new(move || board.snapshot())
    };
    let scrape = ScrapePorts::open(&config.metrics, take_snapshot.clone())?;
    let admin = Admin::open(&config.admin, take_snapshot).await?;
    let (orders, mut ordered) = orders::orders();
    let answering = inquiries::answering(known, tor.clone(), Arc::clone(&board), orders);
    let admin = admin.answering(answering);

    let mut tasks: JoinSet<Ended> = JoinSet::new();
    let remembered = Arc::clone(&board);
    tasks.spawn(async move { match remembered.remember().await {} });
    tasks.spawn({
        let (tor, tell) = (tor.clone(), Arc::clone(&outside.tell));
        async move { match tor_lines::tell(tor, tell).await {} }
    });
    tasks.spawn({
        let tor = tor.clone();
        async move { match watch_tor(&tor).await {} }
    });
    tasks.spawn({
        let tor = tor.clone();
        async move { match tor.use_room().await {} }
    });
    tasks.spawn({
        let tor = tor.clone();
        async move { match tor.keep_up().await {} }
    });
    tasks.spawn(async move { match file_handles.watch().await {} });
    tasks.spawn(bootstrap_and_fetch(tor, ready, fetching));
    services.apply(checked, config.shutdown);
    backends_files.follow(&config.services, &board);
    tasks.spawn(async move { match watcher.run().await {} });
    // Not before: without any service, all of them would seem to be ready.
    tasks.spawn(async move { match admin.serve().await {} });
    tasks.spawn(async move { match scrape.serve().await {} });
    tasks.spawn(async move { match messages.carry().await {} });
    tasks.spawn({
        let informed = systemd.clone().keep_informed(Arc::clone(&board), pulse.clone());
        async move { match informed.await {} }
    });
    systemd.ready();
    (outside.tell)(News::Started(board.addresses()));

    let mut beat = pulse.join();
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => {
                    systemd.reloading();
                    // The log and the status say what it has come to.
                    if reload(&mut config, &outside, &mut services, &board).is_ok() {
                        backends_files.follow(&config.services, &board);
                    }
                    systemd.ready();
                }
                Signal::End => break,
            },
            Some(order) = ordered.recv() => match order {
                PendingOrder::Reload { user, answer } => {
                    tracing::info!(user = user.map(tracing::field::display), "operator: reload");
                    systemd.reloading();
                    let reloaded = reload(&mut config, &outside, &mut services, &board);
                    if reloaded.is_ok() {
                        backends_files.follow(&config.services, &board);
                    }
                    systemd.ready();
                    // Whoever asked may have gone.
                    let _ = answer.send(reloaded);
                }
                PendingOrder::Backend(order) => services.obey(order),
            },
            Some(changed) = backends_files.changed() => {
                backends_files.apply(changed, &mut config, &mut services, &board);
            }
            () = beat.next() => {}
            ended = tasks.join_next() => return Err(DaemonError::Ended(in_words(ended))),
            ended = services.unexpected() => return Err(DaemonError::Ended(ended)),
        }
    }
    systemd.stopping();
    // The services' loops still turn, this one does not.
    drop(beat);
    tracing::info!("ending; a second signal ends at once");
    // The other tasks have nothing to end: they just stop, after the services.
    tokio::select! {
        () = services.end() => {}
        () = tokio::time::sleep(config.shutdown.limit + SPARE) => {
            tracing::warn!("shutdown timed out; dropping open streams");
        }
        () = signals.end() => tracing::warn!("ended at once"),
    }
    Ok(())
}

/// Reads the configuration again. Whatever is wrong with it, nothing has
/// changed then; the log and status say what it is. What only a restart can
/// change stays as it is, and they say that, too.
fn reload(
    config: &mut Config,
    outside: &Outside,
    services: &mut Services,
    board: &Board,
) -> Obeyed<Reloaded> {
    let loaded = (outside.load)();
    // The text and the code of `check`.
    let checked = loaded.map_err(|errors| match errors.exit() {
        Exit::Permission => NoAnswer::Denied(errors.report()),
        _ => NoAnswer::Configuration(errors.report()),
    });
    let checked = checked.and_then(|mut wanted| {
        wanted.recall_clients(config);
        if let Some(refused) = reload::other_anonymity(config, &wanted) {
            return Err(NoAnswer::Configuration(refused));
        }
        let kept = reload::keep_guards(config, &mut wanted);
        let checked = services::check(&wanted, &config.storage, &services.nicknames());
        let checked = checked.and_then(|checked| {
            services.may_apply(&checked)?;
            checked.note_past(&config.storage)?;
            Ok(checked)
        });
        let checked = checked.map_err(|error| match error.exit() {
            Exit::Permission => NoAnswer::Denied(in_one_line(&error)),
            _ => NoAnswer::Configuration(in_one_line(&error)),
        })?;
        Ok((wanted, kept, checked))
    });
    let (mut wanted, kept, checked) = match checked {
        Ok(good) => good,
        Err(error) => {
            let text = error.to_string();
            let parts = on_one_line(&text);
            tracing::error!("the configuration is not reloaded, nothing has changed: {parts}");
            board.reloaded(Some(format!("nothing has changed: {}", text.trim_end())));
            return Err(error);
        }
    };
    let mut warnings = std::mem::take(&mut wanted.warnings);
    let nobody_in_use =
        checked.services().filter_map(|(it, at)| out_of_use(&config.storage, it, &at));
    warnings.extend(nobody_in_use);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let mut after_restart = reload::until_a_restart(config, &wanted);
    after_restart.extend(kept);
    let waits = |it: &Difference| after_restart.iter().any(|place| it.is_in(place));
    let changed = config.differences(&wanted).into_iter().filter(|it| !waits(it));
    let changed = changed.map(|it| it.to_string()).collect();
    services.apply(checked, wanted.shutdown);
    if let Err(error) = outside.logging.refilter(&wanted.logging.console) {
        tracing::error!(%error, "cannot apply the new log filter; keeping the current one");
    }
    // What stays as it is is compared with the next files, too.
    config.services = wanted.services;
    config.shutdown = wanted.shutdown;
    config.logging.console = wanted.logging.console;
    let differ = after_restart.join(", ");
    let problem = (!after_restart.is_empty())
        .then(|| format!("all but {differ} is in force: that changes only with a restart"));
    match &problem {
        None => tracing::info!("the configuration is reloaded"),
        Some(problem) => tracing::warn!("the configuration is reloaded; {problem}"),
    }
    board.reloaded(problem);
    Ok(Reloaded { changed, after_restart, warnings })
}

/// Which task has ended.
type Ended = String;

/// What to tell of a task that ended though it should run for ever.
fn in_words(ended: Option<Result<Ended, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(name)) => name,
        Some(Err(error)) => error.to_string(),
        None => "everything".to_owned(),
    }
}

/// Waits for a usable Tor network, tells the services, then fetches for them.
async fn bootstrap_and_fetch(
    tor: Tor,
    ready: watch::Sender<Option<Network>>,
    fetching: Fetching,
) -> Ended {
    let network = tor.bootstrap().await;
    ready.send_replace(Some(network.clone()));
    let fetch = |address| {
        let network = network.clone();
        async move { fetch::fetch(&network, &address, now().wall).await }
    };
    fetching.run(fetch).await;
    "fetching".to_owned()
}
