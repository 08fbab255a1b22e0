//! Opening: versions, capabilities, deadlines, both eras at one endpoint (S-LIFE).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Client, HANDSHAKE, HANDSHAKE_REVISIONS, Transport, gateway, http_upstream, stateless_upstream, upstream,
    within,
};

/// Heal fast, so that stories need not wait for the defaults.
const QUICK: &str = "bounds: { backoff_first: 100ms, backoff_longest: 500ms, change_debounce: 100ms }";

async fn version_answered(client: &Client, requested: &str) -> Value {
    let params = json!({
        "protocolVersion": requested, "capabilities": {}, "clientInfo": { "name": "story", "version": "1" },
    });
    let answer = client.open("initialize", params).await.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.raw);
    answer.result()["protocolVersion"].clone()
}

#[tokio::test]
async fn s_life_01_each_served_version_is_confirmed_and_any_other_gets_the_newest() {
    let gateway = gateway().start().await;
    for revision in HANDSHAKE_REVISIONS {
        let client = Client::silent(&gateway.endpoint, revision, json!({}));
        assert_eq!(version_answered(&client, revision).await, json!(revision));
    }
    let client = Client::silent(&gateway.endpoint, HANDSHAKE, json!({}));
    for unknown in ["1999-01-01", "2026-07-28", "2099-01-01", ""] {
        assert_eq!(version_answered(&client, unknown).await, json!(HANDSHAKE), "asked for {unknown:?}");
    }
}

#[tokio::test]
async fn s_life_03_nothing_is_served_before_the_handshake_and_nothing_pushed_before_its_end() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let settled = gateway.handshake(HANDSHAKE).await;
    settled.until_tools(&["one__echo"]).await;

    let mut client = Client::silent(&gateway.endpoint, HANDSHAKE, json!({ "sampling": {}, "roots": {} }));
    let early = client.open("tools/list", json!({})).await.whole().await;
    assert_eq!(early.status, 400, "a request without a session: {}", early.body);

    client.initialize().await;
    let mut stream = client.get().await;
    let offered = stream.head().await.status() == 200;
    upstream.show(|shown| shown.tools.push(json!({ "name": "late", "inputSchema": { "type": "object" } })));
    upstream.until_standing().await;
    upstream.announce("notifications/tools/list_changed", json!({})).await;
    settled.until_tools(&["one__late"]).await;
    if offered {
        stream.expect_quiet(Duration::from_millis(500)).await;
    }
    assert_eq!(client.notify("notifications/initialized", json!({})).await, 202);
    client.until_tools(&["one__late"]).await;
}

#[tokio::test]
async fn s_life_04_upstreams_get_the_whole_handshake_before_anything_else() {
    for transport in [Transport::Http, Transport::Stdio] {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = gateway().with_more("one", &upstream, json!({ "protocol": HANDSHAKE })).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let methods: Vec<String> =
            upstream.ledger().iter().map(|received| received.method().to_owned()).collect();
        assert_eq!(methods[0], "initialize", "{methods:?}");
        assert_eq!(methods[1], "notifications/initialized", "{methods:?}");
    }
}

#[tokio::test]
async fn s_life_05_what_nobody_declared_is_refused_on_both_sides() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            let params = json!({ "messages": [], "maxTokens": 5 });
            let refusal = call.ask("sampling/createMessage", params).await;
            let code = refusal["error"]["code"].clone();
            call.text(&format!("refused with {code}")).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    // What an upstream has is declared until it was heard of.
    gateway.handshake(HANDSHAKE).await.until_tools(&["one__echo"]).await;
    let client = gateway.handshake(HANDSHAKE).await;
    assert_eq!(client.welcome["capabilities"].get("tasks"), None);
    let answer = client.call("one__echo", json!({})).await;
    assert_eq!(answer.text(), "refused with -32601");
    let asked: Vec<_> = answer.before.iter().filter(|message| message.json.get("id").is_some()).collect();
    assert!(asked.is_empty(), "the client declared no sampling: {asked:?}");

    client.request("tasks/list", json!({})).await.expect_error(200, -32601);
    client.request("no/such/method", json!({})).await.expect_error(200, -32601);
}

