//! Every client era with every upstream era over every transport: the plain features work in all of them.

use serde_json::{Value, json};

use crate::support::{Call, HANDSHAKE, STATELESS, TRANSPORTS, Transport, gateway, upstream, within};

async fn scripted(mut call: Call) {
    match call.name() {
        "steps" => {
            for step in 1..=3 {
                call.progress(f64::from(step), 3.0).await;
            }
            call.text("three steps").await;
        }
        "wait" => {
            call.cancelled().await;
            call.text("too late").await;
        }
        "fail" => call.error(-31000, "it fails", json!({ "why": [1.0, null] })).await,
        _ => call.default().await,
    }
}

/// The plain features, one after the other.
async fn check(client_revision: &str, upstream_revision: &str, transport: Transport) {
    println!("=== {client_revision} client, {upstream_revision} upstream over {transport:?}");
    let upstream = upstream("one", upstream_revision, transport)
        .tool("steps")
        .tool("wait")
        .tool("fail")
        .on("tools/call", scripted)
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.client(client_revision).await;

    let tools = client.until_tools(&["one__echo"]).await;
    assert_eq!(tools.names("tools"), ["one__echo", "one__steps", "one__wait", "one__fail"]);
    assert_eq!(client.request("prompts/list", json!({})).await.names("prompts"), ["one__greet"]);
    assert_eq!(client.request("resources/list", json!({})).await.names("resources"), ["static"]);
    assert_eq!(
        client.request("resources/templates/list", json!({})).await.names("resourceTemplates"),
        ["item"]
    );

    let echoed = client.call("one__echo", json!({ "n": 1 })).await;
    assert_eq!(echoed.text(), r#"one echoes {"n":1}"#);
    let without_arguments = client.request("tools/call", json!({ "name": "one__echo" })).await;
    assert_eq!(without_arguments.text(), "one echoes {}");
    let failed = client.call("one__fail", json!({})).await;
    failed.expect_error(200, -31000);
    assert_eq!(failed.error()["data"], json!({ "why": [1.0, null] }));

    let read = client.request("resources/read", json!({ "uri": "test://one/item/7" })).await;
    assert_eq!(read.result()["contents"][0]["text"], "one reads \"test://one/item/7\"");
    let prompt =
        client.request("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "you" } })).await;
    assert_eq!(prompt.result()["messages"][0]["content"]["text"], "one greets \"you\"");
    let completion = json!({ "ref": { "type": "ref/prompt", "name": "one__greet" }, "argument": { "name": "who", "value": "y" } });
    let completed = client.request("completion/complete", completion).await;
    assert_eq!(completed.result()["completion"]["values"], json!(["y-one"]));

    let stepped = client.open_call_with_progress("one__steps", json!("token")).await.answer().await;
    assert_eq!((stepped.text(), stepped.progress()), ("three steps", vec![1.0, 2.0, 3.0]));

    cancel(&client, &upstream, upstream_revision, transport).await;
    assert_eq!(
        client.call("one__echo", json!({ "n": 2 })).await.text(),
        r#"one echoes {"n":2}"#,
        "still in order"
    );
    each_call_once(&upstream);
}

async fn cancel(
    client: &crate::support::Client,
    upstream: &crate::support::Upstream,
    upstream_revision: &str,
    transport: Transport,
) {
    let is_wait = |call: &&crate::support::upstream::Received| call.params()["name"] == "wait";
    let running = client.open_call("one__wait", json!({})).await;
    let waiting = upstream
        .until("the call to cancel", |ledger| {
            ledger.iter().filter(|received| received.method() == "tools/call").find(is_wait).cloned()
        })
        .await;
    if client.is_stateless() {
        drop(running);
    } else {
        client.notify("notifications/cancelled", json!({ "requestId": running.id() })).await;
        assert!(running.ends_without_response().await, "a cancelled request gets no response");
    }
    if upstream_revision != STATELESS || transport == Transport::Stdio {
        let told = upstream.until_received("notifications/cancelled", 1);
        let told = within(std::time::Duration::from_secs(5), "the upstream to be told", told).await;
        assert_eq!(told.params()["requestId"], waiting.json["id"]);
    }
}

fn each_call_once(upstream: &crate::support::Upstream) {
    let mut calls: Vec<(Value, Value)> = upstream
        .received("tools/call")
        .iter()
        .map(|call| (call.params()["name"].clone(), call.params()["arguments"].clone()))
        .collect();
    let expected = calls.len();
    calls.sort_unstable_by_key(|call| format!("{call:?}"));
    calls.dedup();
    assert_eq!((calls.len(), expected), (6, 6), "every call left exactly once: {calls:?}");
}

macro_rules! pairing {
    ($name:ident, $client:expr, $upstream:expr, $transport:ident) => {
        #[tokio::test]
        async fn $name() {
            check($client, $upstream, Transport::$transport).await;
        }
    };
}

pairing!(handshake_client_with_handshake_upstream_over_http, HANDSHAKE, HANDSHAKE, Http);
pairing!(handshake_client_with_handshake_upstream_over_stdio, HANDSHAKE, HANDSHAKE, Stdio);
pairing!(handshake_client_with_stateless_upstream_over_http, HANDSHAKE, STATELESS, Http);
pairing!(handshake_client_with_stateless_upstream_over_stdio, HANDSHAKE, STATELESS, Stdio);
pairing!(stateless_client_with_handshake_upstream_over_http, STATELESS, HANDSHAKE, Http);
pairing!(stateless_client_with_handshake_upstream_over_stdio, STATELESS, HANDSHAKE, Stdio);
pairing!(stateless_client_with_stateless_upstream_over_http, STATELESS, STATELESS, Http);
pairing!(stateless_client_with_stateless_upstream_over_stdio, STATELESS, STATELESS, Stdio);
pairing!(oldest_client_with_stateless_upstream_over_http, "2024-11-05", STATELESS, Http);
pairing!(stateless_client_with_oldest_upstream_over_stdio, STATELESS, "2024-11-05", Stdio);
pairing!(second_client_with_third_upstream_over_http, "2025-03-26", "2025-06-18", Http);
pairing!(third_client_with_second_upstream_over_stdio, "2025-06-18", "2025-03-26", Stdio);

#[tokio::test]
async fn all_eras_behind_one_endpoint_at_the_same_time() {
    let mut upstreams = Vec::new();
    let mut plan = gateway();
    let mut expected = Vec::new();
    for revision in [HANDSHAKE, STATELESS] {
        for transport in TRANSPORTS {
            let name = format!("u{}", upstreams.len());
            let upstream = upstream(&name, revision, transport).start().await;
            plan = plan.with(&name, &upstream);
            expected.push(format!("{name}__echo"));
            upstreams.push(upstream);
        }
    }
    let gateway = plan.start().await;
    let names: Vec<&str> = expected.iter().map(String::as_str).collect();
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        assert_eq!(client.until_tools(&names).await.names("tools"), expected);
        for (n, name) in names.iter().enumerate() {
            assert_eq!(client.call(name, json!({})).await.text(), format!("u{n} echoes {{}}"));
        }
    }
}
