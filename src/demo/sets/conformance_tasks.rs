//! The conformance set's tools that can be tasks, and the one that the suite holds against them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::define::{nothing, number, properties, required_text, says};
use crate::demo::call::{Call, Stop};
use crate::demo::input::Input;
use crate::demo::wire::{Fault, INTERNAL_ERROR, Object};

/// How long the work of the tools that fail takes.
const A_WHILE: Duration = Duration::from_secs(1);
/// Where the answer given before a task begins is kept for it.
const USER_NAME: &str = "user_name";

pub(super) fn tools() -> Vec<Value> {
    let text =
        |name: &str, is: &str| properties(json!({ name: { "type": "string", "description": is } }), &[name]);
    let computing = properties(
        json!({
            "seconds": { "type": "number", "minimum": 0, "maximum": 3600, "description": "How long to compute" },
            "label": { "type": "string", "description": "What to call the result" },
        }),
        &["seconds"],
    );
    let plain = |name: &str, does: &str, input: Value| json!({ "name": name, "description": does, "inputSchema": input });
    let task = |name: &str, does: &str, input: Value, support: &str| {
        let mut tool = plain(name, does, input);
        tool["execution"] = json!({ "taskSupport": support });
        tool
    };
    vec![
        plain("greet", "Greets, and is never a task", text("name", "Whom to greet")),
        task("slow_compute", "Computes for some seconds", computing, "optional"),
        task("failing_job", "Fails as tools fail, after a second", nothing(), "required"),
        task("protocol_error_job", "Fails as requests fail, after a second", nothing(), "optional"),
        task("confirm_delete", "Asks before it deletes", text("filename", "What to delete"), "optional"),
        task("multi_input", "Asks two things at once", nothing(), "optional"),
        task("test_tool_with_task", "Asks for a name, then works", nothing(), "required"),
    ]
}

/// Whether the tool is one of these.
pub(super) fn has(name: &str) -> bool {
    tools().iter().any(|tool| tool["name"] == name)
}

pub(super) async fn call_tool(call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
    match name {
        "greet" => Ok(says(format!("Hello, {}!", required_text(arguments, "name")?))),
        "slow_compute" => slow_compute(arguments).await,
        "failing_job" => {
            sleep(A_WHILE).await;
            Err(Stop::Failed("this job always fails".to_owned()))
        }
        "protocol_error_job" => {
            sleep(A_WHILE).await;
            Err(Fault::new(INTERNAL_ERROR, "this job never comes to a result").into())
        }
        "confirm_delete" => confirm_delete(call, required_text(arguments, "filename")?).await,
        "multi_input" => {
            let inputs = [
                ("first", Input::text_field("What is your name?", "name")),
                ("second", Input::text_field("And the name of your friend?", "name")),
            ];
            let answers = call.ask_all(&inputs, true).await?;
            Ok(says(Value::Object(answers).to_string()))
        }
        _ => {
            let arguments = before_task(call, name, arguments).await?;
            sleep(A_WHILE).await;
            Ok(says(format!("Hello, {}!", arguments[USER_NAME].as_str().unwrap_or("whoever you are"))))
        }
    }
}

/// What is asked before there is a task: the arguments with the answers.
pub(super) async fn before_task(call: &Call, name: &str, arguments: &Object) -> Result<Object, Stop> {
    let mut arguments = arguments.clone();
    if name == "test_tool_with_task" && !arguments.contains_key(USER_NAME) {
        let answer = call.ask(USER_NAME, Input::text_field("What is your name?", "name")).await?;
        arguments.insert(USER_NAME.to_owned(), answer["content"]["name"].clone());
    }
    Ok(arguments)
}

async fn slow_compute(arguments: &Object) -> Result<Value, Stop> {
    let seconds = number(arguments, "seconds", Some(1.0), 3600.0)?.max(0.0);
    sleep(Duration::from_secs_f64(seconds)).await;
    let label = arguments.get("label").and_then(Value::as_str).unwrap_or("result");
    Ok(says(format!("{label}: computed for {seconds} s")))
}

async fn confirm_delete(call: &Call, filename: &str) -> Result<Value, Stop> {
    let schema = json!({
        "type": "object", "properties": { "confirm": { "type": "boolean" } }, "required": ["confirm"],
    });
    let answer = call.ask("confirm", Input::form(&format!("Delete {filename}?"), schema)).await?;
    let confirmed = answer["action"] == "accept" && answer["content"]["confirm"] == true;
    Ok(says(if confirmed { format!("{filename} is deleted") } else { format!("{filename} stays") }))
}
