//! How `https://` origins prove who they are: the `tls` key.

use std::path::PathBuf;

use base64ct::{Base64, Encoding as _};

use crate::config::error::{ConfigReport, Expected};
use crate::config::files;
use crate::config::keys::{Pass, array, own};
use crate::config::reader::TableItem;
use crate::config::{names, units};
use onionbraid_proxy::settings::TlsSettings;

/// What has to be written so that any certificate is accepted.
const ANY: &str = "everyone in between may read and change everything";

/// The most pins: a few certificates and their successors.
const MAX_PINS: usize = 16;

/// The keys of `tls`.
pub(super) fn keys(pass: &mut Pass<'_, '_>, tls: &mut TlsSettings) {
    let file = own(
        |item, report| files::read(item, Expected::Certificates, report),
        |file: &PathBuf| units::path(file),
    );
    let authorities = pass.optional("ca_file", &mut tls.ca_file, file);
    let name = own(server_name, |name| name.clone().into());
    pass.optional("server_name", &mut tls.server_name, name);
    let form = own(pins, |pins: &Vec<_>| array(pins, |pin| pin_text(pin).into()));
    let pins = pass.key("pins", &mut tls.pins, form);
    let any = own(any, |any| if *any { ANY.into() } else { false.into() });
    let any = pass.key("accept_any_certificate", &mut tls.accept_any_certificate, any);
    if any.is_some()
        && tls.accept_any_certificate
        && let Some(other) = authorities.or(pins)
    {
        pass.wrong(
            &other,
            "this says which certificates are good, and `accept_any_certificate` that all of \
             them are: one of the two has to go",
        );
    }
}

fn server_name(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<String> {
    match names::host(item.text("a host name such as \"example.com\"", report)?) {
        Ok(name) => Some(name),
        Err(problem) => {
            item.wrong(problem, report);
            None
        }
    }
}

/// Whether any certificate is accepted: `false`, or the sentence that says what
/// it means.
fn any(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<bool> {
    let wanted = item.as_text() == Some(ANY);
    if !wanted && !item.is_false() {
        item.wrong(
            format!(
                "with this the origin could be anybody: pin its certificate with `pins` or name \
                 its authority with `ca_file`. If you are sure, write the sentence \"{ANY}\""
            ),
            report,
        );
    }
    Some(wanted)
}

fn pins(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Vec<[u8; 32]>> {
    let mut pins = Vec::new();
    let entries = item.array("an array of pins, such as [\"sha256/BASE64\"]", report)?;
    if entries.len() > MAX_PINS {
        item.wrong(format!("there can be at most {MAX_PINS} pins"), report);
        return None;
    }
    for entry in entries {
        const WANTED: &str = "\"sha256/\" and the Base64 of 32 bytes, the digest of a public key: \
                              44 characters, the last a `=`";
        let Some(text) = entry.text(WANTED, report) else { continue };
        match pin(text) {
            None => entry.wrong(format!("this must be {WANTED}"), report),
            Some(pin) if pins.contains(&pin) => entry.wrong("this pin is there already", report),
            Some(pin) => pins.push(pin),
        }
    }
    Some(pins)
}

fn pin(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let decoded = Base64::decode(text.strip_prefix("sha256/")?, &mut digest).ok()?;
    (decoded.len() == digest.len()).then_some(digest)
}

/// A pin as the file has it.
fn pin_text(pin: &[u8; 32]) -> String {
    format!("sha256/{}", Base64::encode_string(pin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_the_digest_of_32_bytes_and_is_shown_as_it_was_read() {
        let text = pin_text(&[7; 32]);
        assert_eq!(pin(&text), Some([7; 32]));
        let short = format!("sha256/{}", Base64::encode_string(&[7; 31]));
        let long = format!("sha256/{}", Base64::encode_string(&[7; 33]));
        for wrong in ["", "sha256/", "sha1/AAAA", &text[7..], &text[..50], &short, &long] {
            assert_eq!(pin(wrong), None, "{wrong}");
        }
    }
}
