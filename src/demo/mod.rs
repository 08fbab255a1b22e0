//! The demo server: a small MCP server in its own right, for a first try and as the peer that tests put behind the gateway.
//!
//! Written from the published specification alone, so that it can contradict the gateway: it shares nothing with it but the names of
//! the revisions. Serves both eras at one endpoint or one pipe, or one revision only. From a message to its answer: a transport
//! (`stdio`, `http`) reads it (`wire`) and admits it (`handshake`, `stateless`), `engine` serves it (`methods`, `call`), a feature
//! set (`sets`) does what it asks for, and `shape` puts the result into the caller's revision. What
//! outlives its request is a task (`tasks`).
//!
//! Always: every queue and table is bounded; nothing but JSON-RPC is written to standard output over stdio.

mod call;
mod caller;
mod engine;
mod event_log;
mod handshake;
mod headers;
mod http;
mod hub;
mod input;
mod listening;
mod methods;
mod outlet;
mod rounds;
mod sealed;
mod server;
mod session;
mod sets;
mod shape;
mod stateless;
mod stdio;
mod tasks;
mod wire;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

pub use sets::FeatureSet;

use crate::protocol::era::{REVISIONS, Revision};
use server::{Server, Settings};

/// How to run the demo server.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Serve streamable HTTP on this loopback address (port 0 for a free one) instead of standard input and output
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Serve this revision of the protocol only
    #[arg(long, value_name = "REVISION", value_parser = read_revision)]
    protocol: Option<Revision>,
    /// Which features to serve
    #[arg(long, value_enum, default_value_t = FeatureSet::Demo)]
    tools: FeatureSet,
    /// Most items in one page of a list
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = read_page_size)]
    page_size: usize,
}

fn read_revision(text: &str) -> Result<Revision, String> {
    Revision::parse(text).ok_or_else(|| {
        let known: Vec<_> = REVISIONS.iter().map(|revision| revision.text()).collect();
        format!("there is no such revision; known are {}", known.join(", "))
    })
}

fn read_page_size(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|size| *size > 0).ok_or_else(|| "a page holds at least one item".to_owned())
}

/// Runs the server until its input ends or it is told to stop. Builds its own runtime.
pub fn run(arguments: &Arguments) -> ExitCode {
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is all there is to report to, and it may be closed.
            let _ = writeln!(std::io::stderr(), "demo-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> std::io::Result<()> {
    let settings =
        Settings { pinned: arguments.protocol, features: arguments.tools, page_size: arguments.page_size };
    let server = Server::new(settings).map_err(std::io::Error::other)?;
    match arguments.http {
        Some(address) => actix_web::rt::System::new().block_on(http::serve(server, address)),
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let outcome = runtime.block_on(stdio::serve(server));
            // A read of standard input may still block a thread: do not wait for it.
            runtime.shutdown_background();
            outcome
        }
    }
}
