//! Tasks outlive the gateway (S-TASK-21, S-TX-11, -16, F45).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::upstream::{AsksOn, Manner};
use crate::support::{HANDSHAKE, STATELESS, Transport};
use crate::tasks_stage::{Pair, Stage, every, name_question, named, over_http};

/// Kill the gateway and start it again where it was.
async fn kill_and_start(stage: &mut Stage) {
    stage.gateway.kill().await;
    assert!(stage.gateway.directory().join("state").is_dir(), "what is kept lies beside the configuration");
    stage.gateway.start_again().await;
    stage.come_again().await;
}

/// That the task failed because the gateway was started again.
fn expect_restarted(pair: Pair, end: &crate::support::client::TaskEnd, outcome: &str) {
    let by_result = &end.result["_meta"]["switchyard/failure"];
    let failure = if end.error.is_null() { by_result } else { &end.error["data"] };
    assert_eq!(failure["reason"], "gateway_restarted", "{pair:?}: {end:?}");
    assert_eq!(failure["outcome"], outcome, "{pair:?}: {end:?}");
    assert!(matches!(end.status.as_str(), "failed" | "completed"), "{pair:?}: {end:?}");
}

#[tokio::test]
async fn s_task_21_a_running_task_of_an_http_server_goes_on_after_a_kill() {
    for pair in over_http() {
        let mut stage = Stage::set(pair, Manner::default()).await;
        let before = stage.client.begin("one__long", json!({})).await;
        let id = crate::support::client::id_of(&before);
        // Not before the server's task is known to the gateway: until then nobody knows where it is.
        let task = stage.upstream.until_task(1).await;
        stage.upstream.until_received("tasks/get", 1).await;
        kill_and_start(&mut stage).await;
        let after = stage.client.task(&id).await;
        assert_eq!(after.result()["status"], "working", "{pair:?}");
        assert_eq!(after.result()["createdAt"], before["createdAt"], "{pair:?}");
        stage.upstream.complete(&task, "all the same");
        assert_eq!(stage.client.until_over(&id).await.text(), "all the same", "{pair:?}");
        assert_eq!(stage.upstream.received("tools/call").len(), 1, "{pair:?}: called once");
    }
}

