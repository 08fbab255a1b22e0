//! Servers that count their tasks, and count anew after a restart: an id is no proof (S-TASK-07, -19, -21, F45).

use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::client::Endpoint;
use crate::support::upstream::{Manner, Task};
use crate::support::{HANDSHAKE, Transport, Upstream, eventually, upstream};
use crate::tasks_misbehaving::expect_lost;
use crate::tasks_stage::{Pair, Stage, client, client_at, over_http};

const QUICK: &str = "bounds: { backoff_first: 50ms, backoff_longest: 100ms }";

/// The server that comes back knows nothing of before, and gives the first id to somebody else at once.
async fn count_anew(pair: Pair, address: SocketAddr) -> Upstream {
    let again = eventually("the address to be free", || async {
        upstream("one", pair.upstream, pair.transport).tasks(Manner::default()).start_at(address).await
    })
    .await;
    let url = again.settings()["url"].as_str().expect("it is reached over HTTP").to_owned();
    let somebody = client_at(&Endpoint::parse(&url), pair.upstream).await;
    somebody.call_as_task("long", json!({ "after": 1, "text": "of somebody else" })).await.result();
    again.until_tasks("its end", |tasks| tasks.values().all(Task::is_over).then_some(())).await;
    again
}

/// That the first task of that server stayed somebody else's.
fn expect_untouched(pair: Pair, again: &Upstream) {
    assert!(!again.task("task-1").polls.is_empty(), "{pair:?}: it was looked at");
    for method in ["tasks/cancel", "tasks/result", "tasks/update", "tools/call"] {
        let about_it = again.received(method).len();
        assert_eq!(about_it, usize::from(method == "tools/call"), "{pair:?}: {method}");
    }
}

#[tokio::test]
async fn s_task_07_f45_after_a_restart_of_its_server_nobody_gets_the_task_that_has_the_id_now() {
    let stories = over_http().into_iter().map(|pair| async move {
        let manner = Manner { poll_ms: Some(2_000), ..Manner::default() };
        let mut stage = Stage::with(pair, manner, QUICK).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        assert_eq!(stage.upstream.until_task(1).await, "task-1");
        // That it tells one time at every look is known from the second one on.
        stage.upstream.until_received("tasks/get", 2).await;
        let address = stage.upstream.address();
        stage.upstream.kill().await;
        let again = count_anew(pair, address).await;
        expect_lost(pair, &stage.client.until_over(&id).await);
        expect_untouched(pair, &again);
    });
    join_all(stories).await;
}

#[tokio::test]
async fn s_task_21_f45_after_a_restart_of_both_nobody_gets_the_task_that_has_the_id_now() {
    let stories = over_http().into_iter().map(|pair| async move {
        let mut stage = Stage::with(pair, Manner::default(), QUICK).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        assert_eq!(stage.upstream.until_task(1).await, "task-1");
        // Only now its task is surely kept.
        stage.upstream.until_received("tasks/get", 1).await;
        let address = stage.upstream.address();
        stage.gateway.kill().await;
        stage.upstream.kill().await;
        let again = count_anew(pair, address).await;
        stage.gateway.start_again().await;
        stage.come_again().await;
        expect_lost(pair, &stage.client.until_over(&id).await);
        expect_untouched(pair, &again);
    });
    join_all(stories).await;
}

#[tokio::test]
async fn s_task_11_finished_tasks_are_answered_when_nobody_makes_tasks_any_longer() {
    let pair = Pair { client: HANDSHAKE, upstream: HANDSHAKE, transport: Transport::Http };
    let mut stage = Stage::with(pair, Manner::default(), QUICK).await;
    let id = stage.client.begin_id("one__long", json!({ "after": 1, "text": "it" })).await;
    stage.client.until_over(&id).await;
    let address = stage.upstream.address();
    stage.upstream.kill().await;
    let _again = eventually("the address to be free", || async {
        upstream("one", HANDSHAKE, Transport::Http).start_at(address).await
    })
    .await;
    let later = eventually("tasks to be offered no longer", || async {
        let later = client(&stage.gateway, HANDSHAKE).await;
        later.welcome["capabilities"].get("tasks").is_none().then_some(later)
    })
    .await;
    // What was not declared is not there (S-LIFE-05); what was declared stays.
    later.task(&id).await.expect_error(200, -32601);
    assert_eq!(stage.client.until_over(&id).await.text(), "one did it");
    assert_eq!(stage.client.all_task_ids().await, [id]);
}
