//! `onionbraid backend-config`: what a backend elsewhere has to be told, so that
//! it answers for a service of ours.
//!
//! Reads the configuration and the service's key. With `--out` it writes a new
//! directory, else it prints.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use toml::{Table, Value};

use super::hand_over::write_one_for;
use super::keys::{no_key, owner, service_address};
use super::new_file::unwritable;
use super::{CommandFailure, exists, finish, remark, service};
use crate::cli::BackendProgram;
use crate::config::{self, Config, ServiceConfig};
use crate::exit::Exit;
use crate::tor::keys::{self, ClientSecret};
use onionbraid_balancer::onion::{ClientKey, OnionAddress};
use onionbraid_proxy::rules::{Origin, PortRange, ProxyTarget};
use onionbraid_proxy::settings::{OriginProtocol, ProxyProtocol};

/// A range of ports becomes as many lines of torrc, up to this many.
const MOST_LINES: usize = 32;

/// Prints the backend's configuration, or writes it to a new directory.
pub fn backend_config(
    name: &str,
    program: BackendProgram,
    backend: Option<&str>,
    out: Option<&Path>,
    files: &[PathBuf],
) -> ExitCode {
    finish(write(name, program, backend, out, files))
}

fn write(
    name: &str,
    program: BackendProgram,
    backend: Option<&str>,
    out: Option<&Path>,
    files: &[PathBuf],
) -> Result<(), CommandFailure> {
    let config = owner::load(files)?;
    let service = service(&config, name)?;
    let address = service_address(&config, service)?.ok_or_else(|| no_key(name))?;
    if let Some(out) = out.filter(|out| out.symlink_metadata().is_ok()) {
        // Before a key is made for it.
        return Err(exists(out));
    }
    let client = backend.map(|backend| client_key(&config, service, backend)).transpose()?;
    let texts = match program {
        BackendProgram::Tor => {
            let mut texts = vec![
                ("torrc", torrc(service, &address)),
                ("ob_config", ob_config(service, &address)),
            ];
            texts.extend(client.map(|key| ("publisher.auth", authorized_client(service, key))));
            texts
        }
        BackendProgram::Onionbraid => {
            vec![("arti.toml", arti_toml(service, &address) + &restricted(service, client))]
        }
    };
    match out {
        None => {
            let texts: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
            io::stdout().lock().write_all(texts.join("\n").as_bytes())?;
        }
        Some(directory) => {
            write_new(directory, &texts)?;
            let names: Vec<&str> = texts.iter().map(|(name, _)| *name).collect();
            remark(&format!("{} now has {}.", directory.display(), names.join(" and ")));
        }
    }
    Ok(())
}

/// The public half of the `client_key` of a backend, which is made if it is not there.
fn client_key(
    config: &Config,
    service: &ServiceConfig,
    name: &str,
) -> Result<ClientKey, CommandFailure> {
    let backend = service.backends.iter().find(|it| it.name == name).ok_or_else(|| {
        let text = format!("service \"{}\" lists no backend \"{name}\"", service.nickname);
        CommandFailure::new(Exit::Usage, text)
    })?;
    let file = backend.client_key.as_deref().ok_or_else(|| {
        let text = format!(
            "backend \"{name}\" has no `client_key`: say where it is to be, {{ address = \"{}\", name \
             = \"{name}\", client_key = \"keys/{name}.auth_private\" }}",
            backend.address
        );
        CommandFailure::new(Exit::Configuration, text)
    })?;
    let secret = if file.exists() {
        keys::read_client_secret(file, &backend.address, &config.storage.mistrust)?
    } else {
        let secret = ClientSecret::generate(backend.address);
        let text = secret.file().unwrap_or_default();
        let bytes = text.as_bytes().to_vec();
        write_one_for(owner::of_state(config), file, bytes, keys::SECRET_MODE)?;
        remark(&format!("The new key lies in {}.", file.display()));
        secret
    };
    secret.public().ok_or_else(|| CommandFailure::new(Exit::Permission, "the key cannot be used"))
}

/// What a C tor has to know of who may read its descriptor.
fn authorized_client(service: &ServiceConfig, key: ClientKey) -> String {
    // tor reads nothing but the key there.
    remark(&format!(
        "publisher.auth lets this publisher alone read the backend's descriptor, once it lies in \
         /var/lib/tor/{}-backend/authorized_clients/ there, with mode 600, as tor's.",
        service.nickname
    ));
    format!("{key}\n")
}

