//! Notifications by the thousand: coalesced or dropped, while replies go on (S-PROG-06, F11).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::{
    HANDSHAKE, STATELESS, TRANSPORTS, Transport, gateway, http_upstream, stdio_upstream, upstream, within,
};

#[tokio::test]
async fn s_prog_06_ten_thousand_reports_become_a_few_and_the_last_one_passes() {
    for (upstream_revision, transport) in
        [(HANDSHAKE, Transport::Http), (HANDSHAKE, Transport::Stdio), (STATELESS, Transport::Http)]
    {
        let upstream = upstream("one", upstream_revision, transport)
            .on("tools/call", |mut call| async move {
                let token = call.params()["_meta"]["progressToken"].clone();
                for n in 1..=10_000 {
                    let params = json!({ "progressToken": token, "progress": n, "total": 10_000 });
                    call.notify("notifications/progress", params).await;
                }
                call.text("done").await;
            })
            .quiet()
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in [HANDSHAKE, STATELESS] {
            let client = gateway.client(revision).await.quiet();
            client.until_tools(&["one__echo"]).await;
            let call = client.open_call_with_progress("one__echo", json!("t")).await;
            let answer = within(Duration::from_secs(15), "the call to end", call.answer()).await;
            assert_eq!(answer.text(), "done");
            let told = answer.progress();
            assert!(told.is_sorted_by(|a, b| a < b), "{revision}: only ever forward");
            assert_eq!(told.last(), Some(&10_000.0), "{revision} {transport:?}: the last one always passes");
            assert!(told.len() < 2_500, "{revision} {transport:?}: {} of 10,000 were passed on", told.len());
        }
    }
}

#[tokio::test]
async fn s_prog_06_reports_at_an_easy_pace_all_pass() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            for n in 1..=5 {
                call.progress(f64::from(n), 5.0).await;
                call.pause(250).await;
            }
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let answer = client.open_call_with_progress("one__echo", json!(1)).await.answer().await;
    assert_eq!(answer.progress(), [1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[tokio::test]
async fn f11_replies_never_starve_in_a_storm_of_notifications() {
    for transport in TRANSPORTS {
        let stormy = upstream("stormy", HANDSHAKE, transport).quiet().start().await;
        let calm = http_upstream("calm").start().await;
        let gateway = gateway().with("stormy", &stormy).with("calm", &calm).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["stormy__echo", "calm__echo"]).await;
        client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        client.request("resources/subscribe", json!({ "uri": "test://stormy/static" })).await.result();
        client.call("stormy__echo", json!({})).await.text();
        let call = stormy.until_received("tools/call", 1).await;
        stormy.until_standing_for(&call).await;
        // Nobody reads this one: what cannot be delivered must not pile up before replies.
        let _unread = client.standalone_stream().await;

        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let storm = tokio::spawn(async move {
            let mut sent = 0_usize;
            let log = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "error", "data": "x".repeat(200) } });
            let updated = json!({ "jsonrpc": "2.0", "method": "notifications/resources/updated", "params": { "uri": "test://stormy/static" } });
            let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
            let stray = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": "t", "progress": 1 } });
            let storm = [log, updated, changed, stray].map(|message| message.to_string());
            while !over.load(Ordering::Relaxed) {
                for message in &storm {
                    stormy.say(message, |_| true).await;
                    sent += 1;
                }
                if sent.is_multiple_of(40) {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            }
            (stormy, sent)
        });
        for n in 0..20 {
            for tool in ["stormy__echo", "calm__echo"] {
                let called = client.call(tool, json!({ "n": n }));
                let answer = within(Duration::from_secs(3), "an answer in the storm", called).await;
                assert!(answer.text().ends_with(&format!(r#"echoes {{"n":{n}}}"#)), "{}", answer.raw);
            }
            let pinged = client.request("ping", json!({}));
            within(Duration::from_secs(3), "a ping in the storm", pinged).await.result();
        }
        is_over.store(true, Ordering::Relaxed);
        let (_stormy, sent) = storm.await.expect("the storm ends by itself");
        println!("   {sent} notifications blew over {transport:?}");
        assert!(sent > 400, "a breeze is no storm: {sent}");
        assert_eq!(gateway.stateless().request("tools/list", json!({})).await.status, 200);
    }
}

/// As fast as the connection takes it, until the story is over.
async fn flood(mut call: crate::support::Call, message: String, until: Duration) {
    let blob = format!("data: {message}\n\n").repeat(1_000);
    let started = tokio::time::Instant::now();
    while started.elapsed() < until {
        call.say_bytes(blob.as_bytes()).await;
    }
    match call.received.verb.as_str() {
        "GET" => call.disconnected().await,
        _ => call.text("done").await,
    }
}

#[tokio::test]
async fn f11_a_flood_on_one_event_stream_leaves_its_thread_to_everybody_else() {
    let stormy = http_upstream("stormy")
        .on("tools/call", |call| async move {
            let token = call.params()["_meta"]["progressToken"].clone();
            let params = json!({ "progressToken": token, "progress": 1 });
            let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
            flood(call, progress.to_string(), Duration::from_secs(6)).await;
        })
        .quiet()
        .start()
        .await;
    let gateway = gateway().with("stormy", &stormy).start().await;
    let client = gateway.handshake(HANDSHAKE).await.quiet();
    client.until_tools(&["stormy__echo"]).await;
    // More than there are threads, so that each has one that is in the storm.
    let mut storms = Vec::new();
    for _ in 0..4 {
        storms.push(client.open_call_with_progress("stormy__echo", json!("t")).await);
    }
    stormy.until_received("tools/call", 4).await;
    for _ in 0..10 {
        let pinged = client.request("ping", json!({}));
        within(Duration::from_millis(1_500), "a ping in the flood", pinged).await.result();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for storm in storms {
        assert_eq!(within(Duration::from_secs(20), "the flood to end", storm.answer()).await.text(), "done");
    }
}

#[tokio::test]
async fn f11_a_flood_of_list_changes_is_told_as_a_few_and_holds_up_no_other_server() {
    let stormy = http_upstream("stormy")
        .on("GET", |mut call| async move {
            call.stream().await;
            let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
            flood(call, changed.to_string(), Duration::from_secs(6)).await;
        })
        .quiet()
        .start()
        .await;
    let calm = stdio_upstream("calm").start().await;
    let gateway = gateway().with("stormy", &stormy).with("calm", &calm).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    within(Duration::from_secs(5), "the lists in the flood", client.until_tools(&["calm__echo"])).await;
    for n in 0..5 {
        let called = client.call("calm__echo", json!({ "n": n }));
        let answer = within(Duration::from_secs(3), "an answer in the flood", called).await;
        assert_eq!(answer.text(), format!(r#"calm echoes {{"n":{n}}}"#));
    }
    // A change of the calm one is seen while the other floods the catalogue.
    calm.show(|shown| shown.tools.push(json!({ "name": "new", "inputSchema": { "type": "object" } })));
    calm.announce("notifications/tools/list_changed", json!({})).await;
    within(Duration::from_secs(3), "the change in the flood", client.until_tools(&["calm__new"])).await;
    let listed = stormy.received("tools/list").len();
    assert!(listed <= 70, "{listed} times within some six seconds");
}
