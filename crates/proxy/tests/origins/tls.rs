//! How `https://` origins prove who they are, with certificates made here.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use onionbraid_proxy::body;
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::origins::Origins;
use onionbraid_proxy::rules::{HttpOrigin, Origin};
use onionbraid_proxy::settings::{HttpSettings, OriginProtocol, OriginSettings, TlsSettings};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData as _,
    SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::http2::serve_http2;
use crate::server::{Accepted, Server, closed, read_head, respond};
use crate::{SHORT, ask, get, origins, settings, until};

/// A certificate authority, and its file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// What a server shows.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
    Authority { issuer, directory }
}

impl Authority {
    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for this name, changed as the test wants it.
    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: vec![certificate.der().clone()], key }
    }

    fn pin(&self) -> [u8; 32] {
        pin(self.issuer.key())
    }
}

fn self_signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity { chain: vec![certificate.der().clone()], key }
}

fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 1, 1);
}

fn pin(key: &KeyPair) -> [u8; 32] {
    Sha256::digest(key.subject_public_key_info()).into()
}

fn acceptor(identity: &Identity, protocol: &[u8]) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), key)
        .unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Answers every request with the name that was asked for by SNI.
async fn start(identity: &Identity) -> Server {
    let acceptor = acceptor(identity, b"http/1.1");
    let server = Server::start(move |_, connection| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(connection).await else { return };
            let name = stream.get_ref().1.server_name().unwrap_or("nobody").to_owned();
            let mut connection: Accepted = Box::new(stream);
            while read_head(&mut connection).await.is_some() {
                respond(&mut connection, &name).await;
            }
        }
    });
    server.await.with_tls()
}

/// Asks a server once, under these settings.
async fn try_out(identity: &Identity, tls: TlsSettings) -> Result<String, Failure> {
    let server = start(identity).await;
    let settings = OriginSettings { fail_after: 1, tls, ..settings() };
    let origins = origins(&[&server.origin], settings);
    let answer = ask(&origins, get("/")).await;
    if answer.is_err() {
        let out = origins.snapshot().remove(0).out.unwrap();
        assert!(out.starts_with("TLS: "), "{out}");
    }
    answer
}

