//! Values for the balancer's tests.

#![cfg(test)]

use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::fact::{NetworkView, Now, PeriodView, ResponsibleHsdir};
use crate::onion::{IntroPoint, LinkSpecifier, Period, RelayId, SessionId};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Some first moment.
#[expect(clippy::disallowed_methods, reason = "there is no other way to have an Instant")]
pub(super) fn start() -> Now {
    Now {
        monotonic: Instant::now(),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

/// A later moment, on both clocks.
pub(super) fn later(now: Now, by: Duration) -> Now {
    Now { monotonic: now.monotonic + by, wall: now.wall + by }
}

pub(super) fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

pub(super) fn relay(number: u16) -> RelayId {
    let mut id = [0; 20];
    id[..2].copy_from_slice(&number.to_be_bytes());
    RelayId(id)
}

/// The same bytes, but for the third.
fn with_byte(mut id: [u8; 32], byte: u8) -> [u8; 32] {
    id[2] = byte;
    id
}

/// The point with this session, at this relay.
pub(super) fn point(session: u16, at: u16) -> IntroPoint {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&session.to_be_bytes());
    let specifier = |kind, body: &[u8]| LinkSpecifier { kind, body: body.to_vec() };
    let point = |n: u8| IntroPoint {
        session_id: SessionId(with_byte(id, n)),
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
    (0..=u8::MAX).map(point).find(|point| point.flaw().is_none()).unwrap()
}

pub(super) fn period(number: u64) -> Period {
    Period { number, length_minutes: 1440, offset_seconds: 43_200 }
}

/// One period with one HSDir for each of two replicas.
pub(super) fn network(number: u64, hsdirs: [u16; 2]) -> NetworkView {
    let hsdir =
        |(at, replica)| ResponsibleHsdir { relay: relay(at), replica, asked_by_clients: true };
    NetworkView {
        periods: vec![PeriodView {
            period: period(number),
            current: true,
            hsdirs: hsdirs.into_iter().zip(1..).map(hsdir).collect(),
        }],
    }
}
