//! A stateless client before servers that ask by requests of their own: the call waits while its client finds the answers
//! (S-MRTR, era-bridge §4.3).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::client::{Answer, Client, question};
use crate::support::{
    Gateway, HANDSHAKE, TRANSPORTS, Transport, Upstream, gateway, patiently, stdio_upstream, upstream,
};

pub(super) const ELICIT: &str = "elicitation/create";
pub(super) const SAMPLE: &str = "sampling/createMessage";
pub(super) const TOOL: &str = "one__echo";

pub(super) fn able() -> Value {
    json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} })
}

pub(super) fn form(message: &str) -> Value {
    json!({ "message": message, "requestedSchema": { "type": "object", "properties": { "me": { "type": "string" } } } })
}

pub(super) fn i_am(who: &str) -> Value {
    json!({ "action": "accept", "content": { "me": who } })
}

pub(super) fn prompt(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": text } }], "maxTokens": 5 })
}

pub(super) fn said(text: &str) -> Value {
    json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": text } })
}

/// What a client was asked instead of being answered.
#[derive(Debug, Clone)]
pub(super) struct Required {
    pub(super) requests: Value,
    pub(super) state: String,
}

impl Required {
    pub(super) fn of(answer: &Answer) -> Required {
        let result = answer.result();
        assert_eq!(result["resultType"], "input_required", "{}", answer.raw);
        assert_eq!(answer.status, 200, "{}", answer.raw);
        for member in ["ttlMs", "cacheScope", "content"] {
            assert!(result.get(member).is_none(), "nothing of it is to be kept (S-MRTR-14): {}", answer.raw);
        }
        assert!(result["_meta"]["io.modelcontextprotocol/serverInfo"].is_object(), "{}", answer.raw);
        let state = result["requestState"].as_str().expect("the gateway must know the call again").to_owned();
        assert!(state.len() < 8 * 1024, "S-MRTR-11");
        Required { requests: result["inputRequests"].clone(), state }
    }

    /// Its keys, sorted.
    pub(super) fn keys(&self) -> Vec<String> {
        self.requests.as_object().expect("a map").keys().cloned().collect()
    }

    /// The only key.
    pub(super) fn key(&self) -> String {
        let keys = self.keys();
        assert_eq!(keys.len(), 1, "one question: {}", self.requests);
        keys[0].clone()
    }

    /// The key of the question with this method.
    pub(super) fn key_of(&self, method: &str) -> String {
        let requests = self.requests.as_object().expect("a map");
        let asked = requests.iter().find(|(_, request)| request["method"] == method);
        asked.unwrap_or_else(|| panic!("{method} is not asked: {}", self.requests)).0.clone()
    }

    /// The parameters of the only question.
    pub(super) fn params(&self) -> &Value {
        &self.requests[self.key()]["params"]
    }
}

/// Parameters of a call that goes on.
pub(super) fn going_on(tool: &str, arguments: &Value, state: &str, responses: Value) -> Value {
    let mut params = json!({ "name": tool, "arguments": arguments, "requestState": state });
    if !responses.is_null() {
        params["inputResponses"] = responses;
    }
    params
}

/// Goes on with a call.
pub(super) async fn go_on(
    client: &Client,
    arguments: &Value,
    required: &Required,
    responses: Value,
) -> Answer {
    client.request("tools/call", going_on(TOOL, arguments, &required.state, responses)).await
}

/// Answers the only question.
pub(super) async fn answer(client: &Client, arguments: &Value, required: &Required, result: Value) -> Answer {
    go_on(client, arguments, required, json!({ required.key(): result })).await
}

/// A gateway before one server, and a client that can be asked everything.
pub(super) async fn before(upstream: &Upstream, bounds: &str) -> (Gateway, Client) {
    let gateway = gateway()
        .with_more("one", upstream, json!({ "ask": { "roots": true } }))
        .config(&format!("bounds: {{ {bounds} }}"))
        .start()
        .await;
    let client = Client::stateless(&gateway.endpoint, able());
    client.until_tools(&[TOOL]).await;
    (gateway, client)
}

