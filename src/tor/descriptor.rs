//! Building and signing a merged descriptor, and introduction points from and
//! to Arti's types.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tor_bytes::{EncodeResult, Writeable as _};
use tor_cell::chancell::msg::HandshakeType;
use tor_hscrypto::RevisionCounter;
use tor_hscrypto::ope::{AesOpeKey, SrvPeriodOffset};
use tor_hscrypto::pk::{HsBlindIdKeypair, HsIdKeypair};
use tor_hscrypto::time::TimePeriod;
use tor_linkspec::{EncodedLinkSpec, LinkSpec};
use tor_llcrypto::pk::{curve25519, ed25519};
use tor_netdoc::NetdocBuilder as _;
use tor_netdoc::doc::hsdesc::pow::PowParams;
use tor_netdoc::doc::hsdesc::{HsDescBuilder, IntroPointDesc, create_desc_sign_key_cert};
use tor_units::IntegerMinutes;
use zeroize::Zeroizing;

use super::hsdirs::to_arti;
use super::network::Network;
#[cfg(feature = "pow")]
use super::puzzles::Puzzles;
use super::{protocols, wiped};
use onionbraid_balancer::command::Publication;
use onionbraid_balancer::onion::{
    Flaw, IntroPoint, LinkSpecifier, MAX_INTRO_POINTS, Period, RelayId, SessionId,
};
use onionbraid_balancer::pow::Puzzle;

/// How long HSDirs may keep a descriptor, in minutes: what C tor and Arti write.
const LIFETIME_MINUTES: u16 = 180;

