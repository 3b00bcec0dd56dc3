//! Which file holds a service's key: the `identity_key` key.
//!
//! `read` is text in, path out; `find` looks whether the file is there, so that
//! a missing one is an error with its key path. What is in it, `tor/keys` reads.

use std::io;
use std::path::{Path, PathBuf};

use super::ServiceConfig;
use super::document::{Table, Value};
use super::error::{ConfigError, KeyPath, Report};
use super::reader::Item;
use super::storage;

/// Reads `identity_key`: a path, relative to the directory of the file that
/// names it.
pub(crate) fn read(item: &Item<'_>, report: &mut Report) -> Option<PathBuf> {
    let path = storage::expand(item, report)?;
    let place = item.place();
    let directory = place.as_ref().and_then(|place| place.file.parent());
    Some(directory.unwrap_or(Path::new("")).join(path))
}

/// Reports every key file that is not there, and makes the paths of the others
/// absolute, so that they mean the same wherever they are shown.
pub(crate) fn find(root: &Table, services: &mut [ServiceConfig], report: &mut Report) {
    for service in services {
        let Some(file) = &mut service.identity_key else { continue };
        let problem = match file.try_exists() {
            Ok(true) => {
                *file = std::path::absolute(&*file).unwrap_or(std::mem::take(file));
                continue;
            }
            Ok(false) => ConfigError::general(format!(
                "there is no {}: bring the key there, or remove this line to have one made in \
                 the keystore",
                file.display()
            )),
            Err(error) => {
                let problem = ConfigError::general(format!("{}: {error}", file.display()));
                let denied = error.kind() == io::ErrorKind::PermissionDenied;
                if denied { problem.denied() } else { problem }
            }
        };
        let path = KeyPath::default().key("onion_services");
        let path = path.quoted(service.nickname.as_ref()).key("identity_key");
        let nickname: &str = service.nickname.as_ref();
        let node = below(root, "onion_services")
            .and_then(|services| below(services, nickname))
            .and_then(|service| service.get("identity_key"));
        let problem = problem.with_key(node.and_then(|node| node.place.clone()), path);
        report.error(match node {
            Some(node) => problem.with_value(node.to_string()),
            None => problem,
        });
    }
}

fn below<'a>(table: &'a Table, key: &str) -> Option<&'a Table> {
    match &table.get(key)?.value {
        Value::Table(entries) => Some(entries),
        _ => None,
    }
}
