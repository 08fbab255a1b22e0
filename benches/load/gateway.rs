//! The gateway under measurement: the release binary, started as its users start it.
//!
//! Always: black box. Only the configuration, the printed addresses and the endpoint are used; it ends when dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::caller::{Caller, Era, Target};
use crate::process::ProcessTree;
use crate::scratch::Scratch;

/// As many tools as there are.
pub(crate) const SOME: usize = usize::MAX;

/// One entry of `servers`.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Its key, and so the prefix of its tools.
    pub(crate) name: String,
    /// How it is reached, as the configuration says it.
    pub(crate) reached: String,
    /// The revision it is pinned to.
    pub(crate) revision: &'static str,
}

impl Server {
    /// A server of the fast upstream with that many tools; `number` keeps servers apart.
    pub(crate) fn new(
        name: &str,
        upstream: SocketAddr,
        tools: usize,
        number: usize,
        revision: &'static str,
    ) -> Self {
        let reached = format!("url: \"http://{upstream}/{tools}/{number}/mcp\"");
        Server { name: name.to_owned(), reached, revision }
    }

    /// The demo server, a child of the gateway.
    pub(crate) fn demo(name: &str, revision: &'static str) -> Self {
        let reached = "command: \"${exe}\", args: [demo-server]".to_owned();
        Server { name: name.to_owned(), reached, revision }
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    child: Child,
    /// Its endpoint.
    pub(crate) target: Target,
    /// The process.
    pub(crate) process: ProcessTree,
    _directory: Scratch,
}

impl Gateway {
    /// Starts `program` in front of `servers`, and waits until `tools` tools are listed.
    pub(crate) async fn start(program: &Path, servers: &[Server], tools: usize) -> Result<Self> {
        Gateway::start_under(&[], program, servers, tools).await
    }

    /// The same, run by another command such as an instrument.
    pub(crate) async fn start_under(
        wrapper: &[String],
        program: &Path,
        servers: &[Server],
        tools: usize,
    ) -> Result<Self> {
        let directory = Scratch::new("gateway")?;
        let settings = directory.path().join("gateway.yaml");
        let log = directory.path().join("log");
        tokio::fs::write(&settings, configuration(servers)).await?;
        let mut words: Vec<PathBuf> = wrapper.iter().map(PathBuf::from).collect();
        words.extend([program.to_owned(), "serve".into(), "-c".into(), settings]);
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("starting {}", words[0].display()))?;
        match ready(&mut child, tools).await {
            Ok((target, process)) => Ok(Gateway { child, target, process, _directory: directory }),
            Err(error) => {
                terminate(&child);
                let log = tokio::fs::read_to_string(&log).await.unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                Err(error.context(format!("the gateway did not serve; its last lines: {tail:?}")))
            }
        }
    }

    /// Asks it to end, as a service manager does, and waits for it.
    pub(crate) async fn stop(mut self) -> Result<ExitStatus> {
        terminate(&self.child);
        Ok(timeout(Duration::from_secs(60), self.child.wait()).await.context("the gateway did not end")??)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        terminate(&self.child);
    }
}

/// Sends SIGTERM, unless the process has been waited for.
pub(crate) fn terminate(child: &Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // It may have ended by itself in the meantime.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
}

fn configuration(servers: &[Server]) -> String {
    let mut text = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nservers:\n".to_owned();
    for Server { name, reached, revision } in servers {
        text.push_str(&format!("  {name}: {{ {reached}, protocol: \"{revision}\" }}\n"));
    }
    text
}

async fn ready(child: &mut Child, tools: usize) -> Result<(Target, ProcessTree)> {
    let mut lines = BufReader::new(child.stdout.take().context("stdout was piped")?).lines();
    // Generous, because an instrument makes the start many times slower.
    let deadline = Instant::now() + Duration::from_secs(60);
    let endpoint = loop {
        let line =
            timeout(deadline - Instant::now(), lines.next_line()).await.context("no endpoint in 60 s")??;
        let line = line.context("it ended before it printed its endpoint")?;
        if let Some(endpoint) = line.strip_prefix("endpoint http://") {
            break endpoint.to_owned();
        }
    };
    // What else it prints must not fill the pipe.
    tokio::task::spawn_local(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let (address, path) = endpoint.split_once('/').context("endpoint without path")?;
    let target = Target { address: address.parse()?, path: format!("/{path}") };
    loop {
        let mut caller = Caller::open(&target, Era::Stateless, 0).await?;
        let listed = caller.list().await?.0.len();
        if listed == tools || (tools == SOME && listed > 0) {
            break;
        }
        ensure!(listed < tools, "{listed} tools are listed instead of {tools}");
        if Instant::now() > deadline {
            bail!("only {listed} of {tools} tools are listed after 60 s");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let process = ProcessTree::of(child.id().context("it ended")?)?;
    Ok((target, process))
}
