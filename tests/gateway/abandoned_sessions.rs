//! F31: sessions that were opened and left behind leave nothing behind.

use std::time::Duration;

use serde_json::json;

use crate::support::processes::{descendants, open_files, resident};
use crate::support::{Gateway, HANDSHAKE, Upstream, gateway, http_upstream, stdio_upstream};

const BOUNDS: &str = "bounds: { session_idle: 2s, replay_age: 1s, stop_eof: 500ms, stop_term: 500ms }";

/// Open so many sessions, leave each in a different state, and never speak of them again.
async fn abandon(gateway: &Gateway, count: usize) {
    for number in 0..count {
        let revision = ["2024-11-05", "2025-03-26", "2025-06-18", HANDSHAKE][number % 4];
        let client = gateway.handshake(revision).await.quiet();
        match number % 50 {
            // A child of its own for one in fifty; streams, finished calls and calls left midway for others.
            7 => drop(client.call("two__echo", json!({})).await),
            8 | 9 => drop(client.call("one__echo", json!({})).await),
            10 | 11 => drop(client.standalone_stream().await),
            12 | 13 => {
                let mut stream = client.open_call_with_progress("one__slow", json!(1)).await;
                stream.until_method("notifications/progress").await;
            }
            14 => drop(client.open_call("one__slow", json!({})).await),
            15 => drop(client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await),
            _ => {}
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Footprint {
    sessions: usize,
    children: usize,
    files: usize,
    memory: u64,
    upstream_sessions: usize,
}

async fn footprint(gateway: &Gateway, upstream: &Upstream) -> Footprint {
    let held = gateway.admin_get("/api/v1/sessions").await.json();
    Footprint {
        sessions: held.as_array().expect("a list").len(),
        children: descendants(gateway.pid()).await.len(),
        // Idle connections towards the upstream are kept warm for a while: as many as calls ran at once.
        files: open_files(gateway.pid()).await.saturating_sub(upstream.connections()),
        memory: resident(gateway.pid()).await,
        upstream_sessions: upstream.sessions().len(),
    }
}

/// Wait until there is no session, and nothing is larger than in `baseline`; gives what there is then.
async fn settled(gateway: &Gateway, upstream: &Upstream, baseline: Option<Footprint>) -> Footprint {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let now = footprint(gateway, upstream).await;
        let is_back = baseline.is_none_or(|before| {
            now.children <= before.children
                && now.files <= before.files + 4
                && now.memory <= before.memory + before.memory / 10 + (12 << 20)
                && now.upstream_sessions <= before.upstream_sessions
        });
        if now.sessions == 0 && is_back {
            return now;
        }
        assert!(tokio::time::Instant::now() < deadline, "{now:?} is left, and before it was {baseline:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn f31_s_sess_05_a_thousand_abandoned_sessions_leave_nothing_behind() {
    let one = http_upstream("one")
        .quiet()
        .tool("slow")
        .on("tools/call", |mut call| async move {
            if call.name() == "slow" {
                call.progress(1.0, 2.0).await;
                call.pause(800).await;
            }
            call.text(&"x".repeat(10_000)).await;
        })
        .start()
        .await;
    let two = stdio_upstream("two").quiet().start().await;
    let gateway = gateway().with("one", &one).with("two", &two).config(BOUNDS).start().await;
    gateway.stateless().until_tools(&["one__slow", "two__echo"]).await;
    // Pools, tables and the allocator reach their size under the same load first.
    abandon(&gateway, 150).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = settled(&gateway, &one, None).await;
    // What is left of the warm-up upstream may take a moment longer than the sessions themselves.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let before = footprint(&gateway, &one).await.smallest(before);

    abandon(&gateway, 1_000).await;
    let after = settled(&gateway, &one, Some(before)).await;
    println!("before {before:?}, after {after:?}");
    let client = gateway.handshake(HANDSHAKE).await;
    client.call("two__echo", json!({})).await.result();
    client.call("one__echo", json!({})).await.result();
}

impl Footprint {
    /// The smaller of both in everything but memory, which only grows to its size.
    fn smallest(self, other: Footprint) -> Footprint {
        Footprint {
            sessions: self.sessions.min(other.sessions),
            children: self.children.min(other.children),
            files: self.files.min(other.files),
            memory: self.memory.max(other.memory),
            upstream_sessions: self.upstream_sessions.min(other.upstream_sessions),
        }
    }
}

#[tokio::test]
async fn f31_thousand_standing_streams_that_were_left_are_noticed_at_once() {
    let gateway = gateway().config("bounds: { session_idle: 30m }").start().await;
    let mut opened = Vec::new();
    for number in 0..300 {
        let revision = ["2025-03-26", HANDSHAKE][number % 2];
        let client = gateway.handshake(revision).await.quiet();
        let stream = client.standalone_stream().await;
        opened.push((client, stream));
    }
    let with_streams = open_files(gateway.pid()).await;
    let clients: Vec<_> = opened.into_iter().map(|(client, _)| client).collect();
    crate::support::eventually("the connections to be closed although nothing was written", || async {
        (open_files(gateway.pid()).await + 290 <= with_streams).then_some(())
    })
    .await;
    // The sessions themselves live on, and each gets its stream again.
    for client in clients.iter().step_by(50) {
        drop(client.standalone_stream().await);
    }
}
