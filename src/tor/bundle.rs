//! A directory with the keys of some periods, one file each: what a publisher needs
//! whose identity key is kept offline (rend-spec-v3, section 1.7).
//!
//! Reads and writes the directories that the operator names; `file` says what is in
//! one file. For how long the keys last, `onionbraid_balancer::BundlePeriods` says.

mod file;

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_mistrust::Mistrust;
use rustix::fs::{CWD, RenameFlags, rename, renameat_with};
use rustix::io::Errno;
use tor_hscrypto::pk::{HsIdKey, HsIdKeypair};
use zeroize::Zeroizing;

use super::keys::{KeyFileError, SECRET_MODE, check_opened, open_key_file, unreadable, write_file};
use super::period_keys::PeriodKeys;
use super::values::identity_key;
use super::wiped;
use crate::trust::Process;
pub(crate) use file::is_possible;
use file::{PeriodFile, PeriodSeeds};
use onionbraid_balancer::onion::{OnionAddress, Period};
use onionbraid_balancer::pow::{Seed, SeedSchedule, SeedSlot};

/// What the name of a file with the keys of a period ends with.
const EXTENSION: &str = "period";

/// The most files of a bundle: those of a year, and those of the year before that
/// nobody has cleared away.
const MOST_FILES: usize = 1000;

/// The most periods that are exported at a time.
pub const MOST_PERIODS: u16 = 366;

/// The keys of some periods of one address.
pub struct Bundle {
    address: OnionAddress,
    public: HsIdKey,
    schedule: SeedSchedule,
    periods: BTreeMap<Period, (Arc<PeriodKeys>, PeriodSeeds)>,
}

/// The files with the keys of periods in a directory, by their names.
///
/// # Errors
///
/// If it cannot be read, or if there are too many.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, KeyFileError> {
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(directory.to_owned()),
        _ => unreadable(directory, cause),
    };
    let mut files = Vec::new();
    for entry in directory.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            let more = format!("it has more than {MOST_FILES} files of periods");
            return Err(failed(io::Error::other(more)));
        }
    }
    files.sort();
    Ok(files)
}

impl Bundle {
    /// Reads all files of a directory.
    ///
    /// # Errors
    ///
    /// If there is none, if one cannot be used, or if they are of several addresses.
    pub fn read(directory: &Path, mistrust: &Mistrust) -> Result<Self, KeyFileError> {
        Self::read_all(directory, mistrust).map_err(|error| for_the_whole(error, directory))
    }

    fn read_all(directory: &Path, mistrust: &Mistrust) -> Result<Self, KeyFileError> {
        let mut bundle: Option<(Self, PathBuf)> = None;
        for path in files(directory)? {
            let read = wiped(|| read_file(&path, mistrust).map(Box::new))?;
            let PeriodFile { address, times, keys, seeds } = *read;
            let (bundle, first) = match &mut bundle {
                Some(begun) => begun,
                None => {
                    let problem = || KeyFileError::period(&path, "its address is no key");
                    let public = identity_key(&address).ok_or_else(problem)?;
                    let schedule = SeedSchedule::new(*times);
                    let begun = Self { address, public, schedule, periods: BTreeMap::new() };
                    bundle.insert((begun, path.clone()))
                }
            };
            if bundle.address != address {
                return Err(KeyFileError::Mixed { first: first.clone(), other: path });
            }
            bundle.periods.insert(keys.period, (Arc::new(keys), seeds));
        }
        let bundle = bundle.map(|(bundle, _)| bundle);
        bundle.ok_or_else(|| KeyFileError::NoPeriods(directory.to_owned()))
    }

    /// Whose keys they are.
    pub fn address(&self) -> OnionAddress {
        self.address
    }

    /// For which periods.
    pub fn periods(&self) -> Vec<Period> {
        self.periods.keys().copied().collect()
    }

    pub(super) fn public_key(&self) -> HsIdKey {
        self.public.clone()
    }

    pub(super) fn schedule(&self) -> SeedSchedule {
        self.schedule.clone()
    }

    pub(super) fn keys(&self, period: Period) -> Option<Arc<PeriodKeys>> {
        self.periods.get(&period).map(|(keys, _)| Arc::clone(keys))
    }

    pub(super) fn seed(&self, period: Period, slot: SeedSlot) -> Option<Seed> {
        self.periods.get(&period)?.1.get(slot)
    }
}

/// Advice that holds for the whole bundle, which was written or copied by one user.
fn for_the_whole(error: KeyFileError, directory: &Path) -> KeyFileError {
    let Ok(resolved) = directory.canonicalize() else { return error };
    match error {
        KeyFileError::Owner { path, owner, .. } if path.starts_with(&resolved) => {
            let (user, directory) = (Process::current().user(), directory.display());
            let advice = format!(
                "give all of it to the user that runs onionbraid (`chown -R {user} {directory}`); \
                 where its owner may have the keys, set `storage.permissions.trust_user = {owner}`"
            );
            KeyFileError::Owner { path, owner, advice }
        }
        error => error,
    }
}

