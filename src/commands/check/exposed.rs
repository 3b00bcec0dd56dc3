//! Does a target of `proxy_ports` lead clients to what only the operator should
//! see: the admin endpoint, the metrics, or the keys?
//!
//! Reads the file system and `/etc/hosts`; looks nothing up in the network.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::config::{AdminListen, Config, ServiceConfig};
use onionbraid_proxy::rules::{Origin, ProxyTarget};

/// Links that are followed on the way to a file, as many as the system does.
const LINKS_AT_MOST: usize = 40;

/// What lies in the state directory; anything else there is not the daemon's.
const SECRET: [&str; 3] = ["keystore", "onionbraid", "state"];

/// Names of the loopback interface that need no look into `/etc/hosts`.
const LOOPBACK: [&str; 4] = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"];

/// A line for each target that leads there.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let exposed = Exposed { config, hosts: &hosts };
    let enabled = config.services.iter().filter(|service| service.enabled);
    let mut warnings: Vec<_> = enabled.flat_map(|service| exposed.by(service)).collect();
    warnings.dedup();
    warnings
}

struct Exposed<'a> {
    config: &'a Config,
    /// What `/etc/hosts` holds.
    hosts: &'a str,
}

impl Exposed<'_> {
    fn by(&self, service: &ServiceConfig) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |target: &dyn std::fmt::Display, what: &str| {
            let nickname = &service.nickname;
            warnings.push(format!(
                "service \"{nickname}\": the target \"{target}\" of `proxy_ports` {what}"
            ));
        };
        for rule in &service.proxy_ports.0 {
            match &rule.target {
                ProxyTarget::Forward(target) => {
                    for origin in &target.origins {
                        self.of_origin(origin).into_iter().for_each(|what| warn(origin, what));
                    }
                }
                ProxyTarget::Http(target) => {
                    for origin in &target.origins {
                        let what = self.of_origin(&origin.address);
                        what.into_iter().for_each(|what| warn(origin, what));
                    }
                }
                ProxyTarget::Files(target) => {
                    let root = format!("file:{}", target.root.display());
                    self.of_files(&target.root).into_iter().for_each(|what| warn(&root, what));
                }
                _ => {}
            }
        }
        warnings
    }

    /// What an origin gives away.
    fn of_origin(&self, origin: &Origin) -> Option<&'static str> {
        const ADMIN_SOCKET: &str = "is the admin socket: every client could see all addresses and \
                                    backends, take backends out of use and reload the configuration";
        const ADMIN_PORT: &str = "is the admin endpoint: every client could see all addresses and \
                                  backends";
        const METRICS: &str = "is where Prometheus is answered (`[metrics]`): every client could \
                               see how all services are doing";
        match (origin, &self.config.admin) {
            (Origin::Unix(path), AdminListen::Unix(socket)) => {
                return is_same_file(path, socket).then_some(ADMIN_SOCKET);
            }
            (Origin::Unix(_), AdminListen::Tcp(_)) => return None,
            (_, AdminListen::Tcp(address)) if self.leads_to(origin, *address) => {
                return Some(ADMIN_PORT);
            }
            _ => {}
        }
        let metrics = self.config.metrics.iter().any(|address| self.leads_to(origin, *address));
        metrics.then_some(METRICS)
    }

    /// What a directory of files gives away.
    fn of_files(&self, root: &Path) -> Option<&'static str> {
        const STATE: &str =
            "has keys and state of the daemon below it: every client could fetch them";
        const KEYS: &str = "contains a key, which `identity_key`, `identity_bundle` or `tls` names: \
                            every client could fetch it";
        let root = resolved(root);
        let state = resolved(&self.config.storage.state_dir);
        let secret = SECRET.map(|name| state.join(name));
        if secret.iter().any(|it| it.starts_with(&root) || root.starts_with(it)) {
            return Some(STATE);
        }
        const CLIENT_KEYS: &str =
            "contains a file that `client_key` names: every client could fetch it";
        let services = || self.config.services.iter();
        let holds = |key: &Path| resolved(key).starts_with(&root);
        let rules = services().flat_map(|it| &it.proxy_ports.0);
        let of_tls = rules.flat_map(|rule| rule.target.tls()).map(|files| files.key.as_path());
        let named = services().flat_map(|it| [&it.identity_key, &it.identity_bundle]);
        let mut keys = named.filter_map(|it| it.as_deref()).chain(of_tls);
        if keys.any(holds) {
            return Some(KEYS);
        }
        let backends = services().flat_map(|it| &it.backends);
        let mut keys = backends.filter_map(|it| it.client_key.as_deref());
        keys.any(holds).then_some(CLIENT_KEYS)
    }

    /// Whether a connection to an origin reaches who listens there.
    fn leads_to(&self, origin: &Origin, listener: SocketAddr) -> bool {
        match origin {
            Origin::Tcp(address) => {
                address.port() == listener.port() && reaches(address.ip(), listener.ip())
            }
            Origin::Name(name, port) => {
                *port == listener.port()
                    && self.addresses(name).iter().any(|ip| reaches(*ip, listener.ip()))
            }
            Origin::Unix(_) => false,
        }
    }

    /// The addresses of a name, as far as they are known without a resolver.
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let is_loopback = LOOPBACK.contains(&name) || name.ends_with(".localhost");
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        let loopback = loopback.into_iter().filter(|_| is_loopback);
        let of_line = |line: &str| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            words.any(|it| it.eq_ignore_ascii_case(name)).then_some(address)
        };
        loopback.chain(self.hosts.lines().filter_map(of_line)).collect()
    }
}

