//! HTTP+SSE as a client of 2024-11-05 sees it: one stream, one address for POSTs, and their ends (S-SSE).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::client::{Endpoint, Exchange, Whole};
use crate::support::schema::{Answers, message_faults};
use crate::support::upstream::Received;
use crate::support::{
    Gateway, HANDSHAKE, HANDSHAKE_REVISIONS, Upstream, eventually, gateway, http_upstream, stdio_upstream,
    within,
};

/// A client with its stream open.
struct SseClient {
    stream: Exchange,
    address: Endpoint,
    revision: String,
}

impl SseClient {
    /// Opens `path` and reads the first event.
    async fn open(gateway: &Gateway, path: &str) -> SseClient {
        let endpoint = gateway.endpoint.at(path);
        let mut headers = endpoint.post_headers();
        headers.remove("Content-Type");
        headers.set("Accept", "text/event-stream");
        let mut stream = endpoint.send("GET", headers, b"").await;
        let head = stream.head().await.clone();
        assert_eq!(head.status(), 200);
        let kind = head.headers.get("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        let first = stream.event().await.expect("the first event");
        assert_eq!(first.name.as_deref(), Some("endpoint"));
        let address = first.data.expect("an address");
        println!("<- endpoint {address}");
        SseClient { stream, address: endpoint.at(&address), revision: HANDSHAKE.to_owned() }
    }

    /// As [`SseClient::open`], after the handshake.
    async fn handshake(gateway: &Gateway, revision: &str, capabilities: Value) -> SseClient {
        let mut client = SseClient::open(gateway, "/sse").await;
        client.initialize(revision, capabilities).await;
        client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        client
    }

    async fn initialize(&mut self, revision: &str, capabilities: Value) -> Value {
        let info = json!({ "name": "story", "version": "1" });
        let params = json!({ "protocolVersion": revision, "capabilities": capabilities, "clientInfo": info });
        let answer = self.request("initialize", params).await;
        let negotiated = answer["result"]["protocolVersion"].as_str();
        self.revision = negotiated.unwrap_or_else(|| panic!("no handshake: {answer}")).to_owned();
        answer
    }

    async fn post_text(&self, text: &str) -> Whole {
        self.address.ask("POST", self.address.post_headers(), text.as_bytes()).await
    }

    /// Sends what must be taken.
    async fn post(&self, message: &Value) {
        let answer = self.post_text(&message.to_string()).await;
        assert_eq!((answer.status, answer.body.as_str()), (202, ""), "{message}");
    }

    /// The next message of the stream, but for news of lists; it has no id, and its only name is `message`.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let event = self.stream.event().await?;
            assert_eq!((event.id.as_deref(), event.name.as_deref()), (None, Some("message")), "{event:?}");
            let data = event.data.expect("messages have data");
            println!("<- {data}");
            if !data.contains("/list_changed\"") {
                return Some(serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e} in {data}")));
            }
        }
    }

    /// Sends a request and reads its answer, which must be the next message.
    async fn request(&mut self, method: &str, params: Value) -> Value {
        self.post(&json!({ "jsonrpc": "2.0", "id": "mine", "method": method, "params": params })).await;
        let answer = self.next().await.expect("an answer");
        assert_eq!(answer["id"], "mine", "{answer}");
        let faults = message_faults(&self.revision, &answer, Answers::Method(method));
        assert!(faults.is_empty(), "{faults:?} in {answer}");
        answer
    }

    async fn until_tool(&mut self, name: &str) {
        for _ in 0..200 {
            let listing = self.request("tools/list", json!({})).await;
            let tools = listing["result"]["tools"].as_array().expect("judged by the schema");
            if tools.iter().any(|tool| tool["name"] == name) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        panic!("{name} was never listed");
    }
}

fn call(id: Value, arguments: Value) -> Value {
    let params = json!({ "name": "one__echo", "arguments": arguments, "_meta": { "progressToken": "p" } });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

async fn sessions(gateway: &Gateway) -> usize {
    let listed = gateway.admin_get("/api/v1/sessions").await.json();
    let listed = listed.as_array().or(listed["sessions"].as_array()).map(Vec::len);
    listed.expect("a list of sessions")
}

/// An upstream whose calls run until they are cancelled, and a way to hear of that.
async fn patient_upstream() -> (Upstream, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel(4);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let tell = tell.clone();
            async move {
                call.cancelled().await;
                tell.send(()).await.ok();
            }
        })
        .start()
        .await;
    (upstream, told)
}

