//! Following resources by listening, towards either era of client and of server (S-SUB, S-RES).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Exchange};
use crate::support::upstream::{Upstream, UpstreamPlan};
use crate::support::{
    HANDSHAKE, STATELESS, TRANSPORTS, Transport, eventually, gateway, http_upstream, stateless_upstream,
    stdio_upstream, upstream, within,
};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const UPDATED: &str = "notifications/resources/updated";

/// Follow resources; gives the stream and those that were acknowledged.
async fn follow(client: &Client, uris: &[&str]) -> (Exchange, Vec<String>) {
    let params = json!({ "notifications": { "resourceSubscriptions": uris } });
    let mut stream = client.open("subscriptions/listen", params).await;
    let first = stream.next().await.expect("a stream begins with its acknowledgement");
    assert_eq!(first.method(), ACKNOWLEDGED, "{}", first.raw);
    let honoured = first.params()["notifications"]["resourceSubscriptions"].as_array().cloned();
    let uris = honoured.unwrap_or_default();
    (stream, uris.iter().map(|uri| uri.as_str().expect("judged by the schema").to_owned()).collect())
}

/// URIs of the updates told within a moment.
async fn told(stream: &mut Exchange) -> Vec<String> {
    let messages = stream.messages_within(Duration::from_millis(400)).await;
    let updates = messages.iter().filter(|message| message.method() == UPDATED);
    updates.map(|update| update.params()["uri"].as_str().expect("judged by the schema").to_owned()).collect()
}

async fn update(upstream: &Upstream, uri: &str) {
    upstream.announce(UPDATED, json!({ "uri": uri })).await;
}

/// Wait until a stateless upstream is asked for exactly these resources, on one stream.
async fn until_followed(upstream: &Upstream, uris: &[&str]) {
    let expected = uris.to_vec();
    upstream
        .until_listens(&format!("{uris:?} alone"), |listens| {
            listens.len() == 1
                && listens[0]
                    .get("resourceSubscriptions")
                    .map_or(expected.is_empty(), |followed| *followed == json!(expected))
        })
        .await;
}

fn with_three(plan: UpstreamPlan) -> UpstreamPlan {
    plan.show(|shown| {
        shown.resources = ["x:1", "x:2", "x:3"].map(|uri| json!({ "uri": uri, "name": uri })).to_vec();
    })
}

#[tokio::test]
async fn s_sub_06_s_res_07_listeners_of_a_handshake_server_share_its_subscription() {
    for transport in TRANSPORTS {
        let upstream = with_three(upstream("one", HANDSHAKE, transport)).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        client.until_listed("resources", &["x:1", "x:2"]).await;
        let (mut one, honoured) = follow(&client, &["x:1", "x:2"]).await;
        assert_eq!(honoured, ["x:1", "x:2"]);
        let (mut two, _) = follow(&client, &["x:1"]).await;
        assert_eq!(upstream.received("resources/subscribe").len(), 2, "each resource once");
        upstream.until_standing().await;
        update(&upstream, "x:1").await;
        for stream in [&mut one, &mut two] {
            let updated = stream.until_method(UPDATED).await;
            assert_eq!(updated.params()["uri"], "x:1");
            assert_eq!(updated.params()["_meta"][SUBSCRIPTION], stream.id());
        }
        update(&upstream, "x:3").await;
        one.cut(true);
        let ended = upstream.until_received("resources/unsubscribe", 1).await;
        assert_eq!(ended.params()["uri"], "x:2", "the other is still followed");
        update(&upstream, "x:1").await;
        assert_eq!(told(&mut two).await, ["x:1"]);
        drop(two);
        assert_eq!(upstream.until_received("resources/unsubscribe", 2).await.params()["uri"], "x:1");
    }
}

