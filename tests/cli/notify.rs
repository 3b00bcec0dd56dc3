//! What a service manager is told, by a socket that plays its part; what the
//! journal and a terminal see.

use std::fs::File;
use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::NO_NETWORK;
use super::unprivileged::until;

/// How often a socket that says nothing is read before that is a failure: each
/// time waits 200 ms.
const READS: usize = 600;

/// A daemon without a network, ended with the value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    fn ended(&mut self) -> std::process::ExitStatus {
        let child = std::cell::RefCell::new(&mut self.0);
        until("its end", || child.borrow_mut().try_wait().unwrap().is_some());
        self.0.wait().unwrap()
    }
}

/// The command that starts it.
fn run(directory: &Path) -> Command {
    let config = directory.join("arti.toml");
    let text = format!(
        "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n\
         [admin]\nlisten = \"unix:{0}/admin.sock\"\n\
         [storage]\nstate_dir = \"{0}/state\"\ncache_dir = \"{0}/cache\"\n\
         [storage.permissions]\ndangerously_trust_everyone = true\n{1}",
        directory.display(),
        NO_NETWORK,
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbraid"));
    command.arg("run").arg("-c").arg(config).stdin(Stdio::null());
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"] {
        command.env_remove(variable);
    }
    command
}

/// The messages until one has such a line, that one included.
fn heard(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let mut buffer = [0; 4096];
    for _ in 0..READS {
        if let Ok(length) = socket.recv(&mut buffer) {
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            messages.push(text.clone());
            if text.lines().any(|line| line.starts_with(wanted)) {
                return messages;
            }
        }
    }
    panic!("no {wanted} in {messages:?}");
}

fn manager(directory: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(directory.join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

#[test]
fn a_service_manager_hears_of_the_start_a_reload_the_watchdog_and_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let socket = manager(directory.path());
    let mut command = run(directory.path());
    command.env("NOTIFY_SOCKET", directory.path().join("notify")).env("WATCHDOG_USEC", "2000000");
    let mut daemon = Daemon(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());

    // Before Tor is ready: without a network the machine has to start, too.
    heard(&socket, "READY=1");
    let status = heard(&socket, "STATUS=not ready: Tor is at ");
    assert!(status.iter().all(|message| !message.contains(".onion")), "{status:?}");
    heard(&socket, "WATCHDOG=1");
    heard(&socket, "WATCHDOG=1");

    daemon.signal("HUP");
    let reloading = heard(&socket, "RELOADING=1").pop().unwrap();
    let lines: Vec<_> = reloading.lines().collect();
    let [_, time] = lines[..] else { panic!("{lines:?}") };
    let micros: u64 = time.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    assert!(Duration::from_micros(micros).as_secs_f64() < uptime + 1.0);
    heard(&socket, "READY=1");

    daemon.signal("TERM");
    heard(&socket, "STOPPING=1");
    assert!(daemon.ended().success());
}

#[test]
fn a_service_manager_with_an_abstract_socket_hears_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("onionbraid-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut command = run(directory.path());
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let mut daemon = Daemon(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    heard(&socket, "READY=1");
    heard(&socket, "STATUS=not ready: Tor is at ");
    daemon.signal("TERM");
    heard(&socket, "STOPPING=1");
    assert!(daemon.ended().success());
}

#[test]
fn the_watchdog_is_not_fed_while_the_process_stands_still_and_again_when_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let socket = manager(directory.path());
    let mut command = run(directory.path());
    command.env("NOTIFY_SOCKET", directory.path().join("notify")).env("WATCHDOG_USEC", "400000");
    let daemon = Daemon(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    heard(&socket, "WATCHDOG=1");
    daemon.signal("STOP");
    std::thread::sleep(Duration::from_millis(200));
    let mut buffer = [0; 4096];
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut buffer).is_ok() {}
    std::thread::sleep(Duration::from_secs(1));
    assert!(socket.recv(&mut buffer).is_err());
    socket.set_nonblocking(false).unwrap();
    daemon.signal("CONT");
    heard(&socket, "WATCHDOG=1");
}

#[test]
fn a_service_manager_that_reads_nothing_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let _socket = manager(directory.path());
    let mut command = run(directory.path());
    command.env("NOTIFY_SOCKET", directory.path().join("notify")).env("WATCHDOG_USEC", "4000");
    let log = directory.path().join("log");
    let stderr = File::create(&log).unwrap();
    let mut daemon = Daemon(command.stderr(stderr).stdout(Stdio::null()).spawn().unwrap());
    let logged = |what: &str| {
        until(what, || std::fs::read_to_string(&log).unwrap().contains(what));
    };
    logged("started");
    // By now its queue is full many times over.
    std::thread::sleep(Duration::from_secs(2));
    daemon.signal("HUP");
    logged("the configuration is reloaded");
    daemon.signal("TERM");
    assert!(daemon.ended().success());
}

