//! A real Chromium without a window, steered through its debugging protocol: how
//! does a page look, and what keeps people from using it?
//!
//! The protocol is Chromium's own (JSON over a web socket on loopback), so no
//! driver is needed. Names are looked up nowhere: pages come from loopback.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64ct::{Base64, Encoding as _};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::fetch::eventually;
use super::process::{self, Process};

/// Far more than anything here needs.
const LIMIT: Duration = Duration::from_secs(120);

/// A browser; dropping it ends the process.
pub struct Browser {
    socket: WebSocketStream<TcpStream>,
    /// The number of the last command.
    number: u64,
    /// What the browser said beside its answers.
    events: Vec<Value>,
    process: Process,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The width of the window in pixels.
    pub width: u32,
    /// Whether the reader prefers dark pages.
    pub dark: bool,
}

/// A page that was loaded, with its scripts off.
pub struct Page<'a> {
    browser: &'a mut Browser,
    session: String,
}

impl Browser {
    /// Starts one with a profile of its own in a directory.
    pub async fn start(dir: &Path) -> Result<Browser> {
        Self::start_with(dir, &[]).await
    }

    /// The same with these arguments beside.
    pub async fn start_with(dir: &Path, arguments: &[&str]) -> Result<Browser> {
        let mut command = std::process::Command::new(
            process::program("chromium").context("on Debian: apt-get install chromium")?,
        );
        command.args([
            "--headless",
            "--remote-debugging-port=0",
            // Root has no sandbox, and the pages are ours.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--disable-sync",
            "--no-first-run",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]);
        command.arg(format!("--user-data-dir={}", dir.join("profile").display()));
        command.args(arguments).arg("about:blank").env("HOME", dir);
        let process = Process::spawn("chromium", &command, &dir.join("chromium.log"))?;
        let url = eventually(LIMIT, || async {
            ensure!(process.is_running(), "chromium ended:\n{}", process.log());
            let log = process.log();
            let url = log.lines().find_map(|line| line.strip_prefix("DevTools listening on "));
            url.map(str::to_owned).context("chromium does not listen")
        });
        let url = url.await?;
        let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next());
        let stream = TcpStream::connect(address.context("no address")?).await?;
        let (socket, _) = tokio_tungstenite::client_async(&url, stream).await?;
        Ok(Browser { socket, number: 0, events: Vec::new(), process })
    }

    /// Loads a page, and waits until it is there.
    pub async fn open(&mut self, url: &str, look: Look) -> Result<Page<'_>> {
        let context = self.call(None, "Target.createBrowserContext", json!({})).await?;
        let context = &context["browserContextId"];
        let target = json!({ "url": "about:blank", "browserContextId": context });
        let target = self.call(None, "Target.createTarget", target).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", attach).await?;
        let session = attached["sessionId"].as_str().context("no session")?.to_owned();
        let mut page = Page { browser: self, session };
        for domain in ["Page", "Network", "Log", "Runtime"] {
            page.call(&format!("{domain}.enable"), json!({})).await?;
        }
        let size = json!({
            "width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": false
        });
        page.call("Emulation.setDeviceMetricsOverride", size).await?;
        let scheme = if look.dark { "dark" } else { "light" };
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        page.call("Emulation.setEmulatedMedia", scheme).await?;
        page.call("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await?;
        page.browser.events.clear();
        page.call("Page.navigate", json!({ "url": url })).await?;
        page.loaded().await?;
        Ok(page)
    }

    /// Has the browser end.
    pub async fn close(mut self) -> Result<()> {
        self.call(None, "Browser.close", json!({})).await?;
        self.process.wait(LIMIT).await.map(drop)
    }

    async fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Result<Value> {
        self.number += 1;
        let number = self.number;
        let mut command = json!({ "id": number, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.socket.send(Message::text(command.to_string())).await?;
        loop {
            let message = self.next().await.with_context(|| format!("no answer to {method}"))?;
            if message["id"] == number {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].clone());
            }
            self.events.push(message);
        }
    }

    async fn next(&mut self) -> Result<Value> {
        loop {
            let message = tokio::time::timeout(LIMIT, self.socket.next()).await?;
            if let Message::Text(text) = message.context("chromium has gone")?? {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }
}

impl Page<'_> {
    /// A picture of the whole page, as a PNG.
    pub async fn picture(&mut self) -> Result<Vec<u8>> {
        let size = self.call("Page.getLayoutMetrics", json!({})).await?;
        let mut clip = size["cssContentSize"].clone();
        clip["scale"] = 1.into();
        let how = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = self.call("Page.captureScreenshot", how).await?;
        let picture = picture["data"].as_str().context("no picture")?;
        Base64::decode_vec(picture).map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// The value of an expression, which may be a promise. What the page itself
    /// would have executed stays undone.
    pub async fn evaluate(&mut self, expression: &str) -> Result<Value> {
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": false })).await?;
        let how = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.call("Runtime.evaluate", how).await?;
        if let Some(exception) = result.get("exceptionDetails") {
            bail!("{exception}");
        }
        Ok(result["result"]["value"].clone())
    }

    /// What was fetched for it, and what the browser complained of.
    pub fn fetched_and_complaints(&self) -> (Vec<String>, Vec<String>) {
        let of = |method: &str, pointer: &str| {
            let events = self.browser.events.iter().filter(|event| event["method"] == method);
            events
                .filter_map(|event| event.pointer(pointer)?.as_str().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let mut complaints = of("Log.entryAdded", "/params/entry/text");
        complaints.extend(of("Runtime.exceptionThrown", "/params/exceptionDetails/text"));
        (of("Network.requestWillBeSent", "/params/request/url"), complaints)
    }

    /// What came for it: each URL with the protocol and the state of its TLS.
    pub fn responses(&self) -> Vec<[String; 3]> {
        let events = &self.browser.events;
        let responses = events.iter().filter(|it| it["method"] == "Network.responseReceived");
        let text = |event: &Value, pointer: &str| {
            event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        responses
            .map(|event| {
                ["url", "protocol", "securityState"]
                    .map(|field| text(event, &format!("/params/response/{field}")))
            })
            .collect()
    }

    async fn loaded(&mut self) -> Result<()> {
        let is_load = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.browser.events.iter().any(is_load) {
            let event = self.browser.next().await?;
            self.browser.events.push(event);
        }
        Ok(())
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let session = self.session.clone();
        self.browser.call(Some(&session), method, params).await
    }
}
