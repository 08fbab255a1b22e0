//! What can end a call that waits for its client, and what its client is told then (S-MRTR-05 … 10, S-CANC-05, F25).

use std::time::Duration;

use serde_json::{Value, json};

use super::parked::{
    ELICIT, Required, SAMPLE, TOOL, able, answer, before, form, go_on, going_on, i_am, prompt,
};
use crate::support::client::{Answer, Client, question};
use crate::support::upstream::Received;
use crate::support::{HANDSHAKE, TRANSPORTS, Transport, gateway, stdio_upstream, upstream, within};

/// Refused as a state that is none; every reason reads the same.
fn refusal(answer: &Answer) -> String {
    answer.expect_error(200, -32602).error()["message"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn s_mrtr_07_a_round_that_comes_twice_is_delivered_once() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let (_gateway, client) = before(&upstream, "").await;
        let mut arguments = question(ELICIT, &form("again?"));
        arguments["times"] = json!(2);
        let first = Required::of(&client.call(TOOL, arguments.clone()).await);
        let second = Required::of(&answer(&client, &arguments, &first, i_am("one")).await);
        // During: it is told what is asked now.
        let again = Required::of(&answer(&client, &arguments, &first, i_am("forged")).await);
        assert_eq!(again.keys(), second.keys(), "{transport:?}");
        assert_ne!(again.state, second.state, "every state is new (S-MRTR-11)");
        let done = answer(&client, &arguments, &again, i_am("two")).await;
        let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
        assert_eq!(heard, json!([{ "result": i_am("one") }, { "result": i_am("two") }]), "{transport:?}");
        // After: the call is over, and is not made again.
        for late in [&first, &second, &again] {
            let refused = answer(&client, &arguments, late, i_am("late")).await;
            refused.expect_error(200, -32602);
            assert_eq!(refused.failure()["reason"], "parked_call_lost", "{}", refused.raw);
        }
        assert_eq!(upstream.received("tools/call").len(), 1, "{transport:?}");
    }
}

