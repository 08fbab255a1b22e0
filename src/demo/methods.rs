//! Every method but the handshake: lists and their pages, calls, reads, prompts, completion, log level, subscriptions, tasks.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::call::{Call, Stop};
use super::caller::log_rank;
use super::listening::listen;
use super::server::INSTRUCTIONS;
use super::shape;
use super::tasks;
use super::wire::{Fault, INTERNAL_ERROR, INVALID_PARAMS, Object, RESOURCE_NOT_FOUND, object};
use crate::protocol::era::Revision;

const MAX_COMPLETIONS: usize = 100;

const IN_BOTH_ERAS: [&str; 8] = [
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "completion/complete",
];

/// Methods of the stateless era.
pub(crate) fn is_stateless_method(method: &str) -> bool {
    IN_BOTH_ERAS.contains(&method)
        || matches!(method, "server/discover" | "subscriptions/listen")
        || tasks::extension::is_method(method)
}

/// Methods of the handshake era.
pub(crate) fn is_handshake_method(method: &str) -> bool {
    IN_BOTH_ERAS.contains(&method)
        || matches!(
            method,
            "initialize" | "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe"
        )
        || tasks::core::is_method(method)
}

/// Does what the method says.
pub(crate) async fn perform(call: &Call, method: &str, params: &Object) -> Result<Object, Stop> {
    let known =
        if call.caller.is_stateless() { is_stateless_method(method) } else { is_handshake_method(method) };
    if !known {
        return Err(Fault::unknown_method(method).into());
    }
    match method {
        "tools/call" => call_tool(call, params).await,
        "prompts/get" => get_prompt(call, params).await,
        "resources/read" => read_resource(call, params),
        "completion/complete" => complete(call, params),
        "ping" => Ok(Object::new()),
        "server/discover" => Ok(discover(call)),
        "subscriptions/listen" => listen(call, params).await,
        "logging/setLevel" => set_level(call, params),
        "resources/subscribe" | "resources/unsubscribe" => subscribe(call, method, params),
        _ if method.starts_with("tasks/") => use_task(call, method, params).await,
        _ => list(call, method, params),
    }
}

fn text<'a>(params: &'a Object, key: &str) -> Result<&'a str, Fault> {
    params
        .get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| Fault::invalid_params(format!("{key} is missing or not a string")))
}

fn arguments(params: &Object) -> Result<Object, Fault> {
    match params.get("arguments") {
        None => Ok(Object::new()),
        Some(Value::Object(arguments)) => Ok(arguments.clone()),
        Some(_) => Err(Fault::invalid_params("arguments must be an object")),
    }
}

async fn call_tool(call: &Call, params: &Object) -> Result<Object, Stop> {
    let name = text(params, "name")?;
    let arguments = arguments(params)?;
    call.server.counted.calls.fetch_add(1, Ordering::Relaxed);
    let features = call.server.settings.features;
    let Some(tool) = call.server.tools().iter().find(|tool| tool["name"] == name) else {
        return Err(Fault::invalid_params(format!("there is no tool {name:?}; tools/list names them")).into());
    };
    match tasks::begin(call, tool, params, &arguments).await {
        Ok(None) => tool_outcome(features.call_tool(call, name, &arguments).await),
        Ok(Some(begun)) => Ok(begun),
        Err(stop) => tool_outcome(Err(stop)),
    }
}

/// What a tool's end is to the request: a tool that fails has a result, which says so.
pub(crate) fn tool_outcome(outcome: Result<Value, Stop>) -> Result<Object, Stop> {
    match outcome {
        Err(Stop::Failed(reason)) => Ok(object(json!({
            "content": [{ "type": "text", "text": reason }], "isError": true,
        }))),
        outcome => outcome.map(object),
    }
}

async fn use_task(call: &Call, method: &str, params: &Object) -> Result<Object, Stop> {
    if method == "tasks/get" {
        call.server.counted.polls.fetch_add(1, Ordering::Relaxed);
    }
    match call.caller.revision {
        Revision::V2025_11_25 => tasks::core::perform(call, method, params).await,
        Revision::V2026_07_28 => tasks::extension::perform(call, method, params).await,
        _ => Err(Fault::unknown_method(method).into()),
    }
}

async fn get_prompt(call: &Call, params: &Object) -> Result<Object, Stop> {
    let name = text(params, "name")?;
    let arguments = arguments(params)?;
    let features = call.server.settings.features;
    let Some(prompt) = call.server.prompts().iter().find(|prompt| prompt["name"] == name) else {
        return Err(Fault::invalid_params(format!("there is no prompt {name:?}")).into());
    };
    for argument in prompt["arguments"].as_array().into_iter().flatten() {
        let key = argument["name"].as_str().unwrap_or_default();
        match arguments.get(key) {
            Some(Value::String(_)) => {}
            Some(_) => return Err(Fault::invalid_params(format!("argument {key} must be a string")).into()),
            None if argument["required"] == true => {
                return Err(Fault::invalid_params(format!("prompt {name} needs the argument {key}")).into());
            }
            None => {}
        }
    }
    match features.get_prompt(call, name, &arguments).await {
        Err(Stop::Failed(reason)) => Err(Fault::new(INTERNAL_ERROR, reason).into()),
        outcome => outcome.map(object),
    }
}

