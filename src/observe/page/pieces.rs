//! What the pages are made of: states in words, tables, numbers beside limits.

use maud::{Markup, html};

/// A state in a word.
pub(super) fn state(word: &str, is_good: bool) -> Markup {
    html! { span class=(if is_good { "good" } else { "bad" }) { (word) } }
}

/// A table that scrolls by itself where the window is narrow, below the heading
/// with this name.
pub(super) fn table(heading: &str, caption: &str, rows: Markup) -> Markup {
    html! {
        div.scrolls role="region" aria-labelledby=(heading) tabindex="0" {
            table { caption { (caption) } (rows) }
        }
    }
}

/// A number beside its limit, if it has one.
pub(super) fn of_limit(what: &str, value: f64, limit: f64, write: fn(f64) -> String) -> Markup {
    html! {
        (write(value))
        @if limit > 0.0 {
            " of " (write(limit))
            meter aria-label=(what) min="0" max=(limit) high=(limit * 0.8) optimum="0" value=(value.min(limit)) {}
        }
    }
}
