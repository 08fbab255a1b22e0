//! Rows of tasks: a client of the core dialect or of the extension, a server of either.
//!
//! The other side is a scripted server here, not the demo server: it outlives a gateway that is killed, and does at its
//! tasks what the row wants, when the row wants it.

use serde_json::{Value, json};

use super::cell::Cell;
use super::row;
use crate::support::client::{created, id_of};
use crate::support::eventually;
use crate::support::upstream::{Manner, Outcome};
use crate::tasks_stage::{Pair, Stage, name_question, named};

async fn set(cell: Cell, config: &str) -> Stage {
    let pair = Pair { client: cell.client, upstream: cell.upstream, transport: cell.transport };
    Stage::with(pair, Manner::default(), config).await
}

row!(task_create: [every]);

async fn task_create(cell: Cell) {
    let stage = set(cell, "").await;
    let answer = stage.client.call_as_task("one__long", json!({})).await;
    assert_eq!(answer.result().get("task").is_some(), !cell.has_stateless_client(), "{}", answer.raw);
    assert_eq!(answer.result()["resultType"] == "task", cell.has_stateless_client(), "{}", answer.raw);
    let task = created(&answer);
    assert_eq!(task["status"], "working");
    let got = stage.client.task(&id_of(&task)).await;
    assert_eq!(got.result()["taskId"], task["taskId"], "it is known at once");
    let call = stage.upstream.until_received("tools/call", 1).await;
    assert_eq!(call.params().get("task").is_some(), !cell.has_stateless_upstream(), "{}", call.raw);
}

row!(task_poll: [every]);

async fn task_poll(cell: Cell) {
    let stage = set(cell, "").await;
    let id = stage.client.begin_id("one__long", json!({})).await;
    let task = stage.upstream.until_task(1).await;
    for word in ["one", "two"] {
        stage.upstream.change(&task, |task| task.message = Some(word.to_owned()));
        eventually("the word of the server", || async {
            let told = stage.client.task(&id).await.result().clone();
            (told["statusMessage"] == word && told["status"] == "working").then_some(())
        })
        .await;
    }
    stage.upstream.complete(&task, "done");
    stage.client.until_status(&id, "completed").await;
}

row!(task_result: [every]);

async fn task_result(cell: Cell) {
    let stage = set(cell, "").await;
    let id = stage.client.begin_id("one__long", json!({})).await;
    let task = stage.upstream.until_task(1).await;
    let result =
        json!({ "content": [{ "type": "text", "text": "grüß dich" }], "structuredContent": { "n": 1.5 } });
    stage.upstream.end(&task, Outcome::Result(result.clone()));
    for _ in 0..2 {
        let end = stage.client.until_over(&id).await;
        assert_eq!(
            (&end.result["content"], &end.result["structuredContent"]),
            (&result["content"], &result["structuredContent"])
        );
    }
}

row!(task_tool_error: [every]);

async fn task_tool_error(cell: Cell) {
    let stage = set(cell, "").await;
    let arguments = json!({ "after": 20, "isError": true, "text": "badly" });
    let id = stage.client.begin_id("one__must", arguments).await;
    let end = stage.client.until_over(&id).await;
    assert_eq!((end.status.as_str(), end.text()), (stage.pair.of_tool_error(), "one did badly"));
    assert_eq!(end.result["isError"], true);
    assert!(
        end.result["_meta"].get("switchyard/failure").is_none(),
        "the tool failed, not the gateway: {end:?}"
    );
}

row!(task_protocol_error: [every]);

async fn task_protocol_error(cell: Cell) {
    let stage = set(cell, "").await;
    let error = json!({ "code": -31999, "message": "off the rails", "data": { "tool": "crash" } });
    let id = stage.client.begin_id("one__must", json!({ "after": 20, "error": error })).await;
    let end = stage.client.until_over(&id).await;
    assert_eq!((end.status.as_str(), &end.error), ("failed", &error));
}

row!(task_input: [every]);

async fn task_input(cell: Cell) {
    let stage = set(cell, "").await;
    let id = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
    stage.client.until_status(&id, "input_required").await;
    let (questions, end) = stage.client.follow(&id, |_| named("Ada")).await;
    assert_eq!((questions.len(), end.text()), (1, &*json!({ "who": named("Ada") }).to_string()));
}

row!(task_partial_input: [every]);

