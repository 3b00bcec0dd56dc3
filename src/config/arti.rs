//! What Arti makes of its own tables: everything that is not onionbraid's goes
//! to Arti's own parser, unchanged.
//!
//! Arti stops at the first error, so each table is tried by itself: that gives
//! one error for each table instead of one in all.

use std::error::Error;

use arti_client::TorClientConfig;
use arti_client::config::TorClientConfigBuilder;
use tor_config::load::{ConfigBuilder as _, resolve_return_results};
use tor_config::{ConfigurationSource, ConfigurationSources};
use tor_guardmgr::GuardMgrConfig as _;

use super::document::{Node, Table, Value, table_to_toml};
use super::error::{ConfigError, ConfigReport, KeyPath, Place};
use super::reader::{self, TableItem};
use super::storage::{StorageDirectories, Trust};
use crate::causes::in_one_line;

/// The tables that `TorClientConfig` has.
pub(crate) const TABLES: [&str; 14] = [
    "address_filter",
    "bridges",
    "channel",
    "circuit_timing",
    "directory_tolerance",
    "download_schedule",
    "override_net_params",
    "path_rules",
    "preemptive_circuits",
    "storage",
    "stream_timeouts",
    "system",
    "tor_network",
    "vanguards",
];

/// Tables of the `arti` program that do nothing here.
pub(crate) const PROGRAM_TABLES: [&str; 2] = ["proxy", "rpc"];

/// Keys of the `arti` program within Arti's tables.
const PROGRAM_KEYS: [(&str, &str); 2] = [("storage", "port_info_file"), ("system", "max_files")];

const IGNORED: &str = "it belongs to the arti program and does nothing here";

/// Where we want something else than Arti.
///
/// - No circuits to exits are kept ready, since nothing here ever leaves the
///   Tor network.
/// - Tor is ready when nine of ten paths can be built, instead of six: Arti
///   computes the HSDir ring of a consensus once, in that moment. Of the relays
///   that it does not know by then, a seventh instead of a thirtieth, some are
///   HSDirs of ours, and would miss our descriptor until the next consensus.
/// - Vanguards are full, as the network recommends to services. Arti's "auto" means
///   lite here: it knows of no service but its own.
const DEFAULTS: &str = "[preemptive_circuits]\ndisable_at_threshold = 0\n\
                        [override_net_params]\nmin_paths_for_circs_pct = 90\n\
                        [vanguards]\nmode = \"full\"\n";

/// Arti's part of the configuration.
pub(crate) struct Arti {
    /// What Arti runs with.
    pub(crate) client: TorClientConfig,
    /// The tables as the files give them.
    pub(crate) tables: toml::Table,
}

/// Whether circuits begin at bridges.
pub(super) fn uses_bridges(client: &TorClientConfig) -> bool {
    client.bridges_enabled()
}

/// Reads Arti's tables. A missing answer has been reported.
pub(crate) fn read(
    root: &Table,
    directories: Option<&StorageDirectories>,
    report: &mut ConfigReport,
) -> Option<Arti> {
    for key in PROGRAM_TABLES {
        if let Some(node) = root.get(key) {
            report.warn(node.place.clone(), &KeyPath::default().key(key), IGNORED);
        }
    }
    let mut given = toml::Table::new();
    let mut good = true;
    for key in TABLES {
        if let Some(node) = root.get(key) {
            let item = TableItem { node, path: KeyPath::default().key(key) };
            if item.table(report).is_none() {
                good = false;
                continue;
            }
            let table = without_program_keys(key, node, report);
            good &= resolve_one(key, node, &table, report);
            given.insert(key.to_owned(), table.to_toml());
        }
    }
    if !good {
        return None;
    }
    match client(&given, directories?) {
        Ok(client) => Some(Arti { client, tables: given }),
        Err(error) => {
            report.error(error);
            None
        }
    }
}

/// What Arti makes of its tables, with these directories.
pub(crate) fn client(
    tables: &toml::Table,
    directories: &StorageDirectories,
) -> Result<TorClientConfig, ConfigError> {
    let mut whole = tables.clone();
    place_directories(&mut whole, directories);
    trust(&mut whole, &directories.trust);
    match resolve(whole) {
        Ok((client, _)) => Ok(client),
        Err(problem) => {
            Err(ConfigError::general(format!("Arti's tables do not fit together: {problem}")))
        }
    }
}

