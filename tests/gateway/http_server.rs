//! The gateway as a streamable HTTP server: verbs, guards, forms of answers, disconnects, profiles (S-HTTPS).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Whole};
use crate::support::gateway::refused;
use crate::support::http::Headers;
use crate::support::{Gateway, HANDSHAKE, STATELESS, gateway, http_upstream, stateless_upstream, within};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn ping_with(client: &Client, change: impl FnOnce(&mut Headers)) -> Whole {
    let mut headers = client.headers("", &json!({}));
    change(&mut headers);
    client.endpoint.ask("POST", headers, PING.as_bytes()).await
}

#[tokio::test]
async fn s_https_01_one_path_and_only_its_verbs() {
    let gateway = gateway().start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    for verb in ["PUT", "PATCH", "TRACE"] {
        let answer = gateway.endpoint.ask(verb, client.headers("", &json!({})), PING.as_bytes()).await;
        assert_eq!(answer.status, 405, "{verb}: {}", answer.body);
    }
    let options = gateway.endpoint.ask("OPTIONS", client.headers("", &json!({})), b"").await;
    assert!(options.status < 500, "{options:?}");
    let elsewhere =
        gateway.endpoint.at("/nowhere").ask("POST", client.headers("", &json!({})), PING.as_bytes()).await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn s_https_02_a_foreign_origin_is_403_on_every_verb() {
    let gateway = gateway().config("origins: [\"https://app.example.com\"]").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let port = gateway.endpoint.address.port();
    let cases = [
        ("https://evil.example.com".to_owned(), 403),
        ("null".to_owned(), 403),
        ("http://localhost.evil.example.com".to_owned(), 403),
        ("http://127.0.0.1.evil.example.com".to_owned(), 403),
        ("https://app.example.com.evil.org".to_owned(), 403),
        ("http://app.example.com".to_owned(), 403),
        ("https://app.example.com".to_owned(), 200),
        (format!("http://localhost:{port}"), 200),
        ("http://localhost:1".to_owned(), 200),
        ("http://127.0.0.1".to_owned(), 200),
        ("http://[::1]:9999".to_owned(), 200),
    ];
    for (origin, status) in cases {
        let answer = ping_with(&client, |headers| headers.set("Origin", &origin)).await;
        assert_eq!(answer.status, status, "Origin {origin:?}: {}", answer.body);
    }
    let mut doubled = client.headers("", &json!({}));
    doubled.0.push(("Origin".to_owned(), "http://localhost".to_owned()));
    doubled.0.push(("Origin".to_owned(), "https://evil.example.com".to_owned()));
    let answer = gateway.endpoint.ask("POST", doubled, PING.as_bytes()).await;
    assert!((400..500).contains(&answer.status), "two origins: {answer:?}");
    for verb in ["GET", "DELETE", "OPTIONS"] {
        let mut headers = client.headers("", &json!({}));
        headers.set("Origin", "https://evil.example.com");
        headers.set("Accept", "text/event-stream");
        let answer = gateway.endpoint.ask(verb, headers, b"").await;
        assert_eq!(answer.status, 403, "{verb}");
        assert_eq!(answer.headers.get("access-control-allow-origin"), None);
    }
    assert_eq!(client.request("ping", json!({})).await.status, 200, "the session outlived all of it");
}

#[tokio::test]
async fn s_https_02_a_foreign_host_is_refused_on_both_listeners() {
    let gateway = gateway().config("hosts: [mcp.example.com]").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let port = gateway.endpoint.address.port();
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("LOCALHOST:{port}"),
        format!("[::1]:{port}"),
        "localhost".to_owned(),
        "mcp.example.com".to_owned(),
    ] {
        let answer = ping_with(&client, |headers| headers.set("Host", &host)).await;
        assert_eq!(answer.status, 200, "Host {host:?}: {}", answer.body);
    }
    for host in [
        "evil.example.com",
        "evil.example.com:80",
        "localhost.evil.example.com",
        "127.0.0.1.evil.example.com",
    ] {
        let answer = ping_with(&client, |headers| headers.set("Host", host)).await;
        assert!((400..500).contains(&answer.status), "Host {host:?}: {answer:?}");
        let mut headers = Headers::default();
        headers.set("Host", host);
        let admin = gateway.admin.at("/api/v1/servers").ask("GET", headers, b"").await;
        assert!((400..500).contains(&admin.status), "admin, Host {host:?}: {admin:?}");
    }
    let health = gateway.admin_get("/healthz").await;
    assert_eq!(health.status, 200);
}

