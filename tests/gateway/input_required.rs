//! What a stateless server asks within a result, relayed to stateless clients (S-MRTR).

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::json::raw_at;
use crate::support::{
    Gateway, HANDSHAKE, STATELESS, TRANSPORTS, Transport, Upstream, gateway, stateless_upstream, upstream,
};

const STATE: &str = "their \"state\" \u{1} é";

fn form(message: &str) -> Value {
    json!({
        "method": "elicitation/create",
        "params": {
            "message": message,
            "requestedSchema": { "type": "object", "properties": { "name": { "type": "string" } } },
        },
    })
}

/// A server that asks for a name until it has one; its state counts the rounds.
async fn asking(transport: Transport) -> Upstream {
    upstream("one", STATELESS, transport)
        .on("tools/call", |mut call| async move {
            let params = call.params().clone();
            let round = params["requestState"]
                .as_str()
                .and_then(|state| state.strip_prefix(STATE))
                .map(str::to_owned);
            match params["inputResponses"]["who"]["content"]["name"].as_str() {
                Some(name) => call.text(&format!("{name} after {}", round.unwrap_or_default())).await,
                None => {
                    let round = round.and_then(|round| round.parse().ok()).unwrap_or(0) + 1;
                    call.result(json!({
                        "resultType": "input_required",
                        "inputRequests": { "who": form("Who?") },
                        "requestState": format!("{STATE}{round}"),
                    }))
                    .await;
                }
            }
        })
        .start()
        .await
}

async fn ready(upstream: &Upstream) -> (Gateway, Client) {
    let gateway =
        gateway().with("one", upstream).config("profiles: { narrow: { servers: [one] } }").start().await;
    let client = able(&gateway, json!({ "elicitation": {} }));
    client.until_tools(&["one__echo"]).await;
    (gateway, client)
}

fn able(gateway: &Gateway, capabilities: Value) -> Client {
    Client::stateless(&gateway.stateless().endpoint, capabilities)
}

async fn begin(client: &Client, arguments: Value) -> (Answer, String) {
    let asked = client.call("one__echo", arguments).await;
    assert_eq!(asked.result()["resultType"], "input_required", "{}", asked.raw);
    let state = asked.result()["requestState"].as_str().expect("a state").to_owned();
    (asked, state)
}

fn retry(arguments: Value, responses: Value, state: &str) -> Value {
    json!({ "name": "one__echo", "arguments": arguments, "inputResponses": responses, "requestState": state })
}

fn ada() -> Value {
    json!({ "who": { "action": "accept", "content": { "name": "Ada" } } })
}

#[tokio::test]
async fn s_mrtr_03_04_keys_and_requests_pass_and_the_state_goes_round_unseen() {
    for transport in TRANSPORTS {
        let upstream = asking(transport).await;
        let (_gateway, client) = ready(&upstream).await;
        let (asked, state) = begin(&client, json!({ "a": 1 })).await;
        assert_eq!(
            raw_at(&asked.raw, &["result", "inputRequests"]),
            Some(&*json!({ "who": form("Who?") }).to_string())
        );
        assert!(!asked.raw.contains("their"), "the state of the server is its own: {}", asked.raw);
        assert!(asked.result().get("ttlMs").is_none() && asked.result().get("cacheScope").is_none());
        let answer = client.request("tools/call", retry(json!({ "a": 1 }), ada(), &state)).await;
        assert_eq!(answer.text(), "Ada after 1");
        let calls = upstream.received("tools/call");
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[1].params()["requestState"], format!("{STATE}1"));
        assert_eq!(calls[1].raw_param(&["inputResponses"]), ada().to_string());
        assert_ne!(calls[0].json["id"], calls[1].json["id"]);
        assert_eq!(calls[1].params()["arguments"], json!({ "a": 1 }));
    }
}

#[tokio::test]
async fn s_mrtr_04_calls_at_the_same_time_never_get_each_other_s_state() {
    let upstream = asking(Transport::Http).await;
    let (_gateway, client) = ready(&upstream).await;
    let mut begun = Vec::new();
    for number in 0..20 {
        begun.push((number, begin(&client, json!({ "number": number })).await.1));
    }
    for (number, state) in begun.iter().rev() {
        let answer = client.request("tools/call", retry(json!({ "number": number }), ada(), state)).await;
        assert_eq!(answer.text(), "Ada after 1");
        let other = client.request("tools/call", retry(json!({ "number": number + 1 }), ada(), state)).await;
        other.expect_error(200, -32602);
    }
    assert_eq!(upstream.received("tools/call").len(), 40, "what is refused goes nowhere");
}

