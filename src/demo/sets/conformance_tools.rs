//! What the tools of the conformance set do.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::conformance_tasks;
use super::define::{PNG, WAV, content, required_text, says, structured};
use crate::demo::call::{Call, Stop};
use crate::demo::input::{Input, sampled_text};
use crate::demo::wire::Object;

/// Between the steps of tools that report how far they are.
const STEP: Duration = Duration::from_millis(50);

pub(super) async fn call_tool(call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
    match name {
        "test_simple_text" => Ok(says("This is a simple text response for testing.")),
        "test_image_content" => Ok(content(json!([image()]))),
        "test_audio_content" => {
            Ok(content(json!([{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }])))
        }
        "test_embedded_resource" => Ok(content(json!([resource(
            "test://embedded-resource",
            "text/plain",
            "This is an embedded resource content."
        )]))),
        "test_multiple_content_types" => Ok(content(json!([
            { "type": "text", "text": "Multiple content types test:" },
            image(),
            resource("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#),
        ]))),
        "test_error_handling" => {
            Err(Stop::Failed("This tool intentionally returns an error for testing".to_owned()))
        }
        "test_tool_with_logging" => log_three_times(call).await,
        "test_tool_with_progress" => report_progress(call).await,
        "test_logging_tool" => {
            call.log("info", json!("test_logging_tool runs")).await;
            Ok(says("done"))
        }
        "test_streaming_elicitation" => stream(call).await,
        "test_reconnection" => answer_elsewhere(call).await,
        "test_missing_capability" => {
            call.require(&json!({ "sampling": {} }))?;
            Ok(says("the client can sample"))
        }
        "test_trigger_tool_change" => Ok(there("the tool", call.server.toggle_extra_tool())),
        "test_trigger_prompt_change" => Ok(there("the prompt", call.server.toggle_extra_prompt())),
        "test_custom_header" => Ok(says(required_text(arguments, "region")?)),
        "json_schema_2020_12_tool" => Ok(structured(json!(arguments))),
        "test_extra" => Ok(says("here for now")),
        _ if conformance_tasks::has(name) => conformance_tasks::call_tool(call, name, arguments).await,
        _ => ask(call, name, arguments).await,
    }
}

fn image() -> Value {
    json!({ "type": "image", "data": PNG, "mimeType": "image/png" })
}

fn resource(uri: &str, mime: &str, text: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": mime, "text": text } })
}

fn there(what: &str, there: bool) -> Value {
    says(format!("{what} is {} now", if there { "there" } else { "gone" }))
}

async fn log_three_times(call: &Call) -> Result<Value, Stop> {
    call.log("info", json!("Tool execution started")).await;
    sleep(STEP).await;
    call.log("info", json!("Tool processing data")).await;
    sleep(STEP).await;
    call.log("info", json!("Tool execution completed")).await;
    Ok(says("three messages logged"))
}

async fn report_progress(call: &Call) -> Result<Value, Stop> {
    for percent in [0.0, 50.0, 100.0] {
        call.progress(percent, 100.0, "working").await;
        if percent < 100.0 {
            sleep(STEP).await;
        }
    }
    Ok(says("progress reported"))
}

async fn stream(call: &Call) -> Result<Value, Stop> {
    call.answer_with_stream();
    call.progress(1.0, 2.0, "streaming").await;
    sleep(STEP).await;
    Ok(says("streamed"))
}

/// Polling: the client's connection ends before the answer, which it gets by resuming the stream.
async fn answer_elsewhere(call: &Call) -> Result<Value, Stop> {
    call.answer_with_stream();
    sleep(STEP).await;
    call.cut_connection();
    sleep(2 * STEP).await;
    Ok(says("answered after the connection was closed"))
}

async fn ask(call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
    match name {
        "test_sampling" => {
            let question = Input::sampling(required_text(arguments, "prompt")?, 100);
            let answer = call.ask("sample", question).await?;
            Ok(says(format!("LLM response: {}", sampled_text(&answer))))
        }
        "test_elicitation" => {
            let form = Input::form(required_text(arguments, "message")?, name_and_address());
            Ok(heard("User response", &call.ask("user", form).await?))
        }
        "test_elicitation_sep1034_defaults" => {
            let form = Input::form("Please review these values", with_defaults());
            Ok(heard("Elicitation completed", &call.ask("review", form).await?))
        }
        "test_elicitation_sep1330_enums" => {
            let mut form = Input::form("Please choose", every_choice());
            form.since = crate::protocol::era::Revision::V2025_11_25;
            Ok(heard("Elicitation completed", &call.ask("choose", form).await?))
        }
        "test_input_required_result_elicitation" => {
            let mut answers = call.ask_all(&[("user_name", name_field())], false).await?;
            greet(answers.remove("user_name").unwrap_or_default())
        }
        "test_input_required_result_sampling" => {
            let question = Input::sampling("What is the capital of France?", 100);
            let answers = call.ask_all(&[("capital_question", question)], false).await?;
            Ok(says(sampled_text(&answers["capital_question"])))
        }
        "test_input_required_result_list_roots" => {
            let answers = call.ask_all(&[("client_roots", Input::roots())], false).await?;
            Ok(says(format!("roots: {}", answers["client_roots"]["roots"])))
        }
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            confirm(call).await
        }
        "test_input_required_result_multiple_inputs" => {
            let greeting = Input::sampling("Generate a greeting", 50);
            let inputs =
                [("user_name", name_field()), ("greeting", greeting), ("client_roots", Input::roots())];
            let answers = call.ask_all(&inputs, true).await?;
            Ok(says(Value::Object(answers).to_string()))
        }
        "test_input_required_result_multi_round" => {
            let first = call.ask("step1", Input::text_field("Step 1: What is your name?", "name")).await?;
            let second =
                call.ask("step2", Input::text_field("Step 2: What is your favorite color?", "color")).await?;
            Ok(says(format!("{} likes {}", first["content"]["name"], second["content"]["color"])))
        }
        _ => ask_what_is_declared(call).await,
    }
}

