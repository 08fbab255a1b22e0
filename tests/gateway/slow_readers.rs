//! F27: clients that take almost nothing hold up nobody else, and are cut.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::client::Client;
use crate::support::http::write_head;
use crate::support::processes::{open_files, resident};
use crate::support::{Gateway, HANDSHAKE, Transport, Upstream, eventually, gateway, upstream};

const STALLED: usize = 50;
const NEIGHBOURS: usize = 5;
const FLOODED: &str = "the end of the flood";

/// A call whose answer is hardly read: a byte of it after so long, or none at all. When the story is `over` the rest is
/// read, and the task says whether the whole answer was there.
async fn stall(client: &Client, every: Option<Duration>, over: watch::Receiver<bool>) -> JoinHandle<bool> {
    let socket = TcpSocket::new_v4().expect("sockets are to be had");
    // As little room as the system allows, so that what is not read waits in the gateway and not in between.
    socket.set_recv_buffer_size(2_048).expect("a fresh socket takes options");
    let mut stream = socket.connect(client.endpoint.address).await.expect("the gateway listens");
    let params = json!({ "name": "one__flood", "arguments": {}, "_meta": { "progressToken": 1 } });
    let params = client.dress(params);
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let mut headers = client.headers("tools/call", &params);
    headers.set("Content-Length", &body.len().to_string());
    let mut wire = write_head(&format!("POST {} HTTP/1.1", client.endpoint.path), &headers);
    wire.extend_from_slice(body.as_bytes());
    tokio::io::AsyncWriteExt::write_all(&mut stream, &wire).await.expect("the gateway takes a request");
    tokio::spawn(async move {
        let mut over = over;
        let mut byte = [0u8; 1];
        loop {
            if tokio::time::timeout(every.unwrap_or(Duration::MAX), over.wait_for(|over| *over)).await.is_ok()
            {
                break;
            }
            if stream.read_exact(&mut byte).await.is_err() {
                return false;
            }
        }
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        println!("   a slow reader found {} bytes more: {read:?}", rest.len());
        assert!(read.is_ok(), "the connection is still open");
        rest.windows(FLOODED.len()).any(|window| window == FLOODED.as_bytes())
    })
}

/// Neighbours call until told to stop; gives the slowest answer.
fn keep_calling(clients: Vec<Client>, until: watch::Receiver<bool>) -> Vec<JoinHandle<(u32, Duration)>> {
    let calling = clients.into_iter().map(|client| {
        let until = until.clone();
        tokio::spawn(async move {
            let (mut calls, mut slowest) = (0, Duration::ZERO);
            while !*until.borrow() {
                let begun = tokio::time::Instant::now();
                let answer = client.call("one__echo", json!({})).await;
                assert_eq!(answer.text(), "quick");
                slowest = slowest.max(begun.elapsed());
                calls += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (calls, slowest)
        })
    });
    calling.collect()
}

async fn story(transport: Transport, stalled_revision: &str) {
    let upstream = upstream("one", HANDSHAKE, transport)
        .quiet()
        .tool("flood")
        .on("tools/call", |mut call| async move {
            if call.name() == "flood" {
                let token = call.params()["_meta"]["progressToken"].clone();
                let words = "x".repeat(4_096);
                for step in 1..=1_200 {
                    let params = json!({ "progressToken": token, "progress": step, "message": words });
                    call.notify("notifications/progress", params).await;
                    if step % 20 == 0 {
                        // The story's own neighbours share a thread with this flood.
                        call.pause(1).await;
                    }
                }
                return call.text(FLOODED).await;
            }
            call.text("quick").await;
        })
        .start()
        .await;
    let mut entry = upstream.settings();
    entry["timeout"] = json!("60s");
    if transport == Transport::Stdio {
        // One child for all, so that they meet in its pipe.
        entry["share"] = json!("all");
    }
    let bounds =
        "bounds: { write_stall: 1s, stream_buffer: 64KiB, session_buffer: 128KiB, replay_total: 8MiB }";
    let gateway = gateway().with_server("one", entry).config(bounds).start().await;
    let mut neighbours = Vec::new();
    for number in 0..NEIGHBOURS {
        let client = gateway.client([HANDSHAKE, crate::support::STATELESS][number % 2]).await.quiet();
        client.until_tools(&["one__flood"]).await;
        assert_eq!(client.call("one__echo", json!({})).await.text(), "quick");
        neighbours.push(client);
    }
    let mut slow = Vec::new();
    for _ in 0..STALLED {
        slow.push(gateway.client(stalled_revision).await.quiet());
    }
    let (over, until) = watch::channel(false);
    let calling = keep_calling(neighbours, until.clone());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = resident(gateway.pid()).await;
    let quiet = open_files(gateway.pid()).await.saturating_sub(upstream.connections());

    let mut readers = Vec::new();
    for (number, client) in slow.iter().enumerate() {
        let every = (number % 2 == 0).then_some(Duration::from_secs(1));
        readers.push(stall(client, every, until.clone()).await);
    }
    let most = watch_until_cut(&gateway, &upstream, quiet).await;
    over.send_replace(true);
    for neighbour in calling {
        let (calls, slowest) = neighbour.await.expect("no neighbour fails");
        println!("a neighbour made {calls} calls, the slowest took {slowest:?}");
        assert!(calls >= 5, "{transport:?}: only {calls} calls were answered meanwhile");
        assert!(slowest < Duration::from_secs(3), "{transport:?}: a neighbour waited {slowest:?}");
    }
    for reader in readers {
        assert!(!reader.await.expect("readers only read"), "{transport:?}: a slow reader got everything");
    }
    let grown = most.saturating_sub(before);
    println!("{transport:?}: memory {before} before, {most} at most");
    assert!(grown < 64 << 20, "{transport:?}: {STALLED} slow readers grew the gateway by {grown} bytes");
    let client = gateway.handshake(HANDSHAKE).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "quick", "{transport:?}");
}

