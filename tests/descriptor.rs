//! Are the bytes of our descriptors those of C tor's?
//!
//! `descriptor/c-tor-0.4.9.11.txt` is what a C tor of that version has published on
//! a private network that is gone: an address, and its descriptor. The other file is
//! of a single onion service that asks its clients for work.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and is not pure"
)]

#[allow(dead_code, unreachable_pub, reason = "end-to-end tests use more of it")]
#[path = "../integration/network/anatomy.rs"]
mod anatomy;

use std::time::{Duration, UNIX_EPOCH};

use anatomy::Anatomy;
use onionbraid::tor::credentials::Credentials;
use onionbraid::tor::descriptor;
use onionbraid_balancer::command::Publication;
use onionbraid_balancer::onion::{
    Capabilities, IntroPoint, LinkSpecifier, Period, RelayId, SessionId,
};
use onionbraid_balancer::pow::{Puzzle, SeedSlot};
use tor_hscrypto::pk::{HsId, HsIdKeypair, HsSvcNtorKeypair};
use tor_hscrypto::time::TimePeriod;
use tor_llcrypto::pk::ed25519;

/// Periods have eight minutes there, and begin in the middle.
const PERIOD: Duration = Duration::from_mins(8);

/// When it was published: 2026-11-26 07:38 UTC.
const PUBLISHED: Duration = Duration::from_secs(1_795_678_680);

fn c_tor() -> Anatomy {
    anatomy_of(include_str!("descriptor/c-tor-0.4.9.11.txt"), PUBLISHED)
}

/// Of a file, with the time of its descriptor.
fn anatomy_of(file: &str, published: Duration) -> Anatomy {
    let (address, text) = file.split_once('\n').unwrap();
    let identity: HsId = address.parse().unwrap();
    let periods = [published - PERIOD, published, published + PERIOD]
        .map(|moment| TimePeriod::new(PERIOD, UNIX_EPOCH + moment, PERIOD / 2).unwrap());
    Anatomy::of(text, *identity.as_ref(), &periods).unwrap()
}

fn point(n: u8) -> IntroPoint {
    let session = ed25519::Keypair::generate(&mut rand::rng()).verifying_key();
    let service = HsSvcNtorKeypair::generate(&mut rand::rng());
    IntroPoint {
        session_id: SessionId(session.to_bytes()),
        relay: RelayId([n; 20]),
        link_specifiers: vec![
            LinkSpecifier { kind: 0, body: vec![127, 0, 0, 1, 35, n] },
            LinkSpecifier { kind: 2, body: vec![n; 20] },
            LinkSpecifier { kind: 3, body: vec![n; 32] },
        ],
        relay_ntor_key: HsSvcNtorKeypair::generate(&mut rand::rng()).public().to_bytes(),
        service_ntor_key: service.public().to_bytes(),
    }
}

/// One of ours, of a service that has congestion control as C tor's have.
fn ours(points: u8) -> Anatomy {
    ours_with(points, false, None)
}

/// The same of a single onion service, or with a puzzle.
fn ours_with(points: u8, single_onion: bool, puzzle: Option<Puzzle>) -> Anatomy {
    let keypair = ed25519::Keypair::generate(&mut rand::rng());
    let period = TimePeriod::new(PERIOD, UNIX_EPOCH + PUBLISHED, PERIOD / 2).unwrap();
    let publication = Publication {
        period: Period {
            number: period.interval_num(),
            length_minutes: period.length().as_minutes(),
            offset_seconds: period.epoch_offset_in_sec(),
        },
        hsdir: RelayId([0; 20]),
        as_of: UNIX_EPOCH + PUBLISHED,
        points: (1..=points).map(point).collect(),
        capabilities: Capabilities {
            flow_control: Some(("FlowCtrl=1-2".parse().unwrap(), 31)),
            single_onion,
            ..Capabilities::default()
        },
        puzzle,
        access: onionbraid_balancer::onion::Access::Everybody,
    };
    let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair));
    let credentials = Credentials::of_identity(identity);
    let signed = descriptor::build(&credentials, &publication, 1000, 50_000).unwrap();
    Anatomy::of(&signed.text, keypair.verifying_key().to_bytes(), &[period]).unwrap()
}

#[test]
fn whatever_can_be_read_of_the_making_of_a_descriptor_is_as_in_c_tors() {
    let theirs = c_tor();
    for points in [1, 3, 8] {
        let ours = ours(points);
        pretty(&theirs.form, &ours.form);
        assert_eq!(theirs.length, ours.length);
        assert_eq!(theirs.clients.len(), ours.clients.len());
    }
}

#[test]
fn a_single_onion_service_with_a_puzzle_has_its_lines_where_c_tor_has_them() {
    // 2026-11-26 15:58 UTC.
    let published = Duration::from_secs(1_795_708_698);
    let file = include_str!("descriptor/c-tor-0.4.9.11-single-onion-with-puzzle.txt");
    let theirs = anatomy_of(file, published);
    let expires = UNIX_EPOCH + published + Duration::from_hours(1);
    let ours = ours_with(3, true, Some(Puzzle { slot: SeedSlot(1), expires, effort: 0 }));
    let without_expiry = |form: &str| {
        let lines = form.lines().map(|line| match line.starts_with("pow-params v1 ") {
            true => line.rsplit_once(' ').unwrap().0.to_owned(),
            false => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    assert!(theirs.form.contains("single-onion-service\n") && theirs.form.contains("pow-params "));
    pretty(&without_expiry(&theirs.form), &without_expiry(&ours.form));
    assert_eq!(theirs.length, ours.length);
}

#[test]
fn nine_points_need_the_next_size() {
    assert!(ours(9).length > c_tor().length + 10_000);
}

#[test]
fn points_are_sorted_no_more_often_than_by_chance() {
    let sorted = (0..60).filter(|_| ours(3).sorted_by_relay).count();
    assert!(sorted < 30, "{sorted} of 60, expected 10");
}

/// Shows the first line that differs.
fn pretty(expected: &str, found: &str) {
    for (expected, found) in expected.lines().zip(found.lines()) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.lines().count(), found.lines().count());
}