/// Whether a connection to one address reaches who listens at the other.
fn reaches(target: IpAddr, listener: IpAddr) -> bool {
    let (target, listener) = (target.to_canonical(), listener.to_canonical());
    if listener.is_unspecified() {
        // An IPv6 listener takes IPv4, too, as a rule.
        let family = listener.is_ipv6() || target.is_ipv4();
        return family && (target.is_unspecified() || target.is_loopback() || is_ours(target));
    }
    // Connecting to no address in particular reaches the loopback interface.
    let to_loopback = |ip: IpAddr| match (ip.is_unspecified(), ip) {
        (true, IpAddr::V4(_)) => IpAddr::from(Ipv4Addr::LOCALHOST),
        (true, IpAddr::V6(_)) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        _ => ip,
    };
    to_loopback(target) == listener
}

/// Whether this machine has the address: only then can it be bound to. Nothing is
/// sent or received.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether two paths are one file, or will be once it is there.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let inode = |path| fs::metadata(path).map(|it: fs::Metadata| (it.dev(), it.ino()));
    let same = matches!((inode(one), inode(other)), (Ok(one), Ok(other)) if one == other);
    same || resolved(one) == resolved(other)
}

/// A path without links and detours, as far as what it names exists.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest: Vec<PathBuf> = vec![absolute];
    let mut whole = PathBuf::new();
    let mut links = 0;
    while let Some(path) = rest.pop() {
        let mut parts = path.components();
        let Some(part) = parts.next() else { continue };
        let after = parts.as_path().to_owned();
        if !after.as_os_str().is_empty() {
            rest.push(after);
        }
        match part {
            Component::RootDir => whole = PathBuf::from("/"),
            Component::ParentDir => drop(whole.pop()),
            Component::Normal(name) => {
                whole.push(name);
                if let Ok(target) = fs::read_link(&whole)
                    && links < LINKS_AT_MOST
                {
                    links += 1;
                    whole.pop();
                    rest.push(target);
                }
            }
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::config::Environment;

    fn config(text: &str) -> Config {
        Config::from_text(text, &Environment::new([("HOME", "/home/user")])).unwrap()
    }

    fn warned(text: &str, hosts: &str) -> Vec<String> {
        let config = config(text);
        let exposed = Exposed { config: &config, hosts };
        config.services.iter().flat_map(|service| exposed.by(service)).collect()
    }

    fn with_target(target: &str, tables: &str) -> Vec<String> {
        let text = format!("[onion_services.shop]\nproxy_ports = [[80, \"{target}\"]]\n{tables}");
        warned(&text, "127.0.1.1 Box.example box # the machine\n::1 six\n")
    }

    fn assert_one(warnings: &[String], text: &str) {
        assert!(warnings.len() == 1 && warnings[0].contains(text), "{text:?}: {warnings:?}");
    }

    #[test]
    fn the_admin_socket_is_found_by_whatever_path_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("run")).unwrap();
        symlink(path("run"), path("linked")).unwrap();
        symlink("../run/admin.sock", path("run/other.sock")).unwrap();
        symlink("run/other.sock", path("far.sock")).unwrap();
        let admin = format!("[admin]\nlisten = \"unix:{}\"\n", path("run/admin.sock").display());
        let of = |name: &str| {
            let path = path(name);
            ["unix:", "http+unix:"]
                .map(|scheme| with_target(&format!("{scheme}{}", path.display()), &admin))
        };
        let check = || {
            for name in [
                "run/admin.sock",
                "linked/admin.sock",
                "run/other.sock",
                "far.sock",
                "run/../linked/./admin.sock",
            ] {
                for warnings in of(name) {
                    assert_one(&warnings, "is the admin socket");
                }
            }
            assert!(of("run/web.sock").iter().all(Vec::is_empty));
        };
        // Whether the daemon runs or not.
        check();
        let _listener = UnixListener::bind(path("run/admin.sock")).unwrap();
        check();
        fs::hard_link(path("run/admin.sock"), path("hard.sock")).unwrap();
        assert_one(&of("hard.sock")[0], "is the admin socket");
        // One of several origins, and one that is not there at all.
        let several = format!(
            "[onion_services.shop]\nproxy_ports = [[80, [\"http://127.0.0.1:1\", \
             \"http+unix:{}\"]]]\n{admin}",
            path("linked/admin.sock").display()
        );
        assert_one(&warned(&several, ""), "linked/admin.sock\" of `proxy_ports`");
        let disabled = several.replace("shop]\n", "shop]\nenabled = false\n");
        assert_eq!(
            warnings(&config(&format!(
                "{disabled}[onion_services.x]\nproxy_ports = [[80, \"reject\"]]\n"
            ))),
            [""; 0]
        );
        assert!(with_target("unix:/no/such/dir/x", &admin).is_empty());
    }

    #[test]
    fn the_admin_port_and_the_metrics_are_found_by_every_name_of_this_machine() {
        let admin = "[admin]\nlisten = \"127.0.0.1:9051\"\n";
        for target in [
            "127.0.0.1:9051",
            "localhost:9051",
            "http://localhost:9051",
            "https://127.0.0.1:9051",
            "[::ffff:127.0.0.1]:9051",
            "0.0.0.0:9051",
            "ip6-localhost:9051",
            "web.localhost:9051",
        ] {
            assert_one(&with_target(target, admin), "is the admin endpoint");
        }
        for target in ["127.0.0.1:9052", "127.0.0.2:9051", "box:9051", "unix:/run/x", "six:9051"] {
            assert!(with_target(target, admin).is_empty(), "{target}");
        }
        let metrics = |listen: &str| format!("[metrics]\nprometheus.listen = {listen}\n");
        for (listen, target) in [
            ("9035", "http://127.0.0.1:9035"),
            ("9035", "[::1]:9035"),
            ("9035", "six:9035"),
            ("\"127.0.1.1:9035\"", "BOX:9035"),
            ("\"0.0.0.0:9035\"", "127.0.0.1:9035"),
            ("\"0.0.0.0:9035\"", "box.example:9035"),
            ("\"[::]:9035\"", "127.0.0.1:9035"),
        ] {
            assert_one(&with_target(target, &metrics(listen)), "Prometheus is answered");
        }
        for (listen, target) in
            [("\"0.0.0.0:9035\"", "192.0.2.1:9035"), ("\"0.0.0.0:9035\"", "127.0.0.1:9036")]
        {
            assert!(with_target(target, &metrics(listen)).is_empty(), "{target}");
        }
    }

    #[test]
    fn a_directory_of_files_with_keys_in_it_is_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("www/state")).unwrap();
        fs::create_dir_all(dir.path().join("www/site")).unwrap();
        symlink(dir.path().join("www"), dir.path().join("public")).unwrap();
        let of = |root: &str, state: &str| {
            let path = |name: &str| dir.path().join(name).display().to_string();
            let storage = format!("[storage]\nstate_dir = \"{}\"\n", path(state));
            with_target(&format!("file:{}", path(root)), &storage)
        };
        for (root, state) in [("public", "www/state"), ("www", "www"), ("www/state", "www")] {
            assert_one(&of(root, state), "has keys and state");
        }
        // Nor is a site that lies in that directory a fault.
        assert!(of("www", "state").is_empty() && of("www/site", "www").is_empty());
        let key = format!(
            "identity_key = \"{0}/www/key\"\n[storage]\nstate_dir = \"{0}/state\"\n",
            dir.path().display()
        );
        let root = format!("file:{}/public", dir.path().display());
        assert_one(&with_target(&root, &key), "`identity_key`");
    }
}
