//! Tasks of 2025-11-25: begun by the client, its own, and done with by `tasks/get`, `result`, `list` and `cancel`.

use std::time::Duration;

use serde_json::{Value, json};
use switchyard::protocol::era::{REVISIONS, Revision};
use tokio::time::{Instant, sleep};

use crate::client::{Client, RELATED_TASK, text_of};
use crate::pipe::PATIENCE;

const CORE: Revision = Revision::V2025_11_25;

/// Calls a tool as a task and gives its id.
pub(crate) async fn begin(client: &mut Client, tool: &str, arguments: Value) -> String {
    let params = json!({"name": tool, "arguments": arguments, "task": {}});
    let begun = client.request("tools/call", params).await.unwrap();
    let task = &begun["task"];
    assert_eq!((&task["status"], begun.get("content")), (&json!("working"), None), "{begun}");
    assert_eq!(begun["_meta"][RELATED_TASK], json!({"taskId": task["taskId"]}));
    task["taskId"].as_str().unwrap().to_owned()
}

pub(crate) async fn ask(client: &mut Client, method: &str, id: &str) -> Result<Value, Value> {
    client.request(method, json!({"taskId": id})).await
}

/// Looks until the task has that status.
pub(crate) async fn until(client: &mut Client, id: &str, status: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let task = ask(client, "tasks/get", id).await.unwrap();
        assert!(task.get("_meta").is_none(), "a task names itself: {task}");
        if task["status"] == status {
            return task;
        }
        assert!(Instant::now() < deadline, "never {status}: {task}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn s_task_01_one_revision_declares_tasks_and_tells_how_each_tool_stands_to_them() {
    for revision in REVISIONS {
        let mut client = Client::meet(revision, false, &[]).await;
        let declared = client.met["capabilities"].get("tasks").cloned();
        let whole = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
        assert_eq!(declared, (revision == CORE).then_some(whole), "{revision}");
        let listed = client.request("tools/list", json!({})).await.unwrap();
        let told: Vec<_> =
            listed["tools"].as_array().unwrap().iter().filter_map(|tool| tool.get("execution")).collect();
        assert_eq!(told.len(), if revision == CORE { 7 } else { 0 }, "{revision}");
    }
}

#[tokio::test]
async fn s_task_03_each_kind_of_tool_takes_the_style_of_call_that_it_tells() {
    let mut client = Client::meet(CORE, false, &[]).await;
    for (tool, plain, as_task) in
        [("job", true, true), ("job_only", false, true), ("job_never", true, false), ("slow", true, false)]
    {
        let arguments = json!({"seconds": 0});
        let params = json!({"name": tool, "arguments": arguments});
        let called = client.request("tools/call", params.clone()).await;
        assert_eq!(
            called.map_err(|error| error["code"].clone()).err(),
            (!plain).then(|| json!(-32601)),
            "{tool}"
        );
        let mut params = params;
        params["task"] = json!({});
        let called = client.request("tools/call", params).await;
        assert_eq!(
            called.map_err(|error| error["code"].clone()).err(),
            (!as_task).then(|| json!(-32601)),
            "{tool}"
        );
    }
}

#[tokio::test]
async fn s_task_04_older_revisions_know_nothing_of_tasks() {
    let mut client = Client::meet(Revision::V2025_06_18, false, &[]).await;
    let params = json!({"name": "job_only", "arguments": {"seconds": 0}, "task": "nonsense"});
    assert_eq!(text_of(&client.request("tools/call", params).await.unwrap()), "Done after 0 s");
    for method in ["tasks/get", "tasks/result", "tasks/list", "tasks/cancel"] {
        assert_eq!(ask(&mut client, method, "any").await.unwrap_err()["code"], -32601, "{method}");
    }
}

#[tokio::test]
async fn s_task_11_a_task_is_begun_looked_at_and_gives_its_result_as_often_as_asked() {
    for over_http in [false, true] {
        let mut client = Client::meet(CORE, over_http, &[]).await;
        let began = Instant::now();
        let id = begin(&mut client, "job", json!({"seconds": 1.5})).await;
        let task = ask(&mut client, "tasks/get", &id).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(1200), "begun and looked at before it is over");
        assert_eq!((&task["taskId"], &task["status"]), (&json!(id), &json!("working")));
        for _ in 0..2 {
            let result = ask(&mut client, "tasks/result", &id).await.unwrap();
            assert_eq!(text_of(&result), "Done after 1.5 s");
            assert_eq!(result["_meta"][RELATED_TASK], json!({"taskId": id}));
        }
        assert!(began.elapsed() >= Duration::from_millis(1500));
        assert_eq!(until(&mut client, &id, "completed").await.get("statusMessage"), None);
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            let unknown = ask(&mut client, method, "00000000000000000000000000000000").await.unwrap_err();
            assert_eq!(unknown["code"], -32602, "{method}");
        }
    }
}

