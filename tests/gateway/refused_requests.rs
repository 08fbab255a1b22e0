//! Stateless requests that an upstream refuses unseen, for their revision or for their headers: the gateway puts them
//! right and sends them again, a bounded number of times (S-META-09, S-HTTPC-10, S-HDR-04).

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::{
    Call, Gateway, HANDSHAKE, STATELESS, TRANSPORTS, Upstream, gateway, stateless_upstream, upstream,
};

/// Refuse a message as a stateless server does: with status 400 over HTTP.
async fn refuse(call: &mut Call, code: i64, data: Value) {
    let id = call.id();
    let error = json!({ "code": code, "message": "no", "data": data });
    let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
    call.http(400, &[("Content-Type", "application/json")], message.as_bytes()).await;
}

async fn both(gateway: &Gateway) -> [Client; 2] {
    let clients = [gateway.stateless(), gateway.handshake(HANDSHAKE).await];
    for client in &clients {
        client.until_tools(&["one__echo"]).await;
    }
    clients
}

fn ids_differ(upstream: &Upstream) {
    let sent = upstream.received("tools/call");
    for pair in sent.windows(2) {
        assert_ne!(pair[0].json["id"], pair[1].json["id"], "a retry is a new request");
    }
}

#[tokio::test]
async fn s_meta_09_a_call_refused_for_its_revision_is_sent_again_in_the_one_that_is_named() {
    for transport in TRANSPORTS {
        // Every second one is refused, in the very revision that it names.
        let upstream = upstream("one", STATELESS, transport)
            .on("tools/call", |mut call| async move {
                if call.count() % 2 == 0 {
                    return call.default().await;
                }
                let named = json!({ "supported": ["2031-01-01", STATELESS], "requested": STATELESS });
                refuse(&mut call, -32022, named).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for client in both(&gateway).await {
            assert_eq!(client.call("one__echo", json!({ "a": 1 })).await.text(), r#"one echoes {"a":1}"#);
        }
        let sent = upstream.received("tools/call");
        assert_eq!(sent.len(), 4, "{transport:?}: one more each");
        ids_differ(&upstream);
        assert!(upstream.received("initialize").is_empty(), "it said what it speaks");
    }
}

#[tokio::test]
async fn s_meta_09_refusals_without_end_come_to_an_end_and_nobody_falls_back() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", STATELESS, transport)
            .on("tools/call", |mut call| async move {
                refuse(&mut call, -32022, json!({ "supported": [STATELESS], "requested": STATELESS })).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for (number, client) in both(&gateway).await.into_iter().enumerate() {
            let answer = client.call("one__echo", json!({})).await;
            answer.expect_failure("upstream_unavailable", "not_sent");
            assert!(!answer.raw.contains("-32022"), "{}", answer.raw);
            let sent = upstream.received("tools/call").len();
            assert!((2..=5 * (number + 1)).contains(&sent), "{transport:?}: {sent} requests for one call");
        }
        assert!(upstream.received("initialize").is_empty(), "it said what it speaks");
    }
}

#[tokio::test]
async fn s_meta_09_without_a_mutual_revision_the_call_fails_at_once() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            refuse(&mut call, -32022, json!({ "supported": ["2031-01-01"], "requested": STATELESS })).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for (number, client) in both(&gateway).await.into_iter().enumerate() {
        let answer = client.call("one__echo", json!({})).await;
        answer.expect_failure("upstream_unavailable", "not_sent");
        assert!(!answer.raw.contains("2031-01-01"), "what the upstream speaks stays here: {}", answer.raw);
        assert_eq!(upstream.received("tools/call").len(), number + 1);
    }
    assert!(upstream.received("initialize").is_empty());
}

/// A tool `echo` whose region is to be repeated in this header.
fn annotated(header: Option<&str>) -> Value {
    let mut region = json!({ "type": "string" });
    if let Some(header) = header {
        region["x-mcp-header"] = json!(header);
    }
    json!({ "name": "echo", "inputSchema": { "type": "object", "properties": { "region": region } } })
}

/// An upstream that changes what it wants repeated without a word, and refuses what does not repeat it.
async fn strict() -> Upstream {
    stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            match call.received.headers.get("mcp-param-region") {
                Some("eu") => call.text("repeated").await,
                _ => refuse(&mut call, -32020, Value::Null).await,
            }
        })
        .start()
        .await
}

#[tokio::test]
async fn s_httpc_10_s_hdr_04_refused_headers_are_made_anew_from_the_tool_as_it_is_now() {
    for stateless in [true, false] {
        let upstream = strict().await;
        upstream.show(|shown| shown.tools = vec![annotated(None)]);
        let gateway = gateway().with("one", &upstream).start().await;
        let [modern, legacy] = both(&gateway).await;
        let listed = upstream.received("tools/list").len();
        upstream.show(|shown| shown.tools = vec![annotated(Some("Region"))]);
        let client = if stateless { modern } else { legacy };
        let answer = client.call("one__echo", json!({ "region": "eu" })).await;
        assert_eq!(answer.text(), "repeated", "{}", answer.raw);
        assert_eq!(upstream.received("tools/call").len(), 2, "refused once, and once more");
        assert!(upstream.received("tools/list").len() > listed, "the list was read again in between");
        ids_differ(&upstream);
    }
}

#[tokio::test]
async fn s_httpc_10_headers_that_are_refused_twice_are_the_gateway_s_own_trouble() {
    let upstream = stateless_upstream("one")
        .on("*", |mut call| async move {
            match call.method() {
                "tools/call" | "prompts/get" | "resources/read" => {
                    refuse(&mut call, -32020, Value::Null).await
                }
                _ => call.default().await,
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for (number, client) in both(&gateway).await.into_iter().enumerate() {
        for (method, params, requests) in [
            ("tools/call", json!({ "name": "one__echo", "arguments": {} }), 2),
            ("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "me" } }), 1),
            ("resources/read", json!({ "uri": "test://one/static" }), 1),
        ] {
            let answer = client.request(method, params).await;
            assert_eq!(
                (answer.status, answer.error()["code"].as_i64()),
                (200, Some(-32603)),
                "{}",
                answer.raw
            );
            answer.expect_failure("upstream_protocol_error", "not_sent");
            assert!(!answer.raw.contains("-32020"), "never shown: {}", answer.raw);
            assert_eq!(upstream.received(method).len(), requests * (number + 1), "{method}");
        }
    }
}

#[tokio::test]
async fn s_httpc_10_a_mismatch_told_after_the_message_was_taken_is_no_reason_to_send_it_again() {
    let upstream = stateless_upstream("one")
        .lenient()
        .on("tools/call", |mut call| async move { call.error(-32020, "too late", Value::Null).await })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for (number, client) in both(&gateway).await.into_iter().enumerate() {
        let answer = client.call("one__echo", json!({})).await;
        answer.expect_failure("upstream_protocol_error", "unknown");
        assert!(!answer.raw.contains("-32020"), "never shown: {}", answer.raw);
        assert_eq!(upstream.received("tools/call").len(), number + 1);
    }
}
