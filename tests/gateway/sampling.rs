//! Sampling: what upstreams may ask of a client's model, and in which form (S-SAMP).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::question;
use crate::support::json::raw_at;
use crate::support::{HANDSHAKE, HANDSHAKE_REVISIONS, TRANSPORTS, Transport, Upstream, gateway, upstream};

const METHOD: &str = "sampling/createMessage";

fn user(content: Value) -> Value {
    json!({ "messages": [{ "role": "user", "content": content }], "maxTokens": 10 })
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn four() -> Value {
    json!({ "role": "assistant", "content": text("4"), "model": "m", "stopReason": "endTurn" })
}

fn with(params: Value, name: &str, value: Value) -> Value {
    let mut params = params;
    params[name] = value;
    params
}

fn a_tool() -> Value {
    json!([{ "name": "echo", "inputSchema": { "type": "object" } }])
}

#[tokio::test]
async fn s_samp_01_a_question_reaches_the_client_that_can_answer_and_nobody_else() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let able = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
        able.until_tools(&["one__echo"]).await;
        let mut stream = able.standalone_stream().await;
        let ask = question(METHOD, &with(user(text("2+2?")), "temperature", json!(0.5)));
        let asked = able.asked("one__echo", ask.clone(), &four()).await;
        let reached = asked.question();
        assert!(!reached.raw.contains("one-asks"), "the upstream's id stays on its hop: {}", reached.raw);
        assert_eq!(reached.params()["messages"], user(text("2+2?"))["messages"]);
        assert_eq!(asked.told[0]["result"], four());
        assert_eq!(upstream.declared()["sampling"], json!({}));

        let unable = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
        unable.asked("one__echo", ask, &four()).await.expect_refused(-32601);
        assert!(upstream.declared().get("sampling").is_none());
        stream.never(METHOD, Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn s_samp_01_f07_an_answer_whose_post_fails_is_posted_again() {
    for refusals in [[0, 0], [503, 0], [429, 502]] {
        let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().refusing_answers(&refusals);
        let upstream = upstream.start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
        client.until_tools(&["one__echo"]).await;
        let asked = client.asked("one__echo", question(METHOD, &user(text("2+2?"))), &four()).await;
        assert_eq!(asked.told[0]["result"], four(), "{refusals:?}");
    }
}

#[tokio::test]
async fn s_samp_01_an_answer_that_cannot_be_delivered_is_not_lost_without_a_word() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .refusing_answers(&[503, 503, 503, 400])
        .on("tools/call", |mut call| async move {
            let (_, answer) = call.begin_to_ask(METHOD, user(text("2+2?"))).await;
            if call.count() < 3 {
                answer.await.ok();
            }
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
    client.until_tools(&["one__echo"]).await;
    for undelivered in [1, 2] {
        let mut running = client.open_call("one__echo", json!({})).await;
        let id = running.until_method(METHOD).await.json["id"].clone();
        assert_eq!(client.respond(&id, four()).await, 202);
        crate::support::eventually("a warning", || async {
            let log = gateway.stderr();
            let told = log.lines().filter(|line| line.contains("was not delivered")).count();
            (told == undelivered).then_some(())
        })
        .await;
    }
    let answers = upstream.ledger().iter().filter(|received| received.json["result"]["model"] == "m").count();
    assert_eq!(answers, 4, "thrice what may be passing, once what is not");
}

#[tokio::test]
async fn s_samp_01_s_httpc_04_an_answer_to_a_forgotten_session_ends_the_wait_for_its_call() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .refusing_answers(&[404])
        .on("tools/call", |mut call| async move {
            if call.count() == 1 {
                call.ask(METHOD, user(text("2+2?"))).await;
            }
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
    client.until_tools(&["one__echo"]).await;
    let mut running = client.open_call("one__echo", json!({})).await;
    let id = running.until_method(METHOD).await.json["id"].clone();
    assert_eq!(client.respond(&id, four()).await, 202);
    let ended = crate::support::within(Duration::from_secs(8), "the end of the call", running.answer()).await;
    assert_eq!(ended.failure()["retryable"], true, "{}", ended.raw);
    assert_eq!(client.call("one__echo", json!({})).await.text(), "done", "on a new session");
}

#[tokio::test]
async fn s_samp_02_tools_are_only_offered_to_models_that_take_them() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let plain = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
    plain.until_tools(&["one__echo"]).await;
    for (member, value) in [("tools", a_tool()), ("toolChoice", json!({ "mode": "auto" }))] {
        let ask = question(METHOD, &with(user(text("?")), member, value));
        plain.asked("one__echo", ask, &four()).await.expect_refused(-32602);
    }
    assert_eq!(upstream.declared()["sampling"], json!({}));

    let able = gateway.handshake_with(HANDSHAKE, json!({ "sampling": { "tools": {} } })).await;
    let params = with(with(user(text("?")), "tools", a_tool()), "toolChoice", json!({ "mode": "required" }));
    let asked = able.asked("one__echo", question(METHOD, &params), &four()).await;
    assert_eq!(asked.question().params()["tools"], a_tool(), "names inside belong to the upstream");
    assert_eq!(asked.question().params()["toolChoice"], json!({ "mode": "required" }));
    assert_eq!(asked.told[0]["result"], four());
    assert_eq!(upstream.declared()["sampling"], json!({ "tools": {} }));
}

#[tokio::test]
async fn s_samp_02_older_clients_know_no_tools_whatever_they_declare() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18"] {
        let client = gateway.handshake_with(revision, json!({ "sampling": { "tools": {} } })).await;
        client.until_tools(&["one__echo"]).await;
        let ask = question(METHOD, &with(user(text("?")), "tools", a_tool()));
        client.asked("one__echo", ask, &four()).await.expect_refused(-32602);
        let plain = client.asked("one__echo", question(METHOD, &user(text("?"))), &four()).await;
        assert_eq!(plain.told[0]["result"]["content"], text("4"), "{revision}");
    }
}

#[tokio::test]
async fn s_samp_03_context_of_other_servers_is_shared_only_where_allowed() {
    let (able, plain) = (json!({ "sampling": { "context": {} } }), json!({ "sampling": {} }));
    for (allowed, capabilities, passes) in [
        (None, &able, false),
        (Some(false), &able, false),
        (Some(true), &plain, false),
        (Some(true), &able, true),
    ] {
        let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
        let more = allowed.map_or(json!({}), |context| json!({ "ask": { "context": context } }));
        let gateway = gateway().with_more("one", &upstream, more).start().await;
        let client = gateway.handshake_with(HANDSHAKE, capabilities.clone()).await;
        client.until_tools(&["one__echo"]).await;
        for wish in ["none", "thisServer", "allServers"] {
            let ask = question(METHOD, &with(user(text("?")), "includeContext", json!(wish)));
            let asked = client.asked("one__echo", ask, &four()).await;
            let said = asked.question().params()["includeContext"].as_str().unwrap_or("none").to_owned();
            let expected = if passes { wish } else { "none" };
            assert_eq!(said, expected, "allowed {allowed:?}, client {capabilities}, upstream wishes {wish}");
        }
        let declared = upstream.declared();
        assert_eq!(declared["sampling"].get("context").is_some(), passes, "{declared}");
    }
}

/// Odd on purpose: numbers, order and unknown members must come through as they are.
const LOOP: &str = r#"{"messages":[{"role":"user","content":{"type":"text","text":"weather in two towns?","annotations":{"priority":1.0}}},{"role":"assistant","content":[{"type":"tool_use","id":"u-1","name":"echo","input":{"z":1.0,"a":12345678901234567890}},{"type":"tool_use","id":"u-2","name":"one__echo","input":{}}]},{"role":"user","content":[{"type":"tool_result","toolUseId":"u-2","content":[{"type":"text","text":"rain"}]},{"type":"tool_result","toolUseId":"u-1","content":[],"structuredContent":{"t":1e2},"isError":false}]}],"systemPrompt":"be brief","modelPreferences":{"hints":[{"name":"x"}],"speedPriority":0.50},"tools":[{"name":"echo","description":"d","inputSchema":{"type":"object","properties":{"z":{"type":"number","minimum":1.50}}}}],"toolChoice":{"mode":"auto"},"stopSequences":["\u0041","b"],"metadata":{"deep":[1.0,null,{"b":1,"a":2}]},"maxTokens":100}"#;

/// An answer with two tool uses at once.
const USES: &str = r#"{"role":"assistant","model":"m-1","stopReason":"toolUse","content":[{"type":"tool_use","id":"u-9","name":"echo","input":{"n":1.0}},{"type":"tool_use","id":"u-8","name":"echo","input":{"big":12345678901234567890}}],"odd":{"z":1,"a":2.50}}"#;

#[tokio::test]
async fn s_samp_04_05_a_tool_loop_passes_byte_for_byte_between_peers_of_the_newest_revision() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": { "tools": {} } })).await;
        client.until_tools(&["one__echo"]).await;
        let arguments = format!(r#"{{"method":"{METHOD}","params":{LOOP}}}"#);
        let mut running = client.open_raw_call("one__echo", &arguments).await;
        let asked = running.until_method(METHOD).await;
        for member in [
            "messages",
            "systemPrompt",
            "modelPreferences",
            "tools",
            "toolChoice",
            "stopSequences",
            "metadata",
            "maxTokens",
        ] {
            assert_eq!(
                raw_at(&asked.raw, &["params", member]),
                raw_at(LOOP, &[member]),
                "{member} of the question over {transport:?}"
            );
        }
        assert_eq!(client.respond_raw(&asked.json["id"], USES).await, 202);
        running.answer().await.result();
        let answer = upstream.answers().into_iter().next_back().expect("it was answered");
        for member in ["role", "model", "stopReason", "content", "odd"] {
            assert_eq!(
                raw_at(&answer.raw, &["result", member]),
                raw_at(USES, &[member]),
                "{member} of the answer over {transport:?}"
            );
        }
    }
}

