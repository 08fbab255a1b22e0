//! Tasks of the extension for 2026-07-28: begun by the server, used by whoever knows the id and declares the extension.

use std::time::Duration;

use serde_json::{Value, json};
use switchyard::protocol::era::Revision;
use tokio::time::{Instant, sleep};

use crate::client::{Client, text_of};
use crate::pipe::PATIENCE;
use crate::schema;

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

async fn meet(over_http: bool, arguments: &[&str]) -> Client {
    let mut client = Client::meet(Revision::V2026_07_28, over_http, arguments).await;
    client.capabilities["extensions"] = json!({EXTENSION: {}});
    client
}

async fn begin(client: &mut Client, tool: &str, arguments: Value) -> String {
    let begun = client.call(tool, arguments).await;
    assert_eq!((&begun["resultType"], &begun["status"]), (&json!("task"), &json!("working")), "{begun}");
    begun["taskId"].as_str().unwrap().to_owned()
}

async fn ask(client: &mut Client, method: &str, id: &str) -> Result<Value, Value> {
    client.request(method, json!({"taskId": id})).await
}

async fn update(client: &mut Client, id: &str, responses: Value) -> Result<Value, Value> {
    client.request("tasks/update", json!({"taskId": id, "inputResponses": responses})).await
}

async fn until(client: &mut Client, id: &str, status: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let task = ask(client, "tasks/get", id).await.unwrap();
        if task["status"] == status {
            return task;
        }
        assert!(Instant::now() < deadline, "never {status}: {task}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn s_tx_01_the_extension_is_advertised_and_nothing_under_tasks() {
    let client = meet(false, &[]).await;
    let capabilities = &client.met["capabilities"];
    assert_eq!((&capabilities["extensions"], capabilities.get("tasks")), (&json!({EXTENSION: {}}), None));
}

#[tokio::test]
async fn s_tx_05_a_task_is_there_at_once_and_comes_to_its_result() {
    for over_http in [false, true] {
        let mut client = meet(over_http, &[]).await;
        let id = begin(&mut client, "job", json!({"seconds": 0.6, "steps": 2})).await;
        assert_eq!(ask(&mut client, "tasks/get", &id).await.unwrap()["status"], "working");
        let done = until(&mut client, &id, "completed").await;
        assert_eq!((text_of(&done["result"]), &done["resultType"]), ("Done after 0.6 s", &json!("complete")));
        assert!(done["result"]["_meta"].get(crate::client::RELATED_TASK).is_none(), "s_tx_13");
        assert_eq!(until(&mut client, &id, "completed").await, done, "a read changes nothing");
        assert!(client.noticed.is_empty(), "what a task has to say is in the task");
    }
}

#[tokio::test]
async fn s_tx_02_the_server_decides_and_only_for_requests_that_declare_the_extension() {
    let mut client = meet(true, &[]).await;
    assert_eq!(text_of(&client.call("job", json!({"seconds": 0})).await), "Done after 0 s", "at once");
    let params = json!({"name": "job_never", "arguments": {"seconds": 0}, "task": {"ttl": 5}});
    let ignored = client.request("tools/call", params).await.unwrap();
    assert_eq!(text_of(&ignored), "Done after 0 s", "s_tx_09: a `task` parameter means nothing");
    begin(&mut client, "job_only", json!({"seconds": 0})).await;
    // s_tx_14: the core's way to declare tasks is not this one.
    client.capabilities = json!({"tasks": {"requests": {"tools": {"call": {}}}}});
    assert_eq!(text_of(&client.call("job", json!({"seconds": 0.1})).await), "Done after 0.1 s");
    let refused =
        client.request("tools/call", json!({"name": "job_only", "arguments": {}})).await.unwrap_err();
    let needed = json!({"requiredCapabilities": {"extensions": {EXTENSION: {}}}});
    assert_eq!((&refused["code"], &refused["data"]), (&json!(-32021), &needed));
}

#[tokio::test]
async fn s_tx_08_the_capability_is_looked_at_before_the_id() {
    let mut client = meet(true, &[]).await;
    let id = begin(&mut client, "job", json!({"seconds": 600})).await;
    client.capabilities = json!({});
    for id in [id.as_str(), "made-up"] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let message = client.compose(method, json!({"taskId": id, "inputResponses": {}}));
            let answer = client.post(&message).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.value().await["error"]["code"]),
                (400, &json!(-32021))
            );
        }
        let params = json!({"notifications": {"taskIds": [id]}});
        let refused = client.request("subscriptions/listen", params).await.unwrap_err();
        assert_eq!(refused["code"], -32021);
    }
    client.capabilities = json!({"extensions": {EXTENSION: {}}});
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let params = json!({"taskId": "made-up", "inputResponses": {}});
        assert_eq!(client.request(method, params).await.unwrap_err()["code"], -32602, "{method}");
    }
    assert_eq!(ask(&mut client, "tasks/get", &id).await.unwrap()["status"], "working", "untouched");
}

