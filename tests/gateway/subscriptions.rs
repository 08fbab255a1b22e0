//! Subscriptions while names change: ended under the name they were made under, told under names that lead back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Exchange};
use crate::support::upstream::UpstreamPlan;
use crate::support::{HANDSHAKE, gateway, http_upstream};

const UPDATED: &str = "notifications/resources/updated";
const CHANGED: &str = "notifications/resources/list_changed";

fn offering(name: &'static str, uris: &'static [&'static str]) -> UpstreamPlan {
    http_upstream(name).show(|shown| shown.resources = resources(name, uris))
}

/// Lists show them by name: `server uri`.
fn resources(server: &str, uris: &[&str]) -> Vec<Value> {
    uris.iter().map(|uri| json!({ "uri": uri, "name": format!("{server} {uri}") })).collect()
}

async fn subscribe(client: &Client, uri: &str) {
    client.request("resources/subscribe", json!({ "uri": uri })).await.result();
}

/// URIs of the updates told within a moment.
async fn told(stream: &mut Exchange) -> Vec<String> {
    let messages = stream.messages_within(Duration::from_millis(500)).await;
    let updates = messages.iter().filter(|message| message.method() == UPDATED);
    updates.map(|update| update.params()["uri"].as_str().expect("judged by the schema").to_owned()).collect()
}

#[tokio::test]
async fn s_res_06_s_res_07_a_subscription_ends_at_its_server_wherever_its_uri_leads_by_now() {
    let (one, two) = (offering("one", &["x:one"]).start().await, offering("two", &["x:two"]).start().await);
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_listed("resources", &["one x:one", "two x:two"]).await;
    let mut stream = client.standalone_stream().await;
    for (server, uri) in [(&one, "x:one"), (&two, "x:two")] {
        subscribe(&client, uri).await;
        let subscribed = server.until_received("resources/subscribe", 1).await;
        server.until_standing_for(&subscribed).await;
    }
    one.until_standing().await;
    // What was of the second is now of the first, and what was of the first is in no list any more.
    one.show(|shown| shown.resources = resources("one", &["x:two"]));
    one.announce(CHANGED, json!({})).await;
    client.until_listed("resources", &["one x:two", "two x:two"]).await;
    two.announce(UPDATED, json!({ "uri": "x:two" })).await;
    let updated = stream.until_method(UPDATED).await;
    assert_eq!(updated.params()["uri"], "switchyard://two/x:two", "whose it is");
    for (server, uri) in [(&one, "x:one"), (&two, "x:two")] {
        client.request("resources/unsubscribe", json!({ "uri": uri })).await.result();
        assert_eq!(server.until_received("resources/unsubscribe", 1).await.params()["uri"], uri);
        server.announce(UPDATED, json!({ "uri": uri })).await;
    }
    assert_eq!(told(&mut stream).await, [""; 0]);
    assert_eq!(
        (one.received("resources/unsubscribe").len(), two.received("resources/unsubscribe").len()),
        (1, 1)
    );
}

#[tokio::test]
async fn s_res_05_s_res_08_updates_of_parts_name_what_the_client_can_read() {
    let one = offering("one", &["f:///dir/x"]).start().await;
    let two = offering("two", &["f:///dir", "f:///dir/x", "f:///dir/y"]).start().await;
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_listed("resources", &["one f:///dir/x", "two f:///dir/x"]).await;
    let mut stream = client.standalone_stream().await;
    subscribe(&client, "f:///dir").await;
    let subscribed = two.until_received("resources/subscribe", 1).await;
    two.until_standing_for(&subscribed).await;
    for (uri, expected) in [
        ("f:///dir", "f:///dir"),
        ("f:///dir/x", "switchyard://two/f:///dir/x"),
        ("f:///dir/y", "f:///dir/y"),
    ] {
        two.announce(UPDATED, json!({ "uri": uri })).await;
        let public = stream.until_method(UPDATED).await.params()["uri"].clone();
        assert_eq!(public, expected);
        let read = client.request("resources/read", json!({ "uri": public })).await;
        assert_eq!(read.result()["contents"][0]["text"], format!("two reads \"{uri}\""));
    }
    client.request("resources/unsubscribe", json!({ "uri": "f:///dir" })).await.result();
    // Followed under its wrapped name, its parts are told under theirs.
    subscribe(&client, "switchyard://two/f:///dir").await;
    two.until_received("resources/subscribe", 2).await;
    two.announce(UPDATED, json!({ "uri": "f:///dir/y" })).await;
    assert_eq!(stream.until_method(UPDATED).await.params()["uri"], "switchyard://two/f:///dir/y");
}

#[tokio::test]
async fn s_res_05_s_res_07_two_names_of_one_resource_are_two_subscriptions_and_one_upstream() {
    let one = offering("one", &["x:1"]).start().await;
    let two = http_upstream("two").start().await;
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_listed("resources", &["one x:1"]).await;
    let mut stream = client.standalone_stream().await;
    let names = ["x:1", "switchyard://one/x:1"];
    for name in names {
        subscribe(&client, name).await;
    }
    let subscribed = one.until_received("resources/subscribe", 1).await;
    one.until_standing_for(&subscribed).await;
    let unsubscribe = async |uri: &str| {
        client.request("resources/unsubscribe", json!({ "uri": uri })).await.result();
    };
    one.announce(UPDATED, json!({ "uri": "x:1" })).await;
    let mut both = told(&mut stream).await;
    both.sort();
    assert_eq!(both, [names[1], names[0]], "each by its name");
    unsubscribe(names[1]).await;
    // One that was never made ends nothing either.
    unsubscribe(names[1]).await;
    one.announce(UPDATED, json!({ "uri": "x:1" })).await;
    assert_eq!(told(&mut stream).await, [names[0]]);
    assert_eq!(one.received("resources/unsubscribe").len(), 0, "it is still followed");
    unsubscribe(names[0]).await;
    one.until_received("resources/unsubscribe", 1).await;
    one.announce(UPDATED, json!({ "uri": "x:1" })).await;
    assert_eq!(told(&mut stream).await, [""; 0]);
}

#[tokio::test]
async fn s_base_05_s_res_06_a_refused_subscription_is_told_in_the_servers_words() {
    let refusal = || json!({ "max": 3, "nested": [1.50] });
    let one = offering("one", &["x:1"])
        .on("resources/subscribe", move |mut call| async move {
            match call.count() {
                1 => call.error(-32_000, "too many subscriptions", refusal()).await,
                2 => call.error(-32_601, "there is no such method", Value::Null).await,
                _ => call.default().await,
            }
        })
        .on("resources/unsubscribe", move |mut call| async move {
            call.error(-31_999, "not now", refusal()).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &one).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_listed("resources", &["one x:1"]).await;
    let mut stream = client.standalone_stream().await;
    let uri = json!({ "uri": "x:1" });
    let refused = client.request("resources/subscribe", uri.clone()).await;
    let expected = json!({ "code": -32_000, "message": "too many subscriptions", "data": refusal() });
    assert_eq!(*refused.error(), expected);
    client.request("resources/subscribe", uri.clone()).await.expect_error(200, -32_601);
    subscribe(&client, "x:1").await;
    let subscribed = one.until_received("resources/subscribe", 3).await;
    one.until_standing_for(&subscribed).await;
    one.announce(UPDATED, uri.clone()).await;
    stream.until_method(UPDATED).await;
    let refused = client.request("resources/unsubscribe", uri.clone()).await;
    assert_eq!(*refused.error(), json!({ "code": -31_999, "message": "not now", "data": refusal() }));
    // Whatever the server makes of it, the client has said that it wants no more of them.
    one.announce(UPDATED, uri).await;
    assert_eq!(told(&mut stream).await, [""; 0]);
}