#[tokio::test]
async fn s_samp_05_older_clients_get_joined_text_or_nothing() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let image = json!({ "type": "image", "data": "AAAA", "mimeType": "image/png" });
    let audio = json!({ "type": "audio", "data": "AAAA", "mimeType": "audio/wav" });
    let used = json!({ "type": "tool_use", "id": "u", "name": "n", "input": {} });
    let result = json!({ "type": "tool_result", "toolUseId": "u", "content": [] });
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18"] {
        let client = gateway.handshake_with(revision, json!({ "sampling": {} })).await;
        client.until_tools(&["one__echo"]).await;
        let ask = |content: Value| client.asked("one__echo", question(METHOD, &user(content)), &FOUR);
        let joined = ask(json!([text("first"), text("second")])).await;
        let content = &joined.question().params()["messages"][0]["content"];
        let said = content["text"].as_str().expect("one text block, as the schema demands");
        let (first, second) = (said.find("first"), said.find("second"));
        assert!(first.is_some() && first < second, "{revision}: {said:?}");
        assert_eq!(ask(image.clone()).await.question().params()["messages"][0]["content"], image);
        if revision == "2024-11-05" {
            ask(audio.clone()).await.expect_refused(-32602);
        } else {
            assert_eq!(ask(audio.clone()).await.question().params()["messages"][0]["content"], audio);
        }
        for unknown in
            [json!([text("x"), image]), json!([used]), json!([result]), used.clone(), result.clone()]
        {
            ask(unknown).await.expect_refused(-32602);
        }
    }
}

