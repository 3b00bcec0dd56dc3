//! Ends the TLS of clients on a port, in front of the HTTP reverse proxy.
//!
//! [`certificate`] reads one certificate with its key, [`choice`] gives a client the
//! one for the name that it asks for. What is in force can be replaced while
//! connections go on: these keep what they began with. Files are read where somebody
//! asks for it ([`Tls::read_again`]); nothing here looks at them by itself.

pub mod certificate;
mod choice;
mod key_check;
pub(crate) mod taken;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::failure::Failure;
use crate::http::{CircuitControl, Proxy};
use crate::rules::CertificateFiles;
use crate::visitor::Visitor;
use certificate::{Certificate, CertificateError};
use choice::CertificateChoice;
pub use key_check::KeyCheck;
use taken::CountedStream;
use turns::HandshakeTurns;

/// How long a handshake may take, however long a client may take for the head of a
/// request: two ways through Tor.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of records that are held for a client who does not read: one record.
const BUFFER: usize = 16 * 1024;

/// How long a client may take for the farewell to a handshake that failed.
const FAREWELL: Duration = Duration::from_secs(2);

/// The TLS of one port.
#[derive(Debug)]
pub struct Tls {
    files: Vec<CertificateFiles>,
    keys: KeyCheck,
    in_force: RwLock<TlsInForce>,
    /// Why what the files hold now is not in force.
    wrong: Mutex<Option<String>>,
    turns: HandshakeTurns,
}

/// What handshakes that begin now are made with.
#[derive(Clone, Debug)]
struct TlsInForce {
    config: Arc<ServerConfig>,
    certificates: Arc<Vec<Certificate>>,
}

/// What came of reading the files again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reread {
    /// They hold what is in force.
    Same,
    /// What they hold is in force now.
    Replaced,
    /// They cannot be used, and what was in force stays.
    Wrong(String),
}

impl Tls {
    /// Reads these certificates and keys, at least one; the first is for clients
    /// that ask for none of the names.
    ///
    /// # Errors
    ///
    /// The first that cannot be used.
    pub fn new(files: &[CertificateFiles], keys: &KeyCheck) -> Result<Self, CertificateError> {
        Ok(Self {
            files: files.to_vec(),
            keys: keys.clone(),
            in_force: RwLock::new(TlsInForce::read(files, keys)?),
            wrong: Mutex::default(),
            turns: HandshakeTurns::default(),
        })
    }

    /// The files.
    pub fn files(&self) -> &[CertificateFiles] {
        &self.files
    }

    /// The certificates in force, in the order of the files.
    pub fn certificates(&self) -> Arc<Vec<Certificate>> {
        Arc::clone(&self.in_force.read().certificates)
    }

    /// Why what the files hold now is not in force, if that is so.
    pub fn wrong(&self) -> Option<String> {
        self.wrong.lock().clone()
    }

    /// Reads the files again, and puts what they hold into force.
    pub fn read_again(&self) -> Reread {
        match TlsInForce::read(&self.files, &self.keys) {
            Ok(new) => match self.put_into_force(new) {
                true => Reread::Replaced,
                false => Reread::Same,
            },
            Err(error) => {
                let text = error.to_string();
                *self.wrong.lock() = Some(text.clone());
                Reread::Wrong(text)
            }
        }
    }

    /// Puts into force what another one has read of the same files.
    pub(crate) fn follow(&self, other: &Self) {
        let new = other.in_force.read().clone();
        self.put_into_force(new);
    }

    /// Whether it is other than what was in force.
    fn put_into_force(&self, new: TlsInForce) -> bool {
        *self.wrong.lock() = None;
        let mut in_force = self.in_force.write();
        // Whoever has a session goes on with it while nothing has changed.
        let differs = in_force.certificates != new.certificates;
        if differs {
            *in_force = new;
        }
        differs
    }

    /// Serves a client until either side ends the stream, or the handshake fails.
    pub async fn serve<C>(
        &self,
        proxy: &Arc<Proxy>,
        client: C,
        visitor: Visitor,
        control: impl CircuitControl,
    ) where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let client = CountedStream::new(client);
        let taken = client.taken();
        match self.accept(client, visitor.circuit, proxy.patience()).await {
            Ok(client) => {
                let visitor = Visitor { tls: true, ..visitor };
                proxy.serve_counted(client, Some(taken), visitor, control).await;
            }
            Err(failure) => proxy.turned_away(failure, &control),
        }
    }

    /// Shakes hands with a client of this circuit, whose patience for heads is `head`.
    async fn accept<C>(
        &self,
        client: C,
        circuit: u64,
        head: Duration,
    ) -> Result<TlsStream<C>, Failure>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let turn = self.turns.take(circuit)?;
        let config = Arc::clone(&self.in_force.read().config);
        let handshake = TlsAcceptor::from(config).accept(client).into_fallible();
        let within = timeout(HANDSHAKE_TIMEOUT.min(head), handshake);
        let ended = tokio::select! {
            biased;
            ended = within => ended,
            () = turn.given_up() => return Err(Failure::GivenUp),
        };
        match ended {
            Ok(Ok(mut stream)) => {
                stream.get_mut().1.set_buffer_limit(Some(BUFFER));
                Ok(stream)
            }
            Ok(Err((_, mut client))) => {
                // The alert is written, and perhaps not sent.
                let farewell = async {
                    let _ = client.flush().await;
                    let _ = client.shutdown().await;
                };
                let _ = timeout(FAREWELL, farewell).await;
                Err(Failure::TlsHandshake)
            }
            Err(_) => Err(Failure::TlsHandshake),
        }
    }
}

impl TlsInForce {
    fn read(files: &[CertificateFiles], keys: &KeyCheck) -> Result<Self, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let read = |files| Certificate::read(files, keys, &provider);
        let read = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let (certificates, signers): (Vec<_>, Vec<_>) = read.into_iter().unzip();
        let choice = CertificateChoice::new(signers);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(choice));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), certificates: Arc::new(certificates) })
    }
}
