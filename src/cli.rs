//! What the command line looks like: types for clap, no behaviour.

mod backup;
mod certificate;
mod clients;
mod config_files;
mod generate;
mod keys;
mod kubernetes;
mod periods;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use onionbraid_balancer::onion::OnionAddress;

pub use backup::{BackupArgs, RestoreArgs};
pub use certificate::CertificateCommand;
pub use clients::ClientsCommand;
pub use config_files::ConfigFiles;
pub use generate::GenerateCommand;
pub use keys::{KeyFormat, KeysCommand};
pub use kubernetes::KubernetesArgs;
pub use periods::PeriodShape;

const EXIT_CODES: &str = "\
Exit codes:
   0  everything went well
   1  it failed while it ran
   2  the command line is wrong
  69  the daemon cannot be reached
  77  the system denies access, or a key cannot be used
  78  the configuration is wrong";

/// Onion service load balancer: one .onion address, many backends, no tor daemon
#[derive(Debug, Parser)]
#[command(name = "onionbraid", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the daemon, in the foreground
    ///
    /// Without any configuration file, a welcome page is served under a new
    /// address. With --to or --files, one service needs no file either: its address
    /// stays the same as long as the nickname does.
    #[command(after_help = RUN)]
    Run {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
        /// The one service of the command line.
        #[command(flatten)]
        service: OneService,
    },
    /// Check the configuration and show what would run
    ///
    /// Shows every error at once, or each service's address, backends and ports.
    /// Makes nothing and does not use the network, unless told to.
    Check {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
        /// Ask every backend through Tor whether it answers for its service
        ///
        /// The running daemon asks, if there is one; else a Tor client in this command,
        /// with the daemon's guards or lasting ones of its own. A point that does not
        /// answer is tried three times before it is called dead.
        #[arg(long)]
        online: bool,
    },
    /// Show how the running daemon is doing
    Status {
        /// Which daemon.
        #[command(flatten)]
        config: ConfigFiles,
        /// Print the whole status as JSON
        #[arg(long, conflicts_with = "brief")]
        json: bool,
        /// Print one line for each service
        #[arg(long)]
        brief: bool,
        /// Show rates and what is wrong, anew every 2 seconds, until q or Ctrl-C
        ///
        /// On a terminal: q ends it, p has it stay as it is and go on, s sorts the
        /// services by trouble, by load or by name; a + or - after a rate says that it
        /// is well above or below that of the last minute. Elsewhere, or with --json or
        /// --brief, one status follows the other.
        #[arg(long)]
        watch: bool,
        /// Write addresses out in --watch
        #[arg(short, long)]
        verbose: bool,
    },
    /// Have the running daemon read its configuration again
    ///
    /// Waits until that is done and says what has changed. If something is wrong with
    /// the files, nothing has; it is said as `check` says it, with its exit code.
    /// SIGHUP does the same without an answer.
    Reload(ConfigFiles),
    /// Take a backend out of use for a while, or give it another weight
    ///
    /// It holds at once and over restarts, until `ready` takes it back; status and log
    /// show who said it. Only over the Unix socket of the daemon.
    #[command(after_help = BACKEND)]
    Backend {
        /// The service's nickname
        service: String,
        /// The backend's name, as `status` shows it
        name: String,
        /// What to do with it
        #[command(subcommand)]
        verb: BackendVerb,
    },
    /// Tell by the exit code whether the running daemon is ready
    ///
    /// 0 when every service is published, 1 when not, 69 when no daemon answers.
    Healthcheck(ConfigFiles),
    /// Print what a backend elsewhere needs to answer for a service
    ///
    /// For C tor that is what goes into torrc and into the file ob_config, for another
    /// onionbraid a table of its arti.toml.
    #[command(after_help = BACKEND_CONFIG)]
    BackendConfig {
        /// The service's nickname
        service: String,
        /// The program that runs the backend
        #[arg(long = "for", value_enum, value_name = "PROGRAM", default_value_t = BackendProgram::Tor)]
        program: BackendProgram,
        /// For this backend, which lets this publisher alone read its descriptor
        ///
        /// Its entry in `backends` names a `client_key`; that is made if it is not there.
        #[arg(long, value_name = "NAME")]
        backend: Option<String>,
        /// Write the files to this new directory
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
    },
    /// Write a Kustomize directory: two publishers and some backends of one address
    ///
    /// For plain Kubernetes, without an operator: manifests, configurations and keys, for
    /// `kubectl apply -k`. Prints the address. Reads no configuration.
    #[command(after_help = kubernetes::EXAMPLES)]
    Kubernetes(KubernetesArgs),
    /// Make certificates for https:// on onion addresses, and ask authorities for them
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Make, read and move identity keys, in every format
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Say who may find a service with restricted discovery
    #[command(subcommand)]
    Clients(ClientsCommand),
    /// Make an arti.toml from another system's files
    ///
    /// Prints it, or writes it to a new file. What has no equivalent and what was
    /// decided is said in the file and on standard error; every address is computed
    /// from its key and compared with what the files say.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Write the configuration and the keys to one encrypted file
    ///
    /// What it names comes along: pages, certificates, more backends. Introduction
    /// points, replay logs and what the daemon remembers do not: they must not come
    /// back. Encrypted as age does it, with a passphrase or for recipients; age can
    /// open it, too. Run as root, this reads what the owner of the state directory has.
    #[command(after_help = backup::BACKUP)]
    Backup(BackupArgs),
    /// Bring the configuration and the keys of a backup to their places
    ///
    /// Nothing is ever replaced: what is in the way is named, and nothing is written
    /// then. Files go where -c says, below the directories of the configuration and of
    /// the state, and below those that --below names. Run as root, this gives the keys
    /// to the owner of the state directory.
    #[command(after_help = backup::RESTORE)]
    Restore(RestoreArgs),
    /// Fetch and explain the published descriptor of an onion address
    ///
    /// Every responsible HSDir is asked, by the running daemon if there is one: who
    /// holds which revision, with which introduction points and capabilities. Without
    /// a daemon this command asks, with its guards or lasting ones of its own.
    Descriptor {
        /// The onion address, of a service configured here or of any other
        #[arg(value_name = "ADDRESS")]
        address: OnionAddress,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Generate what packages hold beside the program
    #[command(subcommand, hide = true)]
    Generate(GenerateCommand),
    /// Run a command of this program as another user, without a terminal (root)
    #[command(hide = true)]
    AsUser {
        /// The user's number
        user: u32,
        /// The group's number
        group: u32,
        /// In the directory where root is
        #[arg(long)]
        here: bool,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<OsString>,
    },
    /// Write new files, which standard input has, here
    #[command(hide = true)]
    Place,
}

