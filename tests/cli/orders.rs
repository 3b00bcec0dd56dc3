//! The orders of operators at a real daemon, which has no network: it takes them,
//! keeps them, and says what they come to.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::Word;

use super::unprivileged::{self, Process, until};
use super::{NO_NETWORK, onionbraid, stderr, stdout, write};

const BERLIN: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

/// A directory and, while it lives, the daemon on it.
struct Site {
    dir: tempfile::TempDir,
    daemon: Option<Process>,
}

impl Site {
    fn new(service: &str) -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap(), daemon: None };
        this.configure(service, "");
        this
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the configuration: the keys of the service, and other tables.
    fn configure(&self, service: &str, tables: &str) {
        let text = format!(
            "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n{service}\n\
             [storage]\nstate_dir = \"{0}/state\"\ncache_dir = \"{0}/cache\"\n\
             [storage.permissions]\ndangerously_trust_everyone = true\n{NO_NETWORK}{tables}",
            self.path().display()
        );
        write(self.path(), "arti.toml", &text);
    }

    fn start(&mut self) {
        self.daemon = None;
        let mut command = Command::new(env!("CARGO_BIN_EXE_onionbraid"));
        command.args(["run", "-c", "arti.toml"]).env_clear().env("HOME", self.path());
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        let command = command.current_dir(self.path()).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.daemon = Some(Process(child));
        let healthy = || {
            let output = self.command(&["healthcheck"]);
            output.status.code() != Some(69)
        };
        until("the daemon's answer", healthy);
    }

    /// Runs a command with the configuration.
    fn command(&self, arguments: &[&str]) -> Output {
        onionbraid(self.path(), &[arguments, &["-c", "arti.toml"]].concat())
    }

    /// The same; what it printed, if all went well.
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Also while the configuration cannot be read at all.
    fn snapshot(&self) -> Snapshot {
        let text =
            format!("[admin]\nlisten = \"unix:{}/state/admin.sock\"\n", self.path().display());
        write(self.path(), "asking.toml", &text);
        let output = onionbraid(self.path(), &["status", "--json", "-c", "asking.toml"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    /// The operators' words, in the order of the backends.
    fn words(&self) -> Vec<Word> {
        let services = self.snapshot().services;
        services[0].backends.iter().map(|backend| backend.operator).collect()
    }

    /// One request on the socket: its status.
    fn request(&self, request: &str) -> u16 {
        let mut stream = UnixStream::connect(self.path().join("state/admin.sock")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap()
    }
}

#[test]
fn no_web_page_gives_orders_or_reads_through_a_forwarded_socket() {
    let mut site = Site::new("local_instances = 2");
    site.start();
    let order = |headers: &str| {
        let body = "{\"verb\":\"drain\"}";
        let length = body.len();
        site.request(&format!(
            "POST /v1/services/shop/backends/local-0 HTTP/1.1\r\ncontent-length: {length}\r\n\
             {headers}\r\n{body}"
        ))
    };
    const LOCAL: &str = "host: localhost:8080\r\n";
    const JSON: &str = "content-type: application/json\r\n";
    for (headers, expected) in [
        (format!("{LOCAL}content-type: text/plain\r\n"), 415),
        (format!("{LOCAL}content-type: multipart/form-data\r\n"), 415),
        (format!("{LOCAL}{JSON}origin: http://evil.example\r\n"), 403),
        (format!("{LOCAL}{JSON}origin: http://localhost:8080\r\n"), 403),
        (format!("{LOCAL}{JSON}origin: null\r\n"), 403),
        (format!("{LOCAL}{JSON}sec-fetch-site: cross-site\r\n"), 403),
        (format!("host: evil.example\r\n{JSON}"), 403),
    ] {
        assert_eq!(order(&headers), expected, "{headers:?}");
        assert_eq!(site.words(), [Word::Ready; 2], "{headers:?}");
    }
    let asked_for =
        |host: &str| site.request(&format!("GET /status.json HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    for host in
        ["evil.example", "evil.example:8080", "[::1]evil.example", "localhost@evil.example", "[::1"]
    {
        assert_eq!(asked_for(host), 403, "{host}");
    }
    for host in ["[::1]:8080", "[::1]", "localhost", "LOCALHOST:8080", "127.0.0.1:80", ""] {
        assert_eq!(asked_for(host), 200, "{host}");
    }
    let reload = |body: &str| {
        let length = body.len();
        site.request(&format!(
            "POST /v1/reload HTTP/1.1\r\n{LOCAL}{JSON}content-length: {length}\r\n\r\n{body}"
        ))
    };
    assert_eq!(reload("garbage"), 400);
    assert_eq!(reload("{}"), 200);
    // And no query is passed over.
    let query = format!(
        "POST /v1/services/shop/backends/local-0?x HTTP/1.1\r\n{LOCAL}{JSON}content-length: 16\r\n\r\n\
         {{\"verb\":\"drain\"}}"
    );
    assert_eq!(site.request(&query), 400);
    assert_eq!(order(&format!("{LOCAL}{JSON}")), 200);
    assert_eq!(site.words(), [Word::Drain, Word::Ready]);
}

#[test]
fn a_word_from_before_a_restart_is_shown_and_another_taken_without_a_network() {
    let mut site = Site::new("local_instances = 2");
    site.start();
    site.good(&["backend", "shop", "local-0", "maintenance"]);
    assert_eq!(site.words(), [Word::Maintenance, Word::Ready]);
    assert_eq!(site.command(&["backend", "shop", "local-1", "drain"]).status.code(), Some(1));
    site.good(&["backend", "shop", "local-1", "drain", "--force"]);
    let log = site.log();
    assert!(log.contains("operator: order refused"), "{log}");
    let forced = log.lines().find(|line| line.contains("operator: drain")).unwrap();
    assert!(forced.contains("force=true"), "{forced}");

    site.start();
    assert_eq!(site.words(), [Word::Maintenance, Word::Drain]);
    assert!(site.good(&["status"]).contains("backend local-0 is in maintenance since"));
    assert!(site.good(&["status", "--brief"]).contains("(1 drained, 1 in maintenance)"));
    let output = Command::new("curl")
        .args(["-s", "--unix-socket"])
        .arg(site.path().join("state/admin.sock"))
        .arg("http://localhost/metrics")
        .output()
        .unwrap();
    let metrics = String::from_utf8(output.stdout).unwrap();
    let word =
        "onionbraid_backend_operator{service=\"shop\",backend=\"local-0\",word=\"maintenance\"} 1";
    assert!(metrics.contains(word), "{metrics}");
    assert_eq!(site.log().matches("operator's word still holds").count(), 2);
    site.good(&["backend", "shop", "local-0", "ready"]);
    site.start();
    assert_eq!(site.words(), [Word::Ready, Word::Drain]);
}

#[test]
fn a_reload_of_bad_files_says_what_check_says_and_changes_nothing() {
    let mut site = Site::new("local_instances = 2");
    site.start();
    let before = site.snapshot().services;
    let own = &before[0].address;
    for (what, service, tables) in [
        ("two errors", "local_instances = 999\nlocal_weight = \"much\"".to_owned(), ""),
        ("no TOML", "local_instances = ".to_owned(), ""),
        ("a table that there is not", "local_instances = 1".to_owned(), "[nonsense]\na = 1\n"),
        ("itself as its backend", format!("backends = [\"{own}\"]"), ""),
        (
            "a certificate that there is not",
            "http.tls.ca_file = \"/nowhere.pem\"\nlocal_instances = 1".to_owned(),
            "",
        ),
        ("a key that there is not", "identity_key = \"/nowhere\"".to_owned(), ""),
    ] {
        site.configure(&service, tables);
        let (check, reload) = (site.command(&["check"]), site.command(&["reload"]));
        assert_ne!(check.status.code(), Some(0), "{what}");
        assert_eq!(stderr(&reload), stderr(&check), "{what}");
        assert_eq!(reload.status.code(), check.status.code(), "{what}");
        let names = |services: &[onionbraid::observe::snapshot::Service]| {
            let backends = services.iter().flat_map(|service| &service.backends);
            backends.map(|backend| (backend.name.clone(), backend.weight)).collect::<Vec<_>>()
        };
        let snapshot = site.snapshot();
        assert_eq!(names(&snapshot.services), names(&before), "{what}");
        // What is no TOML does not say where the daemon is, either.
        if what != "no TOML" {
            assert!(!snapshot.reload.unwrap().ok, "{what}");
            assert!(site.good(&["status", "--brief"]).contains("not all of the configuration"));
        }
    }
    site.configure("local_instances = 999\nlocal_weight = \"much\"", "");
    let reload = site.command(&["reload"]);
    assert_eq!(reload.status.code(), Some(78));
    let said = stderr(&reload);
    assert!(said.starts_with("onionbraid: the configuration has 2 errors\n\n"), "{said}");
}

#[test]
fn a_reload_names_what_is_in_force_and_what_waits_for_a_restart() {
    let mut site = Site::new("local_instances = 1");
    site.start();
    let service = format!(
        "local_instances = 1\nbackends = [{{ address = \"{BERLIN}\", name = \"berlin\" }}]"
    );
    site.configure(&service, "[metrics]\nprometheus.listen = [\"127.0.0.1:9\"]\n");
    let said = site.good(&["reload"]);
    assert!(said.contains("  onion_services.shop.backends: added berlin\n"), "{said}");
    assert!(!said.contains("metrics.prometheus"), "{said}");
    assert!(said.ends_with("only a restart brings in force what has changed in [metrics]\n"));
}

#[test]
fn a_reload_that_leaves_nobody_in_use_is_warned_of() {
    let both = format!(
        "local_instances = 1\nbackends = [{{ address = \"{BERLIN}\", name = \"berlin\" }}]"
    );
    let mut site = Site::new(&both);
    site.start();
    site.good(&["backend", "shop", "local-0", "maintenance"]);
    assert!(!site.good(&["check"]).contains("is down with this"));
    site.configure("local_instances = 1", "");
    let warning = "warning: service \"shop\" is down with this: operators have every backend of it \
                   out of use (local-0); `onionbraid backend shop local-0 ready` takes that back\n";
    assert!(site.good(&["check"]).contains(warning));
    assert!(site.good(&["reload"]).contains(warning));
    let log = site.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("is down with this")));
    assert_eq!(site.words(), [Word::Maintenance]);
}

#[test]
fn a_user_who_may_not_ask_is_told_so_with_a_code_of_its_own() {
    if !unprivileged::is_root() {
        return;
    }
    let mut site = Site::new("");
    // The configuration can be read, the socket cannot be reached.
    let public = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(site.path(), public).unwrap();
    site.start();
    for arguments in
        [&["reload"][..], &["backend", "shop", "local-0", "ready"], &["status"], &["healthcheck"]]
    {
        let output = unprivileged::command(env!("CARGO_BIN_EXE_onionbraid"))
            .args(arguments)
            .arg("-c")
            .arg(site.path().join("arti.toml"))
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(77), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("this user may not ask the daemon"));
    }
}

#[test]
fn an_output_that_nobody_reads_is_no_failure() {
    let mut site = Site::new("");
    site.start();
    for arguments in [&["status"][..], &["status", "--json"], &["status", "--brief"], &["reload"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
            .args(arguments)
            .args(["-c", "arti.toml"])
            .env_clear()
            .env("HOME", site.path())
            .current_dir(site.path())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    }
}

#[test]
fn a_daemon_that_hides_cannot_be_told_by_a_reload_to_do_so_no_more() {
    const NOT_ANONYMOUS: &str = "anonymity = \"not_anonymous\"\nconfirm_not_anonymous = true";
    let mut site = Site::new("");
    site.start();
    for (runs, wanted) in [("", NOT_ANONYMOUS), (NOT_ANONYMOUS, "")] {
        site.configure(wanted, "");
        let refused = site.command(&["reload"]);
        assert_eq!(refused.status.code(), Some(78), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("changes only with a restart"), "{}", stderr(&refused));
        // Nor beside a service that says the other.
        let other = "[onion_services.other]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n";
        site.configure(runs, &format!("{other}{wanted}\n"));
        let refused = site.command(&["reload"]);
        assert_eq!(refused.status.code(), Some(78), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("in all services or in none"), "{}", stderr(&refused));
        site.configure(runs, "");
        site.good(&["reload"]);
        site.configure(NOT_ANONYMOUS, "");
        site.start();
        let anonymity = site.snapshot().services[0].anonymity;
        assert_eq!(anonymity, onionbraid::observe::snapshot::Anonymity::NotAnonymous);
        let log = site.log();
        assert!(log.contains("relays see where this process is"), "{log}");
    }
    assert!(site.good(&["check"]).contains("NOT ANONYMOUS"));
}

#[test]
fn guards_of_a_service_that_runs_wait_for_a_restart_and_the_reload_says_so() {
    const OWN: &str = "guards = \"own\"\nlocal_instances = 2";
    let mut site = Site::new("local_instances = 2");
    site.start();
    site.configure(&format!("{OWN}\nlocal_weight = 3"), "");
    for _ in 0..2 {
        let said = site.good(&["reload"]);
        assert!(said.contains("onion_services.shop.guards"), "{said}");
        assert!(!said.contains("\"shared\" -> \"own\""), "{said}");
    }
    let reload = site.snapshot().reload.unwrap();
    let waits = reload.error.unwrap();
    assert!(waits.contains("all but onion_services.shop.guards is in force"), "{waits}");
    // The rest is.
    assert!(site.snapshot().services[0].backends.iter().all(|it| it.weight == 3));
    site.configure("local_instances = 2", "");
    assert!(!site.good(&["reload"]).contains("guards"));

    site.configure(OWN, "");
    let said = site.good(&["check"]);
    assert!(said.contains("THE PRICE IS ANONYMITY: 2 guards"), "{said}");
    assert!(site.good(&["config", "show"]).contains("guards = \"own\""));
    site.configure("guards = \"own\"\nlocal_instances = 1", "");
    assert!(site.good(&["check"]).contains("its guards are its own"));
    let backends = format!("guards = \"own\"\nbackends = [\"{BERLIN}\"]");
    site.configure(&backends, "");
    let said = site.good(&["check"]);
    assert!(said.contains("it is for local instances, of which this service has none"), "{said}");
}
