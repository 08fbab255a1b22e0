//! The gateway as a stdio server, `switchyard stdio` (S-STDIO-01, -06, -10).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::is_running;
use crate::support::pipe_client::PipeClient;
use crate::support::processes::{descendants, resident};
use crate::support::{
    HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, eventually, gateway, http_upstream, stateless_upstream,
    stdio_upstream, within,
};

#[tokio::test]
async fn s_stdio_01_stdout_carries_messages_and_the_most_verbose_log_goes_to_stderr() {
    let one = http_upstream("one").start().await;
    let two = stdio_upstream("two").start().await;
    let plan = gateway().with("one", &one).with("two", &two).config("telemetry: { level: trace }");
    for revision in HANDSHAKE_REVISIONS {
        let mut client = PipeClient::with_file(&plan.file()).await;
        let welcome = client.initialize(revision, json!({})).await;
        assert_eq!(welcome["result"]["protocolVersion"], revision);
        client.until_tool("one__echo").await;
        client.until_tool("two__echo").await;
        for tool in ["one__echo", "two__echo"] {
            // Line breaks within strings, of every kind, must not break the line.
            let arguments = json!({ "text": "a\nb\r\nc\u{2028}d\u{85}e\u{0}" });
            let answer = client.request("tools/call", json!({ "name": tool, "arguments": arguments })).await;
            let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
            assert!(text.contains("echoes") && text.contains("a\\nb"), "{text:?}");
        }
        client.request("no/such/method", json!({})).await;
        assert!(!client.stderr().is_empty(), "a verbose gateway logs something");
        client.expect_clean();
        let (status, rest) = client.close().await;
        assert!(status.success(), "{revision}: {status:?}");
        assert!(rest.iter().all(|message| message.get("method").is_some()), "nothing is left: {rest:?}");
    }
}

#[tokio::test]
async fn s_stdio_01_the_end_of_stdin_is_the_end_and_no_process_is_left() {
    let upstream = stdio_upstream("one")
        .tool("hang")
        .on("tools/call", |mut call| async move {
            if call.name() == "hang" {
                return call.cancelled().await;
            }
            call.text("quick").await;
        })
        .start()
        .await;
    let file = gateway().with("one", &upstream).file();
    // Idle, with a finished call, and in the middle of one.
    for story in ["idle", "used", "busy"] {
        let mut client = PipeClient::with_file(&file).await;
        client.initialize(HANDSHAKE, json!({})).await;
        client.until_tool("one__echo").await;
        if story != "idle" {
            client.request("tools/call", json!({ "name": "one__echo", "arguments": {} })).await;
        }
        if story == "busy" {
            client.open("tools/call", json!({ "name": "one__hang", "arguments": {} })).await;
            upstream
                .until("the hanging call", |ledger| {
                    ledger.iter().find(|other| other.params()["name"] == "hang").cloned()
                })
                .await;
        }
        let children = descendants(client.pid()).await;
        assert!(story == "idle" || !children.is_empty(), "the server runs");
        let (status, _) = client.close().await;
        assert_eq!(status.code(), Some(0), "{story}: {status:?}");
        for child in children {
            eventually("the children to be gone", || async { (!is_running(child).await).then_some(()) })
                .await;
        }
    }
    // Before anything was said, and after half a line.
    for begun in ["", "{\"jsonrpc\":\"2.0\",\"id\":1,\"meth"] {
        let mut client = PipeClient::with_file(&file).await;
        client.write(begun.as_bytes()).await;
        let (status, _) = client.close().await;
        assert_eq!(status.code(), Some(0), "after {begun:?}");
    }
}

#[tokio::test]
async fn s_stdio_10_both_eras_share_one_pipe() {
    let old = http_upstream("old").start().await;
    let new = stateless_upstream("new").start().await;
    let file = gateway().with("old", &old).with("new", &new).file();
    let mut client = PipeClient::with_file(&file).await;
    // Stateless requests are served before any handshake, and a handshake's requests are not.
    let discovered = client.stateless("server/discover", json!({})).await;
    assert!(discovered["result"]["supportedVersions"].to_string().contains(STATELESS), "{discovered}");
    let early = client.request("tools/list", json!({})).await;
    assert!(early.get("error").is_some(), "before the handshake: {early}");
    client.initialize("2025-06-18", json!({})).await;
    client.until_tool("old__echo").await;
    client.until_tool("new__echo").await;
    let mut waiting = Vec::new();
    for number in 0..20 {
        let tool = if number % 4 < 2 { "old__echo" } else { "new__echo" };
        let params = json!({ "name": tool, "arguments": { "n": number } });
        let id = match number % 2 {
            0 => client.open("tools/call", params).await,
            _ => client.open_stateless("tools/call", params).await,
        };
        waiting.push((number, id));
    }
    for (number, id) in waiting {
        let answer = client.inbox.response(&id).await;
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
        assert!(text.ends_with(&format!("echoes {{\"n\":{number}}}")), "{answer}");
        let is_modern = answer["result"].get("resultType").is_some();
        assert_eq!(is_modern, number % 2 == 1, "each in the form of its own era: {answer}");
    }
    for gone in ["ping", "initialize", "logging/setLevel"] {
        let answer = client.stateless(gone, json!({})).await;
        assert_eq!(answer["error"]["code"], -32601, "{gone} in the stateless era: {answer}");
    }
    assert_eq!(client.request("ping", json!({})).await["result"], json!({}), "and in the other one");
    let (status, _) = client.close().await;
    assert!(status.success());
}

