//! Rows of what a server asks of the client: forms, pages, the model, roots; one, several at once, one after another.

use std::time::Duration;

use serde_json::{Value, json};

use super::cell::Cell;
use super::conversation::{Conversation, InputRequired, Question, Reply, accept, action, sampled, tool};
use super::row;
use super::stage::{Stage, Wishes};
use crate::support::within;

fn forms() -> Value {
    json!({ "elicitation": {} })
}

/// What a person says whose name is Ada, for every field that the demo server asks for.
pub(super) fn as_ada(question: &Question) -> Reply {
    let fields = question.params["requestedSchema"]["properties"].as_object();
    let fields = fields.unwrap_or_else(|| panic!("no form: {question:?}"));
    let content: Value = fields
        .keys()
        .map(|field| (field.clone(), json!(if field == "name" { "Ada" } else { field.as_str() })))
        .collect();
    accept(content)
}

async fn asked(cell: Cell, reply: impl FnMut(&Question) -> Reply) -> Conversation {
    let stage = Stage::set(cell).await;
    let told = stage.caller(forms()).await.converse("ask", json!({}), reply).await;
    let question = told.question();
    assert_eq!(question.method, "elicitation/create");
    let message = question.params["message"].as_str().expect("a form has a message");
    assert!(message.ends_with("What is your name?"), "{message}");
    let field = &question.params["requestedSchema"]["properties"]["name"];
    assert_eq!((&field["type"], &field["minLength"]), (&json!("string"), &json!(1)), "{field}");
    told
}

row!(elicitation_accept: [every]);

async fn elicitation_accept(cell: Cell) {
    assert_eq!(asked(cell, as_ada).await.answer.text(), "Hello, Ada!");
}

row!(elicitation_decline: [every]);

async fn elicitation_decline(cell: Cell) {
    let told = asked(cell, |_| action("decline")).await;
    assert_eq!(told.answer.text(), "No name then: the form was answered with decline");
}

row!(elicitation_cancel: [every]);

async fn elicitation_cancel(cell: Cell) {
    let told = asked(cell, |_| action("cancel")).await;
    assert_eq!(told.answer.text(), "No name then: the form was answered with cancel");
}

row!(elicitation_timeout: [l_to_l l_to_m m_to_l] {
    m_to_m: "nobody waits for the client: its state expires, see expired_state"
});

async fn elicitation_timeout(cell: Cell) {
    let stage = Stage::with(cell, Wishes::default().bounds("input_timeout: 1s")).await;
    let caller = stage.caller(forms()).await;
    if !cell.has_stateless_client() {
        let told = caller.converse("ask", json!({}), |_| Reply::Silence).await;
        assert_eq!(told.answer.text(), "No name then: the form was answered with cancel");
    } else {
        let params = tool("ask", json!({}));
        let round = caller.first_round("tools/call", &params).await;
        tokio::time::sleep(Duration::from_millis(1800)).await;
        let late = round.all(&json!({ "action": "accept", "content": { "name": "Ada" } }));
        let refused = caller.retry("tools/call", &params, late, round.state.as_deref()).await;
        refused.expect_error(200, -32602);
        let message = refused.error()["message"].as_str().unwrap_or_default();
        assert!(message.contains("expired"), "{}", refused.raw);
    }
    super::leaving::until_nothing_runs(&caller).await;
    // What timed out is out of the way of what comes after it.
    let again = caller.converse("ask", json!({}), as_ada);
    let again = within(Duration::from_secs(10), "another call that asks", again).await;
    assert_eq!(again.answer.text(), "Hello, Ada!");
}

row!(two_elicitations_at_once: [every]);

async fn two_elicitations_at_once(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(forms()).await;
    let told = caller.converse_about("tools/call", tool("ask_both", json!({})), 2, as_ada).await;
    assert_eq!((told.questions.len(), told.answer.text()), (2, "Ada, who wants quest"));
}

row!(three_rounds: [every]);

async fn three_rounds(cell: Cell) {
    let stage = Stage::set(cell).await;
    let told = stage.caller(forms()).await.converse("interview", json!({}), as_ada).await;
    assert_eq!((told.questions.len(), told.answer.text()), (3, "Ada, quest, colour"));
    if cell.has_stateless_client() {
        let mut states: Vec<&str> =
            told.states.iter().map(|state| state.as_deref().expect("this call has state")).collect();
        states.sort_unstable();
        states.dedup();
        assert_eq!(states.len(), 3, "the state is another one each round (S-MRTR-11)");
    }
    let last = told.progress.last().and_then(|values| values.last());
    assert_eq!(last, Some(&5.0), "progress to the end (S-MRTR-17): {:?}", told.progress);
}

