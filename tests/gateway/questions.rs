//! Questions of servers, as clients that understand less or more of them are asked; pages to visit, and progress on both.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::client::{Client, Exchange, Message};
use crate::support::upstream::Call;
use crate::support::{HANDSHAKE, TRANSPORTS, Transport, Upstream, gateway, http_upstream, upstream};

const OLDER: &str = "2025-06-18";

/// An upstream whose tool asks what its caller tells it to, and tells what it was answered.
async fn asking(name: &str, transport: Transport) -> Upstream {
    upstream(name, HANDSHAKE, transport).on("tools/call", ask_on_behalf).start().await
}

async fn ask_on_behalf(mut call: Call) {
    let arguments = call.params()["arguments"].clone();
    let method = arguments["method"].as_str().unwrap_or_default().to_owned();
    let answer = call.ask(&method, arguments["params"].clone()).await;
    let told = match answer.get("error") {
        Some(error) => json!({ "error": error["code"] }),
        None => answer["result"].clone(),
    };
    call.text(&told.to_string()).await;
}

async fn have_asked(client: &Client, tool: &str, method: &str, params: Value) -> Exchange {
    client.until_tools(&[tool]).await;
    client.open_call(tool, json!({ "method": method, "params": params })).await
}

async fn asked_and_answered(client: &Client, running: &mut Exchange, method: &str, answer: Value) -> Message {
    let asked = running.until_method(method).await;
    assert_eq!(client.respond(&asked.json["id"], answer).await, 202);
    asked
}

/// What the upstream was answered.
async fn told(running: Exchange) -> Value {
    serde_json::from_str(running.answer().await.text()).expect("the tool tells it as JSON")
}

fn sampling(more: Value) -> Value {
    let mut params = json!({ "messages": [], "maxTokens": 9 });
    for (name, value) in more.as_object().expect("an object") {
        params[name] = value.clone();
    }
    params
}

fn page(id: &str, url: &str) -> Value {
    json!({ "mode": "url", "message": "Please sign in", "url": url, "elicitationId": id })
}

#[tokio::test]
async fn s_samp_02_tools_reach_only_clients_that_declared_them() {
    for transport in TRANSPORTS {
        let upstream = asking("one", transport).await;
        let gateway = gateway().with("one", &upstream).start().await;
        let tools = sampling(json!({
            "tools": [{ "name": "t", "inputSchema": { "type": "object" } }], "toolChoice": { "mode": "auto" },
        }));
        let plain = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
        let running = have_asked(&plain, "one__echo", "sampling/createMessage", tools.clone()).await;
        assert_eq!(told(running).await, json!({ "error": -32602 }), "nothing reached the client");

        let able = gateway.handshake_with(HANDSHAKE, json!({ "sampling": { "tools": {} } })).await;
        let mut running = have_asked(&able, "one__echo", "sampling/createMessage", tools.clone()).await;
        let answer = json!({
            "role": "assistant", "model": "m", "stopReason": "toolUse",
            "content": [{ "type": "tool_use", "id": "call_1", "name": "t", "input": {} }],
        });
        let asked = asked_and_answered(&able, &mut running, "sampling/createMessage", answer.clone()).await;
        assert_eq!(asked.params()["tools"], tools["tools"], "names inside are the server's own (S-SAMP-04)");
        assert_eq!(told(running).await, answer);
        let declared: Vec<Value> = upstream
            .received("initialize")
            .iter()
            .map(|received| received.params()["capabilities"]["sampling"].clone())
            .collect();
        assert!(declared.contains(&json!({})) && declared.contains(&json!({ "tools": {} })), "{declared:?}");
    }
}

#[tokio::test]
async fn s_samp_03_no_server_gets_what_others_said_unless_it_may() {
    let upstream = asking("one", Transport::Http).await;
    for (allowed, expected) in [(false, "none"), (true, "allServers")] {
        let more = json!({ "ask": { "context": allowed } });
        let gateway = gateway().with_more("one", &upstream, more).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": { "context": {} } })).await;
        let params = sampling(json!({ "includeContext": "allServers" }));
        let mut running = have_asked(&client, "one__echo", "sampling/createMessage", params).await;
        let answer = json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "a" } });
        let asked = asked_and_answered(&client, &mut running, "sampling/createMessage", answer).await;
        assert_eq!(asked.params()["includeContext"], expected, "unless the operator allows it");
        told(running).await;
    }
}

