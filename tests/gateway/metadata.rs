//! Metadata and result types: what belongs to a hop and what passes (S-BASE-08 to -12).

use serde_json::{Value, json};

use crate::support::{HANDSHAKE, STATELESS, gateway, http_upstream, stateless_upstream};

#[tokio::test]
async fn s_base_08_09_result_types_are_added_and_strange_ones_refused() {
    let legacy = http_upstream("old").start().await;
    let strange = stateless_upstream("new")
        .on("tools/call", |mut call| async move {
            call.result(json!({ "content": [], "resultType": "surprise" })).await;
        })
        .start()
        .await;
    let gateway = gateway().with("old", &legacy).with("new", &strange).start().await;
    let client = gateway.stateless();
    client.until_tools(&["old__echo", "new__echo"]).await;
    assert_eq!(client.call("old__echo", json!({})).await.result()["resultType"], "complete");
    let answer = client.call("new__echo", json!({})).await;
    let is_failure = answer.json.get("error").is_some_and(|error| error["code"] == -32603)
        || answer.json["result"]["isError"] == true;
    assert!(is_failure, "an unknown result type is no success: {}", answer.raw);
}

#[tokio::test]
async fn s_base_10_11_foreign_metadata_passes_and_the_protocol_s_own_stays_on_its_hop() {
    for (upstream, revision) in [(http_upstream("one"), HANDSHAKE), (stateless_upstream("one"), STATELESS)] {
        let upstream = upstream
            .on("tools/call", |mut call| async move {
                let result = call.complete(json!({
                    "content": [], "_meta": { "com.example.mcp/odd": [1, { "deep": true }], "plain": "yes", "a.b/c": null },
                }));
                call.result(result).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        let meta = json!({
            "progressToken": "client-token",
            "com.example.mcp/odd": { "x": [1, 2] },
            "com.example/vendor": "mine",
            "plain": null,
        });
        let params = json!({ "name": "one__echo", "arguments": {}, "_meta": meta });
        let answer = client.request("tools/call", params).await;
        let back = &answer.result()["_meta"];
        assert_eq!(back["com.example.mcp/odd"], json!([1, { "deep": true }]), "{}", answer.raw);
        assert_eq!(
            (&back["plain"], back.get("a.b/c")),
            (&json!("yes"), Some(&Value::Null)),
            "{}",
            answer.raw
        );

        let sent = upstream.until_received("tools/call", 1).await;
        let there = &sent.params()["_meta"];
        assert_eq!(there["com.example.mcp/odd"], json!({ "x": [1, 2] }), "{}", sent.raw);
        assert_eq!(
            (&there["com.example/vendor"], there.get("plain")),
            (&json!("mine"), Some(&Value::Null)),
            "{}",
            sent.raw
        );
        assert_ne!(there["progressToken"], "client-token", "{}", sent.raw);
        assert_ne!(there["io.modelcontextprotocol/clientInfo"]["name"], "story", "{}", sent.raw);
        expect_no_invented_keys(there);
        expect_no_invented_keys(back);
    }
}

/// The keys that the specification itself defines under its reserved prefix.
const RESERVED: [&str; 8] = [
    "protocolVersion",
    "clientInfo",
    "clientCapabilities",
    "logLevel",
    "serverInfo",
    "subscriptionId",
    "related-task",
    "model-immediate-response",
];

fn expect_no_invented_keys(meta: &Value) {
    for key in meta.as_object().into_iter().flat_map(|members| members.keys()) {
        let Some((prefix, name)) = key.split_once('/') else { continue };
        let second = prefix.split('.').nth(1).unwrap_or_default();
        if matches!(second, "modelcontextprotocol" | "mcp") {
            assert!(RESERVED.contains(&name), "{key} is in a reserved name space: {meta}");
        }
    }
}

#[tokio::test]
async fn s_base_12_stateless_results_name_the_gateway_and_handshake_ones_nothing() {
    let upstream = stateless_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let modern = gateway.stateless();
    modern.until_tools(&["one__echo"]).await;
    for (method, params) in [
        ("tools/list", json!({})),
        ("tools/call", json!({ "name": "one__echo", "arguments": {} })),
        ("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "me" } })),
        ("resources/read", json!({ "uri": "test://one/static" })),
        ("server/discover", json!({})),
    ] {
        let answer = modern.request(method, params).await;
        let identity = &answer.result()["_meta"]["io.modelcontextprotocol/serverInfo"];
        assert!(identity["name"].is_string() && identity["version"].is_string(), "{method}: {}", answer.raw);
        assert_ne!(identity["name"], "one", "{method} shows the upstream's identity: {}", answer.raw);
    }
    let handshake = gateway.handshake(HANDSHAKE).await;
    for (method, params) in [("ping", json!({})), ("logging/setLevel", json!({ "level": "warning" }))] {
        assert_eq!(
            handshake.request(method, params).await.raw_result(&[]).replace(' ', ""),
            "{}",
            "{method}"
        );
    }
    assert!(
        handshake
            .call("one__echo", json!({}))
            .await
            .result()
            .get("_meta")
            .is_none_or(|meta| *meta == json!({}))
    );
}
