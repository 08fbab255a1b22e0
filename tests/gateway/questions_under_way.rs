//! Questions, progress and cancellation while other things happen: at once, crossing, and across a lost connection.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::client::{Client, Exchange, Message, question};
use crate::support::upstream::UpstreamPlan;
use crate::support::{
    HANDSHAKE, STATELESS, TRANSPORTS, Transport, eventually, gateway, http_upstream, upstream, within,
};

const ELICIT: &str = "elicitation/create";

fn form(message: &str) -> Value {
    json!({ "message": message, "requestedSchema": { "type": "object", "properties": { "me": { "type": "string" } } } })
}

fn i_am(who: &str) -> Value {
    json!({ "action": "accept", "content": { "me": who } })
}

fn able() -> Value {
    json!({ "elicitation": {}, "sampling": {} })
}

fn asks(message: &Message, who: &str) -> bool {
    message.params()["message"].as_str().is_some_and(|text| text.ends_with(who))
}

#[tokio::test]
async fn s_elic_11_two_questions_of_one_call_are_answered_each_for_itself() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let (_, left) = call.begin_to_ask(ELICIT, form("left")).await;
                let (_, right) = call.begin_to_ask(ELICIT, form("right")).await;
                let said =
                    |answer: Value| answer["result"]["content"]["me"].as_str().unwrap_or("-").to_owned();
                let right = said(right.await.expect("answered"));
                let left = said(left.await.expect("answered"));
                call.text(&format!("{left} and {right}")).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mut running = client.open_call("one__echo", json!({})).await;
        let first = running.until_method(ELICIT).await;
        let second = running.until_method(ELICIT).await;
        assert!(asks(&first, "left") && asks(&second, "right"), "in the order asked: {first:?} {second:?}");
        assert_ne!(first.json["id"], second.json["id"]);
        assert_eq!(client.respond(&second.json["id"], i_am("R")).await, 202);
        assert_eq!(client.respond(&first.json["id"], i_am("L")).await, 202);
        assert_eq!(running.answer().await.text(), "L and R", "{transport:?}");
    }
}

#[tokio::test]
async fn s_canc_04_a_prompt_ends_with_the_call_that_asked_it_however_that_ends() {
    for transport in TRANSPORTS {
        let seen = Arc::new(Notify::new());
        let go_on = Arc::clone(&seen);
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", move |mut call| {
                let go_on = Arc::clone(&go_on);
                async move {
                    call.begin_to_ask(ELICIT, form("your name")).await;
                    go_on.notified().await;
                    call.text("it does not matter").await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        let mut running = client.open_call("one__echo", json!({})).await;
        let asked = running.until_method(ELICIT).await;
        seen.notify_one();
        let answer = running.answer().await;
        assert_eq!(answer.text(), "it does not matter");
        let told = [answer.before, stream.messages_within(Duration::from_millis(500)).await].concat();
        let withdrawn = told.iter().filter(|message| {
            message.method() == "notifications/cancelled" && message.params()["requestId"] == asked.json["id"]
        });
        assert_eq!(withdrawn.count(), 1, "{transport:?}: the prompt stays open: {told:?}");
        client.respond(&asked.json["id"], i_am("too late")).await;
        client.request("ping", json!({})).await.result();
        let answers = upstream.answers();
        assert_eq!(answers.len(), 1, "{transport:?}: {answers:?}");
        assert_eq!(answers[0].json["result"], json!({ "action": "cancel" }), "{transport:?}");
    }
}

#[tokio::test]
async fn s_root_01_a_server_learns_the_roots_though_the_call_under_way_is_answered_meanwhile() {
    for transport in TRANSPORTS {
        let seen = Arc::new(Notify::new());
        let go_on = Arc::clone(&seen);
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", move |mut call| {
                let go_on = Arc::clone(&go_on);
                async move {
                    call.begin_to_ask("roots/list", json!({})).await;
                    go_on.notified().await;
                    call.text("not of these roots").await;
                }
            })
            .start()
            .await;
        let more = json!({ "ask": { "roots": true } });
        let gateway = gateway().with_more("one", &upstream, more).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "roots": {} })).await;
        client.until_tools(&["one__echo"]).await;
        let mut running = client.open_call("one__echo", json!({})).await;
        let asked = running.until_method("roots/list").await;
        seen.notify_one();
        assert_eq!(running.answer().await.text(), "not of these roots");
        let roots = json!({ "roots": [{ "uri": "file:///here" }] });
        assert_eq!(client.respond(&asked.json["id"], roots.clone()).await, 202);
        let told = || async { upstream.answers().pop() };
        let told = eventually("the roots", told).await;
        assert_eq!(told.json["result"], roots, "{transport:?}");
    }
}