row!(sampling: [every]);

async fn sampling(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({ "sampling": {} })).await;
    let told = caller.converse("sample", json!({}), |_| sampled("Trains pass in the night")).await;
    assert_eq!(told.answer.text(), "Trains pass in the night");
    let question = told.question();
    assert_eq!(
        (question.method.as_str(), &question.params["maxTokens"]),
        ("sampling/createMessage", &json!(200))
    );
    let prompt = &question.params["messages"][0];
    assert_eq!(prompt["content"]["text"], "Write a haiku about a gateway.", "{prompt}");
}

row!(sampling_refused: [l_to_l l_to_m] {
    m_to_l: "a stateless client cannot answer with an error: it declares no sampling, or does not come back",
    m_to_m: "as before"
});

async fn sampling_refused(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({ "sampling": {} })).await;
    let told = caller.converse("sample", json!({}), |_| Reply::Refuse(-1)).await;
    assert_eq!(told.questions.len(), 1, "asked once, and not again: {:?}", told.questions);
    assert_eq!(told.answer.result()["isError"], true, "{}", told.answer.raw);
    if !cell.has_stateless_upstream() {
        assert_eq!(told.answer.text(), "the client refused: the user said no", "the error is relayed");
    }
    assert_eq!(caller.counters().await["calls"], 2, "the call was not repeated (era-bridge 4.2, 3b)");
}

row!(roots: [every]);

async fn roots(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({ "roots": {} })).await;
    let folder = json!({ "uri": "file:///ordner/träger", "name": "ordner" });
    let told = caller.converse("roots", json!({}), |_| Reply::Give(json!({ "roots": [folder] }))).await;
    assert_eq!(told.question().method, "roots/list");
    assert_eq!(told.answer.result()["structuredContent"], json!({ "roots": [folder] }));
}

fn pages() -> Value {
    json!({ "elicitation": { "form": {}, "url": {} } })
}

row!(url_mode: [every]);

async fn url_mode(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(pages()).await;
    let mut standing = match cell.has_stateless_client() {
        true => None,
        false => Some(caller.client.standalone_stream().await),
    };
    let told = caller.converse("ask_url", json!({}), |_| action("accept")).await;
    assert_eq!(told.answer.text(), "The page was answered with accept");
    let params = &told.question().params;
    assert_eq!(params["mode"], "url");
    let url = params["url"].as_str().expect("a page has an address");
    assert!(url.starts_with("https://example.com/confirm?request="), "{url}");
    if cell.has_stateless_upstream()
        && let Some(standing) = &mut standing
    {
        // The server has no such notification; the gateway tells the client of the handshake era (era-bridge 4.2, 4).
        let complete = told.notices.iter().find(|it| it.method() == "notifications/elicitation/complete");
        let complete = match complete {
            Some(complete) => complete.clone(),
            None => standing.until_method("notifications/elicitation/complete").await,
        };
        assert_eq!(complete.params()["elicitationId"], params["elicitationId"]);
    }
}

row!(url_required: [l_to_l m_to_l] {
    l_to_m: "2026-07-28 has no error -32042; its servers ask, see url_mode",
    m_to_m: "as before"
});

async fn url_required(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(pages()).await;
    if cell.has_stateless_client() {
        let told = caller.converse("visit_first", json!({}), |_| action("accept")).await;
        assert_eq!(told.answer.text(), "The page was visited");
        let question = told.question();
        assert_eq!(
            (question.method.as_str(), &question.params["mode"]),
            ("elicitation/create", &json!("url"))
        );
        let declined = caller.converse("visit_first", json!({}), |_| action("decline")).await;
        assert_eq!(declined.answer.result()["isError"], true, "{}", declined.answer.raw);
        return;
    }
    let mut standing = caller.client.standalone_stream().await;
    let refused = caller.call("visit_first", json!({})).await;
    refused.expect_error(200, -32042);
    let page = refused.error()["data"]["elicitations"][0].clone();
    let complete = standing.until_method("notifications/elicitation/complete").await;
    assert_eq!(complete.params()["elicitationId"], page["elicitationId"], "{page}");
    assert_eq!(caller.call("visit_first", json!({})).await.text(), "The page was visited");
}

row!(url_required_of_a_client_without_pages: [l_to_l m_to_l] {
    l_to_m: "2026-07-28 has no error -32042; its servers ask, see capability_differences",
    m_to_m: "as before"
});

