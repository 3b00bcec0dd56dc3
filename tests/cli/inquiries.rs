//! `descriptor` and `check --online` beside a running daemon: it answers, over its
//! Unix socket, and they look for no network. The daemon's answers are made here.

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use onionbraid::admin::{Admin, NoAnswer};
use onionbraid::config::AdminListen;
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::TorStatus;
use serde_json::{Value, json};

use super::{onionbraid, stderr, stdout, write};

const BERLIN: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

/// What was asked, with its path.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A daemon that answers every question with this, until it is dropped.
struct Daemon {
    asked: Asked,
    _runtime: tokio::runtime::Runtime,
    /// A daemon holds its state directory.
    _lock: std::fs::File,
}

fn daemon(dir: &Path, answer: Result<Value, NoAnswer>) -> Daemon {
    let snapshot = Arc::new(|| Snapshot {
        version: "1".into(),
        ready: true,
        tor: TorStatus { bootstrap: 1.0, message: "done".into(), ..TorStatus::default() },
        ..Snapshot::default()
    });
    let asked = Asked::default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listen = AdminListen::Unix(dir.join("admin.sock"));
    let admin = runtime.block_on(Admin::open(&listen, snapshot)).unwrap();
    let noted = Arc::clone(&asked);
    let admin = admin.answering(Arc::new(move |asked| {
        let question = serde_json::from_slice(&asked.body).unwrap();
        noted.lock().unwrap().push((asked.path, question));
        let answer = answer.clone().map(|answer| answer.to_string().into_bytes());
        std::future::ready(answer).boxed()
    }));
    runtime.handle().spawn(admin.serve());
    let lock = std::fs::File::create(dir.join("state/onionbraid.lock")).unwrap();
    lock.lock().unwrap();
    Daemon { asked, _runtime: runtime, _lock: lock }
}

