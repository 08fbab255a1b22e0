//! JSON-RPC itself: ids, notifications, errors, batches, metadata, unknown fields (S-BASE).

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::client::Whole;
use crate::support::json::raw_at;
use crate::support::sse::Events;
use crate::support::{Client, HANDSHAKE, STATELESS, gateway, http_upstream, stateless_upstream};

async fn post(client: &Client, body: &str) -> Whole {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let method = json["method"].as_str().unwrap_or_default();
    client.endpoint.ask("POST", client.headers(method, &json["params"]), body.as_bytes()).await
}

#[tokio::test]
async fn s_base_01_what_is_no_message_is_told_so() {
    let gateway = gateway().start().await;
    for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
        for broken in
            ["{", "", "nonsense", r#"{"jsonrpc":"2.0","id":1,"method":"ping""#, "{\"a\":1}}", "\u{1}", "[1,"]
        {
            let answer = post(&client, broken).await;
            answer.expect_error(400, -32700);
            assert_eq!(answer.json()["id"], Value::Null, "{broken:?}: {}", answer.body);
        }
        for unlawful in [
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#,
            "\"ping\"",
            "7",
            "null",
            "[]",
            "{}",
        ] {
            let answer = post(&client, unlawful).await;
            assert_eq!((answer.status, answer.error_code()), (400, -32600), "{unlawful}: {}", answer.body);
        }
    }
    let client = gateway.handshake(HANDSHAKE).await;
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn s_base_02_ids_come_back_byte_for_byte() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
        client.until_tools(&["one__echo"]).await;
        for id in [
            r#""7""#,
            "7",
            "9007199254740993",
            "-1",
            "0",
            r#""""#,
            "18446744073709551615",
            "-9223372036854775808",
            "\"\u{1f600} caf\u{e9}\"",
            r#""\u0041\/""#,
        ] {
            for (method, params) in
                [("tools/list", json!({})), ("tools/call", json!({ "name": "one__echo", "arguments": {} }))]
            {
                let params = client.dress(params);
                let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
                let parsed: Value = serde_json::from_str(id).expect("an id is JSON");
                let headers = client.headers(method, &params);
                let answer = client.open_raw(parsed, method, headers, body.as_bytes()).await.answer().await;
                assert_eq!(raw_at(&answer.raw, &["id"]), Some(id), "{}", answer.raw);
                answer.result();
            }
        }
        for id in ["null", "1.5"] {
            let params = client.dress(json!({}));
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{params}}}"#);
            post(&client, &body).await.expect_error(400, -32600);
        }
    }
}

