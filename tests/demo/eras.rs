//! Which era is spoken, and what a server of one era says to a client of the other.

use http::Method;
use serde_json::{Value, json};

use crate::pipe::{start, start_http};
use crate::web::{POST, send};

fn initialize(version: &str) -> String {
    let params = json!({
        "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
    });
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string()
}

fn discover(version: &str) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": 2, "method": "server/discover", "params": {"_meta": meta}}).to_string()
}

async fn exchange(arguments: &[&str], line: &str) -> Value {
    let mut server = start(arguments);
    server.write(line).await;
    server.message().await
}

#[tokio::test]
async fn s_life_01_a_handshake_settles_on_what_is_asked_or_on_the_newest() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        assert_eq!(exchange(&[], &initialize(version)).await["result"]["protocolVersion"], version);
    }
    for version in ["1999-01-01", "2026-07-28"] {
        assert_eq!(exchange(&[], &initialize(version)).await["result"]["protocolVersion"], "2025-11-25");
    }
    let pinned = exchange(&["--protocol", "2025-03-26"], &initialize("2025-11-25")).await;
    assert_eq!(pinned["result"]["protocolVersion"], "2025-03-26");
}

#[tokio::test]
async fn s_life_15_both_eras_on_one_pipe() {
    let mut server = start(&[]);
    server.write(&discover("2026-07-28")).await;
    let found = server.message().await;
    assert_eq!(found["result"]["supportedVersions"][0], "2026-07-28");
    assert_eq!(found["result"]["supportedVersions"].as_array().unwrap().len(), 5);
    server.write(&initialize("2025-06-18")).await;
    assert_eq!(server.message().await["result"]["protocolVersion"], "2025-06-18");
    server.write(&discover("2026-07-28")).await;
    assert_eq!(server.message().await["result"]["resultType"], "complete");
    server.write(r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#).await;
    assert_eq!(server.message().await["result"], json!({}));
}

#[tokio::test]
async fn s_stdio_05_a_pinned_server_refuses_the_other_era() {
    let handshake = exchange(&["--protocol", "2025-11-25"], &discover("2026-07-28")).await;
    assert_eq!(handshake["error"]["code"], -32601);
    let stateless = exchange(&["--protocol", "2026-07-28"], &initialize("2025-11-25")).await;
    assert_eq!(stateless["error"]["code"], -32601);
    let early = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    assert_eq!(exchange(&["--protocol", "2025-11-25"], early).await["error"]["code"], -32600);
    assert_eq!(exchange(&["--protocol", "2026-07-28"], early).await["error"]["code"], -32602);
}

#[tokio::test]
async fn s_httpc_11_a_pinned_server_refuses_the_other_era_over_http() {
    let (_server, url) = start_http(&["--protocol", "2025-11-25"]).await;
    let answer = send(Method::POST, &url, &POST, &discover("2026-07-28")).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.value().await["error"]["code"], -32601);
    let (_server, url) = start_http(&["--protocol", "2026-07-28"]).await;
    let answer = send(Method::POST, &url, &POST, &initialize("2025-11-25")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.value().await["error"]["code"], -32601);
    for method in [Method::GET, Method::DELETE] {
        let headers = [("accept", "text/event-stream"), ("mcp-session-id", "any")];
        assert_eq!(send(method, &url, &headers, "").await.status, 405);
    }
}

#[tokio::test]
async fn s_meta_03_an_unknown_revision_is_told_which_ones_there_are() {
    let refused = exchange(&[], &discover("2031-01-01")).await;
    assert_eq!(refused["error"]["code"], -32022);
    assert_eq!(refused["error"]["data"]["requested"], "2031-01-01");
    assert_eq!(refused["error"]["data"]["supported"][0], "2026-07-28");
}

#[tokio::test]
async fn s_base_06_batches_are_answered_in_2025_03_26_and_refused_elsewhere() {
    let batch = r#"[{"jsonrpc":"2.0","id":7,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":"8","method":"no/such"}]"#;
    let mut server = start(&[]);
    server.write(&initialize("2025-03-26")).await;
    server.message().await;
    server.write(batch).await;
    let mut answers = server.message().await.as_array().unwrap().clone();
    answers.sort_by_key(|answer| answer["id"].to_string());
    assert_eq!((&answers[0]["id"], &answers[1]["id"]), (&json!("8"), &json!(7)));
    let mut server = start(&[]);
    server.write(&initialize("2025-06-18")).await;
    server.message().await;
    server.write(batch).await;
    assert_eq!(server.message().await["error"]["code"], -32600);
}
