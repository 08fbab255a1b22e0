//! JSON-RPC batches, which one revision has (S-BASE-06, -07).

use serde_json::{Value, json};

use crate::support::client::Whole;
use crate::support::processes::peak;
use crate::support::sse::Events;
use crate::support::{Client, HANDSHAKE, STATELESS, gateway, http_upstream};

async fn post(client: &Client, body: &str) -> Whole {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let method = json["method"].as_str().unwrap_or_default();
    client.endpoint.ask("POST", client.headers(method, &json["params"]), body.as_bytes()).await
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
async fn s_base_18_s_https_14_an_array_of_very_many_elements_costs_no_more_than_its_text() {
    let gateway = gateway().start().await;
    let (old, new) = (gateway.handshake("2025-03-26").await, gateway.handshake(HANDSHAKE).await);
    let mut nobody = old.clone();
    nobody.session = None;
    let body = format!("[{}1]", "1,".repeat(2_000_000));
    let before = peak(gateway.pid()).await;
    for client in [nobody, new, old, gateway.stateless()] {
        post(&client, &body).await.expect_error(400, -32600);
    }
    let grown = peak(gateway.pid()).await - before;
    println!("it grew by {grown} bytes");
    assert!(grown < 64 << 20, "it grew by {grown} bytes");
}

#[tokio::test]
async fn s_base_18_s_https_14_what_is_beyond_a_limit_in_one_item_is_told_under_its_id_alone() {
    let gateway = gateway().start().await;
    let client = gateway.handshake("2025-03-26").await;
    let deep = format!("{}{}", "[".repeat(150), "]".repeat(150));
    let batch = format!(
        r#"[{{"jsonrpc":"2.0","id":"p","method":"ping"}},{{"jsonrpc":"2.0","id":"deep","method":"tools/call","params":{{"name":"x","arguments":{{"a":{deep}}}}}}}]"#
    );
    let answer = post(&client, &batch).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let responses = messages_of(&answer);
    let of =
        |id: &str| responses.iter().find(|response| response["id"] == id).expect("each request is answered");
    assert_eq!(of("p")["result"], json!({}));
    assert_eq!(of("deep")["error"]["code"], -32600);
}
