//! `onionbraid certificate`: makes certificates for the addresses of services, and
//! requests for them.
//!
//! Standard output has the digest or the request alone, for scripts; remarks go to
//! standard error. No file is ever overwritten.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use data_encoding::{BASE64_NOPAD, HEXUPPER};
use rand::Rng as _;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use sha2::{Digest as _, Sha256};

use super::hand_over::{NewFile, write_for, write_one_for};
use super::keys::{identity_key, no_key, owner, service_address};
use super::{CommandFailure, finish, remark, service};
use crate::cli::CertificateCommand;
use crate::clock::now;
use crate::exit::Exit;
use crate::tor::keys;

/// A nonce has 64 bits of chance at least (Baseline Requirements, appendix B).
const SHORTEST_NONCE: usize = 8;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Does what the command says.
pub fn certificate(command: &CertificateCommand) -> ExitCode {
    let done = match command {
        CertificateCommand::SelfSigned { services, days, out, config } => {
            self_signed(services, *days, out, &config.files)
        }
        CertificateCommand::Request { service, nonce, subdomains, out, config } => {
            request(service, nonce, *subdomains, out.as_deref(), &config.files)
        }
    };
    finish(done.and_then(|text| Ok(write!(io::stdout().lock(), "{text}")?)))
}

fn self_signed(
    services: &[String],
    days: u32,
    out: &Path,
    files: &[PathBuf],
) -> Result<String, CommandFailure> {
    let config = owner::load(files)?;
    let mut names = Vec::new();
    for name in services {
        let address = service_address(&config, service(&config, name)?)?;
        let address = address.ok_or_else(|| no_key(name))?.to_string();
        names.extend([format!("*.{address}"), address]);
    }
    names.reverse();
    let failed = |error: rcgen::Error| CommandFailure::new(Exit::Failed, error.to_string());
    let mut params = CertificateParams::new(names.clone()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names.swap_remove(0));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // The whole day: when in it the certificate was made is nobody's business, and no
    // clock of a client is that wrong.
    let today = now().wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let today = date_time_ymd(1970, 1, 1)
        + DAY * u32::try_from(today.as_secs() / DAY.as_secs()).unwrap_or(0);
    params.not_before = today - DAY;
    params.not_after = today + DAY * days;
    let key = KeyPair::generate().map_err(failed)?;
    let made = params.self_signed(&key).map_err(failed)?;

    let stem = services.join("-");
    let file = |end: &str, text: String, mode| NewFile {
        below: format!("{stem}.{end}").into(),
        bytes: text.into_bytes(),
        mode,
    };
    let files =
        vec![file("key", key.serialize_pem(), keys::SECRET_MODE), file("pem", made.pem(), 0o644)];
    write_for(owner::of_state(&config), out, files)?;
    let path = |end: &str| out.join(format!("{stem}.{end}"));
    let (certificate, secret) = (path("pem"), path("key"));
    remark(&format!(
        "The certificate lies in {}, its key in {}. A port speaks TLS with them by {{ tls = {{ \
         certificate = \"{0}\", key = \"{1}\" }} }} behind its target. Below is its digest \
         (SHA-256), by which others can know it.",
        shown(&certificate),
        shown(&secret)
    ));
    let digest = Sha256::digest(made.der());
    let digest: Vec<String> = digest.iter().map(|byte| HEXUPPER.encode(&[*byte])).collect();
    Ok(format!("{}\n", digest.join(":")))
}

fn request(
    name: &str,
    nonce: &str,
    subdomains: bool,
    out: Option<&Path>,
    files: &[PathBuf],
) -> Result<String, CommandFailure> {
    let nonce = read_nonce(nonce)?;
    let config = owner::load(files)?;
    let key = identity_key(&config, service(&config, name)?)?;
    let address = key.address().to_string();
    let below = subdomains.then(|| format!("*.{address}"));
    let names = [address].into_iter().chain(below).collect();
    let mut own = [0; 16];
    crate::tor::rng().fill_bytes(&mut own);
    let request = keys::certificate_request(&key, names, &nonce, &own)
        .map_err(|error| CommandFailure::new(Exit::Failed, error.to_string()))?;
    let Some(out) = out else { return Ok(request) };
    write_one_for(owner::of_state(&config), out, request.into_bytes(), 0o644)?;
    remark(&format!("The request lies in {}.", out.display()));
    Ok(String::new())
}

/// Base64 in either alphabet, padded or not.
fn read_nonce(text: &str) -> Result<Vec<u8>, CommandFailure> {
    let plain = text.trim().trim_end_matches('=').replace('-', "+").replace('_', "/");
    let nonce = BASE64_NOPAD.decode(plain.as_bytes()).ok();
    let good = |nonce: &Vec<u8>| (SHORTEST_NONCE..=keys::LONGEST_NONCE).contains(&nonce.len());
    nonce.filter(good).ok_or_else(|| {
        let text = format!(
            "the nonce must be base64, as the authority gave it, of {SHORTEST_NONCE} to {} bytes",
            keys::LONGEST_NONCE
        );
        CommandFailure::new(Exit::Usage, text)
    })
}

/// As the configuration can name it from anywhere.
fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_base64_of_either_kind_and_long_enough() {
        for good in ["3Jq1mV0xTqk=", "3Jq1mV0xTqk", "_-q1mV0xTqk", " /+q1mV0xTqk= "] {
            assert_eq!(read_nonce(good).unwrap().len(), 8, "{good}");
        }
        for wrong in ["", "AAAA", "3Jq1mV0xTq!", &"A".repeat(200)] {
            assert!(read_nonce(wrong).is_err(), "{wrong}");
        }
    }
}