static FOUR: std::sync::LazyLock<Value> = std::sync::LazyLock::new(four);

#[tokio::test]
async fn s_samp_05_an_older_upstream_is_told_one_block_or_that_there_is_none() {
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18"] {
        let upstream = upstream("one", revision, Transport::Http).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
        client.until_tools(&["one__echo"]).await;
        let ask = question(METHOD, &user(text("?")));
        let many = json!({ "role": "assistant", "model": "m", "content": [text("first"), text("second")] });
        let told = client.asked("one__echo", ask.clone(), &many).await.told;
        let said =
            told[0]["result"]["content"]["text"].as_str().unwrap_or_else(|| panic!("{revision}: {told}"));
        assert!(said.contains("first") && said.contains("second"), "{revision}: {said:?}");
        let strange = json!({ "role": "assistant", "model": "m", "content": [{ "type": "tool_use", "id": "u", "name": "n", "input": {} }] });
        let told = client.asked("one__echo", ask, &strange).await.told;
        assert!(told[0]["error"]["code"].is_i64(), "{revision} cannot read a tool use: {told}");
    }
}

#[tokio::test]
async fn s_samp_06_what_the_user_refuses_is_told_as_it_was_said() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in HANDSHAKE_REVISIONS {
            let client = gateway.handshake_with(revision, json!({ "sampling": {} })).await;
            client.until_tools(&["one__echo"]).await;
            for (code, message) in
                [(-1, "User rejected sampling request"), (-32603, "the model is out"), (7, "odd")]
            {
                let mut running = client.open_call("one__echo", question(METHOD, &user(text("?")))).await;
                let asked = running.until_method(METHOD).await;
                assert_eq!(client.refuse(&asked.json["id"], code, message).await, 202);
                let told: Value = serde_json::from_str(running.answer().await.text()).expect("JSON");
                assert_eq!(told[0]["error"]["code"], code, "{revision} {transport:?}: {told}");
                assert_eq!(told[0]["error"]["message"], message, "{revision} {transport:?}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn s_samp_06_a_question_without_max_tokens_is_the_asker_s_mistake() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
    client.until_tools(&["one__echo"]).await;
    let messages = json!({ "messages": [{ "role": "user", "content": text("?") }] });
    client.asked("one__echo", question(METHOD, &messages), &four()).await.expect_refused(-32602);
}

#[tokio::test]
async fn s_samp_07_one_call_may_ask_only_so_often() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).config("bounds: { call_questions: 3 }").start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
        client.until_tools(&["one__echo"]).await;
        let mut ask = question(METHOD, &user(text("again?")));
        ask["times"] = json!(6);
        for round in 0..2 {
            let asked = client.asked("one__echo", ask.clone(), &four()).await;
            assert_eq!(asked.questions.len(), 3, "in call {round} of {transport:?}: {}", asked.told);
            let told = asked.told.as_array().expect("six answers");
            assert_eq!(told.len(), 6);
            assert!(told[..3].iter().all(|told| told.get("result").is_some()), "{told:?}");
            assert!(told[3..].iter().all(|told| told["error"]["code"].is_i64()), "{told:?}");
        }
    }
}

