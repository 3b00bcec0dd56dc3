//! How is an HSDir brought to refuse a service's descriptors?
//!
//! By giving it one, signed with the service's own key, whose revision counter
//! is higher than any that the service will use: what a migration from another
//! publisher of the address looks like.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use onionbraid::config::{Config, Environment};
use onionbraid::tor::keys;
use tor_cell::chancell::msg::HandshakeType;
use tor_dirclient::request::HsDescUploadRequest;
use tor_hscrypto::RevisionCounter;
use tor_hscrypto::pk::HsSvcNtorKeypair;
use tor_linkspec::{CircTarget as _, OwnedCircTarget};
use tor_llcrypto::pk::ed25519;
use tor_llcrypto::pk::rsa::RsaIdentity;
use tor_netdir::Timeliness;
use tor_netdoc::NetdocBuilder as _;
use tor_netdoc::doc::hsdesc::{HsDescBuilder, IntroPointDesc, create_desc_sign_key_cert};
use tor_units::IntegerMinutes;

use super::frontend::{ArtiClient, SOON};
use crate::network::Network;
use crate::network::fetch::eventually;

/// Far above what a counter reaches within days of seconds.
const FAR_AHEAD: u64 = 1 << 40;

/// Uploads such a descriptor of the service in `config` to one HSDir, in every
/// period for which that HSDir is responsible.
pub async fn provoke(network: &Network, config: &[&Path], hsdir: &str) -> Result<()> {
    let files: Vec<_> = config.iter().map(|path| path.to_path_buf()).collect();
    let config = Config::load(&files, &Environment::of_process())?;
    let nickname = &config.services[0].nickname;
    let identity =
        keys::open(&config.storage)?.identity(nickname, None)?.context("no identity key")?;

    let arti = ArtiClient::start(network, "publisher-from-the-future").await?;
    let directory = arti.tor().dirmgr()?.netdir(Timeliness::Timely)?;
    let circuits = arti.tor().hs_circ_pool()?;
    let rsa_id = RsaIdentity::from_hex(hsdir).context("no fingerprint")?;
    let relay = directory.by_id(&rsa_id).context("the HSDir is not in the directory")?;
    let mut stored = 0;
    for params in directory.hs_all_time_periods() {
        let period = params.time_period();
        let (blinded, keypair, subcredential) = identity.compute_blinded_key(period)?;
        if !directory.hs_dirs_upload(blinded.id(), period)?.any(|r| r.rsa_id() == &rsa_id) {
            continue;
        }
        let mut rng = rand::rng();
        let signing = ed25519::Keypair::generate(&mut rng);
        let expiry = SystemTime::now() + Duration::from_hours(3);
        let point = IntroPointDesc::builder()
            .link_specifiers(relay.linkspecs()?)
            .ipt_kp_ntor(*relay.ntor_onion_key())
            .kp_hs_ipt_sid(ed25519::Keypair::generate(&mut rng).verifying_key().into())
            .kp_hss_ntor(HsSvcNtorKeypair::generate(&mut rng).public().clone())
            .build()?;
        let certificate = create_desc_sign_key_cert(&signing.verifying_key(), &keypair, expiry)?;
        let descriptor: Arc<str> = HsDescBuilder::default()
            .blinded_id(&blinded)
            .hs_desc_sign(&signing)
            .hs_desc_sign_cert(certificate)
            .create2_formats(&[HandshakeType::NTOR])
            .auth_required(None)
            .is_single_onion_service(false)
            .intro_points(&[point])
            .intro_auth_key_cert_expiry(expiry)
            .intro_enc_key_cert_expiry(expiry)
            .lifetime(IntegerMinutes::new(180))
            .revision_counter(RevisionCounter::from(FAR_AHEAD))
            .subcredential(subcredential)
            .build_sign(&mut rng)?
            .into();
        let request = HsDescUploadRequest::new(descriptor);
        let upload = async || {
            let target = OwnedCircTarget::from_circ_target(&relay);
            let tunnel = circuits.get_or_launch_svc_dir(&directory, target).await?;
            let mut stream = tunnel.begin_dir_stream().await?;
            let runtime = arti.tor().runtime();
            let response =
                tor_dirclient::send_request(runtime, &request, &mut stream, None).await?;
            // What an attempt has stored whose answer was lost, the next may not.
            let code = response.status_code();
            ensure!([200, 400].contains(&code), "the HSDir answers {code}");
            Ok(())
        };
        eventually(SOON, upload).await?;
        stored += 1;
    }
    ensure!(stored > 0, "the HSDir is not responsible for the service");
    Ok(())
}
