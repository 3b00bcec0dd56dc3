//! Which introduction points does a next process go on with? A file with their
//! secrets, and a replay log for each, in a directory of the instance's own.
//!
//! Clients keep a descriptor for hours and look for a new one only when none of
//! its points works. So a restart that comes back with other points costs every
//! one of them retries; one that comes back with the same points costs nothing.
//!
//! Trouble with the disk never stops an instance: points that cannot be kept
//! serve as long as the process, and the log is told now and then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use zeroize::{Zeroize as _, Zeroizing};

use super::intro::{PointKeys, SecretBytes};
use super::plan::Life;
use super::replay::{Digest, ReplayLog};
use super::replay_file::ReplayFile;
use crate::clock::now;
use crate::complaints;
use crate::durable;
use crate::throttle::Throttle;
use onionbraid_balancer::onion::{RelayId, SessionId};

/// The points with their keys.
const POINTS: &str = "points.json";

/// Where a points file goes that cannot be read: it is evidence, and holds keys.
const PUT_ASIDE: &str = "points.json.corrupt";

/// How the names of replay logs end.
const REPLAYS: &str = ".replays";

/// The form of [`POINTS`] that this program reads and writes.
const VERSION: u32 = 1;

/// After trouble with the disk: how long until it is written to again, and how
/// long until the log is told again.
const PAUSE: Duration = Duration::from_secs(60);

/// Times further away than this, in seconds, are nonsense.
const LATEST: u64 = 1 << 40;

/// What is kept of one instance.
pub(super) struct Keeper {
    directory: PathBuf,
    /// What the file says, or is being made to say; `None` if that is not known.
    saved: Option<Vec<Mark>>,
    /// Writes the file: at most one task at a time.
    saving: JoinSet<io::Result<()>>,
    /// After trouble, not before this moment.
    save_after: Option<Instant>,
    /// Limits how often the log tells of trouble.
    complained: Throttle,
}

/// What there is to keep of one point.
pub(super) struct Keepsake<'a> {
    /// Its secrets.
    pub(super) keys: &'a PointKeys,
    /// How long it is to live.
    pub(super) life: Life,
    /// Introductions that it has seen.
    pub(super) seen: usize,
}

/// A point of an earlier process.
pub(super) struct Restored {
    /// Its secrets.
    pub(super) keys: PointKeys,
    /// How long it is to live.
    pub(super) life: Life,
    /// What it has seen.
    pub(super) replays: ReplayLog,
    /// Where that is kept.
    pub(super) file: ReplayFile,
}

/// What makes it worth writing the file: a point that comes, goes or retires.
/// What else changes, the next process can tell from the clock and the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    session: SessionId,
    retires: bool,
}

/// Why the points file cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is torn, or something else: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("its version is {0}, and only {VERSION} is known")]
    Version(u32),
    #[error("it holds a time that makes no sense")]
    Time,
}

/// The content of [`POINTS`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    points: Vec<KeptPoint>,
}

/// One point. The secrets are wiped when it is dropped.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptPoint {
    relay: [u8; 20],
    session_secret: [u8; 32],
    ntor_secret: [u8; 32],
    /// In seconds since 1970, like the other time.
    expires: u64,
    retiring_until: Option<u64>,
    /// How many introductions it may see in its life, so that the length of its
    /// replay log tells how many are left.
    introductions: usize,
}

impl Drop for KeptPoint {
    fn drop(&mut self) {
        self.session_secret.zeroize();
        self.ntor_secret.zeroize();
    }
}

impl Keeper {
    /// Reads what an earlier process left in a directory, and removes the
    /// replay logs of points that are over.
    pub(super) fn open(directory: PathBuf) -> (Self, Vec<Restored>) {
        let (saving, complained) = (JoinSet::new(), Throttle::new(PAUSE));
        let mut keeper = Self { directory, saved: None, saving, save_after: None, complained };
        let entries = read(&keeper.directory.join(POINTS)).unwrap_or_else(|error| {
            keeper.put_aside(&error);
            Vec::new()
        });
        if entries.is_empty() {
            keeper.saved = Some(Vec::new());
        }
        let restored: Vec<Restored> =
            entries.into_iter().filter_map(|entry| keeper.restore(entry)).collect();
        keeper.sweep(&restored);
        (keeper, restored)
    }

