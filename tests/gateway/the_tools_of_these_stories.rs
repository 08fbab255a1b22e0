//! The clients and upstreams of the stories are true to each other, with no gateway between them.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::client::{Client, Endpoint};
use crate::support::generate::Seed;
use crate::support::upstream::{http_upstream, stateless_upstream, stdio_upstream};
use crate::support::{HANDSHAKE, json, patiently, schema};

#[tokio::test]
async fn a_handshake_client_works_directly_with_a_handshake_upstream() {
    let upstream = http_upstream("one").start().await;
    let endpoint = Endpoint { address: upstream.address(), path: "/mcp".to_owned() };
    let client = Client::handshake(&endpoint, HANDSHAKE, json!({})).await;
    assert_eq!(client.until_tools(&["echo"]).await.names("tools"), ["echo"]);
    assert_eq!(client.call("echo", json!({ "text": "hi" })).await.text(), r#"one echoes {"text":"hi"}"#);
    let mut stream = client.standalone_stream().await;
    upstream.until_standing().await;
    assert_eq!(upstream.announce("notifications/tools/list_changed", json!({})).await, 1);
    assert_eq!(stream.until_method("notifications/tools/list_changed").await.params(), &json!({}));
    assert_eq!(client.delete().await, 200);
    assert_eq!(upstream.received("tools/call").len(), 1);
}

#[tokio::test]
async fn a_stateless_client_works_directly_with_a_stateless_upstream() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            assert!(call.progress(0.5, 1.0).await);
            call.text("done").await;
        })
        .start()
        .await;
    let endpoint = Endpoint { address: upstream.address(), path: "/mcp".to_owned() };
    let client = Client::stateless(&endpoint, json!({}));
    let answer = client.open_call_with_progress("echo", json!("t")).await.answer().await;
    assert_eq!((answer.text(), answer.progress()), ("done", vec![0.5]));
    let discovered = client.request("server/discover", json!({})).await;
    assert_eq!(discovered.result()["supportedVersions"], json!(["2026-07-28"]));
}

#[test]
fn generated_messages_are_json_and_keep_their_text() {
    let mut seed = Seed(7);
    for _ in 0..2_000 {
        let object = seed.object(3, &[("text", "\"x\"".to_owned())]);
        assert_eq!(json::raw_at(&object, &["text"]), Some("\"x\""), "{object}");
        assert!(!object.contains(['\n', '\r']), "{object:?}");
    }
    assert_eq!(json::names_in_order(r#"{"z":1,"a":{"b":2}}"#), ["z", "a"]);
}

#[test]
fn the_schemas_refuse_what_is_wrong() {
    let fault = |revision, result| {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "result": result });
        schema::message_faults(revision, &message, schema::Answers::Method("tools/call"))
    };
    let content = json!([{ "type": "text", "text": "x" }]);
    assert_eq!(fault("2025-11-25", json!({ "content": content })), Vec::<String>::new());
    assert_eq!(fault("2024-11-05", json!({ "content": content })), Vec::<String>::new());
    assert!(
        !fault("2024-11-05", json!({ "content": [{ "type": "audio", "data": "", "mimeType": "a/b" }] }))
            .is_empty()
    );
    assert!(!fault("2026-07-28", json!({ "content": content })).is_empty());
    assert!(!fault("2025-11-25", json!({ "content": content, "resultType": "complete" })).is_empty());
}

#[test]
fn lawful_text_that_no_program_can_hold_is_read_around() {
    let text = r#"{"n":1e400,"list":[1,"\ud800"],"whole":{"a":1}}"#;
    assert_eq!(json::parse(text), Some(json!({ "n": null, "list": [1, null], "whole": { "a": 1 } })));
    assert_eq!(json::parse("{"), None);
}

/// Start a child from its configuration entry.
fn start(entry: &Value) -> Child {
    let mut command = Command::new(entry["command"].as_str().expect("a stdio entry has one"));
    for argument in entry["args"].as_array().expect("a stdio entry has some") {
        command.arg(argument.as_str().expect("arguments are text"));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("Python is there")
}

/// Send lines to a child and read one line for each that has an id.
async fn talk(child: &mut Child, lines: &[Value]) -> Vec<Value> {
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut answers = Vec::new();
    for line in lines {
        input.write_all(format!("{line}\n").as_bytes()).await.expect("the child reads");
        if line.get("id").is_some() {
            let line =
                patiently("a line", output.next_line()).await.expect("UTF-8").expect("the child answers");
            answers.push(serde_json::from_str(&line).expect("each line is JSON"));
        }
    }
    answers
}

fn conversation() -> [Value; 3] {
    let greeting = json!({ "protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } });
    [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": greeting }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": "b", "method": "tools/call", "params": { "name": "echo", "arguments": { "n": 1 } } }),
    ]
}

#[tokio::test]
async fn a_scripted_upstream_answers_through_its_child() {
    let mut upstream = stdio_upstream("one").start().await;
    let mut child = start(&upstream.settings());
    let answers = talk(&mut child, &conversation()).await;
    assert_eq!(answers[0]["result"]["protocolVersion"], HANDSHAKE);
    assert_eq!(answers[1]["result"]["content"][0]["text"], r#"one echoes {"n":1}"#);
    assert_eq!(upstream.births()[0]["pid"], json!(child.id()));
    upstream.kill().await;
    patiently("the child to end with its upstream", child.wait()).await.expect("a child ends");
}

#[tokio::test]
async fn the_faulty_child_is_a_server_until_it_hurts() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/faulty_child.py");
    let mut child = start(&json!({ "command": "python3", "args": [program, "tools"] }));
    let answers = talk(&mut child, &conversation()).await;
    assert_eq!(answers[1]["result"]["content"][0]["text"], r#"{"n": 1}"#);
    for name in ["crash", "huge_line"] {
        let mut child = start(&json!({ "command": "python3", "args": [program, "tools"] }));
        let mut input = child.stdin.take().expect("piped");
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name, "arguments": {} } });
        input.write_all(format!("{call}\n").as_bytes()).await.expect("the child reads");
        let mut first = [0u8; 1];
        let mut output = child.stdout.take().expect("piped");
        let read =
            patiently("a byte or the end", tokio::io::AsyncReadExt::read(&mut output, &mut first)).await;
        assert_eq!(read.expect("pipes can be read"), usize::from(name != "crash"), "{name}");
    }
}
