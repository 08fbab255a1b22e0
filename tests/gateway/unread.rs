//! What one client or server leaves lying about is no other's loss (S-HTTPS-17, S-TRUST-03, S-RESUM-05).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::client::{Client, question};
use crate::support::upstream::Received;
use crate::support::{HANDSHAKE, Transport, Upstream, gateway, http_upstream, upstream, within};

const ELICIT: &str = "elicitation/create";
const SAMPLE: &str = "sampling/createMessage";
const UPDATED: &str = "notifications/resources/updated";
const PROMPT: Duration = Duration::from_secs(5);

fn able() -> Value {
    json!({ "elicitation": {}, "sampling": {} })
}

fn form(message: &str) -> Value {
    json!({ "message": message, "requestedSchema": { "type": "object", "properties": {} } })
}

fn prompt(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": text } }], "maxTokens": 5 })
}

/// Subscribes without a stream for the updates; gives the request by which the server knows this session.
async fn subscribed(client: &Client, upstream: &Upstream, count: usize) -> Received {
    client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
    let subscribed = upstream.until_received("resources/subscribe", count).await;
    upstream.until_standing_for(&subscribed).await;
    subscribed
}

#[tokio::test]
async fn s_res_08_s_https_17_many_updates_of_one_resource_wait_as_one_and_keep_no_question_out() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;
    let subscribed = subscribed(&client, &upstream, 1).await;
    for _ in 0..4_000 {
        upstream.tell(&subscribed, UPDATED, json!({ "uri": "test://one/static" })).await;
    }
    // Once this is answered, the session has all of them before what comes next.
    upstream.ask_by(&subscribed, "ping", json!({})).await;
    let asking = upstream.ask_by(&subscribed, ELICIT, form("still there?"));
    let reading = async {
        let mut stream = client.standalone_stream().await;
        let mut updates = 0;
        loop {
            let message = stream.next().await.expect("a standing stream goes on");
            updates += usize::from(message.method() == UPDATED);
            if message.method() == ELICIT {
                client.respond(&message.json["id"], json!({ "action": "decline" })).await;
                return updates;
            }
        }
    };
    let (answer, updates) = tokio::join!(asking, within(PROMPT, "the question", reading));
    assert_eq!(answer["result"]["action"], "decline", "the user was asked: {answer}");
    assert_eq!(updates, 1, "updates of one resource");
}

#[tokio::test]
async fn s_trust_03_s_elic_14_one_server_s_huge_question_silences_no_other_server() {
    let large = upstream("large", HANDSHAKE, Transport::Http).quiet().start().await;
    let other = upstream("other", HANDSHAKE, Transport::Http).asking().start().await;
    let gateway = gateway().with("large", &large).with("other", &other).start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["large__echo", "other__echo"]).await;
    client.call("large__echo", json!({})).await.result();
    let call = large.until_received("tools/call", 1).await;
    large.until_standing_for(&call).await;
    let asking = large.ask_by(&call, SAMPLE, prompt(&"x".repeat(3_000_000)));
    let answer = within(PROMPT, "a question that nobody reads to be refused", asking).await;
    assert!(answer.get("error").is_some(), "{answer}");

    // A smaller one waits, and the others are asked beside it.
    let picture = "x".repeat(400_000);
    let waits = large.ask_by(&call, SAMPLE, prompt(&picture));
    tokio::pin!(waits);
    let beside = async {
        for _ in 0..5 {
            let asked = client
                .asked("other__echo", question(ELICIT, &form("who?")), &json!({ "action": "decline" }))
                .await;
            assert_eq!(asked.questions.len(), 1, "{asked:?}");
        }
    };
    tokio::select! {
        answer = &mut waits => panic!("nobody has read it yet: {answer}"),
        () = beside => {}
    }
    let mut stream = client.standalone_stream().await;
    let asked = stream.until_method(SAMPLE).await;
    assert!(asked.raw.len() > picture.len());
    client.refuse(&asked.json["id"], -1, "no").await;
    assert_eq!(waits.await["error"]["code"], -1);
}

#[tokio::test]
async fn s_resum_05_s_prog_06_what_a_client_has_read_and_others_have_not_costs_it_nothing() {
    let go_on = Arc::new(Notify::new());
    let upstream = {
        let go_on = Arc::clone(&go_on);
        http_upstream("one").quiet().on("tools/call", move |mut call| {
            let go_on = Arc::clone(&go_on);
            async move {
                let token = call.params()["_meta"]["progressToken"].clone();
                let words = "x".repeat(1_600);
                for step in 1..=40 {
                    let params = json!({ "progressToken": token, "progress": step, "message": words });
                    call.notify("notifications/progress", params).await;
                }
                go_on.notified().await;
                call.progress(101.0, 200.0).await;
                let answer = call.ask(ELICIT, form("still there?")).await;
                call.text(answer["result"]["action"].as_str().unwrap_or("refused")).await;
            }
        })
    }
    .start()
    .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { replay_total: 100KiB }").start().await;
    let attentive = gateway.handshake_with(HANDSHAKE, able()).await.quiet();
    let absent = gateway.handshake(HANDSHAKE).await.quiet();
    attentive.until_tools(&["one__echo"]).await;
    let mut running = attentive.open_call_with_progress("one__echo", json!(1)).await;
    while running.until_method("notifications/progress").await.params()["progress"] != 40 {}
    let subscribed = subscribed(&absent, &upstream, 1).await;
    for number in 0..80 {
        let uri = format!("test://one/static/{number}/{}", "x".repeat(1_500));
        upstream.tell(&subscribed, UPDATED, json!({ "uri": uri })).await;
    }
    // Handled behind all of them.
    upstream.ask_by(&subscribed, ELICIT, form("not declared")).await;
    go_on.notify_one();
    assert_eq!(running.until_method("notifications/progress").await.params()["progress"], 101.0);
    let asked = within(PROMPT, "the question", running.until_method(ELICIT)).await;
    attentive.respond(&asked.json["id"], json!({ "action": "decline" })).await;
    assert_eq!(running.answer().await.text(), "decline");
}
