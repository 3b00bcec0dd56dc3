//! A file system of its own for one daemon, that can be filled to the last byte.
//!
//! A tmpfs in a mount namespace: nobody else sees it, and it goes with the
//! process that holds the namespace. Root needs nothing more; others need a
//! system that lets them have user namespaces (Ubuntu: `sysctl
//! kernel.apparmor_restrict_unprivileged_userns=0`).

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::fetch::eventually;
use super::process::Process;

/// The directories `state` and `cache` of a daemon, both on the small disk.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Process,
    dir: PathBuf,
    is_root: bool,
}

impl SmallDisk {
    /// Mounts one of `megabytes` at `state` and `cache` in `dir`.
    pub async fn mount(dir: &Path, megabytes: u32) -> Result<SmallDisk> {
        for name in ["small", "state", "cache"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let is_root = fs::metadata("/proc/self")?.uid() == 0;
        let script = format!(
            "set -e; cd '{}'\n\
             mount -t tmpfs -o size={megabytes}m,mode=700 tmpfs small\n\
             mkdir -m 700 small/state small/cache\n\
             mount --bind small/state state; mount --bind small/cache cache\n\
             : > small/mounted; exec sleep infinity\n",
            dir.display()
        );
        let mut command = Command::new("unshare");
        command.arg(if is_root { "-m" } else { "-rm" }).args(["sh", "-c", &script]);
        let holder = Process::spawn("the small disk", &command, &dir.join("small-disk.log"))?;
        let disk = SmallDisk { holder, dir: dir.to_owned(), is_root };
        eventually(Duration::from_secs(20), async || {
            ensure!(disk.path("mounted").exists(), "not mounted: {}", disk.holder.log());
            Ok(())
        })
        .await?;
        Ok(disk)
    }

    /// A program that runs another one where the disk is mounted.
    pub fn program(&self, program: &Path) -> Result<PathBuf> {
        let user = if self.is_root { "" } else { "-U --preserve-credentials" };
        let script = self.dir.join("on-the-small-disk");
        let text = format!(
            "#!/bin/sh\nexec nsenter -t {} -m {user} '{}' \"$@\"\n",
            self.holder.pid(),
            program.display()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(script)
    }

    /// Leaves no byte free.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.path("filler"))?;
        for size in [65_536, 4_096, 1] {
            let block = vec![1; size];
            loop {
                match filler.write(&block) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling the disk"),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.path("filler"))?)
    }

    /// A file on the disk, as it is seen from here.
    fn path(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        let below = self.dir.strip_prefix("/").unwrap_or(&self.dir);
        root.join(below).join("small").join(name)
    }
}
