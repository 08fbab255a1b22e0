//! The task that owns one process: watched, stopped in stages, reaped, accounted for.
//!
//! Always: exactly one reason is told; it is told when known (a fault before the process is gone, everything else after
//! its last line); `reaped` turns true when nothing of the tree is left.

use std::future::pending;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::ProcessSettings;
use super::ended::EndReason;
use super::input::InputEnd;
use super::leader::{Leader, sweep};
use super::output::OutputEnd;
use super::report::Report;

/// Between stdout's end and the process's end; beyond it the process counts as alive without stdout.
const EXIT_AFTER_OUTPUT: Duration = Duration::from_secs(1);
/// How much longer than `stop_term` a warden may take to kill its tree before it is killed itself.
const WARDEN_MARGIN: Duration = Duration::from_secs(3);

/// What ends the quiet part of a process's life.
enum Turn {
    /// It is gone already.
    Gone(Option<ExitStatus>),
    /// It was asked to stop.
    Stop,
    /// It did something it must not do.
    Fault(EndReason),
}

/// The task that owns the process.
pub(super) struct Keeper {
    pub(super) leader: Leader,
    pub(super) settings: ProcessSettings,
    pub(super) writer: JoinHandle<InputEnd>,
    pub(super) reader: JoinHandle<OutputEnd>,
    pub(super) listener: JoinHandle<Option<Report>>,
    pub(super) stop: CancellationToken,
    pub(super) close: CancellationToken,
    pub(super) gone: CancellationToken,
    pub(super) ended: watch::Sender<Option<EndReason>>,
    pub(super) reaped: watch::Sender<bool>,
}

impl Keeper {
    pub(super) async fn keep(mut self) {
        let (status, told) = match self.watch().await {
            Turn::Gone(status) => (status, None),
            Turn::Stop => {
                self.close.cancel();
                let eof = self.settings.stop_eof;
                let status = match timeout(eof, self.leader.wait()).await {
                    Ok(status) => status.ok(),
                    Err(_) => self.terminate().await,
                };
                (status, Some(EndReason::Stopped))
            }
            Turn::Fault(reason) => {
                self.ended.send_replace(Some(reason.clone()));
                (self.terminate().await, Some(reason))
            }
        };
        self.settle(status, told).await;
    }

    async fn watch(&mut self) -> Turn {
        let mut reading = true;
        let mut writing = true;
        let mut exit_by = None;
        loop {
            tokio::select! {
                biased;
                status = self.leader.wait() => return Turn::Gone(status.ok()),
                () = self.stop.cancelled() => return Turn::Stop,
                end = &mut self.reader, if reading => {
                    reading = false;
                    match end {
                        Ok(OutputEnd::LineTooLong) => return Turn::Fault(EndReason::LineTooLong(self.settings.line_limit)),
                        Ok(OutputEnd::Unheard) => return Turn::Stop,
                        // At a normal end stdout closes a moment before the process is gone.
                        Ok(OutputEnd::Closed) | Err(_) => exit_by = Some(Instant::now() + EXIT_AFTER_OUTPUT),
                    }
                }
                end = &mut self.writer, if writing => {
                    writing = false;
                    if let Ok(InputEnd::Stalled) = end {
                        return Turn::Fault(EndReason::WriteStalled);
                    }
                }
                () = until(exit_by) => return Turn::Fault(EndReason::OutputClosed),
            }
        }
    }

    /// SIGTERM now, SIGKILL later; returns when the leader is reaped.
    async fn terminate(&mut self) -> Option<ExitStatus> {
        self.writer.abort();
        self.leader.terminate();
        let margin = if self.leader.is_warden() { WARDEN_MARGIN } else { Duration::ZERO };
        if let Ok(status) = timeout(self.settings.stop_term + margin, self.leader.wait()).await {
            return status.ok();
        }
        self.leader.kill();
        self.leader.wait().await.ok()
    }

    /// The leader is reaped: clean up what may be left, then tell.
    async fn settle(mut self, status: Option<ExitStatus>, told: Option<EndReason>) {
        if self.leader.is_warden() {
            // A warden that left on its own has seen to its tree.
            if status.is_none_or(|status| status.code().is_none()) {
                sweep(self.leader.pid()).await;
            }
        } else {
            self.leader.kill();
        }
        self.gone.cancel();
        let report = (&mut self.listener).await.ok().flatten();
        self.writer.abort();
        let reason = told.unwrap_or_else(|| self.reason(status, report));
        tracing::info!(upstream = %self.settings.name, pid = self.leader.pid(), %reason, "process ended");
        self.reaped.send_replace(true);
        if self.ended.borrow().is_none() {
            // Its last lines come first; they wait for whoever receives them.
            if !self.reader.is_finished() {
                let _ = (&mut self.reader).await;
            }
            self.ended.send_replace(Some(reason));
        }
    }

    fn reason(&self, status: Option<ExitStatus>, report: Option<Report>) -> EndReason {
        use std::os::unix::process::ExitStatusExt;
        let code = status.and_then(|status| status.code());
        match report {
            Some(Report::StartFailed(text)) => EndReason::StartFailed(text),
            Some(Report::MemoryLimit(limit)) => EndReason::MemoryLimit(limit),
            Some(Report::Exited(code)) => EndReason::Exited(code),
            Some(Report::Signalled(signal)) => self.signalled(signal),
            None if self.leader.is_warden() => EndReason::WardenLost,
            None => match (code, status.and_then(|status| status.signal())) {
                (Some(code), _) => EndReason::Exited(code),
                (None, signal) => self.signalled(signal.unwrap_or_default()),
            },
        }
    }

    fn signalled(&self, signal: i32) -> EndReason {
        match self.settings.max_cpu_seconds {
            Some(seconds) if signal == rustix::process::Signal::XCPU.as_raw() => EndReason::CpuLimit(seconds),
            _ => EndReason::Signalled(signal),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
