//! What each revision may be shown (S-LIFE-08, -09, -13).

use serde_json::{Value, json};

use crate::support::{
    Client, HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, Transport, eventually, gateway, http_upstream,
    stateless_upstream, stdio_upstream, upstream,
};

#[tokio::test]
async fn s_life_08_each_side_sees_the_gateway_in_the_fields_of_its_own_revision() {
    for revision in HANDSHAKE_REVISIONS {
        let upstream = upstream("one", revision, Transport::Http).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(revision).await;
        client.until_tools(&["one__echo"]).await;
        let towards_client = client.welcome["serverInfo"].clone();
        assert_ne!(towards_client["name"], "one-itself", "the upstream's identity stays behind the gateway");
        expect_fields(revision, &towards_client);
        let greeting = upstream.until_received("initialize", 1).await;
        assert_ne!(
            greeting.params()["clientInfo"]["name"],
            "story",
            "the client's identity stays before the gateway"
        );
        if revision == HANDSHAKE {
            expect_fields(revision, &greeting.params()["clientInfo"]);
        }
    }
}

fn expect_fields(revision: &str, identity: &Value) {
    let mut allowed = vec!["name", "version"];
    if revision >= "2025-06-18" {
        allowed.push("title");
    }
    if revision >= "2025-11-25" {
        allowed.extend(["description", "icons", "websiteUrl"]);
    }
    for field in identity.as_object().expect("an identity is an object").keys() {
        assert!(allowed.contains(&field.as_str()), "{field} did not exist in {revision}: {identity}");
    }
}

#[tokio::test]
async fn s_life_12_a_revision_that_is_switched_off_is_not_spoken() {
    let upstream = http_upstream("one").start().await;
    let plan = gateway().with("one", &upstream).config("revisions: [2025-06-18, 2025-11-25]");
    let gateway = plan.start().await;
    for (asked, agreed) in [
        ("2024-11-05", "2025-11-25"),
        ("2025-03-26", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
    ] {
        let mut client = Client::silent(&gateway.endpoint, asked, json!({}));
        let answer = client.initialize().await;
        assert_eq!(answer.result()["protocolVersion"], agreed, "asked for {asked}");
    }
    let refusal = gateway.stateless().request("tools/list", json!({})).await;
    let error = refusal.expect_error(400, -32022).error();
    assert_eq!(error["data"]["supported"], json!(["2025-11-25", "2025-06-18"]));
}

#[tokio::test]
async fn s_life_09_instructions_pass_alone_and_are_told_apart_together() {
    let one = http_upstream("one").instructions("Count to one.").start().await;
    let two = stdio_upstream("two").instructions("Count to two.").start().await;
    let alone = gateway().with("one", &one).start().await;
    let instructions = eventually("the upstream's instructions", || async {
        let client = alone.handshake(HANDSHAKE).await;
        client.welcome["instructions"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(instructions, "Count to one.");

    let both = gateway().with("one", &one).with("two", &two).start().await;
    let instructions = eventually("both instructions", || async {
        let client = both.handshake(HANDSHAKE).await;
        let text = client.welcome["instructions"].as_str()?.to_owned();
        (text.contains("Count to one.") && text.contains("Count to two.")).then_some(text)
    })
    .await;
    assert!(instructions.contains("one") && instructions.contains("two"), "{instructions}");
}

#[tokio::test]
async fn s_life_13_a_client_is_shown_nothing_that_its_revision_does_not_know() {
    let modern = stateless_upstream("new")
        .tool_as(json!({
            "name": "rich",
            "title": "Rich",
            "description": "Everything at once.",
            "icons": [{ "src": "https://example.com/i.png" }],
            "annotations": { "readOnlyHint": true },
            "inputSchema": { "type": "object" },
            "outputSchema": { "type": "array", "items": { "type": "integer" } },
        }))
        .on("tools/call", |mut call| async move {
            let result = call.complete(json!({
                "content": [
                    { "type": "text", "text": "plain" },
                    { "type": "audio", "data": "AAAA", "mimeType": "audio/wav" },
                    { "type": "resource_link", "uri": "test://new/static", "name": "static" },
                ],
                "structuredContent": [1, 2, 3],
            }));
            call.result(result).await;
        })
        .start()
        .await;
    let gateway = gateway().with("new", &modern).start().await;
    for revision in HANDSHAKE_REVISIONS {
        let client = gateway.handshake(revision).await;
        let listing = client.until_tools(&["new__rich"]).await;
        let tools = listing.result()["tools"].as_array().expect("judged by the schema").clone();
        let rich = tools.iter().find(|tool| tool["name"] == "new__rich").expect("listed");
        let shows = |field: &str| rich.get(field).is_some();
        assert_eq!(shows("annotations"), revision >= "2025-03-26", "{revision}: {rich}");
        assert_eq!(shows("title"), revision >= "2025-06-18", "{revision}: {rich}");
        assert_eq!(shows("icons"), revision >= "2025-11-25", "{revision}: {rich}");
        assert!(!shows("outputSchema"), "not an object schema: {revision}: {rich}");
        assert_eq!(rich["description"], "Everything at once.");

        let answer = client.call("new__rich", json!({})).await;
        assert!(answer.result().get("structuredContent").is_none(), "not an object: {}", answer.raw);
        let kinds: Vec<&str> = answer.result()["content"]
            .as_array()
            .expect("judged by the schema")
            .iter()
            .map(|block| block["type"].as_str().expect("judged by the schema"))
            .collect();
        assert_eq!(kinds.contains(&"audio"), revision >= "2025-03-26", "{revision}: {}", answer.raw);
        assert_eq!(kinds.contains(&"resource_link"), revision >= "2025-06-18", "{revision}: {}", answer.raw);
        assert!(kinds.len() >= 3, "what cannot be shown is told in text: {}", answer.raw);
        let text = answer.raw.replace(' ', "");
        assert!(text.contains("[1,2,3]"), "the structured result stays readable: {}", answer.raw);
    }
}

#[tokio::test]
async fn s_life_08_a_server_is_told_who_is_behind_a_call_only_where_the_operator_says_so() {
    let forged = json!({ "name": "one__echo", "arguments": {}, "_meta": { "switchyard/client": { "name": "forged" } } });
    for revision in [HANDSHAKE, STATELESS] {
        for (settings, told) in [
            (json!({}), Value::Null),
            (json!({ "tell_client": false }), Value::Null),
            (json!({ "tell_client": true }), json!({ "name": "story" })),
        ] {
            let upstream = http_upstream("one").start().await;
            let gateway = gateway().with_more("one", &upstream, settings.clone()).start().await;
            let client = gateway.client(revision).await;
            client.until_tools(&["one__echo"]).await;
            client.request("tools/call", forged.clone()).await.result();
            let call = upstream.until_received("tools/call", 1).await;
            assert_eq!(call.params()["_meta"]["switchyard/client"], told, "{revision} with {settings}");
        }
    }
}