#[tokio::test]
async fn s_elic_10_people_read_the_name_that_the_operator_gave_the_server() {
    let upstream = asking("one", Transport::Http).await;
    let form = json!({ "message": "m", "requestedSchema": { "type": "object", "properties": {} } });
    for (prefix, message) in [("one", "[Paper archive] m"), ("", "m")] {
        let more = json!({
            "title": "Paper archive", "prefix": prefix, "ask": { "sampling": false, "context": true },
        });
        let gateway = gateway().with_more("one", &upstream, more).start().await;
        let able = json!({ "elicitation": {}, "sampling": {} });
        let client = gateway.handshake_with(HANDSHAKE, able).await;
        let tool = if prefix.is_empty() { "echo" } else { "one__echo" };
        let mut running = have_asked(&client, tool, "elicitation/create", form.clone()).await;
        let answer = json!({ "action": "cancel" });
        let asked = asked_and_answered(&client, &mut running, "elicitation/create", answer.clone()).await;
        assert_eq!(asked.params()["message"], message);
        assert_eq!(asked.params()["_meta"]["switchyard/server"], "Paper archive");
        assert_eq!(told(running).await, answer);
        let running = have_asked(&client, tool, "sampling/createMessage", sampling(json!({}))).await;
        assert_eq!(told(running).await, json!({ "error": -32601 }), "it may not ask that (S-SAMP-07)");
    }
}

#[tokio::test]
async fn s_samp_05_an_older_client_is_shown_one_block_or_nothing() {
    let upstream = asking("one", Transport::Http).await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(OLDER, json!({ "sampling": {} })).await;
    let text = |text: &str| json!({ "type": "text", "text": text });
    let messages = |content: Value| sampling(json!({ "messages": [{ "role": "user", "content": content }] }));
    let both = messages(json!([text("one"), text("two")]));
    let mut running = have_asked(&client, "one__echo", "sampling/createMessage", both).await;
    let answer = json!({ "role": "assistant", "model": "m", "content": text("a") });
    let asked = asked_and_answered(&client, &mut running, "sampling/createMessage", answer.clone()).await;
    assert_eq!(asked.params()["messages"], messages(text("one\ntwo"))["messages"]);
    assert_eq!(told(running).await, answer);

    let used = json!([{ "type": "tool_use", "id": "1", "name": "t", "input": {} }]);
    let running = have_asked(&client, "one__echo", "sampling/createMessage", messages(used)).await;
    assert_eq!(told(running).await, json!({ "error": -32602 }));
}

#[tokio::test]
async fn s_samp_07_a_call_causes_only_so_many_questions_and_the_server_hears_why() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio)
        .on("tools/call", |mut call| async move {
            let mut codes = Vec::new();
            for _ in 0..4 {
                let answer = call.ask("sampling/createMessage", sampling(json!({}))).await;
                codes.push(answer["error"]["code"].clone());
            }
            let form = json!({ "message": "m", "requestedSchema": { "type": "object", "properties": {} } });
            codes.push(call.ask("elicitation/create", form).await["result"]["action"].clone());
            call.text(&json!(codes).to_string()).await;
        })
        .start()
        .await;
    let bounds = "bounds: { call_questions: 2 }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {}, "elicitation": {} })).await;
    for _ in 0..2 {
        client.until_tools(&["one__echo"]).await;
        let mut running = client.open_call("one__echo", json!({})).await;
        for _ in 0..2 {
            let asked = running.until_method("sampling/createMessage").await;
            client.refuse(&asked.json["id"], -7, "no").await;
        }
        assert_eq!(told(running).await, json!([-7, -7, -1, -1, "cancel"]), "each call has its own share");
    }
}

#[tokio::test]
async fn s_elic_14_a_server_asks_one_client_only_so_often() {
    let upstream = asking("one", Transport::Http).await;
    let gateway = gateway().with("one", &upstream).config("bounds: { question_rate: 1 }").start().await;
    let form = json!({ "message": "m", "requestedSchema": { "type": "object", "properties": {} } });
    for _ in 0..2 {
        let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
        let mut running = have_asked(&client, "one__echo", "elicitation/create", form.clone()).await;
        asked_and_answered(&client, &mut running, "elicitation/create", json!({ "action": "decline" })).await;
        assert_eq!(told(running).await, json!({ "action": "decline" }));
        let running = have_asked(&client, "one__echo", "elicitation/create", form.clone()).await;
        assert_eq!(told(running).await, json!({ "action": "cancel" }), "without asking");
    }
}