/// The authority of this file, and a name.
fn trust(file: PathBuf) -> TlsSettings {
    TlsSettings {
        ca_file: Some(file),
        server_name: Some("origin.example".into()),
        ..TlsSettings::default()
    }
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_for_the_right_name_is_accepted() {
    let authority = authority();
    let identity = authority.issue("origin.example", |_| {});
    let answer = try_out(&identity, trust(authority.file())).await;
    assert_eq!(answer.unwrap(), "origin.example", "SNI is the name");
}

#[tokio::test]
async fn an_address_is_verified_like_a_name_and_not_sent() {
    let authority = authority();
    let identity = authority.issue("origin.example", |params| {
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    });
    let tls = TlsSettings { server_name: None, ..trust(authority.file()) };
    assert_eq!(try_out(&identity, tls.clone()).await.unwrap(), "nobody");
    let for_a_name = authority.issue("origin.example", |_| {});
    assert_eq!(try_out(&for_a_name, tls).await, Err(Failure::OriginUnreachable));
}

#[tokio::test]
async fn a_certificate_for_another_name_or_from_the_past_or_of_a_stranger_is_refused() {
    let (ours, strange) = (authority(), authority());
    for identity in [
        ours.issue("other.example", |_| {}),
        ours.issue("origin.example", expired),
        strange.issue("origin.example", |_| {}),
        self_signed("origin.example", |_| {}),
    ] {
        let answer = try_out(&identity, trust(ours.file())).await;
        assert_eq!(answer, Err(Failure::OriginUnreachable));
    }
}

#[tokio::test]
async fn the_public_authorities_do_not_vouch_for_one_of_our_making() {
    let identity = authority().issue("origin.example", |_| {});
    let tls = TlsSettings { ca_file: None, ..trust(PathBuf::new()) };
    assert_eq!(try_out(&identity, tls).await, Err(Failure::OriginUnreachable));
}

#[tokio::test]
async fn a_pin_is_needed_beside_a_valid_chain_and_may_be_anywhere_in_it() {
    let authority = authority();
    let identity = authority.issue("origin.example", |_| {});
    let with = |pins: &[[u8; 32]]| TlsSettings { pins: pins.to_vec(), ..trust(authority.file()) };
    for pins in [&[pin(&identity.key)][..], &[authority.pin()], &[[0; 32], authority.pin()]] {
        assert_eq!(try_out(&identity, with(pins)).await.unwrap(), "origin.example");
    }
    assert_eq!(try_out(&identity, with(&[[0; 32]])).await, Err(Failure::OriginUnreachable));
}

#[tokio::test]
async fn a_pin_does_not_excuse_an_invalid_chain() {
    let (ours, strange) = (authority(), authority());
    for identity in [
        ours.issue("other.example", |_| {}),
        ours.issue("origin.example", expired),
        strange.issue("origin.example", |_| {}),
    ] {
        let pins = vec![pin(&identity.key), ours.pin(), strange.pin()];
        let answer = try_out(&identity, TlsSettings { pins, ..trust(ours.file()) }).await;
        assert_eq!(answer, Err(Failure::OriginUnreachable));
    }
}

#[tokio::test]
async fn a_pinned_certificate_that_is_shown_but_not_in_the_chain_counts_for_nothing() {
    let (ours, pinned) = (authority(), authority());
    let mut identity = ours.issue("origin.example", |_| {});
    identity.chain.push(pinned.issuer.der().clone());
    let tls = TlsSettings { pins: vec![pinned.pin()], ..trust(ours.file()) };
    assert_eq!(try_out(&identity, tls).await, Err(Failure::OriginUnreachable));
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_by_its_own_pin_alone() {
    let ours = authority();
    for identity in [
        self_signed("origin.example", |_| {}),
        self_signed("whatever.example", |params| {
            expired(params);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
    ] {
        let right = vec![[0; 32], pin(&identity.key)];
        let tls = TlsSettings { pins: right, ..trust(ours.file()) };
        assert_eq!(try_out(&identity, tls).await.unwrap(), "origin.example");
        let tls = TlsSettings { pins: vec![ours.pin()], ..trust(ours.file()) };
        assert_eq!(try_out(&identity, tls).await, Err(Failure::OriginUnreachable));
    }
}

#[tokio::test]
async fn a_pinned_certificate_needs_the_pinned_key() {
    let real = self_signed("origin.example", |_| {});
    let thief = Identity { chain: real.chain.clone(), key: KeyPair::generate().unwrap() };
    // rustls would not serve a key that is not the certificate's.
    let provider = rustls::crypto::ring::default_provider();
    let der = PrivateKeyDer::try_from(thief.key.serialize_der()).unwrap();
    let key = provider.key_provider.load_private_key(der).unwrap();
    let shown = rustls::sign::CertifiedKey::new(thief.chain, key);
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(move |_, connection| {
        let acceptor = acceptor.clone();
        async move {
            assert!(acceptor.accept(connection).await.is_err());
        }
    });
    let server = server.await.with_tls();
    for tls in [
        TlsSettings { pins: vec![pin(&real.key)], ..trust(authority().file()) },
        TlsSettings { accept_any_certificate: true, ..TlsSettings::default() },
    ] {
        let tls = TlsSettings { ca_file: None, ..tls };
        let origins = origins(&[&server.origin], OriginSettings { tls, ..settings() });
        assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginUnreachable));
    }
}

#[tokio::test]
async fn any_certificate_is_accepted_where_the_operator_says_so() {
    let tls = TlsSettings { accept_any_certificate: true, ..TlsSettings::default() };
    for identity in
        [self_signed("whatever.example", expired), authority().issue("other.example", |_| {})]
    {
        assert_eq!(try_out(&identity, tls.clone()).await.unwrap(), "nobody");
    }
}

#[tokio::test]
async fn http_2_is_agreed_on_by_alpn() {
    let authority = authority();
    let identity = authority.issue("origin.example", |_| {});
    let settings = OriginSettings {
        protocol: OriginProtocol::Http2,
        tls: trust(authority.file()),
        fail_after: 1,
        ..settings()
    };
    let acceptor = acceptor(&identity, b"h2");
    let server = Server::start(move |_, connection| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(connection).await.unwrap();
            let answer = async |request: hyper::Request<_>| {
                hyper::Response::new(body::full(request.uri().to_string()))
            };
            serve_http2(Box::new(stream), 100, answer).await;
        }
    });
    let server = server.await.with_tls();
    let origins = crate::origins(&[&server.origin], settings.clone());
    assert_eq!(ask(&origins, get("/path")).await.unwrap(), "https://shop.onion/path");

    let without = start(&identity).await;
    let origins = crate::origins(&[&without.origin], settings);
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginUnreachable));
}

