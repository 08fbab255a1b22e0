//! Tools that can be tasks, under the names of the gateway's own demo server, and what clients find out about them.

use serde_json::{Value, json};

/// The tools. `support` is how they tell that they can be tasks, where the revision has a word for it.
#[must_use]
pub fn tools(support: Option<&str>) -> Value {
    let seconds = json!({"type": "object", "properties": {"seconds": {"type": "number"}}});
    let named = ["job", "job_failing", "job_crashing", "job_asking"].map(|name| {
        let mut tool = json!({"name": name, "description": "Works", "inputSchema": seconds});
        if let Some(support) = support {
            tool["execution"] = json!({"taskSupport": support});
        }
        tool
    });
    json!({"tools": named})
}

/// How long the caller wants it to take.
#[must_use]
pub fn seconds(arguments: &Value) -> std::time::Duration {
    std::time::Duration::from_secs_f64(arguments["seconds"].as_f64().unwrap_or(0.2))
}

/// The form that the asking job puts to the user.
#[must_use]
pub fn form() -> Value {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    json!({"mode": "form", "message": "What is your name?", "requestedSchema": schema})
}

/// What the user answers.
#[must_use]
pub fn answer() -> Value {
    json!({"action": "accept", "content": {"name": "Ada of the peers"}})
}

/// A result of one text.
#[must_use]
pub fn result(text: &str, is_error: bool) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": is_error})
}

/// A row for what was found, if it is what was expected.
pub fn found(name: &str, outcome: Result<Value, String>, expected: &Value) {
    crate::tell(
        name,
        outcome.and_then(|found| {
            if &found == expected { Ok(()) } else { Err(format!("{found} instead of {expected}")) }
        }),
    );
}
