//! The gateway as its users start it, in front of the soak's upstreams.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::client::Endpoint;
use crate::upstream::Upstream;
use crate::wire::Connection;

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    endpoint: Endpoint,
    admin: Endpoint,
}

/// How each upstream is configured: pinned to either era, and found out.
const PROTOCOLS: [&str; 3] = ["2026-07-28", "2025-11-25", "auto"];

impl Gateway {
    /// Starts it and waits until every upstream's tool is listed.
    pub(crate) async fn start(upstreams: &[Upstream]) -> Result<Self> {
        let mut settings = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nservers:\n".to_owned();
        for (upstream, protocol) in upstreams.iter().zip(PROTOCOLS) {
            let (name, address) = (upstream.name(), upstream.address());
            settings.push_str(&format!(
                "  {name}: {{ url: \"http://{address}/mcp\", protocol: \"{protocol}\" }}\n"
            ));
        }
        let file = std::env::temp_dir().join(format!("switchyard-soak-{}.yaml", std::process::id()));
        tokio::fs::write(&file, settings).await?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_switchyard"))
            .args(["serve".as_ref(), "-c".as_ref(), file.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("stdout was piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let (mut endpoint, mut admin) = (None, None);
        while endpoint.is_none() || admin.is_none() {
            let line =
                timeout(Duration::from_secs(20), lines.next_line()).await.context("silent for 20 s")??;
            let line = line.context("the gateway ended before it printed its addresses")?;
            match line.split_once(" http://") {
                Some(("endpoint", rest)) => endpoint = Some(Endpoint::parse(rest)?),
                Some(("admin", rest)) => admin = Some(Endpoint::parse(rest)?),
                _ => {}
            }
        }
        // What else it prints must not fill the pipe.
        tokio::task::spawn_local(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (endpoint, admin) = endpoint.zip(admin).context("both were printed")?;
        let gateway = Gateway { child, endpoint, admin };
        gateway.wait_for_tools(upstreams.len()).await?;
        // It has been read by now.
        tokio::fs::remove_file(&file).await?;
        Ok(gateway)
    }

    /// Where clients go.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its process.
    pub(crate) fn process(&self) -> Result<u32> {
        self.child.id().context("the gateway ended")
    }

    /// How many client sessions it holds.
    pub(crate) async fn sessions(&self) -> Result<usize> {
        Ok(self.inspect("sessions").await?.len())
    }

    /// Ends it as a service manager does; it has to end well.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let id = Pid::from_raw(i32::try_from(self.process()?)?).context("no process id")?;
        kill_process(id, Signal::TERM)?;
        let status =
            timeout(Duration::from_secs(40), self.child.wait()).await.context("it does not end")??;
        ensure!(status.success(), "the gateway ended with {status}");
        Ok(())
    }

    async fn wait_for_tools(&self, count: usize) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let tools = self.inspect("tools").await?;
            if tools.len() == count {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "after 20 s it lists {tools:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A list of the admin interface, bare or under its own name.
    async fn inspect(&self, what: &str) -> Result<Vec<Value>> {
        let Endpoint { address, .. } = self.admin;
        let mut connection = Connection::open(address).await?;
        let request = format!("GET /api/v1/{what} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        connection.send(request.as_bytes()).await?;
        let head = connection.head().await?.context("closed instead of answering")?;
        ensure!(head.status() == 200, "/api/v1/{what}: {}", head.first_line);
        let mut body = Vec::new();
        connection.body(&head, &mut body).await?;
        let mut answer: Value = serde_json::from_slice(&body)?;
        let list = if answer.is_array() { answer } else { answer[what].take() };
        match list {
            Value::Array(list) => Ok(list),
            other => anyhow::bail!("/api/v1/{what} is not a list: {other}"),
        }
    }
}
