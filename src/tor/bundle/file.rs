//! The keys of one period as bytes: what may leave the machine with the identity key.
//!
//! Neither that key nor a blinded secret key is among it, and nothing from which they
//! follow: `a' = h*a mod l` with an `h` that everybody can compute, so one blinded
//! scalar gives the identity (rend-spec-v3, appendix A.2). What is there is good for
//! its period alone.
//!
//! | bytes | what |
//! |---|---|
//! | 28 | [`MAGIC`] |
//! | 32 | the public identity key |
//! | 8, 4, 4 | the period: its number, its length in minutes, its offset in seconds |
//! | 32 | the seed of the descriptor signing key |
//! | 32 | the key of the revision counters |
//! | 32 | what decides the order of points |
//! | 32 | what the keys of restricted discovery follow from |
//! | 32, 16 * 40 | what stands in for them: an ephemeral key, `auth-client` lines |
//! | 32 | what the times of proof-of-work seeds follow from |
//! | 8, 2, 32 each | the first slot, and the seeds of it and those that follow |
//! | 4, 2, 140 each | the hour in which the first certificate expires, and the certificates |
//! | 32 | SHA-256 of all that |
//!
//! Numbers are big-endian.

use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use tor_bytes::Reader;
use tor_hscrypto::pk::HsIdKeypair;
use tor_llcrypto::pk::{curve25519, ed25519};
use zeroize::Zeroizing;

use super::super::derived::Derivation;
use super::super::period_keys::{
    AuthClient, CLIENTS_STEP, Certificates, LENGTH, Lock, Made, PeriodKeys, RevisionKey,
};
use super::super::seed_secret::SeedSecret;
use super::super::values::{identity_key, to_arti};
use super::super::{keys, wiped};
use onionbraid_balancer::onion::{OnionAddress, Period};
use onionbraid_balancer::pow::{Seed, SeedSlot};

/// How a file begins.
const MAGIC: &[u8; 28] = b"onionbraid keys of a period\x01";

/// The lengths of periods that networks may have, in minutes: more are not exported,
/// for a file holds no more than other key files.
const LENGTHS: std::ops::RangeInclusive<u32> = 5..=7 * 1440;

/// No period begins later: dates have four digits.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// Seeds reach so far beyond the periods in which they are accepted: clocks differ,
/// and a consensus is used for some hours.
const SPARE: Duration = Duration::from_hours(6);

/// The keys of one period.
pub(super) struct PeriodFile {
    pub(super) address: OnionAddress,
    /// What the times of proof-of-work seeds follow from.
    pub(super) times: Zeroizing<[u8; 32]>,
    pub(super) keys: PeriodKeys,
    pub(super) seeds: PeriodSeeds,
}

/// The proof-of-work seeds of one period.
pub(super) struct PeriodSeeds {
    first: SeedSlot,
    seeds: Zeroizing<Vec<Seed>>,
}

impl PeriodSeeds {
    /// That of a slot.
    pub(super) fn get(&self, slot: SeedSlot) -> Option<Seed> {
        let index = usize::try_from(slot.0.checked_sub(self.first.0)?).ok()?;
        self.seeds.get(index).copied()
    }

    /// Those that may be accepted in a period: of all slots in it and in those beside.
    fn of(secret: &SeedSecret, period: Period) -> Self {
        let schedule = secret.schedule();
        let beside = period.part(1) + SPARE;
        let from = period.begins().checked_sub(beside).unwrap_or(UNIX_EPOCH);
        let first = schedule.accepted(from)[0];
        let last = schedule.accepted(period.ends() + beside)[2];
        let mut seeds = Zeroizing::new(Vec::with_capacity(slots(first, last)));
        seeds.extend((first.0..=last.0).map(|slot| secret.seed(period, SeedSlot(slot))));
        Self { first, seeds }
    }
}

fn slots(first: SeedSlot, last: SeedSlot) -> usize {
    usize::try_from(last.0.saturating_sub(first.0).saturating_add(1)).unwrap_or(0)
}

/// Whether it is one for which there can be keys.
pub(crate) fn is_possible(period: Period) -> bool {
    let length = u64::from(period.length_minutes) * 60;
    let since = period.number.checked_mul(length);
    let since = since.and_then(|since| since.checked_add(period.offset_seconds.into()));
    LENGTHS.contains(&period.length_minutes)
        && u64::from(period.offset_seconds) <= length
        && since.is_some_and(|since| since + length < LATEST.as_secs())
}

