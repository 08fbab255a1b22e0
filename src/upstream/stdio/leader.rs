//! The one process the gateway started, and through it the tree below: waited for, asked to end, made to end.
//!
//! Always: signals go out only while the process is not yet reaped, so its pid cannot belong to anybody else; a leader
//! that is dropped alive ends its tree.

use std::io;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

/// What stands at the head of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A warden: it passes SIGTERM on, counts the time itself, and leaves nothing behind.
    Warden,
    /// The command itself, in a group of its own.
    Direct,
}

/// The head of a process tree.
#[derive(Debug)]
pub(super) struct Leader {
    child: Child,
    kind: Kind,
    pid: Option<Pid>,
}

impl Leader {
    /// A warden was started.
    #[cfg(target_os = "linux")]
    pub(super) fn warden(child: Child) -> Self {
        Leader::new(child, Kind::Warden)
    }

    /// The command was started in its own group.
    pub(super) fn direct(child: Child) -> Self {
        Leader::new(child, Kind::Direct)
    }

    fn new(child: Child, kind: Kind) -> Self {
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Leader { child, kind, pid }
    }

    /// The pid, also after the end.
    pub(super) fn pid(&self) -> u32 {
        self.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Whether a warden leads.
    pub(super) fn is_warden(&self) -> bool {
        self.kind == Kind::Warden
    }

    /// The three pipes. Once.
    pub(super) fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout, ChildStderr)> {
        Some((self.child.stdin.take()?, self.child.stdout.take()?, self.child.stderr.take()?))
    }

    /// Waits for the end and reaps. Cancel safe, and may be repeated.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks the tree to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
        // A stopped process cannot act on SIGTERM.
        self.signal(Signal::CONT);
    }

    /// Ends the leader, and its group when it is the command itself. What a warden leaves behind when it is killed is
    /// for [`sweep`].
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid else { return };
        let alive = self.child.id().is_some();
        // Failure means that nobody is left to be signalled.
        let _ = match self.kind {
            Kind::Warden if alive => kill_process(pid, signal),
            Kind::Warden => Ok(()),
            // The group may outlive its leader, and then still holds its number.
            Kind::Direct => kill_process_group(pid, signal),
        };
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        match self.kind {
            Kind::Warden => self.terminate(),
            Kind::Direct if self.child.id().is_some() => self.kill(),
            Kind::Direct => {}
        }
    }
}

/// Kills what a lost warden left behind: it led a session, and whatever did not leave that session is found by it.
#[cfg(target_os = "linux")]
pub(super) async fn sweep(session: u32) {
    // Reading /proc blocks, if only for a moment; this is rare enough to hand it to a thread.
    let swept = tokio::task::spawn_blocking(move || super::warden::kill_session(session)).await;
    if let Err(error) = swept {
        tracing::warn!(session, %error, "processes may be left of a lost warden");
    }
}

/// Only Linux has wardens.
#[cfg(not(target_os = "linux"))]
pub(super) async fn sweep(_session: u32) {}
