//! Resources: where a URI leads, collisions, subscriptions (S-RES).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    HANDSHAKE, STATELESS, TRANSPORTS, gateway, http_upstream, stateless_upstream, stdio_upstream, upstream,
};

#[tokio::test]
async fn s_res_01_04_uris_find_their_upstream_by_list_template_and_link() {
    let one = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.result(
                json!({ "content": [{ "type": "resource_link", "uri": "linked:only", "name": "linked" }] }),
            )
            .await;
        })
        .start()
        .await;
    let two = stdio_upstream("two").start().await;
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo", "two__echo"]).await;
        let listed = client.until_listed("resources", &["static"]).await;
        let uris: Vec<&Value> =
            listed.result()["resources"].as_array().expect("judged").iter().map(|r| &r["uri"]).collect();
        assert_eq!(uris, ["test://one/static", "test://two/static"]);
        let templates = client.request("resources/templates/list", json!({})).await;
        assert_eq!(templates.names("resourceTemplates"), ["item", "item"]);
        for (uri, who) in
            [("test://one/static", "one"), ("test://two/static", "two"), ("test://two/item/42", "two")]
        {
            let read = client.request("resources/read", json!({ "uri": uri })).await;
            let contents = &read.result()["contents"][0];
            assert_eq!(
                (&contents["uri"], &contents["text"]),
                (&json!(uri), &json!(format!("{who} reads \"{uri}\"")))
            );
        }
        client.call("one__echo", json!({})).await.result();
        let linked = client.request("resources/read", json!({ "uri": "linked:only" })).await;
        assert_eq!(linked.result()["contents"][0]["text"], "one reads \"linked:only\"");

        let before = one.ledger().len() + two.ledger().len();
        let unknown = client.request("resources/read", json!({ "uri": "test://three/static" })).await;
        let code = if revision == STATELESS { -32602 } else { -32002 };
        unknown.expect_error(200, code);
        assert_eq!(unknown.error()["data"]["uri"], "test://three/static", "{}", unknown.raw);
        assert_eq!(one.ledger().len() + two.ledger().len(), before, "nobody was asked");
    }
}

#[tokio::test]
async fn s_res_02_not_found_has_the_code_of_the_client_s_revision() {
    let old = http_upstream("old")
        .on("resources/read", |mut call| async move {
            let data = json!({ "uri": call.params()["uri"] });
            call.error(-32002, "no such resource", data).await;
        })
        .start()
        .await;
    let new = stateless_upstream("new")
        .on("resources/read", |mut call| async move {
            let data = json!({ "uri": call.params()["uri"] });
            call.error(-32602, "no such resource", data).await;
        })
        .start()
        .await;
    let gateway = gateway().with("old", &old).with("new", &new).start().await;
    for (revision, code) in [(HANDSHAKE, -32002), (STATELESS, -32602)] {
        let client = gateway.client(revision).await;
        client.until_tools(&["old__echo", "new__echo"]).await;
        for uri in ["test://old/item/1", "test://new/item/1"] {
            let answer = client.request("resources/read", json!({ "uri": uri })).await;
            answer.expect_error(200, code);
            assert_eq!(answer.error()["data"]["uri"], uri, "{}", answer.raw);
        }
    }
}

#[tokio::test]
async fn s_res_03_unlawful_uris_go_nowhere() {
    let upstream = http_upstream("one").start().await;
    let other = http_upstream("two").start().await;
    let gateway = gateway().with("one", &upstream).with("two", &other).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo", "two__echo"]).await;
    for uri in ["", "not a uri", "file:///../../etc/passwd", "//no-scheme", "\u{0}", "1:x"] {
        let answer = client.request("resources/read", json!({ "uri": uri })).await;
        assert!(matches!(answer.error_code(), -32602 | -32002), "{uri:?}: {}", answer.raw);
    }
    assert_eq!(upstream.received("resources/read").len() + other.received("resources/read").len(), 0);
}

#[tokio::test]
async fn s_res_04_a_single_upstream_gets_every_uri() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let read = client.request("resources/read", json!({ "uri": "unlisted:thing" })).await;
    assert_eq!(read.result()["contents"][0]["text"], "one reads \"unlisted:thing\"");
    client.request("resources/subscribe", json!({ "uri": "unlisted:other" })).await.result();
}

