//! HTTP upstreams that die, hang or come late (F01, F02, F05, F13): one terminal reply, nothing sent twice.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;

use crate::support::{
    Call, HANDSHAKE, STATELESS, Transport, eventually, gateway, http_upstream, stateless_upstream, upstream,
    within,
};

const QUICK: &str = "bounds: { backoff_first: 100ms, backoff_longest: 500ms, start_deadline: 5s }";

/// The points at which an upstream may die while it serves a call.
const POINTS: [&str; 5] = ["before a byte", "in the head", "after the head", "in the body", "in an event"];

async fn die_at(call: Call, point: &str) {
    let mut call = call;
    match point {
        "in the head" => call.wire(b"HTTP/1.1 200 OK\r\nContent-Ty").await,
        "after the head" => {
            call.wire(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n")
                .await
        }
        "in the body" => {
            call.wire(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{\"jsonrpc\":\"2.0\"").await;
        }
        "in an event" => call.say_bytes(b"event: message\ndata: {\"jsonrpc\":").await,
        _ => {}
    }
    call.pause(50).await;
    call.reset().await;
}

#[tokio::test]
async fn f01_an_upstream_killed_in_a_call_is_lost_with_unknown_outcome_and_nothing_is_sent_again() {
    for revision in [HANDSHAKE, STATELESS] {
        for point in POINTS {
            println!("=== {revision}, dies {point}");
            let upstream = upstream("one", revision, Transport::Http)
                .tool("fine")
                .on("tools/call", move |mut call| async move {
                    if call.name() == "fine" { call.default().await } else { die_at(call, point).await }
                })
                .start()
                .await;
            let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
            for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
                client.until_tools(&["one__echo", "one__fine"]).await;
                let before = upstream.received("tools/call").len();
                let answer = within(
                    Duration::from_secs(5),
                    "the loss to be told",
                    client.call("one__echo", json!({})),
                );
                answer.await.expect_failure("upstream_lost", "unknown");
                assert_eq!(upstream.received("tools/call").len(), before + 1, "never sent again");
                assert_eq!(
                    client.call("one__fine", json!({})).await.text(),
                    "one echoes {}",
                    "and usable again"
                );
            }
        }
    }
}

#[tokio::test]
async fn f01_an_upstream_gone_for_good_takes_its_calls_with_it_and_no_others() {
    let mut doomed = http_upstream("doomed")
        .on("tools/call", |mut call| async move { call.disconnected().await })
        .start()
        .await;
    let good = http_upstream("good").start().await;
    let gateway = gateway().with("doomed", &doomed).with("good", &good).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let modern = gateway.stateless();
    client.until_tools(&["doomed__echo", "good__echo"]).await;
    let running = [
        client.open_call("doomed__echo", json!({})).await,
        modern.open_call("doomed__echo", json!({})).await,
    ];
    doomed.until_received("tools/call", 2).await;
    doomed.kill().await;
    for exchange in running {
        within(Duration::from_secs(5), "the loss to be told", exchange.answer())
            .await
            .expect_failure("upstream_lost", "unknown");
    }
    for client in [&client, &modern] {
        let answer = client.call("doomed__echo", json!({})).await;
        answer.expect_failure("upstream_unavailable", "not_sent");
        assert_eq!(client.call("good__echo", json!({})).await.text(), "good echoes {}");
    }
    assert_eq!(doomed.received("tools/call").len(), 2);
}

#[tokio::test]
async fn f02_a_hanging_upstream_is_left_at_the_deadline_and_told() {
    for revision in [HANDSHAKE, STATELESS] {
        let left = Arc::new(Notify::new());
        let tell = Arc::clone(&left);
        let upstream = upstream("one", revision, Transport::Http)
            .tool("fine")
            .on("tools/call", move |mut call| {
                let tell = Arc::clone(&tell);
                async move {
                    if call.name() == "fine" {
                        return call.default().await;
                    }
                    call.cancelled().await;
                    tell.notify_one();
                }
            })
            .start()
            .await;
        let gateway = gateway()
            .with_more("one", &upstream, json!({ "timeout": "600ms" }))
            .config("bounds: { session_calls: 2 }")
            .start()
            .await;
        for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
            client.until_tools(&["one__echo", "one__fine"]).await;
            for round in 0..3 {
                let started = tokio::time::Instant::now();
                let answer = client.call("one__echo", json!({ "round": round })).await;
                answer.expect_failure("upstream_timeout", "unknown");
                let took = started.elapsed();
                assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(4), "{took:?}");
                within(Duration::from_secs(5), "the cancellation upstream", left.notified()).await;
            }
            assert_eq!(
                client.call("one__fine", json!({})).await.text(),
                "one echoes {}",
                "the slots are free again"
            );
        }
        assert_eq!(upstream.received("tools/call").len(), 8, "nothing was sent twice");
    }
}

#[tokio::test]
async fn f05_a_refused_connection_means_not_sent() {
    let mut upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let (client, modern) = (gateway.handshake(HANDSHAKE).await, gateway.stateless());
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    upstream.kill().await;
    for client in [&client, &modern] {
        for _ in 0..3 {
            let answer =
                within(Duration::from_secs(5), "a refusal", client.call("one__echo", json!({}))).await;
            answer.expect_failure("upstream_unavailable", "not_sent");
            assert_eq!(answer.failure()["retryable"], true, "{}", answer.raw);
        }
        let read = client.request("resources/read", json!({ "uri": "test://one/static" })).await;
        assert_eq!(read.error_code(), -32603, "other methods fail as errors: {}", read.raw);
        assert_eq!(read.failure()["reason"], "upstream_unavailable", "{}", read.raw);
    }
    assert_eq!(upstream.received("tools/call").len(), 1);
}

#[tokio::test]
async fn f13_an_upstream_started_late_is_used_without_a_restart() {
    let late = stateless_upstream("late").reserve();
    let good = http_upstream("good").start().await;
    let gateway =
        gateway().with_server("late", late.settings()).with("good", &good).config(QUICK).start().await;
    let client = gateway.stateless();
    client.until_tools(&["good__echo"]).await;
    client.call("late__echo", json!({})).await.expect_failure("upstream_unavailable", "not_sent");
    eventually("the status to say that nobody is there", || async {
        let servers = gateway.admin_get("/api/v1/servers").await.json();
        let late = servers.as_array()?.iter().find(|server| server["name"] == "late")?.clone();
        late["why"].is_string().then_some(())
    })
    .await;
    let late = late.start().await;
    client.until_tools(&["good__echo", "late__echo"]).await;
    assert_eq!(client.call("late__echo", json!({})).await.text(), "late echoes {}");
    drop(late);
}

#[tokio::test]
async fn f16_t16_an_upstream_that_comes_back_is_used_again() {
    // The same address twice: first one process, then another.
    let first = http_upstream("one").start().await;
    let address = first.address();
    let gateway = gateway().with("one", &first).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    drop(first);
    client.call("one__echo", json!({})).await.failure();
    let second =
        eventually("the address to be free", || async { http_upstream("again").start_at(address).await })
            .await;
    eventually("a call that works again", || async {
        let answer = client.call("one__echo", json!({})).await;
        (answer.json["result"]["content"][0]["text"] == "again echoes {}").then_some(())
    })
    .await;
    drop(second);
}
