//! `servers` as the file writes them: what clients' `mcp.json` has, and more.

use super::ask::WrittenAsk;
use super::{ProtocolChoice, Share, Trust};
use crate::config::quantity::{ByteSize, TimeSpan};
use crate::config::section::{choice, section};
use crate::config::written::{Given, Ignored, Table, Text};
use crate::protocol::era::Revision;

section! {
    /// One MCP server behind the gateway: a program (`command`) or an endpoint (`url`).
    struct WrittenServer {
        /// Transport, as clients write it. Not needed: `command` or `url` says it.
        "type" server_type: WrittenServerType,
        /// Program that speaks MCP on stdin and stdout: a name that is looked up on the `PATH`, or a path relative to the
        /// configuration file; `${exe}` is the gateway's own.
        "command" command: Text,
        /// Arguments of the program.
        "args" args: Vec<Given<Text>>,
        /// Environment of the program, besides `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`, `LANG`, `LC_ALL`, `TERM`,
        /// `TMPDIR` and `TZ`, which are the gateway's.
        "env" env: Table<Text>,
        /// Working directory of the program; relative to the configuration file. Default: the gateway's own.
        "cwd" cwd: Text,
        /// Who shares one process or session: each client session has its own, each principal, or all share one.
        #[schemars(extend("default" = "session"))]
        "share" share: WrittenShare,
        /// Stop a process that nobody used for this long.
        #[schemars(extend("default" = "5m"))]
        "idle_stop" idle_stop: TimeSpan,
        /// Resident memory of the whole process tree; unlimited when absent.
        "max_memory" max_memory: ByteSize,
        /// Processor time of each process, in seconds; unlimited when absent.
        "max_cpu_seconds" max_cpu_seconds: u64,
        /// Open files of each process; the gateway's own limit when absent.
        "max_open_files" max_open_files: u64,
        /// HTTP endpoint: streamable HTTP, or HTTP+SSE where a server has nothing newer.
        "url" url: Text,
        /// Headers sent with every request to `url`.
        "headers" headers: Table<Text>,
        /// Name that people are shown, by default the server's key.
        "title" title: Text,
        /// What it may ask of clients.
        "ask" ask: WrittenAsk,
        /// Whether calls tell it the name of the client behind them, in `_meta["switchyard/client"]`.
        #[schemars(extend("default" = false))]
        "tell_client" tell_client: bool,
        /// How far it is trusted: `internal` servers are told the W3C `baggage` that came with a call, others are not.
        #[schemars(extend("default" = "vendor"))]
        "trust" trust: WrittenTrust,
        /// Protocol revision: found out, or pinned; `sse` pins the HTTP+SSE transport of 2024-11-05.
        #[schemars(extend("default" = "auto"))]
        "protocol" protocol: WrittenProtocol,
        /// Prefix of public names, by default the server's key; `""` keeps the original names.
        "prefix" prefix: Text,
        /// Deadline of one call; progress may extend it up to `bounds.call_maximum`.
        #[schemars(extend("default" = "60s"))]
        "timeout" timeout: TimeSpan,
        /// `false` leaves the server out without deleting its entry.
        #[schemars(extend("default" = true))]
        "enabled" enabled: bool,
        /// The same, as some clients write it.
        #[schemars(extend("default" = false))]
        "disabled" disabled: bool,
        /// For people.
        "description" description: Ignored,
        /// Belongs to a client; ignored with a warning.
        "alwaysAllow" always_allow: Ignored,
        /// Belongs to a client; ignored with a warning.
        "autoApprove" auto_approve: Ignored,
    }
    not served: "auth";
    elsewhere:
        "serverUrl" => "write `url`",
        "httpUrl" => "write `url`",
        "envFile" => "name each variable in `env`, as `${env:NAME}` or `${file:path}`",
        "disabledTools" => "hide tools in a profile: `profiles.NAME.tools.deny`",
        "excludeTools" => "hide tools in a profile: `profiles.NAME.tools.deny`",
        "includeTools" => "choose tools in a profile: `profiles.NAME.tools.allow`",
        "tools" => "choose tools in a profile: `profiles.NAME.tools`",
        "oauth" => "signing in to servers is not served by this release; use `headers`";
}

/// `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum ServerType {
    Stdio,
    Http,
    Sse,
}

choice! {
    /// `type`, in the spellings that clients use.
    struct WrittenServerType(ServerType) {
        "stdio" => ServerType::Stdio,
        "http" => ServerType::Http,
        "streamable-http" => ServerType::Http,
        "streamableHttp" => ServerType::Http,
        "sse" => ServerType::Sse,
    }
}

choice! {
    /// `share`.
    struct WrittenShare(Share) {
        "session" => Share::Session,
        "principal" => Share::Principal,
        "all" => Share::All,
    }
}

choice! {
    /// `trust`.
    struct WrittenTrust(Trust) {
        "internal" => Trust::Internal,
        "vendor" => Trust::Vendor,
        "untrusted" => Trust::Untrusted,
    }
}

/// `protocol`: a revision, or the transport that is older than all that followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum ProtocolWord {
    Auto,
    Pinned(Revision),
    Sse,
}

impl ProtocolWord {
    pub(super) fn revision(self) -> ProtocolChoice {
        match self {
            ProtocolWord::Pinned(revision) => ProtocolChoice::Pinned(revision),
            ProtocolWord::Auto | ProtocolWord::Sse => ProtocolChoice::Auto,
        }
    }
}

choice! {
    /// `protocol`.
    struct WrittenProtocol(ProtocolWord) {
        "auto" => ProtocolWord::Auto,
        "2024-11-05" => ProtocolWord::Pinned(Revision::V2024_11_05),
        "2025-03-26" => ProtocolWord::Pinned(Revision::V2025_03_26),
        "2025-06-18" => ProtocolWord::Pinned(Revision::V2025_06_18),
        "2025-11-25" => ProtocolWord::Pinned(Revision::V2025_11_25),
        "2026-07-28" => ProtocolWord::Pinned(Revision::V2026_07_28),
        "sse" => ProtocolWord::Sse,
    }
}
