//! What travels between server and client on account of a task of 2025-11-25: questions, progress, its status.

use http::Method;
use serde_json::{Value, json};
use switchyard::protocol::era::Revision;

use crate::client::{Client, RELATED_TASK, text_of};
use crate::schema;
use crate::tasks_core::{ask, begin, until};
use crate::web::{Answer, send};

const CORE: Revision = Revision::V2025_11_25;

async fn next(stream: &mut Answer) -> Value {
    let message = stream.message().await.expect("the stream ended");
    schema::check(CORE, &message, Some("tasks/result"));
    message
}

#[tokio::test]
async fn s_task_17_what_a_task_asks_comes_on_the_stream_of_its_result() {
    for over_http in [false, true] {
        let mut client = Client::meet(CORE, over_http, &[]).await;
        let id = begin(&mut client, "job_asking", json!({"seconds": 0})).await;
        until(&mut client, &id, "input_required").await;
        assert!(client.asked.is_empty(), "nothing is asked before somebody waits for the result");
        let result = ask(&mut client, "tasks/result", &id).await.unwrap();
        assert_eq!(text_of(&result), "Done for Ada");
        let question = &client.asked[0];
        assert_eq!((&question["method"], client.asked.len()), (&json!("elicitation/create"), 1));
        assert_eq!(question["params"]["_meta"][RELATED_TASK], json!({"taskId": id}), "s_task_16");
        until(&mut client, &id, "completed").await;
    }
}

#[tokio::test]
async fn s_task_17_a_later_stream_takes_a_question_over_and_the_earlier_one_is_told() {
    let mut client = Client::meet(CORE, true, &[]).await;
    let id = begin(&mut client, "job_asking", json!({"seconds": 0})).await;
    let first = client.compose("tasks/result", json!({"taskId": id}));
    let mut first = client.post(&first).await;
    let asked = next(&mut first).await;
    assert_eq!(asked["method"], "elicitation/create");
    let result = ask(&mut client, "tasks/result", &id).await.unwrap();
    let withdrawn = next(&mut first).await;
    assert_eq!(
        (&withdrawn["method"], &withdrawn["params"]["requestId"]),
        (&json!("notifications/cancelled"), &asked["id"])
    );
    assert_eq!(next(&mut first).await["result"], result, "both waiters get the result");
}

#[tokio::test]
async fn s_task_17_two_questions_at_once_and_a_refusal() {
    let mut client = Client::meet(CORE, false, &["--tools", "conformance"]).await;
    let id = begin(&mut client, "multi_input", json!({})).await;
    assert!(text_of(&ask(&mut client, "tasks/result", &id).await.unwrap()).contains("Ada"));
    assert_eq!(client.asked.len(), 2);
    let id = begin(&mut client, "confirm_delete", json!({"filename": "a.txt"})).await;
    let message = client.compose("tasks/result", json!({"taskId": id}));
    client.server.write(&message.to_string()).await;
    let question = loop {
        let came = client.server.message().await;
        if came["method"] == "elicitation/create" {
            break came;
        }
    };
    let refusal = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}});
    client.server.write(&refusal.to_string()).await;
    while client.server.message().await["id"] != message["id"] {}
    let failed = until(&mut client, &id, "failed").await;
    assert_eq!(failed["statusMessage"], "the client refused: no");
}

#[tokio::test]
async fn s_task_18_a_session_is_told_how_its_task_gets_on() {
    let mut client = Client::meet(CORE, true, &[]).await;
    let (url, session) = (client.url().to_owned(), client.session().to_owned());
    let headers = [("accept", "text/event-stream"), ("mcp-session-id", session.as_str())];
    let mut standing = send(Method::GET, &url, &headers, "").await;
    let params = json!({
        "name": "job", "arguments": {"seconds": 0.1, "steps": 2}, "task": {}, "_meta": {"progressToken": "p"},
    });
    let begun = client.request("tools/call", params).await.unwrap();
    let mut told = Vec::new();
    while told.last() != Some(&"completed".to_owned()) {
        let message = next(&mut standing).await;
        let params = &message["params"];
        if message["method"] == "notifications/progress" {
            assert_eq!(params["progressToken"], "p");
            assert_eq!(params["_meta"][RELATED_TASK], json!({"taskId": begun["task"]["taskId"]}));
            told.push(format!("progress {}", params["progress"]));
        } else {
            assert_eq!(message["method"], "notifications/tasks/status");
            assert_eq!((&params["taskId"], params.get("_meta")), (&begun["task"]["taskId"], None));
            let said = params["statusMessage"].as_str().or(params["status"].as_str());
            told.push(said.unwrap().to_owned());
        }
    }
    assert_eq!(told, ["step 1 of 2", "progress 1", "step 2 of 2", "progress 2", "completed"]);
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_tasks() {
    let mut client = Client::meet(CORE, true, &[]).await;
    begin(&mut client, "job_stubborn", json!({"seconds": 600})).await;
    let first = client.change_session(None).await.unwrap();
    let headers = [("mcp-session-id", first.as_str())];
    assert_eq!(send(Method::DELETE, client.url(), &headers, "").await.status, 204);
    let deadline = tokio::time::Instant::now() + crate::pipe::PATIENCE;
    loop {
        let counted: Value =
            serde_json::from_str(text_of(&client.call("counters", json!({})).await)).unwrap();
        if (&counted["tasks"], &counted["running"]) == (&json!(0), &json!(1)) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "still there: {counted}");
    }
}

#[tokio::test]
async fn s_task_24_a_question_can_be_a_task_of_the_client() {
    for over_http in [false, true] {
        let mut client = Client::meet(CORE, over_http, &[]).await;
        let undeclared = client.call("ask_later", json!({})).await;
        assert_eq!((&undeclared["isError"], client.asked.len()), (&json!(true), 0), "{undeclared}");
        client.capabilities["tasks"] = json!({"requests": {"elicitation": {"create": {}}}});
        client.reopen().await;
        assert_eq!(text_of(&client.call("ask_later", json!({})).await), "Ada, after completed");
        let asked: Vec<_> = client.asked.iter().map(|it| it["method"].as_str().unwrap()).collect();
        assert_eq!(asked, ["elicitation/create", "tasks/get", "tasks/result"]);
        assert_eq!(client.asked[0]["params"]["task"], json!({"ttl": 60_000}));
    }
}
