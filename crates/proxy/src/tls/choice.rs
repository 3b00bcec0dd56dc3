//! Which certificate does a client get?
//!
//! Of those in whose names the server name of its hello is, the first with a key that
//! the client can verify; for another name, or none, the first of all that it can
//! verify.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

/// The certificates of a port, in the order of the configuration.
#[derive(Debug)]
pub(super) struct CertificateChoice(Vec<Arc<CertifiedKey>>);

impl CertificateChoice {
    pub(super) fn new(signers: Vec<CertifiedKey>) -> Self {
        Self(signers.into_iter().map(Arc::new).collect())
    }
}

impl ResolvesServerCert for CertificateChoice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let verifiable = |signer: &&Arc<CertifiedKey>| {
            signer.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name
            .and_then(|name| self.0.iter().filter(verifiable).find(|signer| is_for(signer, &name)));
        // To a client that can verify none, rustls says `handshake_failure`, as every server
        // does; without a certificate it would say `access_denied`.
        named.or_else(|| self.0.iter().find(verifiable)).or(self.0.first()).cloned()
    }
}

fn is_for(signer: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate =
        signer.end_entity_cert().ok().and_then(|der| EndEntityCert::try_from(der).ok());
    certificate.is_some_and(|it| it.verify_is_valid_for_subject_name(name).is_ok())
}
