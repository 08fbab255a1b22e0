//! Sessions of the handshake era: ids, ends, bounds (S-SESS).

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use crate::support::{Client, HANDSHAKE, eventually, gateway, http_upstream, within};

#[tokio::test]
async fn s_sess_01_ids_are_long_visible_and_never_the_same() {
    let gateway = gateway().start().await;
    let mut ids = HashSet::new();
    for _ in 0..40 {
        let client = gateway.handshake(HANDSHAKE).await;
        let id = client.session.expect("every initialize answer carries a session id");
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id:?}");
        assert!(id.len() >= 22, "128 bits do not fit into {id:?}");
        assert!(ids.insert(id));
    }
    // Bytes at one place differ between ids, if they are random at all.
    let ids: Vec<Vec<u8>> = ids.into_iter().map(String::into_bytes).collect();
    let shortest = ids.iter().map(Vec::len).min().expect("forty of them");
    let varied =
        (0..shortest).filter(|at| ids.iter().map(|id| id[*at]).collect::<HashSet<_>>().len() > 8).count();
    assert!(varied >= 20, "only {varied} places vary");
}

#[tokio::test]
async fn s_sess_02_no_session_is_400_and_a_session_that_is_not_is_404() {
    let gateway = gateway().start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let ended = gateway.handshake(HANDSHAKE).await;
    assert!((200..300).contains(&ended.delete().await));

    let with_session = |session: Option<&str>| {
        let mut other = client.clone();
        other.session = session.map(str::to_owned);
        other
    };
    let own = client.session.clone().expect("given at initialize");
    let altered: String = own.chars().rev().collect();
    let cases = [
        (None, 400),
        (Some("unknown"), 404),
        (Some("\u{7e}\u{21}"), 404),
        (Some(altered.as_str()), 404),
        (ended.session.as_deref(), 404),
        (Some(own.as_str()), 200),
    ];
    for (session, status) in cases {
        let client = with_session(session);
        let answer = client.open("tools/list", json!({})).await.whole().await;
        assert_eq!(answer.status, status, "{session:?}: {}", answer.body);
        if status != 200 {
            assert_eq!(
                client.get().await.head().await.status(),
                if session.is_none() { 405 } else { 404 },
                "GET"
            );
            assert_eq!(client.delete().await, if session.is_none() { 405 } else { 404 }, "DELETE");
        }
    }
}

#[tokio::test]
async fn s_sess_03_delete_ends_streams_calls_and_the_upstream_session() {
    let upstream =
        http_upstream("one").on("tools/call", |mut call| async move { call.cancelled().await }).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    let running = client.open_call("one__echo", json!({})).await;
    let call = upstream.until_received("tools/call", 1).await;
    let session = call.session().expect("the upstream minted one").to_owned();

    assert!((200..300).contains(&client.delete().await));
    upstream.until_received("notifications/cancelled", 1).await;
    within(Duration::from_secs(10), "the standalone stream to end", async {
        while stream.next().await.is_some() {}
    })
    .await;
    upstream
        .until("DELETE of the session that served the client", |ledger| {
            ledger
                .iter()
                .find(|received| received.verb == "DELETE" && received.session() == Some(&session))
                .cloned()
        })
        .await;
    drop(running);
    assert_eq!(client.open("tools/list", json!({})).await.whole().await.status, 404);
    assert_eq!(client.delete().await, 404);
}

#[tokio::test]
async fn s_sess_04_a_session_opens_no_other_door() {
    let one = http_upstream("one").start().await;
    let gateway = gateway().with("one", &one).config("profiles: { inner: { servers: [one] } }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;

    let mut headers = client.headers("", &json!({}));
    headers.set("Origin", "https://evil.example.com");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let foreign = gateway.endpoint.ask("POST", headers, body.as_bytes()).await;
    assert_eq!(foreign.status, 403, "every request is checked anew: {}", foreign.body);

    let mut elsewhere = client.clone();
    elsewhere.endpoint = gateway.endpoint.at("/mcp/inner");
    assert_eq!(elsewhere.open("ping", json!({})).await.whole().await.status, 404);
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn s_sess_05_idle_sessions_expire_and_used_ones_stay() {
    let gateway = gateway().config("bounds: { session_idle: 2s }").start().await;
    let idle = gateway.handshake(HANDSHAKE).await;
    let streaming = gateway.handshake(HANDSHAKE).await;
    let _stream = streaming.standalone_stream().await;
    let left = gateway.handshake(HANDSHAKE).await;
    drop(left.standalone_stream().await);
    let busy = gateway.handshake(HANDSHAKE).await;
    // Asking the idle session itself would keep it alive, so the inspection is asked how many there are.
    eventually("the idle session to expire, and the one whose stream was left", || async {
        assert_eq!(busy.request("ping", json!({})).await.status, 200, "a used session stays");
        let held = gateway.admin_get("/api/v1/sessions").await.json();
        (held.as_array().expect("a list").len() == 2).then_some(())
    })
    .await;
    for expired in [&idle, &left] {
        assert_eq!(expired.open("ping", json!({})).await.whole().await.status, 404);
    }
    assert_eq!(busy.request("ping", json!({})).await.status, 200, "a used session stays");
    assert_eq!(streaming.request("ping", json!({})).await.status, 200, "a session with an open stream stays");
}

#[tokio::test]
async fn s_sess_05_f32_at_the_cap_new_sessions_are_put_off_and_old_ones_live_on() {
    let gateway = gateway().config("bounds: { sessions: 3 }").start().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(gateway.handshake(HANDSHAKE).await);
    }
    let late = Client::silent(&gateway.endpoint, HANDSHAKE, json!({}));
    let params = json!({
        "protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": { "name": "late", "version": "1" },
    });
    let refused = late.open("initialize", params).await.whole().await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.headers.get("retry-after").is_some(), "{:?}", refused.headers);
    for client in &held {
        assert_eq!(client.request("ping", json!({})).await.status, 200);
    }
    assert!((200..300).contains(&held[0].delete().await));
    gateway.handshake(HANDSHAKE).await;
}

#[tokio::test]
async fn s_sess_07_nothing_of_a_stateless_request_is_remembered_for_the_next() {
    let upstream = crate::support::stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            let declared = call.params()["_meta"]["io.modelcontextprotocol/clientCapabilities"].clone();
            call.text(&declared.to_string()).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let plain = gateway.stateless();
    plain.until_tools(&["one__echo"]).await;
    // Clones share connections, so both kinds of request travel on the same one.
    let mut asking = plain.clone();
    asking.capabilities = json!({ "elicitation": {} });
    for _ in 0..3 {
        assert!(!plain.call("one__echo", json!({})).await.text().contains("elicitation"));
        asking.call("one__echo", json!({})).await;
    }
}