/// A server that asks its caller's name before it answers anything.
fn curious(name: &str, transport: Transport) -> UpstreamPlan {
    let mut plan = upstream(name, HANDSHAKE, transport);
    for method in ["tools/call", "prompts/get", "resources/read", "completion/complete"] {
        plan = plan.on(method, |mut call| async move {
            let answer = call.ask(ELICIT, form("your name")).await;
            if answer["result"]["action"] != "accept" {
                return call.error(-31_000, "nobody answered", answer["error"].clone()).await;
            }
            call.default().await;
        });
    }
    plan
}

#[tokio::test]
async fn s_elic_11_whatever_request_causes_a_question_its_stream_carries_it() {
    for transport in TRANSPORTS {
        let upstream = curious("one", transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_listed("prompts", &["one__greet"]).await;
        client.until_listed("resources", &["static"]).await;
        let reference = json!({ "type": "ref/prompt", "name": "one__greet" });
        for (method, params) in [
            ("tools/call", json!({ "name": "one__echo", "arguments": {} })),
            ("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "x" } })),
            ("resources/read", json!({ "uri": "test://one/static" })),
            ("completion/complete", json!({ "ref": reference, "argument": { "name": "who", "value": "" } })),
        ] {
            let mut running = client.open(method, params).await;
            client.answer_next(&mut running, ELICIT, i_am("ada")).await;
            let answer = running.answer().await;
            assert!(answer.json.get("result").is_some(), "{method} over {transport:?}: {}", answer.raw);
        }
    }
}

#[tokio::test]
async fn s_https_09_questions_of_calls_beside_each_other_come_once_each() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let who = call.params()["arguments"]["who"].as_str().unwrap_or_default().to_owned();
                let answer = call.ask(ELICIT, form(&who)).await;
                call.text(&format!("{who} is {}", answer["result"]["content"]["me"])).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let stream = client.standalone_stream().await;
        let mut calls = Vec::new();
        for n in 0..4 {
            calls.push(client.open_call("one__echo", json!({ "who": format!("caller-{n}.") })).await);
        }
        // On a pipe nothing says which of one client's calls asked; that client is asked, on whichever stream, once.
        let mut streams: Vec<Exchange> = calls;
        streams.push(stream);
        let (seen, mut texts) = answer_everything(&client, &mut streams, 4).await;
        assert_eq!(seen.len(), 4, "{transport:?}: each question came once: {seen:?}");
        texts.sort_unstable();
        let expected: Vec<String> = (0..4).map(|n| format!("caller-{n}. is \"caller-{n}.\"")).collect();
        assert_eq!(texts, expected, "{transport:?}");
    }
}

/// Answer the questions on all streams in turn, each with its own words, until `count` responses came and a while after.
async fn answer_everything(
    client: &Client,
    streams: &mut [Exchange],
    count: usize,
) -> (Vec<String>, Vec<String>) {
    let (mut seen, mut texts) = (Vec::new(), Vec::new());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(8);
    let mut rounds_after = 0;
    while rounds_after < 2 && tokio::time::Instant::now() < deadline {
        for stream in streams.iter_mut() {
            for message in stream.messages_within(Duration::from_millis(60)).await {
                if let Some(text) = message.json["result"]["content"][0]["text"].as_str() {
                    texts.push(text.to_owned());
                }
                if message.method() != ELICIT {
                    continue;
                }
                let asked = message.params()["message"].as_str().unwrap_or_default().to_owned();
                let who = asked.rsplit(' ').next().unwrap_or_default().to_owned();
                client.respond(&message.json["id"], i_am(&who)).await;
                seen.push(asked);
            }
        }
        rounds_after += usize::from(texts.len() >= count);
    }
    (seen, texts)
}

