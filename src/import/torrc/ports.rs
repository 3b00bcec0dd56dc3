//! Where do the streams of a service's ports go?

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::base::Base;
use super::lines::{Line, quoted};
use crate::import::draft::DraftLine;
use crate::import::{Fault, ImportFiles, LineFate, Note, SourcePlace};

/// The most servers that may share a port here.
const MOST: usize = 32;

/// A virtual port and a server behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    place: SourcePlace,
    port: u16,
    target: String,
}

/// Reads the value of a `HiddenServicePort`: `VIRTPORT [TARGET]`.
pub(super) fn read(line: &Line) -> Result<Port, Fault> {
    let fault = |problem: String| Fault::new(&line.place, problem);
    let (port, target) = line.value.split_once(char::is_whitespace).unwrap_or((&line.value, ""));
    let port = number(port).ok_or_else(|| {
        fault(format!(
            "{port:?} is no port: this has to be VIRTPORT and TARGET, as 80 127.0.0.1:80"
        ))
    })?;
    let target = target.trim();
    let target = if target.is_empty() {
        format!("127.0.0.1:{port}")
    } else if let Some(path) = strip_unix(target) {
        let path = match path.starts_with('"') {
            true => quoted(path).map_err(fault)?,
            false if path.contains(char::is_whitespace) => {
                return Err(fault(format!("a path with blanks is quoted: unix:\"{path}\"")));
            }
            false => path.to_owned(),
        };
        if path.is_empty() {
            return Err(fault("the path of the socket is missing: unix:/path".to_owned()));
        }
        format!("unix:{path}")
    } else if let Some(port) = number(target) {
        format!("127.0.0.1:{port}")
    } else if target.contains(char::is_whitespace) {
        return Err(fault(format!("{target:?} is more than one target: write one line for each")));
    } else if target.ends_with(']') || !target.contains(':') {
        // An address without a port has the virtual one.
        format!("{target}:{port}")
    } else {
        target.to_owned()
    };
    let onion = |host: &str| host.trim_end_matches('.').to_ascii_lowercase().ends_with(".onion");
    if target.rsplit_once(':').is_some_and(|(host, _)| onion(host)) {
        let problem = format!(
            "{target} is an onion service: onionbraid reaches servers without Tor. If it answers \
             for this address, it is a backend: name it in `backends`"
        );
        return Err(fault(problem));
    }
    Ok(Port { place: line.place.clone(), port, target })
}

impl Port {
    /// Has a Unix socket begin at the root: a relative one would begin elsewhere in the
    /// new file.
    pub(super) fn find_socket(
        &mut self,
        base: &Base,
        files: &impl ImportFiles,
    ) -> Result<Option<Note>, Fault> {
        let Some(path) = strip_unix(&self.target) else { return Ok(None) };
        let (whole, note) = base.whole(path, &self.target, &self.place, files)?;
        self.target = format!("unix:{whole}");
        Ok(note)
    }
}

fn strip_unix(target: &str) -> Option<&str> {
    let (scheme, path) = target.split_at_checked(5)?;
    scheme.eq_ignore_ascii_case("unix:").then_some(path)
}

fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// `proxy_ports`, with what is said of it. `proxy_protocol` tells servers the
/// circuit; with `reject_others` clients of other ports keep their circuit.
pub(super) fn entries(ports: &[Port], proxy_protocol: bool, reject_others: bool) -> Vec<DraftLine> {
    let mut entries = Vec::new();
    let mut targets: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    let mut order = Vec::new();
    for Port { place, port, target } in ports {
        let of_port = targets.entry(*port).or_insert_with(|| {
            order.push(*port);
            Vec::new()
        });
        let text = if of_port.contains(&target.as_str()) {
            format!(
                "port {port} has the target {target} twice: here servers of one port get equal \
                 shares"
            )
        } else if of_port.len() == MOST {
            format!("port {port} has more than {MOST} targets: {target} is left out")
        } else {
            of_port.push(target);
            continue;
        };
        entries.push(DraftLine::Note(Note::new(place, LineFate::Decided, text)));
    }
    entries.push(DraftLine::Comment(
        "Byte for byte, as tor does. \"http://ADDRESS\" in the place of \"ADDRESS\" turns on the \
         HTTP proxy, with limits and health checks."
            .to_owned(),
    ));
    let mut rules: Vec<Value> = Vec::new();
    for port in order {
        let of_port = targets.get(&port).map(Vec::as_slice).unwrap_or_default();
        let target: Value = match of_port {
            [one] => (*one).into(),
            several => several.iter().map(|one| Value::from(*one)).collect::<Vec<_>>().into(),
        };
        let mut rule = vec![Value::from(port.to_string()), target];
        if proxy_protocol {
            let line = ("proxy_protocol".to_owned(), Value::from("v1"));
            rule.push(Table::from_iter([line]).into());
        }
        rules.push(rule.into());
    }
    if reject_others {
        rules.push(vec![Value::from("*"), Value::from("reject")].into());
    }
    entries.push(DraftLine::List("proxy_ports", rules));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(value: &str) -> Result<(u16, String), Fault> {
        let place = SourcePlace { file: "torrc".into(), line: 1 };
        let line = Line { place, key: String::new(), name: String::new(), value: value.to_owned() };
        read(&line).map(|port| (port.port, port.target))
    }

    #[test]
    fn a_target_may_leave_out_what_tor_fills_in() {
        for (value, port, expected) in [
            ("80", 80, "127.0.0.1:80"),
            ("80 8080", 80, "127.0.0.1:8080"),
            ("80 10.0.0.1", 80, "10.0.0.1:80"),
            ("80 10.0.0.1:81", 80, "10.0.0.1:81"),
            ("80 [::1]", 80, "[::1]:80"),
            ("80 [::1]:81", 80, "[::1]:81"),
            ("80 localhost:81", 80, "localhost:81"),
            ("22\t unix:/run/x", 22, "unix:/run/x"),
            ("22 UNIX:\"/run/a b\\\"\"", 22, "unix:/run/a b\""),
        ] {
            assert_eq!(target(value), Ok((port, expected.to_owned())), "{value}");
        }
        for wrong in [
            "",
            "0",
            "65536",
            "x",
            "80 unix:",
            "80 unix:/a b",
            "80 unix:\"/x",
            "80 1.2.3.4:5 6",
            "+80",
        ] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
