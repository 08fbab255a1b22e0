//! The official schemas as judges of what the gateway writes.
//!
//! Owns the mapping from methods to schema definitions. Always: a message without a definition in its revision is a
//! fault. Not here: what a message should say; tasks, which no schema of 2026-07-28 describes (`tasks`).

#[path = "task_schema.rs"]
mod tasks;

pub(crate) use tasks::asked_as;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use jsonschema::Validator;
use serde_json::{Value, json};

/// Validators by revision and definition; `None` for what does not exist.
type Judges = HashMap<(String, String), Option<Rc<Validator>>>;

thread_local! {
    static JUDGES: RefCell<Judges> = RefCell::default();
    static SCHEMAS: RefCell<HashMap<String, Rc<Value>>> = RefCell::default();
}

fn schema(revision: &str) -> Rc<Value> {
    SCHEMAS.with_borrow_mut(|schemas| {
        let text = match revision {
            "2024-11-05" => include_str!("../fixtures/schema/2024-11-05/schema.json"),
            "2025-03-26" => include_str!("../fixtures/schema/2025-03-26/schema.json"),
            "2025-06-18" => include_str!("../fixtures/schema/2025-06-18/schema.json"),
            "2025-11-25" => include_str!("../fixtures/schema/2025-11-25/schema.json"),
            "2026-07-28" => include_str!("../fixtures/schema/2026-07-28/schema.json"),
            // What no revision is called is answered in the newest handshake revision.
            _ => include_str!("../fixtures/schema/2025-11-25/schema.json"),
        };
        let parse = || Rc::new(serde_json::from_str(text).expect("the schema files are JSON"));
        Rc::clone(schemas.entry(revision.to_owned()).or_insert_with(parse))
    })
}

fn judge(revision: &str, definition: &str) -> Option<Rc<Validator>> {
    let key = (revision.to_owned(), definition.to_owned());
    if let Some(known) = JUDGES.with_borrow(|judges| judges.get(&key).cloned()) {
        return known;
    }
    let schema = schema(revision);
    let place = if schema.get("$defs").is_some() { "$defs" } else { "definitions" };
    let judge = schema[place].get(definition).map(|_| {
        let whole = json!({
            "$schema": schema["$schema"],
            "allOf": [{ "$ref": format!("#/{place}/{definition}") }],
            place: schema[place],
        });
        Rc::new(jsonschema::validator_for(&whole).expect("the official schemas compile"))
    });
    JUDGES.with_borrow_mut(|judges| judges.insert(key, judge.clone()));
    judge
}

/// Every way in which `value` differs from a definition of a revision.
pub(crate) fn faults(revision: &str, definition: &str, value: &Value) -> Vec<String> {
    match judge(revision, definition) {
        None => vec![format!("{definition} does not exist in {revision}")],
        Some(judge) => judge
            .iter_errors(value)
            .map(|fault| format!("{definition}: {fault} at {}", fault.instance_path()))
            .collect(),
    }
}

fn result_definition(method: &str) -> Option<&'static str> {
    Some(match method {
        "initialize" => "InitializeResult",
        "server/discover" => "DiscoverResult",
        "tools/list" => "ListToolsResult",
        "tools/call" => "CallToolResult",
        "tasks/get" => "GetTaskResult",
        "tasks/result" => "GetTaskPayloadResult",
        "tasks/cancel" => "CancelTaskResult",
        "tasks/list" => "ListTasksResult",
        "prompts/list" => "ListPromptsResult",
        "prompts/get" => "GetPromptResult",
        "resources/list" => "ListResourcesResult",
        "resources/templates/list" => "ListResourceTemplatesResult",
        "resources/read" => "ReadResourceResult",
        "subscriptions/listen" => "SubscriptionsListenResult",
        "completion/complete" => "CompleteResult",
        "sampling/createMessage" => "CreateMessageResult",
        "elicitation/create" => "ElicitResult",
        "roots/list" => "ListRootsResult",
        "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => "EmptyResult",
        _ => return None,
    })
}

fn message_definition(method: &str) -> Option<&'static str> {
    Some(match method {
        "initialize" => "InitializeRequest",
        "ping" => "PingRequest",
        "server/discover" => "DiscoverRequest",
        "subscriptions/listen" => "SubscriptionsListenRequest",
        "tools/list" => "ListToolsRequest",
        "tools/call" => "CallToolRequest",
        "tasks/get" => "GetTaskRequest",
        "tasks/result" => "GetTaskPayloadRequest",
        "tasks/cancel" => "CancelTaskRequest",
        "tasks/list" => "ListTasksRequest",
        "notifications/tasks/status" => "TaskStatusNotification",
        "prompts/list" => "ListPromptsRequest",
        "prompts/get" => "GetPromptRequest",
        "resources/list" => "ListResourcesRequest",
        "resources/templates/list" => "ListResourceTemplatesRequest",
        "resources/read" => "ReadResourceRequest",
        "resources/subscribe" => "SubscribeRequest",
        "resources/unsubscribe" => "UnsubscribeRequest",
        "completion/complete" => "CompleteRequest",
        "logging/setLevel" => "SetLevelRequest",
        "sampling/createMessage" => "CreateMessageRequest",
        "elicitation/create" => "ElicitRequest",
        "roots/list" => "ListRootsRequest",
        "notifications/initialized" => "InitializedNotification",
        "notifications/cancelled" => "CancelledNotification",
        "notifications/progress" => "ProgressNotification",
        "notifications/message" => "LoggingMessageNotification",
        "notifications/resources/updated" => "ResourceUpdatedNotification",
        "notifications/resources/list_changed" => "ResourceListChangedNotification",
        "notifications/tools/list_changed" => "ToolListChangedNotification",
        "notifications/prompts/list_changed" => "PromptListChangedNotification",
        "notifications/roots/list_changed" => "RootsListChangedNotification",
        "notifications/elicitation/complete" => "ElicitationCompleteNotification",
        "notifications/subscriptions/acknowledged" => "SubscriptionsAcknowledgedNotification",
        _ => return None,
    })
}

