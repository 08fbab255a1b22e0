//! How the listener treats connections: small answers at once, leaving seen at once, limits on bodies and sockets, the
//! orderly end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;

use crate::support::client::{Client, Connection};
use crate::support::{
    Gateway, HANDSHAKE, STATELESS, Transport, Upstream, eventually, gateway, http_upstream, upstream, within,
};

#[tokio::test]
async fn small_writes_leave_at_once_and_wait_for_no_acknowledgement() {
    const CALLS: usize = 40;
    let seen = Arc::new(Notify::new());
    let told = Arc::clone(&seen);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let told = Arc::clone(&told);
            async move {
                call.progress(1.0, 2.0).await;
                told.notified().await;
                call.text("done").await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut waits = Vec::new();
    for _ in 0..CALLS {
        // On one connection: a kernel that expects to send soon acknowledges late, after 40 ms, together with what it sends.
        let mut running = client.open_call_with_progress("one__echo", json!(1)).await;
        running.until_method("notifications/progress").await;
        let asked = tokio::time::Instant::now();
        seen.notify_one();
        let mut answer = running.answer().await;
        waits.push(asked.elapsed());
        assert_eq!(answer.text(), "done");
        client.keep(&mut answer);
    }
    // A listener that gathers small writes until the last one is acknowledged is slow every time; a busy machine is
    // slow at times.
    waits.sort_unstable();
    assert!(waits[CALLS / 4] < Duration::from_millis(30), "small writes are held back: {waits:?}");
}

/// A connection on which a call runs.
async fn calling(client: &Client, upstream: &Upstream, count: usize) -> Connection {
    let params = client.dress(json!({ "name": "one__echo", "arguments": {} }));
    let headers = client.headers("tools/call", &params);
    let body = json!({ "jsonrpc": "2.0", "id": 900, "method": "tools/call", "params": params }).to_string();
    let exchange = client.open_raw(json!(900), "tools/call", headers, body.as_bytes()).await;
    upstream.until_received("tools/call", count).await;
    exchange.into_connection()
}

#[tokio::test]
async fn s_https_12_a_half_closed_connection_is_a_client_that_left_in_both_eras() {
    for revision in [HANDSHAKE, STATELESS] {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let finish = Arc::new(Notify::new());
        let may_finish = Arc::clone(&finish);
        let upstream = upstream("one", HANDSHAKE, Transport::Http)
            .on("tools/call", move |mut call| {
                let (tell, may_finish) = (tell.clone(), Arc::clone(&may_finish));
                async move {
                    let was_cancelled = tokio::select! {
                        () = call.cancelled() => true,
                        () = may_finish.notified() => false,
                    };
                    tell.send(was_cancelled).await.ok();
                    call.text("done").await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        let mut connection = calling(&client, &upstream, 1).await;
        connection.finish_writing().await;
        let rest = connection.read_to_close(Duration::from_secs(5)).await;
        assert!(rest.is_some(), "{revision}: the gateway still holds the connection of a client that left");
        if revision == HANDSHAKE {
            finish.notify_one();
        }
        let was_cancelled = within(Duration::from_secs(5), "the call to end upstream", told.recv()).await;
        assert_eq!(was_cancelled, Some(revision == STATELESS), "{revision}");
    }
}

#[tokio::test]
async fn s_https_11_a_closed_standalone_stream_makes_room_for_the_next() {
    let gateway = gateway().start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let mut open = client.standalone_stream().await;
    for _ in 0..3 {
        assert_eq!(client.get().await.head().await.status(), 409, "one at a time");
        drop(open);
        open = eventually("the closed stream to be given up", || async {
            let mut next = client.get().await;
            (next.head().await.status() == 200).then_some(next)
        })
        .await;
    }
}

#[tokio::test]
async fn the_limit_of_a_body_is_the_configured_one_and_not_the_library_s() {
    let upstream = http_upstream("one").start().await;
    let plan = gateway().with("one", &upstream);
    let (usual, narrow) = (plan.start().await, plan.config("bounds: { request_body: 2KiB }").start().await);
    for revision in [HANDSHAKE, STATELESS] {
        let client = usual.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        // Libraries stop at 256 KiB or 2 MiB by themselves.
        let arguments = json!({ "text": "x".repeat(3 << 20) });
        let answer = client.call("one__echo", arguments.clone()).await;
        assert_eq!(answer.text(), format!("one echoes {arguments}"));
        let beyond =
            client.open_call("one__echo", json!({ "text": "x".repeat(5 << 20) })).await.whole().await;
        assert_eq!(beyond.status, 413, "{}", beyond.body);

        let client = narrow.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({ "text": "x".repeat(1_000) })).await.result();
        let beyond = client.open_call("one__echo", json!({ "text": "x".repeat(2_000) })).await.whole().await;
        assert_eq!(
            (beyond.status, &beyond.json()["error"]["data"]["reason"]),
            (413, &json!("request_too_large"))
        );
    }
    assert_eq!(upstream.received("tools/call").len(), 4, "what is too large is not sent");
}

/// Ask on this connection; `None` when nobody takes the request up soon.
async fn is_served(gateway: &Gateway, connection: Connection) -> Option<Connection> {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let headers = gateway.endpoint.post_headers();
    let mut exchange = connection.send("POST", "/mcp", headers, body.as_bytes()).await;
    let answered = tokio::time::timeout(Duration::from_millis(700), exchange.head()).await.is_ok();
    answered.then(|| exchange.into_connection())
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_is_given_up() {
    let gateway = gateway().config("bounds: { connections: 2 }").start().await;
    let most = 2 * std::thread::available_parallelism().expect("the system tells").get();
    let mut held = Vec::new();
    while let Some(served) = is_served(&gateway, Connection::open(gateway.endpoint.address).await).await {
        held.push(served);
        assert!(held.len() <= most, "the limit is for each worker, and there is one for each core");
    }
    assert!(held.len() >= 2, "{}", held.len());
    assert_eq!(gateway.admin_get("/healthz").await.status, 200, "health has a listener of its own");
    held.clear();
    eventually("room for another", || async {
        is_served(&gateway, Connection::open(gateway.endpoint.address).await).await
    })
    .await;
}

#[tokio::test]
async fn f52_a_draining_gateway_is_not_ready_takes_nothing_new_and_finishes_what_runs() {
    let finish = Arc::new(Notify::new());
    let may_finish = Arc::clone(&finish);
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio)
        .on("tools/call", move |mut call| {
            let may_finish = Arc::clone(&may_finish);
            async move {
                may_finish.notified().await;
                call.text("in time").await;
            }
        })
        .start()
        .await;
    let mut gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let running = client.open_call("one__echo", json!({})).await;
    upstream.until_received("tools/call", 1).await;
    assert_eq!(gateway.admin_get("/readyz").await.status, 200);
    gateway.signal(rustix::process::Signal::TERM);
    eventually("readiness to be withdrawn", || async {
        (gateway.admin_get("/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(gateway.admin_get("/healthz").await.status, 200, "draining is not dying");
    let late = Client::silent(&gateway.endpoint, HANDSHAKE, json!({}));
    let greeting = json!({
        "protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": { "name": "late", "version": "1" },
    });
    let refused = late.open("initialize", greeting).await.whole().await;
    assert_eq!(refused.status, 503, "a session that could not last is not opened: {}", refused.body);
    finish.notify_one();
    let (status, answer) = tokio::join!(gateway.ended(), running.answer());
    assert!(status.success(), "{status:?}");
    assert_eq!(answer.text(), "in time");
    for birth in upstream.births() {
        let pid = u32::try_from(birth["pid"].as_u64().expect("children say theirs")).expect("it fits");
        eventually("the child to be gone", || async {
            (!crate::support::gateway::is_running(pid).await).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn f52_a_draining_gateway_takes_no_request_in_a_batch_either() {
    let finish = Arc::new(Notify::new());
    let may_finish = Arc::clone(&finish);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let may_finish = Arc::clone(&may_finish);
            async move {
                may_finish.notified().await;
                call.text("in time").await;
            }
        })
        .start()
        .await;
    let mut gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake("2025-03-26").await;
    client.until_tools(&["one__echo"]).await;
    let running = client.open_call("one__echo", json!({})).await;
    upstream.until_received("tools/call", 1).await;
    gateway.signal(rustix::process::Signal::TERM);
    eventually("readiness to be withdrawn", || async {
        (gateway.admin_get("/readyz").await.status == 503).then_some(())
    })
    .await;
    let params = json!({ "name": "one__echo", "arguments": {} });
    let call = |id: u32| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
    let batch = json!([call(901), call(902)]).to_string();
    let refused = client.endpoint.ask("POST", client.headers("", &json!({})), batch.as_bytes()).await;
    for (answer, id) in refused.json().as_array().expect("a batch").iter().zip([901, 902]) {
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-32603)), "{answer}");
        assert_eq!(answer["error"]["data"]["outcome"], "not_sent", "{answer}");
    }
    assert_eq!(upstream.received("tools/call").len(), 1);
    finish.notify_one();
    let (status, answer) = tokio::join!(gateway.ended(), running.answer());
    assert!(status.success(), "{status:?}");
    assert_eq!(answer.text(), "in time");
}

#[tokio::test]
async fn f52_s_https_20_s_resum_04_a_client_comes_back_to_a_draining_gateway_for_its_answer() {
    for back_in_time in [true, false] {
        let finish = Arc::new(Notify::new());
        let may_finish = Arc::clone(&finish);
        let upstream = http_upstream("one")
            .on("tools/call", move |mut call| {
                let may_finish = Arc::clone(&may_finish);
                async move {
                    may_finish.notified().await;
                    call.text("in time").await;
                }
            })
            .start()
            .await;
        let mut gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let standing = client.standalone_stream().await;
        let mut running = client.open_call("one__echo", json!({})).await;
        running.event().await.expect("an event that says where the client is");
        let place = running.cut(false);
        gateway.signal(rustix::process::Signal::TERM);
        eventually("readiness to be withdrawn", || async {
            (gateway.admin_get("/readyz").await.status == 503).then_some(())
        })
        .await;
        drop(standing);
        assert_eq!(client.get().await.head().await.status(), 503, "nothing new is begun");
        if !back_in_time {
            finish.notify_one();
            eventually("the call to end", || async {
                let sessions = gateway.admin_get("/api/v1/sessions").await;
                sessions.body.contains(r#""calls_in_flight":0"#).then_some(())
            })
            .await;
        }
        let resumed = client.resume(&place).await;
        finish.notify_one();
        let (status, answer) = tokio::join!(gateway.ended(), resumed.answer());
        assert!(status.success(), "{status:?}");
        assert_eq!(answer.text(), "in time");
    }
}

#[tokio::test]
async fn f52_what_does_not_end_within_the_drain_is_ended_and_the_exit_is_clean() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move { call.disconnected().await })
        .start()
        .await;
    let mut gateway = gateway().with("one", &upstream).config("bounds: { drain: 600ms }").start().await;
    let (client, modern) = (gateway.handshake(HANDSHAKE).await, gateway.stateless());
    client.until_tools(&["one__echo"]).await;
    let stuck = [calling(&client, &upstream, 1).await, calling(&modern, &upstream, 2).await];
    let begun = tokio::time::Instant::now();
    let status = within(Duration::from_secs(8), "the end of the drain", gateway.terminate()).await;
    assert!(status.success(), "{status:?}");
    assert!(begun.elapsed() >= Duration::from_millis(600), "calls were given their time");
    for mut connection in stuck {
        let rest = connection.read_to_close(Duration::from_secs(2)).await.expect("nobody is left to hold it");
        let rest = String::from_utf8_lossy(&rest).into_owned();
        assert!(rest.contains(r#""outcome":"unknown""#), "each call gets its one answer: {rest:?}");
    }
}
