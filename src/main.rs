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
    match CommandLine::parse().verb {
        Verb::DemoServer(arguments) => demo::run(&arguments),
    }
}
