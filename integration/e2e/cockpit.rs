//! Is a flood of introductions seen in time, in every form in which operators look:
//! which limit it hits, and whether clients get through meanwhile?

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onionbraid::observe::Snapshot;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::frontend::{Frontend, PAGE, Prepared, program, service};
use crate::network;
use crate::network::fetch::{eventually, get};
use crate::network::origin::Origin;
use crate::network::process::read_lossy;

/// Generous: how long it took is printed.
const LIMIT: Duration = Duration::from_secs(180);

/// A flood has to be seen so soon; twice that, for a machine that does much else.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// Clients at a time, far more than are met in a second or may wait.
const CROWD: usize = 24;

/// `status --watch` on a terminal of 80 columns that script(1) makes.
struct Screen {
    _script: Child,
    log: std::path::PathBuf,
}

impl Screen {
    fn start(frontend: &Frontend, dir: &Path) -> Result<Screen> {
        let files = frontend.paths();
        let files: Vec<_> = files.iter().map(|file| format!("-c '{}'", file.display())).collect();
        let watch = format!(
            "stty cols 80 rows 40; exec timeout --foreground 600 '{}' status --watch {}",
            program().display(),
            files.join(" ")
        );
        let log = dir.join("screen.log");
        // Without script(1) the terminal is gone, and what runs on it ends.
        let mut command = Command::new("script");
        command.args(["-qfec", &watch, "/dev/null"]).kill_on_drop(true);
        command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(File::create(&log)?);
        Ok(Screen { _script: command.spawn()?, log })
    }

    /// All that it has shown, its lines in one.
    fn text(&self) -> String {
        let text = read_lossy(&self.log);
        let words = text.split("\x1b[").map(|part| match part.split_once('H') {
            Some((_, line)) => line,
            None => part.trim_start_matches('K'),
        });
        words.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// A page or the metrics, without markup.
async fn page(address: SocketAddr, path: &str) -> Result<String> {
    let stream = TcpStream::connect(address).await?;
    let page = get(stream, "localhost", path).await?;
    ensure!(page.status == 200, "{path}: {}", page.status);
    let text = page.text();
    let parts = text.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    Ok(parts.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_shows_within_seconds_which_limit_it_hits_and_that_clients_get_through() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let metrics = network.free_address().unwrap();
    // So low that a few dozen clients are a flood.
    let config = format!(
        "enable_pow = true\npow_rate = {{ rate = 1, burst = 1 }}\npow_rend_queue_depth = 4\n\
         proxy_ports = [['80', '{}']]\n[metrics]\nprometheus.listen = '{metrics}'\n",
        origin.address
    );
    let prepared = Prepared::new(network, "cockpit").unwrap();
    let dir = prepared.dir().to_owned();
    let frontend = prepared.start(&config).unwrap();
    let admin: SocketAddr = frontend.admin().parse().unwrap();
    let onion = frontend.address().await.unwrap();
    frontend.ready().await.unwrap();
    let crowd = network.client("crowd-of-cockpit").await.unwrap();
    let honest = network.client("visitor-of-cockpit").await.unwrap();
    eventually(LIMIT, || honest.get("calm", &onion, "/", PAGE)).await.unwrap();
    let calm = page(admin, "/").await.unwrap();
    assert!(calm.contains("Nothing is wrong that onionbraid knows of."), "{calm}");
    let screen = Screen::start(&frontend, &dir).unwrap();

    let attacked = AtomicBool::new(true);
    let flood = async {
        let client = |number: usize| {
            let (crowd, onion, attacked) = (&crowd, &onion, &attacked);
            async move {
                let mut visit = 0;
                while attacked.load(Ordering::Relaxed) {
                    let isolation = format!("crowd-{number}-{visit}");
                    let _ = crowd.get(&isolation, onion, "/", Duration::from_secs(10)).await;
                    visit += 1;
                }
            }
        };
        futures::future::join_all((0..CROWD).map(client)).await;
    };
    let observed = async {
        let observed = observe(&frontend, admin, metrics, &screen).await;
        let visit = eventually(LIMIT, || honest.get("attacked", &onion, "/", PAGE)).await;
        let through = eventually(LIMIT, || async {
            let page = page(admin, "/services/shop").await?;
            ensure!(page.contains("clients get through: "), "{page}");
            Ok(page)
        });
        let through = through.await;
        attacked.store(false, Ordering::Relaxed);
        (observed, visit, through)
    };
    let ((), (observed, visit, through)) = tokio::join!(flood, observed);
    println!("{}", observed.unwrap().join("\n"));
    assert_eq!(visit.unwrap().text(), "the origin\n");
    through.unwrap();

    // When it is over, that is seen as well.
    let over = |snapshot: &Snapshot| service(snapshot).load.dropped_by_per_s.is_empty();
    frontend.daemon.until("calm", LIMIT, over).await.unwrap();
}

/// Waits for the first drop, and then for each form to show it; how long that took.
async fn observe(
    frontend: &Frontend,
    admin: SocketAddr,
    metrics: SocketAddr,
    screen: &Screen,
) -> Result<[String; 5]> {
    let dropping = |snapshot: &Snapshot| {
        let dropped = &service(snapshot).backends[0].activity.introductions_dropped_by;
        dropped.get("work").is_some_and(|count| *count > 0)
    };
    frontend.daemon.until("dropping", LIMIT, dropping).await?;
    let began = Instant::now();
    let shown = async |form: &str, text: &dyn Fn(String) -> bool| -> Result<String> {
        let seen = eventually(2 * SEEN_WITHIN, || async {
            let shown = match form {
                "the page" => page(admin, "/").await?,
                "the page of the service" => page(admin, "/services/shop").await?,
                "metrics" => page(metrics, "/metrics").await?,
                "the screen" => screen.text(),
                _ => frontend.daemon.status_text().await?,
            };
            ensure!(text(shown.clone()), "{shown}");
            Ok(())
        });
        seen.await.with_context(|| format!("{form} does not show it"))?;
        Ok(format!("{form} shows it {:.1?} after the first drop", began.elapsed()))
    };
    let in_words = |text: String| {
        let who = ["clients get through: ", "none opens a stream", "no client gets through"];
        text.contains("(limit `work`)") && who.iter().any(|words| text.contains(words))
    };
    let counted = |text: String| {
        let dropped = "onionbraid_introductions_dropped_total{service=\"shop\",backend=\"local-0\",\
                       reason=\"work\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(dropped)?.parse::<u64>().ok());
        value.is_some_and(|value| value > 0)
            && text.contains("onionbraid_rendezvous_succeeded_total{service=\"shop\"")
            && text.contains("onionbraid_pow_queue_requests_limit{service=\"shop\"} 4")
    };
    let (page, of_service, screen, status, metrics) = tokio::try_join!(
        shown("the page", &in_words),
        shown("the page of the service", &in_words),
        shown("the screen", &in_words),
        shown("status", &in_words),
        shown("metrics", &counted),
    )?;
    Ok([page, of_service, screen, status, metrics])
}
