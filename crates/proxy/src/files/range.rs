//! The part of a file that a `Range` asks for (RFC 9110, section 14). Pure.
//!
//! One part, or all of the file: several parts, unknown units and what is no
//! range are ignored, as section 14.2 allows. The library knows how to send a
//! part; what it is asked for has two ends within the file.

use http::HeaderValue;

/// One range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// From this one to that one, or to the end.
    From(u64, Option<u64>),
    /// So many at the end.
    Last(u64),
}

impl Range {
    /// The range in the fields of this name, if it is one and one alone.
    pub(super) fn of<'a>(mut fields: impl Iterator<Item = &'a HeaderValue>) -> Option<Self> {
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        let (unit, set) = field.to_str().ok()?.split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let blank = [' ', '\t'];
        let mut members = set.split(',').map(|range| range.trim_matches(blank));
        let mut members = members.by_ref().filter(|range| !range.is_empty());
        let (Some(range), None) = (members.next(), members.next()) else { return None };
        match range.split_once('-')? {
            ("", last) => number(last).map(Self::Last),
            (first, "") => number(first).map(|first| Self::From(first, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// As the library is asked for it, in a file of this length; `None`: all of
    /// it. An empty file has no parts.
    pub(super) fn within(self, length: u64) -> Option<HeaderValue> {
        let last_byte = length.checked_sub(1)?;
        let (first, last) = match self {
            Self::From(first, last) => (first, last.unwrap_or(last_byte).min(last_byte)),
            Self::Last(count) => (length.saturating_sub(count), last_byte),
        };
        let range = match first > last_byte {
            true => format!("bytes={length}-"),
            false => format!("bytes={first}-{last}"),
        };
        HeaderValue::try_from(range).ok()
    }
}

/// Digits; what is beyond all bounds is as large as can be.
fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX))
}
