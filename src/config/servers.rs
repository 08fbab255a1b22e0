//! `servers` (or `mcpServers`): the upstreams, as clients' `mcp.json` writes them and more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;
use crate::names::UpstreamName;
use crate::protocol::era::Revision;

/// Checked: one upstream MCP server.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The key in `servers`.
    pub name: UpstreamName,
    /// How it is reached.
    pub transport: TransportSettings,
    /// Era and revision: found out, or pinned.
    pub protocol: ProtocolChoice,
    /// Prefix of public names; `""` shows original names.
    pub prefix: String,
    /// Deadline of one call; progress may extend it up to `bounds.call_maximum`.
    pub timeout: Duration,
    /// `false` leaves the server out without deleting its entry (`enabled: false` or `disabled: true`).
    pub enabled: bool,
}

/// Checked: stdio or HTTP.
#[derive(Debug, Clone)]
pub enum TransportSettings {
    /// A child process that speaks MCP on stdin and stdout.
    Stdio(StdioSettings),
    /// Streamable HTTP.
    Http(HttpSettings),
}

/// Checked: a child process.
#[derive(Debug, Clone)]
pub struct StdioSettings {
    /// Program; `${exe}` has become the gateway's own binary.
    pub command: String,
    /// Arguments, references resolved.
    pub args: Vec<Secret>,
    /// Environment besides the allowlist (S-STDIO-09).
    pub env: BTreeMap<String, Secret>,
    /// Working directory; default: the gateway's.
    pub cwd: Option<PathBuf>,
    /// Who shares one process.
    pub share: Share,
    /// Stop a process that nobody used for this long.
    pub idle_stop: Duration,
    /// Resident memory of the whole process tree, bytes; `None` is unlimited.
    pub max_memory: Option<u64>,
    /// Processor time of each process, seconds; `None` is unlimited.
    pub max_cpu_seconds: Option<u64>,
    /// Open files of each process; `None` inherits.
    pub max_open_files: Option<u64>,
}

/// Who shares one child process (S-STDIO-08).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Share {
    /// One process per client session (default).
    Session,
    /// One per principal.
    Principal,
    /// One for all; no server-initiated requests then.
    All,
}

/// Checked: a streamable HTTP endpoint.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Absolute `http` or `https` URL without fragment or user info.
    pub url: String,
    /// Fixed headers, names lower case; never a hop-by-hop or `mcp-*` one.
    pub headers: Vec<(String, Secret)>,
}

/// `protocol:` of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolChoice {
    /// Probe and remember (S-LIFE-14).
    Auto,
    /// This revision and no other.
    Pinned(Revision),
}
