//! Which numbers say all that can be read of a descriptor?
//!
//! Form, lengths, order, times, which relays are chosen, what differs between the HSDirs of
//! one service, and how bytes are distributed where they should be chance.

use std::collections::{BTreeMap, BTreeSet};

use base64ct::{Base64, Base64Unpadded, Encoding as _};

use crate::network::Network;
use crate::network::anatomy::Anatomy;

/// A descriptor that an HSDir holds.
pub(crate) struct Held {
    pub(crate) pair: usize,
    pub(crate) ours: bool,
    pub(crate) onion: String,
    pub(crate) text: String,
    pub(crate) anatomy: Anatomy,
}

/// The name of each feature, and their values for each descriptor.
pub(crate) fn names_and_features(network: &Network, held: &[Held]) -> (Vec<String>, Vec<Vec<f64>>) {
    let lines =
        |it: &Held| -> BTreeSet<String> { it.anatomy.form.lines().map(str::to_owned).collect() };
    let forms: Vec<BTreeSet<String>> = held.iter().map(lines).collect();
    let all: BTreeSet<&String> = forms.iter().flatten().collect();
    let differing: Vec<&String> =
        all.into_iter().filter(|line| forms.iter().any(|own| !own.contains(*line))).collect();
    let relays: BTreeSet<&String> = held.iter().flat_map(|it| &it.anatomy.relays).collect();
    let mut of_service: BTreeMap<&str, Vec<&Held>> = BTreeMap::new();
    for it in held {
        of_service.entry(&it.onion).or_default().push(it);
    }
    let mut names = Vec::new();
    let mut rows = Vec::new();
    for (it, own) in held.iter().zip(&forms) {
        let mut row = Row::default();
        for line in &differing {
            row.is(&format!("line `{line}`"), own.contains(*line));
        }
        form(it, &mut row);
        for (number, relay) in relays.iter().enumerate() {
            let at = it.anatomy.relays.iter().position(|other| other == *relay);
            row.is(&format!("a point at relay {number}"), at.is_some());
        }
        let same_relay = it.anatomy.relays.iter().collect::<BTreeSet<_>>().len();
        row.add("relays of points", same_relay as f64);
        service(&of_service[it.onion.as_str()], network.relays().len(), &mut row);
        chance(it, &mut row);
        if names.is_empty() {
            names = row.names;
        }
        rows.push(row.values);
    }
    (names, rows)
}

/// The features of one descriptor.
#[derive(Default)]
struct Row {
    names: Vec<String>,
    values: Vec<f64>,
}

impl Row {
    fn add(&mut self, name: &str, value: f64) {
        self.names.push(name.to_owned());
        self.values.push(value);
    }

    fn is(&mut self, name: &str, yes: bool) {
        self.add(name, f64::from(u8::from(yes)));
    }

    /// How the bytes of something are distributed.
    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let count = bytes.len().max(1) as f64;
        let sum = |of: fn(u8) -> f64| bytes.iter().map(|byte| of(*byte)).sum::<f64>() / count;
        self.add(&format!("{name}: mean"), sum(f64::from));
        self.add(&format!("{name}: ones"), sum(|byte| f64::from(byte.count_ones())));
        self.add(&format!("{name}: even"), sum(|byte| f64::from(byte & 1)));
        for (which, byte) in [("first", bytes.first()), ("last", bytes.last())] {
            self.add(&format!("{name}: {which}"), byte.copied().map_or(-1.0, f64::from));
        }
    }

    /// In which order something is.
    fn order(&mut self, name: &str, all: &[String]) {
        let ascents = all.windows(2).filter(|two| two[0] < two[1]).count();
        self.is(&format!("{name}: sorted"), all.is_sorted());
        self.is(&format!("{name}: sorted downwards"), all.iter().rev().is_sorted());
        self.add(&format!("{name}: ascents"), ascents as f64);
    }
}

fn form(it: &Held, row: &mut Row) {
    let of = &it.anatomy;
    row.add("length", of.length as f64);
    row.add("lines", it.text.lines().count() as f64);
    row.add("longest line", it.text.lines().map(str::len).max().unwrap_or(0) as f64);
    row.add("points", of.points as f64);
    row.add("auth-client lines", of.clients.len() as f64);
    row.add("different auth-client lines", of.clients.iter().collect::<BTreeSet<_>>().len() as f64);
    row.is("points sorted by relay", of.sorted_by_relay);
    row.order("relays", &of.relays);
    row.order("sessions", &of.sessions);
    row.order("auth-client lines", &of.clients);
    row.add("expires", f64::from(of.expires));
    row.add("revision", of.revision as f64);
    row.add("revision: digits", of.revision.to_string().len() as f64);
    for rest in [2, 10, 1000] {
        row.add(&format!("revision: rest of {rest}"), (of.revision % rest) as f64);
    }
}

/// What all HSDirs of a service hold: of how many relays, and what differs.
fn service(all: &[&Held], relays: usize, row: &mut Row) {
    let different = |of: &dyn Fn(&Held) -> String| {
        all.iter().map(|it| of(it)).collect::<BTreeSet<_>>().len() as f64
    };
    row.add("HSDirs", all.len() as f64 / relays as f64);
    row.add("revisions", different(&|it| it.anatomy.revision.to_string()));
    row.add("texts", different(&|it| it.text.clone()) / all.len() as f64);
    row.add("signing keys", different(&|it| it.anatomy.signing_key.clone()));
    row.add("ephemeral keys", different(&|it| it.anatomy.ephemeral_key.clone()));
    row.add("sets of auth-client lines", different(&|it| it.anatomy.clients.concat()));
    row.add("sets of points", different(&|it| it.anatomy.sessions.concat()));
    row.add("lengths", different(&|it| it.anatomy.length.to_string()));
    row.add("expirations", different(&|it| it.anatomy.expires.to_string()));
    for (layer, name) in ["middle salts", "inner salts"].into_iter().enumerate() {
        row.add(name, different(&|it| it.anatomy.salts[layer].clone()) / all.len() as f64);
    }
}

/// What should be chance.
fn chance(it: &Held, row: &mut Row) {
    let of = &it.anatomy;
    let padded = |text: &str| Base64::decode_vec(text).unwrap_or_default();
    let bare = |text: &str| Base64Unpadded::decode_vec(text).unwrap_or_default();
    row.bytes("signing key", &padded(&of.signing_key));
    row.bytes("ephemeral key", &padded(&of.ephemeral_key));
    row.bytes("middle salt", &padded(&of.salts[0]));
    row.bytes("inner salt", &padded(&of.salts[1]));
    let signature = it.text.lines().last().and_then(|line| line.strip_prefix("signature "));
    row.bytes("signature", &bare(signature.unwrap_or_default()));
    let sealed: String = it.text.lines().filter(|line| line.len() == 64).collect();
    row.bytes("texts in base64", &padded(&sealed[..sealed.len() / 4 * 4]));
    let sessions: Vec<u8> = of.sessions.iter().flat_map(|key| padded(key)).collect();
    row.bytes("sessions", &sessions);
    for (word, name) in [(1, "client ids"), (2, "client ivs"), (3, "client cookies")] {
        let words = of.clients.iter().filter_map(|line| line.split(' ').nth(word));
        row.bytes(name, &words.flat_map(bare).collect::<Vec<u8>>());
    }
}
