//! Tools the official conformance suite calls, as it finds them listed.

use serde_json::{Value, json};

use super::define::properties;

/// Tools without arguments, and what they do.
const PLAIN: [(&str, &str); 24] = [
    ("test_simple_text", "Returns a text block"),
    ("test_image_content", "Returns an image block"),
    ("test_audio_content", "Returns an audio block"),
    ("test_embedded_resource", "Returns an embedded resource"),
    ("test_multiple_content_types", "Returns a text, an image and a resource block"),
    ("test_tool_with_logging", "Sends three log messages while it runs"),
    ("test_error_handling", "Always fails"),
    ("test_tool_with_progress", "Reports progress while it runs"),
    ("test_elicitation_sep1034_defaults", "Asks for a form whose fields have defaults"),
    ("test_elicitation_sep1330_enums", "Asks for a form with every kind of choice"),
    ("test_reconnection", "Closes its connection and answers after resumption"),
    ("test_missing_capability", "Needs a client that can sample"),
    ("test_streaming_elicitation", "Answers with a stream"),
    ("test_logging_tool", "Sends a log message, if the caller wants them"),
    ("test_trigger_tool_change", "Adds or removes a tool"),
    ("test_trigger_prompt_change", "Adds or removes a prompt"),
    ("test_input_required_result_elicitation", "Asks for a name"),
    ("test_input_required_result_sampling", "Asks the model for a capital"),
    ("test_input_required_result_list_roots", "Asks for the client's roots"),
    ("test_input_required_result_request_state", "Asks for a confirmation and checks its state"),
    ("test_input_required_result_multiple_inputs", "Asks for three things at once"),
    ("test_input_required_result_multi_round", "Asks twice, one after the other"),
    ("test_input_required_result_tampered_state", "Refuses state that was altered"),
    ("test_input_required_result_capabilities", "Asks only what the client declared"),
];

pub(super) fn tools() -> Vec<Value> {
    let mut tools: Vec<_> = PLAIN.iter().map(|(name, does)| plain(name, does)).collect();
    tools.push(with_text("test_sampling", "Asks the client's model", "prompt", "What to ask"));
    tools.push(with_text("test_elicitation", "Asks for a user name and address", "message", "What to say"));
    tools.push(custom_header());
    tools.push(every_schema_keyword());
    tools.extend(super::conformance_tasks::tools());
    tools.push(plain("test_extra", "Comes and goes"));
    tools
}

fn plain(name: &str, description: &str) -> Value {
    json!({ "name": name, "description": description, "inputSchema": super::define::nothing() })
}

fn with_text(name: &str, description: &str, argument: &str, argument_is: &str) -> Value {
    let schema =
        properties(json!({ argument: { "type": "string", "description": argument_is } }), &[argument]);
    json!({ "name": name, "description": description, "inputSchema": schema })
}

fn custom_header() -> Value {
    let region = json!({ "type": "string", "description": "Any text", "x-mcp-header": "Region" });
    json!({
        "name": "test_custom_header",
        "description": "Returns its argument, which HTTP clients mirror in a header",
        "inputSchema": properties(json!({ "region": region }), &["region"]),
    })
}

fn every_schema_keyword() -> Value {
    json!({
        "name": "json_schema_2020_12_tool",
        "description": "Has a schema that uses the whole vocabulary",
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {
                "address": {
                    "$anchor": "addressDef",
                    "type": "object",
                    "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
                },
            },
            "properties": {
                "name": { "type": "string" },
                "address": { "$ref": "#/$defs/address" },
                "contactMethod": { "type": "string", "enum": ["phone", "email"] },
                "phone": { "type": "string" },
                "email": { "type": "string" },
            },
            "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
            "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
            "then": { "required": ["phone"] },
            "else": { "required": ["email"] },
            "additionalProperties": false,
        },
    })
}