async fn url_required_of_a_client_without_pages(cell: Cell) {
    let stage = Stage::set(cell).await;
    let refused = stage.caller(forms()).await.call("visit_first", json!({})).await;
    if cell.has_stateless_client() {
        refused.expect_error(400, -32021);
        let needed = &refused.error()["data"]["requiredCapabilities"];
        assert_eq!(*needed, json!({ "elicitation": { "url": {} } }), "{}", refused.raw);
    } else {
        assert_eq!(refused.result()["isError"], true, "{}", refused.raw);
        assert!(!refused.raw.contains("example.com"), "nobody here may open it: {}", refused.raw);
    }
}

row!(state_without_question: [every]);

async fn state_without_question(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(forms()).await;
    let begun = tokio::time::Instant::now();
    let told = caller.converse("not_yet", json!({}), as_ada).await;
    assert!(told.questions.is_empty(), "nothing was asked: {:?}", told.questions);
    assert_eq!(told.answer.text(), "Now it is done");
    if cell.has_stateless_upstream() && !cell.has_stateless_client() {
        // The gateway comes again by itself, after 0.5 s and after 1 s more (S-MRTR-13, era-bridge 4.2, 3d).
        let (least, most) = (Duration::from_millis(1200), Duration::from_secs(8));
        assert!((least..most).contains(&begun.elapsed()), "it waited {:?}", begun.elapsed());
    }
}

row!(prompt_with_input: [every]);

async fn prompt_with_input(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(forms()).await;
    caller.client.until_listed("prompts", &["demo__greet_you"]).await;
    let told = caller.converse_about("prompts/get", json!({ "name": "demo__greet_you" }), 1, as_ada).await;
    assert_eq!(told.question().method, "elicitation/create");
    let text = &told.answer.result()["messages"][0]["content"]["text"];
    assert_eq!(text, "Please greet Ada warmly.");
}

row!(partial_answers: [m_to_l m_to_m] {
    l_to_l: "each question of the handshake era is answered on its own",
    l_to_m: "as before"
});

async fn partial_answers(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(forms()).await;
    let params = tool("ask_both", json!({}));
    let round = caller.first_round("tools/call", &params).await;
    let all = round.questions.iter().map(|question| (question.key.clone(), as_ada(question)));
    let mut all: Vec<(Value, Value)> = all
        .filter_map(|(key, reply)| match reply {
            Reply::Give(answer) => Some((key, answer)),
            _ => None,
        })
        .collect();
    assert_eq!(all.len(), 2, "two questions at once: {round:?}");
    let (open, rest) = all.pop().expect("there are two");
    let (key, given) = all.pop().expect("there are two");
    let key = key.as_str().expect("keys are strings");
    // A key that was never asked for is nobody's business (S-MRTR-09).
    let some = json!({ key: given, "never asked": { "action": "accept", "content": {} } });
    let answer = caller.retry("tools/call", &params, some, round.state.as_deref()).await;
    let second = InputRequired::read(&answer).unwrap_or_else(|| panic!("half an answer: {}", answer.raw));
    let still: Vec<&Value> = second.questions.iter().map(|question| &question.key).collect();
    assert_eq!(still, [&open], "what is still open is asked again, and nothing else");
    let rest = json!({ open.as_str().expect("keys are strings"): rest });
    let answer = caller.retry("tools/call", &params, rest, second.state.as_deref()).await;
    assert_eq!(answer.text(), "Ada, who wants quest");
}

row!(malformed_answers: [m_to_l m_to_m] {
    l_to_l: "answers of the handshake era are no part of a request",
    l_to_m: "as before"
});

async fn malformed_answers(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(forms()).await;
    let params = tool("ask", json!({}));
    let round = caller.first_round("tools/call", &params).await;
    for wrong in [json!(12345), Value::Null, json!("yes"), json!([]), json!({ "action": 7 }), json!({})] {
        let answer = caller.retry("tools/call", &params, round.all(&wrong), round.state.as_deref()).await;
        match InputRequired::read(&answer) {
            Some(again) => assert_eq!(again.questions.len(), 1, "{}", answer.raw),
            None => drop(answer.expect_error(200, -32602)),
        }
    }
    for wrong in [json!(12345), Value::Null, json!([])] {
        let answer = caller.retry("tools/call", &params, wrong, round.state.as_deref()).await;
        if InputRequired::read(&answer).is_none() {
            answer.expect_error(200, -32602);
        }
    }
    // None of it has used up the question.
    let right = round.all(&json!({ "action": "accept", "content": { "name": "Ada" } }));
    let answer = caller.retry("tools/call", &params, right, round.state.as_deref()).await;
    assert_eq!(answer.text(), "Hello, Ada!");
}