#[test]
fn the_journal_gets_priorities_and_no_times_and_one_line_an_event() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let stderr = File::create(&log).unwrap();
    let is = stderr.metadata().unwrap();
    let mut command = run(directory.path());
    command.env("JOURNAL_STREAM", format!("{}:{}", is.dev(), is.ino()));
    let mut daemon = Daemon(command.stderr(stderr).stdout(Stdio::piped()).spawn().unwrap());
    let read = || std::fs::read_to_string(&log).unwrap();
    let logged = |what: &str| {
        until(what, || std::fs::read_to_string(&log).unwrap().contains(what));
    };
    logged("started");
    let config = directory.path().join("arti.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, "[onion_services.shop]\nnonsense = 1\nrubbish = 2\n").unwrap();
    daemon.signal("HUP");
    logged("nothing has changed: ");
    std::fs::write(&config, good).unwrap();
    daemon.signal("TERM");
    assert!(daemon.ended().success());

    let text = read();
    let prefixed = |line: &&str| {
        ["<3>", "<4>", "<6>", "<7>"].iter().any(|priority| line.starts_with(priority))
    };
    assert!(text.lines().all(|line| prefixed(&line)), "{text}");
    assert!(!text.contains("INFO") && !text.contains("2026-") && !text.contains('\x1b'), "{text}");
    let error = text.lines().find(|line| line.contains("nothing has changed: ")).unwrap();
    assert!(error.starts_with("<3>"), "{error}");
    assert!(error.contains("nonsense") && error.contains("rubbish"), "{error}");
    // No terminal: nothing but the log.
    let mut stdout = String::new();
    daemon.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(stdout, "");
}

#[test]
fn an_end_with_several_errors_is_one_entry_of_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = run(directory.path());
    let config =
        "[onion_services.shop]\nproxy_ports = [[80, \"reject\"]]\nnonsense = 1\nrubbish = 2\n";
    std::fs::write(directory.path().join("arti.toml"), config).unwrap();
    let log = directory.path().join("log");
    let stderr = File::create(&log).unwrap();
    let is = stderr.metadata().unwrap();
    command.env("JOURNAL_STREAM", format!("{}:{}", is.dev(), is.ino())).stderr(stderr);
    assert_eq!(command.status().unwrap().code(), Some(78));
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("<3>onionbraid: the configuration has 2 errors; "), "{text}");
}

/// What a terminal shows while `script` (of util-linux) gives one.
fn at_a_terminal(directory: &Path, redirect: &str) -> String {
    let run = run(directory);
    let arguments = run.get_args().map(|it| it.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    let program = run.get_program().to_str().unwrap().to_owned();
    let output = directory.join("terminal");
    let line = format!("timeout -s TERM 8 {program} {arguments} {redirect}");
    let status = Command::new("script")
        .args(["--quiet", "--flush", "--command", &line])
        .arg(&output)
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read_to_string(output).unwrap()
}

#[test]
fn at_a_terminal_the_address_is_shown_once_and_how_to_look_at_it() {
    let directory = tempfile::tempdir().unwrap();
    let text = at_a_terminal(directory.path(), "");
    let addresses: Vec<_> = text.lines().filter(|line| line.contains(".onion")).collect();
    assert_eq!(addresses.len(), 1, "{text}");
    assert!(addresses[0].starts_with("shop  "), "{text}");
    let config = directory.path().join("arti.toml");
    assert!(text.contains(&format!("onionbraid status --watch -c {}", config.display())), "{text}");
    assert!(text.contains("Tor is at 0 %") && text.contains("\x1b["), "{text}");
    assert_eq!(text.matches("Tor is at 0 %").count(), 1, "{text}");
}

#[test]
fn at_a_terminal_progress_is_shown_where_the_log_goes_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let text = at_a_terminal(directory.path(), &format!("2>{}", log.display()));
    assert!(text.contains("Tor is at 0 %: connecting to the Tor network"), "{text}");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains('\x1b') && !log.contains(".onion"), "{log}");
}

#[test]
fn no_color_is_honoured_at_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let text = at_a_terminal(directory.path(), "< /dev/null; true");
    assert!(text.contains("\x1b["), "{text}");
    let run = run(directory.path());
    let program = run.get_program().to_str().unwrap().to_owned();
    let arguments = run.get_args().map(|it| it.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    let output = directory.path().join("plain");
    let line = format!("timeout -s TERM 4 {program} {arguments}");
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--command", &line]).arg(&output);
    command.env("SHELL", "/bin/sh").env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
    let text = std::fs::read_to_string(output).unwrap();
    assert!(text.contains("INFO") && !text.contains('\x1b'), "{text}");
}
