//! Building and signing a merged descriptor, and introduction points from and
//! to Arti's types.

mod document;
mod layer;
mod reopen;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tor_bytes::{EncodeResult, Writeable as _};
use tor_hscrypto::time::TimePeriod;
use tor_linkspec::{EncodedLinkSpec, LinkSpec};
use tor_llcrypto::pk::{curve25519, ed25519};
use tor_netdir::NetDir;
use tor_netdoc::doc::hsdesc::IntroPointDesc;

use super::credentials::{Credentials, NoKeys};
use super::hsdirs::to_arti;
use super::network::Network;
use super::period_keys::{NotCertified, RevisionKey};
use super::wiped;
use document::{Document, DocumentError, PublishedPuzzle};
use onionbraid_balancer::command::Publication;
use onionbraid_balancer::onion::Access;
use onionbraid_balancer::onion::{
    IntroPoint, LinkSpecifier, MAX_INTRO_POINTS, Period, PointFlaw, RelayId, SessionId,
};
use onionbraid_balancer::pow::Puzzle;

/// No count gets beyond this second: a period and a run before it are days on every
/// network, and this is eight of them.
const LAST_SECOND: u32 = 8 * 24 * 60 * 60;

/// A descriptor ready for upload.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The document.
    pub text: Arc<str>,
    /// Its revision counter.
    pub revision: u64,
}

/// Why a descriptor was not built.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// No directory, so no shared random value to count revisions from.
    #[error("no network directory")]
    NoDirectory,
    /// The directory no longer knows this period.
    #[error("the network has moved on from time period {0}")]
    UnknownPeriod(u64),
    /// Our clock is before the beginning of the period's shared random value.
    #[error("the clock is wrong: it is before the shared random value of the period")]
    Clock,
    /// Fewer than one or more than 20 introduction points.
    #[error("{0} introduction points; a descriptor holds 1 to {MAX_INTRO_POINTS}")]
    PointCount(usize),
    /// Only clients may read it, and there is none.
    #[error("no client is authorized to read the descriptor")]
    NoClient,
    /// An introduction point that must not reach clients.
    #[error("an introduction point has an invalid key or link specifiers")]
    InvalidPoint,
    /// There are no keys for the period.
    #[error(transparent)]
    Keys(#[from] NoKeys),
    /// There is no seed for the puzzle that it asks clients for.
    #[error("the bundle has no proof-of-work seed for this time")]
    NoSeed,
    /// A certificate in it could not be made.
    #[error("cannot certify a key of the descriptor: {0}")]
    Certificate(String),
    /// The document is longer than HSDirs accept.
    #[error("the descriptor has {length} bytes, HSDirs accept less than {limit}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// What HSDirs refuse, in bytes.
        limit: usize,
    },
}

impl From<DocumentError> for DescriptorError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Certificate(cause) => Self::not_certified(&cause),
            DocumentError::Point => Self::InvalidPoint,
        }
    }
}

impl DescriptorError {
    fn not_certified(cause: &NotCertified) -> Self {
        Self::Certificate(cause.to_string())
    }
}

/// Builds and signs the descriptors of one address.
#[derive(Clone)]
pub(crate) struct Signer {
    credentials: Arc<Credentials>,
}

impl Signer {
    /// Signs with these.
    pub(crate) fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials }
    }

    /// The signed descriptor for a publication. Two HSDirs never get the same
    /// ciphertext.
    pub(crate) fn sign(
        &self,
        publication: &Publication,
        network: &Network,
    ) -> Result<Signed, DescriptorError> {
        let directory = network.directory().map_err(|_| DescriptorError::NoDirectory)?;
        let beginning = beginning(&directory, publication.period)?;
        let offset = offset_since(beginning, publication.as_of).ok_or(DescriptorError::Clock)?;
        let max_length = usize::try_from(directory.params().hsdir_max_desc_size.get()).unwrap_or(0);
        drop(directory);
        wiped(|| build(&self.credentials, publication, offset, max_length))
    }

    /// The last moment of which a revision of ours would not be above this one; `None`
    /// if all would be or none.
    pub(crate) fn counted_to(
        &self,
        period: Period,
        revision: u64,
        network: &Network,
    ) -> Option<SystemTime> {
        let beginning = beginning(&*network.directory().ok()?, period).ok()?;
        let keys = wiped(|| self.credentials.period(period)).ok()?;
        let offset = reached(&keys.revision, revision)?;
        Some(beginning + Duration::from_secs(offset.into()))
    }
}

