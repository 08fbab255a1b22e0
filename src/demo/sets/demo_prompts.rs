//! Prompts, resources and completions of the demo set.

use serde_json::{Value, json};

use super::define::{PNG, WAV, text_block};
use crate::demo::server::Server;
use crate::demo::wire::Object;

/// The resource that the tool `touch` changes.
pub(super) const COUNTER: &str = "demo://counter";
/// A part of it, which changes on its own.
const LAST: &str = "demo://counter/last";
const TEXT: &str = "demo://text";
const BINARY: &str = "demo://binary";
const ITEM: &str = "demo://item/";
const ITEM_TEMPLATE: &str = "demo://item/{id}";
const NAMES: [&str; 6] = ["Ada", "Alan", "Barbara", "Donald", "Edsger", "Grace"];
const ITEMS: u32 = 150;

pub(super) fn prompts() -> Vec<Value> {
    vec![
        json!({
            "name": "greet", "title": "Greet", "description": "Asks for a greeting for someone",
            "arguments": [{
                "name": "name", "title": "Name", "description": "Whom to greet; completes as you type", "required": true,
            }],
        }),
        json!({
            "name": "with_everything", "title": "With everything",
            "description": "A conversation with every kind of content",
        }),
        json!({
            "name": "greet_you", "title": "Greet you", "description": "Asks you for your name, and for a greeting for you",
        }),
    ]
}

pub(super) fn greeting(whom: &str) -> Value {
    let text = text_block(format!("Please greet {whom} warmly."));
    json!({ "description": "A greeting", "messages": [{ "role": "user", "content": text }] })
}

pub(super) fn get(name: &str, arguments: &Object) -> Value {
    if name == "greet" {
        return greeting(arguments.get("name").and_then(Value::as_str).unwrap_or_default());
    }
    let message = |role: &str, content: Value| json!({ "role": role, "content": content });
    json!({
        "description": "Every kind of content",
        "messages": [
            message("user", text_block("Here is a picture, a sound and a document.")),
            message("user", json!({ "type": "image", "data": PNG, "mimeType": "image/png" })),
            message("user", json!({ "type": "audio", "data": WAV, "mimeType": "audio/wav" })),
            message("user", json!({ "type": "resource", "resource": text_resource() })),
            message("assistant", text_block("Thank you.")),
        ],
    })
}

pub(super) fn resources() -> Vec<Value> {
    let resource = |uri: &str, name: &str, title: &str, description: &str, mime: &str| json!({ "uri": uri, "name": name, "title": title, "description": description, "mimeType": mime });
    vec![
        resource(TEXT, "text", "Text", "A short text", "text/plain"),
        resource(BINARY, "binary", "Binary", "A picture of one red dot", "image/png"),
        resource(
            COUNTER,
            "counter",
            "Counter",
            "How often the tool touch was called for it",
            "application/json",
        ),
    ]
}

pub(super) fn templates() -> Vec<Value> {
    vec![json!({
        "uriTemplate": ITEM_TEMPLATE, "name": "item", "title": "Item",
        "description": "Items 0 to 149; the id completes", "mimeType": "application/json",
    })]
}

pub(super) fn text_resource() -> Value {
    json!({ "uri": TEXT, "mimeType": "text/plain", "text": "Trains are routed in a switchyard." })
}

pub(super) fn read(server: &Server, uri: &str) -> Option<Value> {
    match uri {
        TEXT => Some(text_resource()),
        BINARY => Some(json!({ "uri": uri, "mimeType": "image/png", "blob": PNG })),
        COUNTER | LAST => {
            let text = json!({ "touches": server.touches(uri) }).to_string();
            Some(json!({ "uri": uri, "mimeType": "application/json", "text": text }))
        }
        _ => {
            let id: u32 = uri.strip_prefix(ITEM)?.parse().ok().filter(|id| *id < ITEMS)?;
            let text = json!({ "id": id, "name": format!("item {id}") }).to_string();
            Some(json!({ "uri": uri, "mimeType": "application/json", "text": text }))
        }
    }
}

pub(super) fn completions(target: &str, argument: &str) -> Option<Vec<String>> {
    match (target, argument) {
        ("greet", "name") => Some(NAMES.map(str::to_owned).to_vec()),
        (ITEM_TEMPLATE, "id") => Some((0..ITEMS).map(|id| id.to_string()).collect()),
        _ => None,
    }
}