#[tokio::test]
async fn s_task_12_both_ways_to_fail_make_a_failed_task_and_come_out_as_they_were() {
    let mut client = Client::meet(CORE, false, &[]).await;
    let failing = begin(&mut client, "job_failing", json!({"seconds": 0})).await;
    let result = ask(&mut client, "tasks/result", &failing).await.unwrap();
    assert_eq!((&result["isError"], text_of(&result)), (&json!(true), "the job failed"));
    let crashing = begin(&mut client, "job_crashing", json!({"seconds": 0})).await;
    let error = ask(&mut client, "tasks/result", &crashing).await.unwrap_err();
    assert_eq!(error, json!({"code": -32603, "message": "the job crashed", "data": {"job": "job_crashing"}}));
    for (id, reason) in [(failing, "the job failed"), (crashing, "the job crashed")] {
        let task = ask(&mut client, "tasks/get", &id).await.unwrap();
        assert_eq!((&task["status"], &task["statusMessage"]), (&json!("failed"), &json!(reason)));
    }
}

#[tokio::test]
async fn s_task_13_the_list_has_pages_and_only_the_session_s_own() {
    let mut client = Client::meet(CORE, true, &["--page-size", "2"]).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(begin(&mut client, "job", json!({"seconds": 600})).await);
    }
    let (mut found, mut cursor, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        let page = client.request("tasks/list", params).await.unwrap();
        assert!(page.get("_meta").is_none());
        found.extend(
            page["tasks"].as_array().unwrap().iter().map(|it| it["taskId"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match page.get("nextCursor") {
            Some(next) => cursor = next.clone(),
            None => break,
        }
    }
    assert_eq!((found, pages), (ids.clone(), 3));
    let bad = client.request("tasks/list", json!({"cursor": "made-up"})).await.unwrap_err();
    assert_eq!(bad["code"], -32602);
    let first = client.change_session(None).await;
    assert_eq!(client.request("tasks/list", json!({})).await.unwrap()["tasks"], json!([]));
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        let foreign = ask(&mut client, method, &ids[0]).await.unwrap_err();
        let unknown = ask(&mut client, method, "made-up").await.unwrap_err();
        assert_eq!((&foreign["code"], &foreign), (&json!(-32602), &unknown), "{method}");
    }
    client.change_session(first).await;
    assert_eq!(ask(&mut client, "tasks/get", &ids[0]).await.unwrap()["status"], "working");
}

#[tokio::test]
async fn s_task_15_a_cancelled_task_stays_cancelled_though_its_work_may_go_on() {
    let mut client = Client::meet(CORE, false, &[]).await;
    for (tool, goes_on) in [("job", false), ("job_stubborn", true)] {
        let id = begin(&mut client, tool, json!({"seconds": 0.8})).await;
        assert_eq!(ask(&mut client, "tasks/cancel", &id).await.unwrap()["status"], "cancelled");
        let running = |text: &str| serde_json::from_str::<Value>(text).unwrap()["running"].clone();
        let counted = client.call("counters", json!({})).await;
        // The call of `counters` runs as well.
        assert_eq!(running(text_of(&counted)) == 2, goes_on, "{tool}: {counted}");
        let deadline = Instant::now() + PATIENCE;
        while running(text_of(&client.call("counters", json!({})).await)) != 1 {
            assert!(Instant::now() < deadline, "{tool} never stops");
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(ask(&mut client, "tasks/get", &id).await.unwrap()["status"], "cancelled", "{tool}");
        assert_eq!(ask(&mut client, "tasks/cancel", &id).await.unwrap_err()["code"], -32602, "{tool}");
        assert_eq!(ask(&mut client, "tasks/result", &id).await.unwrap_err()["code"], -32603, "{tool}");
    }
}

#[tokio::test]
async fn s_task_08_a_task_lives_for_its_ttl_and_no_longer() {
    let mut client = Client::meet(CORE, false, &[]).await;
    for ttl in [json!("long"), json!(-1), json!(null)] {
        let params = json!({"name": "job", "arguments": {}, "task": {"ttl": ttl}});
        assert_eq!(client.request("tools/call", params).await.unwrap_err()["code"], -32602, "{ttl}");
    }
    let params = json!({"name": "job", "arguments": {"seconds": 0}, "task": {"ttl": 1e12}});
    let begun = client.request("tools/call", params).await.unwrap();
    assert_eq!(begun["task"]["ttl"], 3_600_000, "what is asked for is cut to an hour");
    // One that ends in time and one that does not: both are gone at the end of their time.
    for seconds in [0, 600] {
        let params = json!({"name": "job", "arguments": {"seconds": seconds}, "task": {"ttl": 700}});
        let begun = client.request("tools/call", params).await.unwrap();
        let (began, id) = (Instant::now(), begun["task"]["taskId"].as_str().unwrap().to_owned());
        while let Ok(task) = ask(&mut client, "tasks/get", &id).await {
            assert!(began.elapsed() < PATIENCE, "never gone: {task}");
            sleep(Duration::from_millis(20)).await;
        }
        assert!(began.elapsed() > Duration::from_millis(600), "not before its time");
    }
}
