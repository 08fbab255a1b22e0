//! Tasks for calls of servers that know none, and servers whose tasks a client cannot deal with (S-TASK-22, era-bridge
//! §7.3, §7.4).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::client::{created, id_of};
use crate::support::upstream::Manner;
use crate::support::{Call, HANDSHAKE, STATELESS, TRANSPORTS, Transport, Upstream, eventually, upstream};
use crate::tasks_stage::{Pair, Stage, abilities, client, name_question, named, over_http};

/// A server of 2025-06-18: `echo` waits as long as it is told, may ask, may fail.
async fn old_server(transport: Transport) -> Upstream {
    async fn work(mut call: Call) {
        let arguments = call.params()["arguments"].clone();
        if let Some(request) = arguments.get("ask") {
            let answer = call.ask("elicitation/create", request["params"].clone()).await;
            return call.text(&answer["result"].to_string()).await;
        }
        match arguments["after"].as_u64() {
            Some(after) => call.pause(after).await,
            None => return call.cancelled().await,
        }
        match arguments.get("error") {
            Some(error) => call.raw_error(&error.to_string()).await,
            None => call.text("done").await,
        }
    }
    upstream("one", "2025-06-18", transport).on("tools/call", work).start().await
}

async fn hosted(client: &'static str, transport: Transport, config: &str) -> Stage {
    let pair = Pair { client, upstream: "2025-06-18", transport };
    Stage::before(old_server(transport).await, pair, config).await
}

#[tokio::test]
async fn s_task_22_a_call_of_an_old_server_is_a_task_where_that_is_switched_on() {
    for transport in TRANSPORTS {
        let stage = hosted(HANDSHAKE, transport, "tasks: { host: on }").await;
        let listed = stage.client.request("tools/list", json!({})).await;
        assert_eq!(listed.result()["tools"][0]["execution"]["taskSupport"], "optional", "{}", listed.raw);
        let began = Instant::now();
        let id = stage.client.begin_id("one__echo", json!({ "after": 2_500 })).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(stage.client.task(&id).await.result()["status"], "working");
        assert_eq!(stage.client.task_result(&id).await.text(), "done");
        assert_eq!(stage.client.until_over(&id).await.status, "completed");
        let error = json!({ "code": 42, "message": "no" });
        let id = stage.client.begin_id("one__echo", json!({ "after": 5, "error": error })).await;
        assert_eq!(stage.client.until_over(&id).await.error, error);
        let id = stage.client.begin_id("one__echo", json!({})).await;
        stage.upstream.until_received("tools/call", 3).await;
        stage.client.cancel_task(&id).await.result();
        stage.upstream.until_received("notifications/cancelled", 1).await;
        assert_eq!(stage.client.until_over(&id).await.status, "cancelled");
        for call in stage.upstream.received("tools/call") {
            assert_eq!(call.params().get("task"), None, "{}", call.raw);
        }
    }
}

#[tokio::test]
async fn s_task_22_hosting_is_off_unless_bridging_needs_it() {
    for config in ["", "tasks: { host: auto }", "tasks: { host: off }"] {
        let stage = hosted(HANDSHAKE, Transport::Http, config).await;
        let listed = stage.client.request("tools/list", json!({})).await;
        assert_eq!(listed.result()["tools"][0].get("execution"), None, "{config}: {}", listed.raw);
        // One that opens its session now: before the server was heard of, it might have made tasks.
        let later = stage.gateway.handshake_with(HANDSHAKE, json!({})).await;
        let answer = later.call_as_task("one__echo", json!({ "after": 5 })).await;
        assert_eq!(answer.text(), "done", "{config}: nobody declared tasks, so `task` is ignored");
    }
}

#[tokio::test]
async fn s_task_22_single_tools_may_be_hosted_or_not() {
    let config = "tasks: { host: off, tools: { \"one__e*\": on } }";
    let stage = hosted(HANDSHAKE, Transport::Http, config).await;
    let id = stage.client.begin_id("one__echo", json!({ "after": 5 })).await;
    assert_eq!(stage.client.until_over(&id).await.text(), "done");
    let config = "tasks: { host: on, tools: { \"one__echo\": off } }";
    let stage = hosted(HANDSHAKE, Transport::Http, config).await;
    let listed = stage.client.request("tools/list", json!({})).await;
    assert_eq!(listed.result()["tools"][0].get("execution"), None, "{}", listed.raw);
}

#[tokio::test]
async fn s_task_22_a_hosted_call_asks_as_any_task_does() {
    for (client, transport) in TRANSPORTS.into_iter().flat_map(|way| [(HANDSHAKE, way), (STATELESS, way)]) {
        let stage = hosted(client, transport, "tasks: { host: on, slow_after: 1ms }").await;
        let answer = stage.client.call_as_task("one__echo", json!({ "ask": name_question() })).await;
        // A stateless client may have been asked by a round before it was slow.
        let Some(id) = answer.json["result"].get("task").unwrap_or(&answer.json["result"])["taskId"].as_str()
        else {
            assert_eq!(answer.result()["resultType"], "input_required", "{}", answer.raw);
            continue;
        };
        let (questions, end) = stage.client.follow(id, |_| named("Ada")).await;
        let told: Value = serde_json::from_str(end.text()).expect("what it was told");
        assert_eq!(
            (questions.len(), &told["content"]),
            (1, &json!({ "name": "Ada" })),
            "{client} {transport:?}"
        );
    }
}

