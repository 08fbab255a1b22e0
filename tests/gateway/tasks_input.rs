//! What tasks ask of their clients, in every pairing (S-TASK-16, -17, S-TX-06, era-bridge §7.2, §7.3).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::upstream::{AsksOn, Manner};
use crate::support::{HANDSHAKE, STATELESS, Transport, eventually};
use crate::tasks_stage::{Pair, Stage, client, every, name_question, named, over_http};

const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

fn three() -> Value {
    let sampling = json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": "hi" } }], "maxTokens": 5 });
    json!({
        "who": name_question(),
        "model": { "method": "sampling/createMessage", "params": sampling },
        "where": { "method": "roots/list", "params": {} },
    })
}

fn answer(method: &str) -> Value {
    match method {
        "elicitation/create" => named("Ada"),
        "sampling/createMessage" => {
            json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "ho" } })
        }
        "roots/list" => json!({ "roots": [{ "uri": "file:///home" }] }),
        other => panic!("{other} is asked of nobody"),
    }
}

#[tokio::test]
async fn s_task_16_a_task_asks_three_things_and_is_told_each() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({ "ask": three() })).await;
        let (questions, end) = stage.client.follow(&id, |question| answer(&question.method)).await;
        assert_eq!(questions.len(), 3, "{pair:?}: {questions:?}");
        let told: Value = serde_json::from_str(end.text()).expect("what it was told");
        for (key, method) in
            [("who", "elicitation/create"), ("model", "sampling/createMessage"), ("where", "roots/list")]
        {
            assert_eq!(told[key], answer(method), "{pair:?}: {told}");
        }
        for question in &questions {
            let named = question.params["_meta"].get(RELATED_TASK).is_some();
            assert_eq!(named, !pair.has_extension_client(), "{pair:?}: {question:?}");
        }
        assert_eq!(stage.upstream.received("tools/call").len(), 1, "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_17_the_state_says_that_something_is_asked() {
    for pair in every() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({ "hold": true })).await;
        let task = stage.upstream.until_task(1).await;
        let request = name_question();
        stage.upstream.inquire(&task, "who", "elicitation/create", request["params"].clone());
        let asked = stage.client.until_status(&id, "input_required").await;
        if pair.has_extension_client() {
            let requests = asked["inputRequests"].as_object().expect("judged");
            let (key, shown) = requests.iter().next().expect("one is open");
            assert_eq!((requests.len(), &shown["method"]), (1, &request["method"]), "{pair:?}");
            assert_eq!(shown["params"]["message"], "[one] Who?", "{pair:?}: who asks is said with it");
            assert!(shown["params"]["_meta"].get(RELATED_TASK).is_none(), "{pair:?}: {shown}");
            stage.client.update_task(&id, json!({ key: named("Ada") })).await.result();
        } else {
            let mut exchange = stage.client.open_task_result(&id).await;
            let message = exchange.until_method("elicitation/create").await;
            stage.client.answer_of_task(&id, &message, &mut |_| named("Ada")).await;
        }
        assert_eq!(stage.upstream.until_told(&task, "who").await, named("Ada"), "{pair:?}");
        stage.client.until_status(&id, "working").await;
        stage.upstream.complete(&task, "done");
        assert_eq!(stage.client.until_over(&id).await.text(), "done", "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_17_questions_reach_the_client_on_the_standing_stream_too_or_wait() {
    for upstream in [HANDSHAKE, STATELESS] {
        let pair = Pair { client: HANDSHAKE, upstream, transport: Transport::Http };
        let stage = Stage::set(pair, Manner::default()).await;
        // Nothing is open: it waits, however long.
        let waiting = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
        stage.client.until_status(&waiting, "input_required").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.client.until_status(&waiting, "input_required").await;
        let (questions, end) = stage.client.follow(&waiting, |_| named("late")).await;
        assert_eq!(
            (questions.len(), end.text()),
            (1, &*json!({ "who": named("late") }).to_string()),
            "{pair:?}"
        );
        // The standing stream is open: it is asked there.
        let mut standing = stage.client.standalone_stream().await;
        let id = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
        let message = loop {
            let message = standing.next().await.expect("it stands");
            if message.method() == "elicitation/create" {
                break message;
            }
        };
        stage.client.answer_of_task(&id, &message, &mut |_| named("Ada")).await;
        assert_eq!(stage.client.until_over(&id).await.text(), json!({ "who": named("Ada") }).to_string());
    }
}

