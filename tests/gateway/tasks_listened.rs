//! Listening for tasks in the stateless era (S-TX-10).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Exchange;
use crate::support::upstream::Manner;
use crate::tasks_stage::{Stage, client_at, every, over_http};

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

async fn listen(stage: &Stage, ids: &[&str]) -> (Exchange, Value) {
    let params = json!({ "notifications": { "taskIds": ids } });
    let mut exchange = stage.client.open("subscriptions/listen", params).await;
    let first = exchange.until_method(ACKNOWLEDGED).await;
    let honoured = first.params()["notifications"]["taskIds"].clone();
    (exchange, honoured)
}

#[tokio::test]
async fn s_tx_10_the_own_tasks_are_acknowledged_and_told_of_as_a_look_would() {
    for pair in every().into_iter().filter(|pair| pair.has_extension_client()) {
        let config = "profiles:\n  other: { servers: [one] }\n";
        let stage = Stage::with(pair, Manner::default(), config).await;
        let other = client_at(&stage.gateway.endpoint.at("/mcp/other"), pair.client).await;
        other.until_tools(&["one__echo"]).await;
        let foreign = other.begin_id("one__long", json!({})).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let unheard = stage.client.begin_id("one__long", json!({})).await;
        let (mut exchange, honoured) = listen(&stage, &[&id, &foreign, "never-given-out"]).await;
        assert_eq!(honoured, json!([id]), "{pair:?}: what is foreign or unknown is not acknowledged");
        stage.upstream.complete("task-3", "of another");
        stage.upstream.complete("task-2", "done");
        let told = loop {
            let message = exchange.until_method("notifications/tasks").await;
            assert_eq!(message.params()["taskId"], *id, "{pair:?}: {}", message.raw);
            if message.params()["status"] == "completed" {
                break message;
            }
        };
        let mut told = told.params().clone();
        let looked = stage.client.task(&id).await.result().clone();
        told.as_object_mut().expect("an object").remove("_meta");
        for (member, value) in told.as_object().expect("an object") {
            assert_eq!(looked[member], *value, "{pair:?}: {member}");
        }
        assert_eq!(told["result"]["content"][0]["text"], "done", "{pair:?}");
        assert_ne!(unheard, id);
    }
}

#[tokio::test]
async fn s_tx_10_no_progress_and_no_log_comes_on_the_stream() {
    for pair in over_http().into_iter().filter(|pair| pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let params = json!({
            "name": "one__long", "arguments": { "after": 300 },
            "_meta": { "progressToken": "p", "io.modelcontextprotocol/logLevel": "debug" },
        });
        let answer = stage.client.request("tools/call", params).await;
        let id = crate::support::client::id_of(&crate::support::client::created(&answer));
        let (mut exchange, _) = listen(&stage, &[&id]).await;
        stage.client.until_over(&id).await;
        for message in exchange.messages_within(Duration::from_millis(300)).await {
            assert_eq!(message.method(), "notifications/tasks", "{pair:?}: {}", message.raw);
        }
    }
}

#[tokio::test]
async fn s_tx_10_questions_are_told_too() {
    for pair in over_http().into_iter().filter(|pair| pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({ "hold": true })).await;
        let (mut exchange, _) = listen(&stage, &[&id]).await;
        let question = crate::tasks_stage::name_question();
        stage.upstream.inquire("task-1", "who", "elicitation/create", question["params"].clone());
        loop {
            let message = exchange.until_method("notifications/tasks").await;
            if message.params()["status"] == "input_required" {
                let asked = message.params()["inputRequests"].as_object().expect("judged by the form");
                assert_eq!(asked.len(), 1, "{pair:?}: {}", message.raw);
                break;
            }
        }
    }
}
