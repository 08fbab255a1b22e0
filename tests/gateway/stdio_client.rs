//! The gateway as the owner of well-behaved stdio children (S-STDIO).

use std::collections::HashSet;

use serde_json::json;

use crate::support::{HANDSHAKE, STATELESS, Transport, gateway, stdio_upstream, upstream};

#[tokio::test]
async fn s_stdio_01_one_message_a_line_and_nothing_else() {
    for revision in [HANDSHAKE, STATELESS] {
        let upstream = upstream("one", revision, Transport::Stdio).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        for client_revision in [HANDSHAKE, STATELESS] {
            let client = gateway.client(client_revision).await;
            client.until_tools(&["one__echo"]).await;
            // Line breaks between tokens are lawful JSON over HTTP and would break a line on stdio.
            let params = client.dress(json!({ "name": "one__echo", "arguments": { "text": "two\nlines" } }));
            let body = serde_json::to_string_pretty(
                &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }),
            )
            .expect("values are JSON")
            .replace('\n', "\r\n");
            let headers = client.headers("tools/call", &params);
            let answer =
                client.open_raw(json!(1), "tools/call", headers, body.as_bytes()).await.answer().await;
            assert!(answer.text().contains(r"two\nlines"), "{}", answer.raw);
        }
        for line in upstream.ledger() {
            assert!(line.json.is_object(), "each line is one message: {:?}", line.raw);
            assert!(!line.raw.contains('\r'), "{:?}", line.raw);
        }
    }
}

#[tokio::test]
async fn s_stdio_08_each_session_has_a_child_of_its_own_unless_told_otherwise() {
    let upstream = stdio_upstream("one").start().await;
    let apart = gateway().with("one", &upstream).start().await;
    let (ada, bob) = (apart.handshake(HANDSHAKE).await, apart.handshake(HANDSHAKE).await);
    ada.until_tools(&["one__echo"]).await;
    ada.call("one__echo", json!({ "who": "ada" })).await.text();
    bob.call("one__echo", json!({ "who": "bob" })).await.text();
    let connections: HashSet<usize> =
        upstream.received("tools/call").iter().map(|call| call.connection).collect();
    assert_eq!(connections.len(), 2, "one child each");

    let shared = stdio_upstream("one").start().await;
    let together = gateway().with_more("one", &shared, json!({ "share": "all" })).start().await;
    let (ada, bob) = (together.handshake(HANDSHAKE).await, together.handshake(HANDSHAKE).await);
    ada.until_tools(&["one__echo"]).await;
    ada.call("one__echo", json!({ "who": "ada" })).await.text();
    bob.call("one__echo", json!({ "who": "bob" })).await.text();
    let connections: HashSet<usize> =
        shared.received("tools/call").iter().map(|call| call.connection).collect();
    assert_eq!(connections.len(), 1, "one child for all");
}

#[tokio::test]
async fn s_stdio_09_a_child_sees_only_the_environment_it_was_given() {
    let upstream = stdio_upstream("one").start().await;
    let gateway = gateway()
        .with_more(
            "one",
            &upstream,
            json!({ "env": { "GIVEN": "${env:SECRET_SOURCE}", "PLAIN": "yes" }, "cwd": "/" }),
        )
        .environment("SECRET_SOURCE", "secret-canary")
        .environment("NOT_FOR_CHILDREN", "leak-canary")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let birth = upstream.births().pop().expect("a child was born");
    assert_eq!(
        (&birth["environment"]["GIVEN"], &birth["environment"]["PLAIN"]),
        (&json!("secret-canary"), &json!("yes"))
    );
    assert_eq!(birth["directory"], "/");
    assert!(birth["environment"].get("NOT_FOR_CHILDREN").is_none(), "{birth}");
    assert!(birth["environment"].get("SECRET_SOURCE").is_none(), "{birth}");
    assert!(!gateway.stderr().contains("secret-canary"), "secrets are not logged");
    let servers = gateway.admin_get("/api/v1/servers").await;
    assert!(!servers.body.contains("secret-canary"), "nor shown: {}", servers.body);
}
