//! What does it take to serve the requests to one target? Everything that the
//! configuration only names is read here: the operator's pages, certificate
//! authorities, certificates for clients, the directory.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::files::site::FileSite;
use super::files::{Files, FilesError};
use super::http::{CircuitControl, Proxy};
use super::origins::{Origins, OriginsError};
use super::pages::{Pages, PagesError};
use super::redirect::Redirect;
use super::rules::{CertificateFiles, PortRange, ProxyRules, ProxyTarget};
use super::settings::{HeaderSettings, HttpSettings};
use super::shares::Shares;
use super::tls::certificate::CertificateError;
use super::tls::{KeyCheck, Tls};
use super::visitor::Visitor;

/// A target whose requests can be served.
pub struct Setup {
    /// Serves them.
    pub proxy: Arc<Proxy>,
    /// Where it leads them, if that is to origins. Somebody has to
    /// [watch](Origins::watch) these.
    pub origins: Option<Arc<Origins>>,
    /// Ends the TLS of its clients, where they come by HTTPS.
    pub tls: Option<Arc<Tls>>,
    /// The pages that were read for it.
    pages: Pages,
    /// The certificate authorities that were read for it.
    authorities: Option<Vec<u8>>,
}

/// Why a target cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Something is wrong with how its origins are reached.
    #[error(transparent)]
    Origins(#[from] OriginsError),
    /// Its directory cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// One of its pages cannot be shown.
    #[error(transparent)]
    Pages(#[from] PagesError),
    /// A certificate, or its key, cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// The first rule that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("port {ports} cannot be served")]
pub struct RuleError {
    /// Its ports, as `proxy_ports` writes them.
    ports: String,
    /// Why.
    source: Box<SetupError>,
}

/// Whether every target of these rules can be served now.
///
/// # Errors
///
/// The first that cannot.
pub fn check(rules: &ProxyRules, keys: &KeyCheck) -> Result<(), RuleError> {
    // Nobody is served meanwhile.
    let nobodys = Shares::new(0, 0, Duration::ZERO);
    for rule in &rules.0 {
        Setup::new(&rule.target, &nobodys, keys).map_err(|error| {
            let ports = PortRange(&rule.ports).to_string();
            RuleError { ports, source: Box::new(error) }
        })?;
    }
    Ok(())
}

impl Setup {
    /// Reads what is needed to serve this target; connects to nobody. Files are
    /// opened only within `file_handles`, and keys have to be as private as `keys`
    /// wants them. Nothing, if its streams carry no requests of ours.
    ///
    /// # Errors
    ///
    /// What cannot be read, or cannot be used.
    pub fn new(
        target: &ProxyTarget,
        file_handles: &Shares,
        keys: &KeyCheck,
    ) -> Result<Option<Self>, SetupError> {
        Ok(Some(match target {
            ProxyTarget::Http(target) => {
                let settings = &target.settings;
                // What cannot be read is the origins' error.
                let with_tls = target.origins.iter().any(|origin| origin.tls);
                let file = settings.origins.tls.ca_file.as_ref().filter(|_| with_tls);
                let authorities = file.and_then(|file| fs::read(file).ok());
                let origins = Origins::new(&target.origins, settings)?;
                let upstream = Arc::clone(&origins);
                let pages = Pages::new(&settings.error_pages)?;
                let tls = tls(&target.tls, keys)?;
                let settings = by_https(settings, tls.is_some());
                let proxy = Proxy::new(settings, pages.clone(), upstream);
                Self { proxy, origins: Some(origins), tls, pages, authorities }
            }
            ProxyTarget::Files(target) => {
                let pages = Pages::new(&target.settings.error_pages)?;
                let pages = pages.in_style_of(&target.settings);
                let site = FileSite {
                    files: Files::new(&target.root, file_handles.clone())?,
                    pages: pages.clone(),
                };
                let settings = Arc::clone(&target.settings);
                let proxy = Proxy::new(settings, pages.clone(), Arc::new(site));
                let tls = tls(&target.tls, keys)?;
                Self { proxy, origins: None, tls, pages, authorities: None }
            }
            ProxyTarget::Redirect(target) => {
                let pages = Pages::new(&target.settings.error_pages)?;
                let mut settings = HttpSettings::clone(&target.settings);
                // Names lead away from the onion address, or by plain HTTP.
                settings.headers = HeaderSettings::default();
                let upstream = Arc::new(Redirect { port: target.port });
                let proxy = Proxy::new(Arc::new(settings), pages.clone(), upstream);
                Self { proxy, origins: None, tls: None, pages, authorities: None }
            }
            _ => return Ok(None),
        }))
    }

    /// Serves one client until either side ends the stream, or its TLS cannot begin.
    pub async fn serve<C>(&self, client: C, visitor: Visitor, control: impl CircuitControl)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match &self.tls {
            Some(tls) => tls.serve(&self.proxy, client, visitor, control).await,
            None => self.proxy.serve(client, visitor, control).await,
        }
    }

    /// Whether the same was read for another one of the same target. Certificates do
    /// not count: see [`Setup::follow`].
    pub fn has_read_the_same(&self, other: &Self) -> bool {
        self.pages == other.pages && self.authorities == other.authorities
    }

    /// Puts the certificates into force that were read for another one of the same
    /// target.
    pub fn follow(&self, other: &Self) {
        if let (Some(own), Some(new)) = (&self.tls, &other.tls) {
            own.follow(new);
        }
    }
}

/// What ends the TLS of clients, if there is a certificate for it.
fn tls(files: &[CertificateFiles], keys: &KeyCheck) -> Result<Option<Arc<Tls>>, SetupError> {
    if files.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Tls::new(files, keys)?)))
}

/// The settings for clients that come by HTTPS, where they do: origins that are told
/// of a scheme are told of that one, unless the operator wants another.
fn by_https(settings: &Arc<HttpSettings>, https: bool) -> Arc<HttpSettings> {
    let mut settings = Arc::clone(settings);
    let headers = &settings.headers;
    if https && headers.proto.is_none() && (headers.x_forwarded || headers.forwarded) {
        Arc::make_mut(&mut settings).headers.proto = Some("https");
    }
    settings
}