#[tokio::test]
async fn s_elic_05_a_form_is_put_in_the_words_of_an_older_client() {
    for transport in TRANSPORTS {
        let upstream = asking("one", transport).await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(OLDER, json!({ "elicitation": {} })).await;
        let form = |properties: Value| {
            let schema = json!({ "type": "object", "properties": properties, "required": [] });
            json!({ "mode": "form", "message": "m", "requestedSchema": schema })
        };
        let newest = form(json!({
            "colour": { "type": "string", "oneOf": [{ "const": "#f00", "title": "Red" }], "default": "#f00" },
            "name": { "type": "string", "pattern": "^a", "default": "ada" },
            "age": { "type": "integer", "default": 7 },
            "sure": { "type": "boolean", "default": true },
        }));
        let mut running = have_asked(&client, "one__echo", "elicitation/create", newest).await;
        let answer = json!({ "action": "accept", "content": { "colour": "#f00" } });
        let asked = asked_and_answered(&client, &mut running, "elicitation/create", answer.clone()).await;
        let expected = json!({
            "colour": { "type": "string", "enum": ["#f00"], "enumNames": ["Red"] },
            "name": { "type": "string" },
            "age": { "type": "integer" },
            "sure": { "type": "boolean", "default": true },
        });
        assert_eq!(asked.params()["requestedSchema"]["properties"], expected);
        assert_eq!(asked.params().get("mode"), None, "it came later (S-ELIC-02)");
        assert_eq!(asked.params()["message"], "[one] m", "who asks is clear (S-ELIC-10)");
        assert_eq!(told(running).await, answer);

        let several = form(json!({ "a": { "type": "array", "items": { "type": "string", "enum": ["x"] } } }));
        let running = have_asked(&client, "one__echo", "elicitation/create", several).await;
        assert_eq!(told(running).await, json!({ "action": "cancel" }), "without asking");
    }
}

#[tokio::test]
async fn s_elic_07_a_page_goes_to_the_person_and_nowhere_else() {
    // Whoever fetched the page would be seen there.
    let detector = http_upstream("detector").start().await;
    let address = format!("http://{}/sign-in?secret=canary", detector.address());
    let (one, two) = (asking("one", Transport::Http).await, asking("two", Transport::Stdio).await);
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": { "form": {}, "url": {} } })).await;
    let mut ids = Vec::new();
    for tool in ["one__echo", "two__echo"] {
        let mut running = have_asked(&client, tool, "elicitation/create", page("shared-id", &address)).await;
        let asked =
            asked_and_answered(&client, &mut running, "elicitation/create", json!({ "action": "accept" }))
                .await;
        assert_eq!(asked.params()["url"], address.as_str());
        let id = asked.params()["elicitationId"].as_str().expect("a text").to_owned();
        assert!(!asked.raw.contains("shared-id") && id.len() >= 22, "{}", asked.raw);
        ids.push(id);
        assert_eq!(told(running).await, json!({ "action": "accept" }));
    }
    assert_ne!(ids[0], ids[1], "two servers may use the same identifier");
    let bad = page("bad", "file:///etc/passwd");
    let running = have_asked(&client, "one__echo", "elicitation/create", bad).await;
    assert_eq!(told(running).await, json!({ "error": -32602 }));
    let forms = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": { "form": {} } })).await;
    let running = have_asked(&forms, "one__echo", "elicitation/create", page("a", &address)).await;
    assert_eq!(told(running).await, json!({ "error": -32602 }), "a mode that was not declared (S-ELIC-01)");
    assert!(detector.ledger().is_empty(), "nobody looked at the page");
    assert!(!gateway.stderr().contains("canary"), "nor is it in the log");
}

