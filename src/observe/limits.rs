//! Which limits are being hit, and do clients get through meanwhile?
//!
//! The words of every rendering for a flood: a number alone does not say whether
//! anybody suffers.

use super::snapshot::{Handles, Load, Service, Snapshot};
use super::words::{bytes, number, rate};

/// Less often than so many times a second, a limit is hit by chance.
const TELLS: f64 = 0.1;

/// Of memory and file handles, so much in use is worth a word.
const NEARLY_ALL: f64 = 0.95;

/// The limits of a service that were hit in the last ten seconds.
pub(super) fn of_service(service: &Service) -> Vec<String> {
    let load = &service.load;
    let rates = &load.rates;
    let mut dropped: Vec<_> =
        load.dropped_by_per_s.iter().filter(|(_, per_s)| **per_s >= TELLS).collect();
    dropped.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let mut limits: Vec<_> = dropped
        .into_iter()
        .filter_map(|(limit, per_s)| {
            let why = why_dropped(limit, load)?;
            Some(format!("drops {} introductions/s (limit `{limit}`): {why}", rate(*per_s)))
        })
        .collect();
    if rates.circuits_closed_per_s >= TELLS {
        limits.push(format!(
            "closes {} circuits/s to make room for new ones: as many are open as may be, {}",
            rate(rates.circuits_closed_per_s),
            load.circuits_limit
        ));
    }
    if let Some(pow) = load.pow.as_ref().filter(|pow| pow.effort > 0) {
        limits.push(format!(
            "clients are asked for work of effort {}: more come than can be met, here or elsewhere",
            pow.effort
        ));
    }
    // With the first, which shorter forms show alone.
    if let Some(first) = limits.first_mut() {
        first.push_str(&format!("; {}", who_gets_through(load)));
    }
    if rates.requests_limited_per_s >= TELLS {
        limits.push(format!(
            "refuses {} HTTP requests/s (429): circuits ask for more than one may",
            rate(rates.requests_limited_per_s)
        ));
    }
    limits
}

/// Why introductions are dropped; `None`: the operator has it so.
fn why_dropped(limit: &str, load: &Load) -> Option<String> {
    Some(match limit {
        "operator" => return None,
        "rate" => {
            let limit = load.introductions_limit_per_s;
            format!("more come than are looked at, {limit} a second")
        }
        "queue" => {
            let limit = load.introductions_waiting_limit;
            format!("more wait to be looked at than may, {limit}")
        }
        "work" => "others did more work, or they waited too long".to_owned(),
        "rendezvous" => {
            let limit = load.rendezvous_limit;
            format!("as many clients are being met as may be, {limit}")
        }
        "circuits" => {
            let limit = load.circuits_limit;
            format!("as many circuits are open as may be, {limit}, and none makes room")
        }
        _ => "more come than may".to_owned(),
    })
}

/// Whether clients get through while a limit is hit.
fn who_gets_through(load: &Load) -> String {
    let (met, streams) = (load.rates.clients_met_per_s, load.rates.streams_per_s);
    match (met > 0.0, streams > 0.0) {
        (_, true) => format!(
            "clients get through: {} a second are met and open {} streams",
            rate(met),
            rate(streams)
        ),
        (true, false) => format!("{} clients a second are met, and none opens a stream", rate(met)),
        (false, false) => "no client gets through".to_owned(),
    }
}

