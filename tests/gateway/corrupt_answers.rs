//! Upstreams whose answers are corrupt (F08): their own fault, and theirs alone.

use std::time::Duration;

use serde_json::json;

use crate::support::{HANDSHAKE, STATELESS, Transport, gateway, upstream};

#[tokio::test]
async fn f08_corrupt_answers_are_the_upstream_s_fault_and_stay_alone() {
    let cases: [(&str, &str); 9] = [
        ("html", "upstream_protocol_error"),
        ("broken", "upstream_protocol_error"),
        ("empty", "upstream_protocol_error"),
        ("wrong id", "upstream_protocol_error"),
        ("array", "upstream_protocol_error"),
        ("broken event", "upstream_protocol_error"),
        ("stream without answer", "upstream_"),
        ("500", "upstream_"),
        ("neither", "upstream_protocol_error"),
    ];
    for revision in [HANDSHAKE, STATELESS] {
        let upstream = upstream("one", revision, Transport::Http)
            .on("tools/call", |mut call| async move {
                let json = [("Content-Type", "application/json")];
                let kind = call.params()["arguments"]["kind"].as_str().unwrap_or_default().to_owned();
                match kind.as_str() {
                    "html" => {
                        call.http(200, &[("Content-Type", "text/html")], b"<html>secret internals</html>")
                            .await
                    }
                    "broken" => call.http(200, &json, b"{\"jsonrpc\":\"2.0\",").await,
                    "empty" => call.http(200, &json, b"").await,
                    "wrong id" => {
                        call.http(200, &json, br#"{"jsonrpc":"2.0","id":"nobody","result":{}}"#).await
                    }
                    "array" => call.http(200, &json, b"[1,2,3]").await,
                    "broken event" => {
                        call.say_bytes(b"data: {\"jsonrpc\":\n\n").await;
                        call.finish().await;
                    }
                    "stream without answer" => {
                        call.say_bytes(b": nothing\n\n").await;
                        call.finish().await;
                    }
                    "500" => {
                        call.http(500, &[("Content-Type", "text/html")], b"<html>secret internals</html>")
                            .await
                    }
                    "neither" => {
                        let message = format!(r#"{{"jsonrpc":"2.0","id":{}}}"#, call.id());
                        call.http(200, &json, message.as_bytes()).await;
                    }
                    "two" => {
                        call.stream().await;
                        let first = format!(
                            r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#,
                            call.id(),
                            call.complete(json!({ "content": [{ "type": "text", "text": "first" }] }))
                        );
                        let second = first.replace("first", "second");
                        call.say(&first).await;
                        call.say(&second).await;
                        call.finish().await;
                    }
                    _ => call.default().await,
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config("bounds: { call_maximum: 8s }").start().await;
        for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
            client.until_tools(&["one__echo"]).await;
            for (kind, reason) in cases {
                let started = tokio::time::Instant::now();
                let answer = client.call("one__echo", json!({ "kind": kind })).await;
                assert!(started.elapsed() < Duration::from_secs(9), "{kind} hung");
                let told = answer.failure()["reason"].as_str().unwrap_or_default().to_owned();
                assert!(told.starts_with(reason), "{kind}: {}", answer.raw);
                assert!(!answer.raw.contains("secret internals"), "(S-ERR-06) {}", answer.raw);
                assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}", "after {kind}");
            }
            assert_eq!(client.call("one__echo", json!({ "kind": "two" })).await.text(), "first");
        }
    }
}
