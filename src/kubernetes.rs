//! The files of `onionbraid kubernetes`: what a Kustomize directory says of two
//! publishers and some backends of one address. Pure: names and addresses in, texts
//! out; `commands/kubernetes` makes the keys and writes them.

pub mod named;
pub mod reach;

use onionbraid_balancer::onion::OnionAddress;

use reach::Reach;

/// The longest nickname: the names of the pods are made from it, which labels hold.
const MAX_NAME: usize = 40;

/// What is to run.
#[derive(Debug)]
pub struct Deployment<'a> {
    /// The service's nickname.
    pub service: &'a str,
    /// Its address.
    pub address: OnionAddress,
    /// The addresses of the backends, by their slots.
    pub slots: &'a [OnionAddress],
    /// The web server, as `proxy_ports` takes it.
    pub target: &'a str,
    /// How the backends come to it.
    pub reach: &'a Reach,
    /// The container image.
    pub image: &'a str,
    /// Whether the Prometheus operator is told.
    pub service_monitor: bool,
}

/// The directory of keys, below which each has one of its own.
pub const KEYS: &str = "keys";

/// The configuration of publishers, and that of backends.
pub const CONFIGURATIONS: [&str; 2] = ["publisher.toml", "backend.toml"];

/// The name of a slot's pod, and so of its key.
pub fn pod(service: &str, slot: usize) -> String {
    format!("{service}-backend-{slot}")
}

/// What is wrong with a nickname or an image as a name in Kubernetes.
///
/// # Errors
///
/// A sentence that says what would be right.
pub fn check(service: &str, image: &str) -> Result<(), String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let outer = service.starts_with('-') || service.ends_with('-');
    if service.is_empty() || service.len() > MAX_NAME || outer || !service.chars().all(letters) {
        return Err(format!(
            "{service:?} cannot name objects of Kubernetes: lower-case letters, digits and `-` \
             within can, up to {MAX_NAME} of them"
        ));
    }
    let letters = |c: char| c.is_ascii_alphanumeric() || "._/:-".contains(c);
    let begins = image.starts_with(|c: char| c.is_ascii_alphanumeric());
    let (name, digest) = image.split_once("@sha256:").unwrap_or((image, "0"));
    let is_digest = !digest.is_empty() && digest.chars().all(|c| c.is_ascii_hexdigit());
    let is_name = begins && !name.ends_with(':') && name.chars().all(letters);
    if !is_name || !is_digest || image.len() > 255 {
        return Err(format!("{image:?} is no name of an image, such as registry/onionbraid:1.0"));
    }
    Ok(())
}

impl Deployment<'_> {
    /// The files and their names.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let mut resources = vec![
            ("publishers.yaml", include_str!("kubernetes/publishers.yaml")),
            ("backends.yaml", include_str!("kubernetes/backends.yaml")),
            ("network-policy.yaml", include_str!("kubernetes/network-policy.yaml")),
        ];
        if self.service_monitor {
            resources
                .push(("service-monitor.yaml", include_str!("kubernetes/service-monitor.yaml")));
        }
        let names: Vec<String> = resources.iter().map(|(name, _)| format!("  - {name}")).collect();
        let kustomization =
            include_str!("kubernetes/kustomization.yaml").replace("@RESOURCES@", &names.join("\n"));
        let [publisher, backend] = CONFIGURATIONS;
        let mut files = vec![
            ("kustomization.yaml", self.filled_in(&kustomization)),
            (publisher, self.filled_in(include_str!("kubernetes/publisher.toml"))),
            (backend, self.filled_in(include_str!("kubernetes/backend.toml"))),
            ("slots.toml", self.filled_in(include_str!("kubernetes/slots.toml"))),
        ];
        files.extend(resources.into_iter().map(|(name, text)| (name, self.filled_in(text))));
        files
    }

    /// A template with everything in its place.
    fn filled_in(&self, template: &str) -> String {
        let Self { service, slots, .. } = self;
        let listed: Vec<String> = slots
            .iter()
            .enumerate()
            .map(|(slot, address)| {
                format!("    {{ address = \"{address}\", name = \"slot-{slot}\" }},")
            })
            .collect();
        let keys: Vec<String> = (0..slots.len())
            .map(|slot| {
                let pod = pod(service, slot);
                format!("      - {pod}={KEYS}/{pod}/hs_ed25519_secret_key")
            })
            .collect();
        let ingress = if self.service_monitor {
            "\n    - from:\n        - namespaceSelector:\n            matchLabels:\n              \
             kubernetes.io/metadata.name: monitoring\n      ports:\n        - protocol: TCP\n          \
             port: metrics"
        } else {
            " []"
        };
        let target = toml::Value::from(self.target).to_string();
        template
            .replace(" @INGRESS@", ingress)
            .replace("@SLOTS_LISTED@", &listed.join("\n"))
            .replace("@SLOT_KEYS@", &keys.join("\n"))
            .replace("@SLOTS@", &slots.len().to_string())
            .replace("@SERVICE@", service)
            .replace("@IMAGE@", self.image)
            .replace("@REACH@", &self.reach.rule())
            .replace("@ADDRESS@", &self.address.to_string())
            // Last: it is the operator's text, of which nothing is replaced.
            .replace("@TARGET@", &target)
    }
}
