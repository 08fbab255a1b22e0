//! Rows of list changes, and the ear with which clients of both eras hear of changes.

use std::time::Duration;

use serde_json::{Value, json};

use super::cell::Cell;
use super::conversation::Caller;
use super::row;
use super::stage::{Stage, Wishes};
use crate::support::client::Exchange;
use crate::support::eventually;

/// Longer than changes are gathered before they are told.
const SETTLED: Duration = Duration::from_millis(500);

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

    /// The next message with this method; gives its parameters. A listen stream may carry nothing else; a standing stream
    /// may tell of lists too, at any time.
    pub(super) async fn next(&mut self, method: &str) -> Value {
        loop {
            let message = self.stream.next().await.expect("the stream goes on");
            if message.method() == method {
                self.judge(message.params());
                return message.params().clone();
            }
            let is_list = message.method().ends_with("/list_changed");
            assert!(self.subscription.is_none() && is_list, "not {method}: {}", message.raw);
        }
    }

    /// Wait until what changed before is told.
    async fn settle(&mut self) {
        while !self.stream.messages_within(SETTLED).await.is_empty() {}
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
    ear.settle().await;
    for is_there in [true, false] {
        lever.pull("change_tools", json!({})).await;
        ear.next("notifications/tools/list_changed").await;
        eventually("the list to have changed", || async {
            let names = caller.client.request("tools/list", json!({})).await.names("tools");
            (names.iter().any(|name| name == "demo__extra") == is_there).then_some(())
        })
        .await;
        ear.settle().await;
    }
}

row!(change_in_the_instant_of_the_acknowledgement: [every]);

async fn change_in_the_instant_of_the_acknowledgement(cell: Cell) {
    let stage = Stage::with(cell, Wishes::default().shared_by_all()).await;
    let caller = stage.caller(json!({})).await;
    let lever = stage.lever(&caller).await;
    for _ in 0..3 {
        Ear::open(&caller, json!({ "toolsListChanged": true })).await.settle().await;
        let mut ear = Ear::open(&caller, json!({ "toolsListChanged": true })).await;
        lever.pull("change_tools", json!({})).await;
        ear.next("notifications/tools/list_changed").await;
    }
}
