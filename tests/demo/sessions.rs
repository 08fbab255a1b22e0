//! Sessions of the handshake era over HTTP: their life, their streams, and coming back to them.

use std::time::Duration;

use http::Method;
use serde_json::json;
use switchyard::protocol::era::Revision;
use tokio::time::{Instant, sleep};

use crate::client::{Client, text_of};
use crate::lifecycle::{cancelled_calls, until_cancelled};
use crate::pipe::PATIENCE;
use crate::web::{POST, send};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn s_sess_03_a_session_ends_by_delete_and_is_unknown_afterwards() {
    let client = Client::meet(Revision::V2025_06_18, true, &[]).await;
    let session = client.session();
    assert!(session.len() >= 22 && session.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    let headers = [POST[0], POST[1], ("mcp-session-id", session)];
    assert_eq!(send(Method::POST, client.url(), &headers, PING).await.status, 200);
    assert_eq!(send(Method::DELETE, client.url(), &headers, "").await.status, 204);
    assert_eq!(send(Method::POST, client.url(), &headers, PING).await.status, 404);
    assert_eq!(send(Method::DELETE, client.url(), &headers, "").await.status, 404);
    assert_eq!(send(Method::POST, client.url(), &POST, PING).await.status, 400);
    let odd = [POST[0], POST[1], ("mcp-session-id", "made-up")];
    assert_eq!(send(Method::POST, client.url(), &odd, PING).await.status, 404);
}

#[tokio::test]
async fn s_https_08_the_version_header_must_name_a_handshake_revision() {
    let client = Client::meet(Revision::V2025_06_18, true, &[]).await;
    for (version, status) in [("2025-06-18", 200), ("2025-03-26", 200), ("1999-01-01", 400), ("garbage", 400)]
    {
        let headers =
            [POST[0], POST[1], ("mcp-session-id", client.session()), ("mcp-protocol-version", version)];
        assert_eq!(send(Method::POST, client.url(), &headers, PING).await.status, status, "{version}");
    }
}

#[tokio::test]
async fn s_resum_04_a_cut_stream_is_resumed_and_gives_the_answer_once() {
    let mut client = Client::meet(Revision::V2025_11_25, true, &["--tools", "conformance"]).await;
    let call = client.compose("tools/call", json!({"name": "test_reconnection"}));
    let mut cut = client.post(&call).await;
    let priming = cut.event().await.unwrap();
    assert_eq!((priming.data.as_str(), priming.retry.as_deref()), ("", Some("500")));
    assert!(cut.event().await.is_none(), "the stream ends before the answer");
    let last = priming.id.unwrap();
    let headers = [
        ("accept", "text/event-stream"),
        ("mcp-session-id", client.session()),
        ("last-event-id", last.as_str()),
    ];
    let mut resumed = send(Method::GET, client.url(), &headers, "").await;
    assert_eq!(resumed.message().await.unwrap()["id"], call["id"]);
    assert!(resumed.message().await.is_none());
    let other = Client::meet(Revision::V2025_11_25, true, &[]).await;
    let foreign =
        [("accept", "text/event-stream"), ("mcp-session-id", other.session()), ("last-event-id", "99-0")];
    assert_eq!(send(Method::GET, other.url(), &foreign, "").await.status, 404);
}

#[tokio::test]
async fn s_resum_03_only_2025_11_25_gets_a_priming_event() {
    let mut client = Client::meet(Revision::V2025_06_18, true, &[]).await;
    let params = json!({
        "name": "slow", "arguments": {"seconds": 0.1, "steps": 2}, "_meta": {"progressToken": 1},
    });
    let call = client.compose("tools/call", params);
    let mut answer = client.post(&call).await;
    assert!(answer.is_stream());
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    let first = answer.event().await.unwrap();
    assert!(first.data.contains("notifications/progress") && first.id.is_some());
}

#[tokio::test]
async fn s_https_12_leaving_cancels_a_stateless_call_but_not_one_of_a_session() {
    for revision in [Revision::V2026_07_28, Revision::V2025_11_25] {
        let mut client = Client::meet(revision, true, &[]).await;
        let arguments = match revision {
            // Long enough that only leaving can end it.
            Revision::V2026_07_28 => json!({"seconds": 600, "steps": 1000}),
            _ => json!({"seconds": 1, "steps": 20}),
        };
        let params = json!({"name": "slow", "arguments": arguments, "_meta": {"progressToken": 1}});
        let call = client.compose("tools/call", params);
        let mut answer = client.post(&call).await;
        let last = loop {
            let event = answer.event().await.unwrap();
            if !event.data.is_empty() {
                break event.id;
            }
        };
        drop(answer);
        if revision == Revision::V2026_07_28 {
            assert_eq!(last, None, "stateless streams cannot be resumed");
            until_cancelled(&mut client).await;
        } else {
            let last = last.unwrap();
            let headers = [
                ("accept", "text/event-stream"),
                ("mcp-session-id", client.session()),
                ("last-event-id", last.as_str()),
            ];
            let mut resumed = send(Method::GET, client.url(), &headers, "").await;
            let mut steps = 1;
            let response = loop {
                let message = resumed.message().await.unwrap();
                if message.get("id").is_some() {
                    break message;
                }
                steps += 1;
                assert_eq!(message["params"]["progress"], steps);
            };
            assert_eq!((text_of(&response["result"]), steps), ("took 1 s", 20));
            assert_eq!(cancelled_calls(&mut client).await, 0);
        }
    }
}

#[tokio::test]
async fn leaving_is_noticed_while_nothing_flows() {
    let mut client = Client::meet(Revision::V2026_07_28, true, &[]).await;
    let call =
        client.compose("tools/call", json!({"name": "slow", "arguments": {"seconds": 600, "steps": 1}}));
    // Headers of a stream arrive after a moment; from then on it is silent.
    let answer = client.post(&call).await;
    assert!(answer.is_stream());
    drop(answer);
    until_cancelled(&mut client).await;
}

#[tokio::test]
async fn s_base_06_a_batch_over_http_is_answered_on_one_stream() {
    let client = Client::meet(Revision::V2025_03_26, true, &[]).await;
    let slow = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slow", "arguments": {"seconds": 0.1}},
    });
    let unknown = json!({"jsonrpc": "2.0", "id": "two", "method": "no/such"});
    let mut answer = client.post(&json!([slow, unknown])).await;
    let (first, second) = (answer.message().await.unwrap(), answer.message().await.unwrap());
    assert_eq!((&first["error"]["code"], &first["id"]), (&json!(-32601), &json!("two")));
    assert_eq!(second["id"], 1);
    assert!(answer.message().await.is_none());
    let silent = client.post(&json!([{"jsonrpc": "2.0", "method": "notifications/initialized"}])).await;
    assert_eq!(silent.status, 202);
    let newer = Client::meet(Revision::V2025_06_18, true, &[]).await;
    assert_eq!(newer.post(&json!([slow])).await.status, 400);
}

#[tokio::test]
async fn counters_count_sessions_as_they_come_and_go() {
    let mut client = Client::meet(Revision::V2025_11_25, true, &[]).await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"b","version":"1"}}}"#;
    let second = send(Method::POST, client.url(), &POST, body).await;
    let key = second.header("mcp-session-id").unwrap().to_owned();
    let sessions = async |client: &mut Client| {
        let counters = client.call("counters", json!({})).await;
        counters["structuredContent"]["sessions"].as_u64().unwrap()
    };
    assert_eq!(sessions(&mut client).await, 2);
    send(Method::DELETE, client.url(), &[("mcp-session-id", key.as_str())], "").await;
    let deadline = Instant::now() + PATIENCE;
    while sessions(&mut client).await != 1 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(5)).await;
    }
}
