//! The gateway as a streamable HTTP client (S-HTTPC).

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use crate::support::{HANDSHAKE, STATELESS, Transport, gateway, http_upstream, stateless_upstream, upstream};

const QUICK: &str = "bounds: { backoff_first: 100ms, backoff_longest: 500ms, probe_deadline: 1s }";

#[tokio::test]
async fn s_httpc_01_both_forms_of_answers_are_read_and_both_are_asked_for() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            if call.count() % 2 == 0 {
                call.stream().await;
            }
            call.default().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    for n in 0..6 {
        assert_eq!(
            client.call("one__echo", json!({ "n": n })).await.text(),
            format!(r#"one echoes {{"n":{n}}}"#)
        );
    }
    for post in upstream.ledger().iter().filter(|received| received.verb == "POST") {
        let accept = post.headers.get("accept").unwrap_or_default();
        assert!(accept.contains("application/json") && accept.contains("text/event-stream"), "{accept:?}");
        assert_eq!(post.headers.get("content-type"), Some("application/json"));
        assert!(post.json.is_object(), "every message is its own POST: {}", post.raw);
    }
}

#[tokio::test]
async fn s_httpc_02_03_session_and_version_go_with_every_later_request() {
    for revision in ["2025-06-18", HANDSHAKE] {
        let upstream = upstream("one", revision, Transport::Http).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let answer = client.call("one__echo", json!({})).await;
        assert_ne!(client.session, upstream.sessions().first().cloned());
        assert!(!answer.raw.contains("one-session"));
        assert!((200..300).contains(&client.delete().await));
        let sessions: HashSet<String> =
            upstream.ledger().iter().filter_map(|received| received.session().map(str::to_owned)).collect();
        assert!(!sessions.is_empty());
        for received in upstream.ledger() {
            if matches!(received.method(), "initialize" | "server/discover") {
                assert_eq!(received.session(), None, "{}", received.raw);
                continue;
            }
            assert!(received.session().is_some(), "{} {}", received.verb, received.raw);
            assert_eq!(
                received.headers.get("mcp-protocol-version"),
                Some(revision),
                "{} {}",
                received.verb,
                received.raw
            );
        }
        assert!(!gateway.stderr().contains("one-session"), "upstream session ids are not logged");
    }
}

#[tokio::test]
async fn s_httpc_04_f09_a_forgotten_session_is_opened_anew_and_the_client_s_lives_on() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.request("logging/setLevel", json!({ "level": "info" })).await.result();
    client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
    client.call("one__echo", json!({ "n": 1 })).await.text();
    let before = upstream.received("initialize").len();
    upstream.forget_sessions();
    let answer = client.call("one__echo", json!({ "n": 2 })).await;
    if answer.json["result"]["isError"] == true || answer.json.get("error").is_some() {
        let failure = answer.failure();
        assert_eq!(failure["retryable"], true, "{}", answer.raw);
    }
    assert_eq!(client.call("one__echo", json!({ "n": 3 })).await.text(), r#"one echoes {"n":3}"#);
    assert!(upstream.received("initialize").len() > before);
    let handled: Vec<_> = upstream.received("tools/call");
    let second: Vec<_> = handled.iter().filter(|call| call.params()["arguments"]["n"] == 2).collect();
    assert!(second.len() <= 2, "re-sent at most once, as a 404 says that nothing ran: {second:?}");
    // What the session had set is set again.
    upstream.until_received("resources/subscribe", 2).await;
    upstream.until_received("logging/setLevel", 2).await;
}

#[tokio::test]
async fn s_httpc_04_f09_a_session_that_is_unknown_with_400_is_opened_anew_as_well() {
    let upstream = http_upstream("one").forgetting_with(400).start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({ "n": 1 })).await.text();
    let before = upstream.received("initialize").len();
    upstream.forget_sessions();
    assert_eq!(client.call("one__echo", json!({ "n": 2 })).await.text(), r#"one echoes {"n":2}"#);
    assert!(upstream.received("initialize").len() > before);
}

#[tokio::test]
async fn s_httpc_04_400_to_one_call_ends_no_session() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            let json = [("Content-Type", "application/json")];
            let id = match call.params()["arguments"]["named"].as_bool() {
                Some(true) => call.id().to_owned(),
                _ => "null".to_owned(),
            };
            let refusal =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-31999,"message":"not so"}}}}"#);
            call.http(400, &json, refusal.as_bytes()).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    // The session's own connection is opened by its first call.
    client.call("one__echo", json!({ "named": true })).await;
    let sessions = upstream.received("initialize").len();
    for (named, pings) in [(true, 0), (false, 1)] {
        let before = upstream.received("ping").len();
        let answer = client.call("one__echo", json!({ "named": named })).await;
        assert_eq!(answer.error()["code"], -31999, "{}", answer.raw);
        assert_eq!(upstream.received("ping").len() - before, pings);
    }
    assert_eq!(upstream.received("initialize").len(), sessions);
}

#[tokio::test]
async fn s_httpc_04_many_calls_meet_one_lost_session_and_it_is_reopened_once() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    let before = upstream.received("initialize").len();
    upstream.forget_sessions();
    let mut running = Vec::new();
    for n in 0..10 {
        running.push(client.open_call("one__echo", json!({ "n": n })).await);
    }
    for exchange in running {
        exchange.answer().await;
    }
    client.call("one__echo", json!({ "after": true })).await.text();
    // The client's session and the gateway's own may each be opened once.
    let opened = upstream.received("initialize").len() - before;
    assert!((1..=2).contains(&opened), "opened {opened} times");
}

