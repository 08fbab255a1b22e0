//! Answers of clients that are no JSON-RPC responses: they end the wait of whoever asked, and nothing answers them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::pipe_client::PipeClient;
use crate::support::{HANDSHAKE, gateway, http_upstream, within};

const ELICIT: &str = "elicitation/create";

fn form() -> Value {
    json!({ "message": "who?", "requestedSchema": { "type": "object", "properties": {} } })
}

/// What is wrong with each, after the id.
const BROKEN: [&str; 3] = [
    r#""result":[]"#,
    r#""result":{"action":"accept","action":"cancel"}"#,
    r#""error":{"code":"no number"}"#,
];

#[tokio::test]
async fn s_err_04_a_broken_answer_on_a_pipe_ends_the_wait_and_is_not_answered() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            let answer = call.ask(ELICIT, form()).await;
            call.text(&answer["error"]["code"].to_string()).await;
        })
        .start()
        .await;
    let file = gateway().with("one", &upstream).file();
    for revision in [HANDSHAKE, "2025-06-18"] {
        let mut client = PipeClient::with_file(&file).await;
        client.initialize(revision, json!({ "elicitation": {} })).await;
        client.until_tool("one__echo").await;
        for broken in BROKEN {
            let id = client.open("tools/call", json!({ "name": "one__echo", "arguments": {} })).await;
            let asked = client.inbox.method(ELICIT).await["id"].clone();
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{asked},{broken}}}"#);
            client.line(&answer).await;
            let answered =
                within(Duration::from_secs(5), "the call to go on", client.inbox.response(&id)).await;
            assert_eq!(answered["result"]["content"][0]["text"], "-32603", "{broken}: {answered}");
        }
        let (_, rest) = client.close().await;
        assert!(
            rest.iter().all(|message| message.get("error").is_none()),
            "nothing answers an answer: {rest:?}"
        );
    }
}

#[tokio::test]
async fn s_https_14_s_err_04_one_broken_answer_spoils_no_batch_of_answers() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            let (_, first) = call.begin_to_ask("sampling/createMessage", sampling()).await;
            let (_, second) = call.begin_to_ask("sampling/createMessage", sampling()).await;
            let (first, second) = (first.await.expect("answered"), second.await.expect("answered"));
            call.text(&format!("{} {}", first["error"]["code"], second["result"]["model"])).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with("2025-03-26", json!({ "sampling": {} })).await;
    client.until_tools(&["one__echo"]).await;
    let mut running = client.open_call("one__echo", json!({})).await;
    let first = running.until_method("sampling/createMessage").await.json["id"].clone();
    let second = running.until_method("sampling/createMessage").await.json["id"].clone();
    let message = json!({ "role": "assistant", "content": { "type": "text", "text": "hi" }, "model": "m" });
    let batch = json!([
        { "jsonrpc": "2.0", "id": first, "result": [] },
        { "jsonrpc": "2.0", "id": second, "result": message },
    ]);
    let headers = client.headers("", &json!({}));
    let taken = client.endpoint.ask("POST", headers, batch.to_string().as_bytes()).await;
    assert_eq!((taken.status, taken.body.as_str()), (202, ""));
    assert_eq!(running.answer().await.text(), r#"-32603 "m""#);
}

fn sampling() -> Value {
    json!({ "messages": [], "maxTokens": 1 })
}
