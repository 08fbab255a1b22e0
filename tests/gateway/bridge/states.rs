//! Rows of `requestState`: where it may be used, how often, and what does not pass for it.

use std::time::Duration;

use futures_util::future::join;
use serde_json::{Value, json};

use super::cell::Cell;
use super::conversation::{Caller, InputRequired, tool};
use super::row;
use super::stage::{Stage, Wishes};
use crate::support::client::Answer;

const VIEW: &str = "profiles: { view: { servers: [demo] } }\n";

fn ada() -> Value {
    json!({ "action": "accept", "content": { "name": "Ada" } })
}

/// A call that was asked for a name, with the words of the request.
async fn asked(caller: &Caller) -> (Value, InputRequired) {
    let params = tool("ask", json!({}));
    let round = caller.first_round("tools/call", &params).await;
    (params, round)
}

async fn answered(caller: &Caller, params: &Value, round: &InputRequired) -> Answer {
    caller.retry("tools/call", params, round.all(&ada()), round.state.as_deref()).await
}

async fn caller(stage: &Stage) -> Caller {
    stage.caller(json!({ "elicitation": {} })).await
}

row!(retry_on_another_connection: [m_to_l m_to_m] {
    l_to_l: "an answer of the handshake era always has a request of its own",
    l_to_m: "as before"
});

async fn retry_on_another_connection(cell: Cell) {
    let stage = Stage::set(cell).await;
    let (params, round) = asked(&caller(&stage).await).await;
    // Another client as far as HTTP is concerned, with ids of its own.
    let elsewhere = caller(&stage).await;
    assert_eq!(answered(&elsewhere, &params, &round).await.text(), "Hello, Ada!");
}

row!(same_request_in_other_words: [m_to_l m_to_m] {
    l_to_l: "a request of the handshake era is sent once",
    l_to_m: "as before"
});