async fn task_partial_input(cell: Cell) {
    let stage = set(cell, "").await;
    let asks = json!({ "ask": { "a": name_question(), "b": name_question() } });
    let id = stage.client.begin_id("one__long", asks).await;
    if cell.has_stateless_client() {
        let open = || async {
            let task = stage.client.task(&id).await.result().clone();
            task["inputRequests"].as_object().map(|open| open.keys().cloned().collect::<Vec<_>>())
        };
        let keys =
            eventually("both questions", || async { open().await.filter(|keys| keys.len() == 2) }).await;
        stage.client.update_task(&id, json!({ &keys[0]: named("first") })).await.result();
        let left = eventually("the other", || async { open().await.filter(|keys| keys.len() == 1) }).await;
        assert_eq!(left, keys[1..]);
        stage.client.update_task(&id, json!({ &left[0]: named("second") })).await.result();
    } else {
        let mut exchange = stage.client.open_task_result(&id).await;
        let first = exchange.until_method("elicitation/create").await;
        let second = exchange.until_method("elicitation/create").await;
        stage.client.answer_of_task(&id, &first, &mut |_| named("first")).await;
        let task = stage.client.task(&id).await;
        assert_eq!(task.result()["status"], "input_required", "one is open yet");
        stage.client.answer_of_task(&id, &second, &mut |_| named("second")).await;
    }
    let told: Value =
        serde_json::from_str(stage.client.until_over(&id).await.text()).expect("what it was told");
    let mut names = ["a", "b"].map(|key| told[key]["content"]["name"].as_str().unwrap_or_default());
    names.sort_unstable();
    assert_eq!(names, ["first", "second"]);
}

row!(task_cancel_running: [every]);

async fn task_cancel_running(cell: Cell) {
    let stage = set(cell, "").await;
    let id = stage.client.begin_id("one__long", json!({})).await;
    stage.upstream.until_task(1).await;
    stage.client.cancel_task(&id).await.result();
    assert_eq!(stage.client.until_over(&id).await.status, "cancelled");
    stage
        .upstream
        .until_tasks("to be cancelled", |tasks| (tasks.get("task-1")?.status == "cancelled").then_some(()))
        .await;
}

row!(task_cancel_finished: [every]);

async fn task_cancel_finished(cell: Cell) {
    let stage = set(cell, "").await;
    let id = stage.client.begin_id("one__long", json!({ "after": 20, "text": "it" })).await;
    stage.client.until_over(&id).await;
    let answer = stage.client.cancel_task(&id).await;
    match cell.has_stateless_client() {
        true => drop(answer.result()),
        false => drop(answer.expect_error(200, -32602)),
    }
    let end = stage.client.until_over(&id).await;
    assert_eq!((end.status.as_str(), end.text()), ("completed", "one did it"));
}

row!(task_expiry: [every]);

async fn task_expiry(cell: Cell) {
    let stage = set(cell, "tasks: { ttl: 1s, max_ttl: 1s }").await;
    let done = stage.client.begin_id("one__long", json!({ "after": 20 })).await;
    let running = stage.client.begin_id("one__long", json!({})).await;
    for id in [&done, &running] {
        let error = eventually("the task to be gone", || async {
            stage.client.task(id).await.json.get("error").cloned()
        })
        .await;
        assert_eq!(error["code"], -32602);
    }
    let told = stage.upstream.until_received("tasks/cancel", 1).await;
    assert_eq!(told.params()["taskId"], "task-2", "what still ran is stopped");
}

row!(task_restart_in_between: [every]);

async fn task_restart_in_between(cell: Cell) {
    let mut stage = set(cell, "").await;
    let done = stage.client.begin_id("one__long", json!({ "after": 20, "text": "it" })).await;
    stage.client.until_over(&done).await;
    let running = stage.client.begin_id("one__long", json!({})).await;
    stage
        .upstream
        .until_tasks("to be looked at", |tasks| {
            let task = tasks.get("task-2")?;
            (!task.polls.is_empty()).then_some(())
        })
        .await;
    stage.gateway.kill().await;
    stage.gateway.start_again().await;
    stage.come_again().await;
    assert_eq!(stage.client.until_over(&done).await.text(), "one did it");
    if cell.is_stdio() {
        // A child and its tasks end with the gateway.
        let end = stage.client.until_over(&running).await;
        let by_result = end.result["_meta"]["switchyard/failure"].clone();
        let failure = if end.error.is_null() { by_result } else { end.error["data"].clone() };
        assert_eq!(
            (&failure["reason"], &failure["outcome"]),
            (&json!("gateway_restarted"), &json!("unknown"))
        );
    } else {
        stage.upstream.complete("task-2", "all the same");
        assert_eq!(stage.client.until_over(&running).await.text(), "all the same");
    }
    assert_eq!(stage.upstream.received("tools/call").len(), 2, "each was called once");
}