#[tokio::test]
async fn s_mrtr_01_a_question_ends_the_request_and_its_answer_comes_with_another() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let (_gateway, client) = before(&upstream, "").await;
        let arguments = question(ELICIT, &form("who?"));
        for (result, told) in [
            (i_am("me"), i_am("me")),
            (json!({ "action": "decline" }), json!({ "action": "decline" })),
            (json!({ "action": "cancel", "content": { "me": "x" } }), json!({ "action": "cancel" })),
        ] {
            let required = Required::of(&client.call(TOOL, arguments.clone()).await);
            assert_eq!(required.params()["message"], "[one] who?", "{transport:?}");
            assert_eq!(required.params()["_meta"]["switchyard/server"], "one");
            assert_eq!(required.requests[required.key()]["method"], ELICIT);
            let done = answer(&client, &arguments, &required, result).await;
            assert_eq!(done.result()["resultType"], "complete");
            let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
            assert_eq!(heard, json!([{ "result": told }]), "{transport:?}");
        }
        assert_eq!(upstream.received("tools/call").len(), 3, "each call was made once");
        assert!(upstream.received("notifications/cancelled").is_empty(), "and none was cancelled");
    }
}

#[tokio::test]
async fn s_mrtr_02_a_server_is_told_what_this_request_declared_and_no_more() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let (gateway, _) = before(&upstream, "").await;
        let rows = [
            (json!({ "elicitation": {} }), json!({ "elicitation": {} }), SAMPLE, prompt("p"), -32601),
            (json!({ "elicitation": {} }), json!({ "elicitation": {} }), ELICIT, page(), -32602),
            (
                json!({ "sampling": {}, "roots": {} }),
                json!({ "sampling": {}, "roots": {} }),
                ELICIT,
                form("f"),
                -32601,
            ),
        ];
        for (declared, seen, method, params, code) in rows {
            let client = Client::stateless(&gateway.endpoint, declared);
            let done = client.call(TOOL, question(method, &params)).await;
            let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
            assert_eq!(heard[0]["error"]["code"], code, "{transport:?} {method}");
            let opened = upstream.received("initialize");
            let last = opened.last().expect("a connection was opened");
            assert_eq!(last.params()["capabilities"], seen, "{transport:?}");
        }
        let plain = gateway.stateless();
        let done = plain.call(TOOL, question(ELICIT, &form("f"))).await;
        let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
        assert_eq!(heard[0]["error"]["code"], -32601, "nothing declared, nothing asked: {transport:?}");
        let opened = upstream
            .received("initialize")
            .iter()
            .filter(|one| one.params()["capabilities"] == json!({}))
            .count();
        assert_eq!(opened, 1, "over the gateway's own connection");
    }
}

fn page() -> Value {
    json!({ "mode": "url", "message": "m", "url": "https://example.org/x", "elicitationId": "theirs" })
}

#[tokio::test]
async fn s_mrtr_02_a_page_is_shown_without_the_identifier_of_another_hop() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
    let (_gateway, client) = before(&upstream, "").await;
    let arguments = question(ELICIT, &page());
    let required = Required::of(&client.call(TOOL, arguments.clone()).await);
    assert_eq!(required.params()["url"], "https://example.org/x");
    assert_eq!(required.params()["mode"], "url");
    assert!(required.params().get("elicitationId").is_none(), "{}", required.requests);
    let done = answer(&client, &arguments, &required, json!({ "action": "accept" })).await;
    assert!(done.text().contains("accept"));
    let bad = question(
        ELICIT,
        &json!({ "mode": "url", "message": "m", "url": "javascript:x", "elicitationId": "e" }),
    );
    let done = client.call(TOOL, bad).await;
    assert!(done.text().contains("-32602"), "never shown: {}", done.raw);
}

#[tokio::test]
async fn s_samp_01_a_model_is_asked_the_same_way() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let (_gateway, client) = before(&upstream, "").await;
        let arguments = question(SAMPLE, &prompt("hello"));
        let required = Required::of(&client.call(TOOL, arguments.clone()).await);
        assert_eq!(required.params()["messages"], prompt("hello")["messages"]);
        let done = answer(&client, &arguments, &required, said("hi")).await;
        let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
        assert_eq!(heard, json!([{ "result": said("hi") }]), "{transport:?}");
    }
}

