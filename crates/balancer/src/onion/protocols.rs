//! Subprotocol versions as a descriptor lists them: `Name=Versions`, separated by
//! spaces (tor-spec, "Subprotocol versioning").

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The highest version that a subprotocol can have.
const MAX_VERSION: u32 = 63;

/// A set of subprotocol versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocols {
    /// Bit `n` stands for version `n`; no entry is 0.
    versions: BTreeMap<String, u64>,
}

/// Why a text is not a list of subprotocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of subprotocol versions such as \"FlowCtrl=1-2 Relay=5\"")]
pub struct ProtocolsError;

impl Protocols {
    /// The versions that both sets have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let common = self.versions.iter().filter_map(|(name, mine)| {
            let both = mine & other.versions.get(name)?;
            (both != 0).then(|| (name.clone(), both))
        });
        Self { versions: common.collect() }
    }

    /// Whether no version of any subprotocol is in it.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }
}

impl FromStr for Protocols {
    type Err = ProtocolsError;

    fn from_str(text: &str) -> Result<Self, ProtocolsError> {
        let mut versions = BTreeMap::new();
        for entry in text.split_ascii_whitespace() {
            let (name, list) = entry.split_once('=').ok_or(ProtocolsError)?;
            let is_keyword = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if name.is_empty() || !name.bytes().all(is_keyword) || versions.contains_key(name) {
                return Err(ProtocolsError);
            }
            let mut bits = 0;
            for range in list.split(',').filter(|_| !list.is_empty()) {
                bits |= bits_of(range).ok_or(ProtocolsError)?;
            }
            if bits != 0 {
                versions.insert(name.to_owned(), bits);
            }
        }
        Ok(Self { versions })
    }
}

/// `3` or `2-5`.
fn bits_of(range: &str) -> Option<u64> {
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|&number| plain && number <= MAX_VERSION)
    };
    let (low, high) = match range.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(range)?, number(range)?),
    };
    (low <= high).then(|| (u64::MAX >> (MAX_VERSION - high)) & (u64::MAX << low))
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, bits)) in self.versions.iter().enumerate() {
            write!(f, "{}{name}=", if place == 0 { "" } else { " " })?;
            let mut left = *bits;
            let mut separator = "";
            while left != 0 {
                let low = left.trailing_zeros();
                let length = (left >> low).trailing_ones();
                let high = low + length - 1;
                match length {
                    1 => write!(f, "{separator}{low}")?,
                    _ => write!(f, "{separator}{low}-{high}")?,
                }
                left &= !((u64::MAX >> (MAX_VERSION - high)) & (u64::MAX << low));
                separator = ",";
            }
        }
        Ok(())
    }
}

impl Serialize for Protocols {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Protocols {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_written_as_tor_writes_them() {
        for (text, written) in [
            ("", ""),
            ("FlowCtrl=1-2", "FlowCtrl=1-2"),
            ("Relay=1,2,3,5 Cons=1-2", "Cons=1-2 Relay=1-3,5"),
            ("A=0,63", "A=0,63"),
            ("A=0-63", "A=0-63"),
            ("A=", ""),
        ] {
            let protocols: Protocols = text.parse().unwrap();
            assert_eq!(protocols.to_string(), written);
            assert_eq!(written.parse(), Ok(protocols));
        }
    }

    #[test]
    fn what_tor_would_not_read_is_refused() {
        for text in ["A", "A=64", "A=3-2", "=1", "A=1,", "A=-1", "A=+1", "A=x", "A=1 A=2", "A_=1"] {
            assert_eq!(text.parse::<Protocols>(), Err(ProtocolsError), "{text}");
        }
    }
}
