//! What the local instances of a service offer to publishers of other addresses
//! (`frontends`), over control links.
//!
//! Their points, as the service's own descriptor would list them without a limit
//! of the operator's. Remote backends of the service answer for its address alone
//! and are left out.

use super::backend::TrackedBackend;
use super::link::{Condition, Offered};
use super::operator::Word;
use crate::onion::{Capabilities, IntroPoint, MAX_INTRO_POINTS};

/// Of the `local` instances, of which these are `live`: one point of each in turn,
/// and no more than a descriptor holds.
pub(super) fn offered<'a>(
    local: &[&TrackedBackend],
    live: impl Iterator<Item = &'a TrackedBackend>,
    ending: bool,
    origins_down: bool,
) -> Offered {
    let live: Vec<_> = live.collect();
    let mut points: Vec<(usize, usize, &IntroPoint)> = Vec::new();
    for (instance, backend) in live.iter().enumerate() {
        let each = backend.points().iter().enumerate();
        points.extend(each.map(|(turn, point)| (turn, instance, point)));
    }
    points.sort_by_key(|(turn, instance, _)| (*turn, *instance));
    let points = points.into_iter().take(MAX_INTRO_POINTS);
    let points: Vec<_> = points.map(|(.., point)| point.clone()).collect();
    let condition = if ending {
        Condition::Ending
    } else if !points.is_empty() {
        Condition::Serving
    } else if origins_down {
        Condition::Broken
    } else if local.iter().all(|instance| instance.operator().word != Word::Ready) {
        Condition::Drained
    } else {
        Condition::Unestablished
    };
    let capabilities = Capabilities::merged(live.iter().map(|it| it.offer().capabilities()));
    Offered { condition, points, capabilities, ..Offered::default() }
}