fn read_file(path: &Path, mistrust: &Mistrust) -> Result<PeriodFile, KeyFileError> {
    let (opened, bytes) = open_key_file(path)?;
    check_opened(&opened, path, mistrust)?;
    PeriodFile::decode(&bytes).map_err(|problem| KeyFileError::period(path, problem))
}

/// Where files are before all of them are written.
const PARTIAL: &str = ".partial";

/// Writes the keys of these periods to a directory, which is made where it is missing
/// (mode 0700), one file each (mode 0600). They get there once all of them are written,
/// and a new directory with all of them at once; unless it `is_interrupted` before.
///
/// # Errors
///
/// If one of the files is there already, or cannot be written; then none is left that
/// was written here.
pub fn export(
    identity: &HsIdKeypair,
    periods: &[Period],
    directory: &Path,
    is_interrupted: impl Fn() -> bool,
) -> Result<(), KeyFileError> {
    let names: Vec<String> = periods.iter().map(name).collect();
    let there = names.iter().map(|name| directory.join(name));
    if let Some(there) = there.into_iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(KeyFileError::Exists(there));
    }
    // On one file system with where they go.
    let is_new = directory.symlink_metadata().is_err();
    let partial = match is_new {
        true => {
            let mut name = directory.file_name().unwrap_or_default().to_owned();
            name.push(PARTIAL);
            directory.with_file_name(name)
        }
        false => directory.join(PARTIAL),
    };
    let failed = |cause| KeyFileError::Write { path: directory.to_owned(), cause: Arc::new(cause) };
    match DirBuilder::new().mode(0o700).create(&partial) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Partial(partial));
        }
        Err(error) => return Err(failed(error)),
    }
    let mut written = Vec::new();
    let outcome = write_all(identity, periods.iter().zip(&names), &partial, || {
        if is_interrupted() { Err(KeyFileError::Interrupted(directory.to_owned())) } else { Ok(()) }
    });
    let outcome = outcome.and_then(|()| match is_new {
        true => move_new(&partial, directory),
        false => names.iter().try_for_each(|name| {
            let path = directory.join(name);
            move_new(&partial.join(name), &path)?;
            written.push(path);
            Ok(())
        }),
    });
    let mut left = Vec::new();
    if outcome.is_err() {
        // Made here, a moment ago.
        left.extend(written.into_iter().filter(|path| std::fs::remove_file(path).is_err()));
    }
    if (outcome.is_err() || !is_new) && std::fs::remove_dir_all(&partial).is_err() {
        left.push(partial);
    }
    match (outcome, left.into_iter().next()) {
        (Err(cause), Some(left)) => Err(KeyFileError::Left { cause: Box::new(cause), left }),
        (outcome, _) => outcome,
    }
}

/// Gives something its name, if that is free.
fn move_new(from: &Path, to: &Path) -> Result<(), KeyFileError> {
    let moved = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system cannot look and rename at once.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match to.symlink_metadata() {
            Ok(_) => Err(Errno::EXIST),
            Err(_) => rename(from, to),
        },
        moved => moved,
    };
    moved.map_err(|error| match error {
        Errno::EXIST => KeyFileError::Exists(to.to_owned()),
        error => KeyFileError::Write { path: to.to_owned(), cause: Arc::new(error.into()) },
    })
}

/// Writes a file for each period, as long as it `may_go_on`.
fn name(period: &Period) -> String {
    let Period { number, length_minutes, offset_seconds } = period;
    format!("{number}-{length_minutes}-{offset_seconds}.{EXTENSION}")
}

/// The name and the contents of a file of a bundle.
pub(crate) type BundleFile = (String, Zeroizing<Vec<u8>>);

/// The files that [`export`] writes to a directory, with their names (mode 0600), for
/// whoever writes them as another user.
///
/// # Errors
///
/// If the keys of a period cannot be made, or if `is_interrupted`.
pub(crate) fn contents(
    identity: &HsIdKeypair,
    periods: &[Period],
    directory: &Path,
    is_interrupted: impl Fn() -> bool,
) -> Result<Vec<BundleFile>, KeyFileError> {
    let of = |period: &Period| {
        if is_interrupted() {
            return Err(KeyFileError::Interrupted(directory.to_owned()));
        }
        let name = name(period);
        let file = PeriodFile::of(identity, *period);
        let file = file.map_err(|problem| KeyFileError::period(&directory.join(&name), problem))?;
        Ok((name, file.encode()))
    };
    periods.iter().map(of).collect()
}

