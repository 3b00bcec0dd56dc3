//! What do the onion services and bridges of a torrc say?
//!
//! | file | answers |
//! |---|---|
//! | `lines` | which settings does the file have, with what it includes? |
//! | `service` | what does one `HiddenServiceDir` become? |
//! | `base` | where do relative paths begin? |
//! | `clients` | whom does `authorized_clients` let in? |
//! | `ports` | where do the streams of its ports go? |
//! | `bridges` | what does Arti read of the bridges? |
//! | `others` | why has a setting of another kind no equivalent? |

mod base;
mod bridges;
pub(super) mod clients;
pub(super) mod lines;
mod others;
mod ports;
pub(super) mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::draft::{Draft, none_enabled};
use super::nicknames::Nicknames;
use super::{Fault, Faults, ImportFiles, SourcePlace};
use base::Base;
use bridges::Bridges;
use onionbraid_balancer::onion::OnionAddress;
use others::Others;
use service::ServiceDirectory;

/// Reads the torrc at `file`.
///
/// # Errors
///
/// Everything that is wrong with it, with what it includes, and with the keys of
/// its services.
pub fn import(file: &Path, files: &impl ImportFiles) -> Result<Draft, Faults> {
    let mut general = Vec::new();
    let settings = lines::read(file, files, &mut general)?;
    let base = Base::of(&settings, file, files);
    let (mut faults, mut bridges) = (Vec::new(), Bridges::default());
    let mut directories: Vec<ServiceDirectory> = Vec::new();
    let mut whole = service::WholeProcess::default();
    let mut others = Others::default();
    for line in &settings {
        let key = line.key.as_str();
        if key == "hiddenservicedir" {
            directories.push(ServiceDirectory::new(line));
        } else if whole.takes(line) || bridges.takes(line, &base, files, &mut faults) {
        } else if key.starts_with("hiddenservice") {
            match directories.last_mut() {
                Some(directory) => directory.set(line, &mut faults),
                None => faults.push(Fault::new(
                    &line.place,
                    format!("{} has no HiddenServiceDir before it: whose is it?", line.name),
                )),
            }
        } else {
            others.add(line);
        }
    }
    general.extend(others.notes());
    general.extend(whole.notes());
    if directories.is_empty() && faults.is_empty() {
        let place = SourcePlace { file: file.to_owned(), line: 0 };
        let problem = "there is no HiddenServiceDir in it: nothing to import. Is it the torrc of \
                       the tor that runs the onion services?";
        return Err(Fault::new(&place, problem).into());
    }
    let mut nicknames = Nicknames::default();
    let mut seen: BTreeMap<PathBuf, SourcePlace> = BTreeMap::new();
    let mut addresses: BTreeMap<OnionAddress, SourcePlace> = BTreeMap::new();
    let mut services = Vec::new();
    for mut directory in directories {
        let path = base.find(&directory.path, &directory.place, files, &mut general);
        if let Some(first) = seen.get(&path) {
            let problem = format!(
                "{} is the directory of the service at {first} already: each has its own",
                path.display()
            );
            faults.push(Fault::new(&directory.place, problem));
            continue;
        }
        seen.insert(path.clone(), directory.place.clone());
        directory.path_on_disk = path;
        directory.find_sockets(&base, files, &mut general, &mut faults);
        let read = directory.import(&whole, files, &mut nicknames, &mut faults);
        let Some(service) = read else { continue };
        match addresses.get(&service.address) {
            Some(first) => {
                let problem = format!(
                    "{} has the key of the service at {first}, and so its address: write the ports \
                     of both below one HiddenServiceDir",
                    service.key.display()
                );
                faults.push(Fault::new(&service.place, problem));
            }
            None => {
                addresses.insert(service.address, service.place.clone());
                services.push(service);
            }
        }
    }
    if faults.is_empty() {
        faults.extend(none_enabled(&services));
    }
    if !faults.is_empty() {
        faults.sort_by(|a, b| a.place.cmp(&b.place));
        return Err(Faults(faults));
    }
    general.sort_by(|a, b| a.place.cmp(&b.place));
    let source = format!("the torrc {}", file.display());
    Ok(Draft { source, general, services, tables: bridges.tables() })
}
