//! The stage of stories of tasks: an upstream that serves them, the gateway, a client that can deal with them.
//!
//! Owns the pairings. Always: the client says all that it can do; what a pairing is called is printed, so that a failing
//! story tells which it was.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::upstream::Manner;
use crate::support::{Gateway, HANDSHAKE, STATELESS, TRANSPORTS, Transport, Upstream, gateway, upstream};

/// Who speaks which dialect, and how the server is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    /// The client's revision.
    pub(crate) client: &'static str,
    /// The server's revision.
    pub(crate) upstream: &'static str,
    /// How the server is reached.
    pub(crate) transport: Transport,
}

impl Pair {
    /// Whether the client speaks the extension.
    pub(crate) fn has_extension_client(self) -> bool {
        self.client == STATELESS
    }

    /// Whether the server speaks the extension.
    pub(crate) fn has_extension_upstream(self) -> bool {
        self.upstream == STATELESS
    }

    /// The state of a task whose tool failed by itself (era-bridge §7.1).
    pub(crate) fn of_tool_error(self) -> &'static str {
        if self.has_extension_client() { "completed" } else { "failed" }
    }
}

/// The four pairings over HTTP.
pub(crate) fn over_http() -> Vec<Pair> {
    every().into_iter().filter(|pair| pair.transport == Transport::Http).collect()
}

/// The four pairings over both transports.
pub(crate) fn every() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for transport in TRANSPORTS {
        for client in [HANDSHAKE, STATELESS] {
            pairs.extend([HANDSHAKE, STATELESS].map(|upstream| Pair { client, upstream, transport }));
        }
    }
    pairs
}

/// A gateway between a client and an upstream, which are called `one` there.
pub(crate) struct Stage {
    /// The server.
    pub(crate) upstream: Upstream,
    /// The gateway.
    pub(crate) gateway: Gateway,
    /// The client.
    pub(crate) client: Client,
    /// Who they are.
    pub(crate) pair: Pair,
}

/// What the clients of these stories declare besides tasks.
pub(crate) fn abilities() -> Value {
    json!({ "elicitation": { "form": {} }, "sampling": {}, "roots": {} })
}

impl Stage {
    /// The usual stage.
    pub(crate) async fn set(pair: Pair, manner: Manner) -> Stage {
        Stage::with(pair, manner, "").await
    }

    /// A stage with lines of `gateway.yaml`.
    pub(crate) async fn with(pair: Pair, manner: Manner, config: &str) -> Stage {
        println!("=== {pair:?}");
        let upstream = upstream("one", pair.upstream, pair.transport).tasks(manner).start().await;
        Stage::before(upstream, pair, config).await
    }

    /// A stage before an upstream of the story's own that has a tool `echo`.
    pub(crate) async fn before(upstream: Upstream, pair: Pair, config: &str) -> Stage {
        let gateway = gateway()
            .with_more("one", &upstream, json!({ "ask": { "roots": true } }))
            .config(config)
            .start()
            .await;
        let client = client(&gateway, pair.client).await;
        client.until_tools(&["one__echo"]).await;
        Stage { upstream, gateway, client, pair }
    }

    /// Let the client come again after its gateway did, as the same principal.
    pub(crate) async fn come_again(&mut self) {
        self.client = client(&self.gateway, self.pair.client).await;
        self.client.until_tools(&["one__echo"]).await;
    }
}

/// A client of this revision that can deal with tasks.
pub(crate) async fn client(gateway: &Gateway, revision: &str) -> Client {
    client_at(&gateway.endpoint, revision).await
}

/// As [`client`], at any endpoint.
pub(crate) async fn client_at(endpoint: &crate::support::client::Endpoint, revision: &str) -> Client {
    match revision {
        STATELESS => Client::stateless(endpoint, abilities()).with_tasks(),
        handshake => Client::handshake(endpoint, handshake, abilities()).await,
    }
}

/// A question for a name.
pub(crate) fn name_question() -> Value {
    let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
    json!({ "method": "elicitation/create", "params": { "message": "Who?", "requestedSchema": schema } })
}

/// The answer to it.
pub(crate) fn named(name: &str) -> Value {
    json!({ "action": "accept", "content": { "name": name } })
}