/// How long the certificates in a descriptor are valid: what C tor and Arti use.
const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(54);

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
    /// An introduction point that must not reach clients.
    #[error("an introduction point has an invalid key or link specifiers")]
    InvalidPoint,
    /// The signing key could not be blinded for the period.
    #[error("cannot blind the identity key")]
    Blinding(#[source] tor_llcrypto::pk::keymanip::BlindingError),
    /// The certificate over the descriptor signing key could not be made.
    #[error("cannot certify the descriptor signing key")]
    Certificate(#[source] tor_cert::CertEncodeError),
    /// The document could not be built, or is longer than HSDirs accept.
    #[error("cannot build the descriptor")]
    Build(#[source] tor_bytes::EncodeError),
}

/// Builds and signs the descriptors of one address.
pub(crate) struct Signer {
    /// The address's identity; zeroized when dropped.
    identity: Arc<HsIdKeypair>,
    /// The descriptors of each period's last round, so that all HSDirs that get
    /// the same points get the very same document.
    last: BTreeMap<Period, Vec<(Publication, Signed)>>,
}

/// How many different descriptors of a period's round are kept: at most one for
/// each place at which clients ask, 6 on the public network.
const KEPT: usize = 32;

impl Signer {
    /// Signs with this identity.
    pub(crate) fn new(identity: Arc<HsIdKeypair>) -> Self {
        Self { identity, last: BTreeMap::new() }
    }

    /// The signed descriptor for a publication.
    pub(crate) fn sign(
        &mut self,
        publication: &Publication,
        network: &Network,
    ) -> Result<Signed, DescriptorError> {
        if let Some(signed) = self.kept(publication) {
            return Ok(signed);
        }
        let directory = network.directory().map_err(|_| DescriptorError::NoDirectory)?;
        let period = to_arti(publication.period);
        let beginning = directory
            .hs_all_time_periods()
            .into_iter()
            .find(|params| params.time_period() == period)
            .ok_or(DescriptorError::UnknownPeriod(publication.period.number))
            .map(|params| {
                counted_from(params.time_period(), params.start_of_shard_rand_period())
            })?;
        let offset = offset_since(beginning, publication.as_of).ok_or(DescriptorError::Clock)?;
        let max_length = usize::try_from(directory.params().hsdir_max_desc_size.get()).unwrap_or(0);
        drop(directory);
        let signed = wiped(|| build(&self.identity, publication, offset, max_length))?;
        self.keep(publication, &signed);
        Ok(signed)
    }

    /// The document for another HSDir of the same round that says the same.
    fn kept(&self, publication: &Publication) -> Option<Signed> {
        let same = |(last, _): &&(Publication, Signed)| {
            last.as_of == publication.as_of
                && last.points == publication.points
                && last.capabilities == publication.capabilities
                && last.puzzle == publication.puzzle
        };
        let (_, signed) = self.last.get(&publication.period)?.iter().find(same)?;
        Some(signed.clone())
    }

    fn keep(&mut self, publication: &Publication, signed: &Signed) {
        let round = self.last.entry(publication.period).or_default();
        round.retain(|(last, _)| last.as_of == publication.as_of);
        if round.len() < KEPT {
            round.push((publication.clone(), signed.clone()));
        }
        // Two periods are published at a time; keep no more than can be current.
        while self.last.len() > 3 {
            self.last.pop_first();
        }
    }
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
fn offset_since(beginning: SystemTime, moment: SystemTime) -> Option<SrvPeriodOffset> {
    let seconds = moment.duration_since(beginning).ok()?.as_secs();
    Some(u32::try_from(seconds).ok()?.into())
}

/// Builds one descriptor (rend-spec-v3, section 2.4 and 2.5) of at most
/// `max_length` bytes; `offset` is the age of the period's shared random value.
///
/// # Errors
///
/// See [`DescriptorError`]; a document longer than `max_length` is an error too.
pub fn build(
    identity: &HsIdKeypair,
    publication: &Publication,
    offset: SrvPeriodOffset,
    max_length: usize,
) -> Result<Signed, DescriptorError> {
    let Publication { period, as_of, points, capabilities, puzzle, .. } = publication;
    if points.is_empty() || points.len() > MAX_INTRO_POINTS {
        return Err(DescriptorError::PointCount(points.len()));
    }
    let (blinded_public, blinded, subcredential) =
        identity.compute_blinded_key(to_arti(*period)).map_err(DescriptorError::Blinding)?;
    let revision = revision_key(&blinded).encrypt(offset);

    let mut rng = super::rng();
    let signing_key = ed25519::Keypair::generate(&mut rng);
    let expiry = *as_of + CERTIFICATE_LIFETIME;
    let certificate = create_desc_sign_key_cert(&signing_key.verifying_key(), &blinded, expiry)
        .map_err(DescriptorError::Certificate)?;
    let intro_points = points
        .iter()
        .map(|point| to_arti_point(point).filter(|_| point.flaw().is_none()))
        .collect::<Option<Vec<_>>>()
        .ok_or(DescriptorError::InvalidPoint)?;
    let asked = puzzle.and_then(|puzzle| pow_params(identity, *period, puzzle));
    let text = asking(HsDescBuilder::default(), asked.as_ref())
        .blinded_id(&blinded_public)
        .hs_desc_sign(&signing_key)
        .hs_desc_sign_cert(certificate)
        .create2_formats(&[HandshakeType::NTOR])
        .auth_required(None)
        .is_single_onion_service(capabilities.single_onion)
        .intro_points(&intro_points)
        .intro_auth_key_cert_expiry(expiry)
        .intro_enc_key_cert_expiry(expiry)
        .flow_control(
            capabilities.flow_control.as_ref().map(|(p, inc)| (protocols::to_arti(p), *inc)),
        )
        .supported_protocols(protocols::to_arti(&capabilities.protocols))
        .lifetime(IntegerMinutes::new(LIFETIME_MINUTES))
        .revision_counter(RevisionCounter::from(revision))
        .subcredential(subcredential)
        .max_generated_len(max_length)
        .build_sign(&mut rng)
        .map_err(DescriptorError::Build)?;
    Ok(Signed { text: text.into(), revision })
}

/// The `pow-params` of a descriptor (torspec hspow-spec, section "Parameter
/// descriptor").
#[cfg(feature = "pow")]
fn pow_params(identity: &HsIdKeypair, period: Period, puzzle: Puzzle) -> Option<PowParams> {
    use tor_checkable::timed::TimeRangeBound;
    use tor_hscrypto::pow::v1::Effort;
    use tor_netdoc::doc::hsdesc::pow::v1::PowParamsV1;

    let seed = Puzzles::of(identity).seed(period, puzzle.slot).into();
    let seed = TimeRangeBound::new(seed, ..puzzle.expires);
    Some(PowParams::V1(PowParamsV1::new(seed, Effort::new(puzzle.effort))))
}

#[cfg(feature = "pow")]
fn asking<'a>(builder: HsDescBuilder<'a>, params: Option<&'a PowParams>) -> HsDescBuilder<'a> {
    builder.pow_params(params)
}

/// Without the feature no puzzle is ever published.
#[cfg(not(feature = "pow"))]
fn pow_params(_: &HsIdKeypair, _: Period, _: Puzzle) -> Option<PowParams> {
    None
}

#[cfg(not(feature = "pow"))]
fn asking<'a>(builder: HsDescBuilder<'a>, _: Option<&PowParams>) -> HsDescBuilder<'a> {
    builder
}

/// The key of the revision counter: C tor's derivation, a zero byte and the 64
/// bytes of the blinded secret key, so that an address can move from C tor to
/// us and back, and so that two publishers of one address count alike
/// (rend-spec-v3, appendix F.2).
fn revision_key(blinded: &HsBlindIdKeypair) -> AesOpeKey {
    let keypair: &ed25519::ExpandedKeypair = blinded.as_ref();
    let secret = Zeroizing::new(keypair.to_secret_key_bytes());
    let mut seed = Zeroizing::new([0_u8; 65]);
    seed[1..].copy_from_slice(&*secret);
    AesOpeKey::from_secret(&*seed)
}

/// An introduction point of a parsed descriptor as our value.
///
/// # Errors
///
/// Without an RSA identity among the link specifiers: C tor clients cannot use
/// such a point either. What else may be wrong with a point, the balancer looks
/// at, wherever it comes from.
pub(crate) fn from_arti(point: &IntroPointDesc) -> Result<IntroPoint, Flaw> {
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
) -> Result<IntroPoint, Flaw> {
    let relay = link_specifiers.iter().find_map(|specifier| match specifier.parse() {
        Ok(LinkSpec::RsaId(id)) => Some(RelayId(id.to_bytes())),
        _ => None,
    });
    let link_specifiers = link_specifiers.iter().map(specifier).collect::<EncodeResult<_>>();
    Ok(IntroPoint {
        session_id: SessionId(session_id.into()),
        relay: relay.ok_or(Flaw::LinkSpecifiers)?,
        link_specifiers: link_specifiers.map_err(|_| Flaw::LinkSpecifiers)?,
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
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;
    use tor_checkable::TimeBound as _;
    use tor_hscrypto::pk::{HsIdKey, HsSvcNtorKeypair};
    use tor_linkspec::LinkSpecType;
    use tor_netdoc::doc::hsdesc::HsDesc;

    use super::*;
    use onionbraid_balancer::onion::{Capabilities, LINK_SPECIFIER_BYTES};

    /// What HSDirs accept unless the consensus says otherwise.
    const MAX_LENGTH: usize = 50_000;

    /// Any period will do.
    const PERIOD: Period =
        Period { number: 20_000, length_minutes: 1440, offset_seconds: 12 * 3600 };

    fn identity() -> HsIdKeypair {
        let keypair = ed25519::Keypair::generate(&mut crate::tor::rng());
        HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair))
    }

    fn point(n: u8) -> IntroPoint {
        point_with(n, None).unwrap()
    }

    /// With one more link specifier, of a kind that nobody knows.
    fn point_with(n: u8, further: Option<Vec<u8>>) -> Result<IntroPoint, Flaw> {
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
        }
    }

    fn built(points: u8) -> Result<Signed, DescriptorError> {
        build(&identity(), &publication(points, Capabilities::default()), 1000.into(), MAX_LENGTH)
    }

    #[test]
    fn no_point_is_so_large_that_twenty_of_them_fit_no_descriptor() {
        // 8 + 22 + 34 bytes are there already.
        let most = LINK_SPECIFIER_BYTES - 64 - 2;
        let larger = point_with(1, Some(vec![0; most + 1])).unwrap();
        assert_eq!(larger.flaw(), Some(Flaw::LinkSpecifiers));
        let points = (0..20).map(|n| point_with(n, Some(vec![n; most])).unwrap()).collect();
        let publication = Publication { points, ..publication(0, Capabilities::default()) };
        build(&identity(), &publication, 1000.into(), MAX_LENGTH).unwrap();
    }

    #[test]
    fn hsdirs_with_the_same_points_get_one_document_and_the_next_round_another() {
        let mut signer = Signer::new(Arc::new(identity()));
        let sets =
            [publication(1, Capabilities::default()), publication(2, Capabilities::default())];
        for (n, publication) in (0..).zip(&sets) {
            assert!(signer.kept(publication).is_none());
            let signed = build(&signer.identity, publication, 1000.into(), MAX_LENGTH).unwrap();
            signer.keep(publication, &Signed { revision: n, ..signed });
        }
        for (n, publication) in (0..).zip(&sets) {
            let other = Publication { hsdir: RelayId([1; 20]), ..publication.clone() };
            assert_eq!(signer.kept(&other).unwrap().revision, n);
        }
        let later =
            Publication { as_of: sets[0].as_of + Duration::from_secs(2), ..sets[0].clone() };
        assert!(signer.kept(&later).is_none());
        let signed = signer.kept(&sets[0]).unwrap();
        signer.keep(&later, &signed);
        assert!(signer.kept(&sets[0]).is_none());
        for _ in 0..2 * KEPT {
            signer.keep(&later, &signed);
        }
        assert_eq!(signer.last[&PERIOD].len(), KEPT);
    }

    #[cfg(feature = "pow")]
    #[test]
    fn a_puzzle_is_what_a_client_reads_and_none_where_there_is_none() {
        use onionbraid_balancer::pow::SeedSlot;

        let identity = identity();
        let expires = UNIX_EPOCH + Duration::from_secs(1_700_005_000);
        let puzzle = Puzzle { slot: SeedSlot(300_000), expires, effort: 42 };
        let asking =
            Publication { puzzle: Some(puzzle), ..publication(3, Capabilities::default()) };
        let silent = Publication { puzzle: None, ..asking.clone() };
        let key = HsIdKey::from(&identity);
        let (blinded, subcredential) = key.compute_blinded_key(to_arti(PERIOD)).unwrap();
        let read = |publication: &Publication| {
            let signed = build(&identity, publication, 1000.into(), MAX_LENGTH).unwrap();
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
        assert_eq!(published, &Puzzles::of(&identity).seed(PERIOD, puzzle.slot));
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
            let signed = build(&identity, &publication, 1000.into(), MAX_LENGTH).unwrap();

            let key = HsIdKey::from(&identity);
            let (blinded, subcredential) = key.compute_blinded_key(to_arti(PERIOD)).unwrap();
            let read =
                HsDesc::parse_decrypt_validate(&signed.text, &blinded.id(), &subcredential, None)
                    .unwrap()
                    .if_valid_at(&publication.as_of)
                    .unwrap();
            let read_points: Vec<_> = read.intro_points().iter().filter_map(|it| from_arti(it).ok()).collect();
            prop_assert_eq!(&*read_points, &*publication.points);
            prop_assert_eq!(u64::from(read.revision()), signed.revision);
            let flow_control = read.flow_control().map(|(p, inc)| (protocols::from_arti(&p), inc.get()));
            prop_assert_eq!(flow_control, capabilities.flow_control);
            prop_assert_eq!(read.is_single_onion_service(), single_onion);
        }
    }

    #[test]
    fn up_to_nine_points_have_the_size_of_an_ordinary_service() {
        let length = |points| built(points).unwrap().text.len();
        assert_eq!(length(1), length(9));
        assert!(length(10) > length(9));
        assert!(length(20) < MAX_LENGTH);
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
            let built = build(&identity(), &publication, 1000.into(), MAX_LENGTH);
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
        let (_, blinded, _) = identity().compute_blinded_key(to_arti(PERIOD)).unwrap();
        let key = revision_key(&blinded);
        assert!(key.encrypt(1000.into()) < key.encrypt(1001.into()));
        let (_, other, _) = identity().compute_blinded_key(to_arti(PERIOD)).unwrap();
        assert_ne!(key.encrypt(1000.into()), revision_key(&other).encrypt(1000.into()));
    }
}
