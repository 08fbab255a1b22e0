//! Prompts and resources of the conformance set.

use serde_json::{Value, json};

use super::define::PNG;
use crate::demo::call::{Call, Stop};
use crate::demo::input::Input;
use crate::demo::server::Server;
use crate::demo::wire::Object;

pub(super) fn prompts() -> Vec<Value> {
    let argument =
        |name: &str| json!({ "name": name, "description": format!("The argument {name}"), "required": true });
    vec![
        json!({ "name": "test_simple_prompt", "description": "One message" }),
        json!({
            "name": "test_prompt_with_arguments", "description": "A message with both arguments",
            "arguments": [argument("arg1"), argument("arg2")],
        }),
        json!({
            "name": "test_prompt_with_embedded_resource", "description": "A message with a resource",
            "arguments": [argument("resourceUri")],
        }),
        json!({ "name": "test_prompt_with_image", "description": "A message with an image" }),
        json!({ "name": "test_input_required_result_prompt", "description": "Asks for a context first" }),
        json!({ "name": "test_extra_prompt", "description": "Comes and goes" }),
    ]
}

pub(super) async fn get(call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
    let given = |key: &str| arguments.get(key).and_then(Value::as_str).unwrap_or_default();
    let contents = match name {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            vec![text(&format!("Prompt with arguments: arg1='{}', arg2='{}'", given("arg1"), given("arg2")))]
        }
        "test_prompt_with_embedded_resource" => {
            let resource = json!({
                "uri": given("resourceUri"), "mimeType": "text/plain",
                "text": "Embedded resource content for testing.",
            });
            vec![json!({ "type": "resource", "resource": resource }), text("Please use the resource above.")]
        }
        "test_prompt_with_image" => vec![
            json!({ "type": "image", "data": PNG, "mimeType": "image/png" }),
            text("Please look at the image above."),
        ],
        "test_input_required_result_prompt" => {
            let question = Input::text_field("What context should the prompt use?", "context");
            let answers = call.ask_all(&[("user_context", question)], false).await?;
            vec![text(&format!("Use this context: {}", answers["user_context"]["content"]["context"]))]
        }
        _ => vec![text("here for now")],
    };
    let messages: Vec<_> =
        contents.into_iter().map(|content| json!({ "role": "user", "content": content })).collect();
    Ok(json!({ "messages": messages }))
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

pub(super) fn resources() -> Vec<Value> {
    let resource = |uri: &str, name: &str, mime: &str| {
        json!({
            "uri": uri, "name": name, "description": format!("For tests: {name}"), "mimeType": mime,
        })
    };
    vec![
        resource("test://static-text", "static text", "text/plain"),
        resource("test://static-binary", "static binary", "image/png"),
        resource("test://watched-resource", "watched resource", "text/plain"),
    ]
}

pub(super) fn templates() -> Vec<Value> {
    vec![json!({
        "uriTemplate": "test://template/{id}/data", "name": "template",
        "description": "Data of any id", "mimeType": "application/json",
    })]
}

pub(super) fn read(uri: &str) -> Option<Value> {
    Some(match uri {
        "test://static-text" => json!({
            "uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource.",
        }),
        "test://static-binary" => json!({ "uri": uri, "mimeType": "image/png", "blob": PNG }),
        "test://watched-resource" => json!({ "uri": uri, "mimeType": "text/plain", "text": "Watch this." }),
        "test://example-resource" => json!({ "uri": uri, "mimeType": "text/plain", "text": "An example." }),
        _ => {
            let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
            if id.is_empty() || id.contains('/') {
                return None;
            }
            let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            json!({ "uri": uri, "mimeType": "application/json", "text": data.to_string() })
        }
    })
}

pub(super) fn completions(server: &Server, target: &str, argument: &str) -> Option<Vec<String>> {
    if target == "test://template/{id}/data" {
        return (argument == "id").then(|| vec!["123".to_owned(), "456".to_owned()]);
    }
    let prompt = server.prompts().iter().find(|prompt| prompt["name"] == target)?;
    prompt["arguments"].as_array()?.iter().find(|known| known["name"] == argument)?;
    Some(["test", "testing", "paris", "park"].map(str::to_owned).to_vec())
}
