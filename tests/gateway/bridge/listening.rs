//! Rows of list changes, and the ear with which clients of both eras hear of changes.

use serde_json::{Value, json};

use super::cell::Cell;
use super::conversation::Caller;
use super::row;
use super::stage::{Stage, Wishes};
use crate::support::client::Exchange;
use crate::support::eventually;

/// Where a client hears of changes: its standing stream, or a listen stream.
#[derive(Debug)]
pub(super) struct Ear {
    stream: Exchange,
    /// The filter that was acknowledged, in the stateless era.
    pub(super) honoured: Value,
    subscription: Option<Value>,
}

impl Ear {
    /// Begin to listen; in the stateless era for what the filter says.
    pub(super) async fn open(caller: &Caller, filter: Value) -> Ear {
        if !caller.client.is_stateless() {
            let stream = caller.client.standalone_stream().await;
            return Ear { stream, honoured: Value::Null, subscription: None };
        }
        let mut stream = caller.client.open("subscriptions/listen", json!({ "notifications": filter })).await;
        let first = stream.next().await.expect("an acknowledgement");
        assert_eq!(
            first.method(),
            "notifications/subscriptions/acknowledged",
            "first (S-SUB-02): {}",
            first.raw
        );
        let ear = Ear {
            subscription: Some(stream.id()),
            honoured: first.params()["notifications"].clone(),
            stream,
        };
        ear.judge(first.params());
        ear
    }

    fn judge(&self, params: &Value) {
        let named = params["_meta"].get("io.modelcontextprotocol/subscriptionId");
        assert_eq!(named, self.subscription.as_ref(), "whose message it is (S-SUB-03): {params}");
    }

    /// The next message, which must have this method; gives its parameters.
    pub(super) async fn next(&mut self, method: &str) -> Value {
        let message = self.stream.next().await.expect("the stream goes on");
        assert_eq!(message.method(), method, "{}", message.raw);
        self.judge(message.params());
        message.params().clone()
    }
}

row!(list_change_while_listening: [every]);

async fn list_change_while_listening(cell: Cell) {
    let stage = Stage::with(cell, Wishes::default().shared_by_all()).await;
    let caller = stage.caller(json!({})).await;
    let lever = stage.lever(&caller).await;
    let mut ear = Ear::open(&caller, json!({ "toolsListChanged": true })).await;
    if cell.has_stateless_client() {
        assert_eq!(ear.honoured, json!({ "toolsListChanged": true }));
    }
    for is_there in [true, false] {
        lever.pull("change_tools", json!({})).await;
        ear.next("notifications/tools/list_changed").await;
        eventually("the list to have changed", || async {
            let names = caller.client.request("tools/list", json!({})).await.names("tools");
            (names.iter().any(|name| name == "demo__extra") == is_there).then_some(())
        })
        .await;
    }
}

row!(change_in_the_instant_of_the_acknowledgement: [every]);

async fn change_in_the_instant_of_the_acknowledgement(cell: Cell) {
    let stage = Stage::with(cell, Wishes::default().shared_by_all()).await;
    let caller = stage.caller(json!({})).await;
    let lever = stage.lever(&caller).await;
    for _ in 0..5 {
        let mut ear = Ear::open(&caller, json!({ "toolsListChanged": true })).await;
        lever.pull("change_tools", json!({})).await;
        ear.next("notifications/tools/list_changed").await;
    }
}
