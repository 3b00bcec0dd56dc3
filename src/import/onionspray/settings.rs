//! What do the settings of a project mean for a proxy here?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::project::Setting;
use crate::import::draft::{DraftLine, path_value};
use crate::import::torrc::lines::Line;
use crate::import::torrc::service;
use crate::import::{Fault, ImportFiles, LineFate, Note, SourcePlace, written_path};

/// The authorities that are trusted anyway.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The methods that `suppress_methods_except_get` refuses.
const OTHER_METHODS: [&str; 7] = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

/// Settings that are carried over, or that name only what is gone.
const TAKEN: [&str; 24] = [
    "block_host",
    "block_path",
    "block_user_agent",
    "force_https",
    "nginx_proxy_ssl_trusted_certificate",
    "nginx_x_onion_circuit_id",
    "onion_version",
    "project",
    "suppress_header_csp",
    "suppress_header_hpkp",
    "suppress_header_hsts",
    "suppress_methods_except_get",
    "suppress_tor2web",
    "tor_export_circuit_id",
    "tor_intro_dos_burst_per_sec",
    "tor_intro_dos_defense",
    "tor_intro_dos_rate_per_sec",
    "tor_intros_per_daemon",
    "tor_max_streams",
    "tor_max_streams_close_circuit",
    "tor_pow_enabled",
    "tor_pow_queue_burst",
    "tor_pow_queue_rate",
    "tor_single_onion",
];

/// Settings that tor has, too, under another name.
const OF_TOR: [(&str, &str); 9] = [
    ("tor_intro_dos_burst_per_sec", "HiddenServiceEnableIntroDoSBurstPerSec"),
    ("tor_intro_dos_defense", "HiddenServiceEnableIntroDoSDefense"),
    ("tor_intro_dos_rate_per_sec", "HiddenServiceEnableIntroDoSRatePerSec"),
    ("tor_intros_per_daemon", "HiddenServiceNumIntroductionPoints"),
    ("tor_max_streams", "HiddenServiceMaxStreams"),
    ("tor_max_streams_close_circuit", "HiddenServiceMaxStreamsCloseCircuit"),
    ("tor_pow_enabled", "HiddenServicePoWDefensesEnabled"),
    ("tor_pow_queue_burst", "HiddenServicePoWQueueBurst"),
    ("tor_pow_queue_rate", "HiddenServicePoWQueueRate"),
];

/// Other settings by how they begin, and what there is in their place.
const OTHERS: &[(&[&str], LineFate, &str)] = &[
    (
        &["cookie_lock"],
        LineFate::Warning,
        "nothing here asks visitors for a cookie: what it kept out comes in",
    ),
    (
        &["block_", "host_", "origin_", "param_", "path_", "referer_", "user_agent_"],
        LineFate::Warning,
        "regular expressions and lists of this kind are not carried over: what it refused is let \
         through. See block and allowed_hosts",
    ),
    (&["nginx_cache", "no_cache"], LineFate::NoEquivalent, "answers are not cached here"),
    (&["redirect_"], LineFate::NoEquivalent, "the site itself has to redirect"),
    (
        &["hardcoded_endpoint", "ssl_proof"],
        LineFate::NoEquivalent,
        "fixed answers need a server, or a directory with \"file:\"",
    ),
    (
        &["preserve", "extra_", "deonionify", "drop_unrewritable", "kludge", "left_tld"],
        LineFate::NoEquivalent,
        "bodies are never rewritten here, only header fields",
    ),
    (
        &["inject_", "x_from_onion"],
        LineFate::NoEquivalent,
        "no header fields of your own are added; servers know requests from here by their Host, \
         X-Forwarded-Host and circuit_id_header",
    ),
    (
        &["ssl_", "cert_"],
        LineFate::NoEquivalent,
        "clients speak to the onion address without TLS here",
    ),
    (&["nginx_", "softmap_nginx"], LineFate::NoEquivalent, "there is no nginx here"),
    (&["tor_"], LineFate::NoEquivalent, "there is no tor here"),
    (&["log_", "debug_"], LineFate::NoEquivalent, "see [logging] and access_log"),
];