    /// A replay log for a new point; `None` if there can be none, so that the
    /// point ends with the process.
    pub(super) fn new_log(&mut self, keys: &PointKeys, now: Instant) -> Option<ReplayFile> {
        match ReplayFile::create(self.log_of(keys.session_id())) {
            Ok(file) => Some(file),
            Err(error) => {
                self.complain(&error, now);
                None
            }
        }
    }

    /// Records an introduction in the replay log of its point. If that cannot
    /// be done, the log in memory still holds for as long as the process lives,
    /// and the point ends with it.
    pub(super) fn record(&mut self, file: &mut ReplayFile, digest: Digest, now: Instant) {
        if let Err(error) = file.record(digest) {
            self.complain(&error, now);
        }
    }

    /// Removes the replay log of a point that is over. If that fails, the next
    /// process does it: the points file does not name the point any more.
    pub(super) fn forget(&mut self, file: ReplayFile, now: Instant) {
        if let Err(error) = file.remove() {
            self.complain(&error, now);
        }
    }

    /// Sees to it that the file says what there is to keep, in a while.
    pub(super) fn keep<'a>(&mut self, points: impl Iterator<Item = Keepsake<'a>>, now: Instant) {
        if !self.saving.is_empty() || self.save_after.is_some_and(|after| now < after) {
            return;
        }
        let points: Vec<Keepsake<'a>> = points.collect();
        let marks: Vec<Mark> = points.iter().map(Mark::of).collect();
        if self.saved.as_ref() == Some(&marks) {
            return;
        }
        let path = self.directory.join(POINTS);
        match write(&points) {
            Ok(bytes) => self.saving.spawn_blocking(move || durable::replace(&path, &bytes)),
            Err(error) => self.saving.spawn(async { Err(error.into()) }),
        };
        self.saved = Some(marks);
        self.save_after = None;
    }

    /// Whether the file is being written.
    pub(super) fn is_writing(&self) -> bool {
        !self.saving.is_empty()
    }

    /// Ends when the file has been written; never, if it is not being written.
    /// Can be dropped at any time. After trouble the file is written again later.
    pub(super) async fn written(&mut self) {
        let Some(ended) = self.saving.join_next().await else {
            return std::future::pending().await;
        };
        let outcome = ended.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        if let Err(error) = outcome {
            let now = now().monotonic;
            self.saved = None;
            self.save_after = Some(now + PAUSE);
            self.complain(&error, now);
        }
    }

    /// When to call [`Self::keep`] although nothing has happened.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.save_after
    }

    /// Tells the log of trouble, now and then: a full disk does not end soon.
    fn complain(&mut self, error: &io::Error, now: Instant) {
        if let Some(more) = complaints::permits(&mut self.complained, error, now) {
            tracing::warn!(
                directory = %self.directory.display(), %error, more,
                "introduction points cannot be kept there: after a restart, clients will need new ones"
            );
        }
    }

    /// Where the replay log of a point is.
    fn log_of(&self, session: SessionId) -> PathBuf {
        let name: String = session.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.directory.join(name + REPLAYS)
    }

    /// A point, with its replay log: without that, replays would work.
    fn restore(&self, entry: KeptPoint) -> Option<Restored> {
        let (session, ntor) =
            (SecretBytes::new(entry.session_secret), SecretBytes::new(entry.ntor_secret));
        let keys = PointKeys::from_secrets(&session, &ntor);
        let (file, replays) = match ReplayFile::open(self.log_of(keys.session_id())) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(
                    directory = %self.directory.display(), %error,
                    "an introduction point is given up, because its replay log cannot be read"
                );
                return None;
            }
        };
        let left = entry.introductions.saturating_sub(replays.len());
        let life = Life {
            relay: RelayId(entry.relay),
            expires: moment(entry.expires)?,
            introductions_left: left.try_into().unwrap_or(u32::MAX),
            retiring_until: entry.retiring_until.and_then(moment),
        };
        Some(Restored { keys, life, replays, file })
    }

    /// Puts aside what cannot be read, so that nothing overwrites it.
    fn put_aside(&self, error: &Unusable) {
        let aside = self.directory.join(PUT_ASIDE);
        let moved = fs::rename(self.directory.join(POINTS), &aside);
        tracing::warn!(
            file = %self.directory.join(POINTS).display(), %error, put_aside = moved.is_ok(),
            "the introduction points cannot be read: beginning with new ones"
        );
    }

    /// Removes replay logs that belong to no point: what a process that ended
    /// between two steps has left.
    fn sweep(&self, restored: &[Restored]) {
        let known: Vec<PathBuf> =
            restored.iter().map(|point| self.log_of(point.keys.session_id())).collect();
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_log = path.to_str().is_some_and(|path| path.ends_with(REPLAYS));
            if is_log && !known.contains(&path) {
                // What stays is tried again by the next process.
                let _ = fs::remove_file(&path);
            }
        }
    }
}

