//! nginx as the plain reverse proxy to compare with: keep-alive towards the upstream, one worker per core, no logs.
//!
//! Always: it runs from a temporary prefix of its own, listens on loopback alone, and ends when dropped.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::process::ProcessTree;
use crate::scratch::Scratch;

/// A running nginx.
pub(crate) struct Nginx {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Master and workers.
    pub(crate) process: ProcessTree,
    /// First line of `nginx -v`.
    pub(crate) version: String,
    _prefix: Scratch,
}

impl Nginx {
    /// Starts it in front of `upstream`; `/static` serves `file`.
    pub(crate) async fn start(upstream: SocketAddr, workers: usize, file: &[u8]) -> Result<Self> {
        let version = version().await?;
        let prefix = Scratch::new("nginx")?;
        tokio::fs::write(prefix.path().join("static"), file).await?;
        // The port is free when looked for, but another process may take it before nginx does.
        let mut last = None;
        for _ in 0..3 {
            let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
            let configuration = configuration(prefix.path(), address, upstream, workers);
            tokio::fs::write(prefix.path().join("nginx.conf"), configuration).await?;
            match spawn(prefix.path(), address, workers).await {
                Ok((child, process)) => {
                    return Ok(Nginx { child, address, process, version, _prefix: prefix });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("nginx did not start")))
    }
}

impl Drop for Nginx {
    /// Asks the master to stop, which stops the workers; killing it would leave them behind.
    fn drop(&mut self) {
        crate::gateway::terminate(&self.child);
    }
}

async fn version() -> Result<String> {
    let output = Command::new("nginx").arg("-v").output().await.context("nginx is not installed")?;
    let text = String::from_utf8_lossy(&output.stderr);
    Ok(text.lines().next().unwrap_or_default().trim_start_matches("nginx version: ").to_owned())
}

async fn spawn(prefix: &Path, address: SocketAddr, workers: usize) -> Result<(Child, ProcessTree)> {
    let mut child = Command::new("nginx")
        .arg("-p")
        .arg(prefix)
        .arg("-c")
        .arg(prefix.join("nginx.conf"))
        // Where a log goes before the configuration is read; the default place may not be ours to write.
        .arg("-e")
        .arg(prefix.join("error.log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            let log = tokio::fs::read_to_string(prefix.join("error.log")).await.unwrap_or_default();
            bail!("nginx ended with {status}: {log}");
        }
        // The master listens before it has its workers, whose processor time is the one that counts.
        let process = ProcessTree::of(child.id().context("nginx ended")?)?;
        if process.len() > workers && tokio::net::TcpStream::connect(address).await.is_ok() {
            return Ok((child, process));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    crate::gateway::terminate(&child);
    bail!("nginx did not listen within 5 s")
}

fn configuration(prefix: &Path, address: SocketAddr, upstream: SocketAddr, workers: usize) -> String {
    let prefix = prefix.display();
    // As root, workers would drop to a user that cannot read the prefix.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        r"{user}
daemon off;
worker_processes {workers};
pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_max_body_size 4m;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    upstream mcp {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://mcp;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
        }}
        location = /static {{
            root {prefix};
            open_file_cache max=8;
        }}
        location = /copied/static {{
            alias {prefix}/static;
            open_file_cache max=8;
            sendfile off;
        }}
    }}
}}
"
    )
}
