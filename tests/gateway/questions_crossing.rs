//! Questions that cross with withdrawals, completions, other calls and the end of their own, in one breath.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::client::Message;
use crate::support::upstream::stdio_upstream;
use crate::support::{HANDSHAKE, eventually, gateway};

const ELICIT: &str = "elicitation/create";
const CANCELLED: &str = "notifications/cancelled";

/// How long silence must last to count as silence.
const A_WHILE: Duration = Duration::from_millis(500);

fn form(message: &str) -> Value {
    json!({ "message": message, "requestedSchema": { "type": "object", "properties": { "me": { "type": "string" } } } })
}

fn able() -> Value {
    json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {} })
}

fn asking(id: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": ELICIT, "params": params }).to_string()
}

fn withdrawing(id: &str) -> String {
    json!({ "jsonrpc": "2.0", "method": CANCELLED, "params": { "requestId": id } }).to_string()
}

/// Of which question this is the withdrawal.
fn withdrawn(message: &Message) -> Value {
    message.params()["requestId"].clone()
}

#[tokio::test]
async fn s_canc_04_a_withdrawal_is_told_though_another_question_comes_with_it() {
    let seen = Arc::new(Notify::new());
    let go_on = Arc::clone(&seen);
    let upstream = stdio_upstream("one")
        .on("tools/call", move |mut call| {
            let go_on = Arc::clone(&go_on);
            async move {
                call.say(&asking("q1", &form("first?"))).await;
                go_on.notified().await;
                let both = format!("{}\n{}\n", asking("q2", &form("second?")), withdrawing("q1"));
                call.say_bytes(both.as_bytes()).await;
                go_on.notified().await;
                call.text("asked").await;
            }
        })
        .lenient()
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;
    for _ in 0..5 {
        let mut running = client.open_call("one__echo", json!({})).await;
        let first = running.until_method(ELICIT).await;
        seen.notify_one();
        let (mut second, mut told) = (None, None);
        while second.is_none() || told.is_none() {
            let message = running.next().await.expect("both come before the answer");
            match message.method() {
                ELICIT => second = Some(message),
                CANCELLED => told = Some(message),
                _ => {}
            }
        }
        let (second, told) = (second.expect("came"), told.expect("came"));
        assert_eq!(withdrawn(&told), first.json["id"], "{}", told.raw);
        assert_ne!(second.json["id"], first.json["id"]);
        seen.notify_one();
        running.answer().await.text();
    }
}

#[tokio::test]
async fn s_canc_04_an_id_that_is_used_again_at_once_stands_for_the_new_question() {
    let seen = Arc::new(Notify::new());
    let go_on = Arc::clone(&seen);
    let upstream = stdio_upstream("one")
        .on("tools/call", move |mut call| {
            let go_on = Arc::clone(&go_on);
            async move {
                call.say(&asking("q", &form("first?"))).await;
                go_on.notified().await;
                let both = format!("{}\n{}\n", withdrawing("q"), asking("q", &form("second?")));
                call.say_bytes(both.as_bytes()).await;
                go_on.notified().await;
                call.text("asked").await;
            }
        })
        .lenient()
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;
    let mut running = client.open_call("one__echo", json!({})).await;
    running.until_method(ELICIT).await;
    seen.notify_one();
    let second = running.until_method(ELICIT).await;
    assert!(second.raw.contains("second?"), "{}", second.raw);
    let told = running.messages_within(A_WHILE).await;
    let is_over = |told: &Message| told.method() == CANCELLED && withdrawn(told) == second.json["id"];
    assert!(!told.iter().any(is_over), "the new question is not withdrawn: {told:?}");
    assert!(upstream.answers().is_empty(), "nobody has answered: {:?}", upstream.answers());
    assert_eq!(client.respond(&second.json["id"], json!({ "action": "decline" })).await, 202);
    let answer = eventually("the answer", || async { upstream.answers().pop() }).await;
    assert_eq!((&answer.json["id"], &answer.json["result"]["action"]), (&json!("q"), &json!("decline")));
    seen.notify_one();
    running.answer().await.text();
    assert_eq!(upstream.answers().len(), 1);
}