#[tokio::test]
async fn s_task_22_a_slow_call_of_a_client_that_can_deal_with_it_turns_into_a_task() {
    for transport in TRANSPORTS {
        let stage = hosted(STATELESS, transport, "tasks: { host: on, slow_after: 1s }").await;
        // A first call opens what is behind it, which may take its time.
        stage.gateway.stateless().call("one__echo", json!({ "after": 5 })).await.result();
        let quick = stage.client.call("one__echo", json!({ "after": 5 })).await;
        assert_eq!(quick.result()["resultType"], "complete", "{}", quick.raw);
        let began = Instant::now();
        let slow = stage.client.call("one__echo", json!({ "after": 4_000 })).await;
        let id = id_of(&created(&slow));
        assert!(began.elapsed() < Duration::from_millis(3_500), "{:?}", began.elapsed());
        assert_eq!(stage.client.until_over(&id).await.text(), "done");
        let undeclared = stage.gateway.stateless().call("one__echo", json!({ "after": 1_200 })).await;
        assert_eq!(undeclared.text(), "done", "who cannot deal with one waits");
        let stuck = id_of(&created(&stage.client.call("one__echo", json!({})).await));
        stage.client.cancel_task(&stuck).await.result();
        assert_eq!(stage.client.until_over(&stuck).await.status, "cancelled");
        assert_eq!(stage.upstream.received("tools/call").len(), 5, "each was called once");
    }
}

#[tokio::test]
async fn s_task_03_clients_that_know_no_tasks_get_what_the_server_can_only_do_as_one() {
    for transport in TRANSPORTS {
        for upstream in [HANDSHAKE, STATELESS] {
            let stage = Stage::set(Pair { client: HANDSHAKE, upstream, transport }, Manner::default()).await;
            for revision in ["2024-11-05", "2025-03-26", "2025-06-18"] {
                let older = stage.gateway.handshake_with(revision, abilities()).await;
                let plain = older.call("one__must", json!({ "after": 50, "text": "it" })).await;
                assert_eq!(plain.text(), "one did it", "{upstream} {revision}");
                let failed =
                    older.call("one__must", json!({ "after": 5, "isError": true, "text": "ill" })).await;
                assert_eq!((failed.text(), &failed.result()["isError"]), ("one did ill", &json!(true)));
                let error = json!({ "code": -31999, "message": "no", "data": { "a": 1 } });
                let refused = older.call("one__must", json!({ "after": 5, "error": error })).await;
                assert_eq!(refused.error(), &error, "{upstream} {revision}");
            }
            let asked = stage.gateway.handshake_with("2025-06-18", abilities()).await;
            let mut exchange =
                asked.open_call("one__must", json!({ "ask": { "who": name_question() } })).await;
            let question = exchange.until_method("elicitation/create").await;
            assert_eq!(question.params()["_meta"].get("io.modelcontextprotocol/related-task"), None);
            asked.respond(&question.json["id"], named("Ada")).await;
            assert_eq!(exchange.answer().await.text(), json!({ "who": named("Ada") }).to_string());
        }
    }
}

#[tokio::test]
async fn s_task_03_driving_for_a_client_that_leaves_cancels_the_task() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner::default()).await;
        let plain =
            stage.gateway.client(if pair.has_extension_client() { STATELESS } else { "2025-06-18" }).await;
        let exchange = plain.open_call("one__must", json!({})).await;
        stage.upstream.until_task(1).await;
        if !pair.has_extension_client() {
            plain.notify("notifications/cancelled", json!({ "requestId": exchange.id() })).await;
        }
        drop(exchange);
        let told = stage.upstream.until_received("tasks/cancel", 1).await;
        assert_eq!(told.params()["taskId"], "task-1", "{pair:?}");
        eventually("the task to be cancelled", || async {
            (stage.upstream.task("task-1").status == "cancelled").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn s_tx_02_where_driving_is_off_a_client_is_told_what_it_lacks() {
    for upstream in [HANDSHAKE, STATELESS] {
        let pair = Pair { client: STATELESS, upstream, transport: Transport::Http };
        let stage = Stage::with(pair, Manner::default(), "tasks: { drive: false }").await;
        let refused = stage.gateway.stateless().call("one__must", json!({})).await;
        refused.expect_error(400, -32021);
        let needed = &refused.error()["data"]["requiredCapabilities"];
        assert_eq!(
            *needed,
            json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } }),
            "{}",
            refused.raw
        );
        assert!(stage.upstream.all_tasks().is_empty(), "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_22_a_hosted_call_outlives_the_session_whose_connection_it_uses() {
    for transport in TRANSPORTS {
        let stage = hosted(HANDSHAKE, transport, "tasks: { host: on }").await;
        stage.client.call("one__echo", json!({ "after": 5 })).await.text();
        let id = stage.client.begin_id("one__echo", json!({ "after": 1_000 })).await;
        stage.upstream.until_received("tools/call", 2).await;
        let elsewhere = client(&stage.gateway, HANDSHAKE).await;
        stage.client.delete().await;
        assert_eq!(elsewhere.until_over(&id).await.text(), "done", "{transport:?}");
        let calls = stage.upstream.received("tools/call");
        let way = |at: usize| (calls[at].session().map(str::to_owned), calls[at].connection);
        match transport {
            Transport::Stdio => assert_eq!(way(0), way(1)),
            Transport::Http => assert_eq!(way(0).0, way(1).0),
        }
    }
}
