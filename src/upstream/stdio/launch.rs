//! The command line and the surroundings of a new process.
//!
//! Always: of the gateway's environment a child sees the allowlist and nothing else (S-STDIO-09), beside the depth at
//! which it runs; what the operator configures for it is passed as it is. It inherits no file of ours but its three pipes, because everything the
//! standard library and tokio open is closed on exec; files that somebody left open to the gateway are closed by the
//! warden's side.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::ProcessSettings;
use super::ended::{StartError, cannot_run};
use super::leader::Leader;
use super::nesting;
use crate::config::secret::Secret;

/// What programs need to find themselves, their home and their language. No credential lives in any of these.
const INHERITED: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR", "TZ"];

/// Starts the process, with the warden where there is one.
pub(super) fn launch(settings: &ProcessSettings) -> Result<Leader, StartError> {
    match &settings.warden {
        #[cfg(target_os = "linux")]
        Some(warden) => {
            let mut command = Command::new(warden);
            command.arg0("switchyard-warden").arg(super::WARDEN_VERB).args(orders(settings).to_args());
            let child = spawn(command, settings).map_err(|error| {
                explain(settings, error, |source| StartError::Warden { warden: warden.clone(), source })
            })?;
            Ok(Leader::warden(child))
        }
        _ => {
            let mut command = Command::new(&settings.command);
            command.args(settings.args.iter().map(Secret::expose)).process_group(0);
            let child = spawn(command, settings).map_err(|error| {
                explain(settings, error, |source| {
                    StartError::Command(cannot_run(&settings.command, &path_of(settings), &source))
                })
            })?;
            Ok(Leader::direct(child))
        }
    }
}

#[cfg(target_os = "linux")]
fn orders(settings: &ProcessSettings) -> super::warden::Orders {
    super::warden::Orders {
        parent: std::process::id(),
        grace: settings.stop_term,
        memory: settings.max_memory,
        cpu_seconds: settings.max_cpu_seconds,
        open_files: settings.max_open_files,
        command: settings.command.clone().into(),
        args: settings.args.iter().map(|argument| argument.expose().into()).collect(),
    }
}

fn spawn(mut command: Command, settings: &ProcessSettings) -> io::Result<Child> {
    command.env_clear().envs(environment(settings));
    if let Some(directory) = &settings.cwd {
        command.current_dir(directory);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn environment(settings: &ProcessSettings) -> impl Iterator<Item = (OsString, OsString)> {
    let inherited = INHERITED.into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    let configured = settings.env.iter().map(|(name, value)| (name.into(), value.expose().into()));
    let depth = (nesting::depth() + 1).to_string();
    inherited.chain([(nesting::VARIABLE.into(), depth.into())]).chain(configured)
}

/// The `PATH` that the child has.
fn path_of(settings: &ProcessSettings) -> String {
    environment(settings)
        .filter(|(name, _)| name == "PATH")
        .last()
        .map_or_else(|| "not set".to_owned(), |(_, path)| path.to_string_lossy().into_owned())
}

/// "Not found" is also what a missing working directory looks like.
fn explain(
    settings: &ProcessSettings,
    error: io::Error,
    otherwise: impl FnOnce(io::Error) -> StartError,
) -> StartError {
    match &settings.cwd {
        Some(directory) if !directory.is_dir() => StartError::WorkingDirectory(directory.clone()),
        _ => otherwise(error),
    }
}
