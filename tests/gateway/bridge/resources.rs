//! Rows of resources: reading, what does not exist, subscriptions, updates of them and of their parts.

use serde_json::{Value, json};

use super::cell::Cell;
use super::listening::Ear;
use super::row;
use super::stage::{Stage, Wishes};

const COUNTER: &str = "demo://counter";
const LAST: &str = "demo://counter/last";
const NOWHERE: &str = "demo://nowhere";

row!(resource_read: [every]);

async fn resource_read(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({})).await;
    caller.client.until_listed("resources", &["text"]).await;
    let read = caller.client.request("resources/read", json!({ "uri": "demo://text" })).await;
    let content = &read.result()["contents"][0];
    assert_eq!(content["text"], "Trains are routed in a switchyard.");
    assert_eq!(content["uri"], "demo://text");
    assert_eq!(read.result().get("ttlMs").is_some(), cell.has_stateless_client(), "{}", read.raw);
    let item = caller.client.request("resources/read", json!({ "uri": "demo://item/7" })).await;
    assert_eq!(item.result()["contents"][0]["text"], r#"{"id":7,"name":"item 7"}"#);
}

row!(resource_not_found: [every]);

async fn resource_not_found(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({})).await;
    caller.client.until_listed("resources", &["text"]).await;
    // The template knows it, the server does not have it.
    let missing = caller.client.request("resources/read", json!({ "uri": "demo://item/4711" })).await;
    missing.expect_error(200, if cell.has_stateless_client() { -32602 } else { -32002 });
    assert_eq!(missing.error()["data"]["uri"], "demo://item/4711", "{}", missing.raw);
}

row!(subscribe: [every]);

async fn subscribe(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({})).await;
    caller.client.until_listed("resources", &["counter"]).await;
    if cell.has_stateless_client() {
        let ear = Ear::open(&caller, json!({ "resourceSubscriptions": [COUNTER, NOWHERE, LAST] })).await;
        let mut honoured: Vec<Value> =
            ear.honoured["resourceSubscriptions"].as_array().cloned().unwrap_or_default();
        honoured.sort_by_key(Value::to_string);
        assert_eq!(honoured, [COUNTER, LAST], "what does not exist is left out (S-SUB-02)");
        return;
    }
    let done = caller.client.request("resources/subscribe", json!({ "uri": COUNTER })).await;
    assert_eq!(*done.result(), json!({}));
    let refused = caller.client.request("resources/subscribe", json!({ "uri": "demo://item/4711" })).await;
    let code = if cell.has_stateless_upstream() { -32602 } else { -32002 };
    refused.expect_error(200, code);
    assert_eq!(refused.error()["data"]["uri"], "demo://item/4711", "{}", refused.raw);
    let undone = caller.client.request("resources/unsubscribe", json!({ "uri": COUNTER })).await;
    assert_eq!(*undone.result(), json!({}));
}

/// Subscribe to one resource, let another change, and hear of it.
async fn hear_of(cell: Cell, changed: &str) {
    let stage = Stage::with(cell, Wishes::default().shared_by_all()).await;
    let caller = stage.caller(json!({})).await;
    caller.client.until_listed("resources", &["counter"]).await;
    let lever = stage.lever(&caller).await;
    let mut ear = match cell.has_stateless_client() {
        true => Ear::open(&caller, json!({ "resourceSubscriptions": [COUNTER] })).await,
        false => {
            let ear = Ear::open(&caller, json!({})).await;
            caller.client.request("resources/subscribe", json!({ "uri": COUNTER })).await.result();
            ear
        }
    };
    // Nobody subscribed to this one.
    lever.pull("touch", json!({ "uri": "demo://text" })).await;
    lever.pull("touch", json!({ "uri": changed })).await;
    let updated = ear.next("notifications/resources/updated").await;
    assert_eq!(updated["uri"], changed, "{updated}");
}

row!(update: [every]);

async fn update(cell: Cell) {
    hear_of(cell, COUNTER).await;
}

row!(sub_resource_update: [every]);

async fn sub_resource_update(cell: Cell) {
    hear_of(cell, LAST).await;
}
