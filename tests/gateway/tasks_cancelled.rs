//! Cancelling tasks, in each dialect, of servers that obey and of others (S-TASK-15, S-TX-07).

use std::time::Duration;

use serde_json::json;

use crate::support::upstream::Manner;
use crate::support::{HANDSHAKE, Transport};
use crate::tasks_stage::{Pair, Stage, every, over_http};

#[tokio::test]
async fn s_task_15_a_running_task_is_cancelled_here_and_at_the_server() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        let answer = stage.client.cancel_task(&id).await;
        if !pair.has_extension_client() {
            assert_eq!(answer.result()["status"], "cancelled", "{pair:?}: before it is answered");
            assert_eq!(answer.result()["taskId"], *id);
        }
        assert_eq!(stage.client.until_over(&id).await.status, "cancelled", "{pair:?}");
        let told = stage.upstream.until_received("tasks/cancel", 1).await;
        assert_eq!(told.params()["taskId"], *task, "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_15_a_finished_task_is_not_cancelled_in_the_core_dialect() {
    for pair in every().into_iter().filter(|pair| !pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let ends = [
            json!({ "after": 5 }),
            json!({ "after": 5, "isError": true }),
            json!({ "after": 5, "error": { "code": 1, "message": "x" } }),
        ];
        for arguments in ends {
            let id = stage.client.begin_id("one__long", arguments).await;
            let before = stage.client.until_over(&id).await;
            stage.client.cancel_task(&id).await.expect_error(200, -32602);
            assert_eq!(stage.client.until_over(&id).await.status, before.status, "{pair:?}");
        }
        let id = stage.client.begin_id("one__long", json!({})).await;
        stage.client.cancel_task(&id).await.result();
        stage.client.cancel_task(&id).await.expect_error(200, -32602);
    }
}

#[tokio::test]
async fn s_tx_07_cancelling_is_acknowledged_whatever_became_of_the_task() {
    for pair in every().into_iter().filter(|pair| pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({ "after": 5, "text": "it" })).await;
        stage.client.until_over(&id).await;
        for _ in 0..2 {
            stage.client.cancel_task(&id).await.result();
            let end = stage.client.until_over(&id).await;
            assert_eq!((end.status.as_str(), end.text()), ("completed", "one did it"), "{pair:?}");
        }
        stage.client.cancel_task("never-given-out").await.expect_error(200, -32602);
        assert!(stage.upstream.received("tasks/cancel").is_empty(), "{pair:?}: it was over");
    }
}

#[tokio::test]
async fn s_task_15_a_cancelled_task_stays_so_even_if_the_server_goes_on_and_ends_it() {
    for pair in every() {
        let stage =
            Stage::set(pair, Manner { ignores_cancel: true, notifies: true, ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.client.cancel_task(&id).await.result();
        stage.upstream.until_received("tasks/cancel", 1).await;
        if pair.has_extension_client() {
            stage.client.until_over(&id).await;
        }
        stage.upstream.complete(&task, "all the same");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let end = stage.client.until_over(&id).await;
        assert_eq!(end.status, "cancelled", "{pair:?}: {end:?}");
        assert!(end.result.is_null(), "the late result is dropped: {end:?}");
    }
}

#[tokio::test]
async fn s_task_15_a_server_that_cannot_cancel_is_not_asked_to() {
    for pair in over_http().into_iter().filter(|pair| !pair.has_extension_upstream()) {
        let stage = Stage::set(pair, Manner { cancels: false, ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.client.cancel_task(&id).await.result();
        stage.upstream.complete(&task, "late");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(stage.client.until_over(&id).await.status, "cancelled", "{pair:?}");
        // That `tasks/cancel` never came is checked by the upstream itself.
        assert!(stage.upstream.received("tasks/cancel").is_empty());
    }
}

#[tokio::test]
async fn s_task_15_the_result_of_a_cancelled_task_is_an_error_for_who_waits() {
    for upstream in [HANDSHAKE, crate::support::STATELESS] {
        let pair = Pair { client: HANDSHAKE, upstream, transport: Transport::Http };
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let waiting = stage.client.open_task_result(&id).await;
        stage.client.cancel_task(&id).await.result();
        let answer = waiting.answer().await;
        assert!(
            answer.error()["message"].as_str().is_some_and(|text| text.contains("cancel")),
            "{}",
            answer.raw
        );
        assert_eq!(answer.error_code(), -32603, "{pair:?}");
    }
}

#[tokio::test]
async fn s_tx_07_the_notification_of_calls_is_not_for_tasks() {
    for pair in over_http().into_iter().filter(|pair| !pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let params = json!({ "name": "one__long", "arguments": {}, "task": {} });
        let answer = stage.client.open_as(json!(4_711), "tools/call", params).await.answer().await;
        let id = crate::support::client::id_of(&crate::support::client::created(&answer));
        stage.client.notify("notifications/cancelled", json!({ "requestId": 4_711 })).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(stage.client.task(&id).await.result()["status"], "working", "{pair:?}");
        assert!(stage.upstream.received("tasks/cancel").is_empty(), "{pair:?}");
    }
}

#[tokio::test]
async fn s_canc_03_a_call_that_became_a_task_is_not_cancelled_as_a_call() {
    for pair in every().into_iter().filter(|pair| !pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let created = stage.client.call_as_task("one__long", json!({})).await;
        let id = created.result()["task"]["taskId"].as_str().expect("a task").to_owned();
        let upstreams = stage.upstream.until_task(1).await;
        let cancelled = json!({ "requestId": created.json["id"] });
        stage.client.notify("notifications/cancelled", cancelled).await;
        // What comes behind it on the same way has passed it.
        assert_eq!(stage.client.task(&id).await.result()["status"], "working", "{pair:?}");
        stage.upstream.complete(&upstreams, "here");
        let end = stage.client.until_over(&id).await;
        assert_eq!((end.status.as_str(), end.text()), ("completed", "here"), "{pair:?}");
        assert!(stage.upstream.received("tasks/cancel").is_empty(), "{pair:?}");
        assert!(stage.upstream.received("notifications/cancelled").is_empty(), "{pair:?}");
    }
}
