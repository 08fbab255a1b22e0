//! `servers` (or `mcpServers`): the upstreams, as clients' `mcp.json` writes them and more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

mod ask;
mod http;
mod stdio;
pub(super) mod written;

use super::bounds::Bounds;
use super::check::{Check, is_key, is_name_text, valid_key_like};
use super::names::NameSettings;
use super::secret::Secret;
use super::written::{At, Given, Table, given};
use crate::names::UpstreamName;
use crate::protocol::era::Revision;
pub use ask::AskSettings;
use written::{ProtocolWord, ServerType, WrittenServer};

/// Checked: one upstream MCP server.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The key in `servers`.
    pub name: UpstreamName,
    /// What people are shown as its name.
    pub title: String,
    /// How it is reached.
    pub transport: TransportSettings,
    /// Who shares one connection.
    pub share: Share,
    /// What it may ask of clients.
    pub ask: AskSettings,
    /// Whether calls tell it the name of the client behind them (S-LIFE-08).
    pub tell_client: bool,
    /// How far it is trusted.
    pub trust: Trust,
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
    /// Streamable HTTP, or HTTP+SSE.
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
    /// Stop a process that nobody used for this long.
    pub idle_stop: Duration,
    /// Resident memory of the whole process tree, bytes; `None` is unlimited.
    pub max_memory: Option<u64>,
    /// Processor time of each process, seconds; `None` is unlimited.
    pub max_cpu_seconds: Option<u64>,
    /// Open files of each process; `None` inherits.
    pub max_open_files: Option<u64>,
}

/// Who shares one connection of the handshake era: a child process or an HTTP session (S-STDIO-08, S-LIFE-07).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Share {
    /// One per client session (default).
    Session,
    /// One per principal and set of capabilities.
    Principal,
    /// One for all; the server can ask nothing then.
    All,
}

/// Whose a server is, and so what it is told beside the calls themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Of the same house: it gets what travels with a trace (S-EXT-02).
    Internal,
    /// Of somebody known.
    Vendor,
    /// Of anybody.
    Untrusted,
}

/// Checked: an HTTP endpoint.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Absolute `http` or `https` URL without fragment or user info.
    pub url: String,
    /// Fixed headers, names lower case; never a hop-by-hop or `mcp-*` one.
    pub headers: Vec<(String, Secret)>,
    /// HTTP+SSE of 2024-11-05 and nothing else; otherwise it is the last that is tried.
    pub sse: bool,
}

/// `protocol:` of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolChoice {
    /// Probe and remember (S-LIFE-14).
    Auto,
    /// This revision and no other.
    Pinned(Revision),
}

/// Checks all servers.
pub(super) fn check_all(
    written: Option<&At<Table<WrittenServer>>>,
    names: &NameSettings,
    bounds: &Bounds,
    check: &mut Check<'_>,
) -> Vec<ServerSettings> {
    let mut servers: Vec<ServerSettings> = Vec::new();
    for (name, written) in written.map(|written| written.value.0.as_slice()).unwrap_or_default() {
        check_key(name, check);
        let Given::Read(written) = written else { continue };
        let off = is_off(&written.value);
        let Some(server) = check.switched_off(off, |check| one(name, written, names, bounds, check)) else {
            continue;
        };
        let twin = servers.iter().find(|other| other.enabled && other.prefix == server.prefix);
        if let Some(twin) = twin.filter(|_| server.enabled) {
            let place = given(&written.value.prefix).map_or(&name.place, |prefix| &prefix.place);
            let message = match twin.prefix.as_str() {
                // Which of the two a name leads to would depend on which of them is up.
                "" => format!(
                    "server `{}` keeps its names already, which only one can; set a prefix",
                    twin.name
                ),
                prefix => {
                    format!("`{prefix}` is the prefix of server `{}` already; choose another", twin.name)
                }
            };
            check.conflict::<()>(place, message);
        }
        servers.push(server);
    }
    servers
}

fn check_key(name: &At<String>, check: &mut Check<'_>) {
    if !is_key(&name.value) {
        let like = valid_key_like(&name.value);
        check.bad::<()>(
            &name.place,
            format!("a server's key is 1 to 32 of `A-Z a-z 0-9 _ -`; write `{like}`"),
        );
    }
}

fn is_off(written: &WrittenServer) -> bool {
    given(&written.enabled).is_some_and(|enabled| !enabled.value)
        || given(&written.disabled).is_some_and(|disabled| disabled.value)
}