#[tokio::test]
async fn s_mrtr_05_06_a_state_is_good_for_its_own_call_alone() {
    let upstream = asking(Transport::Http).await;
    let (gateway, client) = ready(&upstream).await;
    let arguments = json!({ "a": 1, "b": [1, 2] });
    let (_, state) = begin(&client, arguments.clone()).await;
    let sent = upstream.received("tools/call").len();
    let mut texts = Vec::new();
    let mut refused = async |method: &str, params: Value, client: &Client| {
        let answer = client.request(method, params).await;
        answer.expect_error(200, -32602);
        texts.push(answer.error()["message"].to_string());
    };
    let mut tampered: Vec<String> = (0..state.len())
        .step_by(7)
        .map(|at| {
            let mut bytes = state.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            String::from_utf8(bytes).expect("ASCII")
        })
        .collect();
    tampered.extend([format!("{state}-TAMPERED"), state[1..].to_owned(), String::new(), "e30".to_owned()]);
    for tampered in &tampered {
        refused("tools/call", retry(arguments.clone(), ada(), tampered), &client).await;
    }
    refused("tools/call", retry(json!({ "a": 1, "b": [2, 1] }), ada(), &state), &client).await;
    refused("tools/call", json!({ "name": "one__other", "arguments": arguments, "inputResponses": ada(), "requestState": state }), &client).await;
    refused("prompts/get", json!({ "name": "one__greet", "arguments": arguments, "inputResponses": ada(), "requestState": state }), &client).await;
    let mut narrow = able(&gateway, json!({ "elicitation": {} }));
    narrow.endpoint = narrow.endpoint.at("/mcp/narrow");
    refused("tools/call", retry(arguments.clone(), ada(), &state), &narrow).await;
    texts.dedup();
    assert_eq!(texts.len(), 1, "nobody learns what was wrong: {texts:?}");
    let odd = client.request("tools/call", json!({ "name": "one__echo", "requestState": 7 })).await;
    odd.expect_error(200, -32602);
    assert_eq!(upstream.received("tools/call").len(), sent);

    let body = json!({ "b": [1, 2], "a": 1 });
    let mut same = retry(body, ada(), &state);
    same["_meta"] = json!({ "com.example/note": 1 });
    assert_eq!(client.request("tools/call", same).await.text(), "Ada after 1");
}

#[tokio::test]
async fn s_mrtr_08_answers_without_a_state_go_where_the_call_goes() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            match call.params()["inputResponses"]["who"].is_object() {
                true => call.text("known").await,
                false => {
                    let requests = json!({ "who": form("Who?") });
                    call.result(json!({ "resultType": "input_required", "inputRequests": requests })).await;
                }
            }
        })
        .start()
        .await;
    let (_gateway, client) = ready(&upstream).await;
    let asked = client.call("one__echo", json!({})).await;
    assert!(asked.result().get("requestState").is_none(), "none is made up: {}", asked.raw);
    let params = json!({ "name": "one__echo", "arguments": {}, "inputResponses": { "who": { "action": "accept" }, "more": { "action": "cancel" } } });
    assert_eq!(client.request("tools/call", params).await.text(), "known");
    let calls = upstream.received("tools/call");
    assert_eq!(
        calls[1].raw_param(&["inputResponses"]),
        r#"{"more":{"action":"cancel"},"who":{"action":"accept"}}"#
    );
    assert!(calls[1].params().get("requestState").is_none());
}

#[tokio::test]
async fn s_mrtr_09_what_is_no_answer_is_refused() {
    let upstream = asking(Transport::Http).await;
    let (_gateway, client) = ready(&upstream).await;
    let (_, state) = begin(&client, json!({})).await;
    for wrong in
        [json!(12345), json!(null), json!([]), json!("x"), json!({ "who": 12345 }), json!({ "who": null })]
    {
        let answer = client.request("tools/call", retry(json!({}), wrong.clone(), &state)).await;
        answer.expect_error(200, -32602);
    }
    assert_eq!(upstream.received("tools/call").len(), 1);
}

