//! Tasks at the border between clients and servers: what their calls tell and ask on the way, and who gives one up.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::upstream::Manner;
use crate::support::{HANDSHAKE, STATELESS, Transport, gateway, upstream};
use crate::tasks_stage::{Pair, Stage, client, name_question, named, over_http};

const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
const HOSTED: &str = "tasks: { host: on, slow_after: 200ms }";

#[tokio::test]
async fn s_prog_04_progress_of_a_task_comes_under_the_token_of_the_request_that_made_it() {
    for revision in [HANDSHAKE, STATELESS, "2025-06-18"] {
        let upstream = upstream("one", revision, Transport::Http)
            .on("tools/call", |mut call| async move {
                for step in 1..=3_u32 {
                    assert!(call.progress(f64::from(step), 3.0).await, "{}", call.received.raw);
                    call.pause(150).await;
                }
                call.text("done").await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(HOSTED).start().await;
        let client = client(&gateway, HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        let call =
            json!({ "name": "one__echo", "task": {}, "_meta": { "progressToken": "mine" }, "arguments": {} });
        let answer = client.request("tools/call", call).await;
        let id = answer.result()["task"]["taskId"].as_str().expect("a task").to_owned();
        let mut told = Vec::new();
        while told.last() != Some(&json!(3.0)) {
            let progress = stream.until_method("notifications/progress").await;
            assert_eq!(progress.params()["progressToken"], "mine", "{revision}: {}", progress.raw);
            assert_eq!(progress.params()["_meta"][RELATED_TASK]["taskId"], *id, "{revision}");
            told.push(progress.params()["progress"].clone());
        }
        assert!(told.windows(2).all(|pair| pair[0].as_f64() < pair[1].as_f64()), "{revision}: {told:?}");
        assert_eq!(client.until_over(&id).await.text(), "done", "{revision}");
        stream.never("notifications/progress", Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn s_task_06_a_task_that_its_server_cancels_is_cancelled() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let task = stage.upstream.until_task(1).await;
        stage.upstream.change(&task, |task| task.status = "cancelled".to_owned());
        assert_eq!(stage.client.until_over(&id).await.status, "cancelled", "{pair:?}");
        assert!(stage.upstream.received("tasks/cancel").is_empty(), "{pair:?}: it is over already");
    }
}

/// A server whose tool takes its time before it asks for a name.
async fn slow_to_ask(revision: &str) -> Stage {
    let upstream = upstream("one", revision, Transport::Http)
        .on("tools/call", |mut call| async move {
            if let Some(name) = call.params()["inputResponses"]["who"]["content"]["name"].as_str() {
                let name = name.to_owned();
                return call.text(&name).await;
            }
            call.pause(600).await;
            if call.received.session().is_none() {
                let who = json!({ "who": name_question() });
                return call.result(json!({ "resultType": "input_required", "inputRequests": who })).await;
            }
            let answer = call.ask("elicitation/create", name_question()["params"].clone()).await;
            let name = answer["result"]["content"]["name"].as_str().unwrap_or("nobody").to_owned();
            call.text(&name).await;
        })
        .start()
        .await;
    let pair = Pair { client: STATELESS, upstream: HANDSHAKE, transport: Transport::Http };
    Stage::before(upstream, pair, HOSTED).await
}

#[tokio::test]
async fn s_task_22_a_call_that_asks_after_it_became_a_task_asks_through_the_task() {
    for revision in [HANDSHAKE, STATELESS] {
        let stage = slow_to_ask(revision).await;
        let answer = stage.client.call("one__echo", json!({})).await;
        let id = answer.result()["taskId"].as_str().unwrap_or_else(|| panic!("{revision}: {}", answer.raw));
        let (questions, end) = stage.client.follow(id, |_| named("Ada")).await;
        assert_eq!((questions.len(), end.text()), (1, "Ada"), "{revision}");
    }
}

#[tokio::test]
async fn s_task_17_what_there_is_no_answer_to_ends_the_task_and_the_server_s_too() {
    // Towards an upstream of the extension there is no place for an error (era-bridge §9.3).
    let pair = Pair { client: HANDSHAKE, upstream: STATELESS, transport: Transport::Http };
    let stage = Stage::set(pair, Manner::default()).await;
    let params = json!({ "messages": [], "maxTokens": 1 });
    let ask = json!({ "model": { "method": "sampling/createMessage", "params": params } });
    let id = stage.client.begin_id("one__long", json!({ "ask": ask })).await;
    let mut waiting = stage.client.open_task_result(&id).await;
    let question = waiting.until_method("sampling/createMessage").await;
    assert_eq!(stage.client.refuse(&question.json["id"], -1, "no").await, 202);
    let end = stage.client.until_over(&id).await;
    assert_eq!(end.status, "failed", "{end:?}");
    assert_eq!(end.result["_meta"]["switchyard/failure"]["reason"], "input_refused", "{end:?}");
    stage.upstream.until_received("tasks/cancel", 1).await;
    assert!(stage.upstream.received("tasks/update").is_empty());
}

#[tokio::test]
async fn s_task_17_a_client_that_can_be_asked_nothing_is_not_waited_for() {
    let pair = Pair { client: STATELESS, upstream: STATELESS, transport: Transport::Http };
    let stage = Stage::set(pair, Manner::default()).await;
    let deaf = Client::stateless(&stage.gateway.endpoint, json!({})).with_tasks();
    let id = deaf.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
    let end = deaf.until_over(&id).await;
    assert_eq!(end.result["isError"], true, "{end:?}");
    stage.upstream.until_received("tasks/cancel", 1).await;
}

#[tokio::test]
async fn s_task_08_a_ttl_of_no_use_is_refused_and_nothing_is_sent() {
    let pair = Pair { client: HANDSHAKE, upstream: HANDSHAKE, transport: Transport::Http };
    let stage = Stage::set(pair, Manner::default()).await;
    for task in [json!({ "ttl": -1 }), json!({ "ttl": "1" }), json!({ "ttl": null }), json!(7), Value::Null] {
        let call = json!({ "name": "one__long", "arguments": {}, "task": task });
        stage.client.request("tools/call", call).await.expect_error(200, -32602);
    }
    assert!(stage.upstream.received("tools/call").is_empty());
    for ttl in [json!(0), json!(1e300), json!(0.5)] {
        let answer = stage.client.call_with_ttl("one__long", json!({}), json!({ "ttl": ttl })).await;
        let granted = answer.result()["task"]["ttl"].as_u64().expect("a number");
        assert!((1_000..=7 * 24 * 3_600_000).contains(&granted), "{ttl}: {}", answer.raw);
    }
}
