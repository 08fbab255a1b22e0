//! What a session is told of its tasks: `notifications/tasks/status` on its standing stream (S-TASK-18).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Exchange, is_over};
use crate::support::upstream::Manner;
use crate::support::{Gateway, HANDSHAKE, STATELESS, Transport, Upstream, gateway, patiently, upstream};

const STATUS: &str = "notifications/tasks/status";

async fn stage(revision: &str, manner: Manner) -> (Upstream, Gateway, Client) {
    let one = upstream("one", revision, Transport::Http).tasks(manner).start().await;
    let gateway = gateway().with("one", &one).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__long"]).await;
    (one, gateway, client)
}

/// What is said of the task, up to its end.
async fn until_over(stream: &mut Exchange, id: &str) -> Vec<Value> {
    patiently(&format!("{id} to be told as over"), async {
        let mut told = Vec::new();
        loop {
            let message = stream.next().await.expect("the stream stays open");
            if message.method() != STATUS {
                continue;
            }
            let task = message.params().clone();
            assert_eq!(task["taskId"], id, "{}", message.raw);
            let ended = is_over(&task);
            told.push(task);
            if ended {
                return told;
            }
        }
    })
    .await
}

#[tokio::test]
async fn s_task_18_a_session_is_told_of_its_task_as_tasks_get_tells_it_whether_or_not_the_server_notifies() {
    for revision in [HANDSHAKE, STATELESS] {
        for notifies in [true, false] {
            let (one, _gateway, client) = stage(revision, Manner { notifies, ..Manner::default() }).await;
            let mut stream = client.standalone_stream().await;
            let id = client.begin_id("one__long", json!({})).await;
            let theirs = one.until_task(1).await;
            one.complete(&theirs, "done");
            let told = until_over(&mut stream, &id).await;
            let last = told.last().expect("its end was told");
            assert_eq!(last["status"], "completed");
            let got = client.task(&id).await.result().clone();
            for member in ["status", "createdAt", "lastUpdatedAt", "ttl", "pollInterval", "statusMessage"] {
                assert_eq!(last[member], got[member], "{member} of {last}");
            }
            stream.never(STATUS, Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test]
async fn s_task_18_s_task_15_a_cancellation_is_told_and_nothing_after_it() {
    let (one, _gateway, client) =
        stage(HANDSHAKE, Manner { ignores_cancel: true, ..Manner::default() }).await;
    let mut stream = client.standalone_stream().await;
    let id = client.begin_id("one__long", json!({})).await;
    let theirs = one.until_task(1).await;
    client.cancel_task(&id).await.result();
    let told = until_over(&mut stream, &id).await;
    assert_eq!(told.last().expect("its end was told")["status"], "cancelled");
    one.complete(&theirs, "too late");
    stream.never(STATUS, Duration::from_millis(300)).await;
}

#[tokio::test]
async fn s_task_18_other_sessions_and_older_revisions_are_told_nothing() {
    let (one, gateway, client) = stage(HANDSHAKE, Manner::default()).await;
    let mut others = Vec::new();
    for revision in [HANDSHAKE, "2025-06-18", "2025-03-26"] {
        let other = gateway.handshake(revision).await;
        others.push((other.standalone_stream().await, other));
    }
    let mut own = client.standalone_stream().await;
    let id = client.begin_id("one__long", json!({})).await;
    let theirs = one.until_task(1).await;
    one.complete(&theirs, "done");
    until_over(&mut own, &id).await;
    for (stream, _) in &mut others {
        stream.never(STATUS, Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn s_task_18_nobody_has_to_read_and_the_end_of_the_session_ends_no_task() {
    let (one, gateway, client) = stage(HANDSHAKE, Manner::default()).await;
    let unread = client.begin_id("one__long", json!({ "after": 1, "text": "done" })).await;
    client.until_over(&unread).await;
    let id = client.begin_id("one__long", json!({})).await;
    let theirs = one.until_task(2).await;
    assert!((200..300).contains(&client.delete().await));
    one.complete(&theirs, "done");
    let again = gateway.handshake(HANDSHAKE).await;
    let mut stream = again.standalone_stream().await;
    assert_eq!(again.until_over(&id).await.status, "completed");
    stream.never(STATUS, Duration::from_millis(150)).await;
}
