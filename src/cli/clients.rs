//! What `onionbraid clients` looks like.

use std::path::PathBuf;

use clap::Subcommand;

use super::config_files::ConfigFiles;
use onionbraid_balancer::onion::ClientKey;

const ADD: &str = "\
Examples:
  onionbraid clients add shop alice
  onionbraid clients add shop alice --out /media/usb/alice.auth_private
  onionbraid clients add shop bob --key descriptor:x25519:N2NU7BSRL6YODZCYPN4CREB54TYLKGIE2KYOQWLFYC23ZJVCE5DQ";

/// What `onionbraid clients` does.
#[derive(Debug, Subcommand)]
pub enum ClientsCommand {
    /// Let a client find a service, and print its public key
    ///
    /// Makes a key pair: the private half goes into a new file for the client, the
    /// public one into the first directory of the service's `key_dirs`. A running
    /// daemon takes it from there by itself.
    #[command(after_help = ADD)]
    Add {
        /// The service's nickname
        service: String,
        /// What to call the client
        name: String,
        /// Take this public key, whose private half the client has, and make none
        #[arg(long, value_name = "KEY", conflicts_with = "out")]
        key: Option<ClientKey>,
        /// Write the private half there; it must not exist yet
        /// [default: NAME.auth_private]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
    /// Print who may find a service
    List {
        /// The service's nickname
        service: String,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
    /// Let a client find a service no longer
    ///
    /// A running daemon replaces the introduction points of its local instances, which
    /// the client knows, and publishes for the others.
    Remove {
        /// The service's nickname
        service: String,
        /// What the client is called
        name: String,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
}
