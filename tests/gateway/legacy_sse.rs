//! The 2024-11-05 HTTP+SSE transport, as a server (S-SSE-01, -02, -03, -06).

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::Headers;
use crate::support::sse_client::{SseClient, post_headers, stream_headers};
use crate::support::{
    Gateway, HANDSHAKE_REVISIONS, Upstream, eventually, gateway, http_upstream, stdio_upstream, within,
};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn one_behind() -> (Upstream, Gateway) {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    gateway.stateless().until_tools(&["one__echo"]).await;
    (upstream, gateway)
}

#[tokio::test]
async fn s_sse_01_the_first_event_names_where_to_post_and_answers_come_on_the_stream() {
    let (_upstream, gateway) = one_behind().await;
    let sse = gateway.endpoint.at("/sse");
    let mut client = SseClient::connect(&sse).await;
    let path = client.messages.path.clone();
    let token = path.strip_prefix("/messages?sessionId=").unwrap_or_else(|| panic!("{path:?}"));
    assert!(token.len() >= 22, "128 bits do not fit into {token:?}");
    let welcome = client.initialize("2024-11-05", json!({})).await;
    assert_eq!(welcome["result"]["protocolVersion"], "2024-11-05");
    client.until_tool("one__echo").await;
    let called =
        client.request("tools/call", json!({ "name": "one__echo", "arguments": { "n": 1.0 } })).await;
    assert_eq!(called["result"]["content"][0]["text"], r#"one echoes {"n":1.0}"#);
    let pong = client.request("ping", json!({})).await;
    assert_eq!(pong["result"], json!({}));
    let unknown = client.request("no/such/method", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32601, "{unknown}");
    for (method, params, member) in [
        ("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "Ada" } }), "messages"),
        ("resources/read", json!({ "uri": "test://one/static" }), "contents"),
        ("resources/templates/list", json!({}), "resourceTemplates"),
    ] {
        let answer = client.request(method, params).await;
        assert!(answer["result"][member].is_array(), "{method}: {answer}");
    }
}

#[tokio::test]
async fn s_sse_01_tokens_are_unguessable_and_never_the_same() {
    let gateway = gateway().start().await;
    let mut tokens = HashSet::new();
    for _ in 0..30 {
        let client = SseClient::connect(&gateway.endpoint.at("/sse")).await;
        assert!(tokens.insert(client.leave().await.path), "a token came twice");
    }
    let tokens: Vec<Vec<u8>> = tokens.into_iter().map(String::into_bytes).collect();
    let shortest = tokens.iter().map(Vec::len).min().expect("thirty of them");
    let varied =
        (0..shortest).filter(|at| tokens.iter().map(|token| token[*at]).collect::<HashSet<_>>().len() > 6);
    assert!(varied.count() >= 20, "most places vary");
}

#[tokio::test]
async fn s_sse_02_unknown_and_foreign_tokens_are_404_and_posts_say_nothing() {
    let (_upstream, gateway) = one_behind().await;
    let mut client = SseClient::handshake(&gateway.endpoint.at("/sse"), "2024-11-05", json!({})).await;
    let own = client.messages.path.clone();
    let altered: String = {
        let last = if own.ends_with('A') { "B" } else { "A" };
        format!("{}{last}", &own[..own.len() - 1])
    };
    let streamable = gateway.handshake("2025-11-25").await.session.expect("given at initialize");
    let cases = [
        "/messages?sessionId=unknown".to_owned(),
        "/messages?sessionId=".to_owned(),
        altered,
        own.replace("sessionId", "session"),
        format!("/messages?sessionId={streamable}"),
        format!("{own}{}", "A".repeat(100)),
    ];
    for path in cases {
        let endpoint = gateway.endpoint.at(&path);
        let answer = endpoint.ask("POST", post_headers(&endpoint), PING.as_bytes()).await;
        let is_missing = path.contains("session=") || path.ends_with('=');
        assert!(answer.status == 404 || (is_missing && answer.status == 400), "{path}: {}", answer.status);
    }
    let accepted = client.post(r#"{"jsonrpc":"2.0","id":"by hand","method":"ping"}"#).await;
    assert_eq!(accepted.status, 202);
    assert!(!accepted.body.contains("jsonrpc"), "the answer is on the stream alone: {}", accepted.body);
    client.inbox.asked(&json!("by hand"), "ping", "2024-11-05");
    client.inbox.response(&json!("by hand")).await;
    // A token of this transport is no session of the other one.
    let mut posing = gateway.handshake("2025-11-25").await;
    posing.session = own.split_once('=').map(|(_, token)| token.to_owned());
    assert_eq!(posing.open("ping", json!({})).await.whole().await.status, 404);
    let broken = client.post("{\"jsonrpc\":").await;
    assert!((400..500).contains(&broken.status) || broken.status == 202, "{}", broken.status);
    assert_eq!(client.request("ping", json!({})).await["result"], json!({}), "the session did not suffer");
}

#[tokio::test]
async fn s_sse_02_s_https_02_origin_and_host_are_checked_on_both_endpoints_every_time() {
    let (_upstream, gateway) = one_behind().await;
    let sse = gateway.endpoint.at("/sse");
    let mut client = SseClient::handshake(&sse, "2024-11-05", json!({})).await;
    let with = |headers: Headers, name: &str, value: &str| {
        let mut headers = headers;
        headers.set(name, value);
        headers
    };
    for origin in ["https://evil.example.com", "null", "http://localhost.evil.example.com"] {
        let answer = sse.ask("GET", with(stream_headers(&sse), "Origin", origin), b"").await;
        assert_eq!(answer.status, 403, "GET, {origin}: {}", answer.body);
        assert!(!answer.body.contains("sessionId"), "{}", answer.body);
        let headers = with(post_headers(&client.messages), "Origin", origin);
        let answer = client.messages.ask("POST", headers, PING.as_bytes()).await;
        assert_eq!(answer.status, 403, "POST, {origin}: {}", answer.body);
    }
    for host in ["evil.example.com", "localhost.evil.example.com"] {
        let answer = sse.ask("GET", with(stream_headers(&sse), "Host", host), b"").await;
        assert!((400..500).contains(&answer.status), "GET, {host}: {answer:?}");
        let headers = with(post_headers(&client.messages), "Host", host);
        let answer = client.messages.ask("POST", headers, PING.as_bytes()).await;
        assert!((400..500).contains(&answer.status) && answer.status != 404, "POST, {host}: {answer:?}");
    }
    let headers = with(post_headers(&client.messages), "Origin", "http://localhost:1");
    let own = client.messages.ask("POST", headers, br#"{"jsonrpc":"2.0","id":77,"method":"ping"}"#).await;
    assert_eq!(own.status, 202, "{}", own.body);
    client.inbox.asked(&json!(77), "ping", "2024-11-05");
    client.inbox.response(&json!(77)).await;
    for (path, verb) in
        [("/sse", "PUT"), ("/messages?sessionId=x", "GET"), ("/messages?sessionId=x", "DELETE")]
    {
        let endpoint = gateway.endpoint.at(path);
        let answer = endpoint.ask(verb, stream_headers(&endpoint), b"").await;
        assert!(matches!(answer.status, 404 | 405), "{verb} {path}: {}", answer.status);
    }
}

#[tokio::test]
async fn s_sse_03_later_revisions_are_negotiated_but_never_the_stateless_one() {
    let (_upstream, gateway) = one_behind().await;
    let sse = gateway.endpoint.at("/sse");
    for revision in HANDSHAKE_REVISIONS {
        let mut client = SseClient::connect(&sse).await;
        let welcome = client.initialize(revision, json!({})).await;
        assert_eq!(welcome["result"]["protocolVersion"], revision);
        client.until_tool("one__echo").await;
        let called = client.request("tools/call", json!({ "name": "one__echo", "arguments": {} })).await;
        assert_eq!(called["result"]["content"][0]["text"], "one echoes {}", "{revision}");
    }
    for odd in ["2026-07-28", "1999-01-01"] {
        let mut client = SseClient::connect(&sse).await;
        let welcome = client.initialize(odd, json!({})).await;
        assert_eq!(welcome["result"]["protocolVersion"], "2025-11-25", "asked for {odd}");
    }
    // A request that carries the metadata of the stateless era is not served here.
    let mut client = SseClient::handshake(&sse, "2025-06-18", json!({})).await;
    let modern = gateway.stateless().dress(json!({ "name": "one__echo", "arguments": {} }));
    let body = json!({ "jsonrpc": "2.0", "id": "modern", "method": "server/discover", "params": modern });
    let posted = client.post(&body.to_string()).await;
    if posted.status == 202 {
        let answer = client.inbox.response(&json!("modern")).await;
        assert!(answer.get("error").is_some(), "{answer}");
    } else {
        assert!((400..500).contains(&posted.status), "{}", posted.status);
    }
    assert_eq!(client.request("ping", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn s_sse_03_the_session_ends_with_its_stream_and_its_upstream_connections_too() {
    let http = http_upstream("one").start().await;
    let stdio = stdio_upstream("two").start().await;
    let gateway = gateway().with("one", &http).with("two", &stdio).start().await;
    let bystander = gateway.handshake("2025-11-25").await;
    bystander.until_tools(&["one__echo", "two__echo"]).await;
    bystander.call("one__echo", json!({})).await.result();
    let mut client = SseClient::handshake(&gateway.endpoint.at("/sse"), "2024-11-05", json!({})).await;
    client.until_tool("one__echo").await;
    for tool in ["one__echo", "two__echo"] {
        client.request("tools/call", json!({ "name": tool, "arguments": {} })).await;
    }
    let calls = http.received("tools/call");
    let session = calls.last().and_then(|call| call.session()).expect("the upstream minted one").to_owned();
    let child = stdio.received("tools/call").last().expect("it was called").connection;
    let child = stdio.births()[child]["pid"].as_u64().expect("a child tells its id") as u32;
    assert!(crate::support::gateway::is_running(child).await);
    let held = || async { gateway.admin_get("/api/v1/sessions").await.json().as_array().map_or(0, Vec::len) };
    assert_eq!(held().await, 2);

    let messages = client.leave().await;
    eventually("the session to be gone", || async { (held().await == 1).then_some(()) }).await;
    http.until("DELETE of the session that served the client", |ledger| {
        ledger.iter().find(|other| other.verb == "DELETE" && other.session() == Some(&session)).cloned()
    })
    .await;
    eventually("the child of that session to end", || async {
        (!crate::support::gateway::is_running(child).await).then_some(())
    })
    .await;
    let late = messages.ask("POST", post_headers(&messages), PING.as_bytes()).await;
    assert_eq!(late.status, 404, "{}", late.body);
    bystander.call("one__echo", json!({})).await.result();
}

#[tokio::test]
async fn s_sse_06_the_transport_can_be_switched_off_and_says_when_it_is_used() {
    let off = gateway().config("http_sse: false").start().await;
    for (path, verb) in
        [("/sse", "GET"), ("/messages?sessionId=x", "POST"), ("/sse/x", "GET"), ("/messages/x", "POST")]
    {
        let endpoint = off.endpoint.at(path);
        let answer = endpoint.ask(verb, post_headers(&endpoint), PING.as_bytes()).await;
        assert_eq!(answer.status, 404, "{verb} {path}: {}", answer.body);
    }
    let on = gateway().config("http_sse: true").start().await;
    let quiet = on.stderr().lines().filter(|line| line.to_lowercase().contains("sse")).count();
    SseClient::handshake(&on.endpoint.at("/sse"), "2024-11-05", json!({})).await;
    eventually("a log line that the old transport is in use", || async {
        let lines = on.stderr().lines().filter(|line| line.to_lowercase().contains("sse")).count();
        (lines > quiet).then_some(())
    })
    .await;
}

#[tokio::test]
async fn s_sse_01_profiles_have_the_transport_too_and_tokens_do_not_cross() {
    let one = http_upstream("one").start().await;
    let two = http_upstream("two").start().await;
    let gateway = gateway()
        .with("one", &one)
        .with("two", &two)
        .config("profiles: { inner: { servers: [one] } }")
        .start()
        .await;
    gateway.stateless().until_tools(&["one__echo", "two__echo"]).await;
    let mut inner = SseClient::handshake(&gateway.endpoint.at("/sse/inner"), "2024-11-05", json!({})).await;
    let path = inner.messages.path.clone();
    assert!(path.starts_with("/messages/inner?sessionId="), "{path:?}");
    let listed = inner.until_tool("one__echo").await;
    assert!(!listed.to_string().contains("two__echo"), "{listed}");
    let hidden = inner.request("tools/call", json!({ "name": "two__echo", "arguments": {} })).await;
    assert_eq!(hidden["error"]["code"], -32602, "{hidden}");

    let whole = SseClient::handshake(&gateway.endpoint.at("/sse"), "2024-11-05", json!({})).await;
    let token = |path: &str| path.split_once('?').map(|(_, query)| query.to_owned()).expect("it has a token");
    for crossed in [
        format!("/messages?{}", token(&path)),
        format!("/messages/inner?{}", token(&whole.messages.path)),
        format!("/messages/none?{}", token(&path)),
    ] {
        let endpoint = gateway.endpoint.at(&crossed);
        let answer = endpoint.ask("POST", post_headers(&endpoint), PING.as_bytes()).await;
        assert_eq!(answer.status, 404, "{crossed}: {}", answer.body);
    }
    let nowhere = gateway.endpoint.at("/sse/none");
    assert_eq!(nowhere.ask("GET", stream_headers(&nowhere), b"").await.status, 404);
}

#[tokio::test]
async fn s_sse_01_s_elic_01_s_prog_01_progress_questions_and_cancellation_pass_over_the_one_stream() {
    let upstream = http_upstream("one")
        .tool("hang")
        .on("tools/call", |mut call| async move {
            if call.name() == "hang" {
                return call.cancelled().await;
            }
            call.progress(1.0, 2.0).await;
            let form =
                json!({ "message": "Who?", "requestedSchema": { "type": "object", "properties": {} } });
            let answer = call.ask("elicitation/create", form).await;
            call.progress(2.0, 2.0).await;
            let action = answer["result"]["action"].to_string();
            call.text(&action).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let sse = gateway.endpoint.at("/sse");
    let mut client = SseClient::handshake(&sse, "2025-06-18", json!({ "elicitation": {} })).await;
    client.until_tool("one__echo").await;
    let params = json!({ "name": "one__echo", "arguments": {}, "_meta": { "progressToken": "mine" } });
    let id = client.open("tools/call", params).await;
    let asked = client.inbox.method("elicitation/create").await;
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "decline" } });
    client.accepted(&answer).await;
    let response = client.inbox.response(&id).await;
    assert_eq!(response["result"]["content"][0]["text"], "\"decline\"", "{response}");
    for value in [1.0, 2.0] {
        let progress = client.inbox.method("notifications/progress").await;
        assert_eq!(
            (&progress["params"]["progressToken"], &progress["params"]["progress"]),
            (&json!("mine"), &json!(value))
        );
    }

    let hanging = client.open("tools/call", json!({ "name": "one__hang", "arguments": {} })).await;
    upstream.until_received("tools/call", 2).await;
    let cancel =
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": hanging } });
    client.accepted(&cancel).await;
    upstream.until_received("notifications/cancelled", 1).await;
    assert_eq!(client.request("ping", json!({})).await["result"], json!({}));
    let left = client.leave().await;
    crate::support::eventually("the gateway to see that its client left", || async {
        let late = left.ask("POST", post_headers(&left), PING.as_bytes()).await;
        (late.status / 100 == 4).then_some(())
    })
    .await;
}

#[tokio::test]
async fn s_sse_02_every_client_gets_its_own_answers_under_the_same_ids() {
    let (_upstream, gateway) = one_behind().await;
    let sse = gateway.endpoint.at("/sse");
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = SseClient::handshake(&sse, "2024-11-05", json!({})).await;
        client.until_tool("one__echo").await;
        clients.push(client);
    }
    for round in 0..5 {
        let id = json!(format!("same-{round}"));
        for (number, client) in clients.iter_mut().enumerate() {
            let params = json!({ "name": "one__echo", "arguments": { "who": number } });
            client.inbox.asked(&id, "tools/call", "2024-11-05");
            let message = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
            client.accepted(&message).await;
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.inbox.response(&id).await;
            let own = format!(r#"one echoes {{"who":{number}}}"#);
            assert_eq!(answer["result"]["content"][0]["text"], own, "{answer}");
        }
    }
}

#[tokio::test]
async fn s_sse_03_list_changes_come_on_the_stream_and_a_stopping_gateway_ends_it_well() {
    let (upstream, mut gateway) = one_behind().await;
    let mut client = SseClient::handshake(&gateway.endpoint.at("/sse"), "2024-11-05", json!({})).await;
    client.until_tool("one__echo").await;
    upstream.until_standing().await;
    upstream.show(|shown| {
        shown.tools.push(json!({ "name": "late", "inputSchema": { "type": "object" } }));
    });
    upstream.announce("notifications/tools/list_changed", json!({})).await;
    client.inbox.method("notifications/tools/list_changed").await;
    client.until_tool("one__late").await;
    let status = gateway.terminate().await;
    assert!(status.success(), "{status:?}");
    let rest: Vec<Value> = within(Duration::from_secs(10), "the stream to end", client.ended()).await;
    assert!(rest.iter().all(|message| message.get("method").is_some()), "{rest:?}");
}
