//! What does one `HiddenServiceDir` of a torrc become?

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::{Table, Value};

use super::base::Base;
use super::clients;
use super::lines::{self, Line};
use super::ports::{self, Port};
use crate::import::draft::{DraftLine, DraftService};
use crate::import::nicknames::Nicknames;
use crate::import::{Fault, ImportFiles, LineFate, Note, SourcePlace, address};

/// What C tor limits introductions to, a second and at once, where it is only told
/// to.
const RATE: (u32, u32) = (25, 200);

/// Settings that hold for every service of the process.
#[derive(Debug, Default)]
pub(super) struct WholeProcess {
    /// Where it says that services do not hide ...
    single_hop: Option<SourcePlace>,
    /// ... and whether it says so a second time, without which tor does not start.
    confirmed: bool,
}

impl WholeProcess {
    /// Takes a setting, if it is such a one.
    pub(super) fn takes(&mut self, line: &Line) -> bool {
        match line.key.as_str() {
            "hiddenservicesinglehopmode" => {
                if line.value != "0" {
                    self.single_hop = Some(line.place.clone());
                }
                true
            }
            "hiddenservicenonanonymousmode" => {
                self.confirmed = line.value != "0";
                true
            }
            _ => false,
        }
    }

    /// What becomes of them.
    pub(super) fn notes(&self) -> Option<Note> {
        let place = self.single_hop.as_ref()?;
        let text = match self.confirmed {
            true => {
                "HiddenServiceSingleHopMode: relays see where the services are, here as with tor. \
                 Descriptors are uploaded by way of the guards"
            }
            false => {
                "HiddenServiceSingleHopMode without HiddenServiceNonAnonymousMode, with which tor does \
                 not start: here the services are anonymous"
            }
        };
        Some(Note::new(place, LineFate::Decided, text))
    }
}

/// A service as the torrc describes it.
#[derive(Debug)]
pub(super) struct ServiceDirectory {
    pub(super) place: SourcePlace,
    /// As it is written.
    pub(super) path: String,
    /// Where that is.
    pub(super) path_on_disk: PathBuf,
    ports: Vec<Port>,
    /// Whether there were lines about ports, good or bad.
    has_ports: bool,
    settings: BTreeMap<String, Line>,
}

impl ServiceDirectory {
    pub(super) fn new(line: &Line) -> Self {
        Self {
            place: line.place.clone(),
            path: line.value.clone(),
            path_on_disk: PathBuf::new(),
            ports: Vec::new(),
            has_ports: false,
            settings: BTreeMap::new(),
        }
    }

    /// Takes a setting of this service. Of one that is repeated, the last counts.
    pub(super) fn set(&mut self, line: &Line, faults: &mut Vec<Fault>) {
        if line.key != "hiddenserviceport" {
            self.settings.insert(line.key.clone(), line.clone());
            return;
        }
        self.has_ports = true;
        match ports::read(line) {
            Ok(port) => self.ports.push(port),
            Err(fault) => faults.push(fault),
        }
    }

    /// Has its Unix sockets begin at the root.
    pub(super) fn find_sockets(
        &mut self,
        base: &Base,
        files: &impl ImportFiles,
        notes: &mut Vec<Note>,
        faults: &mut Vec<Fault>,
    ) {
        for port in &mut self.ports {
            match port.find_socket(base, files) {
                Ok(note) => notes.extend(note),
                Err(fault) => faults.push(fault),
            }
        }
    }

