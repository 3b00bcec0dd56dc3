//! What `onionbraid certificate` looks like on the command line.

use std::path::PathBuf;

use clap::Subcommand;

use super::config_files::ConfigFiles;

const SELF_SIGNED: &str = "\
Examples:
  onionbraid certificate self-signed shop --out /etc/onionbraid/tls
  onionbraid certificate self-signed shop blog --days 90

Then, in `proxy_ports`:
  [\"443\", \"http://127.0.0.1:8080\", { tls = { certificate = \"shop.pem\", key = \"shop.key\" } }]";

const REQUEST: &str = "\
Example:
  onionbraid certificate request shop --nonce 3Jq1mV0xTqk3sS1m4bXo6A== --out shop.csr";

/// What `onionbraid certificate` does.
#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Make a certificate for services' addresses that nobody vouches for
    ///
    /// For clients that are told to trust it: browsers warn of it. Writes SERVICE.pem
    /// and, for its owner alone, SERVICE.key, with a new key that has nothing to do
    /// with that of the address; prints the digest of the certificate (SHA-256). What is
    /// there already is never replaced.
    #[command(after_help = SELF_SIGNED)]
    SelfSigned {
        /// The nicknames of the services whose addresses it is for
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
        /// How many days it is valid
        #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// The directory to write to
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
    /// Ask an authority to vouch for a service's address, with the address's own key
    ///
    /// The request proves who has the address, as the Baseline Requirements of the
    /// CA/Browser Forum want it (appendix B): it is signed with the identity key, and
    /// holds the authority's nonce and one of ours. The authority publishes what it
    /// vouches for: everybody will know the address. Prints PEM.
    #[command(after_help = REQUEST)]
    Request {
        /// The service's nickname
        service: String,
        /// The nonce that the authority gave, in base64
        #[arg(long, value_name = "BASE64")]
        nonce: String,
        /// Ask for all names below the address, too
        #[arg(long)]
        subdomains: bool,
        /// Write it to this file, which must not exist yet
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
}
