//! What does whoever knows an onion address see of how its descriptor was made?
//!
//! All that does not differ between two descriptors of one program is a line of
//! [`Anatomy::form`]; what changes from one to the other are its other fields.
//! It decrypts on its own, and knows nothing of the code under test.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use base64ct::{Base64, Base64Unpadded, Encoding as _};
use cipher::{KeyIvInit as _, StreamCipher as _};
use digest::{ExtendableOutput as _, Update as _, XofReader as _};
use tor_hscrypto::pk::HsIdKey;
use tor_hscrypto::time::TimePeriod;
use tor_llcrypto::cipher::aes::Aes256Ctr;
use tor_llcrypto::d::Shake256;

/// A descriptor taken apart.
#[derive(Clone, Debug)]
pub struct Anatomy {
    /// Line by line, with lengths in place of keys; one introduction point stands
    /// for all that have the same form.
    pub form: String,
    /// Its length in bytes without the digits of the revision counter.
    pub length: usize,
    /// What certifies the signing key, from the first byte to the last.
    pub signing_key: String,
    /// `desc-auth-ephemeral-key`.
    pub ephemeral_key: String,
    /// The `auth-client` lines.
    pub clients: Vec<String>,
    /// The salts of the middle and of the inner layer.
    pub salts: [String; 2],
    /// Its revision counter.
    pub revision: u64,
    /// Whether the points are sorted, by the keys of their relays, ...
    pub sorted_by_relay: bool,
    /// ... and how many they are.
    pub points: usize,
    /// Session ids in their order.
    pub sessions: Vec<String>,
    /// The keys of the points' relays in their order.
    pub relays: Vec<String>,
    /// Until when the certificate of the signing key counts, in hours since 1970.
    pub expires: u32,
}

impl Anatomy {
    /// Takes apart what an address publishes in one of the `periods`.
    pub fn of(text: &str, identity: [u8; 32], periods: &[TimePeriod]) -> Result<Self> {
        let errors = periods.iter().map(|period| Self::in_period(text, identity, *period));
        let mut last = Err(anyhow::anyhow!("no period"));
        for read in errors {
            if read.is_ok() {
                return read;
            }
            last = read;
        }
        last
    }

    fn in_period(text: &str, identity: [u8; 32], period: TimePeriod) -> Result<Self> {
        let key = tor_llcrypto::pk::ed25519::PublicKey::from_bytes(&identity)?;
        let (blinded, subcredential) = HsIdKey::from(key).compute_blinded_key(period)?;
        let (head, rest) = text.split_once("superencrypted\n").context("no middle layer")?;
        let revision = value(head, "revision-counter")?;
        let keys = Keys {
            blinded: *blinded.id().as_ref(),
            subcredential: *subcredential.as_ref(),
            revision: revision.parse()?,
        };
        let sealed = object(rest)?;
        let middle = keys.open(&sealed, b"hsdir-superencrypted-data")?;
        let end = middle.iter().position(|byte| *byte == 0).unwrap_or(middle.len());
        let (middle_text, padding) = middle.split_at(end);
        ensure!(padding.iter().all(|byte| *byte == 0), "the padding is not zeros");
        let middle_text = std::str::from_utf8(middle_text)?;
        let inner_sealed = object(middle_text.split_once("encrypted\n").context("no inner")?.1)?;
        let inner = keys.open(&inner_sealed, b"hsdir-encrypted-data")?;
        let inner_text = std::str::from_utf8(&inner)?;

        let certificate = object(head)?;
        let signing = &certificate[7..39];
        let base = hours(&certificate);
        let mut form = String::new();
        let _ = writeln!(form, "outer: {}", masked(text, signing, base)?.replace(revision, "N"));
        let _ = writeln!(
            form,
            "middle: {} bytes, newline at the end {}, {}",
            middle.len(),
            middle_text.ends_with('\n'),
            masked(middle_text, signing, base)?
        );
        let mut parts = inner_text.split("\nintroduction-point ");
        let whole = parts.next().unwrap_or_default();
        let _ = writeln!(form, "inner: newline at the end {}", inner_text.ends_with('\n'));
        let _ = writeln!(form, "{}", masked(whole, signing, base)?);
        let points: Vec<String> = parts.map(|part| format!("introduction-point {part}")).collect();
        let mut forms = Vec::new();
        let (mut relays, mut sessions) = (Vec::new(), Vec::new());
        for point in &points {
            forms.push(masked(point, signing, base)?);
            relays.push(Base64::decode_vec(value(point, "onion-key ntor")?).context("a key")?);
            let certificate = object(point.split_once("auth-key\n").context("no auth-key")?.1)?;
            sessions.push(Base64::encode_string(&certificate[7..39]));
        }
        forms.sort();
        forms.dedup();
        for point in forms {
            let _ = writeln!(form, "{point}");
        }
        let lines = middle_text.lines().filter(|line| line.starts_with("auth-client "));
        Ok(Self {
            form,
            length: text.len() - revision.len(),
            signing_key: Base64::encode_string(signing),
            ephemeral_key: value(middle_text, "desc-auth-ephemeral-key")?.to_owned(),
            clients: lines.map(str::to_owned).collect(),
            salts: [&sealed, &inner_sealed].map(|sealed| Base64::encode_string(&sealed[..16])),
            revision: revision.parse()?,
            sorted_by_relay: relays.is_sorted(),
            points: points.len(),
            sessions,
            relays: relays.iter().map(|key| Base64::encode_string(key)).collect(),
            expires: base,
        })
    }
}