    /// The service; or nothing, and what is wrong.
    pub(super) fn import(
        self,
        whole: &WholeProcess,
        files: &impl ImportFiles,
        nicknames: &mut Nicknames,
        faults: &mut Vec<Fault>,
    ) -> Option<DraftService> {
        let before = faults.len();
        self.refuse_version_2(faults);
        if !self.has_ports {
            let problem = "this service has no HiddenServicePort: clients could reach nothing";
            faults.push(Fault::new(&self.place, problem));
        }
        let mut read = ServiceReading { directory: &self, entries: Vec::new(), faults };
        read.directory_is_one(files);
        read.entries = clients::entries(&self.place, &self.path_on_disk, files, read.faults);
        read.introduction_points();
        read.rate_limit();
        read.streams();
        read.proof_of_work();
        let frontends = read.frontends(files);
        let circuit_id = read.circuit_id();
        let others = read.flag("hiddenserviceallowunknownports");
        read.unknown();
        if whole.single_hop.is_some() && whole.confirmed {
            read.entries.push(DraftLine::Key("anonymity", "not_anonymous".into()));
            read.entries.push(DraftLine::Key("confirm_not_anonymous", true.into()));
        }
        let mut entries = read.entries;
        entries.extend(frontends);
        entries.extend(ports::entries(&self.ports, circuit_id, others));
        let key = self.path_on_disk;
        let address = match files.address(&key) {
            Ok(address) if faults.len() == before => address,
            Ok(_) => return None,
            Err(problem) => {
                faults.push(Fault::of_key(&self.place, problem));
                return None;
            }
        };
        let nickname = nicknames.after_path(&key);
        let service =
            DraftService { nickname, place: self.place, key, address, entries, http: Vec::new() };
        Some(service)
    }

    fn refuse_version_2(&self, faults: &mut Vec<Fault>) {
        if let Some(line) = self.settings.get("hiddenserviceversion")
            && line.value != "3"
        {
            let problem = format!(
                "HiddenServiceVersion {}: Tor has dropped version 2, only version 3 is left. Take \
                 the service out",
                line.value
            );
            faults.push(Fault::new(&line.place, problem));
        }
        if let Some(line) = self.settings.get("hiddenserviceauthorizeclient") {
            let problem = "HiddenServiceAuthorizeClient belongs to version 2, which Tor has \
                           dropped: take the service out";
            faults.push(Fault::new(&line.place, problem));
        }
    }
}

/// What these settings of a service become, whatever program has written them as
/// torrc has them.
pub(in crate::import) fn entries_of(
    place: &SourcePlace,
    lines: Vec<Line>,
    faults: &mut Vec<Fault>,
) -> Vec<DraftLine> {
    let mut directory = ServiceDirectory {
        place: place.clone(),
        path: String::new(),
        path_on_disk: PathBuf::new(),
        ports: Vec::new(),
        has_ports: false,
        settings: BTreeMap::new(),
    };
    for line in &lines {
        directory.set(line, faults);
    }
    let mut read = ServiceReading { directory: &directory, entries: Vec::new(), faults };
    read.introduction_points();
    read.rate_limit();
    read.streams();
    read.proof_of_work();
    read.entries
}

/// The settings that mean something here.
const KNOWN: [&str; 13] = [
    "hiddenserviceallowunknownports",
    "hiddenserviceauthorizeclient",
    "hiddenserviceenableintrodosburstpersec",
    "hiddenserviceenableintrodosdefense",
    "hiddenserviceenableintrodosratepersec",
    "hiddenserviceexportcircuitid",
    "hiddenservicemaxstreams",
    "hiddenservicemaxstreamsclosecircuit",
    "hiddenservicenumintroductionpoints",
    "hiddenserviceonionbalanceinstance",
    "hiddenservicepowdefensesenabled",
    "hiddenservicepowqueuerate",
    "hiddenservicepowqueueburst",
];

/// One pass over the settings of a service.
struct ServiceReading<'d> {
    directory: &'d ServiceDirectory,
    entries: Vec<DraftLine>,
    faults: &'d mut Vec<Fault>,
}

