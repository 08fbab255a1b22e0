//! Rows of plain calls: results, progress, log messages, failures, pages of lists.

use serde_json::{Value, json};

use super::cell::Cell;
use super::conversation::{Caller, Reply, tool};
use super::row;
use super::stage::{Stage, Wishes};
use crate::support::client::Message;
use crate::support::eventually;

row!(plain_call: [every]);

async fn plain_call(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({})).await;
    let echoed = caller.call("echo", json!({ "text": "grüß dich" })).await;
    assert_eq!((echoed.status, echoed.text()), (200, "grüß dich"));
    let kind = cell.has_stateless_client().then_some("complete");
    assert_eq!(echoed.result()["resultType"].as_str(), kind, "{}", echoed.raw);
    let sum = caller.call("add", json!({ "a": 2, "b": 3.5 })).await;
    assert_eq!(sum.result()["structuredContent"], json!({ "sum": 5.5 }));
    let seen = caller.call("whoami", json!({})).await.result()["structuredContent"].clone();
    assert_eq!(seen["revision"], cell.upstream, "each hop speaks its own revision");
    assert_eq!(seen["session"], !cell.has_stateless_upstream());
}

row!(progress: [every]);

async fn progress(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({})).await;
    let arguments = json!({ "seconds": 0.3, "steps": 3 });
    let slow = caller.converse("slow", arguments, |_| Reply::Silence).await;
    assert_eq!((slow.answer.text(), &slow.progress[..]), ("took 0.3 s", &[vec![1.0, 2.0, 3.0]][..]));
}

row!(log_messages: [every]);

async fn log_messages(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({})).await;
    let mut standing = match cell.has_stateless_client() {
        true => None,
        false => Some(caller.client.standalone_stream().await),
    };
    for (level, quiet, loud) in [("warning", "info", "error"), ("debug", "nothing is", "debug")] {
        if !cell.has_stateless_client() {
            caller.client.request("logging/setLevel", json!({ "level": level })).await.result();
        }
        let mut heard = Vec::new();
        for severity in [quiet, loud].into_iter().filter(|severity| *severity != "nothing is") {
            heard.extend(log(cell, &caller, Some(level), severity).await);
        }
        // In the handshake era it may come beside the call's own stream.
        if let Some(standing) = standing.as_mut().filter(|_| heard.is_empty()) {
            heard.push(standing.until_method("notifications/message").await);
        }
        let told: Vec<&Value> = heard.iter().map(|message| &message.params()["data"]).collect();
        assert_eq!(told, [loud], "of {quiet} and {loud} at {level}");
        assert_eq!(heard[0].params()["level"], loud);
    }
    if cell.has_stateless_client() {
        let unheard = log(cell, &caller, None, "emergency").await;
        assert!(unheard.is_empty(), "who names no level hears nothing: {unheard:?}");
    }
}

/// Log at a severity, and give what came of it on the stream of the call.
async fn log(cell: Cell, caller: &Caller, level: Option<&str>, severity: &str) -> Vec<Message> {
    let mut params = tool("log", json!({ "level": severity, "text": severity }));
    if let Some(level) = level.filter(|_| cell.has_stateless_client()) {
        params["_meta"] = json!({ "io.modelcontextprotocol/logLevel": level });
    }
    let answer = caller.client.request("tools/call", params).await;
    assert_eq!(answer.result().get("isError"), None, "{}", answer.raw);
    answer.before.into_iter().filter(|message| message.method() == "notifications/message").collect()
}

row!(tool_error: [every]);

async fn tool_error(cell: Cell) {
    let stage = Stage::set(cell).await;
    let failed = stage.caller(json!({})).await.call("fail", json!({ "text": "out of rails" })).await;
    assert_eq!((failed.status, failed.text()), (200, "out of rails"));
    assert_eq!(failed.result()["isError"], true);
    assert!(failed.result()["_meta"].get("switchyard/failure").is_none(), "the tool failed, not the gateway");
}

row!(json_rpc_error: [every]);

async fn json_rpc_error(cell: Cell) {
    let stage = Stage::set(cell).await;
    let caller = stage.caller(json!({})).await;
    for code in [-31999, 7, -32603] {
        let crashed = caller.call("crash", json!({ "code": code, "text": "off the rails" })).await;
        crashed.expect_error(200, code);
        assert_eq!(crashed.error()["message"], "off the rails");
        assert_eq!(crashed.error()["data"], json!({ "tool": "crash" }));
    }
    let unknown = caller.call("no_such_tool", json!({})).await;
    unknown.expect_error(200, -32602);
}

row!(pagination: [every]);

async fn pagination(cell: Cell) {
    let wishes = Wishes::default().bounds("page_size: 5").arguments(&["--page-size", "7"]);
    let stage = Stage::with(cell, wishes).await;
    let caller = stage.caller(json!({})).await;
    let names = eventually("a list of several pages", || async {
        let names = pages(&caller).await;
        (names.len() > 10).then_some(names)
    })
    .await;
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), names.len(), "each tool once: {names:?}");
    for tool in ["echo", "slow", "ask", "interview", "whoami", "touch"] {
        assert!(names.contains(&format!("demo__{tool}")), "{tool} is in none of the pages: {names:?}");
    }
    let wrong = caller.client.request("tools/list", json!({ "cursor": "made up" })).await;
    wrong.expect_error(200, -32602);
    let first = caller.client.request("tools/list", json!({})).await.result()["nextCursor"].clone();
    let elsewhere = caller.client.request("prompts/list", json!({ "cursor": first })).await;
    elsewhere.expect_error(200, -32602);
}

/// The names in all pages of the list of tools.
async fn pages(caller: &Caller) -> Vec<String> {
    let (mut names, mut params) = (Vec::new(), json!({}));
    loop {
        let page = caller.client.request("tools/list", params).await;
        let listed = page.names("tools");
        assert!(listed.len() <= 5, "a page is bounded: {listed:?}");
        names.extend(listed);
        match page.result().get("nextCursor") {
            Some(next) => params = json!({ "cursor": next }),
            None => return names,
        }
    }
}
