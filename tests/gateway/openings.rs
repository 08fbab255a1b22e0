//! Sessions and streams further on: pings, order and place of messages, keep-alives, what ends with a session.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Message};
use crate::support::{
    HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, TRANSPORTS, Transport, gateway, http_upstream, upstream,
    within,
};

#[tokio::test]
async fn s_life_11_pings_are_answered_at_once_and_bother_no_upstream() {
    let hanging =
        http_upstream("hanging").on("*", |mut call| async move { call.disconnected().await }).start().await;
    let absent = http_upstream("absent").reserve();
    let gateway = gateway().with("hanging", &hanging).with_server("absent", absent.settings()).start().await;
    for revision in HANDSHAKE_REVISIONS {
        let client = gateway.handshake(revision).await;
        for _ in 0..3 {
            let pinged = within(Duration::from_secs(3), "a ping", client.request("ping", json!({}))).await;
            assert_eq!((pinged.status, pinged.raw_result(&[])), (200, "{}"), "{revision}");
        }
    }
    assert_eq!(hanging.received("ping").len(), 0, "pings end at the gateway");
    gateway.stateless().request("ping", json!({})).await.expect_error(404, -32601);
}

/// What a busy call says: progress, logs, a question, and then its answer.
async fn busy(mut call: crate::support::Call) {
    call.progress(1.0, 3.0).await;
    call.notify("notifications/message", json!({ "level": "error", "data": "first" })).await;
    let form = json!({ "message": "?", "requestedSchema": { "type": "object", "properties": {} } });
    call.ask("elicitation/create", form).await;
    // Slow enough that nothing needs to be coalesced.
    call.pause(400).await;
    call.progress(2.0, 3.0).await;
    call.notify("notifications/message", json!({ "level": "error", "data": "second" })).await;
    call.text("done").await;
}

#[tokio::test]
async fn s_https_09_10_each_message_comes_once_in_order_on_the_stream_of_its_call() {
    for revision in ["2025-06-18", HANDSHAKE] {
        let upstream = http_upstream("one").on("tools/call", busy).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(revision, json!({ "elicitation": {} })).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        let params = json!({ "name": "one__echo", "arguments": {}, "_meta": { "progressToken": "p" } });
        let mut running = client.open("tools/call", params).await;
        let mut idle = client.open_call("one__nothing", json!({})).await;
        assert_eq!(idle.next().await.expect("an error").json["error"]["code"], -32602);
        client.answer_next(&mut running, "elicitation/create", json!({ "action": "decline" })).await;
        let answer = running.answer().await;
        let order: Vec<String> = answer.before.iter().map(word).collect();
        assert_eq!(
            order,
            ["progress 1.0", "log \"first\"", "elicitation/create", "progress 2.0", "log \"second\""],
            "{revision}"
        );
        // Nothing of it came a second time elsewhere; what concerns no call comes there, once.
        client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
        let subscribed = upstream.until_received("resources/subscribe", 1).await;
        upstream.until_standing_for(&subscribed).await;
        upstream
            .tell(&subscribed, "notifications/resources/updated", json!({ "uri": "test://one/static" }))
            .await;
        let elsewhere: Vec<String> = stream
            .messages_within(Duration::from_millis(800))
            .await
            .iter()
            .map(word)
            .filter(|word| !word.ends_with("list_changed"))
            .collect();
        assert_eq!(elsewhere, ["notifications/resources/updated"], "{revision}");
    }
}

fn word(message: &Message) -> String {
    match message.method() {
        "notifications/progress" => {
            format!("progress {:?}", message.params()["progress"].as_f64().expect("a number"))
        }
        "notifications/message" => format!("log {}", message.params()["data"]),
        other => other.to_owned(),
    }
}

