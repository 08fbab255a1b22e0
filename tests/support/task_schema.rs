//! What both dialects of tasks may look like on the wire: the schema of 2025-11-25 says one, the text of SEP-2663 the other.
//!
//! Owns the forms of task objects. Always: a result is judged by what was asked, so that a task that nobody asked for is a
//! fault. Not here: whether a task is in the right state.

use serde_json::{Value, json};

use super::faults;
use crate::support::{HANDSHAKE, STATELESS};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// A call that was augmented with `task`, as the method that was asked.
const AS_TASK: &str = "tools/call as a task";

/// A call of a stateless client that declared the extension.
const DECLARED: &str = "tools/call declaring tasks";

/// Under which name a request is remembered, so that its answer is judged by what it asked for.
pub(crate) fn asked_as(revision: &str, method: &str, params: &Value) -> String {
    let capabilities = &params["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    let declares = capabilities["extensions"].get(EXTENSION).is_some();
    match method {
        "tools/call" if revision == HANDSHAKE && params.get("task").is_some() => AS_TASK.to_owned(),
        "tools/call" if revision == STATELESS && declares => DECLARED.to_owned(),
        _ => method.to_owned(),
    }
}

/// The method behind [`asked_as`].
pub(super) fn method_of(asked: &str) -> &str {
    if asked == AS_TASK || asked == DECLARED { "tools/call" } else { asked }
}

/// Whether a method has its form from the extension.
pub(super) fn is_of_extension(revision: &str, method: &str) -> bool {
    revision == STATELESS && (method.starts_with("tasks/") || method == "notifications/tasks")
}

/// Whether a result is not of the form that the schema has for its method.
pub(super) fn is_told_otherwise(revision: &str, asked: &str, result: &Value) -> bool {
    match revision {
        STATELESS => asked.starts_with("tasks/") || result["resultType"] == "task",
        _ => asked.starts_with("tasks/") || result.get("task").is_some_and(Value::is_object),
    }
}

/// Every fault of a request or notification of the extension.
pub(super) fn message_faults(method: &str, params: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if method == "notifications/tasks" {
        faults.extend(detailed_faults(params));
        if params.get("resultType").is_some() {
            faults.push("resultType on a notification".to_owned());
        }
        return faults;
    }
    if params["taskId"].as_str().is_none_or(str::is_empty) {
        faults.push(format!("{method} without taskId"));
    }
    if !matches!(method, "tasks/get" | "tasks/update" | "tasks/cancel") {
        faults.push(format!("{method} does not exist in the extension (S-TX-09)"));
    }
    if method == "tasks/update" && !params["inputResponses"].is_object() {
        faults.push("tasks/update without inputResponses (S-TX-06)".to_owned());
    }
    faults
}

/// Every fault of a result that [`is_told_otherwise`].
pub(super) fn result_faults(revision: &str, asked: &str, result: &Value) -> Vec<String> {
    if revision != STATELESS {
        return core_faults(revision, asked, result);
    }
    let mut faults = Vec::new();
    match asked {
        "tasks/get" => faults.extend(detailed_faults(result)),
        "tasks/update" | "tasks/cancel" => {
            let extra = result.as_object().into_iter().flatten();
            faults.extend(
                extra
                    .filter(|(name, _)| !matches!(name.as_str(), "resultType" | "_meta"))
                    .map(|(name, _)| format!("{name} in an empty acknowledgement of {asked}")),
            );
        }
        DECLARED => {
            faults.extend(flat_faults(result));
            for member in ["result", "error", "inputRequests"] {
                if result.get(member).is_some() {
                    faults.push(format!("{member} in a CreateTaskResult (S-TX-03)"));
                }
            }
        }
        _ => faults.push(format!("a task, or a result, for {asked} (S-TX-02, S-TX-09)")),
    }
    let expected = if asked == DECLARED { "task" } else { "complete" };
    if result["resultType"] != expected {
        faults.push(format!("resultType of {asked} is not {expected:?}"));
    }
    faults
}

fn core_faults(revision: &str, asked: &str, result: &Value) -> Vec<String> {
    if asked == "tasks/result" {
        let mut faults = faults(revision, "CallToolResult", result);
        if !result["_meta"][RELATED_TASK]["taskId"].is_string() {
            faults.push("the result of a task does not name it (S-TASK-11)".to_owned());
        }
        return faults;
    }
    if let "tasks/get" | "tasks/cancel" | "tasks/list" = asked {
        return told_faults(revision, asked, result);
    }
    if asked != AS_TASK {
        return vec![format!("a task for {asked}, which was not asked for")];
    }
    let mut faults = faults(revision, "CreateTaskResult", result);
    for member in ["content", "structuredContent", "isError"] {
        if result.get(member).is_some() {
            faults.push(format!("{member} beside the task (S-TASK-05)"));
        }
    }
    faults.extend(time_faults(&result["task"]));
    faults
}

/// Every fault of a result that tells of tasks in the core dialect.
fn told_faults(revision: &str, asked: &str, result: &Value) -> Vec<String> {
    let definition = match asked {
        "tasks/get" => "GetTaskResult",
        "tasks/cancel" => "CancelTaskResult",
        _ => "ListTasksResult",
    };
    let mut faults = faults(revision, definition, result);
    match result["tasks"].as_array() {
        Some(tasks) => faults.extend(tasks.iter().flat_map(time_faults)),
        None => faults.extend(time_faults(result)),
    }
    if result["_meta"].get(RELATED_TASK).is_some() {
        faults.push(format!("the result of {asked} names its task in _meta (S-TASK-16)"));
    }
    faults
}

/// The members that every task of the extension has, and those it must not have (S-TX-03).
fn flat_faults(task: &Value) -> Vec<String> {
    let mut faults = time_faults(task);
    if task["taskId"].as_str().is_none_or(str::is_empty) {
        faults.push("no taskId".to_owned());
    }
    match task.get("ttlMs") {
        Some(Value::Null) => {}
        Some(ttl) if ttl.as_u64().is_some_and(|ttl| ttl > 0) => {}
        other => faults.push(format!("ttlMs is {other:?}")),
    }
    if task.get("pollIntervalMs").is_some_and(|poll| !poll.is_u64()) {
        faults.push(format!("pollIntervalMs is {}", task["pollIntervalMs"]));
    }
    for member in ["task", "ttl", "pollInterval", "requestState"] {
        if task.get(member).is_some() {
            faults.push(format!("{member} in a task of the extension (S-TX-03)"));
        }
    }
    faults
}

/// What `tasks/get` and `notifications/tasks` tell (S-TX-05).
fn detailed_faults(task: &Value) -> Vec<String> {
    let mut faults = flat_faults(task);
    let status = task["status"].as_str().unwrap_or_default();
    let owed = match status {
        "input_required" => Some("inputRequests"),
        "completed" => Some("result"),
        "failed" => Some("error"),
        "working" | "cancelled" => None,
        other => {
            faults.push(format!("the status is {other:?}"));
            None
        }
    };
    for member in ["inputRequests", "result", "error"] {
        if task.get(member).is_some() != (owed == Some(member)) {
            faults.push(format!("{member} and the status {status:?} do not agree (S-TX-05)"));
        }
    }
    for (key, request) in task["inputRequests"].as_object().into_iter().flatten() {
        let message =
            json!({ "jsonrpc": "2.0", "id": key, "method": request["method"], "params": request["params"] });
        if message["method"].as_str().is_none() || request.get("id").is_some() {
            faults.push(format!("{key} asks nothing: {request}"));
        }
    }
    if let Some(result) = task.get("result") {
        if !result["content"].is_array() {
            faults.push(format!("the inlined result is none: {result}"));
        }
        if result["_meta"].get(RELATED_TASK).is_some() {
            faults.push("the inlined result names its task in _meta (S-TX-13)".to_owned());
        }
    }
    if let Some(error) = task.get("error")
        && !(error["code"].is_i64() && error["message"].is_string())
    {
        faults.push(format!("the inlined error is none: {error}"));
    }
    faults
}

/// Times are ISO 8601 and in order.
fn time_faults(task: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for member in ["createdAt", "lastUpdatedAt"] {
        let text = task[member].as_str().unwrap_or_default();
        let bytes = text.as_bytes();
        let is_date = bytes.len() >= 20
            && bytes[..19].iter().enumerate().all(|(at, byte)| match at {
                4 | 7 => *byte == b'-',
                10 => *byte == b'T',
                13 | 16 => *byte == b':',
                _ => byte.is_ascii_digit(),
            });
        if !is_date || !(text.ends_with('Z') || text[19..].contains(['+', '-'])) {
            faults.push(format!("{member} is no time: {text:?}"));
        }
    }
    faults
}
