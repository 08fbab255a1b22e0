//! Servers whose tasks are not as they should be (S-TASK-06, -21, S-TX-05, F45 beside it).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::upstream::{Manner, Outcome};
use crate::support::{HANDSHAKE, STATELESS, TRANSPORTS, upstream};
use crate::tasks_stage::{Pair, Stage, every, over_http};

#[tokio::test]
async fn s_task_06_what_is_over_stays_over_whatever_the_server_says_later() {
    for pair in every() {
        let stage = Stage::set(pair, Manner { notifies: true, ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.complete(&task, "first");
        assert_eq!(stage.client.until_over(&id).await.text(), "first", "{pair:?}");
        for later in ["working", "input_required", "failed", "cancelled"] {
            stage.upstream.change(&task, |task| later.clone_into(&mut task.status));
            tokio::time::sleep(Duration::from_millis(100)).await;
            let end = stage.client.until_over(&id).await;
            assert_eq!((end.status.as_str(), end.text()), ("completed", "first"), "{pair:?}: {later}");
        }
        stage.upstream.end(&task, Outcome::Error(json!({ "code": 1, "message": "second" })));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(stage.client.until_over(&id).await.text(), "first", "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_21_a_task_that_the_server_forgot_has_failed() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.until_received("tasks/get", 1).await;
        stage.upstream.change(&task, |task| task.is_forgotten = true);
        let end = stage.client.until_over(&id).await;
        expect_lost(pair, &end);
        assert_eq!(stage.upstream.received("tools/call").len(), 1, "{pair:?}");
    }
}

/// That a task ended without anyone knowing what became of it.
pub(crate) fn expect_lost(pair: Pair, end: &crate::support::client::TaskEnd) {
    let failure = match end.error.is_null() {
        true => &end.result["_meta"]["switchyard/failure"],
        false => &end.error["data"],
    };
    assert_eq!(failure["outcome"], "unknown", "{pair:?}: {end:?}");
    assert_eq!(failure["reason"], "upstream_lost", "{pair:?}: {end:?}");
    let is_by_result = end.error.is_null();
    assert_eq!(end.status, if is_by_result { pair.of_tool_error() } else { "failed" }, "{pair:?}: {end:?}");
}

fn broken(is_stateless: bool) -> Vec<Value> {
    let time = "2026-01-01T00:00:00Z";
    let whole = json!({ "taskId": "task-1", "status": "working", "createdAt": time, "lastUpdatedAt": time, "ttl": 5_000, "ttlMs": 5_000 });
    let mut all = Vec::new();
    for (member, value) in [
        ("taskId", json!(7)),
        ("taskId", json!("")),
        ("taskId", Value::Null),
        ("status", json!("strange")),
        ("status", json!(1)),
    ] {
        let mut task = whole.clone();
        task[member] = value;
        all.push(task);
    }
    let meta = json!({ "io.modelcontextprotocol/serverInfo": { "name": "x", "version": "1" } });
    match is_stateless {
        false => {
            let mut all: Vec<Value> = all.into_iter().map(|task| json!({ "task": task })).collect();
            all.extend([json!({ "task": null }), json!({ "task": "task-1" }), json!({ "task": [] })]);
            all
        }
        true => all
            .into_iter()
            .map(|mut task| {
                task["resultType"] = json!("task");
                task["_meta"] = meta.clone();
                task
            })
            .collect(),
    }
}

#[tokio::test]
async fn s_task_05_what_is_no_task_is_told_as_the_fault_of_the_server() {
    for pair in over_http() {
        for creates in broken(pair.has_extension_upstream()) {
            let manner = Manner { creates: Some(creates.clone()), ..Manner::default() };
            let stage = Stage::set(pair, manner).await;
            let answer = stage.client.call_as_task("one__long", json!({})).await;
            let failure = if pair.has_extension_client() {
                // The client was never told of a task.
                answer.failure().clone()
            } else {
                let id = answer.result()["task"]["taskId"].as_str().map(str::to_owned);
                match id {
                    None => answer.failure().clone(),
                    Some(id) => {
                        let end = stage.client.until_over(&id).await;
                        assert_eq!(end.status, "failed", "{pair:?}: {creates}");
                        let by_result = end.result["_meta"]["switchyard/failure"].clone();
                        if by_result.is_null() { end.error["data"].clone() } else { by_result }
                    }
                }
            };
            assert_eq!(failure["reason"], "upstream_protocol_error", "{pair:?}: {creates}: {failure}");
            assert_eq!(failure["outcome"], "unknown", "{pair:?}: {creates}: {failure}");
        }
    }
}

#[tokio::test]
async fn s_task_05_a_server_that_answers_at_once_instead_of_with_a_task_is_understood() {
    for pair in over_http().into_iter().filter(|pair| !pair.has_extension_upstream()) {
        let manner = Manner {
            creates: Some(json!({ "content": [{ "type": "text", "text": "at once" }] })),
            ..Manner::default()
        };
        let stage = Stage::set(pair, manner).await;
        let answer = stage.client.call_as_task("one__long", json!({})).await;
        let text = match answer.result()["task"]["taskId"].as_str() {
            Some(id) => stage.client.until_over(id).await.text().to_owned(),
            None => answer.text().to_owned(),
        };
        assert_eq!(text, "at once", "{pair:?}");
    }
}

#[tokio::test]
async fn s_tx_05_members_that_nobody_knows_hurt_nobody() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        let members = json!({ "strange": { "a": [1] }, "x-priority": 7, "taskID": "no" });
        let id = stage
            .client
            .begin_id("one__long", json!({ "members": members, "after": 200, "text": "it" }))
            .await;
        assert_eq!(stage.client.until_over(&id).await.text(), "one did it", "{pair:?}");
    }
}

#[tokio::test]
async fn s_tx_02_a_task_that_nobody_asked_for_is_the_fault_of_the_server() {
    for transport in TRANSPORTS {
        let time = "2026-01-01T00:00:00Z";
        let upstream = upstream("one", STATELESS, transport)
            .on("tools/call", move |mut call| async move {
                let task = json!({ "resultType": "task", "taskId": "t", "status": "working", "createdAt": time, "lastUpdatedAt": time, "ttlMs": null });
                let mut result = call.complete(task);
                result["resultType"] = json!("task");
                call.result(result).await;
            })
            .start()
            .await;
        let pair = Pair { client: HANDSHAKE, upstream: STATELESS, transport };
        let stage = Stage::before(upstream, pair, "").await;
        for revision in [HANDSHAKE, STATELESS] {
            let plain = stage.gateway.client(revision).await;
            let answer = plain.call("one__echo", json!({})).await;
            answer.expect_failure("upstream_protocol_error", "unknown");
        }
    }
}

#[tokio::test]
async fn s_task_21_a_server_that_goes_away_for_a_while_is_asked_again_not_called_again() {
    for pair in over_http() {
        let config = "bounds: { backoff_first: 50ms, backoff_longest: 100ms }";
        let mut stage = Stage::with(pair, Manner::default(), config).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        stage.upstream.until_received("tasks/get", 1).await;
        let address = stage.upstream.address();
        stage.upstream.kill().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        // What comes back knows nothing of before, as a restarted server does.
        let again = crate::support::eventually("the address to be free", || async {
            upstream("one", pair.upstream, pair.transport).tasks(Manner::default()).start_at(address).await
        })
        .await;
        let end = stage.client.until_over(&id).await;
        expect_lost(pair, &end);
        assert!(again.received("tools/call").is_empty(), "{pair:?}: never a second time");
    }
}
