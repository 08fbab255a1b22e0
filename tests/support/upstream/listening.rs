//! Listen streams of a stateless upstream.
//!
//! Owns who listens for what. Always: the acknowledgement comes first, and every message carries the id of the request
//! that opened the stream. Not here: unlawful streams, which scripts play.

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::over_http::{self, Command};
use super::{Call, Shared, Upstream, clipped, locked};
use crate::support::http::chunk;
use crate::support::patiently;

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// An open stream.
pub(crate) struct Listen {
    id: Value,
    /// What was acknowledged.
    honoured: Value,
    out: mpsc::Sender<Command>,
    is_http: bool,
    /// Set when the story has ended it.
    over: watch::Sender<bool>,
}

impl Listen {
    fn asked_for(&self, method: &str, params: &Value) -> bool {
        match method {
            "notifications/tools/list_changed" => self.honoured["toolsListChanged"] == true,
            "notifications/prompts/list_changed" => self.honoured["promptsListChanged"] == true,
            "notifications/resources/list_changed" => self.honoured["resourcesListChanged"] == true,
            "notifications/resources/updated" => {
                let followed = self.honoured["resourceSubscriptions"].as_array().into_iter().flatten();
                let uri = params["uri"].as_str().unwrap_or_default();
                followed.filter_map(Value::as_str).any(|followed| uri.starts_with(followed))
            }
            "notifications/tasks" => {
                let followed = self.honoured["taskIds"].as_array().into_iter().flatten();
                followed.into_iter().any(|followed| *followed == params["taskId"])
            }
            _ => false,
        }
    }

    async fn write(&self, message: &str) -> bool {
        let piece = match self.is_http {
            true => over_http::event_chunk(message),
            false => format!("{message}\n").into_bytes(),
        };
        self.out.send(Command::Write(piece)).await.is_ok()
    }
}

/// What of a filter this upstream honours: what it declares, and resources that it has.
fn honoured(shared: &Shared, asked: &Value) -> Value {
    let mut honoured = json!({});
    for (feature, member) in [
        ("tools", "toolsListChanged"),
        ("prompts", "promptsListChanged"),
        ("resources", "resourcesListChanged"),
    ] {
        if asked[member] == true && shared.capabilities[feature]["listChanged"] == true {
            honoured[member] = json!(true);
        }
    }
    let own = format!("test://{}/", shared.name);
    let is_there = |uri: &&Value| {
        let uri = uri.as_str().unwrap_or_default();
        uri.starts_with(&own) || locked(&shared.shown).resources.iter().any(|shown| shown["uri"] == uri)
    };
    let uris: Vec<&Value> =
        asked["resourceSubscriptions"].as_array().into_iter().flatten().filter(is_there).collect();
    if !uris.is_empty() && shared.capabilities["resources"]["subscribe"] == true {
        honoured["resourceSubscriptions"] = json!(uris);
    }
    let known = |id: &&Value| super::tasks::is_known(shared, id.as_str().unwrap_or_default());
    let ids: Vec<&Value> = asked["taskIds"].as_array().into_iter().flatten().filter(known).collect();
    if !ids.is_empty() {
        honoured["taskIds"] = json!(ids);
    }
    honoured
}

/// Acknowledge and stay open, as a well-behaved server does.
pub(super) async fn listen(call: &mut Call) {
    let id: Value = serde_json::from_str(call.id()).expect("judged by the schema");
    let honoured = honoured(&call.shared, &call.params()["notifications"]);
    let params = json!({ "_meta": { SUBSCRIPTION: id }, "notifications": honoured });
    call.notify("notifications/subscriptions/acknowledged", params).await;
    let (over, mut is_over) = watch::channel(false);
    let is_http = call.received.verb != "LINE";
    let listen = Listen { id: id.clone(), honoured, out: call.out.clone(), is_http, over };
    let own = listen.over.subscribe();
    locked(&call.shared.listens).push(listen);
    call.shared.changed();
    tokio::select! {
        () = call.cancelled() => {}
        _ = is_over.wait_for(|over| *over) => {}
    }
    locked(&call.shared.listens).retain(|listen| !listen.over.subscribe().same_channel(&own));
    call.shared.changed();
}

impl Shared {
    pub(super) async fn announce_to_listens(&self, method: &str, params: &Value) -> usize {
        let concerned: Vec<(Value, mpsc::Sender<Command>, bool)> = locked(&self.listens)
            .iter()
            .filter(|listen| listen.asked_for(method, params))
            .map(|listen| (listen.id.clone(), listen.out.clone(), listen.is_http))
            .collect();
        let mut told = 0;
        for (id, out, is_http) in concerned {
            let mut params = params.clone();
            params["_meta"][SUBSCRIPTION] = id.clone();
            let message = json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string();
            if !self.is_quiet {
                println!("   [{}] => (listen {id}) {}", self.name, clipped(&message));
            }
            let (over, _) = watch::channel(false);
            let way = Listen { id, honoured: Value::Null, out, is_http, over };
            told += usize::from(way.write(&message).await);
        }
        told
    }
}

impl Upstream {
    /// What is listened to now, stream by stream, as it was acknowledged.
    pub(crate) fn listens(&self) -> Vec<Value> {
        locked(&self.shared.listens).iter().map(|listen| listen.honoured.clone()).collect()
    }

    /// Wait until the streams are as they should be.
    pub(crate) async fn until_listens(&self, awaited: &str, are_so: impl Fn(&[Value]) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        patiently(&format!("{} to be listened to: {awaited}", self.shared.name), async {
            while !are_so(&self.listens()) {
                changes.changed().await.expect("the sender is in self");
            }
        })
        .await;
    }

    /// End every listen stream, by its result or by breaking off. Of a pipe nothing else can break off.
    pub(crate) async fn end_listens(&self, with_result: bool) {
        let all = std::mem::take(&mut *locked(&self.shared.listens));
        for listen in all {
            println!("   [{}] ends listening {}", self.shared.name, listen.id);
            if with_result || !listen.is_http {
                let result = json!({ "resultType": "complete", "_meta": { SUBSCRIPTION: listen.id } });
                let response = json!({ "jsonrpc": "2.0", "id": listen.id, "result": result });
                listen.write(&response.to_string()).await;
            }
            if listen.is_http && with_result {
                listen.out.send(Command::Write(chunk(b""))).await.ok();
                listen.out.send(Command::Finish).await.ok();
            } else if listen.is_http {
                listen.out.send(Command::Reset).await.ok();
            }
            listen.over.send_replace(true);
        }
        self.shared.changed();
    }
}
