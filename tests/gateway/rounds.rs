//! A stateless server behind the gateway, a client that is asked by requests: the gateway makes the rounds (era-bridge §4.2).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::{
    Gateway, HANDSHAKE, STATELESS, TRANSPORTS, Transport, Upstream, gateway, stateless_upstream, upstream,
};

fn form() -> Value {
    json!({ "message": "Who?", "requestedSchema": { "type": "object", "properties": { "name": { "type": "string" } } } })
}

fn asks(requests: Value, state: Value) -> Value {
    let mut result = json!({ "resultType": "input_required", "inputRequests": requests });
    if !state.is_null() {
        result["requestState"] = state;
    }
    result
}

fn elicit(params: Value) -> Value {
    json!({ "method": "elicitation/create", "params": params })
}

/// A server that asks once for what its arguments name, and then tells what it was answered.
async fn asking_once(transport: Transport) -> Upstream {
    upstream("one", STATELESS, transport)
        .on("tools/call", |mut call| async move {
            let params = call.params().clone();
            match params.get("inputResponses") {
                Some(responses) => call.text(&responses.to_string()).await,
                None => call.result(asks(params["arguments"]["requests"].clone(), json!("theirs"))).await,
            }
        })
        .start()
        .await
}

async fn before(upstream: &Upstream, revision: &str, capabilities: Value, config: &str) -> (Gateway, Client) {
    let gateway = gateway()
        .with_more("one", upstream, json!({ "ask": { "roots": true } }))
        .config(config)
        .start()
        .await;
    let client = gateway.handshake_with(revision, capabilities).await;
    client.until_tools(&["one__echo"]).await;
    (gateway, client)
}

fn all() -> Value {
    json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} })
}

#[tokio::test]
async fn s_mrtr_04_the_client_is_asked_in_its_session_and_the_server_called_again() {
    for transport in TRANSPORTS {
        let upstream = asking_once(transport).await;
        let (_gateway, client) = before(&upstream, HANDSHAKE, all(), "").await;
        let requests = json!({
            "who": elicit(form()),
            "model": { "method": "sampling/createMessage", "params": { "messages": [{ "role": "user", "content": { "type": "text", "text": "hi" } }], "maxTokens": 5 } },
            "where": { "method": "roots/list" },
        });
        let mut exchange = client.open_call("one__echo", json!({ "requests": requests })).await;
        let sampled =
            json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "ho" } });
        for _ in 0..3 {
            let question = exchange.next().await.expect("all are put at once");
            let answer = match question.method() {
                "elicitation/create" => json!({ "action": "accept", "content": { "name": "Ada" } }),
                "sampling/createMessage" => sampled.clone(),
                "roots/list" => json!({ "roots": [{ "uri": "file:///home" }] }),
                other => panic!("{other}"),
            };
            client.respond(&question.json["id"], answer).await;
        }
        let answer = exchange.answer().await;
        let told: Value = serde_json::from_str(answer.text()).expect("JSON");
        assert_eq!(told["who"], json!({ "action": "accept", "content": { "name": "Ada" } }));
        assert_eq!(told["model"], sampled);
        assert_eq!(told["where"], json!({ "roots": [{ "uri": "file:///home" }] }));
        assert_eq!(told.as_object().expect("an object").len(), 3);
        assert!(answer.result().get("resultType").is_none());
        let calls = upstream.received("tools/call");
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[1].params()["requestState"], "theirs");
        assert!(calls[0].params().get("requestState").is_none());
        assert_ne!(calls[0].json["id"], calls[1].json["id"]);
        let declared = &calls[1].params()["_meta"]["io.modelcontextprotocol/clientCapabilities"];
        assert_eq!(
            *declared,
            json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} })
        );
    }
}

