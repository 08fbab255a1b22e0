//! The warden: a small process between the gateway and one child, which outlives everything below it.
//!
//! It leads a session of its own and is the subreaper of the tree, so that every process of it, however often it forked
//! or called `setsid`, becomes the warden's child when its parent dies. It ends when the command ends, when it is told
//! to (SIGTERM), or when the gateway is gone (the kernel sends the same SIGTERM), and always takes the whole tree
//! along. It holds none of the pipes but stderr, on which it says last how the command ended ([`Report`]).
//!
//! Always: no process below it survives it, unless it is itself killed with SIGKILL; then the command dies with it, and
//! the gateway sweeps the session.
//! Not here: deadlines of calls, restarts, pipes.

mod command;
mod orders;
mod process_table;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, getppid, kill_process, kill_process_group,
    set_child_subreaper, set_parent_process_death_signal, setsid, waitid, waitpid,
};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::report::Report;
pub(super) use orders::Orders;
pub(super) use process_table::kill_session;
use process_table::{Process, descendants};

/// How often memory is looked at.
const MEMORY_LOOK: Duration = Duration::from_millis(500);
/// With the gateway gone, the tree has this long to end by itself.
const GRACE_WITHOUT_GATEWAY: Duration = Duration::from_secs(1);
/// How long killing is repeated. Only a process that the kernel cannot kill now, or another user's, lasts so long.
const KILLING: Duration = Duration::from_secs(2);

/// The verb behind [`super::WARDEN_VERB`]; `arguments` are those after it.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.peekable();
    let is_command = arguments.next_if(|first| first == command::STAGE).is_some();
    let report = match Orders::parse(arguments) {
        Ok(orders) if is_command => return command::become_command(&orders),
        Ok(orders) => {
            watch_over(orders).unwrap_or_else(|error| Report::StartFailed(format!("warden: {error}")))
        }
        Err(text) => Report::StartFailed(format!("warden: {text}")),
    };
    // When the gateway is gone nobody reads it, and the write fails.
    let _ = io::stderr().write_all(report.to_line().as_bytes());
    ExitCode::from(match report {
        Report::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Report::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        Report::MemoryLimit(_) => 137,
        Report::StartFailed(_) => 127,
    })
}

fn watch_over(orders: Orders) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut watch = Watch::begin(orders)?;
        let report = watch.until_the_end().await;
        watch.kill_everything().await;
        Ok(report)
    })
}

struct Watch {
    orders: Orders,
    command: Pid,
    children: Signals,
    stops: [Signals; 3],
}

impl Watch {
    fn begin(orders: Orders) -> io::Result<Self> {
        // Without a terminal, and findable as a whole by the session's number, which is our pid.
        setsid()?;
        rustix::thread::set_name(c"mcp-warden")?;
        let children = signal(SignalKind::child())?;
        let stops = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ];
        set_child_subreaper(Some(getpid()))?;
        set_parent_process_death_signal(Some(Signal::TERM))?;
        if !is_parent(orders.parent) {
            // It died before the line above, so no signal will come.
            return Err(io::Error::other("the gateway is gone"));
        }
        let command = command::start(&orders)?;
        release_pipes()?;
        Ok(Watch { orders, command, children, stops })
    }

    async fn until_the_end(&mut self) -> Report {
        let mut kill_at = None;
        let mut look_at = self.orders.memory.map(|_| Instant::now());
        let [terminate, interrupt, hangup] = &mut self.stops;
        loop {
            tokio::select! {
                _ = self.children.recv() => {
                    if let Some(report) = reap(self.command, &self.orders) {
                        return report;
                    }
                    continue;
                }
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
                () = until(kill_at) => return Report::Signalled(Signal::KILL.as_raw()),
                () = until(look_at) => {
                    if let Some(limit) = self.orders.memory && memory_of_tree() > limit {
                        return Report::MemoryLimit(limit);
                    }
                    look_at = Some(Instant::now() + MEMORY_LOOK);
                    continue;
                }
            }
            if kill_at.is_none() {
                pass_on_terminate(self.command);
            }
            // A gateway that is killed dies thread by thread: the first signal may come while it still looks alive, and
            // another one comes with its last thread.
            let latest = Instant::now() + grace(&self.orders);
            kill_at = Some(kill_at.map_or(latest, |earlier: Instant| earlier.min(latest)));
        }
    }

    /// Kills and reaps until nothing is left below. Whatever forks meanwhile is found by the next look.
    async fn kill_everything(&self) {
        let give_up = Instant::now() + KILLING;
        loop {
            // The group first: one call that no fork can outrun.
            let _ = kill_process_group(self.command, Signal::KILL);
            let tree = descendants(getpid());
            for process in &tree {
                if !process.reap_if_dead() {
                    let _ = kill_process(process.pid, Signal::KILL);
                }
            }
            if tree.is_empty() || Instant::now() > give_up {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }
}

fn is_parent(pid: u32) -> bool {
    getppid().is_some_and(|parent| parent.as_raw_nonzero().get().unsigned_abs() == pid)
}

/// From here on the pipes belong to the command alone: when it closes one, the gateway sees that.
fn release_pipes() -> io::Result<()> {
    let nothing = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    // Nor is the working directory ours to keep busy.
    std::env::set_current_dir("/")
}

/// Reaps what is dead below; `Some` when the command is.
fn reap(command: Pid, orders: &Orders) -> Option<Report> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let Ok(Some(status)) = waitid(WaitId::Pid(command), options) else {
        // Not the command, so somebody it left behind. Should the command die meanwhile, a signal will say so.
        for process in descendants(getpid()).iter().filter(|process| process.pid != command) {
            process.reap_if_dead();
        }
        return None;
    };
    // Still a zombie: its name tells whether it ever became the command.
    let became_command = Process::read(command).is_none_or(|process| !command::is_before_exec(&process));
    let _ = waitpid(Some(command), WaitOptions::NOHANG);
    Some(match (status.exit_status(), status.terminating_signal()) {
        (Some(error), _) if !became_command => Report::StartFailed(command::failure(orders, error)),
        (Some(code), _) => Report::Exited(code),
        (None, signal) => Report::Signalled(signal.unwrap_or_default()),
    })
}

fn memory_of_tree() -> u64 {
    let pages: u64 = descendants(getpid()).iter().map(|process| process.resident_pages).sum();
    pages * rustix::param::page_size() as u64
}

/// To the command's group, or to the command when it has left that.
fn pass_on_terminate(command: Pid) {
    if kill_process_group(command, Signal::TERM).is_err() {
        let _ = kill_process(command, Signal::TERM);
    }
}

fn grace(orders: &Orders) -> Duration {
    if is_parent(orders.parent) { orders.grace } else { orders.grace.min(GRACE_WITHOUT_GATEWAY) }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
