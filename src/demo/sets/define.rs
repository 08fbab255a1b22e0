//! Words to define features with, shared by both sets.

use serde_json::{Value, json};

use crate::demo::call::Stop;
use crate::demo::wire::Object;

/// A picture of one red dot.
pub(super) const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// A sound of no length.
pub(super) const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

/// What a tool does to the world, for those who decide whether it may be called.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Reads,
    Changes,
    Asks,
}

pub(super) fn tool(name: &str, title: &str, description: &str, effect: Effect, input: Value) -> Value {
    let annotations = match effect {
        Effect::Reads => json!({ "readOnlyHint": true, "openWorldHint": false }),
        Effect::Changes => json!({
            "readOnlyHint": false, "destructiveHint": false, "idempotentHint": false, "openWorldHint": false,
        }),
        Effect::Asks => json!({ "readOnlyHint": true, "openWorldHint": true }),
    };
    json!({
        "name": name, "title": title, "description": description, "inputSchema": input, "annotations": annotations,
    })
}

/// A schema of an object with these properties.
pub(super) fn properties(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

/// A schema of an object without properties.
pub(super) fn nothing() -> Value {
    json!({ "type": "object", "properties": {} })
}

pub(super) fn text_block(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into() })
}

pub(super) fn content(blocks: Value) -> Value {
    json!({ "content": blocks })
}

pub(super) fn says(text: impl Into<String>) -> Value {
    content(json!([text_block(text)]))
}

/// A result for programs, and the same as text for those that read only text.
pub(super) fn structured(value: Value) -> Value {
    json!({ "content": [text_block(value.to_string())], "structuredContent": value })
}

pub(super) fn required_text<'a>(arguments: &'a Object, name: &str) -> Result<&'a str, Stop> {
    optional_text(arguments, name)?.ok_or_else(|| Stop::Failed(format!("the argument {name:?} is missing")))
}

pub(super) fn optional_text<'a>(arguments: &'a Object, name: &str) -> Result<Option<&'a str>, Stop> {
    match arguments.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Stop::Failed(format!("the argument {name:?} must be a string, not {other}"))),
    }
}

/// A number within bounds, or the default if it is absent.
pub(super) fn number(arguments: &Object, name: &str, default: Option<f64>, most: f64) -> Result<f64, Stop> {
    let number = match (arguments.get(name), default) {
        (None, Some(default)) => return Ok(default),
        (None, None) => return Err(Stop::Failed(format!("the argument {name:?} is missing"))),
        (Some(value), _) => value.as_f64(),
    };
    number
        .filter(|number| number.abs() <= most)
        .ok_or_else(|| Stop::Failed(format!("the argument {name:?} must be a number of at most {most}")))
}