/// The same for another onionbraid.
fn restricted(service: &ServiceConfig, key: Option<ClientKey>) -> String {
    key.map_or_else(String::new, |key| {
        format!(
            "# Its own descriptor is for the publisher alone.\n\
             [onion_services.\"{}\".restricted_discovery]\n\
             enabled = true\n\
             static_keys.publisher = \"{key}\"\n",
            service.nickname
        )
    })
}

/// Makes the directory with these files; after an error, nothing is left of it.
fn write_new(directory: &Path, texts: &[(&str, String)]) -> Result<(), CommandFailure> {
    std::fs::create_dir(directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(directory),
        _ => unwritable(directory, error),
    })?;
    let mut made = Vec::new();
    let written = texts.iter().try_for_each(|(name, text)| {
        let path = directory.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        made.push(path);
        file.write_all(text.as_bytes())
    });
    written.map_err(|error| {
        let removed = made.iter().map(std::fs::remove_file).fold(Ok(()), io::Result::and);
        let left = removed.and_then(|()| std::fs::remove_dir(directory)).is_err();
        unwritable(directory, error).leaving(left.then(|| directory.to_owned()).as_slice())
    })
}

/// What goes into the backend's torrc.
fn torrc(service: &ServiceConfig, address: &OnionAddress) -> String {
    let nickname = &service.nickname;
    let mut text = format!(
        "# torrc: these lines make a tor a backend of service \"{nickname}\",\n\
         # {address}. In this order, as root:\n\
         #  1. Make its directory and put the file ob_config there: without it tor does\n\
         #     not start. The user is the one that runs tor, on Debian debian-tor:\n\
         #         install -d -o debian-tor -g debian-tor -m 700 /var/lib/tor/{nickname}-backend\n\
         #         install -o debian-tor -g debian-tor -m 600 ob_config /var/lib/tor/{nickname}-backend/\n\
         #  2. Put these lines into torrc and restart tor, which makes the backend a key\n\
         #     and an address of its own.\n\
         #  3. Tell onionbraid the address that is now in `hostname` there:\n\
         #         [onion_services.\"{nickname}\"]\n\
         #         backends = [\"....onion\"]\n\
         HiddenServiceDir /var/lib/tor/{nickname}-backend\n\
         HiddenServiceVersion 3\n\
         HiddenServiceOnionBalanceInstance 1\n"
    );
    let line = proxy_line(service);
    if line.is_some() {
        text.push_str("HiddenServiceExportCircuitID haproxy\n");
    }
    let ports = ports(service, line);
    text.push_str(&ports);
    if !ports.lines().any(|line| line.starts_with("HiddenServicePort")) {
        text.push_str("# The port that clients connect to, and the server behind it:\n");
        text.push_str("HiddenServicePort 80 127.0.0.1:8080\n");
    }
    if !service.http_to_toml().is_empty() {
        let _ = writeln!(
            text,
            "# tor forwards bytes: what [onion_services.\"{nickname}\".http] says has no effect there."
        );
    }
    text
}

/// The line that tor is to begin every connection with, on all ports or none:
/// version 1, if all that tor can forward wants it.
fn proxy_line(service: &ServiceConfig) -> Option<ProxyProtocol> {
    let wanted = |line| {
        let rules = service.proxy_ports.0.iter();
        rules.filter(|rule| addresses(&rule.target, line).is_some()).count()
    };
    let version_1 = Some(ProxyProtocol::V1);
    version_1.filter(|_| wanted(version_1) > 0 && wanted(None) == 0)
}

/// The service's `proxy_ports` as torrc writes them. tor chooses at random
/// between lines of one port, so each port has those of one rule alone.
fn ports(service: &ServiceConfig, line: Option<ProxyProtocol>) -> String {
    let mut text = String::new();
    let mut seen = Vec::new();
    for rule in &service.proxy_ports.0 {
        // tor does so with every port that has no line.
        if matches!(rule.target, ProxyTarget::Destroy | ProxyTarget::Welcome) {
            continue;
        }
        let Some(addresses) = addresses(&rule.target, line) else {
            let _ = writeln!(text, "# tor has no word for this rule of ours: {rule}");
            continue;
        };
        if rule.ports.len() > MOST_LINES {
            let ports = PortRange(&rule.ports);
            let _ = writeln!(
                text,
                "# tor wants one line for each port: write those of {ports} that are needed, as"
            );
            for address in &addresses {
                let _ = writeln!(text, "# HiddenServicePort PORT {address}");
            }
            continue;
        }
        for port in rule.ports.clone() {
            if service.proxy_ports.target(port) == &rule.target && !seen.contains(&port) {
                for address in &addresses {
                    let _ = writeln!(text, "HiddenServicePort {port} {address}");
                }
                seen.push(port);
            }
        }
    }
    text
}