#[tokio::test]
async fn s_https_02_preflight_answers_allowed_origins_alone() {
    let gateway = gateway().config("origins: [\"https://app.example.com\"]").start().await;
    let preflight = |origin: &'static str| {
        let mut headers = gateway.endpoint.post_headers();
        headers.remove("Content-Type");
        headers.set("Origin", origin);
        headers.set("Access-Control-Request-Method", "POST");
        headers.set("Access-Control-Request-Headers", "content-type, mcp-session-id, mcp-protocol-version");
        let endpoint = gateway.endpoint.clone();
        async move { endpoint.ask("OPTIONS", headers, b"").await }
    };
    let allowed = preflight("https://app.example.com").await;
    assert!((200..300).contains(&allowed.status), "{allowed:?}");
    assert_eq!(allowed.headers.get("access-control-allow-origin"), Some("https://app.example.com"));
    let may = allowed.headers.get("access-control-allow-headers").unwrap_or_default().to_ascii_lowercase();
    for header in ["content-type", "mcp-session-id", "mcp-protocol-version"] {
        assert!(may.contains(header), "{may:?}");
    }
    let foreign = preflight("https://evil.example.com").await;
    assert_eq!((foreign.status, foreign.headers.get("access-control-allow-origin")), (403, None));

    let client = gateway.handshake(HANDSHAKE).await;
    let answer = ping_with(&client, |headers| headers.set("Origin", "https://app.example.com")).await;
    assert_eq!(answer.headers.get("access-control-allow-origin"), Some("https://app.example.com"));
    let exposed =
        answer.headers.get("access-control-expose-headers").unwrap_or_default().to_ascii_lowercase();
    assert!(exposed.contains("mcp-session-id"), "{exposed:?}");
}

#[tokio::test]
async fn s_https_03_beyond_loopback_needs_authorization() {
    let started = gateway().start().await;
    assert!(started.endpoint.address.ip().is_loopback());
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let ended = refused(&format!("listen: \"{listen}\"\nadmin: off\nservers: {{}}\n")).await;
        assert!(!ended.status.success(), "{ended:?}");
        let said = ended.stderr.to_ascii_lowercase();
        assert!(said.contains("listen") && said.contains("loopback"), "{ended:?}");
    }
}

