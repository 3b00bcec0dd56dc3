//! The world around a balancer: backends with their points, HSDirs with what
//! they hold, and the ring that a period's HSDirs are taken from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use onionbraid_balancer::fact::{NetworkView, PeriodView, ResponsibleHsdir};
use onionbraid_balancer::onion::{IntroPoint, LinkSpecifier, Period, RelayId, SessionId};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// A backend as it really is.
pub(crate) struct SimBackend {
    pub(crate) local: bool,
    pub(crate) alive: bool,
    pub(crate) points: Vec<IntroPoint>,
    pub(crate) changed_at: SystemTime,
    /// A remote backend's own descriptors, newest last: revision, points, when.
    pub(crate) published: Vec<(u64, Vec<IntroPoint>, SystemTime)>,
    /// Moves on with every death, so that events of an earlier life are void.
    pub(crate) life: u64,
    /// Whether it verifies the work of clients, once it has seeds: up to this slot.
    pub(crate) verifies: bool,
    pub(crate) seeds: Option<u64>,
    /// What became of the dials of its link since it died.
    pub(crate) dials: Dials,
}

/// How far the dials of a link have come.
#[derive(Clone, Copy, Default)]
pub(crate) struct Dials {
    /// Whether one has failed on the publisher's side of the network, which says nothing of
    /// the backend.
    pub(crate) in_vain: bool,
    /// When the first one began that did not.
    pub(crate) reached_at: Option<Instant>,
}

impl SimBackend {
    pub(crate) fn new(local: bool, verifies: bool) -> Self {
        Self {
            local,
            verifies,
            seeds: None,
            dials: Dials::default(),
            alive: true,
            points: Vec::new(),
            changed_at: SystemTime::UNIX_EPOCH,
            published: Vec::new(),
            life: 0,
        }
    }

    /// Publishes its own descriptor.
    pub(crate) fn publish(&mut self, now: SystemTime) {
        let revision = self.published.last().map_or(1, |(revision, _, _)| revision + 1);
        self.published.push((revision, self.points.clone(), now));
    }

    /// What HSDirs answer for it: its newest descriptor or an `old` copy, as
    /// long as they keep it.
    pub(crate) fn descriptor(&self, old: bool, now: SystemTime) -> Option<(u64, Vec<IntroPoint>)> {
        let back = usize::from(old && self.published.len() > 1);
        let (revision, points, at) = self.published.iter().rev().nth(back)?;
        let age = now.duration_since(*at).unwrap_or_default();
        (age < Duration::from_secs(180 * 60)).then(|| (*revision, points.clone()))
    }
}

/// What an HSDir holds of the service in one period.
#[derive(Clone, Default)]
pub(crate) struct Stored {
    pub(crate) revision: u64,
    pub(crate) points: Vec<IntroPoint>,
}

/// The relays and HSDirs.
pub(crate) struct Network {
    period_seconds: u64,
    absent: BTreeSet<u16>,
    pub(crate) stored: BTreeMap<(Period, RelayId), Stored>,
    /// HSDirs that do not answer at all until then.
    pub(crate) dark: BTreeMap<RelayId, SystemTime>,
}

const HSDIRS: u16 = 60;

impl Network {
    pub(crate) fn new(period_minutes: u32) -> Self {
        Self {
            period_seconds: u64::from(period_minutes) * 60,
            absent: BTreeSet::new(),
            stored: BTreeMap::new(),
            dark: BTreeMap::new(),
        }
    }

    /// A new consensus: other relays are away.
    pub(crate) fn churn(&mut self, rng: &mut StdRng) {
        self.absent = (0..HSDIRS).filter(|_| rng.random_bool(0.05)).collect();
    }

    pub(crate) fn current(&self, now: SystemTime) -> Period {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        Period {
            number: seconds / self.period_seconds,
            length_minutes: u32::try_from(self.period_seconds / 60).unwrap(),
            offset_seconds: 0,
        }
    }

    /// The current period and the neighbour that is nearer.
    pub(crate) fn view(&self, now: SystemTime) -> NetworkView {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let current = self.current(now);
        let early = seconds % self.period_seconds < self.period_seconds / 2;
        let other = if early { current.previous() } else { current.next() }.unwrap();
        NetworkView { periods: vec![self.ring(current, true), self.ring(other, false)] }
    }

    /// Two replicas of four HSDirs, of which clients ask three.
    fn ring(&self, period: Period, current: bool) -> PeriodView {
        let mut ring: Vec<u16> = (0..HSDIRS).filter(|n| !self.absent.contains(n)).collect();
        ring.sort_by_key(|n| {
            let seed = (period.number << 16) ^ u64::from(*n);
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d)
        });
        let hsdirs = ring.into_iter().take(8).enumerate().map(|(place, n)| ResponsibleHsdir {
            relay: relay(1000 + n),
            replica: if place < 4 { 1 } else { 2 },
            asked_by_clients: place % 4 < 3,
        });
        PeriodView { period, current, hsdirs: hsdirs.collect() }
    }
}

pub(crate) fn relay(number: u16) -> RelayId {
    let mut id = [0; 20];
    id[..2].copy_from_slice(&number.to_be_bytes());
    RelayId(id)
}

/// From which moment a revision is counted here.
pub(crate) fn counted_to(revision: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(revision)
}

/// A point with a session never seen before.
pub(crate) fn point(session: u64, at: u16) -> IntroPoint {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&session.to_be_bytes());
    let specifier = |kind, body: &[u8]| LinkSpecifier { kind, body: body.to_vec() };
    let mut point = IntroPoint {
        session_id: SessionId(id),
        relay: relay(at),
        link_specifiers: vec![
            specifier(0, &[192, 0, 2, 1, 0x23, 0x29]),
            specifier(2, &relay(at).0),
            specifier(3, &[1; 32]),
        ],
        relay_ntor_key: [9; 32],
        service_ntor_key: [7; 32],
    };
    // About every second encoding is a point of the curve.
    while point.flaw().is_some() {
        point.session_id.0[8] += 1;
    }
    point
}