const RUN: &str = "\
Examples:
  onionbraid run --to http://127.0.0.1:8080
  onionbraid run --files ./public --nickname blog
  onionbraid run --to 127.0.0.1:22 --port 22";

/// One service, given on the command line.
#[derive(Debug, Args)]
pub struct OneService {
    /// Serve what a server answers: http://127.0.0.1:8080, 127.0.0.1:22, unix:/path or
    /// what else `proxy_ports` takes
    ///
    /// The files in the usual places are not read then; those of -c are.
    #[arg(long, value_name = "URL", group = "service")]
    pub to: Option<String>,
    /// Serve the files in a directory
    #[arg(long, value_name = "DIR", group = "service")]
    pub files: Option<PathBuf>,
    /// Its nickname, by which its key is kept
    #[arg(long, default_value = "site", requires = "service")]
    pub nickname: String,
    /// The port that clients connect to
    #[arg(long, default_value_t = 80, requires = "service", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
}

const BACKEND: &str = "\
Examples:
  onionbraid backend shop berlin drain
  onionbraid backend shop local-0 maintenance
  onionbraid backend shop berlin weight 3
  onionbraid backend shop berlin ready";

/// What an operator says of a backend.
#[derive(Debug, Subcommand)]
pub enum BackendVerb {
    /// Send no new clients there: its introduction points leave the descriptor
    ///
    /// Those who found them before are served still. A local instance stops answering
    /// `shutdown.grace` after the points are out.
    Drain(BackendWord),
    /// Take it out at once
    ///
    /// Its introduction points leave the descriptor; a local instance answers nobody
    /// new. What is open goes on.
    Maintenance(BackendWord),
    /// Have it in use again, with the weight of the configuration
    Ready(BackendWord),
    /// Give it this weight until `ready`, or until the configuration says another
    Weight {
        /// From 0 to 100: its share of the clients relative to the others
        #[arg(value_parser = clap::value_parser!(u16).range(0..=100))]
        weight: u16,
        /// Which daemon.
        #[command(flatten)]
        word: BackendWord,
    },
}

