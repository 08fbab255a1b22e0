//! The gateway as a streamable HTTP server: forms of answers, headers, streams (S-HTTPS).

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, Whole};
use crate::support::http::Headers;
use crate::support::{HANDSHAKE, STATELESS, gateway, http_upstream, stateless_upstream, within};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn ping_with(client: &Client, change: impl FnOnce(&mut Headers)) -> Whole {
    let mut headers = client.headers("", &json!({}));
    change(&mut headers);
    client.endpoint.ask("POST", headers, PING.as_bytes()).await
}

#[tokio::test]
async fn s_https_04_notifications_and_responses_are_accepted_without_a_body() {
    let gateway = gateway().start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    assert_eq!(client.notify("notifications/roots/list_changed", json!({})).await, 202);
    for id in [json!("nobody asked"), json!(7), json!(-1)] {
        let status = client.respond(&id, json!({ "roots": [] })).await;
        assert!(status == 202 || status == 400, "{status}");
        let status = client.refuse(&id, -1, "no").await;
        assert!(status == 202 || status == 400, "{status}");
    }
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn s_https_05_06_the_form_of_the_answer_follows_its_first_event() {
    for (revision, upstream) in [(HANDSHAKE, http_upstream("one")), (STATELESS, stateless_upstream("one"))] {
        let upstream = upstream
            .tool("quick")
            .tool("chatty")
            .tool("slow")
            .on("tools/call", |mut call| async move {
                match call.name() {
                    "chatty" => {
                        call.progress(1.0, 2.0).await;
                    }
                    "slow" => call.pause(4_000).await,
                    _ => {}
                }
                call.text("done").await;
            })
            .start()
            .await;
        let gateway =
            gateway().with("one", &upstream).config("bounds: { stream_after: 300ms }").start().await;
        let client = gateway.client(revision).await;
        client.until_tools(&["one__quick", "one__chatty", "one__slow"]).await;

        let quick = client.call("one__quick", json!({})).await;
        assert!(!quick.streamed, "{revision}: a final response that comes first is JSON");
        assert!(quick.headers.get("content-type").is_some_and(|kind| kind.starts_with("application/json")));

        let chatty = client.open_call_with_progress("one__chatty", json!(1)).await.answer().await;
        assert!(chatty.streamed && chatty.progress() == [1.0], "{revision}: {chatty:?}");
        let cache = chatty.headers.get("cache-control").unwrap_or_default();
        assert!(cache.contains("no-cache"), "{:?} (S-HTTPS-15)", chatty.headers);
        assert_eq!(chatty.headers.get("x-accel-buffering"), Some("no"), "(S-HTTPS-15)");

        let mut slow = client.open_call("one__slow", json!({})).await;
        within(Duration::from_millis(3_500), "the stream to open while the call is silent", slow.head())
            .await;
        let slow = slow.answer().await;
        assert!(slow.streamed && slow.text() == "done", "{revision}: {slow:?}");
    }
}

#[tokio::test]
async fn s_https_06_a_refusal_that_needs_a_status_gets_it() {
    let refusal = json!({ "code": -32021, "message": "needs sampling", "data": { "requiredCapabilities": { "sampling": {} } } });
    let text = refusal.to_string();
    let upstream = stateless_upstream("one")
        .on("tools/call", move |mut call| {
            let message = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{text}}}"#, call.id());
            async move { call.http(400, &[("Content-Type", "application/json")], message.as_bytes()).await }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let answer = client.call("one__echo", json!({})).await;
    answer.expect_error(400, -32021);
    assert_eq!(
        answer.error()["data"]["requiredCapabilities"],
        json!({ "sampling": {} }),
        "(S-META-05) {}",
        answer.raw
    );
}

#[tokio::test]
async fn s_https_07_accept_and_content_type_are_heeded() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { stream_after: 200ms }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    for (accept, status) in [
        ("application/json, text/event-stream", 200),
        ("text/event-stream, application/json", 200),
        ("application/json;q=0.9, text/event-stream;q=0.1", 200),
        ("*/*", 200),
        ("application/*, text/*", 200),
        ("application/json", 200),
        ("text/html", 406),
        ("image/png, text/plain", 406),
    ] {
        let answer = ping_with(&client, |headers| headers.set("Accept", accept)).await;
        assert_eq!(answer.status, status, "Accept {accept:?}: {}", answer.body);
    }
    for (kind, status) in [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("", 415),
    ] {
        let answer = ping_with(&client, |headers| headers.set("Content-Type", kind)).await;
        assert_eq!(answer.status, status, "Content-Type {kind:?}: {}", answer.body);
    }
    let params = json!({ "name": "one__echo", "arguments": {}, "_meta": { "progressToken": 1 } });
    let mut headers = client.headers("tools/call", &params);
    headers.set("Accept", "application/json");
    let body = json!({ "jsonrpc": "2.0", "id": 900, "method": "tools/call", "params": params }).to_string();
    let answer = client.open_raw(json!(900), "tools/call", headers, body.as_bytes()).await.answer().await;
    assert!(!answer.streamed && answer.text() == "done", "JSON alone was acceptable: {answer:?}");
}

