//! How does somebody behave who wants a service to be busy?
//!
//! Sends introductions as fast as circuits can be built, with work or without, and waits
//! for nobody: the rendezvous that it names is none. Built on Arti's circuits, it knows
//! nothing of the code under test. Used by the bench and by tests of hostile clients.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use arti_client::config::TorClientConfigBuilder;
use arti_client::{TorClient, TorClientConfig};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use tokio::sync::oneshot;
use tor_bytes::Writeable as _;
use tor_cell::relaycell::RelayMsg as _;
use tor_cell::relaycell::hs::intro_payload::{IntroduceHandshakePayload, OnionKey};
use tor_cell::relaycell::hs::pow::ProofOfWork;
use tor_cell::relaycell::hs::pow::v1::ProofOfWorkV1;
use tor_cell::relaycell::hs::{AuthKeyType, IntroduceAckStatus};
use tor_cell::relaycell::msg::{AnyRelayMsg, Body, Introduce1};
use tor_checkable::Timebound as _;
use tor_circmgr::ClientOnionServiceDataTunnel;
use tor_circmgr::hspool::HsCircPool;
use tor_circmgr::isolation::StreamIsolation;
use tor_hsclient::{HsClientConnector, HsClientSecretKeys};
use tor_hscrypto::Subcredential;
use tor_hscrypto::pk::{HsBlindId, HsId, HsIdKey};
use tor_hscrypto::pow::v1::{Instance, Seed, SolverInput};
use tor_hscrypto::time::TimePeriod;
use tor_linkspec::{CircTarget as _, EncodedLinkSpec};
use tor_llcrypto::pk::curve25519;
use tor_netdir::{NetDirProvider, Timeliness};
use tor_netdoc::doc::hsdesc::pow::PowParams;
use tor_netdoc::doc::hsdesc::{HsDesc, IntroPointDesc};
use tor_proto::client::circuit::handshake::hs_ntor::{HsNtorClientState, HsNtorServiceInfo};
use tor_proto::{MetaCellDisposition, MsgHandler, TargetHop};
use tor_rtcompat::PreferredRuntime;

use super::client::Client;
use super::{Network, published};

/// How long the start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long one introduction may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A hostile client, with guards of its own.
pub struct Attacker {
    _client: Arc<TorClient<PreferredRuntime>>,
    circuits: Arc<HsCircPool<PreferredRuntime>>,
    directory: Arc<dyn NetDirProvider>,
}

/// What an attacker knows of a service: its descriptor at one moment.
pub struct Target {
    /// Where its clients meet it.
    pub points: Vec<IntroPointDesc>,
    blinded: HsBlindId,
    subcredential: Subcredential,
    /// The seed of its puzzle, and the effort that it suggests.
    pub puzzle: Option<(Seed, u32)>,
}

/// What a client names as its rendezvous point.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    /// The relay's onion key.
    pub key: curve25519::PublicKey,
    /// Identities and addresses.
    pub specifiers: Vec<EncodedLinkSpec>,
}

impl Attacker {
    /// Starts a client that knows the whole network.
    pub async fn start(network: &Network, name: &str) -> Result<Attacker> {
        let dir = network.scratch(name)?;
        let config = config(&network.arti_toml(), &dir)?;
        let client = TorClient::with_runtime(PreferredRuntime::current()?).config(config);
        let client = client.create_unbootstrapped()?;
        let relays = network.relays().len();
        let ready = async {
            client.bootstrap().await?;
            let directory = client.dirmgr()?.clone().upcast_arc();
            while directory.netdir(Timeliness::Timely)?.relays().count() < relays {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(directory)
        };
        let directory = tokio::time::timeout(START_LIMIT, ready).await.context("no network")??;
        let circuits = client.hs_circ_pool()?.clone();
        Ok(Attacker { _client: client, circuits, directory })
    }

    /// Introduces somebody who waits nowhere, at one of the points, on a circuit of its
    /// own; what the relay says.
    pub async fn introduce(
        &self,
        target: &Target,
        work: Option<ProofOfWork>,
    ) -> Result<IntroduceAckStatus> {
        let relay = self.relays()?.choose(&mut rand::rng()).cloned().context("no relay")?;
        self.introduce_at(target, relay, work).await
    }

    /// The same with this rendezvous point, be it one or not.
    pub async fn introduce_at(
        &self,
        target: &Target,
        rendezvous: Rendezvous,
        work: Option<ProofOfWork>,
    ) -> Result<IntroduceAckStatus> {
        let introduced = self.introduce_now(target, rendezvous, work);
        tokio::time::timeout(LIMIT, introduced).await.context("no answer")?
    }

    /// A circuit of its own to whoever answers for an address, on which anything may
    /// be said.
    pub async fn meet(&self, onion: &str) -> Result<Arc<ClientOnionServiceDataTunnel>> {
        let (runtime, circuits) = (PreferredRuntime::current()?, Arc::clone(&self.circuits));
        // It knows nothing of circuits that there are.
        let config = TorClientConfig::default();
        let never = Box::pin(futures::stream::empty());
        let connector = HsClientConnector::new(runtime, circuits, &config, never)?;
        let directory = self.directory.netdir(Timeliness::Timely)?;
        let (keys, isolation) = (HsClientSecretKeys::default(), StreamIsolation::no_isolation());
        let met = connector.get_or_launch_tunnel(&directory, onion.parse()?, keys, isolation);
        Ok(tokio::time::timeout(LIMIT, met).await.context("nobody was met")??)
    }

    /// All relays of the directory, as honest clients name them.
    pub fn relays(&self) -> Result<Vec<Rendezvous>> {
        let directory = self.directory.netdir(Timeliness::Timely)?;
        directory
            .relays()
            .map(|relay| {
                Ok(Rendezvous { key: *relay.ntor_onion_key(), specifiers: relay.linkspecs()? })
            })
            .collect()
    }

    async fn introduce_now(
        &self,
        target: &Target,
        rendezvous: Rendezvous,
        work: Option<ProofOfWork>,
    ) -> Result<IntroduceAckStatus> {
        let directory = self.directory.netdir(Timeliness::Timely)?;
        let point = target.points.choose(&mut rand::rng()).context("no point")?;
        let relay = directory
            .circ_target_from_verbatim_linkspecs(point.link_specifiers(), point.ipt_ntor_key())?;
        let tunnel = self.circuits.get_or_launch_client_intro(&directory, relay).await?;
        let payload = IntroduceHandshakePayload::new(
            rand::rng().random(),
            OnionKey::NtorOnionKey(rendezvous.key),
            rendezvous.specifiers,
            work,
        );
        let message = introduction(point, target.subcredential, &payload)?;
        let (acknowledged, ack) = oneshot::channel();
        let answer = Acknowledged(Some(acknowledged));
        tunnel.start_conversation(Some(message.into()), answer, TargetHop::LastHop).await?;
        Ok(ack.await?)
    }
}

impl Target {
    /// What HSDirs hold of an address now.
    pub async fn of(network: &Network, client: &Client, onion: &str) -> Result<Target> {
        let identity: HsId = onion.parse()?;
        let held = published::raw(network, client, onion).await?;
        for period in published::periods(network)? {
            for text in held.values() {
                if let Ok(target) = Target::read(text, identity, period) {
                    return Ok(target);
                }
            }
        }
        anyhow::bail!("no descriptor of the address can be read")
    }