#[tokio::test]
async fn s_root_02_roots_are_asked_once_and_kept_for_a_while() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let (_gateway, client) = before(&upstream, "").await;
        let arguments = question("roots/list", &json!({}));
        let required = Required::of(&client.call(TOOL, arguments.clone()).await);
        let roots = json!({ "roots": [{ "uri": "file:///home/me" }] });
        let done = answer(&client, &arguments, &required, roots.clone()).await;
        let again = client.call(TOOL, arguments.clone()).await;
        for answer in [&done, &again] {
            let heard: Value = serde_json::from_str(answer.text()).expect("the tool tells it as JSON");
            assert_eq!(heard, json!([{ "result": roots }]), "{transport:?}");
        }
    }
}

#[tokio::test]
async fn s_root_02_roots_asked_while_a_connection_opens_belong_to_the_call_that_opens_it() {
    let known = Arc::new(watch::Sender::new(None::<Value>));
    let heard = Arc::clone(&known);
    let upstream = stdio_upstream("one")
        .on("initialize", move |mut call| {
            let known = Arc::clone(&known);
            async move {
                call.default().await;
                // The gateway's own connection declares nothing, and is refused.
                let answer = call.ask("roots/list", json!({})).await;
                if let Some(roots) = answer.get("result") {
                    known.send_replace(Some(roots.clone()));
                }
            }
        })
        .on("tools/call", move |mut call| {
            let mut heard = heard.subscribe();
            async move {
                // It cannot work without them.
                let roots = patiently("roots", heard.wait_for(Option::is_some)).await.expect("kept").clone();
                call.text(&roots.unwrap_or_default().to_string()).await;
            }
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, "").await;
    let required = Required::of(&client.call(TOOL, json!({})).await);
    assert_eq!(required.requests[required.key()]["method"], "roots/list");
    let roots = json!({ "roots": [{ "uri": "file:///home/me" }] });
    let done = answer(&client, &json!({}), &required, roots.clone()).await;
    let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
    assert_eq!(heard, roots);
}

#[tokio::test]
async fn s_root_02_roots_that_a_quick_answer_overtook_are_asked_of_the_next_caller() {
    let known = Arc::new(watch::Sender::new(None::<Value>));
    let heard = Arc::clone(&known);
    let upstream = stdio_upstream("one")
        .on("initialize", move |mut call| {
            let known = Arc::clone(&known);
            async move {
                call.default().await;
                let answer = call.ask("roots/list", json!({})).await;
                if let Some(roots) = answer.get("result") {
                    known.send_replace(Some(roots.clone()));
                }
            }
        })
        .on("tools/call", move |mut call| {
            let mut heard = heard.subscribe();
            async move {
                if call.params()["arguments"]["quick"] == true {
                    return call.text("done").await;
                }
                let roots = patiently("roots", heard.wait_for(Option::is_some)).await.expect("kept").clone();
                call.text(&roots.unwrap_or_default().to_string()).await;
            }
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, "").await;
    for _ in 0..2 {
        assert_eq!(client.call(TOOL, json!({ "quick": true })).await.text(), "done");
    }
    let required = Required::of(&client.call(TOOL, json!({})).await);
    assert_eq!(required.requests[required.key()]["method"], "roots/list");
    let roots = json!({ "roots": [{ "uri": "file:///home/me" }] });
    let done = answer(&client, &json!({}), &required, roots.clone()).await;
    let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
    assert_eq!(heard, roots);
}

#[tokio::test]
async fn s_mrtr_10_a_question_lasts_as_long_as_its_client_was_told() {
    let upstream = stdio_upstream("one").asking().start().await;
    let (_gateway, client) = before(&upstream, "input_timeout: 2s").await;
    let arguments = question(ELICIT, &form("who?"));
    let mut required = Required::of(&client.call(TOOL, arguments.clone()).await);
    for _ in 0..2 {
        // Time passes, and each time the client is told anew.
        tokio::time::sleep(Duration::from_millis(1300)).await;
        required = Required::of(&go_on(&client, &arguments, &required, Value::Null).await);
    }
    let done = answer(&client, &arguments, &required, i_am("me")).await;
    let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
    assert_eq!(heard, json!([{ "result": i_am("me") }]), "not cancelled meanwhile");
}

#[tokio::test]
async fn s_mrtr_11_three_rounds_have_three_states() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let (_gateway, client) = before(&upstream, "").await;
        let mut arguments = question(ELICIT, &form("again?"));
        arguments["times"] = json!(3);
        let mut required = Required::of(&client.call(TOOL, arguments.clone()).await);
        let mut states = vec![required.state.clone()];
        for round in 1..3 {
            let next = answer(&client, &arguments, &required, i_am(&round.to_string())).await;
            required = Required::of(&next);
            assert!(!states.contains(&required.state), "{transport:?}");
            states.push(required.state.clone());
        }
        let done = answer(&client, &arguments, &required, i_am("3")).await;
        let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
        let all: Vec<_> = (1..=3).map(|n| json!({ "result": i_am(&n.to_string()) })).collect();
        assert_eq!(heard, Value::Array(all), "{transport:?}");
        assert_eq!(upstream.received("tools/call").len(), 1, "one call all the time");
    }
}