#[tokio::test]
async fn s_elic_08_a_completed_page_is_told_once_to_the_session_that_was_shown_it() {
    for transport in TRANSPORTS {
        let (one, two) = (asking("one", transport).await, asking("two", transport).await);
        let gateway = gateway().with("one", &one).with("two", &two).start().await;
        let able = json!({ "elicitation": { "url": {} } });
        let client = gateway.handshake_with(HANDSHAKE, able.clone()).await;
        let other = gateway.handshake_with(HANDSHAKE, able).await;
        let mut streams = [client.standalone_stream().await, other.standalone_stream().await];
        let question = page("p1", "https://example.com/p1");
        let mut running = have_asked(&client, "one__echo", "elicitation/create", question).await;
        let accepted = json!({ "action": "accept" });
        let asked = asked_and_answered(&client, &mut running, "elicitation/create", accepted).await;
        let minted = asked.params()["elicitationId"].clone();
        told(running).await;
        // Every server has a connection of each session to say it on.
        for (client, tool) in [(&client, "two__echo"), (&other, "one__echo"), (&other, "two__echo")] {
            told(have_asked(client, tool, "roots/list", json!({})).await).await;
        }
        for server in [&one, &two] {
            for call in server.received("tools/call") {
                server.until_standing_for(&call).await;
            }
        }
        let complete = "notifications/elicitation/complete";
        two.announce(complete, json!({ "elicitationId": "p1" })).await;
        two.announce(complete, json!({ "elicitationId": minted })).await;
        one.announce(complete, json!({ "elicitationId": "p2" })).await;
        for message in streams[0].messages_within(Duration::from_millis(300)).await {
            assert_ne!(message.method(), complete, "nothing was completed yet: {}", message.raw);
        }
        one.announce(complete, json!({ "elicitationId": "p1" })).await;
        let completed = streams[0].until_method(complete).await;
        assert_eq!(completed.params()["elicitationId"], minted);
        one.announce(complete, json!({ "elicitationId": "p1" })).await;
        for stream in &mut streams {
            for message in stream.messages_within(Duration::from_millis(300)).await {
                assert_ne!(message.method(), complete, "{}", message.raw);
            }
        }
    }
}

