//! What upstreams send that is no message: it harms nobody but who should have been answered by it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::upstream::TRANSPORTS;
use crate::support::{HANDSHAKE, Transport, gateway, upstream, within};

/// Requests with something wrong behind their id.
const BROKEN: [&str; 4] = [
    r#""method":"roots/list","params":[]"#,
    r#""method":"roots/list","params":{"a":1,"a":2}"#,
    r#""method":7"#,
    r#""method":"roots/list","result":{}"#,
];

#[tokio::test]
async fn s_trust_03_s_err_04_a_broken_question_is_answered_and_ends_no_call_that_has_its_number() {
    for transport in TRANSPORTS {
        let release = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&release);
        let upstream = upstream("one", HANDSHAKE, transport)
            .tool("slow")
            .on("tools/call", move |mut call| {
                let gate = Arc::clone(&gate);
                async move {
                    if call.name() == "slow" {
                        gate.acquire().await.expect("nobody closes it").forget();
                        return call.text("slow").await;
                    }
                    let others = call.params()["arguments"]["id"].clone();
                    for broken in BROKEN {
                        for id in [call.id().to_owned(), others.to_string()] {
                            let message = format!(r#"{{"jsonrpc":"2.0","id":{id},{broken}}}"#);
                            call.say(&message).await;
                        }
                    }
                    call.say(r#"{"jsonrpc":"2.0","method":"notifications/message","params":[]}"#).await;
                    let pong = call.begin_to_ask_raw("ping", "null").await.1.await.expect("answered");
                    call.text(&pong["result"].to_string()).await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with_more("one", &upstream, json!({ "share": "all" })).start().await;
        let (ada, bob) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
        ada.until_tools(&["one__slow"]).await;
        let slow = ada.open_call("one__slow", json!({})).await;
        let id = upstream.until_received("tools/call", 1).await.json["id"].clone();
        let answer = bob.call("one__echo", json!({ "id": id })).await;
        assert_eq!(answer.text(), "{}", "{transport:?}: what has no parameters may say null");
        for id in [id, upstream.until_received("tools/call", 2).await.json["id"].clone()] {
            upstream
                .until("an answer to each broken question", |ledger| {
                    let is_answer = |message: &&crate::support::upstream::Received| {
                        message.json["id"] == id && message.json["error"]["code"] == -32600
                    };
                    (ledger.iter().filter(is_answer).count() == BROKEN.len()).then_some(())
                })
                .await;
        }
        release.add_permits(1);
        assert_eq!(slow.answer().await.text(), "slow", "{transport:?}");
    }
}

#[tokio::test]
async fn s_base_18_s_trust_03_a_line_of_very_many_faults_is_left_and_told_of_in_few_words() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio)
        .on("tools/call", |mut call| async move {
            match call.name() {
                "echo" if call.params()["arguments"]["bad"] == true => {
                    let line = format!("[{}1]\n", "1,".repeat(500_000));
                    call.say_bytes(line.as_bytes()).await;
                    call.disconnected().await;
                }
                _ => call.text("fine").await,
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { backoff_first: 100ms }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let call = client.call("one__echo", json!({ "bad": true }));
    let lost = within(Duration::from_secs(10), "the end of the call", call).await;
    lost.expect_failure("upstream_lost", "unknown");
    assert_eq!(client.call("one__echo", json!({})).await.text(), "fine", "a new child serves");
    let log = gateway.stderr();
    let warnings = log.lines().filter(|line| line.contains("skipped what is not a message")).count();
    assert!((1..20).contains(&warnings), "{warnings} warnings");
}

#[tokio::test]
async fn s_trust_03_f08_faults_on_the_stream_of_a_call_do_not_end_it_until_they_are_too_many() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/call", |mut call| async move {
            let broken = r#"{"jsonrpc":"2.0","method":"notifications/message","params":7}"#;
            let many = call.params()["arguments"]["many"].as_u64().unwrap_or_default();
            for _ in 0..many {
                call.say(broken).await;
            }
            if many > 100 {
                return call.disconnected().await;
            }
            call.text("fine").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    assert_eq!(client.call("one__echo", json!({ "many": 50 })).await.text(), "fine");
    assert_eq!(
        client.call("one__echo", json!({ "many": 60 })).await.text(),
        "fine",
        "none in a row with those"
    );
    client.call("one__echo", json!({ "many": 200 })).await.expect_failure("upstream_lost", "unknown");
    assert_eq!(client.call("one__echo", json!({})).await.text(), "fine", "on a new session");
}
