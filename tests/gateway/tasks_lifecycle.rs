//! A task from its creation to its result, in every pairing (S-TASK-05, -10…12, -23, -25, S-TX-03…05, -13).

use std::time::Duration;

use futures_util::future::join;
use serde_json::{Value, json};

use crate::support::client::{created, id_of};
use crate::support::upstream::{Manner, Outcome};
use crate::support::within;
use crate::tasks_stage::{Stage, every, over_http};

const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

#[tokio::test]
async fn s_task_05_a_task_is_answered_at_once_and_its_result_later() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        // It never ends by itself: who waited for its result would wait in vain.
        let answer = stage.client.call_as_task("one__long", json!({ "text": "it" })).await;
        let task = created(&answer);
        assert_eq!(task["status"], "working", "{pair:?}");
        let id = id_of(&task);
        assert_ne!(id, "task-1", "ids are the gateway's own");
        let own = stage.upstream.until_task(1).await;
        stage.upstream.complete(&own, "done");
        let end = stage.client.until_over(&id).await;
        assert_eq!((end.status.as_str(), end.text()), ("completed", "done"), "{pair:?}");
        assert_eq!(stage.upstream.received("tools/call").len(), 1, "{pair:?}");
    }
}

#[tokio::test]
async fn s_tx_04_a_task_is_known_as_soon_as_it_was_answered() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner::default()).await;
        for _ in 0..20 {
            let task = stage.client.begin("one__long", json!({})).await;
            let got = stage.client.task(&id_of(&task)).await;
            assert_eq!(got.result()["taskId"], task["taskId"]);
            assert_eq!(got.result()["createdAt"], task["createdAt"]);
        }
    }
}

#[tokio::test]
async fn s_task_10_a_task_is_told_while_it_runs_and_when_it_is_over() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({ "message": "under way" })).await;
        let task = stage.upstream.until_task(1).await;
        let running = stage.client.task(&id).await;
        assert_eq!(running.result()["status"], "working", "{pair:?}");
        stage.upstream.complete(&task, "over");
        let done = stage.client.until_status(&id, "completed").await;
        assert_eq!(done["taskId"], *id, "{pair:?}");
        assert_eq!(done["createdAt"], running.result()["createdAt"], "{pair:?}");
        assert!(done["lastUpdatedAt"].as_str() >= running.result()["lastUpdatedAt"].as_str(), "{pair:?}");
        for _ in 0..2 {
            assert_eq!(
                stage.client.task(&id).await.result()["status"],
                "completed",
                "reading changes nothing"
            );
        }
    }
}

#[tokio::test]
async fn s_task_11_the_result_is_waited_for_and_may_be_fetched_again() {
    for pair in every().into_iter().filter(|pair| !pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        let (first, second) = (stage.client.clone(), stage.client.clone());
        let mut leaving = stage.client.open_task_result(&id).await;
        assert!(tokio::time::timeout(Duration::from_millis(150), leaving.next()).await.is_err(), "{pair:?}");
        drop(leaving);
        let finish = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            stage
                .upstream
                .end(&task, Outcome::Result(json!({ "content": [], "structuredContent": { "n": 1 } })));
        };
        let both = join(first.task_result(&id), second.task_result(&id));
        let ((one, two), ()) = within(Duration::from_secs(15), "two waiters", join(both, finish)).await;
        let again = stage.client.task_result(&id).await;
        for answer in [&one, &two, &again] {
            assert_eq!(answer.result()["structuredContent"], json!({ "n": 1 }), "{pair:?}");
            assert_eq!(answer.result()["_meta"][RELATED_TASK], json!({ "taskId": id }), "{pair:?}");
        }
        assert!(stage.upstream.received("tasks/cancel").is_empty(), "a waiter that leaves cancels nothing");
    }
}

