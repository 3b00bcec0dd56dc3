//! Hostile ends of control links: an onion service that keeps what publishers say to it,
//! one that answers them as it likes, and proofs that prove nothing.
//!
//! They know the protocol, and of the code under test only its messages.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use data_encoding::HEXLOWER;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use onionbraid_balancer::link::VERSION;
use onionbraid_balancer::onion::{IntroPoint, LinkSpecifier, OnionAddress, RelayId, SessionId};
use rand::RngExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tor_bytes::Writeable as _;
use tor_cell::relaycell::msg::{End, EndReason};
use tor_cert::{CertType, CertifiedKey, Ed25519Cert};
use tor_hscrypto::pk::HsIdKeypair;
use tor_hsservice::config::OnionServiceConfigBuilder;
use tor_hsservice::{RunningOnionService, StreamRequest, handle_rend_requests};
use tor_llcrypto::pk::ed25519;
use tor_netdoc::doc::hsdesc::IntroPointDesc;
use tor_proto::stream::IncomingStreamRequest;

use crate::e2e::frontend::ArtiClient;
use crate::network::attacker::{Attacker, Target};

/// How long whoever was met may take to say something, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// An onion service of Arti's own that keeps what is said to it; dropping it ends it.
pub(super) struct Listening {
    /// The streams that were asked for and not looked at yet.
    asked: mpsc::UnboundedReceiver<Asked>,
    _running: Arc<RunningOnionService>,
    _tasks: JoinSet<()>,
}

/// A stream that somebody has asked for, without an answer so far.
pub(super) struct Asked {
    /// What BEGIN has in place of a host, ...
    pub(super) host: String,
    /// ... and the port.
    pub(super) port: u16,
    stream: StreamRequest,
}

impl Listening {
    /// With the key of an onion address.
    pub(super) fn start(client: &ArtiClient, nickname: &str, key: HsIdKeypair) -> Result<Self> {
        let mut config = OnionServiceConfigBuilder::default();
        config.nickname(nickname.parse()?);
        let launched = client.tor().launch_onion_service_with_hsid(config.build()?, key)?;
        let (running, clients) = launched.context("it is not enabled")?;
        let (told, asked) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut streams = pin!(handle_rend_requests(clients));
            while let Some(stream) = streams.next().await {
                if let IncomingStreamRequest::Begin(begin) = stream.request() {
                    let host = String::from_utf8_lossy(begin.addr()).into_owned();
                    let _ = told.send(Asked { host, port: begin.port(), stream });
                }
            }
        });
        Ok(Self { asked, _running: running, _tasks: tasks })
    }

    /// The next stream that is asked for.
    pub(super) async fn next(&mut self) -> Result<Asked> {
        let next = tokio::time::timeout(4 * LIMIT, self.asked.recv()).await;
        next.context("nobody asks for a stream")?.context("it has ended")
    }
}

impl Asked {
    /// Answers as an onion service does that has no such port.
    pub(super) async fn refuse(self) -> Result<()> {
        Ok(self.stream.reject(End::new_with_reason(EndReason::DONE)).await?)
    }
}

/// What somebody comes to who opens a stream to a port, with this in place of a host:
/// the reason of the refusal, and whether the circuit is closed then.
pub(super) async fn outcome(
    attacker: &Attacker,
    onion: &str,
    host: &str,
    port: u16,
) -> Result<(String, bool)> {
    let circuit = attacker.meet(onion).await?;
    let opened = tokio::time::timeout(LIMIT, circuit.begin_stream(host, port, None)).await;
    let said = match opened.context("no answer")? {
        Ok(_) => "opened".to_owned(),
        Err(tor_circmgr::Error::Protocol {
            error: tor_proto::Error::EndReceived(reason), ..
        }) => reason.to_string(),
        Err(error) => bail!("the circuit broke: {error:#}"),
    };
    let closed = tokio::time::timeout(LIMIT, circuit.wait_for_close()).await;
    Ok((said, closed.is_ok()))
}

/// A proof that has everything but the right key and the secret of a circuit.
pub(super) fn forged(backend: &OnionAddress) -> Result<String> {
    let key = || ed25519::Keypair::from_bytes(&rand::rng().random());
    let (blinded, signing): (ed25519::Keypair, ed25519::Keypair) = (key(), key());
    let certificate = Ed25519Cert::builder()
        .cert_type(CertType::HS_BLINDED_ID_V_SIGNING)
        .expiration(SystemTime::now() + Duration::from_hours(54))
        .signing_key(blinded.verifying_key().into())
        .cert_key(CertifiedKey::Ed25519(signing.verifying_key().into()))
        .encode_and_sign(&blinded)?;
    let secret: [u8; 32] = rand::rng().random();
    let domain = b"onionbraid control link\0".as_slice();
    let message = [domain, &[VERSION], backend.public_key(), &secret].concat();
    let signature = signing.sign(&message).to_bytes();
    Ok(HEXLOWER.encode(&[signature.as_slice(), certificate.as_ref()].concat()))
}

