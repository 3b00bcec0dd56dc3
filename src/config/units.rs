//! How times, sizes and statuses are written: read from text, and written again.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::document::Value;
use super::error::ConfigReport;
use super::reader::TableItem;

/// Multiples of a byte, the larger ones first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// From here on a largest size only keeps numbers from overflowing.
const ENDLESS: u64 = 1 << 50;

/// Reads a time such as `"90s"`, within a range.
pub(crate) fn time(
    item: &TableItem<'_>,
    range: RangeInclusive<Duration>,
    report: &mut ConfigReport,
) -> Option<Duration> {
    let wanted = format!(
        "a time from \"{}\" to \"{}\"",
        humantime::format_duration(*range.start()),
        humantime::format_duration(*range.end())
    );
    let text = item.text(&wanted, report)?;
    let time = humantime::parse_duration(text).ok().filter(|time| range.contains(time));
    if time.is_none() {
        item.wrong(format!("this must be {wanted}"), report);
    }
    time
}

/// A time as [`time`] reads it.
pub(crate) fn time_value(time: Duration) -> toml::Value {
    humantime::format_duration(time).to_string().into()
}

/// Reads a number of bytes: an integer, or text such as `"10 MB"` or `"64KiB"`.
pub(crate) fn size(
    item: &TableItem<'_>,
    range: RangeInclusive<u64>,
    report: &mut ConfigReport,
) -> Option<u64> {
    let size = match &item.node.value {
        Value::Scalar(toml::Value::Integer(bytes)) => u64::try_from(*bytes).ok(),
        Value::Scalar(toml::Value::String(text)) => parse_size(text),
        _ => None,
    };
    let size = size.filter(|size| range.contains(size));
    if size.is_none() {
        let (least, most) = (size_value(*range.start()), size_value(*range.end()));
        // More than anybody has is no limit worth a word.
        let within = match (*range.start(), *range.end()) {
            (0, ENDLESS..) => String::new(),
            (_, ENDLESS..) => format!(" of at least {least}"),
            _ => format!(" from {least} to {most}"),
        };
        let problem = format!(
            "this must be a size{within}: a number of bytes, or text such as \"64 KiB\" or \"10 MB\""
        );
        item.wrong(problem, report);
    }
    size
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A size as [`size`] reads it: in the largest unit that divides it.
pub(crate) fn size_value(bytes: u64) -> toml::Value {
    let whole = |(_, factor): &&(&str, u64)| {
        factor.is_power_of_two() && *factor > 1 && bytes > 0 && bytes.is_multiple_of(*factor)
    };
    match UNITS.iter().find(whole) {
        Some((unit, factor)) => format!("{} {unit}", bytes / factor).into(),
        None => i64::try_from(bytes).map_or_else(|_| format!("{bytes} B").into(), Into::into),
    }
}

/// Statuses: `"404"`, or `"502-504"`.
pub(crate) fn statuses(text: &str, within: &RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|status| digits && within.contains(status))
    };
    let range = status(first)?..=status(last)?;
    (!range.is_empty()).then_some(range)
}

/// Statuses as [`statuses`] reads them.
pub(crate) fn statuses_text(range: &RangeInclusive<u16>) -> String {
    match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

/// A path, which Arti would expand in a plain string if it has `~` or `${...}`.
pub(crate) fn path(path: &Path) -> toml::Value {
    let path = path.to_string_lossy().into_owned();
    let plain = !path.contains(['$', '~']);
    let path = toml::Value::from(path);
    if plain { path } else { table([("literal", path)]) }
}

/// A table of these entries.
pub(crate) fn table<const N: usize>(entries: [(&str, toml::Value); N]) -> toml::Value {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<toml::Table>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_of_some_unit() {
        assert_eq!(parse_size("10 MB"), Some(10_000_000));
        assert_eq!(parse_size("64KiB"), Some(65536));
        assert_eq!(parse_size("1 gib"), Some(1 << 30));
        assert_eq!(parse_size("7B"), Some(7));
        for wrong in ["", "MB", "1.5 MB", "-1 MB", "10", "10  MB", "10 XB", "99999999999 TiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_is_written_so_that_it_reads_as_the_same() {
        for bytes in [0, 1, 1000, 1024, 1536, 10_000_000, 1 << 20, 3 << 40, u64::MAX] {
            let read = match size_value(bytes) {
                toml::Value::String(text) => parse_size(&text),
                value => value.as_integer().and_then(|bytes| bytes.try_into().ok()),
            };
            assert_eq!(read, Some(bytes));
        }
        assert_eq!(size_value(64 * 1024), "64 KiB".into());
    }

    #[test]
    fn statuses_are_one_or_a_range() {
        assert_eq!(statuses("404", &(400..=599)), Some(404..=404));
        assert_eq!(statuses("502-504", &(400..=599)), Some(502..=504));
        for wrong in ["", "-", "600", "399", "504-502", "404-", "+404", "0404", "4xx", "500-600"] {
            assert_eq!(statuses(wrong, &(400..=599)), None, "{wrong}");
        }
    }
}
