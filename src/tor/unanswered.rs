//! Is there a connection to a relay that is open, and does it answer on it?
//!
//! Arti notices a way that was cut only when it next opens a connection, which may
//! take many minutes: what it sends waits in the system until then. The system
//! knows at once: it sends a packet again and again that is not acknowledged.
//! Read by [`watch`](super::watch) from `/proc/self/net/tcp`; nothing is sent for it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::clock::now;

/// A packet that was sent again so often has not been answered for a second or
/// two, however near the relay is.
const SENT_AGAIN: u32 = 3;

/// Relays that are in use send something more often than this.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// The table has all connections of the machine: reading it may take no more than
/// one part of so many of the time.
const PART_OF_THE_TIME: u32 = 1000;

/// However long it takes, it is looked so often.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// What is known of the connections, at the last look.
#[derive(Debug, Default)]
pub(super) struct UnansweredConnections {
    /// Not before this it is looked again.
    next_at: Option<Instant>,
    relays: Relays,
}

/// The relays that we are connected to.
#[derive(Clone, Debug, Default)]
pub(super) struct Relays {
    /// Whether one of them may answer: nothing speaks against it.
    pub(super) answering: bool,
    /// Those that do not, if no other does.
    pub(super) lost: BTreeSet<SocketAddr>,
    /// Since when nothing has come from any of them, if that is long.
    pub(super) silent_for: Option<Duration>,
}

/// A connection that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RelayConnection {
    peer: SocketAddr,
    /// How often what waits for an answer was sent again.
    sent_again: u32,
}

impl UnansweredConnections {
    /// Those of these relays, to which we have connected at some time, that we are
    /// connected to now.
    pub(super) fn look(&mut self, relays: &BTreeSet<SocketAddr>) -> &Relays {
        let began = now().monotonic;
        if relays.is_empty() || self.next_at.is_some_and(|at| began < at) {
            return &self.relays;
        }
        let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
        let tables = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
        let open = tables.iter().flat_map(|table| table.lines().filter_map(connection));
        let silent_for =
            tor_proto::time_since_last_incoming_traffic().filter(|time| *time >= SILENT_AFTER);
        self.relays = of_these(open, relays, silent_for);
        let ended = now().monotonic;
        let took = ended.saturating_duration_since(began);
        let pause = took.saturating_mul(PART_OF_THE_TIME).min(LOOK_AT_LEAST_EVERY);
        self.next_at = Some(ended + pause);
        &self.relays
    }
}

/// Where nothing has come from any relay lately, a connection on which nothing is
/// sent says nothing.
fn of_these(
    open: impl Iterator<Item = RelayConnection>,
    relays: &BTreeSet<SocketAddr>,
    silent_for: Option<Duration>,
) -> Relays {
    let open = open.filter(|it| relays.contains(&it.peer));
    let (stuck, others): (Vec<_>, Vec<_>) = open.partition(|it| it.sent_again >= SENT_AGAIN);
    let lost = match silent_for.is_some() || others.is_empty() {
        true => stuck.into_iter().map(|it| it.peer).collect(),
        false => BTreeSet::new(),
    };
    Relays { answering: lost.is_empty() && !others.is_empty(), lost, silent_for }
}

/// An open connection in a line of the table (proc_pid_net(5)).
fn connection(line: &str) -> Option<RelayConnection> {
    const OPEN: &str = "01";
    let mut fields = line.split_ascii_whitespace().skip(2);
    let (peer, state) = (fields.next()?, fields.next()?);
    let (_, timer) = (fields.next()?, fields.next()?);
    let sent_again = u32::from_str_radix(fields.next()?, 16).ok()?;
    let (_, probes) = (fields.next()?, fields.next()?);
    if state != OPEN {
        return None;
    }
    let sent_again = match timer.split(':').next()? {
        "01" => sent_again,
        // Nothing is under way, and what waits was offered so often: the peer has no
        // room and does not answer, or this machine's own firewall drops it.
        "04" => probes.parse().ok()?,
        // The count of another timer is that of something else.
        _ => 0,
    };
    Some(RelayConnection { peer: address(peer)?, sent_again })
}

