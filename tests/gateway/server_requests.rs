//! What handshake upstreams ask of handshake clients: sampling, elicitation, roots; and what they are told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::client::{Client, Exchange, Message};
use crate::support::{HANDSHAKE, TRANSPORTS, Transport, gateway, stateless_upstream, upstream, within};

const ABLE: &str = r#"{"sampling":{},"elicitation":{},"roots":{"listChanged":true}}"#;

fn able() -> Value {
    serde_json::from_str(ABLE).expect("it is JSON")
}

fn questions() -> [(&'static str, Value, Value); 3] {
    [
        (
            "sampling/createMessage",
            json!({
                "messages": [{ "role": "user", "content": { "type": "text", "text": "2+2?" } }],
                "maxTokens": 10, "temperature": 0.5, "metadata": { "deep": [1, null] },
            }),
            json!({ "role": "assistant", "content": { "type": "text", "text": "4" }, "model": "m", "extra": true }),
        ),
        (
            "elicitation/create",
            json!({
                "message": "Who are you?",
                "requestedSchema": { "type": "object", "properties": { "name": { "type": "string", "default": "Jo" } } },
            }),
            json!({ "action": "accept", "content": { "name": "Ada" } }),
        ),
        ("roots/list", json!({}), json!({ "roots": [{ "uri": "file:///home/ada", "name": "home" }] })),
    ]
}

async fn answer_next(client: &Client, exchange: &mut Exchange, method: &str, result: &Value) -> Message {
    let request = exchange.until_method(method).await;
    let id = request.json.get("id").expect("a request has an id");
    assert_eq!(client.respond(id, result.clone()).await, 202);
    request
}

#[tokio::test]
async fn questions_travel_on_the_stream_of_their_call_under_ids_of_the_gateway() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                for (method, params, _) in questions() {
                    let answer = call.ask(method, params).await;
                    call.progress(1.0, 1.0).await;
                    println!("   the upstream was told {answer}");
                    let expected =
                        questions().into_iter().find(|(other, _, _)| *other == method).expect("same list").2;
                    let told = &answer["result"];
                    for (member, value) in expected.as_object().expect("an object") {
                        assert_eq!(&told[member], value, "{method}");
                    }
                }
                call.text("all answered").await;
            })
            .start()
            .await;
        let mut entry = upstream.settings();
        // Roots of a client are its local paths; remote upstreams learn them only when they are allowed to (S-ROOT-05).
        entry["ask"] = json!({ "roots": true });
        let gateway = gateway().with_server("one", entry).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mut running = client.open_call("one__echo", json!({})).await;
        for (method, params, result) in questions() {
            let asked = answer_next(&client, &mut running, method, &result).await;
            let id = asked.json["id"].to_string();
            assert!(!id.contains("one-asks"), "the upstream's id stays on its hop: {}", asked.raw);
            if method == "sampling/createMessage" {
                assert_eq!(asked.params()["messages"], params["messages"], "{}", asked.raw);
                assert_eq!(asked.params()["metadata"], params["metadata"], "{}", asked.raw);
            }
            if method == "elicitation/create" {
                assert_eq!(asked.params()["requestedSchema"], params["requestedSchema"], "{}", asked.raw);
            }
        }
        assert_eq!(running.answer().await.text(), "all answered");
    }
}

#[tokio::test]
async fn each_client_is_asked_only_what_its_own_call_caused() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let who = call.params()["arguments"]["who"].as_str().unwrap_or_default().to_owned();
                let form =
                    json!({ "message": who, "requestedSchema": { "type": "object", "properties": {} } });
                let answer = call.ask("elicitation/create", form).await;
                let echoed = answer["result"]["content"]["me"].as_str().unwrap_or_default().to_owned();
                call.text(&format!("{who} is {echoed}")).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let mut running = Vec::new();
        for who in ["ada", "bob", "cyd"] {
            let client = gateway.handshake_with(HANDSHAKE, able()).await;
            client.until_tools(&["one__echo"]).await;
            let exchange = client.open_call("one__echo", json!({ "who": who })).await;
            running.push((who, client, exchange));
        }
        for (who, client, mut exchange) in running {
            let result = json!({ "action": "accept", "content": { "me": who } });
            let asked = answer_next(&client, &mut exchange, "elicitation/create", &result).await;
            let message = asked.params()["message"].as_str().unwrap_or_default();
            assert!(message.contains(who), "{who} was shown somebody else's question: {}", asked.raw);
            assert_eq!(exchange.answer().await.text(), format!("{who} is {who}"));
        }
    }
}

