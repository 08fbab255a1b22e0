//! The official schemas, and which definition a message must fit.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use jsonschema::Validator;
use serde_json::{Value, json};
use switchyard::protocol::era::Revision;

fn text(revision: Revision) -> &'static str {
    match revision {
        Revision::V2024_11_05 => include_str!("../fixtures/schema/2024-11-05/schema.json"),
        Revision::V2025_03_26 => include_str!("../fixtures/schema/2025-03-26/schema.json"),
        Revision::V2025_06_18 => include_str!("../fixtures/schema/2025-06-18/schema.json"),
        Revision::V2025_11_25 => include_str!("../fixtures/schema/2025-11-25/schema.json"),
        Revision::V2026_07_28 => include_str!("../fixtures/schema/2026-07-28/schema.json"),
    }
}

fn definitions_key(revision: Revision) -> &'static str {
    if revision >= Revision::V2025_11_25 { "$defs" } else { "definitions" }
}

thread_local! {
    static VALIDATORS: RefCell<HashMap<(Revision, String), Rc<Validator>>> = RefCell::default();
}

fn validator(revision: Revision, definition: &str) -> Rc<Validator> {
    VALIDATORS.with_borrow_mut(|known| {
        let key = (revision, definition.to_owned());
        let entry = known.entry(key).or_insert_with(|| {
            let mut schema: Value = serde_json::from_str(text(revision)).unwrap();
            let definitions = definitions_key(revision);
            assert!(schema[definitions].get(definition).is_some(), "{revision} has no {definition}");
            schema["$ref"] = json!(format!("#/{definitions}/{definition}"));
            Rc::new(jsonschema::validator_for(&schema).unwrap())
        });
        Rc::clone(entry)
    })
}

