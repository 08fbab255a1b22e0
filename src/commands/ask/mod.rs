//! `servers`, `tools`, `tasks`, `call`: ask a running gateway, over the same listeners that everybody uses.
//!
//! Owns where that gateway is found. Always: a file is read for the addresses alone, so that whoever looks needs none of
//! the secrets that the gateway was started with. Not here: what is asked (`inspect`, `tasks`, `call`), the client (`client`).

mod call;
mod client;
mod inspect;
mod tasks;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use http::header::HeaderMap;

pub(super) use call::{Arguments as CallArguments, run as call};
pub(super) use inspect::{Arguments as ServersArguments, ToolsArguments, servers, tools};
pub(super) use tasks::{Arguments as TasksArguments, run as tasks};

use crate::config::{self, listen::Listeners};
use crate::upstream::http::{HttpLimits, HttpTarget};

const LIMITS: HttpLimits = HttpLimits { result: 64 * 1024 * 1024, connect: Duration::from_secs(5) };

/// Where a gateway's admin listener is.
#[derive(Debug, Args)]
struct AdminAddress {
    /// The configuration that the gateway runs with; only `admin` is read
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// The gateway's admin address, for example http://127.0.0.1:9090; no configuration is read then
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    admin: Option<String>,
}

impl AdminAddress {
    fn url(&self) -> anyhow::Result<String> {
        if let Some(url) = &self.admin {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let listeners = listeners(&self.config, "--admin")?;
        let admin =
            listeners.admin.context("the configuration has `admin: off`, and nobody can look then")?;
        reachable(admin, "--admin")
    }
}

/// Where a gateway's MCP endpoint is.
#[derive(Debug, Args)]
struct EndpointAddress {
    /// The configuration that the gateway runs with; only `listen` is read
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// The gateway's endpoint, for example http://127.0.0.1:8080/mcp; no configuration is read then
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
}

impl EndpointAddress {
    fn url(&self) -> anyhow::Result<String> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let listeners = listeners(&self.config, "--url")?;
        Ok(format!("{}/mcp", reachable(listeners.data, "--url")?))
    }
}

fn listeners(file: &Path, instead: &str) -> anyhow::Result<Listeners> {
    config::read_listeners(file)
        .map_err(|problems| anyhow::anyhow!("{problems}\nwithout a configuration, say `{instead} URL`"))
}

/// An address that means "all" is reached at loopback; one that is not known before it is taken cannot be.
fn reachable(address: SocketAddr, instead: &str) -> anyhow::Result<String> {
    ensure!(address.port() != 0, "the configuration takes a free port; say which with `{instead} URL`");
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(format!("http://{}", SocketAddr::new(ip, address.port())))
}

fn target(url: &str) -> anyhow::Result<HttpTarget> {
    let uri = url.parse().map_err(|_| anyhow::anyhow!("{url} is not a URL"))?;
    HttpTarget::new(&uri, HeaderMap::new()).with_context(|| url.to_owned())
}

/// Runs one errand on a runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(work)
}
