//! Connections that tasks of servers are reached over: whose turn they take, whom they ask, when they are let go.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::client::created;
use crate::support::upstream::{AsksOn, Manner};
use crate::support::{HANDSHAKE, STATELESS, TRANSPORTS, Transport, upstream};
use crate::tasks_stage::{Pair, Stage, name_question, named};

/// Tasks at once, of one caller: more than it may have connections to itself.
const MANY: usize = 20;

#[tokio::test]
async fn s_task_17_tasks_take_nobodys_turn_and_each_is_answered_by_its_own() {
    for transport in TRANSPORTS {
        let pair = Pair { client: STATELESS, upstream: HANDSHAKE, transport };
        let stage = Stage::set(pair, Manner::default()).await;
        let mut begun = Vec::new();
        for _ in 0..MANY {
            let arguments = json!({ "ask": { "who": name_question() } });
            begun.push(stage.client.begin_id("one__long", arguments).await);
        }
        stage.upstream.until_task(MANY).await;
        let calls = stage.upstream.received("tools/call");
        let over: HashSet<_> = calls
            .iter()
            .map(|call| call.session().map_or(call.connection.to_string(), str::to_owned))
            .collect();
        assert_eq!(over.len(), 1, "{pair:?}: they share a connection");
        // A call that may be asked things is not kept waiting.
        let told = stage.client.call("one__echo", json!({ "text": "now" })).await;
        assert!(told.text().ends_with("now"), "{pair:?}: {}", told.text());
        for (n, id) in begun.iter().enumerate() {
            let (questions, end) = stage.client.follow(id, |_| named(&format!("caller {n}"))).await;
            assert_eq!(questions.len(), 1, "{pair:?}");
            let told: Value = serde_json::from_str(end.text()).expect("what it was told");
            assert_eq!(told["who"]["content"]["name"], format!("caller {n}"), "{pair:?}");
        }
    }
}

#[tokio::test]
async fn s_elic_11_a_question_that_may_be_of_two_tasks_is_put_to_neither() {
    for transport in TRANSPORTS {
        let pair = Pair { client: HANDSHAKE, upstream: HANDSHAKE, transport };
        let stage = Stage::set(pair, Manner { asks_on: AsksOn::Unrelated, ..Manner::default() }).await;
        let other = stage.client.begin_id("one__long", json!({})).await;
        stage.upstream.until_task(1).await;
        stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
        let asking = stage.upstream.until_task(2).await;
        let told = stage.upstream.until_told(&asking, "who").await;
        assert_eq!(told["action"], "cancel", "{pair:?}: {told}");
        assert_eq!(stage.client.task(&other).await.result()["status"], "working", "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_15_a_task_that_comes_after_its_cancellation_is_cancelled_at_its_server() {
    let tasks = json!({ "tools": {}, "tasks": { "cancel": {}, "requests": { "tools": { "call": {} } } } });
    let tool = json!({ "name": "late", "inputSchema": { "type": "object" }, "execution": { "taskSupport": "optional" } });
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio)
        .capabilities(tasks)
        .tool_as(tool)
        .on("tools/call", |mut call| async move {
            call.cancelled().await;
            let time = "2026-01-01T00:00:00Z";
            let task = json!({ "taskId": "late", "status": "working", "createdAt": time, "lastUpdatedAt": time, "ttl": null });
            call.result(json!({ "task": task })).await;
        })
        .on("tasks/cancel", |mut call| async move {
            let time = "2026-01-01T00:00:00Z";
            call.result(json!({ "taskId": "late", "status": "cancelled", "createdAt": time, "lastUpdatedAt": time, "ttl": null })).await;
        })
        .start()
        .await;
    let pair = Pair { client: HANDSHAKE, upstream: HANDSHAKE, transport: Transport::Stdio };
    let stage = Stage::before(upstream, pair, "").await;
    let task = created(&stage.client.call_as_task("one__late", json!({})).await);
    stage.upstream.until_received("tools/call", 1).await;
    let id = task["taskId"].as_str().expect("tasks have ids");
    stage.client.cancel_task(id).await.result();
    let cancelled = stage.upstream.until_received("tasks/cancel", 1).await;
    assert_eq!(cancelled.params()["taskId"], "late");
}
