//! The Snapshot on a terminal that shows nothing else: what is wrong, and how
//! much is wanted of what can be borne. Fits 80 columns; pure.

use super::glance::Glance;
use super::snapshot::{Reload, Service, Snapshot, Timestamp};
use super::table::table;
use super::troubles::{of_process, of_tor, troubles, worst_first};
use super::words::{bytes, duration, number, printable, rate, service_state};

/// In which order services are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// Those in need of somebody first.
    #[default]
    WorstFirst,
    /// Those with most introductions a second first.
    BusiestFirst,
    /// By their nicknames.
    ByName,
}

impl SortOrder {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::WorstFirst => Self::BusiestFirst,
            Self::BusiestFirst => Self::ByName,
            Self::ByName => Self::WorstFirst,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::WorstFirst => "worst first",
            Self::BusiestFirst => "busiest first",
            Self::ByName => "by name",
        }
    }
}

/// How it is shown.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
    /// The order of the services.
    pub order: SortOrder,
    /// Whether addresses are written out.
    pub whole_addresses: bool,
    /// Whether it stays as it is.
    pub paused: bool,
}

/// The lines of the screen, none longer than it is wide.
pub fn screen(snapshot: &Snapshot, now: Timestamp, view: &View) -> Vec<String> {
    let ready = if snapshot.ready { "READY" } else { "NOT READY" };
    let running = now.0.duration_since(snapshot.started.0).unwrap_or_default();
    let mut lines = vec![
        format!("onionbraid {} {ready}, running for {}", snapshot.version, duration(running)),
        process(snapshot),
        String::new(),
    ];
    let services = in_order(&snapshot.services, view.order);
    let complaints = complaints(snapshot, &services, view.columns);
    let titles = [
        "SERVICE", "STATE", "UP", "POINTS", "HSDIRS", "INTRO/S", "DROP/S", "CIRCUITS", "REQ/S",
        "5XX/S",
    ];
    let rows = services.iter().map(|service| row(service));
    let rows: Vec<_> = [titles.map(str::to_owned).to_vec()].into_iter().chain(rows).collect();
    let table: Vec<_> = table("", &rows).lines().map(str::to_owned).collect();
    let addresses = services.iter().map(|service| {
        let address = match view.whole_addresses {
            true => service.address.clone(),
            false => shortened(&service.address),
        };
        vec![format!("  {} is {address}", service.nickname)]
    });

    // What is wrong comes first, and leaves the table half of the screen.
    let left = |lines: &Vec<String>| view.rows.saturating_sub(1 + lines.len());
    let room = left(&lines);
    let for_complaints = (room / 2).max(room.saturating_sub(table.len() + 1));
    let mut complaints = fitting(complaints, for_complaints, "complaints");
    if !complaints.is_empty() {
        lines.append(&mut complaints);
        lines.push(String::new());
    }
    if let Some((titles, rows)) = table.split_first() {
        lines.push(titles.clone());
        let rows = rows.iter().map(|row| vec![row.clone()]).collect();
        let room = left(&lines);
        lines.extend(fitting(rows, room, "services"));
    }
    lines.push(String::new());
    let room = left(&lines);
    lines.extend(fitting(addresses.collect(), room, "addresses"));
    let paused = if view.paused { "PAUSED, " } else { "" };
    let foot = format!("{paused}{now}  {}   q quit  p pause  s sort", view.order.name());
    lines.truncate(view.rows.saturating_sub(1));
    lines.resize(view.rows.saturating_sub(1), String::new());
    lines.push(foot);
    lines.iter().map(|line| printable(line).take(view.columns).collect()).collect()
}

/// What is wrong with all, then with each service, each in lines of this width.
fn complaints(snapshot: &Snapshot, services: &[&Service], columns: usize) -> Vec<Vec<String>> {
    let reload = snapshot.reload.as_ref().and_then(|Reload { at, error, .. }| {
        let error = error.as_ref()?;
        Some(format!("configuration read again at {at}: {error}"))
    });
    let of_all = of_tor(&snapshot.tor).into_iter().chain(of_process(snapshot)).chain(reload);
    let of_services = services.iter().flat_map(|service| {
        troubles(service).map(|trouble| format!("{}: {trouble}", service.nickname))
    });
    let all = of_all.chain(of_services);
    all.map(|wrong| wrapped(&format!("! {wrong}"), columns)).collect()
}

/// The items of which so many lines have room; the last line says how many have not.
fn fitting(items: Vec<Vec<String>>, room: usize, what: &str) -> Vec<String> {
    let lines = |items: &[Vec<String>]| items.iter().map(Vec::len).sum::<usize>();
    if lines(&items) <= room {
        return items.concat();
    }
    let fit = |count: &usize| lines(&items[..*count]) < room;
    let count = (0..items.len()).take_while(fit).last().unwrap_or(0);
    let mut shown = items[..count].concat();
    if room > 0 {
        shown.push(format!("+{} more {what}: see `status`", items.len() - count));
    }
    shown
}

