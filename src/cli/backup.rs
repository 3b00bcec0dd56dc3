//! What the command lines of `backup` and `restore` look like.

use std::path::PathBuf;

use clap::Args;

use super::config_files::ConfigFiles;

pub(super) const BACKUP: &str = "\
Examples:
  onionbraid backup onionbraid.age
  onionbraid backup onionbraid.age --passphrase-file /root/passphrase
  onionbraid backup onionbraid.age --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

pub(super) const RESTORE: &str = "\
Examples:
  onionbraid restore onionbraid.age
  onionbraid restore onionbraid.age --list
  onionbraid restore onionbraid.age --identity key.txt --into ./looked-at

The machine that had the keys before must not publish the addresses any more once
this one runs: the two would replace each other's descriptors.";

/// What `onionbraid backup` is told.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Write the backup there; it must not exist yet. - is standard output
    #[arg(value_name = "FILE")]
    pub out: PathBuf,
    /// Encrypt it for this public key of age; may repeat. No passphrase is used then
    #[arg(long, value_name = "AGE1", conflicts_with = "passphrase_file")]
    pub recipient: Vec<String>,
    /// Take the passphrase from the first line of a file, not from the terminal
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFiles,
}

/// What `onionbraid restore` is told.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup; - is standard input
    #[arg(value_name = "FILE")]
    pub backup: PathBuf,
    /// Open it with the secret keys in this file, as age-keygen writes it; may repeat
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub identity: Vec<PathBuf>,
    /// Take the passphrase from the first line of a file, not from the terminal
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Print what is in it, and write nothing
    #[arg(long)]
    pub list: bool,
    /// Write everything below this new directory, not where it was
    #[arg(long, value_name = "DIR", conflicts_with = "list")]
    pub into: Option<PathBuf>,
    /// Files may come back to places below this directory, too, or to the place of this
    /// file; may repeat
    #[arg(long, value_name = "PATH", conflicts_with_all = ["list", "into"])]
    pub below: Vec<PathBuf>,
    /// Where the configuration files come back to; may repeat [default:
    /// $ONIONBRAID_CONFIG, else $XDG_CONFIG_HOME/onionbraid/arti.toml or
    /// /etc/onionbraid/arti.toml]
    #[arg(short = 'c', long = "config", value_name = "FILE", conflicts_with_all = ["list", "into"])]
    pub config: Vec<PathBuf>,
}
