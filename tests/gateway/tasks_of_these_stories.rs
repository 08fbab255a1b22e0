//! The clients and upstreams of the stories of tasks are true to each other, with no gateway between them.

use serde_json::{Value, json};

use crate::support::client::{Client, Endpoint, is_over};
use crate::support::schema::{self, Answers};
use crate::support::upstream::{AsksOn, Manner, Outcome};
use crate::support::{HANDSHAKE, STATELESS, Transport, Upstream, upstream};

async fn face_to_face(revision: &str, manner: Manner) -> (Upstream, Client) {
    let upstream = upstream("one", revision, Transport::Http).tasks(manner).start().await;
    let endpoint = Endpoint { address: upstream.address(), path: "/mcp".to_owned() };
    let client = match revision {
        STATELESS => Client::stateless(&endpoint, json!({ "elicitation": {} })).with_tasks(),
        handshake => Client::handshake(&endpoint, handshake, json!({ "elicitation": {} })).await,
    };
    (upstream, client)
}

fn name_question() -> Value {
    let params = json!({ "message": "Who?", "requestedSchema": { "type": "object", "properties": {} } });
    json!({ "method": "elicitation/create", "params": params })
}

#[tokio::test]
async fn a_task_runs_to_its_end_in_both_dialects() {
    for revision in [HANDSHAKE, STATELESS] {
        let (upstream, client) = face_to_face(revision, Manner::default()).await;
        let id = client.begin_id("long", json!({ "text": "it" })).await;
        assert_eq!(id, "task-1");
        assert_eq!(client.task(&id).await.result()["status"], "working");
        upstream.complete(&id, "here");
        let end = client.until_over(&id).await;
        assert_eq!((end.status.as_str(), end.text()), ("completed", "here"));
        let id = client.begin_id("must", json!({ "after": 10, "isError": true, "text": "ill" })).await;
        let end = client.until_over(&id).await;
        assert_eq!(end.status, if revision == HANDSHAKE { "failed" } else { "completed" });
        assert_eq!((end.text(), &end.result["isError"]), ("one did ill", &json!(true)));
        let id =
            client.begin_id("must", json!({ "after": 10, "error": { "code": 7, "message": "no" } })).await;
        let end = client.until_over(&id).await;
        assert_eq!((end.status.as_str(), &end.error["code"]), ("failed", &json!(7)));
        client.task("task-9").await.expect_error(200, -32602);
        assert_eq!(upstream.received("tools/call").len(), 3);
    }
}

#[tokio::test]
async fn a_task_asks_and_is_told_in_both_dialects() {
    for revision in [HANDSHAKE, STATELESS] {
        let (_upstream, client) = face_to_face(revision, Manner::default()).await;
        let id =
            client.begin_id("long", json!({ "ask": { "a": name_question(), "b": name_question() } })).await;
        let (questions, end) = client.follow(&id, |_| json!({ "action": "decline" })).await;
        assert_eq!(questions.len(), 2);
        let told: Value = serde_json::from_str(end.text()).expect("what it was told");
        assert_eq!(told, json!({ "a": { "action": "decline" }, "b": { "action": "decline" } }));
    }
}

#[tokio::test]
async fn a_task_asks_on_the_standing_stream_and_tells_of_its_changes_there() {
    let manner = Manner { asks_on: AsksOn::Standing, notifies: true, ..Manner::default() };
    let (upstream, client) = face_to_face(HANDSHAKE, manner).await;
    let mut stream = client.standalone_stream().await;
    let id = client.begin_id("long", json!({})).await;
    upstream.inquire(&id, "who", "elicitation/create", name_question()["params"].clone());
    let mut methods = Vec::new();
    while methods.len() < 2 {
        let message = stream.next().await.expect("a task tells");
        if message.json.get("id").is_some() {
            client.answer_of_task(&id, &message, &mut |_| json!({ "action": "decline" })).await;
        }
        methods.push(message.method().to_owned());
    }
    methods.sort();
    assert_eq!(methods, ["elicitation/create", "notifications/tasks/status"]);
    assert_eq!(upstream.until_told(&id, "who").await, json!({ "action": "decline" }));
    upstream.end(&id, Outcome::Error(json!({ "code": 1, "message": "x" })));
    assert_eq!(client.until_over(&id).await.error["code"], 1);
}

#[tokio::test]
async fn a_task_is_cancelled_and_forgotten_and_may_break_the_rules() {
    for revision in [HANDSHAKE, STATELESS] {
        let (upstream, client) = face_to_face(revision, Manner::default()).await;
        let id = client.begin_id("long", json!({})).await;
        client.cancel_task(&id).await.result();
        assert_eq!(client.until_over(&id).await.status, "cancelled");
        let again = client.cancel_task(&id).await;
        assert_eq!(again.json.get("error").is_some(), revision == HANDSHAKE, "{}", again.raw);
        upstream.change(&id, |task| "working".clone_into(&mut task.status));
        assert!(!is_over(client.task(&id).await.result()));
        upstream.change(&id, |task| task.is_forgotten = true);
        client.task(&id).await.expect_error(200, -32602);
    }
}

#[test]
fn the_forms_of_tasks_are_judged() {
    let faults = |revision, method: &str, params: Value, result| {
        let asked = schema::asked_as(revision, method, &params);
        let message = json!({ "jsonrpc": "2.0", "id": 1, "result": result });
        schema::message_faults(revision, &message, Answers::Method(&asked)).len()
    };
    let time = "2026-01-01T00:00:00Z";
    let core =
        json!({ "taskId": "t", "status": "working", "createdAt": time, "lastUpdatedAt": time, "ttl": null });
    let as_task = json!({ "task": {} });
    assert_eq!(faults(HANDSHAKE, "tools/call", as_task.clone(), json!({ "task": core })), 0);
    assert_ne!(faults(HANDSHAKE, "tools/call", json!({}), json!({ "task": core })), 0, "nobody asked for it");
    assert_ne!(faults(HANDSHAKE, "tools/call", as_task, json!({ "task": core, "content": [] })), 0);
    assert_eq!(faults(HANDSHAKE, "tasks/get", json!({}), core.clone()), 0);
    assert_ne!(faults(HANDSHAKE, "tasks/result", json!({}), json!({ "content": [] })), 0, "it names no task");
    let declared = json!({ "_meta": { "io.modelcontextprotocol/clientCapabilities": { "extensions": { "io.modelcontextprotocol/tasks": {} } } } });
    let server = json!({ "io.modelcontextprotocol/serverInfo": { "name": "x", "version": "1" } });
    let mut flat = json!({ "resultType": "task", "taskId": "t", "status": "working", "createdAt": time, "lastUpdatedAt": time, "ttlMs": 5, "_meta": server });
    assert_eq!(faults(STATELESS, "tools/call", declared.clone(), flat.clone()), 0);
    assert_ne!(faults(STATELESS, "tools/call", json!({}), flat.clone()), 0, "nobody declared it");
    flat["ttl"] = json!(5);
    assert_ne!(faults(STATELESS, "tools/call", declared, flat.clone()), 0, "a member of the core dialect");
    flat.as_object_mut().expect("an object").remove("ttl");
    flat["resultType"] = json!("complete");
    assert_eq!(faults(STATELESS, "tasks/get", json!({}), flat.clone()), 0);
    flat["status"] = json!("completed");
    assert_ne!(faults(STATELESS, "tasks/get", json!({}), flat), 0, "no result");
}