#[tokio::test]
async fn s_mrtr_17_progress_grows_over_the_rounds_and_a_person_s_time_is_not_the_server_s() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            for step in [0.0, 50.0, 100.0] {
                call.progress(step, 100.0).await;
            }
            match call.params()["requestState"].as_str() {
                Some("3") => call.text("done").await,
                state => {
                    let next = state.map_or(1, |state| state.parse::<u32>().expect("a number") + 1);
                    call.result(asks(json!({ "who": elicit(form()) }), json!(next.to_string()))).await;
                }
            }
        })
        .start()
        .await;
    let gateway = gateway().with_more("one", &upstream, json!({ "timeout": "600ms" })).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
    client.until_tools(&["one__echo"]).await;
    let mut exchange = client.open_call_with_progress("one__echo", json!("mine")).await;
    for _ in 0..3 {
        let question = exchange.until_method("elicitation/create").await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        client.respond(&question.json["id"], json!({ "action": "accept", "content": { "name": "x" } })).await;
    }
    let answer = exchange.answer().await;
    assert_eq!(answer.text(), "done");
    let progress = answer.progress();
    assert!(progress.windows(2).all(|pair| pair[0] < pair[1]), "{progress:?}");
}

#[tokio::test]
async fn s_elic_06_whoever_declines_or_refuses_or_is_silent_is_told_so_to_the_server() {
    let upstream = asking_once(Transport::Http).await;
    let (_gateway, client) = before(&upstream, HANDSHAKE, all(), "bounds: { input_timeout: 500ms }").await;
    let requests = json!({ "who": elicit(form()) });
    for (answer, told) in [
        (Some(json!({ "action": "decline" })), "decline"),
        (Some(json!({ "action": "cancel" })), "cancel"),
        (None, "cancel"),
    ] {
        let mut exchange = client.open_call("one__echo", json!({ "requests": requests })).await;
        let question = exchange.until_method("elicitation/create").await;
        match answer {
            Some(answer) => client.respond(&question.json["id"], answer).await,
            None => client.refuse(&question.json["id"], -1, "no").await,
        };
        assert_eq!(exchange.answer().await.text(), json!({ "who": { "action": told } }).to_string());
    }
    let mut silent = client.open_call("one__echo", json!({ "requests": requests })).await;
    let question = silent.until_method("elicitation/create").await;
    let withdrawn = silent.until_method("notifications/cancelled").await;
    assert_eq!(withdrawn.params()["requestId"], question.json["id"]);
    assert_eq!(silent.answer().await.text(), json!({ "who": { "action": "cancel" } }).to_string());
}

#[tokio::test]
async fn s_samp_08_a_refusal_without_a_place_ends_the_call_and_the_server_is_not_called_again() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            call.result(asks(json!({ "where": { "method": "roots/list" } }), json!("s"))).await
        })
        .on("prompts/get", |mut call| async move {
            call.result(asks(json!({ "where": { "method": "roots/list" } }), json!("s"))).await
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, HANDSHAKE, all(), "").await;
    for (method, params) in [
        ("tools/call", json!({ "name": "one__echo", "arguments": {} })),
        ("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "x" } })),
    ] {
        let mut exchange = client.open(method, params).await;
        let question = exchange.until_method("roots/list").await;
        client.refuse(&question.json["id"], -32603, "no roots today").await;
        let answer = exchange.answer().await;
        answer.expect_failure("input_refused", "unknown");
        if method == "prompts/get" {
            assert_eq!(answer.error_code(), -32603);
        }
        assert_eq!(upstream.received(method).len(), 1, "{method}");
    }
}

#[tokio::test]
async fn s_mrtr_13_a_server_that_is_not_ready_is_called_again_after_a_while() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            match call.count() {
                1 | 2 => call.result(json!({ "resultType": "input_required", "requestState": "wait" })).await,
                _ => call.text("done").await,
            }
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, HANDSHAKE, json!({}), "").await;
    let started = tokio::time::Instant::now();
    assert_eq!(client.call("one__echo", json!({})).await.text(), "done");
    assert!(started.elapsed() >= Duration::from_millis(1_500), "half a second, then one");
    let calls = upstream.received("tools/call");
    assert_eq!(calls.len(), 3);
    assert!(calls[1].params().get("inputResponses").is_none() && calls[2].params()["requestState"] == "wait");
}

