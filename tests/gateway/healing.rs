//! Upstream sessions that are forgotten, and what becomes of the calls that meet this.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::client::Client;
use crate::support::gateway::signal_process;
use crate::support::{
    Call, HANDSHAKE, STATELESS, Transport, Upstream, eventually, gateway, http_upstream, upstream,
};

/// Callers at once.
const CALLERS: usize = 20;

async fn call_together(client: &Client, round: usize) {
    let mut running = Vec::new();
    for n in 0..CALLERS {
        running.push((n, client.open_call("one__echo", json!({ "n": n, "round": round })).await));
    }
    for (n, exchange) in running {
        let answer = exchange.answer().await;
        assert_eq!(answer.text(), format!(r#"one echoes {{"n":{n},"round":{round}}}"#), "{}", answer.raw);
    }
}

/// How often each call of a round was received.
fn sent(upstream: &Upstream, round: usize) -> HashMap<u64, usize> {
    let mut times = HashMap::new();
    for call in upstream.received("tools/call") {
        let arguments = &call.params()["arguments"];
        if arguments["round"] == json!(round) {
            *times.entry(arguments["n"].as_u64().expect("a number")).or_default() += 1;
        }
    }
    times
}

/// How many sessions calls were made in.
fn answered_sessions(upstream: &Upstream) -> usize {
    let mut sessions: Vec<_> =
        upstream.received("tools/call").iter().filter_map(|call| call.session().map(str::to_owned)).collect();
    sessions.sort_unstable();
    sessions.dedup();
    sessions.len()
}

#[tokio::test]
async fn s_httpc_04_f09_twenty_callers_of_a_forgotten_session_get_their_answers_from_one_new_one() {
    // A client of the stateless era has no session of its own: it uses the gateway's.
    for (share, revision) in
        [("session", HANDSHAKE), ("principal", HANDSHAKE), ("all", HANDSHAKE), ("session", STATELESS)]
    {
        println!("--- shared by {share}, client of {revision}");
        let upstream = http_upstream("one")
            .on("tools/call", |mut call| async move {
                // Most are on their way when the first hears that the session is gone.
                call.pause(call.params()["arguments"]["n"].as_u64().expect("a number") * 5).await;
                call.default().await;
            })
            .start()
            .await;
        let gateway = gateway().with_more("one", &upstream, json!({ "share": share })).start().await;
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        call_together(&client, 0).await;
        // Again and again: a session that served well is replaced without a wait.
        for round in 1..=3 {
            upstream.forget_sessions();
            call_together(&client, round).await;
            let times = sent(&upstream, round);
            assert_eq!(times.len(), CALLERS);
            assert!(times.values().all(|times| *times <= 2), "repeated once at most: {times:?}");
            assert!(answered_sessions(&upstream) <= round + 1, "one new session for all");
        }
    }
}

#[tokio::test]
async fn s_httpc_04_what_the_session_had_set_is_set_again_once() {
    let upstream = http_upstream("one").start().await;
    let more = json!({ "share": "principal" });
    let gateway = gateway().with_more("one", &upstream, more).start().await;
    let uri = json!({ "uri": "test://one/static" });
    let (mut clients, mut streams) = (Vec::new(), Vec::new());
    for level in ["error", "info"] {
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.request("logging/setLevel", json!({ "level": level })).await.result();
        client.request("resources/subscribe", uri.clone()).await.result();
        streams.push(client.standalone_stream().await);
        clients.push(client);
    }
    let before = upstream.until_received("resources/subscribe", 1).await;
    upstream.until_standing_for(&before).await;
    let levels = upstream.received("logging/setLevel").len();
    upstream.forget_sessions();
    call_together(&clients[0], 1).await;

    let renewed = upstream.until_received("resources/subscribe", 2).await;
    assert_ne!(renewed.session(), before.session());
    let set = upstream.until_received("logging/setLevel", levels + 1).await;
    assert_eq!(
        (set.session(), &set.params()["level"]),
        (renewed.session(), &json!("info")),
        "the more talkative wish"
    );
    upstream.until_standing_for(&renewed).await;
    upstream.announce("notifications/resources/updated", uri).await;
    for stream in &mut streams {
        stream.until_method("notifications/resources/updated").await;
    }
    call_together(&clients[1], 2).await;
    assert_eq!(upstream.received("resources/subscribe").len(), 2, "once for both");
    assert_eq!(upstream.received("logging/setLevel").len(), levels + 1);
}

#[tokio::test]
async fn s_res_07_a_subscription_that_is_refused_when_it_is_renewed_is_asked_for_again() {
    let upstream = http_upstream("one")
        .on("resources/subscribe", |mut call| async move {
            match call.count() {
                2 => call.error(-32000, "not any longer", Value::Null).await,
                _ => call.default().await,
            }
        })
        .start()
        .await;
    let gateway = gateway().with_more("one", &upstream, json!({ "share": "principal" })).start().await;
    let uri = json!({ "uri": "test://one/static" });
    let (one, other) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
    one.until_tools(&["one__echo"]).await;
    one.request("resources/subscribe", uri.clone()).await.result();
    upstream.forget_sessions();
    call_together(&one, 1).await;
    upstream.until_received("resources/subscribe", 2).await;
    eventually("the refusal to be logged", || async {
        gateway.stderr().contains("refused when it was renewed").then_some(())
    })
    .await;
    for client in [&other, &one] {
        client.request("resources/subscribe", uri.clone()).await.result();
    }
    assert_eq!(upstream.received("resources/subscribe").len(), 3, "asked once more, and accepted for both");
}

#[tokio::test]
async fn s_res_07_what_is_unsubscribed_while_subscriptions_are_renewed_is_not_renewed_any_more() {
    let let_go = Arc::new(Notify::new());
    let held = Arc::clone(&let_go);
    let upstream = http_upstream("one")
        .on("resources/subscribe", move |mut call| {
            let held = Arc::clone(&held);
            async move {
                // The first of those that are renewed.
                if call.count() == 4 {
                    held.notified().await;
                }
                call.default().await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with_more("one", &upstream, json!({ "share": "principal" })).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let uris = ["a", "b", "c"].map(|item| json!({ "uri": format!("test://one/item/{item}") }));
    for uri in &uris {
        client.request("resources/subscribe", uri.clone()).await.result();
    }
    upstream.forget_sessions();
    call_together(&client, 1).await;
    let renewed = upstream.until_received("resources/subscribe", 4).await;
    let (kept, left): (Vec<_>, Vec<_>) = uris.iter().partition(|uri| renewed.params()["uri"] == uri["uri"]);
    for uri in &left {
        client.request("resources/unsubscribe", (*uri).clone()).await.result();
    }
    let_go.notify_one();
    // This one has to wait for the renewal of the same.
    client.request("resources/unsubscribe", kept[0].clone()).await.result();
    client.request("resources/subscribe", kept[0].clone()).await.result();
    let asked: Vec<_> = upstream.received("resources/subscribe")[3..]
        .iter()
        .map(|asked| asked.params()["uri"].clone())
        .collect();
    assert_eq!(asked, vec![kept[0]["uri"].clone(); 2], "renewed and asked for, and no other");
    assert_eq!(upstream.received("resources/unsubscribe").len(), 3);
}

#[tokio::test]
async fn s_httpc_04_a_call_under_way_is_not_repeated_and_its_failure_says_that_it_can_be() {
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let told = Arc::clone(&told);
            async move {
                if call.params()["arguments"]["long"] == true {
                    call.stream().await;
                    call.say_bytes(b": at work\n\n").await;
                    told.notify_one();
                    return call.disconnected().await;
                }
                call.default().await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let long = client.open_call("one__echo", json!({ "long": true })).await;
    begun.notified().await;
    upstream.forget_sessions();
    call_together(&client, 1).await;
    let lost = long.answer().await;
    lost.expect_failure("upstream_lost", "unknown");
    assert_eq!(lost.failure()["retryable"], true, "{}", lost.raw);
    let sent = upstream.received("tools/call");
    assert_eq!(sent.iter().filter(|call| call.params()["arguments"]["long"] == true).count(), 1);
    assert_eq!(client.request("ping", json!({})).await.status, 200, "the client's session lives on");
}

#[tokio::test]
async fn i10_f14_f15_a_session_whose_own_connection_stands_does_without_the_shared_one() {
    for (transport, share) in
        [(Transport::Http, "session"), (Transport::Stdio, "session"), (Transport::Stdio, "principal")]
    {
        println!("--- {transport:?}, a connection for each {share}");
        let is_down = Arc::new(AtomicBool::new(false));
        let (greeting, probing, pinging) = (Arc::clone(&is_down), Arc::clone(&is_down), Arc::clone(&is_down));
        let refuse = |is_down: Arc<AtomicBool>| {
            move |mut call: Call| {
                let is_down = is_down.load(Ordering::Relaxed);
                async move {
                    match (is_down, transport) {
                        (false, _) => call.default().await,
                        (true, Transport::Http) => call.http(503, &[], b"").await,
                        (true, Transport::Stdio) => call.close().await,
                    }
                }
            }
        };
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("initialize", refuse(greeting))
            .on("server/discover", refuse(probing))
            .on("ping", move |mut call| {
                let shared = call.latest("tools/list");
                let is_over = pinging.load(Ordering::Relaxed) && shared.session() == call.received.session();
                async move {
                    match is_over && transport == Transport::Http {
                        true => call.http(404, &[], b"").await,
                        false => call.default().await,
                    }
                }
            })
            .start()
            .await;
        let gateway = gateway()
            .with_more("one", &upstream, json!({ "share": share }))
            .config("bounds: { ping_every: 300ms, backoff_first: 100ms, backoff_longest: 500ms }")
            .start()
            .await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        call_together(&client, 0).await;

        is_down.store(true, Ordering::Relaxed);
        if transport == Transport::Stdio {
            let shared = upstream.births().into_iter().next().expect("it was born first");
            let pid = shared["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a process id");
            signal_process(pid, rustix::process::Signal::KILL);
        }
        eventually("the shared connection to be down", || async {
            let servers = gateway.admin_get("/api/v1/servers").await.json();
            servers.to_string().contains(r#""state":"down""#).then_some(())
        })
        .await;
        for round in 1..=3 {
            call_together(&client, round).await;
            assert_eq!(sent(&upstream, round).len(), CALLERS);
        }
        let late = gateway.handshake(HANDSHAKE).await;
        late.call("one__echo", json!({})).await.expect_failure("upstream_unavailable", "not_sent");
        is_down.store(false, Ordering::Relaxed);
        eventually("the late one to be served as well", || async {
            late.call("one__echo", json!({})).await.raw.contains("one echoes").then_some(())
        })
        .await;
    }
}