#[tokio::test]
async fn s_stdio_10_s_life_01_a_handshake_for_an_unknown_revision_gets_the_newest_one() {
    let file = gateway().file();
    for odd in [STATELESS, "1999-01-01"] {
        let mut client = PipeClient::with_file(&file).await;
        let welcome = client.initialize(odd, json!({})).await;
        assert_eq!(welcome["result"]["protocolVersion"], HANDSHAKE, "asked for {odd}");
        assert_eq!(client.request("tools/list", json!({})).await["result"]["tools"], json!([]));
        client.close().await;
    }
}

#[tokio::test]
async fn s_stdio_06_s_base_06_s_base_07_batch_lines_are_for_one_revision() {
    let upstream = http_upstream("one").start().await;
    let file = gateway().with("one", &upstream).file();
    let batch = json!([
        { "jsonrpc": "2.0", "id": "a", "method": "ping" },
        { "jsonrpc": "2.0", "id": "b", "method": "tools/call", "params": { "name": "one__echo", "arguments": { "n": 1 } } },
        { "jsonrpc": "2.0", "method": "notifications/unknown" },
        { "jsonrpc": "2.0", "id": "c", "method": "no/such/method" },
    ]);
    let mut client = PipeClient::with_file(&file).await;
    client.initialize("2025-03-26", json!({})).await;
    client.until_tool("one__echo").await;
    for (id, method) in [("a", "ping"), ("b", "tools/call"), ("c", "no/such/method")] {
        client.inbox.asked(&json!(id), method, "2025-03-26");
    }
    client.line(&batch.to_string()).await;
    let mut answers: Vec<Value> = Vec::new();
    while answers.len() < 3 {
        let is_answer = |message: &Value| message.is_array() || message["id"].is_string();
        match client.inbox.take("the answers to a batch", is_answer).await {
            Value::Array(members) => answers.extend(members),
            one => answers.push(one),
        }
    }
    let of = |id: &str| answers.iter().find(|answer| answer["id"] == id).expect("each is answered");
    assert_eq!(of("a")["result"], json!({}));
    assert_eq!(of("b")["result"]["content"][0]["text"], r#"one echoes {"n":1}"#);
    assert_eq!(of("c")["error"]["code"], -32601);
    assert_eq!(answers.len(), 3, "{answers:?}");
    client.close().await;

    for revision in ["2024-11-05", "2025-06-18", HANDSHAKE] {
        let mut client = PipeClient::with_file(&file).await;
        client.initialize(revision, json!({})).await;
        client.line(r#"[{"jsonrpc":"2.0","id":"x","method":"ping"}]"#).await;
        let refused = client.inbox.take("a refusal", |message| message.get("error").is_some()).await;
        assert_eq!(refused["error"]["code"], -32600, "{revision}: {refused}");
        assert_eq!(client.request("ping", json!({})).await["result"], json!({}));
        client.close().await;
    }
}

#[tokio::test]
async fn s_stdio_10_in_front_of_one_remote_server_names_stay_as_they_are() {
    let upstreams = [
        http_upstream("one").instructions("Be brief.").start().await,
        stateless_upstream("one").start().await,
    ];
    for upstream in upstreams {
        let mut client = PipeClient::with_url(&format!("http://{}/mcp", upstream.address())).await;
        client.initialize(HANDSHAKE, json!({})).await;
        client.until_tool("echo").await;
        let answer =
            client.request("tools/call", json!({ "name": "echo", "arguments": { "n": 1.50 } })).await;
        assert!(answer["result"]["content"][0]["text"].to_string().contains("one echoes"), "{answer}");
        let prompts = client.request("prompts/list", json!({})).await;
        assert_eq!(prompts["result"]["prompts"][0]["name"], "greet", "{prompts}");
        let modern = client.stateless("tools/call", json!({ "name": "echo", "arguments": {} })).await;
        assert!(modern["result"]["content"][0]["text"].to_string().contains("one echoes"), "{modern}");
        let (status, _) = client.close().await;
        assert!(status.success(), "{status:?}");
    }
}

#[tokio::test]
async fn s_stdio_10_s_elic_01_s_prog_01_questions_and_progress_come_through_the_pipe() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            let form = json!({ "message": "Who?", "requestedSchema": { "type": "object",
                "properties": { "name": { "type": "string" } } } });
            let answer = call.ask("elicitation/create", form).await;
            let name = answer["result"]["content"]["name"].to_string();
            call.text(&name).await;
        })
        .start()
        .await;
    let by_url = format!("http://{}/mcp", upstream.address());
    let file = gateway().with("one", &upstream).file();
    for (tool, mut client) in
        [("one__echo", PipeClient::with_file(&file).await), ("echo", PipeClient::with_url(&by_url).await)]
    {
        client.initialize(HANDSHAKE, json!({ "elicitation": {} })).await;
        client.until_tool(tool).await;
        let params = json!({ "name": tool, "arguments": {}, "_meta": { "progressToken": "mine" } });
        let id = client.open("tools/call", params).await;
        let progress = client.inbox.method("notifications/progress").await;
        assert_eq!(progress["params"]["progressToken"], "mine");
        let asked = client.inbox.method("elicitation/create").await;
        assert!(asked["params"]["message"].to_string().contains("Who?"), "{asked}");
        let result = json!({ "action": "accept", "content": { "name": "Ada" } });
        client.line(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }).to_string()).await;
        let answer = client.inbox.response(&id).await;
        assert_eq!(answer["result"]["content"][0]["text"], "\"Ada\"", "{answer}");
        client.close().await;
    }
}

