//! Whether a directory that was made before has the keys of the addresses that its files
//! name. Keys are kept out of repositories, so it may well come without them: new ones
//! would be another address.

use std::io;
use std::path::Path;

use super::slot_key::{New, SlotKey};
use crate::commands::CommandFailure;
use crate::exit::Exit;
use crate::kubernetes::KEYS;
use crate::kubernetes::named::{OF_SERVICE, OF_SLOTS, of_service, of_slots};
use crate::ordinary;
use onionbraid_balancer::onion::OnionAddress;

/// The most that is read of a file, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// How many keys an error names.
const MOST_NAMED: usize = 4;

/// Refuses keys of other addresses than the files name, and new keys in the place of
/// theirs. Slots that no file names may have new ones.
pub(super) fn same(out: &Path, front: &SlotKey, slots: &[SlotKey]) -> Result<(), CommandFailure> {
    let mut wrong = Vec::new();
    for file in OF_SERVICE {
        let path = out.join(file);
        let Some(text) = text(&path) else { continue };
        let named = text.map(|text| of_service(&text)).unwrap_or_default();
        if named.is_empty() && matches!(front.new, Some(New::Made(_))) {
            let directory = front.directory.display();
            wrong.push(format!("{} was made before, but {directory} is missing", path.display()));
        }
        let others = named.into_iter().filter(|named| *named != front.address);
        wrong.extend(others.map(|named| differs(&path, "", named, front)));
    }
    let of_service = wrong.len();
    let path = out.join(OF_SLOTS);
    match text(&path).map(|text| text.and_then(|text| of_slots(&text))) {
        None => {}
        Some(Ok(named)) => {
            for (slot, named) in named {
                let key = slots.get(slot).filter(|key| key.address != named);
                let what = format!(" for slot {slot}");
                wrong.extend(key.map(|key| differs(&path, &what, named, key)));
            }
        }
        Some(Err(error)) => {
            let made = slots.iter().find(|key| matches!(key.new, Some(New::Made(_))));
            wrong.extend(made.map(|key| {
                let directory = key.directory.display();
                let path = path.display();
                format!(
                    "{path} does not tell whether {directory}, which is missing, had a key: {error}"
                )
            }));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let keys = out.join(KEYS);
    let mut text = wrong.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join("; ");
    if wrong.len() > MOST_NAMED {
        text.push_str(&format!("; and {} more", wrong.len() - MOST_NAMED));
    }
    text.push_str(&format!(
        ". Nothing has been written. Bring {} back as it was when these files were made",
        keys.display()
    ));
    if of_service > 0 {
        text.push_str(
            ", or give the key of the address with --key FILE; for another address, choose \
             another directory with --out",
        );
    }
    if wrong.len() > of_service {
        text.push_str(&format!(
            ". Slots whose keys are lost get new ones once {} is moved away",
            path.display()
        ));
    }
    Err(CommandFailure::new(Exit::Permission, text))
}

/// That a file names one address, and the key is of another.
fn differs(path: &Path, what: &str, named: OnionAddress, key: &SlotKey) -> String {
    let directory = key.directory.display();
    let but = match key.new {
        None => format!("but {directory} has the key of {}", key.address),
        Some(New::Given(_)) => format!("but --key has the key of {}", key.address),
        Some(New::Made(_)) => format!("but its key is missing: there is no {directory}"),
    };
    format!("{} names {named}{what}, {but}", path.display())
}

/// The text of a file, if there is one; else what is wrong with it.
fn text(path: &Path) -> Option<Result<String, String>> {
    match ordinary::at_most(path, LONGEST) {
        Ok(Some(bytes)) => Some(String::from_utf8(bytes).map_err(|error| error.to_string())),
        Ok(None) => Some(Err(format!("it has more than {LONGEST} bytes"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // What to do with a directory in its place is told by what would write there.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => None,
        Err(error) => Some(Err(error.to_string())),
    }
}
