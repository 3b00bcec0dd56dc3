//! Ports that speak TLS with clients: certificates, protocols, limits, and what
//! origins learn.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use onionbraid_proxy::http::CircuitControl;
use onionbraid_proxy::rules::{
    CertificateFiles, FilesTarget, HttpOrigin, HttpTarget, Origin, ProxyTarget, RedirectTarget,
};
use onionbraid_proxy::settings::{HeaderSettings, HttpSettings, SecureCookies};
use onionbraid_proxy::setup::Setup;
use onionbraid_proxy::shares::Shares;
use onionbraid_proxy::tls::{KeyCheck, Reread};
use onionbraid_proxy::visitor::Visitor;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, generate_simple_self_signed,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const LAST_GET: &str = "GET /index.html HTTP/1.1\r\nHost: a.onion\r\nConnection: close\r\n\r\n";

const DAY: Duration = Duration::from_secs(86_400);

/// A directory with certificates and files, and a port that serves them.
struct Port {
    directory: TempDir,
    setup: Arc<Setup>,
    roots: RootCertStore,
    serving: JoinSet<()>,
    closed: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct CountCloses(Arc<AtomicUsize>);

impl CircuitControl for CountCloses {
    fn close(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes a certificate for these names and its key, under this name.
fn issue(directory: &TempDir, file: &str, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    std::fs::write(directory.path().join(format!("{file}.pem")), cert.pem()).unwrap();
    let key = directory.path().join(format!("{file}.key"));
    std::fs::write(key, signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn files(directory: &TempDir, file: &str) -> CertificateFiles {
    let path = |end: &str| directory.path().join(format!("{file}.{end}"));
    CertificateFiles { certificate: path("pem"), key: path("key") }
}

fn setup(target: &ProxyTarget) -> Setup {
    let nobodys = Shares::new(99, 99, Duration::ZERO);
    Setup::new(target, &nobodys, &KeyCheck::new(|_, _| Ok(()))).unwrap().unwrap()
}

impl Port {
    /// With a certificate for each of these lists of names.
    fn with(certificates: &[&[&str]], change: impl FnOnce(&mut HttpSettings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("index.html"), "a page").unwrap();
        let mut settings = HttpSettings::default();
        change(&mut settings);
        let mut roots = RootCertStore::empty();
        let mut tls = Vec::new();
        for (number, names) in certificates.iter().enumerate() {
            let file = number.to_string();
            roots.add(issue(&directory, &file, names)).unwrap();
            tls.push(files(&directory, &file));
        }
        let root = directory.path().to_owned();
        let target = ProxyTarget::Files(FilesTarget { root, settings: Arc::new(settings), tls });
        Self::of(directory, &target, roots)
    }

    fn of(directory: TempDir, target: &ProxyTarget, roots: RootCertStore) -> Self {
        let (serving, closed) = Default::default();
        Self { directory, setup: Arc::new(setup(target)), roots, serving, closed }
    }

    /// A client opens a stream on this circuit.
    fn stream(&mut self, circuit: u64) -> DuplexStream {
        let (client, stream) = duplex(16 * 1024);
        let (setup, closed) = (Arc::clone(&self.setup), CountCloses(Arc::clone(&self.closed)));
        let visitor = Visitor { circuit, port: 443, onion: "a.onion".into(), tls: false };
        self.serving.spawn(async move { setup.serve(stream, visitor, closed).await });
        client
    }

    /// Shakes hands in the name of a host.
    async fn connect(
        &mut self,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<DuplexStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = self.stream(1);
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn get(&mut self, request: &str) -> String {
        let mut client = self.connect("a.onion", &[&version::TLS13], &[]).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn failures(&self, name: &str) -> u64 {
        self.setup.proxy.status().failures.get(name).copied().unwrap_or(0)
    }

    /// Waits until all streams have been served.
    async fn served(&mut self) {
        while self.serving.join_next().await.is_some() {}
    }
}

#[tokio::test]
async fn clients_get_pages_by_tls_1_3_and_1_2_in_the_protocol_that_they_want() {
    let mut port = Port::with(&[&["a.onion"]], |_| {});
    for (version, expected) in
        [(&version::TLS13, ProtocolVersion::TLSv1_3), (&version::TLS12, ProtocolVersion::TLSv1_2)]
    {
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
            (&["http/1.1"], Some(b"http/1.1")),
            (&["http/1.1", "h2"], Some(b"h2")),
            (&[], None),
        ] {
            let client = port.connect("a.onion", &[version], offered).await.unwrap();
            let session = client.get_ref().1;
            assert_eq!(session.protocol_version(), Some(expected));
            assert_eq!(session.alpn_protocol(), agreed, "{offered:?}");
        }
        assert!(port.connect("a.onion", &[version], &["spdy/1"]).await.is_err());
    }
    let answer = port.get(LAST_GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("a page"), "{answer}");
    let mut client = port.connect("a.onion", &[&version::TLS13], &["h2"]).await.unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    client.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "SETTINGS: {frame:?}");
}

#[tokio::test]
async fn each_client_gets_the_certificate_for_the_name_that_it_asks_for() {
    let mut port = Port::with(&[&["a.onion"], &["b.onion", "*.b.onion"], &["c.onion"]], |_| {});
    let shown = |client: &TlsStream<DuplexStream>| {
        client.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let mut first = None;
    for name in ["a.onion", "b.onion", "www.b.onion", "c.onion"] {
        let client = port.connect(name, &[&version::TLS13], &[]).await;
        let client = client.unwrap_or_else(|error| panic!("{name}: {error}"));
        first.get_or_insert_with(|| shown(&client));
    }
    // For any other name there is the first one, which its client does not want.
    let error = port.connect("d.onion", &[&version::TLS13], &[]).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    let read = std::fs::read(port.directory.path().join("0.pem")).unwrap();
    use rustls::pki_types::pem::PemObject as _;
    assert_eq!(first, CertificateDer::pem_slice_iter(&read).next().unwrap().ok());
}

#[tokio::test]
async fn a_replaced_certificate_is_taken_and_whoever_is_connected_goes_on() {
    let mut port = Port::with(&[&["a.onion"]], |_| {});
    let tls = Arc::clone(port.setup.tls.as_ref().unwrap());
    assert_eq!(tls.read_again(), Reread::Same);
    let mut before = port.connect("a.onion", &[&version::TLS13], &[]).await.unwrap();
    let before_names = tls.certificates()[0].names.clone();
    port.roots.add(issue(&port.directory, "0", &["a.onion", "www.a.onion"])).unwrap();
    assert_eq!(tls.read_again(), Reread::Replaced);
    assert_ne!(tls.certificates()[0].names, before_names);
    assert!(port.connect("www.a.onion", &[&version::TLS13], &[]).await.is_ok());
    before.write_all(LAST_GET.as_bytes()).await.unwrap();
    let mut answer = String::new();
    before.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("a page"), "{answer}");
}

#[tokio::test]
async fn a_replacement_that_cannot_be_used_changes_nothing_and_is_told() {
    let mut port = Port::with(&[&["a.onion"]], |_| {});
    let tls = Arc::clone(port.setup.tls.as_ref().unwrap());
    let path = |name: &str| port.directory.path().join(name);
    let good = [path("0.pem"), path("0.key")].map(|file| std::fs::read(file).unwrap());
    let other = KeyPair::generate().unwrap().serialize_pem();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let many = good[0].repeat(11);
    let cases: [(&str, &[u8], &str); 8] = [
        ("0.pem", b"", "there is no certificate in"),
        (
            "0.pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "cannot be used",
        ),
        ("0.pem", &many, "more than 10"),
        ("0.pem", &[b'x'; 256 * 1024 + 1], "longer than 256 KiB"),
        ("0.key", b"", "there is no private key"),
        ("0.key", encrypted.as_bytes(), "without a password"),
        ("0.key", other.as_bytes(), "is not that of the first certificate"),
        ("0.key", &good[0], "there is no private key"),
    ];
    for (file, bytes, problem) in cases {
        std::fs::write(path(file), bytes).unwrap();
        let Reread::Wrong(told) = tls.read_again() else { panic!("{file}: {problem}") };
        assert!(told.contains(problem), "{problem}: {told}");
        assert_eq!(tls.wrong(), Some(told));
        for (file, bytes) in ["0.pem", "0.key"].iter().zip(&good) {
            std::fs::write(path(file), bytes).unwrap();
        }
    }
    std::fs::remove_file(path("0.key")).unwrap();
    assert!(matches!(tls.read_again(), Reread::Wrong(_)));
    assert!(port.get(LAST_GET).await.ends_with("a page"));
    std::fs::write(port.directory.path().join("0.key"), &good[1]).unwrap();
    assert_eq!((tls.read_again(), tls.wrong()), (Reread::Same, None));
}

#[test]
fn a_key_that_is_not_private_is_refused_in_the_words_of_who_judges_it() {
    let directory = tempfile::tempdir().unwrap();
    issue(&directory, "0", &["a.onion"]);
    let tls = vec![files(&directory, "0")];
    let settings = Arc::<HttpSettings>::default();
    let root = directory.path().to_owned();
    let target = ProxyTarget::Files(FilesTarget { root, settings, tls });
    let strict = KeyCheck::new(|opened, path| {
        // What is judged is what was read.
        let (opened, there) = (opened.metadata().unwrap(), path.metadata().unwrap());
        assert_eq!(opened.ino(), there.ino());
        Err(format!("{}!", path.display()))
    });
    let refused = Setup::new(&target, &Shares::new(1, 1, Duration::ZERO), &strict).err();
    assert!(refused.unwrap().to_string().ends_with("0.key!"));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_given_up_and_one_that_fails_ends_the_stream() {
    let mut port = Port::with(&[&["a.onion"]], |_| {});
    let started = tokio::time::Instant::now();
    let mut silent = port.stream(1);
    assert_eq!(silent.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(started.elapsed().as_secs(), 30);
    let mut dripping = port.stream(1);
    let started = tokio::time::Instant::now();
    // The beginning of a hello that promises 16 KiB.
    for byte in [0x16, 3, 1, 0x40, 0].into_iter().chain(std::iter::repeat(1)) {
        if dripping.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((30..=31).contains(&started.elapsed().as_secs()));
    // By plain HTTP: an alert, and the end.
    let mut plain = port.stream(1);
    plain.write_all(LAST_GET.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&0x15), "{answer:?}");
    port.served().await;
    assert_eq!(port.failures("tls_handshake"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_has_sixteen_handshakes_under_way_and_others_are_not_in_its_way() {
    let mut port = Port::with(&[&["a.onion"]], |settings| settings.circuit.close_abusers = true);
    let _silent: Vec<_> = (0..16).map(|_| port.stream(7)).collect();
    tokio::task::yield_now().await;
    let mut beyond = port.stream(7);
    assert_eq!(beyond.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(port.failures("too_many"), 1);
    assert_eq!(port.closed.load(Ordering::SeqCst), 1);
    // Another circuit: that of `get`.
    assert!(port.get(LAST_GET).await.ends_with("a page"));
}

/// What an origin behind a port with TLS reads, and what its client reads, of one
/// exchange.
async fn exchange(settings: HttpSettings, request: &str, response: &'static str) -> [String; 2] {
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Origin::Tcp(origin.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issue(&directory, "0", &["a.onion"])).unwrap();
    let target = ProxyTarget::Http(HttpTarget {
        origins: vec![HttpOrigin { address, tls: false }],
        settings: Arc::new(settings),
        tls: vec![files(&directory, "0")],
    });
    let mut port = Port::of(directory, &target, roots);
    let answering = async {
        let mut stream = origin.accept().await.unwrap().0;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(response.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    };
    let (head, answer) = tokio::join!(answering, port.get(request));
    [head, answer.to_ascii_lowercase()]
}

const FORM: &str = "POST / HTTP/1.1\r\nHost: a.onion\r\nOrigin: https://a.onion\r\nReferer: \
                    https://a.onion/form\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\
                    Content-Length: 0\r\n\r\n";

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nLocation: http://a.onion/next\r\n\
                      Set-Cookie: a=b; Secure; SameSite=None\r\nContent-Security-Policy: \
                      default-src https:; upgrade-insecure-requests\r\nLink: \
                      <http://127.0.0.1/x>\r\n\r\n";

/// Judged by SSLyze, against what Mozilla advises for servers of this level.
async fn is_good_by(level: &str, server: SocketAddr, trusted: &Path) -> Output {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/sslyze");
    let mut scan = Command::new("python3");
    scan.args(["-m", "sslyze", "--sni", "a.onion", "--mozilla_config", level]);
    scan.arg("--certinfo_ca_file").arg(trusted);
    scan.arg(server.to_string()).env("PYTHONPATH", tools);
    tokio::task::spawn_blocking(move || scan.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the scanner goes by its own clock")]
async fn a_scanner_finds_nothing_weak() {
    let mut port = Port::with(&[&["a.onion"]], |_| {});
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(["a.onion".to_owned()]).unwrap();
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * 30).into();
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap().pem();
    let files =
        [("0.pem", certificate), ("0.key", key.serialize_pem()), ("ca.pem", authority.pem())];
    for (file, text) in files {
        std::fs::write(port.directory.path().join(file), text).unwrap();
    }
    assert_eq!(port.setup.tls.as_ref().unwrap().read_again(), Reread::Replaced);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let serve = Arc::clone(&port.setup);
    port.serving.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (setup, closed) = (Arc::clone(&serve), CountCloses(Arc::default()));
            let visitor = Visitor { circuit: 1, port: 443, onion: "a.onion".into(), tls: false };
            tokio::spawn(async move { setup.serve(stream, visitor, closed).await });
        }
    });
    let trusted = port.directory.path().join("ca.pem");
    let scan = is_good_by("intermediate", server, &trusted).await;
    let told = [&scan.stdout[..], &scan.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(
        scan.status.success() && told.contains("OK - Compliant"),
        "(SSLyze: `make deps`): {told}"
    );
    // It can find fault: we speak TLS 1.2, too.
    let scan = is_good_by("modern", server, &trusted).await;
    let told = String::from_utf8_lossy(&scan.stdout);
    assert!(!scan.status.success() && told.contains("TLSv1.2"), "{told}");
}

#[tokio::test]
async fn origins_hear_of_https_and_links_cookies_and_policies_stay_with_it() {
    let mut settings = HttpSettings::default();
    settings.headers.secure_cookies = SecureCookies::Drop;
    settings.headers.forwarded = true;
    let [head, answer] = exchange(settings, FORM, ANSWER).await;
    for expected in [
        "\r\norigin: https://a.onion\r\n",
        "\r\nreferer: https://a.onion/form\r\n",
        "\r\nx-forwarded-proto: https\r\n",
        "\r\nx-forwarded-port: 443\r\n",
        "\r\nx-forwarded-host: a.onion\r\n",
        "proto=https\r\n",
    ] {
        assert!(head.contains(expected), "{expected:?}: {head}");
    }
    for expected in [
        "\r\nlocation: https://a.onion/next\r\n",
        "\r\nset-cookie: a=b; secure; samesite=none\r\n",
        "\r\ncontent-security-policy: default-src https:; upgrade-insecure-requests\r\n",
        "\r\nlink: <https://a.onion/x>\r\n",
    ] {
        assert!(answer.contains(expected), "{expected:?}: {answer}");
    }
}

#[tokio::test]
async fn an_origin_that_is_told_of_no_scheme_sees_its_own_everywhere() {
    let headers = HeaderSettings { x_forwarded: false, ..HeaderSettings::default() };
    let settings = HttpSettings { headers, ..HttpSettings::default() };
    let [head, answer] = exchange(settings, FORM, ANSWER).await;
    assert!(head.contains("\r\norigin: http://a.onion\r\n"), "{head}");
    assert!(head.contains("\r\nreferer: http://a.onion/form\r\n"), "{head}");
    assert!(!head.contains("forwarded"), "{head}");
    assert!(answer.contains("\r\nlocation: https://a.onion/next\r\n"), "{answer}");
    // A page of the same name by plain HTTP is another site.
    let plain = FORM.replace("Origin: https:", "Origin: http:");
    let headers = HeaderSettings { x_forwarded: false, ..HeaderSettings::default() };
    let settings = HttpSettings { headers, ..HttpSettings::default() };
    let [head, _] = exchange(settings, &plain, ANSWER).await;
    assert!(head.contains("\r\norigin: https://foreign.invalid\r\n"), "{head}");
}

#[tokio::test]
async fn a_port_that_redirects_sends_every_method_to_the_same_path_by_https() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Arc::<HttpSettings>::default();
    let target = ProxyTarget::Redirect(RedirectTarget { port: 443, settings });
    let mut port = Port::of(directory, &target, RootCertStore::empty());
    for (request, location) in [
        ("GET /a?b=c HTTP/1.1\r\nHost: a.onion\r\n", "https://a.onion/a?b=c"),
        ("POST /a HTTP/1.1\r\nHost: www.a.onion\r\nContent-Length: 0\r\n", "https://www.a.onion/a"),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n", "https://a.onion/"),
        ("HEAD http://a.onion/x HTTP/1.1\r\nHost: a.onion\r\n", "https://a.onion/x"),
    ] {
        let mut client = port.stream(1);
        let request = format!("{request}Connection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
        assert!(answer.contains(&format!("\r\nLocation: {location}\r\n")), "{answer}");
    }
}

#[test]
fn what_is_shown_of_a_target_tells_https_and_redirects_apart() {
    let settings = Arc::<HttpSettings>::default();
    let one = CertificateFiles { certificate: PathBuf::from("c"), key: PathBuf::from("k") };
    let root = PathBuf::from("/srv");
    let files = FilesTarget { root, settings: Arc::clone(&settings), tls: vec![one] };
    assert_eq!(ProxyTarget::Files(files).to_string(), "file:/srv (by HTTPS)");
    let redirect =
        |port| ProxyTarget::Redirect(RedirectTarget { port, settings: settings.clone() });
    assert_eq!(redirect(443).to_string(), "redirect");
    assert_eq!(redirect(8443).to_string(), "redirect:8443");
}