/// An address as the table has it: words of 32 bits in the order of the machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip: IpAddr = match bytes.as_slice() {
        [a, b, c, d] => Ipv4Addr::new(*a, *b, *c, *d).into(),
        bytes => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn relay(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 443))
    }

    #[test]
    fn relays_are_lost_only_if_none_of_those_that_are_connected_answers() {
        let relays = [relay(1), relay(2), relay(3)].into();
        let looked = |all: &[(u8, u32)], is_silent: bool| {
            let connection = |(n, sent_again): &(u8, u32)| RelayConnection {
                peer: relay(*n),
                sent_again: *sent_again,
            };
            let silent_for = is_silent.then_some(SILENT_AFTER);
            let Relays { answering, lost, .. } =
                of_these(all.iter().map(connection), &relays, silent_for);
            (answering, lost.len())
        };
        let open = |all: &[(u8, u32)]| looked(all, false);
        assert_eq!(open(&[(1, 3), (2, 7)]), (false, 2));
        assert_eq!(open(&[(1, 3), (1, 5)]), (false, 1));
        // One answers, or has nothing to answer to; others are no relays.
        assert_eq!(open(&[(1, 3), (2, 0)]), (true, 0));
        assert_eq!(open(&[(1, 3), (2, 2)]), (true, 0));
        assert_eq!(open(&[(1, 3), (9, 0)]), (false, 1));
        assert_eq!(open(&[(9, 0)]), (false, 0));
        assert_eq!(open(&[]), (false, 0));
        // If nothing comes from anywhere, one that waits for nothing tells nothing.
        assert_eq!(looked(&[(1, 3), (2, 0)], true), (false, 1));
        assert_eq!(looked(&[(1, 2), (2, 0)], true), (true, 0));
        assert_eq!(looked(&[], true), (false, 0));
    }

    #[test]
    fn lines_of_the_systems_table_are_read_and_others_are_not() {
        let line = "   4: 0100007F:9C40 010200C0:01BB 01 00000202:00000000 01:000003F2 00000005 \
                    0        0 3596037 2 0 100 0 0 10 0";
        // As a machine has it whose words begin with the least byte.
        if cfg!(target_endian = "little") {
            let read = RelayConnection { peer: "192.0.2.1:443".parse().unwrap(), sent_again: 5 };
            assert_eq!(connection(line), Some(read));
            let kept_alive = line.replace("01:000003F2", "02:000003F2");
            assert_eq!(connection(&kept_alive).unwrap().sent_again, 0);
            // As where `nft` drops what goes out: it never was under way.
            let dropped_here = line.replace("01:000003F2 00000005", "04:00000260 00000000");
            let dropped_here = dropped_here.replace("        0 3596037", "       12 3596037");
            assert_eq!(connection(&dropped_here).unwrap().sent_again, 12);
        }
        assert_eq!(connection(&line.replace(" 01 0", " 0A 0")), None);
        for garbage in
            ["", "  sl  local_address rem_address   st", "1: 2 3 01 5 6", "0: a b c d e f g"]
        {
            assert_eq!(connection(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn a_connection_of_this_process_is_found_in_the_table_and_is_not_lost() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has IPv6.
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let peer = listener.local_addr().unwrap();
            let _client = TcpStream::connect(peer).unwrap();
            let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(fs::read_to_string);
            let tables = tables.into_iter().flatten().collect::<String>();
            let found = tables.lines().filter_map(connection).find(|it| it.peer == peer);
            assert_eq!(found, Some(RelayConnection { peer, sent_again: 0 }));
            let mut unanswered = UnansweredConnections::default();
            let looked = unanswered.look(&[peer].into());
            assert!(looked.answering && looked.lost.is_empty(), "{looked:?}");
        }
    }
}
