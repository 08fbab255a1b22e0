//! What the binary's verbs do. Each reads its arguments, works through the modules below, and says what it saw.
//!
//! Always: results for programs and people go to stdout, everything else to stderr; `--json` prints JSON and nothing else.

mod ask;
mod check;
mod serve;
mod stdio;
mod store;
mod table;
mod visible;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::config::{self, Reading, Settings};
use crate::demo;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "switchyard",
    version,
    about = "Many MCP servers behind one endpoint, in every protocol revision"
)]
pub struct CommandLine {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway (what happens without any verb)
    Serve(ConfigFile),
    /// Run the gateway as a stdio server: one client, on standard input and output
    Stdio(stdio::Arguments),
    /// Read and check the configuration; exit code 0 if it can be served, 1 if not, 2 if it cannot be read
    Check(check::Arguments),
    /// Print the JSON Schema of the configuration
    Schema,
    /// List the servers of a running gateway
    Servers(ask::ServersArguments),
    /// List the tools of a running gateway
    Tools(ask::ToolsArguments),
    /// List the tasks of a running gateway; look at one, watch it, get its result, cancel it
    Tasks(ask::TasksArguments),
    /// Call a tool through a running gateway
    Call(ask::CallArguments),
    /// Look at the state of a gateway that does not run, and repair it
    Store(store::Arguments),
    /// Run a small MCP server with one tool per protocol feature
    DemoServer(demo::Arguments),
}

#[derive(Debug, Clone, Args)]
struct ConfigFile {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let verb = CommandLine::parse().verb;
    match verb.unwrap_or(Verb::Serve(ConfigFile { config: PathBuf::from("gateway.yaml") })) {
        Verb::Serve(arguments) => serve::run(&arguments.config),
        Verb::Stdio(arguments) => stdio::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Schema => say_json(&config::schema()),
        Verb::Servers(arguments) => ask::servers(&arguments),
        Verb::Tools(arguments) => ask::tools(&arguments),
        Verb::Tasks(arguments) => ask::tasks(&arguments),
        Verb::Call(arguments) => ask::call(&arguments),
        Verb::Store(arguments) => store::run(&arguments),
        Verb::DemoServer(arguments) => demo::run(&arguments),
    }
}

/// Reads the configuration; problems go to stderr.
fn load(path: &Path) -> Option<Settings> {
    settings_of(config::read(path))
}

/// The settings, unless there are errors; problems go to stderr.
fn settings_of(reading: Reading) -> Option<Settings> {
    if !reading.problems.is_empty() {
        complain(&reading.problems.to_string());
    }
    reading.settings.filter(|_| !reading.problems.has_errors())
}

/// Prints a result. A reader that has gone away is not an error worth a panic.
fn say(text: &str) -> ExitCode {
    // Locked for the whole text, so that nothing else comes between.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    ExitCode::SUCCESS
}

/// Prints what a server wrote: to a terminal nothing that acts on it, to programs every byte.
fn say_foreign(text: &str) -> ExitCode {
    if std::io::stdout().is_terminal() { say(&visible::lines(text)) } else { say(text) }
}

/// Prints JSON that terminals can be shown.
fn say_json(value: &impl Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&visible::json(&text)),
        Err(error) => fail(&error.to_string()),
    }
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", visible::lines(text));
}

/// A command could not do its work.
fn fail(text: &str) -> ExitCode {
    complain(text);
    ExitCode::FAILURE
}
