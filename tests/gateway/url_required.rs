//! Calls that first need the user at a page: error -32042 (S-ELIC-09).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::upstream::{Call, UpstreamPlan};
use crate::support::{HANDSHAKE, STATELESS, TRANSPORTS, Transport, gateway, upstream};

const COMPLETE: &str = "notifications/elicitation/complete";

fn required() -> Value {
    json!({ "note": "kept", "elicitations": [
        { "mode": "url", "elicitationId": "marker-a", "url": "https://example.com/a?key=hush", "message": "Sign in at A" },
        { "mode": "url", "elicitationId": "marker-b", "url": "https://example.com/b", "message": "Sign in at B" },
    ] })
}

/// Refuse the first request of each session with what must be done first, and serve the second.
async fn sign_in_first(mut call: Call, served: Value) {
    if call.count() % 2 == 1 {
        return call.error(-32042, "sign in first", required()).await;
    }
    let result = call.complete(served);
    call.result(result).await;
}

fn demanding(name: &str, transport: Transport) -> UpstreamPlan {
    upstream(name, HANDSHAKE, transport)
        .on("tools/call", |call| {
            sign_in_first(call, json!({ "content": [{ "type": "text", "text": "welcome" }] }))
        })
        .on("resources/read", |call| {
            let uri = call.params()["uri"].clone();
            sign_in_first(call, json!({ "contents": [{ "uri": uri, "text": "welcome" }] }))
        })
        .on("prompts/get", |call| {
            let message = json!({ "role": "user", "content": { "type": "text", "text": "welcome" } });
            sign_in_first(call, json!({ "messages": [message] }))
        })
}

fn requests() -> [(&'static str, Value); 3] {
    [
        ("tools/call", json!({ "name": "one__echo", "arguments": {} })),
        ("resources/read", json!({ "uri": "test://one/static" })),
        ("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "x" } })),
    ]
}

async fn settled(client: &Client) {
    client.until_tools(&["one__echo"]).await;
    client.until_listed("prompts", &["one__greet"]).await;
    client.until_listed("resources", &["static"]).await;
}

fn mapped_ids(answer: &Answer) -> Vec<String> {
    let error = answer.error();
    assert_eq!(error["code"], -32042, "{}", answer.raw);
    assert_eq!(error["message"], "sign in first");
    assert_eq!(error["data"]["note"], "kept", "what else it says passes");
    assert!(!answer.raw.contains("marker-"), "the upstream's ids stay on its hop: {}", answer.raw);
    let given = required();
    let wanted = given["elicitations"].as_array().expect("a list");
    let shown = error["data"]["elicitations"].as_array().expect("judged by the schema");
    assert_eq!(shown.len(), wanted.len());
    for (shown, wanted) in shown.iter().zip(wanted) {
        assert_eq!((&shown["mode"], &shown["url"]), (&json!("url"), &wanted["url"]));
        let message = shown["message"].as_str().expect("judged by the schema");
        assert!(message.ends_with(wanted["message"].as_str().expect("text")), "{message:?}");
    }
    shown.iter().map(|page| page["elicitationId"].as_str().expect("judged").to_owned()).collect()
}

#[tokio::test]
async fn s_elic_09_a_client_that_can_open_pages_gets_them_under_ids_of_the_gateway() {
    for transport in TRANSPORTS {
        let upstream = demanding("one", transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let bystander = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": { "url": {} } })).await;
        let mut others = bystander.standalone_stream().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": { "url": {} } })).await;
        settled(&client).await;
        let mut stream = client.standalone_stream().await;
        for (method, params) in requests() {
            let answer = client.request(method, params.clone()).await;
            assert_eq!(answer.status, 200, "{}", answer.raw);
            let ids = mapped_ids(&answer);
            assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() >= 22), "{ids:?}");
            let asked = upstream.received(method).pop().expect("it arrived");
            upstream.until_standing_for(&asked).await;
            for (theirs, mine) in [("marker-b", &ids[1]), ("marker-a", &ids[0])] {
                upstream.tell(&asked, COMPLETE, json!({ "elicitationId": theirs })).await;
                let told = stream.until_method(COMPLETE).await;
                assert_eq!(told.params()["elicitationId"], json!(mine), "{method} over {transport:?}");
            }
            let again = client.request(method, params).await;
            assert!(again.raw.contains("welcome"), "the second attempt is served: {}", again.raw);
        }
        others.never(COMPLETE, Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn s_elic_09_a_client_that_cannot_is_told_in_words_it_understands() {
    for transport in TRANSPORTS {
        let upstream = demanding("one", transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        for (revision, capabilities) in [
            ("2024-11-05", json!({})),
            ("2025-03-26", json!({})),
            ("2025-06-18", json!({ "elicitation": {} })),
            ("2025-06-18", json!({ "elicitation": { "url": {} } })),
            (HANDSHAKE, json!({})),
            (HANDSHAKE, json!({ "elicitation": {} })),
            (HANDSHAKE, json!({ "elicitation": { "form": {} } })),
        ] {
            let client = gateway.handshake_with(revision, capabilities.clone()).await;
            settled(&client).await;
            for (method, params) in requests() {
                let answer = client.request(method, params.clone()).await;
                assert_eq!(answer.status, 200);
                assert!(!answer.raw.contains("marker-"), "{}", answer.raw);
                if method == "tools/call" {
                    assert_eq!(answer.result()["isError"], true, "{revision} {capabilities}: {}", answer.raw);
                    assert!(
                        answer.text().contains("Sign in at A"),
                        "it names what is needed: {}",
                        answer.raw
                    );
                    assert!(
                        !answer.raw.contains("example.com"),
                        "no page without the operator's leave: {}",
                        answer.raw
                    );
                } else {
                    assert_eq!(answer.error_code(), -32603, "{revision} {capabilities}: {}", answer.raw);
                    assert!(!answer.raw.contains("hush"), "{}", answer.raw);
                }
                let again = client.request(method, params).await;
                assert!(again.raw.contains("welcome"), "{}", again.raw);
            }
        }
    }
}

#[tokio::test]
async fn s_elic_09_a_stateless_client_never_sees_the_code() {
    let upstream = demanding("one", Transport::Http).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for capabilities in [json!({}), json!({ "elicitation": { "url": {}, "form": {} } })] {
        let client = Client::stateless(&gateway.endpoint, capabilities);
        assert_eq!(client.revision, STATELESS);
        settled(&client).await;
        for (method, params) in requests() {
            let answer = client.request(method, params.clone()).await;
            assert_ne!(answer.json["error"]["code"], -32042, "{}", answer.raw);
            assert!(!answer.raw.contains("marker-"), "{}", answer.raw);
            client.request(method, params).await.result();
        }
    }
}

#[tokio::test]
async fn s_elic_09_the_code_without_its_list_of_pages_is_the_upstream_s_mistake() {
    for data in [
        json!(null),
        json!({}),
        json!({ "elicitations": "none" }),
        json!({ "elicitations": [{ "mode": "form" }] }),
    ] {
        let upstream = upstream("one", HANDSHAKE, Transport::Http)
            .on("tools/call", move |mut call| {
                let data = data.clone();
                async move { call.error(-32042, "sign in first", data).await }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": { "url": {} } })).await;
        client.until_tools(&["one__echo"]).await;
        // Judged by the schema: the code never goes out without a valid list.
        let answer = client.call("one__echo", json!({})).await;
        let failed = answer.json.get("error").is_some() || answer.result()["isError"] == true;
        assert!(failed, "{}", answer.raw);
    }
}