/// The points of a service, as a backend reports its own.
pub(super) fn points(target: &Target) -> Result<Vec<IntroPoint>> {
    target.points.iter().map(point).collect()
}

fn point(described: &IntroPointDesc) -> Result<IntroPoint> {
    let mut link_specifiers = Vec::new();
    for encoded in described.link_specifiers() {
        let mut bytes = Vec::new();
        encoded.write_onto(&mut bytes)?;
        let body = bytes.get(2..).unwrap_or_default().to_vec();
        link_specifiers.push(LinkSpecifier { kind: encoded.lstype().into(), body });
    }
    let rsa = link_specifiers.iter().find(|it| it.kind == 2).context("no RSA identity")?;
    Ok(IntroPoint {
        session_id: SessionId(*described.ipt_sid_key().as_bytes()),
        relay: RelayId(rsa.body.as_slice().try_into()?),
        link_specifiers,
        relay_ntor_key: described.ipt_ntor_key().to_bytes(),
        service_ntor_key: described.svc_ntor_key().to_bytes(),
    })
}

/// What a backend says, in pieces.
pub(super) type Words = BoxStream<'static, Bytes>;

/// Whoever answers a publisher's requests behind a C tor service; dropping it ends it.
pub(super) struct Speaker {
    /// Where it listens.
    pub(super) address: SocketAddr,
    heard: Arc<AtomicU64>,
    said: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Speaker {
    /// Answers with this status, and with what `words` says to each publisher.
    pub(super) async fn start(
        status: u16,
        words: impl Fn() -> Words + Send + Sync + 'static,
    ) -> Result<Speaker> {
        let words = Arc::new(words);
        Self::listen(move |connection, said| {
            let words = Arc::clone(&words);
            async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let (words, said) = (Arc::clone(&words), Arc::clone(&said));
                    async move { Ok::<_, Infallible>(answer(request, status, &*words, said).await) }
                });
                let server = http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(connection), service).await;
            }
        })
        .await
    }

    /// Sends these bytes after each other without an end, whatever it hears.
    pub(super) async fn raw(first: Vec<u8>, again: Vec<u8>) -> Result<Speaker> {
        Self::listen(move |connection, said| {
            let (first, again) = (first.clone(), again.clone());
            async move {
                let (mut read, mut write) = connection.into_split();
                let sends = async {
                    let mut sent = write.write_all(&first).await;
                    while sent.is_ok() {
                        sent = write.write_all(&again).await;
                        said.fetch_add(1, Ordering::Relaxed);
                    }
                };
                let mut heard = vec![0; 4096];
                let hears = async { while read.read(&mut heard).await.is_ok_and(|n| n > 0) {} };
                tokio::select! { () = sends => {}, () = hears => {} }
            }
        })
        .await
    }

    async fn listen<F>(
        serve: impl Fn(TcpStream, Arc<AtomicU64>) -> F + Send + 'static,
    ) -> Result<Speaker>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (heard, said) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        let counts = (Arc::clone(&heard), Arc::clone(&said));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(connection, Arc::clone(&counts.1)));
            }
        });
        Ok(Speaker { address, heard, said, _tasks: tasks })
    }

    /// How many streams publishers have opened.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// How many pieces it has got rid of.
    pub(super) fn said(&self) -> u64 {
        self.said.load(Ordering::Relaxed)
    }
}

async fn answer(
    request: Request<Incoming>,
    status: u16,
    words: &(dyn Fn() -> Words + Send + Sync),
    said: Arc<AtomicU64>,
) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    if request.method() == Method::POST {
        // Orders go on as long as the link.
        std::future::pending::<()>().await;
    }
    let pieces = words().map(move |piece| {
        said.fetch_add(1, Ordering::Relaxed);
        Ok(Frame::data(piece))
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}

/// One piece, then the others when the gate is open.
pub(super) fn behind_a_gate(
    first: Vec<u8>,
    mut gate: tokio::sync::watch::Receiver<bool>,
    others: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Words {
    let first = stream::once(async move { Bytes::from(first) });
    let others = stream::once(async move {
        let _ = gate.wait_for(|open| *open).await;
        stream::iter(others.map(Bytes::from))
    });
    first.chain(others.flatten()).boxed()
}
