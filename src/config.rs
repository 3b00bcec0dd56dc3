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
//! | `keys` | how is a key read and shown in one place? |
//! | `units`, `names` | how are times, sizes and names written? |
//! | `files` | are the files there that it names? |
//! | `clients`, `access` | which clients may find a service? |
//! | `anonymity`, `guards` | does it hide where it is, and at whose guards do its circuits begin? |
//! | `service`, `backends`, `backends_file`, `frontends`, `ports`, `target`, `probe` | what is an onion service? |
//! | `http` | how are requests led to origins? |
//! | `addresses` | do the services fit together, once their keys are known? |
//! | `admin`, `application`, `logging`, `shutdown`, `storage` | what do the other tables of ours say? |
//! | `arti`, `transports` | what does Arti make of its own tables, and which programs does it start? |
//! | `show` | how is it written as TOML again? |

mod access;
mod addresses;
mod admin;
mod anonymity;
mod application;
mod arti;
mod backends;
mod backends_file;
mod certificates;
mod changes;
mod clients;
mod difference;
mod document;
mod environment;
mod error;
mod files;
mod frontends;
mod guards;
mod http;
mod keys;
mod logging;
mod metrics;
mod names;
mod ports;
mod probe;
mod proof_of_work;
mod reader;
mod service;
pub mod show;
mod shutdown;
mod storage;
mod target;
mod transports;
mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use arti_client::TorClientConfig;

pub use addresses::{AddressConflict, check_addresses};
pub use admin::AdminListen;
pub use backends::{BackendsFile, RemoteBackend, is_name as is_backend_name};
pub use clients::{KeyDir, RestrictedDiscovery};
pub use difference::Difference;
pub use environment::Environment;
pub use error::{ConfigError, ConfigErrors};
pub use guards::Guards;
pub use logging::{LogFormat, Logging};
pub use probe::Probe;
pub use proof_of_work::ProofOfWork;
pub use service::{RateLimit, ServiceConfig};
pub use shutdown::Shutdown;
pub use storage::Storage;

use document::{Table, Value};
use error::{ConfigReport, KeyPath};
use onionbraid_balancer::onion::Anonymity;

pub(crate) use error::Expected;
pub(crate) use files::delivered;

/// The configuration file that explains every key, with the defaults.
pub const EXAMPLE: &str = include_str!("../arti.toml.example");

/// What errors call the command line in the place of a file. As a path it lies in the
/// working directory, to which the paths in it are relative.
const COMMAND_LINE: &str = "command line";

/// Everything that the operator decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The onion services, sorted by nickname, disabled ones among them. At
    /// least one is enabled.
    pub services: Vec<ServiceConfig>,
    /// Where the admin interface listens.
    pub admin: AdminListen,
    /// Where Prometheus is answered.
    pub metrics: Vec<SocketAddr>,
    /// What is logged.
    pub logging: Logging,
    /// How long ending may take.
    pub shutdown: Shutdown,
    /// Where state and cache lie.
    pub storage: Storage,
    /// Whether a debugger may attach and a core be written
    /// (`application.permit_debugging`): both show the keys.
    pub permit_debugging: bool,
    /// What Arti runs with; its directories are those of `storage`.
    pub tor: TorClientConfig,
    /// Arti's tables as the files give them.
    pub arti_tables: toml::Table,
    /// What is accepted and perhaps not meant, one line each.
    pub warnings: Vec<String>,
    /// The files that were read, in their order; empty where there were none.
    pub files: Vec<PathBuf>,
    /// Keys, pages, certificates and directories that they name.
    pub(crate) named: Vec<(PathBuf, Expected)>,
}

impl Config {
    /// Reads `files`, each laid over the ones before it; without any, the file
    /// in one of the usual places. Without any service in them, the built-in
    /// welcome page.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, if anything is. Only where a file cannot be
    /// read or is no TOML, the rest is not looked at.
    pub fn load(files: &[PathBuf], env: &Environment) -> Result<Self, ConfigErrors> {
        let mut report = ConfigReport::default();
        let (files, root) = Self::documents(files, env, &mut report);
        Self::of_documents(&root, files, env, report)
    }