#[tokio::test]
async fn s_mrtr_02_s_meta_05_nothing_passes_that_the_request_did_not_declare() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            let requests = call.params()["arguments"]["requests"].clone();
            call.result(json!({ "resultType": "input_required", "inputRequests": requests })).await;
        })
        .lenient()
        .start()
        .await;
    let (gateway, _) = ready(&upstream).await;
    let url = |url: &str| json!({ "method": "elicitation/create", "params": { "mode": "url", "message": "m", "url": url } });
    let sampling = json!({ "method": "sampling/createMessage", "params": { "messages": [], "maxTokens": 1, "tools": [] } });
    for (declared, request, missing) in [
        (json!({}), form("m"), json!({ "elicitation": { "form": {} } })),
        (json!({ "elicitation": { "url": {} } }), form("m"), json!({ "elicitation": { "form": {} } })),
        (json!({ "elicitation": {} }), url("https://example.com"), json!({ "elicitation": { "url": {} } })),
        (json!({ "sampling": {} }), sampling, json!({ "sampling": { "tools": {} } })),
        (json!({ "sampling": {} }), json!({ "method": "roots/list" }), json!({ "roots": {} })),
    ] {
        let client = able(&gateway, declared);
        let answer = client.call("one__echo", json!({ "requests": { "key": request } })).await;
        answer.expect_error(400, -32021);
        assert_eq!(answer.error()["data"]["requiredCapabilities"], missing);
    }
    let client =
        able(&gateway, json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} }));
    for odd in [url("javascript:alert(1)"), json!({ "method": "tools/call" }), json!(7)] {
        let answer = client.call("one__echo", json!({ "requests": { "key": odd } })).await;
        answer.expect_failure("upstream_protocol_error", "unknown");
    }
    for nothing in [json!({}), json!([])] {
        let answer = client.call("one__echo", json!({ "requests": nothing })).await;
        answer.expect_failure("upstream_protocol_error", "unknown");
    }
}

#[tokio::test]
async fn s_meta_06_each_request_declares_its_own_client_upstream() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", STATELESS, transport).start().await;
        let (gateway, _) = ready(&upstream).await;
        for (declared, expected) in [
            (
                json!({ "elicitation": { "url": {} }, "sampling": { "tools": {} } }),
                json!({ "elicitation": { "url": {} }, "sampling": { "tools": {} } }),
            ),
            (json!({}), json!({})),
            (
                json!({ "sampling": { "context": {} }, "extensions": { "com.example/x": {} }, "com.example": {} }),
                json!({ "sampling": {} }),
            ),
        ] {
            able(&gateway, declared).call("one__echo", json!({})).await.result();
            let call = upstream.received("tools/call").pop().expect("it arrived");
            assert_eq!(call.params()["_meta"]["io.modelcontextprotocol/clientCapabilities"], expected);
        }
    }
}

#[tokio::test]
async fn s_mrtr_11_a_state_is_short_whatever_the_server_keeps_in_it() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            let large = "x\"\\".repeat(40_000);
            match call.params()["requestState"].as_str() {
                Some(state) => {
                    let same = state == large;
                    call.text(&format!("the same: {same}")).await;
                }
                None => {
                    let requests = json!({ "who": form("Who?") });
                    call.result(json!({ "resultType": "input_required", "inputRequests": requests, "requestState": large })).await;
                }
            }
        })
        .start()
        .await;
    let (_gateway, client) = ready(&upstream).await;
    let (_, one) = begin(&client, json!({})).await;
    let (_, other) = begin(&client, json!({})).await;
    assert!(one.len() < 8 * 1024 && one != other, "{} bytes", one.len());
    let answer = client.request("tools/call", retry(json!({}), ada(), &one)).await;
    assert_eq!(answer.text(), "the same: true");
}

#[tokio::test]
async fn s_mrtr_12_answers_mean_nothing_where_nothing_is_asked() {
    let upstream = stateless_upstream("one").start().await;
    let (_gateway, client) = ready(&upstream).await;
    let params = json!({ "inputResponses": 7, "requestState": "nonsense" });
    for method in ["tools/list", "prompts/list", "resources/list", "server/discover"] {
        client.request(method, params.clone()).await.result();
    }
    let mut completion = params.clone();
    completion["ref"] = json!({ "type": "ref/prompt", "name": "one__greet" });
    completion["argument"] = json!({ "name": "who", "value": "" });
    client.request("completion/complete", completion).await.result();
    let sent = upstream.received("completion/complete").pop().expect("it arrived");
    assert!(sent.params().get("requestState").is_none() && sent.params().get("inputResponses").is_none());
}

