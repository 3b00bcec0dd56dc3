//! What `onionbraid keys` looks like.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Subcommand, ValueEnum};

use super::config_files::ConfigFiles;
use super::periods::{EXPORT_PERIODS, PeriodShape, moment};

const GENERATE: &str = "\
Examples:
  onionbraid keys generate shop
  onionbraid keys generate --out ./shop-key
  onionbraid keys generate --out ./shop.pem --format pem";

const IMPORT: &str = "\
Examples:
  onionbraid keys import shop /var/lib/tor/shop
  onionbraid keys import shop /etc/onionbalance/key.pem

The tor or Onionbalance that had the key must not publish the address any more
once onionbraid runs: the two would replace each other's descriptors.";

const EXPORT: &str = "\
Examples:
  onionbraid keys export shop --out ./shop

The directory is a HiddenServiceDir: move it to where torrc has it, and give it to
the user that runs tor. Nothing is changed in onionbraid's keystore.";

const ADDRESS: &str = "\
Examples:
  onionbraid keys address shop
  onionbraid keys address /var/lib/tor/shop
  onionbraid keys address ./key.pem";

/// What `onionbraid keys` does.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a new identity key, and print its address
    ///
    /// For a service of the configuration, which must have none yet, the key goes
    /// into Arti's keystore in the state directory. With --out it goes into a new
    /// file or directory.
    #[command(after_help = GENERATE)]
    Generate {
        /// The service's nickname
        #[arg(required_unless_present = "out", conflicts_with = "out")]
        service: Option<String>,
        /// Write the key there instead; it must not exist yet
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
        /// What to write
        #[arg(long, value_enum, default_value_t = KeyFormat::Ctor, conflicts_with = "service")]
        format: KeyFormat,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
    /// Take an existing key into the keystore, and print its address
    ///
    /// PATH is C tor's hs_ed25519_secret_key or its HiddenServiceDir, a PEM file of
    /// Onionbalance, or a key of another Arti keystore; - is standard input. Another
    /// key that the service has is never replaced. PATH is left as it is. Run as root,
    /// this takes keys of any user, and writes as the owner of the state directory.
    #[command(after_help = IMPORT)]
    Import {
        /// The service's nickname
        service: String,
        /// Where the key lies
        path: PathBuf,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
    /// Write a service's key to a new file or directory, and print its address
    ///
    /// So that C tor or Onionbalance can have it, or for a backup.
    #[command(after_help = EXPORT)]
    Export {
        /// The service's nickname
        service: String,
        /// Where to write it; it must not exist yet
        #[arg(long, value_name = "PATH")]
        out: PathBuf,
        /// What to write
        #[arg(long, value_enum, default_value_t = KeyFormat::Ctor)]
        format: KeyFormat,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
    /// Write the keys of some time periods, for a publisher without the identity key
    ///
    /// Run it where the identity key is, which may be a machine without a network, and
    /// move the directory to the publisher, whose `identity_bundle` names it. Files that
    /// are there already are left as they are.
    #[command(after_help = EXPORT_PERIODS)]
    ExportPeriods {
        /// The service's nickname
        service: String,
        /// How many periods, the present one included: 1 to 366
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=366))]
        count: u16,
        /// The directory to write them to, one file each
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Begin with the period of this day or moment (UTC), not with the present one
        #[arg(long, value_name = "MOMENT", value_parser = moment)]
        from: Option<SystemTime>,
        /// Other periods than the public network's.
        #[command(flatten)]
        period: PeriodShape,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
    /// Print the address of a key, or of a service
    ///
    /// A name without `/` and `.` is a service of the configuration: write ./NAME
    /// for a file. Public keys and `hostname` files will do too.
    #[command(after_help = ADDRESS)]
    Address {
        /// Where the key lies, or the service's nickname
        #[arg(value_name = "PATH|SERVICE")]
        of: PathBuf,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
}

/// How a key is written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyFormat {
    /// A directory as C tor has it, a HiddenServiceDir
    Ctor,
    /// A PEM file as Onionbalance has it; only where the key's seed is known
    Pem,
}
