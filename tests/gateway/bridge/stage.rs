//! The stage of a cell: a demo server of one era, a gateway before it, and clients of one era.
//!
//! Always: what is set up here ends with the cell.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::cell::Cell;
use super::conversation::Caller;
use crate::support::client::Endpoint;
use crate::support::gateway::{Plan, signal_process};
use crate::support::processes::descendants;
use crate::support::{Client, Gateway, gateway, patiently};

/// What a cell wants otherwise than usual.
#[derive(Debug, Clone, Default)]
pub(super) struct Wishes {
    /// Lines of `gateway.yaml`.
    config: String,
    /// Further arguments of the demo server.
    arguments: Vec<&'static str>,
    /// `share` of the server.
    share: Option<&'static str>,
}

impl Wishes {
    /// With these limits, below `bounds`.
    pub(super) fn bounds(mut self, lines: &str) -> Wishes {
        self.config.push_str(&format!("bounds: {{ {lines} }}\n"));
        self
    }

    /// With these lines in `gateway.yaml`.
    pub(super) fn config(mut self, lines: &str) -> Wishes {
        self.config.push_str(lines);
        self
    }

    /// With these arguments for the demo server.
    pub(super) fn arguments(mut self, arguments: &[&'static str]) -> Wishes {
        self.arguments.extend(arguments);
        self
    }

    /// With one process or session of the server for every client.
    pub(super) fn shared_by_all(mut self) -> Wishes {
        self.share = Some("all");
        self
    }

    /// With one process or session of the server for everyone who is the same to the gateway.
    pub(super) fn shared_by_principal(mut self) -> Wishes {
        self.share = Some("principal");
        self
    }
}

/// A gateway between clients and a demo server.
#[derive(Debug)]
pub(super) struct Stage {
    cell: Cell,
    /// The gateway.
    pub(super) gateway: Gateway,
    /// The demo server, where it is no child of the gateway.
    pub(super) demo: Option<Demo>,
}

impl Stage {
    /// The usual stage.
    pub(super) async fn set(cell: Cell) -> Stage {
        Stage::with(cell, Wishes::default()).await
    }

    /// A stage with wishes.
    pub(super) async fn with(cell: Cell, wishes: Wishes) -> Stage {
        let mut arguments = vec!["demo-server", "--protocol", cell.upstream];
        arguments.extend(&wishes.arguments);
        let (demo, mut server) = if cell.is_stdio() {
            (None, json!({ "command": "${exe}", "args": arguments }))
        } else {
            let demo = Demo::start(&arguments, ([127, 0, 0, 1], 0).into()).await;
            let url = demo.url();
            (Some(demo), json!({ "url": url }))
        };
        server["ask"] = json!({ "roots": true });
        if let Some(share) = wishes.share {
            server["share"] = json!(share);
        }
        let plan: Plan = gateway().with_server("demo", server).config(&wishes.config);
        let stage = Stage { cell, gateway: plan.start().await, demo };
        let first = stage.caller(json!({})).await;
        first.client.until_tools(&["demo__echo"]).await;
        stage
    }

    /// A client of the cell's era that declares these capabilities.
    pub(super) async fn caller(&self, capabilities: Value) -> Caller {
        self.caller_at(&self.gateway.endpoint, capabilities).await
    }

    /// As [`Stage::caller`], at another endpoint of the gateway.
    pub(super) async fn caller_at(&self, endpoint: &Endpoint, capabilities: Value) -> Caller {
        let client = match self.cell.has_stateless_client() {
            true => Client::stateless(endpoint, capabilities),
            false => Client::handshake(endpoint, self.cell.client, capabilities).await,
        };
        Caller { client }
    }

    /// Something by which to change the server: a connection of its own where there can be one, else the caller's.
    pub(super) async fn lever(&self, caller: &Caller) -> Lever {
        match &self.demo {
            None => Lever { client: caller.client.clone(), prefix: "demo__" },
            Some(demo) => {
                let endpoint = Endpoint::parse(&demo.url());
                let client = match self.cell.has_stateless_upstream() {
                    true => Client::stateless(&endpoint, json!({})),
                    false => Client::handshake(&endpoint, self.cell.upstream, json!({})).await,
                };
                Lever { client, prefix: "" }
            }
        }
    }

    /// End the server's process and see that there is another.
    pub(super) async fn restart_upstream(&mut self) {
        match &mut self.demo {
            Some(demo) => {
                demo.kill().await;
                demo.start_again().await;
            }
            None => {
                for child in descendants(self.gateway.pid()).await {
                    signal_process(child, rustix::process::Signal::KILL);
                }
            }
        }
    }
}

/// A way to make the server change.
#[derive(Debug)]
pub(super) struct Lever {
    client: Client,
    prefix: &'static str,
}

impl Lever {
    /// Call one of its tools.
    pub(super) async fn pull(&self, tool: &str, arguments: Value) {
        let answer = self.client.call(&format!("{}{tool}", self.prefix), arguments).await;
        assert_eq!(answer.result().get("isError"), None, "{}", answer.raw);
    }
}

/// A demo server that listens.
#[derive(Debug)]
pub(super) struct Demo {
    child: Child,
    arguments: Vec<String>,
    address: SocketAddr,
}

impl Demo {
    async fn start(arguments: &[&str], address: SocketAddr) -> Demo {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let (child, address) = Demo::spawn(&arguments, address).await;
        Demo { child, arguments, address }
    }

    async fn spawn(arguments: &[String], address: SocketAddr) -> (Child, SocketAddr) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchyard"));
        command.args(arguments).args(["--http", &address.to_string()]);
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built with the tests");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = patiently("the demo server to serve", lines.next_line()).await;
        let line = line.expect("it prints UTF-8").expect("it says where it serves");
        let url = line.strip_prefix("endpoint ").unwrap_or_else(|| panic!("{line:?}"));
        (child, Endpoint::parse(url).address)
    }

    fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// End it at once.
    pub(super) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Start it again where it was, knowing nothing of before.
    pub(super) async fn start_again(&mut self) {
        let (child, address) = Demo::spawn(&self.arguments, self.address).await;
        (self.child, self.address) = (child, address);
    }
}
