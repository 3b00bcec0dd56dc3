//! What is said in each trouble, word for word where that is a contract.

use super::*;

const HOUR: i64 = 3600;

fn relay(n: u8) -> SocketAddr {
    let port = if n.is_multiple_of(2) { 443 } else { 9001 };
    SocketAddr::from(([192, 0, 2, n], port))
}

/// Without a directory, after these attempts.
fn after(attempts: impl IntoIterator<Item = (u8, ConnectionOutcome)>) -> ObservedClient {
    let attempts = attempts.into_iter().map(|(n, outcome)| (relay(n), outcome)).collect();
    ObservedClient { attempts, ..ObservedClient::default() }
}

fn said(seen: &ObservedClient) -> String {
    let Trouble { kind, message, advice } = diagnose(seen).unwrap();
    format!("{kind}: {message}. {advice}")
}

#[test]
fn connections_that_fail_are_told_by_how_they_fail() {
    use ConnectionOutcome::{Broken, Forbidden, NoRoute, Refused, Silent, Unreachable};
    assert_eq!(
        said(&after([(1, NoRoute), (2, NoRoute)])),
        "no_route: this machine has no route to the Tor network: tried 2 relays. bring its \
         network up: `ip route` must show a default route"
    );
    assert_eq!(
        said(&after([(1, Refused), (2, Refused), (3, Silent)])),
        "refused: each of the 3 relays tried refuses the connection (TCP ports 443, 9001). let this \
         machine connect out to TCP ports 443, 9001 in every firewall; if all else works, Tor is blocked \
         here: configure [bridges]"
    );
    assert_eq!(
        said(&after([(2, Silent)])),
        "silent: no answer from the only relay tried: packets to TCP port 443 are lost or dropped. \
         let this machine connect out to TCP port 443 in every firewall, and look at its network; if all \
         else works, Tor is blocked here: configure [bridges]"
    );
    assert_eq!(
        said(&after([(2, Unreachable), (4, Unreachable)])),
        "unreachable: the network says that it cannot reach each of the 2 relays tried (TCP port \
         443). look at this machine's router, and let this machine connect out to TCP port 443 in \
         every firewall; if all else works, Tor is blocked here: configure [bridges]"
    );
    assert!(said(&after([(2, Broken)])).starts_with("failing: no connection to the only relay"));
    assert_eq!(
        said(&after([(2, Forbidden)])),
        "forbidden: this machine is not allowed to connect to the only relay tried. let this machine connect \
         out to TCP port 443: look at its firewall, and at IPAddressDeny of the service's unit"
    );
}

#[test]
fn a_missing_way_to_ipv6_tells_nothing_where_something_else_is_tried() {
    let mut seen = after([(2, ConnectionOutcome::Silent)]);
    let v6 = (1..9).map(|n| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 9001)));
    seen.attempts.extend(v6.map(|address| (address, ConnectionOutcome::NoRoute)));
    assert!(said(&seen).starts_with("silent: no answer from the only relay"), "{}", said(&seen));
    seen.attempts.insert(relay(4), ConnectionOutcome::Connected);
    assert_eq!(diagnose(&seen), None);
}

#[test]
fn a_wrong_clock_is_told_by_how_much_and_which_way() {
    let told = |clocks: &[i64]| {
        let clocks = clocks.to_vec();
        diagnose(&ObservedClient { clocks, ..after([(1, ConnectionOutcome::Connected)]) })
            .map(|it| it.message)
    };
    let is = |words: &str| Some(format!("this machine's clock is {words}"));
    assert_eq!(told(&[-72 * HOUR; 4]), is("3 days slow, as 4 relays say"));
    assert_eq!(told(&[-3 * HOUR - 20]), is("3 hours slow, as a relay says"));
    assert_eq!(told(&[48 * HOUR + 7, 48 * HOUR]), is("2 days fast, as 2 relays say"));
    assert_eq!(told(&[16 * 60; 3]), is("16 minutes fast, as 3 relays say"));
    assert_eq!(told(&[14 * 60; 3]), None);
    // A relay that lies, among others that do not.
    assert_eq!(told(&[0, 400 * HOUR, 1]), None);
    assert_eq!(told(&[i64::MIN, i64::MAX, 0]), None);
    assert!(told(&[i64::MIN]).unwrap().contains("days slow"));
}

#[test]
fn a_wrong_clock_is_told_before_whatever_it_causes_and_also_while_tor_works() {
    let seen = ObservedClient {
        clocks: vec![-3 * HOUR; 2],
        directory: NetworkDirectory::Usable,
        ..ObservedClient::default()
    };
    assert!(said(&seen).starts_with("clock: this machine's clock is 3 hours slow"));
    let seen = ObservedClient {
        clocks: vec![48 * HOUR],
        strange: 3,
        directory: NetworkDirectory::Expired(Duration::from_secs(1)),
        stalled: Duration::from_secs(60),
        ..after([(1, ConnectionOutcome::Connected)])
    };
    assert!(said(&seen).starts_with("clock: this machine's clock is 2 days fast"));
}