#[tokio::test]
async fn s_https_04_notifications_and_responses_are_accepted_without_a_body() {
    let gateway = gateway().start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    assert_eq!(client.notify("notifications/roots/list_changed", json!({})).await, 202);
    for id in [json!("nobody asked"), json!(7), json!(-1)] {
        let status = client.respond(&id, json!({ "roots": [] })).await;
        assert!(status == 202 || status == 400, "{status}");
        let status = client.refuse(&id, -1, "no").await;
        assert!(status == 202 || status == 400, "{status}");
    }
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn s_https_05_06_the_form_of_the_answer_follows_its_first_event() {
    for (revision, upstream) in [(HANDSHAKE, http_upstream("one")), (STATELESS, stateless_upstream("one"))] {
        let upstream = upstream
            .tool("quick")
            .tool("chatty")
            .tool("slow")
            .on("tools/call", |mut call| async move {
                match call.name() {
                    "chatty" => {
                        call.progress(1.0, 2.0).await;
                    }
                    "slow" => call.pause(4_000).await,
                    _ => {}
                }
                call.text("done").await;
            })
            .start()
            .await;
        let gateway =
            gateway().with("one", &upstream).config("bounds: { stream_after: 300ms }").start().await;
        let client = gateway.client(revision).await;
        client.until_tools(&["one__quick", "one__chatty", "one__slow"]).await;

        let quick = client.call("one__quick", json!({})).await;
        assert!(!quick.streamed, "{revision}: a final response that comes first is JSON");
        assert!(quick.headers.get("content-type").is_some_and(|kind| kind.starts_with("application/json")));

        let chatty = client.open_call_with_progress("one__chatty", json!(1)).await.answer().await;
        assert!(chatty.streamed && chatty.progress() == [1.0], "{revision}: {chatty:?}");
        let cache = chatty.headers.get("cache-control").unwrap_or_default();
        assert!(cache.contains("no-cache"), "{:?} (S-HTTPS-15)", chatty.headers);
        assert_eq!(chatty.headers.get("x-accel-buffering"), Some("no"), "(S-HTTPS-15)");

        let mut slow = client.open_call("one__slow", json!({})).await;
        within(Duration::from_millis(3_500), "the stream to open while the call is silent", slow.head())
            .await;
        let slow = slow.answer().await;
        assert!(slow.streamed && slow.text() == "done", "{revision}: {slow:?}");
    }
}

#[tokio::test]
async fn s_https_06_a_refusal_that_needs_a_status_gets_it() {
    let refusal = json!({ "code": -32021, "message": "needs sampling", "data": { "requiredCapabilities": { "sampling": {} } } });
    let text = refusal.to_string();
    let upstream = stateless_upstream("one")
        .on("tools/call", move |mut call| {
            let message = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{text}}}"#, call.id());
            async move { call.http(400, &[("Content-Type", "application/json")], message.as_bytes()).await }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let answer = client.call("one__echo", json!({})).await;
    answer.expect_error(400, -32021);
    assert_eq!(
        answer.error()["data"]["requiredCapabilities"],
        json!({ "sampling": {} }),
        "(S-META-05) {}",
        answer.raw
    );
}

#[tokio::test]
async fn s_https_07_accept_and_content_type_are_heeded() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { stream_after: 200ms }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    for (accept, status) in [
        ("application/json, text/event-stream", 200),
        ("text/event-stream, application/json", 200),
        ("application/json;q=0.9, text/event-stream;q=0.1", 200),
        ("*/*", 200),
        ("application/*, text/*", 200),
        ("application/json", 200),
        ("text/html", 406),
        ("image/png, text/plain", 406),
    ] {
        let answer = ping_with(&client, |headers| headers.set("Accept", accept)).await;
        assert_eq!(answer.status, status, "Accept {accept:?}: {}", answer.body);
    }
    for (kind, status) in [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("", 415),
    ] {
        let answer = ping_with(&client, |headers| headers.set("Content-Type", kind)).await;
        assert_eq!(answer.status, status, "Content-Type {kind:?}: {}", answer.body);
    }
    let params = json!({ "name": "one__echo", "arguments": {}, "_meta": { "progressToken": 1 } });
    let mut headers = client.headers("tools/call", &params);
    headers.set("Accept", "application/json");
    let body = json!({ "jsonrpc": "2.0", "id": 900, "method": "tools/call", "params": params }).to_string();
    let answer = client.open_raw(json!(900), "tools/call", headers, body.as_bytes()).await.answer().await;
    assert!(!answer.streamed && answer.text() == "done", "JSON alone was acceptable: {answer:?}");
}