#[tokio::test]
async fn s_elic_08_while_its_call_runs_a_page_is_completed_on_the_stream_of_the_call() {
    for transport in TRANSPORTS {
        let seen = Arc::new(Notify::new());
        let told = Arc::clone(&seen);
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", move |mut call| {
                let told = Arc::clone(&told);
                async move {
                    call.ask("elicitation/create", page("p1", "https://example.com/p1")).await;
                    call.notify("notifications/elicitation/complete", json!({ "elicitationId": "p1" })).await;
                    told.notified().await;
                    call.text("done").await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": { "url": {} } })).await;
        client.until_tools(&["one__echo"]).await;
        let mut running = client.open_call("one__echo", json!({})).await;
        let accepted = json!({ "action": "accept" });
        let asked = asked_and_answered(&client, &mut running, "elicitation/create", accepted).await;
        let completed = running.until_method("notifications/elicitation/complete").await;
        seen.notify_one();
        assert_eq!(completed.params()["elicitationId"], asked.params()["elicitationId"]);
        assert_eq!(running.answer().await.text(), "done");
    }
}

#[tokio::test]
async fn s_elic_09_a_call_that_waits_for_a_page_says_so_in_the_words_of_each_client() {
    let refusing = |mut call: Call| async move {
        let data =
            json!({ "elicitations": [page("needed", "https://example.com/connect?secret=1")], "x": 1.5 });
        call.error(-32042, "sign in first", data).await;
    };
    let upstream = http_upstream("one").on("tools/call", refusing).on("prompts/get", refusing).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let able = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": { "url": {} } })).await;
    let mut stream = able.standalone_stream().await;
    able.until_tools(&["one__echo"]).await;
    let answer = able.call("one__echo", json!({})).await;
    let error = &answer.json["error"];
    assert_eq!(error["code"], -32042, "{}", answer.raw);
    assert_eq!(error["data"]["x"], 1.5);
    let shown = &error["data"]["elicitations"][0];
    assert_eq!(shown["url"], "https://example.com/connect?secret=1");
    assert_eq!(shown["message"], "[one] Please sign in");
    assert!(!answer.raw.contains("\"needed\""), "{}", answer.raw);
    let call = upstream.until_received("tools/call", 1).await;
    upstream.until_standing_for(&call).await;
    upstream.announce("notifications/elicitation/complete", json!({ "elicitationId": "needed" })).await;
    let completed = stream.until_method("notifications/elicitation/complete").await;
    assert_eq!(completed.params()["elicitationId"], shown["elicitationId"]);

    for (revision, capabilities) in
        [(OLDER, json!({ "elicitation": {} })), (HANDSHAKE, json!({ "elicitation": {} }))]
    {
        let client = gateway.handshake_with(revision, capabilities).await;
        let answer = client.call("one__echo", json!({})).await;
        assert_eq!(answer.result()["isError"], true, "{}", answer.raw);
        assert!(answer.text().contains("Please sign in") && answer.text().contains("one"), "{}", answer.raw);
        let prompt = client.request("prompts/get", json!({ "name": "one__greet" })).await;
        assert_eq!(prompt.json["error"]["code"], -32603, "{}", prompt.raw);
        for answer in [answer, prompt] {
            assert!(!answer.raw.contains("example.com"), "not where: {}", answer.raw);
        }
    }
    let stateless = gateway.stateless();
    let answer = stateless.call("one__echo", json!({})).await;
    assert!(!answer.raw.contains("-32042") && !answer.raw.contains("example.com"), "{}", answer.raw);
}

#[tokio::test]
async fn s_prog_07_a_client_tells_the_server_how_far_its_answer_is() {
    for transport in TRANSPORTS {
        let upstream = asking("one", transport).await;
        let bounds = "bounds: { input_timeout: 1500ms }";
        let gateway = gateway().with("one", &upstream).config(bounds).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "sampling": {} })).await;
        let question = sampling(json!({ "_meta": { "progressToken": "the-server-s-own" } }));
        let mut running = have_asked(&client, "one__echo", "sampling/createMessage", question).await;
        let asked = running.until_method("sampling/createMessage").await;
        assert!(!asked.raw.contains("the-server-s-own"), "{}", asked.raw);
        let token = asked.params()["_meta"]["progressToken"].clone();
        let report = async |value: f64| {
            let params = json!({ "progressToken": token, "progress": value, "message": "thinking" });
            assert_eq!(client.notify("notifications/progress", params).await, 202);
        };
        // Each report makes the wait longer: four of them outlast the silence that is borne.
        for (before, value) in [1.0, 2.0, 3.0, 4.0].into_iter().enumerate() {
            report(value).await;
            let received = upstream.until_received("notifications/progress", before + 1).await;
            assert_eq!(received.params()["progressToken"], "the-server-s-own", "{}", received.raw);
            assert_eq!(received.params()["message"], "thinking");
            report(0.5).await;
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        let answer = json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "a" } });
        assert_eq!(client.respond(&asked.json["id"], answer.clone()).await, 202);
        assert_eq!(told(running).await, answer);
        report(9.0).await;
        told(have_asked(&client, "one__echo", "roots/list", json!({})).await).await;
        let values: Vec<Value> = upstream
            .received("notifications/progress")
            .iter()
            .map(|received| received.params()["progress"].clone())
            .collect();
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0], "it only grows, and ends with the question");
    }
}

#[tokio::test]
async fn s_life_10_the_time_in_which_a_person_is_asked_is_not_the_server_s() {
    for transport in TRANSPORTS {
        let upstream = asking("one", transport).await;
        let gateway = gateway().with_more("one", &upstream, json!({ "timeout": "700ms" })).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
        let form = json!({ "message": "m", "requestedSchema": { "type": "object", "properties": {} } });
        let mut running = have_asked(&client, "one__echo", "elicitation/create", form).await;
        let asked = running.until_method("elicitation/create").await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(client.respond(&asked.json["id"], json!({ "action": "decline" })).await, 202);
        assert_eq!(told(running).await, json!({ "action": "decline" }));
    }
}

#[tokio::test]
async fn s_root_03_only_files_of_the_client_are_roots() {
    let upstream = asking("one", Transport::Stdio).await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "roots": {} })).await;
    let mut running = have_asked(&client, "one__echo", "roots/list", json!({})).await;
    let roots = json!({ "roots": [{ "uri": "file:///a" }, { "uri": "https://b" }, { "uri": "a" }] });
    asked_and_answered(&client, &mut running, "roots/list", roots).await;
    assert_eq!(told(running).await, json!({ "roots": [{ "uri": "file:///a" }] }));
    let without = gateway.handshake(HANDSHAKE).await;
    let running = have_asked(&without, "one__echo", "roots/list", json!({})).await;
    assert_eq!(told(running).await, json!({ "error": -32601 }), "it has none (S-ROOT-01)");
}