#[tokio::test]
async fn s_https_10_calls_at_the_same_time_keep_their_messages_apart() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let n = call.params()["arguments"]["n"].as_f64().unwrap_or_default();
                for step in 0..3 {
                    call.progress(n * 10.0 + f64::from(step), 100.0).await;
                    call.pause(120).await;
                }
                call.text(&n.to_string()).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut running = Vec::new();
        for n in 0..8 {
            let params =
                json!({ "name": "one__echo", "arguments": { "n": n }, "_meta": { "progressToken": n } });
            running.push((n, client.open("tools/call", params).await));
        }
        for (n, exchange) in running {
            let answer = exchange.answer().await;
            assert_eq!(answer.text(), n.to_string());
            for message in &answer.before {
                assert_eq!(message.params()["progressToken"], n, "{transport:?}: {}", message.raw);
                assert_eq!(message.params()["progress"].as_f64().expect("a number") as i64 / 10, n);
            }
            assert!(!answer.before.is_empty());
        }
    }
}

#[tokio::test]
async fn s_https_15_streams_are_kept_alive_and_kept_out_of_buffers() {
    for revision in
        HANDSHAKE_REVISIONS.into_iter().chain([STATELESS]).filter(|revision| *revision != "2024-11-05")
    {
        let upstream = http_upstream("one")
            .on("tools/call", |mut call| async move {
                call.progress(1.0, 2.0).await;
                call.pause(1_200).await;
                call.text("done").await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config("bounds: { keep_alive: 150ms }").start().await;
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        let mut streams = vec![client.open_call_with_progress("one__echo", json!("t")).await];
        if revision != STATELESS {
            streams.push(client.standalone_stream().await);
        }
        for stream in &mut streams {
            let head = stream.head().await;
            assert_eq!(head.status(), 200);
            let field = |name: &str| head.headers.get(name).unwrap_or_default().to_owned();
            assert!(field("content-type").starts_with("text/event-stream"), "{revision}: {head:?}");
            assert!(field("cache-control").contains("no-cache"), "{revision}: {head:?}");
            assert_eq!(field("x-accel-buffering"), "no", "{revision}: {head:?}");
            stream.messages_within(Duration::from_millis(900)).await;
            // The second stream was open while the first was read.
            assert!((2..=18).contains(&stream.comments()), "{revision}: {} comments", stream.comments());
        }
    }
}

#[tokio::test]
async fn s_https_14_a_batch_has_an_answer_for_each_request_and_none_stops_another() {
    let upstream = http_upstream("one")
        .tool("slow")
        .tool("failing")
        .on("tools/call", |mut call| async move {
            match call.name() {
                "slow" => call.pause(1_500).await,
                "failing" => return call.error(-31_001, "broken", json!({ "deep": [1] })).await,
                _ => {}
            }
            call.default().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake("2025-03-26").await;
    client.until_tools(&["one__slow", "one__failing"]).await;
    let call = |id: Value, tool: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": {} } });
    let batch = json!([
        call(json!("slow"), "one__slow"), call(json!("slower"), "one__slow"), call(json!(1), "one__failing"),
        call(json!("1"), "one__unknown"), call(json!(""), "one__echo"),
        { "jsonrpc": "2.0", "method": "notifications/unknown" },
    ]);
    let started = tokio::time::Instant::now();
    let answer =
        client.endpoint.ask("POST", client.headers("", &Value::Null), batch.to_string().as_bytes()).await;
    assert!(started.elapsed() < Duration::from_millis(2_900), "requests of a batch run beside each other");
    assert_eq!(answer.status, 200, "{}", answer.body);
    for (id, expected) in [
        (r#""slow""#, "one echoes"),
        (r#""slower""#, "one echoes"),
        ("1", "-31001"),
        (r#""1""#, "-32602"),
        (r#""""#, "one echoes"),
    ] {
        let marked = format!(r#""id":{id},"#);
        let at = answer.body.find(&marked).unwrap_or_else(|| panic!("no answer for {id}: {}", answer.body));
        let end = answer.body[at + 1..].find(r#""id":"#).map_or(answer.body.len(), |end| at + 1 + end);
        assert!(answer.body[at..end].contains(expected), "{id} should be {expected}: {}", answer.body);
    }
    for silent in [
        json!([{ "jsonrpc": "2.0", "method": "notifications/unknown" }, { "jsonrpc": "2.0", "method": "notifications/other" }]),
        json!([{ "jsonrpc": "2.0", "id": 1, "result": {} }, { "jsonrpc": "2.0", "id": 2, "error": { "code": 1, "message": "m" } }]),
    ] {
        let taken = client
            .endpoint
            .ask("POST", client.headers("", &Value::Null), silent.to_string().as_bytes())
            .await;
        assert_eq!((taken.status, taken.body.as_str()), (202, ""), "{silent}");
    }
}

#[tokio::test]
async fn s_sess_03_a_question_of_a_session_that_is_ended_is_cancelled() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
        client.until_tools(&["one__echo"]).await;
        let form = json!({ "message": "?", "requestedSchema": { "type": "object", "properties": {} } });
        let ask = crate::support::client::question("elicitation/create", &form);
        let mut running = client.open_call("one__echo", ask).await;
        let asked = running.until_method("elicitation/create").await;
        assert!((200..300).contains(&client.delete().await));
        // The upstream is not left waiting: it hears cancel, an error, or that its call or session is over.
        upstream
            .until("the end of the question", |ledger| {
                ledger
                    .iter()
                    .any(|received| {
                        received.verb == "DELETE"
                            || received.method() == "notifications/cancelled"
                            || (received.method().is_empty() && received.json.get("id").is_some())
                    })
                    .then_some(())
            })
            .await;
        assert_eq!(
            client.respond(&asked.json["id"], json!({ "action": "accept" })).await,
            404,
            "{transport:?}"
        );
        assert!(!upstream.answers().iter().any(|answer| answer.json["result"]["action"] == "accept"));
    }
}

#[tokio::test]
async fn s_life_07_clients_that_can_the_same_and_those_that_cannot_are_told_apart() {
    let upstream = http_upstream("one").asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for capabilities in [
        json!({ "sampling": {}, "elicitation": { "form": {} } }),
        json!({ "sampling": { "tools": {} } }),
        json!({}),
        json!({ "sampling": {}, "experimental": { "x": {} }, "made-up": {} }),
        json!({ "tasks": { "requests": { "sampling": { "createMessage": {} } } }, "elicitation": { "form": {}, "url": {} } }),
    ] {
        let client = gateway.handshake_with(HANDSHAKE, capabilities.clone()).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", crate::support::client::question("ping", &json!({}))).await.result();
        let declared = upstream.declared();
        for (name, value) in declared.as_object().expect("an object") {
            assert!(capabilities.get(name).is_some(), "{name} was never declared: {declared}");
            for (part, _) in value.as_object().expect("an object") {
                assert!(
                    capabilities[name].get(part).is_some(),
                    "{name}.{part} was never declared: {declared}"
                );
            }
        }
        assert_eq!(declared["sampling"].is_object(), capabilities["sampling"].is_object(), "{declared}");
        assert_eq!(
            declared["sampling"].get("tools").is_some(),
            capabilities["sampling"].get("tools").is_some()
        );
        assert_eq!(
            declared["elicitation"].is_object(),
            capabilities["elicitation"].is_object(),
            "{declared}"
        );
        assert_eq!(
            declared["elicitation"].get("url").is_some(),
            capabilities["elicitation"].get("url").is_some()
        );
        assert_eq!(
            declared.get("tasks"),
            capabilities.get("tasks"),
            "what its client keeps tasks of: {declared}"
        );
    }
}

#[tokio::test]
async fn s_trust_01_a_session_s_numbers_mean_nothing_in_another() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 10.0).await;
            call.pause(700).await;
            call.text("mine").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let owner = gateway.handshake(HANDSHAKE).await;
    let stranger = gateway.handshake(HANDSHAKE).await;
    owner.until_tools(&["one__echo"]).await;
    let params = json!({ "name": "one__echo", "arguments": {}, "_meta": { "progressToken": "t" } });
    let mut running = owner.open_as(json!(4711), "tools/call", params).await;
    running.until_method("notifications/progress").await;
    for client in [&stranger, &gateway.stateless()] {
        client.notify("notifications/cancelled", json!({ "requestId": 4711 })).await;
        client.notify("notifications/progress", json!({ "progressToken": "t", "progress": 9 })).await;
    }
    assert_eq!(running.answer().await.text(), "mine");
    assert!(upstream.received("notifications/cancelled").is_empty());
    assert!(upstream.received("notifications/progress").is_empty());
    // The same number again in the stranger's own session is the stranger's own request.
    let own = stranger.open_as(json!(4711), "ping", json!({})).await.answer().await;
    assert_eq!(own.result(), &json!({}));
}

#[tokio::test]
async fn s_trust_03_updates_and_changes_of_one_server_touch_nothing_of_another() {
    for transport in [Transport::Http, Transport::Stdio] {
        let victim = http_upstream("victim").start().await;
        let hostile = upstream("hostile", HANDSHAKE, transport).start().await;
        let gateway = gateway().with("victim", &victim).with("hostile", &hostile).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["victim__echo", "hostile__echo"]).await;
        client.until_listed("resources", &["static"]).await;
        client.request("resources/subscribe", json!({ "uri": "test://victim/static" })).await.result();
        client.call("hostile__echo", json!({})).await.result();
        let mut stream = client.standalone_stream().await;
        let foothold = hostile.until_received("tools/call", 1).await;
        hostile.until_standing_for(&foothold).await;
        stream.messages_within(Duration::from_millis(400)).await;
        for uri in ["test://victim/static", "test://victim/static/part", "", "test://"] {
            hostile.tell(&foothold, "notifications/resources/updated", json!({ "uri": uri })).await;
        }
        hostile.tell(&foothold, "notifications/roots/list_changed", json!({})).await;
        hostile.tell(&foothold, "notifications/initialized", json!({})).await;
        stream.expect_quiet(Duration::from_millis(500)).await;
        assert_eq!(client.call("victim__echo", json!({})).await.text(), "victim echoes {}");
        assert_eq!(client.call("hostile__echo", json!({})).await.text(), "hostile echoes {}");
        // Neither takes the place of the other by naming itself alike.
        let names: Vec<String> = client.request("tools/list", json!({})).await.names("tools");
        assert_eq!(names, ["victim__echo", "hostile__echo"]);
    }
}

#[tokio::test]
async fn s_life_05_methods_of_what_was_not_declared_do_not_exist() {
    let gateway = gateway().start().await;
    for revision in HANDSHAKE_REVISIONS {
        let client: Client = gateway.handshake(revision).await;
        for (capability, method) in [
            ("tasks", "tasks/list"),
            ("tasks", "tasks/get"),
            ("roots", "roots/list"),
            ("sampling", "sampling/createMessage"),
            ("elicitation", "elicitation/create"),
        ] {
            assert!(client.welcome["capabilities"].get(capability).is_none(), "{}", client.welcome);
            client.request(method, json!({})).await.expect_error(200, -32601);
        }
    }
}

#[tokio::test]
async fn s_tool_13_one_session_cannot_have_more_calls_than_its_share() {
    for revision in [HANDSHAKE, "2024-11-05"] {
        let go_on = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let gate = std::sync::Arc::clone(&go_on);
        let upstream = http_upstream("one")
            .on("tools/call", move |mut call| {
                let gate = std::sync::Arc::clone(&gate);
                async move {
                    gate.acquire().await.expect("the story keeps it open").forget();
                    call.default().await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config("bounds: { session_calls: 3 }").start().await;
        let greedy = gateway.handshake(revision).await;
        let modest = gateway.handshake(revision).await;
        greedy.until_tools(&["one__echo"]).await;
        let mut running = Vec::new();
        for n in 0..3 {
            running.push(greedy.open_call("one__echo", json!({ "n": n })).await);
        }
        upstream.until_received("tools/call", 3).await;
        let refused = greedy.call("one__echo", json!({ "n": 3 })).await;
        refused.expect_failure("overloaded", "not_sent");
        assert_eq!(upstream.received("tools/call").len(), 3, "what is refused is not sent");
        let other = modest.open_call("one__echo", json!({ "n": 4 })).await;
        upstream.until_received("tools/call", 4).await;
        go_on.add_permits(5);
        assert_eq!(
            other.answer().await.text(),
            r#"one echoes {"n":4}"#,
            "its neighbour has a share of its own"
        );
        for exchange in running {
            exchange.answer().await.text();
        }
        assert_eq!(greedy.call("one__echo", json!({ "n": 5 })).await.text(), r#"one echoes {"n":5}"#);
    }
}
