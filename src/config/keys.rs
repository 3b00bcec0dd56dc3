//! Keys that stand in one place of the code: their name, where their value goes, and
//! the form in which it is written. Reading a file and showing the configuration in
//! force are two passes over the same keys.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::ConfigReport;
use super::reader::{TableItem, TableReader};
use super::units;

/// How a value is written in the file.
pub(crate) trait ValueForm<T> {
    /// Reads it; `None`: it is wrong, which has been reported.
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<T>;

    /// What [`read`](Self::read) makes this value of.
    fn show(&self, value: &T) -> toml::Value;
}

/// What is done with the keys of a table.
pub(crate) enum Pass<'r, 'a> {
    /// Those that are there set their values.
    Read(&'r mut TableReader<'a>, &'r mut ConfigReport),
    /// All values are written there.
    Show(&'r mut toml::Table),
}

impl<'a> Pass<'_, 'a> {
    /// A key of the table, and where its value is. What is wrong leaves it as it is.
    /// The item, if it was read.
    pub(crate) fn key<T>(
        &mut self,
        key: &'static str,
        value: &mut T,
        form: impl ValueForm<T>,
    ) -> Option<TableItem<'a>> {
        match self {
            Self::Read(table, report) => {
                let item = table.get(key)?;
                if let Some(read) = form.read(&item, report) {
                    *value = read;
                }
                Some(item)
            }
            Self::Show(table) => {
                table.insert(key.to_owned(), form.show(value));
                None
            }
        }
    }

    /// A key that is shown only where it has a value.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        value: &mut Option<T>,
        form: impl ValueForm<T>,
    ) -> Option<TableItem<'a>> {
        match self {
            Self::Read(table, report) => {
                let item = table.get(key)?;
                *value = form.read(&item, report);
                Some(item)
            }
            Self::Show(table) => {
                let shown = value.as_ref().map(|value| form.show(value));
                table.extend(shown.map(|shown| (key.to_owned(), shown)));
                None
            }
        }
    }

    /// Reports what is wrong with an item, though it could be read.
    pub(crate) fn wrong(&mut self, item: &TableItem<'_>, right: impl Display) {
        if let Self::Read(_, report) = self {
            item.wrong(right, report);
        }
    }

    /// Warns of an item that is accepted and perhaps not meant.
    pub(crate) fn warn(&mut self, item: &TableItem<'_>, text: &str) {
        if let Self::Read(_, report) = self {
            report.warn(item.place(), &item.path, text);
        }
    }
}

/// All keys of a table with these values.
pub(crate) fn show<T: Clone>(keys: impl Fn(&mut Pass<'_, '_>, &mut T), values: &T) -> toml::Table {
    let mut table = toml::Table::new();
    keys(&mut Pass::Show(&mut table), &mut values.clone());
    table
}

/// The form of a single key.
pub(crate) struct SingleKey<R, S>(R, S);

/// How it is read, and how it is shown.
pub(crate) fn own<T, R, S>(read: R, show: S) -> SingleKey<R, S>
where
    R: Fn(&TableItem<'_>, &mut ConfigReport) -> Option<T>,
    S: Fn(&T) -> toml::Value,
{
    SingleKey(read, show)
}

impl<T, R, S> ValueForm<T> for SingleKey<R, S>
where
    R: Fn(&TableItem<'_>, &mut ConfigReport) -> Option<T>,
    S: Fn(&T) -> toml::Value,
{
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<T> {
        (self.0)(item, report)
    }

    fn show(&self, value: &T) -> toml::Value {
        (self.1)(value)
    }
}

/// `true` or `false`.
pub(crate) struct Switch;

impl ValueForm<bool> for Switch {
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<bool> {
        item.boolean(report)
    }

    fn show(&self, value: &bool) -> toml::Value {
        (*value).into()
    }
}

/// A time within a range.
pub(crate) struct Time(pub(crate) RangeInclusive<Duration>);

impl ValueForm<Duration> for Time {
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Duration> {
        units::time(item, self.0.clone(), report)
    }

    fn show(&self, value: &Duration) -> toml::Value {
        units::time_value(*value)
    }
}

/// A number of bytes within a range.
pub(crate) struct Size(pub(crate) RangeInclusive<u64>);

impl ValueForm<u64> for Size {
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<u64> {
        units::size(item, self.0.clone(), report)
    }

    fn show(&self, value: &u64) -> toml::Value {
        units::size_value(*value)
    }
}

impl ValueForm<usize> for Size {
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<usize> {
        units::size(item, self.0.clone(), report)?.try_into().ok()
    }

    fn show(&self, value: &usize) -> toml::Value {
        units::size_value(u64::try_from(*value).unwrap_or(u64::MAX))
    }
}

/// An integer within a range.
pub(crate) struct Integer<N>(pub(crate) RangeInclusive<N>);

impl<N: TryFrom<i64> + TryInto<i64> + PartialOrd + Display + Copy> ValueForm<N> for Integer<N> {
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<N> {
        item.integer(self.0.clone(), report)
    }

    fn show(&self, value: &N) -> toml::Value {
        (*value).try_into().unwrap_or(i64::MAX).into()
    }
}

/// One of a few words.
pub(crate) struct Words<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> ValueForm<T> for Words<T> {
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<T> {
        item.word(self.0, report)
    }

    fn show(&self, value: &T) -> toml::Value {
        self.0.iter().find(|(_, other)| other == value).map_or("", |(word, _)| word).into()
    }
}

/// What `false` switches off.
pub(crate) struct OrFalse<F>(pub(crate) F);

impl<T, F: ValueForm<T>> ValueForm<Option<T>> for OrFalse<F> {
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Option<T>> {
        item.unless_false(report, |item, report| self.0.read(item, report))
    }

    fn show(&self, value: &Option<T>) -> toml::Value {
        value.as_ref().map_or_else(|| false.into(), |value| self.0.show(value))
    }
}

/// A table of keys; those that are missing have their defaults.
pub(crate) struct KeyTable<T>(pub(crate) fn(&mut Pass<'_, '_>, &mut T));

impl<T: Clone + Default> ValueForm<T> for KeyTable<T> {
    fn read(&self, item: &TableItem<'_>, report: &mut ConfigReport) -> Option<T> {
        let mut table = item.table(report)?;
        let mut value = T::default();
        (self.0)(&mut Pass::Read(&mut table, report), &mut value);
        table.finish(report);
        Some(value)
    }

    fn show(&self, value: &T) -> toml::Value {
        show(self.0, value).into()
    }
}

/// Texts, as they are.
#[expect(clippy::ptr_arg, reason = "it is the form of a value of this type")]
pub(crate) fn texts(texts: &Vec<String>) -> toml::Value {
    texts.clone().into()
}

/// An array of what is shown each by itself.
pub(crate) fn array<T>(values: &[T], show: impl Fn(&T) -> toml::Value) -> toml::Value {
    toml::Value::Array(values.iter().map(show).collect())
}
