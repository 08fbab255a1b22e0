//! Tasks that clients of 2025-11-25 keep for servers of the same revision (S-TASK-24).

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::{Gateway, HANDSHAKE, TRANSPORTS, Transport, Upstream, eventually, gateway, upstream};
use crate::tasks_stage::name_question;

const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
const TIME: &str = "2026-01-01T00:00:00Z";

fn own_task(status: &str) -> Value {
    json!({ "taskId": "of-the-client", "status": status, "createdAt": TIME, "lastUpdatedAt": TIME, "ttl": 60_000, "pollInterval": 20 })
}

/// A server whose tool asks its client as a task and then looks, fetches and cancels as its arguments say. It tells all that
/// it was answered.
async fn server(transport: Transport) -> Upstream {
    upstream("one", HANDSHAKE, transport)
        .on("tools/call", |mut call| async move {
            let mut told = Vec::new();
            let mut params = name_question()["params"].clone();
            params["task"] = json!({ "ttl": 60_000 });
            let created = call.ask("elicitation/create", params).await;
            let id = created["result"]["task"]["taskId"].clone();
            told.push(created);
            let steps = call.params()["arguments"]["steps"].clone();
            for step in steps.as_array().into_iter().flatten() {
                let method = step.as_str().expect("steps are methods");
                told.push(call.ask(method, json!({ "taskId": id })).await);
            }
            call.text(&Value::Array(told).to_string()).await;
        })
        .start()
        .await
}

async fn before(upstream: &Upstream, capabilities: Value) -> (Gateway, Client) {
    let gateway = gateway().with("one", upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, capabilities).await;
    client.until_tools(&["one__echo"]).await;
    (gateway, client)
}

fn able() -> Value {
    json!({
        "elicitation": { "form": {} },
        "tasks": { "cancel": {}, "list": {}, "requests": { "elicitation": { "create": {} } } },
    })
}

#[tokio::test]
async fn s_task_24_a_server_drives_a_task_of_the_client() {
    for transport in TRANSPORTS {
        let upstream = server(transport).await;
        let (_gateway, client) = before(&upstream, able()).await;
        let steps = json!({ "steps": ["tasks/get", "tasks/result", "tasks/cancel"] });
        let mut exchange = client.open_call("one__echo", steps).await;
        let question = exchange.until_method("elicitation/create").await;
        assert_eq!(question.params()["task"], json!({ "ttl": 60_000 }));
        client.respond(&question.json["id"], json!({ "task": own_task("working") })).await;
        let get = exchange.until_method("tasks/get").await;
        assert_eq!(get.params()["taskId"], "of-the-client", "{transport:?}: {}", get.raw);
        client.respond(&get.json["id"], own_task("working")).await;
        let result = exchange.until_method("tasks/result").await;
        assert_eq!(result.params()["taskId"], "of-the-client");
        let accepted = json!({ "action": "accept", "content": { "name": "Ada" }, "_meta": { RELATED_TASK: { "taskId": "of-the-client" } } });
        client.respond(&result.json["id"], accepted).await;
        let cancel = exchange.until_method("tasks/cancel").await;
        client.refuse(&cancel.json["id"], -32602, "it is over").await;
        let told: Value = serde_json::from_str(exchange.answer().await.text()).expect("what it was told");
        let id = told[0]["result"]["task"]["taskId"].clone();
        assert!(id.is_string() && id != "of-the-client", "the server sees an id of the gateway: {told}");
        assert_eq!(told[1]["result"]["taskId"], id);
        assert_eq!(told[1]["result"]["status"], "working");
        assert_eq!(told[2]["result"]["content"]["name"], "Ada");
        assert_eq!(told[2]["result"]["_meta"][RELATED_TASK]["taskId"], id);
        assert_eq!(told[3]["error"]["code"], -32602);
    }
}

#[tokio::test]
async fn s_task_24_an_id_that_was_never_given_to_that_server_is_unknown_to_it() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/call", |mut call| async move {
            let mut told = Vec::new();
            for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
                told.push(
                    call.ask(method, json!({ "taskId": "of-the-client" })).await["error"]["code"].clone(),
                );
            }
            call.text(&Value::Array(told).to_string()).await;
        })
        .start()
        .await;
    let (_gateway, client) = before(&upstream, able()).await;
    let answer = client.call("one__echo", json!({})).await;
    assert_eq!(answer.text(), "[-32602,-32602,-32602]");
    let asked = answer.before.iter().filter(|message| message.json.get("id").is_some()).count();
    assert_eq!(asked, 0, "the client was not asked: {:?}", answer.before);
}