/// A server that asks two things at once and tells what it heard.
async fn asks_twice(transport: Transport) -> Upstream {
    upstream("one", HANDSHAKE, transport)
        .on("tools/call", |mut call| async move {
            let (_, first) = call.begin_to_ask(ELICIT, form("first")).await;
            let (_, second) = call.begin_to_ask(SAMPLE, prompt("second")).await;
            let first = patiently("the first answer", first).await.expect("kept");
            let second = patiently("the second answer", second).await.expect("kept");
            call.text(&json!([first["result"], second["result"]]).to_string()).await;
        })
        .start()
        .await
}

#[tokio::test]
async fn s_mrtr_02_what_is_asked_together_is_asked_together() {
    for transport in TRANSPORTS {
        let upstream = asks_twice(transport).await;
        let (_gateway, client) = before(&upstream, "gather: 250ms").await;
        let required = Required::of(&client.call(TOOL, json!({})).await);
        assert_eq!(required.keys().len(), 2, "{transport:?} {}", required.requests);
        let responses = json!({ required.key_of(ELICIT): i_am("me"), required.key_of(SAMPLE): said("hi"), "unasked": {} });
        let done = go_on(&client, &json!({}), &required, responses).await;
        let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
        assert_eq!(heard, json!([i_am("me"), said("hi")]), "{transport:?}");
    }
}

#[tokio::test]
async fn s_mrtr_09_partial_answers_are_taken_and_the_rest_is_asked_again() {
    for transport in TRANSPORTS {
        let upstream = asks_twice(transport).await;
        let (_gateway, client) = before(&upstream, "gather: 250ms").await;
        let required = Required::of(&client.call(TOOL, json!({})).await);
        let (person, model) = (required.key_of(ELICIT), required.key_of(SAMPLE));
        let rest =
            Required::of(&go_on(&client, &json!({}), &required, json!({ &*person: i_am("me") })).await);
        assert_eq!(rest.key(), model, "{transport:?}");
        assert_ne!(rest.state, required.state);
        let none = Required::of(&go_on(&client, &json!({}), &rest, Value::Null).await);
        assert_eq!(none.key(), model, "no answers at all are none: {transport:?}");
        let late = json!({ &*person: i_am("somebody else"), &*model: said("hi") });
        let done = go_on(&client, &json!({}), &none, late).await;
        let heard: Value = serde_json::from_str(done.text()).expect("the tool tells it as JSON");
        assert_eq!(heard, json!([i_am("me"), said("hi")]), "each was answered once: {transport:?}");
    }
}

#[tokio::test]
async fn s_mrtr_09_a_misshapen_answer_is_refused_and_takes_nothing() {
    let upstream = asks_twice(Transport::Stdio).await;
    let (_gateway, client) = before(&upstream, "gather: 250ms").await;
    let required = Required::of(&client.call(TOOL, json!({})).await);
    let (person, model) = (required.key_of(ELICIT), required.key_of(SAMPLE));
    for bad in [json!(12345), json!(null), json!([]), json!({ "action": "maybe" }), json!({})] {
        let responses = json!({ &*person: bad, &*model: said("hi") });
        go_on(&client, &json!({}), &required, responses).await.expect_error(200, -32602);
    }
    for bad in [json!(null), json!(7), json!([])] {
        let mut params = going_on(TOOL, &json!({}), &required.state, json!({}));
        params["inputResponses"] = bad;
        client.request("tools/call", params).await.expect_error(200, -32602);
    }
    let responses = json!({ &*person: i_am("me"), &*model: said("hi") });
    let done = go_on(&client, &json!({}), &required, responses).await;
    assert!(done.text().contains("hi"), "the round was not used up: {}", done.raw);
}

