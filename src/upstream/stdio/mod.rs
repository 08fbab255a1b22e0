//! Child processes that speak in lines on stdin and stdout.
//!
//! Owns the process tree of a stdio upstream from start to reaping, and the bounded queues towards and from it.
//! Always: memory per process is bounded whatever it writes; a process that ends, however, is told once and leaves
//! neither orphan nor zombie; nothing it does on stderr blocks it or us.
//! Not here: what the lines mean, restarts, who may call.
//!
//! On Linux the server's command is not started directly but below a warden, the gateway's own binary in
//! another role, because only a parent that outlives everything can clean up after programs that daemonise, and after
//! a gateway that was killed. Elsewhere the command leads its own process group: a stop reaches that group and no
//! further, limits are not enforced, and a killed gateway leaves to the child to notice that stdin has ended.

mod counts;
mod ended;
mod input;
mod keeper;
mod launch;
mod leader;
mod lines;
mod nesting;
mod output;
mod process;
mod report;
mod stderr;
#[cfg(target_os = "linux")]
mod warden;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::bounds::Bounds;
use crate::config::secret::Secret;
use crate::config::servers::StdioSettings;
use crate::names::UpstreamName;

pub use counts::Counts;
pub use ended::{EndReason, StartError};
pub use input::{LineSender, SendError};
pub use nesting::{TooDeep, check_depth};
pub use output::{Line, LineReceiver};
pub use process::{Process, ProcessControl, start};
#[cfg(target_os = "linux")]
pub use warden::run as run_warden;

/// First argument that makes the gateway's binary a warden.
pub const WARDEN_VERB: &str = "__warden";

/// Everything one process needs; nothing is defaulted later.
#[derive(Debug, Clone)]
pub struct ProcessSettings {
    /// Whose process it is: in logs only.
    pub name: UpstreamName,
    /// Program: a path, or a name looked up on the child's `PATH`.
    pub command: String,
    /// Its arguments.
    pub args: Vec<Secret>,
    /// Environment besides the allowlist; wins over it.
    pub env: BTreeMap<String, Secret>,
    /// Working directory; `None` is the gateway's.
    pub cwd: Option<PathBuf>,
    /// Longest line taken from stdout, bytes without the newline; also the most bytes of lines that wait to be received.
    pub line_limit: usize,
    /// Most bytes that wait to be written to stdin.
    pub stdin_queue: usize,
    /// A write to stdin that makes no progress for this long ends the process.
    pub write_stall: Duration,
    /// Staged stop: wait after closing stdin.
    pub stop_eof: Duration,
    /// Staged stop: wait after SIGTERM; then SIGKILL.
    pub stop_term: Duration,
    /// Resident memory of the whole tree, bytes; looked at every 500 ms.
    pub max_memory: Option<u64>,
    /// Processor time of each process of the tree, seconds.
    pub max_cpu_seconds: Option<u64>,
    /// Open files of each process of the tree.
    pub max_open_files: Option<u64>,
    /// Binary that stands over the process as its warden (it answers to [`WARDEN_VERB`]); `None` starts the command
    /// directly, without limits and without a hold on processes that leave its group.
    pub warden: Option<PathBuf>,
}

impl ProcessSettings {
    /// Settings of a configured server under the given bounds, with the default warden.
    pub fn new(name: UpstreamName, server: &StdioSettings, bounds: &Bounds) -> Self {
        ProcessSettings {
            name,
            command: server.command.clone(),
            args: server.args.clone(),
            env: server.env.clone(),
            cwd: server.cwd.clone(),
            line_limit: bounds.stdio_line,
            stdin_queue: bounds.stdin_queue,
            write_stall: bounds.write_stall,
            stop_eof: bounds.stop_eof,
            stop_term: bounds.stop_term,
            max_memory: server.max_memory,
            max_cpu_seconds: server.max_cpu_seconds,
            max_open_files: server.max_open_files,
            warden: default_warden(),
        }
    }
}

/// This very binary on Linux, even when its file has been replaced since; no warden elsewhere.
pub fn default_warden() -> Option<PathBuf> {
    cfg!(target_os = "linux").then(|| PathBuf::from("/proc/self/exe"))
}
