//! F27: clients that take almost nothing hold up nobody else, and are cut.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::client::Client;
use crate::support::http::write_head;
use crate::support::processes::{connected, open_files, processor_time, resident};
use crate::support::{Gateway, HANDSHAKE, Transport, eventually, gateway, upstream};

const NEIGHBOURS: usize = 5;
/// After this long without taking a byte a client is cut. Longer than any neighbour may wait, so that a neighbour that
/// waits for the cut is noticed.
const STALL: Duration = Duration::from_secs(18);
const FLOODED: &str = "the end of the flood";

/// A call whose answer is hardly read: a byte of it after so long, or none at all. When the story is `over` the rest is
/// read, and the task says whether the whole answer was there.
async fn stall(
    client: &Client,
    every: Option<Duration>,
    over: watch::Receiver<bool>,
) -> (u16, JoinHandle<bool>) {
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
    let port = stream.local_addr().expect("it is connected").port();
    let reading = tokio::spawn(async move {
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
    });
    (port, reading)
}

/// All neighbours call at once, again and again, while most of the stalled still hang; gives the slowest answer of each
/// round.
async fn neighbours_call(neighbours: &[Client], gateway: &Gateway, stalled: &[u16]) -> Vec<Duration> {
    let mut rounds = Vec::new();
    while rounds.len() < 20 && connected(gateway.endpoint.address, stalled).await > stalled.len() / 2 {
        let begun = tokio::time::Instant::now();
        let calls = neighbours.iter().map(|client| client.call("one__echo", json!({})));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.text(), "quick");
        }
        rounds.push(begun.elapsed());
    }
    rounds
}

/// Wait until the flood has come to a stand: what it costs to move it is no fault of those who do not read it.
async fn until_stalled(gateway: &Gateway) {
    eventually("the flood to come to a stand", || async {
        let before = processor_time(gateway.pid()).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        (processor_time(gateway.pid()).await <= before + 1).then_some(())
    })
    .await;
}

async fn story(transport: Transport, stalled_revision: &str, stalled: usize) {
    let upstream = upstream("one", HANDSHAKE, transport)
        .quiet()
        .tool("flood")
        .on("tools/call", |mut call| async move {
            if call.name() == "flood" {
                let token = call.params()["_meta"]["progressToken"].clone();
                let words = "x".repeat(16_384);
                // More than the system takes in by itself, made cheaply: the neighbours share a thread with this flood.
                for step in 1..=220 {
                    let params =
                        format!(r#"{{"progressToken":{token},"progress":{step},"message":"{words}"}}"#);
                    let method = "notifications/progress";
                    call.say(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)).await;
                    if step % 5 == 0 {
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
        "bounds: { write_stall: 18s, stream_buffer: 64KiB, session_buffer: 128KiB, replay_total: 8MiB }";
    let gateway = gateway().with_server("one", entry).config(bounds).start().await;
    let mut neighbours = Vec::new();
    for number in 0..NEIGHBOURS {
        let client = gateway.client([HANDSHAKE, crate::support::STATELESS][number % 2]).await.quiet();
        client.until_tools(&["one__flood"]).await;
        assert_eq!(client.call("one__echo", json!({})).await.text(), "quick");
        neighbours.push(client);
    }
    let mut slow = Vec::new();
    for _ in 0..stalled {
        slow.push(gateway.client(stalled_revision).await.quiet());
    }
    let (over, until) = watch::channel(false);
    let before = resident(gateway.pid()).await;
    let (mut ports, mut readers) = (Vec::new(), Vec::new());
    let begun = tokio::time::Instant::now();
    for (number, client) in slow.iter().enumerate() {
        let every = (number % 2 == 0).then_some(Duration::from_secs(1));
        let (port, reading) = stall(client, every, until.clone()).await;
        ports.push(port);
        readers.push(reading);
    }
    until_stalled(&gateway).await;
    let rounds = neighbours_call(&neighbours, &gateway, &ports).await;
    println!("{transport:?}: after {:?} neighbours waited {rounds:?}", begun.elapsed());
    let slowest =
        rounds.iter().max().unwrap_or_else(|| panic!("{transport:?}: nobody stalled for long enough"));
    assert!(*slowest < STALL / 3, "{transport:?}: a neighbour waited {slowest:?}");
    let most = watch_until_cut(&gateway, &ports, begun).await;
    over.send_replace(true);
    for reader in readers {
        assert!(!reader.await.expect("readers only read"), "{transport:?}: a slow reader got everything");
    }
    let grown = most.saturating_sub(before);
    println!("{transport:?}: memory {before} before, {most} at most");
    assert!(grown < 64 << 20, "{transport:?}: {stalled} slow readers grew the gateway by {grown} bytes");
    let client = gateway.handshake(HANDSHAKE).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "quick", "{transport:?}");
}

/// Wait until the gateway has cut all of these clients; gives the most memory it had.
async fn watch_until_cut(gateway: &Gateway, clients: &[u16], begun: tokio::time::Instant) -> u64 {
    let mut most = 0;
    loop {
        most = resident(gateway.pid()).await.max(most);
        let left = connected(gateway.endpoint.address, clients).await;
        let elapsed = begun.elapsed();
        if left == 0 {
            println!("all were cut after {elapsed:?}");
            assert!(elapsed > STALL, "they were cut before they stalled");
            return most;
        }
        assert!(elapsed < Duration::from_secs(70), "{left} slow readers were never cut");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn f27_s_https_17_slow_readers_are_cut_and_their_neighbours_at_the_same_server_never_notice() {
    story(Transport::Http, HANDSHAKE, 50).await;
}

#[tokio::test]
async fn f27_s_https_17_slow_readers_do_not_hold_up_the_one_child_that_all_share() {
    story(Transport::Stdio, HANDSHAKE, 50).await;
}

#[tokio::test]
async fn f27_slow_readers_of_the_stateless_era_are_cut_as_well() {
    story(Transport::Http, crate::support::STATELESS, 20).await;
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
