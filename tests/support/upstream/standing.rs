//! What an upstream says by itself to one session or child, and tools that ask what they are told to ask.
//!
//! Owns speaking on one standing way, and the asking script. Always: a question's answer is judged by the schema like every
//! other message. Not here: what is said on the stream of a call (`call`).

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Asked, Call, Received, Shared, Standing, Upstream, UpstreamPlan, locked};
use crate::support::json::raw_at;
use crate::support::patiently;

/// The name under which the standing way of the session or child that sent `received` is kept.
pub(super) fn way_of(received: &Received) -> String {
    received.session().map_or_else(|| format!("child-{}", received.connection), str::to_owned)
}

impl Shared {
    /// Say something on the standing way of the session or child that sent `received`, once it has one.
    pub(super) async fn tell_way(&self, received: &Received, message: &str) {
        let own = way_of(received);
        let is_own = |standing: &Standing| standing.session.as_ref() == Some(&own);
        let mut changes = self.changes.subscribe();
        while !locked(&self.standing).iter().any(is_own) {
            if changes.changed().await.is_err() {
                return;
            }
        }
        self.say_standing(message, is_own).await;
    }

    /// Remember a question under a fresh id.
    pub(super) fn expect_answer(&self, method: &str) -> (String, oneshot::Receiver<Value>) {
        let id = format!("{}-asks-{}", self.name, self.number());
        let (answered, answer) = oneshot::channel();
        locked(&self.awaiting).insert(id.clone(), Asked { method: method.to_owned(), answered });
        (id, answer)
    }
}

impl Upstream {
    /// Say something on the standing way of the session or child that sent `received`; gives whether there was one.
    pub(crate) async fn tell(&self, received: &Received, method: &str, params: Value) -> bool {
        let own = way_of(received);
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string();
        self.say(&message, |standing: &Standing| standing.session.as_ref() == Some(&own)).await > 0
    }

    /// Ask something on the standing way of the session or child that sent `received`; gives the response message.
    pub(crate) async fn ask_by(&self, received: &Received, method: &str, params: Value) -> Value {
        let own = way_of(received);
        let (id, answer) = self.shared.expect_answer(method);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        self.say(&message, |standing: &Standing| standing.session.as_ref() == Some(&own)).await;
        patiently(&format!("the answer to {method}"), answer).await.expect("answers are kept until they come")
    }

    /// What the gateway declared when it opened the session, or started the child, that sent `received`.
    pub(crate) fn declared_by(&self, received: &Received) -> Value {
        locked(&self.shared.greeted)
            .get(&way_of(received))
            .cloned()
            .expect("every session begins with initialize")
    }

    /// As [`Upstream::declared_by`], for the session of the last tool call.
    pub(crate) fn declared(&self) -> Value {
        self.declared_by(self.received("tools/call").last().expect("a tool was called"))
    }

    /// Every response that came to a question of this upstream.
    pub(crate) fn answers(&self) -> Vec<Received> {
        let is_answer =
            |received: &Received| received.method().is_empty() && received.json.get("id").is_some();
        self.ledger().into_iter().filter(is_answer).collect()
    }
}

impl UpstreamPlan {
    /// Let every tool call ask what its arguments say: `method` and `params`, `times` times, one after the other. The call's
    /// text is a JSON array of what the upstream was told, each `{"result": …}` or `{"error": …}`.
    pub(crate) fn asking(self) -> UpstreamPlan {
        self.on("tools/call", |mut call| async move {
            let told = ask_as_told(&mut call).await;
            call.text(&Value::Array(told).to_string()).await;
        })
    }
}

async fn ask_as_told(call: &mut Call) -> Vec<Value> {
    let arguments = call.params()["arguments"].clone();
    let raw = raw_at(&call.received.raw, &["params", "arguments", "params"]).unwrap_or("{}").to_owned();
    let mut told = Vec::new();
    for _ in 0..arguments["times"].as_u64().unwrap_or(1) {
        let method = arguments["method"].as_str().unwrap_or_default();
        let (_, answer) = call.begin_to_ask_raw(method, &raw).await;
        let mut answer = patiently(&format!("the answer to {method}"), answer)
            .await
            .expect("answers are kept until they come");
        answer.as_object_mut().expect("a message").retain(|name, _| name == "result" || name == "error");
        told.push(answer);
    }
    told
}