#[tokio::test]
async fn s_elic_08_nobody_is_sent_twice_to_the_same_page_and_the_client_hears_of_its_end() {
    let page = json!({ "mode": "url", "message": "Sign in", "url": "https://example.com/in" });
    let upstream = stateless_upstream("one")
        .on("tools/call", move |mut call| {
            let page = page.clone();
            async move {
                match call.count() {
                    1..=3 => call.result(asks(json!({ "visit": elicit(page) }), json!("s"))).await,
                    _ => call.text("signed in").await,
                }
            }
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, HANDSHAKE, all(), "").await;
    let mut exchange = client.open_call("one__echo", json!({})).await;
    let question = exchange.until_method("elicitation/create").await;
    assert_eq!(question.params()["url"], "https://example.com/in");
    let id = question.params()["elicitationId"].as_str().expect("an identifier of the gateway's").to_owned();
    client.respond(&question.json["id"], json!({ "action": "accept" })).await;
    let completed = exchange.until_method("notifications/elicitation/complete").await;
    assert_eq!(completed.params()["elicitationId"], *id);
    let answer = exchange.answer().await;
    assert_eq!(answer.text(), "signed in");
    let asked = answer.before.iter().filter(|message| message.method() == "elicitation/create").count();
    assert_eq!(asked, 1, "{:?}", answer.before);
    let calls = upstream.received("tools/call");
    assert!(calls[1..].iter().all(|call| call.params()["inputResponses"]["visit"]["action"] == "accept"));
}

#[tokio::test]
async fn s_canc_01_a_call_that_is_cancelled_while_its_client_is_asked_asks_no_longer() {
    let upstream = asking_once(Transport::Http).await;
    let (_gateway, client) = before(&upstream, HANDSHAKE, all(), "").await;
    let mut exchange = client.open_call("one__echo", json!({ "requests": { "who": elicit(form()) } })).await;
    let question = exchange.until_method("elicitation/create").await;
    client.notify("notifications/cancelled", json!({ "requestId": exchange.id() })).await;
    let withdrawn = exchange.until_method("notifications/cancelled").await;
    assert_eq!(withdrawn.params()["requestId"], question.json["id"]);
    assert!(exchange.ends_without_response().await);
    client.respond(&question.json["id"], json!({ "action": "decline" })).await;
    client
        .request("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "x" } }))
        .await
        .result();
    assert_eq!(upstream.received("tools/call").len(), 1, "the late answer goes nowhere");
}

#[tokio::test]
async fn s_mrtr_16_an_endless_server_is_given_up() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            call.result(asks(json!({ "who": elicit(form()) }), json!("s"))).await;
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, HANDSHAKE, all(), "bounds: { input_rounds: 3 }").await;
    let mut exchange = client.open_call("one__echo", json!({})).await;
    for _ in 0..3 {
        let question = exchange.until_method("elicitation/create").await;
        client.respond(&question.json["id"], json!({ "action": "decline" })).await;
    }
    exchange.answer().await.expect_failure("upstream_protocol_error", "unknown");
    assert_eq!(upstream.received("tools/call").len(), 4);
}

#[tokio::test]
async fn s_elic_05_what_an_older_client_cannot_show_is_cancelled_and_what_it_lacks_ends_the_call() {
    let upstream = asking_once(Transport::Http).await;
    let (gateway, client) = before(&upstream, "2025-06-18", json!({ "elicitation": {} }), "").await;
    let many = json!({ "message": "Which?", "requestedSchema": { "type": "object", "properties": { "x": { "type": "array", "items": { "type": "string", "enum": ["a"] } } } } });
    let answer = client.call("one__echo", json!({ "requests": { "which": elicit(many) } })).await;
    assert_eq!(answer.text(), json!({ "which": { "action": "cancel" } }).to_string());
    let old = gateway.handshake_with("2025-03-26", json!({})).await;
    let answer = old.call("one__echo", json!({ "requests": { "who": elicit(form()) } })).await;
    answer.expect_failure("input_refused", "unknown");
    let declared = upstream.received("tools/call").pop().expect("it arrived");
    assert_eq!(declared.params()["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
}

#[tokio::test]
async fn s_mrtr_17_all_rounds_together_have_the_time_of_one_call() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            call.result(json!({ "resultType": "input_required", "requestState": "wait" })).await;
        })
        .start()
        .await;
    let config = "bounds: { call_maximum: 2s, input_timeout: 60s }";
    let (_gateway, client) = before(&upstream, HANDSHAKE, json!({}), config).await;
    let started = tokio::time::Instant::now();
    client.call("one__echo", json!({})).await.expect_failure("upstream_timeout", "unknown");
    assert!((2..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}