impl PeriodFile {
    /// The keys of the address with this identity in one period.
    pub(super) fn of(identity: &HsIdKeypair, period: Period) -> Result<Self, String> {
        if !is_possible(period) {
            return Err("there is no such time period".to_owned());
        }
        wiped(|| {
            let secret = SeedSecret::of(identity);
            let mut keys = PeriodKeys::new(identity, period).map_err(|error| error.to_string())?;
            if let Certificates::Key(blinded) = &keys.certificates {
                let made = Made::by(blinded, &keys.signing, period);
                keys.certificates = Certificates::Made(made.map_err(|error| error.to_string())?);
            }
            Ok(Self {
                address: keys::address(identity),
                times: Zeroizing::new(secret.times()),
                keys,
                seeds: PeriodSeeds::of(&secret, period),
            })
        })
    }

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let Self { address, times, keys, seeds } = self;
        let (first, made): (u32, &[_]) = match &keys.certificates {
            Certificates::Made(made) => (made.first, &made.all),
            // Such keys are not written.
            Certificates::Key(_) => (0, &[]),
        };
        // Room for all, so that growing leaves no copy behind.
        let length = 1024 + seeds.seeds.len() * 32 + made.len() * LENGTH;
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend(MAGIC);
        bytes.extend(address.public_key());
        bytes.extend(keys.period.number.to_be_bytes());
        bytes.extend(keys.period.length_minutes.to_be_bytes());
        bytes.extend(keys.period.offset_seconds.to_be_bytes());
        bytes.extend(keys.signing.as_bytes());
        bytes.extend(keys.revision.as_bytes());
        bytes.extend(&*keys.order);
        bytes.extend(keys.restricted.secret());
        bytes.extend(keys.open.ephemeral.as_bytes());
        for AuthClient { id, iv, cookie } in &keys.open.lines {
            bytes.extend(id.iter().chain(iv).chain(cookie));
        }
        bytes.extend(&**times);
        bytes.extend(seeds.first.0.to_be_bytes());
        bytes.extend(count(seeds.seeds.len()));
        bytes.extend(seeds.seeds.iter().flatten());
        bytes.extend(first.to_be_bytes());
        bytes.extend(count(made.len()));
        bytes.extend(made.iter().flatten());
        let digest: [u8; 32] = Sha256::digest(&*bytes).into();
        bytes.extend(digest);
        bytes
    }

    /// Reads what [`encode`](Self::encode) writes, and checks that it belongs together.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "it is damaged, or not copied to its end";
        let Some(after) = bytes.strip_prefix(MAGIC) else {
            let known = bytes.starts_with(&MAGIC[..MAGIC.len() - 1]);
            return Err(if known {
                "it is of a newer version of onionbraid"
            } else {
                "it is no file of `onionbraid keys export-periods`"
            });
        };
        let (body, digest) = after.split_last_chunk::<32>().ok_or(SHORT)?;
        let whole = &bytes[..bytes.len() - digest.len()];
        if <[u8; 32]>::from(Sha256::digest(whole)) != *digest {
            return Err(SHORT);
        }
        let parsed = Self::parse(&mut Reader::from_slice(body)).map_err(|_| SHORT)?;
        parsed.ok_or("what is in it does not belong together")
    }

    fn parse(from: &mut Reader<'_>) -> tor_bytes::Result<Option<Self>> {
        let address = OnionAddress::from_public_key(from.extract()?);
        let (number, length_minutes) = (from.take_u64()?, from.take_u32()?);
        let period = Period { number, length_minutes, offset_seconds: from.take_u32()? };
        let mut secret = || from.extract::<[u8; 32]>().map(Zeroizing::new);
        let (signing, revision, order, restricted) = (secret()?, secret()?, secret()?, secret()?);
        let ephemeral = curve25519::PublicKey::from(from.extract::<[u8; 32]>()?);
        let line = |from: &mut Reader<'_>| {
            Ok(AuthClient { id: from.extract()?, iv: from.extract()?, cookie: from.extract()? })
        };
        let lines = (0..CLIENTS_STEP).map(|_| line(from)).collect::<tor_bytes::Result<_>>()?;
        let times = from.extract::<[u8; 32]>().map(Zeroizing::new)?;
        let (first_slot, count) = (SeedSlot(from.take_u64()?), usize::from(from.take_u16()?));
        let mut seeds = Zeroizing::new(Vec::with_capacity(count));
        for _ in 0..count {
            seeds.push(from.extract::<Seed>()?);
        }
        let (first, count) = (from.take_u32()?, from.take_u16()?);
        let all = (0..count).map(|_| from.extract::<[u8; LENGTH]>());
        let all = all.collect::<tor_bytes::Result<Vec<_>>>()?;
        from.should_be_exhausted()?;

        let blinded = identity_key(&address).filter(|_| is_possible(period));
        let blinded = blinded.and_then(|key| key.compute_blinded_key(to_arti(period)).ok());
        let Some((blinded, subcredential)) = blinded else { return Ok(None) };
        let signing = ed25519::Keypair::from_bytes(&signing);
        let made = Made { first, all };
        let blinded = blinded.id();
        if !made.are_by(<[u8; 32]>::from(blinded).into(), &signing, period) {
            return Ok(None);
        }
        let keys = PeriodKeys {
            period,
            blinded,
            subcredential,
            signing,
            certificates: Certificates::Made(made),
            revision: RevisionKey::from_bytes(revision),
            order,
            open: Lock { ephemeral, lines, cookie: None },
            restricted: Derivation::from_secret(restricted),
        };
        Ok(Some(Self { address, times, keys, seeds: PeriodSeeds { first: first_slot, seeds } }))
    }
}

fn count(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}