#[tokio::test]
async fn s_resum_02_a_question_and_its_answer_survive_a_lost_connection() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mut running = client.open_call("one__echo", question(ELICIT, &form("still there?"))).await;
        let id = running.id();
        let (mut asked, mut last) = (Value::Null, String::new());
        while asked.is_null() {
            let event = running.event().await.expect("the question comes before the end");
            last = event.id.expect("events of this revision can be resumed");
            let message: Value =
                event.data.and_then(|data| serde_json::from_str(&data).ok()).unwrap_or_default();
            if message["method"] == ELICIT {
                asked = message;
            }
        }
        drop(running);
        assert_eq!(client.respond(&asked["id"], i_am("here")).await, 202, "another connection will do");
        let mut headers = client.headers("", &Value::Null);
        headers.remove("Content-Type");
        headers.set("Accept", "text/event-stream");
        headers.set("Last-Event-ID", &last);
        let mut resumed = client.endpoint.send("GET", headers, b"").await;
        let mut answer = Value::Null;
        while answer["id"] != id {
            let event =
                within(Duration::from_secs(5), "the answer", resumed.event()).await.expect("it is kept");
            answer = event.data.and_then(|data| serde_json::from_str(&data).ok()).unwrap_or_default();
            assert_ne!(answer["method"], ELICIT, "the question had been seen ({transport:?})");
        }
        let told = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
        assert!(told.contains("here"), "{transport:?}: {answer}");
    }
}

#[tokio::test]
async fn s_prog_01_tokens_of_both_types_come_back_byte_for_byte() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                call.progress(0.5, 2.5).await;
                call.text("done").await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in ["2024-11-05", HANDSHAKE, STATELESS] {
            let client = gateway.client(revision).await;
            client.until_tools(&["one__echo"]).await;
            for token in ["0", "-7", "9007199254740993", r#""7""#, r#""""#, r#""t\u00e9\"""#] {
                let value: Value = serde_json::from_str(token).expect("JSON");
                let answer = client.open_call_with_progress("one__echo", value.clone()).await.answer().await;
                let told = answer.before.first().unwrap_or_else(|| panic!("{revision} {token}: no progress"));
                assert_eq!(told.params()["progressToken"], value, "{revision} {transport:?}: {}", told.raw);
                assert!(told.raw.contains("0.5") && told.raw.contains("2.5"), "fractions stay: {}", told.raw);
                let sent = upstream.received("tools/call").pop().expect("it arrived");
                assert_ne!(sent.params()["_meta"]["progressToken"], value, "{token} stays on its hop");
            }
        }
    }
}