/// The settings of one file.
pub(super) struct OnionspraySettings<'p> {
    all: &'p BTreeMap<String, Setting>,
    block: Vec<Value>,
    /// What is said in the table `http`.
    http_notes: Vec<Note>,
}

impl<'p> OnionspraySettings<'p> {
    /// Looks at all settings; what has no equivalent goes into `notes`.
    pub(super) fn read(
        all: &'p BTreeMap<String, Setting>,
        notes: &mut Vec<Note>,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let mut settings = Self { all, block: Vec::new(), http_notes: Vec::new() };
        for (key, (value, place)) in all {
            if TAKEN.contains(&key.as_str()) || value.is_empty() {
                continue;
            }
            // A switch that is off does nothing there either.
            if value == "0" && !key.starts_with("nginx_cache") {
                continue;
            }
            let known = OTHERS.iter().find(|(keys, _, _)| keys.iter().any(|k| key.starts_with(k)));
            let (kind, text) = match known {
                Some((_, kind, text)) => (*kind, format!("set {key}: {text}")),
                None => (LineFate::NoEquivalent, format!("set {key} is not known to this import")),
            };
            notes.push(Note::new(place, kind, text));
        }
        for key in ["suppress_tor2web", "suppress_header_hsts", "force_https", "tor_single_onion"] {
            if let Some((value, place)) = all.get(key)
                && !matches!(value.as_str(), "0" | "1" | "")
            {
                faults
                    .push(Fault::new(place, format!("set {key} has to be 0 or 1, not {value:?}")));
            }
        }
        notes.sort_by(|a, b| a.place.cmp(&b.place));
        settings.blocks();
        settings
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.all.get(key).map(|(value, _)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn on(&self, key: &str, default: bool) -> bool {
        self.value(key).map_or(default, |value| value != "0")
    }

    fn blocks(&mut self) {
        let rule =
            |key: &str, value: Value| Value::from(Table::from_iter([(key.to_owned(), value)]));
        for (setting, key) in
            [("block_host", "host"), ("block_path", "path"), ("block_user_agent", "user_agent")]
        {
            let Some((values, place)) = self.all.get(setting) else { continue };
            for value in values.split_whitespace() {
                let good = match key {
                    "path" => value.starts_with('/') && value.len() > 1,
                    "host" => {
                        value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
                    }
                    _ => true,
                };
                let (kind, text) = match good {
                    true => {
                        self.block.push(rule(key, value.into()));
                        let text = match key {
                            "path" => "what lies below the path is refused, too",
                            "host" => "subdomains are refused, too",
                            _ => "user agents that contain it are refused, too",
                        };
                        (LineFate::Decided, format!("set {setting} {value}: {text}"))
                    }
                    false => (
                        LineFate::Warning,
                        format!(
                            "set {setting} {value}: no rule can say this, so it is let through"
                        ),
                    ),
                };
                self.http_notes.push(Note::new(place, kind, text));
            }
        }
        if self.on("suppress_methods_except_get", false) {
            let methods: Vec<Value> = OTHER_METHODS.map(Value::from).into();
            self.block.push(rule("methods", methods.into()));
        }
    }

    /// What the settings about tor say in the service's table.
    pub(super) fn service(&self, map: &SourcePlace, faults: &mut Vec<Fault>) -> Vec<DraftLine> {
        let mut lines = Vec::new();
        for (ours, name) in OF_TOR {
            if let Some((value, place)) = self.all.get(ours).filter(|(value, _)| !value.is_empty())
            {
                lines.push(Line {
                    place: place.clone(),
                    key: name.to_ascii_lowercase(),
                    name: format!("set {ours}"),
                    value: value.clone(),
                });
            }
        }
        let mut entries = service::entries_of(map, lines, faults);
        if self.on("tor_single_onion", true) {
            let place = self.all.get("tor_single_onion").map_or(map, |(_, place)| place);
            let text = "tor_single_onion, the default: relays saw where the service is. Here the \
                        machine is hidden and pages are slower; for what was before, write \
                        `anonymity = \"not_anonymous\"` and `confirm_not_anonymous = true`";
            entries.push(DraftLine::Note(Note::new(place, LineFate::Decided, text)));
        }
        let text = "Onionspray puts onion names into the bodies of pages, here they are put into \
                    header fields alone: links that pages write out in full lead to the public site";
        entries.push(DraftLine::Note(Note::new(map, LineFate::NoEquivalent, text)));
        entries
    }

    /// The keys of the table `http`, beside names.
    ///
    /// nginx begins relative paths in the directory of its configuration, which is that of
    /// the project: one of `directories`.
    pub(super) fn http(
        &self,
        directories: &[PathBuf; 2],
        files: &impl ImportFiles,
        faults: &mut Vec<Fault>,
    ) -> Vec<DraftLine> {
        let mut entries = Vec::new();
        let mut strip = Vec::new();
        for (setting, default, fields) in [
            ("suppress_header_hsts", true, ["Strict-Transport-Security"].as_slice()),
            ("suppress_header_hpkp", true, &["Public-Key-Pins", "Public-Key-Pins-Report-Only"]),
            (
                "suppress_header_csp",
                false,
                &["Content-Security-Policy", "Content-Security-Policy-Report-Only"],
            ),
        ] {
            if self.on(setting, default) {
                strip.extend(fields.iter().map(|field| Value::from(*field)));
            }
        }
        if !strip.is_empty() {
            entries.push(DraftLine::Key("strip", strip.into()));
        }
        if self.on("suppress_tor2web", true) {
            entries.push(DraftLine::Key("block_tor2web", true.into()));
        }
        entries.extend(self.http_notes.iter().cloned().map(DraftLine::Note));
        if !self.block.is_empty() {
            entries.push(DraftLine::List("block", self.block.clone()));
        }
        if self.on("nginx_x_onion_circuit_id", false) {
            entries.push(DraftLine::Key("circuit_id_header", "X-Onion-CircuitID".into()));
        }
        if let Some(file) = self.value("nginx_proxy_ssl_trusted_certificate")
            && file != SYSTEM_AUTHORITIES
        {
            match self.authorities(file, directories, files) {
                Ok((file, note)) => {
                    let file = [("ca_file".to_owned(), path_value(&file))];
                    entries.extend(note.map(DraftLine::Note));
                    entries.push(DraftLine::Key("tls", Table::from_iter(file).into()));
                }
                Err(fault) => faults.push(fault),
            }
        }
        entries
    }

    /// The whole path of a file of authorities, and what is said if it was relative.
    fn authorities(
        &self,
        file: &str,
        directories: &[PathBuf; 2],
        files: &impl ImportFiles,
    ) -> Result<(String, Option<Note>), Fault> {
        let setting = self.all.get("nginx_proxy_ssl_trusted_certificate");
        let Some((_, place)) = setting.filter(|_| Path::new(file).is_relative()) else {
            return Ok((file.to_owned(), None));
        };
        // One that cannot be looked at is there, too.
        let is_there = |path: &&PathBuf| !matches!(files.is_there(path), Ok(false));
        let paths: Vec<PathBuf> = directories.iter().map(|it| it.join(file)).collect();
        let there = paths.iter().find(is_there).or_else(|| {
            let directory = directories.iter().position(|it| is_there(&it));
            paths.get(directory.unwrap_or(0))
        });
        let found = there.map_or(Path::new(file), PathBuf::as_path);
        let text = format!(
            "nginx_proxy_ssl_trusted_certificate {file} is a relative path: {} is used here, as nginx \
             begins at the directory of its nginx.conf",
            found.display()
        );
        let note = Note::new(place, LineFate::Decided, text);
        Ok((written_path(found, place, files)?, Some(note)))
    }
}
