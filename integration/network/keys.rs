//! Where do the keys of the relays come from?
//!
//! `tor` and `tor-gencert` make them, once: they are kept in a directory and
//! copied into the data directory of each network's relay of that name. That
//! networks share keys does no harm, because no network knows the ports of
//! another. Called by the network when it starts.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::place::make_private_dir;
use super::process::{Process, program, read_lossy};

/// Authority certificates are made for 12 months; older keys are made again.
const MAX_AGE: Duration = Duration::from_secs(300 * 24 * 3600);
/// How long one program may take to make keys on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The public half of a relay's keys.
#[derive(Clone, Debug)]
pub struct Identity {
    /// RSA fingerprint: 40 hexadecimal digits, upper case.
    pub fingerprint: String,
    /// Ed25519 identity: base64 without padding.
    pub ed25519: String,
    /// Fingerprint of the authority identity key, of an authority.
    pub v3ident: Option<String>,
}

/// The keys of one relay, ready to be copied.
#[derive(Debug)]
pub struct Keys {
    /// Their public half.
    pub identity: Identity,
    /// A data directory that holds nothing else.
    dir: PathBuf,
}

impl Keys {
    /// Puts the keys into the data directory of a relay.
    pub fn install(&self, data_dir: &Path) -> Result<()> {
        copy_dir(&self.dir, data_dir)
            .with_context(|| format!("cannot copy the keys of {}", self.dir.display()))
    }
}

/// The keys of the relays with these nicknames (and whether each is an
/// authority), made where `cache` does not have them yet.
pub async fn provide(cache: &Path, relays: &[(String, bool)]) -> Result<Vec<Keys>> {
    make_private_dir(cache)?;
    // Complete keys never change, so they may be read without the lock.
    let _lock = exclusive(&cache.join("lock")).await?;
    futures::future::try_join_all(
        relays.iter().map(|(nickname, authority)| one(cache, nickname, *authority)),
    )
    .await
}

async fn one(cache: &Path, nickname: &str, authority: bool) -> Result<Keys> {
    let dir = cache.join(nickname);
    if let Ok(identity) = read(&dir, authority) {
        return Ok(Keys { identity, dir });
    }
    // Made beside and moved when complete: being killed here leaves no half keys.
    let new = cache.join(format!("{nickname}.new"));
    for dir in [&dir, &new] {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
    }
    make_private_dir(&new.join("keys"))?;
    if authority {
        make_authority_keys(&new.join("keys")).await?;
    }
    make_relay_keys(nickname, &new).await?;
    fs::rename(&new, &dir)?;
    let identity = read(&dir, authority)?;
    Ok(Keys { identity, dir })
}

async fn make_relay_keys(nickname: &str, data_dir: &Path) -> Result<()> {
    let mut command = Command::new(program("tor")?);
    command.args(["--ignore-missing-torrc", "-f", "/nonexistent"]);
    command.args(["--defaults-torrc", "/nonexistent", "--hush", "--orport", "1"]);
    command.args(["--dirserver", &format!("x 127.0.0.1:1 {}", "F".repeat(40))]);
    command.args(["--nickname", nickname, "--list-fingerprint"]);
    command.arg("--datadirectory").arg(data_dir);
    run("tor --list-fingerprint", &command, &data_dir.join("keys.log")).await
}

async fn make_authority_keys(keys: &Path) -> Result<()> {
    let mut command = Command::new(program("tor-gencert")?);
    // The passphrase is what stdin says: nothing.
    command.args(["--create-identity-key", "-m", "12", "--passphrase-fd", "0"]);
    command.arg("-i").arg(keys.join("authority_identity_key"));
    command.arg("-s").arg(keys.join("authority_signing_key"));
    command.arg("-c").arg(keys.join("authority_certificate"));
    run("tor-gencert", &command, &keys.join("gencert.log")).await
}

async fn run(name: &str, command: &Command, log: &Path) -> Result<()> {
    let process = Process::spawn(name, command, log)?;
    let status = process.wait(LIMIT).await?;
    ensure!(status.success(), "{name} failed ({status}):\n{}", process.log());
    Ok(())
}

/// Reads the public half; an error if the keys are incomplete or too old.
fn read(dir: &Path, authority: bool) -> Result<Identity> {
    let second_word = |file: &str| {
        read_lossy(&dir.join(file))
            .split_whitespace()
            .nth(1)
            .map(str::to_owned)
            .with_context(|| format!("tor wrote no {file} in {}", dir.display()))
    };
    let v3ident = if authority {
        let path = dir.join("keys/authority_certificate");
        let age = fs::metadata(&path)?.modified()?.elapsed().unwrap_or_default();
        ensure!(age < MAX_AGE, "{} is too old", path.display());
        let certificate = read_lossy(&path);
        let line = certificate.lines().find_map(|line| line.strip_prefix("fingerprint "));
        Some(line.context("no fingerprint in the authority certificate")?.to_owned())
    } else {
        None
    };
    Ok(Identity {
        fingerprint: second_word("fingerprint")?,
        ed25519: second_word("fingerprint-ed25519")?,
        v3ident,
    })
}

/// Waits for the lock of other networks that look for keys at the same time.
async fn exclusive(path: &Path) -> Result<File> {
    let file = File::create(path)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(TryLockError::Error(error)) => bail!(error),
        }
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    make_private_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
