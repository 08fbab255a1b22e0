//! What the demo set's tools do, but for those that ask the client.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::define::{PNG, WAV, content, number, optional_text, required_text, says, structured, text_block};
use super::demo_prompts;
use crate::demo::call::{Call, Stop};
use crate::demo::caller::log_rank;
use crate::demo::wire::{Fault, INTERNAL_ERROR, Object};

/// Most bytes the tool `big` returns.
pub(super) const MOST_BYTES: u32 = 16 << 20;
/// Headers whose values `whoami` shows; of the others it tells the names.
const SHOWN_HEADERS: [&str; 11] = [
    "accept",
    "content-type",
    "host",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "origin",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-request-id",
];

pub(super) async fn call_tool(call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
    match name {
        "echo" => Ok(says(required_text(arguments, "text")?)),
        "add" => {
            let sum = number(arguments, "a", None, f64::MAX)? + number(arguments, "b", None, f64::MAX)?;
            Ok(structured(json!({ "sum": sum })))
        }
        "image" => Ok(content(json!([{ "type": "image", "data": PNG, "mimeType": "image/png" }]))),
        "audio" => Ok(content(json!([{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }]))),
        "link" => Ok(content(json!([link()]))),
        "embed" => Ok(content(json!([{ "type": "resource", "resource": demo_prompts::text_resource() }]))),
        "big" => big(arguments),
        "slow" => slow(call, arguments).await,
        "log" => log(call, arguments).await,
        "fail" => {
            let reason = optional_text(arguments, "text")?.unwrap_or("this tool always fails");
            Err(Stop::Failed(reason.to_owned()))
        }
        "crash" => Err(crash(arguments)?.into()),
        "whoami" => Ok(structured(whoami(call))),
        "environment" => Ok(structured(json!({ "names": environment_names() }))),
        "counters" => Ok(structured(counters(call))),
        "change_tools" => {
            let there = call.server.toggle_extra_tool();
            Ok(says(if there { "the tool extra is there now" } else { "the tool extra is gone now" }))
        }
        "touch" => touch(call, arguments),
        _ => Ok(says("here for now")),
    }
}

fn link() -> Value {
    let mut link = demo_prompts::resources().swap_remove(0);
    link["type"] = json!("resource_link");
    link
}

fn big(arguments: &Object) -> Result<Value, Stop> {
    let size = number(arguments, "size", None, f64::from(MOST_BYTES))?;
    if size < 0.0 || size.fract() != 0.0 {
        return Err(Stop::Failed("size must be a whole number of bytes".to_owned()));
    }
    let line = "All work and no play makes a dull server.\n";
    // The bound above makes the conversion exact.
    let size = size as usize;
    let mut text = line.repeat(size / line.len() + 1);
    text.truncate(size);
    Ok(says(text))
}

async fn slow(call: &Call, arguments: &Object) -> Result<Value, Stop> {
    let seconds = number(arguments, "seconds", Some(1.0), 3600.0)?.max(0.0);
    let steps = number(arguments, "steps", Some(10.0), 1000.0)?.floor().max(1.0);
    let step = Duration::from_secs_f64(seconds / steps);
    let mut done = 0.0;
    while done < steps {
        sleep(step).await;
        done += 1.0;
        call.progress(done, steps, &format!("step {done} of {steps}")).await;
    }
    Ok(says(format!("took {seconds} s")))
}

async fn log(call: &Call, arguments: &Object) -> Result<Value, Stop> {
    let level = optional_text(arguments, "level")?.unwrap_or("info");
    if log_rank(level).is_none() {
        return Err(Stop::Failed(format!("{level:?} is no severity; debug, info, warning and error are")));
    }
    let sent = call.log(level, json!(required_text(arguments, "text")?)).await;
    Ok(says(if sent { "logged" } else { "not logged: the client does not want messages of that level" }))
}

fn crash(arguments: &Object) -> Result<Fault, Stop> {
    let code = match arguments.get("code") {
        None => INTERNAL_ERROR,
        Some(code) => code.as_i64().ok_or_else(|| Stop::Failed("code must be an integer".to_owned()))?,
    };
    // The reserved range has meanings that this error does not have.
    if code != INTERNAL_ERROR && (-32768..=-32000).contains(&code) {
        return Err(Stop::Failed("codes from -32768 to -32000 are reserved; take another".to_owned()));
    }
    let text = optional_text(arguments, "text")?.unwrap_or("this tool always crashes");
    Ok(Fault::new(code, text).with_data(json!({ "tool": "crash" })))
}

fn whoami(call: &Call) -> Value {
    let caller = &call.caller;
    let mut names: Vec<_> = caller.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let shown: Object = caller
        .headers
        .iter()
        .filter(|(name, _)| SHOWN_HEADERS.contains(&name.as_str()) || name.starts_with("mcp-param-"))
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({
        "revision": caller.revision.text(),
        "client": caller.client,
        "capabilities": caller.capabilities,
        "session": caller.session.is_some(),
        "meta": call.meta,
        "headers": shown,
        "header_names": names,
    })
}

fn environment_names() -> Vec<String> {
    let mut names: Vec<_> =
        std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

fn counters(call: &Call) -> Value {
    let server = &call.server;
    json!({
        "calls": server.counted.calls.load(Ordering::Relaxed),
        "cancelled": server.counted.cancelled.load(Ordering::Relaxed),
        "polls": server.counted.polls.load(Ordering::Relaxed),
        "tasks": server.tasks.count(),
        "running": server.counted.running.load(Ordering::Relaxed),
        "sessions": server.hub.session_count(),
        "listens": server.hub.listen_count(),
        "touches": server.touches(demo_prompts::COUNTER),
    })
}

fn touch(call: &Call, arguments: &Object) -> Result<Value, Stop> {
    let uri = optional_text(arguments, "uri")?.unwrap_or(demo_prompts::COUNTER);
    if demo_prompts::read(&call.server, uri).is_none() {
        return Err(Stop::Failed(format!("there is no resource {uri}; try {}", demo_prompts::COUNTER)));
    }
    let count = call.server.touch(uri);
    Ok(content(json!([text_block(format!("touched {uri} {count} times"))])))
}
