//! Calls that wait for stateless clients, with the project's own server of each handshake revision, and with a client on a
//! pipe.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::parked::{ELICIT, Required, able, form, going_on, i_am, said};
use crate::support::client::Client;
use crate::support::pipe_client::PipeClient;
use crate::support::upstream::Received;
use crate::support::{HANDSHAKE, gateway, patiently, stdio_upstream, within};

/// The project's server of that revision over HTTP, and its address.
async fn demo_over_http(revision: &str) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchyard"));
    command.args(["demo-server", "--http", "127.0.0.1:0", "--protocol", revision]);
    command.kill_on_drop(true).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built with the tests");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = patiently("the demo server to serve", lines.next_line()).await;
    let first = first.expect("it prints UTF-8").expect("it says where it serves");
    let url = first.strip_prefix("endpoint ").unwrap_or_else(|| panic!("{first:?}")).to_owned();
    (child, url)
}

#[tokio::test]
async fn s_mrtr_01_the_projects_own_servers_ask_stateless_clients() {
    let (_serving, url) = demo_over_http(HANDSHAKE).await;
    let pipe = json!({ "command": "${exe}", "args": ["demo-server", "--protocol", HANDSHAKE] });
    let older = json!({ "command": "${exe}", "args": ["demo-server", "--protocol", "2025-06-18"] });
    let gateway = gateway()
        .with_server("web", json!({ "url": url, "ask": { "roots": true } }))
        .with_server("pipe", pipe)
        .with_server("older", older)
        .start()
        .await;
    let client = Client::stateless(&gateway.endpoint, able());
    let roots = json!({ "roots": [{ "uri": "file:///home/me", "name": "home" }] });
    for (server, pages) in [("web", true), ("pipe", true), ("older", false)] {
        let mut rows = vec![
            ("ask", json!({ "action": "accept", "content": { "name": "Ada" } }), "Hello, Ada!"),
            ("ask", json!({ "action": "decline" }), "answered with decline"),
            ("sample", said("A yard of switches"), "A yard of switches"),
            ("roots", roots.clone(), "file:///home/me"),
        ];
        if pages {
            rows.push(("ask_url", json!({ "action": "accept" }), "answered with accept"));
        }
        for (tool, answer, expected) in rows {
            let tool = format!("{server}__{tool}");
            client.until_tools(&[&tool]).await;
            let required = Required::of(&client.call(&tool, json!({})).await);
            let params = going_on(&tool, &json!({}), &required.state, json!({ required.key(): answer }));
            let done = client.request("tools/call", params).await;
            assert!(done.raw.contains(expected), "{tool}: {}", done.raw);
        }
    }
}

async fn until_tool(client: &mut PipeClient, name: &str) {
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let listed = client.stateless("tools/list", json!({})).await;
        if listed.to_string().contains(name) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name} never appeared: {listed}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn s_stdio_10_a_stateless_client_on_a_pipe_is_asked_the_same_way() {
    let upstream = stdio_upstream("one")
        .on("tools/call", |mut call| async move {
            let first = call.ask(ELICIT, form("who?")).await;
            if call.params()["arguments"]["stay"] == true {
                return call.cancelled().await;
            }
            call.text(&first["result"].to_string()).await;
        })
        .start()
        .await;
    let file = format!("servers:\n  one: {}\n", upstream.settings());
    let mut client = PipeClient::with_file(&file).await;
    until_tool(&mut client, "one__echo").await;
    let able = json!({ "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} } });
    for stay in [false, true] {
        let arguments = json!({ "stay": stay });
        let params = json!({ "name": "one__echo", "arguments": arguments, "_meta": able });
        let asked = client.stateless("tools/call", params).await;
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        let requests = asked["result"]["inputRequests"].as_object().expect("a map");
        let key = requests.keys().next().expect("one question").clone();
        let state = asked["result"]["requestState"].as_str().expect("a state");
        let mut params = going_on("one__echo", &arguments, state, json!({ key: i_am("me") }));
        params["_meta"] = able.clone();
        if !stay {
            let done = client.stateless("tools/call", params).await;
            let text = done["result"]["content"][0]["text"].as_str().expect("a text");
            assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), i_am("me"));
            continue;
        }
        let id = client.open_stateless("tools/call", params).await;
        let is_answer = |one: &&Received| one.json.get("result").is_some();
        let second = |ledger: &[Received]| (ledger.iter().filter(is_answer).count() >= 2).then_some(());
        upstream.until("the second answer", second).await;
        let cancelled =
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
        client.line(&cancelled.to_string()).await;
        let cancellation = upstream.until_received("notifications/cancelled", 1);
        within(Duration::from_secs(1), "the cancellation", cancellation).await;
    }
}
