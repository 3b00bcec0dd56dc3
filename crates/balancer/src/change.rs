//! When a change of what should be published is due: soon, but together with the
//! changes that follow it, and never without end.

use std::time::{Duration, Instant};

use super::content::Content;
use super::schedule::{Alarm, Allowance};
use crate::onion::Access;

/// How long the first publication waits for further points and backends once the first
/// point is known: clients should not long be without any. C tor waits until all of a
/// service's points are established, so HSDirs know a first descriptor with fewer of them
/// as none of its.
const GATHER: Duration = Duration::from_secs(6);
/// How long after a change further ones are waited for, and for how long at
/// most. A point that does not work costs clients retries ...
const URGENT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// ... somebody waits for what was asked for, ...
const ASKED_FOR: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// ... one that is not listed yet costs nobody anything.
const ADDITION: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
/// However often the points change, a change is published at most 6 times at
/// once and every two minutes in the long run.
const CHANGES: Allowance = Allowance::new(6, Duration::from_secs(2 * 60));

/// What would be lost by waiting for a change, from nothing to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Clients hardly notice.
    None,
    /// Clients find nothing that works.
    AllGone,
    /// Somebody waits for it.
    AskedFor,
}

/// What should be published and is not yet.
#[derive(Debug)]
pub(super) struct Changes {
    pending: Option<PendingChange>,
    allowance: Allowance,
    /// Whether the next change is one that somebody waits for.
    hurried: bool,
}

#[derive(Debug)]
struct PendingChange {
    content: Content,
    first: Instant,
    last: Instant,
}

impl Default for Changes {
    fn default() -> Self {
        Self { pending: None, allowance: CHANGES, hurried: false }
    }
}

impl Changes {
    /// Notes what is wanted, and since when it differs from what is published.
    pub(super) fn note(
        &mut self,
        wanted: Option<Content>,
        published: Option<&Content>,
        now: Instant,
    ) {
        self.pending = match (self.pending.take(), wanted) {
            (_, None) => None,
            (_, Some(content)) if published == Some(&content) => {
                // Nothing came of what was asked for.
                self.hurried = false;
                None
            }
            (Some(change), Some(content)) if change.content == content => Some(change),
            (change, Some(content)) => {
                let first = change.map_or(now, |change| change.first);
                Some(PendingChange { content, first, last: now })
            }
        };
    }

    /// The change that a round is due for, if one is: it counts as published.
    ///
    /// The first one waits until the backends are `settled`, the others while
    /// HSDirs are `uploading`, so that few of them get two descriptors in a row;
    /// slow ones hold the others up only so long. `at_once`: nothing more is to be
    /// waited for.
    pub(super) fn take_due(
        &mut self,
        published: Option<&Content>,
        settled: bool,
        uploading: bool,
        at_once: bool,
        alarm: &mut Alarm,
    ) -> Option<Content> {
        let change = self.pending.as_ref()?;
        let due = match published {
            None => settled || alarm.reached(change.first + GATHER),
            Some(published) => {
                let adds = change.content.adds_to(published);
                let (quiet, patience) = match adds {
                    _ if self.hurried => ASKED_FOR,
                    true => ADDITION,
                    false => URGENT,
                };
                let latest = change.first + patience;
                let at = if uploading { latest } else { latest.min(change.last + quiet) };
                (at_once || alarm.reached(at)) && self.allowance.permits(alarm)
            }
        };
        if due && published.is_some() {
            self.allowance.take(alarm.now());
            self.hurried = false;
        }
        self.pending.take_if(|_| due).map(|change| change.content)
    }

    /// Another publisher's descriptor makes up for it.
    pub(super) fn drop_pending(&mut self) {
        self.pending = None;
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether what is pending is for other readers than these.
    pub(super) fn is_for_others(&self, access: &Access) -> bool {
        self.pending.as_ref().is_some_and(|change| change.content.access != *access)
    }

    /// Lets one more change be published at once, and whatever HSDirs took a moment
    /// ago: a backend has left.
    pub(super) fn allow_one(&mut self, now: Instant) {
        self.allowance.grant_one(now);
        self.hurried = true;
    }

    /// Lets the next changes be published at once, however many there were
    /// before, and whatever HSDirs took a moment ago.
    pub(super) fn allow(&mut self) {
        self.allowance = CHANGES;
        self.hurried = true;
    }

    /// Whether some backend would stay listed with what is pending, be it with other points.
    pub(super) fn keeps_a_backend_of(&self, published: Option<&Content>) -> bool {
        let pending = self.pending.as_ref().map(|change| &change.content);
        pending.zip(published).is_some_and(|(pending, before)| pending.keeps_a_backend_of(before))
    }

    /// What would be lost by waiting for what is pending.
    pub(super) fn urgency(&self, published: Option<&Content>) -> Urgency {
        let Some(change) = &self.pending else { return Urgency::None };
        let keeps_any = published.is_none_or(|published| change.content.keeps_any_of(published));
        match (self.hurried, keeps_any) {
            (true, _) => Urgency::AskedFor,
            (false, false) => Urgency::AllGone,
            (false, true) => Urgency::None,
        }
    }
}