/// What a descriptor of ours says that is for these clients alone, as one for
/// everybody. Its signature has to have been checked.
pub(crate) fn reopened(
    credentials: &Credentials,
    access: &Access,
    period: Period,
    text: &str,
) -> Option<String> {
    wiped(|| credentials.period(period).ok()?.reopened(text, access))
}

/// From when the revision counter of a period counts, by this directory.
fn beginning(directory: &NetDir, period: Period) -> Result<SystemTime, DescriptorError> {
    let periods = directory.hs_all_time_periods();
    let params = periods.iter().find(|params| params.time_period() == to_arti(period));
    let params = params.ok_or(DescriptorError::UnknownPeriod(period.number))?;
    Ok(counted_from(params.time_period(), params.start_of_shard_rand_period()))
}

/// From when the revision counter of a period counts: the beginning of the
/// protocol run that made the period's shared random value.
///
/// While the network has no shared random value (its authorities failed to
/// agree, or it is an hour old), Arti takes the beginning of the period
/// instead. C tor counts from the protocol run all the same, which begins half
/// a run before: as long before as periods begin after the multiples of their
/// length. We count as C tor does, or its HSDirs would refuse our descriptors
/// after a move (rend-spec-v3, section 2.2.1 and appendix F.2).
fn counted_from(period: TimePeriod, shared_random_since: SystemTime) -> SystemTime {
    let half_a_run = Duration::from_secs(period.epoch_offset_in_sec().into());
    match period.range() {
        Ok(range) if range.start == shared_random_since => shared_random_since - half_a_run,
        _ => shared_random_since,
    }
}

/// How far into the count a moment is; `None` before its beginning.
fn offset_since(beginning: SystemTime, moment: SystemTime) -> Option<u32> {
    let seconds = moment.duration_since(beginning).ok()?.as_secs();
    u32::try_from(seconds).ok()
}

/// Builds one descriptor (rend-spec-v3, section 2.4 and 2.5) of less than
/// `max_length` bytes; `offset` is the age of the period's shared random value, in
/// seconds.
///
/// # Errors
///
/// See [`DescriptorError`]; a document of `max_length` bytes is an error too, since
/// C tor refuses it.
pub fn build(
    credentials: &Credentials,
    publication: &Publication,
    offset: u32,
    max_length: usize,
) -> Result<Signed, DescriptorError> {
    let Publication { period, as_of, points, capabilities, puzzle, access, .. } = publication;
    if access.is_closed() {
        return Err(DescriptorError::NoClient);
    }
    if points.is_empty() || points.len() > MAX_INTRO_POINTS {
        return Err(DescriptorError::PointCount(points.len()));
    }
    if points.iter().any(|point| to_arti_point(point).is_none() || point.flaw().is_some()) {
        return Err(DescriptorError::InvalidPoint);
    }
    let keys = credentials.period(*period)?;
    let revision = keys.revision.counter(offset);
    let seed = |slot| credentials.seed(*period, slot).ok_or(DescriptorError::NoSeed);
    let puzzle = puzzle.map(|puzzle| {
        let Puzzle { slot, effort, expires } = puzzle;
        Ok::<_, DescriptorError>(PublishedPuzzle { seed: seed(slot)?, effort, expires })
    });
    let document = Document {
        keys: &keys,
        revision,
        as_of: *as_of,
        points,
        capabilities,
        puzzle: puzzle.transpose()?,
        access,
    };
    let text = document.text()?;
    if text.len() >= max_length {
        return Err(DescriptorError::TooLong { length: text.len(), limit: max_length });
    }
    Ok(Signed { text: text.into(), revision })
}

/// The last second of the count whose revision is not above this one.
fn reached(key: &RevisionKey, revision: u64) -> Option<u32> {
    let is_above = |second: u32| key.counter(second) > revision;
    if is_above(0) || !is_above(LAST_SECOND) {
        return None;
    }
    let (mut reached, mut above) = (0, LAST_SECOND);
    while above - reached > 1 {
        let middle = reached + (above - reached) / 2;
        if is_above(middle) { above = middle } else { reached = middle }
    }
    Some(reached)
}

