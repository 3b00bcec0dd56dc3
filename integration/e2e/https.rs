//! HTTPS on an onion address: does a browser load a page by HTTP/2, and is a replaced
//! certificate taken without anybody losing a request?

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64ct::{Base64, Encoding as _};
use digest::Digest as _;
use tokio_util::sync::CancellationToken;
use tor_llcrypto::d::Sha256;

use super::frontend::Frontend;
use crate::network;
use crate::network::browser::{Browser, Look};
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::process::program;

/// Far more than anything here needs.
const LIMIT: Duration = Duration::from_secs(300);

/// The resources of the page.
const RESOURCES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_loads_a_page_by_http_2_and_no_request_is_lost_to_a_new_certificate() {
    let network = network::shared().await.unwrap();
    let dir = network.scratch("https").unwrap();
    let files = dir.join("files");
    fs::create_dir(&files).unwrap();
    let mut page = String::from("<!doctype html><title>by https</title>");
    for n in 0..RESOURCES {
        page += &format!("<link rel=stylesheet href={n}.css>");
        fs::write(files.join(format!("{n}.css")), format!(".c{n} {{ color: red }}")).unwrap();
    }
    fs::write(files.join("index.html"), page).unwrap();
    let target = format!("file:{}", files.display());
    let plain = format!("proxy_ports = [['80', '{target}']]");
    let frontend = Frontend::start(network, "https", &plain).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();

    let tls = dir.join("tls");
    fs::create_dir(&tls).unwrap();
    make_certificate(&frontend, &tls).await.unwrap();
    let [certificate, key] = ["shop.pem", "shop.key"].map(|name| tls.join(name));
    let with_tls = format!(
        "proxy_ports = [['443', '{target}', {{ tls = {{ certificate = '{}', key = '{}' }} }}], \
         ['80', 'redirect']]",
        certificate.display(),
        key.display()
    );
    frontend.reload(&with_tls).unwrap();
    let client = network.client("visitor-of-https").await.unwrap();
    let trusted = dir.join("trusted.pem");
    fs::copy(&certificate, &trusted).unwrap();
    // From port 80 on.
    let told = eventually(LIMIT, || async {
        let url = format!("http://{onion}/index.html");
        curl(&client, &trusted, "first", &["--location", "--write-out", "%{http_version}", &url])
            .await
    });
    let told = String::from_utf8(told.await.unwrap().stdout).unwrap();
    assert!(told.contains("by https") && told.ends_with("\n2") | told.ends_with(">2"), "{told}");

    // A browser, for which the certificate's key is good.
    let mut spki = pem_to_der(&fs::read_to_string(&certificate).unwrap());
    spki = public_key(&spki).to_vec();
    let pin = Base64::encode_string(&Sha256::digest(&spki));
    let proxy = format!("--proxy-server=socks5://{}", client.socks);
    let trust = format!("--ignore-certificate-errors-spki-list={pin}");
    let mut browser = Browser::start_with(&dir, &[&proxy, &trust]).await.unwrap();
    let look = Look { width: 800, dark: false };
    let page = browser.open(&format!("https://{onion}/"), look).await.unwrap();
    let responses = page.responses();
    assert_eq!(responses.len(), RESOURCES + 1, "{responses:?}");
    for [url, protocol, state] in &responses {
        assert_eq!((protocol.as_str(), state.as_str()), ("h2", "secure"), "{url}");
    }
    browser.close().await.unwrap();

    // New connections, one after the other, while the certificate is replaced.
    let new = dir.join("new");
    fs::create_dir(&new).unwrap();
    make_certificate(&frontend, &new).await.unwrap();
    let both = [&trusted, &new.join("shop.pem")].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&trusted, both.concat()).unwrap();
    let stop = CancellationToken::new();
    let visiting = async {
        let mut visits = 0;
        while !stop.is_cancelled() || visits < 10 {
            let url = format!("https://{onion}/index.html");
            curl(&client, &trusted, "visits", &[&url]).await?;
            visits += 1;
        }
        anyhow::Ok(visits)
    };
    let replacing = async {
        for name in ["shop.key", "shop.pem"] {
            fs::rename(new.join(name), tls.join(name))?;
        }
        let only_new = dir.join("only-new.pem");
        fs::copy(&certificate, &only_new)?;
        let taken = eventually(LIMIT, || async {
            curl(&client, &only_new, "looks", &[&format!("https://{onion}/index.html")]).await
        });
        taken.await?;
        stop.cancel();
        anyhow::Ok(())
    };
    let (visits, replaced) = tokio::join!(visiting, replacing);
    replaced.unwrap();
    assert!(visits.unwrap() >= 10);
}

/// Has onionbraid make a certificate for the service in a directory.
async fn make_certificate(frontend: &Frontend, out: &Path) -> Result<()> {
    let out = out.display().to_string();
    let made = frontend.command(&["certificate", "self-signed", "shop", "--out", &out]).await?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

async fn curl(
    client: &Client,
    trusted: &Path,
    isolation: &str,
    arguments: &[&str],
) -> Result<Output> {
    let proxy = format!("socks5h://{isolation}:{isolation}@{}", client.socks);
    let mut command = tokio::process::Command::new(program("curl")?);
    command.args(["--silent", "--show-error", "--fail", "--proxy", &proxy]);
    command.arg("--cacert").arg(trusted).args(arguments);
    let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output());
    let output = output.await.context("curl does not end")??;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "curl {arguments:?}: {error}");
    Ok(output)
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    Base64::decode_vec(&lines.collect::<String>()).unwrap()
}

/// The public key in a certificate with an ECDSA key on P-256, as it stands there.
fn public_key(certificate: &[u8]) -> &[u8] {
    // SEQUENCE of 0x59 bytes that begins with id-ecPublicKey and prime256v1.
    const BEGINS: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
    let at = certificate.windows(BEGINS.len()).position(|bytes| bytes == BEGINS).unwrap();
    &certificate[at..at + 0x5b]
}