#[tokio::test]
async fn s_tx_09_the_methods_of_the_core_are_gone() {
    let mut client = meet(true, &[]).await;
    for method in ["tasks/result", "tasks/list"] {
        let message = client.compose(method, json!({"taskId": "any"}));
        let answer = client.post(&message).await;
        assert_eq!((answer.status.as_u16(), &answer.value().await["error"]["code"]), (404, &json!(-32601)));
    }
}

#[tokio::test]
async fn s_tx_12_the_name_header_mirrors_the_id() {
    let mut client = meet(true, &[]).await;
    let id = begin(&mut client, "job", json!({"seconds": 600})).await;
    let message = client.compose("tasks/get", json!({"taskId": id}));
    for (name, code) in [(Some(id.as_str()), None), (Some("other"), Some(-32020)), (None, Some(-32020))] {
        let mut headers = client.headers("tasks/get", &message["params"]);
        headers.retain(|(header, _)| *header != "mcp-name");
        headers.extend(name.map(|name| ("mcp-name", name.to_owned())));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = crate::web::send(http::Method::POST, client.url(), &headers, &message.to_string()).await;
        assert_eq!(answer.value().await["error"]["code"].as_i64(), code, "{name:?}");
    }
}

#[tokio::test]
async fn s_tx_06_questions_wait_in_the_task_and_are_answered_one_by_one() {
    let mut client = meet(false, &["--tools", "conformance"]).await;
    let id = begin(&mut client, "multi_input", json!({})).await;
    let asking = until(&mut client, &id, "input_required").await;
    assert_eq!(asking["inputRequests"].as_object().unwrap().len(), 2);
    assert_eq!(asking["inputRequests"]["first"]["method"], "elicitation/create");
    let answer = json!({"action": "accept", "content": {"name": "Ada"}});
    let malformed = update(&mut client, &id, json!({"first": answer, "second": {"name": "Ada"}})).await;
    assert_eq!(malformed.unwrap_err()["code"], -32602);
    assert_eq!(
        until(&mut client, &id, "input_required").await["inputRequests"].as_object().unwrap().len(),
        2
    );
    for responses in [json!({"first": answer, "never": {"a": 1}}), json!({"first": {"not": "looked at"}})] {
        let acknowledged = update(&mut client, &id, responses).await.unwrap();
        assert_eq!((&acknowledged["resultType"], acknowledged.get("taskId")), (&json!("complete"), None));
        let left = until(&mut client, &id, "input_required").await;
        assert_eq!(left["inputRequests"].as_object().unwrap().keys().collect::<Vec<_>>(), ["second"]);
    }
    update(&mut client, &id, json!({"second": {"action": "decline"}})).await.unwrap();
    let done = until(&mut client, &id, "completed").await;
    assert!(text_of(&done["result"]).contains("decline"), "{done}");
    assert!(update(&mut client, &id, json!({"second": answer})).await.is_ok(), "answered keys are ignored");
    assert_eq!(update(&mut client, &id, json!("none")).await.unwrap_err()["code"], -32602);
}