#[tokio::test]
async fn s_task_24_a_client_without_tasks_is_asked_plainly() {
    for transport in TRANSPORTS {
        let upstream = server(transport).await;
        let (_gateway, client) = before(&upstream, json!({ "elicitation": { "form": {} } })).await;
        let mut exchange = client.open_call("one__echo", json!({})).await;
        let question = exchange.until_method("elicitation/create").await;
        assert_eq!(question.params().get("task"), None, "{transport:?}: {}", question.raw);
        client.respond(&question.json["id"], json!({ "action": "decline" })).await;
        let told: Value = serde_json::from_str(exchange.answer().await.text()).expect("what it was told");
        assert_eq!(told[0]["result"]["action"], "decline", "the parameter is ignored (S-TASK-04): {told}");
    }
}

#[tokio::test]
async fn s_task_24_changes_of_a_task_of_the_client_are_relayed() {
    let upstream = server(Transport::Http).await;
    let (_gateway, client) = before(&upstream, able()).await;
    let mut exchange = client.open_call("one__echo", json!({ "steps": ["tasks/get"] })).await;
    let question = exchange.until_method("elicitation/create").await;
    client.respond(&question.json["id"], json!({ "task": own_task("working") })).await;
    let get = exchange.until_method("tasks/get").await;
    assert_eq!(client.notify("notifications/tasks/status", own_task("completed")).await, 202);
    let told = eventually("the change to be relayed", || async {
        upstream.received("notifications/tasks/status").pop()
    })
    .await;
    assert_eq!(told.params()["status"], "completed");
    assert_ne!(told.params()["taskId"], "of-the-client");
    client.respond(&get.json["id"], own_task("completed")).await;
    exchange.answer().await.result();
}

#[tokio::test]
async fn s_task_24_where_a_client_keeps_too_many_tasks_it_is_asked_plainly() {
    const AT_ONCE: usize = 256;
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/call", |mut call| async move {
            let mut told = serde_json::Value::Null;
            for _ in 0..AT_ONCE + 2 {
                let mut params = name_question()["params"].clone();
                params["task"] = json!({});
                told = call.ask("elicitation/create", params).await;
                assert!(told.get("error").is_none(), "{told}");
            }
            call.text(&told.to_string()).await;
        })
        .start()
        .await;
    let config = "bounds: { question_rate: 6000, call_questions: 1000 }";
    let gateway = gateway().with("one", &upstream).config(config).start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;
    let kept = |n: usize, status: &str| {
        let mut task = own_task(status);
        (task["taskId"], task["ttl"]) = (json!(format!("kept-{n}")), Value::Null);
        task
    };
    let mut exchange = client.open_call("one__echo", json!({})).await;
    for n in 0..AT_ONCE {
        let question = exchange.until_method("elicitation/create").await;
        assert_eq!(question.params()["task"], json!({}), "{n}");
        client.respond(&question.json["id"], json!({ "task": kept(n, "working") })).await;
    }
    let question = exchange.until_method("elicitation/create").await;
    assert_eq!(question.params().get("task"), None, "there is no room: {}", question.raw);
    // Once one of them is over, there is.
    assert_eq!(client.notify("notifications/tasks/status", kept(9, "completed")).await, 202);
    upstream.until_received("notifications/tasks/status", 1).await;
    client.respond(&question.json["id"], json!({ "action": "decline" })).await;
    let question = exchange.until_method("elicitation/create").await;
    assert_eq!(question.params()["task"], json!({}), "{}", question.raw);
    client.respond(&question.json["id"], json!({ "task": kept(AT_ONCE, "working") })).await;
    assert!(exchange.answer().await.text().contains("taskId"));
}

#[tokio::test]
async fn s_samp_09_a_server_follows_what_a_model_is_asked_as_a_task() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/call", |mut call| async move {
            let params = json!({
                "messages": [{ "role": "user", "content": { "type": "text", "text": "Hello" } }],
                "maxTokens": 10,
                "task": { "ttl": 60_000 },
            });
            let created = call.ask("sampling/createMessage", params).await;
            let id = created["result"]["task"]["taskId"].clone();
            let result = call.ask("tasks/result", json!({ "taskId": id })).await;
            call.text(&result["result"]["content"]["text"].to_string()).await;
        })
        .start()
        .await;
    let able = json!({
        "sampling": {},
        "tasks": { "requests": { "sampling": { "createMessage": {} } } },
    });
    let (_gateway, client) = before(&upstream, able).await;
    let mut exchange = client.open_call("one__echo", json!({})).await;
    let question = exchange.until_method("sampling/createMessage").await;
    assert_eq!(question.params()["task"], json!({ "ttl": 60_000 }));
    client.respond(&question.json["id"], json!({ "task": own_task("working") })).await;
    let result = exchange.until_method("tasks/result").await;
    assert_eq!(result.params()["taskId"], "of-the-client");
    let said = json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "Hi" } });
    client.respond(&result.json["id"], said).await;
    assert_eq!(exchange.answer().await.text(), "\"Hi\"");
}