#[tokio::test]
async fn s_samp_07_one_server_may_ask_one_session_only_so_often() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
    let other = upstream_named("two").await;
    let gateway = gateway()
        .with("one", &upstream)
        .with("two", &other)
        .config("bounds: { question_rate: 4 }")
        .start()
        .await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
    client.until_tools(&["one__echo", "two__echo"]).await;
    let mut ask = question(METHOD, &user(text("again?")));
    ask["times"] = json!(10);
    let asked = client.asked("one__echo", ask.clone(), &four()).await;
    assert!((1..=6).contains(&asked.questions.len()), "about four in a minute: {}", asked.questions.len());
    let last = &asked.told[9];
    assert!(last["error"]["code"].is_i64(), "too many are refused: {last}");
    ask["times"] = json!(1);
    let again = client.asked("one__echo", ask.clone(), &four()).await;
    assert!(again.questions.is_empty(), "a new call makes no new allowance: {}", again.told);

    let neighbour = client.asked("two__echo", ask.clone(), &four()).await;
    assert_eq!(neighbour.questions.len(), 1, "another server has its own allowance: {}", neighbour.told);
    let stranger = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
    let fresh = stranger.asked("one__echo", ask, &four()).await;
    assert_eq!(fresh.questions.len(), 1, "another session is not its neighbour's victim: {}", fresh.told);
}

async fn upstream_named(name: &str) -> Upstream {
    upstream(name, HANDSHAKE, Transport::Stdio).asking().start().await
}

#[tokio::test]
async fn s_samp_07_sampling_can_be_switched_off_for_a_server() {
    for transport in TRANSPORTS {
        let muted = upstream("muted", HANDSHAKE, transport).asking().start().await;
        let free = upstream("free", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway()
            .with_more("muted", &muted, json!({ "ask": { "sampling": false } }))
            .with("free", &free)
            .start()
            .await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {}, "elicitation": {} })).await;
        client.until_tools(&["muted__echo", "free__echo"]).await;
        let ask = question(METHOD, &user(text("?")));
        client.asked("muted__echo", ask.clone(), &four()).await.expect_refused(-32601);
        let declared = muted.declared();
        assert!(declared.get("sampling").is_none() && declared.get("elicitation").is_some(), "{declared}");
        assert_eq!(client.asked("free__echo", ask, &four()).await.told[0]["result"], four());
    }
}
