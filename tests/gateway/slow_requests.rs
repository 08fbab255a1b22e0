//! F28: clients that send their requests slowly are closed at the limit, and nobody else notices them.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::support::client::Connection;
use crate::support::processes::resident;
use crate::support::{Gateway, HANDSHAKE, gateway, http_upstream, within};

/// Of each kind.
const SLOW: usize = 250;

async fn slow_head(gateway: &Gateway) -> Connection {
    let mut slow = Connection::open(gateway.endpoint.address).await;
    slow.write(b"POST /mcp HTTP/1.1\r\nHost: ").await;
    slow
}

async fn slow_body(gateway: &Gateway) -> Connection {
    let mut slow = Connection::open(gateway.endpoint.address).await;
    slow.write(head(gateway, 100_000).as_bytes()).await;
    slow.write(b"{\"jsonrpc\":").await;
    slow
}

fn head(gateway: &Gateway, length: usize) -> String {
    let host = gateway.endpoint.address;
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn f28_slow_heads_and_bodies_are_closed_at_the_limit_and_nobody_else_notices() {
    let upstream = http_upstream("one").quiet().start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { head_timeout: 3s }").start().await;
    let client = gateway.handshake(HANDSHAKE).await.quiet();
    client.until_tools(&["one__echo"]).await;
    let before = resident(gateway.pid()).await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(slow_head(&gateway).await);
        slow.push(slow_body(&gateway).await);
    }
    let begun = Instant::now();
    let mut worst = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");
        worst = worst.max(asked.elapsed());
    }
    assert!(worst < Duration::from_secs(1), "a call took {worst:?} beside slow requests");
    let grown = resident(gateway.pid()).await.saturating_sub(before);
    assert!(grown < 64 << 20, "{} slow requests grew the gateway by {grown} bytes", 2 * SLOW);
    for (number, slow) in slow.iter_mut().enumerate() {
        let said = slow.read_to_close(Duration::from_secs(15)).await;
        assert!(said.is_some(), "slow request {number} is still open {:?} after it began", begun.elapsed());
    }
    assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");
}

#[tokio::test]
async fn f28_a_body_that_trickles_is_given_up_and_one_that_only_takes_its_time_is_not() {
    let upstream = http_upstream("one").start().await;
    let bounds = "bounds: { head_timeout: 1s, body_rate: 2KiB }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;

    let mut trickling = slow_body(&gateway).await;
    let said = within(Duration::from_secs(10), "a trickling body to be given up", async {
        let mut said = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            tokio::select! {
                read = trickling.stream_mut().read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return said,
                    Ok(length) => said.extend_from_slice(&buffer[..length]),
                },
                () = tokio::time::sleep(Duration::from_millis(100)) => trickling.write(b" ").await,
            }
        }
    })
    .await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");

    // 12 KiB in 3 s: longer than the limit of a head, and faster than the rate.
    let text = "x".repeat(12 << 10);
    let body = json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call",
                       "params": { "name": "one__echo", "arguments": { "text": text } } })
    .to_string();
    let mut steady = Connection::open(gateway.endpoint.address).await;
    let session = client.session.as_deref().expect("a session");
    let head = head(&gateway, body.len())
        .replace("\r\n\r\n", &format!("\r\nMcp-Session-Id: {session}\r\nConnection: close\r\n\r\n"));
    steady.write(head.as_bytes()).await;
    for piece in body.as_bytes().chunks(body.len() / 15) {
        steady.write(piece).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let said = steady.read_to_close(Duration::from_secs(10)).await.expect("an answer");
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("one echoes"), "{said}");
}