    fn read(text: &str, identity: HsId, period: TimePeriod) -> Result<Target> {
        let key = HsIdKey::try_from(identity)?;
        let (blinded, subcredential) = key.compute_blinded_key(period)?;
        let blinded = blinded.id();
        let read = HsDesc::parse_decrypt_validate(text, &blinded, &subcredential, None)?;
        let descriptor = read.if_valid_at(&SystemTime::now())?;
        let puzzle = descriptor.pow_params().iter().find_map(|params| match params {
            PowParams::V1(params) => {
                let seed = params.seed().clone().dangerously_into_parts().0;
                Some((seed, params.suggested_effort().into()))
            }
            _ => None,
        });
        ensure!(!descriptor.intro_points().is_empty(), "no introduction points");
        let points = descriptor.intro_points().to_vec();
        Ok(Target { points, blinded, subcredential, puzzle })
    }

    /// Does so much work for the service's puzzle, or for one of a `seed` of one's own.
    pub fn solve(&self, effort: u32, seed: Option<[u8; 32]>) -> Result<ProofOfWork> {
        let published = || self.puzzle.as_ref().map(|(seed, _)| seed.clone());
        let seed = seed.map(Seed::from).or_else(published).context("it asks for no work")?;
        let instance = Instance::new(self.blinded, seed);
        let solution = SolverInput::new(instance, effort.into()).solve(&mut rand::rng()).run()?;
        Ok(ProofOfWork::V1(ProofOfWorkV1::new(
            solution.nonce().clone(),
            solution.effort(),
            solution.seed_head(),
            solution.proof_to_bytes(),
        )))
    }
}

fn config(toml: &str, dir: &std::path::Path) -> Result<TorClientConfig> {
    let mut builder: TorClientConfigBuilder = toml::from_str(toml)?;
    let literal = |name| arti_client::config::CfgPath::new_literal(dir.join(name));
    builder.storage().state_dir(literal("state")).cache_dir(literal("cache"));
    Ok(builder.build()?)
}

/// INTRODUCE1 (rend-spec-v3, section 3.2).
fn introduction(
    point: &IntroPointDesc,
    subcredential: Subcredential,
    payload: &IntroduceHandshakePayload,
) -> Result<Introduce1> {
    let session = point.ipt_sid_key();
    let message = |encrypted| {
        Introduce1::new(AuthKeyType::ED25519_SHA3_256, session.as_bytes().to_vec(), encrypted)
    };
    let mut header = Vec::new();
    Body::encode_onto(message(Vec::new()), &mut header)?;
    let mut plaintext = Vec::new();
    payload.write_onto(&mut plaintext)?;
    let service =
        HsNtorServiceInfo::new(point.svc_ntor_key().clone(), session.clone(), subcredential);
    let handshake = HsNtorClientState::new(&mut rand::rng(), service);
    Ok(message(handshake.client_send_intro(&header, &plaintext)?))
}

tor_cell::restricted_msg! {
    /// What an introduction point may say to a client.
    enum Answer : RelayMsg {
        IntroduceAck,
    }
}

/// Waits for what the relay says.
struct Acknowledged(Option<oneshot::Sender<IntroduceAckStatus>>);

impl MsgHandler for Acknowledged {
    fn handle_msg(&mut self, message: AnyRelayMsg) -> tor_proto::Result<MetaCellDisposition> {
        let unexpected = |message: AnyRelayMsg| {
            tor_proto::Error::CircProto(format!("unexpected {}", message.cmd()))
        };
        let Answer::IntroduceAck(ack) = Answer::try_from(message).map_err(unexpected)?;
        if let Some(waiting) = self.0.take() {
            let _ = waiting.send(ack.status());
        }
        Ok(MetaCellDisposition::ConversationFinished)
    }
}
