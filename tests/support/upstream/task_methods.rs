//! What a scripted upstream says of its tasks on the wire, in the dialect of its revision.
//!
//! Owns the methods of both dialects. Always: what the gateway must not ask for (a task of a tool that has none, a
//! cancellation where none is declared, a key that was never asked) is a fault of the story. Not here: the tasks (`tasks`).

use std::sync::Arc;

use serde_json::{Value, json};

use super::task_questions::{answered, inquire, result};
use super::tasks::{Manner, Outcome, Stubborn, Task};
use super::{Call, Shared, UpstreamPlan, locked, standing};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";
pub(super) const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// The plan with tasks.
pub(super) fn serve(mut plan: UpstreamPlan, manner: Manner) -> UpstreamPlan {
    let is_stateless = plan.is_stateless();
    let mut capabilities = plan.declared();
    if is_stateless {
        capabilities["extensions"] = json!({ EXTENSION: {} });
    } else {
        capabilities["tasks"] = json!({ "requests": { "tools": { "call": {} } } });
        for (does, member) in [(manner.cancels, "cancel"), (manner.lists, "list")] {
            if does {
                capabilities["tasks"][member] = json!({});
            }
        }
    }
    plan.set_manner(manner);
    plan = plan.capabilities(capabilities);
    for (name, support) in [("long", "optional"), ("must", "required"), ("never", "forbidden")] {
        let mut tool = json!({ "name": name, "description": name, "inputSchema": { "type": "object" } });
        if !is_stateless {
            tool["execution"] = json!({ "taskSupport": support });
        }
        plan = plan.tool_as(tool);
    }
    plan = plan.on("tools/call", call_tool).on("tasks/get", get).on("tasks/cancel", cancel);
    if is_stateless {
        plan.on("tasks/update", update)
    } else {
        plan.on("tasks/result", result).on("tasks/list", list)
    }
}

/// The call, unless this upstream is stubborn about it.
pub(super) async fn willing(mut call: Call) -> Option<Call> {
    let stubborn = locked(&call.shared.desk).manner.stubborn;
    let Some((_, _, how)) =
        stubborn.filter(|(method, times, _)| *method == call.method() && call.count() <= *times)
    else {
        return Some(call);
    };
    match how {
        Stubborn::Errs(code) => call.error(code, "not now", Value::Null).await,
        Stubborn::Hangs => call.disconnected().await,
        Stubborn::Resets => call.reset().await,
    }
    None
}

/// How a call with these arguments ends.
pub(super) fn outcome(shared: &Shared, arguments: &Value) -> Outcome {
    if let Some(error) = arguments.get("error") {
        return Outcome::Error(error.clone());
    }
    let said = arguments["text"].as_str().unwrap_or("nothing");
    let mut result =
        json!({ "content": [{ "type": "text", "text": format!("{} did {said}", shared.name) }] });
    if let Some(is_error) = arguments.get("isError") {
        result["isError"] = is_error.clone();
    }
    Outcome::Result(result)
}

async fn call_tool(mut call: Call) {
    let shared = Arc::clone(&call.shared);
    let (name, params) = (call.name().to_owned(), call.params().clone());
    let capabilities = &params["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    let is_wished = match shared.is_stateless() {
        true => capabilities["extensions"].get(EXTENSION).is_some(),
        false => params.get("task").is_some(),
    };
    if shared.is_stateless() && params.get("task").is_some() {
        fault(&shared, "the `task` of another era reached a stateless upstream (S-TX-14)");
    }
    match (name.as_str(), is_wished) {
        ("long" | "must", true) => create(call).await,
        ("must", false) if shared.is_stateless() => {
            let data = json!({ "requiredCapabilities": { "extensions": { EXTENSION: {} } } });
            let error = json!({ "code": -32021, "message": "it has to be a task", "data": data });
            let body = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, call.id());
            call.http(400, &[("Content-Type", "application/json")], body.as_bytes()).await;
        }
        ("must", false) => call.error(-32601, "it has to be a task", Value::Null).await,
        (_, true) if !shared.is_stateless() => {
            fault(&shared, &format!("{name} was to be a task, which it cannot be (S-TASK-03)"));
            call.error(-32601, "it cannot be a task", Value::Null).await;
        }
        _ => {
            let arguments = &params["arguments"];
            match arguments["after"].as_u64() {
                Some(after) => call.pause(after).await,
                None if arguments["hold"] == true => call.cancelled().await,
                None => {}
            }
            match outcome(&shared, arguments) {
                Outcome::Result(result) => {
                    let result = call.complete(result);
                    call.result(result).await;
                }
                Outcome::Error(error) => call.raw_error(&error.to_string()).await,
            }
        }
    }
}

impl Call {
    /// Answer a tool call with a task.
    pub(crate) async fn become_a_task(self) {
        create(self).await;
    }
}

async fn create(mut call: Call) {
    let shared = Arc::clone(&call.shared);
    let instead = locked(&shared.desk).manner.creates.clone();
    if let Some(instead) = instead {
        return call.result(instead).await;
    }
    let arguments = call.params()["arguments"].clone();
    let task = shared.create_task(call.received.clone(), call.params()["task"]["ttl"].as_u64());
    let mut result = match shared.is_stateless() {
        true => call.complete(object(&shared, &task)),
        false => json!({ "task": object(&shared, &task) }),
    };
    if shared.is_stateless() {
        result["resultType"] = json!("task");
    }
    if let Some(immediate) = arguments.get("immediate") {
        result["_meta"]["io.modelcontextprotocol/model-immediate-response"] = immediate.clone();
    }
    call.result(result).await;
    for (key, request) in arguments["ask"].as_object().into_iter().flatten() {
        let method = request["method"].as_str().expect("the story names a method");
        inquire(&shared, &task.id, key, method, request["params"].clone());
    }
}