/// The limits of the process that are reached.
pub(super) fn of_process(snapshot: &Snapshot) -> Vec<String> {
    let Snapshot { handles, memory, requests, .. } = snapshot;
    let Handles { open, limit, clients_open, clients_limit, direct_open, direct_limit } = *handles;
    let nearly = |used: u64, limit: u64| limit > 0 && used as f64 >= NEARLY_ALL * limit as f64;
    let mut limits = Vec::new();
    if requests.limit > 0 && requests.under_way >= requests.limit {
        limits.push(format!(
            "as many HTTP requests are under way as may be, {}: more are refused (503)",
            requests.limit
        ));
    }
    if clients_limit > 0 && clients_open >= clients_limit {
        limits.push(format!(
            "clients have all {clients_limit} file handles that they may have, so new streams wait: \
             raise the limit of open files (`LimitNOFILE`)"
        ));
    } else if open.is_some_and(|open| nearly(open, limit)) {
        limits.push(format!(
            "{} of {limit} file handles are open: raise the limit of open files (`LimitNOFILE`)",
            number(open.unwrap_or_default() as f64)
        ));
    }
    if direct_limit > 0 && direct_open >= direct_limit {
        limits.push(format!(
            "as many relays are connected to directly as may be, {direct_limit}: clients at others \
             are met by ordinary circuits"
        ));
    }
    if let (Some(resident), Some(limit)) = (memory.resident, memory.limit)
        && nearly(resident, limit)
    {
        let (resident, limit) = (bytes(resident as f64), bytes(limit as f64));
        limits.push(format!("{resident} of {limit} of memory are in use"));
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::example;
    use crate::observe::snapshot::{Pow, ProcessMemory, Rates, Requests};

    fn flooded(dropped: &[(&str, f64)], rates: Rates) -> Vec<String> {
        let dropped = dropped.iter().map(|(limit, per_s)| ((*limit).to_owned(), *per_s));
        let load = Load {
            rates,
            dropped_by_per_s: dropped.collect(),
            introductions_limit_per_s: 200,
            circuits_limit: 8192,
            rendezvous_limit: 1024,
            ..Load::default()
        };
        of_service(&Service { load, ..example::service("shop", Vec::new(), Vec::new()) })
    }

    #[test]
    fn a_flood_says_which_limit_is_hit_and_whether_clients_get_through() {
        let through = Rates { clients_met_per_s: 180.0, streams_per_s: 21.0, ..Rates::default() };
        assert_eq!(
            flooded(&[("rate", 81.0)], through),
            [
                "drops 81 introductions/s (limit `rate`): more come than are looked at, 200 a second; \
              clients get through: 180 a second are met and open 21 streams"
            ]
        );
        let met = Rates { clients_met_per_s: 180.0, ..Rates::default() };
        assert!(flooded(&[("queue", 3.0)], met)[0].ends_with("and none opens a stream"));
        let nobody = flooded(&[("queue", 3.0), ("rendezvous", 4.0)], Rates::default());
        assert_eq!(nobody.len(), 2);
        assert!(nobody[0].ends_with("no client gets through") && nobody[0].contains("1024"));
        assert!(nobody[1].contains("(limit `queue`)"), "{nobody:?}");
        let closed = Rates { circuits_closed_per_s: 5.0, ..met };
        assert!(flooded(&[], closed)[0].contains("8192"));
    }

    #[test]
    fn what_is_no_limit_or_chance_is_not_told() {
        let quiet = Rates { clients_met_per_s: 3.0, ..Rates::default() };
        assert_eq!(flooded(&[("operator", 50.0), ("rate", 0.01)], quiet), [""; 0]);
        let limited = Rates { requests_limited_per_s: 7.0, ..quiet };
        assert_eq!(
            flooded(&[], limited),
            ["refuses 7.0 HTTP requests/s (429): circuits ask for more than one may"]
        );
        let load = Load { pow: Some(Pow { effort: 40, ..Pow::default() }), ..Load::default() };
        let working = Service { load, ..Service::default() };
        assert!(of_service(&working)[0].starts_with("clients are asked for work of effort 40"));
    }

    #[test]
    fn the_process_says_what_it_has_too_little_of() {
        let of = |handles, memory, requests| {
            of_process(&Snapshot { handles, memory, requests, ..Snapshot::default() })
        };
        let (none, no_memory) = (Requests::default(), ProcessMemory::default());
        assert_eq!(of(Handles::default(), no_memory, none), [""; 0]);
        let handles = Handles {
            open: Some(60),
            limit: 100,
            clients_open: 50,
            clients_limit: 50,
            ..Handles::default()
        };
        assert!(of(handles, no_memory, none)[0].contains("all 50 file handles"));
        let handles = Handles { open: Some(96), clients_open: 1, ..handles };
        assert!(of(handles, no_memory, none)[0].contains("96 of 100 file handles"));
        let direct = Handles { direct_open: 256, direct_limit: 256, ..Handles::default() };
        assert!(of(direct, no_memory, none)[0].contains("directly as may be, 256"));
        let fewer = Handles { direct_open: 255, ..direct };
        assert_eq!(of(fewer, no_memory, none), [""; 0]);
        let memory = ProcessMemory { resident: Some(99), limit: Some(100) };
        assert_eq!(of(Handles::default(), memory, none), ["99 B of 100 B of memory are in use"]);
        let requests = Requests { under_way: 16, limit: 16 };
        assert!(of(Handles::default(), no_memory, requests)[0].contains("(503)"));
    }
}
