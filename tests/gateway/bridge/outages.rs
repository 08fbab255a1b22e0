//! Rows of servers that go away: a new process, and a session that the server no longer knows.

use serde_json::json;

use super::cell::Cell;
use super::conversation::{Caller, tool};
use super::listening::Ear;
use super::row;
use super::stage::{Stage, Wishes};
use crate::support::eventually;

fn quickly() -> Wishes {
    Wishes::default().bounds("backoff_first: 100ms, backoff_longest: 200ms")
}

/// Wait until calls come through again.
async fn until_served(caller: &Caller) {
    eventually("the server to be reached again", || async {
        let echoed = caller.call("echo", json!({ "text": "again" })).await;
        let result = echoed.json.get("result").filter(|result| result.get("isError") != Some(&json!(true)));
        result.map(drop)
    })
    .await;
}

row!(upstream_restart: [every]);

async fn upstream_restart(cell: Cell) {
    let mut stage = Stage::with(cell, quickly()).await;
    let caller = stage.caller(json!({ "elicitation": {} })).await;
    let parked = match cell.has_stateless_client() && !cell.has_stateless_upstream() {
        true => Some(caller.first_round("tools/call", &tool("ask", json!({}))).await),
        false => None,
    };
    let mut params = tool("slow", json!({ "seconds": 30, "steps": 300 }));
    params["_meta"] = json!({ "progressToken": "p" });
    let mut exchange = caller.client.open("tools/call", params).await;
    exchange.until_method("notifications/progress").await;
    stage.restart_upstream().await;
    let lost = exchange.answer().await;
    assert_eq!(lost.status, 200, "{}", lost.raw);
    lost.expect_failure("upstream_lost", "unknown");
    until_served(&caller).await;
    if let Some(round) = parked {
        let answers = round.all(&json!({ "action": "accept", "content": { "name": "Ada" } }));
        let state = round.state.as_deref();
        let refused = caller.retry("tools/call", &tool("ask", json!({})), answers, state).await;
        refused.expect_error(200, -32602);
        assert_eq!(refused.error()["data"]["reason"], "parked_call_lost", "{}", refused.raw);
    }
    let told = caller.converse("ask", json!({}), super::questions::as_ada).await;
    assert_eq!(told.answer.text(), "Hello, Ada!");
}

row!(upstream_session_loss: [l_to_l_http m_to_l_http] {
    l_to_l_stdio: "a process is its session: see upstream_restart",
    m_to_l_stdio: "as before",
    l_to_m: "a stateless server has no sessions",
    m_to_m: "as before",
});

async fn upstream_session_loss(cell: Cell) {
    let mut stage = Stage::with(cell, quickly()).await;
    let caller = stage.caller(json!({ "elicitation": {} })).await;
    assert_eq!(caller.call("echo", json!({ "text": "first" })).await.text(), "first");
    let counter = json!({ "uri": "demo://counter" });
    let mut ear = match cell.has_stateless_client() {
        true => Ear::open(&caller, json!({ "resourceSubscriptions": [counter["uri"]] })).await,
        false => {
            caller.client.request("resources/subscribe", counter.clone()).await.result();
            Ear::open(&caller, json!({})).await
        }
    };
    stage.restart_upstream().await;
    until_served(&caller).await;
    let told = caller.converse("ask", json!({}), super::questions::as_ada).await;
    assert_eq!(told.answer.text(), "Hello, Ada!", "the new session knows what the client can do");
    // What the old session had subscribed to is subscribed to again.
    let touch = async {
        loop {
            caller.call("touch", json!({})).await.result();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        updated = ear.next("notifications/resources/updated") => assert_eq!(updated["uri"], counter["uri"]),
        () = touch => {}
    }
}
