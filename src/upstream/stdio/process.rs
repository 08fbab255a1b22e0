//! The life of one process: started, watched, stopped in stages, reaped, accounted for.
//!
//! Always: exactly one reason is told; it is told when known (a fault before the process is gone, everything else after
//! its last line); `stop` resolves when nothing of the tree is left.
//!
//! Call [`start`] from a thread that lives as long as the gateway: the kernel tells the warden that its parent died
//! when the *thread* that started it ends.

use std::future::pending;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ended::{EndReason, StartError};
use super::input::{InputEnd, LineSender};
use super::leader::{Leader, sweep};
use super::output::{LineReceiver, OutputEnd};
use super::report::Report;
use super::stderr::StderrTail;
use super::{ProcessSettings, input, launch, output, stderr};

/// Between stdout's end and the process's end; beyond it the process counts as alive without stdout.
const EXIT_AFTER_OUTPUT: Duration = Duration::from_secs(1);
/// How much longer than `stop_term` a warden may take to kill its tree before it is killed itself.
const WARDEN_MARGIN: Duration = Duration::from_secs(3);

/// A started process.
#[derive(Debug)]
pub struct Process {
    /// Lines towards it.
    pub input: LineSender,
    /// Lines from it, and its end.
    pub output: LineReceiver,
    /// Its control; the last clone dropped stops it.
    pub control: ProcessControl,
}

/// Starts a process and the tasks that serve it. Needs a tokio runtime with time and I/O.
pub fn start(settings: ProcessSettings) -> Result<Process, StartError> {
    let mut leader = launch::launch(&settings)?;
    let (stdin, stdout, stderr) = leader.take_pipes().expect("all three were asked to be pipes");
    let pid = leader.pid();
    tracing::info!(upstream = %settings.name, pid, command = %settings.command, "process started");

    let counters = Arc::new(Counters::default());
    let tail = Arc::new(StderrTail::default());
    let (stop, close, gone) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let (ended, ended_seen) = watch::channel(None);
    let (reaped, reaped_seen) = watch::channel(false);
    let (input, source) = input::queue(settings.stdin_queue);
    let (sink, output) = output::queue(settings.line_limit, ended_seen);

    let writer =
        input::write_lines(stdin, source, settings.write_stall, Arc::clone(&counters), close.clone());
    let reader = output::read_lines(stdout, settings.line_limit, sink, Arc::clone(&counters), gone.clone());
    let listener =
        stderr::listen(stderr, settings.name.clone(), Arc::clone(&tail), Arc::clone(&counters), gone.clone());
    let keeper = Keeper {
        leader,
        settings,
        writer: tokio::spawn(writer),
        reader: tokio::spawn(reader),
        listener: tokio::spawn(listener),
        stop: stop.clone(),
        close,
        gone,
        ended,
        reaped,
    };
    tokio::spawn(keeper.keep());

    let shared = Shared {
        pid,
        stop: stop.clone(),
        _stop_on_drop: stop.drop_guard(),
        reaped: reaped_seen,
        counters,
        tail,
    };
    Ok(Process { input, output, control: ProcessControl(Arc::new(shared)) })
}

/// Stops a process and tells about it.
#[derive(Debug, Clone)]
pub struct ProcessControl(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pid: u32,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
    reaped: watch::Receiver<bool>,
    counters: Arc<Counters>,
    tail: Arc<StderrTail>,
}

impl ProcessControl {
    /// Stops the process in stages: close stdin (what waits is still written), SIGTERM, SIGKILL. Resolves when all of
    /// its tree is gone, also when it had ended before.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.gone().await;
    }

    /// Resolves when all of the tree is gone, without asking for it.
    pub async fn gone(&self) {
        // An error means that the task that reaps was torn down with its runtime.
        let _ = self.0.reaped.clone().wait_for(|reaped| *reaped).await;
    }

    /// The process the gateway started: the warden where there is one, whose session the tree is; else the command.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The last 64 lines of stderr, each at most 1 KiB. They may hold secrets.
    pub fn stderr_tail(&self) -> Vec<String> {
        self.0.tail.lines()
    }

    /// What has been moved so far.
    pub fn counts(&self) -> Counts {
        self.0.counters.read()
    }
}

/// What a process and the gateway said to each other, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Lines written to stdin.
    pub lines_sent: u64,
    /// Bytes written to stdin.
    pub bytes_sent: u64,
    /// Lines read from stdout, empty ones left out.
    pub lines_received: u64,
    /// Bytes read from stdout.
    pub bytes_received: u64,
    /// 1 when stdout ended within a line; that half is dropped.
    pub half_lines: u64,
    /// Lines read from stderr.
    pub stderr_lines: u64,
    /// Those of them that were not logged, because there were too many.
    pub stderr_dropped: u64,
}

/// [`Counts`] while they grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) lines_sent: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) lines_received: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) half_lines: AtomicU64,
    pub(super) stderr_lines: AtomicU64,
    pub(super) stderr_dropped: AtomicU64,
}

impl Counters {
    fn read(&self) -> Counts {
        Counts {
            lines_sent: self.lines_sent.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            lines_received: self.lines_received.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            half_lines: self.half_lines.load(Relaxed),
            stderr_lines: self.stderr_lines.load(Relaxed),
            stderr_dropped: self.stderr_dropped.load(Relaxed),
        }
    }
}

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
struct Keeper {
    leader: Leader,
    settings: ProcessSettings,
    writer: JoinHandle<InputEnd>,
    reader: JoinHandle<OutputEnd>,
    listener: JoinHandle<Option<Report>>,
    stop: CancellationToken,
    close: CancellationToken,
    gone: CancellationToken,
    ended: watch::Sender<Option<EndReason>>,
    reaped: watch::Sender<bool>,
}

impl Keeper {
    async fn keep(mut self) {
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
