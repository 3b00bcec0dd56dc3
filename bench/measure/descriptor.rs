//! How long does it take to build and sign a full descriptor?

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use onionbraid::tor::credentials::Credentials;
use onionbraid::tor::descriptor;
use onionbraid_balancer::command::Publication;
use onionbraid_balancer::onion::{
    Capabilities, IntroPoint, LinkSpecifier, MAX_INTRO_POINTS, Period, RelayId, SessionId,
};
use tor_hscrypto::pk::{HsIdKeypair, HsSvcNtorKeypair};
use tor_llcrypto::pk::ed25519;

use crate::summary;

/// How many are built for each figure.
const BUILT: usize = 100;

/// How often the figure is taken.
const RUNS: usize = 5;

/// One descriptor of 20 introduction points, encrypted and signed.
pub(crate) fn build() -> Result<()> {
    let mut rng = rand::rng();
    let identity = ed25519::Keypair::generate(&mut rng);
    let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&identity));
    let credentials = Credentials::of_identity(identity);
    let point = |n: usize| {
        // A port of 0 and keys of zeros would be refused.
        let n = u8::try_from(n + 1)?;
        let session = ed25519::Keypair::generate(&mut rand::rng()).verifying_key();
        let service = HsSvcNtorKeypair::generate(&mut rand::rng());
        Ok(IntroPoint {
            session_id: SessionId(session.to_bytes()),
            relay: RelayId([n; 20]),
            // An address, an RSA and an Ed25519 identity, as every relay has.
            link_specifiers: vec![
                LinkSpecifier { kind: 0, body: vec![127, 0, 0, 1, 0, n] },
                LinkSpecifier { kind: 2, body: vec![n; 20] },
                LinkSpecifier { kind: 3, body: vec![n; 32] },
            ],
            relay_ntor_key: [n; 32],
            service_ntor_key: service.public().to_bytes(),
        })
    };
    let publication = Publication {
        period: Period { number: 20_000, length_minutes: 1440, offset_seconds: 43_200 },
        hsdir: RelayId([0; 20]),
        as_of: SystemTime::UNIX_EPOCH + Duration::from_secs(1_728_043_200),
        points: (0..MAX_INTRO_POINTS).map(point).collect::<Result<_>>()?,
        capabilities: Capabilities::default(),
        puzzle: None,
        access: onionbraid_balancer::onion::Access::Everybody,
    };
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        for _ in 0..BUILT {
            let signed = descriptor::build(&credentials, &publication, 1000, 50_000)?;
            ensure!(!signed.text.is_empty(), "an empty descriptor");
        }
        times.push(began.elapsed().as_secs_f64() * 1000.0 / BUILT as f64);
    }
    println!("a descriptor of {MAX_INTRO_POINTS} points: {} ms", summary(&mut times));
    Ok(())
}
