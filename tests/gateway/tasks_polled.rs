//! Looking at tasks of servers: no more often than they want, however many clients look (S-TASK-09, -18, S-TX-16).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::upstream::Manner;
use crate::support::within;
use crate::tasks_stage::{Stage, every, over_http};

/// The pause the server asks for in these stories.
const PAUSE: u64 = 400;

/// Whether a pause is short of what was asked by more than a timer may be.
fn is_short(pause: &Duration) -> bool {
    *pause < Duration::from_millis(PAUSE - 40)
}

#[tokio::test]
async fn s_task_09_fifty_pollers_cause_one_look_per_interval_and_see_no_step_back() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner { poll_ms: Some(PAUSE), ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        let pollers = (0..50).map(|_| {
            let (client, id) = (stage.client.clone().quiet(), id.clone());
            async move {
                let mut seen = Vec::new();
                loop {
                    let told = client.task(&id).await.result().clone();
                    seen.push(told);
                    if crate::support::client::is_over(seen.last().expect("just put")) {
                        return seen;
                    }
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            }
        });
        let steps = async {
            for word in ["one", "two", "three"] {
                tokio::time::sleep(Duration::from_millis(500)).await;
                stage.upstream.change(&task, |task| task.message = Some(word.to_owned()));
            }
            stage.upstream.complete(&task, "done");
        };
        let all = futures_util::future::join(join_all(pollers), steps);
        let (seen, ()) = within(Duration::from_secs(60), "fifty pollers", all).await;
        let pauses = stage.upstream.pauses(&task);
        assert!(!pauses.is_empty() && !pauses.iter().any(is_short), "{pair:?}: {pauses:?}");
        assert_eq!(stage.upstream.received("tools/call").len(), 1);
        for history in seen {
            let times: Vec<&str> = history.iter().filter_map(|task| task["lastUpdatedAt"].as_str()).collect();
            assert!(times.is_sorted(), "{pair:?}: {times:?}");
            let words: Vec<usize> = history
                .iter()
                .filter_map(|task| task["statusMessage"].as_str())
                .filter_map(|word| ["one", "two", "three"].iter().position(|known| *known == word))
                .collect();
            assert!(words.is_sorted(), "{pair:?}: {words:?}");
            let over = history.iter().filter(|task| crate::support::client::is_over(task)).count();
            assert_eq!(over, 1, "{pair:?}: only the last one is over");
        }
    }
}

#[tokio::test]
async fn s_task_09_the_interval_of_the_server_is_passed_on() {
    for pair in every() {
        let stage = Stage::set(pair, Manner { poll_ms: Some(1_250), ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        stage.upstream.until_task(1).await;
        let member = if pair.has_extension_client() { "pollIntervalMs" } else { "pollInterval" };
        crate::support::eventually("the interval", || async {
            let task = stage.client.task(&id).await.result().clone();
            (task[member] == 1_250).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn s_tx_16_an_interval_that_changes_is_followed() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner { poll_ms: Some(50), ..Manner::default() }).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.until_received("tasks/get", 3).await;
        stage.upstream.change(&task, |task| task.poll_ms = Some(PAUSE));
        let before = stage.upstream.task(&task).polls.len();
        stage.upstream.until_received("tasks/get", before + 4).await;
        // The first look after the change may have been due by the old interval.
        let pauses = stage.upstream.pauses(&task).split_off(before.saturating_sub(1) + 1);
        assert!(!pauses.iter().any(is_short), "{pair:?}: {pauses:?}");
        stage.client.cancel_task(&id).await.result();
    }
}

#[tokio::test]
async fn s_task_09_without_an_interval_there_is_a_decent_one() {
    for pair in over_http() {
        for poll_ms in [None, Some(0), Some(u64::MAX)] {
            let stage = Stage::set(pair, Manner { poll_ms, ..Manner::default() }).await;
            let id = stage.client.begin_id("one__long", json!({})).await;
            let task = stage.upstream.until_task(1).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
            let looks = stage.upstream.task(&task).polls.len();
            assert!(looks <= 20, "{pair:?} {poll_ms:?}: {looks} looks in 0.7 s");
            // An interval beyond all measure is no reason never to look.
            if poll_ms.is_none() {
                stage.upstream.complete(&task, "done");
                assert_eq!(stage.client.until_over(&id).await.text(), "done", "{pair:?}");
            }
            stage.client.cancel_task(&id).await;
        }
    }
}

#[tokio::test]
async fn s_task_18_a_notification_is_heard_at_once_and_none_is_relied_on() {
    for pair in every() {
        for notifies in [true, false] {
            let stage = Stage::set(pair, Manner { notifies, poll_ms: Some(150), ..Manner::default() }).await;
            let id = stage.client.begin_id("one__long", json!({})).await;
            let task = stage.upstream.until_task(1).await;
            stage.upstream.complete(&task, "done");
            assert_eq!(stage.client.until_over(&id).await.text(), "done", "{pair:?} notifies: {notifies}");
        }
    }
}

#[tokio::test]
async fn s_task_18_the_owner_is_told_of_changes_under_the_id_it_knows() {
    for pair in over_http().into_iter().filter(|pair| !pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner { notifies: true, ..Manner::default() }).await;
        let mut standing = stage.client.standalone_stream().await;
        let stranger = crate::tasks_stage::client(&stage.gateway, pair.client).await;
        let mut elsewhere = stranger.standalone_stream().await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.complete(&task, "done");
        let told = loop {
            let message = standing.next().await.expect("it stands");
            if message.method() == "notifications/tasks/status" && message.params()["status"] == "completed" {
                break message;
            }
        };
        assert_eq!(told.params()["taskId"], *id, "{pair:?}");
        assert_eq!(told.params()["_meta"].get("io.modelcontextprotocol/related-task"), None, "{}", told.raw);
        elsewhere.never("notifications/tasks/status", Duration::from_millis(200)).await;
    }
}
