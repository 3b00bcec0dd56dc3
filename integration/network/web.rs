//! Which real web servers stand behind the reverse proxy in tests?
//!
//! nginx with files of the test's, and an application server (Python, aiohttp)
//! for WebSockets, server-sent events and uploads. Both end with their value.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;

use super::Network;
use super::process::{Process, program, tail};

/// How long a server may take until it listens, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A web server; dropping it ends the process.
#[derive(Debug)]
pub struct WebServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process: to be frozen or killed.
    pub process: Process,
}

/// An nginx that serves the files below `files`.
pub async fn nginx(network: &Network, name: &str, files: &Path) -> Result<WebServer> {
    let (dir, address) = (network.scratch(name)?, network.free_address()?);
    let text = format!(
        "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log stderr;\n\
         events {{}}\n\
         http {{\n access_log off;\n default_type application/octet-stream;\n\
         types {{ text/html html; text/css css; }}\n\
         client_body_temp_path {0}/body;\n proxy_temp_path {0}/proxy;\n\
         fastcgi_temp_path {0}/fastcgi;\n uwsgi_temp_path {0}/uwsgi;\n scgi_temp_path {0}/scgi;\n\
         server {{ listen {address}; root {1}; }}\n}}\n",
        dir.display(),
        files.display()
    );
    let config = dir.join("nginx.conf");
    fs::write(&config, text)?;
    let mut command = Command::new(program("nginx")?);
    command.arg("-c").arg(&config).arg("-p").arg(&dir).args(["-e", "stderr"]);
    start(name, &command, &dir, address).await
}

/// The application server of `application.py`.
pub async fn application(network: &Network, name: &str) -> Result<WebServer> {
    let (dir, address) = (network.scratch(name)?, network.free_address()?);
    let script = dir.join("application.py");
    fs::write(&script, include_str!("application.py"))?;
    // Debian's own Python, for which the package installs aiohttp.
    let mut command = Command::new(PathBuf::from("/usr/bin/python3"));
    command.arg(&script).arg(address.port().to_string());
    start(name, &command, &dir, address).await
}

async fn start(
    name: &str,
    command: &Command,
    dir: &Path,
    address: SocketAddr,
) -> Result<WebServer> {
    let process = Process::spawn(name, command, &dir.join("log"))?;
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            if !process.is_running() {
                bail!("{name} has ended:\n{}", tail(&process.log(), 15));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(START_LIMIT, listening)
        .await
        .with_context(|| format!("{name} does not listen"))??;
    Ok(WebServer { address, process })
}