fn read_resource(call: &Call, params: &Object) -> Result<Object, Stop> {
    let uri = text(params, "uri")?;
    match call.server.settings.features.read(&call.server, uri) {
        Some(content) => Ok(object(json!({ "contents": [content] }))),
        None => Err(no_resource(call, uri).into()),
    }
}

fn no_resource(call: &Call, uri: &str) -> Fault {
    let code = if call.caller.is_stateless() { INVALID_PARAMS } else { RESOURCE_NOT_FOUND };
    Fault::new(code, format!("there is no resource {uri}")).with_data(json!({ "uri": uri }))
}

fn complete(call: &Call, params: &Object) -> Result<Object, Stop> {
    let reference = params.get("ref").cloned().unwrap_or_default();
    let argument = params.get("argument").cloned().unwrap_or_default();
    let (Some(name), Some(typed)) = (argument["name"].as_str(), argument["value"].as_str()) else {
        return Err(Fault::invalid_params("argument needs name and value, both strings").into());
    };
    let target = match reference["type"].as_str() {
        Some("ref/prompt") => reference["name"].as_str(),
        Some("ref/resource") => reference["uri"].as_str(),
        _ => return Err(Fault::invalid_params("ref needs type ref/prompt or ref/resource").into()),
    };
    let choices = target
        .and_then(|target| call.server.settings.features.completions(&call.server, target, name))
        .ok_or_else(|| Fault::invalid_params("ref names nothing that has completions"))?;
    let mut values: Vec<_> = choices.into_iter().filter(|choice| choice.starts_with(typed)).collect();
    let total = values.len();
    values.truncate(MAX_COMPLETIONS);
    let more = total > values.len();
    Ok(object(json!({ "completion": { "values": values, "total": total, "hasMore": more } })))
}

fn discover(call: &Call) -> Object {
    object(json!({
        "supportedVersions": call.server.revisions(),
        "capabilities": call.server.capabilities(call.caller.revision),
        "instructions": INSTRUCTIONS,
    }))
}

fn set_level(call: &Call, params: &Object) -> Result<Object, Stop> {
    let level = text(params, "level")?;
    let rank =
        log_rank(level).ok_or_else(|| Fault::invalid_params(format!("{level:?} is not a log level")))?;
    if let Some(session) = &call.caller.session {
        session.set_log_threshold(rank);
    }
    Ok(Object::new())
}

fn subscribe(call: &Call, method: &str, params: &Object) -> Result<Object, Stop> {
    let uri = text(params, "uri")?;
    if !call.server.settings.features.can_subscribe(&call.server, uri) {
        return Err(no_resource(call, uri).into());
    }
    if let Some(session) = &call.caller.session {
        match method {
            "resources/subscribe" => session.subscribe(uri)?,
            _ => session.unsubscribe(uri),
        }
    }
    Ok(Object::new())
}

fn list(call: &Call, method: &str, params: &Object) -> Result<Object, Stop> {
    let (features, server) = (call.server.settings.features, &call.server);
    let (key, items): (_, Cow<'_, [Value]>) = match method {
        "tools/list" => ("tools", server.tools().into()),
        "prompts/list" => ("prompts", server.prompts().into()),
        "resources/list" => ("resources", features.resources().into()),
        _ => ("resourceTemplates", features.templates().into()),
    };
    let start = match params.get("cursor") {
        None => 0,
        Some(cursor) => cursor
            .as_str()
            .and_then(|cursor| read_cursor(method, cursor))
            .filter(|start| *start < items.len())
            .ok_or_else(|| Fault::invalid_params("cursor is not one this list gave"))?,
    };
    let end = items.len().min(start.saturating_add(server.settings.page_size));
    let revision = call.caller.revision;
    let page: Vec<_> = items[start..end]
        .iter()
        .cloned()
        .map(|item| if key == "tools" { shape::tool(item, revision) } else { shape::listed(item, revision) })
        .collect();
    let mut result = object(json!({ key: page }));
    if end < items.len() {
        result.insert("nextCursor".to_owned(), json!(write_cursor(method, end)));
    }
    Ok(result)
}

pub(crate) fn write_cursor(method: &str, start: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("{method} {start}"))
}

pub(crate) fn read_cursor(method: &str, cursor: &str) -> Option<usize> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    text.strip_prefix(method)?.strip_prefix(' ')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_on_in_its_own_list_only() {
        let cursor = write_cursor("tools/list", 20);
        assert_eq!(read_cursor("tools/list", &cursor), Some(20));
        assert_eq!(read_cursor("prompts/list", &cursor), None);
        assert_eq!(read_cursor("tools/list", "20"), None);
    }
}
