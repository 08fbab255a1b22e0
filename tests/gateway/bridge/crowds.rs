//! Rows of several callers at once: each is what it declared, and hears the answer to its own question.

use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use super::cell::Cell;
use super::conversation::{Caller, accept, sampled};
use super::questions::as_ada;
use super::row;
use super::stage::{Stage, Wishes};
use crate::support::within;

row!(capability_differences: [every]);

async fn capability_differences(cell: Cell) {
    let stage = Stage::set(cell).await;
    let person = stage.caller(json!({ "elicitation": {} })).await;
    let model = stage.caller(json!({ "sampling": {} })).await;
    for _ in 0..3 {
        let (seen, other) = join(capabilities(&person), capabilities(&model)).await;
        assert!(seen.get("elicitation").is_some() && seen.get("sampling").is_none(), "{seen}");
        assert!(other.get("sampling").is_some() && other.get("elicitation").is_none(), "{other}");
        let asked = person.converse("ask", json!({}), as_ada);
        let sample = model.converse("sample", json!({}), |_| sampled("words"));
        let (asked, sample) = join(asked, sample).await;
        assert_eq!((asked.answer.text(), sample.answer.text()), ("Hello, Ada!", "words"));
        let refused = model.call("ask", json!({})).await;
        if !cell.has_stateless_upstream() {
            assert_eq!(refused.result()["isError"], true, "{}", refused.raw);
        } else if cell.has_stateless_client() {
            refused.expect_error(400, -32021);
            let needed = &refused.error()["data"]["requiredCapabilities"];
            assert_eq!(*needed, json!({ "elicitation": { "form": {} } }), "{}", refused.raw);
        } else {
            refused.expect_error(200, -32602);
            let told = refused.error()["data"].to_string();
            assert!(told.contains("requiredCapabilities") && told.contains("elicitation"), "{}", refused.raw);
        }
    }
}

/// What the server is told that this client can do.
async fn capabilities(caller: &Caller) -> Value {
    caller.call("whoami", json!({})).await.result()["structuredContent"]["capabilities"].clone()
}

row!(silent_neighbour: [every]);

/// Whoever does not answer holds up nobody else.
async fn silent_neighbour(cell: Cell) {
    let stage = Stage::set(cell).await;
    let capabilities = json!({ "elicitation": {} });
    let (silent, lively) = (stage.caller(capabilities.clone()).await, stage.caller(capabilities).await);
    let params = super::conversation::tool("ask", json!({}));
    let mut open = None;
    if cell.has_stateless_client() {
        silent.first_round("tools/call", &params).await;
    } else {
        let mut exchange = silent.client.open("tools/call", params).await;
        exchange.until_method("elicitation/create").await;
        open = Some(exchange);
    }
    for _ in 0..3 {
        let told = lively.converse("ask", json!({}), as_ada);
        let told = within(Duration::from_secs(10), "an answer beside a question that is open", told).await;
        assert_eq!(told.answer.text(), "Hello, Ada!");
    }
    drop(open);
}

row!(hundred_callers: [every]);

async fn hundred_callers(cell: Cell) {
    crowd(&Stage::set(cell).await).await;
}

row!(hundred_callers_of_one_process: [l_to_l_stdio l_to_m_stdio m_to_l_stdio m_to_m_stdio] {
    l_to_l_http: "an HTTP server is one process: see hundred_callers",
    l_to_m_http: "as before",
    m_to_l_http: "as before",
    m_to_m_http: "as before",
});

async fn hundred_callers_of_one_process(cell: Cell) {
    crowd(&Stage::with(cell, Wishes::default().shared_by_principal()).await).await;
}

/// A hundred people are asked for their names at the same time, and each hears the own one.
async fn crowd(stage: &Stage) {
    let mut callers = Vec::new();
    for _ in 0..100 {
        let caller = stage.caller(json!({ "elicitation": {} })).await;
        callers.push(Caller { client: caller.client.quiet() });
    }
    let calls = callers.iter().enumerate().map(|(number, caller)| async move {
        let name = format!("caller {number}");
        let content = json!({ "name": name });
        // They begin at different times, so that questions meet answers on the way.
        tokio::time::sleep(Duration::from_millis(number as u64 * 37 % 60)).await;
        let told = caller.converse("ask", json!({}), |_| accept(content.clone())).await;
        let is_own = told.answer.json["result"]["content"][0]["text"] == format!("Hello, {name}!");
        (!is_own || told.questions.len() != 1)
            .then(|| format!("{name} was asked {:?} and heard {}", told.questions, told.answer.raw))
    });
    let heard = within(Duration::from_secs(60), "a hundred conversations", join_all(calls)).await;
    let crossed: Vec<String> = heard.into_iter().flatten().collect();
    assert!(
        crossed.is_empty(),
        "{} of a hundred, first {:#?}",
        crossed.len(),
        &crossed[..3.min(crossed.len())]
    );
}
