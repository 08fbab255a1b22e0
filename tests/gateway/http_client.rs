//! The gateway as a streamable HTTP client (S-HTTPC), and as the owner of stdio children (S-STDIO).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::{
    Call, HANDSHAKE, STATELESS, Transport, Upstream, eventually, gateway, http_upstream, stateless_upstream,
    stdio_upstream, upstream,
};

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
    eventually("the standing stream of the client's session", || async {
        let get = upstream.ledger().into_iter().rfind(|received| received.verb == "GET")?;
        let session = upstream.received("prompts/get").pop()?.session()?.to_owned();
        (get.session() == Some(&session)).then_some(())
    })
    .await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "from the other stream");
}

#[tokio::test]
async fn s_httpc_06_an_upstream_without_standing_stream_is_not_asked_again_and_again() {
    let upstream = http_upstream("one").without_standing_stream().start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let gets: Vec<_> = upstream.ledger().into_iter().filter(|received| received.verb == "GET").collect();
    let sessions: HashSet<_> = gets.iter().map(|get| get.session().map(str::to_owned)).collect();
    assert_eq!(gets.len(), sessions.len(), "405 holds for good: {gets:?}");
}

/// Era detection: the upstream answers in its own way, and the gateway finds out how to talk to it.
async fn detects(upstream: &Upstream, plan: crate::support::gateway::Plan) {
    let gateway = plan.start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");
    drop(gateway);
    let _ = upstream;
}

#[tokio::test]
async fn s_httpc_11_every_kind_of_http_upstream_is_recognised() {
    type Probe = fn(Call) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    let handshake_answers: [(&str, Probe); 6] = [
        ("404 without a body", |mut call| Box::pin(async move { call.http(404, &[], b"").await })),
        ("405 without a body", |mut call| Box::pin(async move { call.http(405, &[], b"").await })),
        ("400 in plain text", |mut call| {
            Box::pin(async move {
                call.http(400, &[("Content-Type", "text/plain")], b"Bad Request: no session").await
            })
        }),
        ("200 with an empty object", |mut call| {
            Box::pin(async move { call.http(200, &[("Content-Type", "application/json")], b"{}").await })
        }),
        ("200 with an empty result", |mut call| Box::pin(async move { call.result(json!({})).await })),
        ("an error of its own", |mut call| {
            Box::pin(async move { call.error(-32602, "what?", json!(null)).await })
        }),
    ];
    for (kind, probe) in handshake_answers {
        println!("=== a handshake upstream that answers the probe with {kind}");
        let upstream = http_upstream("one").on("server/discover", probe).start().await;
        detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    }
    println!("=== a stateless upstream");
    let upstream = stateless_upstream("one").start().await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    assert!(upstream.received("initialize").is_empty(), "a stateless upstream is never greeted");
}

#[tokio::test]
async fn s_httpc_11_s_meta_09_a_modern_refusal_is_no_reason_to_fall_back() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refusals);
    let upstream = stateless_upstream("one")
        .on("server/discover", move |mut call| {
            let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if !first {
                    return call.default().await;
                }
                let id = call.id();
                let message = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32022,"message":"not now","data":{{"supported":["{STATELESS}"],"requested":"{STATELESS}"}}}}}}"#
                );
                call.http(400, &[("Content-Type", "application/json")], message.as_bytes()).await;
            }
        })
        .start()
        .await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    assert!(upstream.received("initialize").is_empty(), "the same version again, not another era");
    assert!(refusals.load(Ordering::Relaxed) < 6, "bounded retries");
}

#[tokio::test]
async fn s_httpc_11_pinned_revisions_are_not_probed() {
    let old = upstream("one", "2025-06-18", Transport::Http).start().await;
    let plan = gateway().with_more("one", &old, json!({ "protocol": "2025-06-18" })).config(QUICK);
    detects(&old, plan).await;
    assert!(old.received("server/discover").is_empty());
    assert_eq!(old.received("initialize")[0].params()["protocolVersion"], "2025-06-18");
    let new = stateless_upstream("one").start().await;
    detects(&new, gateway().with_more("one", &new, json!({ "protocol": STATELESS })).config(QUICK)).await;
    assert!(new.received("initialize").is_empty());
}

#[tokio::test]
async fn s_life_02_an_upstream_of_an_unknown_revision_is_left_with_a_clear_word() {
    let strange = upstream("one", "2099-01-01", Transport::Http).lenient().start().await;
    let good = http_upstream("two").start().await;
    let gateway = gateway().with("one", &strange).with("two", &good).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["two__echo"]).await;
    eventually("the reason in the gateway's log", || async {
        gateway.stderr().contains("2099-01-01").then_some(())
    })
    .await;
    assert!(strange.received("tools/list").is_empty(), "nothing is asked of it");
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

