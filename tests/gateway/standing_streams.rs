//! The standing stream of an upstream over HTTP: how long it is asked for, and what is made up for when it was away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::upstream::Received;
use crate::support::{HANDSHAKE, gateway, http_upstream, patiently};

const QUICK: &str = "bounds: { backoff_first: 100ms, backoff_longest: 500ms, retry: 50ms }";

/// How often a standing stream was asked for.
fn asked(ledger: &[Received]) -> usize {
    ledger.iter().filter(|received| received.verb == "GET").count()
}

#[tokio::test]
async fn s_httpc_06_a_passing_refusal_is_not_the_end_of_the_standing_stream() {
    for refusal in [400, 401, 403, 410] {
        println!("=== the stream that stood is refused with {refusal}");
        let times = AtomicUsize::new(0);
        let upstream = http_upstream("one")
            .on("GET", move |mut call| {
                let time = times.fetch_add(1, Ordering::Relaxed);
                async move {
                    match time {
                        0 => {
                            call.say_bytes(b": hello\n\n").await;
                            call.finish().await;
                        }
                        1 | 2 => call.http(refusal, &[], b"").await,
                        _ => call.default().await,
                    }
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        upstream.until_standing().await;
        assert_eq!(asked(&upstream.ledger()), 4);
        let tool = json!({ "name": "new", "inputSchema": { "type": "object" } });
        upstream.show(|shown| shown.tools.push(tool));
        upstream.announce("notifications/tools/list_changed", json!({})).await;
        client.until_tools(&["one__new"]).await;
        assert_eq!(upstream.received("initialize").len(), 1, "the session lived on");
    }
}

#[tokio::test]
async fn s_httpc_06_a_server_that_says_it_has_no_standing_stream_is_asked_no_more() {
    let times = AtomicUsize::new(0);
    let upstream = http_upstream("one")
        .on("GET", move |mut call| {
            let time = times.fetch_add(1, Ordering::Relaxed);
            async move {
                if time > 0 {
                    return call.http(405, &[], b"").await;
                }
                call.say_bytes(b": hello\n\n").await;
                call.finish().await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    upstream.until("a second GET", |ledger| (asked(ledger) == 2).then_some(())).await;
    // Longer than several of the waits after which it would be asked again.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(asked(&upstream.ledger()), 2);
}

#[tokio::test]
async fn f10_what_changed_while_there_was_no_standing_stream_is_noticed_when_there_is_one_again() {
    let (gap, is_gap) = tokio::sync::watch::channel(false);
    let upstream = http_upstream("one")
        .on("GET", move |mut call| {
            let mut is_gap = is_gap.clone();
            async move {
                if *is_gap.borrow() {
                    return call.http(503, &[], b"").await;
                }
                call.say_bytes(b": hello\n\n").await;
                is_gap.wait_for(|is_gap| *is_gap).await.ok();
                call.finish().await;
            }
        })
        .start()
        .await;
    let gateway = gateway()
        .with("one", &upstream)
        .config("bounds: { retry: 50ms, relist_every: 10m, change_debounce: 50ms }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
    let mut stream = client.standalone_stream().await;
    upstream.until("the stream of the session", |ledger| (asked(ledger) == 2).then_some(())).await;
    gap.send_replace(true);
    upstream.until("attempts in the gap", |ledger| (asked(ledger) >= 4).then_some(())).await;
    upstream.show(|shown| {
        shown.tools.push(json!({ "name": "new", "inputSchema": { "type": "object" } }));
        shown.resources.push(json!({ "uri": "test://one/new", "name": "new" }));
    });
    stream.messages_within(Duration::from_millis(10)).await;
    gap.send_replace(false);
    client.until_tools(&["one__echo", "one__new"]).await;
    let mut told = Vec::new();
    patiently("the client to be told of all three", async {
        for method in ["tools/list_changed", "resources/list_changed", "resources/updated"] {
            let method = format!("notifications/{method}");
            while !told.contains(&method) {
                let message = stream.next().await.expect("the stream goes on");
                told.push(message.method().to_owned());
            }
        }
    })
    .await;
    assert_eq!(
        told.iter().filter(|method| *method == "notifications/resources/updated").count(),
        1,
        "{told:?}"
    );
}

#[tokio::test]
async fn f37_i10_a_message_beyond_the_bound_is_passed_over_and_its_stream_read_on() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            let huge = "x".repeat(300_000);
            let log = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "error", "data": huge } });
            call.say_bytes(format!("data: {log}\n\n").as_bytes()).await;
            match call.params()["arguments"]["huge"].as_bool() {
                Some(true) => call.text(&huge).await,
                _ => call.text("small").await,
            }
        })
        .quiet()
        .start()
        .await;
    let gateway = gateway()
        .with("one", &upstream)
        .config("bounds: { upstream_result: 64KiB, relist_every: 10m, change_debounce: 50ms }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "small");
    client.call("one__echo", json!({ "huge": true })).await.expect_failure("result_too_large", "executed");

    upstream.until_standing().await;
    let before = asked(&upstream.ledger());
    let huge = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "error", "data": "x".repeat(300_000) } });
    assert!(upstream.say(&huge.to_string(), |_| true).await > 0);
    upstream.show(|shown| shown.tools.push(json!({ "name": "new", "inputSchema": { "type": "object" } })));
    upstream.announce("notifications/tools/list_changed", json!({})).await;
    client.until_tools(&["one__echo", "one__new"]).await;
    assert_eq!(asked(&upstream.ledger()), before, "nothing was opened again");
}