/// The tables with our defaults where they say nothing.
pub(super) fn with_defaults(tables: &toml::Table) -> toml::Table {
    let mut whole: toml::Table = DEFAULTS.parse().unwrap_or_default();
    for (name, table) in tables {
        match (whole.get_mut(name).and_then(toml::Value::as_table_mut), table.as_table()) {
            (Some(ours), Some(given)) => ours.extend(given.clone()),
            _ => {
                whole.insert(name.clone(), table.clone());
            }
        }
    }
    whole
}

fn without_program_keys(key: &str, node: &Node, report: &mut ConfigReport) -> Node {
    let mut node = node.clone();
    for (table, name) in PROGRAM_KEYS {
        if let Value::Table(entries) = &mut node.value
            && table == key
            && let Some(entry) = entries.remove(name)
        {
            report.warn(entry.place, &KeyPath::default().key(table).key(name), IGNORED);
        }
    }
    node
}

/// Tries one table; says whether it is good.
fn resolve_one(key: &str, given: &Node, node: &Node, report: &mut ConfigReport) -> bool {
    let mut node = node.clone();
    if let ("storage", Value::Table(entries)) = (key, &mut node.value) {
        // Read in `storage.rs`, where an error has been reported already.
        entries.remove("state_dir");
        entries.remove("cache_dir");
    }
    let root = Table::from([(key.to_owned(), node)]);
    let path = KeyPath::default().key(key);
    match resolve(table_to_toml(&root)) {
        Ok((_, unknown)) => {
            for key in &unknown {
                report.error(unknown_key(&root, key));
            }
            unknown.is_empty()
        }
        Err(problem) => {
            report.error(refused(&root, given.place.clone(), path, &problem));
            false
        }
    }
}

/// Lets Arti read `tables`; returns the keys that it did not use, as it names them.
fn resolve(tables: toml::Table) -> Result<(TorClientConfig, Vec<String>), String> {
    let text = toml::to_string(&tables).map_err(|error| error.to_string())?;
    let mut sources = ConfigurationSources::new_empty();
    for text in [DEFAULTS.to_owned(), text] {
        sources.push_source(
            ConfigurationSource::from_verbatim(text),
            tor_config::sources::MustRead::MustRead,
        );
    }
    let tree = sources.load().map_err(|error| causes(&error))?;
    let resolved = resolve_return_results::<TorClientConfig>(&tree, &Default::default())
        .map_err(|error| causes(&error))?;
    let unknown = resolved.unrecognized.iter().map(ToString::to_string).collect();
    Ok((resolved.value, unknown))
}

/// Makes Arti use exactly these directories.
fn place_directories(tables: &mut toml::Table, directories: &StorageDirectories) {
    let storage =
        tables.entry("storage").or_insert_with(|| toml::Table::new().into()).as_table_mut();
    let Some(storage) = storage else { return };
    for (key, path) in [("state_dir", &directories.state), ("cache_dir", &directories.cache)] {
        let literal = toml::Value::from(path.to_string_lossy().into_owned());
        let literal = toml::Table::from_iter([("literal".to_owned(), literal)]);
        storage.insert(key.to_owned(), literal.into());
    }
}

/// Makes Arti trust somebody or something, unless the operator says what it should.
fn trust(tables: &mut toml::Table, trust: &Trust) {
    let storage = tables.get_mut("storage").and_then(toml::Value::as_table_mut);
    let permissions = storage
        .map(|storage| storage.entry("permissions").or_insert_with(|| toml::Table::new().into()));
    let Some(permissions) = permissions.and_then(toml::Value::as_table_mut) else { return };
    let id = |id: Option<u32>| id.map(|id| toml::Value::from(i64::from(id)));
    let prefix = trust.prefix.as_ref().and_then(|path| path.to_str());
    let values = [
        ("trust_user", id(trust.user)),
        ("trust_group", id(trust.group)),
        ("ignore_prefix", prefix.map(toml::Value::from)),
    ];
    for (key, value) in values {
        if let Some(value) = value {
            permissions.entry(key).or_insert(value);
        }
    }
}