struct Keys {
    blinded: [u8; 32],
    subcredential: [u8; 32],
    revision: u64,
}

impl Keys {
    fn open(&self, sealed: &[u8], constant: &[u8]) -> Result<Vec<u8>> {
        ensure!(sealed.len() > 48, "too short for a layer");
        let (salt, rest) = sealed.split_at(16);
        let mut kdf = Shake256::default();
        kdf.update(&self.blinded);
        kdf.update(&self.subcredential);
        kdf.update(&self.revision.to_be_bytes());
        kdf.update(salt);
        kdf.update(constant);
        let mut keys = kdf.finalize_xof();
        let (mut key, mut iv) = ([0; 32], [0; 16]);
        keys.read(&mut key);
        keys.read(&mut iv);
        let mut text = rest[..rest.len() - 32].to_vec();
        Aes256Ctr::new((&key).into(), (&iv).into()).apply_keystream(&mut text);
        ensure!(text.starts_with(b"desc-auth") || text.starts_with(b"create2"), "another key");
        Ok(text)
    }
}

/// A text with whatever differs between two descriptors of one program masked.
fn masked(text: &str, signing: &[u8], base: u32) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, more) = rest.split_once('\n').map_or((rest, None), |(l, m)| (l, Some(m)));
        if line.starts_with("-----BEGIN ") {
            let end = rest.find("-----END ").context("an object without an end")?;
            let encoded = &rest[line.len() + 1..end];
            let bytes = object(rest)?;
            let lines: Vec<usize> = encoded.lines().map(str::len).collect();
            let widest = lines.iter().max().copied().unwrap_or_default();
            let _ = write!(out, "{line} lines of {widest}");
            if line.contains("CERT") {
                let last = lines.last().copied().unwrap_or_default();
                let _ = write!(out, ", the last {last}; {}", certificate(&bytes, signing, base));
            } else if bytes.len() >= 10_000 {
                let _ = write!(out, "; {} bytes", bytes.len());
            }
            out.push('\n');
            let after = rest[end..].find('\n').map_or(rest.len(), |newline| end + newline + 1);
            rest = &rest[after..];
            continue;
        }
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        out.push_str(name);
        for word in words {
            out.push(' ');
            out.push_str(&masked_word(name, word));
        }
        out.push('\n');
        rest = more.unwrap_or_default();
    }
    Ok(out)
}

fn masked_word(name: &str, word: &str) -> String {
    if name == "introduction-point" {
        return format!("[{}]", specifiers(word).unwrap_or_else(|| "unreadable".to_owned()));
    }
    let padded = word.ends_with('=');
    let bytes = if padded { Base64::decode_vec(word) } else { Base64Unpadded::decode_vec(word) };
    match bytes {
        Ok(bytes) if bytes.len() >= 8 => format!("<{} bytes, padded {padded}>", bytes.len()),
        _ => word.to_owned(),
    }
}

/// The kinds and lengths of link specifiers.
fn specifiers(encoded: &str) -> Option<String> {
    let bytes = Base64::decode_vec(encoded).ok()?;
    let (count, mut rest) = bytes.split_first()?;
    let mut kinds = Vec::new();
    for _ in 0..*count {
        let [kind, length, more @ ..] = rest else { return None };
        kinds.push(format!("{kind}:{length}"));
        rest = more.get(usize::from(*length)..)?;
    }
    rest.is_empty().then(|| kinds.join(" "))
}

/// Everything in a certificate but keys and signature (cert-spec).
fn certificate(bytes: &[u8], signing: &[u8], base: u32) -> String {
    let extension = bytes.get(40..bytes.len() - 64).unwrap_or_default();
    let (head, key) = extension.split_at(extension.len().min(4));
    format!(
        "version {}, type {}, {} h after the signing key's, key type {}, {} extensions, \
         {head:?} with {} bytes, which {} the signing key",
        bytes[0],
        bytes[1],
        i64::from(hours(bytes)) - i64::from(base),
        bytes[6],
        bytes[39],
        key.len(),
        if key == signing { "are" } else { "are not" },
    )
}

fn hours(certificate: &[u8]) -> u32 {
    u32::from_be_bytes([certificate[2], certificate[3], certificate[4], certificate[5]])
}

fn value<'a>(text: &'a str, keyword: &str) -> Result<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '));
    line.with_context(|| format!("no {keyword}"))
}

/// The bytes of the first object in a text.
fn object(text: &str) -> Result<Vec<u8>> {
    let begin = text.find("-----BEGIN ").context("no object")?;
    let begin = begin + text[begin..].find('\n').context("no object")?;
    let end = text.find("-----END ").context("no end of an object")?;
    let encoded: String = text[begin..end].split_whitespace().collect();
    Base64::decode_vec(&encoded).ok().context("no base64")
}