#[tokio::test]
async fn s_mrtr_13_a_server_that_is_not_ready_has_a_state_and_asks_nothing() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            match call.params()["requestState"].as_str() {
                Some("wait") => call.text("done").await,
                _ => call.result(json!({ "resultType": "input_required", "requestState": "wait" })).await,
            }
        })
        .start()
        .await;
    let (_gateway, client) = ready(&upstream).await;
    let (asked, state) = begin(&client, json!({})).await;
    assert!(asked.result().get("inputRequests").is_none());
    let params = json!({ "name": "one__echo", "arguments": {}, "requestState": state });
    assert_eq!(client.request("tools/call", params).await.text(), "done");
}

#[tokio::test]
async fn s_mrtr_16_rounds_end() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            let requests = json!({ "who": form("Again?") });
            call.result(
                json!({ "resultType": "input_required", "inputRequests": requests, "requestState": "s" }),
            )
            .await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { input_rounds: 3 }").start().await;
    let client = able(&gateway, json!({ "elicitation": {} }));
    client.until_tools(&["one__echo"]).await;
    let (_, mut state) = begin(&client, json!({})).await;
    for _ in 0..2 {
        let again = client.request("tools/call", retry(json!({}), ada(), &state)).await;
        state = again.result()["requestState"].as_str().expect("another round").to_owned();
    }
    let last = client.request("tools/call", retry(json!({}), ada(), &state)).await;
    last.expect_failure("upstream_protocol_error", "unknown");
}

#[tokio::test]
async fn s_mrtr_02_s_trust_02_what_a_server_of_the_handshake_era_says_is_no_question() {
    for transport in TRANSPORTS {
        let forged = || {
            json!({
                "content": [{ "type": "text", "text": "the answer" }],
                "contents": [{ "uri": "test://one/static", "text": "the answer" }],
                "resultType": "input_required",
                "inputRequests": { "x": { "method": "elicitation/create", "params": { "mode": "url", "url": "javascript:alert(1)" } } },
                "requestState": "theirs",
            })
        };
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", move |mut call| async move { call.result(forged()).await })
            .on("resources/read", move |mut call| async move { call.result(forged()).await })
            .lenient()
            .start()
            .await;
        let (gateway, client) = ready(&upstream).await;
        for client in [client, able(&gateway, json!({}))] {
            let called = client.call("one__echo", json!({})).await;
            assert_eq!(called.text(), "the answer");
            let read = client.request("resources/read", json!({ "uri": "test://one/static" })).await;
            for answer in [called, read] {
                assert_eq!(answer.result()["resultType"], "complete", "{}", answer.raw);
                assert!(
                    !answer.raw.contains("javascript") && !answer.raw.contains("theirs"),
                    "{}",
                    answer.raw
                );
            }
        }
    }
}

#[tokio::test]
async fn s_root_05_s_meta_06_a_server_gets_nothing_that_it_may_not_ask_for() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            let requests = call.params()["arguments"]["requests"].clone();
            call.result(json!({ "resultType": "input_required", "inputRequests": requests, "ttlMs": 60000, "cacheScope": "public" }))
                .await;
        })
        .lenient()
        .start()
        .await;
    let gateway =
        gateway().with_more("one", &upstream, json!({ "ask": { "elicitation": false } })).start().await;
    let client = able(&gateway, json!({ "elicitation": {}, "roots": {}, "sampling": { "context": {} } }));
    client.until_tools(&["one__echo"]).await;
    for request in [form("m"), json!({ "method": "roots/list" })] {
        let answer = client.call("one__echo", json!({ "requests": { "key": request } })).await;
        answer.expect_failure("input_refused", "unknown");
    }
    let sampling = json!({ "method": "sampling/createMessage", "params": { "messages": [], "maxTokens": 1, "includeContext": "allServers" } });
    let asked = client.call("one__echo", json!({ "requests": { "key": sampling } })).await;
    assert_eq!(asked.result()["inputRequests"]["key"]["params"]["includeContext"], "none");
    assert!(asked.result().get("ttlMs").is_none() && asked.result().get("cacheScope").is_none());
}
