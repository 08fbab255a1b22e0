//! What a tool can ask of the client, and whether an answer is one.

use serde_json::{Value, json};

use super::wire::Object;
use crate::protocol::era::Revision;

/// One question to the client.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) method: &'static str,
    pub(crate) params: Value,
    /// Capabilities the client must have declared to be asked this.
    pub(crate) needs: Value,
    /// First revision in which it can be asked.
    pub(crate) since: Revision,
}

impl Input {
    /// A form to fill in.
    pub(crate) fn form(message: &str, schema: Value) -> Self {
        Input {
            method: "elicitation/create",
            params: json!({ "message": message, "requestedSchema": schema }),
            needs: json!({ "elicitation": { "form": {} } }),
            since: Revision::V2025_06_18,
        }
    }

    /// A form with one required text field.
    pub(crate) fn text_field(message: &str, field: &str) -> Self {
        let schema =
            json!({ "type": "object", "properties": { field: { "type": "string" } }, "required": [field] });
        Input::form(message, schema)
    }

    /// A page to visit.
    pub(crate) fn url(message: &str, url: &str, id: &str) -> Self {
        Input {
            method: "elicitation/create",
            params: json!({ "mode": "url", "message": message, "url": url, "elicitationId": id }),
            needs: json!({ "elicitation": { "url": {} } }),
            since: Revision::V2025_11_25,
        }
    }

    /// A message for the client's model to continue.
    pub(crate) fn sampling(prompt: &str, max_tokens: u64) -> Self {
        let message = json!({ "role": "user", "content": { "type": "text", "text": prompt } });
        Input {
            method: "sampling/createMessage",
            params: json!({ "messages": [message], "maxTokens": max_tokens }),
            needs: json!({ "sampling": {} }),
            since: Revision::V2024_11_05,
        }
    }

    /// The client's root directories.
    pub(crate) fn roots() -> Self {
        Input {
            method: "roots/list",
            params: json!({}),
            needs: json!({ "roots": {} }),
            since: Revision::V2024_11_05,
        }
    }

    /// The parameters as the revision knows them.
    pub(crate) fn params_for(&self, revision: Revision) -> Value {
        let mut params = self.params.clone();
        if revision == Revision::V2026_07_28
            && let Some(params) = params.as_object_mut()
        {
            params.remove("elicitationId");
        }
        params
    }

    /// Whether the value has the shape of an answer to this question.
    pub(crate) fn is_answered_by(&self, answer: &Value) -> bool {
        let Some(answer) = answer.as_object() else { return false };
        match self.method {
            "elicitation/create" => is_elicitation_answer(answer),
            "sampling/createMessage" => {
                has_text(answer, "role") && has_text(answer, "model") && answer.contains_key("content")
            }
            _ => answer.get("roots").is_some_and(Value::is_array),
        }
    }
}

fn is_elicitation_answer(answer: &Object) -> bool {
    let action = answer.get("action").and_then(Value::as_str);
    matches!(action, Some("accept" | "decline" | "cancel"))
        && answer.get("content").is_none_or(|content| content.is_object())
}

fn has_text(answer: &Object, key: &str) -> bool {
    answer.get(key).is_some_and(Value::is_string)
}

/// The text of a sampling answer, whose content is one block or several.
pub(crate) fn sampled_text(answer: &Value) -> String {
    let blocks = match &answer["content"] {
        Value::Array(blocks) => blocks.iter().collect(),
        block => vec![block],
    };
    blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
}