#[tokio::test]
async fn s_stdio_10_s_canc_01_cancellation_ends_a_call_of_either_era_without_an_answer() {
    let upstream =
        http_upstream("one").on("tools/call", |mut call| async move { call.cancelled().await }).start().await;
    let mut client = PipeClient::with_file(&gateway().with("one", &upstream).file()).await;
    client.initialize(HANDSHAKE, json!({})).await;
    client.until_tool("one__echo").await;
    for (number, is_modern) in [false, true].into_iter().enumerate() {
        let params = json!({ "name": "one__echo", "arguments": {} });
        let id = match is_modern {
            false => client.open("tools/call", params).await,
            true => client.open_stateless("tools/call", params).await,
        };
        upstream.until_received("tools/call", number + 1).await;
        let mut params = json!({ "requestId": id });
        if is_modern {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(STATELESS);
        }
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
        client.line(&cancel.to_string()).await;
        upstream.until_received("notifications/cancelled", number + 1).await;
        assert_eq!(client.request("ping", json!({})).await["result"], json!({}));
        let late = tokio::time::timeout(Duration::from_millis(200), client.inbox.response(&id)).await;
        assert!(late.is_err(), "a cancelled call is never answered: {late:?}");
    }
}

#[tokio::test]
async fn s_base_18_s_stdio_01_a_huge_line_is_refused_and_the_pipe_lives_on() {
    let upstream = http_upstream("one").start().await;
    let bounds = "bounds: { request_body: 256KiB, stdio_line: 256KiB }";
    let mut client = PipeClient::with_file(&gateway().with("one", &upstream).config(bounds).file()).await;
    client.initialize(HANDSHAKE, json!({})).await;
    client.until_tool("one__echo").await;
    let before = resident(client.pid()).await;
    let begin = r#"{"jsonrpc":"2.0","id":"huge","method":"tools/call","params":{"name":"one__echo","arguments":{"x":""#;
    client.write(begin.as_bytes()).await;
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        client.write(&piece).await;
    }
    client.write(b"\"}}}\n").await;
    let refused = within(Duration::from_secs(10), "a refusal", async {
        client.inbox.take("a refusal", |message| message.get("error").is_some()).await
    })
    .await;
    assert!(matches!(refused["error"]["code"].as_i64(), Some(-32600 | -32700)), "{refused}");
    let grown = resident(client.pid()).await.saturating_sub(before);
    assert!(grown < 16 << 20, "64 MiB in one line grew the gateway by {grown} bytes");
    // What is broken otherwise is refused as well, and each time the pipe lives on.
    for (line, codes) in [
        ("{\"jsonrpc\":", [-32700, -32700]),
        ("not json at all", [-32700, -32700]),
        ("\"a string\"", [-32600, -32600]),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, [-32600, -32600]),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, [-32600, -32600]),
    ] {
        client.line(line).await;
        let refused = client.inbox.take("a refusal", |message| message.get("error").is_some()).await;
        let code = refused["error"]["code"].as_i64().expect("judged before");
        assert!(codes.contains(&code), "{line}: {refused}");
    }
    client.write(b"\n\r\n   \n").await;
    let answer = client.request("tools/call", json!({ "name": "one__echo", "arguments": {} })).await;
    assert_eq!(answer["result"]["content"][0]["text"], "one echoes {}");
    assert_eq!(upstream.received("tools/call").len(), 1, "what was refused was not sent");
    let (status, _) = client.close().await;
    assert!(status.success());
}
