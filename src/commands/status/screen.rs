//! `onionbraid status --watch` on a terminal: a screen of its own, three keys,
//! and only those lines written that have changed, so that a slow connection
//! keeps up.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Fuse, FusedFuture as _};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::clock::now;
use crate::commands::CommandFailure;
use crate::commands::ask::snapshot;
use crate::config::AdminListen;
use crate::observe::Snapshot;
use crate::observe::snapshot::Timestamp;
use crate::observe::watch::{SortOrder, View, screen};

/// How long a status is shown before the next one.
pub(super) const SHOWN: Duration = Duration::from_secs(2);

/// How it is watched.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// With whole addresses.
    pub verbose: bool,
}

/// A screen of its own, without a cursor; and back to what was there before.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Whether a terminal of this kind (`$TERM`) has a screen that can be written anywhere.
pub(super) fn is_possible(term: Option<&str>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Columns and rows; a terminal that does not say how large it is, as over a serial line,
/// is taken to be as they were.
fn size(columns: u16, rows: u16) -> (usize, usize) {
    match (columns, rows) {
        (0, _) | (_, 0) => (80, 24),
        (columns, rows) => (columns.into(), rows.into()),
    }
}

/// Shows the daemon until the operator has seen enough.
pub(super) async fn watch(admin: &AdminListen, watch: WatchOptions) -> Result<(), CommandFailure> {
    // A daemon that is not there is said where it can be read afterwards.
    let mut shown = Shown { snapshot: Ok(snapshot(admin).await?), at: Timestamp(now().wall) };
    // Listened for before the terminal is taken: none ends the process with it taken.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut ended = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut stopped = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut terminal = Terminal::enter()?;
    let mut keys = keys();
    let mut next = tokio::time::interval(SHOWN);
    // Beside the keys: a daemon may take its time while it is under attack.
    let mut asking = Fuse::<BoxFuture<'_, _>>::terminated();
    let (mut order, mut paused) = (SortOrder::default(), false);
    loop {
        terminal.show(&shown, order, watch.verbose, paused)?;
        tokio::select! {
            _ = next.tick(), if asking.is_terminated() && !paused => {
                asking = snapshot(admin).boxed().fuse();
            }
            asked = &mut asking => {
                let snapshot = asked.map_err(|failure| failure.text);
                shown = Shown { snapshot, at: Timestamp(now().wall) };
            }
            key = keys.recv() => match key {
                Some(b'q') | None => return Ok(()),
                Some(b'p') => paused = !paused,
                Some(b's') => order = order.next(),
                Some(_) => {}
            },
            _ = resized.recv() => terminal.forget()?,
            _ = stopped.recv() => terminal.stop()?,
            // The ways to end it, so no failure.
            _ = interrupted.recv() => return Ok(()),
            _ = ended.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
        }
    }
}

/// What was seen last, or why nothing was.
struct Shown {
    snapshot: Result<Snapshot, String>,
    at: Timestamp,
}

/// The terminal while this command has it.
struct Terminal {
    before: Termios,
    /// What is on the screen.
    lines: Vec<String>,
}

impl Terminal {
    /// Takes it: no line is edited, no key is echoed. Ctrl-C still interrupts.
    fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let terminal = Self { before, lines: Vec::new() };
        terminal.take()?;
        Ok(terminal)
    }

    fn take(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        write(ENTER)
    }

    fn give_back(&self) -> io::Result<()> {
        write(LEAVE)?;
        Ok(termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before)?)
    }

    /// Gives it back while the process is stopped (Ctrl-Z), and takes it again.
    fn stop(&mut self) -> io::Result<()> {
        self.give_back()?;
        kill_process(getpid(), Signal::STOP)?;
        self.lines.clear();
        self.take()
    }

    /// Shows a screen, by writing the lines that differ.
    fn show(
        &mut self,
        shown: &Shown,
        order: SortOrder,
        verbose: bool,
        paused: bool,
    ) -> io::Result<()> {
        let (columns, rows) = termios::tcgetwinsize(io::stdout())
            .map_or((80, 24), |found| size(found.ws_col, found.ws_row));
        let view = View { columns, rows, order, whole_addresses: verbose, paused };
        let lines = match &shown.snapshot {
            Ok(snapshot) => screen(snapshot, shown.at, &view),
            Err(text) => {
                let mut lines: Vec<_> =
                    text.lines().map(|line| line.chars().take(columns).collect()).collect();
                lines.resize(rows, String::new());
                lines
            }
        };
        let mut changed = String::new();
        for (row, line) in lines.iter().enumerate() {
            if self.lines.get(row) != Some(line) {
                changed.push_str(&format!("\x1b[{};1H{line}\x1b[K", row + 1));
            }
        }
        self.lines = lines;
        write(&changed)
    }

    /// The terminal has another size: everything is written again.
    fn forget(&mut self) -> io::Result<()> {
        self.lines.clear();
        write("\x1b[2J")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = self.give_back();
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The keys, as they are pressed. A thread of its own reads them, which ends with
/// the process: it waits in a system call that nothing interrupts.
fn keys() -> mpsc::Receiver<u8> {
    let (pressed, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        for key in io::stdin().lock().bytes() {
            let Ok(key) = key else { return };
            if pressed.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}