#[tokio::test]
async fn s_sub_06_listeners_of_a_stateless_server_share_one_stream_that_grows_before_it_shrinks() {
    for transport in TRANSPORTS {
        let upstream = with_three(upstream("one", STATELESS, transport)).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        client.until_listed("resources", &["x:1", "x:2"]).await;
        until_followed(&upstream, &[]).await;
        let (mut one, honoured) = follow(&client, &["x:1", "x:2"]).await;
        assert_eq!(honoured, ["x:1", "x:2"]);
        assert_eq!(upstream.received("subscriptions/listen").len(), 2, "both additions are one new stream");
        let (mut two, _) = follow(&client, &["x:1"]).await;
        let (mut three, _) = follow(&client, &["x:1", "x:3"]).await;
        until_followed(&upstream, &["x:1", "x:2", "x:3"]).await;
        assert_eq!(
            upstream.received("subscriptions/listen").len(),
            3,
            "what is followed is not asked for again"
        );
        update(&upstream, "x:1").await;
        for stream in [&mut one, &mut two, &mut three] {
            let updated = stream.until_method(UPDATED).await;
            assert_eq!(updated.params()["uri"], "x:1");
            assert_eq!(updated.params()["_meta"][SUBSCRIPTION], stream.id());
        }
        update(&upstream, "x:3").await;
        assert_eq!(three.until_method(UPDATED).await.params()["uri"], "x:3");
        for stream in [&mut one, &mut two, &mut three] {
            stream.expect_quiet(Duration::from_millis(150)).await;
        }
        drop(one);
        until_followed(&upstream, &["x:1", "x:3"]).await;
        drop(three);
        until_followed(&upstream, &["x:1"]).await;
        update(&upstream, "x:1").await;
        assert_eq!(told(&mut two).await, ["x:1"]);
        drop(two);
        until_followed(&upstream, &[]).await;
    }
}

#[tokio::test]
async fn s_sub_06_no_update_is_lost_or_told_twice_while_the_stream_upstream_is_replaced() {
    let upstream = with_three(stateless_upstream("one")).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_listed("resources", &["x:1"]).await;
    let (mut first, _) = follow(&client, &["x:1"]).await;
    let mut others = Vec::new();
    let mut seen = 0;
    for round in 0..10 {
        let uri = ["x:2", "x:3"][round % 2];
        if round % 3 == 2 {
            others.clear();
        }
        let uris = ["x:2", uri];
        let following = follow(&client, &uris);
        let updating = async {
            update(&upstream, "x:1").await;
        };
        let ((stream, _), ()) = tokio::join!(following, updating);
        others.push(stream);
        seen += told(&mut first).await.len();
    }
    assert_eq!(seen, 10, "each of ten is told once");
}

#[tokio::test]
async fn s_sub_02_resources_that_cannot_be_followed_are_left_out() {
    let refusing = with_three(http_upstream("refusing"))
        .on("resources/subscribe", |mut call| async move {
            match call.params()["uri"].as_str() {
                Some("x:2") => call.error(-32_602, "not this one", Value::Null).await,
                // Nothing comes in time.
                Some("x:3") => call.disconnected().await,
                _ => call.default().await,
            }
        })
        .start()
        .await;
    let deaf = stateless_upstream("deaf")
        .capabilities(json!({ "resources": { "listChanged": true } }))
        .start()
        .await;
    // What it shows is not what it can tell of.
    let partly = stateless_upstream("partly")
        .on("subscriptions/listen", |mut call| async move {
            let id: Value = serde_json::from_str(call.id()).expect("a number");
            let params =
                json!({ "_meta": { SUBSCRIPTION: id }, "notifications": { "toolsListChanged": true } });
            call.notify(ACKNOWLEDGED, params).await;
            call.disconnected().await;
        })
        .start()
        .await;
    let gateway = gateway()
        .with("refusing", &refusing)
        .with("deaf", &deaf)
        .with("partly", &partly)
        .config("bounds: { list_budget: 1s }")
        .start()
        .await;
    let client = gateway.stateless();
    client.until_listed("resources", &["x:1", "static"]).await;
    let shown = client.request("resources/list", json!({})).await;
    assert_eq!(shown.names("resources").len(), 5);
    let all = ["x:1", "x:2", "x:3", "test://deaf/static", "test://partly/static", "y:unknown"];
    let (mut stream, honoured) =
        within(Duration::from_secs(5), "a bounded wait", follow(&client, &all)).await;
    assert_eq!(honoured, ["x:1"]);
    update(&refusing, "x:2").await;
    update(&refusing, "x:1").await;
    assert_eq!(told(&mut stream).await, ["x:1"]);
}

