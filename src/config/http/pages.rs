//! What clients see when we answer in an origin's place: the keys `error_pages` and
//! `error_style`.

use std::ops::RangeInclusive;

use crate::config::error::{ConfigReport, Expected};
use crate::config::files;
use crate::config::keys::{ValueForm, own};
use crate::config::reader::TableItem;
use crate::config::units;
use onionbraid_proxy::settings::{ErrorPage, ErrorStyle};

/// The answers that are ours to give.
const WITHIN: RangeInclusive<u16> = 400..=599;

/// The words of `error_style`.
pub(super) const STYLES: [(&str, ErrorStyle); 2] =
    [("plain", ErrorStyle::Plain), ("nginx", ErrorStyle::Nginx)];

/// `error_pages`: a file for each status, or range of them.
pub(super) fn form() -> impl ValueForm<Vec<ErrorPage>> {
    own(read, |pages: &Vec<ErrorPage>| {
        let entry =
            |page: &ErrorPage| (units::statuses_text(&page.status), units::path(&page.file));
        pages.iter().map(entry).collect::<toml::Table>().into()
    })
}

fn read(item: &TableItem<'_>, report: &mut ConfigReport) -> Option<Vec<ErrorPage>> {
    let mut pages: Vec<ErrorPage> = Vec::new();
    for (name, entry) in item.entries(report)? {
        let Some(status) = units::statuses(name, &WITHIN) else {
            entry.wrong(
                "a page is for a status from 400 to 599, or a range: \"403\", \"502-504\"",
                report,
            );
            continue;
        };
        let file = files::read(&entry, Expected::Page, report);
        let overlaps = |page: &&ErrorPage| {
            page.status.start() <= status.end() && status.start() <= page.status.end()
        };
        if let Some(other) = pages.iter().find(overlaps) {
            let other = units::statuses_text(&other.status);
            entry.wrong(format!("\"{other}\" names a page for some of these already"), report);
        } else if let Some(file) = file {
            pages.push(ErrorPage { status, file });
        }
    }
    Some(pages)
}