/// A complaint in lines of this width: what to do often stands at its end.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    const INDENT: &str = "    ";
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let length = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > columns {
            lines.push(std::mem::replace(&mut line, format!("{INDENT}{word}")));
        } else if line.is_empty() {
            line.push_str(word);
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.push(line);
    lines
}

/// What the process takes.
fn process(snapshot: &Snapshot) -> String {
    let Snapshot { handles, memory, requests, .. } = snapshot;
    let mut parts = Vec::new();
    if let Some(open) = handles.open {
        parts.push(format!("handles {open}/{}", handles.limit));
    }
    if let Some(resident) = memory.resident {
        let limit = memory.limit.map(|limit| format!("/{}", bytes(limit as f64)));
        parts.push(format!("memory {}{}", bytes(resident as f64), limit.unwrap_or_default()));
    }
    parts.push(format!("HTTP requests under way {}/{}", requests.under_way, requests.limit));
    parts.join("  ")
}

fn row(service: &Service) -> Vec<String> {
    let Glance { up, points, uploaded, hsdirs } = Glance::at(service);
    let load = &service.load;
    let (now, minute) = (&load.rates, &load.last_minute);
    vec![
        service.nickname.chars().take(16).collect(),
        service_state(service.state).to_owned(),
        format!("{up}/{}", service.backends.len()),
        points.to_string(),
        format!("{uploaded}/{hsdirs}"),
        trend(now.introductions_per_s, minute.introductions_per_s),
        trend(now.introductions_dropped_per_s, minute.introductions_dropped_per_s),
        match load.circuits_limit {
            0 => load.circuits_open.to_string(),
            limit => format!("{}/{}", load.circuits_open, number(limit as f64)),
        },
        trend(now.requests_per_s, minute.requests_per_s),
        trend(now.server_errors_per_s, minute.server_errors_per_s),
    ]
}

/// A rate, and whether it is well above or below what it was over a minute.
fn trend(now: f64, minute: f64) -> String {
    let sign = match (now, minute) {
        (now, minute) if now > 1.25 * minute && now - minute >= 0.1 => "+",
        (now, minute) if now < 0.75 * minute && minute - now >= 0.1 => "-",
        _ => "",
    };
    format!("{}{sign}", rate(now))
}

fn in_order(services: &[Service], order: SortOrder) -> Vec<&Service> {
    let mut all: Vec<_> = services.iter().collect();
    match order {
        SortOrder::WorstFirst => all.sort_by_key(|service| worst_first(service)),
        SortOrder::BusiestFirst => all.sort_by(|one, other| {
            let busy = |service: &Service| service.load.rates.introductions_per_s;
            busy(other).total_cmp(&busy(one))
        }),
        SortOrder::ByName => all.sort_by_key(|service| service.nickname.as_str()),
    }
    all
}