/// Which request a response answers, as far as it matters to its form.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answers<'a> {
    /// The request of this method.
    Method(&'a str),
    /// Nothing the gateway could read.
    Unreadable,
}

/// Every fault of one message in `revision`.
pub(crate) fn message_faults(revision: &str, message: &Value, answers: Answers<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    match message.get("method").and_then(Value::as_str) {
        Some(method) if tasks::is_of_extension(revision, method) => {
            faults.extend(tasks::message_faults(method, &message["params"]));
        }
        Some(method) => match message_definition(method) {
            Some(definition) => faults.extend(self::faults(revision, definition, message)),
            None => faults.push(format!("{method} is no method of any revision")),
        },
        None if message.get("error").is_some() => faults.extend(error_faults(revision, message, answers)),
        None => faults.extend(result_faults(revision, message, answers)),
    }
    if message["jsonrpc"] != "2.0" {
        faults.push("jsonrpc is not \"2.0\"".to_owned());
    }
    faults
}

/// Every fault of an answer to a question that a server asked with `method`.
pub(crate) fn answer_faults(revision: &str, method: &str, message: &Value) -> Vec<String> {
    match (message.get("error"), message.get("result")) {
        (Some(error), None) if error["code"].is_i64() && error["message"].is_string() => Vec::new(),
        (None, Some(result)) if result["task"].is_object() => faults(revision, "CreateTaskResult", result),
        (None, Some(result)) => match result_definition(method) {
            Some(definition) => faults(revision, definition, result),
            None => Vec::new(),
        },
        _ => vec!["neither a result nor an error".to_owned()],
    }
}

fn error_faults(revision: &str, message: &Value, answers: Answers<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let error = &message["error"];
    if !error["message"].is_string() {
        faults.push("the error has no message".to_owned());
    }
    match (error["code"].as_i64(), revision) {
        (None, _) => faults.push("the error has no integer code".to_owned()),
        (Some(-32022..=-32020), "2026-07-28") => {}
        (Some(code @ (-32002 | -32042)), "2026-07-28") => {
            faults.push(format!("{code} never goes to stateless clients"))
        }
        (Some(-32042), super::HANDSHAKE) => {
            faults.extend(self::faults(revision, "URLElicitationRequiredError", message));
        }
        (Some(-32042), _) => faults.push(format!("-32042 does not exist in {revision}")),
        (Some(code @ -32022..=-32020), _) => faults.push(format!("{code} never goes to handshake clients")),
        (Some(code @ -32099..=-32023), _) => faults.push(format!("{code} is reserved")),
        _ => {}
    }
    let id = message.get("id").unwrap_or(&Value::Null);
    if id.is_null() && matches!(answers, Answers::Method(_)) {
        faults.push("an error without the id of its request".to_owned());
    }
    faults
}

/// Whether a result asks for input instead of being final.
fn asks(revision: &str, result: &Value) -> bool {
    revision == super::STATELESS && result["resultType"] == "input_required"
}

fn result_faults(revision: &str, message: &Value, answers: Answers<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(result) = message.get("result") else {
        return vec!["neither method, result nor error".to_owned()];
    };
    if !message["id"].is_string() && !message["id"].is_number() {
        faults.push("a result without id".to_owned());
    }
    match answers {
        Answers::Unreadable => faults.push("a result to an unreadable request".to_owned()),
        Answers::Method(method) if asks(revision, result) => {
            if !matches!(tasks::method_of(method), "tools/call" | "prompts/get" | "resources/read") {
                faults.push(format!("{method} asks nothing (S-MRTR-01)"));
            }
            faults.extend(self::faults(revision, "InputRequiredResult", result));
        }
        Answers::Method(asked) if tasks::is_told_otherwise(revision, asked, result) => {
            faults.extend(tasks::result_faults(revision, asked, result));
        }
        Answers::Method(asked) => match result_definition(tasks::method_of(asked)) {
            Some("EmptyResult") if revision != super::STATELESS && *result != json!({}) => {
                faults.push(format!("the result of {asked} is not exactly {{}}"));
            }
            Some(definition) => faults.extend(self::faults(revision, definition, result)),
            None => faults.push(format!("a result for {asked}, which no revision knows")),
        },
    }
    if revision != super::STATELESS {
        for member in ["resultType", "ttlMs", "cacheScope"] {
            if result.get(member).is_some() {
                faults.push(format!("{member} on a result of {revision}"));
            }
        }
        if result["_meta"].get("io.modelcontextprotocol/serverInfo").is_some() {
            faults.push("serverInfo in _meta on a handshake result".to_owned());
        }
    } else if result["_meta"].get("io.modelcontextprotocol/serverInfo").is_none() {
        faults.push("no serverInfo in _meta on a stateless result (S-BASE-12)".to_owned());
    }
    faults
}
