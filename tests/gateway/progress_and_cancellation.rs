//! Progress and cancellation across hops (S-PROG, S-CANC).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Client, HANDSHAKE, STATELESS, TRANSPORTS, Transport, gateway, http_upstream, stdio_upstream, upstream,
    within,
};

#[tokio::test]
async fn s_prog_01_tokens_are_the_gateway_s_own_upstream_and_the_client_s_on_the_way_back() {
    for transport in TRANSPORTS {
        let (release, _) = tokio::sync::broadcast::channel::<()>(4);
        let gate = release.clone();
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", move |mut call| {
                let mut gate = gate.subscribe();
                async move {
                    gate.recv().await.ok();
                    let who = call.params()["arguments"]["who"].as_f64().unwrap_or_default();
                    call.progress(who, 100.0).await;
                    call.text("done").await;
                }
            })
            .start()
            .await;
        // One process for all, so that tokens of several clients meet at one upstream.
        let mut entry = upstream.settings();
        if transport == Transport::Stdio {
            entry["share"] = json!("all");
        }
        let gateway = gateway().with_server("one", entry).start().await;
        let clients =
            [gateway.handshake(HANDSHAKE).await, gateway.handshake("2025-03-26").await, gateway.stateless()];
        clients[0].until_tools(&["one__echo"]).await;
        let tokens = [json!(1), json!(1), json!("1")];
        let mut running = Vec::new();
        for ((who, client), token) in clients.iter().enumerate().zip(&tokens) {
            let params = json!({ "name": "one__echo", "arguments": { "who": who }, "_meta": { "progressToken": token } });
            running.push(client.open("tools/call", params).await);
        }
        upstream.until_received("tools/call", 3).await;
        let mut seen: Vec<String> = upstream
            .received("tools/call")
            .iter()
            .map(|call| format!("{:?} {}", call.session(), call.params()["_meta"]["progressToken"]))
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3, "each call has a token of its own: {seen:?}");
        release.send(()).expect("the calls are waiting");
        for ((who, exchange), token) in running.into_iter().enumerate().zip(&tokens) {
            let answer = exchange.answer().await;
            let own: Vec<&Value> =
                answer.before.iter().map(|message| &message.params()["progressToken"]).collect();
            assert_eq!(own, [token], "with its JSON type: {answer:?}");
            assert_eq!(answer.progress(), [who as f64]);
        }
    }
}

#[tokio::test]
async fn s_prog_02_progress_only_rises_and_old_clients_get_no_message() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            for value in [0.0, 0.5, 0.5, 0.25, 1.5, 1.0, 2.0] {
                call.progress(value, 2.0).await;
            }
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in ["2024-11-05", "2025-03-26", HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        let answer = client.open_call_with_progress("one__echo", json!("t")).await.answer().await;
        let progress = answer.progress();
        assert!(progress.is_sorted_by(|a, b| a < b), "{revision}: {progress:?}");
        assert_eq!(progress.last(), Some(&2.0), "the last one always passes: {progress:?}");
        for message in &answer.before {
            let has_message = message.params().get("message").is_some();
            assert_eq!(has_message, revision >= "2025-03-26", "{revision}: {}", message.raw);
            assert_eq!(message.params()["total"], 2.0);
        }
    }
}

#[tokio::test]
async fn s_prog_01_without_a_token_nothing_is_reported() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        assert_eq!(client.call("one__echo", json!({})).await.progress(), Vec::<f64>::new());
    }
}