    /// The same for a process that is not the daemon: what the platform delivers to that
    /// alone, such as systemd's credentials, may be missing.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub(crate) fn load_without_delivered(
        files: &[PathBuf],
        env: &Environment,
    ) -> Result<Self, ConfigErrors> {
        let mut report = ConfigReport::without_delivered();
        let (files, root) = Self::documents(files, env, &mut report);
        Self::of_documents(&root, files, env, report)
    }

    /// Lets those clients stay whose directories could not be read with this configuration,
    /// and could be with the one `before`.
    pub(crate) fn recall_clients(&mut self, before: &Self) {
        access::recall_clients(&mut self.services, &before.services);
    }

    /// Reads `files` and lays a text over them that the command line stands for. No
    /// file is looked for in the usual places.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_with(
        files: &[PathBuf],
        text: &str,
        env: &Environment,
    ) -> Result<Self, ConfigErrors> {
        let mut report = ConfigReport::default();
        let mut root = document::read(files, None, &mut report);
        let given = document::parse(text, files.len(), Path::new(COMMAND_LINE), &mut report);
        document::overlay(&mut root, given);
        Self::of_documents(&root, files.to_vec(), env, report)
    }

    /// Reads everything that stands in the files.
    fn of_documents(
        root: &Table,
        files: Vec<PathBuf>,
        env: &Environment,
        mut report: ConfigReport,
    ) -> Result<Self, ConfigErrors> {
        if report.has_errors() {
            return Err(report.into_errors());
        }
        let mut services = service::read(root, &mut report);
        if !files.is_empty() && !root.contains_key("onion_services") {
            let text = "there is none, so the built-in welcome page is served";
            report.warn(None, &error::KeyPath::default().key("onion_services"), text);
        }
        let named = files::look(&mut report);
        backends_file::look(&mut services, files.len(), &mut report);
        access::look(&mut services, files.len(), &mut report);
        let config = Self::assemble(root, services, files, env, report)?;
        Ok(Self { named, ..config })
    }

    /// Where the daemon of these files answers, whatever else is wrong with
    /// them: it goes on with what it has while they are edited, and has to be
    /// found.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is no TOML, or that very place is wrong.
    pub fn admin_of(files: &[PathBuf], env: &Environment) -> Result<AdminListen, ConfigErrors> {
        let mut report = ConfigReport::default();
        let (_, root) = Self::documents(files, env, &mut report);
        if report.has_errors() {
            return Err(report.into_errors());
        }
        let directories = storage::directories(&root, env, &mut report);
        let state_dir = directories.as_ref().map(|directories| directories.state.as_path());
        let listen = admin::read(root.get("admin"), state_dir, &mut report);
        listen.ok_or_else(|| report.into_errors())
    }

    /// The files to read, and what stands in them.
    fn documents(
        files: &[PathBuf],
        env: &Environment,
        report: &mut ConfigReport,
    ) -> (Vec<PathBuf>, Table) {
        let (files, named_by) = match files {
            [] => (env.config_files(), env.naming_variable()),
            files => (files.to_vec(), None),
        };
        let root = document::read(&files, named_by, report);
        (files, root)
    }

    /// Reads one file's text. Unlike [`load`](Self::load) it looks at no file,
    /// not even at those that the text names.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, if anything is.
    pub fn from_text(text: &str, env: &Environment) -> Result<Self, ConfigErrors> {
        let mut report = ConfigReport::default();
        let root = document::parse(text, 0, Path::new("arti.toml"), &mut report);
        if report.has_errors() {
            return Err(report.into_errors());
        }
        let services = service::read(&root, &mut report);
        Self::assemble(&root, services, Vec::new(), env, report)
    }

    /// Reads the tables beside the services and puts everything together.
    fn assemble(
        root: &Table,
        services: Vec<ServiceConfig>,
        files: Vec<PathBuf>,
        env: &Environment,
        mut report: ConfigReport,
    ) -> Result<Self, ConfigErrors> {
        unknown_tables(root, &mut report);
        let logging = logging::read(root.get("logging"), &mut report);
        let shutdown = shutdown::read(root.get("shutdown"), &mut report);
        let permit_debugging = application::read(root.get("application"), &mut report);
        let directories = storage::directories(root, env, &mut report);
        let state_dir = directories.as_ref().map(|directories| directories.state.as_path());
        let admin = admin::read(root.get("admin"), state_dir, &mut report);
        let metrics = metrics::read(root.get("metrics"), &mut report);
        if let Some(admin) = &admin {
            metrics::collide(admin, &metrics, root.get("metrics"), &mut report);
        }
        let arti = arti::read(root, directories.as_ref(), &mut report);
        if let Some(arti) = &arti {
            let bridges = root.get("bridges").filter(|_| arti::uses_bridges(&arti.client));
            anonymity::beside_bridges(anonymity_of(&services), bridges, &mut report);
            guards::beside_bridges(with_own_guards(&services), bridges, &mut report);
        }
        let storage = match (directories, &arti) {
            (Some(directories), Some(arti)) => {
                storage::storage(root, directories, &arti.client, &mut report)
            }
            _ => None,
        };
        match (admin, arti, storage, report.finish()?) {
            (Some(admin), Some(arti), Some(storage), warnings) => Ok(Self {
                services,
                admin,
                metrics,
                logging,
                shutdown,
                storage,
                permit_debugging,
                tor: arti.client,
                arti_tables: arti.tables,
                warnings,
                files,
                named: Vec::new(),
            }),
            _ => Err(ConfigError::general("the configuration cannot be used").into()),
        }
    }

    /// Whether the process hides where it is: what all enabled services say.
    pub fn anonymity(&self) -> Anonymity {
        anonymity_of(&self.services)
    }

    /// The same configuration where another user may have written and read the
    /// keys, too.
    ///
    /// # Errors
    ///
    /// If Arti refuses its tables, which have been read before.
    pub fn trusting(mut self, user: u32) -> Result<Self, ConfigErrors> {
        let directories = storage::StorageDirectories {
            state: self.storage.state_dir.clone(),
            cache: self.storage.cache_dir.clone(),
            explicit: self.storage.explicit,
            trust: storage::Trust { user: Some(user), ..Default::default() },
        };
        self.tor = arti::client(&self.arti_tables, &directories)?;
        self.storage.mistrust = self.tor.fs_mistrust().clone();
        Ok(self)
    }

    /// What Arti runs with if its state and cache lie below `directory`: for a
    /// client beside the daemon's, which shares nothing with it.
    ///
    /// # Errors
    ///
    /// If Arti refuses its tables, which have been read before.
    pub fn tor_below(&self, directory: &Path) -> Result<TorClientConfig, ConfigErrors> {
        let directories = storage::StorageDirectories {
            state: directory.join("state"),
            cache: directory.join("cache"),
            explicit: true,
            trust: storage::Trust::default(),
        };
        Ok(arti::client(&self.arti_tables, &directories)?)
    }
}

