//! Questions that cross with withdrawals, completions, other calls and the end of their own, in one breath.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify};

use crate::support::client::Message;
use crate::support::upstream::{UpstreamPlan, stdio_upstream};
use crate::support::{HANDSHAKE, eventually, gateway, patiently};

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

/// A server whose calls ask once two of them are under way, so that nothing says which of them it was.
fn asking_together() -> UpstreamPlan {
    let together = Arc::new(Barrier::new(2));
    stdio_upstream("one").on("tools/call", move |mut call| {
        let together = Arc::clone(&together);
        async move {
            together.wait().await;
            let who = call.params()["arguments"]["who"].as_str().unwrap_or_default().to_owned();
            let answer = call.ask(ELICIT, form(&who)).await;
            call.text(&format!("{who} is {}", answer["result"]["content"]["me"])).await;
        }
    })
}

#[tokio::test]
async fn s_samp_01_a_client_that_only_posts_is_asked_though_two_of_its_calls_may_have_caused_it() {
    let upstream = asking_together().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;
    let mut calls = Vec::new();
    for who in ["ada", "bob"] {
        calls.push(client.open_call("one__echo", json!({ "who": who })).await);
    }
    let mut answers = Vec::new();
    let everything = async {
        while answers.len() < 2 {
            for call in &mut calls {
                for message in call.messages_within(Duration::from_millis(60)).await {
                    if message.method() == ELICIT {
                        let asked = message.params()["message"].as_str().unwrap_or_default().to_owned();
                        let who = asked.rsplit(' ').next().unwrap_or_default();
                        let answer = json!({ "action": "accept", "content": { "me": who } });
                        client.respond(&message.json["id"], answer).await;
                    } else if message.is_response() {
                        answers.push(message.json["result"]["content"][0]["text"].clone());
                    }
                }
            }
        }
    };
    patiently("both answers", everything).await;
    answers.sort_unstable_by_key(ToString::to_string);
    assert_eq!(answers, [json!(r#"ada is "ada""#), json!(r#"bob is "bob""#)]);
}

#[tokio::test]
async fn s_canc_06_a_prompt_of_one_of_two_calls_ends_with_both() {
    let upstream = asking_together().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    let ada = client.open_call("one__echo", json!({ "who": "ada" })).await;
    let bob = client.open_call("one__echo", json!({ "who": "bob" })).await;
    let mut asked = Vec::new();
    while asked.len() < 2 {
        asked.push(stream.until_method(ELICIT).await.json["id"].clone());
    }
    client.notify(CANCELLED, json!({ "requestId": ada.id() })).await;
    upstream.until_received(CANCELLED, 1).await;
    let told = stream.messages_within(A_WHILE).await;
    assert!(told.iter().all(|told| told.method() != CANCELLED), "it may be of the other: {told:?}");
    client.notify(CANCELLED, json!({ "requestId": bob.id() })).await;
    let mut over = Vec::new();
    while over.len() < 2 {
        over.push(withdrawn(&stream.until_method(CANCELLED).await));
    }
    over.sort_unstable_by_key(ToString::to_string);
    asked.sort_unstable_by_key(ToString::to_string);
    assert_eq!(over, asked);
}

#[tokio::test]
async fn s_elic_11_s_stdio_08_a_call_that_was_cancelled_keeps_nobody_s_questions_away_for_good() {
    let let_go = Arc::new(Notify::new());
    let released = Arc::clone(&let_go);
    let upstream = stdio_upstream("one")
        .tool("slow")
        .on("tools/call", move |mut call| {
            let released = Arc::clone(&released);
            async move {
                if call.name() == "slow" {
                    tokio::select! {
                        // As it should: what is cancelled is not answered.
                        () = call.cancelled() => return,
                        () = released.notified() => {}
                    }
                    return call.text("slow and sure").await;
                }
                let answer = call.ask(ELICIT, form("who?")).await;
                call.text(&answer["result"]["content"]["me"].to_string()).await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with_more("one", &upstream, json!({ "share": "principal" })).start().await;
    let hasty = gateway.handshake_with(HANDSHAKE, able()).await;
    let stayer = gateway.handshake_with(HANDSHAKE, able()).await;
    hasty.until_tools(&["one__echo", "one__slow"]).await;
    let cancelled = hasty.open_call("one__slow", json!({})).await;
    upstream.until_received("tools/call", 1).await;
    hasty.notify(CANCELLED, json!({ "requestId": cancelled.id() })).await;
    upstream.until_received(CANCELLED, 1).await;
    assert!(cancelled.ends_without_response().await);
    let accepted = json!({ "action": "accept", "content": { "me": "stayer" } });

    let first = stayer.asked("one__echo", json!({}), &accepted).await;
    assert!(first.questions.is_empty(), "it could be the other's: {:?}", first.questions);
    let healed = || async {
        let asked = stayer.asked("one__echo", json!({}), &accepted).await;
        (asked.questions.len() == 1 && asked.answer.text() == "\"stayer\"").then_some(())
    };
    eventually("the stayer to be asked again", healed).await;
    let of_stayer = stayer.open_call("one__slow", json!({})).await;
    upstream
        .until("the slow call", |ledger| {
            let slow = ledger.iter().filter(|received| received.params()["name"] == "slow");
            (slow.count() == 2).then_some(())
        })
        .await;
    let_go.notify_one();
    assert_eq!(of_stayer.answer().await.text(), "slow and sure");
    let asked = hasty.asked("one__echo", json!({}), &accepted).await;
    asked.question();
}

#[tokio::test]
async fn s_elic_08_a_completion_directly_behind_its_page_reaches_the_client() {
    const COMPLETE: &str = "notifications/elicitation/complete";
    let completed = json!({ "jsonrpc": "2.0", "method": COMPLETE, "params": { "elicitationId": "e" } });
    let page =
        json!({ "mode": "url", "message": "Sign in", "url": "https://example.com/in", "elicitationId": "e" });
    for share in ["session", "principal"] {
        let (completed, page) = (completed.clone(), page.clone());
        let upstream = stdio_upstream("one")
            .on("tools/call", move |mut call| {
                let (completed, page) = (completed.clone(), page.clone());
                async move {
                    let first = match call.params()["arguments"]["by"] == "error" {
                        true => {
                            let data = json!({ "elicitations": [page] });
                            let error = json!({ "code": -32042, "message": "sign in", "data": data });
                            format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, call.id())
                        }
                        false => asking("q", &page),
                    };
                    call.say_bytes(format!("{first}\n{completed}\n").as_bytes()).await;
                }
            })
            .lenient()
            .start()
            .await;
        let gateway = gateway().with_more("one", &upstream, json!({ "share": share })).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;

        let refused = client.call("one__echo", json!({ "by": "error" })).await;
        let shown = refused.error()["data"]["elicitations"][0]["elicitationId"].clone();
        let told = stream.until_method(COMPLETE).await;
        assert_eq!(told.params()["elicitationId"], shown, "{share}: {}", told.raw);

        let mut running = client.open_call("one__echo", json!({ "by": "question" })).await;
        let asked = running.until_method(ELICIT).await;
        let told = running.until_method(COMPLETE).await;
        assert_eq!(told.params()["elicitationId"], asked.params()["elicitationId"], "{share}: {}", told.raw);
        client.respond(&asked.json["id"], json!({ "action": "accept" })).await;
        eventually("the answer", || async { upstream.answers().pop() }).await;
    }
}
