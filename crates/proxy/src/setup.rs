//! What does it take to serve the requests to one target? Everything that the
//! configuration only names is read here: the operator's pages, certificate
//! authorities, the directory.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::files::site::Site;
use super::files::{Files, FilesError};
use super::http::Proxy;
use super::origins::{Origins, OriginsError};
use super::pages::{Pages, PagesError};
use super::rules::{PortRange, ProxyRules, ProxyTarget};
use super::shares::Shares;

/// A target whose requests can be served.
pub struct Setup {
    /// Serves them.
    pub proxy: Arc<Proxy>,
    /// Where it leads them, if that is to origins. Somebody has to
    /// [watch](Origins::watch) these.
    pub origins: Option<Arc<Origins>>,
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
pub fn check(rules: &ProxyRules) -> Result<(), RuleError> {
    // Nobody is served meanwhile.
    let nobodys = Shares::new(0, 0, Duration::ZERO);
    for rule in &rules.0 {
        Setup::new(&rule.target, &nobodys).map_err(|error| {
            let ports = PortRange(&rule.ports).to_string();
            RuleError { ports, source: Box::new(error) }
        })?;
    }
    Ok(())
}

impl Setup {
    /// Reads what is needed to serve this target; connects to nobody. Files are
    /// opened only within `file_handles`. Nothing, if its streams carry no
    /// requests of ours.
    ///
    /// # Errors
    ///
    /// What cannot be read, or cannot be used.
    pub fn new(target: &ProxyTarget, file_handles: &Shares) -> Result<Option<Self>, SetupError> {
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
                let proxy = Proxy::new(Arc::clone(settings), pages.clone(), upstream);
                Self { proxy, origins: Some(origins), pages, authorities }
            }
            ProxyTarget::Files(target) => {
                let pages = Pages::new(&target.settings.error_pages)?;
                let pages = pages.in_style_of(&target.settings);
                let site = Site {
                    files: Files::new(&target.root, file_handles.clone())?,
                    pages: pages.clone(),
                };
                let settings = Arc::clone(&target.settings);
                let proxy = Proxy::new(settings, pages.clone(), Arc::new(site));
                Self { proxy, origins: None, pages, authorities: None }
            }
            _ => return Ok(None),
        }))
    }

    /// Whether the same was read for another one of the same target.
    pub fn has_read_the_same(&self, other: &Self) -> bool {
        self.pages == other.pages && self.authorities == other.authorities
    }
}