/// Where tor forwards to in the place of a target of ours, if it can, with this
/// line before what clients send.
fn addresses(target: &ProxyTarget, line: Option<ProxyProtocol>) -> Option<Vec<String>> {
    match target {
        ProxyTarget::Forward(target) if target.proxy_protocol == line => {
            Some(target.origins.iter().map(address).collect())
        }
        // tor hands on what clients send, which is HTTP/1.1 without TLS.
        ProxyTarget::Http(target)
            if target.origins.iter().all(|origin| !origin.tls)
                && target.tls.is_empty()
                && target.settings.origins.proxy_protocol == line
                && target.settings.origins.protocol == OriginProtocol::Http1 =>
        {
            Some(target.origins.iter().map(|origin| address(&origin.address)).collect())
        }
        _ => None,
    }
}

fn address(origin: &Origin) -> String {
    match origin {
        Origin::Tcp(_) | Origin::Name(..) => origin.to_string(),
        Origin::Unix(path) => format!("unix:{}", quoted(&path.to_string_lossy())),
    }
}

/// A path as torrc takes it behind `unix:`.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The file beside the backend's key that says whom it answers for.
fn ob_config(service: &ServiceConfig, address: &OnionAddress) -> String {
    format!(
        "# ob_config: goes into HiddenServiceDir, /var/lib/tor/{}-backend. tor has to be\n\
         # restarted if it changes.\n\
         MasterOnionAddress {address}\n",
        service.nickname
    )
}

/// What goes into the backend's arti.toml.
fn arti_toml(service: &ServiceConfig, address: &OnionAddress) -> String {
    let nickname = &service.nickname;
    let mut text = format!(
        "# arti.toml: this makes another onionbraid a backend of service \"{nickname}\",\n\
         # {address}.\n\
         # Then tell the address that `onionbraid keys address {nickname}` says there to\n\
         # this one:\n\
         #     [onion_services.\"{nickname}\"]\n\
         #     backends = [\"....onion\"]\n\
         [onion_services.\"{nickname}\"]\n\
         frontends = [\"{address}\"]\n\
         # The ports that clients connect to, and the servers behind them:\n\
         proxy_ports = [\n"
    );
    let rules = config::show::proxy_ports(&service.proxy_ports);
    for rule in &rules {
        let _ = writeln!(text, "    {rule},");
    }
    if rules.is_empty() {
        text.push_str("    [\"80\", \"http://127.0.0.1:8080\"],\n");
    }
    text.push_str("]\n");
    let http = http(service, address);
    if !http.is_empty() {
        text.push_str(
            "# How requests are led to them. Files that are named have to lie there, too.\n",
        );
        text.push_str(&http);
    }
    text
}

/// The table `http` for the other machine, which has another address of its own:
/// clients know this one.
fn http(service: &ServiceConfig, address: &OnionAddress) -> String {
    let mut http = service.http_to_toml();
    if http.is_empty() {
        return String::new();
    }
    name_address(&mut http, address);
    if let Some(Value::Table(ports)) = http.get_mut("ports") {
        let tables = ports.iter_mut().filter_map(|(_, port)| port.as_table_mut());
        tables.for_each(|port| name_address(port, address));
    }
    let within = |key: &str, table: Table| Table::from_iter([(key.to_owned(), Value::from(table))]);
    let services = within(service.nickname.as_ref(), within("http", http));
    within("onion_services", services).to_string()
}

/// Writes the address in the place of "self", in `names` and `allowed_hosts`.
fn name_address(http: &mut Table, address: &OnionAddress) {
    let mut entries = Vec::new();
    for (key, value) in http {
        match (key.as_str(), value.as_array_mut()) {
            ("names", Some(pairs)) => {
                entries.extend(pairs.iter_mut().filter_map(|pair| pair.get_mut("onion")));
            }
            ("allowed_hosts", Some(hosts)) => entries.extend(hosts),
            _ => {}
        }
    }
    for onion in entries {
        if onion.as_str() == Some("self") {
            *onion = address.to_string().into();
        }
    }
}
