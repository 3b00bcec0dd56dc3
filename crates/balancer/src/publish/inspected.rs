//! Draws the consequences of what an HSDir holds that was asked for it: one of a
//! canary's looks, or a question after a refusal.

use std::time::SystemTime;

use super::super::canary::judge;
use super::super::fact::{FetchFailure, FetchedDescriptor, Now};
use super::super::memory::{self, CountedPeriod};
use super::super::others::{self, Comparison, LivePoints};
use super::super::settings::Publishers;
use super::Publisher;
use crate::onion::{Period, RelayId, SessionId};
use crate::status::CanaryOutcome;

/// What it holds, and if that is signed with our key, its revision, and up to which moment that
/// is counted.
type Seen<'a> = (&'a Result<FetchedDescriptor, FetchFailure>, Option<u64>, Option<SystemTime>);

impl Publisher {
    /// An HSDir has been asked what it holds. `live` are the points of live
    /// backends.
    pub(crate) fn inspected(
        &mut self,
        (period, relay): (Period, RelayId),
        (outcome, signed, counted_to): Seen<'_>,
        live: &LivePoints,
        now: Now,
    ) {
        let refused = self.refusals.answered(period, relay);
        if let (Some(_), Some(moment)) = (refused, counted_to) {
            self.count_beyond(period, moment, now);
        }
        let ring = self.rings.iter_mut().find(|ring| ring.view.current);
        let Some(ring) = ring.filter(|ring| ring.view.period == period) else { return };
        let target = ring.target(&relay);
        let Some(hsdir) = ring.hsdirs.get_mut(&relay) else { return };
        let looked = self.canary.expects(period, relay, hsdir.taken());
        if !(looked || refused == Some(hsdir.taken())) || hsdir.is_uploading() {
            return;
        }
        let at = now.monotonic;
        let ours = |session: &SessionId| self.ours.contains(session);
        let verdict = judge(outcome, signed, hsdir.taken(), ours);
        let noted = match (verdict, outcome, self.publishers) {
            (CanaryOutcome::Foreign, Ok(seen), Publishers::One) => {
                self.canary.warn(relay, seen.revision, now);
                CanaryOutcome::Foreign
            }
            (CanaryOutcome::Foreign, Err(_), publishers) => {
                let revision = signed.unwrap_or_default();
                hsdir.saw(revision, at);
                match publishers {
                    Publishers::One => self.canary.warn(relay, revision, now),
                    Publishers::Several => {
                        self.canary.warn_of_other_readers(relay, revision, now);
                        ring.hsdirs.values_mut().for_each(|hsdir| hsdir.correct(at));
                    }
                }
                CanaryOutcome::Foreign
            }
            (CanaryOutcome::Foreign, Ok(seen), Publishers::Several) => {
                match others::compare(seen, &self.listed, target.set, live) {
                    Comparison::Same => hsdir.credit(target, seen.revision, at),
                    Comparison::AsGood(points) => {
                        hsdir.credit(target, seen.revision, at);
                        self.seen = Some(vec![points]);
                    }
                    Comparison::Tolerated => hsdir.saw(seen.revision, at),
                    // It went to all HSDirs.
                    Comparison::Worse => {
                        hsdir.saw(seen.revision, at);
                        ring.hsdirs.values_mut().for_each(|hsdir| hsdir.correct(at));
                    }
                }
                CanaryOutcome::Ok
            }
            (CanaryOutcome::Old | CanaryOutcome::Missing, ..) => {
                hsdir.repair(at);
                verdict
            }
            (CanaryOutcome::Ok, Ok(seen), _) => {
                hsdir.saw(seen.revision, at);
                verdict
            }
            _ => verdict,
        };
        self.canary.note(noted, now);
    }

    /// Revisions of a period are known to be counted beyond this moment. One that no
    /// clock shows with which Tor would work is not followed: whoever has the key can
    /// count as high as they like.
    fn count_beyond(&mut self, period: Period, moment: SystemTime, now: Now) {
        let counted = CountedPeriod { period, as_of: memory::written(moment) };
        let Some(ring) = self.rings.iter_mut().find(|ring| ring.view.period == period) else {
            return;
        };
        if !counted.is_possible(now.wall) {
            return;
        }
        let newest = self.counted.entry(period).or_insert(moment);
        *newest = moment.max(*newest);
        for hsdir in ring.hsdirs.values_mut() {
            hsdir.count_beyond(moment, now.monotonic);
        }
    }
}