#[tokio::test]
async fn s_life_06_f13_all_upstreams_down_the_gateway_starts_at_once_and_heals() {
    let late_http = http_upstream("web").reserve();
    let late_modern = stateless_upstream("new").reserve();
    let gateway = gateway()
        .with_server("web", late_http.settings())
        .with_server("new", late_modern.settings())
        .with_server("gone", json!({ "command": "/nonexistent/program" }))
        .config(QUICK)
        .start()
        .await;
    let fast = Duration::from_secs(5);
    let client = within(fast, "initialize with all upstreams down", gateway.handshake(HANDSHAKE)).await;
    let capabilities = &client.welcome["capabilities"];
    for (feature, detail) in [
        ("tools", json!({ "listChanged": true })),
        ("prompts", json!({ "listChanged": true })),
        ("resources", json!({ "listChanged": true, "subscribe": true })),
    ] {
        assert_eq!(capabilities[feature], detail, "{capabilities}");
    }
    assert!(capabilities["completions"].is_object() && capabilities["logging"].is_object(), "{capabilities}");

    let mut stream = client.standalone_stream().await;
    for list in ["tools", "prompts", "resources"] {
        let empty = within(fast, "an empty list", client.request(&format!("{list}/list"), json!({}))).await;
        assert_eq!(empty.names(list), Vec::<String>::new());
    }
    let pong = within(fast, "ping with all upstreams down", client.request("ping", json!({}))).await;
    assert_eq!(pong.raw_result(&[]), "{}");

    let _web = late_http.start().await;
    stream.until_method("notifications/tools/list_changed").await;
    client.until_tools(&["web__echo"]).await;
    assert_eq!(client.call("web__echo", json!({})).await.text(), "web echoes {}");
    let _modern = late_modern.start().await;
    client.until_tools(&["web__echo", "new__echo"]).await;
    assert_eq!(client.call("new__echo", json!({})).await.text(), "new echoes {}");
}

#[tokio::test]
async fn s_life_07_an_upstream_session_has_exactly_the_capabilities_of_its_client() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let plain = gateway.handshake(HANDSHAKE).await;
    plain.until_tools(&["one__echo"]).await;
    let asking = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {}, "sampling": {} })).await;
    plain.call("one__echo", json!({ "who": "plain" })).await;
    asking.call("one__echo", json!({ "who": "asking" })).await;

    let calls = upstream.received("tools/call");
    let session_of = |who: &str| {
        let call = calls.iter().find(|call| call.params()["arguments"]["who"] == who).expect("both called");
        call.session().expect("the upstream minted one").to_owned()
    };
    assert_ne!(session_of("plain"), session_of("asking"), "one session cannot have both capability sets");
    let mut declared: Vec<String> = upstream
        .received("initialize")
        .iter()
        .flat_map(|received| received.params()["capabilities"].as_object().cloned().unwrap_or_default())
        .map(|(name, _)| name)
        .collect();
    declared.sort_unstable();
    declared.dedup();
    assert_eq!(declared, ["elicitation", "sampling"], "never more than a client declared");
}

#[tokio::test]
async fn s_life_10_a_call_that_never_ends_is_ended_and_progress_extends_it_only_so_far() {
    let upstream = http_upstream("one")
        .tool("silent")
        .tool("busy")
        .on("tools/call", |mut call| async move {
            if call.name() == "silent" {
                return call.cancelled().await;
            }
            for step in 1..=100 {
                assert!(call.progress(f64::from(step), 1e3).await, "the client asked for progress");
                call.pause(100).await;
            }
        })
        .start()
        .await;
    let gateway = gateway()
        .with_more("one", &upstream, json!({ "timeout": "500ms" }))
        .config("bounds: { call_maximum: 2s }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__silent", "one__busy"]).await;

    let started = tokio::time::Instant::now();
    client.call("one__silent", json!({})).await.expect_failure("upstream_timeout", "unknown");
    assert!(started.elapsed() >= Duration::from_millis(500), "not before its deadline");
    upstream.until_received("notifications/cancelled", 1).await;

    let started = tokio::time::Instant::now();
    let busy = client.open_call_with_progress("one__busy", json!("t")).await.answer().await;
    busy.expect_failure("upstream_timeout", "unknown");
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(1_500),
        "progress extends the deadline, but it ended after {took:?}"
    );
}

#[tokio::test]
async fn s_life_15_one_endpoint_serves_both_eras_and_modern_metadata_wins() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let modern = gateway.stateless();
    modern.until_tools(&["one__echo"]).await;
    let initialize = json!({ "protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } });
    for (method, params) in [
        ("initialize", initialize),
        ("ping", json!({})),
        ("logging/setLevel", json!({ "level": "info" })),
        ("resources/subscribe", json!({ "uri": "test://one/static" })),
        ("resources/unsubscribe", json!({ "uri": "test://one/static" })),
    ] {
        let answer = modern.request(method, params).await;
        answer.expect_error(404, -32601);
        assert_eq!(answer.headers.get("mcp-session-id"), None, "{method} opened a session");
    }
    let handshake = gateway.handshake(HANDSHAKE).await;
    for _ in 0..3 {
        assert_eq!(handshake.call("one__echo", json!({ "n": 1 })).await.text(), r#"one echoes {"n":1}"#);
        assert_eq!(modern.call("one__echo", json!({ "n": 2 })).await.text(), r#"one echoes {"n":2}"#);
    }
    assert_eq!(handshake.request("ping", json!({})).await.raw_result(&[]), "{}");
}