#[tokio::test]
async fn refusals_pass_and_nobody_waits_for_ever() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/call", |mut call| async move {
            let (method, params, _) = questions()[0].clone();
            let answer = call.ask(method, params).await;
            call.text(&format!("{}", answer["error"]["code"])).await;
        })
        .tool("patient")
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { input_timeout: 700ms }").start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;
    let mut running = client.open_call("one__echo", json!({})).await;
    let request = running.until_method("sampling/createMessage").await;
    assert_eq!(client.refuse(&request.json["id"], -1, "the user said no").await, 202);
    assert_eq!(running.answer().await.text(), "-1", "the refusal is relayed unchanged (S-SAMP-06)");

    let silent = client.open_call("one__echo", json!({})).await.answer().await;
    assert!(silent.text().starts_with('-'), "the upstream got an error in time: {}", silent.raw);
}

#[tokio::test]
async fn an_elicitation_nobody_answers_is_cancelled() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio)
        .on("tools/call", |mut call| async move {
            let answer = call.ask(questions()[1].0, questions()[1].1.clone()).await;
            call.text(&answer["result"]["action"].to_string()).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { input_timeout: 500ms }").start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "\"cancel\"");
}

#[tokio::test]
async fn s_canc_04_06_a_question_ends_when_its_asker_gives_up_or_its_call_is_cancelled() {
    // What is withdrawn or answered before the client saw it need not be shown at all.
    let seen = Arc::new(Notify::new());
    let told = Arc::clone(&seen);
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/call", move |mut call| {
            let told = Arc::clone(&told);
            async move {
                let (id, _answer) = call.begin_to_ask(questions()[1].0, questions()[1].1.clone()).await;
                if call.params()["arguments"]["gives_up"] == true {
                    told.notified().await;
                    let params = json!({ "requestId": id, "reason": "never mind" });
                    call.notify("notifications/cancelled", params).await;
                    told.notified().await;
                    return call.text("gave up").await;
                }
                call.cancelled().await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;

    let mut running = client.open_call("one__echo", json!({ "gives_up": true })).await;
    let asked = running.until_method("elicitation/create").await;
    seen.notify_one();
    let cancelled = running.until_method("notifications/cancelled");
    let cancelled = within(Duration::from_secs(5), "the withdrawal to be told", cancelled).await;
    seen.notify_one();
    assert_eq!(cancelled.params()["requestId"], asked.json["id"], "under the id the client knows");
    assert_eq!(running.answer().await.text(), "gave up");
    // Too late, and therefore nobody's business.
    let status = client.respond(&asked.json["id"], json!({ "action": "cancel" })).await;
    assert!(status == 202 || status == 400, "{status}");

    let mut running = client.open_call("one__echo", json!({ "gives_up": false })).await;
    running.until_method("elicitation/create").await;
    client.notify("notifications/cancelled", json!({ "requestId": running.id() })).await;
    upstream.until_received("notifications/cancelled", 1).await;
    assert!(running.ends_without_response().await);
}

#[tokio::test]
async fn s_root_02_changed_roots_are_told_to_the_client_s_own_upstream_sessions() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let with_roots = gateway.handshake_with(HANDSHAKE, able()).await;
    let without = gateway.handshake(HANDSHAKE).await;
    with_roots.until_tools(&["one__echo"]).await;
    with_roots.call("one__echo", json!({ "who": "with" })).await;
    without.call("one__echo", json!({ "who": "without" })).await;
    assert_eq!(with_roots.notify("notifications/roots/list_changed", json!({})).await, 202);
    let told = upstream.until_received("notifications/roots/list_changed", 1).await;
    let calls = upstream.received("tools/call");
    let own = calls.iter().find(|call| call.params()["arguments"]["who"] == "with").expect("it called");
    assert_eq!(told.connection, own.connection, "the child of that session and no other");
    assert_eq!(upstream.received("notifications/roots/list_changed").len(), 1);
}

