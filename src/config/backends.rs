//! Which backends elsewhere answer for a service: the `backends` key, in the
//! configuration and in the file that `backends_file` names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::document::Value;
use super::error::{ConfigReport, Expected};
use super::files;
use super::reader::TableItem;
use onionbraid_balancer::onion::OnionAddress;

/// A backend that another process runs, known by its own onion address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteBackend {
    /// The backend's own address.
    pub address: OnionAddress,
    /// What it is called in the status and the logs; unique within the service.
    pub name: String,
    /// Its share of the introduction points against other backends, 0 to 100.
    /// 0 takes it out of use.
    pub weight: u16,
    /// The file with the key that its descriptors are read with, absolute; `None`:
    /// they are for everybody.
    pub client_key: Option<PathBuf>,
}

/// A file that lists more backends of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendsFile {
    /// The file, absolute.
    pub path: PathBuf,
    /// So many of the service's backends stand in the configuration itself; those
    /// after them are the file's.
    pub listed: usize,
}

/// Reads `backends_file`, of a service that lists so many backends itself.
pub(crate) fn file(
    item: &TableItem<'_>,
    listed: usize,
    report: &mut ConfigReport,
) -> Option<BackendsFile> {
    Some(BackendsFile { path: files::read(item, Expected::Backends, report)?, listed })
}

/// The longest name of a backend, in characters.
const MAX_NAME: usize = 40;

/// Reads `backends`. What is wrong has been reported; the rest is returned. `listed`
/// are those that another array lists before these.
pub(crate) fn read(
    item: &TableItem<'_>,
    listed: &[RemoteBackend],
    report: &mut ConfigReport,
) -> Vec<RemoteBackend> {
    let wanted = "an array of onion addresses, such as [\"....onion\"]";
    let mut addresses = BTreeMap::new();
    let mut names = BTreeMap::new();
    for backend in listed {
        let place = "in `backends` of the configuration".to_owned();
        addresses.insert(backend.address, place.clone());
        names.insert(backend.name.clone(), place);
    }
    let mut found = Vec::new();
    for (index, entry) in item.array(wanted, report).into_iter().flatten().enumerate() {
        let Some(backend) = backend(listed.len() + index, &entry, report) else { continue };
        if let Some(earlier) = addresses.get(&backend.address) {
            let problem = format!(
                "this backend is listed already, {earlier}: give it a higher `weight` instead"
            );
            entry.wrong(problem, report);
        }
        if let Some(earlier) = names.get(&backend.name) {
            let problem = format!(
                "the name {:?} is taken, {earlier}: names are unique within a service",
                backend.name
            );
            entry.wrong(problem, report);
        }
        let place = format!("as backends[{index}]");
        addresses.entry(backend.address).or_insert_with(|| place.clone());
        names.entry(backend.name.clone()).or_insert(place);
        found.push(backend);
    }
    found
}

/// Reads one backend, which stands at this position among all of the service.
fn backend(
    index: usize,
    entry: &TableItem<'_>,
    report: &mut ConfigReport,
) -> Option<RemoteBackend> {
    let default_name = format!("remote-{index}");
    let Value::Table(_) = entry.node.value else {
        let wanted = "an onion address, or { address = \"....onion\", name = \"...\", weight = 1 }";
        entry.text(wanted, report)?;
        let address = address(entry, report)?;
        return Some(RemoteBackend { address, name: default_name, weight: 1, client_key: None });
    };
    let mut table = entry.table(report)?;
    let address = match table.get("address") {
        Some(item) => address(&item, report),
        None => {
            entry.wrong("the `address` is missing: { address = \"....onion\" }", report);
            None
        }
    };
    let name = match table.get("name") {
        Some(item) => name(&item, index, report),
        None => Some(default_name),
    };
    let weight = match table.get("weight") {
        Some(item) => item.integer(0..=100, report),
        None => Some(1),
    };
    let client_key = table.get("client_key");
    let client_key = client_key.map(|item| files::read(&item, Expected::ClientKey, report));
    table.finish(report);
    let client_key = client_key.map_or(Some(None), |path| path.map(Some));
    Some(RemoteBackend { address: address?, name: name?, weight: weight?, client_key: client_key? })
}

/// Reads one onion address.
pub(crate) fn address(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<OnionAddress> {
    let text = item.text("an onion address", report)?;
    match text.parse() {
        Ok(address) => Some(address),
        Err(error) => {
            match more_than_an_address(text) {
                Some((what, address)) => {
                    item.wrong(format!("this is {what}: write \"{address}\" alone"), report);
                }
                None => item.wrong(error, report),
            }
            None
        }
    }
}

/// What a text is that has an onion address in it, and the address.
fn more_than_an_address(text: &str) -> Option<(&'static str, OnionAddress)> {
    let text = text.trim();
    let (url, rest) = match text.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, text),
    };
    let (host, path) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let what = match (url, path, port) {
        (false, "", port) if !port.is_empty() => {
            "an onion address with a port, and clients choose the port themselves"
        }
        _ => "a URL, where only the address is wanted",
    };
    Some((what, name.parse().ok()?))
}

/// Whether a backend can have this name.
pub fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(letter)
}

fn name(item: &TableItem<'_>, index: usize, report: &mut ConfigReport) -> Option<String> {
    let name = item.text("a name", report)?;
    if !is_name(name) {
        let problem = format!(
            "a name has 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`, as status and logs show it"
        );
        item.wrong(problem, report);
        return None;
    }
    // Names that backends without one get, unless it is this very backend's.
    let numbered =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.parse::<usize>().is_ok());
    if numbered("local-") || (numbered("remote-") && name != format!("remote-{index}")) {
        let problem = "`local-N` and `remote-N` are the names of backends that have no other: \
                       choose a different one";
        item.wrong(problem, report);
        return None;
    }
    Some(name.to_owned())
}