#[tokio::test]
async fn s_https_07_s_canc_01_a_withdrawn_request_ends_in_nothing_that_its_client_did_not_accept() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move { call.disconnected().await })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let params = json!({ "name": "one__echo", "arguments": {} });
    let mut headers = client.headers("tools/call", &params);
    headers.set("Accept", "application/json");
    let body = json!({ "jsonrpc": "2.0", "id": 900, "method": "tools/call", "params": params }).to_string();
    let running = client.open_raw(json!(900), "tools/call", headers, body.as_bytes()).await;
    upstream.until_received("tools/call", 1).await;
    assert_eq!(client.notify("notifications/cancelled", json!({ "requestId": 900 })).await, 202);
    let ended = running.whole().await;
    assert_eq!((ended.status, ended.body.as_str()), (202, ""));
    assert_eq!(ended.headers.get("content-type"), None);
}

#[tokio::test]
async fn s_https_08_the_version_header_is_optional_but_never_wrong() {
    let gateway = gateway().start().await;
    for revision in ["2025-06-18", HANDSHAKE] {
        let client = gateway.handshake(revision).await;
        for (version, status) in [
            (None, 200),
            (Some(revision), 200),
            (Some("2025-03-26"), 200),
            (Some("1999-01-01"), 400),
            (Some("garbage"), 400),
        ] {
            let answer = ping_with(&client, |headers| match version {
                Some(version) => headers.set("MCP-Protocol-Version", version),
                None => headers.remove("MCP-Protocol-Version"),
            })
            .await;
            assert_eq!(answer.status, status, "{revision}, header {version:?}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn s_https_11_one_standalone_stream_that_asks_for_events() {
    let gateway = gateway().start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let mut headers = client.headers("", &json!({}));
    headers.set("Accept", "application/json");
    assert_eq!(gateway.endpoint.ask("GET", headers, b"").await.status, 406);
    let first = client.standalone_stream().await;
    assert_eq!(client.get().await.head().await.status(), 409, "one standalone stream per session");
    drop(first);
    crate::support::eventually("the place of a closed stream to be free", || async {
        (client.get().await.head().await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn s_https_11_the_standalone_stream_carries_no_response() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    for n in 0..5 {
        client.call("one__echo", json!({ "n": n })).await.text();
    }
    for message in stream.messages_within(Duration::from_millis(500)).await {
        assert!(message.json.get("method").is_some(), "a response on the standalone stream: {}", message.raw);
    }
}

#[tokio::test]
async fn s_https_13_stateless_requests_know_no_session_and_no_resumption() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let real = gateway.handshake(HANDSHAKE).await.session.expect("given at initialize");
    for session in ["stray", real.as_str()] {
        let params = client.dress(json!({ "name": "one__echo", "arguments": {} }));
        let mut headers = client.headers("tools/call", &params);
        headers.set("Mcp-Session-Id", session);
        headers.set("Last-Event-ID", "17");
        let body = json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params }).to_string();
        let answer = client.open_raw(json!(5), "tools/call", headers, body.as_bytes()).await.answer().await;
        assert_eq!(answer.text(), "one echoes {}");
        assert_eq!(answer.headers.get("mcp-session-id"), None);
    }
    for verb in ["GET", "DELETE"] {
        let mut headers = gateway.endpoint.post_headers();
        headers.set("Accept", "text/event-stream");
        headers.set("MCP-Protocol-Version", STATELESS);
        assert_eq!(gateway.endpoint.ask(verb, headers, b"").await.status, 405, "{verb} without a session");
    }
}

#[tokio::test]
async fn s_https_16_18_unknown_methods_are_404_and_unknown_tools_are_not() {
    let gateway = gateway().start().await;
    let modern = gateway.stateless();
    for method in ["unknown/method", "tasks/list", "tasks/result", "Tools/List"] {
        let answer = modern.open_as(json!("an id"), method, json!({})).await.answer().await;
        answer.expect_error(404, -32601);
    }
    let handshake = gateway.handshake(HANDSHAKE).await;
    handshake.request("unknown/method", json!({})).await.expect_error(200, -32601);
    for client in [&modern, &handshake] {
        client.call("no__such", json!({})).await.expect_error(200, -32602);
        client.request("prompts/get", json!({ "name": "no__such" })).await.expect_error(200, -32602);
    }
}
