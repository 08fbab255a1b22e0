//! JSON-RPC itself: ids, notifications, what is no message (S-BASE-01 to -04).

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::client::Whole;
use crate::support::json::raw_at;
use crate::support::{Client, HANDSHAKE, gateway, http_upstream};

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