#[tokio::test]
async fn s_res_05_s_res_08_parts_and_wrapped_names_are_told_as_the_client_can_read_them() {
    for revision in [HANDSHAKE, STATELESS] {
        let same = |name| {
            upstream(name, revision, Transport::Http).show(move |shown| {
                shown.resources = vec![json!({ "uri": "x:dir", "name": format!("{name} dir") })]
            })
        };
        let (one, two) = (same("one").start().await, same("two").start().await);
        let gateway = gateway().with("one", &one).with("two", &two).start().await;
        let client = gateway.stateless();
        client.until_listed("resources", &["one dir", "two dir"]).await;
        let wrapped = "switchyard://two/x:dir";
        let (mut stream, honoured) = follow(&client, &["x:dir", wrapped]).await;
        assert_eq!(honoured, [wrapped, "x:dir"]);
        one.until(&format!("to be followed at {revision}"), |ledger| {
            ledger.iter().any(|received| received.raw.contains("x:dir")).then_some(())
        })
        .await;
        if revision == HANDSHAKE {
            one.until_standing().await;
            two.until_standing().await;
        } else {
            until_followed(&two, &["x:dir"]).await;
            until_followed(&one, &["x:dir"]).await;
        }
        update(&one, "x:dir").await;
        assert_eq!(stream.until_method(UPDATED).await.params()["uri"], "x:dir");
        update(&two, "x:dir/part").await;
        assert_eq!(stream.until_method(UPDATED).await.params()["uri"], "switchyard://two/x:dir/part");
    }
}

#[tokio::test]
async fn s_res_06_a_session_subscribes_to_a_stateless_server_by_the_gateway_s_listening() {
    for transport in TRANSPORTS {
        let upstream = with_three(upstream("one", STATELESS, transport)).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let session = gateway.handshake(HANDSHAKE).await;
        session.until_listed("resources", &["x:1", "x:2"]).await;
        let mut stream = session.standalone_stream().await;
        session.request("resources/subscribe", json!({ "uri": "x:1" })).await.result();
        session.request("resources/subscribe", json!({ "uri": "x:2" })).await.result();
        until_followed(&upstream, &["x:1", "x:2"]).await;
        update(&upstream, "x:1").await;
        let updated = stream.until_method(UPDATED).await;
        assert_eq!(updated.params()["uri"], "x:1");
        assert!(!updated.raw.contains(SUBSCRIPTION), "of the other hop: {}", updated.raw);
        // Not in a list, yet known by its template.
        session.request("resources/subscribe", json!({ "uri": "test://one/item/" })).await.result();
        session.request("resources/unsubscribe", json!({ "uri": "x:1" })).await.result();
        until_followed(&upstream, &["test://one/item/", "x:2"]).await;
        update(&upstream, "x:1").await;
        assert_eq!(told(&mut stream).await, [""; 0]);
        // A stateless client follows the same resource over the same stream, and goes on when the session has ended.
        let (mut listening, _) = follow(&gateway.stateless(), &["x:2"]).await;
        session.delete().await;
        until_followed(&upstream, &["x:2"]).await;
        update(&upstream, "x:2").await;
        assert_eq!(told(&mut listening).await, ["x:2"]);
        drop(listening);
        until_followed(&upstream, &[]).await;
    }
}