#[tokio::test]
async fn s_https_08_the_version_header_is_optional_but_never_wrong() {
    let gateway = gateway().start().await;
    for revision in ["2025-06-18", HANDSHAKE] {
        let client = gateway.handshake(revision).await;
        for (version, status) in [
            (None, 200),
            (Some(revision), 200),
            (Some("2025-03-26"), 200),
            (Some("1999-01-01"), 400),
            (Some("garbage"), 400),
        ] {
            let answer = ping_with(&client, |headers| match version {
                Some(version) => headers.set("MCP-Protocol-Version", version),
                None => headers.remove("MCP-Protocol-Version"),
            })
            .await;
            assert_eq!(answer.status, status, "{revision}, header {version:?}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn s_https_11_one_standalone_stream_that_asks_for_events() {
    let gateway = gateway().start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let mut headers = client.headers("", &json!({}));
    headers.set("Accept", "application/json");
    assert_eq!(gateway.endpoint.ask("GET", headers, b"").await.status, 406);
    let first = client.standalone_stream().await;
    assert_eq!(client.get().await.head().await.status(), 409, "one standalone stream per session");
    drop(first);
    crate::support::eventually("the place of a closed stream to be free", || async {
        (client.get().await.head().await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn s_https_11_the_standalone_stream_carries_no_response() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    for n in 0..5 {
        client.call("one__echo", json!({ "n": n })).await.text();
    }
    for message in stream.messages_within(Duration::from_millis(500)).await {
        assert!(message.json.get("method").is_some(), "a response on the standalone stream: {}", message.raw);
    }
}

#[tokio::test]
async fn s_https_12_leaving_is_no_cancellation_in_the_handshake_era() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.pause(700).await;
            call.text("finished alone").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let running = client.open_call("one__echo", json!({})).await;
    let call = upstream.until_received("tools/call", 1).await;
    drop(running);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(upstream.received("notifications/cancelled").is_empty(), "call {} was cancelled", call.raw);
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn s_https_12_s_canc_05_leaving_is_cancellation_in_the_stateless_era() {
    for (upstream, is_modern) in [(stateless_upstream("one"), true), (http_upstream("one"), false)] {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let upstream = upstream
            .on("tools/call", move |mut call| {
                let tell = tell.clone();
                async move {
                    call.cancelled().await;
                    tell.send(()).await.ok();
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        client.until_tools(&["one__echo"]).await;
        let running = client.open_call("one__echo", json!({})).await;
        upstream.until_received("tools/call", 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(running);
        within(Duration::from_secs(5), "the upstream to hear of it", told.recv()).await;
        if is_modern {
            assert!(
                upstream.received("notifications/cancelled").is_empty(),
                "over HTTP the closed stream says it all"
            );
        }
    }
}

#[tokio::test]
async fn s_https_13_stateless_requests_know_no_session_and_no_resumption() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let real = gateway.handshake(HANDSHAKE).await.session.expect("given at initialize");
    for session in ["stray", real.as_str()] {
        let params = client.dress(json!({ "name": "one__echo", "arguments": {} }));
        let mut headers = client.headers("tools/call", &params);
        headers.set("Mcp-Session-Id", session);
        headers.set("Last-Event-ID", "17");
        let body = json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params }).to_string();
        let answer = client.open_raw(json!(5), "tools/call", headers, body.as_bytes()).await.answer().await;
        assert_eq!(answer.text(), "one echoes {}");
        assert_eq!(answer.headers.get("mcp-session-id"), None);
    }
    for verb in ["GET", "DELETE"] {
        let mut headers = gateway.endpoint.post_headers();
        headers.set("Accept", "text/event-stream");
        headers.set("MCP-Protocol-Version", STATELESS);
        assert_eq!(gateway.endpoint.ask(verb, headers, b"").await.status, 405, "{verb} without a session");
    }
}

#[tokio::test]
async fn s_https_16_18_unknown_methods_are_404_and_unknown_tools_are_not() {
    let gateway = gateway().start().await;
    let modern = gateway.stateless();
    for method in ["unknown/method", "tasks/list", "tasks/result", "Tools/List"] {
        let answer = modern.open_as(json!("an id"), method, json!({})).await.answer().await;
        answer.expect_error(404, -32601);
    }
    let handshake = gateway.handshake(HANDSHAKE).await;
    handshake.request("unknown/method", json!({})).await.expect_error(200, -32601);
    for client in [&modern, &handshake] {
        client.call("no__such", json!({})).await.expect_error(200, -32602);
        client.request("prompts/get", json!({ "name": "no__such" })).await.expect_error(200, -32602);
    }
}

async fn two_behind_one() -> (crate::support::Upstream, crate::support::Upstream, Gateway) {
    let one = http_upstream("one").tool("a").tool("b").tool("c").start().await;
    let two = http_upstream("two").start().await;
    let profiles = r#"
profiles:
  half: { servers: [one] }
  few: { servers: [one, two], tools: { allow: ["one__*"], deny: ["one__b"] } }
bounds: { page_size: 2 }
"#;
    let gateway = gateway().with("one", &one).with("two", &two).config(profiles).start().await;
    (one, two, gateway)
}

async fn all_tools(client: &Client) -> Vec<String> {
    let mut names = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let params = if cursor.is_null() { json!({}) } else { json!({ "cursor": cursor }) };
        let page = client.request("tools/list", params).await;
        names.extend(page.names("tools"));
        cursor = page.result()["nextCursor"].clone();
        if cursor.is_null() {
            return names;
        }
    }
}

#[tokio::test]
async fn s_https_19_each_profile_is_a_server_of_its_own() {
    let (_one, _two, gateway) = two_behind_one().await;
    let whole = gateway.handshake(HANDSHAKE).await;
    crate::support::eventually("both catalogues", || async {
        let names = all_tools(&whole).await;
        (names == ["one__echo", "one__a", "one__b", "one__c", "two__echo"]).then_some(())
    })
    .await;
    let half = Client::handshake(&gateway.endpoint.at("/mcp/half"), HANDSHAKE, json!({})).await;
    assert_eq!(all_tools(&half).await, ["one__echo", "one__a", "one__b", "one__c"]);
    let few = Client::handshake(&gateway.endpoint.at("/mcp/few"), HANDSHAKE, json!({})).await;
    assert_eq!(all_tools(&few).await, ["one__echo", "one__a", "one__c"]);
    let few_stateless = Client::stateless(&gateway.endpoint.at("/mcp/few"), json!({}));
    assert_eq!(all_tools(&few_stateless).await, ["one__echo", "one__a", "one__c"]);

    for hidden in ["one__b", "two__echo"] {
        let answer = few.call(hidden, json!({})).await;
        answer.expect_error(200, -32602);
        let unknown = few.call("one__nothing", json!({})).await;
        let told = |answer: &crate::support::client::Answer, name: &str| {
            answer.error().to_string().replace(name, "NAME")
        };
        assert_eq!(
            told(&answer, hidden),
            told(&unknown, "one__nothing"),
            "hidden and unknown look alike (S-TOOL-07)"
        );
    }
    let cursor = whole.request("tools/list", json!({})).await.result()["nextCursor"].clone();
    half.request("tools/list", json!({ "cursor": cursor })).await.expect_error(200, -32602);
    let mut misplaced = half.clone();
    misplaced.endpoint = gateway.endpoint.clone();
    assert_eq!(misplaced.open("ping", json!({})).await.whole().await.status, 404);
    let nowhere = Client::silent(&gateway.endpoint.at("/mcp/none"), HANDSHAKE, json!({}));
    assert_eq!(nowhere.open("ping", json!({})).await.whole().await.status, 404);
}

#[tokio::test]
async fn s_https_20_f52_sigterm_lets_running_calls_finish_and_exits_cleanly() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.pause(1_000).await;
            call.text("in time").await;
        })
        .start()
        .await;
    let mut gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    let running = client.open_call_with_progress("one__echo", json!(1)).await;
    upstream.until_received("tools/call", 1).await;
    let (status, answer) = tokio::join!(gateway.terminate(), running.answer());
    assert!(status.success(), "{status:?}");
    assert_eq!(answer.text(), "in time");
    within(Duration::from_secs(5), "the standalone stream to end", async {
        while stream.next().await.is_some() {}
    })
    .await;
}
