//! The explanation of what is published under an address, as text.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::SystemTime;

use crate::inquiry::published::{AskedHsdir, HsdirAnswer, Published, PublishedDescriptor};
use crate::observe::counted;
use crate::observe::snapshot::Timestamp;
use crate::observe::table::table;

/// What tables begin their lines with.
const INDENT: &str = "    ";

/// Writes the whole explanation.
pub(super) fn write(
    published: &Published,
    now: SystemTime,
    out: &mut impl Write,
) -> io::Result<()> {
    let Published { address, period: number, period_minutes: minutes, .. } = published;
    let length = counted(*minutes, "minute");
    writeln!(out, "{address}, time period {number} ({length})")?;
    if let Some(service) = &published.service {
        writeln!(out, "published here as service \"{service}\"")?;
    }
    writeln!(out)?;
    let heading = ["HSDir", "", "replica", "clients", "descriptor", "revision"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(published.hsdirs.iter().map(row));
    writeln!(out, "{}\n{}", table(INDENT, &rows), agreement(published))?;
    let mut descriptors = published.descriptors.iter().enumerate();
    descriptors.try_for_each(|(index, descriptor)| write_one(descriptor, index + 1, now, out))
}

/// Whether the HSDirs agree, and what it means if they do not.
fn agreement(published: &Published) -> String {
    let all = published.hsdirs.len();
    let holding = published.hsdirs.iter().filter(|h| h.state == HsdirAnswer::Held).count();
    let different = published.descriptors.len();
    let who = match holding == all {
        true if all == 1 => "The only HSDir holds".to_owned(),
        true => format!("All {all} HSDirs hold"),
        false => {
            let hold = if holding == 1 { "holds" } else { "hold" };
            format!("{holding} of {} {hold}", counted(all, "HSDir"))
        }
    };
    let revisions: BTreeSet<u64> = published.descriptors.iter().map(|it| it.revision).collect();
    match (different, revisions.len(), published.distinct) {
        (0, ..) => "No HSDir holds a descriptor that can be used.".to_owned(),
        (1, ..) if holding == all => format!("{who} the same descriptor."),
        (1, ..) => format!("{who} a descriptor, all the same one."),
        (_, 1, _) => format!(
            "{who} one revision, in {different} distinct descriptors: different introduction \
             points\non different HSDirs are no fault, they are how more than 20 are in use."
        ),
        (_, revisions, distinct) => format!(
            "{who} {different} {} descriptors, of {revisions} revisions: the newest is still \
             on its way\nto HSDirs with an older one, or they have missed it.",
            if distinct { "distinct" } else { "different" }
        ),
    }
}

/// An HSDir's line of the table.
fn row(hsdir: &AskedHsdir) -> Vec<String> {
    let answer = match (hsdir.state, hsdir.revision) {
        (HsdirAnswer::Held, Some(revision)) => revision.to_string(),
        (HsdirAnswer::None, _) => "none".to_owned(),
        (HsdirAnswer::Unusable, _) => format!("UNUSABLE: {}", text(&hsdir.error)),
        (_, _) => format!("UNREACHABLE: {}", text(&hsdir.error)),
    };
    vec![
        hsdir.relay.clone(),
        text(&hsdir.nickname),
        hsdir.replica.to_string(),
        if hsdir.asked_by_clients { "ask it" } else { "-" }.to_owned(),
        hsdir.descriptor.map_or("-".to_owned(), |index| (index + 1).to_string()),
        answer,
    ]
}

fn write_one(
    descriptor: &PublishedDescriptor,
    number: usize,
    now: SystemTime,
    out: &mut impl Write,
) -> io::Result<()> {
    let PublishedDescriptor { revision, hsdirs, bytes, .. } = descriptor;
    write!(out, "\nDescriptor {number}, revision {revision}, on ")?;
    write!(out, "{}: {bytes} bytes", counted(*hsdirs, "HSDir"))?;
    if let Some(minutes) = descriptor.lifetime_minutes {
        write!(out, ", kept for {}", counted(minutes, "minute"))?;
    }
    if let Some(Timestamp(until)) = descriptor.certified_until {
        write!(out, ", certified until {}", humantime::format_rfc3339_seconds(until))?;
    }
    if let Some(age) = descriptor.published_at.and_then(|at| now.duration_since(at.0).ok()) {
        write!(out, ", published {} s ago", age.as_secs())?;
    }
    writeln!(out)?;
    let flow_control = descriptor.flow_control.as_deref().unwrap_or("none");
    let protocols = if descriptor.protocols.is_empty() { "none" } else { &descriptor.protocols };
    let kind = if descriptor.single_onion { "a single onion service" } else { "anonymous" };
    writeln!(out, "flow-control: {flow_control}; proto: {protocols}; {kind}\n")?;
    let heading = ["point", "relay", "", "backend"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(descriptor.intro_points.iter().map(|point| {
        let backends = point.backends.join(" or ");
        vec![point.session_id.clone(), point.relay.clone(), text(&point.nickname), backends]
    }));
    out.write_all(table(INDENT, &rows).as_bytes())
}

fn text(maybe: &Option<String>) -> String {
    maybe.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::inquiry::published::Here;
    use crate::inquiry::published::tests::{held, published};
    use crate::tor::held::DescriptorAtHsdir;
    use onionbraid_balancer::fact::FetchFailure;

    fn report(answers: Vec<Result<DescriptorAtHsdir, FetchFailure>>) -> Published {
        published(answers, &Here::default())
    }

    fn text(report: &Published) -> String {
        let mut out = Vec::new();
        write(report, UNIX_EPOCH + Duration::from_secs(1), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_same_points_in_another_order_are_the_same_descriptor() {
        let report = report(vec![held(7, &[1, 2]), held(7, &[2, 1])]);
        assert!(report.all_agree && !report.distinct);
        assert!(text(&report).contains("All 2 HSDirs hold the same descriptor."));
        assert_eq!((report.descriptors.len(), report.descriptors[0].hsdirs), (1, 2));
    }

    #[test]
    fn an_old_revision_on_one_hsdir_is_seen_and_comes_last() {
        let report = report(vec![held(7, &[1]), held(8, &[1]), held(8, &[1])]);
        assert!(!report.all_agree && !report.distinct);
        let revisions: Vec<_> = report.descriptors.iter().map(|d| d.revision).collect();
        assert_eq!(revisions, [8, 7]);
        assert_eq!(report.hsdirs[0].descriptor, Some(1));
        assert!(text(&report).contains("All 3 HSDirs hold 2 different descriptors, of 2"));
    }

    #[test]
    fn different_points_of_one_revision_are_distinct_descriptors_and_no_fault() {
        let report = report(vec![held(7, &[1]), held(7, &[2]), held(7, &[1])]);
        assert!(report.all_agree && report.distinct);
        let text = text(&report);
        assert!(text.contains("All 3 HSDirs hold one revision, in 2 distinct desc"), "{text}");
        assert!(text.contains("Descriptor 2, revision 7, on 1 HSDir: "), "{text}");
    }

    #[test]
    fn an_old_one_among_distinct_descriptors_is_seen() {
        let report = report(vec![held(7, &[1]), held(8, &[2]), held(8, &[3])]);
        assert!(!report.all_agree && report.distinct);
        let text = text(&report);
        assert!(text.contains("All 3 HSDirs hold 3 distinct descriptors, of 2 rev"), "{text}");
    }

    #[test]
    fn a_descriptor_that_only_the_others_hold_is_not_found_by_clients() {
        let missing = || Err(FetchFailure::NotFound);
        let unreachable = Err(FetchFailure::Unreachable("no circuit".into()));
        let report = report(vec![missing(), unreachable, missing(), held(7, &[1])]);
        assert!(!report.can_be_found() && !report.all_agree);
        let text = text(&report);
        assert!(text.contains("none") && text.contains("UNREACHABLE: no circuit"), "{text}");
        assert!(text.contains("1 of 4 HSDirs holds a descriptor, all the same one."), "{text}");
    }
}