#[tokio::test]
async fn s_sse_01_one_stream_carries_progress_questions_and_answers_in_their_order() {
    let upstream = stdio_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            let question = json!({ "messages": [], "maxTokens": 1 });
            let answer = call.ask("sampling/createMessage", question).await;
            let text = answer["result"]["content"]["text"].clone();
            call.text(text.as_str().unwrap_or("no answer")).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let mut client = SseClient::handshake(&gateway, "2024-11-05", json!({ "sampling": {} })).await;
    client.until_tool("one__echo").await;
    client.post(&call(json!(7), json!({}))).await;
    let progress = client.next().await.expect("progress");
    assert_eq!(progress["method"], "notifications/progress", "{progress}");
    assert_eq!(progress["params"]["progressToken"], "p", "{progress}");
    let question = client.next().await.expect("a question");
    assert_eq!(question["method"], "sampling/createMessage", "{question}");
    let content = json!({ "type": "text", "text": "four" });
    let result = json!({ "role": "assistant", "model": "m", "content": content });
    client.post(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": result })).await;
    let answer = client.next().await.expect("the answer");
    assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!(7), &json!("four")));
}

#[tokio::test]
async fn s_sse_02_tokens_that_open_nothing_are_all_alike() {
    let upstream = http_upstream("one").start().await;
    let plan = gateway().with("one", &upstream).config("profiles: { work: { servers: [one] } }");
    let gateway = plan.start().await;
    let client = SseClient::open(&gateway, "/sse").await;
    let worker = SseClient::open(&gateway, "/sse/work").await;
    assert!(worker.address.path.starts_with("/messages/work?"), "{}", worker.address.path);
    let token = client.address.path.split_once('=').expect("a token").1.to_owned();
    assert!(token.len() >= 22, "{token} has too few bits");
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string();
    let mut refusals = Vec::new();
    for path in [
        "/messages".to_owned(),
        "/messages?sessionId=".to_owned(),
        format!("/messages?sessionId={}", token.chars().rev().collect::<String>()),
        format!("/messages?sessionId={token}0"),
        format!("/messages/work?sessionId={token}"),
        worker.address.path.replace("/messages/work", "/messages"),
    ] {
        let refused =
            client.address.at(&path).ask("POST", client.address.post_headers(), ping.as_bytes()).await;
        assert_eq!(refused.status, 404, "{path}");
        refusals.push(refused.body);
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(client.post_text(&ping).await.status, 202);

    let mut headers = gateway.endpoint.post_headers();
    headers.set("Mcp-Session-Id", &token);
    let elsewhere = gateway.endpoint.ask("POST", headers, ping.as_bytes()).await;
    assert_eq!(elsewhere.status, 404, "the token is no session id");
}

#[tokio::test]
async fn s_sse_02_s_https_02_both_endpoints_are_guarded_as_mcp_is() {
    let gateway = gateway().config("bounds: { request_body: 2000B }").start().await;
    let mut client = SseClient::open(&gateway, "/sse").await;
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string();
    for (method, endpoint) in [("GET", gateway.endpoint.at("/sse")), ("POST", client.address.clone())] {
        for (field, value) in
            [("Origin", "https://evil.example"), ("Origin", "null"), ("Host", "evil.example")]
        {
            let mut headers = endpoint.post_headers();
            headers.set(field, value);
            let refused = endpoint.ask(method, headers, ping.as_bytes()).await;
            assert_eq!(refused.status, 403, "{method} with {field}: {value}");
        }
        let mut headers = endpoint.post_headers();
        headers.set("Origin", "http://localhost:5173");
        headers.set("Access-Control-Request-Method", method);
        let allowed = endpoint.ask("OPTIONS", headers, b"").await;
        assert_eq!(allowed.status, 204);
        assert_eq!(allowed.headers.get("access-control-allow-origin"), Some("http://localhost:5173"));
        for wrong in ["DELETE", "PUT"] {
            assert_eq!(endpoint.ask(wrong, endpoint.post_headers(), b"").await.status, 405);
        }
    }
    let mut headers = client.address.post_headers();
    headers.set("Content-Type", "text/plain");
    assert_eq!(client.address.ask("POST", headers, ping.as_bytes()).await.status, 415);
    assert_eq!(client.post_text(&format!("{ping}{}", " ".repeat(3_000))).await.status, 413);

    // What is no message is answered on the stream like everything, and by status where no id says whose it is.
    for (text, code) in [("{", -32700), ("7", -32600), (r#"{"jsonrpc":"1.0"}"#, -32600), ("[]", -32600)] {
        client.post_text(text).await.expect_error(400, code);
        let error = client.next().await.expect("an error");
        assert_eq!((&error["id"], &error["error"]["code"]), (&Value::Null, &json!(code)), "{text}");
    }
    client.post(&json!({ "jsonrpc": "1.0", "id": "old", "method": "ping" })).await;
    let error = client.next().await.expect("an error");
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!("old"), &json!(-32600)), "{error}");
    client.post(&json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).await;
    let error = client.next().await.expect("an error");
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!(2), &json!(-32600)),
        "initialize comes first"
    );
}