/// The causes of an error on one line. The outermost text ("Config contents not
/// as expected") says nothing and is left out where there is a cause.
fn causes(error: &(dyn Error + 'static)) -> String {
    in_one_line(error.source().unwrap_or(error))
}

fn unknown_key(root: &Table, key: &str) -> ConfigError {
    let (path, node) = locate(root, key);
    let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
    let known = known_keys(parent);
    let problem = reader::unknown("key", name, known.iter().map(String::as_str));
    ConfigError::at_key(node.and_then(|node| node.place.clone()), path, problem)
}

/// The error for what Arti says, at the key that it names, if it names one.
fn refused(root: &Table, place: Option<Place>, path: KeyPath, problem: &str) -> ConfigError {
    // The configuration library says: PROBLEM for key "default.TABLE.KEY" in TOML source string
    let problem = problem.trim_start_matches("Couldn't load configuration: ");
    let split = problem.split_once(" for key \"default.").and_then(|(problem, rest)| {
        let (key, _) = rest.split_once('"')?;
        Some((problem, key))
    });
    let Some((problem, key)) = split else {
        return ConfigError::at_key(place, path, format!("Arti refuses it: {problem}"));
    };
    let (path, node) = locate(root, key);
    let place = node.and_then(|node| node.place.clone()).or(place);
    // What serde says where a key takes a value of its own or "auto".
    let none_of_its_values = problem.contains("did not match any variant of untagged enum");
    let problem = if none_of_its_values { "this is none of its values" } else { problem };
    let error = ConfigError::at_key(place, path, format!("Arti refuses it: {problem}"));
    match node {
        Some(Node { value: Value::Table(_), .. }) | None => error,
        Some(node) => error.with_value(node.to_string()),
    }
}

/// The node at a path that Arti names, or the last one on the way there.
fn locate<'a>(root: &'a Table, key: &str) -> (KeyPath, Option<&'a Node>) {
    let mut path = KeyPath::default();
    let mut node: Option<&Node> = None;
    let key = key.replace('[', ".").replace([']', '"'], "");
    for segment in key.split('.') {
        let below = match node.map(|node| &node.value) {
            None => root.get(segment),
            Some(Value::Table(entries)) => entries.get(segment),
            Some(Value::Array(nodes)) => segment.parse().ok().and_then(|i: usize| nodes.get(i)),
            Some(Value::Scalar(_)) => None,
        };
        path = match (segment.parse(), node.map(|node| &node.value)) {
            (Ok(index), Some(Value::Array(_))) => path.index(index),
            _ => path.key(segment),
        };
        node = below.or(node);
    }
    (path, node)
}

/// The keys that Arti has in a table, for a suggestion.
fn known_keys(table: &str) -> Vec<String> {
    let mut builder = TorClientConfigBuilder::default();
    if builder.apply_defaults().is_err() {
        return Vec::new();
    }
    // Through JSON, since TOML has no word for an absent value.
    let Ok(all) = serde_json::to_value(&builder) else { return Vec::new() };
    let found = table.split('.').try_fold(&all, |value, key| value.get(key));
    let keys = found.and_then(serde_json::Value::as_object);
    keys.map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_tables_is_artis() {
        let mut builder = TorClientConfigBuilder::default();
        builder.apply_defaults().unwrap();
        let all = serde_json::to_value(&builder).unwrap();
        let mut keys: Vec<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, TABLES);
    }

    #[test]
    fn what_the_tables_do_not_say_is_shown_as_it_is_by_default() {
        let given = "[vanguards]\nmode = \"lite\"\n[override_net_params]\ncircwindow = 900\n";
        let whole = with_defaults(&given.parse().unwrap());
        assert_eq!(whole["vanguards"]["mode"].as_str(), Some("lite"));
        assert_eq!(whole["override_net_params"]["circwindow"].as_integer(), Some(900));
        let paths = &whole["override_net_params"]["min_paths_for_circs_pct"];
        assert_eq!(paths.as_integer(), Some(90));
        let defaults = with_defaults(&toml::Table::new());
        assert_eq!(defaults["vanguards"]["mode"].as_str(), Some("full"));
        assert_eq!(defaults, DEFAULTS.parse().unwrap());
    }

    #[test]
    fn services_have_full_vanguards_unless_the_file_says_otherwise() {
        let client = |tables: &str| resolve(tables.parse().unwrap()).unwrap().0;
        let with = |mode: &str| client(&format!("[vanguards]\nmode = \"{mode}\"\n"));
        assert_eq!(client(""), with("full"));
        assert_ne!(with("lite"), with("full"));
    }

    #[test]
    fn keys_of_arti_can_be_suggested() {
        assert!(known_keys("path_rules").contains(&"reachable_addrs".to_owned()));
    }
}