#[tokio::test]
async fn s_prog_03_reports_after_the_answer_are_dropped_on_every_way() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            let token = call.params()["_meta"]["progressToken"].clone();
            let late = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": token, "progress": 99 } }).to_string();
            call.progress(1.0, 100.0).await;
            let id = call.id().to_owned();
            call.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#)).await;
            call.say(&late).await;
            call.finish().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    for _ in 0..3 {
        let answer = client.open_call_with_progress("one__echo", json!("t")).await.answer().await;
        assert_eq!(answer.progress(), [1.0]);
        let call = upstream.received("tools/call").pop().expect("it arrived");
        upstream.until_standing_for(&call).await;
        let token = &call.params()["_meta"]["progressToken"];
        upstream
            .tell(&call, "notifications/progress", json!({ "progressToken": token, "progress": 100 }))
            .await;
        stream.never("notifications/progress", Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn s_canc_07_cancels_and_answers_that_cross_harm_nobody() {
    for (revision, transport) in
        [(HANDSHAKE, Transport::Http), (HANDSHAKE, Transport::Stdio), (STATELESS, Transport::Http)]
    {
        let upstream = upstream("one", revision, transport)
            .on("tools/call", |mut call| async move {
                let after = call.params()["arguments"]["after"].as_u64().unwrap_or_default();
                call.pause(after).await;
                call.default().await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut answered = 0;
        for n in 0_u64..40 {
            let running = client.open_call("one__echo", json!({ "after": n % 8 })).await;
            let id = running.id();
            tokio::time::sleep(Duration::from_millis((n * 3) % 11)).await;
            assert_eq!(client.notify("notifications/cancelled", json!({ "requestId": id })).await, 202);
            let end = within(Duration::from_secs(5), "the end of a cancelled call", ending(running)).await;
            if let Some(response) = end {
                // The judge has seen that it answers this very request.
                assert!(response.raw.contains("one echoes"), "{revision} {transport:?}: {}", response.raw);
                answered += 1;
            }
        }
        println!("   {answered} of 40 were faster than their cancellation");
        let untouched = client.call("one__echo", json!({ "after": 0 })).await;
        assert_eq!(untouched.text(), r#"one echoes {"after":0}"#, "{revision} {transport:?}");
    }
}

/// Read to the end; gives the response if there was one.
async fn ending(mut exchange: Exchange) -> Option<Message> {
    let mut last = None;
    while let Some(message) = exchange.next().await {
        assert!(last.is_none(), "something followed the response: {}", message.raw);
        last = message.json.get("method").is_none().then_some(message);
    }
    last
}

#[tokio::test]
async fn s_canc_06_a_call_whose_client_gives_up_takes_all_its_questions_along() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let mut waiting = Vec::new();
                for n in 0..3 {
                    waiting.push(call.begin_to_ask(ELICIT, form(&format!("question {n}"))).await.1);
                }
                for answer in waiting {
                    answer.await.ok();
                }
                call.text("unheard").await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mut running = client.open_call("one__echo", json!({})).await;
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(running.until_method(ELICIT).await.json["id"].clone());
        }
        client.notify("notifications/cancelled", json!({ "requestId": running.id() })).await;
        let mut withdrawn = Vec::new();
        while let Some(message) = running.next().await {
            if message.method() == "notifications/cancelled" {
                withdrawn.push(message.params()["requestId"].clone());
            }
        }
        let sorted = |ids: &[Value]| {
            let mut ids: Vec<String> = ids.iter().map(Value::to_string).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted(&withdrawn), sorted(&open), "{transport:?}: no prompt stays open");
        let fresh = client.open_call("one__echo", json!({})).await;
        drop(fresh);
        assert_eq!(client.request("ping", json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn s_life_10_a_call_that_waits_for_its_user_does_not_run_out_of_time() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with_more("one", &upstream, json!({ "timeout": "2s" })).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mut running = client.open_call("one__echo", question(ELICIT, &form("take your time"))).await;
        let asked = running.until_method(ELICIT).await;
        running.expect_quiet(Duration::from_millis(3_500)).await;
        assert_eq!(client.respond(&asked.json["id"], i_am("at last")).await, 202);
        let answer = running.answer().await;
        assert!(answer.text().contains("at last"), "{transport:?}: {}", answer.raw);
    }
}

#[tokio::test]
async fn s_prog_05_stateless_clients_report_nothing_and_are_asked_for_nothing() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/call", |mut call| async move {
            let mut params = form("?");
            params["_meta"] = json!({ "progressToken": "marker-token" });
            let answer = call.ask(ELICIT, params).await;
            call.text(&answer.to_string()).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = Client::stateless(&gateway.endpoint, able());
    client.until_tools(&["one__echo"]).await;
    // The judge sees that no request reaches a stateless stream.
    let answer = client.open_call_with_progress("one__echo", json!("mine")).await.answer().await;
    assert!(!answer.before.iter().any(|message| message.raw.contains("marker-token")), "{answer:?}");
    for token in ["mine", "marker-token"] {
        let status =
            client.notify("notifications/progress", json!({ "progressToken": token, "progress": 1 })).await;
        assert_eq!(status, 202, "taken and ignored");
    }
    let asked = client.call("one__echo", json!({})).await;
    assert_eq!(asked.result()["resultType"], "input_required", "{}", asked.raw);
    assert!(!asked.raw.contains("marker-token"), "tokens stay on their hop: {}", asked.raw);
    assert_eq!(upstream.received("notifications/progress").len(), 0);
}