#[tokio::test]
async fn s_sse_03_every_handshake_revision_may_be_negotiated_and_no_other() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for (asked, expected) in HANDSHAKE_REVISIONS
        .map(|revision| (revision, revision))
        .into_iter()
        .chain([("2026-07-28", HANDSHAKE)])
    {
        let mut client = SseClient::handshake(&gateway, asked, json!({})).await;
        assert_eq!(client.revision, expected, "asked for {asked}");
        client.until_tool("one__echo").await;
        let again = json!({ "protocolVersion": asked, "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } });
        let refused = client.request("initialize", again).await;
        assert_eq!(refused["error"]["code"], -32600, "{refused}");
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        for method in ["server/discover", "tools/list"] {
            let refused = client.request(method, json!({ "_meta": meta })).await;
            assert_eq!(refused["error"]["code"], -32600, "{refused}");
        }
        assert_eq!(client.request("ping", json!({})).await["result"], json!({}));
    }
}

#[tokio::test]
async fn s_sse_03_s_base_06_a_batch_is_answered_by_one_array() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let mut client = SseClient::handshake(&gateway, "2025-03-26", json!({})).await;
    client.until_tool("one__echo").await;
    client.post(&json!([call(json!("a"), json!({})), { "jsonrpc": "2.0", "id": 2, "method": "ping" }])).await;
    let answers = client.next().await.expect("an array");
    let mut ids: Vec<String> =
        answers.as_array().expect("an array").iter().map(|answer| answer["id"].to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["\"a\"", "2"], "{answers}");
    let mut newer = SseClient::handshake(&gateway, "2025-06-18", json!({})).await;
    newer.post_text("[{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}]").await.expect_error(400, -32600);
    assert_eq!(newer.next().await.expect("an error")["error"]["code"], -32600);
}

#[tokio::test]
async fn s_sse_03_the_end_of_the_stream_ends_the_session_its_calls_and_what_it_held_upstream() {
    let (upstream, mut cancelled) = patient_upstream().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let mut client = SseClient::handshake(&gateway, "2024-11-05", json!({})).await;
    client.until_tool("one__echo").await;
    client.post(&call(json!(1), json!({}))).await;
    let sent = upstream.until_received("tools/call", 1).await;
    assert_eq!(sessions(&gateway).await, 1);
    let SseClient { stream, address, .. } = client;
    drop(stream);
    within(Duration::from_secs(5), "the call to be cancelled upstream", cancelled.recv()).await;
    eventually("its upstream session to be released", || async {
        let released = |one: &Received| one.verb == "DELETE" && one.session() == sent.session();
        upstream.ledger().iter().any(released).then_some(())
    })
    .await;
    eventually("its session to end", || async { (sessions(&gateway).await == 0).then_some(()) }).await;
    let late = json!({ "jsonrpc": "2.0", "id": 2, "method": "ping" }).to_string();
    assert_eq!(address.ask("POST", address.post_headers(), late.as_bytes()).await.status, 404);
}

