//! The words for states, the same in every rendering. What needs the operator is
//! in capitals: it has to be found without colour.

use std::fmt::Display;
use std::time::Duration;

use super::snapshot::{
    Anonymity, Backend, BackendState, CanaryOutcome, GuardSets, HsdirState, OriginState, Service,
    ServiceState, Word,
};

/// Whether clients can find a service.
pub(super) fn service_state(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Starting => "STARTING",
        ServiceState::Publishing => "PUBLISHING",
        ServiceState::Published => "published",
        ServiceState::Down => "DOWN",
    }
}

/// Whether a service does not hide where it is.
pub(super) fn anonymity(service: &Service) -> Option<&'static str> {
    let words = "not anonymous: relays see where this process is, clients stay hidden";
    (service.anonymity == Anonymity::NotAnonymous).then_some(words)
}

/// At how many guards of their own a service's instances begin their circuits.
pub(super) fn guards(service: &Service) -> Option<String> {
    let GuardSets { sets, first_guards, overlapping } = service.guards.as_ref()?;
    let instances = counted(*sets, "local instance");
    let relays = counted(*first_guards, "first guard");
    let same = match overlapping.as_slice() {
        [] => String::new(),
        names => format!("; {} share one", names.join(", ")),
    };
    Some(format!("{instances} with guards of their own: {relays} in use{same}"))
}

/// How long a service's keys last, where it has those of some periods alone.
pub(super) fn bundle(service: &Service) -> Option<String> {
    let bundle = service.bundle?;
    let periods = counted(bundle.periods_left, "time period");
    let end = bundle.ends.map(|ends| format!(", until {ends}")).unwrap_or_default();
    Some(format!("identity_bundle: keys for {periods}, this one included{end}"))
}

/// Whether a backend answers, and whether the operator has it in use.
pub(super) fn backend_state(backend: &Backend) -> &'static str {
    match backend.operator {
        Word::Ready => {}
        Word::Drain => return "DRAINED",
        Word::Maintenance => return "MAINTENANCE",
    }
    match backend.state {
        BackendState::Unknown => "unknown",
        BackendState::Up => "up",
        BackendState::Stale => "STALE",
        BackendState::Down => "DOWN",
    }
}

/// The weight of a backend, and the configuration's where that is another.
pub(super) fn weight(backend: &Backend) -> String {
    match backend.configured_weight {
        None => backend.weight.to_string(),
        Some(configured) => format!("{} in place of {configured}", backend.weight),
    }
}

/// Whether an origin answers.
pub(super) fn origin_state(state: OriginState) -> &'static str {
    match state {
        OriginState::Up => "up",
        OriginState::Failing => "FAILING",
        OriginState::Down => "DOWN",
    }
}

/// What an HSDir holds.
pub(super) fn hsdir_state(state: HsdirState) -> &'static str {
    match state {
        HsdirState::Pending => "pending",
        HsdirState::Uploading => "uploading",
        HsdirState::Uploaded => "uploaded",
        HsdirState::Failed => "FAILED",
    }
}

/// What HSDirs were seen to hold.
pub(super) fn canary_outcome(outcome: CanaryOutcome) -> &'static str {
    match outcome {
        CanaryOutcome::Ok => "they hold what they should",
        CanaryOutcome::Unreachable => "not all could be asked",
        CanaryOutcome::Old => "one held an older descriptor and gets the newest again",
        CanaryOutcome::Missing => "one held none that can be used and gets it again",
        CanaryOutcome::Foreign => "one holds another publisher's",
    }
}

/// A line without characters that tell a terminal to do something: relays and
/// origins have a say in some texts.
pub(super) fn printable(line: &str) -> impl Iterator<Item = char> {
    printable_but(line, &[])
}

/// A text without such characters, save those that lay it out.
pub(crate) fn printable_text(text: &str) -> String {
    printable_but(text, &['\n', '\t']).collect()
}

fn printable_but<'a>(text: &'a str, kept: &'a [char]) -> impl Iterator<Item = char> + 'a {
    text.chars().map(|c| if c.is_control() && !kept.contains(&c) { '?' } else { c })
}

/// How often something happens in a second.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        none if none <= 0.0 => "0".to_owned(),
        seldom if seldom < 0.1 => "<0.1".to_owned(),
        some if some < 10.0 => format!("{some:.1}"),
        often => format!("{often:.0}"),
    }
}

/// A number of things, whose plural ends in s.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A count that was calculated with.
pub(super) fn number(count: f64) -> String {
    format!("{count:.0}")
}

/// How long something took, if that is known.
pub(super) fn seconds(took: Option<f64>) -> String {
    match took {
        None => "-".to_owned(),
        Some(short) if short < 1.0 => format!("{:.0} ms", short * 1000.0),
        Some(long) => format!("{long:.1} s"),
    }
}

/// How much memory something takes.
pub(super) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut units = UNITS.iter().peekable();
    while value >= 1024.0 && units.len() > 1 {
        value /= 1024.0;
        units.next();
    }
    let unit = units.peek().copied().unwrap_or(&"");
    if value < 10.0 && *unit != "B" {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// How long ago something was, as exactly as anybody cares.
pub(super) fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2J\u{9b}b\r\n").collect::<String>(), "a?[2J?b??");
        assert_eq!(printable_text("a\x1b[2J\u{9b}b\r\n\tc"), "a?[2J?b?\n\tc");
    }

    #[test]
    fn one_thing_is_no_plural() {
        let points = [0_u64, 1, 2].map(|number| counted(number, "point"));
        assert_eq!(points, ["0 points", "1 point", "2 points"]);
    }

    #[test]
    fn numbers_are_as_exact_as_a_reader_needs() {
        assert_eq!([0.0, 0.04, 3.21, 199.7].map(rate), ["0", "<0.1", "3.2", "200"]);
        assert_eq!([512.0, 1536.0, 47_185_920.0].map(bytes), ["512 B", "1.5 KiB", "45 MiB"]);
        assert_eq!([None, Some(0.0312), Some(2.0)].map(seconds), ["-", "31 ms", "2.0 s"]);
        let ages = [59, 60, 3_720, 90_000].map(Duration::from_secs).map(duration);
        assert_eq!(ages, ["59 s", "1 min", "1 h 2 min", "1 d 1 h"]);
    }
}
