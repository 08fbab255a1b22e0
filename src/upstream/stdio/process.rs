//! Starting a process, and the handles to it.
//!
//! Call [`start`] from a thread that lives as long as the gateway: the kernel tells the warden that its parent died
//! when the *thread* that started it ends.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::counts::{Counters, Counts};
use super::ended::StartError;
use super::input::LineSender;
use super::keeper::Keeper;
use super::output::LineReceiver;
use super::stderr::StderrTail;
use super::{ProcessSettings, input, launch, output, stderr};

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