fn must_fit(revision: Revision, definition: &str, value: &Value) {
    let validator = validator(revision, definition);
    let faults: Vec<_> =
        validator.iter_errors(value).map(|fault| format!("{fault} at {}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "not a {definition} of {revision}: {faults:?}\n{value:#}");
}

/// Checks a message of the server. `asked` is the method that a response answers.
pub(crate) fn check(revision: Revision, message: &Value, asked: Option<&str>) {
    must_fit(revision, "JSONRPCMessage", message);
    if let Some(method) = message["method"].as_str() {
        assert_eq!(message.get("id").is_some(), !method.starts_with("notifications/"), "{message}");
        assert!(
            message.get("id").is_none() || revision < Revision::V2026_07_28,
            "no requests from a stateless server: {message}"
        );
        if method == "notifications/tasks" && revision == Revision::V2026_07_28 {
            return check_extension_task(&message["params"], false);
        }
        return must_fit(revision, definition_of(method), message);
    }
    if let Some(error) = message.get("error") {
        return check_error(revision, message, error);
    }
    let asked = asked.unwrap_or_else(|| panic!("a response to nothing: {message}"));
    let definition = match message["result"]["resultType"].as_str() {
        Some("input_required") => "InputRequiredResult",
        Some("task") => {
            assert_eq!(asked, "tools/call");
            return check_extension_task(&message["result"], true);
        }
        _ if revision == Revision::V2026_07_28 && asked == "tasks/get" => {
            return check_extension_task(&message["result"], false);
        }
        _ if revision == Revision::V2025_11_25 && message["result"].get("task").is_some() => {
            "CreateTaskResult"
        }
        _ => result_of(asked, revision),
    };
    must_fit(revision, definition, &message["result"]);
    if revision < Revision::V2026_07_28 {
        assert!(message["result"].get("resultType").is_none(), "{message}");
        assert!(definition != "EmptyResult" || message["result"] == json!({}), "{message}");
    }
}

/// Holds a task against the extension's specification, which has no schema of its own. `begun` as the answer to a call.
pub(crate) fn check_extension_task(task: &Value, begun: bool) {
    for key in ["taskId", "createdAt", "lastUpdatedAt"] {
        assert!(task[key].is_string(), "{key} of {task}");
    }
    for key in ["ttlMs", "pollIntervalMs"] {
        assert!(task[key].as_u64().is_some_and(|it| it > 0), "{key} of {task}");
    }
    for key in ["ttl", "pollInterval", "task", "requestState"] {
        assert!(task.get(key).is_none(), "{key} of {task}");
    }
    let status = task["status"].as_str().unwrap();
    assert!(["working", "input_required", "completed", "failed", "cancelled"].contains(&status), "{task}");
    for (key, owner) in [("result", "completed"), ("error", "failed"), ("inputRequests", "input_required")] {
        assert_eq!(task.get(key).is_some(), status == owner && !begun, "{key} of {task}");
    }
    if let Some(result) = task.get("result") {
        must_fit(Revision::V2026_07_28, "CallToolResult", result);
    }
}

fn check_error(revision: Revision, message: &Value, error: &Value) {
    let code = error["code"].as_i64().unwrap();
    if revision >= Revision::V2026_07_28 {
        assert!(code != -32002 && code != -32042, "{message}");
        match code {
            -32020 => must_fit(revision, "HeaderMismatchError", message),
            -32021 => must_fit(revision, "MissingRequiredClientCapabilityError", message),
            -32022 => must_fit(revision, "UnsupportedProtocolVersionError", message),
            _ => must_fit(revision, "JSONRPCErrorResponse", message),
        }
    } else {
        assert!(!(-32022..=-32020).contains(&code), "{message}");
    }
}

fn definition_of(method: &str) -> &'static str {
    match method {
        "sampling/createMessage" => "CreateMessageRequest",
        "elicitation/create" => "ElicitRequest",
        "roots/list" => "ListRootsRequest",
        "notifications/progress" => "ProgressNotification",
        "notifications/elicitation/complete" => "ElicitationCompleteNotification",
        "notifications/message" => "LoggingMessageNotification",
        "notifications/cancelled" => "CancelledNotification",
        "notifications/tools/list_changed" => "ToolListChangedNotification",
        "notifications/prompts/list_changed" => "PromptListChangedNotification",
        "notifications/resources/updated" => "ResourceUpdatedNotification",
        "notifications/subscriptions/acknowledged" => "SubscriptionsAcknowledgedNotification",
        "tasks/get" => "GetTaskRequest",
        "tasks/result" => "GetTaskPayloadRequest",
        "notifications/tasks/status" => "TaskStatusNotification",
        other => panic!("the server must not send {other}"),
    }
}

fn result_of(method: &str, revision: Revision) -> &'static str {
    match method {
        "initialize" => "InitializeResult",
        "server/discover" => "DiscoverResult",
        "tools/list" => "ListToolsResult",
        "tools/call" => "CallToolResult",
        "prompts/list" => "ListPromptsResult",
        "prompts/get" => "GetPromptResult",
        "resources/list" => "ListResourcesResult",
        "resources/templates/list" => "ListResourceTemplatesResult",
        "resources/read" => "ReadResourceResult",
        "completion/complete" => "CompleteResult",
        "subscriptions/listen" => "SubscriptionsListenResult",
        "tasks/get" => "GetTaskResult",
        "tasks/cancel" if revision == Revision::V2025_11_25 => "CancelTaskResult",
        "tasks/list" => "ListTasksResult",
        "tasks/result" => "CallToolResult",
        "tasks/update" | "tasks/cancel" => "EmptyResult",
        _ if revision < Revision::V2026_07_28 => "EmptyResult",
        other => panic!("{other} is not a method of {revision}"),
    }
}

#[test]
fn the_check_notices_what_does_not_fit() {
    let refuses = |revision, message: Value, asked| {
        std::panic::catch_unwind(move || check(revision, &message, asked)).is_err()
    };
    let list = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": []}});
    assert!(!refuses(Revision::V2025_11_25, list.clone(), Some("tools/list")));
    assert!(refuses(Revision::V2026_07_28, list, Some("tools/list")));
    let stray = json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list", "params": {}});
    assert!(refuses(Revision::V2026_07_28, stray, None));
}