#[tokio::test]
async fn s_prog_03_progress_after_the_end_goes_nowhere() {
    let upstream = stdio_upstream("one")
        .on("tools/call", |mut call| async move {
            call.text("done").await;
            call.progress(9.0, 10.0).await;
            let invented = json!({ "progressToken": "nobody's", "progress": 1 });
            call.notify("notifications/progress", invented).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    let answer = client.open_call_with_progress("one__echo", json!("t")).await.answer().await;
    assert_eq!(answer.progress(), Vec::<f64>::new());
    for message in stream.messages_within(Duration::from_millis(400)).await {
        assert_ne!(message.method(), "notifications/progress", "{}", message.raw);
    }
    assert_eq!(client.call("one__echo", json!({})).await.text(), "done");
}

/// Open a call, wait until it is upstream, cancel it, and wait until the upstream knows.
async fn cancel_in_flight(client: &Client, upstream: &crate::support::Upstream) {
    let before = upstream.received("tools/call").len();
    let running = client.open_call("one__echo", json!({})).await;
    let id = running.id();
    upstream.until_received("tools/call", before + 1).await;
    let cancelled = json!({ "requestId": id, "reason": "the story goes on" });
    assert_eq!(client.notify("notifications/cancelled", cancelled).await, 202);
    let ends =
        within(Duration::from_secs(10), "the cancelled request to end", running.ends_without_response());
    assert!(ends.await, "a cancelled request gets no response");
}

#[tokio::test]
async fn s_canc_01_a_cancelled_call_is_cancelled_upstream_under_the_upstream_s_id() {
    for revision in [HANDSHAKE, STATELESS] {
        for transport in TRANSPORTS {
            let (tell, mut told) = tokio::sync::mpsc::channel(4);
            let upstream = upstream("one", revision, transport)
                .on("tools/call", move |mut call| {
                    let tell = tell.clone();
                    async move {
                        call.cancelled().await;
                        tell.send(()).await.ok();
                        // Too late, and therefore dropped (S-CANC-07).
                        call.text("late").await;
                    }
                })
                .start()
                .await;
            let gateway = gateway().with("one", &upstream).start().await;
            let client = gateway.handshake(HANDSHAKE).await;
            client.until_tools(&["one__echo"]).await;
            cancel_in_flight(&client, &upstream).await;
            within(Duration::from_secs(10), "the upstream to hear of it", told.recv()).await;
            let notices = upstream.received("notifications/cancelled");
            let by_stream = revision == STATELESS && transport == Transport::Http;
            assert_eq!(notices.len(), usize::from(!by_stream), "{revision} {transport:?}: {notices:?}");
            let call = upstream.until_received("tools/call", 1).await;
            for notice in notices {
                assert_eq!(notice.params()["requestId"], call.json["id"], "{}", notice.raw);
            }
            assert_eq!(client.request("ping", json!({})).await.status, 200);
        }
    }
}

#[tokio::test]
async fn s_canc_01_cancels_of_nothing_are_ignored() {
    let told = std::sync::Arc::new(tokio::sync::Notify::new());
    let all_told = std::sync::Arc::clone(&told);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let all_told = std::sync::Arc::clone(&all_told);
            async move {
                all_told.notified().await;
                call.text("finished").await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let stranger = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;

    let running =
        client.open_as(json!(77), "tools/call", json!({ "name": "one__echo", "arguments": {} })).await;
    upstream.until_received("tools/call", 1).await;
    for params in [
        json!({ "requestId": 77 }),
        json!({ "requestId": "77" }),
        json!({ "requestId": 1_000_000 }),
        json!({ "requestId": null }),
        json!({}),
    ] {
        assert_eq!(
            stranger.notify("notifications/cancelled", params).await,
            202,
            "a foreign session's id means nothing"
        );
    }
    for params in [json!({ "requestId": "77" }), json!({ "requestId": [77] }), json!({ "reason": "no id" })] {
        assert_eq!(client.notify("notifications/cancelled", params).await, 202);
    }
    told.notify_one();
    assert_eq!(running.answer().await.text(), "finished");
    assert_eq!(
        client.notify("notifications/cancelled", json!({ "requestId": 77 })).await,
        202,
        "already finished"
    );
    assert!(upstream.received("notifications/cancelled").is_empty());
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn s_canc_02_initialize_cannot_be_cancelled() {
    let gateway = gateway().start().await;
    let mut client = Client::silent(&gateway.endpoint, HANDSHAKE, json!({}));
    let answer = client.initialize().await;
    let id = answer.json["id"].clone();
    assert_eq!(client.notify("notifications/cancelled", json!({ "requestId": id })).await, 202);
    assert_eq!(client.notify("notifications/initialized", json!({})).await, 202);
    assert_eq!(client.request("ping", json!({})).await.status, 200);
}