#[tokio::test]
async fn s_res_06_what_a_stateless_server_does_not_acknowledge_is_refused_by_its_uri() {
    let upstream = with_three(stateless_upstream("one"))
        .on("subscriptions/listen", |mut call| async move {
            let id: Value = serde_json::from_str(call.id()).expect("a number");
            let asked = call.params()["notifications"]["resourceSubscriptions"].as_array().cloned();
            let honoured: Vec<Value> =
                asked.unwrap_or_default().into_iter().filter(|uri| *uri != "x:2").collect();
            let params = json!({ "_meta": { SUBSCRIPTION: id }, "notifications": { "resourceSubscriptions": honoured } });
            call.notify(ACKNOWLEDGED, params).await;
            call.disconnected().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let session = gateway.handshake(HANDSHAKE).await;
    session.until_listed("resources", &["x:1", "x:2"]).await;
    session.request("resources/subscribe", json!({ "uri": "x:1" })).await.result();
    let refused = session.request("resources/subscribe", json!({ "uri": "x:2" })).await;
    refused.expect_error(200, -32_602);
    assert_eq!(refused.error()["data"]["uri"], "x:2");
}

#[tokio::test]
async fn s_sub_08_who_disconnects_while_it_is_being_subscribed_leaves_nothing_behind() {
    for transport in TRANSPORTS {
        let upstream = with_three(upstream("one", HANDSHAKE, transport))
            .on("resources/subscribe", |mut call| async move {
                call.pause(300).await;
                call.default().await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        client.until_listed("resources", &["x:1"]).await;
        let params = json!({ "notifications": { "resourceSubscriptions": ["x:1"] } });
        let leaving = client.open("subscriptions/listen", params).await;
        upstream.until_received("resources/subscribe", 1).await;
        leaving.cut(true);
        let (mut stream, honoured) = follow(&client, &["x:1"]).await;
        assert_eq!(honoured, ["x:1"], "{transport:?}: the next one asks for itself");
        upstream.until_standing().await;
        update(&upstream, "x:1").await;
        assert_eq!(told(&mut stream).await, ["x:1"]);
    }
}

#[tokio::test]
async fn s_sub_11_f28_a_followed_resource_keeps_a_process_and_listening_for_lists_does_not() {
    for revision in [HANDSHAKE, STATELESS] {
        let upstream = with_three(upstream("one", revision, Transport::Stdio)).start().await;
        let gateway = gateway().with_more("one", &upstream, json!({ "idle_stop": "1s" })).start().await;
        let client = gateway.stateless();
        client.until_listed("resources", &["x:1"]).await;
        let state = async || {
            let servers = gateway.admin_get("/api/v1/servers").await.json();
            servers[0]["state"].as_str().expect("a state").to_owned()
        };
        let (stream, honoured) = follow(&client, &["x:1"]).await;
        assert_eq!(honoured, ["x:1"]);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(state().await, "ready", "{revision}: somebody waits for updates");
        drop(stream);
        eventually("the process to be stopped", || async { (state().await == "idle").then_some(()) }).await;
        // Whoever follows it again starts it again.
        let (mut stream, honoured) = follow(&client, &["x:1"]).await;
        assert_eq!(honoured, ["x:1"], "{revision}");
        update(&upstream, "x:1").await;
        assert_eq!(told(&mut stream).await, ["x:1"], "{revision}");
    }
}

#[tokio::test]
async fn s_sub_09_subscriptions_of_a_handshake_server_are_renewed_for_listeners() {
    let upstream = with_three(stdio_upstream("one")).start().await;
    let gateway = gateway()
        .with("one", &upstream)
        .config("bounds: { backoff_first: 100ms, backoff_longest: 300ms }")
        .start()
        .await;
    let client = gateway.stateless();
    client.until_listed("resources", &["x:1"]).await;
    let (mut stream, _) = follow(&client, &["x:1"]).await;
    let pid = upstream.births()[0]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    crate::support::gateway::signal_process(
        pid.expect("a child tells its pid"),
        rustix::process::Signal::KILL,
    );
    upstream.until_received("resources/subscribe", 2).await;
    update(&upstream, "x:1").await;
    assert_eq!(stream.until_method(UPDATED).await.params()["uri"], "x:1");
}

#[tokio::test]
async fn s_https_17_s_sub_08_a_listener_that_takes_nothing_is_left_and_lets_go() {
    let upstream = with_three(http_upstream("one")).quiet().start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { write_stall: 1s }").start().await;
    let client = gateway.stateless();
    client.until_listed("resources", &["x:1"]).await;
    let (deaf, _) = follow(&client, &["x:1"]).await;
    let (other, _) = follow(&client, &["x:2"]).await;
    upstream.until_standing().await;
    let flood = async {
        let words = "x".repeat(32 * 1024);
        loop {
            for part in 0..100 {
                let params = json!({ "uri": format!("x:1/{part}"), "_meta": { "words": words } });
                upstream.announce(UPDATED, params).await;
            }
        }
    };
    tokio::select! {
        () = flood => {}
        ended = upstream.until_received("resources/unsubscribe", 1) => {
            assert_eq!(ended.params()["uri"], "x:1");
        }
    }
    drop(deaf);
    let mut other = other;
    update(&upstream, "x:2").await;
    assert_eq!(other.until_method(UPDATED).await.params()["uri"], "x:2", "others are told as ever");
}

#[tokio::test]
async fn s_sub_05_a_server_that_cannot_be_asked_is_left_out_at_once() {
    let mut upstream = with_three(stateless_upstream("one")).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_listed("resources", &["x:1"]).await;
    until_followed(&upstream, &[]).await;
    upstream.kill().await;
    let (_stream, honoured) =
        within(Duration::from_secs(3), "a bounded wait", follow(&client, &["x:1"])).await;
    assert_eq!(honoured, [""; 0]);
    let session = gateway.handshake(HANDSHAKE).await;
    let asked = session.request("resources/subscribe", json!({ "uri": "x:1" }));
    within(Duration::from_secs(10), "a failure", asked)
        .await
        .expect_failure("upstream_unavailable", "not_sent");
}
