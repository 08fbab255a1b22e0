//! Servers that take long to start, for clients that know their tools already.

use serde_json::json;
use tokio::sync::watch;

use crate::support::upstream::UpstreamPlan;
use crate::support::{HANDSHAKE, STATELESS, TRANSPORTS, Transport, gateway, http_upstream, upstream};

/// A server that greets nobody before it is let.
fn late(transport: Transport) -> (UpstreamPlan, watch::Sender<bool>) {
    let (let_go, awake) = watch::channel(false);
    let plan = upstream("one", HANDSHAKE, transport).on("initialize", move |mut call| {
        let mut awake = awake.clone();
        async move {
            awake.wait_for(|awake| *awake).await.ok();
            call.default().await;
        }
    });
    (plan, let_go)
}

#[tokio::test]
async fn s_tool_08_what_a_server_may_have_that_never_listed_is_unavailable_and_not_unknown() {
    for transport in TRANSPORTS {
        let (plan, let_go) = late(transport);
        let (late, ready) = (plan.start().await, http_upstream("two").start().await);
        let gateway = gateway()
            .with("one", &late)
            .with("two", &ready)
            .config("bounds: { list_budget: 300ms }")
            .start()
            .await;
        for revision in [HANDSHAKE, STATELESS] {
            let client = gateway.client(revision).await;
            client.until_tools(&["two__echo"]).await;
            let answer = client.call("one__echo", json!({})).await;
            assert_eq!(
                answer.expect_failure("upstream_unavailable", "not_sent").failure()["retryable"],
                true
            );
            let prompt = client.request("prompts/get", json!({ "name": "one__greet" })).await;
            assert_eq!(prompt.error()["data"]["reason"], "upstream_unavailable", "{}", prompt.raw);
            for unknown in ["two__nothing", "three__echo", "one"] {
                let answer = client.call(unknown, json!({})).await;
                assert_eq!(answer.error_code(), -32602, "{unknown}: {}", answer.raw);
            }
        }
        let_go.send_replace(true);
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({})).await.text();
        let answer = client.call("one__nothing", json!({})).await;
        assert_eq!(answer.error_code(), -32602, "it has said what it offers: {}", answer.raw);
    }
}

#[tokio::test]
async fn s_tool_15_a_call_waits_for_the_first_lists_of_the_server_it_may_be_for() {
    for transport in TRANSPORTS {
        let (plan, let_go) = late(transport);
        let late = plan.start().await;
        let gateway = gateway().with("one", &late).config("bounds: { list_budget: 20s }").start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        let running = client.open_call("one__echo", json!({})).await;
        late.until_received("initialize", 1).await;
        let_go.send_replace(true);
        running.answer().await.text();
    }
}
