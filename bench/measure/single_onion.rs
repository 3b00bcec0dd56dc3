//! What is gained by not hiding? Downloads, and pages on fresh circuits, from a service
//! that hides and one that does not, and from C tor's two, in turn.

use anyhow::Result;

use super::visits;
use crate::network::client::Client;
use crate::network::origin::Origin;
use crate::network::{Network, SINGLE_ONION};
use crate::{LIMIT, RUNS, start, summary};

/// How many pages, each on a circuit of its own.
const PAGES: usize = 20;

/// One of the four.
struct Subject {
    name: &'static str,
    onion: String,
    megabytes_per_second: Vec<f64>,
    seconds: Vec<f64>,
}

/// Compares them on one network, in one run.
pub(crate) async fn compare(network: &Network, client: &Client, origin: &Origin) -> Result<()> {
    let plain = network.service("plain-hidden", origin.address).await?;
    let single = network.service_with("plain-single", origin.address, SINGLE_ONION, &[]).await?;
    let keys = format!("local_instances = 1\nproxy_ports = [['80', '{}']]", origin.address);
    let hidden = start(network, "hidden", &keys)?;
    let twice = "anonymity = 'not_anonymous'\nconfirm_not_anonymous = true";
    let located = start(network, "located", &format!("{keys}\n{twice}"))?;
    let mut subjects = Vec::new();
    for (name, daemon) in [("onionbraid", &hidden), ("onionbraid, single onion", &located)] {
        let status = daemon.until("ready", LIMIT, |snapshot| snapshot.ready).await?;
        subjects.push(Subject::new(name, &status.services[0].address));
    }
    subjects.push(Subject::new("C tor", plain.onion_address()));
    subjects.push(Subject::new("C tor, single onion", single.onion_address()));
    for round in 0..RUNS {
        for subject in &mut subjects {
            subject.download(client, round).await?;
        }
    }
    for page in 0..PAGES {
        for subject in &mut subjects {
            subject.page(client, page).await?;
        }
    }
    for subject in &mut subjects {
        println!("{}: 20 MiB {} MB/s", subject.name, summary(&mut subject.megabytes_per_second));
        println!("{}: page on a fresh circuit {} s", subject.name, summary(&mut subject.seconds));
    }
    let status = located.status().await?;
    let activity = &status.services[0].backends[0].activity;
    println!(
        "met by one hop: {} of {} clients; connected to {} relays",
        activity.rendezvous_direct, activity.rendezvous_succeeded, status.handles.direct_open
    );
    Ok(())
}

impl Subject {
    fn new(name: &'static str, onion: &str) -> Self {
        let (megabytes_per_second, seconds) = Default::default();
        Self { name, onion: onion.to_owned(), megabytes_per_second, seconds }
    }

    /// A download on a circuit that is there already.
    async fn download(&mut self, client: &Client, round: usize) -> Result<()> {
        let isolation = format!("single-{}-{round}", self.name);
        self.megabytes_per_second.push(visits::download(client, &isolation, &self.onion).await?);
        Ok(())
    }

    /// A page on a fresh circuit; the client has the descriptor.
    async fn page(&mut self, client: &Client, page: usize) -> Result<()> {
        let isolation = format!("single-page-{}-{page}", self.name);
        self.seconds.push(visits::page(client, &isolation, &self.onion).await?);
        Ok(())
    }
}