impl Mark {
    fn of(point: &Keepsake<'_>) -> Self {
        let retires = point.life.retiring_until.is_some();
        Self { session: point.keys.session_id(), retires }
    }
}

/// The points of a file; none if there is no file.
fn read(path: &Path) -> Result<Vec<KeptPoint>, Unusable> {
    let bytes = match durable::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let file: File = serde_json::from_slice(&bytes)?;
    if file.version != VERSION {
        return Err(Unusable::Version(file.version));
    }
    let times = file.points.iter().flat_map(|entry| [Some(entry.expires), entry.retiring_until]);
    if times.flatten().any(|seconds| moment(seconds).is_none()) {
        return Err(Unusable::Time);
    }
    Ok(file.points)
}

/// The bytes of a file with these points.
fn write(points: &[Keepsake<'_>]) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let file = File { version: VERSION, points: points.iter().map(KeptPoint::of).collect() };
    // Large enough from the beginning: growing leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024 * (points.len() + 1)));
    serde_json::to_writer(&mut *bytes, &file)?;
    Ok(bytes)
}

impl KeptPoint {
    fn of(point: &Keepsake<'_>) -> Self {
        let (session, ntor) = point.keys.secrets();
        let left = usize::try_from(point.life.introductions_left).unwrap_or(usize::MAX);
        Self {
            relay: point.life.relay.0,
            session_secret: *session,
            ntor_secret: *ntor,
            expires: seconds(point.life.expires),
            retiring_until: point.life.retiring_until.map(seconds),
            introductions: left.saturating_add(point.seen),
        }
    }
}

fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn moment(seconds: u64) -> Option<SystemTime> {
    let since = (seconds <= LATEST).then_some(Duration::from_secs(seconds))?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A point at work, as far as it is kept.
    struct Kept {
        keys: PointKeys,
        life: Life,
        file: ReplayFile,
        seen: usize,
    }

    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000)
    }

    fn new_point(keeper: &mut Keeper) -> Kept {
        let keys = PointKeys::generate();
        let file = keeper.new_log(&keys, now().monotonic).unwrap();
        let life = Life {
            relay: RelayId([7; 20]),
            expires: wall(),
            introductions_left: 20_000,
            retiring_until: None,
        };
        Kept { keys, life, file, seen: 0 }
    }

    fn introduce(keeper: &mut Keeper, point: &mut Kept, digest: Digest) {
        keeper.record(&mut point.file, digest, now().monotonic);
        point.seen += 1;
        point.life.introductions_left -= 1;
    }

    async fn keep(keeper: &mut Keeper, points: &[Kept]) {
        let keepsakes = points.iter().map(|Kept { keys, life, seen, .. }| Keepsake {
            keys,
            life: *life,
            seen: *seen,
        });
        keeper.keep(keepsakes, now().monotonic);
        if keeper.is_writing() {
            keeper.written().await;
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_point_comes_back_with_its_keys_its_life_and_all_that_it_has_seen() {
        let directory = tempfile::tempdir().unwrap();
        let (mut keeper, restored) = Keeper::open(directory.path().to_owned());
        assert!(restored.is_empty());
        let mut points = [new_point(&mut keeper)];
        keep(&mut keeper, &points).await;
        // After the file was written: its log alone tells how often it was used.
        introduce(&mut keeper, &mut points[0], [1; 16]);
        introduce(&mut keeper, &mut points[0], [2; 16]);

        let (_, mut restored) = Keeper::open(directory.path().to_owned());
        assert_eq!(restored.len(), 1);
        let point = &mut restored[0];
        assert_eq!(point.keys.session_id(), points[0].keys.session_id());
        assert_eq!(*point.keys.ntor.public(), *points[0].keys.ntor.public());
        assert_eq!(point.life, points[0].life);
        assert_eq!(point.life.introductions_left, 19_998);
        assert!(point.replays.has([1; 16]) && point.replays.has([2; 16]));
        for name in names(directory.path()) {
            let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn the_file_is_written_when_a_point_comes_goes_or_retires_and_else_not() {
        let directory = tempfile::tempdir().unwrap();
        let (mut keeper, _) = Keeper::open(directory.path().to_owned());
        let file = directory.path().join(POINTS);
        keep(&mut keeper, &[]).await;
        assert!(!file.exists());
        let mut points = [new_point(&mut keeper)];
        for retires in [None, Some(wall())] {
            points[0].life.retiring_until = retires;
            keep(&mut keeper, &points).await;
            fs::remove_file(&file).unwrap();
            introduce(&mut keeper, &mut points[0], [u8::from(retires.is_some()); 16]);
            keep(&mut keeper, &points).await;
            assert!(!file.exists());
        }
        keep(&mut keeper, &[]).await;
        assert!(file.exists());
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_put_aside_and_the_instance_begins_anew() {
        let torn = b"{\"version\":1,\"poi".to_vec();
        let newer = b"{\"version\":2,\"points\":[]}".to_vec();
        let absurd = format!(
            "{{\"version\":1,\"points\":[{{\"relay\":{:?},\"session_secret\":{:?},\
             \"ntor_secret\":{:?},\"expires\":{},\"retiring_until\":null,\"introductions\":1}}]}}",
            [0; 20],
            [0; 32],
            [0; 32],
            u64::MAX
        );
        for content in [torn, newer, vec![0; 4096], absurd.into_bytes()] {
            let directory = tempfile::tempdir().unwrap();
            let (mut keeper, _) = Keeper::open(directory.path().to_owned());
            let points = [new_point(&mut keeper)];
            keep(&mut keeper, &points).await;
            fs::write(directory.path().join(POINTS), &content).unwrap();

            let (mut keeper, restored) = Keeper::open(directory.path().to_owned());
            assert!(restored.is_empty());
            assert_eq!(names(directory.path()), [PUT_ASIDE]);
            assert_eq!(fs::read(directory.path().join(PUT_ASIDE)).unwrap(), content);
            let points = [new_point(&mut keeper)];
            keep(&mut keeper, &points).await;
            let (_, restored) = Keeper::open(directory.path().to_owned());
            assert_eq!(restored.len(), 1);
        }
    }

    #[tokio::test]
    async fn a_point_without_its_replay_log_is_given_up_and_the_others_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let (mut keeper, _) = Keeper::open(directory.path().to_owned());
        let points = [new_point(&mut keeper), new_point(&mut keeper)];
        keep(&mut keeper, &points).await;
        fs::remove_file(keeper.log_of(points[0].keys.session_id())).unwrap();
        let (_, restored) = Keeper::open(directory.path().to_owned());
        let sessions: Vec<SessionId> = restored.iter().map(|p| p.keys.session_id()).collect();
        assert_eq!(sessions, [points[1].keys.session_id()]);
    }

    #[tokio::test]
    async fn processes_that_end_at_any_moment_leave_nothing_that_grows() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let (mut keeper, restored) = Keeper::open(directory.path().to_owned());
            assert!(restored.len() <= 1);
            for point in restored {
                keeper.forget(point.file, now().monotonic);
            }
            let points = [new_point(&mut keeper)];
            keep(&mut keeper, &points).await;
            // Ends before this one gets into the file.
            new_point(&mut keeper);
        }
        assert_eq!(names(directory.path()).len(), 3);
        let (_, restored) = Keeper::open(directory.path().to_owned());
        assert_eq!((restored.len(), names(directory.path()).len()), (1, 2));
    }

    #[tokio::test]
    async fn trouble_with_the_disk_stops_nothing_and_the_file_is_written_after_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("kept");
        fs::create_dir(&directory).unwrap();
        let (mut keeper, _) = Keeper::open(directory.clone());
        let points = [new_point(&mut keeper)];
        let elsewhere = parent.path().join("elsewhere");
        fs::rename(&directory, &elsewhere).unwrap();
        keep(&mut keeper, &points).await;
        assert!(keeper.new_log(&PointKeys::generate(), now().monotonic).is_none());
        fs::rename(&elsewhere, &directory).unwrap();

        let again = keeper.poll_timeout().unwrap();
        keep(&mut keeper, &points).await;
        assert!(!directory.join(POINTS).exists(), "not before the pause is over");
        let Kept { keys, life, seen, .. } = &points[0];
        let keepsake = Keepsake { keys, life: *life, seen: *seen };
        keeper.keep(std::iter::once(keepsake), again);
        keeper.written().await;
        assert_eq!(keeper.poll_timeout(), None);
        let (_, restored) = Keeper::open(directory);
        assert_eq!(restored.len(), 1);
    }
}
