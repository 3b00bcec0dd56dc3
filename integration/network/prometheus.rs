//! A real Prometheus that scrapes one daemon, and what it has found.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::Network;
use super::fetch::eventually;
use super::process::{self, Process};

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);

/// A Prometheus in a directory of its own.
pub struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts one that scrapes a daemon's metrics every second, with the alerts
    /// of a file, which fire at once instead of after minutes.
    pub async fn start(
        network: &Network,
        name: &str,
        scraped: SocketAddr,
        rules: &Path,
    ) -> Result<Prometheus> {
        let dir = network.scratch(name)?;
        let rules = std::fs::read_to_string(rules)?;
        let at_once = |line: &str| !line.trim_start().starts_with("for: ");
        let rules: Vec<&str> = rules.lines().filter(|line| at_once(line)).collect();
        std::fs::write(dir.join("rules.yml"), rules.join("\n"))?;
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n- job_name: onionbraid\n  static_configs: [{{ targets: ['{scraped}'] }}]\n"
        );
        std::fs::write(dir.join("prometheus.yml"), config)?;
        let address = network.free_address()?;
        let mut command = std::process::Command::new(process::program("prometheus")?);
        command
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::spawn(name, &command, &dir.join("prometheus.log"))?;
        let started = eventually(START, || async {
            ensure!(process.is_running(), "prometheus ended:\n{}", process.log());
            TcpStream::connect(address).await.map(drop).context("prometheus does not listen")
        });
        started.await?;
        Ok(Prometheus { address, _process: process })
    }

    /// The series that a query finds: their labels and their value.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>> {
        let parameter = format!("query={query}");
        let answer = self.get("query", &["--get", "--data-urlencode", &parameter]).await?;
        Ok(answer["result"].as_array().context("no result")?.clone())
    }

    /// The names of the alerts that fire.
    pub async fn firing(&self) -> Result<Vec<String>> {
        let answer = self.get("alerts", &[]).await?;
        let alerts = answer["alerts"].as_array().context("no alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        Ok(firing.filter_map(|it| Some(it["labels"]["alertname"].as_str()?.to_owned())).collect())
    }

    async fn get(&self, what: &str, arguments: &[&str]) -> Result<Value> {
        let url = format!("http://{}/api/v1/{what}", self.address);
        let mut curl = Command::new(process::program("curl")?);
        curl.args(["--silent", "--max-time", "10", "--noproxy", "*"]).args(arguments).arg(url);
        let output = curl.kill_on_drop(true).output().await?;
        let mut answer: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{what}: {}", String::from_utf8_lossy(&output.stdout)))?;
        ensure!(answer["status"] == "success", "{what} {arguments:?}: {answer}");
        Ok(answer["data"].take())
    }
}
