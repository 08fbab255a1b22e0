//! The `switchyard` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use switchyard::demo;

#[derive(Parser)]
#[command(version, about)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a small MCP server with one tool per protocol feature
    DemoServer(demo::Arguments),
}

fn main() -> ExitCode {
    // The gateway starts itself again to watch over each child process; nothing else may run before that.
    #[cfg(target_os = "linux")]
    if std::env::args_os().nth(1).is_some_and(|verb| verb == switchyard::upstream::stdio::WARDEN_VERB) {
        return switchyard::upstream::stdio::run_warden(std::env::args_os().skip(2));
    }
    match CommandLine::parse().verb {
        Verb::DemoServer(arguments) => demo::run(&arguments),
    }
}
