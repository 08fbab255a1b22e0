//! Idle connections to upstreams: whether they still lead anywhere (S-LIFE-11).

use std::time::Duration;

use serde_json::json;

use crate::support::{
    HANDSHAKE, TRANSPORTS, Transport, Upstream, eventually, gateway, stateless_upstream, stdio_upstream,
    upstream,
};

const OFTEN: &str = "bounds: { ping_every: 300ms, backoff_first: 100ms, backoff_longest: 500ms }";

async fn until_pinged(upstream: &Upstream, more: usize) {
    let before = upstream.received("ping").len();
    upstream.until_received("ping", before + more).await;
}

#[tokio::test]
async fn s_life_11_idle_connections_are_pinged_and_an_error_is_a_sign_of_life() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("ping", |mut call| async move {
                match call.count() % 2 {
                    0 => call.error(-32601, "never heard of it", json!(null)).await,
                    _ => call.result(json!({})).await,
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(OFTEN).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({})).await.text();
        let opened = upstream.received("initialize").len();
        until_pinged(&upstream, 8).await;
        assert_eq!(upstream.received("initialize").len(), opened, "nothing was opened anew");
        assert!(upstream.received("notifications/cancelled").is_empty());
        let of_the_session = upstream.until_received("tools/call", 1).await;
        let pings = upstream.received("ping");
        let same = |ping: &&crate::support::upstream::Received| match transport {
            Transport::Http => ping.session() == of_the_session.session(),
            Transport::Stdio => ping.connection == of_the_session.connection,
        };
        let ours = pings.iter().filter(same).count();
        assert!(ours >= 2 && ours < pings.len(), "the session's connection and the gateway's own: {ours}");
        assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");
    }
}

#[tokio::test]
async fn s_life_11_a_connection_that_no_longer_answers_is_given_up_and_opened_anew() {
    for transport in TRANSPORTS {
        let (mute, is_mute) = tokio::sync::watch::channel(false);
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("ping", move |mut call| {
                let is_mute = *is_mute.borrow();
                async move {
                    match is_mute {
                        true => call.disconnected().await,
                        false => call.default().await,
                    }
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(OFTEN).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        until_pinged(&upstream, 2).await;
        let opened = upstream.received("initialize").len();
        mute.send_replace(true);
        upstream.until_received("initialize", opened + 1).await;
        mute.send_replace(false);
        assert!(gateway.stderr().contains("no longer answers"), "{}", gateway.stderr());
        eventually("calls to be served again", || async {
            let answer = client.call("one__echo", json!({})).await;
            answer.raw.contains("one echoes").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn s_life_11_a_busy_connection_is_left_alone_and_a_stateless_upstream_knows_no_pings() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                call.pause(1_500).await;
                call.text("at last").await;
            })
            .start()
            .await;
        let modern = stateless_upstream("two").start().await;
        let modern_child = upstream_of_the_new_era().start().await;
        let gateway = gateway()
            .with("one", &upstream)
            .with("two", &modern)
            .with("three", &modern_child)
            .config(OFTEN)
            .start()
            .await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo", "two__echo", "three__echo"]).await;
        assert_eq!(client.call("one__echo", json!({})).await.text(), "at last");
        let ledger = upstream.ledger();
        let called = ledger.iter().position(|received| received.method() == "tools/call").expect("it was");
        let pinged = ledger[called..].iter().filter(|received| {
            received.method() == "ping"
                && received.session() == ledger[called].session()
                && (transport == Transport::Http || received.connection == ledger[called].connection)
        });
        assert!(pinged.count() <= 1, "while it was at work: {ledger:#?}");
        assert!(modern.received("ping").is_empty() && modern_child.received("ping").is_empty());
    }
}

fn upstream_of_the_new_era() -> crate::support::upstream::UpstreamPlan {
    upstream("three", crate::support::STATELESS, Transport::Stdio)
}

#[tokio::test]
async fn s_life_11_pings_do_not_keep_an_unused_child_alive() {
    let upstream = stdio_upstream("one").start().await;
    let gateway =
        gateway().with_more("one", &upstream, json!({ "idle_stop": "1s" })).config(OFTEN).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    let child = upstream.until_received("tools/call", 1).await.connection;
    // Looked for every few seconds: far below the patience of these stories.
    eventually("the child of the session to be pinged no longer, because it is gone", || async {
        let before = upstream.received("ping");
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let since = upstream.received("ping").split_off(before.len());
        let ours = since.iter().any(|ping| ping.connection == child);
        (before.iter().any(|ping| ping.connection == child) && !ours).then_some(())
    })
    .await;
}

#[tokio::test]
async fn s_life_11_a_connection_that_is_used_again_is_not_given_up_because_of_pings() {
    for transport in TRANSPORTS {
        let (mute, is_mute) = tokio::sync::watch::channel(false);
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("ping", move |mut call| {
                let is_mute = *is_mute.borrow();
                async move {
                    match is_mute {
                        true => call.disconnected().await,
                        false => call.default().await,
                    }
                }
            })
            .on("tools/call", |mut call| async move {
                let wait = call.params()["arguments"]["wait"].as_u64().unwrap_or_default();
                call.pause(wait).await;
                call.text("at last").await;
            })
            .start()
            .await;
        let gateway = gateway()
            .with("one", &upstream)
            .config("bounds: { ping_every: 1s, backoff_first: 100ms, backoff_longest: 500ms }")
            .start()
            .await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({})).await.text();
        let ours = upstream.until_received("tools/call", 1).await;
        let pings_of_ours = |ledger: &[crate::support::upstream::Received]| {
            let same = |ping: &&crate::support::upstream::Received| match transport {
                Transport::Http => ping.session() == ours.session(),
                Transport::Stdio => ping.connection == ours.connection,
            };
            ledger.iter().filter(|received| received.method() == "ping").filter(same).count()
        };
        mute.send_replace(true);
        let before = pings_of_ours(&upstream.ledger());
        upstream.until("two pings", |ledger| (pings_of_ours(ledger) == before + 2).then_some(())).await;
        // The second one would be given up in a second, the call is answered in two.
        let call = client.open_call("one__echo", json!({ "wait": 2_000 })).await;
        upstream.until_received("tools/call", 2).await;
        mute.send_replace(false);
        assert_eq!(call.answer().await.text(), "at last", "{transport:?}");
        let calls = upstream.received("tools/call");
        assert_eq!(
            (calls[0].session(), calls[0].connection),
            (
                calls[1].session(),
                match transport {
                    Transport::Http => calls[0].connection,
                    Transport::Stdio => calls[1].connection,
                }
            ),
            "over the same connection"
        );
    }
}
