//! Batches, redirects and sizes: what HTTP upstreams may send the gateway, and what comes of it (S-HTTPC-12, S-HTTPC-15,
//! S-BASE-18).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::{Call, HANDSHAKE, STATELESS, Transport, gateway, http_upstream, upstream, within};

const QUICK: &str =
    "bounds: { backoff_first: 100ms, backoff_longest: 500ms, upstream_result: 64KiB, retry: 50ms }";

fn answer_to(call: &Call, text: &str) -> String {
    let result = json!({ "content": [{ "type": "text", "text": text }] });
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id())
}

#[tokio::test]
async fn s_httpc_12_batches_are_taken_apart_in_bodies_and_in_events_and_never_sent() {
    let upstream = upstream("one", "2025-03-26", Transport::Http)
        .on("tools/call", |mut call| async move {
            let token = &call.params()["_meta"]["progressToken"];
            let params = json!({ "progressToken": token, "progress": 1, "total": 2 });
            let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
            let ping =
                json!({ "jsonrpc": "2.0", "id": format!("batched-{}", call.count()), "method": "ping" });
            let answer = answer_to(&call, "out of a batch");
            let batch = match call.count() % 3 {
                // A message that is none spoils nothing but itself.
                0 => format!("[{progress},{answer},{{\"neither\":1}},{ping}]"),
                _ => format!("[{progress}, {ping} , {answer}]"),
            };
            if call.count() % 2 == 1 {
                call.last(&batch).await;
            } else {
                call.say(&format!("[{ping}]")).await;
                call.last(&batch).await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    for n in 0..6 {
        let answer = client.open_call_with_progress("one__echo", json!(n)).await.answer().await;
        assert_eq!((answer.text(), answer.progress()), ("out of a batch", vec![1.0]));
    }
    upstream
        .until("the answers to six batched pings", |ledger| {
            let answers = ledger.iter().filter(|received| received.json.get("result").is_some());
            (answers.count() >= 6).then_some(())
        })
        .await;
    let ledger = upstream.ledger();
    assert!(ledger.iter().all(|received| !received.json.is_array()), "the gateway never sends batches");
}

#[tokio::test]
async fn s_httpc_15_redirects_are_answers_and_nothing_goes_elsewhere() {
    for status in [301, 302, 307, 308] {
        let elsewhere = http_upstream("elsewhere").start().await;
        let location = format!("http://{}/mcp", elsewhere.address());
        let there = location.clone();
        let upstream = http_upstream("one")
            .on("tools/call", move |mut call| {
                let location = location.clone();
                async move { call.http(status, &[("Location", &location)], b"").await }
            })
            .on("GET", move |mut call| {
                let location = there.clone();
                async move { call.http(status, &[("Location", &location)], b"").await }
            })
            .start()
            .await;
        let credentials = json!({ "headers": { "Authorization": "Bearer canary-token" } });
        let gateway = gateway().with_more("one", &upstream, credentials).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({})).await.expect_failure("upstream_protocol_error", "unknown");
        client.request("prompts/get", json!({ "name": "one__greet", "arguments": {} })).await.result();
        assert!(elsewhere.ledger().is_empty(), "{status}: {:?}", elsewhere.ledger());
        assert!(!gateway.stderr().contains("canary"));
    }
}

#[tokio::test]
async fn s_base_18_an_endless_event_is_cut_off_wherever_it_comes() {
    async fn without_end(mut call: Call, pieces: Arc<AtomicUsize>) {
        call.say_bytes(b"id: 1\ndata: ").await;
        let piece = [b'x'; 16 * 1024];
        while pieces.fetch_add(1, Ordering::Relaxed) < 10_000 {
            if tokio::time::timeout(Duration::from_millis(1), call.disconnected()).await.is_ok() {
                return;
            }
            call.say_bytes(&piece).await;
        }
    }
    for revision in [HANDSHAKE, STATELESS] {
        let (of_calls, of_streams) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, standing) = (Arc::clone(&of_calls), Arc::clone(&of_streams));
        let upstream = upstream("one", revision, Transport::Http)
            .on("tools/call", move |call| without_end(call, Arc::clone(&counted)))
            .on("GET", move |call| without_end(call, Arc::clone(&standing)))
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let answer =
            within(Duration::from_secs(10), "the call to end", client.call("one__echo", json!({}))).await;
        answer.expect_failure("result_too_large", "executed");
        client.request("prompts/get", json!({ "name": "one__greet", "arguments": {} })).await.result();
        assert!(of_calls.load(Ordering::Relaxed) < 1_000, "{revision}: it was cut off early");
        assert!(of_streams.load(Ordering::Relaxed) < 1_000, "{revision}: so was the standing stream");
    }
}

#[tokio::test]
async fn s_httpc_06_a_server_that_knows_no_get_keeps_its_session() {
    for status in [404, 405, 400, 501] {
        let upstream = http_upstream("one")
            .on("GET", move |mut call| async move { call.http(status, &[], b"").await })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        for n in 0..4 {
            let answer = client.call("one__echo", json!({ "n": n })).await;
            assert_eq!(answer.text(), format!(r#"one echoes {{"n":{n}}}"#));
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        assert_eq!(upstream.received("initialize").len(), 2, "{status} is no end: one session each");
        let gets = upstream.ledger().into_iter().filter(|received| received.verb == "GET").count();
        assert_eq!(gets, 2, "nor is it asked again");
    }
}

#[tokio::test]
async fn s_httpc_06_an_answer_may_come_before_its_own_request_is_acknowledged() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            let answer = answer_to(&call, "by the other way");
            call.elsewhere(&answer).await;
            call.disconnected().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let got = client.request("prompts/get", json!({ "name": "one__greet", "arguments": {} })).await;
    got.result();
    upstream.until_standing_for(&upstream.until_received("prompts/get", 1).await).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "by the other way");
}

#[tokio::test]
async fn calls_that_are_answered_on_event_streams_use_connections_again() {
    for revision in [HANDSHAKE, STATELESS] {
        let upstream = upstream("one", revision, Transport::Http)
            .on("tools/call", |mut call| async move {
                // The answer and the end of the stream are two writes.
                call.stream().await;
                call.text("streamed").await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        for _ in 0..20 {
            assert_eq!(client.call("one__echo", json!({})).await.text(), "streamed");
        }
        let mut used: Vec<_> = upstream.received("tools/call").iter().map(|call| call.connection).collect();
        used.sort_unstable();
        used.dedup();
        // A few for each of the gateway's threads: an end may come later than the next call.
        assert!(used.len() <= 10, "{revision}: {} connections for twenty calls", used.len());
    }
}
