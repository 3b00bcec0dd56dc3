//! One certificate with its key, as files in PEM hold it.
//!
//! A certificate that has expired, or does not name the address, can be used all the
//! same: the operator is told, and clients say what they think of it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::key_check::KeyCheck;
use crate::rules::CertificateFiles;

/// The longest file, in bytes.
const LONGEST: u64 = 256 * 1024;

/// The most certificates in a chain.
const MAX_CHAIN: usize = 10;

/// What there is to say of a certificate in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its file.
    pub file: PathBuf,
    /// The names that it is for.
    pub names: Vec<String>,
    /// Since when it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
    /// Whether nobody vouches for it but itself.
    pub self_signed: bool,
    /// What clients are sent.
    chain: Vec<CertificateDer<'static>>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is too long.
    #[error("{} is longer than 256 KiB", .0.display())]
    TooLong(PathBuf),
    /// It has no certificate in it, or no PEM.
    #[error("there is no certificate in {}; it needs the server's as PEM, then those of the authorities in between", .0.display())]
    NoCertificate(PathBuf),
    /// It has more certificates than any chain.
    #[error("there are more than {MAX_CHAIN} certificates in {}: the server's comes first, then those of the authorities in between", .0.display())]
    LongChain(PathBuf),
    /// The first certificate cannot be read.
    #[error("the first certificate in {} cannot be used: {problem}", file.display())]
    BadCertificate {
        /// The file.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// Others could read the key.
    #[error("{0}")]
    KeyNotPrivate(String),
    /// It has no key in it, or one that a password protects.
    #[error("there is no private key in {} that can be read; it has to be PEM, without a password", .0.display())]
    NoKey(PathBuf),
    /// The key is of a kind that TLS cannot use.
    #[error("the key in {} cannot be used: {problem}", file.display())]
    BadKey {
        /// The file.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// The two do not belong together.
    #[error("the key in {} is not that of the first certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The cryptography cannot do it.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl Certificate {
    /// Reads a certificate and its key.
    pub(super) fn read(
        files: &CertificateFiles,
        keys: &KeyCheck,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(Self, CertifiedKey), CertificateError> {
        let certificate = Self::of_file(&files.certificate)?;
        let key = &files.key;
        let (opened, text) = open(key)?;
        keys.check(&opened, key).map_err(CertificateError::KeyNotPrivate)?;
        let secret = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| CertificateError::NoKey(key.clone()))?;
        let signer = provider.key_provider.load_private_key(secret).map_err(|error| {
            CertificateError::BadKey { file: key.clone(), problem: error.to_string() }
        })?;
        let signer = CertifiedKey::new(certificate.chain.clone(), signer);
        match signer.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => {
                let (certificate, key) = (files.certificate.clone(), key.clone());
                return Err(CertificateError::Mismatch { certificate, key });
            }
        }
        Ok((certificate, signer))
    }

    /// Reads a certificate alone, which is public.
    ///
    /// # Errors
    ///
    /// If there is none that can be used.
    pub fn of_file(file: &Path) -> Result<Self, CertificateError> {
        let (_, text) = open(file)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let none = || CertificateError::NoCertificate(file.to_owned());
        let chain = chain.map_err(|_| none())?;
        if chain.len() > MAX_CHAIN {
            return Err(CertificateError::LongChain(file.to_owned()));
        }
        let first = chain.first().ok_or_else(none)?;
        let bad =
            |problem: String| CertificateError::BadCertificate { file: file.to_owned(), problem };
        let names = EndEntityCert::try_from(first)
            .map_err(|error| bad(error.to_string()))?
            .valid_dns_names()
            .map(str::to_owned)
            .collect();
        let (_, parsed) =
            X509Certificate::from_der(first).map_err(|error| bad(error.to_string()))?;
        let validity = parsed.validity();
        Ok(Self {
            file: file.to_owned(),
            names,
            not_before: moment(validity.not_before),
            not_after: moment(validity.not_after),
            self_signed: parsed.issuer() == parsed.subject(),
            chain,
        })
    }

    /// Whether it is for this name.
    pub fn is_for(&self, name: &str) -> bool {
        let certificate = self.chain.first().and_then(|der| EndEntityCert::try_from(der).ok());
        let name = ServerName::try_from(name).ok();
        certificate
            .zip(name)
            .is_some_and(|(it, name)| it.verify_is_valid_for_subject_name(&name).is_ok())
    }
}

fn moment(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    let moment = match time.timestamp() {
        0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
        _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
    };
    moment.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Opens a file, and reads all of it, which is not too much.
fn open(path: &Path) -> Result<(File, Vec<u8>), CertificateError> {
    let failed = |source| CertificateError::Read { file: path.to_owned(), source };
    // What is no file, such as a pipe, could keep us waiting.
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("this is no ordinary file")));
    }
    let mut bytes = Vec::new();
    (&file).take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(CertificateError::TooLong(path.to_owned()));
    }
    Ok((file, bytes))
}
