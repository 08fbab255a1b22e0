//! A panic inside fails one session or one upstream, and no other (F56).

use std::time::Duration;

use serde_json::json;

use crate::support::{HANDSHAKE, Upstream, eventually, gateway, http_upstream, within};

const QUICK: &str = "bounds: { backoff_first: 100ms, backoff_longest: 500ms, start_deadline: 5s }";

async fn two_behind(failpoints: &str) -> (Upstream, Upstream, crate::support::Gateway) {
    let one = http_upstream("one").start().await;
    let two = http_upstream("two").start().await;
    let gateway = gateway()
        .with("one", &one)
        .with("two", &two)
        .config(QUICK)
        .environment("SWITCHYARD_FAILPOINTS", failpoints)
        .start()
        .await;
    (one, two, gateway)
}

#[tokio::test]
async fn f56_a_panic_in_one_session_fails_that_session_alone() {
    let (_one, _two, mut gateway) = two_behind("panic_session=logging/setLevel").await;
    let (doomed, other) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
    other.until_tools(&["one__echo", "two__echo"]).await;
    let mut stream = other.standalone_stream().await;
    let mut hurt = doomed.open("logging/setLevel", json!({ "level": "info" })).await;
    let status = within(Duration::from_secs(5), "the panic to be told", hurt.head()).await.status();
    println!("the panicking request ended with HTTP {status}");
    let whole = hurt.whole().await;
    assert!(whole.status >= 400 || whole.body.contains("-32603"), "{whole:?}");

    let after =
        within(Duration::from_secs(5), "the dead session to be told", doomed.open("ping", json!({}))).await;
    let after = within(Duration::from_secs(5), "the dead session to be told", after.whole()).await;
    assert_eq!(after.status, 404, "a session that panicked is gone: {}", after.body);
    assert_eq!(other.request("ping", json!({})).await.status, 200);
    assert_eq!(other.call("one__echo", json!({})).await.text(), "one echoes {}");
    // Nothing of the panic reaches others; that their lists have filled meanwhile is another story.
    for message in stream.messages_within(Duration::from_millis(200)).await {
        assert!(message.method().ends_with("/list_changed"), "{}", message.raw);
    }
    assert_eq!(gateway.stateless().call("two__echo", json!({})).await.text(), "two echoes {}");
    let fresh = gateway.handshake(HANDSHAKE).await;
    assert_eq!(fresh.call("one__echo", json!({})).await.text(), "one echoes {}");
    assert!(gateway.is_alive());
    assert_eq!(gateway.admin_get("/healthz").await.status, 200);
}

#[tokio::test]
async fn f56_a_panic_in_one_upstream_fails_its_calls_alone_and_it_comes_back() {
    let (_one, _two, mut gateway) = two_behind("panic_upstream=completion/complete").await;
    let (client, modern) = (gateway.handshake(HANDSHAKE).await, gateway.stateless());
    client.until_tools(&["one__echo", "two__echo"]).await;
    let completion = json!({ "ref": { "type": "ref/prompt", "name": "one__greet" }, "argument": { "name": "who", "value": "x" } });
    for client in [&client, &modern] {
        let answer = client.request("completion/complete", completion.clone());
        let answer = within(Duration::from_secs(5), "the panic to be told", answer).await;
        assert_eq!(answer.error_code(), -32603, "{}", answer.raw);
        assert_eq!(
            client.call("two__echo", json!({})).await.text(),
            "two echoes {}",
            "the other upstream goes on"
        );
    }
    for client in [&client, &modern] {
        eventually("the upstream to be rebuilt", || async {
            let answer = client.call("one__echo", json!({})).await;
            (answer.json["result"]["content"][0]["text"] == "one echoes {}").then_some(())
        })
        .await;
    }
    assert!(gateway.is_alive());
}