#[tokio::test]
async fn s_mrtr_07_a_request_that_comes_again_takes_the_call_over() {
    let upstream = stdio_upstream("one")
        .on("tools/call", |mut call| async move {
            let answer = call.ask(ELICIT, form("who?")).await;
            call.progress(1.0, 2.0).await;
            call.pause(700).await;
            call.text(&answer["result"].to_string()).await;
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, "").await;
    let required = Required::of(&client.call(TOOL, json!({})).await);
    let params = going_on(TOOL, &json!({}), &required.state, json!({ required.key(): i_am("me") }));
    let former = client.open("tools/call", params.clone()).await;
    upstream
        .until("the answer", |ledger| ledger.iter().any(|one| one.json.get("result").is_some()).then_some(()))
        .await;
    let latter = client.open("tools/call", params).await;
    let (former, latter) = tokio::join!(former.answer(), latter.answer());
    former.expect_error(200, -32602);
    assert!(latter.text().contains("me"), "{}", latter.raw);
    assert!(upstream.received("notifications/cancelled").is_empty(), "whoever was replaced cancels nothing");
}

#[tokio::test]
async fn s_mrtr_05_06_a_state_is_good_for_its_own_call_alone() {
    let upstream = stdio_upstream("one").tool("other").asking().start().await;
    let (gateway, client) = before(&upstream, "").await;
    let arguments = question(ELICIT, &form("who?"));
    let required = Required::of(&client.call(TOOL, arguments.clone()).await);
    let responses = json!({ required.key(): i_am("me") });
    let state = &required.state;
    let mut texts = std::collections::HashSet::new();
    let flipped = |at: usize| {
        let mut bytes = state.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("ASCII")
    };
    let mut forged = vec![flipped(0), flipped(state.len() / 2), flipped(state.len() - 2)];
    forged.extend([state[1..].to_owned(), state[..state.len() - 3].to_owned(), format!("{state}AAAA")]);
    forged.extend([String::new(), "garbage".to_owned()]);
    for forged in &forged {
        let params = going_on(TOOL, &arguments, forged, responses.clone());
        texts.insert(refusal(&client.request("tools/call", params).await));
    }
    let mut other = arguments.clone();
    other["params"]["message"] = json!("another");
    let changed = going_on(TOOL, &other, state, responses.clone());
    texts.insert(refusal(&client.request("tools/call", changed).await));
    let tool = going_on("one__other", &arguments, state, responses.clone());
    texts.insert(refusal(&client.request("tools/call", tool).await));
    // Another gateway has other keys.
    let (_elsewhere, stranger) = before(&upstream, "").await;
    let params = going_on(TOOL, &arguments, state, responses.clone());
    texts.insert(refusal(&stranger.request("tools/call", params).await));
    assert_eq!(texts.len(), 1, "whatever is wrong with it, the answer is the same: {texts:?}");
    let number = going_on(TOOL, &arguments, state, responses.clone());
    let mut number = number;
    number["requestState"] = json!(7);
    client.request("tools/call", number).await.expect_error(200, -32602);
    let done = go_on(&client, &arguments, &required, responses).await;
    assert!(done.text().contains("me"), "none of it did any harm: {}", done.raw);
    drop(gateway);
}

#[tokio::test]
async fn s_mrtr_06_a_state_does_not_open_at_another_endpoint() {
    let upstream = stdio_upstream("one").asking().start().await;
    let gateway =
        gateway().with("one", &upstream).config("profiles: { review: { servers: [one] } }").start().await;
    let client = Client::stateless(&gateway.endpoint, able());
    client.until_tools(&[TOOL]).await;
    let arguments = question(ELICIT, &form("who?"));
    let required = Required::of(&client.call(TOOL, arguments.clone()).await);
    let mut elsewhere = client.clone();
    elsewhere.endpoint = gateway.endpoint.at("/mcp/review");
    let params = going_on(TOOL, &arguments, &required.state, json!({ required.key(): i_am("me") }));
    let refused = elsewhere.request("tools/call", params).await;
    refused.expect_error(200, -32602);
    let done = answer(&client, &arguments, &required, i_am("me")).await;
    assert!(done.text().contains("me"));
}

#[tokio::test]
async fn s_mrtr_10_a_client_that_never_comes_back_costs_a_bounded_time() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let (_, person) = call.begin_to_ask(ELICIT, form("who?")).await;
                let (_, model) = call.begin_to_ask(SAMPLE, prompt("p")).await;
                let (_, roots) = call.begin_to_ask("roots/list", json!({})).await;
                drop((person, model, roots));
                call.cancelled().await;
            })
            .start()
            .await;
        let (_gateway, client) = before(&upstream, "input_timeout: 900ms, gather: 100ms").await;
        let required = Required::of(&client.call(TOOL, json!({})).await);
        assert_eq!(required.keys().len(), 3, "{transport:?}");
        upstream.until_received("notifications/cancelled", 1).await;
        let is_answer = |one: &&Received| one.method().is_empty() && one.json.get("id").is_some();
        let answers = upstream.until("three answers", |ledger| {
            let answers: Vec<_> = ledger.iter().filter(is_answer).cloned().collect();
            (answers.len() >= 3).then_some(answers)
        });
        let answers: Vec<Value> = answers.await.into_iter().map(|answer| answer.json).collect();
        assert!(
            answers.iter().any(|answer| answer["result"] == json!({ "action": "cancel" })),
            "{answers:?}"
        );
        for code in [-1, -32603] {
            assert!(answers.iter().any(|answer| answer["error"]["code"] == code), "{code}: {answers:?}");
        }
        let late = go_on(&client, &json!({}), &required, json!({})).await;
        assert!(refusal(&late).contains("expired"), "{}", late.raw);
        assert_eq!(upstream.received("tools/call").len(), 1, "never made again by itself (S-MRTR-18)");
    }
}

#[tokio::test]
async fn f25_who_leaves_while_the_call_goes_on_has_cancelled_it() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                call.ask(ELICIT, form("who?")).await;
                call.progress(1.0, 2.0).await;
                call.cancelled().await;
            })
            .start()
            .await;
        let (_gateway, client) = before(&upstream, "").await;
        let required = Required::of(&client.call(TOOL, json!({})).await);
        // The end of the first request was none.
        assert!(upstream.received("notifications/cancelled").is_empty(), "{transport:?}");
        let params = going_on(TOOL, &json!({}), &required.state, json!({ required.key(): i_am("me") }));
        let attached = client.open("tools/call", params).await;
        upstream
            .until("the answer", |ledger| {
                ledger.iter().any(|one| one.json.get("result").is_some()).then_some(())
            })
            .await;
        drop(attached);
        within(
            Duration::from_secs(1),
            "the cancellation",
            upstream.until_received("notifications/cancelled", 1),
        )
        .await;
        let late = go_on(&client, &json!({}), &required, json!({})).await;
        late.expect_error(200, -32602);
        assert_eq!(late.failure()["reason"], "parked_call_lost", "{}", late.raw);
    }
}

#[tokio::test]
async fn f25_who_leaves_before_anything_is_asked_has_cancelled_as_well() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move { call.cancelled().await })
            .start()
            .await;
        let (_gateway, client) = before(&upstream, "").await;
        let running = client.open_call(TOOL, json!({})).await;
        upstream.until_received("tools/call", 1).await;
        drop(running);
        within(
            Duration::from_secs(1),
            "the cancellation",
            upstream.until_received("notifications/cancelled", 1),
        )
        .await;
    }
}

