//! How an `https://` origin proves who it is.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::settings::{OriginProtocol, TlsSettings};

/// Why there is no trust to begin with.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file with the certificate authorities cannot be read, or is no PEM.
    #[error("cannot read the certificate authorities in {}: {error}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: rustls::pki_types::pem::Error,
    },
    /// A certificate in it is no certificate.
    #[error("certificate {number} in {} cannot be used as an authority: {error}", .file.display())]
    BadAuthority {
        /// The file.
        file: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        error: rustls::Error,
    },
    /// There is none in it.
    #[error("there is no certificate in {}; it needs at least one, as PEM", .0.display())]
    NoAuthority(PathBuf),
    /// The cryptography cannot do it.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What every TLS connection to these origins is made with: whom to trust and
/// which protocol to ask for.
///
/// # Errors
///
/// Those of the file with the certificate authorities.
pub(super) fn client_config(
    settings: &TlsSettings,
    protocol: OriginProtocol,
) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if settings.accept_any_certificate {
        Arc::new(Verifier { accept: Accept::Anything, provider: Arc::clone(&provider) })
    } else {
        let authorities = authorities(settings)?;
        if settings.pins.is_empty() {
            WebPkiServerVerifier::builder_with_provider(
                Arc::new(authorities),
                Arc::clone(&provider),
            )
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
        } else {
            let pinned = Pinned { authorities: authorities.roots, pins: settings.pins.clone() };
            Arc::new(Verifier { accept: Accept::Pinned(pinned), provider: Arc::clone(&provider) })
        }
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![match protocol {
        OriginProtocol::Http1 => b"http/1.1".to_vec(),
        OriginProtocol::Http2 => b"h2".to_vec(),
    }];
    Ok(config)
}

/// The operator's own certificate authorities, or else the public ones.
fn authorities(settings: &TlsSettings) -> Result<RootCertStore, TrustError> {
    let Some(file) = &settings.ca_file else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let unreadable = |error| TrustError::Unreadable { file: file.clone(), error };
    let mut store = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_file_iter(file).map_err(unreadable)?.enumerate()
    {
        store.add(certificate.map_err(unreadable)?).map_err(|error| TrustError::BadAuthority {
            file: file.clone(),
            number: index + 1,
            error,
        })?;
    }
    if store.is_empty() { Err(TrustError::NoAuthority(file.clone())) } else { Ok(store) }
}

/// Verifies what webpki's own verifier of rustls cannot.
#[derive(Debug)]
struct Verifier {
    accept: Accept,
    provider: Arc<CryptoProvider>,
}

/// Which certificates are accepted; the handshake has to be sound with any.
#[derive(Debug)]
enum Accept {
    /// Whatever there is.
    Anything,
    /// With a pinned key.
    Pinned(Pinned),
}

/// A valid chain with a pinned key in it, or a self-signed certificate whose
/// own key is pinned.
#[derive(Debug)]
struct Pinned {
    authorities: Vec<TrustAnchor<'static>>,
    pins: Vec<[u8; 32]>,
}

impl Pinned {
    /// `spki` is the whole DER structure (RFC 7469, section 2.4).
    fn has(&self, spki: &[u8]) -> bool {
        self.pins.contains(&Sha256::digest(spki).into())
    }

    /// Only certificates that the chain really goes through count: a server
    /// may send any others beside them.
    fn is_in(&self, path: &VerifiedPath<'_>) -> bool {
        self.has(&path.end_entity().subject_public_key_info())
            || path.intermediate_certificates().any(|ca| self.has(&ca.subject_public_key_info()))
            || self.has(&sequence(&path.anchor().subject_public_key_info))
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<(), rustls::Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(invalid)?;
        if certificate.issuer() == certificate.subject()
            && self.has(&certificate.subject_public_key_info())
        {
            // The handshake proves that the server has the pinned key. Nobody
            // vouches for names and dates in a certificate of its own making.
            return Ok(());
        }
        let pinned = |path: &VerifiedPath<'_>| {
            if self.is_in(path) { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        certificate
            .verify_for_usage(
                algorithms,
                &self.authorities,
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                Some(&pinned),
            )
            .map_err(invalid)?;
        certificate.verify_is_valid_for_subject_name(server_name).map_err(invalid)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Accept::Pinned(pinned) = &self.accept {
            let algorithms = self.provider.signature_verification_algorithms.all;
            pinned.verify(end_entity, intermediates, server_name, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What the log says of a certificate that is not accepted.
fn invalid(error: webpki::Error) -> rustls::Error {
    match error {
        webpki::Error::UnknownIssuer => rustls::Error::General(
            "no valid chain with a pinned key leads to a trusted authority".to_owned(),
        ),
        webpki::Error::CertNotValidForName(_) => CertificateError::NotValidForName.into(),
        error => rustls::Error::General(format!("invalid certificate: {error}")),
    }
}

/// A trust anchor's key comes without the tag and length around it, which the
/// digest includes.
fn sequence(content: &[u8]) -> Vec<u8> {
    let mut der = vec![0x30];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => der.push(length),
        _ => {
            let length = content.len().to_be_bytes();
            let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            // At most eight bytes tell a length.
            der.push(0x80 | u8::try_from(length.len()).unwrap_or(u8::MAX));
            der.extend(length);
        }
    }
    der.extend_from_slice(content);
    der
}
