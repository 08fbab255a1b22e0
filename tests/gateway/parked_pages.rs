//! A server that refuses a call until pages are visited, before a stateless client (error -32042; era-bridge §4.4).

use std::time::Duration;

use serde_json::{Value, json};

use super::parked::{ELICIT, Required, TOOL, able, answer, before, form, go_on, i_am};
use crate::support::client::Client;
use crate::support::{HANDSHAKE, TRANSPORTS, Transport, Upstream, upstream};

const YES: &str = r#"{"action":"accept"}"#;

fn yes() -> Value {
    serde_json::from_str(YES).expect("JSON")
}

/// A server that wants these pages visited for the first `times` calls.
async fn wants(transport: Transport, pages: Value, times: usize) -> Upstream {
    upstream("one", HANDSHAKE, transport)
        .on("tools/call", move |mut call| {
            let pages = pages.clone();
            async move {
                if call.count() > times {
                    return call.text("signed in").await;
                }
                call.error(-32042, "first sign in", json!({ "elicitations": pages })).await;
            }
        })
        .start()
        .await
}

fn page(id: &str, url: &str) -> Value {
    json!({ "mode": "url", "elicitationId": id, "url": url, "message": "Please sign in" })
}

#[tokio::test]
async fn s_elic_09_a_call_is_made_again_after_its_pages_were_visited() {
    for transport in TRANSPORTS {
        let pages = json!([page("a", "https://a.example/x"), page("b", "https://b.example/y")]);
        let upstream = wants(transport, pages, 1).await;
        let (_gateway, client) = before(&upstream, "pages_wait: 200ms").await;
        let required = Required::of(&client.call(TOOL, json!({})).await);
        assert_eq!(required.keys().len(), 2, "{transport:?}");
        for request in required.requests.as_object().expect("a map").values() {
            assert_eq!(request["method"], "elicitation/create");
            assert_eq!(request["params"]["mode"], "url");
            assert!(request["params"].get("elicitationId").is_none(), "{request}");
        }
        let keys = required.keys();
        let rest = Required::of(&go_on(&client, &json!({}), &required, json!({ &*keys[0]: yes() })).await);
        assert_eq!(rest.keys(), keys[1..], "{transport:?}");
        assert_eq!(upstream.received("tools/call").len(), 1, "not before all are visited");
        let both = json!({ &*keys[0]: yes(), &*keys[1]: yes() });
        let done = go_on(&client, &json!({}), &rest, both).await;
        assert_eq!(done.text(), "signed in", "{transport:?}");
        assert_eq!(upstream.received("tools/call").len(), 2, "{transport:?}");
    }
}

#[tokio::test]
async fn s_mrtr_07_a_state_that_comes_twice_makes_the_call_once() {
    let upstream = wants(Transport::Http, json!([page("a", "https://a.example/x")]), 1).await;
    let (_gateway, client) = before(&upstream, "pages_wait: 100ms").await;
    let required = Required::of(&client.call(TOOL, json!({})).await);
    let none = json!({});
    let (one, two) =
        tokio::join!(answer(&client, &none, &required, yes()), answer(&client, &none, &required, yes()));
    let third = answer(&client, &none, &required, yes()).await;
    let lost = [&one, &two, &third].into_iter().filter(|answer| answer.raw.contains("parked_call_lost"));
    assert_eq!(lost.count(), 2, "{} {} {}", one.raw, two.raw, third.raw);
    assert_eq!(upstream.received("tools/call").len(), 2, "refused once, made again once");
}

#[tokio::test]
async fn s_mrtr_16_questions_and_pages_in_turn_are_rounds_of_one_call() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio)
        .on("tools/call", |mut call| async move {
            call.ask(ELICIT, form("who?")).await;
            let pages = json!([page("a", "https://a.example/x")]);
            call.error(-32042, "first sign in", json!({ "elicitations": pages })).await;
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, "input_rounds: 4, pages_wait: 10ms").await;
    let mut required = Required::of(&client.call(TOOL, json!({})).await);
    for round in 1..4 {
        let result = if round % 2 == 1 { i_am("me") } else { yes() };
        required = Required::of(&answer(&client, &json!({}), &required, result).await);
    }
    let stopped = answer(&client, &json!({}), &required, yes()).await;
    assert_eq!(stopped.result()["isError"], true, "{}", stopped.raw);
}

#[tokio::test]
async fn s_elic_08_the_call_waits_until_its_server_has_seen_the_visit() {
    let upstream = wants(Transport::Http, json!([page("a", "https://a.example/x")]), 1).await;
    let (_gateway, client) = before(&upstream, "pages_wait: 20s").await;
    let required = Required::of(&client.call(TOOL, json!({})).await);
    let refused = upstream.received("tools/call").pop().expect("it was called");
    upstream.until_standing_for(&refused).await;
    let waiting = tokio::spawn(async move { answer(&client, &json!({}), &required, yes()).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(upstream.received("tools/call").len(), 1, "the visit is not over");
    upstream.tell(&refused, "notifications/elicitation/complete", json!({ "elicitationId": "a" })).await;
    let done = waiting.await.expect("it does not panic");
    assert_eq!(done.text(), "signed in");
}

#[tokio::test]
async fn s_elic_09_who_declines_is_told_so_and_the_call_is_not_made_again() {
    let upstream = wants(Transport::Stdio, json!([page("a", "https://a.example/x")]), 9).await;
    let (_gateway, client) = before(&upstream, "pages_wait: 200ms").await;
    for action in ["decline", "cancel"] {
        let required = Required::of(&client.call(TOOL, json!({})).await);
        let made = upstream.received("tools/call").len();
        let done = answer(&client, &json!({}), &required, json!({ "action": action })).await;
        assert_eq!(done.result()["isError"], true, "{}", done.raw);
        assert!(!done.raw.contains("a.example"), "no address: {}", done.raw);
        assert_eq!(upstream.received("tools/call").len(), made);
    }
    let required = Required::of(&client.call(TOOL, json!({})).await);
    let next = Required::of(&answer(&client, &json!({}), &required, yes()).await);
    assert_ne!(next.state, required.state, "refused again, it is the next round");
    answer(&client, &json!({}), &next, json!(7)).await.expect_error(200, -32602);
}

#[tokio::test]
async fn s_elic_09_who_cannot_open_pages_learns_what_is_missing() {
    let upstream = wants(Transport::Http, json!([page("a", "https://a.example/x")]), 9).await;
    let (gateway, _) = before(&upstream, "").await;
    for declared in [json!({}), json!({ "elicitation": {} }), json!({ "sampling": {} })] {
        let client = Client::stateless(&gateway.endpoint, declared);
        let refused = client.call(TOOL, json!({})).await;
        refused.expect_error(400, -32021);
        let needed = &refused.error()["data"]["requiredCapabilities"];
        assert_eq!(*needed, json!({ "elicitation": { "url": {} } }), "{}", refused.raw);
        assert!(!refused.raw.contains("a.example"), "{}", refused.raw);
    }
}

#[tokio::test]
async fn s_elic_07_an_address_that_runs_something_is_never_shown() {
    for url in ["javascript:alert(1)", "file:///etc/passwd", "vscode://x"] {
        let upstream = wants(Transport::Http, json!([page("a", url)]), 9).await;
        let (_gateway, client) = before(&upstream, "").await;
        let refused = client.call(TOOL, json!({})).await;
        assert_eq!(refused.result()["isError"], true, "{}", refused.raw);
        assert!(!refused.raw.contains(url), "{}", refused.raw);
    }
    assert!(able()["elicitation"]["url"].is_object());
}