#[tokio::test]
async fn s_res_05_the_same_uri_from_two_upstreams_stays_two_resources() {
    let same = || json!({ "uri": "file:///a", "name": "a" });
    let one = http_upstream("one").show(|shown| shown.resources = vec![same()]).start().await;
    let two = http_upstream("two")
        .show(|shown| shown.resources = vec![same()])
        .on("tools/call", |mut call| async move {
            call.result(json!({ "content": [
                { "type": "resource_link", "uri": "file:///a", "name": "a" },
                { "type": "resource", "resource": { "uri": "file:///a", "text": "two" } },
            ] }))
            .await;
        })
        .on("prompts/get", |mut call| async move {
            let resource = json!({ "type": "resource", "resource": { "uri": "file:///a", "text": "two" } });
            call.result(json!({ "messages": [{ "role": "user", "content": resource }] })).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo", "two__echo"]).await;
        let listed = client.request("resources/list", json!({})).await;
        let uris: Vec<String> = listed.result()["resources"]
            .as_array()
            .expect("judged")
            .iter()
            .map(|resource| resource["uri"].as_str().expect("judged").to_owned())
            .collect();
        assert_eq!((uris.len(), uris[0].as_str()), (2, "file:///a"), "the first keeps its URI: {uris:?}");
        let later = &uris[1];
        assert!(later != "file:///a" && later.contains("two"), "the later one names its upstream: {uris:?}");
        for (uri, who) in [("file:///a", "one"), (later.as_str(), "two")] {
            let read = client.request("resources/read", json!({ "uri": uri })).await;
            let contents = &read.result()["contents"][0];
            assert_eq!(contents["text"], format!("{who} reads \"file:///a\""), "{}", read.raw);
            assert_eq!(contents["uri"], uri, "rewritten on the way back: {}", read.raw);
        }
        let called = client.call("two__echo", json!({})).await;
        assert_eq!(called.result()["content"][0]["uri"], *later, "{}", called.raw);
        assert_eq!(called.result()["content"][1]["resource"]["uri"], *later, "{}", called.raw);
        let prompt =
            client.request("prompts/get", json!({ "name": "two__greet", "arguments": { "who": "x" } })).await;
        assert_eq!(prompt.result()["messages"][0]["content"]["resource"]["uri"], *later, "{}", prompt.raw);
        let reference = json!({ "ref": { "type": "ref/resource", "uri": later }, "argument": { "name": "x", "value": "" } });
        client.request("completion/complete", reference).await.result();
        let asked = two.received("completion/complete");
        assert_eq!(asked.last().expect("it was asked").params()["ref"]["uri"], "file:///a");
        if revision == HANDSHAKE {
            let mut stream = client.standalone_stream().await;
            client.request("resources/subscribe", json!({ "uri": later })).await.result();
            let subscribed = two.until_received("resources/subscribe", 1).await;
            assert_eq!(subscribed.params()["uri"], "file:///a");
            two.until_standing_for(&subscribed).await;
            two.announce("notifications/resources/updated", json!({ "uri": "file:///a" })).await;
            let updated = stream.until_method("notifications/resources/updated").await;
            assert_eq!(updated.params()["uri"], *later, "{}", updated.raw);
        }
    }
}

#[tokio::test]
async fn s_res_06_updates_go_to_the_subscriber_alone_and_only_where_offered() {
    let offers = http_upstream("one").start().await;
    let lacks = http_upstream("two").capabilities(json!({ "resources": {}, "tools": {} })).start().await;
    let gateway = gateway().with("one", &offers).with("two", &lacks).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let bystander = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo", "two__echo"]).await;
    let (mut stream, mut other) = (client.standalone_stream().await, bystander.standalone_stream().await);
    client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
    client
        .request("resources/subscribe", json!({ "uri": "test://two/static" }))
        .await
        .expect_error(200, -32601);
    assert_eq!(lacks.received("resources/subscribe").len(), 0);
    let subscribed = offers.until_received("resources/subscribe", 1).await;
    offers.until_standing_for(&subscribed).await;
    offers.announce("notifications/resources/updated", json!({ "uri": "test://one/static" })).await;
    let updated = stream.until_method("notifications/resources/updated").await;
    assert_eq!(updated.params()["uri"], "test://one/static");
    offers.announce("notifications/resources/updated", json!({ "uri": "test://one/other" })).await;
    for message in other.messages_within(Duration::from_millis(500)).await {
        assert_ne!(message.method(), "notifications/resources/updated", "{}", message.raw);
    }
    client.request("resources/unsubscribe", json!({ "uri": "test://one/static" })).await.result();
    offers.until_received("resources/unsubscribe", 1).await;
    offers.announce("notifications/resources/updated", json!({ "uri": "test://one/static" })).await;
    for message in stream.messages_within(Duration::from_millis(500)).await {
        assert_ne!(message.method(), "notifications/resources/updated", "{}", message.raw);
    }
}

#[tokio::test]
async fn s_res_07_the_first_update_may_come_before_the_answer_to_the_subscription() {
    const UPDATED: &str = "notifications/resources/updated";
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("resources/subscribe", |mut call| async move {
                let update = json!({ "uri": call.params()["uri"] });
                if call.count() == 1 {
                    return call.error(-32_603, "not yet", Value::Null).await;
                }
                call.notify(UPDATED, update).await;
                call.default().await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        let uri = json!({ "uri": "test://one/static" });
        client.request("resources/subscribe", uri.clone()).await.error();
        let subscribed = upstream.until_received("resources/subscribe", 1).await;
        upstream.until_standing_for(&subscribed).await;
        upstream.announce(UPDATED, uri.clone()).await;
        stream.never(UPDATED, Duration::from_millis(300)).await;
        client.request("resources/subscribe", uri).await.result();
        let updated = stream.until_method(UPDATED).await;
        assert_eq!(updated.params()["uri"], "test://one/static", "{transport:?}");
    }
}
