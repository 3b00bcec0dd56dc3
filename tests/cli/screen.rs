//! `status --watch` on a terminal: the real program on a pseudo-terminal, which
//! script(1) (Debian's essential package bsdutils) makes, and the real admin
//! endpoint with a Snapshot made for the test.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use onionbraid::admin::Admin;
use onionbraid::config::AdminListen;
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{Load, Rates, Service, ServiceState, TorStatus};

use super::write;

/// Far more than anything here needs.
const LIMIT: Duration = Duration::from_secs(60);

/// Much longer than a status is shown.
const SOME_TIME: Duration = Duration::from_secs(5);

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const ADDRESS: &str = "eu5irynzocmhu6k3x5nbaxvjeixp3o7ksk2pglk5aqjvjmyjrrybfjyd.onion";

fn snapshot() -> Snapshot {
    let service = |nickname: &str, state, introductions_per_s| {
        let rates = Rates { introductions_per_s, ..Rates::default() };
        let load = Load { rates, ..Load::default() };
        let (nickname, address) = (nickname.into(), ADDRESS.into());
        Service { nickname, address, state, load, ..Service::default() }
    };
    let mut calm = service("calm", ServiceState::Published, 1.0);
    calm.problems = vec!["word ".repeat(60) + "end"];
    Snapshot {
        version: "1".into(),
        tor: TorStatus { bootstrap: 1.0, ..TorStatus::default() },
        services: vec![
            calm,
            service("busy", ServiceState::Published, 199.0),
            service("gone", ServiceState::Down, 0.0),
        ],
        ..Snapshot::default()
    }
}

