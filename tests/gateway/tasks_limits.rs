//! Bounds of the registry, and what is written down about tasks (S-TASK-20).

use serde_json::json;

use crate::support::upstream::Manner;
use crate::tasks_stage::{Stage, client_at, over_http};

#[tokio::test]
async fn s_task_20_more_unfinished_tasks_than_allowed_are_refused_and_room_comes_back() {
    for pair in over_http() {
        let config = "tasks: { each: 3 }";
        let stage = Stage::with(pair, Manner::default(), config).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(stage.client.begin_id("one__long", json!({})).await);
        }
        for _ in 0..5 {
            let refused = stage.client.call_as_task("one__long", json!({})).await;
            let failure = refused.failure();
            assert_eq!(failure["reason"], "overloaded", "{pair:?}: {}", refused.raw);
        }
        for id in &ids {
            assert_eq!(stage.client.task(id).await.result()["status"], "working", "{pair:?}");
        }
        stage.client.cancel_task(&ids[0]).await.result();
        stage.client.until_over(&ids[0]).await;
        let next = stage.client.begin_id("one__long", json!({})).await;
        assert_eq!(stage.client.task(&next).await.result()["status"], "working", "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_20_what_was_refused_did_not_reach_the_server_or_is_cancelled_there() {
    for pair in over_http() {
        let stage = Stage::with(pair, Manner::default(), "tasks: { each: 1 }").await;
        stage.client.begin("one__long", json!({})).await;
        stage.client.call_as_task("one__long", json!({})).await.failure();
        crate::support::eventually("no second task to be left running", || async {
            let tasks = stage.upstream.all_tasks();
            let running = tasks.iter().filter(|task| !task.is_over()).count();
            (running == 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn s_task_20_what_happens_to_tasks_is_written_down() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner::default()).await;
        let done = stage.client.begin_id("one__long", json!({ "after": 5 })).await;
        stage.client.until_over(&done).await;
        let cancelled = stage.client.begin_id("one__long", json!({})).await;
        stage.client.cancel_task(&cancelled).await.result();
        stage.client.until_over(&cancelled).await;
        crate::support::eventually("the audit lines", || async {
            let log = stage.gateway.stderr();
            let has = |word: &str| log.lines().any(|line| line.contains("task") && line.contains(word));
            ["begins", "completed", "cancelled"].into_iter().all(has).then_some(())
        })
        .await;
        let log = stage.gateway.stderr();
        for id in [&done, &cancelled] {
            assert!(!log.contains(id.as_str()), "an id is a key to its task and is not logged whole: {id}");
        }
    }
}

#[tokio::test]
async fn s_task_20_a_ttl_at_an_endpoint_is_what_is_configured() {
    for pair in over_http() {
        let config = "tasks: { ttl: 2h, max_ttl: 3h }\nprofiles:\n  other: { servers: [one] }\n";
        let stage = Stage::with(pair, Manner { grants: Some(None), ..Manner::default() }, config).await;
        let other = client_at(&stage.gateway.endpoint.at("/mcp/other"), pair.client).await;
        other.until_tools(&["one__echo"]).await;
        for client in [&stage.client, &other] {
            let task = client.begin("one__long", json!({})).await;
            let ttl = task.get("ttlMs").or(task.get("ttl")).and_then(serde_json::Value::as_u64);
            assert!(ttl.is_some_and(|ttl| ttl <= 3 * 3_600_000), "{pair:?}: {task}");
        }
    }
}