/// What all services that run say.
fn anonymity_of(services: &[ServiceConfig]) -> Anonymity {
    anonymity::of_all(services.iter().filter(|it| it.enabled).map(|it| it.anonymity))
}

/// The nicknames of the services that run and whose instances have guards of their own.
fn with_own_guards(services: &[ServiceConfig]) -> impl Iterator<Item = &str> {
    let own = services.iter().filter(|it| it.enabled && it.guards == Guards::Own);
    own.map(|it| it.nickname.as_ref())
}

/// Reports every top-level key that belongs to nobody.
fn unknown_tables(root: &Table, report: &mut ConfigReport) {
    const OURS: [&str; 6] =
        ["admin", "application", "logging", "metrics", "onion_services", "shutdown"];
    let known = || OURS.into_iter().chain(arti::TABLES).chain(arti::PROGRAM_TABLES);
    for (key, node) in root {
        if known().any(|known| known == key) {
            continue;
        }
        let problem = match node.value {
            Value::Table(_) => reader::unknown("table", key, known()),
            _ => "this key is in no table: does it belong below [onion_services.\"NICKNAME\"]?"
                .to_owned(),
        };
        let key = KeyPath::default().key(key);
        report.error(ConfigError::at_key(node.place.clone(), key, problem));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Environment {
        let mut env = Environment::new([("HOME", "/home/user")]);
        env.system_file = "/nonexistent/arti.toml".into();
        env
    }

    fn load(text: &str) -> Result<Config, ConfigErrors> {
        load_in(tempfile::tempdir().unwrap().path(), text)
    }

    /// Loads a file in a directory with the files that the example names.
    fn load_in(dir: &Path, text: &str) -> Result<Config, ConfigErrors> {
        let file = dir.join("arti.toml");
        std::fs::write(&file, text).unwrap();
        for below in ["keys/shop-bundle", "pages"] {
            std::fs::create_dir_all(dir.join(below)).unwrap();
        }
        let certificate = include_str!("../tests/config/http-files/ca.pem");
        for name in ["keys/shop", "keys/origin-ca.pem", "pages/refused.html", "pages/down.html"] {
            std::fs::write(dir.join(name), certificate).unwrap();
        }
        std::fs::write(dir.join("backends.toml"), "backends = []\n").unwrap();
        let mut config = Config::load(&[file], &env())?;
        config.files.clear();
        config.named.clear();
        Ok(config)
    }

    /// The key of a line `key = value`.
    fn key_of(line: &str) -> Option<&str> {
        let (key, _) = line.split_once(" = ")?;
        let is_key = key.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '.'));
        (is_key && !key.is_empty()).then_some(key)
    }

    /// The example with its defaults taken out of their comments: all keys at
    /// the start of a comment, or, where they have one, the example after one
    /// blank in the place of the default.
    fn uncommented(also_examples: bool) -> String {
        let example = |line: &'static str| line.strip_prefix("# ").and_then(key_of);
        let has_example = |key: &str| EXAMPLE.lines().any(|line| example(line) == Some(key));
        let line = |line: &'static str| {
            if let Some(key) = line.strip_prefix('#').and_then(key_of) {
                return if also_examples && has_example(key) { "" } else { &line[1..] };
            }
            if also_examples && example(line).is_some() { &line[2..] } else { line }
        };
        EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn files_without_a_service_serve_the_welcome_page_and_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("network.toml");
        std::fs::write(&file, "[path_rules]\nipv4_subnet_family_prefix = 33\n").unwrap();
        let env = Environment::new([("HOME", "/nonexistent")]);
        let config = Config::load(&[file], &env).unwrap();
        assert_eq!(config.services[0].nickname.to_string(), "welcome");
        assert!(config.warnings[0].contains("welcome page"), "{:?}", config.warnings);
    }

    #[test]
    fn without_any_file_a_welcome_page_is_served_by_two_instances() {
        let config = Config::load(&[], &env()).unwrap();
        assert!(config.files.is_empty());
        let [service] = config.services.as_slice() else { panic!("one service") };
        assert_eq!(service.nickname.to_string(), "welcome");
        assert_eq!((service.local_instances, service.enabled), (2, true));
        assert_eq!(service.proxy_ports.target(80), &onionbraid_proxy::rules::ProxyTarget::Welcome);
        assert_eq!(config.storage.state_dir, Path::new("/home/user/.local/state/onionbraid"));
        assert!(!config.storage.explicit);
    }

    #[test]
    fn the_example_gives_the_defaults_whether_commented_or_not() {
        let example = load(EXAMPLE).unwrap();
        let mut defaults = load(&uncommented(false)).unwrap();
        // As given, so they differ by design: what Arti makes of them does not.
        defaults.arti_tables = example.arti_tables.clone();
        assert_eq!(defaults, example);
        assert_eq!(example.logging, Logging::default());
        assert_eq!(example.shutdown, Shutdown::default());
        assert_eq!(example.tor, Config::load(&[], &env()).unwrap().tor);
        let [service] = example.services.as_slice() else { panic!("one service") };
        let ports = service.proxy_ports.clone();
        let expected = ServiceConfig::with_defaults(service.nickname.clone());
        assert_eq!(*service, ServiceConfig { proxy_ports: ports, ..expected });
    }

    #[test]
    fn the_examples_of_keys_without_a_default_are_valid() {
        let config = load(&uncommented(true)).unwrap();
        assert_eq!(config.services[0].backends.len(), 2);
        assert_eq!(
            config.services[0].rate_limit_at_intro,
            Some(RateLimit { rate: 25, burst: 200 })
        );
        assert_eq!(config.services[0].frontends.len(), 1);
        assert_eq!(config.services[0].points_per_instance(), 2);
        let probe = config.services[0].probe.as_ref().unwrap();
        assert_eq!((probe.port, probe.status), (80, Some(200)));
        assert_eq!(config.admin, AdminListen::Unix("/run/onionbraid/admin.sock".into()));
        assert!(config.storage.explicit);
    }

    #[test]
    fn the_example_names_every_key_that_is_read() {
        let sources = [
            include_str!("config/admin.rs"),
            include_str!("config/application.rs"),
            include_str!("config/backends.rs"),
            include_str!("config/backends_file.rs"),
            include_str!("config/clients.rs"),
            include_str!("config/http.rs"),
            include_str!("config/http/guard.rs"),
            include_str!("config/http/headers.rs"),
            include_str!("config/http/origins.rs"),
            include_str!("config/http/tls.rs"),
            include_str!("config/logging.rs"),
            include_str!("config/probe.rs"),
            include_str!("config/service.rs"),
            include_str!("config/metrics.rs"),
            include_str!("config/shutdown.rs"),
        ];
        let mut keys = Vec::new();
        for source in sources {
            let code = source.split("#[cfg(test)]").next().unwrap();
            let calls = ["get(\"", ".get(\n            \"", "number(\"", ".key(\"", ".optional(\""];
            for call in calls {
                keys.extend(code.split(call).skip(1).filter_map(|rest| rest.split('"').next()));
            }
        }
        assert!(keys.len() > 60, "only {keys:?}");
        for key in keys {
            assert!(EXAMPLE.contains(key), "{key} is not in the example");
        }
        for table in arti::TABLES.iter().chain(&arti::PROGRAM_TABLES) {
            assert!(EXAMPLE.contains(&format!("[{table}]")), "[{table}] is not in the example");
        }
    }

    #[test]
    fn a_text_alone_is_read_without_looking_for_the_files_that_it_names() {
        let text = "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n\
                    identity_key = \"/nonexistent/key\"\n";
        let config = Config::from_text(text, &env()).unwrap();
        assert_eq!(config.services[0].identity_key, Some("/nonexistent/key".into()));
        assert!(load(text).unwrap_err().to_string().contains("there is no /nonexistent/key"));
        assert!(Config::from_text("a = ", &env()).is_err());
    }

    #[test]
    fn what_is_shown_reads_as_the_same_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let config = load_in(dir.path(), &uncommented(true)).unwrap();
        assert!(config.services[0].identity_key.as_ref().is_some_and(|file| file.is_absolute()));
        let shown = toml::to_string_pretty(&config.to_toml()).unwrap();
        let mut again = load_in(dir.path(), &shown).unwrap();
        again.arti_tables = config.arti_tables.clone();
        // The keys that do nothing are not shown, and so give no warning.
        again.warnings = config.warnings.clone();
        assert_eq!(again, config);
    }

    #[test]
    fn the_daemon_is_found_by_files_with_which_it_could_not_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("arti.toml");
        let find = |text: &str| {
            std::fs::write(&file, text).unwrap();
            assert!(Config::load(std::slice::from_ref(&file), &env()).is_err());
            Config::admin_of(std::slice::from_ref(&file), &env())
        };
        let socket = AdminListen::Unix("/home/user/.local/state/onionbraid/admin.sock".into());
        assert_eq!(find("[onion_services.a]\nproxy_ports = 80\n"), Ok(socket));
        let address = AdminListen::Tcp("127.0.0.1:9000".parse().unwrap());
        let text = "colour = 1\n[admin]\nlisten = \"127.0.0.1:9000\"\n";
        assert_eq!(find(text), Ok(address));
        assert!(find("[admin]\nlisten = \"0.0.0.0:9000\"\n").is_err());
        assert!(find("[admin\n").is_err());
    }

    #[test]
    fn storage_expands_paths_as_arti_does() {
        let service = "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n";
        let text = format!("{service}[storage]\nstate_dir = \"${{ARTI_LOCAL_DATA}}/x\"\n");
        let config = load(&text).unwrap();
        let resolver = tor_config_path::arti_client_base_resolver();
        let expected = tor_config_path::CfgPath::new("${ARTI_LOCAL_DATA}/x".to_owned());
        assert_eq!(config.storage.state_dir, expected.path(&resolver).unwrap());
        assert_eq!(config.storage.cache_dir, Path::new("/home/user/.cache/onionbraid"));
        assert!(config.storage.explicit);
    }

    #[test]
    fn arti_runs_with_the_same_directories_as_we_do() {
        let config = load(EXAMPLE).unwrap();
        let arti = config.tor.dir_mgr_config().unwrap();
        assert_eq!(arti.cache_dir, config.storage.cache_dir);
    }

    #[test]
    fn a_client_beside_the_daemon_has_directories_of_its_own_and_the_same_network() {
        let service = "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n";
        let v3ident = "911F7C74212214823DDBDE3044B5B1AF3EFB98A0";
        let text = format!(
            "{service}[tor_network]\nfallback_caches = []\n\
             authorities = {{ v3idents = [\"{v3ident}\"] }}\n"
        );
        let config = load(&text).unwrap();
        let beside = config.tor_below(Path::new("/elsewhere")).unwrap();
        let dirs = |tor: &TorClientConfig| tor.dir_mgr_config().unwrap();
        assert_eq!(dirs(&beside).cache_dir, Path::new("/elsewhere/cache"));
        assert_eq!(dirs(&config.tor).cache_dir, config.storage.cache_dir);
        let v3idents = |tor| dirs(tor).network.authorities().v3idents().clone();
        assert_eq!(v3idents(&beside).len(), 1);
        assert_eq!(v3idents(&beside), v3idents(&config.tor));
    }

    #[test]
    fn prometheus_is_answered_where_arti_would_and_nowhere_by_default() {
        let listen = |value: &str| {
            let service = "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n";
            let config =
                load(&format!("{service}[metrics]\nprometheus.listen = {value}\n")).unwrap();
            let addresses: Vec<_> = config.metrics.iter().map(ToString::to_string).collect();
            (addresses.join(" "), config.warnings.len())
        };
        let here = |addresses: &str| (addresses.to_owned(), 0);
        assert_eq!(listen("\"127.0.0.1:9035\""), here("127.0.0.1:9035"));
        assert_eq!(listen("9035"), here("127.0.0.1:9035 [::1]:9035"));
        assert_eq!(listen("[9035, \"127.0.0.1:9035\", 0]"), here("127.0.0.1:9035 [::1]:9035"));
        assert_eq!([listen("false"), listen("0"), listen("[]")], [here(""), here(""), here("")]);
        assert_eq!(listen("\"0.0.0.0:9035\""), ("0.0.0.0:9035".to_owned(), 1));
    }

    #[test]
    fn what_belongs_to_the_arti_program_gives_one_warning_each() {
        let service = "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n";
        let text = format!(
            "{service}[application]\nwatch_configuration = true\n[proxy]\nsocks_listen = 9150\n\
             [rpc]\n[system]\nmax_files = 1024\n[storage]\nport_info_file = \"\"\n\
             [logging]\nfiles = []\ntokio_console = {{}}\n"
        );
        let warnings = load(&text).unwrap().warnings;
        assert_eq!(warnings.len(), 7, "{warnings:#?}");
        assert!(warnings.iter().all(|warning| warning.contains("does nothing here")));
    }
}