/// An introduction point of a parsed descriptor as our value.
///
/// # Errors
///
/// Without an RSA identity among the link specifiers: C tor clients cannot use
/// such a point either. What else may be wrong with a point, the balancer looks
/// at, wherever it comes from.
pub(crate) fn from_arti(point: &IntroPointDesc) -> Result<IntroPoint, PointFlaw> {
    from_parts(
        (**point.ipt_sid_key()).into(),
        point.link_specifiers(),
        point.ipt_ntor_key(),
        point.svc_ntor_key(),
    )
}

/// An introduction point as our value, from its parts.
pub(crate) fn from_parts(
    session_id: ed25519::Ed25519Identity,
    link_specifiers: &[EncodedLinkSpec],
    relay_ntor_key: &curve25519::PublicKey,
    service_ntor_key: &curve25519::PublicKey,
) -> Result<IntroPoint, PointFlaw> {
    let relay = link_specifiers.iter().find_map(|specifier| match specifier.parse() {
        Ok(LinkSpec::RsaId(id)) => Some(RelayId(id.to_bytes())),
        _ => None,
    });
    let link_specifiers = link_specifiers.iter().map(specifier).collect::<EncodeResult<_>>();
    Ok(IntroPoint {
        session_id: SessionId(session_id.into()),
        relay: relay.ok_or(PointFlaw::LinkSpecifiers)?,
        link_specifiers: link_specifiers.map_err(|_| PointFlaw::LinkSpecifiers)?,
        relay_ntor_key: relay_ntor_key.to_bytes(),
        service_ntor_key: service_ntor_key.to_bytes(),
    })
}

/// A link specifier's type and body: it is encoded as type, length, body.
fn specifier(encoded: &EncodedLinkSpec) -> EncodeResult<LinkSpecifier> {
    let mut bytes = Vec::new();
    encoded.write_onto(&mut bytes)?;
    Ok(LinkSpecifier {
        kind: encoded.lstype().into(),
        body: bytes.get(2..).unwrap_or_default().to_vec(),
    })
}

