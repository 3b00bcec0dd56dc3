//! What the operator wants: from files to types that cannot be wrong.
//!
//! One TOML file, Arti's own format plus a few keys. All errors of one run are
//! collected, each with its file, line and full key path. Reads files, touches
//! nothing else; `commands/` and the daemon's reload call it.
//!
//! | file | question |
//! |---|---|
//! | `environment` | which file, and which directories by default? |
//! | `document` | which values stand where? |
//! | `reader` | how is a table read so that every error is told? |
//! | `error` | how is an error told? |
//! | `service`, `backends`, `ports` | what is an onion service? |
//! | `admin`, `logging`, `storage` | what do the other tables of ours say? |
//! | `arti` | what does Arti make of its own tables? |
//! | `show` | how is it written as TOML again? |

mod admin;
mod arti;
mod backends;
mod document;
mod environment;
mod error;
mod logging;
mod ports;
mod reader;
mod service;
mod show;
mod storage;

use std::path::PathBuf;

use arti_client::TorClientConfig;

pub use admin::AdminListen;
pub use backends::RemoteBackend;
pub use environment::Environment;
pub use error::{ConfigError, ConfigErrors};
pub use logging::{LogFormat, Logging};
pub use service::{RateLimit, ServiceConfig};
pub use storage::Storage;

use document::Table;
use error::{KeyPath, Report};

/// Everything that the operator decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The onion services, sorted by nickname, disabled ones among them. At
    /// least one is enabled.
    pub services: Vec<ServiceConfig>,
    /// Where the admin interface listens.
    pub admin: AdminListen,
    /// What is logged.
    pub logging: Logging,
    /// Where state and cache lie.
    pub storage: Storage,
    /// What Arti runs with; its directories are those of `storage`.
    pub tor: TorClientConfig,
    /// Arti's tables as the files give them.
    pub arti_tables: toml::Table,
    /// What is accepted and perhaps not meant, one line each.
    pub warnings: Vec<String>,
    /// The files that were read, in their order; empty where there were none.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads `files`, each laid over the ones before it; without any, the file
    /// in one of the usual places; without that, the built-in welcome page.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, if anything is. Only where a file cannot be
    /// read or is no TOML, the rest is not looked at.
    pub fn load(files: &[PathBuf], env: &Environment) -> Result<Self, ConfigErrors> {
        let mut report = Report::default();
        let files = match files {
            [] => env.config_file().into_iter().collect(),
            files => files.to_vec(),
        };
        let root = document::read(&files, &mut report);
        if report.has_errors() {
            return Err(report.into_errors());
        }
        unknown_tables(&root, &mut report);
        let services = match files.as_slice() {
            [] => service::welcome(&mut report),
            _ => service::read(&root, &mut report),
        };
        let logging = logging::read(root.get("logging"), &mut report);
        let directories = storage::directories(&root, env, &mut report);
        let state_dir = directories.as_ref().map(|directories| directories.state.as_path());
        let admin = admin::read(root.get("admin"), state_dir, &mut report);
        let arti = arti::read(&root, directories.as_ref(), &mut report);
        let storage = match (directories, &arti) {
            (Some(directories), Some(arti)) => {
                storage::storage(&root, directories, &arti.client, &mut report)
            }
            _ => None,
        };
        match (admin, arti, storage, report.finish()?) {
            (Some(admin), Some(arti), Some(storage), warnings) => Ok(Self {
                services,
                admin,
                logging,
                storage,
                tor: arti.client,
                arti_tables: arti.tables,
                warnings,
                files,
            }),
            _ => Err(ConfigError::general("the configuration cannot be used").into()),
        }
    }
}

/// Reports every top-level key that belongs to nobody.
fn unknown_tables(root: &Table, report: &mut Report) {
    const OURS: [&str; 3] = ["admin", "logging", "onion_services"];
    let known = || OURS.into_iter().chain(arti::TABLES).chain(arti::PROGRAM_TABLES);
    for (key, node) in root {
        if !known().any(|known| known == key) {
            let problem = reader::unknown("table", key, known());
            let key = KeyPath::default().key(key);
            report.error(ConfigError::at_key(node.place.clone(), key, problem));
        }
    }
}