#[tokio::test]
async fn questions_that_nobody_declared_end_in_a_clear_error_in_every_pairing() {
    let handshake = upstream("old", HANDSHAKE, Transport::Http)
        .on("tools/call", |mut call| async move {
            let answer = call.ask(questions()[1].0, questions()[1].1.clone()).await;
            let told = answer.get("error").cloned().unwrap_or_else(|| answer["result"]["action"].clone());
            call.text(&told.to_string()).await;
        })
        .start()
        .await;
    let modern = stateless_upstream("new")
        .on("tools/call", |mut call| async move {
            let question = json!({ "method": "elicitation/create", "params": questions()[1].1 });
            call.result(json!({ "resultType": "input_required", "inputRequests": { "who": question } }))
                .await;
        })
        .start()
        .await;
    let gateway = gateway().with("old", &handshake).with("new", &modern).start().await;
    let stateless = Client::stateless(&gateway.endpoint, json!({ "sampling": {} }));
    stateless.until_tools(&["old__echo", "new__echo"]).await;
    let answer = stateless.call("old__echo", json!({})).await;
    let text = answer.text();
    assert!(
        text.contains("cancel") || text.contains("code"),
        "the old upstream got an answer: {}",
        answer.raw
    );

    let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
    let answer = client.call("new__echo", json!({})).await;
    let failed = answer.json.get("error").is_some() || answer.result()["isError"] == true;
    assert!(failed, "it was told, and insists (era-bridge §9.4): {}", answer.raw);
}

#[tokio::test]
async fn standing_messages_reach_the_session_they_belong_to() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
        let subscribed = upstream.until_received("resources/subscribe", 1).await;
        let mut stream = client.standalone_stream().await;
        upstream.until_standing_for(&subscribed).await;
        upstream.announce("notifications/resources/updated", json!({ "uri": "test://one/static" })).await;
        let updated = stream.until_method("notifications/resources/updated").await;
        assert_eq!(updated.params()["uri"], "test://one/static");
        let message = json!({ "level": "warning", "logger": "engine", "data": { "a": 1.5 } });
        upstream.announce("notifications/message", message).await;
        let logged = stream.until_method("notifications/message").await;
        assert_eq!(logged.params()["data"], json!({ "a": 1.5 }));
        let logger = logged.params()["logger"].as_str().unwrap_or_default();
        assert!(
            logger.contains("one") && logger.contains("engine"),
            "loggers name their upstream (S-LOG-05): {logger:?}"
        );
    }
}

#[tokio::test]
async fn upstreams_may_ping_at_any_time() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        upstream.until_standing().await;
        let pong = upstream.ask("ping", json!({})).await;
        assert_eq!(pong["result"], json!({}), "{pong}");
    }
}

#[tokio::test]
async fn questions_outside_any_call_are_never_sent_to_somebody_by_guess() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let settled = gateway.stateless();
    settled.until_tools(&["one__echo"]).await;
    let bystander = gateway.handshake(HANDSHAKE).await;
    let mut stream = bystander.standalone_stream().await;
    upstream.until_standing().await;
    let answer = upstream.ask(questions()[1].0, questions()[1].1.clone()).await;
    let is_clear = answer.get("error").is_some() || answer["result"]["action"] == "cancel";
    assert!(is_clear, "{answer}");
    for message in stream.messages_within(Duration::from_millis(300)).await {
        assert_ne!(message.method(), "elicitation/create", "{}", message.raw);
    }
}