#[tokio::test]
async fn s_elic_11_what_a_cancelled_call_still_asks_is_asked_of_nobody() {
    let upstream = stdio_upstream("one")
        .on("tools/call", |mut call| async move {
            if call.count() > 1 {
                let answer = call.ask(ELICIT, form("second")).await;
                return call.text(&answer["result"].to_string()).await;
            }
            call.cancelled().await;
            // It is slow to heed that, and asks once more.
            call.ask(ELICIT, form("first")).await;
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, "").await;
    let running = client.open_call(TOOL, json!({})).await;
    upstream.until_received("tools/call", 1).await;
    drop(running);
    upstream.until_received("notifications/cancelled", 1).await;
    let required = Required::of(&client.call(TOOL, json!({})).await);
    assert_eq!(required.params()["message"], "[one] second");
    let done = answer(&client, &json!({}), &required, i_am("me")).await;
    assert!(done.text().contains("me"), "{}", done.raw);
}

#[tokio::test]
async fn s_mrtr_18_a_call_whose_server_died_meanwhile_is_lost_and_not_made_again() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let (_, answer) = call.begin_to_ask(ELICIT, form("who?")).await;
                call.pause(300).await;
                drop(answer);
                call.close().await;
            })
            .start()
            .await;
        let (_gateway, client) = before(&upstream, "").await;
        let required = Required::of(&client.call(TOOL, json!({})).await);
        tokio::time::sleep(Duration::from_millis(600)).await;
        let lost = answer(&client, &json!({}), &required, i_am("me")).await;
        lost.expect_error(200, -32602);
        assert_eq!(lost.failure()["reason"], "parked_call_lost", "{transport:?} {}", lost.raw);
        assert_eq!(upstream.received("tools/call").len(), 1, "{transport:?}");
    }
}

#[tokio::test]
async fn s_mrtr_18_a_call_of_a_gateway_that_is_gone_is_refused() {
    let upstream = stdio_upstream("one").asking().start().await;
    let arguments = question(ELICIT, &form("who?"));
    let required = {
        let (mut gateway, client) = before(&upstream, "").await;
        let required = Required::of(&client.call(TOOL, arguments.clone()).await);
        gateway.terminate().await;
        required
    };
    let (_gateway, client) = before(&upstream, "").await;
    answer(&client, &arguments, &required, i_am("me")).await.expect_error(200, -32602);
    assert_eq!(upstream.received("tools/call").len(), 1);
}

#[tokio::test]
async fn s_canc_04_what_its_server_withdraws_is_not_waited_for() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let (id, _) = call.begin_to_ask(ELICIT, form("who?")).await;
                call.pause(200).await;
                call.notify("notifications/cancelled", json!({ "requestId": id })).await;
                call.text("done without").await;
            })
            .start()
            .await;
        let (_gateway, client) = before(&upstream, "").await;
        let required = Required::of(&client.call(TOOL, json!({})).await);
        tokio::time::sleep(Duration::from_millis(400)).await;
        let done = answer(&client, &json!({}), &required, i_am("me")).await;
        assert_eq!(done.text(), "done without", "its end was kept: {transport:?}");
        assert!(upstream.answers().is_empty(), "nothing is answered that is not wanted: {transport:?}");
    }
}

#[tokio::test]
async fn s_mrtr_16_a_server_that_asks_for_ever_is_stopped() {
    let upstream = stdio_upstream("one").asking().start().await;
    let (_gateway, client) = before(&upstream, "input_rounds: 3").await;
    let mut arguments = question(ELICIT, &form("again?"));
    arguments["times"] = json!(100);
    let mut required = Required::of(&client.call(TOOL, arguments.clone()).await);
    for _ in 1..3 {
        required = Required::of(&answer(&client, &arguments, &required, i_am("me")).await);
    }
    let stopped = answer(&client, &arguments, &required, i_am("me")).await;
    assert_eq!(stopped.result()["isError"], true, "{}", stopped.raw);
    upstream.until_received("notifications/cancelled", 1).await;
}

#[tokio::test]
async fn s_mrtr_10_only_so_many_calls_wait() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
    let (_gateway, client) = before(&upstream, "parked_calls: 2").await;
    let arguments = question(ELICIT, &form("who?"));
    let first = Required::of(&client.call(TOOL, arguments.clone()).await);
    let _second = Required::of(&client.call(TOOL, arguments.clone()).await);
    let refused = client.call(TOOL, arguments.clone()).await;
    assert_eq!(refused.failure()["reason"], "overloaded", "{}", refused.raw);
    upstream.until_received("notifications/cancelled", 1).await;
    answer(&client, &arguments, &first, i_am("me")).await.text();
    Required::of(&client.call(TOOL, arguments).await);
}
