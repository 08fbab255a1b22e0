//! Servers that know their tasks and are hard to deal with all the same (S-TASK-11, -15, -18, -21, S-TX-06, -07).

use std::time::Duration;

use serde_json::json;

use crate::support::upstream::{Manner, Stubborn};
use crate::support::{HANDSHAKE, STATELESS, within};
use crate::tasks_misbehaving::expect_lost;
use crate::tasks_stage::{Pair, Stage, every, name_question, named, over_http};

/// A server that treats the first so many requests of a method so.
fn stubborn(method: &'static str, times: usize, how: Stubborn) -> Manner {
    Manner { stubborn: Some((method, times, how)), ..Manner::default() }
}

fn of_core(pairs: Vec<Pair>) -> Vec<Pair> {
    pairs.into_iter().filter(|pair| pair.upstream == HANDSHAKE).collect()
}

fn of_extension(pairs: Vec<Pair>) -> Vec<Pair> {
    pairs.into_iter().filter(|pair| pair.upstream == STATELESS).collect()
}

#[tokio::test]
async fn s_tx_06_an_answer_that_is_refused_at_first_is_given_again() {
    for pair in of_extension(every()) {
        for code in [-32603, -32602] {
            let stage = Stage::set(pair, stubborn("tasks/update", 2, Stubborn::Errs(code))).await;
            let id = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
            let (questions, end) = stage.client.follow(&id, |_| named("Ada")).await;
            assert_eq!(questions.len(), 1, "{pair:?}: asked once");
            assert_eq!(end.text(), json!({ "who": named("Ada") }).to_string(), "{pair:?}");
            assert_eq!(stage.upstream.received("tasks/update").len(), 3, "{pair:?}");
        }
    }
}

#[tokio::test]
async fn s_tx_06_answers_that_are_never_taken_end_the_task() {
    for pair in of_extension(over_http()) {
        let stage = Stage::set(pair, stubborn("tasks/update", usize::MAX, Stubborn::Errs(-32603))).await;
        let id = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
        let (_, end) = stage.client.follow(&id, |_| named("Ada")).await;
        let failure = match end.error.is_null() {
            true => &end.result["_meta"]["switchyard/failure"],
            false => &end.error["data"],
        };
        assert_eq!(failure["reason"], "upstream_protocol_error", "{pair:?}: {end:?}");
        stage.upstream.until_received("tasks/cancel", 1).await;
        assert_eq!(stage.upstream.received("tasks/update").len(), 5, "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_18_a_result_that_never_comes_does_not_hide_that_the_task_is_over() {
    for pair in of_core(every()) {
        println!("=== {pair:?}");
        let upstream = crate::support::upstream("one", pair.upstream, pair.transport)
            .tasks(stubborn("tasks/result", 1, Stubborn::Hangs))
            .start()
            .await;
        let stage = Stage::before(upstream, pair, "bounds: { call_maximum: 2s }").await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.change(&task, |task| "input_required".clone_into(&mut task.status));
        stage.upstream.until_received("tasks/result", 1).await;
        let looks = stage.upstream.received("tasks/get").len();
        stage.upstream.until_received("tasks/get", looks + 3).await;
        assert_eq!(stage.upstream.received("tasks/result").len(), 1, "{pair:?}: it stays open");
        stage.upstream.complete(&task, "done");
        assert_eq!(stage.client.until_over(&id).await.text(), "done", "{pair:?}");
        assert_eq!(stage.upstream.received("tasks/result").len(), 2, "{pair:?}");
        let pauses = stage.upstream.pauses(&task);
        assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(40)), "{pair:?}: {pauses:?}");
    }
}

#[tokio::test]
async fn s_task_21_a_task_that_was_forgotten_behind_an_open_result_has_failed() {
    for pair in of_core(every()) {
        let stage = Stage::set(pair, stubborn("tasks/result", usize::MAX, Stubborn::Hangs)).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.change(&task, |task| "input_required".clone_into(&mut task.status));
        stage.upstream.until_received("tasks/result", 1).await;
        stage.upstream.change(&task, |task| task.is_forgotten = true);
        let over = within(Duration::from_secs(10), "the end", stage.client.until_over(&id)).await;
        expect_lost(pair, &over);
    }
}

#[tokio::test]
async fn s_task_11_an_error_in_place_of_the_result_of_a_completed_task_is_not_its_end() {
    for pair in of_core(every()) {
        let stage = Stage::set(pair, stubborn("tasks/result", 2, Stubborn::Errs(-32603))).await;
        let id = stage.client.begin_id("one__long", json!({ "after": 5, "text": "it" })).await;
        let end = stage.client.until_over(&id).await;
        assert_eq!((end.status.as_str(), end.text()), ("completed", "one did it"), "{pair:?}");
        assert_eq!(stage.upstream.received("tasks/result").len(), 3, "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_11_a_result_that_is_never_given_is_the_fault_of_the_server() {
    for pair in of_core(over_http()) {
        for (code, reason) in [(-32603, "upstream_protocol_error"), (-32602, "upstream_lost")] {
            let stage = Stage::set(pair, stubborn("tasks/result", usize::MAX, Stubborn::Errs(code))).await;
            let id = stage.client.begin_id("one__long", json!({ "after": 5 })).await;
            let end = stage.client.until_over(&id).await;
            let failure = match end.error.is_null() {
                true => &end.result["_meta"]["switchyard/failure"],
                false => &end.error["data"],
            };
            assert_eq!(failure["reason"], reason, "{pair:?}: {end:?}");
            assert_eq!(failure["outcome"], "unknown", "{pair:?}: {end:?}");
            assert!(stage.upstream.received("tasks/cancel").is_empty(), "{pair:?}: it was over");
        }
    }
}

#[tokio::test]
async fn s_task_15_a_server_that_does_not_answer_is_told_again_of_a_cancellation() {
    for pair in over_http() {
        let config = "bounds: { backoff_first: 50ms, backoff_longest: 200ms }";
        let stage = Stage::with(pair, stubborn("tasks/cancel", 2, Stubborn::Resets), config).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.client.cancel_task(&id).await.result();
        stage
            .upstream
            .until_tasks("its end", |all| (all.get(&task)?.status == "cancelled").then_some(()))
            .await;
        assert_eq!(stage.upstream.received("tasks/cancel").len(), 3, "{pair:?}");
    }
}

#[tokio::test]
async fn s_tx_07_a_cancellation_that_is_refused_is_not_repeated() {
    for pair in over_http() {
        let stage = Stage::set(pair, stubborn("tasks/cancel", 1, Stubborn::Errs(-32603))).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        stage.upstream.until_task(1).await;
        stage.client.cancel_task(&id).await.result();
        stage.upstream.until_received("tasks/cancel", 1).await;
        // Far longer than the pause between two tries.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(stage.upstream.received("tasks/cancel").len(), 1, "{pair:?}");
    }
}