#[test]
fn the_directory_tells_of_a_wrong_clock_where_no_relay_does() {
    let slow = NetworkDirectory::NotYetValid(Duration::from_secs(30 * 3600));
    let seen = ObservedClient { directory: slow, ..ObservedClient::default() };
    assert!(said(&seen).starts_with("clock: this machine's clock is at least 30 hours slow"));
    let seen = ObservedClient {
        directory: NetworkDirectory::Expired(Duration::from_secs(5 * 86_400)),
        clock_set_by: Some(120 * HOUR),
        ..ObservedClient::default()
    };
    assert_eq!(diagnose(&seen), None, "a directory may be on its way");
    let seen = ObservedClient { stalled: STALLED_FOR, ..seen };
    assert!(
        said(&seen)
            .starts_with("clock: this machine's clock was just set forward by 5 days, and no")
    );
    // What relays say of it weighs more.
    let seen = ObservedClient { clocks: vec![0], ..seen };
    assert!(said(&seen).starts_with("directory_expired: "), "{}", said(&seen));
}

#[test]
fn who_takes_connections_and_is_no_relay_is_a_filter() {
    let connected = after([(1, ConnectionOutcome::Connected), (2, ConnectionOutcome::Connected)]);
    let seen = ObservedClient { strange: 2, ..connected };
    assert_eq!(
        said(&seen),
        "filtered: 2 relays took a connection and did not answer as Tor does. take proxies and \
         filters out of the way; if there are none of yours, Tor is blocked here: configure \
         [bridges]"
    );
    assert_eq!(
        diagnose(&ObservedClient { clocks: vec![0], ..seen }),
        None,
        "one of them is a relay"
    );
}

#[test]
fn no_directory_is_trouble_once_nothing_moves() {
    let expired = NetworkDirectory::Expired(Duration::from_secs(50 * 3600));
    for (directory, reached, expected) in [
        (expired, true, "directory_expired: the network directory expired 2 days ago, and none"),
        (expired, false, "directory_expired: "),
        (
            NetworkDirectory::Missing,
            true,
            "no_directory: relays answer, but none gives a network directory",
        ),
        (NetworkDirectory::Missing, false, "waiting: no relay was reached"),
    ] {
        let clocks = if reached { vec![0] } else { Vec::new() };
        let mut seen = ObservedClient { directory, clocks, ..ObservedClient::default() };
        assert_eq!(diagnose(&seen), None);
        seen.stalled = STALLED_FOR;
        assert!(said(&seen).starts_with(expected), "{}", said(&seen));
    }
}

#[test]
fn while_it_waits_it_is_told_how_the_last_attempts_failed() {
    let earlier =
        after([(1, ConnectionOutcome::Refused), (2, ConnectionOutcome::Refused)]).attempts;
    let mut seen = ObservedClient { earlier, stalled: STALLED_FOR, ..ObservedClient::default() };
    assert_eq!(
        said(&seen),
        "waiting: each of the 2 relays tried refuses the connection (TCP ports 443, 9001), and each \
         is left in peace for a while before it is tried again. let this machine connect out to TCP \
         ports 443, 9001 in every firewall; if all else works, Tor is blocked here: configure \
         [bridges]"
    );
    // One of them opened: what failed is not the way.
    seen.earlier.insert(relay(3), ConnectionOutcome::Connected);
    assert!(said(&seen).starts_with("waiting: no relay was reached"), "{}", said(&seen));
}

#[test]
fn guards_that_fail_are_told_once_there_are_several_and_without_a_mention_of_bridges() {
    let mut seen = after([(1, ConnectionOutcome::Silent), (2, ConnectionOutcome::Silent)]);
    seen.directory = NetworkDirectory::Usable;
    assert_eq!(diagnose(&seen), None);
    seen.attempts.insert(relay(3), ConnectionOutcome::Silent);
    assert_eq!(
        said(&seen),
        "guards_down: no answer from each of the 3 guards tried: packets to TCP ports 443, 9001 \
         are lost or dropped. let this machine connect out to TCP ports 443, 9001 in every firewall, and \
         look at its network; if all else works, wait, others are tried"
    );
}

#[test]
fn with_bridges_the_advice_is_other_bridges() {
    let seen = ObservedClient { bridges: 2, ..after([(2, ConnectionOutcome::Refused)]) };
    let told = said(&seen);
    assert!(told.contains("the only bridge tried refuses") && told.contains("other bridges"));
    assert!(!told.contains("relay"), "{told}");
}

