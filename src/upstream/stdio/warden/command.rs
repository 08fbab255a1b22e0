//! From warden to command: a process of its own that limits itself and then becomes the command.
//!
//! Limits must hold from the command's first instruction and must not hold for the warden; a signal for the death of
//! the parent can only be asked for by the process itself. So the warden starts this binary once more, and that process
//! prepares itself and calls exec. Until then it has a name by which the warden can tell, even when it is dead already,
//! that exec failed; its exit code is then the system's error number.

use std::ffi::{CStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

use super::super::WARDEN_VERB;
use super::super::ended::cannot_run;
use super::orders::Orders;
use super::process_table::Process;

/// First argument after the warden's verb in the process that will become the command.
pub(super) const STAGE: &str = "--become";
/// Its name until then.
const NAME_BEFORE_EXEC: &CStr = c"mcp-become";

/// Warden's side: starts the process that will become the command, in a group of its own.
#[expect(clippy::disallowed_methods, reason = "this is what keeps children from being orphans")]
pub(super) fn start(orders: &Orders) -> io::Result<Pid> {
    let stage = Orders { parent: std::process::id(), ..orders.clone() };
    let child = std::process::Command::new("/proc/self/exe")
        .args([WARDEN_VERB, STAGE])
        .args(stage.to_args())
        .process_group(0)
        .spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no pid"))
}

/// The other side: does not return when all goes well.
#[expect(clippy::disallowed_methods, reason = "exec starts nothing, it becomes")]
pub(super) fn become_command(orders: &Orders) -> ExitCode {
    let error = match prepare(orders) {
        Ok(()) => std::process::Command::new(&orders.command).args(&orders.args).exec(),
        Err(error) => error,
    };
    ExitCode::from(error.raw_os_error().and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX))
}

fn prepare(orders: &Orders) -> io::Result<()> {
    rustix::thread::set_name(NAME_BEFORE_EXEC)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if !super::is_parent(orders.parent) {
        return Err(rustix::io::Errno::SRCH.into());
    }
    // Files that somebody left open to the gateway when starting it.
    close_fds::set_fds_cloexec(3, &[]);
    if let Some(seconds) = orders.cpu_seconds {
        // SIGXCPU at the limit, and SIGKILL a second later for who catches it.
        limit(Resource::Cpu, seconds, seconds.saturating_add(1))?;
    }
    if let Some(files) = orders.open_files {
        limit(Resource::Nofile, files, files)?;
    }
    // When the machine itself runs out of memory, rather this than the gateway. Not every system lets us say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    Ok(())
}

/// Sets a limit as far as the present one allows.
fn limit(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let ceiling = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let new = Rlimit { current: Some(current.min(ceiling)), maximum: Some(maximum.min(ceiling)) };
    Ok(setrlimit(resource, new)?)
}

/// Whether this process has not become the command, or never did.
pub(super) fn is_before_exec(process: &Process) -> bool {
    process.name.as_bytes() == NAME_BEFORE_EXEC.to_bytes()
}

/// Why exec failed, from the exit code.
pub(super) fn failure(orders: &Orders, error: i32) -> String {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("not set"));
    let error = io::Error::from_raw_os_error(error);
    cannot_run(&orders.command.to_string_lossy(), &path.to_string_lossy(), &error)
}
