//! The command line of `onionbraid kubernetes`: types for clap, no behaviour.

use std::path::PathBuf;

use clap::Args;

/// Shown below the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  onionbraid kubernetes shop --to http://shop:8080 --out ./shop-on-kubernetes
  onionbraid kubernetes shop --slots 8 --to http://shop:8080 --out ./shop-on-kubernetes --force
  kubectl apply -k ./shop-on-kubernetes";

/// What is to run there.
#[derive(Debug, Args)]
pub struct KubernetesArgs {
    /// The service's nickname, from which the names of all objects are made
    pub service: String,
    /// How many backends there may be: each has a key made beforehand
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub slots: u16,
    /// The web server, as backends reach it: http://NAME:PORT, or what else `proxy_ports`
    /// takes
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// The directory to write
    ///
    /// Keys that it has are kept, so that it can be made anew with more slots.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The key of the address: C tor's, or Onionbalance's. Without it a new one is made
    #[arg(long, value_name = "PATH")]
    pub key: Option<PathBuf>,
    /// The container image
    #[arg(long, default_value = concat!("localhost/onionbraid:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// Add a ServiceMonitor of the Prometheus operator
    #[arg(long)]
    pub service_monitor: bool,
    /// Write files anew that are different now; keys are kept all the same
    #[arg(long)]
    pub force: bool,
}