#[tokio::test]
async fn s_task_11_a_waiter_whose_session_ends_is_told_that_and_of_no_failure() {
    for pair in every().into_iter().filter(|pair| !pair.has_extension_client()) {
        let mut stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        let mut waiting = stage.client.open_task_result(&id).await;
        waiting.head().await;
        assert!(matches!(stage.client.delete().await, 200 | 204));
        let told = waiting.answer().await;
        assert_eq!(told.error_code(), -32603, "{pair:?}: {}", told.raw);
        assert!(told.error().get("data").is_none(), "{pair:?}: nothing failed: {}", told.raw);
        stage.come_again().await;
        stage.upstream.complete(&task, "all the same");
        assert_eq!(stage.client.until_over(&id).await.text(), "all the same", "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_12_failures_of_tools_and_of_requests_are_told_as_the_dialect_wants() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id =
            stage.client.begin_id("one__long", json!({ "after": 5, "isError": true, "text": "ill" })).await;
        let end = stage.client.until_over(&id).await;
        assert_eq!(end.status, pair.of_tool_error(), "{pair:?}: {end:?}");
        assert_eq!((end.text(), &end.result["isError"]), ("one did ill", &json!(true)), "{pair:?}");
        let error = json!({ "code": -31999, "message": "no such thing", "data": { "which": "that" } });
        let id = stage.client.begin_id("one__long", json!({ "after": 5, "error": error })).await;
        let end = stage.client.until_over(&id).await;
        assert_eq!((end.status.as_str(), &end.error), ("failed", &error), "{pair:?}");
        assert!(end.result.is_null(), "{pair:?}");
        if !pair.has_extension_client() {
            let task = stage.client.task(&id).await;
            assert!(task.result()["statusMessage"].is_string(), "a failure says why: {}", task.raw);
        }
    }
}

#[tokio::test]
async fn s_tx_13_ids_of_the_server_are_nowhere_in_what_is_told() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        let mut result = text("done");
        result["_meta"] = json!({ RELATED_TASK: { "taskId": task }, "own": 1 });
        stage.upstream.end(&task, Outcome::Result(result));
        let end = stage.client.until_over(&id).await;
        assert_eq!(end.result["_meta"].get(RELATED_TASK), None, "{pair:?}: {end:?}");
        assert_eq!(end.result["_meta"]["own"], 1, "{pair:?}: what is not of tasks stays");
        let mut told = Vec::new();
        crate::support::json::every_string(&end.task, &mut told);
        crate::support::json::every_string(&end.result, &mut told);
        assert!(!told.contains(&task), "{pair:?}: {told:?}");
    }
}

#[tokio::test]
async fn s_task_23_words_for_the_model_pass_through() {
    const IMMEDIATE: &str = "io.modelcontextprotocol/model-immediate-response";
    for pair in
        every().into_iter().filter(|pair| pair.has_extension_client() || !pair.has_extension_upstream())
    {
        let stage = Stage::set(pair, Manner::default()).await;
        let answer =
            stage.client.call_as_task("one__long", json!({ "immediate": "It runs. \u{1F600}" })).await;
        assert_eq!(answer.result()["_meta"][IMMEDIATE], "It runs. \u{1F600}", "{pair:?}: {}", answer.raw);
    }
}

#[tokio::test]
async fn s_task_25_looking_at_a_task_opens_no_stream() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let answer = stage.client.task(&id).await;
        let kind = answer.headers.get("content-type").unwrap_or_default();
        assert!(!answer.streamed && kind.starts_with("application/json"), "{pair:?}: {kind}");
    }
}

#[tokio::test]
async fn s_tx_05_what_a_result_holds_comes_through_byte_by_byte() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        let result = json!({
            "content": [{ "type": "text", "text": "ä\u{2028}\"\\" }, { "type": "text", "text": "" }],
            "structuredContent": { "big": 12_345_678_901_234_567_890_u64, "deep": { "a": [1.5, null] } },
        });
        stage.upstream.end(&task, Outcome::Result(result.clone()));
        let end = stage.client.until_over(&id).await;
        assert_eq!(end.result["content"], result["content"], "{pair:?}");
        assert_eq!(end.result["structuredContent"], result["structuredContent"], "{pair:?}");
    }
}

#[tokio::test]
async fn s_tx_03_a_call_that_asks_first_becomes_a_task_afterwards() {
    use crate::support::{STATELESS, TRANSPORTS, upstream};
    for transport in TRANSPORTS {
        let upstream = upstream("one", STATELESS, transport)
            .tasks(Manner::default())
            .on("tools/call", |mut call| async move {
                if call.params().get("inputResponses").is_none() {
                    let requests = json!({ "who": crate::tasks_stage::name_question() });
                    return call.result(json!({ "resultType": "input_required", "inputRequests": requests, "requestState": "s" })).await;
                }
                call.become_a_task().await;
            })
            .start()
            .await;
        let pair = crate::tasks_stage::Pair { client: STATELESS, upstream: STATELESS, transport };
        let stage = Stage::before(upstream, pair, "").await;
        let params = json!({ "name": "one__long", "arguments": { "text": "it" } });
        let first = stage.client.request("tools/call", params.clone()).await;
        assert_eq!(first.result()["resultType"], "input_required");
        assert!(first.result().get("taskId").is_none(), "{}", first.raw);
        let mut params = params;
        for key in first.result()["inputRequests"].as_object().expect("it asks").keys() {
            params["inputResponses"][key] = crate::tasks_stage::named("Ada");
        }
        params["requestState"] = first.result()["requestState"].clone();
        let id = id_of(&created(&stage.client.request("tools/call", params).await));
        stage.upstream.complete("task-1", "Hello, Ada");
        assert_eq!(stage.client.until_over(&id).await.text(), "Hello, Ada");
    }
}