async fn same_request_in_other_words(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = caller(&stage).await;
    let open = async |arguments: &str, meta: &str| {
        let params = caller.client.dress(json!({ "name": "demo__ask" }));
        let meta_text = params["_meta"].to_string();
        let meta_text = format!("{}{meta}}}", &meta_text[..meta_text.len() - 1]);
        let id = json!(caller.client.fresh_id());
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"demo__ask",{arguments},"_meta":{meta_text}}}}}"#
        );
        let headers = caller.client.headers("tools/call", &params);
        caller.client.open_raw(id, "tools/call", headers, body.as_bytes()).await.answer().await
    };
    let first = open(r#""arguments":{"a":1,"b":{"c":[2],"d":"e"}}"#, "").await;
    let round = InputRequired::read(&first).unwrap_or_else(|| panic!("nothing was asked: {}", first.raw));
    let answers = json!({ "inputResponses": round.all(&ada()), "requestState": round.state });
    let answers = answers.to_string();
    let again = format!(
        r#""arguments": {{ "b": {{"d": "\u0065", "c": [2]}}, "a": 1 }},{}"#,
        &answers[1..answers.len() - 1]
    );
    let last = open(&again, r#","com.example/note":"again""#).await;
    assert_eq!(last.text(), "Hello, Ada!", "the same arguments in another order are the same request");
}

row!(retry_twice: [every]);

async fn retry_twice(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = caller(&stage).await;
    if !cell.has_stateless_client() {
        return answer_twice(&caller).await;
    }
    let (params, round) = asked(&caller).await;
    // At the same time, then once more when all is over.
    let (one, two) = join(answered(&caller, &params, &round), answered(&caller, &params, &round)).await;
    let three = answered(&caller, &params, &round).await;
    let answers = [one, two, three];
    let heard = answers.iter().filter(|answer| answer.json.get("result").is_some());
    let texts: Vec<&str> = heard.map(Answer::text).collect();
    assert!(!texts.is_empty() && texts.iter().all(|text| *text == "Hello, Ada!"), "{texts:?}");
    for refused in answers.iter().filter(|answer| answer.json.get("error").is_some()) {
        refused.expect_error(200, -32602);
    }
    if !cell.has_stateless_upstream() && !cell.is_stdio() {
        let calls = caller.counters().await["calls"].clone();
        assert_eq!(calls, 2, "the tool ran once, and counted itself (S-MRTR-07)");
    }
}

/// Handshake era: the same answer twice.
async fn answer_twice(caller: &Caller) {
    let mut exchange = caller.client.open("tools/call", tool("ask", json!({}))).await;
    let question = exchange.until_method("elicitation/create").await;
    let id = &question.json["id"];
    assert_eq!(caller.client.respond(id, ada()).await, 202);
    let other = json!({ "action": "accept", "content": { "name": "Eve" } });
    let status = caller.client.respond(id, other).await;
    assert!(matches!(status, 202 | 400), "a second answer is ignored or refused: {status}");
    assert_eq!(exchange.answer().await.text(), "Hello, Ada!");
    assert_eq!(caller.call("echo", json!({ "text": "still here" })).await.text(), "still here");
}

row!(tampered_state: [m_to_l m_to_m] {
    l_to_l: "the handshake era has no requestState",
    l_to_m: "as before"
});

async fn tampered_state(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = caller(&stage).await;
    let (params, round) = asked(&caller).await;
    let state = round.state.clone().expect("this call has state");
    let mut wrong = vec![String::new(), "garbage".to_owned(), format!("{state}A"), format!("A{state}")];
    wrong.push(state[..state.len() / 2].to_owned());
    for at in (0..state.len()).step_by(state.len() / 12 + 1) {
        let mut bytes = state.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        wrong.push(String::from_utf8(bytes).expect("state is ASCII"));
    }
    let mut texts = Vec::new();
    for wrong in &wrong {
        let refused = caller.retry("tools/call", &params, round.all(&ada()), Some(wrong)).await;
        refused.expect_error(200, -32602);
        texts.push(refused.error()["message"].clone());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "whatever is wrong with it is told in the same words: {texts:?}");
    assert_eq!(answered(&caller, &params, &round).await.text(), "Hello, Ada!", "the right one still holds");
}

row!(foreign_state: [m_to_l m_to_m] {
    l_to_l: "the handshake era has no requestState",
    l_to_m: "as before"
});

async fn foreign_state(cell: Cell) {
    let stage = Stage::with(cell, Wishes::default().config(VIEW)).await;
    let caller = caller(&stage).await;
    let (params, round) = asked(&caller).await;
    let state = round.state.as_deref();
    let other_tool = tool("interview", json!({}));
    let other_arguments = tool("ask", json!({ "who": "someone else" }));
    let mut texts = Vec::new();
    for other in [other_tool, other_arguments] {
        let refused = caller.retry("tools/call", &other, round.all(&ada()), state).await;
        refused.expect_error(200, -32602);
        texts.push(refused.error()["message"].clone());
    }
    let prompt = json!({ "name": "demo__greet_you" });
    let refused = caller.retry("prompts/get", &prompt, round.all(&ada()), state).await;
    refused.expect_error(200, -32602);
    texts.push(refused.error()["message"].clone());
    let view = stage.gateway.endpoint.at("/mcp/view");
    let elsewhere = stage.caller_at(&view, json!({ "elicitation": {} })).await;
    let refused = answered(&elsewhere, &params, &round).await;
    refused.expect_error(200, -32602);
    texts.push(refused.error()["message"].clone());
    texts.dedup();
    assert_eq!(texts.len(), 1, "whatever is wrong with it is told in the same words: {texts:?}");
    // Another deployment has other keys.
    let stranger = Stage::set(cell).await;
    let refused = answered(&stranger.caller(json!({ "elicitation": {} })).await, &params, &round).await;
    refused.expect_error(200, -32602);
    assert_eq!(answered(&caller, &params, &round).await.text(), "Hello, Ada!", "the right one still holds");
}

row!(expired_state: [m_to_l m_to_m] {
    l_to_l: "the handshake era has no requestState",
    l_to_m: "as before"
});

async fn expired_state(cell: Cell) {
    let stage = Stage::with(cell, Wishes::default().bounds("input_timeout: 1s, state_age: 1s")).await;
    let caller = caller(&stage).await;
    let (params, round) = asked(&caller).await;
    tokio::time::sleep(Duration::from_millis(2200)).await;
    let refused = answered(&caller, &params, &round).await;
    refused.expect_error(200, -32602);
    let message = refused.error()["message"].as_str().unwrap_or_default();
    assert!(message.contains("expired"), "{}", refused.raw);
}