fn heard(what: &str, answer: &Value) -> Value {
    says(format!(
        "{what}: action={}, content={}",
        answer["action"].as_str().unwrap_or_default(),
        answer["content"]
    ))
}

fn name_field() -> Input {
    Input::text_field("What is your name?", "name")
}

fn greet(answer: Value) -> Result<Value, Stop> {
    match (answer["action"].as_str(), answer["content"]["name"].as_str()) {
        (Some("accept"), Some(name)) => Ok(says(format!("Hello, {name}!"))),
        (Some("accept"), None) => Err(Stop::Failed("the form came back without a name".to_owned())),
        _ => Ok(says("Hello, whoever you are!")),
    }
}

async fn confirm(call: &Call) -> Result<Value, Stop> {
    let schema =
        json!({ "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"] });
    let answer = call.ask("confirm", Input::form("Please confirm", schema)).await?;
    let state = if call.has_verified_state() { "state-ok" } else { "no state" };
    Ok(says(format!("{state}: {answer}")))
}

/// One question of each kind that the client can answer.
async fn ask_what_is_declared(call: &Call) -> Result<Value, Stop> {
    let possible = [
        ("user_name", name_field()),
        ("greeting", Input::sampling("Generate a greeting", 50)),
        ("client_roots", Input::roots()),
    ];
    let inputs: Vec<_> =
        possible.into_iter().filter(|(_, input)| call.caller.declares(&input.needs)).collect();
    if inputs.is_empty() {
        return Err(Stop::Failed("the client declares nothing that it could be asked".to_owned()));
    }
    let answers = call.ask_all(&inputs, true).await?;
    Ok(says(Value::Object(answers).to_string()))
}

fn name_and_address() -> Value {
    json!({
        "type": "object",
        "properties": {
            "username": { "type": "string", "description": "User's response" },
            "email": { "type": "string", "description": "User's email address" },
        },
        "required": ["username", "email"],
    })
}

fn with_defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": {
                "type": "string", "enum": ["active", "inactive", "pending"], "default": "active",
            },
            "verified": { "type": "boolean", "default": true },
        },
    })
}

fn every_choice() -> Value {
    let titled = |word: &str| {
        json!([
            { "const": "value1", "title": format!("First {word}") },
            { "const": "value2", "title": format!("Second {word}") },
            { "const": "value3", "title": format!("Third {word}") },
        ])
    };
    let options = json!(["option1", "option2", "option3"]);
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": { "type": "string", "enum": options },
            "titledSingle": { "type": "string", "oneOf": titled("Option") },
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": { "type": "array", "items": { "type": "string", "enum": options } },
            "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
        },
    })
}
