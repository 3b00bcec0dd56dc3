//! How is a backup encrypted? As age does it: with a passphrase, or for recipients.
//!
//! A backup can be opened with `age` and `rage` as well. Takes and returns values;
//! asking for a passphrase is the commands' business.

use std::io::{self, Read, Write};
use std::str::FromStr as _;

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, Identity, IdentityFile, Recipient, scrypt, x25519};

use super::archive::{self, ArchiveError};
use super::contents::Backup;

/// The work that a passphrase costs, as a power of 2: that of `age`, about a second
/// and 256 MiB of memory.
const WORK: u8 = 18;
/// The most work to open a backup: 1 GiB of memory.
const MOST_WORK: u8 = 20;
/// The longest backup to read, in bytes; age adds 16 to each 64 KiB, and a header.
pub(crate) const LONGEST: u64 = archive::LONGEST + archive::LONGEST / 1024 + 1024 * 1024;

/// What a backup is encrypted with.
pub(crate) enum Seal {
    /// A passphrase.
    Passphrase(SecretString),
    /// The public keys of those who can open it.
    Recipients(Vec<x25519::Recipient>),
}

/// Reads a recipient, `age1…`.
///
/// # Errors
///
/// If it is none.
pub(crate) fn recipient(text: &str) -> Result<x25519::Recipient, String> {
    let reason = "this is no recipient of age: `age-keygen -y` prints one, age1…";
    x25519::Recipient::from_str(text).map_err(|_| reason.to_owned())
}

/// Writes a backup, encrypted.
///
/// # Errors
///
/// Those of `output`.
pub(crate) fn write<W: Write>(backup: &Backup, seal: Seal, output: W) -> io::Result<W> {
    let mut output = Output { output, error: None };
    match encrypt(backup, seal, &mut output) {
        Ok(_) => Ok(output.output),
        // What the layers in between make of it is for programmers.
        Err(error) => Err(output.error.unwrap_or(error)),
    }
}

/// An output that keeps what the system said of it.
struct Output<W> {
    output: W,
    error: Option<io::Error>,
}

impl<W> Output<W> {
    fn keep<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &done
            && error.kind() != io::ErrorKind::Interrupted
        {
            let code = error.raw_os_error().map(io::Error::from_raw_os_error);
            self.error.get_or_insert(code.unwrap_or_else(|| error.kind().into()));
        }
        done
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes);
        self.keep(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.output.flush();
        self.keep(flushed)
    }
}

fn encrypt<W: Write>(backup: &Backup, seal: Seal, output: W) -> io::Result<W> {
    let encryptor = match seal {
        Seal::Passphrase(passphrase) => {
            let mut recipient = scrypt::Recipient::new(passphrase);
            recipient.set_work_factor(WORK);
            Encryptor::with_recipients([&recipient as &dyn Recipient].into_iter())
        }
        Seal::Recipients(recipients) => {
            Encryptor::with_recipients(recipients.iter().map(|it| it as &dyn Recipient))
        }
    };
    let encrypted = encryptor.map_err(io::Error::other)?.wrap_output(output)?;
    archive::write(backup, encrypted)?.finish()
}

/// Why a backup cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Not a file of age.
    #[error("it is not encrypted as a backup of onionbraid is, or was cut off at its beginning")]
    Other,
    /// The passphrase is another.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// None of the identities is a recipient.
    #[error("it was not encrypted for any of these identities")]
    Identity,
    /// It would take too much memory.
    #[error(
        "its passphrase costs 2^{0} steps to try, more than the 2^20 that are taken: open it with \
         `age -d`, and encrypt it again"
    )]
    Work(u8),
    /// It was cut off or changed.
    #[error("it is damaged: {0}")]
    Damaged(DecryptError),
    /// What is in it is no backup.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// An encrypted backup, of which it is known what opens it.
pub(crate) struct Sealed<R> {
    decryptor: Decryptor<R>,
}

impl<R: Read> Sealed<R> {
    /// Reads the beginning of a backup.
    ///
    /// # Errors
    ///
    /// If it is not encrypted with age.
    pub(crate) fn new(input: R) -> Result<Self, OpenError> {
        let decryptor = Decryptor::new(input).map_err(|error| match error {
            DecryptError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                OpenError::Damaged(DecryptError::Io(error))
            }
            _ => OpenError::Other,
        })?;
        Ok(Self { decryptor })
    }

    /// Whether a passphrase opens it, and not an identity.
    pub(crate) fn has_passphrase(&self) -> bool {
        self.decryptor.is_scrypt()
    }

    /// Opens it with a passphrase.
    ///
    /// # Errors
    ///
    /// If that is another, or if this is no good backup.
    pub(crate) fn open_with_passphrase(
        self,
        passphrase: SecretString,
    ) -> Result<Backup, OpenError> {
        let mut identity = scrypt::Identity::new(passphrase);
        identity.set_max_work_factor(MOST_WORK);
        self.open(&[Box::new(identity)], OpenError::Passphrase)
    }

    /// Opens it with identities.
    ///
    /// # Errors
    ///
    /// If it is for others, or if this is no good backup.
    pub(crate) fn open_with(self, identities: &[Box<dyn Identity>]) -> Result<Backup, OpenError> {
        self.open(identities, OpenError::Identity)
    }

    fn open(self, identities: &[Box<dyn Identity>], wrong: OpenError) -> Result<Backup, OpenError> {
        let identities = identities.iter().map(AsRef::as_ref);
        let opened = self.decryptor.decrypt(identities).map_err(|error| match error {
            DecryptError::NoMatchingKeys
            | DecryptError::DecryptionFailed
            | DecryptError::KeyDecryptionFailed => wrong,
            DecryptError::ExcessiveWork { required, .. } => OpenError::Work(required),
            error => OpenError::Damaged(error),
        })?;
        Ok(archive::read(opened)?)
    }
}

/// Reads a file of identities as `age-keygen` writes it.
///
/// # Errors
///
/// If it is none, or has none.
pub(crate) fn identities(text: &[u8]) -> Result<Vec<Box<dyn Identity>>, &'static str> {
    let reason = "this is no identity file as `age-keygen` writes it: lines AGE-SECRET-KEY-1…";
    let file = IdentityFile::from_buffer(text).map_err(|_| reason)?;
    let identities = file.into_identities().map_err(|_| reason)?;
    if identities.is_empty() { Err(reason) } else { Ok(identities) }
}
