//! How the gateway finds out what an upstream speaks (S-HTTPC-11, S-STDIO-05, S-LIFE-02, S-LIFE-14).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::support::{
    Call, HANDSHAKE, STATELESS, Transport, Upstream, eventually, gateway, http_upstream, stateless_upstream,
    stdio_upstream, upstream,
};

const QUICK: &str = "bounds: { backoff_first: 100ms, backoff_longest: 500ms, probe_deadline: 1s }";

/// Era detection: the upstream answers in its own way, and the gateway finds out how to talk to it.
async fn detects(upstream: &Upstream, plan: crate::support::gateway::Plan) {
    let gateway = plan.start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");
    drop(gateway);
    let _ = upstream;
}

#[tokio::test]
async fn s_httpc_11_every_kind_of_http_upstream_is_recognised() {
    type Probe = fn(Call) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    let handshake_answers: [(&str, Probe); 6] = [
        ("404 without a body", |mut call| Box::pin(async move { call.http(404, &[], b"").await })),
        ("405 without a body", |mut call| Box::pin(async move { call.http(405, &[], b"").await })),
        ("400 in plain text", |mut call| {
            Box::pin(async move {
                call.http(400, &[("Content-Type", "text/plain")], b"Bad Request: no session").await
            })
        }),
        ("200 with an empty object", |mut call| {
            Box::pin(async move { call.http(200, &[("Content-Type", "application/json")], b"{}").await })
        }),
        ("200 with an empty result", |mut call| Box::pin(async move { call.result(json!({})).await })),
        ("an error of its own", |mut call| {
            Box::pin(async move { call.error(-32602, "what?", json!(null)).await })
        }),
    ];
    for (kind, probe) in handshake_answers {
        println!("=== a handshake upstream that answers the probe with {kind}");
        let upstream = http_upstream("one").on("server/discover", probe).start().await;
        detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    }
    println!("=== a stateless upstream");
    let upstream = stateless_upstream("one").start().await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    assert!(upstream.received("initialize").is_empty(), "a stateless upstream is never greeted");
}

#[tokio::test]
async fn s_httpc_11_s_meta_09_a_modern_refusal_is_no_reason_to_fall_back() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refusals);
    let upstream = stateless_upstream("one")
        .on("server/discover", move |mut call| {
            let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if !first {
                    return call.default().await;
                }
                let id = call.id();
                let message = format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32022,"message":"not now","data":{{"supported":["{STATELESS}"],"requested":"{STATELESS}"}}}}}}"#
                );
                call.http(400, &[("Content-Type", "application/json")], message.as_bytes()).await;
            }
        })
        .start()
        .await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    assert!(upstream.received("initialize").is_empty(), "the same version again, not another era");
    assert!(refusals.load(Ordering::Relaxed) < 6, "bounded retries");
}

#[tokio::test]
async fn s_httpc_11_pinned_revisions_are_not_probed() {
    let old = upstream("one", "2025-06-18", Transport::Http).start().await;
    let plan = gateway().with_more("one", &old, json!({ "protocol": "2025-06-18" })).config(QUICK);
    detects(&old, plan).await;
    assert!(old.received("server/discover").is_empty());
    assert_eq!(old.received("initialize")[0].params()["protocolVersion"], "2025-06-18");
    let new = stateless_upstream("one").start().await;
    detects(&new, gateway().with_more("one", &new, json!({ "protocol": STATELESS })).config(QUICK)).await;
    assert!(new.received("initialize").is_empty());
}

#[tokio::test]
async fn s_life_02_an_upstream_of_an_unknown_revision_is_left_with_a_clear_word() {
    let strange = upstream("one", "2099-01-01", Transport::Http).lenient().start().await;
    let good = http_upstream("two").start().await;
    let gateway = gateway().with("one", &strange).with("two", &good).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["two__echo"]).await;
    eventually("the reason in the gateway's log", || async {
        gateway.stderr().contains("2099-01-01").then_some(())
    })
    .await;
    assert!(strange.received("tools/list").is_empty(), "nothing is asked of it");
}

#[tokio::test]
async fn s_stdio_05_every_kind_of_child_is_recognised() {
    for code in [-32601, -32602, -32000, -32700] {
        println!("=== a handshake child that answers the probe with {code}");
        let upstream = stdio_upstream("one")
            .on(
                "server/discover",
                move |mut call| async move { call.error(code, "what?", json!(null)).await },
            )
            .start()
            .await;
        detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    }
    println!("=== a handshake child that says nothing to the probe, and answers it late");
    let upstream = stdio_upstream("one")
        .on("server/discover", |mut call| async move {
            call.pause(1_600).await;
            call.error(-32601, "late", json!(null)).await;
        })
        .start()
        .await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    println!("=== a handshake child that dies of the probe");
    let upstream =
        stdio_upstream("one").on("server/discover", |call| async move { call.close().await }).start().await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    println!("=== a stateless child");
    let upstream = upstream_of_the_stateless_era().await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    assert!(upstream.received("initialize").is_empty());
}

