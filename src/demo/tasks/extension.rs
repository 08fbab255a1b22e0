//! Tasks as the extension `io.modelcontextprotocol/tasks` has them, which 2026-07-28 knows.
//!
//! Always: only a request that declares the extension creates or names a task, and that is looked at before any id.

use std::sync::Arc;

use serde_json::{Value, json};

use super::task::Task;
use super::view::{Audience, Ending, Status, View};
use super::{Support, work};
use crate::demo::call::{Call, Stop};
use crate::demo::shape;
use crate::demo::wire::{Fault, Object, object};
use crate::protocol::era::Revision;

/// Name of the extension among the capabilities of both sides.
pub(crate) const EXTENSION: &str = "io.modelcontextprotocol/tasks";

pub(crate) fn is_method(method: &str) -> bool {
    matches!(method, "tasks/get" | "tasks/update" | "tasks/cancel")
}

fn needed() -> Value {
    json!({ "extensions": { EXTENSION: {} } })
}

/// Fails unless this request declares the extension.
pub(crate) fn require(call: &Call) -> Result<(), Stop> {
    call.require(&needed())
}

pub(crate) async fn perform(call: &Call, method: &str, params: &Object) -> Result<Object, Stop> {
    require(call)?;
    let task = call.server.tasks.named(&call.caller, params)?;
    match method {
        "tasks/update" => update(&task, params)?,
        "tasks/cancel" => {
            // A task that is over is left as it is. So is a tool that cannot be stopped: cancelling is a wish.
            if !task.stubborn {
                task.cancel("cancelled on request");
            }
        }
        _ => return Ok(object(described(&task, &task.view()))),
    }
    Ok(Object::new())
}

/// What answers a call that becomes a task; nothing for one that does not.
pub(super) async fn begin(call: &Call, tool: &Value, arguments: &Object) -> Result<Option<Object>, Stop> {
    let features = call.server.settings.features;
    let name = tool["name"].as_str().unwrap_or_default();
    let declared = call.caller.declares(&needed());
    match Support::of(tool) {
        Support::Forbidden => return Ok(None),
        Support::Required => require(call)?,
        Support::Optional if !declared || features.answers_at_once(name, arguments) => return Ok(None),
        Support::Optional => {}
    }
    let arguments = features.before_task(call, name, arguments).await?;
    let audience = Audience::Listeners(Arc::downgrade(&call.server.hub));
    let task = call.server.tasks.create(None, audience, features.ignores_cancel(name))?;
    let mut begun = described(&task, &task.view());
    begun["resultType"] = json!("task");
    work::start(call, &task, tool, &arguments);
    Ok(Some(object(begun)))
}

/// The task with all that belongs to its state.
pub(super) fn described(task: &Task, view: &View) -> Value {
    let mut told = json!({
        "taskId": task.id,
        "status": view.status.text(),
        "createdAt": task.created,
        "lastUpdatedAt": view.updated,
        "ttlMs": task.ttl_ms,
        "pollIntervalMs": super::core::POLL_MS,
    });
    if let Some(message) = &view.message {
        told["statusMessage"] = json!(message);
    }
    match &view.ending {
        Some(Ending::Result(result)) => {
            told["result"] = shape::result("tools/call", result.clone(), Revision::V2026_07_28);
        }
        Some(Ending::Error(fault)) => told["error"] = fault.body(),
        None if view.status == Status::InputRequired => {
            let asked = view.questions.iter().map(|(key, input)| {
                let params = input.params_for(Revision::V2026_07_28);
                (key.clone(), json!({ "method": input.method, "params": params }))
            });
            told["inputRequests"] = Value::Object(asked.collect());
        }
        None => {}
    }
    told
}

/// Takes the answers to what is asked; others are ignored.
fn update(task: &Task, params: &Object) -> Result<(), Fault> {
    let given = params
        .get("inputResponses")
        .and_then(Value::as_object)
        .ok_or_else(|| Fault::invalid_params("inputResponses is missing or not an object"))?;
    let asked = task.view().questions;
    let answers: Vec<_> =
        asked.iter().filter_map(|(key, input)| Some((key, input, given.get(key)?))).collect();
    if let Some((key, input, _)) = answers.iter().find(|(_, input, answer)| !input.is_answered_by(answer)) {
        return Err(Fault::invalid_params(format!("inputResponses.{key} does not answer {}", input.method)));
    }
    for (key, _, answer) in answers {
        task.answer(key, Ok(answer.clone()));
    }
    Ok(())
}