fn write_all<'a>(
    identity: &HsIdKeypair,
    mut files: impl Iterator<Item = (&'a Period, &'a String)>,
    directory: &Path,
    may_go_on: impl Fn() -> Result<(), KeyFileError>,
) -> Result<(), KeyFileError> {
    files.try_for_each(|(period, name)| {
        may_go_on()?;
        let path = directory.join(name);
        let file = PeriodFile::of(identity, *period);
        let file = file.map_err(|problem| KeyFileError::period(&path, problem))?;
        write_file(&path, &file.encode(), SECRET_MODE)
    })?;
    may_go_on()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use sha2::Digest as _;
    use tor_hscrypto::pk::HsBlindIdKeypair;
    use tor_llcrypto::pk::ed25519;

    use super::super::credentials::Credentials;
    use super::super::values::to_arti;
    use super::*;

    const PERIOD: Period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 43_200 };

    fn identity(n: u8) -> HsIdKeypair {
        let keypair = ed25519::Keypair::from_bytes(&[n; 32]);
        HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair))
    }

    fn periods(count: u64) -> Vec<Period> {
        (0..count).map(|n| Period { number: PERIOD.number + n, ..PERIOD }).collect()
    }

    fn mistrust() -> Mistrust {
        let directory = std::env::temp_dir();
        Mistrust::builder().ignore_prefix(directory).build().unwrap()
    }

    fn read(directory: &Path) -> Result<Bundle, KeyFileError> {
        Bundle::read(directory, &mistrust())
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_published_with_a_bundle_is_what_the_identity_key_publishes() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("bundle");
        export(&identity(7), &periods(2), &out, || false).unwrap();
        assert_eq!(mode(&out), 0o700);
        assert!(files(&out).unwrap().iter().all(|file| mode(file) == 0o600));
        let bundle = Credentials::of_bundle(read(&out).unwrap());
        let whole = Credentials::of_identity(identity(7));
        assert_eq!(bundle.address(), whole.address());
        assert_eq!(bundle.periods().unwrap(), periods(2));
        for period in periods(2) {
            let [ours, theirs] = [&bundle, &whole].map(|it| it.period(period).unwrap());
            assert_eq!(ours.blinded, theirs.blinded);
            assert_eq!(ours.subcredential.as_ref(), theirs.subcredential.as_ref());
            assert_eq!(ours.signing.as_bytes(), theirs.signing.as_bytes());
            assert_eq!(*ours.order, *theirs.order);
            assert_eq!(ours.open.lines, theirs.open.lines);
            assert_eq!(ours.open.ephemeral.as_bytes(), theirs.open.ephemeral.as_bytes());
            assert_eq!(ours.restricted.secret(), theirs.restricted.secret());
            assert_eq!(ours.revision.counter(50_000), theirs.revision.counter(50_000));
            for hours in [0, 12, 24, 47] {
                let moment = period.begins() - period.part(2);
                let moment = moment + std::time::Duration::from_secs(hours * 3600 + 77);
                assert_eq!(ours.certificate(moment).unwrap(), theirs.certificate(moment).unwrap());
                let slots = whole.schedule().accepted(moment);
                assert_eq!(bundle.schedule().accepted(moment), slots);
                for slot in slots {
                    let seed = bundle.seed(period, slot);
                    assert!(seed.is_some());
                    assert_eq!(seed, whole.seed(period, slot));
                }
            }
        }
        let after = periods(3).pop().unwrap();
        assert!(bundle.period(after).is_err());
        assert_eq!(bundle.seed(after, SeedSlot(300_000)), None);
    }

    /// The blinded keys of the periods in and around a bundle.
    fn blinded(identity: &HsIdKeypair) -> Vec<HsBlindIdKeypair> {
        let periods = (0..5).map(|n| Period { number: PERIOD.number - 2 + n, ..PERIOD });
        periods.map(|it| identity.compute_blinded_key(to_arti(it)).unwrap().1).collect()
    }

    #[test]
    fn neither_the_identity_nor_a_blinded_secret_key_is_in_a_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("bundle");
        let identity = identity(7);
        export(&identity, &[PERIOD], &out, || false).unwrap();
        let [file] = &files(&out).unwrap()[..] else { panic!("one file") };
        let bytes = std::fs::read(file).unwrap();

        let mut secrets = vec![[7; 32]];
        let mut public = Vec::new();
        let blinded = blinded(&identity);
        let whole: &ed25519::ExpandedKeypair = identity.as_ref();
        for key in blinded.iter().map(AsRef::as_ref).chain([whole]) {
            let secret = key.to_secret_key_bytes();
            secrets.extend([*secret.first_chunk().unwrap(), *secret.last_chunk().unwrap()]);
            public.push(*key.public().as_bytes());
        }
        let windows = || bytes.windows(32).map(|it| <[u8; 32]>::try_from(it).unwrap());
        for window in windows() {
            let reversed = {
                let mut it = window;
                it.reverse();
                it
            };
            assert!(!secrets.contains(&window) && !secrets.contains(&reversed));
        }
        // The algebra: no 32 bytes are a scalar of one of these keys, or a seed of one.
        // Whoever had a blinded one would divide it by what everybody can compute, so
        // that is one of these, too: it is enough that there is none.
        let is_one = |secret: [u8; 32]| {
            let mut expanded = [0; 64];
            expanded[..32].copy_from_slice(&secret);
            let scalar = ed25519::ExpandedKeypair::from_secret_key_bytes(expanded);
            let scalar = scalar.map(|key| *key.public().as_bytes());
            let seed = *ed25519::Keypair::from_bytes(&secret).verifying_key().as_bytes();
            scalar.is_some_and(|key| public.contains(&key)) || public.contains(&seed)
        };
        // The test can see one.
        assert!(secrets.iter().filter(|it| is_one(**it)).count() > blinded.len());
        assert!(!windows().any(is_one));
    }

    #[test]
    fn what_is_there_is_never_overwritten_and_what_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("bundle");
        export(&identity(7), &periods(1), &out, || false).unwrap();
        let before = std::fs::read(&files(&out).unwrap()[0]).unwrap();
        let again = export(&identity(8), &periods(3), &out, || false);
        assert!(matches!(again, Err(KeyFileError::Exists(_))));
        assert_eq!(files(&out).unwrap().len(), 1);
        assert_eq!(std::fs::read(&files(&out).unwrap()[0]).unwrap(), before);
        // More of the same go beside them.
        export(&identity(7), &periods(3)[1..], &out, || false).unwrap();
        assert_eq!(read(&out).unwrap().periods(), periods(3));
        let missing = dir.path().join("missing/bundle");
        assert!(matches!(
            export(&identity(7), &periods(1), &missing, || false),
            Err(KeyFileError::Write { .. })
        ));
    }

    #[test]
    fn a_bundle_is_of_one_address_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("bundle");
        assert!(matches!(read(&out), Err(KeyFileError::Missing(_))));
        std::fs::create_dir(&out).unwrap();
        std::fs::write(out.join("notes.txt"), "no keys").unwrap();
        assert!(matches!(read(&out), Err(KeyFileError::NoPeriods(_))));
        export(&identity(7), &periods(1), &out, || false).unwrap();
        let file = files(&out).unwrap().remove(0);

        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        std::fs::set_permissions(&out, Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let refused = read(&out).map(|bundle| bundle.periods());
        assert!(matches!(refused, Err(KeyFileError::Permissions { .. })), "{refused:?}");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        read(&out).unwrap();

        export(&identity(8), &periods(2)[1..], &out, || false).unwrap();
        assert!(matches!(read(&out), Err(KeyFileError::Mixed { .. })));
        std::fs::remove_file(files(&out).unwrap().remove(1)).unwrap();

        let good = std::fs::read(&file).unwrap();
        let mut wrong =
            vec![Vec::new(), good[..good.len() - 1].to_vec(), [&good[..], b"x"].concat()];
        // Every part of it, and the bytes of the address and the period.
        for at in (0..good.len()).step_by(97).chain(28..76) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            wrong.push(bad);
        }
        // The same by somebody who knows how to make the digest: another address, period
        // or signing key, and another certificate at the end.
        for at in (28..108).chain([good.len() - 33]) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let body = bad.len() - 32;
            let digest = sha2::Sha256::digest(&bad[..body]);
            bad[body..].copy_from_slice(&digest);
            wrong.push(bad);
        }
        for bad in wrong {
            std::fs::write(&file, bad).unwrap();
            let refused = read(&out).map(|bundle| bundle.periods());
            assert!(matches!(refused, Err(KeyFileError::Period { .. })), "{refused:?}");
        }
    }
    #[test]
    fn what_came_in_between_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let [new, there, free] = ["new", "there", "free"].map(|name| dir.path().join(name));
        std::fs::write(&new, "new").unwrap();
        std::fs::write(&there, "theirs").unwrap();
        assert!(matches!(move_new(&new, &there), Err(KeyFileError::Exists(_))));
        assert_eq!(std::fs::read(&there).unwrap(), b"theirs");
        move_new(&new, &free).unwrap();
        assert_eq!(std::fs::read(&free).unwrap(), b"new");
        // An empty directory would be replaced by a plain rename.
        let [made, empty] = ["made", "empty"].map(|name| dir.path().join(name));
        std::fs::create_dir(&made).unwrap();
        std::fs::create_dir(&empty).unwrap();
        assert!(matches!(move_new(&made, &empty), Err(KeyFileError::Exists(_))));
        assert!(made.exists());
    }
}
