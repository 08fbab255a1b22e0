//! Traces and logs: contexts continue from hop to hop, logs are for programs, and neither tells what must stay private
//! (S-EXT-01).

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::client::{Answer, Client};
use crate::support::collector::Collector;
use crate::support::upstream::Received;
use crate::support::{
    HANDSHAKE, STATELESS, Transport, Upstream, eventually, gateway, stdio_upstream, upstream,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Call with a trace context in the metadata, in the headers, or in both.
async fn call_within(client: &Client, meta: Option<&str>, header: Option<&str>) -> Answer {
    let mut params = json!({ "name": "one__echo", "arguments": {} });
    if let Some(meta) = meta {
        params["_meta"] = json!({ "traceparent": meta, "tracestate": "vendor=1", "com.example/mine": 1 });
    }
    let params = client.dress(params);
    let mut headers = client.headers("tools/call", &params);
    if let Some(header) = header {
        headers.set("traceparent", header);
        headers.set("tracestate", "vendor=2");
    }
    let id = json!(client.fresh_id());
    let body = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string();
    client.open_raw(id, "tools/call", headers, body.as_bytes()).await.answer().await
}

/// Every place where the last call told its upstream of a trace.
fn told(upstream: &Upstream) -> (Value, Option<String>) {
    let call: Received = upstream.received("tools/call").pop().expect("the call arrived");
    (call.params()["_meta"]["traceparent"].clone(), call.headers.get("traceparent").map(str::to_owned))
}

#[tokio::test]
async fn s_ext_01_a_trace_continues_upstream_and_metadata_goes_before_headers() {
    for (revision, transport) in
        [(HANDSHAKE, Transport::Http), (STATELESS, Transport::Http), (HANDSHAKE, Transport::Stdio)]
    {
        let upstream = upstream("one", revision, transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
            client.until_tools(&["one__echo"]).await;
            for (meta, header, trace) in [
                (Some(PARENT), None, TRACE),
                (None, Some(PARENT), TRACE),
                (Some(PARENT), Some(OTHER), TRACE),
                (Some("00-broken-b7ad6b7169203331-01"), Some(PARENT), TRACE),
            ] {
                call_within(&client, meta, header).await.result();
                let (in_meta, in_header) = told(&upstream);
                println!("{meta:?} {header:?}: {in_meta} {in_header:?}");
                assert!(in_meta.as_str().is_some_and(|parent| parent.contains(trace)), "{in_meta}");
                assert!(in_header.is_none_or(|parent| parent.contains(trace)));
            }
        }
    }
}

#[tokio::test]
async fn s_ext_01_malformed_contexts_are_dropped_and_the_call_is_served() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
        client.until_tools(&["one__echo"]).await;
        for broken in [
            "",
            "garbage",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            call_within(&client, Some(broken), Some(broken)).await.result();
            let call = upstream.received("tools/call").pop().expect("the call arrived");
            let (in_meta, in_header) = told(&upstream);
            assert_eq!((&in_meta, in_header), (&Value::Null, None), "{broken:?}");
            let meta = &call.params()["_meta"];
            assert_eq!(meta["tracestate"], Value::Null, "{broken:?}: a state needs its parent: {}", call.raw);
            assert_eq!(meta["com.example/mine"], 1, "{broken:?}: nothing else is dropped: {}", call.raw);
        }
        // What is no text at all is dropped as well.
        let params =
            json!({ "name": "one__echo", "arguments": {}, "_meta": { "traceparent": 7, "baggage": [] } });
        client.request("tools/call", params).await.result();
        let call = upstream.received("tools/call").pop().expect("the call arrived");
        let meta = &call.params()["_meta"];
        assert_eq!((&meta["traceparent"], &meta["baggage"]), (&Value::Null, &Value::Null), "{}", call.raw);
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

/// What must never be seen in logs and traces, each in a place of its own.
const SECRETS: [&str; 9] = [
    "canary-header-1f3a",
    "canary-environment-2b7c",
    "canary-argument-3d9e",
    "canary-result-4e1f",
    "canary-error-5a2b",
    "canary-uri-6c3d",
    "canary-prompt-7e4f",
    "canary-progress-8a5b",
    "canary-garbage-9c6d",
];

/// Calls, reads and failures of every kind, each carrying its secret.
async fn busy(client: &Client) {
    let [_, _, argument, _, _, uri, prompt, ..] = SECRETS;
    for server in ["web", "child"] {
        for tool in ["echo", "fails", "breaks"] {
            let params = json!({
                "name": format!("{server}__{tool}"), "arguments": { "text": argument },
                "_meta": { "progressToken": 1, "traceparent": PARENT },
            });
            client.request("tools/call", params).await;
        }
        let greeting = json!({ "name": format!("{server}__greet"), "arguments": { "who": prompt } });
        client.request("prompts/get", greeting).await;
        client.request("resources/read", json!({ "uri": format!("test://{server}/item/{uri}") })).await;
    }
    client.call(argument, json!({ "text": argument })).await.expect_error(200, -32602);
    client.request(argument, json!({})).await;
    let broken = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{argument}","params":"#);
    client.endpoint.ask("POST", client.headers("", &Value::Null), broken.as_bytes()).await;
}

async fn chatty(plan: crate::support::upstream::UpstreamPlan) -> Upstream {
    let [_, _, _, result, error, _, _, progress, garbage] = SECRETS;
    plan.tool("fails")
        .tool("breaks")
        .on("tools/call", move |mut call| async move {
            let message = json!({
                "progressToken": call.params()["_meta"]["progressToken"], "progress": 1, "message": progress,
            });
            call.notify("notifications/progress", message).await;
            call.notify("notifications/message", json!({ "level": "error", "data": progress })).await;
            match call.name() {
                "fails" => call.error(-32000, error, json!({ "why": error })).await,
                "breaks" => {
                    call.last(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{garbage}"#, call.id())).await
                }
                _ => call.text(result).await,
            }
        })
        .start()
        .await
}

#[tokio::test]
async fn logs_are_json_lines_and_neither_logs_nor_traces_tell_secrets() {
    let collector = Collector::default();
    let address = collector.start().await;
    let web = chatty(upstream("web", HANDSHAKE, Transport::Http)).await;
    let child = chatty(stdio_upstream("child")).await;
    let [header, environment, ..] = SECRETS;
    let plan = gateway()
        .with_more("web", &web, json!({ "headers": { "Authorization": "Bearer ${env:STORY_TOKEN}" } }))
        .with_more("child", &child, json!({ "env": { "TOKEN": "${env:STORY_PASSWORD}" }, "timeout": "2s" }))
        .config(&format!("telemetry: {{ logs: json, level: debug, otlp: \"http://{address}\" }}"))
        .environment("STORY_TOKEN", header)
        .environment("STORY_PASSWORD", environment);
    let mut gateway = plan.start().await;
    let mut sessions = Vec::new();
    for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
        client.until_tools(&["web__echo", "child__echo"]).await;
        busy(&client).await;
        sessions.extend(client.session.clone());
    }
    sessions.extend(web.sessions());
    assert!(sessions.len() >= 2, "{sessions:?}");
    let sent = web.received("tools/call").pop().expect("called");
    assert_eq!(
        sent.headers.get("authorization"),
        Some(format!("Bearer {header}").as_str()),
        "the secret is in use"
    );
    assert!(child.births().iter().any(|birth| birth["environment"]["TOKEN"] == environment));
    assert_ne!(told(&web).0, json!(PARENT), "upstream the parent is the gateway's own span");
    assert!(told(&web).0.as_str().is_some_and(|parent| parent.contains(TRACE)), "of the same trace");
    eventually("spans of the client's trace to be exported", || async {
        (collector.holds(&bytes_of(TRACE)) && collector.holds(b"web__echo")).then_some(())
    })
    .await;
    assert!(gateway.terminate().await.success());

    eventually("the whole log", || async { gateway.is_read_to_the_end().then_some(()) }).await;
    let log = gateway.stderr();
    assert!(log.lines().count() > 20, "debug says more than this: {log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    for secret in SECRETS.iter().map(|secret| (*secret).to_owned()).chain(sessions) {
        let told: Vec<&str> = log.lines().filter(|line| line.contains(&secret)).collect();
        assert!(told.is_empty(), "the log tells {secret}: {told:#?}");
        assert!(!collector.holds(secret.as_bytes()), "a trace tells {secret}");
    }
    assert!(collector.exports().iter().all(|(start, _)| start.starts_with("POST /v1/traces ")));
}

#[tokio::test]
async fn a_dead_collector_delays_nobody() {
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = dead.local_addr().expect("bound above");
    let upstream = upstream("one", HANDSHAKE, Transport::Http).start().await;
    let mut gateway = gateway()
        .with("one", &upstream)
        .config(&format!("telemetry: {{ otlp: \"http://{address}\" }}"))
        .start()
        .await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    for _ in 0..100 {
        client.call("one__echo", json!({})).await.text();
    }
    assert!(gateway.terminate().await.success(), "and it ends in time");
}