#[tokio::test]
async fn s_https_20_who_waits_for_a_result_holds_up_no_stop_and_the_task_goes_on() {
    for pair in over_http().into_iter().filter(|pair| !pair.has_extension_client()) {
        let mut stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.until_received("tasks/get", 1).await;
        let mut waiting = stage.client.open_task_result(&id).await;
        waiting.head().await;
        let began = Instant::now();
        let (status, told) = tokio::join!(stage.gateway.terminate(), waiting.answer());
        assert!(status.success(), "{pair:?}: {status:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "{pair:?}: half the drain, {:?}", began.elapsed());
        told.expect_failure("gateway_restarted", "not_sent");
        assert_eq!(told.failure()["retryable"], true, "{pair:?}: {}", told.raw);
        stage.gateway.start_again().await;
        stage.come_again().await;
        stage.upstream.complete(&task, "all the same");
        assert_eq!(stage.client.until_over(&id).await.text(), "all the same", "{pair:?}");
        assert!(stage.upstream.received("tasks/cancel").is_empty(), "{pair:?}");
    }
}

#[tokio::test]
async fn s_https_20_a_task_that_cannot_outlive_the_gateway_has_a_moment_to_end() {
    let pair = Pair { client: HANDSHAKE, upstream: STATELESS, transport: Transport::Http };
    for ends_in_time in [true, false] {
        let mut stage = Stage::set(pair, Manner::default()).await;
        let after = if ends_in_time { 1_000 } else { 60_000 };
        let id = stage.client.begin_id("one__echo", json!({ "after": after, "text": "it" })).await;
        stage.upstream.until_received("tools/call", 1).await;
        let mut waiting = stage.client.open_task_result(&id).await;
        waiting.head().await;
        let began = Instant::now();
        let (status, told) = tokio::join!(stage.gateway.terminate(), waiting.answer());
        assert!(status.success() && began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        match ends_in_time {
            true => assert!(told.json.get("result").is_some(), "{}", told.raw),
            false => drop(told.expect_failure("gateway_restarted", "not_sent")),
        }
    }
}

#[tokio::test]
async fn s_task_21_a_finished_task_is_answered_after_a_kill_with_what_it_came_to() {
    for pair in every() {
        let mut stage = Stage::set(pair, Manner::default()).await;
        let rows = [
            json!({ "after": 5, "text": "it" }),
            json!({ "after": 5, "isError": true, "text": "ill" }),
            json!({ "after": 5, "error": { "code": -31999, "message": "no", "data": [1] } }),
        ];
        let mut ended = Vec::new();
        for arguments in rows {
            let id = stage.client.begin_id("one__long", arguments).await;
            let end = stage.client.until_over(&id).await;
            ended.push((id, end));
        }
        let cancelled = stage.client.begin_id("one__long", json!({})).await;
        stage.client.cancel_task(&cancelled).await.result();
        let end = stage.client.until_over(&cancelled).await;
        ended.push((cancelled, end));
        let looks = stage.upstream.received("tasks/get").len();
        kill_and_start(&mut stage).await;
        for (id, before) in &ended {
            let after = stage.client.until_over(id).await;
            assert_eq!(
                (&after.status, &after.result["content"], &after.error, &after.task["createdAt"]),
                (&before.status, &before.result["content"], &before.error, &before.task["createdAt"]),
                "{pair:?}"
            );
        }
        if !pair.has_extension_client() {
            let ids: Vec<&String> = ended.iter().map(|(id, _)| id).collect();
            assert_eq!(
                stage.client.all_task_ids().await.iter().collect::<Vec<_>>().len(),
                ids.len(),
                "{pair:?}"
            );
        }
        assert_eq!(stage.upstream.received("tasks/get").len(), looks, "{pair:?}: nobody is asked for them");
        // The one that was cancelled at once may never have been sent.
        assert!(matches!(stage.upstream.received("tools/call").len(), 3 | 4), "{pair:?}");
    }
}

#[tokio::test]
async fn f45_what_cannot_go_on_after_a_kill_has_failed_and_says_so() {
    for pair in every().into_iter().filter(|pair| pair.transport == Transport::Stdio) {
        let mut stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        stage.upstream.until_task(1).await;
        kill_and_start(&mut stage).await;
        expect_restarted(pair, &stage.client.until_over(&id).await, "unknown");
        assert_eq!(stage.upstream.received("tools/call").len(), 1, "{pair:?}");
    }
}

#[tokio::test]
async fn f45_a_hosted_call_that_was_under_way_has_failed_after_a_kill() {
    let pair = Pair { client: HANDSHAKE, upstream: STATELESS, transport: Transport::Http };
    let mut stage = Stage::set(pair, Manner::default()).await;
    let id = stage.client.begin_id("one__echo", json!({ "after": 60_000 })).await;
    stage.upstream.until_received("tools/call", 1).await;
    kill_and_start(&mut stage).await;
    expect_restarted(pair, &stage.client.until_over(&id).await, "unknown");
    assert_eq!(stage.upstream.received("tools/call").len(), 1, "never a second time");
}

#[tokio::test]
async fn s_task_21_a_task_that_waits_for_its_client_still_waits_after_a_kill() {
    for pair in over_http() {
        let asks_on = AsksOn::Result;
        let mut stage = Stage::set(pair, Manner { asks_on, ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
        stage.client.until_status(&id, "input_required").await;
        kill_and_start(&mut stage).await;
        stage.client.until_status(&id, "input_required").await;
        let (_, end) = stage.client.follow(&id, |_| named("Ada")).await;
        assert_eq!(end.text(), json!({ "who": named("Ada") }).to_string(), "{pair:?}");
        assert_eq!(stage.upstream.received("tools/call").len(), 1, "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_21_the_session_in_which_a_server_knows_its_task_is_kept() {
    for pair in over_http().into_iter().filter(|pair| !pair.has_extension_upstream()) {
        let mut stage = Stage::set(pair, Manner { is_of_session: true, ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.until_received("tasks/get", 1).await;
        if !pair.has_extension_client() {
            // The client's own session ends; the task does not.
            assert!(matches!(stage.client.delete().await, 200 | 204));
            stage.come_again().await;
            assert_eq!(stage.client.task(&id).await.result()["status"], "working", "{pair:?}");
        }
        kill_and_start(&mut stage).await;
        stage.upstream.complete(&task, "of that session");
        assert_eq!(stage.client.until_over(&id).await.text(), "of that session", "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_21_a_cancelled_task_is_cancelled_after_a_kill() {
    for pair in over_http() {
        let mut stage = Stage::set(pair, Manner { ignores_cancel: true, ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.until_received("tasks/get", 1).await;
        stage.client.cancel_task(&id).await.result();
        stage.client.until_over(&id).await;
        kill_and_start(&mut stage).await;
        stage.upstream.complete(&task, "late");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let end = stage.client.until_over(&id).await;
        assert_eq!((end.status.as_str(), &end.result), ("cancelled", &Value::Null), "{pair:?}");
    }
}

#[tokio::test]
async fn s_tx_11_a_task_lives_as_long_as_it_was_promised_across_a_kill_and_no_longer() {
    let stories = over_http().into_iter().map(|pair| async move {
        let mut stage = Stage::with(pair, Manner::default(), "tasks: { ttl: 9s, max_ttl: 9s }").await;
        let began = Instant::now();
        let done = stage.client.begin_id("one__long", json!({ "after": 5, "text": "it" })).await;
        stage.client.until_over(&done).await;
        kill_and_start(&mut stage).await;
        tokio::time::sleep_until(began + Duration::from_millis(7_500)).await;
        assert_eq!(
            stage.client.until_over(&done).await.text(),
            "one did it",
            "{pair:?}: at most of its time"
        );
        crate::support::eventually("the task to be gone", || async {
            stage.client.task(&done).await.json.get("error").map(drop)
        })
        .await;
        assert!(began.elapsed() < Duration::from_secs(15), "{pair:?}: {:?}", began.elapsed());
    });
    join_all(stories).await;
}

#[tokio::test]
async fn s_tx_11_a_task_whose_time_ran_out_while_nobody_ran_is_unknown() {
    for pair in over_http() {
        let mut stage = Stage::with(pair, Manner::default(), "tasks: { ttl: 1s, max_ttl: 1s }").await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        stage.upstream.until_task(1).await;
        stage.gateway.kill().await;
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        stage.gateway.start_again().await;
        stage.come_again().await;
        stage.client.task(&id).await.expect_error(200, -32602);
    }
}

#[tokio::test]
async fn s_task_21_an_orderly_end_loses_nothing_either() {
    for pair in over_http() {
        let mut stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.until_received("tasks/get", 1).await;
        stage.gateway.terminate().await;
        assert!(stage.upstream.received("tasks/cancel").is_empty(), "{pair:?}: it is not over");
        stage.gateway.start_again().await;
        stage.come_again().await;
        stage.upstream.complete(&task, "done");
        assert_eq!(stage.client.until_over(&id).await.text(), "done", "{pair:?}");
    }
}
