//! What keeps bridges from being reached that stand behind pluggable transports?
//!
//! Connections to them are opened by a program of the operator's, so that what
//! becomes of TCP is not seen here: Arti is asked for its channel to each bridge
//! while there is trouble, as it asks itself.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tor_chanmgr::{ChanMgr, ChannelUsage};
use tor_config_path::CfgPath;
use tor_linkspec::{ChannelMethod, HasAddrs as _, HasChanMethod as _, OwnedChanTarget};

use super::attempts::Runtime;
use super::diagnosis::Unreached;
use crate::causes::{chain, in_one_line};
use crate::clock::now;

/// How often bridges are asked.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// So many at a time, ...
const ASKED_AT_ONCE: usize = 4;

/// ... and for no longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// What was learned of bridges behind transports.
#[derive(Debug, Default)]
pub(super) struct Transports {
    asked: Option<Instant>,
    unreached: Option<Unreached>,
}

impl Transports {
    /// Asks some of these bridges where it `is_due`: while Tor works, nobody is asked.
    pub(super) async fn look(
        &mut self,
        bridges: &[OwnedChanTarget],
        channels: Option<&ChanMgr<Runtime>>,
        is_due: bool,
    ) {
        let (Some(channels), true) = (channels.filter(|_| !bridges.is_empty()), is_due) else {
            *self = Self::default();
            return;
        };
        let at = now().monotonic;
        if self.asked.is_some_and(|asked| at.saturating_duration_since(asked) < ASK_EVERY) {
            return;
        }
        let asked = bridges.iter().take(ASKED_AT_ONCE);
        let answers = futures::future::join_all(asked.map(|bridge| ask(channels, bridge))).await;
        self.asked = Some(now().monotonic);
        self.unreached = summary(answers);
    }

    /// What is wrong, as of the last time that they were asked.
    pub(super) fn unreached(&self) -> Option<Unreached> {
        self.unreached.clone()
    }
}

/// What came of one bridge; `None`: it answers.
async fn ask(channels: &ChanMgr<Runtime>, bridge: &OwnedChanTarget) -> Option<Unreached> {
    let channel = channels.get_or_launch(bridge, ChannelUsage::UselessCircuit);
    let ports = bridge.addrs().map(|address| address.port()).collect();
    let unreached = Unreached::Bridges { tried: 1, ports };
    match tokio::time::timeout(ANSWER_WITHIN, channel).await {
        Ok(Ok(_)) => None,
        Ok(Err(tor_chanmgr::Error::Pt(error))) => {
            let error = error.as_ref();
            tracing::debug!(error = %in_one_line(error), "no transport");
            let ChannelMethod::Pluggable(target) = bridge.chan_method() else {
                return Some(unreached);
            };
            let transport = target.transport().to_string();
            Some(Unreached::Program { transport, error: program_error(error) })
        }
        Ok(Err(error)) => {
            tracing::debug!(error = %in_one_line(&error), "no channel to a bridge");
            Some(unreached)
        }
        Err(_) => Some(unreached),
    }
}

/// What is wrong with a program, in the system's words where it has some.
fn program_error(error: &(dyn Error + 'static)) -> String {
    let of_system = chain(error).find_map(|cause| {
        let shared = cause.downcast_ref::<std::sync::Arc<std::io::Error>>().map(AsRef::as_ref);
        cause.downcast_ref::<std::io::Error>().or(shared)
    });
    of_system.map_or_else(|| in_one_line(error), ToString::to_string)
}

/// What is wrong with all of them together; nothing where one answers.
fn summary(answers: Vec<Option<Unreached>>) -> Option<Unreached> {
    let answers: Vec<Unreached> = answers.into_iter().collect::<Option<_>>()?;
    let (mut tried, mut ports) = (0, BTreeSet::new());
    let mut program = None;
    for answer in answers {
        match answer {
            Unreached::Program { .. } => program = Some(answer),
            Unreached::Bridges { tried: more, ports: at } => {
                tried += more;
                ports.extend(at);
            }
        }
    }
    program.or((tried > 0).then_some(Unreached::Bridges { tried, ports }))
}

/// The programs of `[[bridges.transports]]` that bridges in use are reached by, as the
/// tables name them.
pub(crate) fn programs(tables: &toml::Table) -> Vec<PathBuf> {
    let Some(bridges) = tables.get("bridges").and_then(toml::Value::as_table) else {
        return Vec::new();
    };
    let list = |key: &str| bridges.get(key).and_then(toml::Value::as_array).into_iter().flatten();
    let names: BTreeSet<&str> = match bridges.get("bridges") {
        Some(toml::Value::String(lines)) => lines.lines().filter_map(transport).collect(),
        _ => list("bridges").filter_map(|bridge| transport(bridge.as_str()?)).collect(),
    };
    if bridges.get("enabled").and_then(toml::Value::as_bool) == Some(false) {
        return Vec::new();
    }
    let resolver = tor_config_path::arti_client_base_resolver();
    let is_used = |table: &&toml::Value| {
        let protocols = table.get("protocols").and_then(toml::Value::as_array);
        protocols.into_iter().flatten().filter_map(toml::Value::as_str).any(|it| names.contains(it))
    };
    let path = |table: &toml::Value| {
        let path: CfgPath = table.get("path")?.clone().try_into().ok()?;
        path.path(&resolver).ok()
    };
    list("transports").filter(is_used).filter_map(path).collect()
}

/// The transport that a bridge line begins with, if it does with one.
fn transport(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let first = if first.eq_ignore_ascii_case("bridge") { words.next()? } else { first };
    (!first.contains([':', '.'])).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreached(port: u16) -> Option<Unreached> {
        Some(Unreached::Bridges { tried: 1, ports: [port].into() })
    }

    #[test]
    fn one_bridge_that_answers_is_enough_and_a_program_that_fails_is_told_first() {
        assert_eq!(summary(vec![unreached(443), None]), None);
        let both = Unreached::Bridges { tried: 2, ports: [80, 443].into() };
        assert_eq!(summary(vec![unreached(443), unreached(80)]), Some(both));
        let program = Unreached::Program { transport: "obfs4".into(), error: "it is gone".into() };
        assert_eq!(summary(vec![unreached(443), Some(program.clone())]), Some(program));
    }

    #[test]
    fn the_programs_are_those_that_bridges_in_use_need() {
        let programs = |text: &str| programs(&text.parse().unwrap());
        let transports = "[[bridges.transports]]\nprotocols = ['obfs4']\npath = '/usr/bin/obfs4proxy'\n\
                          [[bridges.transports]]\nprotocols = ['snowflake']\npath = '/usr/bin/snowflake'\n";
        let obfs4 = [PathBuf::from("/usr/bin/obfs4proxy")];
        for bridges in [
            "bridges = ['obfs4 192.0.2.1:443 AA cert=x iat-mode=0']",
            "bridges = '''\nBridge obfs4 192.0.2.1:443 AA\n192.0.2.2:443 BB\n'''",
        ] {
            assert_eq!(programs(&format!("[bridges]\n{bridges}\n{transports}")), obfs4);
        }
        let off = "[bridges]\nenabled = false\nbridges = ['obfs4 192.0.2.1:443 AA']\n";
        assert!(programs(&format!("{off}{transports}")).is_empty());
        let plain = "[bridges]\nbridges = ['192.0.2.1:443 AA', '[2001:db8::1]:443 BB']\n";
        assert!(programs(&format!("{plain}{transports}")).is_empty());
    }
}
