//! The files of a daemon that is measured, before it runs: others may have to know its
//! address first.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onionbraid::config::{Config, Environment};
use onionbraid::tor::keys;

use crate::network::Network;
use crate::network::daemon::{Daemon, built_program};

/// A new directory with them.
pub(crate) struct Files {
    dir: PathBuf,
    files: [PathBuf; 2],
    admin: String,
}

impl Files {
    pub(crate) fn new(network: &Network, name: &str) -> Result<Self> {
        let dir = network.scratch(name)?;
        let files = ["onionbraid.toml", "network.toml"].map(|name| dir.join(name));
        fs::write(&files[1], network.arti_toml())?;
        Ok(Self { files, dir, admin: network.free_address()?.to_string() })
    }

    /// The address that the service will have: its key is made now.
    pub(crate) fn address(&self) -> Result<String> {
        self.write(&service("proxy_ports = [['80', 'reject']]"))?;
        let config = Config::load(&self.files, &Environment::of_process())?;
        let service = config.services.first().context("no service")?;
        let key = keys::open(&config.storage)?.generate(&service.nickname)?;
        Ok(keys::address(&key).to_string())
    }

    /// The daemon, with these tables of services.
    pub(crate) fn start(&self, services: &str) -> Result<Daemon> {
        self.write(services)?;
        let files: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        Daemon::start(&built_program()?, &files, &self.dir.join("log"))
    }

    fn write(&self, services: &str) -> Result<()> {
        let (dir, admin) = (self.dir.display(), &self.admin);
        // Its memory and open files are looked at from outside, perhaps not as root.
        let text = format!(
            "{services}\n[admin]\nlisten = '{admin}'\n\
             [storage]\nstate_dir = '{dir}/state'\ncache_dir = '{dir}/cache'\n\
             [application]\npermit_debugging = true\n"
        );
        Ok(fs::write(&self.files[0], text)?)
    }
}

/// The table of the one service that is measured.
pub(crate) fn service(keys: &str) -> String {
    format!("[onion_services.\"measured\"]\n{keys}")
}
