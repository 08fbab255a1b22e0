//! What passes unchanged: errors, schemas, unknown fields, and what is too much (S-BASE-05, -13, -17, -18).

use serde_json::{Value, json};

use crate::support::client::Whole;
use crate::support::json::raw_at;
use crate::support::{Client, HANDSHAKE, STATELESS, gateway, http_upstream, stateless_upstream};

async fn post(client: &Client, body: &str) -> Whole {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let method = json["method"].as_str().unwrap_or_default();
    client.endpoint.ask("POST", client.headers(method, &json["params"]), body.as_bytes()).await
}

#[tokio::test]
async fn s_base_05_upstream_errors_pass_unchanged() {
    let error = r#"{"code": -31999,"message":"caf\u00e9 \"broke\"","data":{"z":1.0,"a":[12345678901234567890,null,{"k":1e2}]},"extra":true}"#;
    for (upstream, clients) in [(http_upstream("one"), HANDSHAKE), (stateless_upstream("one"), STATELESS)] {
        let upstream = upstream
            .on("tools/call", move |mut call| async move { call.raw_error(error).await })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in [clients, HANDSHAKE, STATELESS] {
            let client = gateway.client(revision).await;
            client.until_tools(&["one__echo"]).await;
            let answer = client.call("one__echo", json!({})).await;
            answer.expect_error(200, -31999);
            for member in ["code", "message", "data"] {
                assert_eq!(
                    raw_at(&answer.raw, &["error", member]),
                    raw_at(error, &[member]),
                    "{}",
                    answer.raw
                );
            }
        }
    }
}

#[tokio::test]
async fn s_base_13_schemas_are_relayed_word_for_word() {
    let schema = r##"{"type":"object","$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{"z":{"$anchor":"q","type":"integer","maximum":1e2}},"properties":{"b":{"$ref":"#/$defs/z"},"a":{"type":"number","multipleOf":0.10}},"allOf":[{"if":{"required":["a"]},"then":{"required":["b"]}}],"additionalProperties":false}"##;
    let upstream = http_upstream("one")
        .on("tools/list", move |mut call| async move {
            call.raw_result(&format!(
                r#"{{"tools":[{{"name":"odd","inputSchema":{schema},"x-vendor":1.0}}]}}"#
            ))
            .await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        let listing = client.until_tools(&["one__odd"]).await;
        assert!(listing.raw.contains(schema), "{}", listing.raw);
        assert!(
            listing.raw.contains(r#""x-vendor":1.0"#),
            "unknown fields survive (S-BASE-17): {}",
            listing.raw
        );
    }
}

#[tokio::test]
async fn s_base_17_f35_unknown_fields_and_numbers_survive_the_relay() {
    let arguments =
        r#"{"n": 12345678901234567890,"f":1.0,"z":null,"e":1E+2,"tiny":5e-324,"huge":1e400,"-0":-0}"#;
    let result = r#"{"zeta":{"n":123456789012345678901234567890},"content":[{"type":"text","text":"x","future":1.50}],"structuredContent":{"b":1.0,"a":[1e2]},"isError":false,"alpha":[ 1 , 2 ]}"#;
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| async move { call.raw_result(result).await })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"future":{{"y":1.0,"x":2}},"name":"one__echo","arguments":{arguments}}}}}"#
    );
    let answer = client
        .open_raw(json!(1), "tools/call", client.headers("", &json!({})), body.as_bytes())
        .await
        .answer()
        .await;
    assert_eq!(answer.raw_result(&[]), result);
    let sent = upstream.until_received("tools/call", 1).await;
    assert_eq!(sent.raw_param(&["arguments"]), arguments);
    assert_eq!(sent.raw_param(&["future"]), r#"{"y":1.0,"x":2}"#);
}

#[tokio::test]
async fn s_base_18_too_large_and_too_deep_are_refused_and_nothing_else_suffers() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { request_body: 20000B }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let large = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "one__echo", "arguments": { "text": "x".repeat(30_000) } } });
    assert_eq!(post(&client, &large.to_string()).await.status, 413);
    let mut chunked = client.headers("", &json!({}));
    chunked.set("Transfer-Encoding", "chunked");
    let mut wire = crate::support::http::chunk(large.to_string().as_bytes());
    wire.extend(crate::support::http::chunk(b""));
    assert_eq!(client.endpoint.ask("POST", chunked, &wire).await.status, 413, "no length announced");

    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let body = |depth: usize| {
        let deep = nested(depth);
        format!(
            r#"{{"jsonrpc":"2.0","id":"deep","method":"tools/call","params":{{"name":"one__echo","arguments":{{"d":{deep}}}}}}}"#
        )
    };
    let refused = post(&client, &body(200)).await;
    assert_eq!(refused.error_code(), -32600, "{}", refused.body);
    assert_eq!(refused.json()["id"], "deep", "(F33) the error carries that id");
    let served = post(&client, &body(100)).await;
    assert_eq!(served.status, 200, "{}", served.body);
    assert_eq!(upstream.received("tools/call").len(), 1);
}
