//! How long tasks live: what is asked, granted and capped (S-TASK-08, S-TX-11).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::client::{created, id_of};
use crate::support::upstream::Manner;
use crate::support::{HANDSHAKE, STATELESS, Transport, eventually};
use crate::tasks_stage::{Pair, Stage, every, over_http};

const WEEK: u64 = 7 * 24 * 3_600_000;
const DAY: u64 = 24 * 3_600_000;

fn ttl_of(task: &Value) -> Option<u64> {
    let member = if task.get("ttlMs").is_some() { "ttlMs" } else { "ttl" };
    task[member].as_u64()
}

/// The ttl that is told at creation, which has to be the one that is told afterwards.
async fn told(stage: &Stage, task: Value) -> Option<u64> {
    let answer = stage.client.call_with_ttl("one__long", json!({}), task.clone()).await;
    let made = created(&answer);
    let seen = stage.client.task(&id_of(&made)).await;
    assert_eq!(ttl_of(&made), ttl_of(seen.result()), "{task}: {}", seen.raw);
    ttl_of(&made)
}

#[tokio::test]
async fn s_task_08_a_ttl_is_capped_and_never_more_than_the_server_grants() {
    for upstream in [HANDSHAKE, STATELESS] {
        let pair = Pair { client: HANDSHAKE, upstream, transport: Transport::Http };
        let stage = Stage::set(pair, Manner { grants: Some(None), ..Manner::default() }).await;
        for centuries in [json!(1e12 as u64), json!(u64::MAX), json!(3_153_600_000_000_000_u64)] {
            assert_eq!(told(&stage, json!({ "ttl": centuries })).await, Some(WEEK), "{pair:?}: {centuries}");
        }
        assert_eq!(told(&stage, json!({ "ttl": 90_000 })).await, Some(90_000), "{pair:?}");
        assert_eq!(told(&stage, json!({})).await, Some(DAY), "{pair:?}: as configured");
        let shorter = told(&stage, json!({ "ttl": 0 })).await.expect("a ttl");
        assert!((1..=60_000).contains(&shorter), "{pair:?}: zero is as short as can be: {shorter}");
    }
}

#[tokio::test]
async fn s_task_08_what_the_server_grants_is_told() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner { grants: Some(Some(30_000)), ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        stage.upstream.until_task(1).await;
        let told = eventually("the ttl of the server", || async {
            ttl_of(stage.client.task(&id).await.result()).filter(|ttl| *ttl <= 30_000)
        })
        .await;
        assert!(told > 0, "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_08_an_unlimited_task_of_the_server_has_a_limit_here() {
    for pair in every() {
        let stage = Stage::set(pair, Manner { grants: Some(None), ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let ttl = ttl_of(stage.client.task(&id).await.result());
        assert!(ttl.is_some_and(|ttl| ttl <= WEEK), "{pair:?}: {ttl:?}");
    }
}

#[tokio::test]
async fn s_task_08_a_ttl_of_the_wrong_type_is_refused_before_anything_is_called() {
    for upstream in [HANDSHAKE, STATELESS] {
        let pair = Pair { client: HANDSHAKE, upstream, transport: Transport::Http };
        let stage = Stage::set(pair, Manner::default()).await;
        for wrong in [json!("60000"), json!(-1), json!([1]), json!({}), json!(true)] {
            let task = json!({ "ttl": wrong });
            let refused = stage.client.call_with_ttl("one__long", json!({}), task.clone()).await;
            assert_eq!(refused.error_code(), -32602, "{pair:?}: {task}");
        }
        for wrong in [json!("soon"), json!(5), json!([])] {
            let refused = stage.client.call_with_ttl("one__long", json!({}), wrong.clone()).await;
            assert_eq!(refused.error_code(), -32602, "{pair:?}: task is {wrong}");
        }
        assert!(stage.upstream.received("tools/call").is_empty(), "{pair:?}");
    }
}

#[tokio::test]
async fn s_tx_11_a_task_is_there_until_its_time_is_over_and_then_no_more() {
    let stories = over_http().into_iter().map(|pair| async move {
        let stage = Stage::with(pair, Manner::default(), "tasks: { ttl: 6s, max_ttl: 6s }").await;
        let done = stage.client.begin_id("one__long", json!({ "after": 5, "text": "it" })).await;
        let running = stage.client.begin_id("one__long", json!({})).await;
        assert_eq!(stage.client.until_over(&done).await.text(), "one did it");
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        assert_eq!(
            stage.client.until_over(&done).await.text(),
            "one did it",
            "{pair:?}: for all of its time"
        );
        for id in [&done, &running] {
            eventually("the task to be gone", || async {
                let answer = stage.client.task(id).await;
                answer.json.get("error").map(|error| assert_eq!(error["code"], -32602))
            })
            .await;
        }
        // What still ran is not left running.
        let told = stage.upstream.until_received("tasks/cancel", 1).await;
        assert_eq!(told.params()["taskId"], "task-2", "{pair:?}");
    });
    join_all(stories).await;
}

#[tokio::test]
async fn s_tx_11_times_may_change_while_a_task_runs() {
    for pair in over_http().into_iter().filter(|pair| pair.has_extension_upstream()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        stage.upstream.until_task(1).await;
        stage.upstream.change("task-1", |task| {
            (task.ttl_ms, task.poll_ms) = (Some(45_000), Some(90));
            task.message = Some("a word".to_owned());
        });
        eventually("the new times", || async {
            let task = stage.client.task(&id).await.result().clone();
            (ttl_of(&task).is_some_and(|ttl| ttl <= 45_000) && task["statusMessage"] == "a word")
                .then_some(())
        })
        .await;
        stage.upstream.change("task-1", |task| task.ttl_ms = None);
        stage.upstream.complete("task-1", "done");
        assert_eq!(stage.client.until_over(&id).await.text(), "done", "{pair:?}");
    }
}