#[tokio::test]
async fn s_task_17_a_question_is_asked_again_of_who_comes_back() {
    for upstream in [HANDSHAKE, STATELESS] {
        let pair = Pair { client: HANDSHAKE, upstream, transport: Transport::Http };
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
        let mut leaving = stage.client.open_task_result(&id).await;
        leaving.until_method("elicitation/create").await;
        leaving.cut(true);
        let (questions, end) = stage.client.follow(&id, |_| named("Ada")).await;
        assert_eq!((questions.len(), end.status.as_str()), (1, "completed"), "{pair:?}");
        assert!(stage.upstream.received("tasks/cancel").is_empty(), "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_11_s_task_17_of_two_waiters_the_one_who_stays_is_asked() {
    for upstream in [HANDSHAKE, STATELESS] {
        for is_asked_before in [false, true] {
            let pair = Pair { client: HANDSHAKE, upstream, transport: Transport::Http };
            let stage = Stage::set(pair, Manner::default()).await;
            let newer = client(&stage.gateway, HANDSHAKE).await;
            let id = stage.client.begin_id("one__long", json!({ "hold": true })).await;
            let task = stage.upstream.until_task(1).await;
            let mut staying = stage.client.open_task_result(&id).await;
            staying.head().await;
            let mut leaving = newer.open_task_result(&id).await;
            leaving.head().await;
            let ask = || {
                let params = name_question()["params"].clone();
                stage.upstream.inquire(&task, "who", "elicitation/create", params);
            };
            match is_asked_before {
                true => {
                    ask();
                    leaving.until_method("elicitation/create").await;
                    leaving.cut(false);
                }
                false => {
                    leaving.cut(false);
                    ask();
                }
            }
            let message = staying.until_method("elicitation/create").await;
            stage.client.answer_of_task(&id, &message, &mut |_| named("Ada")).await;
            assert_eq!(stage.upstream.until_told(&task, "who").await, named("Ada"), "{pair:?}");
            stage.upstream.complete(&task, "done");
            assert_eq!(staying.answer().await.text(), "done", "{pair:?}");
        }
    }
}

#[tokio::test]
async fn s_task_17_a_waiter_who_can_be_asked_nothing_keeps_no_question_from_the_other() {
    for upstream in [HANDSHAKE, STATELESS] {
        let pair = Pair { client: HANDSHAKE, upstream, transport: Transport::Http };
        let stage = Stage::set(pair, Manner::default()).await;
        let mute = stage.gateway.handshake_with(HANDSHAKE, json!({})).await;
        let id = stage.client.begin_id("one__long", json!({ "hold": true })).await;
        let task = stage.upstream.until_task(1).await;
        let mut asked = stage.client.open_task_result(&id).await;
        asked.head().await;
        let mut waiting = mute.open_task_result(&id).await;
        waiting.head().await;
        let params = name_question()["params"].clone();
        stage.upstream.inquire(&task, "who", "elicitation/create", params);
        let message = asked.until_method("elicitation/create").await;
        stage.client.answer_of_task(&id, &message, &mut |_| named("Ada")).await;
        assert_eq!(stage.upstream.until_told(&task, "who").await, named("Ada"), "{pair:?}");
        stage.upstream.complete(&task, "done");
        assert_eq!(asked.answer().await.text(), "done", "{pair:?}");
        assert_eq!(waiting.answer().await.text(), "done", "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_17_a_question_of_a_waiter_who_left_moves_to_the_standing_stream() {
    for upstream in [HANDSHAKE, STATELESS] {
        let pair = Pair { client: HANDSHAKE, upstream, transport: Transport::Http };
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
        let mut leaving = stage.client.open_task_result(&id).await;
        leaving.until_method("elicitation/create").await;
        let mut standing = stage.client.standalone_stream().await;
        standing.head().await;
        leaving.cut(false);
        let message = standing.until_method("elicitation/create").await;
        stage.client.answer_of_task(&id, &message, &mut |_| named("Ada")).await;
        assert_eq!(stage.client.until_over(&id).await.text(), json!({ "who": named("Ada") }).to_string());
    }
}

#[tokio::test]
async fn s_task_17_where_a_server_asks_is_all_the_same_to_the_client() {
    for pair in every().into_iter().filter(|pair| !pair.has_extension_upstream()) {
        for asks_on in [AsksOn::Standing, AsksOn::Result] {
            let stage = Stage::set(pair, Manner { asks_on, notifies: true, ..Manner::default() }).await;
            let id = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
            let (questions, end) = stage.client.follow(&id, |_| named("Ada")).await;
            assert_eq!(questions.len(), 1, "{pair:?} {asks_on:?}");
            assert_eq!(end.text(), json!({ "who": named("Ada") }).to_string(), "{pair:?} {asks_on:?}");
        }
    }
}

#[tokio::test]
async fn s_task_16_a_question_without_its_task_is_never_guessed_to_be_of_one() {
    for pair in over_http().into_iter().filter(|pair| !pair.has_extension_upstream()) {
        let stage = Stage::set(pair, Manner { asks_on: AsksOn::Unrelated, ..Manner::default() }).await;
        let first = stage.client.begin_id("one__long", json!({ "hold": true })).await;
        let second = stage.client.begin_id("one__long", json!({ "hold": true })).await;
        stage.upstream.until_task(2).await;
        stage.upstream.inquire("task-1", "who", "elicitation/create", name_question()["params"].clone());
        let told = stage.upstream.until_told("task-1", "who").await;
        assert_eq!(told["action"], "cancel", "{pair:?}: two tasks could have asked: {told}");
        for id in [&first, &second] {
            assert_ne!(stage.client.task(id).await.result()["status"], "input_required", "{pair:?}");
        }
    }
}

#[tokio::test]
async fn s_tx_06_answers_come_in_parts_and_what_is_not_asked_is_ignored() {
    for pair in every().into_iter().filter(|pair| pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage
            .client
            .begin_id("one__long", json!({ "ask": { "a": name_question(), "b": name_question() } }))
            .await;
        let keys = eventually("both questions", || async {
            let task = stage.client.task(&id).await.result().clone();
            let keys: Vec<String> = task["inputRequests"].as_object()?.keys().cloned().collect();
            (keys.len() == 2).then_some(keys)
        })
        .await;
        for nothing in [json!({}), json!({ "unknown": named("x") }), json!({ "": null })] {
            stage.client.update_task(&id, nothing).await.result();
        }
        let part = json!({ &keys[0]: named("first"), "unknown": named("x") });
        stage.client.update_task(&id, part).await.result();
        let left = eventually("one question to be left", || async {
            let task = stage.client.task(&id).await.result().clone();
            let left: Vec<String> = task["inputRequests"].as_object()?.keys().cloned().collect();
            (left.len() == 1).then_some(left)
        })
        .await;
        assert_eq!(left, [keys[1].clone()], "{pair:?}");
        // Said twice, told once: the second says nothing more.
        stage.client.update_task(&id, json!({ &keys[0]: named("again") })).await.result();
        stage.client.update_task(&id, json!({ &keys[1]: named("second") })).await.result();
        let told: Value =
            serde_json::from_str(stage.client.until_over(&id).await.text()).expect("what it was told");
        let mut names: Vec<&Value> = ["a", "b"].map(|key| &told[key]["content"]["name"]).to_vec();
        names.sort_by_key(|name| name.to_string());
        assert_eq!(names, [&json!("first"), &json!("second")], "{pair:?}: {told}");
        stage.client.update_task(&id, json!({ &keys[1]: named("late") })).await.result();
        stage.client.update_task("never-given-out", json!({})).await.expect_error(200, -32602);
    }
}

#[tokio::test]
async fn s_tx_06_keys_are_never_used_again() {
    for pair in every().into_iter().filter(|pair| pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({ "hold": true })).await;
        let task = stage.upstream.until_task(1).await;
        let mut seen: Vec<String> = Vec::new();
        for round in 0..3 {
            // The same question each time; servers of the extension must have new keys, those of the core have none.
            let key = format!("round-{round}");
            stage.upstream.inquire(&task, &key, "elicitation/create", name_question()["params"].clone());
            let fresh = eventually("a new key", || async {
                let told = stage.client.task(&id).await.result().clone();
                let keys: Vec<String> = told["inputRequests"].as_object()?.keys().cloned().collect();
                keys.into_iter().find(|key| !seen.contains(key))
            })
            .await;
            stage.client.update_task(&id, json!({ &fresh: named(&key) })).await.result();
            assert_eq!(stage.upstream.until_told(&task, &key).await, named(&key), "{pair:?}");
            seen.push(fresh);
        }
        assert_eq!(seen.len(), 3, "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_17_a_client_that_refuses_ends_nothing_it_should_not() {
    for pair in over_http().into_iter().filter(|pair| !pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({ "ask": { "who": name_question() } })).await;
        let mut exchange = stage.client.open_task_result(&id).await;
        let question = exchange.until_method("elicitation/create").await;
        stage.client.refuse(&question.json["id"], -32603, "nobody is here").await;
        let end = stage.client.until_over(&id).await;
        assert!(matches!(end.status.as_str(), "completed" | "failed"), "{pair:?}: {end:?}");
        if pair.has_extension_upstream() {
            assert_eq!(end.text(), json!({ "who": { "action": "cancel" } }).to_string(), "{pair:?} (§9.3)");
        } else {
            let told: Value = serde_json::from_str(end.text()).expect("what it was told");
            assert_eq!(told["who"]["code"], -32603, "{pair:?}: an error is an error in one era: {told}");
        }
    }
}
