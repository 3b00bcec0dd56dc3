//! The places of introduction points in descriptors, while they are given out:
//! what may be listed, who has which place, and what is taken.
//!
//! It keeps the books for [`select`](super::select) and
//! [`distinct`](super::distinct), which decide.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Index, IndexMut};

use super::fact::BackendId;
use super::quota::{Claim, quotas};
use crate::onion::{IntroPoint, RelayId, SessionId};

/// A live backend and what it has to offer.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackendOffer<'a> {
    pub(super) backend: BackendId,
    /// Its share of the traffic relative to the others; 0 counts as 1.
    pub(super) weight: u16,
    pub(super) points: &'a [IntroPoint],
}

/// A point in the descriptor, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) backend: BackendId,
    pub(super) point: IntroPoint,
}

/// One of the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BackendIndex(usize);

/// One of the points of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PointIndex(usize);

/// One of the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetIndex(usize);

/// A point that has a place, or could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    pub(super) who: BackendIndex,
    pub(super) what: PointIndex,
}

/// Who has which place in which descriptor.
pub(super) struct Seating<'a> {
    shares: Vec<BackendShare<'a>>,
    drafts: Vec<DraftSet>,
    /// How many places a descriptor has.
    room: usize,
}

/// A backend and its places.
pub(super) struct BackendShare<'a> {
    backend: BackendId,
    weight: u16,
    /// What it may list: by session, until [`Seating::prefer_listed`].
    points: Vec<ListablePoint<'a>>,
    /// How many places it has ...
    pub(super) places: usize,
    /// ... and should have.
    pub(super) quota: usize,
}

struct ListablePoint<'a> {
    point: &'a IntroPoint,
    /// Its place in what is listed so far.
    rank: Option<usize>,
    /// In how many places it is.
    uses: usize,
}

/// A descriptor while it is put together.
pub(super) struct DraftSet {
    pub(super) replica: u8,
    /// In the order of the list.
    pub(super) places: Vec<Seat>,
    /// How many points are at each relay.
    relays: BTreeMap<RelayId, usize>,
}

