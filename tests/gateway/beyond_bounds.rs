//! F37: results and arguments beyond every bound, twenty at once.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Client;
use crate::support::processes::resident;
use crate::support::{
    HANDSHAKE, STATELESS, TRANSPORTS, Transport, eventually, gateway, http_upstream, upstream, within,
};

const AT_ONCE: usize = 20;

#[tokio::test]
async fn f37_s_base_18_twenty_results_beyond_the_bound_are_told_so_and_memory_stays_flat() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .quiet()
            .tool("huge")
            .on("tools/call", |mut call| async move {
                let mebibytes = call.params()["arguments"]["mebibytes"].as_u64().unwrap_or_default();
                let text = "x".repeat((mebibytes << 20) as usize);
                call.text(&text).await;
            })
            .start()
            .await;
        let bounds = "bounds: { upstream_result: 256KiB, stdio_line: 256KiB, backoff_first: 100ms }";
        let gateway = gateway().with("one", &upstream).config(bounds).start().await;
        let mut clients = Vec::new();
        for number in 0..4 {
            let client =
                gateway.client(["2024-11-05", "2025-06-18", HANDSHAKE, STATELESS][number]).await.quiet();
            client.until_tools(&["one__huge"]).await;
            client.call("one__echo", json!({})).await.result();
            clients.push(client);
        }
        let before = resident(gateway.pid()).await;
        let calls = (0..AT_ONCE).map(|number| {
            let client = &clients[number % clients.len()];
            async move { client.open_call("one__huge", json!({ "mebibytes": 2 })).await.answer().await }
        });
        let answers = within(
            Duration::from_secs(60),
            "twenty results of 2 MiB to be refused",
            futures_util::future::join_all(calls),
        )
        .await;
        for answer in answers {
            match transport {
                Transport::Http => drop(answer.expect_failure("result_too_large", "executed")),
                // The line cannot be told from any other before it is read; the child is given up, as F17 has it.
                Transport::Stdio => {
                    let reason = answer.failure()["reason"].as_str().unwrap_or_default().to_owned();
                    let may = [
                        "result_too_large",
                        "upstream_protocol_error",
                        "upstream_lost",
                        "upstream_unavailable",
                    ];
                    assert!(may.contains(&reason.as_str()), "{}", answer.raw);
                }
            }
            assert!(answer.raw.len() < 4_000, "nothing of it is passed on");
        }
        for client in &clients {
            eventually("the server to be usable again", || async {
                let answer = client.call("one__echo", json!({})).await;
                (answer.json["result"]["isError"].is_null() && answer.json.get("result").is_some())
                    .then_some(())
            })
            .await;
        }
        let grown = resident(gateway.pid()).await.saturating_sub(before);
        println!("{transport:?}: grown by {grown}");
        assert!(grown < 24 << 20, "{transport:?}: 40 MiB of results grew the gateway by {grown} bytes");
    }
}

#[tokio::test]
async fn f37_s_base_18_twenty_requests_beyond_the_bound_are_refused_unread() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { request_body: 64KiB }").start().await;
    let client = gateway.handshake(HANDSHAKE).await.quiet();
    client.until_tools(&["one__echo"]).await;
    let before = resident(gateway.pid()).await;
    // Made beforehand: who opens a connection and says nothing for long is refused for that.
    let params = json!({ "name": "one__echo", "arguments": { "text": "x".repeat(4 << 20) } });
    let body =
        json!({ "jsonrpc": "2.0", "id": "large", "method": "tools/call", "params": params }).to_string();
    let posts = (0..AT_ONCE).map(|_| post_large(&client, &body));
    futures_util::future::join_all(posts).await;
    assert!(upstream.received("tools/call").is_empty(), "what is too large is not sent");
    assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");
    let grown = resident(gateway.pid()).await.saturating_sub(before);
    assert!(grown < 24 << 20, "80 MiB of arguments grew the gateway by {grown} bytes");
}

async fn post_large(client: &Client, body: &str) {
    let headers = client.headers("tools/call", &json!({}));
    let connection = crate::support::client::Connection::open(client.endpoint.address).await;
    let exchange = connection.send_quietly("POST", &client.endpoint.path, headers, body.as_bytes()).await;
    let answer = exchange.whole().await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert_eq!(answer.json()["error"]["data"]["reason"], "request_too_large", "{}", answer.body);
}