#[tokio::test]
async fn s_stdio_01_one_message_a_line_and_nothing_else() {
    for revision in [HANDSHAKE, STATELESS] {
        let upstream = upstream("one", revision, Transport::Stdio).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        for client_revision in [HANDSHAKE, STATELESS] {
            let client = gateway.client(client_revision).await;
            client.until_tools(&["one__echo"]).await;
            // Line breaks between tokens are lawful JSON over HTTP and would break a line on stdio.
            let params = client.dress(json!({ "name": "one__echo", "arguments": { "text": "two\nlines" } }));
            let body = serde_json::to_string_pretty(
                &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }),
            )
            .expect("values are JSON")
            .replace('\n', "\r\n");
            let headers = client.headers("tools/call", &params);
            let answer =
                client.open_raw(json!(1), "tools/call", headers, body.as_bytes()).await.answer().await;
            assert!(answer.text().contains(r"two\nlines"), "{}", answer.raw);
        }
        for line in upstream.ledger() {
            assert!(line.json.is_object(), "each line is one message: {:?}", line.raw);
            assert!(!line.raw.contains('\r'), "{:?}", line.raw);
        }
    }
}

#[tokio::test]
async fn s_stdio_05_every_kind_of_child_is_recognised() {
    for code in [-32601, -32602, -32000, -32700] {
        println!("=== a handshake child that answers the probe with {code}");
        let upstream = stdio_upstream("one")
            .on(
                "server/discover",
                move |mut call| async move { call.error(code, "what?", json!(null)).await },
            )
            .start()
            .await;
        detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    }
    println!("=== a handshake child that says nothing to the probe, and answers it late");
    let upstream = stdio_upstream("one")
        .on("server/discover", |mut call| async move {
            call.pause(1_600).await;
            call.error(-32601, "late", json!(null)).await;
        })
        .start()
        .await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    println!("=== a handshake child that dies of the probe");
    let upstream =
        stdio_upstream("one").on("server/discover", |call| async move { call.close().await }).start().await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    println!("=== a stateless child");
    let upstream = upstream_of_the_stateless_era().await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    assert!(upstream.received("initialize").is_empty());
}

async fn upstream_of_the_stateless_era() -> Upstream {
    upstream("one", STATELESS, Transport::Stdio).start().await
}

#[tokio::test]
async fn s_stdio_08_each_session_has_a_child_of_its_own_unless_told_otherwise() {
    let upstream = stdio_upstream("one").start().await;
    let apart = gateway().with("one", &upstream).start().await;
    let (ada, bob) = (apart.handshake(HANDSHAKE).await, apart.handshake(HANDSHAKE).await);
    ada.until_tools(&["one__echo"]).await;
    ada.call("one__echo", json!({ "who": "ada" })).await.text();
    bob.call("one__echo", json!({ "who": "bob" })).await.text();
    let connections: HashSet<usize> =
        upstream.received("tools/call").iter().map(|call| call.connection).collect();
    assert_eq!(connections.len(), 2, "one child each");

    let shared = stdio_upstream("one").start().await;
    let together = gateway().with_more("one", &shared, json!({ "share": "all" })).start().await;
    let (ada, bob) = (together.handshake(HANDSHAKE).await, together.handshake(HANDSHAKE).await);
    ada.until_tools(&["one__echo"]).await;
    ada.call("one__echo", json!({ "who": "ada" })).await.text();
    bob.call("one__echo", json!({ "who": "bob" })).await.text();
    let connections: HashSet<usize> =
        shared.received("tools/call").iter().map(|call| call.connection).collect();
    assert_eq!(connections.len(), 1, "one child for all");
}

#[tokio::test]
async fn s_stdio_09_a_child_sees_only_the_environment_it_was_given() {
    let upstream = stdio_upstream("one").start().await;
    let gateway = gateway()
        .with_more(
            "one",
            &upstream,
            json!({ "env": { "GIVEN": "${env:SECRET_SOURCE}", "PLAIN": "yes" }, "cwd": "/" }),
        )
        .environment("SECRET_SOURCE", "secret-canary")
        .environment("NOT_FOR_CHILDREN", "leak-canary")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let birth = upstream.births().pop().expect("a child was born");
    assert_eq!(
        (&birth["environment"]["GIVEN"], &birth["environment"]["PLAIN"]),
        (&json!("secret-canary"), &json!("yes"))
    );
    assert_eq!(birth["directory"], "/");
    assert!(birth["environment"].get("NOT_FOR_CHILDREN").is_none(), "{birth}");
    assert!(birth["environment"].get("SECRET_SOURCE").is_none(), "{birth}");
    assert!(!gateway.stderr().contains("secret-canary"), "secrets are not logged");
    let servers = gateway.admin_get("/api/v1/servers").await;
    assert!(!servers.body.contains("secret-canary"), "nor shown: {}", servers.body);
}
