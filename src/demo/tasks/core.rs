//! Tasks as 2025-11-25 has them.
//!
//! Always: every message about a task names it in its metadata, but for those that name it elsewhere: `tasks/get`, `tasks/list`,
//! `tasks/cancel` and the notification of its status.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::task::Task;
use super::view::{Audience, Ending, View};
use super::{Support, work};
use crate::demo::call::{Call, Stop};
use crate::demo::input::Input;
use crate::demo::methods::{read_cursor, write_cursor};
use crate::demo::session::Session;
use crate::demo::shape;
use crate::demo::wire::{self, Fault, INTERNAL_ERROR, METHOD_NOT_FOUND, Object, object};

/// Metadata key that names the task a message is about.
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// Metadata key of what a model can be told while the task is at work.
const IMMEDIATE_RESPONSE: &str = "io.modelcontextprotocol/model-immediate-response";
/// How often a client should look, in milliseconds.
pub(super) const POLL_MS: u64 = 100;

pub(crate) fn is_method(method: &str) -> bool {
    matches!(method, "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/list")
}

pub(crate) async fn perform(call: &Call, method: &str, params: &Object) -> Result<Object, Stop> {
    if method == "tasks/list" {
        return Ok(list(call, params)?);
    }
    let task = call.server.tasks.named(&call.caller, params)?;
    match method {
        "tasks/result" => result(call, &task).await,
        "tasks/cancel" if !task.cancel("cancelled on request") => {
            let reason = format!("the task is over already: it is {}", task.view().status.text());
            Err(Fault::invalid_params(reason).into())
        }
        _ => Ok(described(&task, &task.view())),
    }
}

/// What answers a call that asks to be a task; nothing for one that does not.
pub(super) fn begin(
    call: &Call,
    tool: &Value,
    params: &Object,
    arguments: &Object,
) -> Result<Option<Object>, Fault> {
    let refused = |reason: &str| Fault::new(METHOD_NOT_FOUND, format!("{}: {reason}", tool["name"]));
    let Some(asked) = params.get("task") else {
        return match Support::of(tool) {
            Support::Required => Err(refused("this tool must be called as a task")),
            _ => Ok(None),
        };
    };
    let ttl_ms = read_ttl(asked)?;
    if Support::of(tool) == Support::Forbidden {
        return Err(refused("this tool cannot be called as a task"));
    }
    let session = call.caller.session.as_ref().ok_or_else(|| Fault::new(INTERNAL_ERROR, "no session"))?;
    let name = tool["name"].as_str().unwrap_or_default();
    let stubborn = call.server.settings.features.ignores_cancel(name);
    let task = call.server.tasks.create(ttl_ms, Audience::Session(Arc::downgrade(session)), stubborn)?;
    let begun = described(&task, &task.view());
    work::start(call, &task, tool, arguments);
    let immediate = format!("{name} is at work; its result comes later");
    let mut meta = related(&task);
    meta.insert(IMMEDIATE_RESPONSE.to_owned(), json!(immediate));
    Ok(Some(Object::from_iter([
        ("task".to_owned(), Value::Object(begun)),
        ("_meta".to_owned(), Value::Object(meta)),
    ])))
}

fn read_ttl(asked: &Value) -> Result<Option<u64>, Fault> {
    let asked = asked.as_object().ok_or_else(|| Fault::invalid_params("task must be an object"))?;
    match asked.get("ttl") {
        None => Ok(None),
        Some(ttl) => match ttl.as_f64() {
            // Whatever is over the longest ttl is cut to it later.
            Some(ttl) if ttl >= 0.0 => Ok(Some(ttl as u64)),
            _ => Err(Fault::invalid_params("task.ttl must be a number of milliseconds")),
        },
    }
}

fn related(task: &Task) -> Object {
    Object::from_iter([(RELATED_TASK.to_owned(), json!({ "taskId": task.id }))])
}

/// The parameters or result with the task named in its metadata.
pub(crate) fn relate(task: &Task, mut message: Value) -> Value {
    message["_meta"][RELATED_TASK] = json!({ "taskId": task.id });
    message
}

fn described(task: &Task, view: &View) -> Object {
    let mut told = Object::from_iter([
        ("taskId".to_owned(), json!(task.id)),
        ("status".to_owned(), json!(view.status.text())),
        ("createdAt".to_owned(), json!(task.created)),
        ("lastUpdatedAt".to_owned(), json!(view.updated)),
        ("ttl".to_owned(), json!(task.ttl_ms)),
        ("pollInterval".to_owned(), json!(POLL_MS)),
    ]);
    if let Some(message) = &view.message {
        told.insert("statusMessage".to_owned(), json!(message));
    }
    told
}

pub(super) fn status_notification(task: &Task, view: &View) -> Value {
    wire::notification("notifications/tasks/status", Value::Object(described(task, view)))
}

fn list(call: &Call, params: &Object) -> Result<Object, Fault> {
    let after = match params.get("cursor") {
        None => 0,
        Some(cursor) => cursor
            .as_str()
            .and_then(|cursor| read_cursor("tasks/list", cursor))
            .ok_or_else(|| Fault::invalid_params("cursor is not one this list gave"))?,
    };
    let most = call.server.settings.page_size;
    let mut tasks = call.server.tasks.of(&call.caller, after as u64, most.saturating_add(1));
    let more = tasks.len() > most;
    tasks.truncate(most);
    let shown: Vec<_> = tasks.iter().map(|task| Value::Object(described(task, &task.view()))).collect();
    let mut result = Object::from_iter([("tasks".to_owned(), json!(shown))]);
    if let Some(last) = tasks.last().filter(|_| more) {
        result.insert("nextCursor".to_owned(), json!(write_cursor("tasks/list", last.number as usize)));
    }
    Ok(result)
}

/// Waits for the task to be over. Meanwhile this request's stream carries what the task asks.
async fn result(call: &Call, task: &Arc<Task>) -> Result<Object, Stop> {
    let session = call.caller.session.as_ref().ok_or_else(|| Fault::new(INTERNAL_ERROR, "no session"))?;
    let mut changes = task.watch();
    let stream = task.open_stream(&call.outlet);
    let mut asking = FuturesUnordered::new();
    loop {
        let view = task.view();
        if view.status.is_final() {
            return match view.ending {
                Some(Ending::Result(result)) => Ok(final_result(call, task, result)),
                Some(Ending::Error(fault)) => Err(fault.into()),
                None => Err(Fault::new(INTERNAL_ERROR, view.message.unwrap_or_default()).into()),
            };
        }
        if !stream.carries() {
            // Another stream carries them now; dropping them withdraws them here.
            asking.clear();
        }
        for (key, input) in stream.take_questions() {
            asking.push(put(call, session, task, key, input));
        }
        tokio::select! {
            _ = changes.changed() => {}
            Some(()) = asking.next() => {}
        }
    }
}

async fn put(call: &Call, session: &Arc<Session>, task: &Task, key: String, input: Input) {
    let params = relate(task, input.params_for(call.caller.revision));
    let (question, answer) = session.ask(&call.outlet);
    call.outlet.send(wire::request(question.number, input.method, &params)).await;
    // Without an answer the session is at its end, and the task with it.
    if let Ok(answer) = answer.await {
        question.settle(true);
        task.answer(&key, answer);
    }
}

fn final_result(call: &Call, task: &Task, result: Object) -> Object {
    object(relate(task, shape::result("tools/call", result, call.caller.revision)))
}