/// A directory with a service that has a backend and a key; the address.
fn configured() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[onion_services.shop]\nlocal_instances = 0\nbackends = [{{ address = \"{BERLIN}\", name = \
         \"berlin\" }}]\n[storage]\nstate_dir = \"{0}/state\"\ncache_dir = \"{0}/cache\"\n\
         [admin]\nlisten = \"unix:{0}/admin.sock\"\n",
        dir.path().display()
    );
    write(dir.path(), "arti.toml", &text);
    let made = onionbraid(dir.path(), &["keys", "generate", "shop", "-c", "arti.toml"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let address = stdout(&made);
    let address = address.split_whitespace().find(|word| word.ends_with(".onion")).unwrap();
    (dir, address.to_owned())
}

/// That no Tor client was run here.
fn is_without_client(dir: &Path) -> bool {
    ["home", "cache", "state/state"].iter().all(|path| !dir.join(path).exists())
}

#[test]
fn the_running_daemon_says_what_is_published_and_knows_whose_backends_are_meant() {
    let (dir, address) = configured();
    let hsdir = json!({
        "relay": "AB", "nickname": "one", "replica": 1, "asked_by_clients": true,
        "state": "held", "revision": 7, "descriptor": 0, "error": null,
    });
    let point = json!({ "session_id": "01020304", "relay": "CD", "nickname": "two", "backends": ["berlin"] });
    let descriptor = json!({
        "revision": 7, "hsdirs": 1, "bytes": 14436, "lifetime_minutes": 180,
        "certified_until": null, "published_at": null, "flow_control": null, "protocols": "",
        "single_onion": false, "intro_points": [point],
    });
    let answer = json!({
        "address": address, "service": "shop", "period": 1, "period_minutes": 1440,
        "all_agree": true, "distinct": false, "hsdirs": [hsdir], "descriptors": [descriptor],
    });
    let daemon = daemon(dir.path(), Ok(answer));
    let output = onionbraid(dir.path(), &["descriptor", &address, "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("01020304  CD     two  berlin"), "{}", stdout(&output));
    assert!(stderr(&output).contains("asked the running daemon"));
    let backends = json!([{ "name": "berlin", "address": BERLIN }]);
    let question = json!({ "address": address, "backends": backends });
    assert_eq!(*daemon.asked.lock().unwrap(), [("/v1/descriptor".to_owned(), question)]);
    assert!(is_without_client(dir.path()));
}

#[test]
fn a_daemon_without_a_network_says_so_and_no_other_way_is_tried() {
    let (dir, address) = configured();
    let why = "Tor is not ready yet: 45 %, connecting";
    let _daemon = daemon(dir.path(), Err(NoAnswer::NotReady(why.into())));
    for command in [["descriptor", &address], ["check", "--online"]] {
        let output = onionbraid(dir.path(), &[command[0], command[1], "-c", "arti.toml"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let said = format!("onionbraid: the running daemon: {why}\n");
        assert!(stderr(&output).ends_with(&said), "{}", stderr(&output));
    }
    assert!(is_without_client(dir.path()));
}

/// What the daemon found at the one point of berlin.
fn found(verdict: Value, standing: &str, tries: u8, running: Value) -> Value {
    let steps = json!({
        "rendezvous_point": null, "circuit": null, "acknowledged": null, "met": null,
        "stream": null, "answer": null,
    });
    let point = json!({
        "session_id": "01020304", "relay": "CD", "nickname": "two", "verdict": verdict,
        "standing": standing, "tries": tries, "steps": steps,
    });
    let finding = json!({ "whose": { "backend": "berlin" }, "points": { "Ok": [point] } });
    json!({ "services": [{ "findings": [finding], "running": running }] })
}

#[test]
fn dead_is_told_from_in_doubt_and_what_the_daemon_has_not_read_is_said() {
    let (dir, _) = configured();
    let as_running = json!({ "backends": [BERLIN] });
    let cases = [
        (found(json!("Answers"), "answers", 2, as_running.clone()), 0, "Everything answers."),
        (found(json!("Silent"), "fails", 3, as_running.clone()), 1, "berlin is dead: nobody"),
        (found(json!("Silent"), "in_doubt", 3, as_running), 1, "berlin is in doubt: no answer"),
        (
            found(json!("Answers"), "answers", 1, json!({ "backends": [] })),
            0,
            "the running daemon does not use berlin: have it reload its configuration",
        ),
    ];
    for (answer, code, expected) in cases {
        let daemon = daemon(dir.path(), Ok(answer));
        let output = onionbraid(dir.path(), &["check", "--online", "-c", "arti.toml"]);
        let said = stdout(&output);
        assert_eq!(output.status.code(), Some(code), "{said}{}", stderr(&output));
        assert!(said.contains(expected), "{expected:?} is missing: {said}");
        assert_eq!(said.contains(" dead"), expected.contains(" dead"), "{said}");
        assert_eq!(daemon.asked.lock().unwrap()[0].0, "/v1/check");
    }
    assert!(is_without_client(dir.path()));
}

#[test]
fn an_order_reaches_the_daemon_and_its_refusal_the_operator() {
    let (dir, _) = configured();
    let order = |arguments: &[&str], answer| {
        let daemon = daemon(dir.path(), answer);
        let output = onionbraid(dir.path(), &[arguments, &["-c", "arti.toml"]].concat());
        let asked = daemon.asked.lock().unwrap().clone();
        (output, asked)
    };
    let path = || "/v1/services/shop/backends/berlin".to_owned();
    let (output, asked) = order(&["backend", "shop", "berlin", "drain"], Ok(Value::Null));
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    assert_eq!(asked, [(path(), json!({ "verb": "drain", "force": false }))]);
    let weight = &["backend", "shop", "berlin", "weight", "3"];
    let (_, asked) = order(weight, Ok(Value::Null));
    assert_eq!(asked, [(path(), json!({ "verb": "weight", "weight": 3, "force": false }))]);

    // What cannot be a name is not sent, whatever a path would make of it.
    for (service, backend) in [
        ("shop", "local-0?x"),
        ("shop", "local-0#x"),
        ("shop", "../local-0"),
        ("shop", "local%2d0"),
        ("shop", ""),
        ("shop", "local 0"),
        ("shop/backends/local-0", "x"),
        ("", "local-0"),
    ] {
        let (output, asked) = order(&["backend", service, backend, "drain"], Ok(Value::Null));
        assert_eq!(output.status.code(), Some(2), "{service} {backend}");
        assert!(stderr(&output).contains(" cannot be the n"), "{}", stderr(&output));
        assert_eq!(asked, []);
    }

    let last = NoAnswer::Refused("berlin: it is the last".into());
    let (output, _) = order(&["backend", "shop", "berlin", "maintenance"], Err(last));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("berlin: it is the last"), "{}", stderr(&output));
    let unknown = NoAnswer::NotFound("there is no service \"shop\"".into());
    let (output, _) = order(&["backend", "shop", "berlin", "ready", "--force"], Err(unknown));
    assert!(stderr(&output).contains("there is no service"), "{}", stderr(&output));
}

#[test]
fn a_reload_says_what_has_changed_or_what_is_wrong_with_the_code_of_check() {
    let (dir, _) = configured();
    let reload = |answer| {
        let _daemon = daemon(dir.path(), answer);
        onionbraid(dir.path(), &["reload", "-c", "arti.toml"])
    };
    let changed = ["onion_services.shop.local_instances: 0 -> 1"];
    let answer = json!({ "changed": changed, "after_restart": [], "warnings": [] });
    let output = reload(Ok(answer));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), format!("reloaded:\n  {}\n", changed[0]));
    for (answer, code) in [
        (NoAnswer::Configuration("arti.toml:1: wrong".into()), 78),
        (NoAnswer::Denied("a key is readable for everybody".into()), 77),
        (NoAnswer::NotReady("the daemon is ending".into()), 1),
    ] {
        let output = reload(Err(answer.clone()));
        assert_eq!(output.status.code(), Some(code));
        assert!(stderr(&output).contains(&answer.to_string()), "{}", stderr(&output));
    }
}

#[test]
fn without_a_daemon_no_order_is_obeyed_and_on_loopback_none_is_given() {
    let (dir, _) = configured();
    for order in [&["reload"][..], &["backend", "shop", "berlin", "drain"]] {
        let output = onionbraid(dir.path(), &[order, &["-c", "arti.toml"]].concat());
        assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
        write(dir.path(), "tcp.toml", "[admin]\nlisten = \"127.0.0.1:9\"\n");
        let both = ["-c", "arti.toml", "-c", "tcp.toml"];
        let output = onionbraid(dir.path(), &[order, &both].concat());
        assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
        assert!(stderr(&output).contains("admin.listen"), "{}", stderr(&output));
    }
}