/// A task object without what only `tasks/get` tells.
fn object(shared: &Shared, task: &Task) -> Value {
    let (ttl, poll) =
        if shared.is_stateless() { ("ttlMs", "pollIntervalMs") } else { ("ttl", "pollInterval") };
    let mut object = json!({
        "taskId": task.id, "status": task.status, "createdAt": task.created_at,
        "lastUpdatedAt": task.updated_at, ttl: task.ttl_ms,
    });
    if let Some(poll_ms) = task.poll_ms {
        object[poll] = json!(poll_ms);
    }
    if let Some(message) = &task.message {
        object["statusMessage"] = json!(message);
    }
    for (name, value) in task.members.as_object().into_iter().flatten() {
        object[name] = value.clone();
    }
    object
}

/// The whole state of a task, as `tasks/get` and notifications tell it.
fn detailed(shared: &Shared, task: &Task) -> Value {
    let mut object = object(shared, task);
    if !shared.is_stateless() {
        return object;
    }
    match (&task.outcome, task.status.as_str()) {
        (Some(Outcome::Result(result)), "completed") => object["result"] = result.clone(),
        (Some(Outcome::Error(error)), "failed") => object["error"] = error.clone(),
        (_, "input_required") => {
            let open = task.questions.iter().filter(|(_, question)| question.answer.is_none());
            let requests = open.map(|(key, question)| {
                let request = json!({ "method": question.method, "params": question.params });
                (key.clone(), request)
            });
            object["inputRequests"] = Value::Object(requests.collect());
        }
        _ => {}
    }
    object
}

/// The task that a request means, or the answer that it has none.
pub(super) async fn found(call: &mut Call) -> Option<Task> {
    let id = call.params()["taskId"].as_str().unwrap_or_default().to_owned();
    if call.params()["_meta"].get(RELATED_TASK).is_some() {
        fault(&call.shared, &format!("{} names its task in _meta (S-TASK-16)", call.method()));
    }
    let own = standing::way_of(&call.received);
    let task = {
        let desk = locked(&call.shared.desk);
        let is_ours = |task: &&Task| !desk.manner.is_of_session || standing::way_of(&task.begun_by) == own;
        desk.tasks.get(&id).filter(|task| !task.is_forgotten).filter(is_ours).cloned()
    };
    if task.is_none() {
        call.error(-32602, "Failed to retrieve task: Task not found", Value::Null).await;
    }
    task
}

async fn get(mut call: Call) {
    let Some(task) = found(&mut call).await else { return };
    let shared = Arc::clone(&call.shared);
    if let Some(task) = locked(&shared.desk).tasks.get_mut(&task.id) {
        task.polls.push(tokio::time::Instant::now());
    }
    let result = call.complete(detailed(&shared, &task));
    call.result(result).await;
}

async fn cancel(call: Call) {
    let Some(mut call) = willing(call).await else { return };
    let shared = Arc::clone(&call.shared);
    let manner = locked(&shared.desk).manner.clone();
    if !manner.cancels && !shared.is_stateless() {
        fault(&shared, "tasks/cancel was not declared (S-TASK-15)");
        return call.error(-32601, "no such method", Value::Null).await;
    }
    let Some(task) = found(&mut call).await else { return };
    if task.is_over() && !shared.is_stateless() {
        return call.error(-32602, "Cannot cancel task: it is over", Value::Null).await;
    }
    let task = shared.change_task(&task.id, |task| {
        if !task.is_over() && !manner.ignores_cancel {
            task.status = "cancelled".to_owned();
        }
        task.clone()
    });
    let result = if shared.is_stateless() { call.complete(json!({})) } else { object(&shared, &task) };
    call.result(result).await;
}

async fn list(mut call: Call) {
    let all: Vec<Task> = locked(&call.shared.desk).tasks.values().cloned().collect();
    let tasks: Vec<Value> = all.iter().map(|task| object(&call.shared, task)).collect();
    call.result(json!({ "tasks": tasks })).await;
}

/// Answers to what the extension asked.
async fn update(call: Call) {
    let Some(mut call) = willing(call).await else { return };
    let Some(task) = found(&mut call).await else { return };
    let shared = Arc::clone(&call.shared);
    for (key, answer) in call.params()["inputResponses"].as_object().into_iter().flatten() {
        if !task.questions.contains_key(key) {
            fault(&shared, &format!("{key} was never asked (S-TX-06)"));
            continue;
        }
        answered(&shared, &task.id, key, answer.clone());
    }
    let result = call.complete(json!({}));
    call.result(result).await;
}

/// Tell of a change in the way of the dialect.
pub(super) async fn tell(shared: &Arc<Shared>, id: &str) {
    let Some(task) = locked(&shared.desk).tasks.get(id).cloned() else { return };
    let task = &task;
    if shared.is_stateless() {
        shared.announce_to_listens("notifications/tasks", &detailed(shared, task)).await;
        return;
    }
    let params = object(shared, task);
    let message = json!({ "jsonrpc": "2.0", "method": "notifications/tasks/status", "params": params });
    shared.tell_way(&task.begun_by, &message.to_string()).await;
}

pub(super) fn fault(shared: &Shared, what: &str) {
    println!("   [{}] FAULT {what}", shared.name);
    if !shared.is_lenient {
        locked(&shared.faults).push(what.to_owned());
    }
}