#[tokio::test]
async fn s_base_03_f29_the_same_id_from_two_clients_at_once_reaches_each_its_own() {
    let release = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&release);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("nobody closes it").forget();
                call.default().await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let first = gateway.handshake(HANDSHAKE).await;
    let second = gateway.handshake(HANDSHAKE).await;
    let third = gateway.stateless();
    let fourth = gateway.stateless();
    first.until_tools(&["one__echo"]).await;
    let mut open = Vec::new();
    for (n, client) in [&first, &second, &third, &fourth].into_iter().enumerate() {
        let params = json!({ "name": "one__echo", "arguments": { "n": n } });
        open.push(client.open_as(json!(1), "tools/call", params).await);
    }
    upstream.until_received("tools/call", 4).await;
    let mut ids: Vec<String> = upstream
        .received("tools/call")
        .iter()
        .map(|call| format!("{:?} {}", call.session(), call.json["id"]))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "upstream, each has an id of its own: {ids:?}");
    release.add_permits(4);
    for (n, exchange) in open.into_iter().enumerate() {
        assert_eq!(exchange.answer().await.text(), format!(r#"one echoes {{"n":{n}}}"#));
    }
}

#[tokio::test]
async fn s_base_03_f29_a_duplicate_id_in_flight_is_refused_and_the_first_completes() {
    let release = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&release);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("nobody closes it").forget();
                call.default().await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let params = json!({ "name": "one__echo", "arguments": { "first": true } });
    let first = client.open_as(json!("same"), "tools/call", params.clone()).await;
    upstream.until_received("tools/call", 1).await;
    let replayed = client.open_as(json!("same"), "tools/call", params).await.whole().await;
    assert_eq!(replayed.error_code(), -32600, "{}", replayed.body);
    let other = client.open_as(json!("same"), "ping", json!({})).await.whole().await;
    assert_eq!(other.error_code(), -32600, "the id is taken, whatever the method: {}", other.body);
    release.add_permits(1);
    assert_eq!(first.answer().await.text(), r#"one echoes {"first":true}"#);
    assert_eq!(upstream.received("tools/call").len(), 1, "the replayed one never left");
}

#[tokio::test]
async fn s_base_04_notifications_are_never_answered() {
    let gateway = gateway().start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    for method in [
        "notifications/unknown",
        "notifications/cancelled",
        "notifications/progress",
        "vendor/notice",
        "tools/call",
    ] {
        assert_eq!(client.notify(method, json!({ "any": "thing" })).await, 202, "{method}");
    }
    assert_eq!(gateway.stateless().notify("notifications/unknown", json!({})).await, 202);
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

/// Every message of a batch's answer, in whatever form it came.
fn messages_of(answer: &Whole) -> Vec<Value> {
    let is_stream =
        answer.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
    let mut documents = Vec::new();
    if is_stream {
        let mut events = Events::default();
        events.feed(answer.body.as_bytes());
        while let Some(event) = events.pop() {
            documents.extend(event.data.filter(|data| !data.is_empty()));
        }
    } else {
        documents.push(answer.body.clone());
    }
    documents
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{e} in {text:?}")))
        .flat_map(|value| match value {
            Value::Array(items) => items,
            one => vec![one],
        })
        .filter(|message| message.get("method").is_none())
        .collect()
}

#[tokio::test]
async fn s_base_06_batches_are_served_in_the_one_revision_that_has_them() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake("2025-03-26").await;
    client.until_tools(&["one__echo"]).await;
    let batch = json!([
        { "jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": { "name": "one__echo", "arguments": { "n": 1 } } },
        { "jsonrpc": "2.0", "id": 2, "method": "no/such/method" },
        { "jsonrpc": "2.0", "method": "notifications/unknown" },
        { "jsonrpc": "2.0", "id": "c", "method": "ping" },
    ]);
    let answer = post(&client, &batch.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let responses = messages_of(&answer);
    assert_eq!(responses.len(), 3, "{}", answer.body);
    let of =
        |id: Value| responses.iter().find(|response| response["id"] == id).expect("each request is answered");
    assert_eq!(of(json!("a"))["result"]["content"][0]["text"], r#"one echoes {"n":1}"#);
    assert_eq!(of(json!(2))["error"]["code"], -32601);
    assert_eq!(of(json!("c"))["result"], json!({}));

    let only_notifications = json!([{ "jsonrpc": "2.0", "method": "notifications/unknown" }]);
    let accepted = post(&client, &only_notifications.to_string()).await;
    assert_eq!((accepted.status, accepted.body.as_str()), (202, ""));

    let greeting = json!({ "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } });
    let forbidden = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": greeting },
        { "jsonrpc": "2.0", "id": 2, "method": "ping" },
    ]);
    let refused = post(&client, &forbidden.to_string()).await;
    assert!(refused.body.contains("-32600"), "initialize in a batch: {}", refused.body);
    post(&client, "[]").await.expect_error(400, -32600);
    let many: Vec<Value> =
        (0..51).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "ping" })).collect();
    let refused = post(&client, &Value::Array(many).to_string()).await;
    assert!(refused.body.contains("-32600"), "more than fifty: {}", refused.body);
}

#[tokio::test]
async fn s_base_07_batches_are_refused_everywhere_else() {
    let gateway = gateway().start().await;
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#;
    for revision in ["2024-11-05", "2025-06-18", "2025-11-25", STATELESS] {
        let client = gateway.client(revision).await;
        post(&client, batch).await.expect_error(400, -32600);
    }
}

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
