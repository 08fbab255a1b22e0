//! Clients that leave and gateways that stop (S-HTTPS-12, S-HTTPS-20).

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    HANDSHAKE, STATELESS, Transport, gateway, http_upstream, stateless_upstream, upstream, within,
};

#[tokio::test]
async fn s_https_12_leaving_is_no_cancellation_in_the_handshake_era() {
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let tell = tell.clone();
            async move {
                // Long enough for a gateway that would cancel to do so.
                let cancelled = tokio::time::timeout(Duration::from_millis(700), call.cancelled()).await;
                call.text("finished alone").await;
                tell.send(cancelled.is_ok()).await.ok();
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let running = client.open_as(json!(7), "tools/call", json!({ "name": "one__echo" })).await;
    upstream.until_received("tools/call", 1).await;
    drop(running);
    let was_cancelled = within(Duration::from_secs(10), "the call to finish alone", told.recv()).await;
    assert_eq!(was_cancelled, Some(false));
    crate::support::eventually("its id to be free again", || async {
        let answer = client.open_as(json!(7), "ping", json!({})).await.whole().await;
        answer.json().get("result").is_some().then_some(())
    })
    .await;
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
async fn f25_a_stateless_client_that_leaves_in_a_call_has_it_cancelled_within_a_second() {
    for (revision, transport) in [
        (STATELESS, Transport::Http),
        (STATELESS, Transport::Stdio),
        (HANDSHAKE, Transport::Http),
        (HANDSHAKE, Transport::Stdio),
    ] {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let upstream = upstream("one", revision, transport)
            .on("tools/call", move |mut call| {
                let tell = tell.clone();
                async move {
                    if call.params()["arguments"]["streams"] == true {
                        call.progress(1.0, 2.0).await;
                    }
                    call.cancelled().await;
                    tell.send(()).await.ok();
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        client.until_tools(&["one__echo"]).await;
        for (count, streams) in [(1, false), (2, true)] {
            let params = json!({
                "name": "one__echo", "arguments": { "streams": streams }, "_meta": { "progressToken": "t" },
            });
            let mut running = client.open("tools/call", params).await;
            upstream.until_received("tools/call", count).await;
            if streams {
                running.until_method("notifications/progress").await;
            }
            drop(running);
            let awaited = format!("{revision} over {transport:?} to hear of it");
            within(Duration::from_secs(1), &awaited, told.recv()).await;
        }
    }
}

#[tokio::test]
async fn s_https_20_f52_a_signal_lets_running_calls_finish_and_the_exit_is_clean() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.pause(1_000).await;
            call.text("in time").await;
        })
        .start()
        .await;
    for signal in [Signal::TERM, Signal::HUP] {
        let mut gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        let before = upstream.received("tools/call").len();
        let running = client.open_call_with_progress("one__echo", json!(1)).await;
        upstream.until_received("tools/call", before + 1).await;
        gateway.signal(signal);
        let (status, answer) = tokio::join!(gateway.ended(), running.answer());
        assert!(status.success(), "{status:?}");
        assert_eq!(answer.text(), "in time");
        within(Duration::from_secs(5), "the standalone stream to end", async {
            while stream.next().await.is_some() {}
        })
        .await;
    }
}