/// What every word on a backend may have.
#[derive(Debug, Args)]
pub struct BackendWord {
    /// Take out even the last backend that is in use
    #[arg(long)]
    pub force: bool,
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigFiles,
}

const BACKEND_CONFIG: &str = "\
Examples:
  onionbraid backend-config shop
  onionbraid backend-config shop --out ./backend
  onionbraid backend-config shop --backend berlin --out ./berlin
  onionbraid backend-config shop --for onionbraid";

/// A program that can run a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendProgram {
    /// C tor
    Tor,
    /// Another onionbraid
    Onionbraid,
}

const IMPORT_ONIONBALANCE: &str = "\
Examples:
  onionbraid import onionbalance /etc/onionbalance/config.yaml --out arti.toml";

const IMPORT_TORRC: &str = "\
Examples:
  onionbraid import torrc /etc/tor/torrc
  onionbraid import torrc /etc/tor/torrc --copy-keys ./keys --out arti.toml";

const IMPORT_ONIONSPRAY: &str = "\
Examples:
  onionbraid import onionspray ./onionspray/project.conf --out arti.toml
  onionbraid import onionspray ./eotk";

/// What `onionbraid import` reads.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Onionbalance's config.yaml, with the keys that it names
    ///
    /// Its services get their instances as backends, which stay as they are.
    #[command(after_help = IMPORT_ONIONBALANCE)]
    Onionbalance {
        /// config.yaml, or its directory
        path: PathBuf,
        /// What is written.
        #[command(flatten)]
        output: ImportOutput,
    },
    /// A torrc with onion services, what it includes, and their directories
    ///
    /// Each HiddenServiceDir becomes a service with a local instance that forwards
    /// to the same servers. Bridges come along.
    #[command(after_help = IMPORT_TORRC)]
    Torrc {
        /// The torrc, or its directory
        path: PathBuf,
        /// What is written.
        #[command(flatten)]
        output: ImportOutput,
    },
    /// A project of Onionspray or EOTK, with its keys
    ///
    /// Hardmaps become proxies for the public site, softmaps services whose backends
    /// are the workers.
    #[command(after_help = IMPORT_ONIONSPRAY)]
    Onionspray {
        /// The project's .conf, or the directory of the installation
        path: PathBuf,
        /// What is written.
        #[command(flatten)]
        output: ImportOutput,
    },
}

/// Where `onionbraid import` writes.
#[derive(Debug, Args)]
pub struct ImportOutput {
    /// Write the configuration there instead of printing it; it must not exist yet
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Copy the keys there; without it the configuration names them where they lie
    ///
    /// Each goes into a new directory of its own. Run as root, this takes keys of
    /// other users, and the copies get the owner of DIR.
    #[arg(long, value_name = "DIR")]
    pub copy_keys: Option<PathBuf>,
}

/// What `onionbraid config` shows.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration file that explains every key
    Example,
    /// Print a JSON schema of the file, for editors and linters
    ///
    /// What it accepts can still be wrong: `onionbraid check` also looks at files and
    /// keys, and at what fits together.
    Schema,
    /// Print the configuration in force, with all defaults filled in
    Show(ConfigFiles),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn configuration_files_may_repeat_and_keep_their_order() {
        let cli = Cli::parse_from(["onionbraid", "check", "-c", "b", "--config", "a"]);
        let CliCommand::Check { config, .. } = cli.command else { panic!("not check") };
        assert_eq!(config.files, [PathBuf::from("b"), PathBuf::from("a")]);
    }
}