#[tokio::test]
async fn an_origin_that_never_answers_the_handshake_is_slow() {
    let server = Server::start(|_, mut connection| async move {
        closed(&mut connection).await;
    });
    let server = server.await.with_tls();
    let tls = TlsSettings { accept_any_certificate: true, ..TlsSettings::default() };
    let settings = OriginSettings { connect_timeout: SHORT, tls, ..settings() };
    let origins = origins(&[&server.origin], settings);
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginSlow));
    until(|| server.accepted() == 1).await;
}

#[tokio::test]
async fn the_proxy_line_comes_before_the_handshake() {
    let authority = authority();
    let acceptor = acceptor(&authority.issue("origin.example", |_| {}), b"http/1.1");
    let line = Arc::new(Mutex::new(String::new()));
    let got = Arc::clone(&line);
    let server = Server::start(move |_, mut connection| {
        let (acceptor, got) = (acceptor.clone(), Arc::clone(&got));
        async move {
            use tokio::io::AsyncReadExt as _;
            while !got.lock().unwrap().ends_with('\n') {
                let byte = connection.read_u8().await.unwrap();
                got.lock().unwrap().push(byte.into());
            }
            let mut connection: Accepted = Box::new(acceptor.accept(connection).await.unwrap());
            read_head(&mut connection).await;
            respond(&mut connection, "well").await;
        }
    });
    let server = server.await.with_tls();
    let settings = OriginSettings {
        proxy_protocol: Some(onionbraid_proxy::settings::ProxyProtocol::V1),
        tls: trust(authority.file()),
        ..settings()
    };
    let origins = origins(&[&server.origin], settings);
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "well");
    assert_eq!(*line.lock().unwrap(), "PROXY TCP6 fc00:dead:beef:4dad::0:7 ::1 7 80\r\n");
}

/// What is wrong with settings that cannot work.
fn complaint(address: Origin, tls: TlsSettings) -> String {
    let origin = HttpOrigin { address, tls: true };
    let origins = OriginSettings { tls, ..settings() };
    let settings = HttpSettings { origins, ..HttpSettings::default() };
    Origins::new(&[origin], &settings).err().unwrap().to_string()
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_named_with_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let complain = || complaint(Origin::Name("a.example".into(), 443), trust(file.clone()));
    let shown = file.display();
    let missing = complain();
    assert!(missing.starts_with(&format!("cannot read the certificate authorities in {shown}: ")));
    assert!(missing.contains("No such file"), "{missing}");
    std::fs::write(&file, "no certificate here\n").unwrap();
    assert_eq!(
        complain(),
        format!("there is no certificate in {shown}; it needs at least one, as PEM")
    );
    let nonsense = "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n";
    std::fs::write(&file, nonsense).unwrap();
    let bad = complain();
    let begin = format!("certificate 1 in {shown} cannot be used as an authority: ");
    assert!(bad.starts_with(&begin), "{bad}");
}

#[test]
fn a_name_that_no_certificate_can_have_is_refused_before_anything_is_sent() {
    let none = TlsSettings::default();
    assert_eq!(
        complaint(Origin::Unix(Path::new("/run/origin").into()), none.clone()),
        "https+unix:/run/origin: a TLS origin at a Unix socket needs a `server_name`"
    );
    assert_eq!(
        complaint(Origin::Name("a name".into(), 443), none),
        "https://a name:443: \"a name\" is no name that a certificate can have; give a `server_name`"
    );
}
