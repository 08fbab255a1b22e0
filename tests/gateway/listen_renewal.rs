//! Listening that an upstream interrupts, refuses for a while, or turns into something else (S-SUB, S-RES).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::signal_process;
use crate::support::upstream::{Upstream, UpstreamPlan};
use crate::support::{
    HANDSHAKE, STATELESS, TRANSPORTS, eventually, gateway, http_upstream, stateless_upstream, stdio_upstream,
    upstream,
};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const UPDATED: &str = "notifications/resources/updated";
const QUICK: &str = "bounds: { backoff_first: 100ms, backoff_longest: 300ms }";

fn with_two(plan: UpstreamPlan) -> UpstreamPlan {
    plan.show(|shown| {
        shown.resources = ["x:1", "x:2"].map(|uri| json!({ "uri": uri, "name": uri })).to_vec();
    })
}

async fn until_followed(upstream: &Upstream, uris: &[&str]) {
    upstream
        .until_listens(&format!("{uris:?}"), |listens| {
            listens.iter().any(|honoured| honoured["resourceSubscriptions"] == json!(uris))
        })
        .await;
}

async fn update(upstream: &Upstream, uri: &str) {
    upstream.announce(UPDATED, json!({ "uri": uri })).await;
}

#[tokio::test]
async fn s_sub_09_a_resource_left_out_of_one_renewal_is_told_of_again_to_who_still_follows_it() {
    for transport in TRANSPORTS {
        let is_denied = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&is_denied);
        let upstream = with_two(upstream("one", STATELESS, transport))
            .on("subscriptions/listen", move |mut call| {
                let is_denied = switch.load(Ordering::Relaxed);
                async move {
                    if !is_denied {
                        return call.default().await;
                    }
                    let id: Value = serde_json::from_str(call.id()).expect("a number");
                    call.notify(ACKNOWLEDGED, json!({ "_meta": { SUBSCRIPTION: id }, "notifications": {} }))
                        .await;
                    call.disconnected().await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let session = gateway.handshake(HANDSHAKE).await;
        session.until_listed("resources", &["x:1"]).await;
        let mut stream = session.standalone_stream().await;
        session.request("resources/subscribe", json!({ "uri": "x:1" })).await.result();
        until_followed(&upstream, &["x:1"]).await;
        let asked = upstream.received("subscriptions/listen").len();
        is_denied.store(true, Ordering::Relaxed);
        upstream.end_listens(true).await;
        upstream.until_received("subscriptions/listen", asked + 2).await;
        is_denied.store(false, Ordering::Relaxed);
        until_followed(&upstream, &["x:1"]).await;
        // What happened meanwhile is not known.
        assert_eq!(stream.until_method(UPDATED).await.params()["uri"], "x:1");
        update(&upstream, "x:1").await;
        assert_eq!(stream.until_method(UPDATED).await.params()["uri"], "x:1");
    }
}

#[tokio::test]
async fn s_sub_09_s_res_07_a_renewal_that_a_handshake_server_refuses_once_is_tried_again() {
    let upstream = with_two(stdio_upstream("one"))
        .on("resources/subscribe", |mut call| async move {
            match call.count() {
                2 => call.error(-32_603, "not now", Value::Null).await,
                _ => call.default().await,
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let session = gateway.handshake(HANDSHAKE).await;
    session.until_listed("resources", &["x:1"]).await;
    let mut stream = session.standalone_stream().await;
    session.request("resources/subscribe", json!({ "uri": "x:1" })).await.result();
    for birth in upstream.births() {
        let pid = birth["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        signal_process(pid.expect("a child tells its pid"), rustix::process::Signal::KILL);
    }
    upstream.until_received("resources/subscribe", 3).await;
    update(&upstream, "x:1").await;
    assert_eq!(stream.until_method(UPDATED).await.params()["uri"], "x:1");
}

#[tokio::test]
async fn s_sub_09_a_server_that_once_knows_no_listening_though_it_declares_it_is_listened_to_later() {
    for transport in TRANSPORTS {
        let upstream = with_two(upstream("one", STATELESS, transport))
            .on("subscriptions/listen", |mut call| async move {
                match call.count() {
                    1 => call.error(-32_601, "what is that?", Value::Null).await,
                    _ => call.default().await,
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.stateless();
        client.until_tools(&["one__echo"]).await;
        // Nobody was there to hear it: it is looked at when the server is listened to.
        upstream.show(|shown| {
            shown.tools.push(json!({ "name": "late", "inputSchema": { "type": "object" } }));
        });
        upstream.until_listens("in the end", |listens| listens.len() == 1).await;
        client.until_tools(&["one__late"]).await;
    }
}

#[tokio::test]
async fn s_life_14_an_answer_of_the_other_era_to_a_listening_has_the_era_looked_at_again() {
    let is_old = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_old);
    let upstream = stateless_upstream("one")
        .lenient()
        .on("*", move |mut call| {
            let is_old = switch.load(Ordering::Relaxed);
            async move {
                match (is_old, call.method()) {
                    (false, _) => call.default().await,
                    _ => call.http(400, &[], b"no session").await,
                }
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    gateway.stateless().until_tools(&["one__echo"]).await;
    upstream.until_listens("at first", |listens| listens.len() == 1).await;
    let probes = upstream.received("server/discover").len();
    is_old.store(true, Ordering::Relaxed);
    upstream.end_listens(false).await;
    upstream.until_received("server/discover", probes + 1).await;
    upstream.until_received("initialize", 1).await;
}

#[tokio::test]
async fn s_disc_03_s_sub_06_what_a_server_declares_later_is_listened_for_later() {
    let upstream = with_two(stateless_upstream("one"))
        .on("server/discover", |mut call| async move {
            let told = call.count() > 1;
            let body = json!({
                "supportedVersions": [STATELESS], "resultType": "complete", "ttlMs": 600, "cacheScope": "public",
                "capabilities": { "tools": { "listChanged": true }, "resources": { "listChanged": told } },
            });
            call.result(body).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { relist_every: 300ms }").start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    upstream
        .until_listens("for tools alone", |listens| *listens == [json!({ "toolsListChanged": true })])
        .await;
    eventually("resources to be listened for", || async {
        client.request("tools/list", json!({})).await;
        let listens = upstream.listens();
        listens.iter().any(|honoured| honoured["resourcesListChanged"] == true).then_some(())
    })
    .await;
    upstream.show(|shown| shown.resources.push(json!({ "uri": "x:3", "name": "x:3" })));
    upstream.announce("notifications/resources/list_changed", json!({})).await;
    client.until_listed("resources", &["x:3"]).await;
}

#[tokio::test]
async fn s_sub_08_a_subscription_that_nobody_waits_for_any_longer_is_ended_upstream() {
    for transport in TRANSPORTS {
        let upstream = with_two(upstream("one", HANDSHAKE, transport))
            .on("resources/subscribe", |mut call| async move {
                call.pause(700).await;
                call.default().await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config("bounds: { list_budget: 300ms }").start().await;
        let client = gateway.stateless();
        client.until_listed("resources", &["x:1"]).await;
        let params = json!({ "notifications": { "resourceSubscriptions": ["x:1"] } });
        let mut stream = client.open("subscriptions/listen", params).await;
        let first = stream.next().await.expect("a stream begins with its acknowledgement");
        assert_eq!(first.params()["notifications"].get("resourceSubscriptions"), None, "{}", first.raw);
        let ended = upstream.until_received("resources/unsubscribe", 1).await;
        assert_eq!(ended.params()["uri"], "x:1");
        stream.expect_quiet(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn s_life_14_s_res_07_what_a_session_follows_is_followed_when_the_server_comes_back_stateless() {
    let mut upstream = with_two(http_upstream("one")).start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let session = gateway.handshake(HANDSHAKE).await;
    session.until_listed("resources", &["x:1"]).await;
    let mut stream = session.standalone_stream().await;
    session.request("resources/subscribe", json!({ "uri": "x:1" })).await.result();
    let address = upstream.address();
    upstream.kill().await;
    let plan = with_two(stateless_upstream("one")).lenient().on("tools/call", |mut call| async move {
        match call.params().get("_meta") {
            Some(_) => call.default().await,
            None => call.error(-32_602, "_meta is missing", Value::Null).await,
        }
    });
    let upstream = plan.start_at(address).await.expect("its address is free");
    // Over HTTP a server is another when it answers as another.
    eventually("a call in the new era", || async {
        let answer = session.call("one__echo", json!({})).await;
        answer.json["result"]["content"].is_array().then_some(())
    })
    .await;
    until_followed(&upstream, &["x:1"]).await;
    update(&upstream, "x:1").await;
    assert_eq!(stream.until_method(UPDATED).await.params()["uri"], "x:1");
}
