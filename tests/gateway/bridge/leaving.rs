//! Rows of cancelling and leaving: before, during and after a call, and in the middle of its conversation.

use std::time::Duration;

use serde_json::{Value, json};

use super::cell::Cell;
use super::conversation::{Caller, tool};
use super::questions::as_ada;
use super::row;
use super::stage::Stage;
use crate::support::client::Exchange;
use crate::support::{eventually, within};

/// A call that takes long and has begun.
async fn running(caller: &Caller, seconds: f64) -> Exchange {
    let mut params = tool("slow", json!({ "seconds": seconds, "steps": seconds * 10.0 }));
    params["_meta"] = json!({ "progressToken": "p" });
    let mut exchange = caller.client.open("tools/call", params).await;
    exchange.until_method("notifications/progress").await;
    exchange
}

/// Wait until the server has counted this many cancelled calls.
async fn until_cancelled(caller: &Caller, count: u64) {
    let cancelled = eventually("the server to be told of the cancellation", || async {
        (caller.counters().await["cancelled"] == count).then_some(())
    });
    within(Duration::from_secs(5), "a cancellation within its time (F25)", cancelled).await;
}

/// Wait until the server runs nothing but the call that asks for this.
pub(super) async fn until_nothing_runs(caller: &Caller) {
    let done = eventually("the server to be done with the call", || async {
        (caller.counters().await["running"] == 1).then_some(())
    });
    within(Duration::from_secs(5), "the server to be done in time", done).await;
}

async fn forms(stage: &Stage) -> Caller {
    stage.caller(json!({ "elicitation": {} })).await
}

row!(cancel_before: [every]);

async fn cancel_before(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = forms(&stage).await;
    for id in [json!("not yet"), json!(4711)] {
        let status = caller.client.notify("notifications/cancelled", json!({ "requestId": id })).await;
        assert_eq!(status, 202, "unknown ids are ignored");
        let exchange = caller.client.open_as(id, "tools/call", tool("echo", json!({ "text": "here" }))).await;
        assert_eq!(exchange.answer().await.text(), "here");
    }
    assert_eq!(caller.converse("ask", json!({}), as_ada).await.answer.text(), "Hello, Ada!");
}

row!(cancel_during: [every]);

async fn cancel_during(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = forms(&stage).await;
    let exchange = running(&caller, 30.0).await;
    if cell.has_stateless_client() {
        drop(exchange);
    } else {
        let id = exchange.id();
        caller.client.notify("notifications/cancelled", json!({ "requestId": id })).await;
        assert!(exchange.ends_without_response().await, "a cancelled request gets no response");
    }
    until_cancelled(&caller, 1).await;
    assert_eq!(caller.converse("ask", json!({}), as_ada).await.answer.text(), "Hello, Ada!");
}

row!(cancel_while_asked: [l_to_l l_to_m] {
    m_to_l: "a stateless call that asks has ended: there is nothing to cancel, see disconnect",
    m_to_m: "as before"
});

async fn cancel_while_asked(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = forms(&stage).await;
    let mut exchange = caller.client.open("tools/call", tool("ask", json!({}))).await;
    let question = exchange.until_method("elicitation/create").await;
    caller.client.notify("notifications/cancelled", json!({ "requestId": exchange.id() })).await;
    assert!(exchange.ends_without_response().await, "a cancelled request gets no response");
    until_nothing_runs(&caller).await;
    let late = json!({ "action": "accept", "content": { "name": "Ada" } });
    caller.client.respond(&question.json["id"], late).await;
    let counted = caller.counters().await["calls"].clone();
    assert_eq!(caller.converse("ask", json!({}), as_ada).await.answer.text(), "Hello, Ada!");
    // A stateless server is called once for the question and once with the answer.
    let calls: u64 = if cell.has_stateless_upstream() { 2 } else { 1 };
    let now = caller.counters().await["calls"].clone();
    assert_eq!(
        now.as_u64(),
        counted.as_u64().map(|before| before + calls + 1),
        "the late answer did nothing"
    );
}

row!(cancel_after: [every]);

async fn cancel_after(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = forms(&stage).await;
    let exchange = caller.client.open("tools/call", tool("echo", json!({ "text": "done" }))).await;
    let id = exchange.id();
    assert_eq!(exchange.answer().await.text(), "done");
    let status = caller.client.notify("notifications/cancelled", json!({ "requestId": id })).await;
    assert_eq!(status, 202, "what is done is done");
    assert_eq!(caller.converse("ask", json!({}), as_ada).await.answer.text(), "Hello, Ada!");
    assert_eq!(caller.counters().await["cancelled"], 0);
}

row!(disconnect: [every]);

async fn disconnect(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = forms(&stage).await;
    match cell.has_stateless_client() {
        true => leave_in_a_later_round(&caller).await,
        false => leave_and_come_back(&caller).await,
    }
}

/// Stateless era: who leaves cancels, and cannot come back.
async fn leave_in_a_later_round(caller: &Caller) {
    let mut params = tool("interview", json!({ "seconds": 30 }));
    params["_meta"] = json!({ "progressToken": "p" });
    let mut round = caller.first_round("tools/call", &params).await;
    let answers = |round: &super::conversation::InputRequired| -> Value {
        let content = json!({ "name": "Ada", "quest": "grail", "colour": "blue" });
        round.all(&json!({ "action": "accept", "content": content }))
    };
    for _ in 0..2 {
        let answer = caller.retry("tools/call", &params, answers(&round), round.state.as_deref()).await;
        round = super::conversation::InputRequired::read(&answer)
            .unwrap_or_else(|| panic!("three rounds were to come: {}", answer.raw));
    }
    let mut last = caller.open_retry("tools/call", &params, answers(&round), round.state.as_deref()).await;
    last.until_method("notifications/progress").await;
    drop(last);
    until_cancelled(caller, 1).await;
}

/// Handshake era: who leaves cancels nothing, and finds the rest of the stream, and a question on it, on coming back.
async fn leave_and_come_back(caller: &Caller) {
    let place = running(caller, 1.0).await.cut(false);
    let resumed = caller.client.resume(&place).await;
    assert_eq!(resumed.answer().await.text(), "took 1 s");
    let mut exchange = caller.client.open("tools/call", tool("ask", json!({}))).await;
    let question = exchange.until_method("elicitation/create").await;
    let place = exchange.cut(true);
    let answer = json!({ "action": "accept", "content": { "name": "Ada" } });
    assert_eq!(caller.client.respond(&question.json["id"], answer).await, 202);
    let resumed = caller.client.resume(&place).await;
    assert_eq!(resumed.answer().await.text(), "Hello, Ada!");
    assert_eq!(caller.counters().await["cancelled"], 0);
}