/// Wait until the gateway holds hardly more connections than before; gives the most memory it had.
async fn watch_until_cut(gateway: &Gateway, upstream: &Upstream, quiet: usize) -> u64 {
    let begun = tokio::time::Instant::now();
    let mut most = 0;
    loop {
        most = resident(gateway.pid()).await.max(most);
        let files = open_files(gateway.pid()).await.saturating_sub(upstream.connections());
        let elapsed = begun.elapsed();
        if elapsed > Duration::from_secs(2) && files < quiet + STALLED / 4 {
            println!("{files} files after {elapsed:?}, {quiet} before");
            return most;
        }
        assert!(elapsed < Duration::from_secs(40), "never cut: {files} files, {quiet} before");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn f27_s_https_17_slow_readers_are_cut_and_their_neighbours_at_the_same_server_never_notice() {
    story(Transport::Http, HANDSHAKE).await;
}

#[tokio::test]
async fn f27_s_https_17_slow_readers_do_not_hold_up_the_one_child_that_all_share() {
    story(Transport::Stdio, HANDSHAKE).await;
}

#[tokio::test]
async fn f27_slow_readers_of_the_stateless_era_are_cut_as_well() {
    story(Transport::Http, crate::support::STATELESS).await;
}

#[tokio::test]
async fn f27_a_client_that_was_cut_for_its_slowness_may_come_back_for_the_result() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .quiet()
        .on("tools/call", |mut call| async move {
            for step in 1..=2_000 {
                let token = call.params()["_meta"]["progressToken"].clone();
                let params =
                    json!({ "progressToken": token, "progress": step, "message": "x".repeat(4_096) });
                call.notify("notifications/progress", params).await;
            }
            call.text("the end").await;
        })
        .start()
        .await;
    let bounds = "bounds: { write_stall: 1s, stream_buffer: 64KiB, session_buffer: 256KiB }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    let client = gateway.handshake(HANDSHAKE).await.quiet();
    client.until_tools(&["one__echo"]).await;
    let quiet = open_files(gateway.pid()).await.saturating_sub(upstream.connections());
    let mut stream = client.open_call_with_progress("one__echo", json!(1)).await;
    stream.until_method("notifications/progress").await;
    // It reads no further until it was cut.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    eventually("the connection to be cut", || async {
        let files = open_files(gateway.pid()).await.saturating_sub(upstream.connections());
        (files <= quiet).then_some(())
    })
    .await;
    let place = stream.cut(true);
    let mut again = client.resume_after(place.last_id().expect("its events have ids")).await;
    let status = again.head().await.status();
    if status == 404 {
        return;
    }
    assert_eq!(status, 200);
    drop(again);
    let messages = client.resume(&place).await.rest().await;
    let last = messages.last().expect("a response");
    assert!(last.is_response(), "{}", &last.raw[..200]);
    let is_result = last.json["result"]["content"][0]["text"] == "the end";
    assert!(is_result || last.json["error"]["code"] == -32603, "{}", &last.raw[..last.raw.len().min(300)]);
    // What was thrown away was thrown away in whole messages, and what is left is in order.
    let steps: Vec<f64> =
        messages.iter().filter_map(|message| message.params()["progress"].as_f64()).collect();
    assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
}
