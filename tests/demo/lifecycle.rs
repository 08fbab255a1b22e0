//! Starting, cancelling, stopping, and input that is no message.

use serde_json::{Value, json};
use switchyard::protocol::era::{REVISIONS, Revision};
use tokio::time::{Instant, sleep};

use crate::client::{Client, text_of};
use crate::pipe::{PATIENCE, start, start_http};

pub(crate) async fn cancelled_calls(client: &mut Client) -> u64 {
    let counted: Value = serde_json::from_str(text_of(&client.call("counters", json!({})).await)).unwrap();
    counted["cancelled"].as_u64().unwrap()
}

pub(crate) async fn until_cancelled(client: &mut Client) {
    let deadline = Instant::now() + PATIENCE;
    while cancelled_calls(client).await != 1 {
        assert!(Instant::now() < deadline, "the call was not cancelled");
        sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn s_canc_01_a_cancelled_call_is_counted_and_never_answered() {
    for revision in REVISIONS {
        let mut client = Client::meet(revision, false, &[]).await;
        let call = client.compose("tools/call", json!({"name": "slow", "arguments": {"seconds": 600}}));
        client.server.write(&call.to_string()).await;
        client.notify("notifications/cancelled", json!({"requestId": call["id"]})).await;
        // Answers that follow are for other requests: the client would stop at a stray one.
        until_cancelled(&mut client).await;
    }
}

#[tokio::test]
async fn s_canc_06_cancelling_a_call_withdraws_its_question() {
    let mut client = Client::meet(Revision::V2025_11_25, false, &[]).await;
    let call = client.compose("tools/call", json!({"name": "ask"}));
    client.server.write(&call.to_string()).await;
    let question = client.server.message().await;
    assert_eq!(question["method"], "elicitation/create");
    client.notify("notifications/cancelled", json!({"requestId": call["id"]})).await;
    let withdrawn = client.server.message().await;
    assert_eq!(withdrawn["method"], "notifications/cancelled");
    assert_eq!(withdrawn["params"]["requestId"], question["id"]);
}

#[tokio::test]
async fn the_server_exits_when_its_input_ends_and_answers_first() {
    let mut server = start(&[]);
    server.write(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    server.input = None;
    assert_eq!(server.message().await["id"], 1);
    assert_eq!(server.line().await, None);
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn sigterm_ends_the_server_cleanly() {
    let mut client = Client::meet(Revision::V2025_11_25, false, &[]).await;
    client.server.terminate();
    assert_eq!(client.server.exit_code().await, Some(0));
    let (mut server, _) = start_http(&[]).await;
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn only_loopback_addresses_are_served() {
    let mut server = start(&["--http", "0.0.0.0:0"]);
    assert_eq!(server.exit_code().await, Some(1));
}

#[tokio::test]
async fn s_base_01_what_is_no_message_is_refused_and_nothing_else_is_harmed() {
    let mut server = start(&[]);
    let deep = "[".repeat(500);
    let table = [
        ("{", -32700),
        ("\"text\"", -32600),
        ("[]", -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (deep.as_str(), -32700),
    ];
    for (line, code) in table {
        server.write(line).await;
        assert_eq!(server.message().await["error"]["code"], code, "{line}");
    }
    server.write(r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}"#).await;
    assert_eq!(server.message().await["id"], json!(9_007_199_254_740_993_u64));
}

#[tokio::test]
async fn f17_a_huge_line_is_refused_without_being_kept() {
    let mut server = start(&[]);
    let half = "x".repeat(10 << 20);
    server.write(&format!("\"{half}{half}\"")).await;
    assert_eq!(server.message().await["error"]["code"], -32600);
    server.write(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    assert_eq!(server.message().await["id"], 1);
}

#[tokio::test]
async fn s_base_03_an_id_in_use_is_refused_and_the_first_call_completes() {
    let mut client = Client::meet(Revision::V2025_11_25, false, &[]).await;
    let call = client.compose("tools/call", json!({"name": "slow", "arguments": {"seconds": 1}}));
    client.server.write(&call.to_string()).await;
    client.server.write(&call.to_string()).await;
    assert_eq!(client.server.message().await["error"]["code"], -32600);
    assert_eq!(client.server.message().await["result"]["content"][0]["text"], "took 1 s");
}

#[tokio::test]
async fn s_page_01_pages_lead_through_a_list_and_foreign_cursors_are_refused() {
    for over_http in [false, true] {
        let mut client = Client::meet(Revision::V2026_07_28, over_http, &["--page-size", "3"]).await;
        let (mut names, mut cursor, mut pages) = (Vec::new(), json!({}), 0);
        loop {
            let page = client.request("tools/list", cursor.clone()).await.unwrap();
            names.extend(page["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()));
            pages += 1;
            match page.get("nextCursor") {
                Some(next) => cursor = json!({"cursor": next}),
                None => break,
            }
        }
        let distinct: std::collections::HashSet<_> = names.iter().map(Value::to_string).collect();
        assert_eq!((pages, names.len(), distinct.len()), (11, 32, 32));
        assert_eq!(client.request("prompts/list", cursor).await.unwrap_err()["code"], -32602);
        assert_eq!(client.request("tools/list", json!({"cursor": "x"})).await.unwrap_err()["code"], -32602);
    }
}
