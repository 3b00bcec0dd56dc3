//! What a backend has to offer to descriptors: the points of it that may be
//! listed.
//!
//! The only way by which points reach the balancer's decisions, whether an
//! instance, a descriptor or the memory of an earlier process has them. So a
//! point with a [`PointFlaw`] is dropped here, whoever brings it, and the backend
//! keeps its others.

use std::collections::BTreeSet;

use crate::onion::{Capabilities, IntroPoint, MAX_INTRO_POINTS, PointFlaw};

/// A backend's points and what it promises for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Offer {
    points: Vec<IntroPoint>,
    capabilities: Capabilities,
    flaw: Option<PointFlaw>,
}

impl Offer {
    /// Keeps those of the points that may be listed, each session once and no
    /// more than a descriptor holds. `found` is what was wrong with points that
    /// were left out before. Those that were offered `before` need no new look,
    /// which costs the decompression of a key.
    pub(super) fn new(
        points: Vec<IntroPoint>,
        capabilities: Capabilities,
        found: Option<PointFlaw>,
        before: &Self,
    ) -> Self {
        let flaw = |point: &IntroPoint| {
            let is_known = before.points.contains(point);
            if is_known { None } else { point.flaw() }
        };
        let mut offer = Self { points: Vec::new(), capabilities, flaw: found };
        let mut sessions = BTreeSet::new();
        for point in points.into_iter().take(MAX_INTRO_POINTS) {
            let again = !sessions.insert(point.session_id);
            match again.then_some(PointFlaw::Duplicate).or_else(|| flaw(&point)) {
                Some(flaw) => offer.flaw = offer.flaw.or(Some(flaw)),
                None => offer.points.push(point),
            }
        }
        offer
    }

    /// Those that may be listed, in the backend's order.
    pub(super) fn points(&self) -> &[IntroPoint] {
        &self.points
    }

    /// What the backend keeps for all of them.
    pub(super) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What is wrong with the first point that was dropped, if one was.
    pub(super) fn flaw(&self) -> Option<PointFlaw> {
        self.flaw
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::point;
    use super::*;
    use crate::onion::SessionId;

    fn offer(points: Vec<IntroPoint>) -> (Vec<IntroPoint>, Option<PointFlaw>) {
        let offer = Offer::new(points, Capabilities::default(), None, &Offer::default());
        (offer.points, offer.flaw)
    }

    #[test]
    fn a_point_with_a_bad_key_is_dropped_and_the_others_stay() {
        let zero_relay = IntroPoint { relay_ntor_key: [0; 32], ..point(1, 1) };
        let zero_service = IntroPoint { service_ntor_key: [0; 32], ..point(2, 2) };
        let zero_session = IntroPoint { session_id: SessionId([0; 32]), ..point(3, 3) };
        let points = vec![zero_relay, point(4, 4), zero_service, zero_session, point(5, 5)];
        assert_eq!(offer(points), (vec![point(4, 4), point(5, 5)], Some(PointFlaw::Key)));
    }

    #[test]
    fn a_session_is_offered_once_and_nobody_offers_more_than_a_descriptor_holds() {
        let twice = IntroPoint { service_ntor_key: [6; 32], ..point(1, 2) };
        assert_eq!(
            offer(vec![point(1, 1), twice]),
            (vec![point(1, 1)], Some(PointFlaw::Duplicate))
        );
        let many = (1..=100).map(|n| point(n, n)).collect();
        assert_eq!(offer(many).0.len(), MAX_INTRO_POINTS);
    }

    #[test]
    fn what_was_left_out_before_is_told_as_well() {
        let found = Some(PointFlaw::PrivateAddress);
        let offer =
            Offer::new(vec![point(1, 1)], Capabilities::default(), found, &Offer::default());
        assert_eq!((offer.points().len(), offer.flaw()), (1, found));
    }
}