/// Enough of an address to tell it from others.
fn shortened(address: &str) -> String {
    match address.strip_suffix(".onion") {
        Some(name) if name.len() > 20 => match (name.get(..8), name.get(name.len() - 8..)) {
            (Some(begin), Some(end)) => format!("{begin}...{end}.onion"),
            _ => address.to_owned(),
        },
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::example::{self, EPOCH};
    use crate::observe::snapshot::{Load, Rates, ServiceState};

    const ADDRESS: &str = "eu5irynzocmhu6k3x5nbaxvjeixp3o7ksk2pglk5aqjvjmyjrrybfjyd.onion";

    fn view() -> View {
        View {
            columns: 80,
            rows: 24,
            order: SortOrder::default(),
            whole_addresses: false,
            paused: false,
        }
    }

    fn scene() -> Snapshot {
        let service = |nickname: &str, state, introductions_per_s| {
            let load = Load {
                rates: Rates { introductions_per_s, ..Rates::default() },
                circuits_limit: 65_536,
                circuits_open: 12_345,
                ..Load::default()
            };
            let descriptor = example::descriptor(vec![example::hsdir("AA", None); 16]);
            Service {
                state,
                load,
                address: ADDRESS.into(),
                ..example::service(nickname, Vec::new(), vec![descriptor])
            }
        };
        example::snapshot(vec![
            service("calm", ServiceState::Published, 0.5),
            service("busy", ServiceState::Published, 199.0),
            service("gone", ServiceState::Down, 0.0),
        ])
    }

    fn order_of(lines: &[String]) -> Vec<&str> {
        let names = lines.iter().filter_map(|line| line.split(' ').next());
        names.filter(|name| ["calm", "busy", "gone"].contains(name)).collect()
    }

    #[test]
    fn it_fits_eighty_columns_and_the_rows_that_there_are() {
        let lines = screen(&scene(), EPOCH, &view());
        assert_eq!(lines.len(), 24);
        for line in &lines {
            assert!(line.len() <= 80, "{line}");
        }
        // Nothing of a row is cut off.
        let busy = lines.iter().find(|line| line.starts_with("busy")).unwrap();
        assert!(
            busy.contains("199+") && busy.contains("12345/65536") && busy.ends_with("0      0"),
            "{busy}"
        );
        let small = View { columns: 20, rows: 5, ..view() };
        let lines = screen(&scene(), EPOCH, &small);
        assert!(lines.len() == 5 && lines.iter().all(|line| line.len() <= 20), "{lines:?}");
        assert!(screen(&scene(), EPOCH, &View { rows: 0, ..view() }).len() <= 1);
    }

    #[test]
    fn a_complaint_that_is_longer_than_a_line_is_shown_to_its_end() {
        let mut snapshot = scene();
        snapshot.services[0].load.dropped_by_per_s = [("rate".to_owned(), 81.0)].into();
        let lines = screen(&snapshot, EPOCH, &view());
        let first = lines.iter().position(|line| line.starts_with("! calm: drops 81")).unwrap();
        assert!(lines.iter().all(|line| line.len() <= 80), "{lines:?}");
        let whole = lines[first..first + 3].join(" ");
        assert!(whole.contains("no client gets through"), "{lines:?}");
        assert_eq!(wrapped("! a word", 3), ["! a", "    word"]);
    }

    #[test]
    fn what_has_no_room_is_counted_and_complaints_come_first() {
        let mut snapshot = scene();
        let mut services = Vec::new();
        for n in 0..100 {
            let mut service = snapshot.services[n % 2].clone();
            service.nickname = format!("shop-{n}");
            service.problems = (n < 30).then(|| format!("problem-{n} ")).into_iter().collect();
            services.push(service);
        }
        snapshot.services = services;
        let error = Some("nothing has changed: arti.toml:1\n    it is wrong".into());
        snapshot.reload = Some(Reload { at: EPOCH, ok: false, error });
        let lines = screen(&snapshot, EPOCH, &view());
        assert_eq!(lines.len(), 24);
        let all = lines.join("\n");
        let line = |what: &str| lines.iter().position(|line| line.contains(what)).expect(what);
        assert!(line("! configuration read again at 1970") < line("! shop-0: problem-0"), "{all}");
        assert!(line("problem-0") < line("more complaints"), "{all}");
        assert!(line("more complaints") < line("SERVICE"), "{all}");
        assert!(line("SERVICE") < line("more services"), "{all}");
        // Nothing is left out that is not counted.
        let more = |what: &str| {
            let line = &lines[line(what)];
            line[1..].split(' ').next().unwrap().parse::<usize>().unwrap()
        };
        let rows = lines.iter().filter(|line| line.starts_with("shop-")).count();
        assert!(rows >= 5);
        assert_eq!(rows + more("more services"), 100);
        let complaints = lines.iter().filter(|line| line.starts_with("! ")).count();
        assert_eq!(complaints + more("more complaints"), 31);

        let items = |count: usize| vec![vec!["a".to_owned(), "b".to_owned()]; count];
        assert_eq!(fitting(items(2), 4, "x"), ["a", "b", "a", "b"]);
        assert_eq!(fitting(items(2), 3, "x"), ["a", "b", "+1 more x: see `status`"]);
        assert_eq!(fitting(items(2), 2, "x"), ["+2 more x: see `status`"]);
        assert_eq!(fitting(items(2), 0, "x"), [""; 0]);
    }

    #[test]
    fn the_order_is_the_operators() {
        let order = |order| screen(&scene(), EPOCH, &View { order, ..view() });
        let lines = order(SortOrder::WorstFirst);
        assert_eq!(order_of(&lines), ["gone", "calm", "busy"]);
        assert_eq!(order_of(&order(SortOrder::BusiestFirst)), ["busy", "calm", "gone"]);
        assert_eq!(order_of(&order(SortOrder::ByName)), ["busy", "calm", "gone"]);
        let wrong = lines.iter().position(|line| line.starts_with("! gone:")).unwrap();
        assert!(lines.iter().position(|line| line.contains(" is eu5irynz")).unwrap() > wrong);
    }

    #[test]
    fn addresses_are_shortened_unless_they_are_wanted_whole() {
        let lines = screen(&scene(), EPOCH, &view()).join("\n");
        assert!(lines.contains("eu5irynz...rrybfjyd.onion") && !lines.contains(ADDRESS), "{lines}");
        let lines = screen(&scene(), EPOCH, &View { whole_addresses: true, ..view() }).join("\n");
        assert!(lines.contains(ADDRESS), "{lines}");
    }

    #[test]
    fn a_trend_is_shown_where_it_is_more_than_chance() {
        assert_eq!(trend(100.0, 50.0), "100+");
        assert_eq!(trend(10.0, 50.0), "10-");
        assert_eq!(trend(50.0, 52.0), "50");
        assert_eq!(trend(0.05, 0.0), "<0.1");
    }
}