/// A terminal with the program in it.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    /// What was written to it so far.
    written: Arc<(Mutex<String>, Condvar)>,
    /// The program's process, and the name of its terminal.
    pid: String,
    tty: String,
    snapshot: Arc<Mutex<Snapshot>>,
    _admin: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Terminal {
    fn start(arguments: &str) -> Self {
        Self::start_as("xterm", arguments, ENTER)
    }

    /// On a terminal of this kind; waits until this is written.
    fn start_as(kind: &str, arguments: &str, begun: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = Arc::new(Mutex::new(snapshot()));
        let admin = admin(dir.path(), Arc::clone(&snapshot));
        // The shell becomes the program once it has said which process it is.
        let program = env!("CARGO_BIN_EXE_onionbraid");
        let inside = format!(
            "stty cols 80 rows 24; echo modes $(stty -g); echo tty $(tty); \
             sh -c 'echo pid $$; exec {program} status --watch -c arti.toml {arguments}'; \
             echo ended $?; echo modes $(stty -g)"
        );
        let mut script = Command::new("script")
            .args(["-qfec", &inside, "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", dir.path())
            .env("SHELL", "/bin/sh")
            .env("TERM", kind)
            .env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1")
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = script.stdin.take().unwrap();
        let mut output = script.stdout.take().unwrap();
        let written = Arc::<(Mutex<String>, Condvar)>::default();
        let noted = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                noted.0.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                noted.1.notify_all();
            }
        });
        let (pid, tty) = Default::default();
        let mut this = Self { script, keys, written, pid, tty, snapshot, _admin: admin, _dir: dir };
        let text = this.until("to have begun", |text| text.contains(begun));
        let said = |what: &str| {
            let after = text.split_once(what).unwrap().1;
            after.split_whitespace().next().unwrap().to_owned()
        };
        (this.pid, this.tty) = (said("pid "), said("tty "));
        this
    }

    /// Waits until what was written is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let text = self.written.0.lock().unwrap();
        let lacking = |text: &mut String| !wanted(text);
        let (text, waited) = self.written.1.wait_timeout_while(text, LIMIT, lacking).unwrap();
        assert!(!waited.timed_out(), "not {what}:\n{text:?}");
        text.clone()
    }

    /// Waits until the screen is as wanted.
    fn shows(&self, what: &str) -> Vec<String> {
        let text = self.until(what, |text| screen(text).join("\n").contains(what));
        screen(&text)
    }

    fn press(&mut self, key: char) {
        self.keys.write_all(key.to_string().as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end, and finds the terminal as it was.
    fn has_ended(mut self) {
        let text = self.until("ended", |text| text.matches("modes ").count() == 2);
        let (shown, after) = text.rsplit_once(LEAVE).unwrap();
        assert!(shown.ends_with("\x1b[?25h"), "the cursor is back: {text:?}");
        assert!(after.contains("ended 0"), "{after:?}");
        let modes = text.split("modes ").skip(1).map(|it| it.split_whitespace().next().unwrap());
        let modes: Vec<_> = modes.collect();
        assert_eq!(modes[0], modes[1]);
        assert!(self.script.wait().unwrap().success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where the test failed before the end; what it runs ends with the terminal.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn admin(dir: &Path, snapshot: Arc<Mutex<Snapshot>>) -> tokio::runtime::Runtime {
    let socket = dir.join("admin.sock");
    let text = format!(
        "[onion_services.shop]\nproxy_ports = [[80, \"reject\"]]\n[admin]\nlisten = \"unix:{}\"\n",
        socket.display()
    );
    write(dir, "arti.toml", &text);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let taken = Arc::new(move || snapshot.lock().unwrap().clone());
    let admin = runtime.block_on(Admin::open(&AdminListen::Unix(socket), taken)).unwrap();
    runtime.handle().spawn(admin.serve());
    runtime
}

/// The lines on the alternate screen: each is written whole, at its place.
fn screen(text: &str) -> Vec<String> {
    let Some((_, shown)) = text.rsplit_once(ENTER) else { return Vec::new() };
    let (_, shown) = shown.rsplit_once("\x1b[2J").unwrap_or(("", shown));
    let mut lines: Vec<String> = Vec::new();
    for part in shown.split("\x1b[").skip(1) {
        // What ends a line, or the screen, says nothing; one that is not whole yet neither.
        let Some((place, line)) = part.split_once('H') else { continue };
        let Some(row) = place.strip_suffix(";1").and_then(|row| row.parse::<usize>().ok()) else {
            continue;
        };
        lines.resize(lines.len().max(row), String::new());
        lines[row - 1] = line.to_owned();
    }
    lines
}

/// In which order the services stand in the table.
fn order(lines: &[String]) -> Vec<&str> {
    let names = lines.iter().filter_map(|line| line.split(' ').next());
    names.filter(|name| ["calm", "busy", "gone"].contains(name)).collect()
}

#[test]
fn the_screen_follows_its_keys_and_leaves_the_terminal_as_it_was() {
    let mut terminal = Terminal::start("");
    let lines = terminal.shows("worst first");
    assert_eq!(lines.len(), 24);
    assert!(lines[0].starts_with("onionbraid 1 NOT READY"), "{lines:?}");
    assert_eq!(order(&lines), ["gone", "calm", "busy"]);
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
    assert!(lines.join(" ").contains(" word end"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("calm is eu5irynz...rrybfjyd.onion")));
    terminal.press('s');
    assert_eq!(order(&terminal.shows("busiest first")), ["busy", "calm", "gone"]);
    terminal.press('s');
    assert_eq!(order(&terminal.shows("by name")), ["busy", "calm", "gone"]);
    terminal.press('s');
    terminal.shows("worst first");
    // No key that means nothing here is echoed.
    terminal.press('x');

    terminal.press('p');
    terminal.shows("PAUSED");
    terminal.snapshot.lock().unwrap().ready = true;
    std::thread::sleep(SOME_TIME);
    assert!(terminal.shows("PAUSED")[0].contains("NOT READY"));
    terminal.press('p');
    terminal.shows("onionbraid 1 READY");
    let text = terminal.until("something", |_| true);
    assert!(!text.split_once(ENTER).unwrap().1.contains('x'), "{text:?}");

    // A smaller window.
    let sized =
        Command::new("stty").args(["-F", &terminal.tty, "cols", "40", "rows", "12"]).status();
    assert!(sized.unwrap().success());
    let small = |text: &str| {
        let lines = screen(text);
        lines.len() == 12 && lines[0].contains("READY")
    };
    let lines = screen(&terminal.until("smaller", small));
    assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:?}");
    terminal.press('q');
    terminal.has_ended();
}

#[test]
fn a_terminal_without_a_screen_gets_one_status_after_the_other() {
    for kind in ["dumb", ""] {
        let terminal = Terminal::start_as(kind, "", "onionbraid 1 is");
        let twice = |text: &str| text.matches("onionbraid 1 is").count() > 1;
        terminal.until("another one", twice);
        terminal.signal("INT");
        let text = terminal.until("ended", |text| text.matches("modes ").count() == 2);
        assert!(text.contains("ended 0") && !text.contains('\x1b'), "{text:?}");
    }
}

#[test]
fn a_terminal_that_does_not_know_its_size_is_taken_for_a_usual_one() {
    let mut terminal = Terminal::start("");
    let sized = Command::new("stty").args(["-F", &terminal.tty, "cols", "0", "rows", "0"]).status();
    assert!(sized.unwrap().success());
    terminal.press('s');
    let lines = terminal.shows("busiest first");
    assert_eq!(lines.len(), 24, "{lines:?}");
    terminal.press('q');
    terminal.has_ended();
}

#[test]
fn a_signal_that_ends_the_screen_leaves_the_terminal_as_it_was() {
    for signal in ["INT", "TERM", "HUP"] {
        let terminal = Terminal::start("");
        terminal.shows("worst first");
        terminal.signal(signal);
        terminal.has_ended();
    }
}

#[test]
fn a_screen_that_is_stopped_gives_the_terminal_back_and_takes_it_again() {
    let mut terminal = Terminal::start("-v");
    let lines = terminal.shows("worst first");
    assert!(lines.iter().any(|line| line.contains(ADDRESS)), "{lines:?}");
    terminal.signal("TSTP");
    let text = terminal.until("given back", |text| text.ends_with(LEAVE));
    assert_eq!(text.matches(ENTER).count(), 1);
    let stopped = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", terminal.pid)).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    for _ in 0..3000 {
        if stopped() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(stopped());
    terminal.signal("CONT");
    terminal.until("taken again", |text| text.matches(ENTER).count() == 2);
    terminal.shows("worst first");
    terminal.press('q');
    terminal.has_ended();
}