/// Our value as Arti's introduction point; `None` if its session id is no key.
pub(crate) fn to_arti_point(point: &IntroPoint) -> Option<IntroPointDesc> {
    let session_id = ed25519::PublicKey::from_bytes(&point.session_id.0).ok()?;
    IntroPointDesc::builder()
        .link_specifiers(
            point
                .link_specifiers
                .iter()
                .map(|specifier| {
                    EncodedLinkSpec::new(specifier.kind.into(), specifier.body.clone())
                })
                .collect(),
        )
        .ipt_kp_ntor(curve25519::PublicKey::from(point.relay_ntor_key))
        .kp_hs_ipt_sid(session_id.into())
        .kp_hss_ntor(curve25519::PublicKey::from(point.service_ntor_key).into())
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;
    use tor_checkable::TimeBound as _;
    use tor_hscrypto::pk::{HsIdKeypair, HsSvcNtorKeypair};
    use tor_linkspec::LinkSpecType;
    use tor_netdoc::doc::hsdesc::HsDesc;

    use super::super::period_keys::PeriodKeys;
    use super::super::protocols;
    use super::*;
    use onionbraid_balancer::clients_that_fit;
    use onionbraid_balancer::onion::{Capabilities, ClientKey, LINK_SPECIFIER_BYTES};

    /// What HSDirs accept unless the consensus says otherwise.
    const MAX_LENGTH: usize = 50_000;

    /// Any period will do.
    const PERIOD: Period =
        Period { number: 20_000, length_minutes: 1440, offset_seconds: 12 * 3600 };

    fn keypair() -> HsIdKeypair {
        let keypair = ed25519::Keypair::generate(&mut crate::tor::rng());
        HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair))
    }

    fn identity() -> Credentials {
        Credentials::of_identity(keypair())
    }

    fn point(n: u8) -> IntroPoint {
        point_with(n, None).unwrap()
    }

    /// With one more link specifier, of a kind that nobody knows.
    fn point_with(n: u8, further: Option<Vec<u8>>) -> Result<IntroPoint, PointFlaw> {
        // A port of 0 and keys of zeros would be refused.
        let n = n + 1;
        let mut rng = crate::tor::rng();
        let session = ed25519::Keypair::generate(&mut rng).verifying_key();
        let address = vec![127, 0, 0, 1, 0, n];
        let mut specifiers = vec![
            EncodedLinkSpec::new(LinkSpecType::ORPORT_V4, address),
            EncodedLinkSpec::new(LinkSpecType::RSAID, vec![n; 20]),
            EncodedLinkSpec::new(LinkSpecType::ED25519ID, vec![n; 32]),
        ];
        specifiers.extend(further.map(|body| EncodedLinkSpec::new(99.into(), body)));
        let relay_key: curve25519::PublicKey = [n; 32].into();
        let service_key = HsSvcNtorKeypair::generate(&mut rng);
        from_parts(session.into(), &specifiers, &relay_key, service_key.public())
    }

    fn publication(points: u8, capabilities: Capabilities) -> Publication {
        Publication {
            period: PERIOD,
            hsdir: RelayId([0; 20]),
            as_of: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            points: (0..points).map(point).collect(),
            capabilities,
            puzzle: None,
            access: Access::default(),
        }
    }

    fn built(points: u8) -> Result<Signed, DescriptorError> {
        build(&identity(), &publication(points, Capabilities::default()), 1000, MAX_LENGTH)
    }

    #[test]
    fn no_point_is_so_large_that_twenty_of_them_fit_no_descriptor() {
        // 8 + 22 + 34 bytes are there already.
        let most = LINK_SPECIFIER_BYTES - 64 - 2;
        let larger = point_with(1, Some(vec![0; most + 1])).unwrap();
        assert_eq!(larger.flaw(), Some(PointFlaw::LinkSpecifiers));
        let points = (0..20).map(|n| point_with(n, Some(vec![n; most])).unwrap()).collect();
        let publication = Publication { points, ..publication(0, Capabilities::default()) };
        build(&identity(), &publication, 1000, MAX_LENGTH).unwrap();
    }

    #[cfg(feature = "pow")]
    #[test]
    fn a_puzzle_is_what_a_client_reads_and_none_where_there_is_none() {
        use onionbraid_balancer::pow::SeedSlot;
        use tor_netdoc::doc::hsdesc::pow::PowParams;

        let identity = identity();
        let expires = UNIX_EPOCH + Duration::from_secs(1_700_005_000);
        let puzzle = Puzzle { slot: SeedSlot(300_000), expires, effort: 42 };
        let asking =
            Publication { puzzle: Some(puzzle), ..publication(3, Capabilities::default()) };
        let silent = Publication { puzzle: None, ..asking.clone() };
        let key = identity.public_key();
        let (blinded, subcredential) = key.compute_blinded_key(to_arti(PERIOD)).unwrap();
        let read = |publication: &Publication| {
            let signed = build(&identity, publication, 1000, MAX_LENGTH).unwrap();
            HsDesc::parse_decrypt_validate(&signed.text, &blinded.id(), &subcredential, None)
                .unwrap()
                .if_valid_at(&publication.as_of)
                .unwrap()
                .pow_params()
                .to_vec()
        };
        assert!(read(&silent).is_empty());
        let [PowParams::V1(params)] = &read(&asking)[..] else { panic!("one puzzle") };
        assert_eq!(u32::from(params.suggested_effort()), 42);
        let seed = params.seed();
        let before = expires - Duration::from_secs(1);
        let published = seed.clone().if_valid_at(&before).unwrap();
        let published: &[u8; 32] = published.as_ref();
        assert_eq!(Some(*published), identity.seed(PERIOD, puzzle.slot));
        assert!(seed.clone().if_valid_at(&(expires + Duration::from_secs(1))).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_published_is_what_a_client_reads(
            points in 1_u8..=20, flow in any::<bool>(), single_onion in any::<bool>(),
        ) {
            let capabilities = Capabilities {
                flow_control: flow.then(|| ("FlowCtrl=1-2".parse().unwrap(), 31)),
                single_onion,
                ..Capabilities::default()
            };
            let identity = identity();
            let publication = publication(points, capabilities.clone());
            let signed = build(&identity, &publication, 1000, MAX_LENGTH).unwrap();

            let key = identity.public_key();
            let (blinded, subcredential) = key.compute_blinded_key(to_arti(PERIOD)).unwrap();
            let read =
                HsDesc::parse_decrypt_validate(&signed.text, &blinded.id(), &subcredential, None)
                    .unwrap()
                    .if_valid_at(&publication.as_of)
                    .unwrap();
            let read_points: Vec<_> = read.intro_points().iter().filter_map(|it| from_arti(it).ok()).collect();
            let by_key = |points: &[IntroPoint]| {
                points.iter().map(|point| (point.session_id, point.clone())).collect::<BTreeMap<_, _>>()
            };
            prop_assert_eq!(by_key(&read_points), by_key(&publication.points));
            prop_assert_eq!(u64::from(read.revision()), signed.revision);
            let flow_control = read.flow_control().map(|(p, inc)| (protocols::from_arti(&p), inc.get()));
            prop_assert_eq!(flow_control, capabilities.flow_control);
            prop_assert_eq!(read.is_single_onion_service(), single_onion);
        }
    }

    #[test]
    fn up_to_eight_points_have_the_size_of_an_ordinary_service() {
        let length = |points| built(points).unwrap().text.len();
        // That of a C tor service but for the digits of the revision counter.
        let (one, eight) = (length(1), length(8));
        assert!(one.abs_diff(14_109) < 12, "{one}");
        assert!(one.abs_diff(eight) < 12, "{eight}");
        assert!(length(9) > 20_000);
        assert!(length(20) < MAX_LENGTH);
    }

    #[test]
    fn what_is_as_long_as_hsdirs_refuse_is_an_error() {
        let publication = publication(1, Capabilities::default());
        let identity = identity();
        let text = build(&identity, &publication, 1000, MAX_LENGTH).unwrap().text;
        let refused = build(&identity, &publication, 1000, text.len());
        assert!(matches!(refused, Err(DescriptorError::TooLong { .. })), "{refused:?}");
        build(&identity, &publication, 1000, text.len() + 1).unwrap();
    }

    #[test]
    fn each_hsdir_gets_a_ciphertext_of_its_own_signed_by_one_key_for_the_whole_period() {
        let identity = identity();
        let mut publication = publication(3, Capabilities::default());
        let mut parts = |as_of: u64| {
            publication.as_of = UNIX_EPOCH + Duration::from_secs(as_of);
            let text = build(&identity, &publication, 1000, MAX_LENGTH).unwrap().text;
            let (head, sealed) = text.split_once("superencrypted").unwrap();
            (head.to_owned(), sealed.to_owned())
        };
        let (first, second) = (parts(1_700_000_000), parts(1_700_000_000));
        assert_eq!(first.0, second.0);
        assert_ne!(first.1, second.1);
        // 20 minutes before the hour and later in it: C tor signs the same, too.
        assert_eq!(parts(1_700_002_801).0, parts(1_700_002_802).0);
        assert_ne!(parts(1_700_002_801).0, parts(1_700_010_000).0);
        let key = |period| identity.period(period).unwrap().signing.verifying_key();
        assert_eq!(key(PERIOD), key(PERIOD));
        assert_ne!(key(PERIOD), key(PERIOD.next().unwrap()));
        let other = self::identity().period(PERIOD).unwrap();
        assert_ne!(key(PERIOD), other.signing.verifying_key());
    }

    #[test]
    fn points_keep_their_places_whatever_is_added_and_are_not_sorted_by_any_key() {
        let keys = PeriodKeys::new(&keypair(), PERIOD).unwrap();
        let mut points: Vec<_> = (0..20).map(point).collect();
        let listed = |points: &[IntroPoint]| {
            keys.in_order(points).into_iter().map(|point| point.session_id).collect::<Vec<_>>()
        };
        let all = listed(&points);
        points.reverse();
        assert_eq!(listed(&points), all);
        let left: Vec<_> = all.iter().copied().filter(|id| *id != points[5].session_id).collect();
        points.remove(5);
        assert_eq!(listed(&points), left);
        assert!(!all.is_sorted());
        let by_relay = |id: &SessionId| points.iter().position(|point| point.session_id == *id);
        assert!(!left.iter().map(by_relay).is_sorted());
    }

    #[test]
    fn only_clients_that_are_authorized_can_read_a_descriptor_that_names_some() {
        use tor_hscrypto::pk::{HsClientDescEncKeypair, HsClientDescEncSecretKey};

        let identity = identity();
        let publication = publication(3, Capabilities::default());
        let pair = || {
            let secret = curve25519::StaticSecret::random_from_rng(crate::tor::rng());
            let public = curve25519::PublicKey::from(&secret);
            let pair =
                HsClientDescEncKeypair::new(public.into(), HsClientDescEncSecretKey::from(secret));
            (public, pair)
        };
        let key = identity.public_key();
        let (blinded, subcredential) = key.compute_blinded_key(to_arti(PERIOD)).unwrap();
        for (number, lines) in [(1, 16), (15, 16), (16, 16), (17, 32), (112, 112)] {
            let clients: Vec<_> = (0..number).map(|_| pair()).collect();
            let public = clients.iter().map(|(key, _)| ClientKey::new(key.to_bytes()).unwrap());
            let access = Access::Clients(public.collect());
            let publication = Publication { access: access.clone(), ..publication.clone() };
            let text = build(&identity, &publication, 1000, MAX_LENGTH).unwrap().text;
            let read = |pair: Option<&HsClientDescEncKeypair>| {
                HsDesc::parse_decrypt_validate(&text, &blinded.id(), &subcredential, pair)
                    .map(|read| read.dangerously_assume_timely().intro_points().len())
            };
            assert!(clients.iter().all(|(_, pair)| read(Some(pair)).unwrap() == 3));
            read(None).unwrap_err();
            read(Some(&pair().1)).unwrap_err();
            let keys = identity.period(PERIOD).unwrap();
            assert_eq!(keys.lock(&access).lines.len(), lines);
        }
    }

    #[test]
    fn so_many_clients_as_are_allowed_fit_with_points_of_relays_and_no_sixteen_more() {
        let identity = identity();
        let clients = |count: usize| {
            let key = |n: usize| {
                let mut bytes = [9; 32];
                bytes[..8].copy_from_slice(&n.to_be_bytes());
                ClientKey::new(bytes).unwrap()
            };
            Access::Clients((0..count).map(key).collect())
        };
        let capabilities = Capabilities {
            flow_control: Some(("FlowCtrl=1-2".parse().unwrap(), 31)),
            protocols: "Conflux=1 Cons=1-2 Desc=1-2 DirCache=2 FlowCtrl=1-2 HSDir=2 HSIntro=4-5 \
                        HSRend=1-2 Link=1-5 LinkAuth=1,3 Microdesc=1-2 Padding=2 Relay=1-6"
                .parse()
                .unwrap(),
            single_onion: true,
        };
        let expires = UNIX_EPOCH + Duration::from_secs(1_700_005_000);
        let slot = onionbraid_balancer::pow::SeedSlot(300_000);
        for points in [1_u8, 3, 8, 9, 20] {
            // With an IPv6 address each.
            let v6 = |n: u8| {
                let mut body = vec![0x20; 18];
                body[17] = n + 1;
                let mut point = point(n);
                point.link_specifiers.push(LinkSpecifier { kind: 1, body });
                assert!(point.is_of_ordinary_size());
                point
            };
            let most = clients_that_fit(points.into());
            let built = |count| {
                let publication = Publication {
                    points: (0..points).map(v6).collect(),
                    puzzle: Some(Puzzle { slot, expires, effort: 10_000 }),
                    access: clients(count),
                    ..publication(0, capabilities.clone())
                };
                build(&identity, &publication, 1000, MAX_LENGTH)
            };
            assert!(built(most).unwrap().text.len() < MAX_LENGTH);
            let more = built(most + 17);
            assert!(matches!(more, Err(DescriptorError::TooLong { .. })), "{points}");
        }
    }

    #[test]
    fn its_publisher_reads_a_descriptor_for_clients_without_being_one() {
        let identity = identity();
        let clients = |n: u8| Access::Clients([ClientKey::new([n; 32]).unwrap()].into());
        let access = clients(9);
        let publication =
            Publication { access: access.clone(), ..publication(3, Capabilities::default()) };
        let text = build(&identity, &publication, 1000, MAX_LENGTH).unwrap().text;
        let key = identity.public_key();
        let (blinded, subcredential) = key.compute_blinded_key(to_arti(PERIOD)).unwrap();
        let reopened = reopened(&identity, &access, PERIOD, &text).unwrap();
        let read =
            HsDesc::parse_decrypt_validate(&reopened, &blinded.id(), &subcredential, None).unwrap();
        let read = read.dangerously_assume_timely();
        let points: std::collections::BTreeSet<_> =
            read.intro_points().iter().map(|point| from_arti(point).unwrap()).collect();
        assert_eq!(points, publication.points.iter().cloned().collect());
        for (identity, access, text) in [
            (&identity, &clients(10), &*text),
            (&identity, &Access::Everybody, &*text),
            (&super::tests::identity(), &access, &*text),
            (&identity, &access, ""),
            (&identity, &access, &text[..text.len() / 2]),
            (&identity, &access, &text.replace("revision-counter ", "revision-counter 1")),
        ] {
            assert!(super::reopened(identity, access, PERIOD, text).is_none());
        }
    }

    #[test]
    fn where_only_clients_may_read_and_there_is_none_nothing_is_built() {
        let access = Access::Clients(BTreeSet::new());
        let publication = Publication { access, ..publication(3, Capabilities::default()) };
        let built = build(&identity(), &publication, 1000, MAX_LENGTH);
        assert!(matches!(built, Err(DescriptorError::NoClient)));
    }

    #[test]
    fn no_point_and_too_many_points_are_refused() {
        assert!(matches!(built(0), Err(DescriptorError::PointCount(0))));
        assert!(matches!(built(21), Err(DescriptorError::PointCount(21))));
    }

    #[test]
    fn a_point_that_must_not_reach_clients_is_not_published_whoever_asks_for_it() {
        let zero = [
            IntroPoint { relay_ntor_key: [0; 32], ..point(1) },
            IntroPoint { service_ntor_key: [0; 32], ..point(1) },
            IntroPoint { session_id: SessionId([0; 32]), ..point(1) },
            IntroPoint { link_specifiers: Vec::new(), ..point(1) },
        ];
        for bad in zero {
            let mut publication = publication(3, Capabilities::default());
            publication.points = vec![point(0), bad].into();
            let built = build(&identity(), &publication, 1000, MAX_LENGTH);
            assert!(matches!(built, Err(DescriptorError::InvalidPoint)));
        }
    }

    #[test]
    fn without_a_shared_random_value_revisions_count_from_where_c_tor_counts() {
        // On the public network periods begin at noon, protocol runs at midnight.
        let period = to_arti(PERIOD);
        let noon = period.range().unwrap().start;
        let midnight = noon - Duration::from_hours(12);
        assert_eq!(counted_from(period, noon), midnight);
        assert_eq!(counted_from(period, midnight), midnight);
    }

    #[test]
    fn the_revision_counter_grows_with_every_second_and_depends_on_the_key() {
        let [one, other] = [identity(), identity()].map(|it| it.period(PERIOD).unwrap());
        assert!(one.revision.counter(1000) < one.revision.counter(1001));
        assert_ne!(one.revision.counter(1000), other.revision.counter(1000));
    }

    #[test]
    fn how_far_a_revision_is_counted_is_found_whoever_counted_it() {
        let keys = identity().period(PERIOD).unwrap();
        let key = &keys.revision;
        for second in [0, 1, 1000, 86_400, 200_000] {
            let revision = key.counter(second);
            assert_eq!(reached(key, revision), Some(second));
            assert_eq!(reached(key, revision - 1), second.checked_sub(1));
            let above = revision.max(key.counter(second + 1) - 1);
            assert_eq!(reached(key, above), Some(second));
        }
        // Onionbalance derives its key from the identity key: a few minutes away.
        let another = RevisionKey::from_bytes(zeroize::Zeroizing::new([7; 32])).counter(100_000);
        let reached_by_another = reached(key, another).unwrap();
        assert!(reached_by_another.abs_diff(100_000) < 20 * 60, "{reached_by_another}");
        // What nobody counts to.
        for revision in [0, u64::from(u32::MAX) * 100, u64::MAX - 1, u64::MAX] {
            assert_eq!(reached(key, revision), None);
        }
    }
}
