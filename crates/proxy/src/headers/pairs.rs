//! Which name stands for another, by the operator's pairs of names. Pure.
//!
//! Only whole names match: `example.com` and what lies below it, but neither
//! `notexample.com` nor `example.com.evil`. Of several that match, the longest
//! decides.

use std::cmp::Reverse;

use crate::host;
use crate::settings::HeaderSettings;
use crate::visitor::Visitor;

/// What a name becomes.
pub(super) struct NameChange<'a> {
    /// The labels that stay in front.
    pub(super) labels: &'a str,
    /// The name that it lies below now.
    pub(super) name: &'a str,
    /// How specific the rule is that says so: the longest decides.
    length: usize,
    /// Whether it is the same name, under another scheme.
    same: bool,
}

/// The public name that an onion name stands for, as the settings say.
pub(super) fn public(settings: &HeaderSettings, visitor: &Visitor, name: &str) -> Option<String> {
    change(settings, visitor, name, false).map(|change| format!("{}{}", change.labels, change.name))
}

/// What a name becomes; of rules of one length, the first with the address that
/// the visitor has connected to.
pub(super) fn change<'n>(
    settings: &'n HeaderSettings,
    visitor: &'n Visitor,
    name: &'n str,
    to_visitor: bool,
) -> Option<NameChange<'n>> {
    let pairs = settings.names.iter().filter_map(|pair| {
        let onion = pair.onion.as_deref().unwrap_or(&visitor.onion);
        let (from, to) = match to_visitor {
            true => (pair.public.as_str(), onion),
            false => (onion, pair.public.as_str()),
        };
        let labels = host::below(name, from)?;
        Some(NameChange { labels, name: to, length: from.len(), same: false })
    });
    // An origin that is told another scheme than the visitor's writes it
    // before the visitor's own name too.
    let own = host::below(name, &visitor.onion)
        .filter(|_| to_visitor && settings.scheme() != visitor.scheme())
        .map(|labels| {
            let name = visitor.onion.as_str();
            NameChange { labels, name, length: name.len(), same: true }
        });
    let ours = |change: &NameChange<'_>| host::below(change.name, &visitor.onion).is_some();
    pairs.chain(own).min_by_key(|change| (Reverse(change.length), change.same, !ours(change)))
}