#[test]
fn what_this_machine_lacks_comes_first() {
    for (failure, expected) in [
        (
            BootstrapFailure::DiskFull,
            "disk_full: no space is left for the Tor directory in cache_dir or",
        ),
        (
            BootstrapFailure::NoHandles,
            "no_handles: no file handle is left. raise the limit of open files",
        ),
    ] {
        let seen =
            ObservedClient { failure: Some(failure), ..after([(1, ConnectionOutcome::Silent)]) };
        assert!(said(&seen).starts_with(expected), "{}", said(&seen));
    }
    let seen =
        ObservedClient { failure: Some(BootstrapFailure::Other), ..ObservedClient::default() };
    assert_eq!(diagnose(&seen), None);
}

#[test]
fn many_ports_are_not_all_named() {
    assert_eq!(ports([443].into_iter()), "port 443");
    assert_eq!(ports((1..=9).chain([3])), "ports 1, 2, 3, 4, 5 and others");
}

#[test]
fn lengths_of_time_are_in_one_unit() {
    let told = [59, 90 * 60, 120 * 60, 47 * 3600, 48 * 3600, 60 * 3600, 100 * 86_400];
    let told = told.map(Duration::from_secs).map(roughly);
    assert_eq!(
        told,
        ["1 minute", "90 minutes", "2 hours", "47 hours", "2 days", "3 days", "100 days"]
    );
}

#[test]
fn who_has_one_bridge_is_told_that_it_is_down_while_tor_is_ready() {
    let ready = |bridges, tried: u8| ObservedClient {
        bridges,
        directory: NetworkDirectory::Usable,
        ..after((1..=tried).map(|n| (n, ConnectionOutcome::Refused)))
    };
    let told = said(&ready(1, 1));
    assert!(told.starts_with("guards_down: the only bridge tried refuses"), "{told}");
    assert!(told.contains("ask for other bridges"), "{told}");
    assert!(said(&ready(2, 2)).starts_with("guards_down: "));
    // The others may be well.
    assert_eq!(diagnose(&ready(2, 1)), None);
    assert_eq!(diagnose(&ready(9, 2)), None);
    assert!(diagnose(&ready(9, 3)).is_some());
}

#[test]
fn while_tor_is_ready_an_open_connection_that_answers_is_worth_more_than_all_that_fails() {
    use ConnectionOutcome::{Connected, Refused};
    let mut seen = after((1..=5).map(|n| (n, Refused)));
    seen.directory = NetworkDirectory::Usable;
    assert!(said(&seen).starts_with("guards_down: each of the 5 guards tried refuses"));
    seen.answering = true;
    assert_eq!(diagnose(&seen), None);
    // Without a directory, others are asked for it as well.
    seen.directory = NetworkDirectory::Missing;
    assert!(said(&seen).starts_with("refused: "));
    seen.attempts.insert(relay(7), Connected);
    assert_eq!(diagnose(&seen), None);
}

#[test]
fn a_way_that_is_cut_is_told_though_only_one_connection_is_known() {
    let mut seen =
        ObservedClient { directory: NetworkDirectory::Usable, ..ObservedClient::default() };
    assert_eq!(diagnose(&seen), None);
    seen.lost = [relay(2)].into();
    let told = said(&seen);
    let expected = "guards_down: no answer from the only guard tried: packets to TCP port 443";
    assert!(told.starts_with(expected), "{told}");
    // Others that were tried since tell how.
    seen.attempts.insert(relay(3), ConnectionOutcome::Refused);
    seen.attempts.insert(relay(5), ConnectionOutcome::Refused);
    assert!(said(&seen).contains("each of the 3 guards tried refuses"), "{}", said(&seen));
}

#[test]
fn a_transport_that_fails_and_bridges_behind_it_that_do_not_answer_are_told_apart() {
    let behind = |unreached| {
        // What was connected to is the transport's program, on this machine.
        let seen = after([(2, ConnectionOutcome::Connected)]);
        ObservedClient { bridges: 2, unreached: Some(unreached), ..seen }
    };
    let error = "No such file or directory (os error 2)".to_owned();
    assert_eq!(
        said(&behind(Unreached::Program { transport: "obfs4".into(), error })),
        "transport: the program of the transport obfs4 does not work: No such file or directory \
         (os error 2). see that `path` and `arguments` of its [[bridges.transports]] are right, and \
         that this user may execute it"
    );
    assert_eq!(
        said(&behind(Unreached::Bridges { tried: 2, ports: [443, 9001].into() })),
        "bridges_down: no answer from each of the 2 bridges tried by its transport. let this machine \
         connect out to TCP ports 443, 9001 in every firewall, and look at its network; if all else \
         works, ask for other bridges"
    );
}