impl<'a> Seating<'a> {
    /// Nobody has a place. One descriptor for each of the `replicas`, with so much
    /// `room`; a session that two backends offer is the one's that [`owners`]
    /// names.
    pub(super) fn new<'p>(
        candidates: &[BackendOffer<'a>],
        previous: impl Iterator<Item = &'p (BackendId, SessionId)> + Clone,
        replicas: &[u8],
        room: usize,
    ) -> Self {
        let owners = owners(candidates, previous.clone());
        let ranks: BTreeMap<&(BackendId, SessionId), usize> = previous.zip(0..).collect();
        let share = |candidate: &BackendOffer<'a>| {
            let backend = candidate.backend;
            let own = |it: &&IntroPoint| owners.get(&it.session_id) == Some(&backend);
            let listable = |point: &'a IntroPoint| {
                let rank = ranks.get(&(backend, point.session_id)).copied();
                ListablePoint { point, rank, uses: 0 }
            };
            let mut points: Vec<_> = candidate.points.iter().filter(own).map(listable).collect();
            points.sort_by_key(|it| it.point.session_id);
            points.dedup_by_key(|it| it.point.session_id);
            BackendShare { backend, weight: candidate.weight.max(1), points, places: 0, quota: 0 }
        };
        let draft = |replica: &u8| DraftSet {
            replica: *replica,
            places: Vec::new(),
            relays: BTreeMap::new(),
        };
        Self {
            shares: candidates.iter().map(share).collect(),
            drafts: replicas.iter().map(draft).collect(),
            room,
        }
    }

    /// From now on each backend's listed points come first, and of its points at
    /// one relay only the first is there. No more than so many `backends` stay.
    pub(super) fn prefer_listed(&mut self, backends: usize) {
        for share in &mut self.shares {
            share.points.sort_by_key(|it| it.rank.unwrap_or(usize::MAX));
            let mut relays = BTreeSet::new();
            share.points.retain(|it| relays.insert(it.point.relay));
        }
        self.shares.retain(|share| !share.points.is_empty());
        self.shares.truncate(backends);
    }

    /// Gives everyone a quota of the room in all descriptors; see [`quotas`].
    pub(super) fn set_quotas(&mut self, room: usize, held: &[usize]) {
        let claim = |share: &BackendShare<'_>| {
            let relays: BTreeSet<_> = share.points.iter().map(|it| it.point.relay).collect();
            Claim { weight: share.weight.into(), most: relays.len() * self.drafts.len() }
        };
        let claims: Vec<Claim> = self.shares.iter().map(claim).collect();
        let room = room * self.drafts.len();
        for (share, quota) in self.shares.iter_mut().zip(quotas(&claims, room, held)) {
            share.quota = quota;
        }
    }

    pub(super) fn backends(&self) -> impl DoubleEndedIterator<Item = BackendIndex> + use<> {
        (0..self.shares.len()).map(BackendIndex)
    }

    pub(super) fn sets(&self) -> impl DoubleEndedIterator<Item = SetIndex> + use<> {
        (0..self.drafts.len()).map(SetIndex)
    }

    /// The points of a backend, as places that they could have.
    pub(super) fn points(&self, who: BackendIndex) -> impl Iterator<Item = Seat> + use<> {
        (0..self[who].points.len()).map(move |what| Seat { who, what: PointIndex(what) })
    }

    pub(super) fn most_rounds(&self) -> usize {
        self.shares.iter().map(|share| share.quota).max().unwrap_or(0)
    }

    pub(super) fn find(&self, backend: BackendId) -> Option<BackendIndex> {
        self.shares.iter().position(|share| share.backend == backend).map(BackendIndex)
    }

    pub(super) fn find_point(&self, who: BackendIndex, session: SessionId) -> Option<Seat> {
        self.points(who).find(|place| self.listable(*place).point.session_id == session)
    }

    fn listable(&self, place: Seat) -> &ListablePoint<'a> {
        &self[place.who].points[place.what.0]
    }

    pub(super) fn relay(&self, place: Seat) -> RelayId {
        self.listable(place).point.relay
    }

    /// Its place in what is listed so far.
    pub(super) fn rank(&self, place: Seat) -> Option<usize> {
        self.listable(place).rank
    }

    /// In how many places it is.
    pub(super) fn uses(&self, place: Seat) -> usize {
        self.listable(place).uses
    }

    pub(super) fn has_room(&self, set: SetIndex) -> bool {
        self[set].places.len() < self.room
    }

    /// Whether the relay of this point is listed in a set.
    pub(super) fn is_taken(&self, set: SetIndex, place: Seat) -> bool {
        self[set].relays.contains_key(&self.relay(place))
    }

    pub(super) fn list(&mut self, set: SetIndex, at: usize, place: Seat) {
        let relay = self.relay(place);
        let draft = &mut self[set];
        *draft.relays.entry(relay).or_default() += 1;
        draft.places.insert(at, place);
        let share = &mut self[place.who];
        share.places += 1;
        share.points[place.what.0].uses += 1;
    }

    pub(super) fn append(&mut self, set: SetIndex, place: Seat) {
        self.list(set, self[set].places.len(), place);
    }

    pub(super) fn unlist(&mut self, set: SetIndex, at: usize) -> Seat {
        let place = self[set].places.remove(at);
        let relay = self.relay(place);
        let relays = &mut self[set].relays;
        match relays.get_mut(&relay) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(relays.remove(&relay)),
        }
        let share = &mut self[place.who];
        share.places -= 1;
        share.points[place.what.0].uses -= 1;
        place
    }

    /// The points of each set, in their order.
    pub(super) fn into_sets(self) -> Vec<Vec<Chosen>> {
        let chosen = |place: &Seat| Chosen {
            backend: self[place.who].backend,
            point: self.listable(*place).point.clone(),
        };
        self.drafts.iter().map(|draft| draft.places.iter().map(chosen).collect()).collect()
    }
}

impl<'a> Index<BackendIndex> for Seating<'a> {
    type Output = BackendShare<'a>;

    fn index(&self, BackendIndex(index): BackendIndex) -> &BackendShare<'a> {
        &self.shares[index]
    }
}

impl IndexMut<BackendIndex> for Seating<'_> {
    fn index_mut(&mut self, BackendIndex(index): BackendIndex) -> &mut Self::Output {
        &mut self.shares[index]
    }
}

impl Index<SetIndex> for Seating<'_> {
    type Output = DraftSet;

    fn index(&self, SetIndex(index): SetIndex) -> &DraftSet {
        &self.drafts[index]
    }
}

impl IndexMut<SetIndex> for Seating<'_> {
    fn index_mut(&mut self, SetIndex(index): SetIndex) -> &mut DraftSet {
        &mut self.drafts[index]
    }
}

impl DraftSet {
    /// How many places a backend has in it.
    pub(super) fn count(&self, who: BackendIndex) -> usize {
        self.places.iter().filter(|place| place.who == who).count()
    }

    pub(super) fn holds(&self, who: BackendIndex) -> bool {
        self.places.iter().any(|place| place.who == who)
    }
}

/// Who may list a session: the backend that has it listed and still offers it,
/// else the first that offers it. Nobody can push another's point out by
/// offering the same session.
fn owners<'p>(
    candidates: &[BackendOffer<'_>],
    previous: impl Iterator<Item = &'p (BackendId, SessionId)>,
) -> BTreeMap<SessionId, BackendId> {
    let mut owners = BTreeMap::new();
    for &(backend, session) in previous {
        let offered = candidates.iter().any(|candidate| {
            candidate.backend == backend
                && candidate.points.iter().any(|point| point.session_id == session)
        });
        if offered {
            owners.entry(session).or_insert(backend);
        }
    }
    for candidate in candidates {
        for point in candidate.points {
            owners.entry(point.session_id).or_insert(candidate.backend);
        }
    }
    owners
}
