//! Whether the network policy of the backends lets them reach their web server, and the
//! rule that it needs if not.

use std::net::{IpAddr, SocketAddr};

use onionbraid_proxy::rules::Origin;

/// How backends come to their web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By the rules that are always there: over no network, to a public address, or to a
    /// name of their own namespace.
    Open,
    /// At an address that the rules for the Tor network leave out.
    Private(SocketAddr),
    /// In this namespace. Policies see the ports of pods, not those of Services, so the
    /// port is not known.
    Namespace(String),
    /// By a name that may stand for any address.
    Unknown(String),
}

impl Reach {
    /// That of an origin.
    pub fn of(origin: &Origin) -> Self {
        match origin {
            Origin::Unix(_) => Self::Open,
            Origin::Tcp(address) => match address.ip().to_canonical() {
                ip if is_left_out(ip) => Self::Private(SocketAddr::new(ip, address.port())),
                _ => Self::Open,
            },
            Origin::Name(name, _) => Self::of_name(name),
        }
    }

    fn of_name(name: &str) -> Self {
        let labels: Vec<&str> = name.split('.').collect();
        // NAME.NAMESPACE.svc, or POD.NAME.NAMESPACE.svc, and then the cluster's domain.
        let namespace = labels.iter().skip(2).position(|label| *label == "svc");
        match namespace.and_then(|before| labels.get(before + 1)) {
            _ if labels.len() == 1 => Self::Open,
            Some(namespace) if !namespace.contains('_') => Self::Namespace((*namespace).to_owned()),
            _ => Self::Unknown(name.to_owned()),
        }
    }

    /// The rule of the policy, with the line break before it.
    pub(super) fn rule(&self) -> String {
        match self {
            Self::Open | Self::Unknown(_) => String::new(),
            Self::Private(address) => {
                let (ip, port) = (address.ip(), address.port());
                let whole = if ip.is_ipv4() { 32 } else { 128 };
                format!(
                    "\n    # The web server.\n    - to:\n        - ipBlock:\n            \
                     cidr: \"{ip}/{whole}\"\n      ports:\n        - protocol: TCP\n          \
                     port: {port}"
                )
            }
            Self::Namespace(namespace) => format!(
                "\n    # The web server's namespace.\n    - to:\n        - namespaceSelector:\n            \
                 matchLabels:\n              kubernetes.io/metadata.name: \"{namespace}\""
            ),
        }
    }

    /// What the operator has to know of it, for the backends of a service.
    pub fn remark(&self, service: &str) -> Option<String> {
        let policy = format!("the egress of {service}-backend in network-policy.yaml");
        match self {
            Self::Open => None,
            Self::Private(address) => Some(format!(
                "The network policy lets backends reach {address}. If that is the address of a \
                 Service, most clusters check the address of the pods behind it instead: name it \
                 with --to as NAME.NAMESPACE.svc then."
            )),
            Self::Namespace(namespace) => Some(format!(
                "The network policy lets backends reach every pod of the namespace {namespace}, as \
                 the web server's labels and ports there are not known: an overlay can narrow \
                 {policy}."
            )),
            Self::Unknown(name) => Some(format!(
                "Warning: the network policy lets backends reach {name} only at a public address. \
                 If it has a private one, add `to: [{{ipBlock: {{cidr: ADDRESS/32}}}}]` to {policy} \
                 by an overlay; if it is a Service of another namespace, name it with --to as \
                 NAME.NAMESPACE.svc."
            )),
        }
    }
}

/// Whether an address is one of those that `network-policy.yaml` leaves out.
fn is_left_out(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && second & 0xc0 == 64;
            ip.is_private() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