impl<'d> ServiceReading<'d> {
    fn setting(&self, key: &str) -> Option<&'d Line> {
        self.directory.settings.get(key)
    }

    fn note(&mut self, place: &SourcePlace, kind: LineFate, text: impl Into<String>) {
        self.entries.push(DraftLine::Note(Note::new(place, kind, text)));
    }

    fn flag(&mut self, key: &str) -> bool {
        let Some(line) = self.setting(key) else { return false };
        if !matches!(line.value.as_str(), "0" | "1") {
            let problem = format!("{} has to be 0 or 1, not {:?}", line.name, line.value);
            self.faults.push(Fault::new(&line.place, problem));
        }
        line.value == "1"
    }

    fn number(&mut self, key: &str, most: u32) -> Option<(u32, &'d Line)> {
        let line = self.setting(key)?;
        match line.value.parse() {
            Ok(number) if number <= most => Some((number, line)),
            _ => {
                let problem = format!(
                    "{} has to be a number from 0 to {most}, not {:?}",
                    line.name, line.value
                );
                self.faults.push(Fault::new(&line.place, problem));
                None
            }
        }
    }

    /// Refuses a file in the place of the directory: it has no clients beside it, though
    /// it may be a key.
    fn directory_is_one(&mut self, files: &impl ImportFiles) {
        let path = &self.directory.path_on_disk;
        if let (Ok(None), Ok(true)) = (files.list(path), files.is_there(path)) {
            let problem = format!(
                "{} is no directory: HiddenServiceDir names the one with hs_ed25519_secret_key",
                path.display()
            );
            self.faults.push(Fault::of_key(&self.directory.place, problem));
        }
    }

    /// How many there are; with none the service does not run.
    fn introduction_points(&mut self) {
        let Some((number, line)) = self.number("hiddenservicenumintroductionpoints", 20) else {
            return;
        };
        match number {
            0 => {
                let text =
                    format!("{} 0: no client reaches the service, so it is not enabled", line.name);
                self.note(&line.place, LineFate::Warning, text);
                if !self.entries.iter().any(|e| matches!(e, DraftLine::Key("enabled", _))) {
                    self.entries.push(DraftLine::Key("enabled", false.into()));
                }
            }
            1 | 2 => {
                self.entries.push(DraftLine::Key("local_intro_points", i64::from(number).into()))
            }
            3 => {}
            _ => self.entries.push(DraftLine::Key("num_intro_points", i64::from(number).into())),
        }
    }

    fn rate_limit(&mut self) {
        const MOST: u32 = i32::MAX as u32;
        let mut of = |key, default| self.number(key, MOST).map_or(default, |(number, _)| number);
        let rate = of("hiddenserviceenableintrodosratepersec", RATE.0);
        let burst = of("hiddenserviceenableintrodosburstpersec", RATE.1);
        if !self.flag("hiddenserviceenableintrodosdefense") {
            return;
        }
        let Some(line) = self.setting("hiddenserviceenableintrodosdefense") else { return };
        if rate == 0 || burst == 0 || burst < rate {
            let text = format!(
                "{} with {rate} a second and {burst} at once turns the defence off: no limit is set",
                line.name
            );
            return self.note(&line.place, LineFate::Decided, text);
        }
        let pair = [("rate", rate), ("burst", burst)];
        let pair = pair.map(|(key, value)| (key.to_owned(), Value::from(i64::from(value))));
        self.entries.push(DraftLine::Key("rate_limit_at_intro", Table::from_iter(pair).into()));
    }

    fn streams(&mut self) {
        let close = self.flag("hiddenservicemaxstreamsclosecircuit");
        let Some((number, _)) = self.number("hiddenservicemaxstreams", 65535) else { return };
        if number == 0 {
            return;
        }
        let key = "max_concurrent_streams_per_circuit";
        self.entries.push(DraftLine::Key(key, i64::from(number).into()));
        if !close {
            self.entries.push(DraftLine::Key("max_streams_close_circuit", false.into()));
        }
    }

    fn proof_of_work(&mut self) {
        /// What `pow_rate` takes.
        const MOST: u32 = 1_000_000;
        let of = |this: &mut Self, key| this.number(key, u32::MAX).map(|(number, _)| number);
        let rate = of(self, "hiddenservicepowqueuerate");
        let burst = of(self, "hiddenservicepowqueueburst");
        let enabled = self.flag("hiddenservicepowdefensesenabled");
        let Some(line) = self.setting("hiddenservicepowdefensesenabled") else { return };
        if !enabled {
            return;
        }
        self.entries.push(DraftLine::Key("enable_pow", true.into()));
        if rate.is_none() && burst.is_none() {
            return;
        }
        let wanted = (rate.unwrap_or(250), burst.unwrap_or(2500));
        let rate = if wanted.0 == 0 { 250 } else { wanted.0.min(MOST) };
        let burst = wanted.1.clamp(rate, MOST.max(rate));
        if (rate, burst) != wanted {
            let text = format!(
                "{} with a queue of {} a second and {} at once: pow_rate becomes {rate} and {burst}, \
                 since it knows no 0 and a burst is no lower than the rate",
                line.name, wanted.0, wanted.1
            );
            self.note(&line.place, LineFate::Decided, text);
        }
        let pair = [("rate", rate), ("burst", burst)];
        let pair = pair.map(|(key, value)| (key.to_owned(), Value::from(i64::from(value))));
        self.entries.push(DraftLine::Key("pow_rate", Table::from_iter(pair).into()));
    }

    /// The addresses that it answers for, where it is a backend.
    fn frontends(&mut self, files: &impl ImportFiles) -> Option<DraftLine> {
        if !self.flag("hiddenserviceonionbalanceinstance") {
            return None;
        }
        let line = self.setting("hiddenserviceonionbalanceinstance")?;
        let file = self.directory.path_on_disk.join("ob_config");
        let lines = match files.text(&file) {
            Ok(Some(text)) => lines::parse(&text, &file),
            Ok(None) => {
                let problem = format!(
                    "there is no {}: it names the address to answer for, as MasterOnionAddress",
                    file.display()
                );
                Err(Fault::new(&line.place, problem))
            }
            Err(error) => Err(Fault::unreadable(&line.place, error)),
        };
        let before = self.faults.len();
        let lines = lines.map_err(|fault| self.faults.push(fault)).ok()?;
        let mut frontends: Vec<Value> = Vec::new();
        for line in lines {
            if let Err(fault) = line.check_encoding() {
                self.faults.push(fault);
                continue;
            }
            if line.key != "masteronionaddress" {
                let text = format!("{} in ob_config is not known here", line.name);
                self.note(&line.place, LineFate::NoEquivalent, text);
                continue;
            }
            match address(&line.value) {
                Ok(address) => {
                    let address = Value::from(address.to_string());
                    if !frontends.contains(&address) {
                        frontends.push(address);
                    }
                }
                Err(problem) => self.faults.push(Fault::new(&line.place, problem)),
            }
        }
        if frontends.is_empty() && self.faults.len() == before {
            let place = SourcePlace { file, line: 0 };
            let problem =
                "there is no MasterOnionAddress in it: whom does this backend answer for?";
            self.faults.push(Fault::new(&place, problem));
        }
        Some(DraftLine::List("frontends", frontends))
    }

    /// Whether servers learn the circuit.
    fn circuit_id(&mut self) -> bool {
        let Some(line) = self.setting("hiddenserviceexportcircuitid") else { return false };
        match line.value.to_ascii_lowercase().as_str() {
            "haproxy" => true,
            "none" | "" => false,
            _ => {
                let problem = format!(
                    "HiddenServiceExportCircuitID has to be haproxy or none, not {:?}",
                    line.value
                );
                self.faults.push(Fault::new(&line.place, problem));
                false
            }
        }
    }

    fn unknown(&mut self) {
        for (key, line) in &self.directory.settings {
            let text = match key.as_str() {
                "hiddenserviceversion" => continue,
                "hiddenservicedirgroupreadable" => format!(
                    "{}: the key has to be its owner's alone here (chmod go-rwx)",
                    line.name
                ),
                key if KNOWN.contains(&key) => continue,
                _ => {
                    format!("{} is not known to this import: does the service need it?", line.name)
                }
            };
            self.note(&line.place, LineFate::NoEquivalent, text);
        }
    }
}