#[tokio::test]
async fn s_stdio_05_a_stateless_child_that_starts_slowly_is_recognised_though_it_missed_the_probe() {
    let awake = Arc::new(AtomicBool::new(false));
    let upstream = upstream("one", STATELESS, Transport::Stdio)
        .lenient()
        .on("server/discover", move |mut call| {
            let in_time = awake.swap(true, Ordering::Relaxed);
            async move {
                if !in_time {
                    call.pause(1_600).await;
                }
                call.default().await;
            }
        })
        // It goes by its first message, which was the probe.
        .on(
            "initialize",
            |mut call| async move { call.error(-32600, "serving another era", json!(null)).await },
        )
        .start()
        .await;
    detects(&upstream, gateway().with("one", &upstream).config(QUICK)).await;
    assert_eq!(upstream.received("initialize").len(), 1, "one process was enough");
}

async fn upstream_of_the_stateless_era() -> Upstream {
    upstream("one", STATELESS, Transport::Stdio).start().await
}

#[tokio::test]
async fn s_life_14_an_upstream_that_comes_back_as_the_other_era_is_probed_again() {
    let is_modern = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_modern);
    let upstream = http_upstream("one")
        .lenient()
        .on("*", move |mut call| {
            let is_modern = switch.load(Ordering::Relaxed);
            async move {
                if !is_modern {
                    return call.default().await;
                }
                let meta = call.params()["_meta"]["io.modelcontextprotocol/protocolVersion"].clone();
                let result = match (meta == json!(STATELESS), call.method()) {
                    (false, _) => return call.http(404, &[], b"").await,
                    (true, "server/discover") => json!({
                        "supportedVersions": [STATELESS], "capabilities": { "tools": {} },
                        "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
                    }),
                    (true, "tools/list") => json!({
                        "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }],
                        "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
                    }),
                    (true, "tools/call") => {
                        json!({ "content": [{ "type": "text", "text": "modern now" }], "resultType": "complete" })
                    }
                    _ => return call.http(404, &[], b"").await,
                };
                call.result(result).await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");

    is_modern.store(true, Ordering::Relaxed);
    upstream.forget_sessions();
    eventually("a call that works in the new era", || async {
        let answer = client.call("one__echo", json!({})).await;
        (answer.json["result"]["content"][0]["text"] == "modern now").then_some(())
    })
    .await;
}

#[tokio::test]
async fn s_life_14_an_upstream_that_refuses_a_session_s_calls_by_modern_codes_is_probed_again() {
    let is_modern = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_modern);
    let upstream = http_upstream("one")
        .lenient()
        .on("*", move |mut call| {
            let is_modern = switch.load(Ordering::Relaxed);
            async move {
                if !is_modern {
                    return call.default().await;
                }
                let meta = call.params()["_meta"]["io.modelcontextprotocol/protocolVersion"].clone();
                if meta != json!(STATELESS) {
                    let refusal = format!(
                        r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32022,"message":"which version?","data":{{"supported":["{STATELESS}"]}}}}}}"#,
                        call.id()
                    );
                    return call.http(400, &[("Content-Type", "application/json")], refusal.as_bytes()).await;
                }
                let mut result = match call.method() {
                    "server/discover" => json!({ "supportedVersions": [STATELESS], "capabilities": { "tools": {} } }),
                    "tools/list" => json!({ "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }] }),
                    _ => json!({ "content": [{ "type": "text", "text": "modern now" }] }),
                };
                result["resultType"] = json!("complete");
                result["ttlMs"] = json!(0);
                result["cacheScope"] = json!("private");
                call.result(result).await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let clients = [gateway.handshake(HANDSHAKE).await, gateway.stateless()];
    for client in &clients {
        client.until_tools(&["one__echo"]).await;
        assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");
    }
    is_modern.store(true, Ordering::Relaxed);
    assert!(
        clients[0].call("one__echo", json!({})).await.json["result"]["content"][0]["text"] != "modern now"
    );
    for client in &clients {
        assert_eq!(client.call("one__echo", json!({})).await.text(), "modern now", "one failure is enough");
    }
}
