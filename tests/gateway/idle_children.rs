//! Child processes that nobody uses: stopped, remembered, and started again for the first who needs them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::is_running;
use crate::support::{
    Gateway, HANDSHAKE, STATELESS, Transport, Upstream, eventually, gateway, stdio_upstream, upstream,
};

const SOON: &str = "1s";

/// Longer than a child may be idle here, and than re-listing waits.
const WELL_BEYOND: Duration = Duration::from_millis(2500);

fn births(upstream: &Upstream) -> usize {
    upstream.births().len()
}

async fn until_stopped(upstream: &Upstream, child: usize) {
    let pid = upstream.births()[child]["pid"].as_u64().expect("a number") as u32;
    eventually("an idle child to be stopped", || async { (!is_running(pid).await).then_some(()) }).await;
}

async fn server(gateway: &Gateway) -> Value {
    let servers: Value =
        serde_json::from_str(&gateway.admin_get("/api/v1/servers").await.body).expect("JSON");
    servers.as_array().or_else(|| servers["servers"].as_array()).expect("a list of servers")[0].clone()
}

#[tokio::test]
async fn s_stdio_03_idle_children_are_stopped_and_lists_stay() {
    let upstream = stdio_upstream("one").start().await;
    let gateway = gateway().with_more("one", &upstream, json!({ "idle_stop": SOON })).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    assert_eq!(births(&upstream), 1, "no child for a session before its first call");
    client.call("one__echo", json!({})).await.text();
    assert_eq!(births(&upstream), 2);
    until_stopped(&upstream, 0).await;
    until_stopped(&upstream, 1).await;

    eventually("the server to be called idle", || async {
        (server(&gateway).await["state"] == "idle").then_some(())
    })
    .await;
    let readiness: Value = serde_json::from_str(&gateway.admin_get("/readyz").await.body).expect("JSON");
    assert_eq!(readiness["servers_ready"], 1, "{readiness}");
    assert_eq!(
        client.until_tools(&["one__echo"]).await.names("tools"),
        ["one__echo"],
        "from the last good copy"
    );
    client.request("prompts/list", json!({})).await.result();
    assert_eq!(births(&upstream), 2, "lists wake nobody");

    assert_eq!(client.call("one__echo", json!({ "again": 1 })).await.text(), r#"one echoes {"again":1}"#);
    assert_eq!(births(&upstream), 3, "the session's own child and no other");
}

#[tokio::test]
async fn s_stdio_03_all_who_wait_for_a_stopped_child_share_one_start() {
    for revision in [HANDSHAKE, STATELESS] {
        let upstream = upstream("one", revision, Transport::Stdio).start().await;
        let gateway = gateway().with_more("one", &upstream, json!({ "idle_stop": SOON })).start().await;
        let client = gateway.stateless();
        client.until_tools(&["one__echo"]).await;
        let before = births(&upstream);
        until_stopped(&upstream, before - 1).await;
        let mut running = Vec::new();
        for n in 0..20 {
            running.push((n, client.open_call("one__echo", json!({ "n": n })).await));
        }
        for (n, exchange) in running {
            assert_eq!(exchange.answer().await.text(), format!(r#"one echoes {{"n":{n}}}"#));
        }
        assert_eq!(births(&upstream), before + 1);
    }
}

#[tokio::test]
async fn s_stdio_03_relisting_neither_keeps_a_child_awake_nor_wakes_it() {
    // It never says that its lists change, so it is listed again and again.
    let upstream = stdio_upstream("one").capabilities(json!({ "tools": {} })).start().await;
    let more = json!({ "idle_stop": "2s" });
    let gateway =
        gateway().with_more("one", &upstream, more).config("bounds: { relist_every: 200ms }").start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    upstream.until_received("tools/list", 2).await;
    until_stopped(&upstream, 0).await;
    let listed = upstream.received("tools/list").len();
    tokio::time::sleep(WELL_BEYOND).await;
    assert_eq!(births(&upstream), 1, "the clock alone starts nothing");
    assert_eq!(upstream.received("tools/list").len(), listed);

    client.call("one__echo", json!({})).await.text();
    upstream.until_received("tools/list", listed + 1).await;
    client.until_tools(&["one__echo"]).await;
    upstream.until_received("tools/list", listed + 2).await;
    assert_eq!(births(&upstream), 2, "awake, it is listed by the clock again for those who want to know");
}

#[tokio::test]
async fn f10_a_child_that_wakes_with_other_tools_has_its_lists_told_anew() {
    let upstream = stdio_upstream("one").start().await;
    let gateway = gateway().with_more("one", &upstream, json!({ "idle_stop": SOON })).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    until_stopped(&upstream, 0).await;
    drop(stream.messages_within(Duration::from_millis(400)).await);
    upstream.show(|shown| shown.tools[0]["name"] = json!("shout"));
    gateway.stateless().call("one__echo", json!({})).await;
    stream.until_method("notifications/tools/list_changed").await;
    assert_eq!(client.until_tools(&["one__shout"]).await.names("tools"), ["one__shout"]);
    client.call("one__echo", json!({})).await.expect_error(200, -32602);
}

#[tokio::test]
async fn s_stdio_03_a_child_that_works_or_is_listened_to_is_not_idle() {
    let upstream = stdio_upstream("one")
        .on("tools/call", |mut call| async move {
            if call.params()["arguments"]["slow"] == true {
                call.pause(2500).await;
            }
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with_more("one", &upstream, json!({ "idle_stop": SOON })).start().await;
    let (works, listens) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
    works.until_tools(&["one__echo"]).await;
    listens.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
    assert_eq!(works.call("one__echo", json!({ "slow": true })).await.text(), "done");
    let mut stream = listens.standalone_stream().await;
    upstream.announce("notifications/resources/updated", json!({ "uri": "test://one/static" })).await;
    stream.until_method("notifications/resources/updated").await;
    let children = births(&upstream);
    listens.request("resources/unsubscribe", json!({ "uri": "test://one/static" })).await.result();
    assert_eq!(births(&upstream), children, "it was there all the time");
}

#[tokio::test]
async fn s_stdio_03_a_principal_s_child_sleeps_and_wakes_for_all_its_sessions() {
    let upstream = stdio_upstream("one").start().await;
    let more = json!({ "idle_stop": SOON, "share": "principal" });
    let gateway = gateway().with_more("one", &upstream, more).start().await;
    let (ada, bob) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
    ada.until_tools(&["one__echo"]).await;
    for client in [&ada, &bob] {
        client.call("one__echo", json!({})).await.text();
    }
    assert_eq!(births(&upstream), 2);
    until_stopped(&upstream, 1).await;
    let running = [ada.open_call("one__echo", json!({})).await, bob.open_call("one__echo", json!({})).await];
    for exchange in running {
        exchange.answer().await.text();
    }
    assert_eq!(births(&upstream), 3, "one for both");
}
