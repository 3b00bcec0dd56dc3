//! What does it cost that the daemon can be looked into: the renderings of many
//! services, the ring that rates come from, and the watchdog?

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use onionbraid::observe::load::{self, Past, Totals};
use onionbraid::observe::page::{self, Refresh};
use onionbraid::observe::snapshot::{Service, Timestamp};
use onionbraid::observe::{Snapshot, metrics};

use crate::network::Network;
use crate::network::daemon::{Daemon, built_program};
use crate::{LIMIT, summary};

/// How many services there are.
const SERVICES: [usize; 3] = [1, 10, 100];

/// How often each figure is taken.
const RUNS: usize = 50;

/// For how long an idle daemon is watched.
const IDLE: Duration = Duration::from_secs(60);

/// A busy day of a service with two local instances, a backend elsewhere and two
/// origins.
const SNAPSHOT: &str = include_str!("../../integration/e2e/accessibility/calm.json");

/// A daemon with so many services.
fn snapshot(count: usize) -> Result<Snapshot> {
    let snapshot: Snapshot = serde_json::from_str(SNAPSHOT)?;
    let shop = snapshot.services.iter().find(|it| it.nickname == "shop").context("no shop")?;
    let service = |n| Service { nickname: format!("shop-{n}"), ..shop.clone() };
    Ok(Snapshot { services: (0..count).map(service).collect(), ..snapshot })
}

/// Milliseconds that something takes, again and again.
fn times(mut work: impl FnMut()) -> String {
    let mut times: Vec<_> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    summary(&mut times)
}

/// The time and the length of each rendering, and what the ring takes.
pub(crate) fn renderings() -> Result<()> {
    let now = Timestamp(SystemTime::now());
    for count in SERVICES {
        let snapshot = snapshot(count)?;
        let text = metrics::render(snapshot.clone(), now)?;
        let taken = times(|| drop(metrics::render(snapshot.clone(), now)));
        println!("{count} services: metrics {} KiB in {taken} ms", text.len() / 1024);
        let page = page::overview(&snapshot, now, Refresh::Itself).len() / 1024;
        let taken = times(|| drop(page::overview(&snapshot, now, Refresh::Itself)));
        println!("{count} services: the page {page} KiB in {taken} ms");

        let mut pasts = vec![Past::default(); count];
        let mut at = Instant::now();
        let looking = |pasts: &mut Vec<Past>| {
            at += load::EVERY;
            for (past, service) in pasts.iter_mut().zip(&snapshot.services) {
                let activities = service.backends.iter().map(|backend| &backend.activity);
                past.remember(Totals::of(activities, service.http.as_ref()), at);
            }
        };
        let mut looking = looking;
        let began = Instant::now();
        for _ in 0..RUNS {
            looking(&mut pasts);
        }
        let each = began.elapsed().as_secs_f64() / RUNS as f64;
        println!(
            "{count} services: the ring {:.3} ms every {:?}, {:.4} % of a core",
            each * 1000.0,
            load::EVERY,
            100.0 * each / load::EVERY.as_secs_f64()
        );
    }
    Ok(())
}

/// The processor that a daemon takes that does nothing: its only relay is where
/// nobody listens, so what Tor does is next to nothing. Without a service manager,
/// and with one whose watchdog wants to be fed every 15 s.
pub(crate) async fn idle(network: &Network) -> Result<()> {
    for count in SERVICES {
        let mut shares = Vec::new();
        for watched in [false, true] {
            let dir = network.scratch(&format!("cockpit-{count}-{watched}"))?;
            let mut text = String::new();
            for n in 0..count {
                text += &format!("[onion_services.\"s{n}\"]\nproxy_ports = [['80', 'reject']]\n");
            }
            let place = dir.display();
            text += &format!(
                "[admin]\nlisten = 'unix:{place}/admin.sock'\n[storage]\nstate_dir = '{place}/state'\n\
                 cache_dir = '{place}/cache'\n[tor_network]\nfallback_caches = [{{ rsa_identity = \
                 '911F7C74212214823DDBDE3044B5B1AF3EFB98A0', ed_identity = \
                 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', orports = ['127.0.0.1:1'] }}]\n"
            );
            let config = dir.join("onionbraid.toml");
            fs::write(&config, text)?;
            let manager = UnixDatagram::bind(dir.join("notify"))?;
            manager.set_read_timeout(Some(Duration::from_secs(1)))?;
            let script = dir.join("run");
            let told = format!("export NOTIFY_SOCKET='{place}/notify' WATCHDOG_USEC=30000000\n");
            let told = if watched { told } else { String::new() };
            let program = built_program()?;
            fs::write(&script, format!("#!/bin/sh\n{told}exec '{}' \"$@\"\n", program.display()))?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
            let daemon = Daemon::start(&script, &[&config], &dir.join("log"))?;
            daemon.until("answering", LIMIT, |it| it.services.len() == count).await?;
            // What a start takes is over, and Tor tries seldom.
            drain(&manager, Duration::from_secs(30));
            let (busy, began) = (nanoseconds(daemon.process.pid())?, Instant::now());
            drain(&manager, IDLE);
            let busy = nanoseconds(daemon.process.pid())?.saturating_sub(busy);
            shares.push(100.0 * busy as f64 / began.elapsed().as_nanos() as f64);
        }
        println!(
            "{count} services, idle: {:.3} % of a core, with a watchdog {:.3} %",
            shares[0], shares[1]
        );
    }
    Ok(())
}

/// Reads what a service manager is told, for so long.
fn drain(manager: &UnixDatagram, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        let _ = manager.recv(&mut [0; 4096]);
    }
}

/// The processor time of all threads of a process so far.
fn nanoseconds(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().context("no time")?.parse::<u64>()?;
    }
    Ok(sum)
}