#[tokio::test]
async fn s_httpc_05_upstream_sessions_end_with_the_client_s_and_405_is_no_trouble() {
    let upstream = http_upstream("one")
        .on("DELETE", |mut call| async move { call.http(405, &[], b"").await })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    let session = upstream.until_received("tools/call", 1).await.session().map(str::to_owned);
    assert!((200..300).contains(&client.delete().await));
    upstream
        .until("DELETE for the session of that client", |ledger| {
            ledger
                .iter()
                .any(|received| received.verb == "DELETE" && received.session() == session.as_deref())
                .then_some(())
        })
        .await;
    let next = gateway.handshake(HANDSHAKE).await;
    assert_eq!(next.call("one__echo", json!({})).await.text(), "one echoes {}");
}

#[tokio::test]
async fn s_httpc_06_answers_are_matched_by_id_on_whatever_stream_they_come() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            // The POST stream ends empty-handed; the answer takes the standing stream.
            let message = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":"from the other stream"}}]}}}}"#, call.id());
            call.say_bytes(b": nothing here\n\n").await;
            call.elsewhere(&message).await;
            call.cancelled().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client
        .request("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "x" } }))
        .await
        .result();
    let got = upstream.until_received("prompts/get", 1).await;
    upstream.until_standing_for(&got).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "from the other stream");
}

#[tokio::test]
async fn s_httpc_06_an_upstream_without_standing_stream_is_not_asked_again_and_again() {
    let upstream = http_upstream("one").without_standing_stream().start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    // A gateway that asked again after its back-off would do so between these.
    for _ in 0..6 {
        client.call("one__echo", json!({})).await.text();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let gets: Vec<_> = upstream.ledger().into_iter().filter(|received| received.verb == "GET").collect();
    let sessions: HashSet<_> = gets.iter().map(|get| get.session().map(str::to_owned)).collect();
    assert_eq!(gets.len(), sessions.len(), "405 holds for good: {gets:?}");
}

#[tokio::test]
async fn s_httpc_13_a_stateless_call_is_cancelled_by_closing_its_stream_and_never_by_a_message() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let upstream = stateless_upstream("one")
        .on("tools/call", move |mut call| {
            let tell = tell.clone();
            async move {
                call.progress(1.0, 2.0).await;
                call.disconnected().await;
                tell.send(()).await.ok();
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut running = client.open_call_with_progress("one__echo", json!(1)).await;
    running.until_method("notifications/progress").await;
    client.notify("notifications/cancelled", json!({ "requestId": running.id() })).await;
    crate::support::within(Duration::from_secs(5), "the upstream's stream to be closed", told.recv()).await;
    assert!(upstream.received("notifications/cancelled").is_empty());
    assert!(running.ends_without_response().await);
}

#[tokio::test]
async fn s_httpc_14_a_request_on_a_stateless_stream_is_ignored() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            call.say(r#"{"jsonrpc":"2.0","id":"x","method":"elicitation/create","params":{"message":"?","requestedSchema":{"type":"object","properties":{}}}}"#)
                .await;
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
    client.until_tools(&["one__echo"]).await;
    let answer = client.call("one__echo", json!({})).await;
    assert_eq!((answer.text(), answer.before.len()), ("done", 0));
    let responses = upstream
        .ledger()
        .into_iter()
        .filter(|received| received.method().is_empty() && received.verb == "POST");
    assert_eq!(responses.count(), 0, "responses are never posted to a stateless upstream");
}

#[tokio::test]
async fn s_httpc_16_the_client_s_own_headers_stay_on_its_hop() {
    for upstream in [http_upstream("one"), stateless_upstream("one")] {
        let upstream = upstream.start().await;
        let gateway = gateway()
            .with_more("one", &upstream, json!({ "headers": { "X-Fixed": "from-the-configuration" } }))
            .start()
            .await;
        for revision in [HANDSHAKE, STATELESS] {
            let client = gateway.client(revision).await;
            client.until_tools(&["one__echo"]).await;
            let params = client.dress(json!({ "name": "one__echo", "arguments": {} }));
            let mut headers = client.headers("tools/call", &params);
            for (name, value) in [
                ("Authorization", "Bearer canary-token"),
                ("Cookie", "canary=1"),
                ("Forwarded", "for=canary"),
                ("X-Forwarded-For", "canary"),
                ("Last-Event-ID", "canary"),
                ("Mcp-Param-Canary", "canary"),
                ("X-Canary", "canary"),
                ("Proxy-Authorization", "canary"),
            ] {
                headers.set(name, value);
            }
            let body =
                json!({ "jsonrpc": "2.0", "id": 41, "method": "tools/call", "params": params }).to_string();
            client.open_raw(json!(41), "tools/call", headers, body.as_bytes()).await.answer().await.text();
        }
        for received in upstream.ledger() {
            for (name, value) in &received.headers.0 {
                assert!(
                    !value.contains("canary") && !name.to_ascii_lowercase().contains("canary"),
                    "{name}: {value}"
                );
            }
            assert_eq!(received.headers.get("x-fixed"), Some("from-the-configuration"));
            assert_eq!(received.headers.get("host"), Some(upstream.address().to_string().as_str()));
        }
        assert!(!gateway.stderr().contains("canary"), "nor are they logged");
    }
}
