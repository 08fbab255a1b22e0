//! Why a process could not be started, and why it ended.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

/// The process could not even be attempted. A command that cannot be run is [`EndReason::StartFailed`] instead,
/// because only the warden finds that out.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `cwd` is no directory.
    #[error("working directory not found: {}", .0.display())]
    WorkingDirectory(PathBuf),
    /// A command that was started directly, without warden, is not there or cannot be run.
    #[error("{0}")]
    Command(String),
    /// The warden's binary could not be started.
    #[error("warden {} cannot be started: {source}", warden.display())]
    Warden {
        /// The binary tried.
        warden: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a process ended; told once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", content = "detail", rename_all = "snake_case")]
pub enum EndReason {
    /// It left on its own with this code.
    Exited(i32),
    /// A signal ended it that was not ours.
    Signalled(i32),
    /// It wrote a line longer than this many bytes.
    LineTooLong(usize),
    /// It read nothing from stdin for longer than allowed.
    WriteStalled,
    /// It closed stdout and went on living.
    OutputClosed,
    /// Its tree held more resident memory than this many bytes.
    MemoryLimit(u64),
    /// It used up this many seconds of processor time.
    CpuLimit(u64),
    /// The command could not be run; the text says why.
    StartFailed(String),
    /// Its warden was killed, so what was left of the tree was killed as well.
    WardenLost,
    /// It was asked to stop.
    Stopped,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::Exited(code) => write!(f, "exited with code {code}"),
            EndReason::Signalled(signal) => write!(f, "killed by signal {signal}"),
            EndReason::LineTooLong(limit) => write!(f, "wrote a line longer than {limit} bytes"),
            EndReason::WriteStalled => f.write_str("stopped reading its stdin"),
            EndReason::OutputClosed => f.write_str("closed its stdout without exiting"),
            EndReason::MemoryLimit(limit) => write!(f, "used more memory than {limit} bytes"),
            EndReason::CpuLimit(seconds) => write!(f, "used more than {seconds} s of processor time"),
            EndReason::StartFailed(text) => f.write_str(text),
            EndReason::WardenLost => f.write_str("lost its warden"),
            EndReason::Stopped => f.write_str("stopped"),
        }
    }
}

/// Why a command could not be run, exactly enough to mend it. `path` is the `PATH` that was searched.
pub(super) fn cannot_run(command: &str, path: &str, error: &io::Error) -> String {
    let named_by_path = command.contains('/');
    match error.kind() {
        io::ErrorKind::NotFound if !named_by_path => format!("command not found: {command} (PATH is {path})"),
        // execve says "not found" too when the interpreter in a script's first line is missing.
        io::ErrorKind::NotFound if std::path::Path::new(command).exists() => {
            format!("command cannot be run: {command}: its interpreter is missing")
        }
        io::ErrorKind::NotFound => format!("command not found: {command}"),
        _ => format!("command cannot be run: {command}: {error}"),
    }
}