#[tokio::test]
async fn s_sse_03_s_canc_01_a_cancelled_call_is_never_answered() {
    let (upstream, mut cancelled) = patient_upstream().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let mut client = SseClient::handshake(&gateway, "2024-11-05", json!({})).await;
    client.until_tool("one__echo").await;
    client.post(&call(json!("again"), json!({}))).await;
    upstream.until_received("tools/call", 1).await;
    let duplicate = json!({ "jsonrpc": "2.0", "id": "again", "method": "ping" });
    client.post(&duplicate).await;
    assert_eq!(client.next().await.expect("a refusal")["error"]["code"], -32600, "the id is in use");
    let params = json!({ "requestId": "again" });
    client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
    within(Duration::from_secs(5), "the call to be cancelled upstream", cancelled.recv()).await;
    client.post(&duplicate).await;
    assert_eq!(
        client.next().await.expect("an answer")["result"],
        json!({}),
        "nothing else came, the id is free"
    );
}

#[tokio::test]
async fn s_sse_03_a_stream_counts_as_a_session_and_nobody_keeps_one_without_a_word() {
    let gateway = gateway().config("bounds: { sessions: 1, first_message: 400ms }").start().await;
    let mut silent = SseClient::open(&gateway, "/sse").await;
    let mut headers = silent.address.post_headers();
    headers.remove("Content-Type");
    let refused = gateway.endpoint.at("/sse").ask("GET", headers, b"").await;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.get("retry-after").is_some());
    assert_eq!(silent.next().await, None, "the stream ends");
    let mut client = SseClient::open(&gateway, "/sse").await;
    client.initialize("2024-11-05", json!({})).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(client.request("ping", json!({})).await["result"], json!({}), "who initialized may be silent");
}

#[tokio::test]
async fn s_sse_03_f52_a_gateway_that_stops_answers_what_runs_and_ends_every_stream() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.pause(800).await;
            call.text("in time").await;
        })
        .start()
        .await;
    let mut gateway = gateway().with("one", &upstream).start().await;
    let mut silent = SseClient::open(&gateway, "/sse").await;
    let mut client = SseClient::handshake(&gateway, "2024-11-05", json!({})).await;
    client.until_tool("one__echo").await;
    client.post(&call(json!(1), json!({}))).await;
    upstream.until_received("tools/call", 1).await;
    let (status, (answer, end), nothing) = tokio::join!(
        gateway.terminate(),
        async { (client.next().await.expect("the answer"), client.next().await) },
        silent.next()
    );
    assert!(status.success(), "{status:?}");
    assert_eq!(answer["result"]["content"][0]["text"], "in time", "{answer}");
    assert_eq!((end, nothing), (None, None));
}

#[tokio::test]
async fn s_sse_06_the_transport_can_be_switched_off_and_its_use_is_logged() {
    let off = gateway().config("http_sse: false").start().await;
    for (method, path) in [("GET", "/sse"), ("POST", "/messages?sessionId=0"), ("GET", "/sse/work")] {
        let endpoint = off.endpoint.at(path);
        assert_eq!(endpoint.ask(method, endpoint.post_headers(), b"{}").await.status, 404, "{method} {path}");
    }
    let on = gateway().start().await;
    let _client = SseClient::handshake(&on, "2024-11-05", json!({})).await;
    eventually("the log to tell of it", || async { on.stderr().contains("deprecated").then_some(()) }).await;
    assert_eq!(on.stderr().matches("deprecated").count(), 1, "once per client: {}", on.stderr());
}

#[tokio::test]
async fn s_sse_03_f27_who_does_not_read_is_not_served_without_end_and_is_left() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut asked| async move { asked.text(&"x".repeat(200_000)).await })
        .start()
        .await;
    let config = "bounds: { write_stall: 1s }";
    let gateway = gateway().with("one", &upstream).config(config).start().await;
    gateway.stateless().until_tools(&["one__echo"]).await;
    let client = SseClient::handshake(&gateway, "2024-11-05", json!({})).await;
    let flood = async {
        for number in 0..2_000 {
            let asked = call(json!(number), json!({})).to_string();
            match client.address.ask("POST", client.address.post_headers(), asked.as_bytes()).await.status {
                202 => {}
                status => return status,
            }
        }
        202
    };
    let status = within(Duration::from_secs(60), "the gateway to leave", flood).await;
    assert_eq!(status, 404, "its stream was cut");
    eventually("its session to end", || async { (sessions(&gateway).await == 0).then_some(()) }).await;
}