fn one(
    name: &At<String>,
    at: &At<WrittenServer>,
    names: &NameSettings,
    bounds: &Bounds,
    check: &mut Check<'_>,
) -> Option<ServerSettings> {
    let written = &at.value;
    if let (Some(_), Some(disabled)) = (&written.enabled, &written.disabled)
        && let Some(disabled) = disabled.read()
    {
        check.conflict::<()>(&disabled.place, "`enabled` and `disabled` say the same thing; keep one");
    }
    for (key, theirs) in [("alwaysAllow", &written.always_allow), ("autoApprove", &written.auto_approve)] {
        if let Some(theirs) = given(theirs) {
            check
                .problems
                .lint(&theirs.place, format!("`{key}` belongs to one client; the gateway ignores it"));
        }
    }
    let transport = transport(at, check);
    let share = given(&written.share).map_or(Share::Session, |share| share.value.0);
    let ask = AskSettings::check(&written.ask, written.command.is_some(), share, check);
    let title = title(name, written, check);
    let prefix = prefix(name, written, names, check);
    let timeout = timeout(written, bounds, check);
    Some(ServerSettings {
        name: UpstreamName::new(name.value.as_str()),
        title: title?,
        transport: transport?,
        share,
        ask,
        tell_client: given(&written.tell_client).is_some_and(|tell| tell.value),
        trust: given(&written.trust).map_or(Trust::Vendor, |trust| trust.value.0),
        protocol: given(&written.protocol)
            .map_or(ProtocolChoice::Auto, |protocol| protocol.value.0.revision()),
        prefix: prefix?,
        timeout: timeout?,
        enabled: !is_off(written),
    })
}

/// `command` xor `url`, in agreement with `type`.
fn transport(at: &At<WrittenServer>, check: &mut Check<'_>) -> Option<TransportSettings> {
    let written = &at.value;
    let declared = given(&written.server_type);
    match (&written.command, &written.url) {
        (Some(_), Some(url)) => {
            let place = url.read().map_or(&at.place, |url| &url.place);
            check.conflict(place, "a server has `command` or `url`, not both")
        }
        // Most likely the one that is missing.
        (None, None) if check.problems.has_unknown_key_below(&at.place) => None,
        (None, None) => {
            check.conflict(&at.place, "a server needs `command` (a program) or `url` (an endpoint)")
        }
        (Some(_), None) => {
            if let Some(declared) = declared.filter(|declared| declared.value.0 != ServerType::Stdio) {
                check.conflict::<()>(&declared.place, "this type needs `url`, but the server has `command`");
            }
            if let Some(protocol) = given(&written.protocol).filter(|at| at.value.0 == ProtocolWord::Sse) {
                check.conflict::<()>(&protocol.place, "`sse` needs `url`, but the server has `command`");
            }
            StdioSettings::check(written, check).map(TransportSettings::Stdio)
        }
        (None, Some(_)) => {
            if let Some(declared) = declared.filter(|declared| declared.value.0 == ServerType::Stdio) {
                check.conflict::<()>(&declared.place, "this type needs `command`, but the server has `url`");
            }
            HttpSettings::check(written, check).map(TransportSettings::Http)
        }
    }
}

/// The name for people, by default the key.
fn title(name: &At<String>, written: &WrittenServer, check: &mut Check<'_>) -> Option<String> {
    /// It stands before every question of the server.
    const LONGEST: usize = 64;
    let title = match &written.title {
        None => return Some(name.value.clone()),
        Some(title) => title.read()?,
    };
    let text = check.resolve(title)?;
    let length = text.chars().count();
    if text.trim().is_empty() || length > LONGEST || text.chars().any(char::is_control) {
        return check.bad(&title.place, format!("a title is one line of 1 to {LONGEST} characters"));
    }
    Some(text)
}

/// The prefix, with room for a shortened name behind it.
fn prefix(
    name: &At<String>,
    written: &WrittenServer,
    names: &NameSettings,
    check: &mut Check<'_>,
) -> Option<String> {
    /// Head, underscore and six digits of a shortened name (design: Names).
    const SHORTENED_NAME: usize = 8;
    let (prefix, place) = match &written.prefix {
        // Told already.
        None if !is_key(&name.value) => return Some(name.value.clone()),
        None => (name.value.clone(), &name.place),
        Some(Given::Reported) => return None,
        Some(Given::Read(prefix)) => (check.resolve(prefix)?, &prefix.place),
    };
    if !is_name_text(&prefix) {
        return check.bad(place, "a prefix has only the characters `A-Z a-z 0-9 _ -`");
    }
    let longest = 32.min(names.max_length.saturating_sub(names.separator.len() + SHORTENED_NAME));
    if prefix.len() > longest {
        let message = format!(
            "the prefix has {} characters, and names of {} leave room for {longest}; set a shorter `prefix`",
            prefix.len(),
            names.max_length
        );
        return check.bad(place, message);
    }
    Some(prefix)
}

fn timeout(written: &WrittenServer, bounds: &Bounds, check: &mut Check<'_>) -> Option<Duration> {
    let Some(timeout) = &written.timeout else { return Some(DEFAULT_TIMEOUT.min(bounds.call_maximum)) };
    let timeout = timeout.read()?;
    if timeout.value.0.is_zero() || timeout.value.0 > bounds.call_maximum {
        let maximum = bounds.call_maximum;
        return check.bad(
            &timeout.place,
            format!("expected more than 0 and at most `bounds.call_maximum` ({maximum:?})"),
        );
    }
    Some(timeout.value.0)
}

/// `timeout` when the file says nothing; `60s` in the schema.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