#[tokio::test]
async fn s_tx_05_a_tool_that_fails_completes_its_task_and_only_an_error_fails_it() {
    let mut client = meet(false, &[]).await;
    let id = begin(&mut client, "job_failing", json!({"seconds": 0})).await;
    let failing = until(&mut client, &id, "completed").await;
    assert_eq!(
        (&failing["result"]["isError"], text_of(&failing["result"])),
        (&json!(true), "the job failed")
    );
    let id = begin(&mut client, "job_crashing", json!({"seconds": 0})).await;
    let crashing = until(&mut client, &id, "failed").await;
    let error = json!({"code": -32603, "message": "the job crashed", "data": {"job": "job_crashing"}});
    assert_eq!((&crashing["error"], &crashing["statusMessage"]), (&error, &json!("the job crashed")));
}

#[tokio::test]
async fn s_tx_07_cancelling_is_acknowledged_always_and_heeded_where_it_can_be() {
    let mut client = meet(false, &[]).await;
    for (tool, seconds, end) in [("job", 600.0, "cancelled"), ("job_stubborn", 0.5, "completed")] {
        let id = begin(&mut client, tool, json!({"seconds": seconds})).await;
        for _ in 0..2 {
            let acknowledged = ask(&mut client, "tasks/cancel", &id).await.unwrap();
            assert_eq!((&acknowledged["resultType"], acknowledged.get("status")), (&json!("complete"), None));
        }
        until(&mut client, &id, end).await;
        assert!(ask(&mut client, "tasks/cancel", &id).await.is_ok(), "also when it is over");
        until(&mut client, &id, end).await;
    }
}

#[tokio::test]
async fn s_tx_10_a_listen_stream_tells_the_task_as_it_could_be_read() {
    let mut client = meet(true, &[]).await;
    let id = begin(&mut client, "job_asking", json!({"seconds": 0.4, "steps": 1})).await;
    let other = begin(&mut client, "job", json!({"seconds": 0.1})).await;
    let params = json!({"notifications": {"taskIds": [id, "made-up"]}});
    let message = client.compose("subscriptions/listen", params);
    let mut stream = client.post(&message).await;
    let acknowledged = stream.message().await.unwrap();
    assert_eq!(acknowledged["params"]["notifications"], json!({"taskIds": [id]}));
    let mut told = Vec::new();
    while told.last() != Some(&"completed".to_owned()) {
        let message = stream.message().await.expect("the stream ended");
        schema::check(Revision::V2026_07_28, &message, None);
        assert_eq!(
            (&message["method"], &message["params"]["taskId"]),
            (&json!("notifications/tasks"), &json!(id))
        );
        let status = message["params"]["status"].as_str().unwrap().to_owned();
        let read = ask(&mut client, "tasks/get", &id).await.unwrap();
        if status == "input_required" {
            assert_eq!(message["params"]["inputRequests"], read["inputRequests"]);
            let answer = json!({"name": {"action": "accept", "content": {"name": "Ada"}}});
            update(&mut client, &id, answer).await.unwrap();
        } else if status == "completed" {
            assert_eq!(message["params"]["result"], read["result"]);
        }
        told.push(status);
    }
    told.dedup();
    assert_eq!(told, ["working", "input_required", "working", "completed"]);
    until(&mut client, &other, "completed").await;
}

#[tokio::test]
async fn what_is_asked_before_a_task_is_asked_by_rounds() {
    let mut client = meet(true, &["--tools", "conformance"]).await;
    let id = begin(&mut client, "test_tool_with_task", json!({})).await;
    assert_eq!(client.asked.len(), 1);
    assert_eq!(text_of(&until(&mut client, &id, "completed").await["result"]), "Hello, Ada!");
}
