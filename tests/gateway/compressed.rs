//! F38: what comes compressed is not unpacked, so there is nothing that could grow.

use serde_json::json;

use crate::support::processes::resident;
use crate::support::{HANDSHAKE, STATELESS, Transport, gateway, http_upstream, upstream};

/// 64 MiB of spaces in less than 100 KiB.
async fn bomb() -> Vec<u8> {
    let program = "import gzip, sys; sys.stdout.buffer.write(gzip.compress(b' ' * (64 << 20), 6))";
    let made = tokio::process::Command::new("python3").args(["-c", program]).output().await.expect("python3");
    assert!(made.status.success() && (10..100 << 10).contains(&made.stdout.len()), "{}", made.stdout.len());
    made.stdout
}

#[tokio::test]
async fn f38_a_compressed_answer_is_refused_unread_and_none_is_asked_for() {
    let bomb = bytes::Bytes::from(bomb().await);
    for revision in [STATELESS, HANDSHAKE] {
        let bomb = bomb.clone();
        let upstream = upstream("one", revision, Transport::Http)
            .on("tools/call", move |mut call| {
                let bomb = bomb.clone();
                async move {
                    let coding = call.params()["arguments"]["coding"].as_str().unwrap_or_default().to_owned();
                    let kind = call.params()["arguments"]["kind"].as_str().unwrap_or_default().to_owned();
                    if coding.is_empty() {
                        return call.default().await;
                    }
                    let fields = [("Content-Type", kind.as_str()), ("Content-Encoding", coding.as_str())];
                    // Where no coding is told, the body is simply no JSON.
                    let fields = if coding == "untold" { &fields[..1] } else { &fields[..] };
                    call.http(200, fields, &bomb).await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for client in [gateway.stateless(), gateway.handshake(HANDSHAKE).await] {
            client.until_tools(&["one__echo"]).await;
            let before = resident(gateway.pid()).await;
            for coding in ["gzip", "x-gzip", "deflate", "br", "zstd", "identity, gzip", "untold"] {
                for kind in ["application/json", "text/event-stream"] {
                    let answer = client.call("one__echo", json!({ "coding": coding, "kind": kind })).await;
                    let failure = answer.failure();
                    let expected = ["upstream_protocol_error", "upstream_lost"];
                    assert!(
                        expected.iter().any(|reason| failure["reason"] == *reason),
                        "{coding}: {}",
                        answer.raw
                    );
                    assert_eq!(failure["outcome"], "unknown", "{coding} {kind}: {}", answer.raw);
                }
            }
            let grown = resident(gateway.pid()).await.saturating_sub(before);
            assert!(grown < 32 << 20, "answers that nobody unpacks grew the gateway by {grown} bytes");
            assert!(client.call("one__echo", json!({})).await.text().starts_with("one echoes"));
        }
        for received in upstream.ledger() {
            assert_eq!(received.headers.get("accept-encoding"), None, "{} {}", received.verb, received.raw);
        }
    }
}

#[tokio::test]
async fn f38_a_compressed_request_is_refused_unread() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let body = bomb().await;
    for client in [gateway.stateless(), gateway.handshake(HANDSHAKE).await] {
        client.until_tools(&["one__echo"]).await;
        let before = resident(gateway.pid()).await;
        for coding in ["gzip", "deflate", "br", "gzip, identity"] {
            let mut headers = client.headers("tools/list", &json!({}));
            headers.set("Content-Encoding", coding);
            let answer = client.endpoint.ask("POST", headers, &body).await;
            assert_eq!(answer.status, 415, "{coding}: {}", answer.body);
        }
        let mut headers = client.headers("tools/list", &json!({}));
        headers.set("Content-Encoding", "identity");
        let params = client.dress(json!({}));
        let plain = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params });
        let answer = client.endpoint.ask("POST", headers, plain.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let grown = resident(gateway.pid()).await.saturating_sub(before);
        assert!(grown < 32 << 20, "requests that nobody unpacks grew the gateway by {grown} bytes");
    }
}