#[tokio::test]
async fn s_mrtr_01_prompts_and_resources_ask_as_well() {
    let script = |mut call: crate::support::upstream::Call| async move {
        let answer = call.ask(ELICIT, form("which?")).await;
        let me = answer["result"]["content"]["me"].as_str().unwrap_or("nobody").to_owned();
        let result = match call.method() {
            "prompts/get" => {
                json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": me } }] })
            }
            _ => json!({ "contents": [{ "uri": "test://one/static", "text": me }] }),
        };
        call.result(result).await;
    };
    let upstream = stdio_upstream("one").on("prompts/get", script).on("resources/read", script).start().await;
    let (_gateway, client) = before(&upstream, "").await;
    let rows = [
        ("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "you" } })),
        ("resources/read", json!({ "uri": "test://one/static" })),
    ];
    for (method, params) in rows {
        let required = Required::of(&client.request(method, params.clone()).await);
        let mut again = params;
        again["requestState"] = json!(required.state);
        again["inputResponses"] = json!({ required.key(): i_am("me-myself") });
        let done = client.request(method, again).await;
        assert!(done.raw.contains("me-myself"), "{}", done.raw);
    }
}

#[tokio::test]
async fn s_mrtr_12_other_methods_take_no_notice() {
    let upstream = stdio_upstream("one").start().await;
    let (_gateway, client) = before(&upstream, "").await;
    let params = json!({ "requestState": "forged", "inputResponses": { "a": 1 } });
    let answer = client.request("tools/list", params).await;
    assert!(answer.names("tools").contains(&TOOL.to_owned()), "{}", answer.raw);
}

#[tokio::test]
async fn s_mrtr_17_waiting_for_a_person_is_no_silence_of_the_server() {
    let upstream = stdio_upstream("one").asking().start().await;
    let gateway = gateway().with_more("one", &upstream, json!({ "timeout": "4s" })).start().await;
    let client = Client::stateless(&gateway.endpoint, able());
    client.until_tools(&[TOOL]).await;
    let arguments = question(ELICIT, &form("who?"));
    let required = Required::of(&client.call(TOOL, arguments.clone()).await);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let done = answer(&client, &arguments, &required, i_am("slow")).await;
    assert!(done.text().contains("slow"), "{}", done.raw);
}

#[tokio::test]
async fn s_prog_01_each_request_hears_of_progress_under_its_own_token() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                call.progress(1.0, 10.0).await;
                call.ask(ELICIT, form("on?")).await;
                call.progress(2.0, 10.0).await;
                call.text("done").await;
            })
            .start()
            .await;
        let (_gateway, client) = before(&upstream, "").await;
        let first = client.open_call_with_progress(TOOL, json!("first")).await.answer().await;
        assert_eq!(first.progress(), [1.0], "{transport:?}");
        let required = Required::of(&first);
        let arguments = first_arguments();
        let mut params = going_on(TOOL, &arguments, &required.state, json!({ required.key(): i_am("me") }));
        params["_meta"] = json!({ "progressToken": "second" });
        let second = client.request("tools/call", params).await;
        assert_eq!(second.progress(), [2.0], "{transport:?}");
        assert!(second.before.iter().all(|told| told.params()["progressToken"] == "second"));
        assert_eq!(second.text(), "done");
    }
}

/// What `open_call_with_progress` calls with.
fn first_arguments() -> Value {
    json!({})
}

#[tokio::test]
async fn s_httpc_06_a_question_on_the_standing_stream_is_of_the_only_call_there_is() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/call", |mut call| async move {
            call.cancelled().await;
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, "").await;
    let running = tokio::spawn({
        let client = client.clone();
        async move { client.call(TOOL, json!({ "who": "first" })).await }
    });
    let call = upstream.until_received("tools/call", 1).await;
    upstream.until_standing_for(&call).await;
    let (told, asked) = tokio::join!(upstream.ask_by(&call, ELICIT, form("standing")), async {
        let required = Required::of(&running.await.expect("it does not panic"));
        let arguments = json!({ "who": "first" });
        let params = going_on(TOOL, &arguments, &required.state, json!({ required.key(): i_am("me") }));
        // It is never answered, and ends when it is left.
        client.open("tools/call", params).await
    });
    assert_eq!(told["result"], i_am("me"));
    drop(asked);
    upstream.until_received("notifications/cancelled", 1).await;
}
